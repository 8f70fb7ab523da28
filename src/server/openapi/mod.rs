//! The API described: one document, three dialects.
//!
//! [`document`] builds the OpenAPI 3.1 document that is committed as `openapi/appm.json`. `/openapi/v3` serves it group by group in
//! 3.0, because 3.1's type lists break `kubectl explain`; `/openapi/v2` serves that once more as Swagger 2, which older
//! kubectl needs for every write, as JSON and as protobuf. Each dialect is a function of the one before:
//!
//! ```text
//! api::schema ─► document (3.1) ─► v3::group (3.0) ─► v2::document ─► gnostic::encode
//! ```

mod components;
mod generate;
mod gnostic;
mod paths;
mod v2;
mod v3;

use std::sync::OnceLock;

use serde_json::{Value, json};
use utoipa::openapi::{
    OpenApi,
    info::{InfoBuilder, LicenseBuilder},
};

pub use generate::{GenerateError, Stale, generate, main, stale};
pub(super) use gnostic::CONTENT_TYPE as PROTOBUF;

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    let license = LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build();
    let info = InfoBuilder::new()
        .title("appm")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(env!("CARGO_PKG_DESCRIPTION")))
        .license(Some(license))
        .build();
    let api = OpenApi::new(info, paths::all());
    let mut document = serde_json::to_value(&api).expect("a document is plain data");
    // The builders keep extensions in no particular order.
    document["paths"].sort_all_objects();
    document["security"] = json!([{"bearer": []}]);
    document["components"] = json!({
        "schemas": components::all(),
        "securitySchemes": {"bearer": {
            "type": "http", "scheme": "bearer", "description": "the token in the kubeconfig that the server writes",
        }},
    });
    document
}

/// What the server serves, made once when somebody asks.
#[derive(Default)]
pub(super) struct Documents {
    v3: OnceLock<v3::Groups>,
    v2: OnceLock<Value>,
    v2_protobuf: OnceLock<bytes::Bytes>,
}

impl Documents {
    fn groups(&self) -> &v3::Groups {
        self.v3.get_or_init(|| v3::groups(&document()))
    }

    /// `/openapi/v3`
    pub(super) fn index(&self) -> Value {
        self.groups().index()
    }

    /// `/openapi/v3/…`: the text and its hash.
    pub(super) fn group(&self, path: &str) -> Option<(bytes::Bytes, String)> {
        self.groups().get(path)
    }

    /// `/openapi/v2`
    pub(super) fn v2(&self) -> &Value {
        self.v2.get_or_init(|| v2::document(&v3::downgrade(&document())))
    }

    /// `/openapi/v2` in protobuf.
    pub(super) fn v2_protobuf(&self) -> bytes::Bytes {
        self.v2_protobuf.get_or_init(|| gnostic::encode(self.v2()).into()).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
        assert_eq!(dangling(documents.v2()), Vec::<String>::new());
        for path in documents.index()["paths"].as_object().expect("paths").keys() {
            let (text, _) = documents.group(path).expect("served");
            let group: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(dangling(&group), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn operations_have_distinct_names_and_described_answers() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("item").iter().filter(|(m, _)| *m != "parameters") {
                let id = operation["operationId"].as_str().expect("operationId");
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                for (code, response) in operation["responses"].as_object().expect("responses") {
                    let description = response["description"].as_str().unwrap_or_default();
                    assert!(!description.is_empty(), "{method} {path} {code}");
                }
            }
        }
        assert!(ids.len() > 40, "{} operations", ids.len());
    }

    #[test]
    fn what_kubectl_gets_has_nothing_of_3_1() {
        let text = v3::downgrade(&document()).to_string();
        for word in ["\"null\"", "\"const\"", "\"$defs\"", "\"propertyNames\"", "\"type\":["] {
            assert!(!text.contains(word), "{word}");
        }
    }
}
