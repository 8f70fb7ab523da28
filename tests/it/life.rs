//! When Apps run: after others, within windows, again after a crash, and in which order they end. Real processes.

use std::{fs, time::SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{APPS, INSTANCES, World, app, app_path, wait_for};

/// Says who it is when it begins, and again when it is asked to end, which takes it a moment.
const POLITE: &str = r#"
trap 'sleep 0.2; echo "$APPM_APP ends" >> "$PROOF_ROOT/said"; exit 0' TERM
echo "$APPM_APP begins" >> "$PROOF_ROOT/said"
while :; do sleep 0.05; done
"#;

fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap()
}

fn with(mut app: Value, spec: Value) -> Value {
    for (field, value) in spec.as_object().unwrap() {
        app["spec"][field] = value.clone();
    }
    app
}

#[track_caller]
fn apply(world: &World, app: &Value) {
    let answer = world.api().apply(app).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

/// The only Instance of an App.
fn instance(world: &World, name: &str) -> Result<Value, String> {
    let found =
        world.api().list(&format!("{INSTANCES}?labelSelector=appm.dev/app%3D{name}")).map_err(|e| e.to_string())?;
    found.into_iter().next().ok_or_else(|| "none".to_owned())
}

/// Waits until the Instance's state has this member with this reason (none for `running`).
fn state(world: &World, name: &str, member: &str, reason: Option<&str>) -> Value {
    wait_for(&format!("{name} to be {member} {reason:?}"), || {
        let instance = instance(world, name)?;
        let state = &instance["status"]["state"][member];
        let is_so = state.is_object() && reason.is_none_or(|reason| state["reason"] == reason);
        if is_so { Ok(instance) } else { Err(instance["status"].to_string()) }
    })
}

fn said(world: &World) -> Vec<String> {
    fs::read_to_string(world.root().join("said")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn apps_begin_after_what_they_depend_on_and_end_before_it() {
    let mut world = World::new();
    world.start();
    let depends_on = |app: &str, on: &str| with(self::app(&world, app, 1, POLITE), json!({"dependsOn": [{"app": on}]}));
    apply(&world, &depends_on("web", "api"));
    let waits = state(&world, "web", "waiting", Some("DependencyNotReady"));
    assert_eq!(waits["status"]["state"]["waiting"]["message"], "waits for app api, which does not exist");
    apply(&world, &depends_on("api", "db"));
    apply(&world, &with(app(&world, "db", 1, POLITE), json!({"suspend": true})));
    let message = "waits for app db to be Ready (0 of 1)";
    wait_for("the api to say what it waits for", || {
        let app = world.api().get(&app_path("api")).unwrap().unwrap();
        let ready =
            app["status"]["conditions"].as_array().and_then(|c| c.iter().find(|c| c["type"] == "Ready").cloned());
        let ready = ready.unwrap_or_default();
        let is_so =
            ready["reason"] == "DependencyNotReady" && ready["message"].as_str().unwrap_or("").contains(message);
        if is_so { Ok(()) } else { Err(ready.to_string()) }
    });
    assert_eq!(said(&world), [""; 0]);
    apply(&world, &with(app(&world, "db", 1, POLITE), json!({"suspend": false})));
    state(&world, "web", "running", None);
    wait_for("all to begin", || if said(&world).len() == 3 { Ok(()) } else { Err(format!("{:?}", said(&world))) });
    assert_eq!(said(&world), ["db begins", "api begins", "web begins"]);

    // A crash of the one does not wait for the other.
    fs::remove_file(world.root().join("said")).unwrap();
    apply(&world, &with(app(&world, "db", 1, POLITE), json!({"suspend": true})));
    state(&world, "db", "exited", Some("Suspended"));
    let pid = instance(&world, "web").unwrap()["status"]["state"]["running"]["pid"].as_u64().unwrap();
    crate::harness::signal(u32::try_from(pid).unwrap(), nix::sys::signal::Signal::SIGKILL);
    wait_for("web to begin again", || {
        if said(&world) == ["db ends", "web begins"] { Ok(()) } else { Err(format!("{:?}", said(&world))) }
    });
    apply(&world, &with(app(&world, "db", 1, POLITE), json!({"suspend": false})));
    state(&world, "db", "running", None);
    wait_for("db to begin again", || if said(&world).len() == 3 { Ok(()) } else { Err(format!("{:?}", said(&world))) });

    // Deleted one after another, in the wrong order.
    fs::remove_file(world.root().join("said")).unwrap();
    for name in ["db", "api", "web"] {
        assert!(world.api().ask("DELETE", &app_path(name), "", b"").unwrap().is_ok());
    }
    wait_for("all to end", || if said(&world).len() == 3 { Ok(()) } else { Err(format!("{:?}", said(&world))) });
    assert_eq!(said(&world), ["web ends", "api ends", "db ends"]);
}

#[test]
fn a_server_that_stops_its_apps_ends_them_in_reverse_and_the_next_one_begins_in_order() {
    let mut world = World::new();
    world.start();
    apply(&world, &app(&world, "db", 1, POLITE));
    apply(&world, &with(app(&world, "web", 1, POLITE), json!({"dependsOn": [{"app": "db", "condition": "Started"}]})));
    state(&world, "web", "running", None);
    wait_for("both to begin", || if said(&world).len() == 2 { Ok(()) } else { Err(format!("{:?}", said(&world))) });
    let stopped = world.command(&["server", "stop", "--apps"]);
    assert!(stopped.status.success(), "{stopped:?}");
    wait_for("everything to end", || if world.processes().is_empty() { Ok(()) } else { Err("they run".to_owned()) });
    assert_eq!(said(&world), ["db begins", "web begins", "web ends", "db ends"]);
    world.kill_everything();
    world.start();
    wait_for("both to begin", || if said(&world).len() == 6 { Ok(()) } else { Err(format!("{:?}", said(&world))) });
    assert_eq!(said(&world)[4..], ["db begins", "web begins"]);
}

#[test]
fn a_circle_is_shown_by_the_command_line() {
    let mut world = World::new();
    world.start();
    let file = world.root().join("apps.yaml");
    let app = |name, on| {
        format!(
            "apiVersion: appm.dev/v1\nkind: App\nmetadata: {{name: {name}}}\nspec:\n  process: {{command: [sleep, '100']}}\n  dependsOn:\n    - app: {on}\n---\n"
        )
    };
    fs::write(&file, app("web", "api") + &app("api", "db") + &app("db", "web")).unwrap();
    let refused = world.command(&["apply", "-f", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("waits for itself: `web → api → db → web`"), "{said}");
    assert_eq!(world.api().list(APPS).unwrap(), [Value::Null; 0]);
}

#[test]
fn an_app_runs_within_its_window_only() {
    let mut world = World::new();
    world.start();
    let plain = app(&world, "office", 1, POLITE);
    let opens = now() + SignedDuration::from_secs(2);
    let closed = json!({"activeWindow": {"notBefore": opens.to_string()}});
    apply(&world, &with(plain.clone(), closed));
    let waits = state(&world, "office", "waiting", Some("OutsideActiveWindow"));
    let next: Timestamp = waits["status"]["nextStartTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        next,
        opens.round(jiff::TimestampRound::new().smallest(jiff::Unit::Second).mode(jiff::RoundMode::Trunc)).unwrap()
    );
    state(&world, "office", "running", None);
    assert!(now() >= next, "not before its time");
    // Live: the process stops as soon as the window says so, and its attempt is no restart.
    apply(&world, &with(plain.clone(), json!({"activeWindow": {"notAfter": now().to_string()}})));
    state(&world, "office", "exited", Some("OutsideActiveWindow"));
    apply(&world, &with(plain, json!({"activeWindow": {"notAfter": "2099-01-01T00:00:00Z"}})));
    let runs = state(&world, "office", "running", None);
    assert_eq!((&runs["status"]["attempt"], &runs["status"]["restarts"]), (&json!(2), &json!(0)));
}

#[test]
fn exits_remove_the_app_or_end_it_after_so_many_restarts() {
    let mut world = World::new();
    world.start();
    apply(&world, &with(app(&world, "once", 1, "exit 7"), json!({"restart": {"exitCodes": {"7": "Remove"}}})));
    let gone = || world.api().get(&app_path("once")).unwrap().map_or(Ok(()), |app| Err(app["status"].to_string()));
    wait_for("the app to be removed", gone);

    let limited = |max: u32| json!({"restart": {"maxRestarts": max, "backoff": {"initial": "20ms", "max": "20ms"}}});
    apply(&world, &with(app(&world, "loops", 1, "exit 3"), limited(2)));
    let ended = state(&world, "loops", "exited", Some("CrashLooping"));
    assert_eq!((&ended["status"]["attempt"], &ended["status"]["restarts"]), (&json!(3), &json!(2)));
    assert_eq!(ended["status"]["nextStartTime"], Value::Null);
    // A change of the spec is another chance.
    apply(&world, &with(app(&world, "loops", 1, "exit 3"), limited(3)));
    wait_for("it to have tried again", || {
        let status = instance(&world, "loops")?["status"].clone();
        let again = status["state"]["exited"]["reason"] == "CrashLooping" && status["attempt"] == 7;
        if again { Ok(()) } else { Err(status.to_string()) }
    });
}

/// How much memory a process has had at most, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn a_line_without_an_end_takes_no_memory_of_whoever_hands_it_on() {
    const SIZE: usize = 128 << 20;
    let mut world = World::new();
    world.start();
    let script = format!("head -c {SIZE} /dev/zero | tr '\\0' x");
    let logs = json!({"restartPolicy": "Never", "logs": {"maxSize": "1Gi"}});
    apply(&world, &with(app(&world, "long", 1, &script), logs));
    let ended = state(&world, "long", "exited", Some("Completed"));
    let name = ended["metadata"]["name"].as_str().unwrap();
    let server = world.own_process("server").unwrap();
    let before = peak_memory(server);
    for question in ["", "?timestamps=true", "?tailLines=1"] {
        let path = format!("{INSTANCES}/{name}/log{question}");
        let (code, mut body) = world.api().open("GET", &path, "", b"").unwrap();
        let mut seen = 0;
        while let Ok(piece @ [_, ..]) = std::io::BufRead::fill_buf(&mut body) {
            let length = piece.len();
            seen += length;
            std::io::BufRead::consume(&mut body, length);
        }
        let stamp = if question.contains("timestamps") { "2026-11-21T08:00:00.000000000Z ".len() } else { 0 };
        assert_eq!((code, seen), (200, SIZE + stamp), "{question}");
    }
    let grown = peak_memory(server) - before;
    assert!(grown < SIZE as u64 / 2, "{grown} bytes for {SIZE}");
}

/// The instances of an App, by name.
fn instances(world: &World, name: &str) -> Vec<Value> {
    world.api().list(&format!("{INSTANCES}?labelSelector=appm.dev/app%3D{name}")).unwrap_or_default()
}

/// What an Instance wrote.
fn log(world: &World, name: &str, question: &str) -> String {
    let answer = world.api().ask("GET", &format!("{INSTANCES}/{name}/log?{question}"), "", b"").unwrap();
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn what_an_app_keeps_of_its_output_is_bounded_over_all_its_instances() {
    const TOTAL: u64 = 64 << 10;
    let mut world = World::new();
    world.start();
    let logs = json!({"restartPolicy": "Never", "logs": {"maxSize": "64Ki", "maxTotalSize": "64Ki"}});
    apply(&world, &with(app(&world, "wordy", 2, "seq 30000; exit 0"), logs));
    let ended = wait_for("both to have ended", || {
        let found = instances(&world, "wordy");
        let ended = |i: &&Value| i["status"]["state"]["exited"]["reason"] == "Completed";
        if found.iter().filter(ended).count() == 2 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    let kept = |instance: &Value| -> u64 {
        let uid = instance["metadata"]["uid"].as_str().unwrap();
        let files = fs::read_dir(world.data().join("instances").join(uid).join("logs")).unwrap();
        let files = files.map(|file| file.unwrap()).filter(|f| f.path().extension().is_some_and(|e| e != "idx"));
        files.map(|file| file.metadata().unwrap().len()).sum()
    };
    for instance in &ended {
        let name = instance["metadata"]["name"].as_str().unwrap();
        // The newest is what is kept.
        wait_for("its last line", || match log(&world, name, "tailLines=1") {
            last if last == "30000\n" => Ok(()),
            last => Err(last),
        });
    }
    let sizes: Vec<u64> = ended.iter().map(kept).collect();
    assert!(sizes.iter().sum::<u64>() <= TOTAL && sizes.iter().all(|size| *size > 8 << 10), "{sizes:?}");
}

#[test]
fn a_follower_that_comes_back_sees_what_earlier_attempts_said_since_then() {
    let mut world = World::new();
    world.start();
    let at_once = json!({"restart": {"backoff": {"initial": "0s", "max": "0s"}, "exitCodes": {"9": "Stop"}}});
    let script = "echo \"$APPM_ATTEMPT speaks\"; test $APPM_ATTEMPT = 3 && exit 9; exit 1";
    apply(&world, &with(app(&world, "chatty", 1, script), at_once));
    let ended = state(&world, "chatty", "exited", None);
    let name = ended["metadata"]["name"].as_str().unwrap();
    wait_for("its last words", || match log(&world, name, "sinceTime=2026-01-01T00:00:00Z") {
        last if last == "3 speaks\n" => Ok(()),
        last => Err(last),
    });
    let path = format!("{INSTANCES}/{name}/log?follow=true&sinceTime=2026-01-01T00:00:00Z");
    let (code, mut body) = world.api().open("GET", &path, "", b"").unwrap();
    let mut lines = String::new();
    while lines.lines().count() < 3 {
        assert!(std::io::BufRead::read_line(&mut body, &mut lines).unwrap() > 0, "{lines}");
    }
    assert_eq!((code, lines.as_str()), (200, "1 speaks\n2 speaks\n3 speaks\n"));
}

#[test]
fn while_many_crash_at_once_the_api_answers_and_each_is_restarted() {
    let mut world = World::new();
    world.start();
    apply(&world, &with(app(&world, "loops", 100, "exit 1"), json!({"restart": {}, "logs": {}})));
    let path = app_path("loops");
    let mut answers = 0;
    wait_for("each to be restarted twice", || {
        let app = world.api().get(&path).map_err(|e| e.to_string())?.unwrap();
        answers += 1;
        let status = &app["status"];
        if status["restarts"].as_u64() >= Some(200) { Ok(()) } else { Err(status["restarts"].to_string()) }
    });
    assert!(answers > 10, "{answers} answers");
    let all = world.api().list(INSTANCES).unwrap();
    let due: std::collections::BTreeSet<_> = all.iter().filter_map(|i| i["status"]["nextStartTime"].as_str()).collect();
    assert!(due.len() > all.len() / 4, "they do not come back together: {due:?}");
}
