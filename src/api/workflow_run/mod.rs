//! WorkflowRun: one execution of a Workflow.
//!
//! What is run is settled when the WorkflowRun is made, as of a Run: admission writes the Workflow as it is then into `spec.template`, and what
//! it was told, with defaults, into `spec.inputs`. So an edit changes no run that is under way. The status is the journal: together
//! with the Runs that are its steps, from which the controller folds the state anew after whatever happened.

mod check;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    COMPLETE, Column, ConcurrencyQueue, Condition, Kind, KindInfo, Object, RUN_FAILED, RUNNING, SelectableField,
    StepAnnotation, Subresource, Time, WorkflowSpec, age, at,
};

/// The label of a WorkflowRun, and of everything that it makes: the Workflow's name.
pub const WORKFLOW_LABEL: &str = "appm.dev/workflow";
/// The label of everything that a WorkflowRun makes: its name.
pub const WORKFLOW_RUN_LABEL: &str = "appm.dev/workflow-run";
/// Of the Run of a step: the job's key in the Workflow.
pub const JOB_LABEL: &str = "appm.dev/job";
/// Of the Run of a step: the step's id; an annotation, because an id may be any text.
pub const STEP_ANNOTATION: &str = "appm.dev/step";

/// Of a run that goes on with an earlier one: whether it works in the workspace that this one left.
pub const WORKSPACE_KEPT: &str = "WorkspaceKept";

/// One execution of a Workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowRun {
    /// What is to be done.
    pub spec: WorkflowRunSpec,
    /// What became of it.
    #[serde(default)]
    pub status: WorkflowRunStatus,
}

/// What is to be done. Nothing of it changes later but `cancel`, which grows stronger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunSpec {
    /// The Workflow. With `rerun` that of the earlier run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub workflow: String,
    /// What it is told, by name. The server adds the defaults. With `rerun` those of the earlier run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Value>,
    /// Does an earlier run again, or a part of it: with the Workflow as it was then, and the same inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun: Option<Rerun>,
    /// What started it; default: `manual`.
    #[serde(default, skip_serializing_if = "RunEvent::is_manual")]
    pub event: RunEvent,
    /// That it is to end before its time. It may grow stronger, and cannot be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelMode>,
    /// Written by the server when the run is made: the User as whom its steps run, the Workflow's `execution_identity` or who started it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// Written by the server when the run is made: how often that was tried, with this run, if it does an earlier one again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub attempt: Option<u32>,
    /// Written by the server when the run is made: the Workflow as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<WorkflowSpec>>,
}

/// An earlier run that is done again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rerun {
    /// The earlier WorkflowRun.
    #[schemars(length(min = 1, max = 63))]
    pub of: String,
    /// Which jobs are done again. Of the others results and outputs stay what they were.
    #[serde(default)]
    pub jobs: RerunJobs,
    /// Where it begins, in place of `jobs`: what comes before this step, in its job and in the jobs that come before, stays what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RerunFrom>,
}

/// Which jobs are done again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RerunJobs {
    /// All.
    #[default]
    All,
    /// Those that did not succeed, and all that come after them.
    Failed,
}

/// A step of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RerunFrom {
    /// The job, as `status.jobs` names it.
    #[schemars(length(min = 1, max = 1024))]
    pub job: String,
    /// The step's id; default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub step: Option<String>,
}

/// What started a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEvent {
    /// The trigger.
    #[serde(default)]
    pub name: EventName,
    /// What is to be known of it: `github.event` in expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub payload: BTreeMap<String, Value>,
}

impl RunEvent {
    /// True if nothing is said of it.
    pub fn is_manual(&self) -> bool {
        *self == Self::default()
    }
}

/// The triggers, by the names that they have in `on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    /// A person or a program.
    #[default]
    Manual,
    /// A time.
    Schedule,
    /// Something happened to an App.
    AppEvent,
    /// A step of another run.
    WorkflowCall,
}

impl EventName {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            EventName::Manual => "manual",
            EventName::Schedule => "schedule",
            EventName::AppEvent => "app_event",
            EventName::WorkflowCall => "workflow_call",
        }
    }
}

/// How a run ends before its time, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum CancelMode {
    /// What runs may end; nothing else begins but `finally` and steps whose `if` wants it.
    Drain,
    /// What runs is stopped, unless its `if` wants it to go on; `finally` and steps whose `if` wants it are done.
    Stop,
    /// Everything is stopped, and nothing else begins, `finally` neither.
    Kill,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// When it was first taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Its jobs by name; of a matrix each cell: `build (linux, 1.95)`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, JobStatus>,
    /// What the calling step learns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Files that its steps kept, by name. They are read at `artifacts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactStatus>,
    /// The workspace that its steps share, by name, if it is that of an earlier run; default: its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workspace: String,
    /// `Running`; at the end `Complete` or `Failed`. Of a run that goes on with an earlier one `WorkspaceKept`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The claim of a job to its concurrency group: from when nothing else keeps it from beginning, until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTurn {
    /// The group.
    pub group: String,
    /// Since when: whoever came first has its turn first.
    pub since: Time,
    /// The job that goes on is to end for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_in_progress: bool,
    /// How many may wait.
    #[serde(default)]
    pub queue: ConcurrencyQueue,
}

/// Files that a step kept, in one tar archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// The job that kept it, as `jobs` names it.
    pub job: String,
    /// The step.
    pub step: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// When nobody may read it any more; default: when the run is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// How many files are in it.
    pub files: i32,
    /// Bytes of the archive.
    pub size: i64,
    /// Of the archive: `sha256:` and 64 digits.
    pub digest: String,
    /// Where it is kept, below `artifacts` of the data directory.
    pub file: String,
}

