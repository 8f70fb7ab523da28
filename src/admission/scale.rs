//! The `scale` subresource: `autoscaling/v1` Scale as a window on an object's `spec.replicas`.

use serde_json::{Value, json};

use crate::api::at;

/// The Scale of an object.
pub fn project(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut shown = json!({
        "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
        "creationTimestamp": metadata["creationTimestamp"],
    });
    if !metadata["resourceVersion"].is_null() {
        shown["resourceVersion"] = metadata["resourceVersion"].clone();
    }
    let wanted = at(object, &["spec", "replicas"]).as_i64().unwrap_or(1);
    let there = at(object, &["status", "replicas"]).as_i64().unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": shown,
        "spec": {"replicas": wanted}, "status": {"replicas": there},
    });
    if let Some(selector) = at(object, &["status", "selector"]).as_str().filter(|s| !s.is_empty()) {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// The object with a Scale's wish in it. Replicas that are left out mean 0, as in Kubernetes.
pub(super) fn lift(object: &Value, scale: &Value) -> Value {
    let mut new = object.clone();
    new["spec"]["replicas"] = match at(scale, &["spec", "replicas"]) {
        Value::Null => json!(0),
        replicas => replicas.clone(),
    };
    new
}
