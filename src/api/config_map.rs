//! ConfigMap: settings by name, Kubernetes' own `v1` kind; and the rules that it shares with Secret.

use std::collections::BTreeMap;

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Column, FieldPath, Kind, KindInfo, Problem, Violation};

/// Most bytes of all values together, as in Kubernetes.
pub(super) const LARGEST: usize = 1 << 20;

/// Settings by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMap {
    /// True: `data` and `binaryData` can never be changed again, only the whole object deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Texts by name. A name has letters, digits, `-`, `_` and `.`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes by name, in base64. No name may stand in `data` too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bytes_by_name")]
    pub binary_data: BTreeMap<String, String>,
}

/// The schema of a map of base64 texts.
pub(super) fn bytes_by_name(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"type": "string", "format": "byte"}})
}

/// Base64 as Kubernetes reads it: padded, the bits after the last byte ignored.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The bytes of a base64 text; line breaks are skipped.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    BASE64.decode(text).ok()
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// The entries of a map in an object.
pub(super) fn entries<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    object[name].as_object().into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

/// A null entry is an empty one; every text of bytes is written in the one way that base64 is written here.
pub(super) fn normalize_map(object: &mut Value, name: &str, is_bytes: bool) {
    for value in object.get_mut(name).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        match value {
            Value::Null => *value = "".into(),
            Value::String(text) if is_bytes => {
                if let Some(bytes) = decode_base64(text) {
                    *text = encode_base64(&bytes);
                }
            }
            _ => {}
        }
    }
}

/// The rules of names: they become names of files.
pub(super) fn check_names(object: &Value, map: &str) -> Vec<Violation> {
    let wrong = entries(object, map).filter_map(|(name, _)| {
        let why = wrong_name(name)?;
        Some(Violation::new(FieldPath::of(map).key(name), Problem::Invalid, why))
    });
    wrong.collect()
}

fn wrong_name(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Some(format!("\"{name}\": must consist of alphanumeric characters, '-', '_' or '.'"));
    }
    match name {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if name.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The bytes of a map of base64 texts, and the entries that are none.
pub(super) fn check_bytes(object: &Value, map: &str) -> (usize, Vec<Violation>) {
    let (mut size, mut found) = (0, Vec::new());
    for (name, text) in entries(object, map) {
        match decode_base64(text) {
            Some(bytes) => size += bytes.len(),
            None => found.push(Violation::new(FieldPath::of(map).key(name), Problem::Invalid, "must be in base64")),
        }
    }
    (size, found)
}

/// Too much of it all.
pub(super) fn check_size(at: FieldPath, size: usize) -> Option<Violation> {
    (size > LARGEST).then(|| Violation::new(at, Problem::TooLong, format!("may not be more than {LARGEST} bytes")))
}

/// What `immutable: true` forbids.
pub(super) fn check_immutable(new: &Value, old: Option<&Value>, maps: &[&str]) -> Vec<Violation> {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return Vec::new() };
    let why = "field is immutable when `immutable` is set";
    let forbidden = |name: &str| Violation::new(FieldPath::of(name), Problem::Forbidden, why);
    let released = (new["immutable"] != true).then(|| forbidden("immutable"));
    let same = |name: &str| entries(new, name).eq(entries(old, name)) || sorted(new, name) == sorted(old, name);
    released.into_iter().chain(maps.iter().filter(|name| !same(name)).map(|name| forbidden(name))).collect()
}

fn sorted<'a>(object: &'a Value, name: &str) -> BTreeMap<&'a String, &'a str> {
    entries(object, name).collect()
}

fn normalize(object: &mut Value) {
    normalize_map(object, "data", false);
    normalize_map(object, "binaryData", true);
}

fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut found = check_names(new, "data");
    found.extend(check_names(new, "binaryData"));
    let (bytes, wrong) = check_bytes(new, "binaryData");
    found.extend(wrong);
    for (name, _) in entries(new, "data").filter(|(name, _)| new["binaryData"].get(name.as_str()).is_some()) {
        let at = FieldPath::of("data").key(name);
        found.push(Violation::new(at, Problem::Invalid, "duplicate of key present in binaryData"));
    }
    let texts: usize = entries(new, "data").map(|(_, text)| text.len()).sum();
    found.extend(check_size(FieldPath::of("data"), texts + bytes));
    found.extend(check_immutable(new, old, &["data", "binaryData"]));
    found
}

impl Kind for ConfigMap {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["cm"],
    columns: &[Column {
        name: "Data",
        data_type: "integer",
        description: "how many entries",
        wide: false,
        cell: |o, _| (entries(o, "data").count() + entries(o, "binaryData").count()).into(),
    }],
    normalize,
    check,
    ..KindInfo::of::<ConfigMap>("ConfigMap", "configmaps", "configmap")
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(new: Value, old: Option<Value>) -> Vec<String> {
        check(&new, old.as_ref()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_those_of_files_and_stand_in_one_map_only() {
        let new = json!({
            "data": {"a.b-c_D": "1", "..": "1", "..x": "1", "a b": "1", "both": "1"},
            "binaryData": {"both": "AAE=", "bad": "?"},
        });
        insta::assert_snapshot!(found(new, None).join("\n"), @r#"
        data[..]: Invalid value: must not be '..'
        data[..x]: Invalid value: must not start with '..'
        data[a b]: Invalid value: "a b": must consist of alphanumeric characters, '-', '_' or '.'
        binaryData[bad]: Invalid value: must be in base64
        data[both]: Invalid value: duplicate of key present in binaryData
        "#);
    }

    #[test]
    fn a_mebibyte_is_the_most() {
        let fits = json!({"data": {"a": "x".repeat(LARGEST)}});
        assert_eq!(found(fits, None), Vec::<String>::new());
        let one_more = json!({"data": {"a": "x".repeat(LARGEST)}, "binaryData": {"b": "AA=="}});
        assert_eq!(found(one_more, None), ["data: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn an_immutable_one_stays_as_it_is() {
        let old = json!({"immutable": true, "data": {"a": "1", "b": "2"}});
        let turned = json!({"immutable": true, "data": {"b": "2", "a": "1"}});
        assert_eq!(found(turned, Some(old.clone())), Vec::<String>::new());
        assert_eq!(
            found(json!({"data": {"a": "2"}}), Some(old)),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }

    #[test]
    fn base64_is_rewritten_in_one_way() {
        let mut object = json!({"data": {"n": null}, "binaryData": {"a": "aGVs\nbG8=", "odd": "aGVsbG9="}});
        normalize(&mut object);
        assert_eq!(object, json!({"data": {"n": ""}, "binaryData": {"a": "aGVsbG8=", "odd": "aGVsbG8="}}));
    }
}
