//! Server-side apply.

use serde_json::{Value, json};

use super::{APPLY, MERGE, PATCH, failure, version};
use crate::api::{APPS, Api, Reply};

fn applied(rest: Value) -> Value {
    let mut object = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "a"}});
    for (name, value) in rest.as_object().unwrap() {
        match (name.as_str(), object.get_mut(name)) {
            ("metadata", Some(Value::Object(there))) => there.extend(value.as_object().unwrap().clone()),
            _ => object[name] = value.clone(),
        }
    }
    object
}

async fn apply(api: &Api, manager: &str, rest: Value) -> Reply {
    let path = format!("{APPS}/a?fieldManager={manager}");
    api.patch(&path, APPLY, applied(rest).to_string()).await
}

fn spec(replicas: u32) -> Value {
    json!({"spec": {"replicas": replicas, "process": {"command": ["sleep", "9"]}}})
}

#[tokio::test]
async fn the_first_apply_makes_the_next_changes_and_the_same_does_nothing() {
    let api = Api::start().await;
    let made = apply(&api, "ci", spec(1)).await.expect(201).json();
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("ci"), &json!("Apply")));
    assert_eq!(entry["fieldsV1"]["f:spec"]["f:replicas"], json!({}));
    let again = apply(&api, "ci", spec(1)).await.expect(200).json();
    assert_eq!(again, made);
    assert_eq!(apply(&api, "ci", spec(2)).await.expect(200).json()["spec"]["replicas"], 2);
}

#[tokio::test]
async fn conflicts_name_every_owner_and_field() {
    let api = Api::start().await;
    apply(&api, "ci", spec(1)).await.expect(201);
    api.patch(&format!("{APPS}/a?fieldManager=hand"), MERGE, r#"{"metadata":{"labels":{"x":"1"}}}"#).await.expect(200);
    let mine =
        json!({"metadata": {"labels": {"x": "2"}}, "spec": {"replicas": 5, "process": {"command": ["sleep", "8"]}}});
    let refused = apply(&api, "me", mine.clone()).await.expect(409).json();
    assert_eq!(failure(&refused).0, "Conflict");
    let causes = refused["details"]["causes"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        causes.iter().map(|c| (c["field"].as_str().unwrap(), c["message"].as_str().unwrap())).collect();
    assert_eq!(told.len(), 3, "{refused}");
    assert!(causes.iter().all(|c| c["reason"] == "FieldManagerConflict"));
    assert!(told.contains(&(".spec.replicas", "conflict with \"ci\" using appm.dev/v1")), "{told:?}");
    assert!(
        told.iter()
            .any(|(f, m)| *f == ".metadata.labels.x" && m.starts_with("conflict with \"hand\" using appm.dev/v1"))
    );
    assert!(failure(&refused).1.starts_with("Apply failed with 3 conflicts: "), "{refused}");

    let path = format!("{APPS}/a?fieldManager=me&force=true");
    let forced = api.patch(&path, APPLY, applied(mine).to_string()).await.expect(200).json();
    assert_eq!(forced["spec"]["replicas"], 5);
    // Now they are mine, and the others meet me.
    let refused = apply(&api, "ci", spec(1)).await.expect(409).json();
    assert!(failure(&refused).1.contains("\"me\""), "{refused}");
}

#[tokio::test]
async fn equal_values_are_shared_and_go_with_their_last_owner() {
    let api = Api::start().await;
    let both = || json!({"metadata": {"labels": {"x": "1"}}, "spec": {"process": {"command": ["sleep", "9"]}}});
    apply(&api, "one", both()).await.expect(201);
    apply(&api, "two", both()).await.expect(200);
    let less = json!({"spec": {"process": {"command": ["sleep", "9"]}}});
    let after = apply(&api, "one", less.clone()).await.expect(200).json();
    assert_eq!(after["metadata"]["labels"]["x"], "1", "the other still wants it");
    let after = apply(&api, "two", less).await.expect(200).json();
    assert_eq!(after["metadata"]["labels"].get("x"), None);
}

#[tokio::test]
async fn lists_are_merged_by_their_keys() {
    let api = Api::start().await;
    let of = |name: &str, value: &str| json!({"name": name, "value": value});
    let one = json!({
        "metadata": {"finalizers": ["example.com/one"]},
        "spec": {"process": {"command": ["sleep", "9"]}, "env": [of("A", "1"), of("B", "1")],
                 "ports": [{"name": "http", "containerPort": 80}]},
    });
    apply(&api, "one", one).await.expect(201);
    let two = json!({
        "metadata": {"finalizers": ["example.com/two"]},
        "spec": {"env": [of("C", "2")], "ports": [{"name": "admin", "containerPort": 81}]},
    });
    let after = apply(&api, "two", two).await.expect(200).json();
    let list = |at: &str| after.pointer(at).unwrap().as_array().unwrap().clone();
    let named = |at: &str| -> Vec<String> { list(at).iter().map(|i| i["name"].as_str().unwrap().to_owned()).collect() };
    let mut env = named("/spec/env");
    env.sort();
    assert_eq!(env, ["A", "B", "C"]);
    assert_eq!(named("/spec/ports").len(), 2);
    assert_eq!(list("/metadata/finalizers").len(), 2);
    // What one takes out is its own only; a value of the other's is a conflict.
    let less = json!({"spec": {"process": {"command": ["sleep", "9"]}, "env": [of("A", "1")]}});
    let after = apply(&api, "one", less).await.expect(200).json();
    let left: Vec<_> = after["spec"]["env"].as_array().unwrap().iter().map(|e| e["name"].clone()).collect();
    assert!(left.contains(&json!("A")) && left.contains(&json!("C")) && left.len() == 2, "{left:?}");
    assert_eq!(after["metadata"]["finalizers"], json!(["example.com/two"]));
    let clash = json!({"spec": {"env": [of("A", "9")]}});
    let refused = apply(&api, "two", clash).await.expect(409).json();
    assert_eq!(refused["details"]["causes"][0]["field"], ".spec.env[name=\"A\"].value");
}

#[tokio::test]
async fn an_apply_says_what_it_is() {
    let api = Api::start().await;
    apply(&api, "ci", spec(1)).await.expect(201);
    let path = format!("{APPS}/a?fieldManager=ci");
    for wrong in [
        json!({"kind": "App", "metadata": {"name": "a"}}),
        json!({"apiVersion": "appm.dev/v1", "metadata": {"name": "a"}}),
        json!({"apiVersion": "appm.dev/v2", "kind": "App", "metadata": {"name": "a"}}),
        json!({"apiVersion": "appm.dev/v1", "kind": "Instance", "metadata": {"name": "a"}}),
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "b"}}),
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "a", "namespace": "b"}}),
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}}),
        json!([]),
    ] {
        assert_eq!(
            failure(&api.patch(&path, APPLY, wrong.to_string()).await.expect(400).json()).0,
            "BadRequest",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn an_apply_may_carry_its_precondition() {
    let api = Api::start().await;
    let with = |version: &str, replicas: u32| {
        let mut body = spec(replicas);
        body["metadata"] = json!({"resourceVersion": version});
        body
    };
    assert_eq!(failure(&apply(&api, "ci", with("5", 1)).await.expect(409).json()).0, "Conflict");
    let made = apply(&api, "ci", spec(1)).await.expect(201).json();
    apply(&api, "ci", with(version(&made), 2)).await.expect(200);
    apply(&api, "ci", with(version(&made), 3)).await.expect(409);
}

#[tokio::test]
async fn what_was_applied_by_the_client_moves_to_the_server() {
    let api = Api::start().await;
    let path = format!("{APPS}/a");
    // kubectl apply, before: a create with an annotation.
    let last = "kubectl.kubernetes.io/last-applied-configuration";
    let mut object = applied(spec(1));
    object["metadata"]["annotations"] = json!({last: applied(spec(1)).to_string()});
    let by = format!("{APPS}?fieldManager=kubectl-client-side-apply");
    api.post(&by, &object).await.expect(201);
    // kubectl apply --server-side: the apply, an apply of the annotation, a JSON patch of managedFields, the apply again.
    apply(&api, "kubectl", spec(1)).await.expect(200);
    let annotation = json!({"metadata": {"annotations": {last: applied(spec(1)).to_string()}}});
    let now = apply(&api, "kubectl-last-applied", annotation).await.expect(200).json();
    let fields: Vec<Value> = now["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["manager"] != "kubectl-client-side-apply")
        .cloned()
        .collect();
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version(&now)},
    ]);
    api.patch(&path, PATCH, patch.to_string()).await.expect(200);
    let after =
        apply(&api, "kubectl", json!({"spec": {"process": {"command": ["sleep", "9"]}}})).await.expect(200).json();
    assert_eq!(after["spec"].get("replicas"), None, "nobody wants it any more");
}

