//! Event: something that happened to an object, once or often.
//!
//! Stored in the shape of core `v1`; `events.k8s.io/v1` shows the same rows under that API's names.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    ChangeLog, Column, FieldPath, Kind, KindInfo, MicroTime, Object, ObjectMeta, Problem, SelectableField, Time, Verbs,
    View, Violation, at,
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
    #[serde(default, skip_serializing_if = "super::is_zero")]
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
    #[serde(default, skip_serializing_if = "super::is_zero")]
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

macro_rules! fields {
    ($($label:literal: |$event:ident| $value:expr),* $(,)?) => {
        &[$(SelectableField {
            label: $label,
            value: |object| {
                let $event = object.typed::<Event>()?;
                Some($value.clone())
            },
        }),*]
    };
}

/// Each under its names in both APIs.
const FIELDS: &[SelectableField] = fields! {
    "reason": |e| e.reason,
    "type": |e| e.body.kind,
    "reportingComponent": |e| e.reporting_component,
    "reportingController": |e| e.reporting_component,
    "source": |e| if e.source.component.is_empty() { &e.reporting_component } else { &e.source.component },
    "involvedObject.kind": |e| e.involved_object.kind,
    "involvedObject.namespace": |e| e.involved_object.namespace,
    "involvedObject.name": |e| e.involved_object.name,
    "involvedObject.uid": |e| e.involved_object.uid,
    "involvedObject.apiVersion": |e| e.involved_object.api_version,
    "involvedObject.resourceVersion": |e| e.involved_object.resource_version,
    "involvedObject.fieldPath": |e| e.involved_object.field_path,
    "regarding.kind": |e| e.involved_object.kind,
    "regarding.namespace": |e| e.involved_object.namespace,
    "regarding.name": |e| e.involved_object.name,
    "regarding.uid": |e| e.involved_object.uid,
    "regarding.apiVersion": |e| e.involved_object.api_version,
    "regarding.resourceVersion": |e| e.involved_object.resource_version,
    "regarding.fieldPath": |e| e.involved_object.field_path,
};

fn regarding_schema(generator: &mut SchemaGenerator) -> Schema {
    super::object::object_schema::<RegardingEvent>(generator)
}

fn normalize(event: &mut Value) {
    for name in ["firstTimestamp", "lastTimestamp"] {
        event.get_mut(name).into_iter().for_each(Time::rewrite);
    }
    event.get_mut("eventTime").into_iter().for_each(MicroTime::rewrite);
    event.pointer_mut("/series/lastObservedTime").into_iter().for_each(MicroTime::rewrite);
}

/// Kubernetes' own rules for both APIs: an event is in its object's namespace, and one with an `eventTime`, which is how the
/// newer API tells them, says who did what.
fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let text = |path: &[&str]| at(new, path).as_str().unwrap_or_default();
    let mut found = Vec::new();
    let mut add = |path: &str, problem: Problem, message: &str| {
        found.push(Violation::new(FieldPath::of(path), problem, message));
    };
    let (namespace, about) = (text(&["metadata", "namespace"]), text(&["involvedObject", "namespace"]));
    let is_new = !new["eventTime"].is_null();
    let elsewhere = match about {
        "" => namespace != "default" && !(is_new && namespace == "kube-system"),
        about => about != namespace && !is_new,
    };
    if elsewhere {
        let message = format!("\"{about}\": does not match event.namespace");
        add("involvedObject.namespace", Problem::Invalid, &message);
    }
    if is_new {
        for (name, most) in
            [("reportingComponent", 253 + 64), ("reportingInstance", 128), ("action", 128), ("reason", 128)]
        {
            match text(&[name]) {
                "" => add(name, Problem::Required, ""),
                long if long.len() > most => {
                    add(name, Problem::Invalid, &format!("can have at most {most} characters"));
                }
                _ => {}
            }
        }
        if text(&["message"]).len() > 1024 {
            add("message", Problem::Invalid, "can have at most 1024 characters");
        }
    }
    found
}

/// What `events.k8s.io/v1` asks for beyond that. Its fields have the stored form's names here, as in Kubernetes' errors.
fn check_regarding(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |path: &str, problem: Problem, message: &str| {
        found.push(Violation::new(FieldPath::of(path), problem, message));
    };
    if old.is_none_or(|old| old["series"] != new["series"]) && !new["series"].is_null() {
        if new["series"]["count"].as_i64().unwrap_or(0) < 2 {
            add("series.count", Problem::Invalid, "should be at least 2");
        }
        if new["series"]["lastObservedTime"].is_null() {
            add("series.lastObservedTime", Problem::Required, "");
        }
    }
    let Some(old) = old else {
        if new["eventTime"].is_null() {
            add("eventTime", Problem::Required, "");
        }
        if !matches!(new["type"].as_str(), Some("Normal" | "Warning")) {
            add("type", Problem::Invalid, "must be \"Normal\" or \"Warning\"");
        }
        for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            let set = match &new[name] {
                Value::Null => false,
                Value::Number(number) => number.as_i64() != Some(0),
                Value::Object(fields) => fields.values().any(|value| value != ""),
                _ => true,
            };
            if set {
                add(name, Problem::Invalid, "needs to be unset");
            }
        }
        return found;
    };
    for name in FIXED.iter().filter(|name| old[**name] != new[**name]) {
        add(name, Problem::Invalid, "field is immutable");
    }
    found
}

/// What an event says stays; only its series goes on.
const FIXED: &[&str] = &[
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

impl Kind for Event {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["ev"],
    log: ChangeLog::Short,
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
    fields: FIELDS,
    views: &[View {
        group: "events.k8s.io",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        verbs: Verbs::All,
        subresources: &[],
        columns: None,
        fields: &[],
        only: "",
        measured: false,
        project,
        lift: Some(lift),
        check: check_regarding,
        schema: regarding_schema,
    }],
    normalize,
    check,
    ..KindInfo::of::<Event>("Event", "events", "event")
};

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

    fn all(found: Vec<Violation>) -> String {
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn an_event_is_in_its_objects_namespace() {
        for (namespace, about, fits) in [("a", "a", true), ("a", "b", false), ("default", "", true), ("a", "", false)] {
            let event = json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": about}});
            assert_eq!(check(&event, None).is_empty(), fits, "{namespace} {about}");
        }
    }

    #[test]
    fn the_newer_api_wants_to_know_who_did_what_and_keeps_it() {
        let bare = json!({
            "metadata": {"namespace": "default"}, "involvedObject": {}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "message": "x".repeat(1025),
        });
        insta::assert_snapshot!(all(check(&bare, None)), @"
        reportingComponent: Required value
        reportingInstance: Required value
        action: Required value
        reason: Required value
        message: Invalid value: can have at most 1024 characters
        ");
        let old_fashioned = json!({"type": "Odd", "count": 1, "source": {"component": "x"}, "series": {"count": 1}});
        insta::assert_snapshot!(all(check_regarding(&old_fashioned, None)), @r#"
        series.count: Invalid value: should be at least 2
        series.lastObservedTime: Required value
        eventTime: Required value
        type: Invalid value: must be "Normal" or "Warning"
        count: Invalid value: needs to be unset
        source: Invalid value: needs to be unset
        "#);
        let old = json!({"message": "a", "type": "Normal"});
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"});
        let counted = json!({"message": "a", "type": "Normal", "series": series});
        assert_eq!(all(check_regarding(&counted, Some(&old))), "");
        let other = json!({"message": "b", "type": "Normal"});
        assert_eq!(all(check_regarding(&other, Some(&old))), "message: Invalid value: field is immutable");
    }
}
