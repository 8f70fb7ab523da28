//! A Secret's values are in the API's answers and nowhere else.

use serde_json::json;

use crate::harness::{World, files_with};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const PLAIN: &str = "correct-horse-battery";

#[test]
fn a_secrets_values_are_neither_on_disk_nor_in_logs_tables_or_descriptions() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "trace");
    world.start();
    let api = world.api();
    let encoded = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": PLAIN},
    });
    assert_eq!(api.ask("POST", SECRETS, "application/json", secret.to_string().as_bytes()).unwrap().code, 201);
    let one = format!("{SECRETS}/s");
    assert_eq!(api.get(&one).unwrap().unwrap()["data"]["password"], encoded);
    // Changed, refused, refused as text that cannot be parsed, deleted: each leaves its traces in logs and histories.
    let more = json!({"stringData": {"other": format!("{PLAIN}!!")}}).to_string();
    assert!(api.ask("PATCH", &one, "application/merge-patch+json", more.as_bytes()).unwrap().is_ok());
    for (media, body, code) in [
        ("application/merge-patch+json", json!({"data": {"x": PLAIN}}).to_string(), 422),
        ("application/merge-patch+json", json!({"immutable": PLAIN}).to_string(), 422),
        ("application/strategic-merge-patch+json", format!("{{\"data\": {PLAIN}}}"), 400),
        ("application/apply-patch+yaml", format!("data: [{PLAIN}: {{"), 400),
    ] {
        let answer = api.ask("PATCH", &format!("{one}?fieldManager=me"), media, body.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.code, code, "{text}");
        assert!(!text.contains(PLAIN) && !text.contains(encoded), "{text}");
    }
    for args in [&["get", "secrets", "-o", "wide"][..], &["describe", "secret", "s"]] {
        let said = String::from_utf8_lossy(&world.command(args).stdout).into_owned();
        assert!(said.contains("Opaque") && !said.contains(PLAIN) && !said.contains(&encoded[..16]), "{said}");
    }
    let said = String::from_utf8_lossy(&world.command(&["describe", "secret", "s"]).stdout).into_owned();
    assert!(said.contains("21 bytes"), "{said}");
    let shown = String::from_utf8_lossy(&world.command(&["get", "secret", "s", "-o", "yaml"]).stdout).into_owned();
    assert!(shown.contains(encoded), "{shown}");
    assert!(api.ask("DELETE", &one, "", b"").unwrap().is_ok());
    world.terminate_server();
    let mut found = Vec::new();
    files_with(world.root(), &[PLAIN, &encoded[..16]], &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_secret_is_there_after_a_restart() {
    let mut world = World::new();
    world.start();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1"}});
    assert!(world.api().ask("POST", SECRETS, "application/json", secret.to_string().as_bytes()).unwrap().is_ok());
    world.kill_server();
    world.start();
    assert_eq!(world.api().get(&format!("{SECRETS}/s")).unwrap().unwrap()["data"]["a"], "MQ==");
}
