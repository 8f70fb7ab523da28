//! Probes and hooks on real processes: what makes an instance ready, what ends it, what survives the server's death.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{APPS, INSTANCES, World, app, app_path, signal, wait_for};

const EVENTS: &str = "/api/v1/namespaces/default/events";

/// Sleeps until it is asked to end, and then ends at once.
const SLEEP: &str = "exec sleep 1000";

/// A process that speaks as a systemd service does: `say(text)`.
const SPEAKER: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys, time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
    s.send(text.encode())
root = os.environ["PROOF_ROOT"]
def wait(name):
    while not os.path.exists(root + "/" + name): time.sleep(0.02)
"#;

/// Answers with 200 while the file `http` is there, and with 503 otherwise; says what it was asked.
const WEB: &str = r#"#!/usr/bin/env python3
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = os.path.exists(os.environ["PROOF_ROOT"] + "/http") and self.headers["X-Probe"] == "yes"
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/health")
        else:
            self.send_response(200 if ok else 503)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// An App with more in its spec.
fn with(world: &World, name: &str, script: &str, more: &Value) -> Value {
    let mut app = app(world, name, 1, script);
    for (field, value) in more.as_object().unwrap() {
        app["spec"][field] = value.clone();
    }
    app
}

impl World {
    fn run(&self, name: &str, script: &str, more: &Value) {
        let answer = self.api().apply(&with(self, name, script, more)).unwrap();
        assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
    }

    /// The one Instance of an App.
    fn instance(&self, name: &str) -> Option<Value> {
        let path = format!("{INSTANCES}?labelSelector=appm.dev/app%3D{name}");
        self.api().list(&path).unwrap().into_iter().next()
    }

    /// Waits until the Instance of an App is as wanted.
    fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || match self.instance(name) {
            Some(instance) if wanted(&instance) => Ok(instance),
            Some(instance) => Err(instance["status"].to_string()),
            None => Err("there is none".to_owned()),
        })
    }

    fn until_ready(&self, name: &str, wanted: &str, because: &str) -> Value {
        let what = format!("{name} to be Ready={wanted} ({because})");
        self.until(name, &what, |i| (ready(i)["status"] == wanted) && (ready(i)["reason"] == because))
    }

    /// Waits for an event about an Instance of an App, and returns its message.
    fn event(&self, name: &str, reason: &str) -> String {
        self.events(name, reason, "")
    }

    /// The same, for one whose message contains a text.
    fn events(&self, name: &str, reason: &str, part: &str) -> String {
        wait_for(&format!("an event {reason} about {name}"), || {
            let events = self.api().list(EVENTS).unwrap();
            let about = |e: &&Value| {
                let says = e["message"].as_str().unwrap().contains(part);
                says && e["reason"] == reason
                    && e["involvedObject"]["name"].as_str().unwrap().starts_with(&format!("{name}-"))
            };
            let found = events.iter().find(about).map(|event| event["message"].as_str().unwrap().to_owned());
            found.ok_or_else(|| {
                format!("{:?}", events.iter().map(|e| (&e["reason"], &e["message"])).collect::<Vec<_>>())
            })
        })
    }

    fn write(&self, name: &str) {
        fs::write(self.root().join(name), "").unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap_or_default()
    }

    /// Waits until a file says so much.
    fn until_written(&self, name: &str, text: &str) {
        wait_for(name, || if self.read(name) == text { Ok(()) } else { Err(self.read(name)) });
    }
}

