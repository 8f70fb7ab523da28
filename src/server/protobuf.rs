//! The little of protobuf's wire format that Kubernetes clients insist on: reading `k8s\0` request bodies of a few built-in kinds,
//! and writing the OpenAPI 2 document. Two field types are enough: varints and length-delimited.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Writes one message.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// An empty message.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A text; an empty one is left out.
    pub(super) fn text(mut self, field: u64, text: &str) -> Self {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
        self
    }

    /// A boolean; false is left out.
    pub(super) fn flag(mut self, field: u64, value: bool) -> Self {
        if value {
            self.varint(field << 3);
            self.varint(1);
        }
        self
    }

    /// A message in this one, even if it is empty.
    pub(super) fn message(mut self, field: u64, message: Message) -> Self {
        self.bytes(field, &message.0);
        self
    }

    /// One message for each item.
    pub(super) fn each<T>(
        self,
        field: u64,
        items: impl IntoIterator<Item = T>,
        message: impl Fn(T) -> Message,
    ) -> Self {
        items.into_iter().fold(self, |out, item| out.message(field, message(item)))
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// The fields of a message, by number: length-delimited ones, and those varints that are true. Fixed ones are skipped.
struct Fields<'a>(Vec<(u64, &'a [u8])>, Vec<u64>);

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl<'a> Fields<'a> {
    fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let (mut fields, mut flags) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            let tag = read_varint(&mut bytes)?;
            let skip = match tag & 7 {
                0 => {
                    if read_varint(&mut bytes)? != 0 {
                        flags.push(tag >> 3);
                    }
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(read_varint(&mut bytes)?).ok()?,
                _ => return None,
            };
            let (value, rest) = bytes.split_at_checked(skip)?;
            if tag & 7 == 2 {
                fields.push((tag >> 3, value));
            }
            bytes = rest;
        }
        Some(Self(fields, flags))
    }

    fn bytes(&self, field: u64) -> &'a [u8] {
        self.0.iter().rev().find(|(n, _)| *n == field).map_or(&[], |(_, value)| value)
    }

    fn message(&self, field: u64) -> Option<Fields<'a>> {
        Fields::read(self.bytes(field))
    }

    fn text(&self, field: u64) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(field)).ok()
    }

    /// Sets `out[name]` to the text of a field, if it is not empty.
    fn put(&self, field: u64, out: &mut Value, name: &str) -> Option<()> {
        let text = self.text(field)?;
        if !text.is_empty() {
            out[name] = json!(text);
        }
        Some(())
    }

    /// Sets `out[name]` to a `map`, if it is not empty; `value` reads an entry's value.
    fn put_map(
        &self,
        field: u64,
        out: &mut Value,
        name: &str,
        value: impl Fn(&Fields<'_>) -> Option<Value>,
    ) -> Option<()> {
        let entries = self.0.iter().filter(|(n, _)| *n == field).map(|(_, entry)| {
            let entry = Fields::read(entry)?;
            Some((entry.text(1)?.to_owned(), value(&entry)?))
        });
        let map = entries.collect::<Option<Map<String, Value>>>()?;
        if !map.is_empty() {
            out[name] = map.into();
        }
        Some(())
    }

    /// Sets `out[name]` if a flag is.
    fn put_flag(&self, field: u64, out: &mut Value, name: &str) {
        if self.1.contains(&field) {
            out[name] = json!(true);
        }
    }
}

/// Decodes a request body in `application/vnd.kubernetes.protobuf` into JSON; `None` for kinds that are not known here.
pub(super) fn decode(body: &[u8]) -> Option<Value> {
    let unknown = Fields::read(body.strip_prefix(b"k8s\0")?)?;
    let type_meta = unknown.message(1)?;
    let (api_version, kind) = (type_meta.text(1)?, type_meta.text(2)?);
    let raw = unknown.message(2)?;
    let mut object = json!({"apiVersion": api_version, "kind": kind});
    match (api_version, kind) {
        ("v1", "Namespace") => object["metadata"] = metadata(&raw.message(1)?)?,
        ("v1", "ConfigMap") => config_map(&raw, &mut object)?,
        ("v1", "Secret") => secret(&raw, &mut object)?,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => object["spec"] = access(&raw.message(2)?)?,
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => {
            object["spec"] = json!({"namespace": raw.message(2)?.text(1)?});
        }
        ("authentication.k8s.io/v1", "SelfSubjectReview") => {}
        (_, "DeleteOptions") => delete_options(&raw, &mut object)?,
        _ => return None,
    }
    Some(object)
}

fn metadata(meta: &Fields<'_>) -> Option<Value> {
    let mut out = json!({});
    meta.put(1, &mut out, "name")?;
    meta.put(2, &mut out, "generateName")?;
    meta.put(3, &mut out, "namespace")?;
    meta.put_map(11, &mut out, "labels", text_value)?;
    meta.put_map(12, &mut out, "annotations", text_value)?;
    Some(out)
}

/// The value of an entry of a `map<string, string>`.
fn text_value(entry: &Fields<'_>) -> Option<Value> {
    entry.text(2).map(|text| json!(text))
}

