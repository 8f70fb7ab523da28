//! Sources that somebody must agree to: nothing is applied but the very plan that was approved.

use std::fs;

use serde_json::{Value, json};

use super::*;

fn pending(world: &World) -> Value {
    let source = world.api().get(&format!("{SOURCES}/fleet")).unwrap().unwrap_or_default();
    source["status"]["pending"].clone()
}

/// Waits for a plan that waits, other than `before`; its hash.
fn until_pending(world: &World, before: &str) -> String {
    wait_for("a plan that waits for approval", || match pending(world)["hash"].as_str() {
        Some(hash) if hash != before => Ok(hash.to_owned()),
        found => Err(format!("{found:?}: {:?}", said(world, "fleet", "Ready"))),
    })
}

#[test]
fn nothing_is_applied_but_the_very_plan_that_was_approved() {
    let mut world = World::new();
    let dir = world.root().join("manifests");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a.yaml"), config("a", "1")).unwrap();
    world.start();
    appm(&world, &["source", "add", "fleet", "--directory", &dir.display().to_string(), "--approve"]);
    let first = until_pending(&world, "");
    assert_eq!(said(&world, "fleet", "Ready").0, "AwaitingApproval");
    assert_eq!(configs(&world), pairs(&[]), "nothing was applied");
    let shown = appm(&world, &["source", "diff", "fleet"]);
    assert!(shown.contains("+ configmap/a in default is created") && shown.contains(&first), "{shown}");

    // What was seen is not what is there any more.
    fs::write(dir.join("b.yaml"), config("b", "2")).unwrap();
    let second = until_pending(&world, &first);
    let refused = world.command(&["source", "approve", "fleet", &first[..10]]);
    assert_eq!(refused.status.code(), Some(7), "{}", String::from_utf8_lossy(&refused.stderr));
    let patch = json!({"metadata": {"annotations": {"appm.dev/approvedPlan": first}}}).to_string();
    let path = format!("{SOURCES}/fleet");
    let answer = world.api().ask("PATCH", &path, "application/merge-patch+json", patch.as_bytes()).unwrap();
    let status = answer.json();
    assert!(status["message"].as_str().is_some_and(|m| m.contains("this is not the plan that waits")), "{status}");
    assert_eq!(configs(&world), pairs(&[]));

    appm(&world, &["source", "approve", "fleet", &second[..10]]);
    until(&world, &[("a", "1"), ("b", "2")]);
    until_said(&world, "fleet", "Ready", "Applied");
    assert_eq!(pending(&world), Value::Null);

    // A server that begins anew applies nothing that was not approved either.
    fs::write(dir.join("a.yaml"), config("a", "3")).unwrap();
    let third = until_pending(&world, &second);
    world.kill_server();
    world.start();
    assert_eq!(until_pending(&world, ""), third, "the plan is the same");
    assert_eq!(configs(&world), pairs(&[("a", "1"), ("b", "2")]));
    appm(&world, &["source", "approve", "fleet"]);
    until(&world, &[("a", "3"), ("b", "2")]);
}
