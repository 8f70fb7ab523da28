//! Strategic merge patch: what kubectl and client-go send for Kubernetes' own kinds.
//!
//! A merge patch that knows its lists: those that the shape merges (by keys, or as sets) are merged item by item, all others
//! are replaced. Directives, fields that begin with `$`, say what a merge cannot:
//!
//! | directive | where | meaning |
//! |---|---|---|
//! | `$patch: replace` | object, item of a merged list | what stands beside it replaces all that is there |
//! | `$patch: delete` | object, item of a merged list | the object becomes empty; the item of that key goes |
//! | `$retainKeys: [a, b]` | object | all other fields go |
//! | `$deleteFromPrimitiveList/f: [x]` | beside `f` | these values of `f` go |
//! | `$setElementOrder/f: [x, y]` | beside `f` | the items of `f` in that order; those not named keep their places |

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::shape::{ListMerge, Shape};

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// A `$patch` that does not exist, or not there.
    #[error("unknown patch type `{0}`")]
    UnknownType(String),
    /// A directive has a value of another type than it must have.
    #[error("the directive `{0}` must be a list")]
    NoList(String),
    /// A field is set that `$retainKeys` does not name.
    #[error("`$retainKeys` does not name `{0}`, which the patch sets")]
    NotRetained(String),
    /// An item of a list that is merged by keys has none.
    #[error("an item of a list has no value for its merge key {0}")]
    NoKey(String),
}

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN || name.starts_with(DELETE) || name.starts_with(ORDER)
}

/// Applies a patch to an object of that shape.
///
/// # Errors
/// When a directive makes no sense. The object is then in no state to be used.
pub fn apply(shape: &Shape, target: &mut Value, patch: &Value) -> Result<(), StrategicError> {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) if !matches!(shape, Shape::Object { atomic: true, .. }) => {
            merge_map(shape, target, patch)
        }
        (target, patch) => {
            *target = plain(patch);
            Ok(())
        }
    }
}

fn merge_map(shape: &Shape, target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), StrategicError> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = plain_map(patch);
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some(other) => return Err(StrategicError::UnknownType(other.to_owned())),
    }
    if let Some(kept) = patch.get(RETAIN) {
        retain(target, patch, list(kept, RETAIN)?)?;
    }
    for (name, value) in patch.iter().filter(|(name, _)| !is_directive(name)) {
        let below = shape.field(name).unwrap_or(&Shape::Free);
        let directive = format!("{ORDER}{name}");
        let order = patch.get(&directive).map(|order| list(order, &directive)).transpose()?;
        merge_field(below, target, name, value, order)?;
    }
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix(DELETE) {
            let gone: BTreeSet<String> = list(value, name)?.iter().map(Value::to_string).collect();
            if let Some(Value::Array(there)) = target.get_mut(field) {
                there.retain(|item| !gone.contains(&item.to_string()));
            }
        }
        // An order for a list whose items the patch does not change.
        if let Some(field) = name.strip_prefix(ORDER).filter(|field| !patch.contains_key(*field)) {
            let order = list(value, name)?;
            if let (Some(Value::Array(there)), Some(Shape::List { items, merged })) =
                (target.get_mut(field), shape.field(field))
                && *merged != ListMerge::Atomic
            {
                *there = merge_list(items, merged, there, &[], Some(order))?;
            }
        }
    }
    Ok(())
}

fn list<'v>(value: &'v Value, directive: &str) -> Result<&'v [Value], StrategicError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| StrategicError::NoList(directive.to_owned()))
}

fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>, kept: &[Value]) -> Result<(), StrategicError> {
    let kept: BTreeSet<&str> = kept.iter().filter_map(Value::as_str).collect();
    let sets = |(name, value): &(&String, &Value)| !is_directive(name) && !value.is_null();
    match patch.iter().filter(sets).find(|(name, _)| !kept.contains(name.as_str())) {
        Some((name, _)) => Err(StrategicError::NotRetained(name.clone())),
        None => {
            target.retain(|name, _| kept.contains(name.as_str()));
            Ok(())
        }
    }
}

fn merge_field(
    shape: &Shape,
    target: &mut Map<String, Value>,
    name: &str,
    patch: &Value,
    order: Option<&[Value]>,
) -> Result<(), StrategicError> {
    if patch.is_null() {
        target.shift_remove(name);
        return Ok(());
    }
    let there = target.get_mut(name);
    let merged = match (shape, patch) {
        (Shape::List { items, merged }, Value::Array(patch)) if *merged != ListMerge::Atomic => {
            let live = there.as_deref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            Value::Array(merge_list(items, merged, live, patch, order)?)
        }
        _ => match there {
            Some(there) => return apply(shape, there, patch),
            None => plain(patch),
        },
    };
    target.insert(name.to_owned(), merged);
    Ok(())
}

/// Items by what identifies them, in their order.
#[derive(Default)]
struct Items {
    order: Vec<String>,
    by_element: BTreeMap<String, Value>,
}