#[tokio::test]
async fn status_is_applied_on_its_own() {
    let api = Api::start().await;
    let path = format!("{APPS}/a/status?fieldManager=controller");
    let condition = |status: &str| json!({"type": "Happy", "status": status, "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = |value: &str| applied(json!({"status": {"conditions": [condition(value)]}})).to_string();
    api.patch(&path, APPLY, status("True")).await.expect(404);
    let made = apply(&api, "ci", spec(1)).await.expect(201).json();
    let after = api.patch(&path, APPLY, status("True")).await.expect(200).json();
    assert_eq!(after["status"]["conditions"][0]["type"], "Happy");
    assert_eq!((&after["spec"], &after["metadata"]["generation"]), (&made["spec"], &json!(1)));
    let entries = after["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["manager"] == "controller" && e["subresource"] == "status"), "{entries:?}");
    let other = api.patch(&path.replace("controller", "other"), APPLY, status("False")).await.expect(409).json();
    assert_eq!(other["details"]["causes"][0]["field"], ".status.conditions[type=\"Happy\"].status");
    // The main resource says nothing about it.
    let main = apply(&api, "ci", json!({"spec": spec(1)["spec"], "status": {"replicas": 7}})).await.expect(200).json();
    assert_ne!(main["status"]["replicas"], 7);
}

#[tokio::test]
async fn scale_is_applied_on_its_own() {
    let api = Api::start().await;
    apply(&api, "ci", json!({"spec": {"process": {"command": ["sleep", "9"]}}})).await.expect(201);
    let scale = |replicas: u32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": replicas}}).to_string()
    };
    let path = format!("{APPS}/a/scale?fieldManager=scaler");
    let after = api.patch(&path, APPLY, scale(4)).await.expect(200).json();
    assert_eq!((&after["kind"], &after["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
    let refused = apply(&api, "ci", spec(2)).await.expect(409).json();
    assert!(failure(&refused).1.contains("\"scaler\" with subresource \"scale\""), "{refused}");
}