fn ready(instance: &Value) -> &Value {
    let none = &Value::Null;
    instance["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["type"] == "Ready"))
        .unwrap_or(none)
}

fn pid(instance: &Value) -> i64 {
    instance["status"]["state"]["running"]["pid"].as_i64().unwrap_or(0)
}

#[test]
fn each_kind_of_probe_makes_an_app_ready_and_takes_it_back() {
    let mut world = World::new();
    world.start();
    let quick = |probe: Value| {
        let mut probe = probe;
        (probe["periodSeconds"], probe["failureThreshold"]) = (json!(1), json!(2));
        json!({"readinessProbe": probe, "ports": [{"name": "web"}]})
    };
    let exec = json!({"exec": {"command": ["sh", "-c", "cat \"$PROOF_ROOT/exec\""]}});
    let get = json!({"httpGet": {
        "path": "/moved", "port": "web", "httpHeaders": [{"name": "X-Probe", "value": "yes"}],
    }});
    let tcp = json!({"tcpSocket": {"port": "web"}});
    let notify = json!({"notify": {}});
    let listener = SPEAKER.to_owned()
        + r#"
while True:
    wait("tcp")
    s = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    while os.path.exists(root + "/tcp"): time.sleep(0.02)
    s.close()
"#;
    let speaker = SPEAKER.to_owned()
        + r#"
say("STATUS=warming up"); wait("notify"); say("READY=1\nSTATUS=open")
while os.path.exists(root + "/notify"): time.sleep(0.02)
say("STOPPING=1"); time.sleep(1000)
"#;
    world.run("exec", SLEEP, &quick(exec));
    world.run("http", WEB, &quick(get));
    world.run("tcp", &listener, &quick(tcp));
    world.run("notify", &speaker, &quick(notify));
    for name in ["exec", "http", "tcp"] {
        let instance = world.until_ready(name, "False", "ProbeFailed");
        assert_eq!(instance["status"]["started"], true, "{name}");
    }
    world.until("notify", "its words", |i| ready(i)["message"] == "warming up" && ready(i)["reason"] == "Starting");
    ["exec", "http", "tcp", "notify"].iter().for_each(|name| world.write(name));
    for name in ["exec", "http", "tcp", "notify"] {
        world.until_ready(name, "True", "ProbeSucceeded");
    }
    world.until("notify", "its words", |i| ready(i)["message"] == "open");
    ["exec", "http", "tcp", "notify"].iter().for_each(|name| fs::remove_file(world.root().join(name)).unwrap());
    for (name, why) in [
        ("exec", "No such file or directory"),
        ("http", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        ("tcp", "connection refused"),
        ("notify", "Readiness probe failed: it says STOPPING=1"),
    ] {
        let instance = world.until_ready(name, "False", "ProbeFailed");
        let message = ready(&instance)["message"].as_str().unwrap();
        assert!(message.starts_with("Readiness probe failed: ") && message.contains(why), "{message}");
        assert_eq!((&instance["status"]["attempt"], &instance["status"]["restarts"]), (&json!(1), &json!(0)));
    }
    let told = world.events("http", "Unhealthy", "statuscode");
    assert_eq!(told, "Readiness probe failed: HTTP probe failed with statuscode: 503");
}

#[test]
fn what_fails_its_startup_or_liveness_probe_is_restarted_in_place() {
    let mut world = World::new();
    world.start();
    let deaf = "trap '' TERM; while :; do sleep 0.1; done";
    let fail = json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1});
    let mut hurried = fail.clone();
    hurried["terminationGracePeriodSeconds"] = json!(1);
    world.run("live", SLEEP, &json!({"livenessProbe": fail}));
    world.run("deaf", deaf, &json!({"livenessProbe": hurried, "terminationGracePeriodSeconds": 600}));
    world.run("never", SLEEP, &json!({"livenessProbe": fail, "restartPolicy": "Never"}));
    world.run(
        "onfailure",
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
        &json!({
            "livenessProbe": fail, "restartPolicy": "OnFailure", "restart": {"exitCodes": {"0": "Stop"}},
        }),
    );
    world.run(
        "startup",
        SLEEP,
        &json!({
            "startupProbe": fail, "livenessProbe": {"exec": {"command": ["sh", "-c", "echo x >> $PROOF_ROOT/asked"]}},
        }),
    );
    let silent =
        SPEAKER.to_owned() + "say('READY=1')\nfor _ in range(6): time.sleep(0.25); say('WATCHDOG=1')\ntime.sleep(1000)";
    world.run(
        "watchdog",
        &silent,
        &json!({
            "readinessProbe": {"notify": {}}, "livenessProbe": {"notify": {"watchdog": "1s"}},
        }),
    );
    let restarted = |name: &str| world.until(name, "a second attempt", |i| i["status"]["attempt"].as_i64() >= Some(2));
    for (name, signal) in [("live", "SIGTERM"), ("deaf", "SIGKILL"), ("startup", "SIGTERM"), ("watchdog", "SIGTERM")] {
        let instance = restarted(name);
        assert_eq!(instance["status"]["lastExit"]["signal"], signal, "{name}");
        assert!(instance["status"]["restarts"].as_i64() >= Some(1));
    }
    assert_eq!(restarted("onfailure")["status"]["lastExit"]["code"], 0, "a failure, however it ended");
    let ended = world.until("never", "its end", |i| i["status"]["state"]["exited"].is_object());
    assert_eq!(ended["status"]["state"]["exited"]["reason"], "Failed");
    let message = ended["status"]["state"]["exited"]["message"].as_str().unwrap();
    assert!(message.starts_with("Liveness probe failed: exit code 1; attempt 1 was ended by SIGTERM"), "{message}");
    assert_eq!(world.read("asked"), "", "nothing else is asked before the start is over");
    assert!(
        world.event("watchdog", "Unhealthy").starts_with("Liveness probe failed: it has not said WATCHDOG=1 for 1")
    );
    let instance = world.instance("watchdog").unwrap();
    let times = ["startTime", "finishTime"].map(|t| instance["status"]["lastExit"][t].as_str().unwrap().to_owned());
    let [from, to] = times.map(|t| t.parse::<jiff::Timestamp>().unwrap());
    assert!(to.duration_since(from).as_millis() >= 2400, "as long as it spoke it was left alone");
}

