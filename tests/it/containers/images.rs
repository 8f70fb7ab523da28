//! What images bring with them, and where they come from.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    app, apply,
    engine::{Engine, IMAGE},
    instance, ready,
    registry::Registry,
    runs, world,
};
use crate::harness::{World, files_with, wait_for};

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
    let standing = |name: &str| engine.client(&["inspect", "-f", "{{.State.Health.Status}}", name]);
    wait_for("its image's check to fail", || match standing(&container(&own)) {
        word if word == "unhealthy" => Ok(()),
        word => Err(word),
    });
    assert!(runs(&instance(&world, "own", "is still ready", |_| true)["status"]));

    let busybox = |words: &[&str]| engine.client(&[&["exec", &*sick, "/bin/busybox"], words].concat());
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
    engine.client(&["commit", &sick, "localhost/copy"]);
    let copy = engine.client(&["run", "-d", "--network=none", "--no-healthcheck", "localhost/copy"]);
    let foreign =
        engine.client(&["run", "-d", "--network=none", "--name=appm-1-1", IMAGE, "/bin/busybox", "sleep", "1000"]);
    for app in ["image", "own"] {
        assert!(world.command(&["delete", "app", app, "--wait"]).status.success());
    }
    wait_for("only what is not ours to be left", || {
        let left = engine.client(&["ps", "-aq", "--no-trunc"]);
        let mut left: Vec<_> = left.lines().collect();
        left.sort_unstable();
        let mut expected = [&*copy, &*foreign];
        expected.sort_unstable();
        if left == expected { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Parts of everything in which a text can be hidden by base64, whatever stands before it.
fn disguises(text: &str) -> Vec<String> {
    let disguised = (0..3).map(|before| STANDARD.encode(format!("{}{text}", &"   "[..before])));
    disguised.map(|encoded| encoded[4..encoded.len() - 4].to_owned()).chain([text.to_owned()]).collect()
}

#[test]
fn a_registry_gets_the_credentials_of_the_secret_and_nobody_else_does() {
    const RIGHT: &str = "correcthorsebatterystaple";
    const WRONG: &str = "tr0ub4dorand3againandagain";
    const TOKEN: &str = "openitsonlymeandmysecret";
    let Some(engine) = Engine::start(&[]) else { return };
    let registry = Registry::start(&engine.tar(), "ada", RIGHT);
    let mut world = World::new();
    engine.variables().into_iter().for_each(|(name, value)| world.set_env(name, value));
    world.set_env("APPM_LOG", "trace");
    world.start();
    let token =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"token": TOKEN}});
    for secret in [registry.secret("right", "ada", RIGHT), registry.secret("wrong", "ada", WRONG), token] {
        let path = "/api/v1/namespaces/default/secrets";
        assert_eq!(world.api().ask("POST", path, "application/json", secret.to_string().as_bytes()).unwrap().code, 201);
    }
    let declared = |name: &str, policy: &str, secrets: Value| {
        let mut app = app(name, "exec busybox sleep 1000", json!({"revisionHistoryLimit": 0}));
        app["spec"]["container"]["image"] = registry.image().into();
        app["spec"]["container"]["imagePullPolicy"] = policy.into();
        app["spec"]["container"]["imagePullSecrets"] = secrets;
        app["spec"]["env"] =
            json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}}}]);
        app
    };
    let waits = |status: &Value, reason: &str, message: &str| {
        let waiting = &status["state"]["waiting"];
        waiting["reason"] == reason && waiting["message"].as_str().is_some_and(|said| said.contains(message))
    };
    let is_refused = |s: &Value| ["ErrImagePull", "ImagePullBackOff"].iter().any(|reason| waits(s, reason, "auth"));
    let (right, wrong) = (json!([{"name": "right"}]), json!([{"name": "wrong"}]));
    apply(&world, &declared("web", "IfNotPresent", wrong));
    let refused = instance(&world, "web", "is refused", is_refused);
    assert_eq!(refused["status"]["attempt"], 0, "a pull is no attempt");
    // It may be asked again, and says so.
    assert!(refused["status"]["nextStartTime"].is_string(), "{refused}");
    apply(&world, &declared("web", "IfNotPresent", right.clone()));
    let waits_for_more = |s: &Value| waits(s, "PullingImage", " MB") && waits(s, "PullingImage", "/team/web:1: ");
    instance(&world, "web", "is being pulled", waits_for_more);
    registry.open();
    instance(&world, "web", "runs", runs);
    assert!(registry.pulls() > 0);

    // What the engine has is not asked for again, unless that is wished; then without leave there is none.
    let before = registry.pulls();
    apply(&world, &declared("present", "IfNotPresent", json!([])));
    apply(&world, &declared("never", "Never", json!([])));
    instance(&world, "present", "runs", runs);
    instance(&world, "never", "runs", runs);
    assert_eq!(registry.pulls(), before);
    apply(&world, &declared("stranger", "Always", json!([])));
    instance(&world, "stranger", "is refused", is_refused);
    apply(&world, &declared("always", "Always", right));
    instance(&world, "always", "runs", runs);
    assert!(registry.pulls() > before);

    wait_for("what is told of it", || {
        let events = world.api().list("/api/v1/namespaces/default/events").map_err(|e| e.to_string())?;
        let all: Vec<_> = events.iter().map(|e| format!("{} {}", e["reason"], e["message"])).collect();
        let told = |reason: &str, words: &str| all.iter().any(|one| one.contains(reason) && one.contains(words));
        let whole = told("Pulling", "Pulling image") && told("Pulled", "bytes") && told("Failed", "auth");
        if whole { Ok(()) } else { Err(all.join("\n")) }
    });
    for app in ["web", "present", "never", "stranger", "always"] {
        let said = world.command(&["describe", "app", app]).stdout;
        assert!(!String::from_utf8_lossy(&said).contains(RIGHT));
        assert!(world.command(&["delete", "app", app, "--wait"]).status.success());
    }
    world.terminate_server();
    let hidden: Vec<String> = [disguises(RIGHT), disguises(WRONG), disguises(TOKEN)].concat();
    let mut found = Vec::new();
    files_with(world.root(), &hidden.iter().map(String::as_str).collect::<Vec<_>>(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}
