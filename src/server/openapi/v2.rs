//! Swagger 2, for kubectl before 1.29, which reads it before every write.
//!
//! Only what those clients read: paths with their parameters (kubectl looks for `dryRun` on PATCH), definitions with types, required
//! fields, descriptions and Kubernetes' extensions.

use serde_json::{Map, Value, json};

/// The 3.0 document in Swagger 2.
pub(super) fn document(v3: &Value) -> Value {
    let schemas = v3["components"]["schemas"].as_object().into_iter().flatten();
    let definitions: Map<String, Value> = schemas.map(|(name, schema)| (name.clone(), definition(schema))).collect();
    let paths: Map<String, Value> =
        v3["paths"].as_object().into_iter().flatten().map(|(path, item)| (path.clone(), path_item(item))).collect();
    json!({
        "swagger": "2.0", "info": {"title": v3["info"]["title"], "version": v3["info"]["version"]},
        "paths": paths, "definitions": definitions,
    })
}

const METHODS: &[&str] = &["get", "put", "post", "delete", "patch"];

fn path_item(item: &Value) -> Value {
    let methods = METHODS.iter().filter_map(|method| item.get(method).map(|o| ((*method).to_owned(), operation(o))));
    Value::Object(methods.collect())
}

fn operation(operation: &Value) -> Value {
    let listed = operation["parameters"].as_array().into_iter().flatten();
    let mut parameters: Vec<Value> = listed
        .map(|p| json!({"name": p["name"], "in": p["in"], "required": p["in"] == "path", "type": p["schema"]["type"]}))
        .collect();
    let content = operation["requestBody"]["content"].as_object();
    if let Some(first) = content.and_then(|c| c.values().next()) {
        let required = operation["requestBody"]["required"].as_bool().unwrap_or(false);
        parameters
            .push(json!({"name": "body", "in": "body", "required": required, "schema": definition(&first["schema"])}));
    }
    let responses: Map<String, Value> = operation["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(code, response)| (code.clone(), json!({"description": response["description"]})))
        .collect();
    let mut out = json!({"operationId": operation["operationId"], "parameters": parameters, "responses": responses});
    for (name, value) in operation.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        out[name] = value.clone();
    }
    out
}

/// Words of a schema that are kept.
const KEPT: &[&str] = &["type", "format", "description", "required"];

fn definition(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return json!({}) };
    if let Some(reference) = lone_reference(schema) {
        let mut out = json!({"$ref": reference.replace("#/components/schemas/", "#/definitions/")});
        if let Some(description) = fields.get("description") {
            out["description"] = description.clone();
        }
        return out;
    }
    let mut out = Map::new();
    for (name, value) in fields {
        match name.as_str() {
            "properties" => {
                let all = value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), definition(v))).collect();
                out.insert(name.clone(), Value::Object(all));
            }
            "items" | "additionalProperties" => {
                out.insert(name.clone(), definition(value));
            }
            name if KEPT.contains(&name) || name.starts_with("x-kubernetes-") => {
                out.insert(name.to_owned(), value.clone());
            }
            _ => {}
        }
    }
    if fields.get("x-kubernetes-int-or-string") == Some(&json!(true)) {
        out.insert("type".to_owned(), json!("string"));
        out.insert("format".to_owned(), json!("int-or-string"));
        out.shift_remove("x-kubernetes-int-or-string");
    }
    Value::Object(out)
}

/// The reference of `{$ref}` and of `{allOf: [{$ref}], …}`.
fn lone_reference(schema: &Value) -> Option<&str> {
    let one = schema["allOf"].as_array().filter(|all| all.len() == 1).map_or(schema, |all| &all[0]);
    one["$ref"].as_str()
}
