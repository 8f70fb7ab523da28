//! Jobs and their steps, in GitHub's spelling with App Mesh's beside it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Concurrency, Defaults, Flag, Names, Scalar, SecretEnv};
use crate::api::{IntOrString, Port, Probe, Process};

/// Steps that are done one after the other in one directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowJob {
    /// What people call it; default: its key. Expressions are put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<Scalar>,
    /// The jobs that come before it: one or a list.
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    pub needs: Names,
    /// Whether it is done: an expression, with or without `${{ }}`. Without a status function it is `success() && (…)`.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Scalar>,
    /// Several cells of the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<JobStrategy>,
    /// Labels that the node must have. Expressions are put in.
    #[serde(default, rename = "runs-on", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub runs_on: BTreeMap<String, Scalar>,
    /// App Mesh's word for `runs-on`; `host` is the node's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_label: BTreeMap<String, Scalar>,
    /// Minutes that it may take; default 360. An expression is put in.
    #[serde(default, rename = "timeout-minutes", skip_serializing_if = "Option::is_none")]
    pub timeout_minutes: Option<IntOrString>,
    /// True: if it fails, the run may succeed nevertheless.
    #[serde(default, rename = "continue-on-error", skip_serializing_if = "Option::is_none")]
    pub continue_on_error: Option<Flag>,
    /// Of all jobs and runs of one group one goes on at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Variables of its steps. Expressions are put in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub env: BTreeMap<String, Scalar>,
    /// Variables of its steps from Secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub sec_env: BTreeMap<String, SecretEnv>,
    /// What its commands are run by, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// What other jobs learn of it, by name: expressions over `steps`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub outputs: BTreeMap<String, Scalar>,
    /// What runs beside it, from before its first step until after its last: Apps of the run's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub services: BTreeMap<String, JobService>,
    /// What is done, in order.
    #[serde(default, deserialize_with = "exact")]
    #[schemars(length(max = 1000))]
    pub steps: Vec<WorkflowStep>,
    /// What is done last, however the steps ended: after a failure, and after a cancellation, too. A failure here does not fail the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "exact")]
    #[schemars(length(max = 1000))]
    pub finally: Vec<WorkflowStep>,
}

/// Without room for more: most jobs have a step or two, and whoever reads a list whose length is not known makes room for four.
fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WorkflowStep>, D::Error> {
    let mut steps = Vec::deserialize(deserializer)?;
    steps.shrink_to_fit();
    Ok(steps)
}

/// Several cells of the same job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobStrategy {
    /// What differs between the cells: a list of values for each name, every combination is a cell; `include` adds to cells or adds
    /// cells, `exclude` takes cells out. Any part may be an expression, and so may all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Value>,
    /// True, as it is by default: when a cell fails, the others are cancelled.
    #[serde(default, rename = "fail-fast", skip_serializing_if = "Option::is_none")]
    pub fail_fast: Option<Flag>,
    /// So many cells at once; default: all.
    #[serde(default, rename = "max-parallel", skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<IntOrString>,
}

/// What runs beside a job. Exactly one of `image` and `process`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobService {
    /// A container of this image. Expressions are put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// A process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Its variables. Expressions are put in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub env: BTreeMap<String, Scalar>,
    /// The ports that it listens on: `job.services.NAME.ports.PORT` is where it is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// When it is ready; the first step waits for it.
    #[serde(default, rename = "readinessProbe", skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
}

