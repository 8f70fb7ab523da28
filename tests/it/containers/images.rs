//! What images bring with them, and where they come from.

use serde_json::{Value, json};

use super::{
    app, apply,
    engine::{Engine, IMAGE},
    instance, ready, runs, world,
};
use crate::harness::wait_for;

/// Reason and message of the `Ready` condition.
fn why(status: &Value) -> (String, String) {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap_or(&Value::Null);
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[test]
fn the_health_check_of_an_image_is_its_readiness_unless_the_app_declares_its_own() {
    const WELL: &str = "localhost/well";
    let Some(engine) = Engine::start(&[]) else { return };
    let check = r#"HEALTHCHECK --interval=200ms --retries=2 CMD ["/bin/busybox", "cat", "/tmp/well"]"#;
    engine.import(WELL, &[check]);
    let mut world = world(&engine);
    let declared = |name: &str, more: Value| {
        let mut app = app(name, "exec busybox sleep 1000", more);
        app["spec"]["container"]["image"] = WELL.into();
        app
    };
    apply(&world, &declared("own", json!({"readinessProbe": {"exec": {"command": ["/bin/busybox", "true"]}}})));
    apply(&world, &declared("image", json!({})));
    let fails = |status: &Value| ready(status) == "False" && why(status).0 == "HealthCheckFailed";
    let sick = instance(&world, "image", "its check fails", fails);
    let (_, message) = why(&sick["status"]);
    assert!(message.contains("unhealthy") && message.contains("can't open '/tmp/well'"), "{message}");
    let container = |one: &Value| format!("appm-{}-1", one["metadata"]["uid"].as_str().unwrap());
    let sick = container(&sick);
    let own = instance(&world, "own", "its own probe succeeds", runs);
    assert_eq!(why(&own["status"]).0, "ProbeSucceeded");
    let standing = |name: &str| engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", name]);
    wait_for("its image's check to fail", || match standing(&container(&own)) {
        word if word == "unhealthy" => Ok(()),
        word => Err(word),
    });
    assert!(runs(&instance(&world, "own", "is still ready", |_| true)["status"]));

    let busybox = |words: &[&str]| engine.docker(&[&["exec", &*sick, "/bin/busybox"], words].concat());
    busybox(&["touch", "/tmp/well"]);
    let well = instance(&world, "image", "its check succeeds", runs);
    assert_eq!(why(&well["status"]).0, "HealthCheckSucceeded");
    // It turns while no server listens.
    world.kill_server();
    busybox(&["rm", "/tmp/well"]);
    wait_for("the check to fail", || if standing(&sick) == "unhealthy" { Ok(()) } else { Err(standing(&sick)) });
    world.start();
    let again = instance(&world, "image", "its check fails again", fails);
    assert_eq!(
        (&again["status"]["attempt"], &again["status"]["restarts"]),
        (&json!(1), &json!(0)),
        "nothing restarts it"
    );

    // Labels pass from a container to an image made of it: whoever runs that has a container that looks like ours.
    engine.docker(&["commit", &sick, "localhost/copy"]);
    let copy = engine.docker(&["run", "-d", "--network=none", "--no-healthcheck", "localhost/copy"]);
    let foreign =
        engine.docker(&["run", "-d", "--network=none", "--name=appm-1-1", IMAGE, "/bin/busybox", "sleep", "1000"]);
    for app in ["image", "own"] {
        assert!(world.command(&["delete", "app", app, "--wait"]).status.success());
    }
    wait_for("only what is not ours to be left", || {
        let left = engine.docker(&["ps", "-aq", "--no-trunc"]);
        let mut left: Vec<_> = left.lines().collect();
        left.sort_unstable();
        let mut expected = [&*copy, &*foreign];
        expected.sort_unstable();
        if left == expected { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