/// The value of an entry of a `map<string, bytes>`, as JSON has it.
fn bytes_value(entry: &Fields<'_>) -> Option<Value> {
    Some(json!(STANDARD.encode(entry.bytes(2))))
}

fn config_map(raw: &Fields<'_>, out: &mut Value) -> Option<()> {
    out["metadata"] = metadata(&raw.message(1)?)?;
    raw.put_map(2, out, "data", text_value)?;
    raw.put_map(3, out, "binaryData", bytes_value)?;
    raw.put_flag(4, out, "immutable");
    Some(())
}

fn secret(raw: &Fields<'_>, out: &mut Value) -> Option<()> {
    out["metadata"] = metadata(&raw.message(1)?)?;
    raw.put_map(2, out, "data", bytes_value)?;
    raw.put(3, out, "type")?;
    raw.put_map(4, out, "stringData", text_value)?;
    raw.put_flag(5, out, "immutable");
    Some(())
}

fn access(spec: &Fields<'_>) -> Option<Value> {
    let mut out = json!({});
    if spec.0.iter().any(|(n, _)| *n == 1) {
        let (from, mut to) = (spec.message(1)?, json!({}));
        for (field, name) in [
            (1, "namespace"),
            (2, "verb"),
            (3, "group"),
            (4, "version"),
            (5, "resource"),
            (6, "subresource"),
            (7, "name"),
        ] {
            from.put(field, &mut to, name)?;
        }
        out["resourceAttributes"] = to;
    }
    if spec.0.iter().any(|(n, _)| *n == 2) {
        let (from, mut to) = (spec.message(2)?, json!({}));
        from.put(1, &mut to, "path")?;
        from.put(2, &mut to, "verb")?;
        out["nonResourceAttributes"] = to;
    }
    Some(out)
}

/// Only what is a text: preconditions and propagation policy. The grace period of a built-in kind is of no use here.
fn delete_options(raw: &Fields<'_>, out: &mut Value) -> Option<()> {
    let preconditions = raw.message(2)?;
    let mut must = json!({});
    preconditions.put(1, &mut must, "uid")?;
    preconditions.put(2, &mut must, "resourceVersion")?;
    if must.as_object().is_some_and(|m| !m.is_empty()) {
        out["preconditions"] = must;
    }
    raw.put(4, out, "propagationPolicy")?;
    let stages: Vec<&str> =
        raw.0.iter().filter(|(n, _)| *n == 5).filter_map(|(_, v)| std::str::from_utf8(v).ok()).collect();
    if !stages.is_empty() {
        out["dryRun"] = json!(stages);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(api_version: &str, kind: &str, raw: Message) -> Vec<u8> {
        let unknown = Message::new().message(1, Message::new().text(1, api_version).text(2, kind)).message(2, raw);
        [b"k8s\0".to_vec(), unknown.into_bytes()].concat()
    }

    #[test]
    fn a_namespace_is_read_with_its_labels() {
        let label = Message::new().text(1, "team").text(2, "a");
        let raw = Message::new().message(1, Message::new().text(1, "blue").message(11, label));
        let read = decode(&envelope("v1", "Namespace", raw)).expect("decoded");
        let expected =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue", "labels": {"team": "a"}}});
        assert_eq!(read, expected);
    }

    #[test]
    fn maps_and_secrets_are_read_with_their_bytes() {
        let entry = |name: &str, value: &str| Message::new().text(1, name).text(2, value);
        let meta = || Message::new().text(1, "door").text(3, "blue");
        let map = Message::new().message(1, meta()).message(2, entry("a", "b")).message(3, entry("raw", "1234"));
        let read = decode(&envelope("v1", "ConfigMap", map.flag(4, true))).expect("decoded");
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "door", "namespace": "blue"},
            "data": {"a": "b"}, "binaryData": {"raw": "MTIzNA=="}, "immutable": true,
        });
        assert_eq!(read, expected);
        let secret = Message::new().message(1, meta()).message(2, entry("key", "1234")).text(3, "Opaque");
        let read = decode(&envelope("v1", "Secret", secret)).expect("decoded");
        assert_eq!((&read["data"], &read["type"]), (&json!({"key": "MTIzNA=="}), &json!("Opaque")));
    }

    #[test]
    fn an_access_review_is_read() {
        let attributes = Message::new().text(2, "get").text(3, "appm.dev").text(5, "apps");
        let raw = Message::new().message(2, Message::new().message(1, attributes));
        let read = decode(&envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", raw)).expect("decoded");
        let expected = json!({"verb": "get", "group": "appm.dev", "resource": "apps"});
        assert_eq!(read["spec"]["resourceAttributes"], expected);
    }

    #[test]
    fn other_kinds_and_broken_bytes_are_not_read() {
        assert_eq!(decode(&envelope("v1", "Pod", Message::new())), None);
        let whole = envelope("v1", "Namespace", Message::new().message(1, Message::new().text(1, "blue")));
        for cut in 0..whole.len() - 1 {
            let _ = decode(&whole[..cut]);
        }
        assert_eq!(decode(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
