//! OpenAPI 3.0: the whole document, and group by group for kubectl, which reads less.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The documents of all groups, by path (`apis/appm.dev/v1`).
pub(super) struct Groups(BTreeMap<String, (Bytes, String)>);

impl Groups {
    /// `/openapi/v3`
    pub(super) fn index(&self) -> Value {
        let paths: Map<String, Value> = self
            .0
            .iter()
            .map(|(path, (_, hash))| {
                (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// One group's text and hash.
    pub(super) fn get(&self, path: &str) -> Option<(Bytes, String)> {
        self.0.get(path).cloned()
    }
}

/// Cuts the 3.0 document up into groups.
pub(super) fn groups(document: &Value) -> Groups {
    let whole = for_kubectl(document);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (path, item) in whole["paths"].as_object().into_iter().flatten() {
        if let Some(group) = group_of(path) {
            paths.entry(group).or_default().insert(path.clone(), item.clone());
        }
    }
    let texts = paths.into_iter().map(|(group, paths)| {
        let text = Bytes::from(one(&whole, paths).to_string());
        let hash: String = Sha256::digest(&text).iter().take(16).map(|b| format!("{b:02X}")).collect();
        (group, (text, hash))
    });
    Groups(texts.collect())
}

/// `api/v1` or `apis/GROUP/VERSION`; nothing for paths about the server itself.
fn group_of(path: &str) -> Option<String> {
    let mut steps = path.split('/').skip(1);
    match (steps.next()?, steps.next()?) {
        ("api", version) => Some(format!("api/{version}")),
        ("apis", group) => Some(format!("apis/{group}/{}", steps.next()?)),
        _ => None,
    }
}

/// A document of some paths, with the components that they need.
fn one(whole: &Value, paths: Map<String, Value>) -> Value {
    let paths = Value::Object(paths);
    let mut needed = BTreeSet::new();
    let mut open = references(&paths);
    while let Some(name) = open.pop() {
        if needed.insert(name.clone()) {
            open.extend(references(&whole["components"]["schemas"][&name]));
        }
    }
    let schemas: Map<String, Value> =
        needed.into_iter().map(|name| (name.clone(), whole["components"]["schemas"][&name].clone())).collect();
    json!({
        "openapi": "3.0.0", "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
        "paths": paths, "components": {"schemas": schemas},
    })
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/components/schemas/"));
            own.map(str::to_owned).into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// The 3.0 document as kubectl reads it: it follows no references to parameters, asks for no refusals, and fetches all of it
/// before its first write.
pub(super) fn for_kubectl(document: &Value) -> Value {
    let mut out = document.clone();
    let items = out["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in items.flat_map(|item| item.as_object_mut().into_iter().flat_map(Map::values_mut)) {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            let described = parameter["$ref"].as_str().and_then(|r| document.pointer(r.trim_start_matches('#')));
            if let Some(described) = described {
                *parameter = described.clone();
            }
        }
        let Some(Value::Object(responses)) = operation.get_mut("responses") else { continue };
        responses.retain(|code, _| code.starts_with('2'));
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            response.shift_remove("headers");
        }
    }
    out
}

/// The 3.1 document in 3.0: no type lists, no `const`, nothing beside a `$ref`.
pub(super) fn downgrade(document: &Value) -> Value {
    let mut out = document.clone();
    out["openapi"] = json!("3.0.0");
    if let Some(license) = out["info"]["license"].as_object_mut() {
        license.remove("identifier");
    }
    for schema in out["components"]["schemas"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        *schema = schema_3_0(schema);
    }
    for part in ["parameters", "responses", "headers"] {
        downgrade_nested(&mut out["components"][part]);
    }
    downgrade_nested(&mut out["paths"]);
    out
}

/// Schemas inside of operations.
fn downgrade_nested(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "schema" {
                    *field = schema_3_0(field);
                } else {
                    downgrade_nested(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(downgrade_nested),
        _ => {}
    }
}

/// Words of JSON Schema that 3.0 does not know. `additionalProperties: false` is dropped with them: Kubernetes' own documents never
/// say it, and clients' validators do not expect it.
const DROPPED: &[&str] = &[
    "$schema",
    "$defs",
    "$id",
    "$comment",
    "const",
    "examples",
    "propertyNames",
    "patternProperties",
    "prefixItems",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "exclusiveMinimum",
    "exclusiveMaximum",
];

/// One schema in 3.0.
pub(super) fn schema_3_0(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return json!({}) };
    let mut out = Map::new();
    for (name, value) in fields.iter().filter(|(name, _)| !DROPPED.contains(&name.as_str())) {
        match name.as_str() {
            "properties" => {
                let all = value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), schema_3_0(v))).collect();
                out.insert(name.clone(), Value::Object(all));
            }
            "additionalProperties" if value.is_boolean() => {}
            "items" | "additionalProperties" | "not" => {
                out.insert(name.clone(), schema_3_0(value));
            }
            "anyOf" | "oneOf" | "allOf" => {
                let all = value.as_array().into_iter().flatten().map(schema_3_0).collect();
                out.insert(name.clone(), Value::Array(all));
            }
            _ => {
                out.insert(name.clone(), value.clone());
            }
        }
    }
    if let Some(Value::Array(examples)) = fields.get("examples")
        && let Some(first) = examples.first()
    {
        out.insert("example".to_owned(), first.clone());
    }
    if let Some(only) = fields.get("const") {
        out.insert("enum".to_owned(), json!([only]));
    }
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        if let Some(limit) = fields.get(exclusive).filter(|v| v.is_number()) {
            out.insert(bound.to_owned(), limit.clone());
            out.insert(exclusive.to_owned(), json!(true));
        }
    }
    one_type(&mut out);
    no_null_choice(&mut out);
    known_format(&mut out);
    lone_reference(out)
}