impl Items {
    fn put(&mut self, element: String, item: Value) {
        if self.by_element.insert(element.clone(), item).is_none() {
            self.order.push(element);
        }
    }
}

/// Merges a list whose items have an identity.
fn merge_list(
    items: &Shape,
    by: &ListMerge,
    live: &[Value],
    patch: &[Value],
    order: Option<&[Value]>,
) -> Result<Vec<Value>, StrategicError> {
    let element = |item: &Value| by.element(item).ok_or_else(|| StrategicError::NoKey(keys(by)));
    let mut merged = Items::default();
    if !patch.iter().any(|item| item[PATCH] == "replace") {
        for item in live {
            merged.put(element(item)?, item.clone());
        }
    }
    let places: BTreeMap<String, usize> =
        live.iter().enumerate().filter_map(|(place, item)| Some((by.element(item)?, place))).collect();
    let mut named = Vec::new();
    for item in patch {
        match item.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            Some("replace") => {}
            Some("delete") => {
                merged.by_element.remove(&element(item)?);
            }
            Some(other) => return Err(StrategicError::UnknownType(other.to_owned())),
            None => {
                let element = element(item)?;
                match merged.by_element.get_mut(&element) {
                    Some(there) => apply(items, there, item)?,
                    None => merged.put(element.clone(), plain(item)),
                }
                named.push(element);
            }
        }
    }
    if let Some(order) = order {
        named = order.iter().map(element).collect::<Result<_, _>>()?;
    }
    Ok(arrange(merged, named, &places))
}

fn keys(by: &ListMerge) -> String {
    match by {
        ListMerge::Map(keys) => keys.join(", "),
        ListMerge::Set | ListMerge::Atomic => String::new(),
    }
}

/// The named items in the order in which they are named, the others between them where they stood in the live list.
fn arrange(mut merged: Items, named: Vec<String>, places: &BTreeMap<String, usize>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let named: Vec<String> =
        named.into_iter().filter(|e| merged.by_element.contains_key(e) && seen.insert(e.clone())).collect();
    let others = merged.order.iter().filter(|e| merged.by_element.contains_key(*e) && !seen.contains(*e));
    let mut others = others.cloned().collect::<Vec<_>>().into_iter().peekable();
    let mut order = Vec::with_capacity(merged.order.len());
    for name in named {
        let stands_before = |other: &String| match (places.get(other), places.get(&name)) {
            (Some(other), Some(place)) => other < place,
            _ => false,
        };
        while let Some(other) = others.next_if(stands_before) {
            order.push(other);
        }
        order.push(name);
    }
    order.extend(others);
    order.into_iter().filter_map(|element| merged.by_element.remove(&element)).collect()
}

/// A value of a patch where there is nothing to merge it with: without directives, and without nulls.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_map(map)),
        Value::Array(list) => list.iter().filter(|item| item.get(PATCH).is_none()).map(plain).collect(),
        other => other.clone(),
    }
}

