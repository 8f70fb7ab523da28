//! The schemas as programs that are generated from them want them.
//!
//! The schemas that admission judges by are closed, and name defaults and nulls. In a client's types that would do harm: a client of
//! this release could not read an object with a field of the next one; a default that the client fills in is a field that it
//! applies and owns from then on; `T | null` makes everybody ask for a null that never comes. So here every object is open,
//! defaults are a sentence of the description, null is not spoken of, and words to choose from are an `enum`.

use serde_json::{Map, Value, json};

/// All components, made suitable.
pub(super) fn suited(components: Map<String, Value>) -> Map<String, Value> {
    let mut all: Map<String, Value> = components
        .into_iter()
        .map(|(name, schema)| {
            // These two are what they stand for elsewhere.
            let named = ["Quantity", "IntOrString"].contains(&name.as_str());
            let schema = if named { schema } else { suit(schema) };
            (name, schema)
        })
        .collect();
    for (component, field, name) in TYPED_ELSEWHERE {
        let Some(field) = all.get_mut(*component).and_then(|c| c["properties"].get_mut(*field)) else { continue };
        *field = json!({"$ref": format!("#/components/schemas/{name}"), "description": field["description"]});
    }
    all
}

/// Fields that are read as plain JSON here, and have a type for clients.
const TYPED_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("ManagedFieldsEntry", "fieldsV1", "FieldsV1"),
    ("Operation", "object", "AnyObject"),
    ("OperationResult", "object", "AnyObject"),
    ("Revision", "data", "AppSpec"),
];

fn suit(schema: Value) -> Value {
    let Value::Object(mut fields) = schema else { return schema };
    for name in ["properties", "patternProperties", "$defs"] {
        if let Some(Value::Object(all)) = fields.get_mut(name) {
            for value in all.values_mut() {
                *value = suit(value.take());
            }
        }
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(value) = fields.get_mut(name) {
            *value = suit(value.take());
        }
    }
    for name in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(all)) = fields.get_mut(name) {
            all.iter_mut().for_each(|value| *value = suit(value.take()));
        }
    }
    no_null(&mut fields);
    words(&mut fields);
    open(&mut fields);
    number(&mut fields);
    said_default(&mut fields);
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true)) {
        // Few generators make a type of a choice between types that compiles.
        ["anyOf", "type"].iter().for_each(|word| drop(fields.shift_remove(*word)));
    }
    match fields.get("x-kubernetes-int-or-string") {
        Some(_) => amount(&fields),
        None => Value::Object(fields),
    }
}

/// Null means absent wherever it is allowed, so it need not be spoken of.
fn no_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|t| t != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            fields.insert("type".to_owned(), only);
        }
    }
    for word in ["anyOf", "oneOf"] {
        let Some(Value::Array(choices)) = fields.get_mut(word) else { continue };
        choices.retain(|choice| choice["type"] != "null");
        if choices.len() == 1
            && let Value::Object(only) = choices.remove(0)
        {
            fields.shift_remove(word);
            for (name, value) in only {
                fields.entry(name).or_insert(value);
            }
        }
    }
}

/// Words with a description each become one `enum`, described together.
fn words(fields: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = fields.get("oneOf") else { return };
    let said: Option<Vec<(&str, &str)>> = choices
        .iter()
        .map(|choice| Some((choice["const"].as_str()?, choice["description"].as_str().unwrap_or_default())))
        .collect();
    let Some(said) = said else { return };
    let listed: Vec<String> = said.iter().map(|(word, meaning)| format!("- `{word}`: {meaning}")).collect();
    let words: Vec<&str> = said.iter().map(|(word, _)| *word).collect();
    let (description, words) = (join(fields.get("description"), &format!("\n\n{}", listed.join("\n"))), json!(words));
    fields.shift_remove("oneOf");
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("enum".to_owned(), words);
    fields.insert("description".to_owned(), json!(description));
}

fn join(description: Option<&Value>, more: &str) -> String {
    format!("{}{more}", description.and_then(Value::as_str).unwrap_or_default()).trim_start().to_owned()
}

/// A later release may add fields.
fn open(fields: &mut Map<String, Value>) {
    if fields.get("additionalProperties") == Some(&json!(false)) {
        fields.shift_remove("additionalProperties");
    }
}

/// The formats that OpenAPI knows.
fn number(fields: &mut Map<String, Value>) {
    let format = match fields.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "int8" | "int16") => "int32",
        Some("uint32" | "uint64" | "uint" | "int") => "int64",
        _ => return,
    };
    fields.insert("format".to_owned(), json!(format));
}

/// A default is said, not given: whoever fills it in would own it. A text that can be only one thing is given.
fn said_default(fields: &mut Map<String, Value>) {
    if let Some([only]) = fields.get("enum").and_then(Value::as_array).map(Vec::as_slice) {
        let only = only.clone();
        fields.insert("default".to_owned(), only);
        return;
    }
    let Some(default) = fields.shift_remove("default") else { return };
    let shown = match &default {
        Value::String(text) if text.is_empty() => return,
        Value::String(text) => text.clone(),
        Value::Bool(true) | Value::Number(_) if default != 0 => default.to_string(),
        _ => return,
    };
    let description = join(fields.get("description"), &format!(" Default: `{shown}`."));
    fields.insert("description".to_owned(), json!(description));
}

/// A number or a text: one of the two components that stand for it.
fn amount(fields: &Map<String, Value>) -> Value {
    let quantity = fields.get("anyOf").is_some_and(|choices| choices[0].get("pattern").is_some());
    let name = if quantity { "Quantity" } else { "IntOrString" };
    let mut out = json!({"$ref": format!("#/components/schemas/{name}")});
    if let Some(description) = fields.get("description") {
        out["description"] = description.clone();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_become_what_generators_understand() {
        for (given, suited) in [
            (json!({"type": ["string", "null"]}), json!({"type": "string"})),
            (
                json!({"anyOf": [{"$ref": "#/a"}, {"type": "null"}], "description": "x"}),
                json!({"description": "x", "$ref": "#/a"}),
            ),
            (
                json!({"description": "How.", "oneOf": [{"const": "A", "description": "One."}, {"const": "B", "description": "Two."}]}),
                json!({"description": "How.\n\n- `A`: One.\n- `B`: Two.", "type": "string", "enum": ["A", "B"]}),
            ),
            (
                json!({"type": "object", "properties": {"n": {"type": "integer", "format": "uint32"}}, "additionalProperties": false}),
                json!({"type": "object", "properties": {"n": {"type": "integer", "format": "int64"}}}),
            ),
            (
                json!({"type": "integer", "description": "Count.", "default": 3}),
                json!({"type": "integer", "description": "Count. Default: `3`."}),
            ),
            (json!({"type": "boolean", "default": false}), json!({"type": "boolean"})),
            (json!({"type": "string", "enum": ["v1"]}), json!({"type": "string", "enum": ["v1"], "default": "v1"})),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true}),
                json!({"$ref": "#/components/schemas/IntOrString"}),
            ),
        ] {
            assert_eq!(suit(given.clone()), suited, "{given}");
        }
    }
}
