//! What is wrong with an object is said in full, and in Kubernetes' words.

use serde_json::json;

use super::{MERGE, failure};
use crate::api::{APPS, Api, app};

#[tokio::test]
async fn every_violation_is_a_cause_with_its_field() {
    let api = Api::start().await;
    let mut object = app("Bad_Name");
    object["metadata"]["labels"] = json!({"a b": "x", "ok": "not ok!"});
    object["metadata"]["finalizers"] = json!(["no slash here"]);
    object["spec"] = json!({"replicas": -1, "restartPolicy": "Never say never", "process": {}});
    let refused = api.post(APPS, &object).await.expect(422).json();
    let (reason, message) = failure(&refused);
    assert_eq!(reason, "Invalid");
    assert!(message.starts_with("App.appm.dev \"Bad_Name\" is invalid: ["), "{message}");
    assert_eq!(refused["details"]["kind"], "App");
    let fields: Vec<_> = refused["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap().to_owned())
        .collect();
    for field in
        ["metadata.name", "metadata.finalizers[0]", "spec.replicas", "spec.restartPolicy", "spec.process.command"]
    {
        assert!(fields.iter().any(|f| f == field), "{field} in {fields:?}");
    }
    assert_eq!(fields.iter().filter(|f| f.starts_with("metadata.labels")).count(), 2, "{fields:?}");
    for cause in refused["details"]["causes"].as_array().unwrap() {
        assert!(cause["reason"].as_str().unwrap().starts_with("FieldValue"), "{cause}");
    }
}

#[tokio::test]
async fn odd_values_are_refused_and_never_an_error_of_the_server() {
    let api = Api::start().await;
    let with = |field: &str, value: serde_json::Value| {
        let mut object = app("a");
        let (above, last) = field.rsplit_once('/').unwrap();
        object.pointer_mut(above).unwrap()[last] = value;
        object
    };
    for object in [
        with("/spec/replicas", json!(1e30)),
        with("/spec/replicas", json!(i64::MAX)),
        with("/spec/replicas", json!(1.5)),
        with("/spec/replicas", json!(true)),
        with("/spec/replicas", json!([])),
        with("/spec", json!(5)),
        with("/spec/process", json!([])),
        with("/spec/process", json!({"command": [1, 2]})),
        with("/spec/process", json!({"command": ["a\u{0}b"]})),
        with("/spec/process", json!({"command": []})),
        with("/spec", json!({"process": {"command": ["a"]}, "env": [{"name": "A\u{0}", "value": "x"}]})),
        with("/spec", json!({"process": {"command": ["a"]}, "env": [{"name": "A", "value": "x\u{0}"}]})),
        with("/spec", json!({"process": {"command": ["a"]}, "env": {"A": "x"}})),
        with("/metadata/name", json!("a\u{0}")),
        with("/metadata/name", json!("../../etc/passwd")),
        with("/metadata/name", json!("a".repeat(254))),
        with("/metadata/name", json!(5)),
        with("/metadata/labels", json!([])),
        with("/metadata/labels", json!({"a": 5})),
        with("/metadata/labels", json!({"a": "x".repeat(64)})),
        with("/metadata/labels", json!({"": "x"})),
        with("/metadata/annotations", json!({"a": "x".repeat(300_000)})),
        with("/metadata/annotations", json!({"a": {}})),
        with("/metadata/ownerReferences", json!([{}])),
        with("/metadata/ownerReferences", json!({"uid": "x"})),
        with("/metadata/finalizers", json!([5])),
        with("/metadata/finalizers", json!("x")),
    ] {
        let reply = api.post(APPS, &object).await;
        let shown: String = object.to_string().chars().take(300).collect();
        assert!(matches!(reply.code, 400 | 422), "{} {shown}\n{}", reply.code, reply.text());
        failure(&reply.json());
    }
    assert!(super::names(&api.get(APPS).await.json()).is_empty());
}

#[tokio::test]
async fn an_old_mistake_does_not_stand_in_the_way_of_a_patch() {
    let api = Api::start().await;
    api.made("a").await;
    let refused = api.patch(&format!("{APPS}/a"), MERGE, r#"{"spec":{"replicas":-1}}"#).await.expect(422).json();
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.replicas");
    api.patch(&format!("{APPS}/a"), MERGE, r#"{"metadata":{"labels":{"x":"y"}}}"#).await.expect(200);
}
