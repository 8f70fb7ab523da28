//! The little of protobuf's wire format that Kubernetes clients insist on: reading `k8s\0` request bodies of Kubernetes' own
//! kinds, and writing the OpenAPI 2 document. Two field types are enough: varints and length-delimited.

mod bodies;

use serde_json::{Value, json};

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

    /// A whole number that is not negative, even zero.
    #[cfg(test)]
    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
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

/// A field of a message as it stands on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order; fixed ones are skipped.
struct Fields<'a>(Vec<(u64, Wire<'a>)>);

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
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = read_varint(&mut bytes)?;
            let skip = match tag & 7 {
                0 => {
                    fields.push((tag >> 3, Wire::Varint(read_varint(&mut bytes)?)));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(read_varint(&mut bytes)?).ok()?,
                _ => return None,
            };
            let (value, rest) = bytes.split_at_checked(skip)?;
            if tag & 7 == 2 {
                fields.push((tag >> 3, Wire::Bytes(value)));
            }
            bytes = rest;
        }
        Some(Self(fields))
    }

    /// Every value of a length-delimited field.
    fn all(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(number, wire)| match wire {
            Wire::Bytes(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    /// The last value of a length-delimited field, which is the one that counts.
    fn bytes(&self, field: u64) -> Option<&'a [u8]> {
        self.all(field).last()
    }

    /// The last value of a varint field.
    fn varint(&self, field: u64) -> Option<u64> {
        self.0.iter().rev().find_map(|(number, wire)| match wire {
            Wire::Varint(value) if *number == field => Some(*value),
            _ => None,
        })
    }

    fn text(&self, field: u64) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(field).unwrap_or_default()).ok()
    }
}

/// Decodes a request body in `application/vnd.kubernetes.protobuf` into JSON; `None` for kinds that are not known here.
pub(super) fn decode(body: &[u8]) -> Option<Value> {
    let unknown = Fields::read(body.strip_prefix(b"k8s\0")?)?;
    let type_meta = Fields::read(unknown.bytes(1)?)?;
    let (api_version, kind) = (type_meta.text(1)?, type_meta.text(2)?);
    let layout = bodies::layout(api_version, kind)?;
    let mut object = json!({"apiVersion": api_version, "kind": kind});
    let fields = bodies::read(layout, &Fields::read(unknown.bytes(2).unwrap_or_default())?)?;
    object.as_object_mut()?.extend(fields);
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn envelope(api_version: &str, kind: &str, raw: Message) -> Vec<u8> {
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
        assert_eq!(decode(&envelope("v1", "Service", Message::new())), None);
        let whole = envelope("v1", "Namespace", Message::new().message(1, Message::new().text(1, "blue")));
        for cut in 0..whole.len() - 1 {
            let _ = decode(&whole[..cut]);
        }
        assert_eq!(decode(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