/// `type: [T, null]` becomes `type: T, nullable: true`.
fn one_type(out: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = out.get("type").cloned() else { return };
    if types.iter().any(|t| t == "null") {
        out.insert("nullable".to_owned(), json!(true));
    }
    let mut real = types.into_iter().filter(|t| t != "null");
    match (real.next(), real.next()) {
        (Some(only), None) => out.insert("type".to_owned(), only),
        _ => out.shift_remove("type"),
    };
}

/// `anyOf: [X, null]` becomes `allOf: [X], nullable: true`. By now the null has become `{"type": "null"}` or been left empty.
fn no_null_choice(out: &mut Map<String, Value>) {
    for word in ["anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = out.get(word).cloned() else { continue };
        let real: Vec<Value> = choices.iter().filter(|c| c["type"] != "null").cloned().collect();
        if real.len() == choices.len() {
            continue;
        }
        out.insert("nullable".to_owned(), json!(true));
        out.shift_remove(word);
        let word = if real.len() == 1 { "allOf" } else { word };
        out.insert(word.to_owned(), Value::Array(real));
    }
}

/// The formats that Kubernetes' clients know.
fn known_format(out: &mut Map<String, Value>) {
    let format = match out.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "int8" | "int16") => "int32",
        Some("uint32" | "uint64" | "uint" | "int") => "int64",
        _ => return,
    };
    out.insert("format".to_owned(), json!(format));
}

/// A `$ref` with neighbours becomes `allOf: [{$ref}]` with neighbours.
fn lone_reference(mut out: Map<String, Value>) -> Value {
    if out.len() > 1
        && let Some(reference) = out.shift_remove("$ref")
    {
        out.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_lose_what_3_0_does_not_know() {
        for (new, old) in [
            (
                json!({"type": ["integer", "null"], "format": "uint32"}),
                json!({"type": "integer", "format": "int64", "nullable": true}),
            ),
            (
                json!({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}], "description": "x"}),
                json!({"description": "x", "nullable": true, "allOf": [{"$ref": "#/components/schemas/A"}]}),
            ),
            (json!({"$ref": "#/a", "default": 1}), json!({"default": 1, "allOf": [{"$ref": "#/a"}]})),
            (json!({"$ref": "#/a"}), json!({"$ref": "#/a"})),
            (json!({"const": "x"}), json!({"enum": ["x"]})),
            (json!({"exclusiveMinimum": 0}), json!({"minimum": 0, "exclusiveMinimum": true})),
            (json!(true), json!({})),
            (
                json!({"properties": {"const": {"type": "string"}}, "additionalProperties": false}),
                json!({"properties": {"const": {"type": "string"}}}),
            ),
        ] {
            assert_eq!(schema_3_0(&new), old, "{new}");
        }
    }
}
