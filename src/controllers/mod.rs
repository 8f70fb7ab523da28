//! One controller per kind that has one; each judges purely and acts through the client.

pub mod app;
pub mod gc;
pub mod namespace;
mod operations;
mod place;
pub mod run;
pub mod schedule;
pub mod source;
pub mod trigger;
pub mod workflow;

pub use place::Turns;

use crate::api::{EnvVar, InstanceField, ObjectMeta, Reason, Status, TextMap};

/// True if the namespace is going.
fn is_terminating(status: &Status) -> bool {
    status.is(Reason::Forbidden) && status.details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Those of an owner's annotations that variables refer to; of labels an Instance has all.
fn referred_annotations(owner: &ObjectMeta, env: &[EnvVar]) -> TextMap {
    let refs = env.iter().filter_map(|var| var.value_from.as_ref()?.field_ref.as_ref()?.field());
    let mut annotations = TextMap::default();
    for field in refs {
        if let InstanceField::Annotation(key) = field
            && let Some(value) = owner.annotations.get(key)
        {
            annotations.insert(key, value);
        }
    }
    annotations
}
