//! Making an object as it was: which operations do that, and whose fields stand against it.
//!
//! Fields that the manager had applied then are applied again, so that they are its own as they were, and a later apply of the manager
//! meets no stranger. What else differs is written over. Fields that another manager has applied are not taken unless that is asked for.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{field_changes::changes, fields::FieldSet};
use crate::api::{OWNER, Operation, OperationVerb, Preconditions};

/// Fields that another manager has applied and that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The manager.
    pub manager: String,
    /// Their paths.
    pub paths: Vec<String>,
}

/// The operations that make an object what it was `then`; none if it is so already. `live` is how it is, with its `managedFields`.
///
/// # Errors
/// The fields that others own, unless `force` takes them.
pub fn restore(live: Option<&Value>, then: &Value, manager: &str, force: bool) -> Result<Vec<Operation>, Vec<Owned>> {
    let Some(live) = live else { return Ok(made_again(then, manager)) };
    if kept(live) == kept(then) {
        return Ok(Vec::new());
    }
    let wanted = wanted(live, then);
    let owned = conflicts(live, &wanted, manager);
    if !force && !owned.is_empty() {
        return Err(owned);
    }
    let preconditions = Preconditions {
        uid: live["metadata"]["uid"].as_str().map(Into::into),
        resource_version: live["metadata"]["resourceVersion"].as_str().map(str::to_owned),
    };
    let mut operations = Vec::new();
    if applied_by(live, manager).is_some()
        && let Some(object) = picked(then, manager)
    {
        operations.push(Operation { force: true, ..Operation::new(OperationVerb::Apply, object) });
    }
    operations.push(Operation::new(OperationVerb::Update, wanted));
    operations[0].preconditions = preconditions;
    Ok(operations)
}

/// What of an object people wish: everything but its status, and of its metadata labels and annotations.
pub fn wishes(object: &Value) -> Value {
    let mut wishes = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "status" => {}
            "metadata" => {
                let kept = ["labels", "annotations"].into_iter().filter_map(|part| {
                    let value = value.get(part).filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))?;
                    Some((part.to_owned(), value.clone()))
                });
                wishes.insert(name.clone(), Value::Object(kept.collect()));
            }
            _ => drop(wishes.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(wishes)
}

/// What people wish of an object, without what the server says in its annotations.
fn kept(object: &Value) -> Value {
    let mut wishes = wishes(object);
    if let Some(Value::Object(metadata)) = wishes.get_mut("metadata")
        && let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
    {
        annotations.shift_remove(OWNER);
        if annotations.is_empty() {
            metadata.shift_remove("annotations");
        }
    }
    wishes
}

/// An object that is no more: applied again where all of it was applied, else made.
fn made_again(then: &Value, manager: &str) -> Vec<Operation> {
    if let Some(object) = picked(then, manager).filter(|object| kept(object) == kept(then)) {
        return vec![Operation::new(OperationVerb::Apply, object)];
    }
    let mut object = kept(then);
    name(&mut object, then);
    vec![Operation::new(OperationVerb::Create, object)]
}

/// The object as it should be: what people wish as it was then, the rest as it is.
fn wanted(live: &Value, then: &Value) -> Value {
    let mut wanted = kept(then);
    name(&mut wanted, live);
    for part in ["finalizers", "ownerReferences"] {
        if !live["metadata"][part].is_null() {
            wanted["metadata"][part] = live["metadata"][part].clone();
        }
    }
    if !live["metadata"]["annotations"][OWNER].is_null() {
        wanted["metadata"]["annotations"][OWNER] = live["metadata"]["annotations"][OWNER].clone();
    }
    wanted
}

fn name(object: &mut Value, of: &Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for part in ["name", "namespace"] {
        if !of["metadata"][part].is_null() {
            object["metadata"][part] = of["metadata"][part].clone();
        }
    }
    for part in ["apiVersion", "kind"] {
        object[part] = of[part].clone();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    subresource: String,
    #[serde(rename = "fieldsV1", default)]
    fields: Option<FieldSet>,
}

/// Who has applied fields of an object, and which.
fn appliers(object: &Value) -> Vec<(String, FieldSet)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let read = entries.filter_map(|entry| Entry::deserialize(entry).ok());
    let applied = read.filter(|entry| entry.operation == "Apply" && entry.subresource.is_empty());
    applied.map(|entry| (entry.manager, FieldSet::from_fields_v1(entry.fields.unwrap_or_default()))).collect()
}

fn applied_by(object: &Value, manager: &str) -> Option<FieldSet> {
    appliers(object).into_iter().find(|(name, _)| name == manager).map(|(_, fields)| fields)
}

