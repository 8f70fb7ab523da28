//! What `get pods` prints: the very columns of kubectl, computed from the Pod as kube-apiserver does.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{Column, at, time::age};

pub(super) const COLUMNS: &[Column] = &[
    Column {
        name: "Ready",
        data_type: "string",
        description: "containers that can be used, of how many",
        wide: false,
        cell: |pod, _| if only(pod)["ready"] == true { "1/1".into() } else { "0/1".into() },
    },
    Column { name: "Status", data_type: "string", description: "what it is doing", wide: false, cell: status },
    Column {
        name: "Restarts",
        data_type: "string",
        description: "restarts by policy, and how long ago the last one was",
        wide: false,
        cell: restarts,
    },
    Column {
        name: "IP",
        data_type: "string",
        description: "where its ports are reached",
        wide: true,
        cell: |pod, _| or_none(at(pod, &["status", "podIP"])),
    },
    Column {
        name: "Node",
        data_type: "string",
        description: "where it runs",
        wide: true,
        cell: |pod, _| or_none(at(pod, &["spec", "nodeName"])),
    },
    Column {
        name: "Nominated Node",
        data_type: "string",
        description: "always <none>: an instance is bound when it is made",
        wide: true,
        cell: |_, _| NONE.into(),
    },
    Column {
        name: "Readiness Gates",
        data_type: "string",
        description: "always <none>",
        wide: true,
        cell: |_, _| NONE.into(),
    },
];

const NONE: &str = "<none>";

fn or_none(value: &Value) -> Value {
    if value.is_null() { NONE.into() } else { value.clone() }
}

/// The status of the one container.
fn only(pod: &Value) -> &Value {
    at(pod, &["status", "containerStatuses"]).get(0).unwrap_or(&Value::Null)
}

fn status(pod: &Value, _: Timestamp) -> Value {
    let state = &only(pod)["state"];
    let phase = at(pod, &["status", "phase"]);
    let ended_for_good = phase == "Succeeded" || phase == "Failed";
    if !at(pod, &["metadata", "deletionTimestamp"]).is_null() && !ended_for_good {
        return "Terminating".into();
    }
    let reasons = [&state["waiting"]["reason"], &state["terminated"]["reason"]];
    reasons.into_iter().find(|reason| reason.is_string()).unwrap_or(phase).clone()
}

fn restarts(pod: &Value, now: Timestamp) -> Value {
    let count = only(pod)["restartCount"].as_u64().unwrap_or(0);
    let last = at(only(pod), &["lastState", "terminated", "finishedAt"]).as_str();
    match last.and_then(|text| text.parse().ok()) {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(now, last)).into(),
        _ => count.to_string().into(),
    }
}
