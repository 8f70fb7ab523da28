//! Metadata: what the server alone writes, and what is well-formed.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Caller, plan::Plan};
use crate::{
    api::{
        FieldPath, Key, Kind, OWNER, Problem, StoredObject, Violation, WorkflowRun, check_subdomain, kinds::find_served,
    },
    auth::Proof,
    clock::{Clock, new_uid},
    policy::label_names::{check_key, check_value},
    store::Store,
};

/// The server's own fields of `metadata`; whatever a client says of them is not heard.
const SERVERS_OWN: &[&str] =
    &["uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Most bytes of all annotations together, as in Kubernetes.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// The `metadata` of an object, made if it is not there.
pub(super) fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("made an object above")
}

/// A text of the `metadata`; empty if it is not there.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

/// The words of a list in `metadata`.
pub(super) fn words<'a>(object: &'a Value, name: &str) -> Vec<&'a str> {
    object["metadata"][name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// True once delete was asked for.
pub(super) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Takes out what the server alone writes.
pub(super) fn strip(object: &mut Value) {
    let metadata = of(object);
    for name in SERVERS_OWN {
        metadata.shift_remove(*name);
    }
    metadata.shift_remove("managedFields");
    metadata.shift_remove("selfLink");
    strip_owner(metadata);
}

fn strip_owner(metadata: &mut Map<String, Value>) {
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
        && annotations.shift_remove(OWNER).is_some()
        && annotations.is_empty()
    {
        metadata.shift_remove("annotations");
    }
}

/// Gives a new object its identity.
pub(super) fn stamp_new(object: &mut Value, key: &Key, owner: &str, now: &str, clock: &dyn Clock) {
    let metadata = of(object);
    metadata.insert("name".to_owned(), json!(&*key.name));
    match &*key.namespace {
        "" => metadata.shift_remove("namespace"),
        namespace => metadata.insert("namespace".to_owned(), json!(namespace)),
    };
    metadata.insert("uid".to_owned(), json!(new_uid(clock).as_str()));
    metadata.insert("generation".to_owned(), json!(1));
    metadata.insert("creationTimestamp".to_owned(), json!(now));
    set_owner(metadata, owner);
}

fn set_owner(metadata: &mut Map<String, Value>, owner: &str) {
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Value::Object(annotations) = annotations {
        annotations.insert(OWNER.to_owned(), json!(owner));
    }
}

/// Gives a written object back what only the server may write.
pub(super) fn keep(object: &mut Value, live: &Value) {
    let metadata = of(object);
    metadata.shift_remove("selfLink");
    for name in ["name", "namespace"].iter().chain(SERVERS_OWN) {
        match live["metadata"].get(*name) {
            Some(value) => metadata.insert((*name).to_owned(), value.clone()),
            None => metadata.shift_remove(*name),
        };
    }
    match live["metadata"]["annotations"][OWNER].as_str() {
        Some(owner) => set_owner(metadata, owner),
        None => strip_owner(metadata),
    }
}

/// What a written object says of the server's times that is not so. Nothing said is right; uid and resourceVersion are
/// preconditions, and judged elsewhere.
pub(super) fn rewritten(object: &Value, live: &Value) -> Vec<Violation> {
    let instant = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let at = FieldPath::of("metadata");
    ["creationTimestamp", "deletionTimestamp"]
        .into_iter()
        .filter(|name| {
            let (said, is) = (&object["metadata"][*name], &live["metadata"][*name]);
            !said.is_null() && (instant(said).is_none() || instant(said) != instant(is))
        })
        .map(|name| Violation::new(at.field(name), Problem::Invalid, "field is immutable"))
        .collect()
}

/// The object for which a part of appm makes another one: its controller.
pub(super) fn made_for(object: &Value, caller: &Caller, store: &Store) -> Option<Arc<StoredObject>> {
    let references = object["metadata"]["ownerReferences"].as_array();
    let controller = references.into_iter().flatten().find(|r| r["controller"] == true);
    let uid = controller.and_then(|r| r["uid"].as_str()).filter(|_| caller.who.name.starts_with("system:appm:"))?;
    store.get(&store.find_uid(&uid.into())?)
}

/// Completes the reference to its controller of an object that a part of appm makes in one transaction with that controller, whose uid
/// nobody knew before. Whose the controller is, if it was so.
pub(super) fn adopt_within(object: &mut Value, key: &Key, caller: &Caller, plan: &mut Plan<'_>) -> Option<String> {
    if caller.who.proof != Proof::Part {
        return None;
    }
    let references = of(object).get_mut("ownerReferences")?.as_array_mut()?;
    let reference = references.iter_mut().find(|r| r["controller"] == true && r["uid"] == "")?;
    let text = |name: &str| reference[name].as_str().unwrap_or_default();
    let kind = find_served(text("apiVersion"), text("kind"))?.kind;
    let live = plan.live(&Key::new(kind, &key.namespace, text("name")))?;
    reference["uid"] = live["metadata"]["uid"].clone();
    live["metadata"]["annotations"][OWNER].as_str().map(str::to_owned)
}

/// Whose an object is: its maker's, or, where a part of appm makes it for another object, that object's owner's.
pub(super) fn owner_of(object: &Value, caller: &Caller, store: &Store) -> String {
    let inherited = made_for(object, caller, store).and_then(|object| match object.key.kind == WorkflowRun::INFO {
        // What a run makes acts as the run does.
        true => Some(object.typed::<WorkflowRun>()?.spec.identity.clone()),
        false => object.meta().annotations.get(OWNER).map(str::to_owned),
    });
    inherited.unwrap_or_else(|| caller.who.name.clone())
}

/// True if something outside metadata and status differs.
pub(super) fn wants_differ(new: &Value, live: &Value) -> bool {
    let outside = |o: &Value, other: &Value| {
        let fields = o.as_object().into_iter().flatten();
        fields.clone().any(|(name, value)| {
            !matches!(name.as_str(), "metadata" | "status") && other.get(name).unwrap_or(&Value::Null) != value
        })
    };
    outside(new, live) || outside(live, new)
}

/// True if the metadata differs in what people write.
pub(super) fn metadata_differs(new: &Value, live: &Value) -> bool {
    let differs = |a: &Value, b: &Value| {
        a["metadata"].as_object().into_iter().flatten().any(|(name, value)| {
            !matches!(name.as_str(), "managedFields" | "resourceVersion") && b["metadata"].get(name) != Some(value)
        })
    };
    differs(new, live) || differs(live, new)
}

/// Everything that is malformed in the metadata.
pub(super) fn violations(object: &Value, live: Option<&Value>) -> Vec<Violation> {
    let at = FieldPath::of("metadata");
    let mut found = Vec::new();
    if let Err(why) = check_subdomain(text(object, "name")) {
        found.push(Violation::new(at.field("name"), Problem::Invalid, why.to_string()));
    }
    found.extend(label_violations(object, &at));
    found.extend(annotation_violations(object, &at));
    found.extend(reference_violations(object, &at));
    found.extend(finalizer_violations(object, live, &at));
    found
}

fn entries<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object["metadata"][name].as_object().into_iter().flatten()
}

