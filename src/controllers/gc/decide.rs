//! What becomes of one object, given its owners and its dependents. Pure.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::graph::waits;
use crate::{
    api::{
        FOREGROUND_FINALIZER, ORPHAN_FINALIZER, Operation, OperationVerb, OwnerReference, PropagationPolicy,
        StoredObject, Uid,
    },
    controllers::operations::delete,
};

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there, and stays or goes before its dependents.
    There,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
    /// The API was asked, and it is not there.
    Absent,
    /// Its kind is not known here, so nothing can be said.
    Unknowable,
}

/// An object with what it is connected to.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) object: Arc<StoredObject>,
    pub(super) owners: Vec<(OwnerReference, OwnerState)>,
    pub(super) dependents: Vec<Arc<StoredObject>>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Delete a dependent of which no owner stays.
    Delete { object: Arc<StoredObject>, policy: PropagationPolicy },
    /// Take references to these owners off.
    Disown { object: Arc<StoredObject>, owners: BTreeSet<Uid> },
    /// Take a finalizer off: nothing is waited for any more.
    Release { object: Arc<StoredObject>, finalizer: &'static str },
}

/// Judges one object.
pub(super) fn decide(observed: &Observed) -> Vec<Action> {
    let Observed { object, owners, dependents } = observed;
    let uid = object.meta().uid();
    if waits(object, ORPHAN_FINALIZER) {
        let disown =
            |d: &Arc<StoredObject>| Action::Disown { object: d.clone(), owners: BTreeSet::from([uid.clone()]) };
        return match dependents.is_empty() {
            true => vec![Action::Release { object: object.clone(), finalizer: ORPHAN_FINALIZER }],
            false => dependents.iter().map(disown).collect(),
        };
    }
    if waits(object, FOREGROUND_FINALIZER) {
        return match dependents.iter().any(|d| blocks(d, uid)) {
            true => Vec::new(),
            false => vec![Action::Release { object: object.clone(), finalizer: FOREGROUND_FINALIZER }],
        };
    }
    if object.meta().is_deleting() || owners.is_empty() {
        return Vec::new();
    }
    let leaves = |state: OwnerState| matches!(state, OwnerState::Absent | OwnerState::Waiting);
    let leaving: BTreeSet<Uid> = owners.iter().filter(|(_, s)| leaves(*s)).map(|(o, _)| o.uid.clone()).collect();
    if leaving.is_empty() {
        return Vec::new();
    }
    if owners.iter().any(|(_, state)| !leaves(*state)) {
        return vec![Action::Disown { object: object.clone(), owners: leaving }];
    }
    let waited_for = owners.iter().any(|(_, state)| *state == OwnerState::Waiting);
    let policy = match waited_for && !dependents.is_empty() {
        true => PropagationPolicy::Foreground,
        false => PropagationPolicy::Background,
    };
    vec![Action::Delete { object: object.clone(), policy }]
}

/// True if foreground deletion of `owner` waits for a dependent.
fn blocks(dependent: &StoredObject, owner: &Uid) -> bool {
    let references = &dependent.meta().owner_references;
    references.iter().any(|r| r.uid == *owner && r.block_owner_deletion == Some(true))
}

impl Action {
    /// The action as an operation; it is refused if the object has changed meanwhile.
    pub(super) fn operation(&self) -> Operation {
        match self {
            Action::Delete { object, policy } => {
                let mut operation = delete(&object.key, object.meta().uid());
                operation.propagation_policy = *policy;
                operation
            }
            Action::Disown { object, owners } => {
                let gone = |r: &Value| r["uid"].as_str().is_some_and(|uid| owners.contains(&Uid::from(uid)));
                without(object, "ownerReferences", gone)
            }
            Action::Release { object, finalizer } => without(object, "finalizers", |f| f == finalizer),
        }
    }
}

