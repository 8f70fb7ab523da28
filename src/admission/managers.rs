//! Field management: who owns which field, and what a server-side apply may change.
//!
//! The rules are Kubernetes' own. An *apply* says what its manager wants: fields that it no longer names go unless
//! somebody else owns them, and a field that another manager set to another value is a conflict. Every other write is an
//! *update*: what it changes becomes its manager's, and is taken from all others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::policy::{
    fields::{FieldSet, field},
    merge::{Difference, compare, fields_of, merge, remove},
    shape::Shape,
};

/// Most `Update` entries; older ones are united.
const MAX_UPDATERS: usize = 10;

/// Who writes, in the terms of a `managedFields` entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer<'a> {
    /// The field manager.
    pub(super) manager: &'a str,
    /// The stored form's version, in which the fields are written.
    pub(super) api_version: &'a str,
    /// `status`, `scale`, or empty.
    pub(super) subresource: &'a str,
    /// RFC 3339.
    pub(super) now: &'a str,
}

/// What tells two entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    /// `Apply` sorts before `Update`.
    operation: String,
    manager: String,
    api_version: String,
    subresource: String,
}

#[derive(Clone, Debug)]
struct Entry {
    time: String,
    fields: FieldSet,
}

/// The `managedFields` of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(BTreeMap<Id, Entry>);

/// Fields of another manager that an apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The other manager, as Kubernetes prints it.
    pub(super) manager: String,
    /// The paths.
    pub(super) paths: Vec<String>,
}

impl Managers {
    /// Reads `metadata.managedFields`; `None` if it cannot be read. No list at all is an empty one.
    pub(super) fn read<'de>(list: Option<impl serde::Deserializer<'de>>) -> Option<Self> {
        let Some(list) = list else { return Some(Self::default()) };
        let mut managers = Self::default();
        for said in Option::<Vec<Said>>::deserialize(list).ok()?.unwrap_or_default() {
            // A list of one empty entry resets them.
            if said.says_nothing() {
                continue;
            }
            let operation = said.operation.filter(|said| matches!(said.as_str(), "Apply" | "Update"))?;
            let id = Id {
                operation,
                manager: said.manager.unwrap_or_default(),
                api_version: said.api_version.unwrap_or_default(),
                subresource: said.subresource.unwrap_or_default(),
            };
            let fields = FieldSet::from_fields_v1(said.fields_v1.unwrap_or_default());
            managers.0.insert(id, Entry { time: said.time.unwrap_or_default(), fields });
        }
        Some(managers)
    }

    /// The entries that a written object should be judged with: those the client wrote, or the live ones where it wrote
    /// none that can be read.
    pub(super) fn after_write(written: &Value, live: impl FnOnce() -> Option<Self>) -> Self {
        let said = written.as_array().filter(|list| !list.is_empty());
        said.and_then(|_| Self::read(Some(written))).or_else(live).unwrap_or_default()
    }

    /// The list for `metadata.managedFields`.
    pub(super) fn to_json(&self) -> Box<RawValue> {
        let mut entries: Vec<(&Id, &Entry)> = self.0.iter().collect();
        entries.sort_by_key(|(id, entry)| (&id.operation, &entry.time, *id));
        let wire: Vec<Wire<'_>> = entries.into_iter().map(|(id, entry)| Wire::of(id, entry)).collect();
        serde_json::value::to_raw_value(&wire).expect("texts")
    }

    /// True if both own the same fields, whenever they came to.
    pub(super) fn own_the_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(id, entry)| other.0.get(id).is_some_and(|o| o.fields == entry.fields))
    }

    /// Records what an update changed.
    pub(super) fn update(&mut self, shape: &Shape, live: &Value, new: &Value, writer: Writer<'_>) {
        let difference = compare(shape, live, new);
        let mine = id("Update", writer);
        let before = self.0.get(&mine).cloned();
        self.take_from_all(&difference);
        let mut fields = before.as_ref().map(|e| e.fields.difference(&difference.removed)).unwrap_or_default();
        fields.merge(ownable(difference.changed));
        self.set(mine, before, fields, writer.now);
        self.unite_old_updaters();
        self.drop_empty();
    }

    /// Puts an applied object over the live one.
    ///
    /// # Errors
    /// The conflicts, unless `force` takes the fields.
    pub(super) fn apply(
        &mut self,
        shape: &Shape,
        live: &Value,
        applied: &Value,
        force: bool,
        writer: Writer<'_>,
    ) -> Result<Value, Vec<Conflict>> {
        let mine = id("Apply", writer);
        let wanted = ownable(fields_of(shape, applied));
        let before = self.0.get(&mine).cloned();
        let merged = merge(shape, live, applied);
        let mut gone = before.as_ref().map(|e| e.fields.difference(&wanted)).unwrap_or_default();
        let others = || self.0.iter().filter(|(id, _)| **id != mine).map(|(_, entry)| &entry.fields);
        others().for_each(|fields| gone.subtract(fields));
        let merged = if gone.is_empty() {
            merged
        } else {
            let kept = others().fold(wanted.clone(), |kept, fields| kept.union(fields));
            remove(shape, &merged, &gone, &kept).expect("an object itself is never owned")
        };
        let difference = compare(shape, live, &merged);
        let conflicts = self.conflicts(&mine, &difference.changed);
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        self.take_from_all(&difference);
        self.set(mine, before, wanted, writer.now);
        self.drop_empty();
        Ok(merged)
    }

    /// What was changed or removed belongs to nobody any more.
    fn take_from_all(&mut self, difference: &Difference) {
        for entry in self.0.values_mut() {
            entry.fields.subtract(&difference.changed);
            entry.fields.subtract(&difference.removed);
        }
    }

    /// Makes up an owner for an object that has none, so that an apply does not silently take everything.
    pub(super) fn adopt_unmanaged(&mut self, shape: &Shape, live: &Value, writer: Writer<'_>) {
        if self.0.is_empty() {
            let unknown = Writer { manager: "before-first-apply", ..writer };
            self.set(id("Update", unknown), None, ownable(fields_of(shape, live)), writer.now);
        }
    }

    fn conflicts(&self, mine: &Id, changed: &FieldSet) -> Vec<Conflict> {
        let others = self.0.iter().filter(|(id, _)| *id != mine);
        let hit = others.filter_map(|(id, entry)| {
            let paths = entry.fields.intersection(changed).paths();
            (!paths.is_empty()).then(|| Conflict { manager: shown(id, entry), paths })
        });
        hit.collect()
    }

    /// The time stays where the fields stay.
    fn set(&mut self, id: Id, before: Option<Entry>, fields: FieldSet, now: &str) {
        let time = match before {
            Some(before) if before.fields == fields => before.time,
            _ => now.to_owned(),
        };
        self.0.insert(id, Entry { time, fields });
    }

    fn drop_empty(&mut self) {
        self.0.retain(|_, entry| !entry.fields.is_empty());
    }

    fn unite_old_updaters(&mut self) {
        let is_updater = |id: &Id| id.operation == "Update" && id.subresource.is_empty();
        let mut updaters: Vec<(String, Id)> =
            self.0.iter().filter(|(id, _)| is_updater(id)).map(|(id, e)| (e.time.clone(), id.clone())).collect();
        if updaters.len() <= MAX_UPDATERS {
            return;
        }
        updaters.sort();
        for (time, old) in updaters.drain(..updaters.len() - MAX_UPDATERS + 1) {
            let Some(entry) = self.0.remove(&old) else { continue };
            let bucket = Id { manager: "ancient-changes".to_owned(), ..old };
            let united = self.0.entry(bucket).or_insert_with(|| Entry { time, fields: FieldSet::default() });
            united.fields.merge(entry.fields);
        }
    }
}

