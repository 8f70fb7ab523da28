//! Containers on a real Docker Engine and on a real Podman: an engine of each test's own, in a temporary directory, without
//! the network.
//!
//! Needs root, `dockerd`, `docker` and a static busybox (tests/run installs them). Where one is missing the tests say so and
//! pass, except in CI. The same holds for `podman`.

mod beside;
mod engine;
mod images;
mod registry;
mod stdin;

use serde_json::{Value, json};

use self::engine::{Engine, IMAGE};
use crate::harness::{APPS, INSTANCES, World, wait_for};

/// An appm whose containers run on `engine`.
fn world(engine: &Engine) -> World {
    let mut world = World::new();
    engine.variables().into_iter().for_each(|(name, value)| world.set_env(name, value));
    world.start();
    world
}

fn app(name: &str, script: &str, more: Value) -> Value {
    let mut spec = json!({
        "container": {"image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script], "network": "none"},
        "terminationGracePeriodSeconds": 1,
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})
}

fn apply(world: &World, app: &Value) {
    let answer = world.api().apply(app).unwrap();
    assert!(answer.is_ok(), "{}", answer.json());
}

/// The one instance of an App, when it is as `look` wants it.
fn instance(world: &World, app: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    wait_for(&format!("{app}: {what}"), || {
        let all = world.api().list(INSTANCES).map_err(|e| e.to_string())?;
        let one = all.into_iter().find(|i| i["metadata"]["labels"]["appm.dev/app"] == app);
        let one = one.ok_or_else(|| format!("no instance; {}", world.stderr()))?;
        if look(&one["status"]) { Ok(one) } else { Err(one["status"].to_string()) }
    })
}

fn ready(status: &Value) -> &Value {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|c| c["type"] == "Ready").map_or(&Value::Null, |c| &c["status"])
}

fn runs(status: &Value) -> bool {
    status["state"]["running"].is_object() && ready(status) == "True"
}

fn logs(world: &World, app: &str) -> String {
    String::from_utf8_lossy(&world.command(&["logs", app]).stdout).into_owned()
}

/// Counts as fast as its clock ticks; every number once, in order.
const COUNT: &str = "i=0; while :; do echo $i; i=$((i+1)); [ $((i % 50)) = 0 ] && busybox usleep 20000; done";

/// The numbers in the output are 0, 1, 2, …, whole. Returns how many.
fn counted(world: &World, app: &str) -> usize {
    let said = logs(world, app);
    for (n, line) in said.lines().enumerate() {
        assert_eq!(line, n.to_string(), "line {n}");
    }
    said.lines().count()
}

#[test]
fn a_container_that_sees_the_socket_is_its_instance_and_not_root() {
    let Some(engine) = Engine::start(&[]) else { return };
    let world = world(&engine);
    let ask = format!("{} --data-dir {} auth whoami", env!("CARGO_BIN_EXE_appm"), world.data().display());
    // The machine's own files, for a client and its libraries.
    let chroot = format!("/bin/busybox chroot /host {ask} 2>&1");
    let mut declared = app("inside", &format!("while :; do {chroot}; busybox usleep 200000; done"), json!({}));
    declared["spec"]["container"]["mounts"] = json!([{"source": "/", "target": "/host"}]);
    apply(&world, &declared);
    let one = instance(&world, "inside", "runs", runs);
    let name = format!("system:instance:default:{}", one["metadata"]["name"].as_str().unwrap());
    wait_for("what it is taken for", || match logs(&world, "inside") {
        said if said.contains("admin") => panic!("before its start was known it was taken for its better: {said}"),
        said if said.contains(&name) => Ok(()),
        said => Err(said),
    });
    let container = format!("appm-{}-1", one["metadata"]["uid"].as_str().unwrap());
    let said = engine.client(&["exec", &container, "/bin/busybox", "sh", "-c", &chroot]);
    assert!(said.contains(&name), "whoever comes into it by the engine is no more: {said}");

    let stranger = ["run", "--rm", "--network", "none", "-v", "/:/host", IMAGE, "/bin/busybox", "sh", "-c", &chroot];
    let (allowed, said) = engine.run(&stranger);
    assert!(!allowed && !said.contains("admin"), "a container of somebody else is nobody: {said}");
}

#[test]
fn a_container_lives_as_it_was_declared_and_goes_with_its_app() {
    Engine::start(&[]).iter().for_each(lives);
}

#[test]
fn a_container_lives_as_it_was_declared_and_goes_with_its_app_on_podman() {
    Engine::start_podman().iter().for_each(lives);
}

