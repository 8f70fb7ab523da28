//! The operations that the transactions of controllers are made of.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::{Key, Kind, Object, Operation, OperationVerb, Preconditions, Reason, Status, Uid},
    runtime::Caches,
};

/// As long as the reason of a transaction may be.
const LONGEST_REASON: usize = 512;

/// True if the same will be refused again, until somebody changes something; `AlreadyExists`: an object that is no such one has the name.
pub(super) fn is_refusal(status: &Status) -> bool {
    use Reason::{AlreadyExists, BadRequest, Forbidden, Invalid, NotFound, RequestEntityTooLarge};
    matches!(status.reason, Forbidden | Invalid | NotFound | BadRequest | AlreadyExists | RequestEntityTooLarge)
}

/// The object's name alone.
pub(super) fn named(key: &Key) -> Value {
    let mut metadata = json!({"name": &*key.name});
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    json!({"apiVersion": key.kind.api_version(), "kind": key.kind.kind, "metadata": metadata})
}

/// Deletes this object, and no other one of its name.
pub(super) fn delete(key: &Key, uid: &Uid) -> Operation {
    with_uid(Operation::new(OperationVerb::Delete, named(key)), uid)
}

/// Writes the status of an object, if that is as it was when it was judged.
pub(super) fn status<K: Kind>(object: &Object<K>, status: &impl Serialize) -> Operation {
    let mut value = named(&object.key());
    value["status"] = json!(status);
    let mut operation = with_uid(Operation::new(OperationVerb::Status, value), object.uid());
    operation.preconditions.resource_version = Some(object.metadata.resource_version.clone());
    operation
}

/// Writes the status of the object of that name and uid, whatever it is by now.
pub(super) fn status_of(mut named: Value, uid: &Uid, status: &impl Serialize) -> Operation {
    named["metadata"]["uid"] = json!(uid);
    named["status"] = json!(status);
    with_uid(Operation::new(OperationVerb::Status, named), uid)
}

/// Changes an object whose spec nobody else writes, whatever its status is by now. From the stored text, so that what a newer binary
/// wrote stays. Nothing if it is gone.
pub(super) fn change<K: Kind>(
    object: &Object<K>,
    caches: &Caches,
    change: impl FnOnce(&mut Value),
) -> Option<Operation> {
    let mut value = caches.kind::<K>().get(&object.key())?.value();
    change(&mut value);
    let metadata = value["metadata"].as_object_mut()?;
    metadata.shift_remove("resourceVersion");
    // Who owns what stays as it is where nothing is said of it.
    metadata.shift_remove("managedFields");
    Some(with_uid(Operation::new(OperationVerb::Update, value), object.uid()))
}

/// The operation, refused if another object has the name by now.
pub(super) fn with_uid(mut operation: Operation, uid: &Uid) -> Operation {
    operation.preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
    operation
}

/// Why all of it is done, in one line.
pub(super) fn reason(actions: &[impl fmt::Display]) -> String {
    let all: Vec<String> = actions.iter().map(ToString::to_string).collect();
    all.join("; ").chars().take(LONGEST_REASON).collect()
}
