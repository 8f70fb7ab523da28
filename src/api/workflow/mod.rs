//! Workflow: a pipeline, jobs of steps that wait for each other.
//!
//! The body is GitHub's, with GitHub's dashes, and App Mesh's words beside it; both kinds of users find what they know. What it means as a
//! whole (circles, unknown names, expressions) is judged by `policy/workflow`, which admission and `appm workflow lint` share;
//! docs/design/023-workflows.md says how a run of it goes.

mod job;
mod loose;
mod trigger;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use job::*;
pub use loose::{Flag, Names, Scalar};
pub use trigger::*;

use super::{
    Column, Condition, FieldPath, IntOrString, Kind, KindInfo, Problem, Subresource, Time, Uid, Violation, WorkState,
    age, at, check_label_name,
};

/// The longest name of a Workflow: its runs have a `-` and the time behind it.
pub const LONGEST_WORKFLOW_NAME: usize = 52;

/// A pipeline: jobs of steps that wait for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workflow {
    /// What is done, and when.
    pub spec: WorkflowSpec,
    /// How it goes.
    #[serde(default)]
    pub status: WorkflowStatus,
}

/// What is done, and when. The grammar is that of GitHub Actions, with App Mesh's kinds of steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowSpec {
    /// What it is started by; default: by hand. A word or a list of words is taken for triggers without particulars.
    #[serde(default)]
    pub on: Triggers,
    /// Of all runs and jobs of one group one goes on at a time. A text is the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Variables of all steps; those of jobs and of steps go before them. Expressions are put in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub env: BTreeMap<String, Scalar>,
    /// Variables of all steps from Secrets. They are masked in output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub sec_env: BTreeMap<String, SecretEnv>,
    /// The User as whom its steps run; default: who started it. Without one nothing starts it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub execution_identity: Option<String>,
    /// What commands are run by, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// Minutes that a run may take; default 360.
    #[serde(default, rename = "timeout-minutes", skip_serializing_if = "Option::is_none")]
    pub timeout_minutes: Option<IntOrString>,
    /// Minutes that a run may wait for its turn; default: as long as it takes.
    #[serde(default, rename = "queue-timeout-minutes", skip_serializing_if = "Option::is_none")]
    pub queue_timeout_minutes: Option<IntOrString>,
    /// How many runs that ended are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 10000))]
    pub runs_history_limit: i32,
    /// How many days a run is kept after its end; default: until there are more than `runs_history_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub runs_retention_days: Option<i32>,
    /// What is done, by name. Each begins when those that it needs have ended.
    #[schemars(extend("minProperties" = 1))]
    pub jobs: BTreeMap<String, WorkflowJob>,
}

fn ten() -> i32 {
    10
}

/// Of all runs and jobs of one group one goes on at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Concurrency {
    /// The group's name, within the namespace. Expressions are put in.
    #[schemars(length(min = 1, max = 1024))]
    pub group: String,
    /// True: a new one cancels the one that goes on. False: it waits.
    #[serde(default, rename = "cancel-in-progress", skip_serializing_if = "Option::is_none")]
    pub cancel_in_progress: Option<Flag>,
    /// How many may wait.
    #[serde(default)]
    pub queue: ConcurrencyQueue,
}

/// How many of a group may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConcurrencyQueue {
    /// Up to 100, in the order in which they came.
    #[default]
    Max,
    /// One, the newest: it cancels the one that waited before it.
    Single,
}

/// An entry of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretEnv {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret: String,
    /// The entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What is so where steps say nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Defaults {
    /// Of commands.
    #[serde(default)]
    pub run: RunDefaults,
}

/// What commands are run by, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDefaults {
    /// What runs commands: `bash`, `sh`, `python`, or a command line with `{0}` for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub shell: Option<String>,
    /// Where commands are run, from the run's own directory on.
    #[serde(default, rename = "working-directory", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub working_directory: Option<String>,
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Its newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// With `on.app_event`: what of the App has been told, so that each thing that happens starts one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_events: Option<SeenApp>,
    /// `Ready`: what starts it by itself can do so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What of an App has been told to a Workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenApp {
    /// The App's name.
    pub app: String,
    /// The events that were asked for.
    #[serde(default)]
    pub events: Vec<AppEvent>,
    /// The App, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Whether it was suspended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Its Instances, by uid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, SeenInstance>,
}

/// What of an Instance has been told to a Workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenInstance {
    /// Its name.
    pub name: String,
    /// The last attempt of whose start it was told.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub started: u32,
    /// The last attempt of whose end it was told.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub exited: u32,
    /// Whether it was ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
}

/// The newest run of a Workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// The WorkflowRun.
    pub name: String,
    /// How it ended, or what it is doing.
    pub state: WorkState,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// What it is started by, in words.
fn triggers(object: &Value) -> String {
    let on = at(object, &["spec", "on"]).as_object();
    let mut words: Vec<&str> = on.into_iter().flatten().map(|(word, _)| word.as_str()).collect();
    if words.is_empty() {
        words.push("manual");
    }
    words.join(",")
}

fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let too_long = || {
        let message =
            format!("must be no more than {LONGEST_WORKFLOW_NAME} characters, because its runs add their time");
        (name.len() > LONGEST_WORKFLOW_NAME)
            .then(|| Violation::new(FieldPath::of("metadata.name"), Problem::TooLong, message))
    };
    check_label_name(new).or_else(too_long).into_iter().collect()
}

impl Kind for Workflow {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["wf"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    columns: &[
        Column {
            name: "Jobs",
            data_type: "integer",
            description: "how many jobs it has",
            wide: false,
            cell: |o, _| at(o, &["spec", "jobs"]).as_object().map_or(0, serde_json::Map::len).into(),
        },
        Column {
            name: "Triggers",
            data_type: "string",
            description: "what it is started by",
            wide: false,
            cell: |o, _| triggers(o).into(),
        },
        Column {
            name: "Last Run",
            data_type: "string",
            description: "its newest run",
            wide: false,
            cell: |o, _| at(o, &["status", "lastRun", "name"]).clone(),
        },
        Column {
            name: "Status",
            data_type: "string",
            description: "how that ended, or what it is doing",
            wide: false,
            cell: |o, _| at(o, &["status", "lastRun", "state"]).clone(),
        },
        Column {
            name: "Started",
            data_type: "string",
            description: "how long ago that began",
            wide: false,
            cell: |o, now| {
                let start = at(o, &["status", "lastRun", "startTime"]).as_str().and_then(|text| text.parse().ok());
                start.map_or(Value::Null, |start| age(now, start).into())
            },
        },
        Column {
            name: "Identity",
            data_type: "string",
            description: "the User as whom its steps run",
            wide: true,
            cell: |o, _| at(o, &["spec", "execution_identity"]).clone(),
        },
    ],
    check,
    ..KindInfo::of::<Workflow>("Workflow", "workflows", "workflow")
};
