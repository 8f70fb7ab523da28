//! The shape of a kind: what of its JSON Schema merging needs, compiled once.
//!
//! A shape says of every field whether it is merged or replaced whole, by which keys a list is merged, and which fields
//! there are. Lists are atomic unless the schema declares `x-kubernetes-list-type`, as in Kubernetes. Null stands for
//! "absent" in every declared field, so it is taken out before anything is compared.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::api::{FieldPath, Problem, Violation};

/// Unknown fields that are told.
const MOST_TOLD: usize = 100;
/// Longer names are nobody's slip of the pen.
const LONGEST_SLIP: usize = 64;

/// How one value is merged.
#[derive(Debug)]
pub enum Shape {
    /// A scalar, or a structure that is replaced whole.
    Atomic,
    /// Anything at all: objects are merged field by field, the rest is replaced.
    Free,
    /// An object.
    Object {
        /// The declared fields.
        fields: BTreeMap<String, Arc<Shape>>,
        /// The shape of all other fields, where the schema admits any.
        others: Option<Arc<Shape>>,
        /// True if it is replaced whole.
        atomic: bool,
    },
    /// A list.
    List {
        /// The shape of its items.
        items: Arc<Shape>,
        /// How it is merged.
        merged: ListMerge,
    },
}

/// How a list is merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMerge {
    /// It is replaced whole.
    Atomic,
    /// Each value is there once.
    Set,
    /// Items are known by the values of these fields.
    Map(Vec<String>),
}

impl Shape {
    /// Compiles a JSON Schema with its `$defs`.
    pub fn compile(schema: &Value) -> Arc<Shape> {
        Compiler { root: schema, open: Vec::new() }.shape(schema)
    }

    /// The shape of a field of an object.
    pub fn field(&self, name: &str) -> Option<&Shape> {
        match self {
            Shape::Object { fields, others, .. } => fields.get(name).or(others.as_ref()).map(|s| &**s),
            Shape::Free => Some(&Shape::Free),
            _ => None,
        }
    }

    /// True if the schema declares the field by name.
    pub fn declares(&self, name: &str) -> bool {
        matches!(self, Shape::Object { fields, .. } if fields.contains_key(name))
    }

    /// Takes out every declared field that is null.
    pub fn drop_nulls(&self, value: &mut Value) {
        match (self, value) {
            (Shape::Object { fields, others, .. }, Value::Object(map)) => {
                map.retain(|name, value| !(value.is_null() && fields.contains_key(name)));
                for (name, value) in map {
                    if let Some(shape) = fields.get(name).or(others.as_ref()) {
                        shape.drop_nulls(value);
                    }
                }
            }
            (Shape::List { items, .. }, Value::Array(list)) => list.iter_mut().for_each(|item| items.drop_nulls(item)),
            _ => {}
        }
    }

    /// True if the schema knows every field: mostly so, and asked without a copy.
    pub fn knows(&self, value: &Value) -> bool {
        match (self, value) {
            (Shape::Object { fields, others, .. }, Value::Object(map)) => map.iter().all(|(name, value)| {
                let known = fields.get(name).or(others.as_ref());
                known.is_some_and(|shape| shape.knows(value))
            }),
            (Shape::List { items, .. }, Value::Array(list)) => list.iter().all(|item| items.knows(item)),
            _ => true,
        }
    }

    /// Takes out every field that the schema does not know, and says which; the first hundred of them.
    pub fn take_unknown(&self, value: &mut Value) -> Vec<Violation> {
        let mut found = Vec::new();
        self.unknown(value, &FieldPath::root(), &mut found);
        found
    }

    fn unknown(&self, value: &mut Value, at: &FieldPath, found: &mut Vec<Violation>) {
        match (self, value) {
            (Shape::Object { fields, others, .. }, Value::Object(map)) => map.retain(|name, value| {
                let known = fields.get(name).or(others.as_ref());
                match known {
                    Some(shape) => shape.unknown(value, &at.field(name), found),
                    None if found.len() >= MOST_TOLD => {}
                    None => found.push(Violation::new(at.field(name), Problem::Unknown, meant(name, fields.keys()))),
                }
                known.is_some()
            }),
            (Shape::List { items, .. }, Value::Array(list)) => {
                list.iter_mut().enumerate().for_each(|(i, item)| items.unknown(item, &at.index(i), found));
            }
            _ => {}
        }
    }

