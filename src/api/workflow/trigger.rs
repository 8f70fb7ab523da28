//! What a Workflow is started by, and what it is told then.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What it is started by. Whoever may make WorkflowRuns of it may start it by hand, too, whatever is said here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Triggers {
    /// A person or a program starts it: what it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<ManualTrigger>,
    /// GitHub's word for `manual`. At most one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_dispatch: Option<ManualTrigger>,
    /// Times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub schedule: Vec<ScheduleTrigger>,
    /// Something happens to an App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_event: Option<AppEventTrigger>,
    /// A step of another Workflow calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_call: Option<CallTrigger>,
}

impl Triggers {
    /// What whoever starts it by hand says.
    pub fn by_hand(&self) -> Option<&ManualTrigger> {
        self.manual.as_ref().or(self.workflow_dispatch.as_ref())
    }
}

/// Started by a person or a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ManualTrigger {
    /// What it is told, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub inputs: BTreeMap<String, WorkflowInput>,
}

/// Called by a step of another Workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallTrigger {
    /// What it is told (`with` of the step), by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub inputs: BTreeMap<String, WorkflowInput>,
    /// What the step learns, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub outputs: BTreeMap<String, CallOutput>,
}

/// One thing that a Workflow is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowInput {
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub description: String,
    /// Its type.
    #[serde(default, rename = "type")]
    pub kind: InputType,
    /// True: who starts it must say it, unless there is a default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What it is if nobody says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// `choice`: what it may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub options: Vec<super::Scalar>,
}

/// The type of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Any text.
    #[default]
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of `options`.
    Choice,
}

/// One thing that a calling step learns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallOutput {
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub description: String,
    /// Its value, an expression over `jobs` and `inputs` mostly.
    pub value: super::Scalar,
}

/// Started at times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleTrigger {
    /// A cron expression, as of a Schedule.
    #[schemars(length(min = 1, max = 256))]
    pub cron: String,
    /// The IANA time zone by whose clocks it is meant; default: the server's.
    #[serde(default, rename = "timeZone", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// GitHub's spelling of `timeZone`. At most one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub timezone: Option<String>,
}

impl ScheduleTrigger {
    /// The time zone, if one is said.
    pub fn zone(&self) -> Option<&str> {
        self.time_zone.as_deref().or(self.timezone.as_deref())
    }
}

/// Started by what happens to an App.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppEventTrigger {
    /// The App.
    #[schemars(length(min = 1, max = 63))]
    pub app: String,
    /// What happens.
    #[schemars(length(min = 1, max = 16))]
    pub events: Vec<AppEvent>,
    /// An expression over the event: `exit_code == 0`; default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub condition: Option<String>,
}

/// What may happen to an App.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AppEvent {
    /// One of its instances started.
    Start,
    /// One of its instances ended.
    Exit,
    /// One of its instances became ready, or is it no more.
    Health,
    /// It was suspended or resumed.
    Status,
    /// It was deleted.
    Removed,
}