fn lives(engine: &Engine) {
    let world = world(engine);
    let stranger = engine.client(&["run", "-d", "--network", "none", IMAGE, "/bin/busybox", "sleep", "1000"]);
    let script =
        r#"echo "$GREETING $(busybox hostname) $(busybox id -u) $(busybox pwd) <$PASSWORD>"; exec busybox sleep 1000"#;
    let secret = ["create", "secret", "generic", "door", "--from-literal=password=correct-horse"];
    assert!(world.command(&secret).status.success());
    let mut declared = app(
        "one",
        script,
        json!({
            "env": [
                {"name": "GREETING", "value": "hello $(APPM_APP)"},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "door", "key": "password"}}},
            ],
            "logs": {"redactSecrets": true},
            "resources": {"limits": {"memory": "64Mi", "pids": "20", "cpu": "500m"}},
            "stopSignal": "SIGKILL",
        }),
    );
    declared["spec"]["container"]["workingDir"] = "/tmp".into();
    declared["spec"]["container"]["user"] = "1234".into();
    apply(&world, &declared);
    let one = instance(&world, "one", "runs", runs);
    let name = one["metadata"]["name"].as_str().unwrap().to_owned();
    wait_for("its first words", || match logs(&world, "one") {
        said if said == format!("hello one {name} 1234 /tmp <***>\n") => Ok(()),
        said => Err(said),
    });
    let container = format!("appm-{}-1", one["metadata"]["uid"].as_str().unwrap());
    let inspect = |format: &str| engine.client(&["inspect", "-f", format, &container]);
    let made = inspect(
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}",
    );
    assert_eq!(made, format!("{} 500000000 20 no", 64 << 20));
    assert_eq!(inspect(r#"{{index .Config.Labels "appm.dev/app"}}"#), "one");
    let used = instance(&world, "one", "usage", |status| status["usage"]["memoryBytes"].as_u64() > Some(0));
    assert_eq!(used["status"]["attempt"], 1);
    let top = String::from_utf8(world.command(&["top", "apps", "one", "--tree"]).stdout).unwrap();
    assert!(top.contains(&used["status"]["state"]["running"]["pid"].to_string()), "{top}");

    declared["spec"]["resources"] = json!({"limits": {"memory": "96Mi", "pids": "30", "cpu": "400m"}});
    apply(&world, &declared);
    let resized = |status: &Value| status["conditions"].to_string().contains("Resized");
    let changed = instance(&world, "one", "its other limits", |status| {
        status["resources"]["limits"]["memory"] == "96Mi" || resized(status)
    });
    if resized(&changed["status"]) {
        assert!(engine.is_podman(), "{}", changed["status"]);
    } else {
        let made = inspect("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}");
        assert_eq!(made, format!("{} 400000000 30", 96 << 20));
    }
    let pid = |one: &Value| one["status"]["state"]["running"]["pid"].clone();
    assert_eq!((pid(&changed), &changed["status"]["attempt"]), (pid(&used), &json!(1)));

    assert!(world.command(&["delete", "app", "one", "--wait"]).status.success());
    wait_for("the container to be gone", || match engine.client(&["ps", "-aq", "--no-trunc"]) {
        left if left == stranger => Ok(()),
        left => Err(left),
    });
}

#[test]
fn exits_are_told_as_they_were() {
    Engine::start(&[]).iter().for_each(exits);
}

#[test]
fn exits_are_told_as_they_were_on_podman() {
    Engine::start_podman().iter().for_each(exits);
}

fn exits(engine: &Engine) {
    let world = world(engine);
    let never = |more: Value| {
        let mut all = json!({"restartPolicy": "Never"});
        more.as_object().into_iter().flatten().for_each(|(k, v)| all[k] = v.clone());
        all
    };
    apply(&world, &app("code", "echo last words; exit 3", never(json!({}))));
    apply(&world, &app("signal", "kill -TERM $$; busybox sleep 9", never(json!({}))));
    apply(
        &world,
        &app("memory", "x=x; while :; do x=$x$x; done", never(json!({"resources": {"limits": {"memory": "16Mi"}}}))),
    );
    let mut absent = app("absent", "true", never(json!({})));
    absent["spec"]["container"]["imagePullPolicy"] = "Never".into();
    absent["spec"]["container"]["image"] = "localhost/no-such-image".into();
    apply(&world, &absent);
    let mut program = app("program", "true", never(json!({})));
    program["spec"]["container"]["command"] = json!(["/no/such/program"]);
    apply(&world, &program);

    let ended = |name: &str| instance(&world, name, "ended", |s| s["state"]["exited"].is_object())["status"].clone();
    assert_eq!(ended("code")["lastExit"]["code"], 3);
    wait_for("its last words", || match logs(&world, "code") {
        said if said == "last words\n" => Ok(()),
        said => Err(said),
    });
    let killed = ended("memory");
    assert_eq!(killed["lastExit"]["signal"], "SIGKILL");
    // Podman does not notice it everywhere.
    assert!(engine.is_podman() || killed["lastExit"]["oomKilled"] == true, "{killed}");
    let refused = ended("program");
    assert!(refused["lastExit"]["message"].as_str().is_some_and(|m| m.contains("/no/such/program")), "{refused}");
    let waits = |s: &Value| s["state"]["waiting"]["reason"] == "ErrImageNeverPull";
    let missing = instance(&world, "absent", "its image is missing", waits);
    assert_eq!(missing["status"]["attempt"], 0, "nothing was started, so no attempt was used");
    // The first process of a container hears only the signals that it asks for.
    let signalled = instance(&world, "signal", "still runs or ended", |s| s["attempt"] == 1);
    assert!(signalled["status"]["lastExit"]["signal"].is_null());
    wait_for("what ended to be acknowledged", || {
        match engine.client(&["ps", "-aq", "--filter", "status=exited", "--filter", "status=created"]) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    });
}

#[test]
fn killing_the_server_restarts_nothing_and_loses_no_line() {
    Engine::start(&[]).iter().for_each(kills);
}

#[test]
fn killing_the_server_restarts_nothing_and_loses_no_line_on_podman() {
    Engine::start_podman().iter().for_each(kills);
}

fn kills(engine: &Engine) {
    let mut world = world(engine);
    apply(&world, &app("count", COUNT, json!({})));
    let before = instance(&world, "count", "runs", runs);
    for _kill in 0..3 {
        let known = counted(&world, "count");
        wait_for("more output", || if counted(&world, "count") > known + 100 { Ok(()) } else { Err(String::new()) });
        world.kill_server();
        let container = engine.client(&["ps", "-q"]);
        // Podman cannot tell the last line while it is being written.
        let printed = || {
            wait_for("the last line", || match engine.run(&["logs", "--tail", "1", &container]) {
                (true, line) => Ok(line),
                (false, why) => Err(why),
            })
        };
        let unread = printed();
        wait_for("output that no server reads", || if printed() == unread { Err(unread.clone()) } else { Ok(()) });
        world.start();
    }
    let after = instance(&world, "count", "runs", runs);
    assert_eq!(before["status"]["state"]["running"]["pid"], after["status"]["state"]["running"]["pid"]);
    assert_eq!(after["status"]["attempt"], 1);
    let known = counted(&world, "count");
    wait_for("still more output", || if counted(&world, "count") > known { Ok(()) } else { Err(String::new()) });
    assert!(world.command(&["delete", "app", "count", "--wait"]).status.success());
}

#[test]
fn an_engine_that_goes_and_comes_back_costs_processes_nothing() {
    let Some(mut engine) = Engine::start(&["--live-restore"]) else { return };
    let world = world(&engine);
    let process = json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "process"},
        "spec": {"process": {"command": ["sleep", "1000"]}},
    });
    apply(&world, &process);
    apply(&world, &app("count", COUNT, json!({})));
    let before = instance(&world, "count", "runs", runs);
    engine.stop();
    let away = instance(&world, "count", "nobody knows", |status| ready(status) == "Unknown");
    assert!(away["status"]["state"]["running"].is_object(), "what was known stays");
    let process = instance(&world, "process", "runs", runs);
    // A new App waits for the engine, and uses up no attempt.
    apply(&world, &app("late", "exec busybox sleep 1000", json!({})));
    instance(&world, "late", "waits", |s| s["attempt"] == 0 && ready(s) != "True");
    engine.again();
    let after = instance(&world, "count", "runs", runs);
    assert_eq!(before["status"]["state"]["running"], after["status"]["state"]["running"], "it was not restarted");
    instance(&world, "late", "runs", runs);
    let same = instance(&world, "process", "runs", runs);
    assert_eq!(process["status"]["state"], same["status"]["state"]);
    let known = counted(&world, "count");
    wait_for("more output", || if counted(&world, "count") > known { Ok(()) } else { Err(String::new()) });

    // Somebody removes a container behind our back: lost, and started again.
    let uid = after["metadata"]["uid"].as_str().unwrap();
    engine.client(&["rm", "-f", &format!("appm-{uid}-1")]);
    instance(&world, "count", "runs again", |s| s["attempt"] == 2 && runs(s));
    for name in ["count", "late"] {
        assert!(world.command(&["delete", "app", name, "--wait"]).status.success());
    }
    wait_for("the containers to be gone", || match engine.client(&["ps", "-aq"]) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
    assert_eq!(world.api().list(APPS).unwrap().len(), 1);
}