#[test]
fn those_that_hang_delay_nobody() {
    let mut world = World::new();
    world.start();
    let hang = "test $((APPM_ORDINAL % 3)) -ne 0 || sleep 50";
    let probe = json!({"exec": {"command": ["sh", "-c", hang]}, "timeoutSeconds": 60});
    let mut many = with(&world, "many", SLEEP, &json!({"readinessProbe": probe}));
    many["spec"]["replicas"] = json!(100);
    let began = Instant::now();
    assert!(world.api().apply(&many).unwrap().is_ok());
    wait_for("66 of 100 to be ready", || {
        let app = world.api().get(&app_path("many")).unwrap().unwrap();
        if app["status"]["readyReplicas"] == 66 { Ok(()) } else { Err(app["status"].to_string()) }
    });
    assert!(began.elapsed() < Duration::from_secs(30), "took {:?} beside 34 that hang for 50 s", began.elapsed());
}

#[test]
fn hooks_run_once_though_the_server_is_killed_meanwhile() {
    let mut world = World::new();
    world.start();
    let hook = |name: &str| {
        let text = format!("echo begins >> $PROOF_ROOT/{name}; sleep 1; echo ends >> $PROOF_ROOT/{name}");
        json!({"exec": {"command": ["sh", "-c", text]}})
    };
    let script = "trap 'cat $PROOF_ROOT/pre > $PROOF_ROOT/last; exit 0' TERM; while :; do sleep 0.1; done";
    world.run("hooked", script, &json!({"lifecycle": {"postStart": hook("post"), "preStop": hook("pre")}}));
    world.until_written("post", "begins\n");
    world.until("hooked", "its start", |i| {
        pid(i) > 0 && ready(i)["status"] == "False" && i["status"]["started"] == false
    });
    world.kill_server();
    world.start();
    let instance = world.until_ready("hooked", "True", "Running");
    assert_eq!((world.read("post").as_str(), &instance["status"]["attempt"]), ("begins\nends\n", &json!(1)));
    assert!(world.api().ask("DELETE", &app_path("hooked"), "", b"").unwrap().is_ok());
    world.until_written("pre", "begins\n");
    world.until("hooked", "to be stopping", |i| i["status"]["state"]["stopping"]["preStop"] == true);
    world.kill_server();
    world.start();
    wait_for("the end", || world.instance("hooked").map_or(Ok(()), |i| Err(i["status"].to_string())));
    assert_eq!(world.read("pre"), "begins\nends\n");
    assert_eq!(world.read("last"), "begins\nends\n", "the stop signal comes after the hook");
}

