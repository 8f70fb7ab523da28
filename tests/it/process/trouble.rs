//! Bad circumstances, as the owner of an App meets them.

use std::net::TcpListener;

use serde_json::json;

use super::{app, apply, instance, printed};
use crate::harness::{World, wait_for};

#[test]
fn what_is_deleted_has_stopped_when_delete_returns() {
    let mut world = World::new();
    world.start();
    // Its child takes longer than any look at the App.
    let script = "trap 'sleep 0.5; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    apply(&world, &app("slow", script, json!({"terminationGracePeriodSeconds": 20})));
    printed(&world, "slow", "up\n");
    let one = instance(&world, "slow", "the process", |one| one["status"]["state"]["running"].is_object());
    let pid = one["status"]["state"]["running"]["pid"].as_i64().expect("a pid");
    let said = world.command(&["delete", "app", "slow"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} runs");
    let left = world.command(&["get", "apps,instances", "-o", "name"]).stdout;
    assert_eq!(String::from_utf8_lossy(&left), "");
}

/// Ends with code 1 where its port is taken.
const SERVER: &str = "#!/usr/bin/env python3
import os, signal, socket
server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
print('listening', flush=True)
signal.pause()
";

#[test]
fn a_port_that_somebody_else_holds_is_named_and_recovered_from() {
    let mut world = World::new();
    world.start();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let ports = json!({"ports": [{"name": "http", "containerPort": port}], "restart": {"backoff": {"initial": "500ms", "max": "500ms"}}});
    apply(&world, &app("web", SERVER, ports));
    let held = format!("exited with code 1; port {port} (`http`) is held by process {} (", std::process::id());
    let waits = |one: &serde_json::Value| {
        let waiting = &one["status"]["state"]["waiting"];
        waiting["reason"] == "BackOff" && waiting["message"].as_str().is_some_and(|said| said.contains(&held))
    };
    instance(&world, "web", "the reason", waits);
    wait_for("the event", || {
        let said = String::from_utf8_lossy(&world.command(&["describe", "web"]).stdout).into_owned();
        if said.contains("PortTaken") { Ok(()) } else { Err(said) }
    });
    drop(stranger);
    printed(&world, "web", "listening\n");
    instance(&world, "web", "its start", |one| one["status"]["state"]["running"].is_object());
}

#[test]
fn who_loses_the_port_that_was_chosen_for_it_gets_another() {
    let mut world = World::new();
    world.start();
    let go = world.root().join("go");
    let waits = format!(
        "{}while not os.path.exists('{}'): time.sleep(0.02)\n",
        "#!/usr/bin/env python3\nimport os, time\n",
        go.display()
    );
    let script = format!("{waits}{}", SERVER.split_once('\n').expect("lines").1);
    // Long enough for a look at who holds it, however busy the machine is.
    let restart = json!({"backoff": {"initial": "5s", "max": "5s"}});
    let ports = json!({"ports": [{"name": "http", "containerPort": 0}], "restart": restart});
    apply(&world, &app("web", &script, ports));
    let first = instance(&world, "web", "its start", |one| one["status"]["state"]["running"].is_object());
    let port =
        |one: &serde_json::Value| u16::try_from(one["spec"]["ports"][0]["containerPort"].as_u64().unwrap()).unwrap();
    // Between the choice and its use.
    let stranger = TcpListener::bind(("127.0.0.1", port(&first))).unwrap();
    std::fs::write(&go, "").unwrap();
    let second = instance(&world, "web", "another port", |one| {
        port(one) != port(&first) && one["status"]["state"]["running"].is_object()
    });
    assert_ne!(second["metadata"]["uid"], first["metadata"]["uid"]);
    printed(&world, "web", "listening\n");
    wait_for("the event", || {
        let said = String::from_utf8_lossy(&world.command(&["describe", "web"]).stdout).into_owned();
        if said.contains("somebody else holds a port that was chosen for it") { Ok(()) } else { Err(said) }
    });
    drop(stranger);
}
