//! Sets of field paths, in the form that `managedFields` has on the wire.
//!
//! A set is a trie. An element of a path is kept as the text that Kubernetes writes for it: `f:name` for a field,
//! `k:{"name":"web"}` for an item of a keyed list, `v:"x"` for an item of a set; `.` says that the path that ends here
//! is itself in the set, where other paths go on below it. Keeping the texts makes reading and writing a copy.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// A set of paths below one point of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    below: BTreeMap<String, FieldSet>,
}

/// A `fieldsV1` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no path element: it must begin with `f:`, `k:`, `v:` or `i:`, or be `.`")]
pub struct InvalidFields(String);

/// The element of a field.
pub fn field(name: &str) -> String {
    format!("f:{name}")
}

/// The element of an item of a keyed list; `None` if the item lacks a key.
pub fn keyed(item: &Value, keys: &[String]) -> Option<String> {
    let pairs: Option<BTreeMap<&str, &Value>> =
        keys.iter().map(|key| Some((key.as_str(), item.get(key).filter(|v| !v.is_null())?))).collect();
    Some(format!("k:{}", serde_json::to_string(&pairs?).expect("texts and scalars")))
}

/// The element of an item of a set.
pub fn valued(item: &Value) -> String {
    format!("v:{item}")
}

impl FieldSet {
    /// The set of nothing but the point itself.
    pub fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    /// True if no path is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// True if the point itself is in the set.
    pub fn has_self(&self) -> bool {
        self.member
    }

    /// Puts the point itself into the set.
    pub fn add_self(&mut self) {
        self.member = true;
    }

    /// True if paths go on below the point.
    pub fn goes_deeper(&self) -> bool {
        !self.below.is_empty()
    }

    /// The set below an element.
    pub fn get(&self, element: &str) -> Option<&FieldSet> {
        self.below.get(element)
    }

    /// The elements below the point, with their sets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FieldSet)> {
        self.below.iter().map(|(element, set)| (element.as_str(), set))
    }

    /// Adds every path of `set` below `element`.
    pub fn put(&mut self, element: String, set: FieldSet) {
        if set.is_empty() {
            return;
        }
        match self.below.get_mut(&element) {
            Some(there) => there.merge(set),
            None => {
                self.below.insert(element, set);
            }
        }
    }

    /// Takes away the point that `path` leads to and everything below it.
    pub fn cut(&mut self, path: &[&str]) {
        match path {
            [] => *self = Self::default(),
            [last] => {
                self.below.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(set) = self.below.get_mut(*first) {
                    set.cut(rest);
                    if set.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// Only what lies below the top-level field `name`.
    pub fn only(&self, name: &str) -> FieldSet {
        let element = field(name);
        let kept = self.below.get(&element).cloned();
        Self { member: false, below: kept.into_iter().map(|set| (element.clone(), set)).collect() }
    }

    /// Adds every path of `other`.
    pub fn merge(&mut self, other: FieldSet) {
        self.member |= other.member;
        for (element, set) in other.below {
            self.put(element, set);
        }
    }

    /// Takes away every path of `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        for (element, theirs) in &other.below {
            if let Some(mine) = self.below.get_mut(element) {
                mine.subtract(theirs);
                if mine.is_empty() {
                    self.below.remove(element);
                }
            }
        }
    }

    /// The paths of either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut all = self.clone();
        all.merge(other.clone());
        all
    }

    /// The paths of both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let (few, many) = if self.below.len() < other.below.len() { (self, other) } else { (other, self) };
        let both = few.below.iter().filter_map(|(element, mine)| {
            let shared = mine.intersection(many.below.get(element)?);
            (!shared.is_empty()).then(|| (element.clone(), shared))
        });
        Self { member: self.member && other.member, below: both.collect() }
    }

    /// The paths that are not in `other`.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// Every path, as Kubernetes prints it in conflicts: `.spec.env[name="A"].value`.
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect("", &mut found);
        found
    }

    fn collect(&self, prefix: &str, found: &mut Vec<String>) {
        if self.member {
            found.push(prefix.to_owned());
        }
        for (element, set) in &self.below {
            set.collect(&format!("{prefix}{}", printed(element)), found);
        }
    }

    /// The form on the wire.
    pub fn to_fields_v1(&self) -> Value {
        let dot = (self.member && !self.below.is_empty()).then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self.below.iter().map(|(element, set)| (element.clone(), set.to_fields_v1()));
        Value::Object(dot.into_iter().chain(below).collect())
    }

    /// Reads the form on the wire.
    ///
    /// # Errors
    /// When a key is no path element, or a value is not an object.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, InvalidFields> {
        let mut set = Self::read(fields)?;
        if !set.goes_deeper() {
            set.member = false;
        }
        Ok(set)
    }

    fn read(fields: &Value) -> Result<Self, InvalidFields> {
        let map = fields.as_object().ok_or_else(|| InvalidFields(fields.to_string()))?;
        let mut set = Self { member: map.is_empty(), below: BTreeMap::new() };
        for (element, below) in map {
            match element.as_str() {
                "." => set.member = true,
                element => set.put(canonical(element)?, Self::read(below)?),
            }
        }
        Ok(set)
    }
}

