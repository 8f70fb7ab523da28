//! JSON patch and merge patch.

use serde_json::{Value, json};

use super::{MERGE, PATCH, failure, version};
use crate::api::{APPS, Api};

#[tokio::test]
async fn every_operation_of_a_json_patch_works() {
    let api = Api::start().await;
    api.made("a").await;
    let path = format!("{APPS}/a");
    let patch = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/one"]},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/two"},
        {"op": "remove", "path": "/metadata/finalizers/0"},
        {"op": "add", "path": "/metadata/labels/a.b~1c", "value": "x"},
        {"op": "copy", "from": "/metadata/labels/a.b~1c", "path": "/metadata/labels/d"},
        {"op": "move", "from": "/metadata/labels/team", "path": "/metadata/labels/e"},
        {"op": "replace", "path": "/spec/replicas", "value": 6},
        {"op": "test", "path": "/spec/replicas", "value": 6},
    ]);
    let after = api.patch(&path, PATCH, patch.to_string()).await.expect(200).json();
    assert_eq!(after["metadata"]["finalizers"], json!(["example.com/two"]));
    assert_eq!(after["metadata"]["labels"], json!({"a.b/c": "x", "d": "x", "e": "a"}));
    assert_eq!(after["spec"]["replicas"], 6);
}

#[tokio::test]
async fn a_json_patch_that_cannot_be_done_changes_nothing() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    let many = vec![json!({"op": "test", "path": "/x", "value": null}); 10_001];
    for (patch, code) in [
        (json!([{"op": "test", "path": "/spec/replicas", "value": 9}]), 422),
        (json!([{"op": "replace", "path": "/spec/replicas", "value": 3}, {"op": "remove", "path": "/spec/none"}]), 422),
        (json!([{"op": "replace", "path": "/metadata/resourceVersion", "value": "1"}]), 409),
        (json!([{"op": "replace", "path": "/metadata/uid", "value": "x"}]), 409),
        (json!([{"op": "replace", "path": "/metadata/name", "value": "b"}]), 400),
        (json!([{"op": "replace", "path": "", "value": 5}]), 400),
        (json!([{"op": "dance", "path": "/spec"}]), 400),
        (json!([5]), 400),
        (json!({"op": "add"}), 400),
        (Value::Array(many), 413),
    ] {
        let reply = api.patch(&path, PATCH, patch.to_string()).await;
        assert_eq!(reply.code, code, "{} {}", &patch.to_string()[..60.min(patch.to_string().len())], reply.text());
        failure(&reply.json());
    }
    assert_eq!(api.get(&path).await.json(), made);
}

#[tokio::test]
async fn copies_cannot_fill_the_memory() {
    let api = Api::start().await;
    api.made("a").await;
    let doubling: Vec<Value> =
        (0..40).map(|at| json!({"op": "copy", "from": "/spec", "path": format!("/spec/x{at}")})).collect();
    api.patch(&format!("{APPS}/a"), PATCH, Value::Array(doubling).to_string()).await.expect(422);
    let nesting = vec![json!({"op": "copy", "from": "/metadata", "path": "/metadata/annotations/a"}); 2000];
    api.patch(&format!("{APPS}/a"), PATCH, Value::Array(nesting).to_string()).await.expect(422);
    api.get(&format!("{APPS}/a")).await.expect(200);
}

#[tokio::test]
async fn an_object_does_not_grow_beyond_what_a_request_may_carry() {
    let api = Api::start().await;
    api.made("a").await;
    let path = format!("{APPS}/a");
    let value = "x".repeat(500_000);
    let mut last = 200;
    for at in 0..10 {
        let patch = json!({"spec": {"env": [{"name": format!("V{at}"), "value": value}]}});
        let body =
            json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "a"}, "spec": patch["spec"]});
        let reply = api.patch(&format!("{path}?fieldManager=m{at}"), super::APPLY, body.to_string()).await;
        last = reply.code;
        if last != 200 {
            assert_eq!(failure(&reply.json()).0, "RequestEntityTooLarge");
            break;
        }
    }
    assert_eq!(last, 413);
    let whole = api.get(&path).await.expect(200);
    assert!(whole.body.len() <= 3 << 20);
    api.send(hyper::Method::PUT, &path, &[], whole.body).await.expect(200);
}

#[tokio::test]
async fn a_merge_patch_may_carry_its_precondition() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    let patch = |version: &str, replicas: u32| {
        json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}).to_string()
    };
    let after = api.patch(&path, MERGE, patch(version(&made), 5)).await.expect(200).json();
    assert_eq!(after["spec"]["replicas"], 5);
    assert_eq!(failure(&api.patch(&path, MERGE, patch(version(&made), 6)).await.expect(409).json()).0, "Conflict");
    let uid = json!({"metadata": {"uid": "other"}, "spec": {"replicas": 6}}).to_string();
    assert_eq!(failure(&api.patch(&path, MERGE, uid).await.expect(409).json()).0, "Conflict");
    api.patch(&format!("{APPS}/none"), MERGE, "{}").await.expect(404);
}

#[tokio::test]
async fn null_in_a_merge_patch_takes_out() {
    let api = Api::start().await;
    api.made("a").await;
    let path = format!("{APPS}/a");
    let patch = json!({"metadata": {"labels": {"team": null, "x": "y"}}, "spec": {"replicas": null, "none": null}});
    let after = api.patch(&path, MERGE, patch.to_string()).await.expect(200).json();
    assert_eq!(after["metadata"]["labels"], json!({"x": "y"}));
    assert_eq!(after["spec"].get("replicas"), None);
}

#[tokio::test]
async fn content_types_that_are_no_patch_are_415_with_those_that_are() {
    let api = Api::start().await;
    api.made("a").await;
    for content_type in [
        "application/strategic-merge-patch+json",
        "application/json",
        "application/apply-patch+cbor",
        "text/plain",
        "application/vnd.kubernetes.protobuf",
    ] {
        let refused = api.patch(&format!("{APPS}/a"), content_type, "{}").await.expect(415).json();
        let (reason, message) = failure(&refused);
        assert_eq!(reason, "UnsupportedMediaType");
        for accepted in [PATCH, MERGE, super::APPLY] {
            assert!(message.contains(accepted), "{message}");
        }
    }
}

#[tokio::test]
async fn clients_may_write_managed_fields() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    let mut fields = made["metadata"]["managedFields"].clone();
    fields[0]["manager"] = json!("somebody");
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&made)},
    ]);
    let after = api.patch(&path, PATCH, patch.to_string()).await.expect(200).json();
    assert_eq!(after["metadata"]["managedFields"][0]["manager"], "somebody");
    // One empty entry resets them.
    let reset = r#"{"metadata":{"managedFields":[{}]}}"#;
    let after = api.patch(&path, MERGE, reset).await.expect(200).json();
    assert_eq!(after["metadata"].get("managedFields").cloned().unwrap_or(json!([])), json!([]));
}
