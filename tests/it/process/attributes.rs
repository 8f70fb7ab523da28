//! What a process is told of itself, and what it is refused.

use serde_json::json;

use super::{app, apply, instance, printed};
use crate::harness::World;

#[test]
fn an_instance_is_told_of_its_labels_annotations_and_amounts() {
    let mut world = World::new();
    world.start();
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut web = app(
        "web",
        "echo \"$TIER $NOTE $HOST $MIB $MILLI\"; exec sleep 1000",
        json!({"env": [
            field("TIER", "metadata.labels['tier']"),
            field("NOTE", "metadata.annotations['example.com/note']"),
            field("HOST", "status.hostIP"),
            {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
        ], "resources": {"requests": {"memory": "1Gi", "cpu": "0.05"}}}),
    );
    web["metadata"]["labels"] = json!({"tier": "front"});
    web["metadata"]["annotations"] = json!({"example.com/note": "hello", "example.com/other": "x"});
    apply(&world, &web);
    printed(&world, "web", "front hello 127.0.0.1 1024 50\n");
    let one = instance(&world, "web", "the instance", |_| true);
    let annotations = &one["metadata"]["annotations"];
    assert_eq!(annotations["example.com/note"], "hello", "{annotations}");
    assert!(annotations["example.com/other"].is_null(), "{annotations}");
    // Its control group goes with it.
    assert!(world.command(&["server", "stop", "--apps"]).status.success());
}

#[test]
fn a_failure_tells_its_last_words_if_its_app_asks_for_that_and_else_none() {
    let mut world = World::new();
    world.start();
    let script = "exec >&2; echo first; printf '\\033[1mno such table\\n  at \"users\"\\n'; exit 3";
    let never = |more: serde_json::Value| {
        let mut all = json!({"restartPolicy": "Never"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    apply(&world, &app("loud", script, never(json!({"terminationMessagePolicy": "FallbackToLogsOnError"}))));
    apply(&world, &app("quiet", script, never(json!({}))));
    let exit = |one: &serde_json::Value| one["status"]["lastExit"].clone();
    let loud = instance(&world, "loud", "its last words", |one| exit(one)["message"].is_string());
    assert_eq!(exit(&loud)["code"], 3, "{loud}");
    assert_eq!(exit(&loud)["message"], "first\n[1mno such table\n  at \"users\"", "{loud}");
    let said = world.command(&["describe", "loud"]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains(" (3):\n  first\n  [1mno such table\n    at \"users\"\n"), "{said}");
    let pod = world
        .api()
        .get(&format!("/api/v1/namespaces/default/pods/{}", loud["metadata"]["name"].as_str().expect("a name")));
    let told = pod.unwrap().expect("a pod")["status"]["containerStatuses"][0]["state"]["terminated"]["message"].clone();
    assert_eq!(told, exit(&loud)["message"]);
    let quiet = instance(&world, "quiet", "its exit", |one| exit(one)["code"] == 3);
    assert!(exit(&quiet)["message"].is_null(), "{quiet}");
}
