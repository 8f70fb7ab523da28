//! What is asked of containers and done in them while they run: probes and hooks.

use serde_json::{Value, json};

use super::{app, apply, engine::Engine, instance, ready, runs, world};
use crate::harness::wait_for;

fn container(one: &Value) -> String {
    format!("appm-{}-1", one["metadata"]["uid"].as_str().unwrap())
}

#[test]
fn a_port_that_is_not_published_is_probed_at_the_containers_own_address() {
    let Some(engine) = Engine::start(&[]) else { return };
    engine.network("back");
    let world = world(&engine);
    let serve = "echo fine > /tmp/health; exec busybox httpd -f -p 8080 -h /tmp";
    let declared = |name: &str, readiness: Value| {
        let more = json!({
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": readiness,
            "livenessProbe": {"tcpSocket": {"port": 8080}, "failureThreshold": 1000},
        });
        let mut app = app(name, serve, more);
        app["spec"]["container"]["network"] = "back".into();
        app
    };
    apply(&world, &declared("web", json!({"httpGet": {"port": "http", "path": "/health"}, "periodSeconds": 1})));
    apply(&world, &declared("tcp", json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1})));
    apply(&world, &declared("deaf", json!({"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1})));
    let web = instance(&world, "web", "answers", runs);
    let address = engine.client(&["inspect", "-f", "{{.NetworkSettings.Networks.back.IPAddress}}", &container(&web)]);
    assert!(address.starts_with("198."), "{address}");
    assert_eq!(web["status"]["address"], *address);
    let tcp = instance(&world, "tcp", "answers", runs);
    // In a network that somebody made an App is found by its name.
    for name in ["web", "web.default"] {
        let url = format!("http://{name}:8080/health");
        let found = engine.client(&["exec", &container(&tcp), "/bin/busybox", "wget", "-qO-", &url]);
        assert_eq!(found, "fine", "{name}");
    }
    let deaf = instance(&world, "deaf", "is asked in vain", |status| {
        let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        conditions.iter().any(|c| c["reason"] == "ProbeFailed" && c["message"].to_string().contains(":81"))
    });
    let said = deaf["status"]["conditions"].to_string();
    assert!(said.contains("cannot connect to 198.") && said.contains("connection refused"), "{said}");
    for app in ["web", "tcp", "deaf"] {
        assert!(world.command(&["delete", "app", app, "--wait"]).status.success());
    }
}

#[test]
fn a_hook_runs_once_though_the_server_is_killed_while_it_runs() {
    let Some(engine) = Engine::start(&[]) else { return };
    let mut world = world(&engine);
    let hook = "echo begun >> /tmp/hook; until [ -e /tmp/go ]; do busybox usleep 20000; done";
    let exec = json!({"exec": {"command": ["/bin/busybox", "sh", "-c", hook]}});
    let busybox = |of: &str, words: &[&str]| engine.client(&[&["exec", of, "/bin/busybox"], words].concat());
    let mut all = Vec::new();
    for name in ["with", "without"] {
        apply(&world, &app(name, "exec busybox sleep 1000", json!({"lifecycle": {"postStart": exec}})));
    }
    for name in ["with", "without"] {
        let one = instance(&world, name, "runs", |status| status["state"]["running"].is_object());
        assert_eq!(ready(&one["status"]), "False", "its hook has yet to end");
        let container = container(&one);
        wait_for("the hook to begin", || match busybox(&container, &["ls", "/tmp"]) {
            files if files.contains("hook") => Ok(()),
            files => Err(files),
        });
        all.push(container);
    }
    world.kill_server();
    // One ends while nobody looks, one when the next server is there.
    busybox(&all[1], &["touch", "/tmp/go"]);
    let under_way = |of: &str| engine.client(&["inspect", "-f", "{{len .ExecIDs}}", of]);
    wait_for("the hook to end", || if under_way(&all[1]) == "0" { Ok(()) } else { Err(under_way(&all[1])) });
    world.start();
    instance(&world, "without", "has its hook done", runs);
    let waits = instance(&world, "with", "waits for its hook", |status| status["attempt"] == 1);
    assert_eq!(ready(&waits["status"]), "False");
    busybox(&all[0], &["touch", "/tmp/go"]);
    instance(&world, "with", "has its hook done", runs);
    for container in &all {
        assert_eq!(busybox(container, &["cat", "/tmp/hook"]), "begun");
    }
    for app in ["with", "without"] {
        assert!(world.command(&["delete", "app", app, "--wait"]).status.success());
    }
    wait_for("what was noted to go with its container", || {
        let left = std::fs::read_dir(world.data().join("containers/begun")).map_err(|e| e.to_string())?.count();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
}
