//! The schemas of CustomResourceDefinitions: OpenAPI 3.0 once more, as Kubernetes wants it there ("structural").
//!
//! Every reference is replaced by what it names, every part has one type, choices of words are an `enum`, and what the
//! API server judges by itself (`apiVersion`, `kind`, `metadata`) is only named. Nothing may be said that
//! `JSONSchemaProps` has no field for: clients with typed readers drop it or stumble.

use serde_json::{Map, Value, json};

use super::v3;
use crate::api::{
    Served,
    schema::{component_name, components},
};

/// The components from which schemas are put together.
pub(in crate::server) struct Schemas(Map<String, Value>);

/// Fields of `JSONSchemaProps` that are copied as they are.
const KEPT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "default",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "multipleOf",
    "enum",
    "maxProperties",
    "minProperties",
    "required",
    "nullable",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];

impl Schemas {
    /// Reads the API's own components.
    pub(in crate::server) fn new() -> Self {
        Self(components().into_iter().map(|(name, schema)| (name, v3::schema_3_0(&schema))).collect())
    }

    /// The structural schema of what is served.
    pub(in crate::server) fn of(&self, served: Served) -> Value {
        let mut schema = self.plain(&self.0[&component_name(served)]);
        for name in ["apiVersion", "kind"] {
            schema["properties"][name] = json!({"type": "string"});
        }
        schema["properties"]["metadata"] = json!({"type": "object"});
        schema
    }

    fn plain(&self, schema: &Value) -> Value {
        let mut out = Map::new();
        // What is named, or chosen, first: what stands beside it says it better.
        for named in self.merged(schema) {
            if let Value::Object(fields) = self.plain(named) {
                out.extend(fields);
            }
        }
        for (name, value) in schema.as_object().into_iter().flatten() {
            match name.as_str() {
                "properties" => {
                    let all = value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), self.plain(v)));
                    out.insert(name.clone(), Value::Object(all.collect()));
                }
                "items" | "additionalProperties" if value.is_object() => {
                    out.insert(name.clone(), self.plain(value));
                }
                "default" if value.is_null() => {}
                name if KEPT.contains(&name) => {
                    out.insert(name.to_owned(), value.clone());
                }
                _ => {}
            }
        }
        let words = choice_of_words(schema);
        if !words.is_empty() {
            out.insert("type".to_owned(), json!("string"));
            out.insert("enum".to_owned(), words.into());
        }
        typed(&mut out);
        Value::Object(out)
    }

    /// What a schema takes over from elsewhere.
    fn merged<'s>(&'s self, schema: &'s Value) -> Vec<&'s Value> {
        let named = schema["$ref"].as_str().and_then(|r| self.0.get(r.strip_prefix("#/components/schemas/")?));
        named.into_iter().chain(schema["allOf"].as_array().into_iter().flatten()).collect()
    }
}

/// The words of a choice between described words.
fn choice_of_words(schema: &Value) -> Vec<Value> {
    let choices = ["oneOf", "anyOf"].into_iter().filter_map(|word| schema[word].as_array()).flatten();
    let words: Option<Vec<&Vec<Value>>> = choices.map(|choice| choice["enum"].as_array()).collect();
    words.unwrap_or_default().into_iter().flatten().cloned().collect()
}

/// One type for each part, or the word that there is none.
fn typed(out: &mut Map<String, Value>) {
    if out.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        out.shift_remove("type");
    } else if out.contains_key("properties") || out.contains_key("additionalProperties") {
        out.insert("type".to_owned(), json!("object"));
    } else if !out.contains_key("type") {
        out.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{GROUP, kinds::served};

    /// What Kubernetes requires of a structural schema, by path.
    fn wrong(schema: &Value, path: &str, found: &mut Vec<String>) {
        let fields = schema.as_object().expect("a schema is an object");
        let typed = fields.get("type").is_some_and(Value::is_string);
        let free = fields.contains_key("x-kubernetes-int-or-string")
            || fields.contains_key("x-kubernetes-preserve-unknown-fields");
        if typed == free {
            found.push(format!("{path}: {schema}"));
        }
        let unknown = |name: &&String| {
            !KEPT.contains(&name.as_str()) && !["properties", "items", "additionalProperties"].contains(&name.as_str())
        };
        found.extend(fields.keys().filter(unknown).map(|name| format!("{path}: {name}")));
        for (name, field) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            wrong(field, &format!("{path}.{name}"), found);
        }
        for part in ["items", "additionalProperties"] {
            if let Some(part) = fields.get(part) {
                wrong(part, &format!("{path}[]"), found);
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        let schemas = Schemas::new();
        for served in served().filter(|s| s.group() == GROUP) {
            let mut found = Vec::new();
            wrong(&schemas.of(served), served.name(), &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn references_choices_and_nulls_are_resolved() {
        let words = json!({"oneOf": [{"type": "string", "enum": ["A"]}, {"type": "string", "enum": ["B"]}]});
        let schemas = Schemas([("Words".to_owned(), words)].into_iter().collect());
        let reference = json!({"$ref": "#/components/schemas/Words"});
        for (from, to) in [
            (reference.clone(), json!({"type": "string", "enum": ["A", "B"]})),
            (
                json!({"allOf": [reference], "description": "one of them", "nullable": true}),
                json!({"type": "string", "enum": ["A", "B"], "description": "one of them", "nullable": true}),
            ),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}),
                json!({"x-kubernetes-int-or-string": true}),
            ),
            (json!({}), json!({"x-kubernetes-preserve-unknown-fields": true})),
        ] {
            assert_eq!(schemas.plain(&from), to, "{from}");
        }
    }
}
