//! What stands under which number in the messages of Kubernetes' own kinds (`generated.proto` of k8s.io/api), and how it
//! looks in JSON. Fields that only the server writes are left out.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Fields;
use crate::api::{MicroTime, Time};

/// Number, name in JSON, and what it holds.
pub(super) type Layout = &'static [(u64, &'static str, Holds)];

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    /// A text; an empty one says nothing, since Go writes every field.
    Text,
    /// An integer of up to 64 bits, with its sign.
    Number,
    Flag,
    /// Several texts.
    Texts,
    /// `map<string, string>`
    TextMap,
    /// `map<string, bytes>`: base64 in JSON.
    ByteMap,
    /// `map<string, Quantity>`: messages with one text.
    Amounts,
    /// Seconds and nanoseconds; none at all is no time.
    Time,
    MicroTime,
    One(Layout),
    Many(Layout),
}
use Holds::{Amounts, ByteMap, Flag, Many, MicroTime as Micro, Number, One, Text, TextMap, Texts, Time as Seconds};

const OWNER: Layout = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
const METADATA: Layout = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Many(OWNER)),
    (14, "finalizers", Texts),
];
const NAMESPACE: Layout = &[(1, "metadata", One(METADATA)), (2, "spec", One(&[(1, "finalizers", Texts)]))];
const SECRET: Layout = &[
    (1, "metadata", One(METADATA)),
    (2, "data", ByteMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Flag),
];
const CONFIG_MAP: Layout =
    &[(1, "metadata", One(METADATA)), (2, "data", TextMap), (3, "binaryData", ByteMap), (4, "immutable", Flag)];