/// One step. Exactly one of `command` (or `run`), `app`, `message`, `workflow` and `uses` says what is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowStep {
    /// By which others speak of it: `steps.ID.outputs.X`; default: `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub id: Option<String>,
    /// What people call it, and its `id` if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<Scalar>,
    /// Whether it is done: an expression, with or without `${{ }}`. Without a status function it is `success() && (…)`.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Scalar>,
    /// A command: text for the shell, of any number of lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub command: Option<String>,
    /// GitHub's word for `command`. At most one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub run: Option<String>,
    /// Runs this App once, with the variables of the step, and waits for its end. Expressions are put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub app: Option<String>,
    /// Gives a task to a running App, and waits for the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageStep>,
    /// Calls another Workflow, and waits for its end. Expressions are put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub workflow: Option<String>,
    /// Keeps files with the run, or fetches what was kept: `actions/upload-artifact`, `actions/download-artifact`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub uses: Option<String>,
    /// What the called Workflow is told, by the name of its inputs, or what `uses` is. Expressions are put in; a value that is one lone
    /// expression keeps its type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub with: BTreeMap<String, Value>,
    /// What runs the command: `bash`, `sh`, `python`, or a command line with `{0}` for the file; default: bash, or sh where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub shell: Option<String>,
    /// Where the command is run, from the run's own directory on. Expressions are put in.
    #[serde(default, rename = "working-directory", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub working_directory: Option<String>,
    /// App Mesh's word for `working-directory`. At most one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub workdir: Option<String>,
    /// Seconds that one attempt may take; default: the job's time. An expression is put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<IntOrString>,
    /// GitHub's word: minutes that one attempt may take. At most one of the two.
    #[serde(default, rename = "timeout-minutes", skip_serializing_if = "Option::is_none")]
    pub timeout_minutes: Option<IntOrString>,
    /// How often it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<StepRetry>,
    /// True: if it fails, the job goes on; `outcome` says that it failed, `conclusion` that it counts as a success.
    #[serde(default, rename = "continue-on-error", skip_serializing_if = "Option::is_none")]
    pub continue_on_error: Option<Flag>,
    /// Variables. Expressions are put in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub env: BTreeMap<String, Scalar>,
    /// Variables from Secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000))]
    pub sec_env: BTreeMap<String, SecretEnv>,
}

impl WorkflowStep {
    /// The text for the shell.
    pub fn script(&self) -> Option<&str> {
        self.command.as_deref().or(self.run.as_deref())
    }

    /// Where its command is run.
    pub fn directory(&self) -> Option<&str> {
        self.working_directory.as_deref().or(self.workdir.as_deref())
    }

    /// By which others speak of it; `None`: nobody can, because it has neither `id` nor a `name` that is known before the run, and in
    /// statuses it has its number ([`step_by_number`]).
    pub fn identity(&self) -> Option<&str> {
        self.id.as_deref().or(self.name.as_ref().map(Scalar::as_str).filter(|name| !name.contains("${{")))
    }
}

/// The name of a step that has neither `id` nor `name`, by its place among the steps of the job, `finally` after the others; from 1.
pub fn step_by_number(number: usize) -> String {
    format!("step-{number}")
}

/// A task for a running App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageStep {
    /// The App. Expressions are put in.
    #[schemars(length(min = 1, max = 1024))]
    pub app: String,
    /// What it is sent. Expressions are put in.
    #[serde(default)]
    #[schemars(length(max = 262144))]
    pub payload: String,
    /// True: it may be done more than once. It is sent again when an instance ends in the middle of it, and when the server did; and
    /// nothing waits for the disk before it is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

/// How often, and when, a step that failed is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepRetry {
    /// So many times after the first.
    #[schemars(range(min = 1, max = 100))]
    pub max: i32,
    /// How the pauses grow.
    #[serde(default)]
    pub backoff: RetryBackoff,
    /// Seconds before the first repetition.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 3600))]
    pub interval: i32,
    /// Each pause is longer by a random share of it, up to this: 0.5 is half as long again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub jitter: Option<f64>,
    /// Of a command or an App, the exit codes after which it is tried again; default: each but 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 255), inner(range(min = 1, max = 255)))]
    pub exit_codes: Vec<i32>,
}

fn ten() -> i32 {
    10
}

/// How the pauses between attempts grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryBackoff {
    /// Not at all.
    #[default]
    Fixed,
    /// Each is twice as long as the one before, up to an hour.
    Exponential,
}
