//! What the model knows of an App: its fields, flat, and who owns which of them.
//!
//! Written anew from Kubernetes' rules, and from nothing in `src/`: lists and maps are flattened into paths such as
//! `label:team`, `env:A.value` or `spec.replicas`, so that merging and ownership are arithmetic on maps and sets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The fields of an object by their flat paths.
pub(super) type Fields = BTreeMap<String, Value>;
/// Which paths each (manager, operation, subresource) owns.
pub(super) type Owners = BTreeMap<(String, String, String), BTreeSet<String>>;

/// An annotation that the server writes by itself.
const OWNER: &str = "appm.dev/owner";

/// One object as it was at one revision.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub(super) uid: String,
    pub(super) revision: u64,
    pub(super) generation: i64,
    pub(super) deleting: bool,
    pub(super) fields: Fields,
    pub(super) owners: Owners,
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn of(object: &Value) -> Self {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        Self { namespace: text("namespace"), name: text("name") }
    }
}

/// The revision that an object, a list or a bookmark bears.
pub(super) fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl State {
    pub(super) fn of(object: &Value) -> Self {
        Self {
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            revision: revision(object),
            generation: object["metadata"]["generation"].as_i64().unwrap_or(0),
            deleting: !object["metadata"]["deletionTimestamp"].is_null(),
            fields: fields(object),
            owners: owners(object),
        }
    }

    pub(super) fn has_finalizers(&self) -> bool {
        has_finalizers(&self.fields)
    }
}

pub(super) fn has_finalizers(fields: &Fields) -> bool {
    fields.keys().any(|path| path.starts_with("finalizer:"))
}

/// An object's fields, flat.
fn fields(object: &Value) -> Fields {
    let mut flat = Fields::new();
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for (name, value) in entries(&object["metadata"]["labels"]) {
        flat.insert(format!("label:{name}"), value);
    }
    for (name, value) in entries(&object["metadata"]["annotations"]) {
        if name != OWNER {
            flat.insert(format!("annotation:{name}"), value);
        }
    }
    for name in items(&object["metadata"]["finalizers"]) {
        flat.insert(format!("finalizer:{}", name.as_str().unwrap_or_default()), json!(true));
    }
    for (name, value) in entries(&object["spec"]) {
        match name.as_str() {
            "env" => {
                for item in items(&value) {
                    let path = format!("env:{}", item["name"].as_str().unwrap_or_default());
                    if let Some(value) = item.get("value") {
                        flat.insert(format!("{path}.value"), value.clone());
                    }
                    flat.insert(path, json!(true));
                }
            }
            "process" => {
                for (name, value) in entries(&value) {
                    flat.insert(format!("spec.process.{name}"), value);
                }
            }
            _ => {
                flat.insert(format!("spec.{name}"), value);
            }
        }
    }
    for (name, value) in entries(&object["status"]) {
        flat.insert(format!("status.{name}"), value);
    }
    flat
}

/// The object that has these fields, with its name.
pub(super) fn object(key: &Key, fields: &Fields) -> Value {
    let mut object = json!({
        "apiVersion": "appm.dev/v1", "kind": "App",
        "metadata": {"name": key.name, "namespace": key.namespace}, "spec": {},
    });
    let mut env = Vec::new();
    for (path, value) in fields {
        put(&mut object, path, value.clone(), &mut env);
    }
    if !env.is_empty() {
        object["spec"]["env"] = env.into();
    }
    object
}

fn put(object: &mut Value, path: &str, value: Value, env: &mut Vec<Value>) {
    if let Some(name) = path.strip_prefix("env:") {
        match name.split_once('.') {
            None => env.push(json!({"name": name})),
            Some(_) => env.last_mut().expect("the item comes before its value")["value"] = value,
        }
    } else if let Some(name) = path.strip_prefix("finalizer:") {
        let list = &mut object["metadata"]["finalizers"];
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().expect("a list").push(json!(name));
    } else {
        *place(object, path) = value;
    }
}

/// Where a field that is no list item stands in an object; made if it is not there.
pub(super) fn place<'a>(object: &'a mut Value, path: &str) -> &'a mut Value {
    let steps = match path.split_once(':') {
        Some(("label", name)) => vec!["metadata", "labels", name],
        Some(("annotation", name)) => vec!["metadata", "annotations", name],
        _ => path.split('.').collect(),
    };
    steps.into_iter().fold(object, |at, step| {
        if !at.is_object() {
            *at = json!({});
        }
        at.as_object_mut().expect("made above").entry(step).or_insert(Value::Null)
    })
}

/// Who owns what, from `managedFields`. Structures that hold fields are left out: only fields count.
fn owners(object: &Value) -> Owners {
    let mut owners = Owners::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let mut paths = BTreeSet::new();
        if let Some(fields) = entry["fieldsV1"].as_object() {
            collect(&mut Vec::new(), fields, &mut paths);
        }
        if !paths.is_empty() {
            owners.insert((text("manager"), text("operation"), text("subresource")), paths);
        }
    }
    owners
}

fn collect(at: &mut Vec<String>, fields: &Map<String, Value>, found: &mut BTreeSet<String>) {
    if fields.is_empty() || fields.contains_key(".") {
        found.extend(flat_path(at));
    }
    for (element, below) in fields.iter().filter(|(element, _)| *element != ".") {
        at.push(element.clone());
        collect(at, below.as_object().expect("fieldsV1 is made of objects"), found);
        at.pop();
    }
}

fn flat_path(path: &[String]) -> Option<String> {
    let inside = |element: &str, key: &str| -> String {
        let json: Value = serde_json::from_str(&element[2..]).unwrap_or_default();
        let value = if key.is_empty() { &json } else { &json[key] };
        value.as_str().unwrap_or_default().to_owned()
    };
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["f:metadata", "f:labels", name] => Some(format!("label:{}", &name[2..])),
        ["f:metadata", "f:annotations", name] => Some(format!("annotation:{}", &name[2..])),
        ["f:metadata", "f:finalizers", value] => Some(format!("finalizer:{}", inside(value, ""))),
        ["f:spec", "f:env", item] => Some(format!("env:{}", inside(item, "name"))),
        ["f:spec", "f:env", item, "f:value"] => Some(format!("env:{}.value", inside(item, "name"))),
        ["f:spec", "f:process", name] => Some(format!("spec.process.{}", &name[2..])),
        ["f:metadata", _]
        | ["f:spec"]
        | ["f:status"]
        | ["f:spec", "f:env" | "f:process"]
        | ["f:spec", "f:env", _, "f:name"] => None,
        ["f:spec", name] => Some(format!("spec.{}", &name[2..])),
        ["f:status", name, ..] => Some(format!("status.{}", &name[2..])),
        other => Some(other.join("/")),
    }
}