/// What the manager had applied of an object.
fn picked(then: &Value, manager: &str) -> Option<Value> {
    let mut picked = applied_by(then, manager)?.pick(then)?;
    name(&mut picked, then);
    Some(picked)
}

fn conflicts(live: &Value, wanted: &Value, manager: &str) -> Vec<Owned> {
    let others = appliers(live).into_iter().filter(|(name, _)| name != manager);
    let hit = others.filter_map(|(manager, fields)| {
        let part = |of: &Value| fields.pick(of).unwrap_or_else(|| json!({}));
        let (old, new) = (part(live), part(wanted));
        let paths: Vec<String> = changes(Some(&old), Some(&new)).into_iter().map(|change| change.path).collect();
        (!paths.is_empty()).then_some(Owned { manager, paths })
    });
    hit.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(replicas: u32, label: &str, managers: &Value) -> Value {
        json!({"apiVersion": "appm.dev/v1", "kind": "App",
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "9", "finalizers": ["x"],
                "labels": {"tier": label}, "annotations": {(OWNER): "ann"}, "managedFields": managers},
            "spec": {"replicas": replicas, "process": {"command": ["a"], "env": [{"name": "A", "value": "1"}]}}, "status": {"n": 1}})
    }

    fn applied(manager: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "apiVersion": "appm.dev/v1", "fieldsV1": fields})
    }

    #[test]
    fn wishes_are_all_but_status_and_the_servers_metadata() {
        let object = json!({"kind": "App", "metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}, "annotations": {}},
            "spec": {"a": 1}, "status": {}});
        assert_eq!(wishes(&object), json!({"kind": "App", "metadata": {"labels": {"x": "y"}}, "spec": {"a": 1}}));
    }

    #[test]
    fn what_is_as_it_was_needs_nothing() {
        let managers = json!([]);
        assert_eq!(restore(Some(&app(1, "a", &managers)), &app(1, "a", &managers), "appm", false), Ok(Vec::new()));
    }

    #[test]
    fn what_the_manager_applied_is_applied_again_and_the_rest_written_over() {
        let fields = json!({"f:spec": {"f:replicas": {}, "f:process": {"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}}}}});
        let managers = json!([applied("appm", &fields)]);
        let done = restore(Some(&app(2, "b", &managers)), &app(1, "a", &managers), "appm", false).unwrap();
        let verbs: Vec<OperationVerb> = done.iter().map(|o| o.verb).collect();
        assert_eq!(verbs, [OperationVerb::Apply, OperationVerb::Update]);
        assert_eq!(
            done[0].object,
            json!({"spec": {"process": {"env": [{"name": "A", "value": "1"}]}, "replicas": 1}, "apiVersion": "appm.dev/v1",
                "kind": "App", "metadata": {"name": "web", "namespace": "default"}})
        );
        assert_eq!(done[0].preconditions.resource_version.as_deref(), Some("9"));
        let whole = &done[1].object;
        assert_eq!(
            (&whole["metadata"]["labels"]["tier"], &whole["metadata"]["finalizers"]),
            (&json!("a"), &json!(["x"]))
        );
        assert!(whole.get("status").is_none() && whole["metadata"].get("managedFields").is_none());
    }

    #[test]
    fn fields_of_another_manager_are_a_conflict_that_names_them() {
        let fields = json!({"f:spec": {"f:replicas": {}}, "f:metadata": {"f:labels": {"f:tier": {}}}});
        let (live, then) = (app(2, "b", &json!([applied("source:prod", &fields)])), app(1, "b", &json!([])));
        let owned = restore(Some(&live), &then, "appm", false).unwrap_err();
        assert_eq!(owned, [Owned { manager: "source:prod".to_owned(), paths: vec!["spec.replicas".to_owned()] }]);
        assert_eq!(restore(Some(&live), &then, "appm", true).unwrap().len(), 1);
        assert_eq!(restore(Some(&live), &then, "source:prod", false).unwrap().len(), 1);
    }

    #[test]
    fn what_is_gone_is_applied_again_if_all_of_it_was_applied_and_made_otherwise() {
        let all = json!({"f:spec": {"f:replicas": {}, "f:process": {}}, "f:metadata": {"f:labels": {"f:tier": {}}}});
        let verb = |managers: Value| restore(None, &app(1, "a", &managers), "appm", false).unwrap()[0].verb;
        assert_eq!(verb(json!([applied("appm", &all)])), OperationVerb::Apply);
        assert_eq!(verb(json!([applied("appm", &json!({"f:spec": {"f:replicas": {}}}))])), OperationVerb::Create);
        assert_eq!(verb(json!([])), OperationVerb::Create);
    }
}