/// The object without some items of a list in its metadata.
fn without(object: &StoredObject, list: &str, gone: impl Fn(&Value) -> bool) -> Operation {
    let mut value = object.value();
    let metadata = &mut value["metadata"];
    if let Some(Value::Array(items)) = metadata.get_mut(list) {
        items.retain(|item| !gone(item));
        // As Kubernetes shows it: a list of nothing is not there.
        if items.is_empty() {
            metadata[list] = Value::Null;
        }
    }
    Operation::new(OperationVerb::Update, value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{App, Body, Key, Rev};

    fn object(name: &str, metadata: Value) -> Arc<StoredObject> {
        let mut metadata = metadata;
        metadata["name"] = json!(name);
        metadata["uid"] = json!(name);
        let body = Body::new(json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": metadata}));
        Arc::new(StoredObject::new(Key::of::<App>("default", name), Rev(1), &body).expect("metadata"))
    }

    fn owner(name: &str) -> OwnerReference {
        OwnerReference {
            api_version: "appm.dev/v1".to_owned(),
            kind: "App".to_owned(),
            name: name.to_owned(),
            uid: name.into(),
            controller: None,
            block_owner_deletion: Some(true),
        }
    }

    fn child(owners: &[OwnerReference]) -> Arc<StoredObject> {
        object("child", json!({"ownerReferences": owners}))
    }

    fn judged(observed: Observed) -> Vec<String> {
        let said = |action: &Action| match action {
            Action::Delete { object, policy } => format!("delete {} {policy:?}", object.key.name),
            Action::Disown { object, owners } => {
                let owners: Vec<&str> = owners.iter().map(Uid::as_str).collect();
                format!("disown {} from {}", object.key.name, owners.join(","))
            }
            Action::Release { object, finalizer } => format!("release {} {finalizer}", object.key.name),
        };
        decide(&observed).iter().map(said).collect()
    }

    #[test]
    fn dependents_go_with_their_last_owner() {
        use OwnerState::{Absent, There, Unknowable, Waiting};
        let table: [(&[OwnerState], &[&str]); 9] = [
            (&[], &[]),
            (&[There], &[]),
            (&[Unknowable], &[]),
            (&[Absent], &["delete child Background"]),
            (&[Waiting], &["delete child Background"]),
            (&[Absent, Waiting], &["delete child Background"]),
            (&[There, Absent], &["disown child from o1"]),
            (&[Waiting, There], &["disown child from o0"]),
            (&[Unknowable, Absent], &["disown child from o1"]),
        ];
        for (states, expected) in table {
            let owners: Vec<_> = states.iter().enumerate().map(|(i, s)| (owner(&format!("o{i}")), *s)).collect();
            let references: Vec<_> = owners.iter().map(|(o, _)| o.clone()).collect();
            let observed = Observed { object: child(&references), owners, dependents: Vec::new() };
            assert_eq!(judged(observed), expected, "{states:?}");
        }
    }

    #[test]
    fn what_is_going_already_is_left_alone() {
        let object = object("child", json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a.b/c"]}));
        let owners = vec![(owner("o"), OwnerState::Absent)];
        assert!(judged(Observed { object, owners, dependents: Vec::new() }).is_empty());
    }

    #[test]
    fn foreground_deletion_goes_down_first_and_waits_for_those_that_block() {
        let owners = vec![(owner("o"), OwnerState::Waiting)];
        let middle = Observed { object: child(&[owner("o")]), owners, dependents: vec![child(&[owner("child")])] };
        assert_eq!(judged(middle), ["delete child Foreground"]);
        let waiting =
            || object("o", json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}));
        let observed = |dependents| Observed { object: waiting(), owners: Vec::new(), dependents };
        assert!(judged(observed(vec![child(&[owner("o")])])).is_empty());
        let loose = OwnerReference { block_owner_deletion: None, ..owner("o") };
        assert_eq!(judged(observed(vec![child(&[loose])])), ["release o foregroundDeletion"]);
    }

    #[test]
    fn orphans_lose_their_reference_before_the_owner_goes() {
        let waiting = || object("o", json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]}));
        let observed = |dependents| Observed { object: waiting(), owners: Vec::new(), dependents };
        assert_eq!(judged(observed(vec![child(&[owner("o")])])), ["disown child from o"]);
        assert_eq!(judged(observed(Vec::new())), ["release o orphan"]);
    }
}
