//! Merging objects: what a server-side apply makes of two objects, and which fields differ between them.
//!
//! The rules are those of Kubernetes' structured-merge-diff: objects field by field, keyed lists item by item, sets
//! value by value, the rest whole. Who owns what is decided elsewhere (`admission`); here are only values and sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    fields::{FieldSet, field},
    shape::{ListMerge, Shape},
};

/// The fields that an applied object speaks of: its leaves, and every item of its keyed lists and open maps.
pub fn fields_of(shape: &Shape, value: &Value) -> FieldSet {
    match (shape, value) {
        (Shape::Object { atomic: false, fields, .. }, Value::Object(map)) => {
            fields_of_map(map, |name| (shape.field(name), fields.contains_key(name)))
        }
        (Shape::Free, Value::Object(map)) => fields_of_map(map, |_| (Some(&Shape::Free), false)),
        (Shape::List { items, merged }, Value::Array(list)) => match merged.elements(list) {
            Some(elements) => FieldSet::below(elements.into_iter().zip(list).map(|(element, item)| {
                let mut below = match merged {
                    ListMerge::Map(_) => fields_of(items, item),
                    _ => FieldSet::default(),
                };
                below.add_self();
                (element, below)
            })),
            None => FieldSet::leaf(),
        },
        _ => FieldSet::leaf(),
    }
}

fn fields_of_map<'a>(map: &Map<String, Value>, shape_of: impl Fn(&str) -> (Option<&'a Shape>, bool)) -> FieldSet {
    FieldSet::below(map.iter().map(|(name, value)| {
        let (shape, declared) = shape_of(name);
        let mut below = fields_of(shape.unwrap_or(&Shape::Free), value);
        if !declared || is_empty_object(value) {
            below.add_self();
        }
        (field(name), below)
    }))
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// What differs between two versions of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields that are new or have another value.
    pub changed: FieldSet,
    /// Fields that are gone, the structures that held them included.
    pub removed: FieldSet,
}

impl Difference {
    /// What differs below each of these elements.
    fn below(elements: Vec<(String, Difference)>) -> Self {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for (element, difference) in elements {
            if !difference.changed.is_empty() {
                changed.push((element.clone(), difference.changed));
            }
            removed.push((element, difference.removed));
        }
        Self { changed: FieldSet::below(changed), removed: FieldSet::below(removed) }
    }

    fn changed(changed: FieldSet) -> Self {
        Self { changed, removed: FieldSet::default() }
    }

    fn removed(removed: FieldSet) -> Self {
        Self { changed: FieldSet::default(), removed }
    }
}

/// Compares two versions.
pub fn compare(shape: &Shape, old: &Value, new: &Value) -> Difference {
    if old == new { Difference::default() } else { differ(shape, old, new) }
}

/// Compares two versions that are not the same.
fn differ(shape: &Shape, old: &Value, new: &Value) -> Difference {
    match (shape, old, new) {
        (Shape::Object { atomic: false, .. } | Shape::Free, Value::Object(old), Value::Object(new)) => {
            compare_maps(shape, old, new)
        }
        (Shape::List { items, merged }, Value::Array(old), Value::Array(new)) => {
            match (merged.elements(old), merged.elements(new)) {
                (Some(old_elements), Some(new_elements)) => {
                    let old: BTreeMap<String, &Value> = old_elements.into_iter().zip(old).collect();
                    let new: BTreeMap<String, &Value> = new_elements.into_iter().zip(new).collect();
                    compare_items(items, &old, &new)
                }
                _ => Difference::changed(FieldSet::leaf()),
            }
        }
        (_, old, new) => {
            let mut changed = fields_of(shape, new);
            changed.add_self();
            let removed = everything_in(shape, old).difference(&changed);
            Difference { changed, removed }
        }
    }
}

fn compare_maps(shape: &Shape, old: &Map<String, Value>, new: &Map<String, Value>) -> Difference {
    let mut differences = Vec::new();
    for (name, new_value) in new {
        let below_shape = shape.field(name).unwrap_or(&Shape::Free);
        match old.get(name) {
            Some(old_value) if old_value == new_value => {}
            Some(old_value) => differences.push((field(name), differ(below_shape, old_value, new_value))),
            None => differences.push((field(name), Difference::changed(appeared(shape, name, new_value)))),
        }
    }
    for (name, old_value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        let gone = everything_in(shape.field(name).unwrap_or(&Shape::Free), old_value);
        differences.push((field(name), Difference::removed(gone)));
    }
    Difference::below(differences)
}

/// The fields below a field that is new.
fn appeared(shape: &Shape, name: &str, value: &Value) -> FieldSet {
    let mut set = fields_of(shape.field(name).unwrap_or(&Shape::Free), value);
    if !shape.declares(name) || is_empty_object(value) {
        set.add_self();
    }
    set
}

fn compare_items(items: &Shape, old: &BTreeMap<String, &Value>, new: &BTreeMap<String, &Value>) -> Difference {
    let mut differences = Vec::new();
    for (element, new_item) in new {
        let difference = match old.get(element) {
            Some(old_item) => compare(items, old_item, new_item),
            None => {
                let mut set = if element.starts_with("k:") { fields_of(items, new_item) } else { FieldSet::default() };
                set.add_self();
                Difference::changed(set)
            }
        };
        differences.push((element.clone(), difference));
    }
    for (element, old_item) in old.iter().filter(|(element, _)| !new.contains_key(*element)) {
        differences.push((element.clone(), Difference::removed(everything_in(items, old_item))));
    }
    Difference::below(differences)
}

