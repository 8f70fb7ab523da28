//! The API described: one document, four dialects.
//!
//! [`document`] builds the OpenAPI 3.1 document that is committed as `openapi/appm.json`. Most generators of clients want 3.0:
//! [`document_3_0`]. `/openapi/v3` serves that group by group, because 3.1's type lists break `kubectl explain`; `/openapi/v2` serves
//! it once more as Swagger 2, which older kubectl needs for every write, as JSON and as protobuf. Each dialect is a
//! function of the one before, and every operation follows from the table of kinds:
//!
//! ```text
//! api::schema ─► components ─► clients ─┐
//! api::kinds  ─► objects, server ───────┴─► document (3.1) ─► v3::downgrade (3.0) ─► v3::groups ─► v2 ─► gnostic
//!      └─► structural (CustomResourceDefinitions)
//! ```

mod answers;
mod clients;
mod components;
mod examples;
mod generate;
mod gnostic;
mod login;
mod objects;
mod operation;
mod parameters;
mod server;
mod shapes;
pub(super) mod structural;
mod v2;
mod v3;

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::openapi::{
    OpenApi,
    external_docs::ExternalDocs,
    info::{InfoBuilder, LicenseBuilder},
    path::PathsBuilder,
};

pub use generate::{GenerateError, Stale, generate, main, stale};
pub(super) use gnostic::CONTENT_TYPE as PROTOBUF;

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    let license = LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build();
    let info = InfoBuilder::new()
        .title("appm")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    let paths = objects::all().into_iter().chain(server::all());
    let paths = paths.fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item.build()));
    let mut api = OpenApi::new(info, paths.build());
    let mut docs = ExternalDocs::new("https://kubernetes.io/docs/reference/using-api/api-concepts/");
    docs.description = Some("The conventions of Kubernetes' API, which hold here too".to_owned());
    api.external_docs = Some(docs);
    let mut document = serde_json::to_value(&api).expect("a document is plain data");
    // The builders keep extensions in no particular order.
    document["paths"].sort_all_objects();
    let schemas = components::all();
    let mut tags = objects::tags(&schemas);
    tags.extend(server::tags());
    document["tags"] = tags.into();
    document["servers"] = json!([
        {"url": "https://{address}", "description": "The server at its address.", "variables": {
            "address": {"default": "127.0.0.1:6060", "description": "What `appm server --listen` says."}}},
        {"url": "/", "description": "The server that this document came from."},
    ]);
    document["security"] = json!([{"bearer": []}]);
    document["components"] = json!({
        "schemas": schemas,
        "parameters": parameters::all(),
        "responses": answers::all(),
        "headers": answers::headers(),
        "securitySchemes": {"bearer": {
            "type": "http", "scheme": "bearer",
            "description": "The token in the kubeconfig that the server writes: `appm kubeconfig --path` says where.",
        }},
    });
    document
}

/// The same in OpenAPI 3.0.
pub fn document_3_0() -> Value {
    v3::downgrade(&document())
}

const ABOUT: &str = "\
appm keeps real processes equal to what is declared. Its API is Kubernetes' own in shape: what holds there holds here, for \
`kubectl`, for Kubernetes' client libraries, and for clients that are generated from this document.

- **Credentials.** Send `Authorization: Bearer TOKEN` with the token of the kubeconfig that the server writes; its CA is \
there too. On the same machine the Unix socket `appm.sock` in the data directory serves the same API, and the \
kernel says who asks.
- **Objects** have `apiVersion`, `kind`, `metadata`, mostly a `spec` (what is wanted) and a `status` (what is). \
`metadata.resourceVersion` names a revision of the whole store: send it back to change only what you have read.
- **Changing** is best done by server-side apply: `PATCH` with `application/apply-patch+json` and a `fieldManager`. It makes \
the object or changes it, and says who owns a field that somebody else has set.
- **Watching** follows a list from its `metadata.resourceVersion` on and misses nothing.
- **Refusals** are a `Status`: decide by its `reason`; `details.causes` names every mistake with the path of its field.
- **Fields** may be added by later releases; ignore those that you do not know.";