fn plain_map(map: &Map<String, Value>) -> Map<String, Value> {
    let fields = map.iter().filter(|(name, value)| !is_directive(name) && !value.is_null());
    fields.map(|(name, value)| (name.clone(), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `tags` is a set, `items` is keyed by `id`, `plain` is atomic, `whole` is an atomic object; the rest is free.
    fn shape() -> std::sync::Arc<Shape> {
        let item = json!({"type": "object", "properties": {
            "id": {"type": "string"}, "v": {"type": "integer"}, "w": {"type": "integer"},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        }});
        Shape::compile(&json!({"type": "object", "additionalProperties": true, "properties": {
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"], "items": item},
            "plain": {"type": "array", "items": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        }}))
    }

    fn patched(live: &Value, patch: &Value) -> Result<Value, StrategicError> {
        let mut target = live.clone();
        apply(&shape(), &mut target, patch)?;
        Ok(target)
    }

    #[test]
    fn patches_do_what_kubernetes_does() {
        let abc = json!({"items": [{"id": "a", "v": 1}, {"id": "b", "v": 1}, {"id": "c", "v": 1}]});
        for (live, patch, expected) in [
            // Maps and scalars.
            (
                json!({"m": {"a": 1, "b": 2}, "x": 1}),
                json!({"m": {"b": 3, "c": 4}, "y": 2}),
                json!({"m": {"a": 1, "b": 3, "c": 4}, "x": 1, "y": 2}),
            ),
            (json!({"m": {"a": 1, "b": 2}}), json!({"m": {"a": null, "z": null}}), json!({"m": {"b": 2}})),
            (json!({}), json!({"m": {"a": null, "b": {"c": null}}}), json!({"m": {"b": {}}})),
            (json!({"m": {"a": 1}}), json!({"m": null}), json!({})),
            (json!({"m": {"a": 1}}), json!({"m": [1]}), json!({"m": [1]})),
            (json!({"whole": {"a": "1"}}), json!({"whole": {"b": "2"}}), json!({"whole": {"b": "2"}})),
            // Lists that are replaced.
            (json!({"plain": ["a", "b"]}), json!({"plain": ["c"]}), json!({"plain": ["c"]})),
            // Sets.
            (json!({"tags": ["a", "b"]}), json!({"tags": ["c", "a"]}), json!({"tags": ["c", "a", "b"]})),
            (json!({"tags": ["a", "b"]}), json!({"$deleteFromPrimitiveList/tags": ["a", "z"]}), json!({"tags": ["b"]})),
            (
                json!({"tags": ["a", "b", "c"]}),
                json!({"$setElementOrder/tags": ["c", "d", "b"], "$deleteFromPrimitiveList/tags": ["a"], "tags": ["d"]}),
                json!({"tags": ["c", "d", "b"]}),
            ),
            (json!({}), json!({"tags": ["a", "a"]}), json!({"tags": ["a"]})),
            // Keyed lists.
            (
                abc.clone(),
                json!({"items": [{"id": "b", "v": 2}]}),
                json!({"items": [{"id": "a", "v": 1}, {"id": "b", "v": 2}, {"id": "c", "v": 1}]}),
            ),
            (
                abc.clone(),
                json!({"items": [{"id": "d", "w": 1, "v": null}]}),
                json!({"items": [{"id": "d", "w": 1}, {"id": "a", "v": 1}, {"id": "b", "v": 1}, {"id": "c", "v": 1}]}),
            ),
            (
                abc.clone(),
                json!({"items": [{"id": "b", "$patch": "delete"}, {"id": "a", "v": null}]}),
                json!({"items": [{"id": "a"}, {"id": "c", "v": 1}]}),
            ),
            (abc.clone(), json!({"items": [{"$patch": "replace"}, {"id": "z"}]}), json!({"items": [{"id": "z"}]})),
            (
                abc.clone(),
                json!({"$setElementOrder/items": [{"id": "c"}, {"id": "a"}], "items": [{"id": "a", "w": 1}]}),
                json!({"items": [{"id": "b", "v": 1}, {"id": "c", "v": 1}, {"id": "a", "v": 1, "w": 1}]}),
            ),
            (
                abc.clone(),
                json!({"$setElementOrder/items": [{"id": "c"}, {"id": "b"}, {"id": "a"}]}),
                json!({"items": [{"id": "c", "v": 1}, {"id": "b", "v": 1}, {"id": "a", "v": 1}]}),
            ),
            (
                json!({"items": [{"id": "a", "tags": ["x", "y"]}]}),
                json!({"items": [{"id": "a", "$deleteFromPrimitiveList/tags": ["x"]}]}),
                json!({"items": [{"id": "a", "tags": ["y"]}]}),
            ),
            (
                json!({}),
                json!({"items": [{"id": "a", "$patch": "delete"}, {"id": "b"}]}),
                json!({"items": [{"id": "b"}]}),
            ),
            (abc.clone(), json!({"items": null}), json!({})),
            // Directives of objects.
            (json!({"m": {"a": 1}}), json!({"m": {"$patch": "replace", "b": 2}}), json!({"m": {"b": 2}})),
            (json!({"m": {"a": 1}}), json!({"m": {"$patch": "delete"}}), json!({"m": {}})),
            (json!({"m": {"a": 1}}), json!({"m": {"$patch": "merge", "b": 2}}), json!({"m": {"a": 1, "b": 2}})),
            (
                json!({"m": {"a": 1, "b": 2, "c": 3}}),
                json!({"m": {"$retainKeys": ["a", "d"], "d": 4, "b": null}}),
                json!({"m": {"a": 1, "d": 4}}),
            ),
        ] {
            assert_eq!(patched(&live, &patch), Ok(expected), "{live} with {patch}");
        }
    }

    #[test]
    fn directives_that_make_no_sense_are_refused() {
        let live = json!({"items": [{"id": "a"}], "tags": ["a"], "m": {}});
        for (patch, said) in [
            (json!({"m": {"$patch": "burn"}}), "unknown patch type `burn`"),
            (json!({"items": [{"id": "a", "$patch": "merge"}]}), "unknown patch type `merge`"),
            (json!({"items": [{"v": 1}]}), "an item of a list has no value for its merge key id"),
            (
                json!({"$deleteFromPrimitiveList/tags": "a"}),
                "the directive `$deleteFromPrimitiveList/tags` must be a list",
            ),
            (json!({"$setElementOrder/tags": {}, "tags": []}), "the directive `$setElementOrder/tags` must be a list"),
            (json!({"m": {"$retainKeys": ["a"], "b": 1}}), "`$retainKeys` does not name `b`, which the patch sets"),
        ] {
            assert_eq!(patched(&live, &patch).expect_err("refused").to_string(), said, "{patch}");
        }
    }
}