fn label_violations(object: &Value, at: &FieldPath) -> Vec<Violation> {
    let at = at.field("labels");
    let mut found = Vec::new();
    for (key, value) in entries(object, "labels") {
        let wrong = [check_key(key).err(), value.as_str().and_then(|v| check_value(v).err())];
        found.extend(wrong.into_iter().flatten().map(|why| Violation::new(at.field(key), Problem::Invalid, why)));
    }
    found
}

fn annotation_violations(object: &Value, at: &FieldPath) -> Vec<Violation> {
    let at = at.field("annotations");
    let mut found = Vec::new();
    let mut size = 0;
    for (key, value) in entries(object, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = check_key(&key.to_ascii_lowercase()) {
            found.push(Violation::new(at.field(key), Problem::Invalid, why));
        }
    }
    if size > ANNOTATIONS_MAX {
        let message = format!("must have at most {ANNOTATIONS_MAX} bytes together, not {size}");
        found.push(Violation::new(at, Problem::Invalid, message));
    }
    found
}

fn reference_violations(object: &Value, at: &FieldPath) -> Vec<Violation> {
    let at = at.field("ownerReferences");
    let mut found = Vec::new();
    let mut controllers = 0;
    for (i, reference) in object["metadata"]["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for name in ["apiVersion", "kind", "name", "uid"] {
            if reference[name] == "" {
                found.push(Violation::new(at.index(i).field(name), Problem::Required, "must not be empty"));
            }
        }
        controllers += usize::from(reference["controller"] == true);
        if reference["uid"] == object["metadata"]["uid"] && !reference["uid"].is_null() {
            found.push(Violation::new(at.index(i).field("uid"), Problem::Invalid, "an object cannot own itself"));
        }
    }
    if controllers > 1 {
        found.push(Violation::new(at, Problem::Invalid, "only one reference may have `controller: true`"));
    }
    found
}

fn finalizer_violations(object: &Value, live: Option<&Value>, at: &FieldPath) -> Vec<Violation> {
    let at = at.field("finalizers");
    let mut found = Vec::new();
    let names = words(object, "finalizers");
    for (i, name) in names.iter().enumerate() {
        if let Err(why) = check_key(name) {
            found.push(Violation::new(at.index(i), Problem::Invalid, why));
        }
    }
    if let Some(live) = live.filter(|live| is_deleting(live)) {
        let before: BTreeSet<&str> = words(live, "finalizers").into_iter().collect();
        let new: Vec<&str> = names.into_iter().filter(|name| !before.contains(name)).collect();
        if !new.is_empty() {
            let message = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {}",
                new.join(", ")
            );
            found.push(Violation::new(at, Problem::Forbidden, message));
        }
    }
    found
}
