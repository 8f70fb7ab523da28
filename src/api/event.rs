//! Event: something that happened to an object, once or often.
//!
//! Stored in the shape of core `v1`; `events.k8s.io/v1` shows the same rows under that API's names.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ChangeLog, Column, Kind, KindInfo, MicroTime, Object, ObjectMeta, Scope, Time, Verbs, View, as_written, at,
    decode_as, no_check, schema_of,
};

/// Kubernetes' core `v1` Event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What it happened to.
    pub involved_object: ObjectReference,
    /// One CamelCase word.
    #[serde(default)]
    pub reason: String,
    /// One sentence.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// Who says so.
    #[serde(default)]
    pub source: EventSource,
    /// When it happened first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_timestamp: Option<Time>,
    /// When it happened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_timestamp: Option<Time>,
    /// How often.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: i32,
    /// `Normal` or `Warning`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// When it happened first, to the microsecond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<MicroTime>,
    /// Repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<EventSeries>,
    /// What was done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// A second object that has to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<ObjectReference>,
    /// Who says so, `appm.dev/agent`.
    #[serde(default)]
    pub reporting_component: String,
    /// Which of several.
    #[serde(default)]
    pub reporting_instance: String,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// A reference to an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Its `apiVersion`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Its kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Its revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// The part of it that is meant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl ObjectReference {
    /// A reference to a stored object.
    pub fn to<K: Kind>(object: &Object<K>) -> Self {
        Self::from_meta(K::INFO, &object.metadata)
    }

    /// A reference to an object of `kind` with metadata `meta`.
    pub fn from_meta(kind: &KindInfo, meta: &ObjectMeta) -> Self {
        Self {
            api_version: kind.api_version(),
            kind: kind.kind.to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.as_ref().map(ToString::to_string).unwrap_or_default(),
            resource_version: String::new(),
            field_path: String::new(),
        }
    }
}

/// Who reports, in core `v1`'s words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventSource {
    /// The component.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// Repetitions of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSeries {
    /// How often.
    #[serde(default)]
    pub count: i32,
    /// When last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<MicroTime>,
}

/// `events.k8s.io/v1` Event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the same fields as above under that API's names")]
pub struct RegardingEvent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<MicroTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<EventSeries>,
    #[serde(default)]
    pub reporting_controller: String,
    #[serde(default)]
    pub reporting_instance: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub regarding: ObjectReference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<ObjectReference>,
    #[serde(default)]
    pub note: String,
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub deprecated_source: EventSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_first_timestamp: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_last_timestamp: Option<Time>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deprecated_count: i32,
}

/// core `v1` name, `events.k8s.io/v1` name.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn renamed(object: &Value, api_version: &str, name: impl Fn(&str) -> String) -> Value {
    let fields: Map<String, Value> =
        object.as_object().into_iter().flatten().map(|(key, value)| (name(key), value.clone())).collect();
    let mut out = Value::Object(fields);
    out["apiVersion"] = json!(api_version);
    out
}

fn project(core: &Value) -> Value {
    renamed(core, "events.k8s.io/v1", |key| {
        RENAMED.iter().find(|(from, _)| *from == key).map_or(key, |(_, to)| to).to_owned()
    })
}

fn lift(event: &Value) -> Value {
    renamed(event, "v1", |key| RENAMED.iter().find(|(_, to)| *to == key).map_or(key, |(from, _)| from).to_owned())
}

fn regarding_schema(generator: &mut SchemaGenerator) -> Schema {
    super::object::object_schema::<RegardingEvent>(generator)
}

impl Kind for Event {
    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: Verbs::All,
        subresources: &[],
        log: ChangeLog::Short,
        sealed: false,
        columns: &[
            Column {
                name: "Last Seen",
                data_type: "date",
                description: "when it happened last",
                wide: false,
                cell: |o, _| match at(o, &["series", "lastObservedTime"]) {
                    Value::Null if o["lastTimestamp"].is_null() => o["eventTime"].clone(),
                    Value::Null => o["lastTimestamp"].clone(),
                    at => at.clone(),
                },
            },
            Column {
                name: "Type",
                data_type: "string",
                description: "Normal or Warning",
                wide: false,
                cell: |o, _| o["type"].clone(),
            },
            Column {
                name: "Reason",
                data_type: "string",
                description: "one word",
                wide: false,
                cell: |o, _| o["reason"].clone(),
            },
            Column {
                name: "Object",
                data_type: "string",
                description: "what it happened to",
                wide: false,
                cell: |o, _| {
                    let about = &o["involvedObject"];
                    let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
                    format!("{kind}/{}", about["name"].as_str().unwrap_or_default()).into()
                },
            },
            Column {
                name: "Count",
                data_type: "integer",
                description: "how often",
                wide: true,
                cell: |o, _| o["count"].as_i64().unwrap_or(1).into(),
            },
            Column {
                name: "Message",
                data_type: "string",
                description: "one sentence",
                wide: false,
                cell: |o, _| o["message"].clone(),
            },
        ],
        views: &[View {
            group: "events.k8s.io",
            version: "v1",
            kind: "Event",
            plural: "events",
            singular: "event",
            short_names: &["ev"],
            verbs: Verbs::All,
            project,
            lift: Some(lift),
            schema: regarding_schema,
        }],
        schema: schema_of::<Event>,
        normalize: as_written,
        defaults: as_written,
        check: no_check,
        decode: decode_as::<Event>,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_event_apis_show_the_same_row() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "x"}, "involvedObject": {"name": "web"},
            "message": "m", "count": 3, "reason": "Started", "reportingComponent": "appm.dev/agent",
        });
        let shown = project(&core);
        assert_eq!(
            (&shown["regarding"]["name"], &shown["note"], &shown["deprecatedCount"]),
            (&json!("web"), &json!("m"), &json!(3))
        );
        assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
        assert_eq!(lift(&shown), core);
    }
}
