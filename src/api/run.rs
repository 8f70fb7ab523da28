//! Run: one execution to completion, as a Job is.
//!
//! Of an App, with overrides, or of a process or container of its own. What runs is settled when the Run is made: for a Run
//! of an App admission writes the App's template with the overrides into `spec.template`, and judges the maker by it. So the
//! App may change or go meanwhile, and every attempt runs the same. The controller makes one Instance for each attempt.

mod check;
mod step;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::step::{
    AnnotationLevel, FetchedArtifact, IfNoFiles, KeptArtifact, KeptFiles, MACHINE_MARK, RunStep, StepAnnotation,
    StepResult, TEMP_MARK, WORKSPACE_MARK,
};

use super::{
    AppSpec, Column, Condition, Container, EnvFrom, EnvVar, Exit, FileSource, Kind, KindInfo, Logs, MicroTime, Process,
    Quantity, RequestName, Resources, SelectableField, Subresource, TerminationMessagePolicy, Time, age, at,
    command_line,
};

/// The label of a Run's Instances: the Run's name.
pub const RUN_LABEL: &str = "appm.dev/run";

/// `Complete`: the last attempt ended with code 0.
pub const COMPLETE: &str = "Complete";
/// `Failed`: it will not be tried again.
pub const RUN_FAILED: &str = "Failed";
/// `Running`: something of it runs; if not, the reason says what is waited for.
pub const RUNNING: &str = "Running";

/// `Suspended`: nothing of it runs, because somebody said so.
pub const RUN_SUSPENDED: &str = "Suspended";

/// The reason of `Complete`.
pub const EXIT_ZERO: &str = "ExitZero";
/// As many attempts failed as may.
pub const BACKOFF_LIMIT: &str = "BackoffLimitExceeded";
/// It took longer than `activeDeadlineSeconds`.
pub const RUN_DEADLINE: &str = "DeadlineExceeded";
/// Somebody cancelled it.
pub const CANCELED: &str = "Canceled";
/// Nobody could see how its last attempt ended, or whether it began.
pub const RUN_LOST: &str = "Lost";

/// One execution to completion, as a Job is: made by a person, a Schedule or a workflow step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// What is to be done.
    pub spec: RunSpec,
    /// What became of it.
    #[serde(default)]
    pub status: RunStatus,
}

/// What is to be done. Nothing of it changes later but `suspend`, `cancel` and `ttlSecondsAfterFinished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The App whose process or container is run, with its environment, files, user and limits. Exactly one of `app`, `process`
    /// and `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub app: Option<String>,
    /// What to run: a process of the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// What to run: a container of Docker or Podman.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Arguments, in place of those that process, container or App have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub args: Option<Vec<String>>,
    /// The environment; of an App: more of it, and in place of the App's variables of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// More of the environment, from whole ConfigMaps and Secrets; `env` goes before it. Not of an App.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env_from: Vec<EnvFrom>,
    /// Files that are written before the start. Not of an App.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileSource>,
    /// Text for standard input of a process, which is then closed; default: the App's, or nothing to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub stdin: Option<String>,
    /// True: standard input is what one client sends to `runs/NAME/stdin` while it runs; its end is the end of what is sent, and what breaks off before
    /// hangs the process up (SIGHUP). Kubernetes' field. Not at a terminal, and with `backoffLimit: 0`: what was read is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    /// How much of the machine it may use, and is meant to use; of an App: each amount in place of the App's.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Seconds between the stop signal and SIGKILL when it is cancelled or late; default: the App's, or 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub termination_grace_period_seconds: Option<i64>,
    /// The signal that asks it to end; default: the App's, or SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^SIG[A-Z0-9+-]{2,10}$"))]
    pub stop_signal: Option<String>,
    /// How much output of each attempt is kept; default: as of the App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// How often it is tried again after a failure, each time a new attempt: after 10 seconds, then twice as long, up to 6 minutes.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub backoff_limit: i32,
    /// Seconds that it may take, all attempts and pauses together; then it is stopped and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub active_deadline_seconds: Option<i64>,
    /// Seconds after its end that the Run and its output are kept. May be changed.
    #[serde(default = "a_day")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub ttl_seconds_after_finished: i64,
    /// True: nothing of it runs. What runs is stopped, and is no failure; when it is taken back, the next attempt begins, and
    /// `activeDeadlineSeconds` counts anew. As of a Job. May be changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// True: it is stopped, and has failed with the reason `Canceled`. It cannot be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Of a Run of an App, written by the server when the Run is made: what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<RunTemplate>,
    /// Written by the server: what makes it a step of a workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RunStep>,
}