const RESOURCE_QUOTA: Layout = &[
    (1, "metadata", One(METADATA)),
    (2, "spec", One(&[(1, "hard", Amounts), (2, "scopes", Texts), (3, "scopeSelector", One(&[]))])),
    (3, "status", One(&[(1, "hard", Amounts), (2, "used", Amounts)])),
];
const LEASE_SPEC: Layout = &[
    (1, "holderIdentity", Text),
    (2, "leaseDurationSeconds", Number),
    (3, "acquireTime", Micro),
    (4, "renewTime", Micro),
    (5, "leaseTransitions", Number),
    (6, "strategy", Text),
    (7, "preferredHolder", Text),
];
const LEASE: Layout = &[(1, "metadata", One(METADATA)), (2, "spec", One(LEASE_SPEC))];
const REFERENCE: Layout = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];
const SOURCE: Layout = &[(1, "component", Text), (2, "host", Text)];
const SERIES: Layout = &[(1, "count", Number), (2, "lastObservedTime", Micro)];
const EVENT: Layout = &[
    (1, "metadata", One(METADATA)),
    (2, "involvedObject", One(REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", One(SOURCE)),
    (6, "firstTimestamp", Seconds),
    (7, "lastTimestamp", Seconds),
    (8, "count", Number),
    (9, "type", Text),
    (10, "eventTime", Micro),
    (11, "series", One(SERIES)),
    (12, "action", Text),
    (13, "related", One(REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];
const REGARDING_EVENT: Layout = &[
    (1, "metadata", One(METADATA)),
    (2, "eventTime", Micro),
    (3, "series", One(SERIES)),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", One(REFERENCE)),
    (9, "related", One(REFERENCE)),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", One(SOURCE)),
    (13, "deprecatedFirstTimestamp", Seconds),
    (14, "deprecatedLastTimestamp", Seconds),
    (15, "deprecatedCount", Number),
];
const RESOURCE: Layout = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const ACCESS: Layout = &[
    (1, "resourceAttributes", One(RESOURCE)),
    (2, "nonResourceAttributes", One(&[(1, "path", Text), (2, "verb", Text)])),
];
const DELETE_OPTIONS: Layout = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", One(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
];

/// The layout of a kind; `None` for those that nobody sends here.
pub(super) fn layout(api_version: &str, kind: &str) -> Option<Layout> {
    Some(match (api_version, kind) {
        ("v1", "Namespace") => NAMESPACE,
        ("v1", "Secret") => SECRET,
        ("v1", "ConfigMap") => CONFIG_MAP,
        ("v1", "ResourceQuota") => RESOURCE_QUOTA,
        ("v1", "Event") => EVENT,
        ("events.k8s.io/v1", "Event") => REGARDING_EVENT,
        ("coordination.k8s.io/v1", "Lease") => LEASE,
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => &[(2, "spec", One(ACCESS))],
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => &[(2, "spec", One(&[(1, "namespace", Text)]))],
        ("authentication.k8s.io/v1", "SelfSubjectReview") => &[],
        (_, "DeleteOptions") => DELETE_OPTIONS,
        _ => return None,
    })
}

/// A message in JSON; `None` if it is damaged.
pub(super) fn read(layout: Layout, fields: &Fields<'_>) -> Option<Map<String, Value>> {
    let mut out = Map::new();
    for (number, name, holds) in layout {
        if let Some(value) = field(fields, *number, *holds)? {
            out.insert((*name).to_owned(), value);
        }
    }
    Some(out)
}

/// The outer `None` if it is damaged, the inner one if it is not there.
fn field(fields: &Fields<'_>, number: u64, holds: Holds) -> Option<Option<Value>> {
    let present = |list: Vec<Value>| (!list.is_empty()).then(|| Value::Array(list));
    Some(match holds {
        Text => Some(fields.text(number)?).filter(|text| !text.is_empty()).map(Value::from),
        // Negative numbers stand there as their two's complement.
        Number => fields.varint(number).map(|n| Value::from(n.cast_signed())),
        Flag => fields.varint(number).map(|n| Value::from(n != 0)),
        Texts => {
            present(fields.all(number).map(|text| Some(std::str::from_utf8(text).ok()?.into())).collect::<Option<_>>()?)
        }
        TextMap => map(fields, number, |entry| Some(entry.text(2)?.into()))?,
        Amounts => {
            map(fields, number, |entry| Some(Fields::read(entry.bytes(2).unwrap_or_default())?.text(1)?.into()))?
        }
        ByteMap => {
            map(fields, number, |entry| Some(BASE64_STANDARD.encode(entry.bytes(2).unwrap_or_default()).into()))?
        }
        Seconds => time(fields, number)?.map(|at| json!(Time(at))),
        Micro => time(fields, number)?.map(|at| json!(MicroTime(at))),
        One(layout) => match fields.bytes(number) {
            Some(message) => Some(Value::Object(read(layout, &Fields::read(message)?)?)),
            None => None,
        },
        Many(layout) => present(
            fields
                .all(number)
                .map(|message| Some(Value::Object(read(layout, &Fields::read(message)?)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

fn map(fields: &Fields<'_>, number: u64, value: impl Fn(&Fields<'_>) -> Option<Value>) -> Option<Option<Value>> {
    let entries = fields.all(number).map(|entry| {
        let entry = Fields::read(entry)?;
        Some((entry.text(1)?.to_owned(), value(&entry)?))
    });
    let entries: Map<String, Value> = entries.collect::<Option<_>>()?;
    Some((!entries.is_empty()).then_some(Value::Object(entries)))
}

fn time(fields: &Fields<'_>, number: u64) -> Option<Option<Timestamp>> {
    let Some(message) = fields.bytes(number).filter(|message| !message.is_empty()) else { return Some(None) };
    let message = Fields::read(message)?;
    let seconds = message.varint(1).unwrap_or_default().cast_signed();
    let nanos = i32::try_from(message.varint(2).unwrap_or_default()).ok()?;
    Some(Some(Timestamp::new(seconds, nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::{Message, decode, tests::envelope};
    use super::*;

    #[test]
    fn kubernetes_own_kinds_are_read() {
        let metadata = || Message::new().text(1, "a").text(3, "default").message(8, Message::new());
        let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
        let secret = Message::new()
            .message(1, metadata())
            .message(2, entry("user", "me"))
            .message(2, entry("none", ""))
            .text(3, "Opaque")
            .flag(5, true);
        let config_map = Message::new().message(1, metadata()).message(2, entry("k", "v")).message(3, entry("b", "\0"));
        let amount = |key: &str, text: &str| Message::new().text(1, key).message(2, Message::new().text(1, text));
        let hard = Message::new().message(1, amount("pods", "10")).message(1, amount("cpu", "1500m"));
        let quota = Message::new().message(1, metadata()).message(2, hard);
        let time = Message::new().number(1, 1_767_225_600).number(2, 123_456_000);
        let spec = Message::new().text(1, "me").number(2, 15).message(4, time).number(5, 0);
        let lease = Message::new().message(1, metadata()).message(2, spec);
        let metadata = json!({"name": "a", "namespace": "default"});
        for (api_version, kind, raw, expected) in [
            (
                "v1",
                "Secret",
                secret,
                json!({"data": {"user": "bWU=", "none": ""}, "type": "Opaque", "immutable": true}),
            ),
            ("v1", "ResourceQuota", quota, json!({"spec": {"hard": {"pods": "10", "cpu": "1500m"}}})),
            ("v1", "ConfigMap", config_map, json!({"data": {"k": "v"}, "binaryData": {"b": "AA=="}})),
            (
                "coordination.k8s.io/v1",
                "Lease",
                lease,
                json!({"spec": {
                    "holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z",
                    "leaseTransitions": 0,
                }}),
            ),
        ] {
            let mut whole = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
            whole.as_object_mut().expect("an object").extend(expected.as_object().expect("an object").clone());
            assert_eq!(decode(&envelope(api_version, kind, raw)), Some(whole), "{kind}");
        }
    }

    #[test]
    fn an_event_is_read_in_both_of_its_forms() {
        let about = || Message::new().text(1, "App").text(3, "web");
        let empty_time = Message::new;
        let core = Message::new()
            .message(2, about())
            .text(3, "Started")
            .message(6, Message::new().number(1, 1_767_225_600))
            .number(8, 3)
            .message(10, empty_time());
        let read = decode(&envelope("v1", "Event", core)).expect("decoded");
        assert_eq!((&read["involvedObject"]["name"], &read["count"]), (&json!("web"), &json!(3)));
        assert_eq!((&read["firstTimestamp"], read.get("eventTime")), (&json!("2026-01-01T00:00:00Z"), None));
        let other = Message::new().message(8, about()).text(10, "note");
        let read = decode(&envelope("events.k8s.io/v1", "Event", other)).expect("decoded");
        assert_eq!((&read["regarding"]["kind"], &read["note"]), (&json!("App"), &json!("note")));
    }
}
