//! Quotas on a real server: what an App says whose Instances do not fit, and that it goes on when they do.

use serde_json::{Value, json};

use crate::harness::{World, app, app_path, wait_for};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const JSON: &str = "application/json";

fn put_quota(world: &World, pods: u32) {
    let (method, path) = match world.api().get(&format!("{QUOTAS}/few")).unwrap() {
        Some(_) => ("PUT", format!("{QUOTAS}/few")),
        None => ("POST", QUOTAS.to_owned()),
    };
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": pods.to_string()}}});
    let answer = world.api().ask(method, &path, JSON, quota.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", answer.json());
}

fn condition<'a>(app: &'a Value, kind: &str) -> &'a Value {
    let all = app["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

#[test]
fn an_app_makes_as_many_instances_as_fit_says_why_there_are_no_more_and_goes_on() {
    let mut world = World::new();
    world.start();
    put_quota(&world, 2);
    world.api().apply(&app(&world, "web", 5, "exec sleep 1000")).unwrap();
    let web = || world.api().get(&app_path("web")).map_err(|e| e.to_string())?.ok_or("it is gone".to_owned());
    let with = |ready: i64, failed: bool| {
        wait_for(&format!("{ready} ready instances"), || {
            let web = web()?;
            let right =
                web["status"]["readyReplicas"] == ready && condition(&web, "ReplicaFailure").is_object() == failed;
            if right { Ok(web) } else { Err(web["status"].to_string()) }
        })
    };
    let full = with(2, true);
    let failure = condition(&full, "ReplicaFailure");
    let message = failure["message"].as_str().unwrap();
    assert!(message.ends_with("exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"), "{message}");
    assert_eq!((&failure["status"], &failure["reason"]), (&json!("True"), &json!("FailedCreate")));
    assert_eq!(condition(&full, "Ready")["reason"], "FailedCreate");
    // More room, and then enough.
    put_quota(&world, 3);
    with(3, true);
    put_quota(&world, 9);
    with(5, false);
    wait_for("the quota to say what is used", || {
        let quota = world.api().get(&format!("{QUOTAS}/few")).unwrap().unwrap();
        if quota["status"]["used"]["pods"] == "5" { Ok(()) } else { Err(quota["status"].to_string()) }
    });
    // Over the quota: nothing is taken away, a restart in place is none of its business, and lowering is no offence.
    put_quota(&world, 1);
    let scaled = json!({"spec": {"replicas": 4}});
    let path = app_path("web");
    world.api().ask("PATCH", &path, "application/merge-patch+json", scaled.to_string().as_bytes()).unwrap();
    with(4, false);
    world.command(&["server", "stop", "--apps"]);
}
