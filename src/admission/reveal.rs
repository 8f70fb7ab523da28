//! Secrets for whom may know that they are there and not what is in them: reading a value is a verb of its own, `reveal`.
//!
//! Whoever may get, list, watch or write Secrets without it is shown them with all their keys and no values, on every way out
//! of admission: reads, watches, and the answers to writes. Such an object says so in an annotation with which it cannot be
//! written back. What an Instance is given goes by the agent, which may read all there is.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Admission, Caller,
    operation::{Context, Refusal, Step},
    plan::Plan,
};
use crate::{
    api::{Key, Kind, KindInfo, Secret, StoredObject},
    auth::{Attributes, Viewer},
};

/// The verb.
const REVEAL: &str = "reveal";

/// How somebody sees objects of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Eyes {
    /// As they are.
    Open,
    /// With the values of those only that this viewer may have revealed.
    Half(Box<Viewer>),
}

impl Eyes {
    /// The object as it may be shown.
    pub(super) fn show(&self, object: Arc<StoredObject>) -> Arc<StoredObject> {
        match self {
            Eyes::Half(viewer) if !viewer.sees(&object) => Arc::new(elided(&object)),
            _ => object,
        }
    }
}

fn elided(object: &StoredObject) -> StoredObject {
    let body = Secret::elided(&object.value());
    StoredObject::new(object.key.clone(), object.revision, &body).expect("its metadata could be read before")
}

impl Admission {
    /// How a caller sees objects of a kind.
    pub fn eyes(&self, caller: &Caller, kind: &'static KindInfo) -> Eyes {
        if kind != Secret::INFO {
            return Eyes::Open;
        }
        let what = Attributes { verb: REVEAL, group: kind.group, resource: kind.plural, ..Attributes::default() };
        self.inner.authority.eyes(&caller.who, &what).map_or(Eyes::Open, |viewer| Eyes::Half(Box::new(viewer)))
    }
}

/// What a JSON pointer must not touch: values, and where kubectl keeps a copy of them.
const HIDDEN: [&str; 2] = ["/data", "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"];

impl Context<'_> {
    /// A JSON patch could copy a value to where it is shown, or ask what it is by a test.
    pub(super) fn check_looks(&self, step: &Step, patch: &Value, plan: &mut Plan<'_>) -> Result<(), Refusal> {
        if step.kind() != Secret::INFO || !looks(patch) {
            return Ok(());
        }
        let key = Key::new(step.kind(), &step.namespace, &step.name);
        let Some(live) = plan.live(&key) else { return Ok(()) };
        let what = Attributes { subresource: "", ..step.attributes(REVEAL) };
        Ok(self.authority.on(&self.caller.who, &what, &key, live)?)
    }
}

fn looks(patch: &Value) -> bool {
    let touches = |pointer: &Value| {
        let pointer = pointer.as_str().unwrap_or_default();
        HIDDEN.iter().any(|hidden| hidden.starts_with(pointer) || pointer.starts_with(hidden))
    };
    patch.as_array().into_iter().flatten().any(|step| match step["op"].as_str() {
        Some("test") => touches(&step["path"]),
        Some("copy" | "move") => touches(&step["from"]),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_json_patch_looks_at_values_by_test_copy_and_move() {
        for (step, expected) in [
            (json!({"op": "test", "path": "/data/a", "value": "eA=="}), true),
            (json!({"op": "test", "path": "", "value": {}}), true),
            (json!({"op": "copy", "from": "/data/a", "path": "/metadata/annotations/a"}), true),
            (json!({"op": "move", "from": "/metadata/annotations", "path": "/metadata/labels"}), true),
            (json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}), false),
            (json!({"op": "replace", "path": "/data/a", "value": "eA=="}), false),
            (json!({"op": "remove", "path": "/data/a"}), false),
        ] {
            assert_eq!(looks(&json!([step])), expected, "{step}");
        }
    }
}