/// What the server serves, made once when somebody asks.
#[derive(Default)]
pub(super) struct Documents {
    whole: OnceLock<Bytes>,
    whole_3_0: OnceLock<Bytes>,
    v3: OnceLock<v3::Groups>,
    v2: OnceLock<Value>,
    v2_protobuf: OnceLock<Bytes>,
}

impl Documents {
    fn groups(&self) -> &v3::Groups {
        self.v3.get_or_init(|| v3::groups(&document_3_0()))
    }

    /// `/openapi.json`
    pub(super) fn whole(&self) -> Bytes {
        self.whole.get_or_init(|| document().to_string().into()).clone()
    }

    /// `/openapi-3.0.json`
    pub(super) fn whole_3_0(&self) -> Bytes {
        self.whole_3_0.get_or_init(|| document_3_0().to_string().into()).clone()
    }

    /// `/openapi/v3`
    pub(super) fn index(&self) -> Value {
        self.groups().index()
    }

    /// `/openapi/v3/…`: the text and its hash.
    pub(super) fn group(&self, path: &str) -> Option<(Bytes, String)> {
        self.groups().get(path)
    }

    /// `/openapi/v2`
    pub(super) fn v2(&self) -> &Value {
        self.v2.get_or_init(|| v2::document(&v3::for_kubectl(&document_3_0())))
    }

