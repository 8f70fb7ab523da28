//! The rules: what a change makes of an object, as a function of the two. The server must agree, at some moment
//! between a request and its answer.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value, json};

use super::content::{Fields, Owners, State, has_finalizers};

/// A change of one object.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create(Fields),
    /// The whole object. `body` is sent instead of what the fields say, where it is what was read before.
    Put {
        fields: Fields,
        version: Option<u64>,
        uid: Option<String>,
        body: Option<Sent>,
        /// True for a PUT, which must name the revision that it replaces; the update of a transaction need not.
        strict: bool,
    },
    /// A merge patch or a JSON patch.
    Edit {
        edits: Vec<Edit>,
        tests: Vec<(String, Value)>,
        json_patch: bool,
        status: bool,
    },
    Apply {
        fields: Fields,
        force: bool,
        version: Option<u64>,
    },
    Scale {
        replicas: i64,
        version: Option<u64>,
    },
    Delete {
        uid: Option<String>,
        version: Option<u64>,
    },
}

/// A whole body, which nobody wants to read in a failure: its fields stand beside it.
#[derive(Clone)]
pub(super) struct Sent(pub(super) Value);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as it was read")
    }
}

/// One edit of a patch.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Set(String, Value),
    Unset(String),
    Env(Vec<(String, String)>),
    Finalizers(Vec<String>),
}

/// What must come of a change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// The object is there now, with these fields and owners.
    Written { fields: Fields, owners: Owners, deleting: bool },
    /// The object is gone; its last state is what it was before.
    Gone,
    /// Nothing happened, and that is right.
    Unchanged,
    /// The reason of the refusal, by its Kubernetes name.
    Refused(&'static str),
}

const CONFLICT: Outcome = Outcome::Refused("Conflict");

/// What `change`, made by `manager`, makes of `live`.
pub(super) fn outcome(live: Option<&State>, change: &Change, manager: &str) -> Outcome {
    match (live, change) {
        (None, Change::Create(fields)) => made(fields, manager, "Update"),
        (None, Change::Apply { version: Some(_), .. }) => CONFLICT,
        (None, Change::Apply { fields, .. }) => made(fields, manager, "Apply"),
        (None, _) => Outcome::Refused("NotFound"),
        (Some(_), Change::Create(_)) => Outcome::Refused("AlreadyExists"),
        (Some(live), Change::Put { fields, version, uid, strict, .. }) => {
            if misses(live, version, uid) {
                return CONFLICT;
            }
            if *strict && version.is_none() {
                return Outcome::Refused("Invalid");
            }
            let mut fields = fields.clone();
            fields.retain(|path, _| !path.starts_with("status."));
            fields.extend(
                live.fields.iter().filter(|(p, _)| p.starts_with("status.")).map(|(p, v)| (p.clone(), v.clone())),
            );
            updated(live, fields, manager, "")
        }
        (Some(live), Change::Edit { edits, tests, status, .. }) => {
            if tests.iter().any(|(path, value)| live.fields.get(path).unwrap_or(&Value::Null) != value) {
                return Outcome::Refused("Invalid");
            }
            let mut fields = live.fields.clone();
            edits.iter().for_each(|edit| edit.make(&mut fields));
            updated(live, fields, manager, if *status { "status" } else { "" })
        }
        (Some(live), Change::Apply { fields, force, version }) => match misses(live, version, &None) {
            true => CONFLICT,
            false => applied(live, fields, *force, manager),
        },
        (Some(live), Change::Scale { replicas, version }) => {
            if misses(live, version, &None) {
                return CONFLICT;
            }
            let mut fields = live.fields.clone();
            fields.insert("spec.replicas".to_owned(), json!(replicas));
            updated(live, fields, manager, "scale")
        }
        (Some(live), Change::Delete { uid, version }) => {
            if misses(live, version, uid) {
                CONFLICT
            } else if !live.has_finalizers() {
                Outcome::Gone
            } else if live.deleting {
                Outcome::Unchanged
            } else {
                Outcome::Written { fields: live.fields.clone(), owners: live.owners.clone(), deleting: true }
            }
        }
    }
}

