//! Variables and files out of ConfigMaps and Secrets.

use serde_json::{Value, json};

use super::{app, apply, instance, printed};
use crate::harness::{World, files_with};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PLAIN: &str = "correct-horse-battery";

fn create(world: &World, path: &str, object: &Value) {
    let answer = world.api().ask("POST", path, "application/json", object.to_string().as_bytes()).unwrap();
    assert_eq!(answer.code, 201, "{}", String::from_utf8_lossy(&answer.body));
}

fn merge(world: &World, path: &str, patch: &Value) {
    let body = patch.to_string();
    assert!(world.api().ask("PATCH", path, "application/merge-patch+json", body.as_bytes()).unwrap().is_ok());
}

fn secret(name: &str, texts: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": texts})
}

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[test]
fn what_is_missing_is_named_and_waited_for_without_using_up_an_attempt() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "debug");
    world.start();
    let env = json!({"env": [
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}},
        {"name": "NOTHING", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}},
    ]});
    apply(&world, &app("web", "echo \"$MODE ${NOTHING-unset}\"; sleep 1000", env));
    let waits = |message: &'static str| {
        move |one: &Value| {
            let waiting = &one["status"]["state"]["waiting"];
            waiting["reason"] == "ConfigError" && waiting["message"] == message
        }
    };
    instance(&world, "web", "the lack", waits("spec.env: `MODE`: there is no ConfigMap `web`"));
    create(&world, MAPS, &map("web", &json!({"other": "x"})));
    let one =
        instance(&world, "web", "the key's lack", waits("spec.env: `MODE`: there is no `mode` in the ConfigMap `web`"));
    assert_eq!(one["status"]["attempt"], 0, "{one}");
    assert_eq!(one["status"]["restarts"], 0, "{one}");
    let pods = String::from_utf8_lossy(&world.command(&["describe", "app", "web"]).stdout).into_owned();
    assert!(pods.contains("ConfigError"), "{pods}");
    merge(&world, &format!("{MAPS}/web"), &json!({"data": {"mode": "fast"}}));
    let one = instance(&world, "web", "the start", |one| one["status"]["state"]["running"].is_object());
    assert_eq!(one["status"]["attempt"], 1, "{one}");
    printed(&world, "web", "fast unset\n");
    // What changes meanwhile is seen by the next attempt, and by no running one.
    merge(&world, &format!("{MAPS}/web"), &json!({"data": {"mode": "slow"}}));
    assert!(world.command(&["restart", "web"]).status.success());
    printed(&world, "web", "slow unset\n");
}

#[test]
fn a_secret_reaches_its_process_and_nothing_else() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "trace");
    world.start();
    create(&world, SECRETS, &secret("db", &json!({"password": PLAIN, "user": "ada-of-the-db"})));
    let fields = json!({
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
        "envFrom": [{"secretRef": {"name": "db"}, "prefix": "DB_"}],
        "files": [{"path": "conf/password", "secretKeyRef": {"name": "db", "key": "password"}}],
    });
    let script = "stat -Lc %a conf/password; cmp -n ${#PASSWORD} conf/password - <<EOF\n$DB_password\nEOF\n\
                  echo ${#PASSWORD} ${#DB_user}; sleep 1000";
    apply(&world, &app("web", script, fields));
    printed(&world, "web", &format!("600\n{} 13\n", PLAIN.len()));
    // One that cannot be started is told of without the value in its words.
    let mut broken = app(
        "broken",
        "",
        json!({
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}],
        }),
    );
    broken["spec"]["process"] = json!({"command": ["/no/such/$(PASSWORD)"]});
    apply(&world, &broken);
    let one = instance(&world, "broken", "the refusal", |one| one["status"]["lastExit"]["message"].is_string());
    let why = "spec.process.command: no such program `/no/such/…` (or the interpreter it names)";
    assert_eq!(one["status"]["lastExit"]["message"], why);
    let encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    for path in ["/apis/appm.dev/v1/instances", "/apis/appm.dev/v1/apps", "/api/v1/events", "/api/v1/pods"] {
        let body = world.api().ask("GET", path, "", b"").unwrap().body;
        let text = String::from_utf8_lossy(&body).into_owned();
        assert!(!text.contains(PLAIN) && !text.contains(encoded), "{path}: {text}");
    }
    world.terminate_server();
    let mut found = Vec::new();
    files_with(world.root(), &[PLAIN, &encoded[..16]], &mut found);
    assert_eq!(found, Vec::<String>::new());
}