/// Every path into a value, the structures on the way included.
fn everything_in(shape: &Shape, value: &Value) -> FieldSet {
    let mut set = match (shape, value) {
        (Shape::Object { atomic: false, .. } | Shape::Free, Value::Object(map)) => FieldSet::below(
            map.iter()
                .map(|(name, value)| (field(name), everything_in(shape.field(name).unwrap_or(&Shape::Free), value))),
        ),
        (Shape::List { items, merged }, Value::Array(list)) => {
            let elements = merged.elements(list).into_iter().flatten().zip(list);
            FieldSet::below(elements.map(|(element, item)| (element, everything_in(items, item))))
        }
        _ => FieldSet::default(),
    };
    set.add_self();
    set
}

/// The live object with what `applied` says put over it.
pub fn merge(shape: &Shape, live: &Value, applied: &Value) -> Value {
    match (shape, live, applied) {
        (Shape::Object { atomic: false, .. } | Shape::Free, Value::Object(live), Value::Object(applied)) => {
            let kept = live.iter().map(|(name, live)| {
                let below = shape.field(name).unwrap_or(&Shape::Free);
                (name, applied.get(name).map_or_else(|| live.clone(), |value| merge(below, live, value)))
            });
            let new = applied.iter().filter(|(name, _)| !live.contains_key(*name));
            let new = new.map(|(name, value)| (name, value.clone()));
            Value::Object(kept.chain(new).map(|(name, value)| (name.clone(), value)).collect())
        }
        (Shape::List { items, merged }, Value::Array(live), Value::Array(applied)) => {
            match (merged.elements(live), merged.elements(applied)) {
                (Some(live_elements), Some(applied_elements)) => {
                    let live: Vec<_> = live_elements.into_iter().zip(live).collect();
                    let applied: Vec<_> = applied_elements.into_iter().zip(applied).collect();
                    Value::Array(merge_items(items, &live, &applied))
                }
                _ => Value::Array(applied.clone()),
            }
        }
        _ => applied.clone(),
    }
}

/// Items that only the live list has keep their place before the next shared item; the applied order holds otherwise.
fn merge_items(items: &Shape, live: &[(String, &Value)], applied: &[(String, &Value)]) -> Vec<Value> {
    let in_live: BTreeMap<&str, &Value> = live.iter().map(|(e, v)| (e.as_str(), *v)).collect();
    let place: BTreeMap<&str, usize> = applied.iter().enumerate().map(|(i, (e, _))| (e.as_str(), i)).collect();
    let put = |(element, item): &(String, &Value)| match in_live.get(element.as_str()) {
        Some(old) => merge(items, old, item),
        None => (*item).clone(),
    };
    let mut out = Vec::with_capacity(live.len() + applied.len());
    let mut next = 0;
    for (element, item) in live {
        match place.get(element.as_str()) {
            None => out.push((*item).clone()),
            Some(&at) => {
                while next <= at {
                    out.push(put(&applied[next]));
                    next += 1;
                }
            }
        }
    }
    out.extend(applied[next..].iter().map(put));
    out
}

/// Takes the fields of `gone` out of a value, except what lies on the way to a field of `kept`.
///
/// Structures that become empty by it go too. `None` if nothing is left of the value itself.
pub fn remove(shape: &Shape, value: &Value, gone: &FieldSet, kept: &FieldSet) -> Option<Value> {
    if gone.has_self() && kept.is_empty() {
        return None;
    }
    if !gone.goes_deeper() {
        return Some(value.clone());
    }
    let nothing = FieldSet::default();
    match (shape, value) {
        (Shape::Object { .. } | Shape::Free, Value::Object(map)) => {
            let left: Map<String, Value> = map
                .iter()
                .filter_map(|(name, value)| {
                    let element = field(name);
                    let Some(gone) = gone.get(&element) else { return Some((name.clone(), value.clone())) };
                    let below = shape.field(name).unwrap_or(&Shape::Free);
                    Some((name.clone(), remove(below, value, gone, kept.get(&element).unwrap_or(&nothing))?))
                })
                .collect();
            (!left.is_empty() || map.is_empty() || kept.has_self()).then_some(Value::Object(left))
        }
        (Shape::List { items, merged }, Value::Array(list)) => {
            let left: Vec<Value> = list
                .iter()
                .filter_map(|item| {
                    let element = merged.element(item)?;
                    let Some(gone) = gone.get(&element) else { return Some(item.clone()) };
                    let left = remove(items, item, gone, kept.get(&element).unwrap_or(&nothing))?;
                    Some(merged.with_keys(left, item))
                })
                .collect();
            (!left.is_empty() || kept.has_self()).then_some(Value::Array(left))
        }
        _ => Some(value.clone()),
    }
}

/// RFC 7386: null takes a field away, objects are merged, everything else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { unreachable!("made an object above") };
    for (name, value) in patch {
        if value.is_null() {
            map.shift_remove(name);
        } else {
            merge_patch(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