/// How far a run, a job or a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkState {
    /// It waits.
    #[default]
    Pending,
    /// It goes on.
    Running,
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
    /// It was ended before its time, or did not begin for that.
    Cancelled,
    /// Its `if`, or what came before it, said that it is not to be done.
    Skipped,
}

impl WorkState {
    /// True once it has ended.
    pub fn is_over(self) -> bool {
        !matches!(self, WorkState::Pending | WorkState::Running)
    }

    /// As expressions say it: `success`, `failure`, `cancelled`, `skipped`.
    pub fn word(self) -> &'static str {
        match self {
            WorkState::Pending => "pending",
            WorkState::Running => "running",
            WorkState::Success => "success",
            WorkState::Failure => "failure",
            WorkState::Cancelled => "cancelled",
            WorkState::Skipped => "skipped",
        }
    }
}

/// How a job, or one cell of it, goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// How far it is. `continue-on-error` does not change it.
    pub state: WorkState,
    /// Its claim to a concurrency group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<JobTurn>,
    /// What the state counts as, where that differs from it: `continue-on-error` makes a failure count as a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<WorkState>,
    /// One CamelCase word for programs: why it waits, was skipped, failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence for people; of a skipped job, which part of its `if` was false.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Of a cell, the job's key in the Workflow; of other jobs it is the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// Of a cell, its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, Value>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Its steps as far as it came, in order; those of `finally` after the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
    /// What other jobs learn of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// What runs beside it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, JobServiceStatus>,
}

/// What runs beside a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobServiceStatus {
    /// The App.
    pub app: String,
    /// True once it was ready, and the first step could begin.
    #[serde(default)]
    pub ready: bool,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its ports there, by name, and by the number that it knows itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
}

/// How a step goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Its `id`, else its `name`, else `step-N`.
    pub id: String,
    /// How far it is: its `outcome`. `continue-on-error` does not change it.
    pub state: WorkState,
    /// What the state counts as, where that differs from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<WorkState>,
    /// One CamelCase word for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence for people; of a skipped step, which part of its `if` was false.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Of a command or an App, how its last attempt ended; 128 and the signal's number if a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Attempts that were made.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub attempts: u32,
    /// When the next attempt is due, after one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// When its first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The Run, or of a sub-workflow the WorkflowRun, of its last attempt: its output is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// What it wrote for others to read, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// What it pointed out; of the steps of a job fifty at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<StepAnnotation>,
}

impl Object<WorkflowRun> {
    /// The workspace that its steps share, by name.
    pub fn workspace(&self) -> &str {
        match self.status.workspace.as_str() {
            "" => self.uid().as_str(),
            of_another => of_another,
        }
    }
}

impl WorkflowRunStatus {
    /// True once it ended for good.
    pub fn is_over(&self) -> bool {
        [COMPLETE, RUN_FAILED].iter().any(|kind| Condition::holds(&self.conditions, kind))
    }
}

/// The word for people: how it ended, or what it is doing.
pub fn workflow_run_word(run: &Value) -> String {
    let conditions = at(run, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
    let of = |kind: &str| conditions.iter().find(|c| c["type"] == kind);
    let told = [COMPLETE, RUN_FAILED].into_iter().find_map(|kind| of(kind).filter(|c| c["status"] == "True"));
    let reason = told.or_else(|| of(RUNNING)).and_then(|c| c["reason"].as_str());
    reason.unwrap_or("Pending").to_owned()
}

/// `2/5`: jobs that ended, of those that are known.
fn jobs_word(run: &Value) -> String {
    let jobs = at(run, &["status", "jobs"]).as_object();
    let over = |job: &&Value| !matches!(job["state"].as_str(), None | Some("Pending" | "Running"));
    let ended = jobs.into_iter().flat_map(serde_json::Map::values).filter(over).count();
    let named = at(run, &["spec", "template", "jobs"]).as_object().map_or(0, serde_json::Map::len);
    format!("{ended}/{}", jobs.map_or(0, serde_json::Map::len).max(named))
}

impl Kind for WorkflowRun {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["wfr"],
    categories: &["all"],
    subresources: &[Subresource::Artifacts, Subresource::Status],
    columns: &[
        Column {
            name: "Workflow",
            data_type: "string",
            description: "what is run",
            wide: false,
            cell: |o, _| at(o, &["spec", "workflow"]).clone(),
        },
        Column {
            name: "Status",
            data_type: "string",
            description: "how it ended, or what it is doing",
            wide: false,
            cell: |o, _| workflow_run_word(o).into(),
        },
        Column {
            name: "Jobs",
            data_type: "string",
            description: "jobs that ended, of all",
            wide: false,
            cell: |o, _| jobs_word(o).into(),
        },
        Column {
            name: "Duration",
            data_type: "string",
            description: "from its beginning to its end, or until now",
            wide: false,
            cell: |o, now| {
                let time = |name: &str| at(o, &["status", name]).as_str()?.parse::<jiff::Timestamp>().ok();
                let end = time("completionTime").unwrap_or(now);
                time("startTime").map_or(Value::Null, |start| age(end, start).into())
            },
        },
        Column {
            name: "Event",
            data_type: "string",
            description: "what started it",
            wide: true,
            cell: |o, _| at(o, &["spec", "event", "name"]).as_str().unwrap_or("manual").into(),
        },
    ],
    fields: &[SelectableField {
        label: "spec.workflow",
        value: |o| Some(o.typed::<WorkflowRun>()?.spec.workflow.clone()),
    }],
    check: check::check,
    ..KindInfo::of::<WorkflowRun>("WorkflowRun", "workflowruns", "workflowrun")
};
