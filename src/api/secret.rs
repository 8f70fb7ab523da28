//! Secret: what not everybody may read, Kubernetes' own `v1` kind. Its bodies are sealed on disk.
//!
//! Values stay out of everything but the object itself: columns show counts, errors name keys, and [`SecretValue`] does
//! not print. `stringData` is for writing: admission moves it into `data` before anything is merged, so that with
//! server-side apply whoever writes an entry owns `data`'s entry, and takes it away by no longer applying it.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Body, Column, FieldPath, Kind, KindInfo, Problem, SelectableField, Violation, at,
    config_map::{
        bytes_by_name, check_bytes, check_immutable, check_names, check_size, decode_base64, encode_base64, entries,
        normalize_map,
    },
};

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(String);

impl SecretValue {
    /// The text that stands for some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(encode_base64(bytes))
    }

    /// A text that is in base64 already.
    pub fn from_base64(text: String) -> Self {
        Self(text)
    }

    /// How long the base64 text is.
    pub fn base64_length(&self) -> usize {
        self.0.len()
    }

    /// The bytes that the base64 text stands for; `None` if it is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        decode_base64(&self.0)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What not everybody may read, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// True: `data` can never be changed again, only the whole object deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Bytes by name, in base64. A name has letters, digits, `-`, `_` and `.`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bytes_by_name")]
    pub data: BTreeMap<String, SecretValue>,
    /// Texts by name, for writing only: the server puts them into `data`, over what stands there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>", extend("writeOnly" = true))]
    pub string_data: BTreeMap<String, SecretValue>,
    /// What it is for, `Opaque` if it is absent; some types ask for certain names in `data`. Immutable.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

const OPAQUE: &str = "Opaque";
/// The annotation of a Secret that is shown without its values.
pub const ELIDED: &str = "appm.dev/elided";
/// Where kubectl keeps what was applied last, values included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Secret {
    /// A Secret for whom may see its keys and not its values.
    pub fn elided(object: &Value) -> Body {
        let mut object = object.clone();
        if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
            data.values_mut().for_each(|value| *value = json!(""));
        }
        if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
            annotations.shift_remove(LAST_APPLIED);
        }
        object["metadata"]["annotations"][ELIDED] = json!("true");
        Body::new(object)
    }
}

/// One that was read without its values would lose them if it was written back.
fn check_elided(new: &Value) -> Option<Violation> {
    let message = "this Secret was read without its values, which takes the verb `reveal`; written back as it is it would lose them. \
                   Change it by a patch (kubectl label, annotate, patch, edit), or leave out this annotation and give all of `data`";
    let there = !new["metadata"]["annotations"][ELIDED].is_null();
    there.then(|| Violation::new(FieldPath::of("metadata.annotations").key(ELIDED), Problem::Forbidden, message))
}

fn normalize(object: &mut Value) {
    normalize_map(object, "data", true);
    normalize_map(object, "stringData", false);
    if object["type"] == ""
        && let Value::Object(map) = object
    {
        map.shift_remove("type");
    }
    let Some(Value::Object(texts)) = object.get_mut("stringData").map(Value::take) else { return };
    // What is no text stays where it is, and is refused there.
    let (texts, odd): (Map<_, _>, Map<_, _>) = texts.into_iter().partition(|(_, value)| value.is_string());
    let map = object.as_object_mut().expect("it has a field");
    if odd.is_empty() {
        map.shift_remove("stringData");
    } else {
        map.insert("stringData".to_owned(), odd.into());
    }
    if texts.is_empty() {
        return;
    }
    if let Value::Object(data) = map.entry("data").or_insert_with(|| json!({})) {
        let bytes = |text: Value| encode_base64(text.as_str().unwrap_or_default().as_bytes());
        data.extend(texts.into_iter().map(|(name, text)| (name, bytes(text).into())));
    }
}

fn defaults(object: &mut Value) {
    if object["type"].is_null() {
        object["type"] = OPAQUE.into();
    }
}