#[test]
fn a_hook_that_fails_ends_a_start_and_never_holds_up_an_end() {
    let mut world = World::new();
    world.start();
    let fail = json!({"exec": {"command": ["sh", "-c", "echo no luck; exit 3"]}});
    world.run(
        "post",
        SLEEP,
        &json!({
            "lifecycle": {"postStart": fail}, "restart": {"backoff": {"initial": "1h", "max": "1h"}},
        }),
    );
    let waiting = world.until("post", "to wait", |i| i["status"]["state"]["waiting"].is_object());
    assert_eq!(waiting["status"]["state"]["waiting"]["reason"], "StartFailed");
    assert_eq!(world.event("post", "FailedPostStartHook"), "The postStart hook failed: no luck");
    world.run("pre", SLEEP, &json!({"lifecycle": {"preStop": fail}}));
    world.until_ready("pre", "True", "Running");
    assert!(world.api().ask("DELETE", &app_path("pre"), "", b"").unwrap().is_ok());
    assert_eq!(world.event("pre", "FailedPreStopHook"), "The preStop hook failed: no luck");
    wait_for("the end", || world.instance("pre").map_or(Ok(()), |i| Err(i["status"].to_string())));
    // One that takes longer than the grace: the signal still comes, and a moment for it.
    let slow = json!({"sleep": {"seconds": 600}});
    let script = "trap 'echo asked > $PROOF_ROOT/asked; exit 0' TERM; while :; do sleep 0.1; done";
    world.run("slow", script, &json!({"lifecycle": {"preStop": slow}, "terminationGracePeriodSeconds": 1}));
    world.until_ready("slow", "True", "Running");
    assert!(world.api().ask("DELETE", &app_path("slow"), "", b"").unwrap().is_ok());
    wait_for("the end", || world.instance("slow").map_or(Ok(()), |i| Err(i["status"].to_string())));
    assert_eq!(world.read("asked"), "asked\n");
}

#[test]
fn what_is_ready_stays_so_through_the_servers_death_and_probes_change_without_a_restart() {
    let mut world = World::new();
    world.start();
    world.write("ok");
    let ask = |file: &str| json!({"exec": {"command": ["sh", "-c", format!("test -e $PROOF_ROOT/{file}")]}, "periodSeconds": 1});
    let speaker = SPEAKER.to_owned() + "say('READY=1\\nSTATUS=open'); time.sleep(1000)";
    let mut alive = ask("ok");
    alive["failureThreshold"] = json!(1);
    alive["exec"]["command"] = json!(["sleep", "0.3"]);
    let kept = json!({"startupProbe": ask("ok"), "readinessProbe": ask("ok"), "livenessProbe": alive});
    world.run("kept", SLEEP, &kept);
    world.run("said", &speaker, &json!({"readinessProbe": {"notify": {}}}));
    let before = ["kept", "said"].map(|name| world.until_ready(name, "True", "ProbeSucceeded"));
    world.kill_server();
    // The startup probe would fail now; the readiness probe fails only once it has been asked often enough.
    world.start();
    for (name, before) in ["kept", "said"].iter().zip(&before) {
        let after = world.instance(name).unwrap();
        assert_eq!((pid(&after), &after["status"]["started"]), (pid(before), &json!(true)));
        assert_eq!(ready(&after)["lastTransitionTime"], ready(before)["lastTransitionTime"], "{}", after["status"]);
    }
    // A keeper that dies knows nothing of the questions that were under way, and nobody holds that against the App.
    let keeper = world.own_process("keeper").unwrap();
    signal(keeper, Signal::SIGKILL);
    for (name, before) in ["kept", "said"].iter().zip(&before) {
        let after = world.until(name, "its adoption", |i| i["status"]["state"]["running"]["adopted"] == true);
        assert_eq!((pid(&after), &after["status"]["restarts"]), (pid(before), &json!(0)));
        assert_eq!(ready(&after)["lastTransitionTime"], ready(before)["lastTransitionTime"], "{}", after["status"]);
    }
    fs::remove_file(world.root().join("ok")).unwrap();
    world.until_ready("kept", "False", "ProbeFailed");
    world.write("other");
    world.run("kept", SLEEP, &json!({"startupProbe": ask("ok"), "readinessProbe": ask("other")}));
    let after = world.until_ready("kept", "True", "ProbeSucceeded");
    assert_eq!((pid(&after), &after["status"]["attempt"]), (pid(&before[0]), &json!(1)));
    world.run("kept", SLEEP, &json!({}));
    let after = world.until_ready("kept", "True", "Running");
    assert_eq!((pid(&after), &after["status"]["attempt"]), (pid(&before[0]), &json!(1)));
}

