//! Sets of field paths, in the form that `managedFields` has on the wire.
//!
//! A set is a trie. An element of a path is kept as the text that Kubernetes writes for it: `f:name` for a field,
//! `k:{"name":"web"}` for an item of a keyed list, `v:"x"` for an item of a set; `.` says that the path that ends here
//! is itself in the set, where other paths go on below it. Keeping the texts makes reading and writing a copy, and both go
//! straight from and to JSON: with every write of an object all its sets are read and written once.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

/// A set of paths below one point of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    /// Sorted by element, each once, none empty.
    below: Vec<(Element, FieldSet)>,
}

type Element = Box<str>;

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
        Self { member: true, below: Vec::new() }
    }

    /// The paths of each set below its element.
    pub fn below(elements: impl IntoIterator<Item = (String, FieldSet)>) -> Self {
        let some = elements.into_iter().filter(|(_, set)| !set.is_empty());
        Self { member: false, below: sorted(some.map(|(element, set)| (element.into(), set)).collect()) }
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
        Some(&self.below[self.find(element).ok()?].1)
    }

    fn find(&self, element: &str) -> Result<usize, usize> {
        self.below.binary_search_by(|(known, _)| (**known).cmp(element))
    }

    /// The part of a value that is in the set: whole where a path ends, and of items of keyed lists their keys too. `None` if nothing of
    /// it is there.
    pub fn pick(&self, value: &Value) -> Option<Value> {
        if self.below.is_empty() {
            return self.member.then(|| value.clone());
        }
        let picked = match value {
            Value::Object(map) => {
                let fields = self.below.iter().filter_map(|(element, set)| {
                    let name = element.strip_prefix("f:")?;
                    Some((name.to_owned(), set.pick(map.get(name)?)?))
                });
                Value::Object(fields.collect())
            }
            Value::Array(items) => items.iter().filter_map(|item| self.pick_item(item)).collect(),
            other => return self.member.then(|| other.clone()),
        };
        let is_empty = picked.as_object().is_some_and(|map| map.is_empty()) || picked == Value::Array(Vec::new());
        (!is_empty || self.member).then_some(picked)
    }

    fn pick_item(&self, item: &Value) -> Option<Value> {
        self.below.iter().find_map(|(element, set)| {
            if let Some(text) = element.strip_prefix("v:") {
                return serde_json::from_str::<Value>(text).is_ok_and(|value| value == *item).then(|| item.clone());
            }
            let keys: serde_json::Map<String, Value> = serde_json::from_str(element.strip_prefix("k:")?).ok()?;
            if !keys.iter().all(|(key, value)| item.get(key) == Some(value)) {
                return None;
            }
            match set.pick(item)? {
                Value::Object(mut picked) => {
                    picked.extend(keys);
                    Some(Value::Object(picked))
                }
                other => Some(other),
            }
        })
    }

    /// Takes away the point that `path` leads to and everything below it.
    pub fn cut(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            *self = Self::default();
            return;
        };
        let Ok(at) = self.find(first) else { return };
        self.below[at].1.cut(rest);
        if self.below[at].1.is_empty() {
            self.below.remove(at);
        }
    }

    /// Adds every path of `other`.
    pub fn merge(&mut self, other: FieldSet) {
        self.member |= other.member;
        if self.below.is_empty() {
            self.below = other.below;
        } else if !other.below.is_empty() {
            self.below.extend(other.below);
            self.below = sorted(std::mem::take(&mut self.below));
        }
    }

    /// Takes away every path of `other`.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        if self.below.is_empty() || other.below.is_empty() {
            return;
        }
        let mut theirs = other.below.iter().peekable();
        self.below.retain_mut(|(element, mine)| {
            while theirs.next_if(|(their, _)| *their < *element).is_some() {}
            if let Some((_, set)) = theirs.next_if(|(their, _)| *their == *element) {
                mine.subtract(set);
            }
            !mine.is_empty()
        });
    }

    /// The paths of either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut all = self.clone();
        all.merge(other.clone());
        all
    }

    /// The paths of both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = Vec::new();
        let (mut mine, mut theirs) = (self.below.iter().peekable(), other.below.iter().peekable());
        while let (Some((element, set)), Some((their, other))) = (mine.peek(), theirs.peek()) {
            match element.cmp(their) {
                Ordering::Less => drop(mine.next()),
                Ordering::Greater => drop(theirs.next()),
                Ordering::Equal => {
                    let shared = set.intersection(other);
                    if !shared.is_empty() {
                        both.push((element.clone(), shared));
                    }
                    mine.next();
                    theirs.next();
                }
            }
        }
        Self { member: self.member && other.member, below: both }
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

    /// What `fieldsV1` says: the object itself is never a member.
    pub fn from_fields_v1(mut fields: FieldSet) -> Self {
        fields.member &= fields.goes_deeper();
        fields
    }
}

/// Sorted by element; what comes twice is united.
fn sorted(mut below: Vec<(Element, FieldSet)>) -> Vec<(Element, FieldSet)> {
    if below.is_sorted_by(|(a, _), (b, _)| a < b) {
        return below;
    }
    below.sort_by(|(a, _), (b, _)| a.cmp(b));
    below.dedup_by(|(later, more), (earlier, set)| {
        let same = later == earlier;
        if same {
            set.merge(std::mem::take(more));
        }
        same
    });
    below
}

/// The form on the wire.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.member && self.goes_deeper() {
            map.serialize_entry(".", &FieldSet::default())?;
        }
        for (element, set) in &self.below {
            map.serialize_entry(element, set)?;
        }
        map.end()
    }
}

/// As it stands on the wire, where `{}` is a member.
impl<'de> Deserialize<'de> for FieldSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = FieldSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a set of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldSet, A::Error> {
                let (mut dot, mut below) = (false, Vec::new());
                while let Some(PathElement(element)) = map.next_key()? {
                    if &*element == "." {
                        map.next_value::<IgnoredAny>()?;
                        dot = true;
                    } else {
                        below.push((element, map.next_value()?));
                    }
                }
                Ok(FieldSet { member: dot || below.is_empty(), below: sorted(below) })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// An element as this module writes it, so that elements can be compared as texts.
struct PathElement(Element);

impl<'de> Deserialize<'de> for PathElement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = PathElement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path element")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PathElement, E> {
                if text == "." {
                    return Ok(PathElement(text.into()));
                }
                canonical(text).map(|element| PathElement(element.into())).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
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
        FieldSet::from_fields_v1(serde_json::from_value(fields).expect("valid"))
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
            assert!(serde_json::from_value::<FieldSet>(bad.clone()).is_err(), "{bad}");
        }
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        let leaf = any::<bool>().prop_map(|member| FieldSet { member, below: Vec::new() });
        let tree = leaf.prop_recursive(4, 24, 4, |below| {
            (any::<bool>(), prop::collection::btree_map("[fv]:[0-9]", below, 0..4))
                .prop_map(|(member, below)| FieldSet { member, ..FieldSet::below(below) })
        });
        tree.prop_map(|mut set| {
            set.member = false;
            set
        })
    }

    proptest! {
        #[test]
        fn the_wire_form_reads_back(a in sets()) {
            prop_assert_eq!(set(serde_json::to_value(&a).expect("json")), a);
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