/// What runs: an App as it was, with the Run's overrides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunTemplate {
    /// The Revision of the App that was current.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The process. Exactly one of `process` and `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// More of the environment, from whole ConfigMaps and Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    /// Files that are written before the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileSource>,
    /// How much of the machine it may use, and is meant to use.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Seconds between the stop signal and SIGKILL.
    #[serde(default = "super::app::thirty")]
    pub termination_grace_period_seconds: i64,
    /// The signal that asks it to end.
    #[serde(default = "super::app::sigterm")]
    pub stop_signal: String,
    /// How much output is kept.
    #[serde(default)]
    pub logs: Logs,
    /// What becomes the message of an exit that was a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_policy: Option<TerminationMessagePolicy>,
}

fn a_day() -> i64 {
    86400
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// When it was first taken up, or resumed last; `activeDeadlineSeconds` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Attempts that were made.
    #[serde(default)]
    pub attempts: u32,
    /// The highest attempt that did not succeed.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub failed: u32,
    /// How many attempts were ended by `suspend`. They do not count as failures.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub suspended: u32,
    /// When the next attempt is due, after one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<MicroTime>,
    /// The Instance of the last attempt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// How the last attempt that ended did end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<RunExit>,
    /// Of a step of a workflow: what the last attempt left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
    /// `Running`; at the end `Complete` or `Failed`. `Suspended`, once it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How an attempt ended: exactly one of `code`, `signal` and `lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunExit {
    /// Its exit code; 127 if it could not be started at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, `SIGKILL` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// True if nobody could see how it ended, or whether it began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// True if the kernel ended it for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Why it could not be started, or the end of what it wrote, if `terminationMessagePolicy` says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a shell says of a program that it cannot start.
const NOT_STARTED: i32 = 127;

impl From<&Exit> for RunExit {
    fn from(exit: &Exit) -> Self {
        let refused = exit.code.is_none() && exit.signal.is_none() && !exit.lost;
        Self {
            code: if refused { Some(NOT_STARTED) } else { exit.code },
            signal: exit.signal.clone(),
            lost: exit.lost,
            oom_killed: exit.oom_killed,
            message: exit.message.clone(),
        }
    }
}

impl RunExit {
    /// One that nobody saw.
    pub fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    /// True for exit code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && !self.lost
    }
}

impl RunSpec {
    /// How much of the machine it is meant to use, what comes from its App included.
    pub fn requests(&self) -> &BTreeMap<RequestName, Quantity> {
        match (&self.app, &self.template) {
            (Some(_), Some(template)) => &template.resources.requests,
            _ => &self.resources.requests,
        }
    }

    /// What runs. `None` of a Run of an App that has not been through admission.
    pub fn resolved(&self) -> Option<RunTemplate> {
        if self.app.is_some() {
            return self.template.clone();
        }
        let bare = RunTemplate {
            process: self.process.clone(),
            container: self.container.clone(),
            env_from: self.env_from.clone(),
            files: self.files.clone(),
            termination_grace_period_seconds: super::app::thirty(),
            stop_signal: super::app::sigterm(),
            ..RunTemplate::default()
        };
        Some(bare.overridden(self))
    }
}

/// Why a process with a terminal is given nothing to read.
pub(super) const NOT_AT_A_TERMINAL: &str = "only a process without a terminal is given something to read";
/// Why a container is given no text to read.
pub(super) const NOT_TO_A_CONTAINER: &str =
    "only a process is given text to read; send it to a container while it runs (`stdinOnce`)";

impl RunTemplate {
    /// What an App runs.
    pub fn of_app(app: &AppSpec, revision: &str) -> Self {
        Self {
            revision: revision.to_owned(),
            process: app.process.clone(),
            container: app.container.clone(),
            env: app.env.clone(),
            env_from: app.env_from.clone(),
            files: app.files.clone(),
            resources: app.resources.clone(),
            termination_grace_period_seconds: app.termination_grace_period_seconds,
            stop_signal: app.stop_signal.clone(),
            logs: app.logs.clone(),
            termination_message_policy: app.termination_message_policy,
        }
    }

