//! Namespaces: nothing is made where there is none, or where it is going; and one goes only when it is empty.

use serde_json::{Value, json};

use super::metadata;
use crate::api::{Cause, Key, Namespace, Status};

/// The namespace that is always there.
pub(super) const DEFAULT: &str = "default";
/// Kubernetes' finalizer in `spec`: taken off when the namespace is empty.
const FINALIZER: &str = "kubernetes";

/// The key of the namespace that an object lives in.
pub(super) fn key(namespace: &str) -> Key {
    Key::of::<Namespace>("", namespace)
}

/// Whether something may be made in a namespace.
pub(super) fn admits(namespace: Option<&Value>, object: &Key) -> Result<(), Status> {
    let Some(namespace) = namespace else { return Err(Status::not_found(&key(&object.namespace))) };
    if !metadata::is_deleting(namespace) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {} because it is being terminated", object.namespace);
    let mut status = Status::forbidden(object, &why);
    status.details.causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {} is being terminated", object.namespace),
        field: "metadata.namespace".to_owned(),
    });
    Err(status)
}

/// What Kubernetes writes into a new namespace.
pub(super) fn prepare(object: &mut Value) {
    let asked = object["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    let others = asked.into_iter().filter(|name| name != FINALIZER);
    let finalizers: Vec<Value> = others.chain([json!(FINALIZER)]).collect();
    object["spec"] = json!({"finalizers": finalizers});
    object["status"] = json!({"phase": "Active"});
}

/// What only `/finalize` changes.
pub(super) fn keep_finalizers(object: &mut Value, live: &Value) {
    match live.get("spec") {
        Some(spec) => object["spec"] = spec.clone(),
        None => drop(object.as_object_mut().and_then(|map| map.shift_remove("spec"))),
    }
}

/// Marks a namespace that is going.
pub(super) fn terminating(object: &mut Value) {
    object["status"] = json!({"phase": "Terminating"});
}

/// Whether a namespace may be deleted.
pub(super) fn may_go(key: &Key) -> Result<(), Status> {
    match &*key.name {
        DEFAULT => Err(Status::forbidden(key, "this namespace may not be deleted")),
        _ => Ok(()),
    }
}