fn id(operation: &str, writer: Writer<'_>) -> Id {
    Id {
        operation: operation.to_owned(),
        manager: writer.manager.to_owned(),
        api_version: writer.api_version.to_owned(),
        subresource: writer.subresource.to_owned(),
    }
}

/// An entry as somebody wrote it.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Said {
    manager: Option<String>,
    operation: Option<String>,
    api_version: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields_v1: Option<FieldSet>,
    time: Option<String>,
    subresource: Option<String>,
}

impl Said {
    fn says_nothing(&self) -> bool {
        let texts = [&self.manager, &self.operation, &self.api_version, &self.time, &self.subresource];
        texts.iter().all(|text| text.is_none()) && self.fields_v1.is_none()
    }
}

/// An entry as it is served.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    manager: &'a str,
    operation: &'a str,
    api_version: &'a str,
    fields_type: &'static str,
    #[serde(rename = "fieldsV1")]
    fields_v1: &'a FieldSet,
    #[serde(skip_serializing_if = "str::is_empty")]
    time: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
}

impl<'a> Wire<'a> {
    fn of(id: &'a Id, entry: &'a Entry) -> Self {
        Self {
            manager: &id.manager,
            operation: &id.operation,
            api_version: &id.api_version,
            fields_type: "FieldsV1",
            fields_v1: &entry.fields,
            time: &entry.time,
            subresource: &id.subresource,
        }
    }
}

/// `"kubectl" using appm.dev/v1`, with time for updates, which have no other identity.
fn shown(id: &Id, entry: &Entry) -> String {
    let subresource = match id.subresource.as_str() {
        "" => String::new(),
        subresource => format!(" with subresource {subresource:?}"),
    };
    let at =
        if id.operation == "Update" && !entry.time.is_empty() { format!(" at {}", entry.time) } else { String::new() };
    format!("{:?}{subresource} using {}{at}", id.manager, id.api_version)
}

/// What nobody owns: the names of things, and what the server alone writes.
const SERVERS_OWN: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

fn ownable(mut fields: FieldSet) -> FieldSet {
    fields.cut(&["f:apiVersion"]);
    fields.cut(&["f:kind"]);
    for name in SERVERS_OWN {
        fields.cut(&["f:metadata", &field(name)]);
    }
    fields.cut(&["f:metadata", "f:annotations", &field(crate::api::OWNER)]);
    fields
}

#[cfg(test)]
#[path = "managers_tests.rs"]
mod tests;