/// The entries that a type asks for, and what they must be.
fn check_type(object: &Value) -> Vec<Violation> {
    let at_entry = |name: &str| FieldPath::of("data").key(name);
    let missing = |name: &str| Violation::new(at_entry(name), Problem::Required, "");
    let has = |name: &str| object["data"].get(name).is_some();
    let absent = |names: &[&str]| names.iter().filter(|n| !has(n)).map(|n| missing(n)).collect();
    match object["type"].as_str().unwrap_or(OPAQUE) {
        "kubernetes.io/tls" => absent(&["tls.crt", "tls.key"]),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => absent(&["username", "password"]),
        "kubernetes.io/ssh-auth" => {
            let there = object["data"]["ssh-privatekey"].as_str().is_some_and(|key| !key.is_empty());
            (!there).then(|| missing("ssh-privatekey")).into_iter().collect()
        }
        "kubernetes.io/dockercfg" => check_json(object, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => check_json(object, ".dockerconfigjson"),
        "kubernetes.io/service-account-token" => {
            let name = "kubernetes.io/service-account.name";
            let there = at(object, &["metadata", "annotations", name]).as_str().is_some_and(|n| !n.is_empty());
            let path = FieldPath::of("metadata.annotations").key(name);
            (!there).then(|| Violation::new(path, Problem::Required, "")).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn check_json(object: &Value, name: &str) -> Vec<Violation> {
    let path = FieldPath::of("data").key(name);
    let Some(text) = object["data"][name].as_str() else {
        return vec![Violation::new(path, Problem::Required, "")];
    };
    // What is not even base64 is found elsewhere.
    let Some(bytes) = decode_base64(text) else { return Vec::new() };
    match serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&bytes) {
        Ok(_) => Vec::new(),
        Err(_) => vec![Violation::new(path, Problem::Invalid, "<secret contents redacted>: must be a JSON object")],
    }
}

fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut found = check_names(new, "data");
    let (size, wrong) = check_bytes(new, "data");
    found.extend(wrong);
    found.extend(check_size(FieldPath::of("data"), size));
    found.extend(check_type(new));
    found.extend(check_elided(new));
    if let Some(old) = old.filter(|old| old["type"] != new["type"]) {
        let message = format!("{}: field is immutable; it is {}", new["type"], old["type"]);
        found.push(Violation::new(FieldPath::of("type"), Problem::Invalid, message));
    }
    found.extend(check_immutable(new, old, &["data"]));
    found
}

impl Kind for Secret {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    sealed: true,
    columns: &[
        Column {
            name: "Type",
            data_type: "string",
            description: "what it is for",
            wide: false,
            cell: |o, _| o["type"].clone(),
        },
        Column {
            name: "Data",
            data_type: "integer",
            description: "how many entries",
            wide: false,
            cell: |o, _| entries(o, "data").count().into(),
        },
    ],
    fields: &[SelectableField {
        label: "type",
        value: |o| {
            Some(match o.typed::<Secret>()?.body.kind.as_str() {
                "" => "Opaque".to_owned(),
                kind => kind.to_owned(),
            })
        },
    }],
    normalize,
    defaults,
    check,
    ..KindInfo::of::<Secret>("Secret", "secrets", "secret")
};

#[cfg(test)]
mod tests {
    use super::*;

    fn found(new: Value, old: Option<Value>) -> Vec<String> {
        check(&new, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn string_data_goes_over_data_and_is_gone() {
        let mut object =
            json!({"type": "", "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "hello", "c": null}});
        normalize(&mut object);
        assert_eq!(object, json!({"data": {"a": "eA==", "b": "aGVsbG8=", "c": ""}}));
        let mut odd = json!({"stringData": {"a": 1, "b": "hello"}});
        normalize(&mut odd);
        assert_eq!(odd, json!({"stringData": {"a": 1}, "data": {"b": "aGVsbG8="}}));
    }

    #[test]
    fn types_ask_for_their_entries() {
        for (kind, data, expected) in [
            ("kubernetes.io/tls", json!({"tls.crt": ""}), "data[tls.key]: Required value"),
            ("kubernetes.io/tls", json!({"tls.crt": "", "tls.key": ""}), ""),
            ("kubernetes.io/basic-auth", json!({}), "data[username]: Required value, data[password]: Required value"),
            ("kubernetes.io/basic-auth", json!({"password": "eA=="}), ""),
            ("kubernetes.io/ssh-auth", json!({"ssh-privatekey": ""}), "data[ssh-privatekey]: Required value"),
            ("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson]: Required value"),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "eA=="}),
                "data[.dockerconfigjson]: Invalid value: <secret contents redacted>: must be a JSON object",
            ),
            ("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="}), ""),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
            ("example.com/any", json!({"x": "?"}), "data[x]: Invalid value: must be in base64"),
        ] {
            assert_eq!(found(json!({"type": kind, "data": data}), None).join(", "), expected, "{kind} {data}");
        }
    }

    #[test]
    fn the_type_never_changes() {
        let old = json!({"type": "Opaque"});
        let said = found(json!({"type": "other"}), Some(old));
        assert_eq!(said, ["type: Invalid value: \"other\": field is immutable; it is \"Opaque\""]);
    }

    #[test]
    fn values_are_not_printed() {
        let json = br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"a":"aHVudGVyMg=="}}"#;
        let secret = super::super::Object::<Secret>::from_slice(json).expect("valid");
        assert!(!format!("{secret:?}").contains("aHVudGVyMg"), "{secret:?}");
        assert_eq!(secret.data["a"].bytes().as_deref(), Some(&b"hunter2"[..]));
    }
}