    /// Why it cannot be run so: the field of the Run, and a sentence.
    pub fn unfit(&self, run: &RunSpec) -> Option<(&'static str, &'static str)> {
        let process = self.process.as_ref();
        if process.is_some_and(|process| process.adopt.is_some()) {
            return Some(("app", "the app takes over a process that runs already, and starts none"));
        }
        let given = run.stdin.as_ref().is_some_and(|text| !text.is_empty());
        if (given || run.stdin_once) && process.is_some_and(|process| process.tty) {
            return Some((if given { "stdin" } else { "stdinOnce" }, NOT_AT_A_TERMINAL));
        }
        (given && process.is_none()).then_some(("stdin", NOT_TO_A_CONTAINER))
    }

    /// With what a Run says instead.
    #[must_use]
    pub fn overridden(mut self, run: &RunSpec) -> Self {
        for var in &run.env {
            match self.env.iter_mut().find(|known| known.name == var.name) {
                Some(known) => *known = var.clone(),
                None => self.env.push(var.clone()),
            }
        }
        self.resources.limits.extend(run.resources.limits.iter().map(|(name, amount)| (*name, amount.clone())));
        self.resources.requests.extend(run.resources.requests.iter().map(|(name, amount)| (*name, amount.clone())));
        if let Some(process) = &mut self.process {
            process.args = run.args.clone().unwrap_or_else(|| std::mem::take(&mut process.args));
            process.stdin = run.stdin.clone().or(process.stdin.take()).filter(|_| !run.stdin_once);
        }
        if let Some(container) = &mut self.container {
            container.args = run.args.clone().unwrap_or_else(|| std::mem::take(&mut container.args));
        }
        self.logs = run.logs.clone().unwrap_or(self.logs);
        self.stop_signal = run.stop_signal.clone().unwrap_or(self.stop_signal);
        self.termination_grace_period_seconds =
            run.termination_grace_period_seconds.unwrap_or(self.termination_grace_period_seconds);
        self
    }
}

impl RunStatus {
    /// True once it ended for good.
    pub fn is_over(&self) -> bool {
        [COMPLETE, RUN_FAILED].iter().any(|kind| Condition::holds(&self.conditions, kind))
    }
}

/// The name of the Instance of an attempt. An App's Instances end with `-` and a number ([`super::instance_name`]), so that no Run's is one of them.
pub fn attempt_name(run: &str, attempt: u32) -> String {
    format!("{run}-a{attempt}")
}

/// The word for people: how it ended, or what it is doing.
pub fn run_word(run: &Value) -> String {
    let conditions = at(run, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
    let of = |kind: &str| conditions.iter().find(|c| c["type"] == kind);
    let holds = |kind: &str| of(kind).filter(|c| c["status"] == "True");
    let reason = |c: &Value| c["reason"].as_str().unwrap_or_default().to_owned();
    match (holds(COMPLETE), holds(RUN_FAILED), of(RUNNING)) {
        (Some(_), ..) => COMPLETE.to_owned(),
        (_, Some(failed), _) if failed["reason"] == BACKOFF_LIMIT => RUN_FAILED.to_owned(),
        (_, Some(failed), _) => reason(failed),
        (.., Some(running)) => reason(running),
        _ => "Pending".to_owned(),
    }
}

/// `0`, `SIGKILL`, `OOMKilled`, `lost`; empty before the first end.
fn exit_word(run: &Value) -> String {
    super::last_exit_word(at(run, &["status", "exit"]))
}

impl Kind for Run {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    categories: &["all"],
    subresources: &[Subresource::Log, Subresource::Status, Subresource::Stdin],
    columns: &[
        Column {
            name: "Status",
            data_type: "string",
            description: "how it ended, or what it is doing",
            wide: false,
            cell: |o, _| run_word(o).into(),
        },
        Column {
            name: "Exit",
            data_type: "string",
            description: "how the last attempt ended: code or signal",
            wide: false,
            cell: |o, _| exit_word(o).into(),
        },
        Column {
            name: "Attempts",
            data_type: "integer",
            description: "attempts that were made",
            wide: false,
            cell: |o, _| at(o, &["status", "attempts"]).as_i64().unwrap_or(0).into(),
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
            name: "App",
            data_type: "string",
            description: "the App whose process or container it runs",
            wide: true,
            cell: |o, _| at(o, &["spec", "app"]).clone(),
        },
        Column {
            name: "Command",
            data_type: "string",
            description: "what is run",
            wide: true,
            cell: |o, _| match at(o, &["spec", "template"]) {
                Value::Null => command_line(at(o, &["spec"])).into(),
                template => command_line(template).into(),
            },
        },
    ],
    fields: &[SelectableField { label: "spec.app", value: |o| o.typed::<Run>()?.spec.app.clone() }],
    check: check::check,
    ..KindInfo::of::<Run>("Run", "runs", "run")
};
