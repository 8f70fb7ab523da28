//! Bad circumstances, as the owner of an App meets them.

use serde_json::json;

use super::{app, apply, instance, printed};
use crate::harness::World;

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