    /// `/openapi/v2` in protobuf.
    pub(super) fn v2_protobuf(&self) -> Bytes {
        self.v2_protobuf.get_or_init(|| gnostic::encode(self.v2()).into()).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::kinds::served;

    /// Every `$ref` in a document.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    found.insert(reference.clone());
                }
                fields.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }

    fn dangling(document: &Value) -> Vec<String> {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        found.retain(|r| r.strip_prefix('#').and_then(|p| document.pointer(p)).is_none());
        found.into_iter().collect()
    }

    #[test]
    fn no_reference_dangles_in_any_dialect() {
        let documents = Documents::default();
        assert_eq!(dangling(&document()), Vec::<String>::new());
        assert_eq!(dangling(&document_3_0()), Vec::<String>::new());
        assert_eq!(dangling(documents.v2()), Vec::<String>::new());
        for path in documents.index()["paths"].as_object().expect("paths").keys() {
            let (text, _) = documents.group(path).expect("served");
            let group: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(dangling(&group), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn every_verb_of_discovery_is_described() {
        let document = document();
        for (group, version) in served().map(|s| (s.group(), s.version())).collect::<BTreeSet<_>>() {
            let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
            let list = crate::server::discovery::resource_list(group, version).expect("served");
            for resource in list["resources"].as_array().expect("list") {
                let (plural, part) = match resource["name"].as_str().expect("name").split_once('/') {
                    Some((plural, part)) => (plural, format!("/{part}")),
                    None => (resource["name"].as_str().expect("name"), String::new()),
                };
                let namespace = if resource["namespaced"] == true { "/namespaces/{namespace}" } else { "" };
                let all = format!("{root}{namespace}/{plural}");
                let one = format!("{all}/{{name}}{part}");
                for verb in resource["verbs"].as_array().expect("verbs") {
                    let (path, method) = match verb.as_str().expect("verb") {
                        "list" => (all.clone(), "get"),
                        "create" => (all.clone(), "post"),
                        "deletecollection" => (all.clone(), "delete"),
                        "watch" => (format!("{root}/watch{namespace}/{plural}"), "get"),
                        "get" => (one.clone(), "get"),
                        "update" => (one.clone(), "put"),
                        verb => (one.clone(), verb),
                    };
                    assert!(document["paths"][&path].get(method).is_some(), "{method} {path}");
                }
            }
        }
    }

    /// Where a schema says nothing about what is in an object, with the reason.
    const FREE: &[&str] = &[
        "/AnyObject",  // of any kind
        "/FieldsV1",   // keys with structure, values without
        "/MergePatch", // any part of an object
        "/JsonPatchOperation/properties/value",
        "/FieldChange/properties/old", // what stands in any field
        "/FieldChange/properties/new",
        "/WebhookBody", // as git servers send it; nobody reads it
        "/OpenAPIDocument",
        "/CustomResourceValidation/properties/openAPIV3Schema", // a schema in a schema
        "/JobStatus/properties/matrix",                         // what people give to cells
        "/JobStrategy/properties/matrix",                       // lists of it, or an expression
        "/RunEvent/properties/payload",                         // as others sent it
        "/WorkflowInput/properties/default",                    // of the input's type
        "/WorkflowRunSpec/properties/inputs",
        "/WorkflowStep/properties/with",
        "/WorkflowTarget/properties/inputs",
    ];

    fn free(schema: &Value, place: &str, found: &mut Vec<String>) {
        let Some(fields) = schema.as_object() else { return };
        let says = ["$ref", "properties", "additionalProperties", "enum", "anyOf", "items"]
            .iter()
            .any(|w| fields.contains_key(*w));
        // A text or a number, a name or a list of names.
        let said = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
        let plain = said || fields.get("type").is_some_and(|t| t != "object");
        if (!says && !plain) || fields.get("additionalProperties") == Some(&json!(true)) {
            found.push(place.to_owned());
        }
        for (name, value) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            free(value, &format!("{place}/properties/{name}"), found);
        }
        for name in ["items", "additionalProperties"] {
            if let Some(value) = fields.get(name) {
                free(value, &format!("{place}/{name}"), found);
            }
        }
    }

    #[test]
    fn no_two_types_have_one_name() {
        let derived = crate::api::schema::components();
        let shapes = shapes::all();
        let twice: Vec<_> = shapes.keys().filter(|name| derived.contains_key(*name)).collect();
        assert_eq!(twice, Vec::<&String>::new());
    }

    #[test]
    fn everything_has_a_type_and_nothing_is_null() {
        let document = document();
        let mut found = Vec::new();
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            free(schema, &format!("/{name}"), &mut found);
        }
        found.retain(|place| !FREE.iter().any(|known| place.starts_with(known)));
        assert_eq!(found, Vec::<String>::new());
        assert!(!document["components"]["schemas"].to_string().contains("\"null\""));
    }

    #[test]
    fn operations_have_distinct_names_and_described_answers() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("item").iter().filter(|(m, _)| *m != "parameters") {
                let id = operation["operationId"].as_str().expect("operationId");
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                let tag = &operation["tags"][0];
                assert!(document["tags"].as_array().expect("tags").iter().any(|t| t["name"] == *tag), "{tag}");
                for (code, response) in operation["responses"].as_object().expect("responses") {
                    let response = match response["$ref"].as_str() {
                        Some(reference) => document.pointer(&reference[1..]).expect("a reference to something"),
                        None => response,
                    };
                    let description = response["description"].as_str().unwrap_or_default();
                    assert!(!description.is_empty(), "{method} {path} {code}");
                }
            }
        }
        assert!(ids.len() > 40, "{} operations", ids.len());
    }

    #[test]
    fn examples_of_refusals_are_statuses() {
        let document = document();
        let components = json!({"components": document["components"]});
        for (name, response) in document["components"]["responses"].as_object().expect("responses") {
            let mut schema = components.clone();
            schema["$ref"] = json!("#/components/schemas/Status");
            let validator = jsonschema::validator_for(&schema).expect("a schema");
            let example = &response["content"]["application/json"]["example"];
            let wrong: Vec<String> = validator.iter_errors(example).map(|e| e.to_string()).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
            assert_eq!(example["reason"], *name);
        }
    }

    #[test]
    fn what_kubectl_gets_has_nothing_of_3_1() {
        let text = document_3_0().to_string();
        for word in ["\"null\"", "\"const\"", "\"$defs\"", "\"propertyNames\"", "\"type\":["] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