    /// Every item of a keyed list or a set that is there twice.
    pub fn duplicates(&self, value: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.repeats(value) {
            self.twice(value, &FieldPath::root(), &mut found);
        }
        found
    }

    /// True if anything is there twice: seldom so, and asked without writing down any path.
    fn repeats(&self, value: &Value) -> bool {
        match (self, value) {
            (Shape::Object { .. }, Value::Object(map)) => {
                map.iter().any(|(name, value)| self.field(name).is_some_and(|shape| shape.repeats(value)))
            }
            (Shape::List { items, merged }, Value::Array(list)) => {
                merged.repeats(list) || list.iter().any(|item| items.repeats(item))
            }
            _ => false,
        }
    }

    fn twice(&self, value: &Value, at: &FieldPath, found: &mut Vec<Violation>) {
        match (self, value) {
            (Shape::Object { .. }, Value::Object(map)) => {
                for (name, value) in map {
                    if let Some(shape) = self.field(name) {
                        shape.twice(value, &at.field(name), found);
                    }
                }
            }
            (Shape::List { items, merged }, Value::Array(list)) => {
                let mut seen = std::collections::BTreeSet::new();
                for (i, item) in list.iter().enumerate() {
                    items.twice(item, &at.index(i), found);
                    if let Some(element) = merged.element(item)
                        && !seen.insert(element)
                    {
                        found.push(merged.duplicate(item, &at.index(i)));
                    }
                }
            }
            _ => {}
        }
    }
}

impl ListMerge {
    /// The path element of an item; `None` where items have no identity, or this one lacks a key.
    pub fn element(&self, item: &Value) -> Option<String> {
        match self {
            ListMerge::Atomic => None,
            ListMerge::Set => Some(super::fields::valued(item)),
            ListMerge::Map(keys) => super::fields::keyed(item, keys),
        }
    }

    fn repeats(&self, list: &[Value]) -> bool {
        if *self == ListMerge::Atomic || list.len() < 2 {
            return false;
        }
        let mut seen = std::collections::BTreeSet::new();
        !list.iter().filter_map(|item| self.element(item)).all(|element| seen.insert(element))
    }

    /// The elements of every item, or `None` if the list cannot be merged item by item.
    pub fn elements(&self, list: &[Value]) -> Option<Vec<String>> {
        match self {
            ListMerge::Atomic => None,
            _ => list.iter().map(|item| self.element(item)).collect(),
        }
    }

    /// An item that others still own something of, with the keys by which it is known.
    pub fn with_keys(&self, mut item: Value, whole: &Value) -> Value {
        if let (ListMerge::Map(keys), Value::Object(map)) = (self, &mut item) {
            for key in keys.iter().filter(|key| whole.get(*key).is_some()) {
                map.entry(key.clone()).or_insert_with(|| whole[key].clone());
            }
        }
        item
    }

    fn duplicate(&self, item: &Value, at: &FieldPath) -> Violation {
        match self {
            ListMerge::Map(keys) if keys.len() == 1 => {
                let text = item[&keys[0]].as_str().map_or_else(|| item[&keys[0]].to_string(), str::to_owned);
                Violation::new(at.field(&keys[0]), Problem::Duplicate, format!("`{text}`"))
            }
            _ => Violation::new(at.clone(), Problem::Duplicate, item.to_string()),
        }
    }
}

/// "did you mean `replicas`?", if one of the names is close.
fn meant<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    if name.len() > LONGEST_SLIP {
        return String::new();
    }
    let lower = name.to_ascii_lowercase();
    let score = |candidate: &str| match candidate.to_ascii_lowercase() {
        same if same == lower => 2.0,
        other => strsim::jaro_winkler(&other, &lower),
    };
    let best = known.map(|candidate| (score(candidate), candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, candidate)) if score > 0.82 => format!("`{name}`; did you mean `{candidate}`?"),
        _ => format!("`{name}`"),
    }
}

struct Compiler<'a> {
    root: &'a Value,
    /// The references that are being followed: one that comes again would never end, and is left free.
    open: Vec<&'a str>,
}