fn misses(live: &State, version: &Option<u64>, uid: &Option<String>) -> bool {
    version.is_some_and(|v| v != live.revision) || uid.as_ref().is_some_and(|uid| *uid != live.uid)
}

impl Edit {
    fn make(&self, fields: &mut Fields) {
        match self {
            Self::Set(path, value) => {
                fields.insert(path.clone(), value.clone());
            }
            Self::Unset(path) => {
                fields.remove(path);
            }
            Self::Env(items) => {
                fields.retain(|path, _| !path.starts_with("env:"));
                for (name, value) in items {
                    fields.insert(format!("env:{name}"), json!(true));
                    fields.insert(format!("env:{name}.value"), json!(value));
                }
            }
            Self::Finalizers(names) => {
                fields.retain(|path, _| !path.starts_with("finalizer:"));
                fields.extend(names.iter().map(|name| (format!("finalizer:{name}"), json!(true))));
            }
        }
    }
}

fn owner(manager: &str, operation: &str, subresource: &str) -> (String, String, String) {
    (manager.to_owned(), operation.to_owned(), subresource.to_owned())
}

fn made(fields: &Fields, manager: &str, operation: &str) -> Outcome {
    let paths = fields.keys().cloned().collect();
    let owners = Owners::from([(owner(manager, operation, ""), paths)]);
    Outcome::Written { fields: fields.clone(), owners, deleting: false }
}

/// Whoever updates a field has it alone.
fn updated(live: &State, fields: Fields, manager: &str, subresource: &str) -> Outcome {
    let touched = touched(&live.fields, &fields);
    let mut owners = without(&live.owners, &touched);
    let present = touched.into_iter().filter(|path| fields.contains_key(path));
    owners.entry(owner(manager, "Update", subresource)).or_default().extend(present);
    settled(live, fields, owners)
}

/// Server-side apply.
fn applied(live: &State, wanted: &Fields, force: bool, manager: &str) -> Outcome {
    let mine = owner(manager, "Apply", "");
    let others = || live.owners.iter().filter(|(id, _)| **id != mine);
    let changed: BTreeSet<String> =
        wanted.iter().filter(|(path, value)| live.fields.get(*path) != Some(value)).map(|(p, _)| p.clone()).collect();
    if !force && others().any(|(_, theirs)| !theirs.is_disjoint(&changed)) {
        return CONFLICT;
    }
    let mut fields = live.fields.clone();
    fields.extend(wanted.clone());
    // What this manager had and does not want any more goes, unless somebody needs it or something below it.
    let kept: BTreeSet<&String> = wanted.keys().chain(others().flat_map(|(_, theirs)| theirs)).collect();
    let before = live.owners.get(&mine).cloned().unwrap_or_default();
    let needed = |path: &str| kept.iter().any(|k| *k == path || k.starts_with(&format!("{path}.")));
    for path in before.iter().filter(|path| !needed(path)) {
        fields.retain(|p, _| p != path && !p.starts_with(&format!("{path}.")));
    }
    let mut owners = without(&live.owners, &touched(&live.fields, &fields));
    owners.insert(mine, wanted.keys().cloned().collect());
    settled(live, fields, owners)
}

/// The paths that are new, gone or of another value.
fn touched(old: &Fields, new: &Fields) -> BTreeSet<String> {
    old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).cloned().collect()
}

fn without(owners: &Owners, paths: &BTreeSet<String>) -> Owners {
    owners.iter().map(|(id, theirs)| (id.clone(), theirs.difference(paths).cloned().collect())).collect()
}

fn settled(live: &State, fields: Fields, mut owners: Owners) -> Outcome {
    owners.retain(|_, paths| !paths.is_empty());
    let is_new = |path: &String| path.starts_with("finalizer:") && !live.fields.contains_key(path);
    if live.deleting && fields.keys().any(is_new) {
        return Outcome::Refused("Invalid");
    }
    if fields == live.fields && owners == live.owners {
        return Outcome::Unchanged;
    }
    match live.deleting && !has_finalizers(&fields) {
        true => Outcome::Gone,
        false => Outcome::Written { fields, owners, deleting: live.deleting },
    }
}
