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
}