impl<'a> Compiler<'a> {
    fn shape(&mut self, schema: &'a Value) -> Arc<Shape> {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.follow(reference);
        }
        if let Some(only) = only_branch(schema) {
            return self.shape(only);
        }
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return Shape::Free.into();
        }
        if is_a(schema, "object") {
            return self.object(schema);
        }
        if is_a(schema, "array") {
            return self.list(schema);
        }
        let anything = schema == &Value::Bool(true) || schema.as_object().is_some_and(|s| !s.contains_key("type"));
        let scalar = ["enum", "const", "oneOf", "anyOf"].iter().any(|k| schema.get(k).is_some());
        if anything && !scalar { Shape::Free.into() } else { Shape::Atomic.into() }
    }

    fn follow(&mut self, reference: &'a str) -> Arc<Shape> {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        match target {
            Some(target) if !self.open.contains(&reference) => {
                self.open.push(reference);
                let shape = self.shape(target);
                self.open.pop();
                shape
            }
            _ => Shape::Free.into(),
        }
    }

    fn object(&mut self, schema: &'a Value) -> Arc<Shape> {
        let declared = schema["properties"].as_object();
        let fields = declared.into_iter().flatten().map(|(name, s)| (name.clone(), self.shape(s))).collect();
        let others = match &schema["additionalProperties"] {
            Value::Bool(false) => None,
            Value::Null if declared.is_some() => None,
            Value::Null | Value::Bool(true) => Some(Arc::new(Shape::Free)),
            others => Some(self.shape(others)),
        };
        let atomic = schema["x-kubernetes-map-type"] == "atomic";
        Shape::Object { fields, others, atomic }.into()
    }

    fn list(&mut self, schema: &'a Value) -> Arc<Shape> {
        let merged = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListMerge::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                ListMerge::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => ListMerge::Atomic,
        };
        let items = schema.get("items").map_or_else(|| Shape::Free.into(), |items| self.shape(items));
        Shape::List { items, merged }.into()
    }
}

/// The one alternative of `anyOf`, `oneOf` or `allOf` that is not null, if there is just one.
fn only_branch(schema: &Value) -> Option<&Value> {
    let word = ["anyOf", "oneOf", "allOf"].into_iter().find(|word| schema.get(word).is_some())?;
    let mut real = schema[word].as_array()?.iter().filter(|branch| branch["type"] != "null");
    let first = real.next()?;
    real.next().is_none().then_some(first)
}

fn is_a(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => schema.get("properties").is_some() && name == "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{kinds, schema};

    fn app() -> Arc<Shape> {
        Shape::compile(&schema::of(kinds::find_by_word("app").expect("a kind")))
    }

    #[test]
    fn a_misspelt_field_is_found_at_any_depth_and_the_right_name_proposed() {
        let mut app_value = json!({
            "metadata": {"name": "a", "lables": {}},
            "spec": {"replica": 1, "process": {"Command": ["x"]}, "env": [{"name": "A", "vale": "1"}], "zebra": 1},
        });
        let found: Vec<String> = app().take_unknown(&mut app_value).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @"
        metadata.lables: Unknown field: `lables`; did you mean `labels`?
        spec.replica: Unknown field: `replica`; did you mean `replicas`?
        spec.process.Command: Unknown field: `Command`; did you mean `command`?
        spec.env[0].vale: Unknown field: `vale`; did you mean `value`?
        spec.zebra: Unknown field: `zebra`
        ");
        assert_eq!(app_value["spec"], json!({"process": {}, "env": [{"name": "A"}]}));
    }

    #[test]
    fn null_means_absent() {
        let mut value = json!({
            "metadata": {"creationTimestamp": null, "labels": {"a": null}},
            "spec": {"process": {"script": null}, "env": [{"name": "A", "value": null}]},
        });
        app().drop_nulls(&mut value);
        assert_eq!(
            value,
            json!({"metadata": {"labels": {"a": null}}, "spec": {"process": {}, "env": [{"name": "A"}]}})
        );
    }

    #[test]
    fn duplicate_keys_and_values_are_found() {
        let value = json!({
            "metadata": {"finalizers": ["a", "b", "a"]},
            "spec": {"ports": [{"name": "http"}, {"name": "http"}]},
        });
        let found: Vec<String> = app().duplicates(&value).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["metadata.finalizers[2]: Duplicate value: \"a\"", "spec.ports[1].name: Duplicate value: `http`"]
        );
    }

    #[test]
    fn a_schema_that_contains_itself_compiles() {
        let schema = json!({
            "$ref": "#/$defs/Node",
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
        });
        let shape = Shape::compile(&schema);
        assert!(matches!(shape.field("next"), Some(Shape::Free)));
    }
}
