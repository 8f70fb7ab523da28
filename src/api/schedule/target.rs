//! What a Schedule may start in place of a Run: a Workflow, or a task into an App that runs.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{GoDuration, Time};

/// A Workflow that is run: a WorkflowRun is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowTarget {
    /// The Workflow, of the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What it is told, by name; what is not said is as the Workflow says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub inputs: BTreeMap<String, Value>,
}

/// A task that is sent into an App that runs. Of each time at most once: what becomes of it while the server is killed is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskTarget {
    /// The App, of the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub app: String,
    /// What is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 262144))]
    pub payload: String,
    /// How long its result is waited for; default: as long as the App says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// True: it may be done again when an instance ends in the middle of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

/// A task that a Schedule sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTask {
    /// The time that it was sent for.
    pub scheduled_time: Time,
    /// The App that it was sent to.
    pub app: String,
    /// When it was sent.
    pub start_time: Time,
    /// What became of it.
    pub state: ScheduledTaskState,
    /// When that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// The beginning of its result, if that is text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Why it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What became of a task that a Schedule sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScheduledTaskState {
    /// Its result is waited for.
    Sent,
    /// The result came.
    Succeeded,
    /// There is none.
    Failed,
    /// The server ended while its result was waited for: nobody knows whether it was done. It is not sent again.
    Lost,
}

impl fmt::Display for ScheduledTaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
