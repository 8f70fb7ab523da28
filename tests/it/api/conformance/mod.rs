//! What Kubernetes' clients rely on, checked over raw HTTP: one file a subject, one test a promise.

mod apply;
mod deletes;
mod hostile;
mod http;
mod lists;
mod options;
mod patches;
mod subresources;
mod validation;
mod writes;

use serde_json::Value;

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const PATCH: &str = "application/json-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// The names of a list's items.
pub(super) fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("a list").iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

pub(super) fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().expect("a revision")
}

/// `reason` and the message, which a failure must have beside its kind.
pub(super) fn failure(status: &Value) -> (&str, &str) {
    assert_eq!((&status["kind"], &status["apiVersion"]), (&Value::from("Status"), &Value::from("v1")), "{status}");
    assert_eq!(status["status"], "Failure", "{status}");
    (status["reason"].as_str().expect("a reason"), status["message"].as_str().expect("a message"))
}
