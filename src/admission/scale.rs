//! The `scale` subresource: `autoscaling/v1` Scale as a window on an object's `spec.replicas`.

use serde_json::{Value, json};

use crate::api::at;

/// What a Scale says that it is.
pub(super) const API_VERSION: &str = "autoscaling/v1";
pub(super) const KIND: &str = "Scale";

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
        "kind": KIND, "apiVersion": API_VERSION, "metadata": shown,
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

/// The part of an object that an applied Scale speaks of.
pub(super) fn applied(mut scale: Value) -> Value {
    let replicas = scale["spec"]["replicas"].take();
    if let Value::Object(map) = &mut scale {
        map.retain(|field, _| matches!(field.as_str(), "metadata"));
    }
    if !replicas.is_null() {
        scale["spec"] = json!({"replicas": replicas});
    }
    scale
}