/// The element with its JSON written as this module writes it, so that elements can be compared as texts.
fn canonical(element: &str) -> Result<String, InvalidFields> {
    let wrong = || InvalidFields(element.to_owned());
    match element.split_once(':').ok_or_else(wrong)? {
        ("f" | "i", _) => Ok(element.to_owned()),
        ("v", json) => {
            let value: Value = serde_json::from_str(json).map_err(|_| wrong())?;
            Ok(valued(&value))
        }
        ("k", json) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(json).map_err(|_| wrong())?;
            Ok(format!("k:{}", serde_json::to_string(&keys).expect("texts and scalars")))
        }
        _ => Err(wrong()),
    }
}

/// An element as conflicts print it.
fn printed(element: &str) -> String {
    match element.split_once(':') {
        Some(("k", json)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(json).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some(("v", json)) => format!("[={json}]"),
        Some(("i", at)) => format!("[{at}]"),
        Some((_, name)) => format!(".{name}"),
        None => element.to_owned(),
    }
}

impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paths().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::from_fields_v1(&fields).expect("valid")
    }

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let fields = json!({
            "f:metadata": {"f:finalizers": {".": {}, "v:\"a\"": {}}},
            "f:spec": {"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:value": {}}}, "f:replicas": {}},
        });
        insta::assert_snapshot!(set(fields), @r#"
        .metadata.finalizers
        .metadata.finalizers[="a"]
        .spec.env[name="A"]
        .spec.env[name="A"].value
        .spec.replicas
        "#);
    }

    #[test]
    fn keys_compare_equal_however_their_json_is_written() {
        let spaced = set(json!({"f:a": {"k:{ \"y\": 1, \"x\": \"s\" }": {}}}));
        assert_eq!(spaced, set(json!({"f:a": {"k:{\"x\":\"s\",\"y\":1}": {}}})));
    }

    #[test]
    fn an_element_without_its_letter_is_refused() {
        for bad in [json!({"spec": {}}), json!({"x:spec": {}}), json!({"v:nonsense": {}}), json!({"f:a": 1})] {
            assert!(FieldSet::from_fields_v1(&bad).is_err(), "{bad}");
        }
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        let leaf = any::<bool>().prop_map(|member| FieldSet { member, below: BTreeMap::new() });
        let tree = leaf.prop_recursive(4, 24, 4, |below| {
            (any::<bool>(), prop::collection::btree_map("[fv]:[0-9]", below, 0..4)).prop_map(|(member, below)| {
                let below = below.into_iter().filter(|(_, set)| !set.is_empty()).collect();
                FieldSet { member, below }
            })
        });
        tree.prop_map(|mut set| {
            set.member = false;
            set
        })
    }

    proptest! {
        #[test]
        fn the_wire_form_reads_back(a in sets()) {
            prop_assert_eq!(set(a.to_fields_v1()), a);
        }

        #[test]
        fn sets_obey_the_laws_of_sets(a in sets(), b in sets()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&a), a);
        }
    }
}