#[test]
fn daemons_are_told_to_stay_in_the_foreground_and_odd_processes_are_lived_with() {
    let mut world = World::new();
    world.start();
    let once = json!({"restartPolicy": "Never"});
    world.run("daemon", "setsid sh -c 'echo $$ > $PROOF_ROOT/pid; exec sleep 1000' & sleep 0.2", &once);
    world.until("daemon", "its end", |i| i["status"]["state"]["exited"]["reason"] == "Completed");
    let told = world.event("daemon", "LeftBehind");
    assert!(told.contains("foreground") && told.contains("MAINPID"), "{told}");
    let pid_of = |name: &str| world.read(name).trim().parse::<u32>().unwrap();
    wait_for("what it left to end", || match world.processes().iter().any(|p| p.pid == pid_of("pid")) {
        true => Err("it runs".to_owned()),
        false => Ok(()),
    });
    let named = SPEAKER.to_owned()
        + "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        say('MAINPID=%d\\nREADY=1' % os.getpid()); open(root + '/named', 'w').write(str(os.getpid())); wait('go'); os._exit(7)
    os._exit(0)
wait('named'); os._exit(0)
";
    world.run("named", &named, &json!({"restartPolicy": "Never", "readinessProbe": {"notify": {}}}));
    let instance = world.until_ready("named", "True", "ProbeSucceeded");
    assert_eq!(pid(&instance), i64::from(pid_of("named")));
    world.write("go");
    let ended = world.until("named", "its end", |i| i["status"]["state"]["exited"].is_object());
    assert_eq!(ended["status"]["lastExit"]["code"], 7);
    // Orphans of an instance fall to the keeper and are reaped; a closed standard output ends nothing.
    let odd = "exec >&- 2>&-; for i in 1 2 3 4 5; do (sh -c 'sleep 0.1' & ) ; done; echo done > $PROOF_ROOT/odd; exec sleep 1000";
    world.run("odd", odd, &json!({}));
    world.until_written("odd", "done\n");
    let keeper = world.own_process("keeper").unwrap();
    let zombies = || {
        let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
        let of_keeper = format!("Z {keeper} ");
        pids.filter(|pid| stat(pid).contains(&format!(") {of_keeper}"))).count()
    };
    wait_for("zombies to be reaped", || if zombies() == 0 { Ok(()) } else { Err(format!("{}", zombies())) });
    world.until_ready("odd", "True", "Running");
    assert_eq!(world.api().list(APPS).unwrap().len(), 3);
}

#[test]
fn a_process_that_needs_more_time_to_stop_says_so_and_gets_it() {
    let mut world = World::new();
    world.start();
    let body = r#"
def stop(*_):
    say("EXTEND_TIMEOUT_USEC=60000000")
    time.sleep(5)
    open(root + "/stopped", "w").write("in peace")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("READY=1")
wait("never")
"#;
    let more = json!({"readinessProbe": {"notify": {}}, "terminationGracePeriodSeconds": 4});
    world.run("slow", &format!("{SPEAKER}{body}"), &more);
    world.until_ready("slow", "True", "ProbeSucceeded");
    assert!(world.command(&["delete", "app", "slow"]).status.success());
    world.until_written("stopped", "in peace");
}
