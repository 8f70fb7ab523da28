//! Processes that run already and are taken over.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{apply, instance};
use crate::harness::{World, app_path, signal, wait_for};

/// Somebody else's process; ended with the test.
struct Given(Child);

impl Given {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("its end", || self.0.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn taking(name: &str, pid: u32, more: Value) -> Value {
    let mut spec = json!({"process": {"adopt": {"pid": pid}}, "terminationGracePeriodSeconds": 5});
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})
}

fn runs(pid: u32) -> impl Fn(&Value) -> bool {
    move |one| {
        let running = &one["status"]["state"]["running"];
        running["pid"] == pid && running["adopted"] == true
    }
}

fn has_exited(one: &Value) -> bool {
    one["status"]["state"]["exited"].is_object()
}

#[test]
fn a_process_that_runs_is_taken_over_survives_server_and_keeper_and_is_stopped_with_its_app() {
    let mut world = World::new();
    world.start();
    let mut given = Given::new();
    let pid = given.0.id();
    apply(&world, &taking("legacy", pid, json!({"readinessProbe": {"exec": {"command": ["test", "-d", "."]}}})));
    let is_ready = |one: &Value| runs(pid)(one) && one["status"]["conditions"][0]["status"] == "True";
    instance(&world, "legacy", "the process, ready by a probe", is_ready);
    wait_for("the event", || {
        let said = String::from_utf8_lossy(&world.command(&["events"]).stdout).into_owned();
        let sentence = format!("Took over process {pid}; its output goes where it went before");
        if said.contains(&sentence) { Ok(()) } else { Err(said) }
    });
    let printed = world.command(&["logs", "legacy"]);
    assert!(printed.status.success() && printed.stdout.is_empty(), "{printed:?}");

    world.kill_server();
    assert!(given.runs());
    signal(world.own_process("keeper").expect("a keeper runs"), Signal::SIGKILL);
    world.start();
    instance(&world, "legacy", "it again", is_ready);
    assert!(given.runs());

    let answer = world.api().ask("DELETE", &app_path("legacy"), "", b"").unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(given.ended().signal(), Some(Signal::SIGTERM as i32));
    wait_for("the end of the app", || match world.api().get(&app_path("legacy")).unwrap() {
        None => Ok(()),
        Some(app) => Err(app.to_string()),
    });
    world.terminate_server();
}

#[test]
fn what_was_taken_over_and_has_ended_is_never_started_again() {
    let mut world = World::new();
    world.start();
    let mut all: Vec<Given> = (0..3).map(|_| Given::new()).collect();
    for (i, given) in all.iter().enumerate() {
        apply(&world, &taking(&format!("app-{i}"), given.0.id(), json!({"restartPolicy": "Always"})));
    }
    for (i, given) in all.iter().enumerate() {
        instance(&world, &format!("app-{i}"), "the process", runs(given.0.id()));
    }
    // One ends by itself, one is restarted, one is suspended and resumed.
    all[0].0.kill().unwrap();
    assert!(world.command(&["restart", "app-1"]).status.success());
    assert!(world.command(&["stop", "app-2"]).status.success());
    for given in &mut all {
        given.ended();
    }
    instance(&world, "app-2", "its rest", |one| one["status"]["state"]["exited"]["reason"] == "Suspended");
    assert!(world.command(&["start", "app-2"]).status.success());
    for app in ["app-0", "app-1", "app-2"] {
        let over = |one: &Value| one["status"]["state"]["exited"]["reason"] == "Lost";
        let one = instance(&world, app, "its end for good", over);
        assert_eq!((&one["status"]["attempt"], &one["status"]["restarts"]), (&json!(1), &json!(0)), "{one}");
    }
    world.terminate_server();
}

#[test]
fn what_cannot_be_taken_over_is_refused_once_and_with_the_reason() {
    let mut world = World::new();
    world.start();
    let mut gone = Given::new();
    gone.0.kill().unwrap();
    gone.ended();
    let given = Given::new();
    apply(&world, &taking("first", given.0.id(), json!({})));
    instance(&world, "first", "the process", runs(given.0.id()));
    let keeper = world.own_process("keeper").expect("a keeper runs");
    let refusals = [
        ("gone", gone.0.id(), "no process"),
        ("keeper", keeper, "one of appm's own"),
        ("itself", std::process::id(), "one that appm was started by"),
        ("second", given.0.id(), "belongs to an instance already"),
    ];
    for (app, pid, why) in refusals {
        apply(&world, &taking(app, pid, json!({})));
        let one = instance(&world, app, "the refusal", has_exited);
        let message = one["status"]["state"]["exited"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("spec.process.adopt.pid: ") && message.contains(why), "{message}");
        assert_eq!((&one["status"]["attempt"], &one["status"]["restarts"]), (&json!(1), &json!(0)), "{one}");
    }
    // Another number is another process: that is mended as anything else.
    let right = Given::new();
    apply(&world, &taking("gone", right.0.id(), json!({})));
    instance(&world, "gone", "the right process", runs(right.0.id()));
    world.kill_everything();
}
