//! Instance: one running copy, as a Pod is.
//!
//! Made by controllers only. Its spec is a complete, resolved copy: node, revision and ports never change; the `Live`
//! fields of the App are kept in step by the controller. The node's agent alone writes the status and restarts it in place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ActiveWindow, Column, Condition, Container, Dependency, EnvFrom, EnvVar, FieldPath, FileSource, Kind, KindInfo,
    Lifecycle, Logs, Port, Probe, Problem, Process, Resources, Restart, RestartPolicy, RunStep, SelectableField,
    StepResult, Subresource, TaskMode, TerminationMessagePolicy, Time, Violation, at, pod::phase,
};

/// The finalizer that keeps an Instance until the agent has ended every process of it.
pub const AGENT_FINALIZER: &str = "appm.dev/agent";

/// One running copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// What to run, resolved.
    pub spec: InstanceSpec,
    /// What became of it.
    #[serde(default)]
    pub status: InstanceStatus,
}

/// What to run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSpec {
    /// The node that runs it.
    pub node_name: String,
    /// The Revision it was made from.
    pub revision: String,
    /// Its place among its App's instances, from 0; of a Run the attempt, from 1.
    #[serde(default)]
    pub ordinal: u32,
    /// True: it is started once at most, ever, and ends as lost if nobody can tell whether it was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Of a Run that is sent its input: standard input stays open until that ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    /// The ports, allocated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// The process. Exactly one of `process` and `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The environment, references not values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// More of the environment, from whole ConfigMaps and Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFrom>,
    /// Files that are written before each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileSource>,
    /// Live: how much of the machine it may use, and is meant to use.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Live: the App's `restartPolicy`.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// Live: the App's `restart`.
    #[serde(default)]
    pub restart: Restart,
    /// Live: seconds between the stop signal and SIGKILL.
    #[serde(default = "super::app::thirty")]
    pub termination_grace_period_seconds: i64,
    /// Live: the signal that asks it to end.
    #[serde(default = "super::app::sigterm")]
    pub stop_signal: String,
    /// Live: how much output is kept.
    #[serde(default)]
    pub logs: Logs,
    /// Live: the App's `terminationMessagePolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_policy: Option<TerminationMessagePolicy>,
    /// Live: the App's `task.mode`.
    #[serde(default, skip_serializing_if = "TaskMode::is_requests")]
    pub task_mode: TaskMode,
    /// Live: true keeps the instance, with its output and its last exit, but runs nothing.
    #[serde(default)]
    pub suspend: bool,
    /// Live: the App's `appm.dev/restartedAt`; a change restarts the process in place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restarted_at: String,
    /// Live: a sentence that says what is waited for; nothing is started while it is not empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hold: String,
    /// Live: it is off the App's ready endpoints, and goes on serving until then for those who have not heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_until: Option<super::MicroTime>,
    /// Live: what is done at the turns of its life.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    /// Live: whether it has finished its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Live: whether it can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Live: whether it is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Live: the Apps that must have come so far before it starts, and that end after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["app"]))]
    pub depends_on: Vec<Dependency>,
    /// Live: the time within which it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_window: Option<ActiveWindow>,
    /// Of a step of a workflow: where it works, and what is read when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RunStep>,
}

/// Fields of the spec that may change while the instance lives.
pub const LIVE_FIELDS: &[&str] = &[
    "restartPolicy",
    "restart",
    "terminationGracePeriodSeconds",
    "stopSignal",
    "logs",
    "terminationMessagePolicy",
    "taskMode",
    "suspend",
    "restartedAt",
    "hold",
    "drainUntil",
    "lifecycle",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "dependsOn",
    "activeWindow",
    "resources",
];

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Starts of this instance; the start key is (uid, attempt).
    #[serde(default)]
    pub attempt: u32,
    /// What it is doing.
    #[serde(default)]
    pub state: InstanceState,
    /// How the last attempt that ended did end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Of a step of a workflow that has ended: what it left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
    /// Restarts by policy, ever.
    #[serde(default)]
    pub restarts: u32,
    /// Restarts by policy since the last stable run; what backoff and `maxRestarts` count.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub consecutive_restarts: u32,
    /// When the next attempt is due, while waiting for backoff or for the active window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_time: Option<super::MicroTime>,
    /// True once the startup probe has succeeded in the running attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// The value of `spec.restartedAt` that the running attempt was started under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restarted_at: String,
    /// Where its ports are reached.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// What the process uses, sampled now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What its limits are made of: the resources that its last attempt was started with, or was given while it ran.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// `Ready`; `Resized`, while resources that are wanted of an instance that runs are not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What an instance is doing. Exactly one member, or none before the agent has seen it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceState {
    /// Nothing runs, and something will: `reason` says what is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// It was asked to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
    /// Nothing runs, and nothing will unless somebody changes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exited: Option<Exited>,
}

impl InstanceState {
    /// The member that is set, for counting.
    pub fn word(&self) -> &'static str {
        let members = [
            ("waiting", self.waiting.is_some()),
            ("running", self.running.is_some()),
            ("stopping", self.stopping.is_some()),
            ("exited", self.exited.is_some()),
        ];
        members.into_iter().find_map(|(word, is_set)| is_set.then_some(word)).unwrap_or("pending")
    }
}

/// Nothing runs yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// `Starting`, `BackOff`, `CrashLooping`, `StartFailed`, `ResourcesUnavailable`, `ConfigError` (a ConfigMap or Secret is missing),
    /// `DependencyNotReady`, `OutsideActiveWindow`.
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The name of a port of it that somebody else held when its last attempt had failed. If appm chose the number, the instance makes
    /// room for one with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_port: Option<String>,
}

/// The process runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its process id.
    pub pid: i32,
    /// Since when.
    pub start_time: super::MicroTime,
    /// True if it is not appm's child, because it was taken over or its parent died: its exit code cannot be known.
    #[serde(default)]
    pub adopted: bool,
}

/// It was asked to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stopping {
    /// Its process id.
    pub pid: i32,
    /// Since when it ran.
    pub start_time: super::MicroTime,
    /// `Deleted`, `Suspended`, `Restarted`, `OutsideActiveWindow`, `Unhealthy` (its liveness or startup probe failed),
    /// `PostStartHookError`.
    pub reason: String,
    /// When SIGKILL is due.
    pub kill_time: super::MicroTime,
    /// True if it is not appm's child.
    #[serde(default)]
    pub adopted: bool,
    /// True while its preStop hook runs; the stop signal waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_stop: bool,
}

/// Nothing runs any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exited {
    /// `Completed`, `Failed`, `Suspended`, `Stopped` (by an exit code rule), `Removed`, `CrashLooping`, `Lost`,
    /// `OutsideActiveWindow` (one that does not open again).
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How an attempt ended: exactly one of `code`, `signal` and `lost`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The attempt.
    #[serde(default)]
    pub attempt: u32,
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, `SIGKILL` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// True if the kernel ended it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// True if nobody could see how it ended.
    #[serde(default)]
    pub lost: bool,
    /// Why it could not be started at all, if so; after a failure the end of what it wrote, if `terminationMessagePolicy` says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<super::MicroTime>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<super::MicroTime>,
}

impl Exit {
    /// True for exit code 0.
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && !self.lost
    }
}

/// What a process uses, with everything that it started; or a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Cores, averaged over the window.
    #[serde(default)]
    pub cpu_cores: f64,
    /// Memory that could not be taken from it without harm.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The most memory that it ever had, where the kernel keeps count: in a control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Open file descriptors.
    #[serde(default)]
    pub fds: u32,
    /// Threads.
    #[serde(default)]
    pub threads: u32,
    /// Processes.
    #[serde(default)]
    pub processes: u32,
    /// Processes of it that the kernel has ended for want of memory, where it keeps count.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub oom_kills: u32,
    /// When it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<super::MicroTime>,
    /// How long before that the measurement before was.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub window_seconds: u32,
}

impl InstanceSpec {
    /// Whether one of its ports is reached at its machine's address.
    pub fn publishes(&self) -> bool {
        self.container.is_some() && self.ports.iter().any(|port| port.host_port.is_some_and(|port| port > 0))
    }
}

/// The node, read without the rest: agents ask for it with every change.
fn node_of(object: &super::StoredObject) -> Option<String> {
    #[derive(Deserialize)]
    struct Whole {
        spec: Bound,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bound {
        #[serde(default)]
        node_name: String,
    }
    Some(serde_json::from_slice::<Whole>(&object.json).ok()?.spec.node_name)
}

/// Only the live fields may change.
fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let Some((new, old)) = new["spec"].as_object().zip(old.and_then(|o| o["spec"].as_object())) else {
        return Vec::new();
    };
    let names = new.keys().chain(old.keys().filter(|k| !new.contains_key(*k)));
    let fixed = names.filter(|k| !LIVE_FIELDS.contains(&k.as_str()) && new.get(*k) != old.get(*k));
    let message = "an instance's spec is immutable; change the App";
    fixed.map(|k| Violation::new(FieldPath::of("spec").field(k), Problem::Forbidden, message)).collect()
}

/// The word for people: the member of `state` that is set, with its reason where it has one.
fn state_word(object: &Value, _: jiff::Timestamp) -> Value {
    let state = at(object, &["status", "state"]);
    let reason = |member: &str| state[member]["reason"].as_str().map(str::to_owned);
    let word = if state["running"].is_object() {
        "Running".to_owned()
    } else if state["stopping"].is_object() {
        "Stopping".to_owned()
    } else {
        reason("waiting").or_else(|| reason("exited")).unwrap_or_else(|| "Pending".to_owned())
    };
    word.into()
}

impl Kind for Instance {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["inst"],
    categories: &["all"],
    subresources: &[Subresource::Log, Subresource::Processes, Subresource::Status],
    columns: &[
        Column {
            name: "Ready",
            data_type: "string",
            description: "whether it can be used",
            wide: false,
            cell: |o, _| {
                let conditions = at(o, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
                conditions.iter().find(|c| c["type"] == "Ready").map_or("Unknown".into(), |c| c["status"].clone())
            },
        },
        Column { name: "Status", data_type: "string", description: "what it is doing", wide: false, cell: state_word },
        Column {
            name: "Restarts",
            data_type: "integer",
            description: "restarts by policy",
            wide: false,
            cell: |o, _| at(o, &["status", "restarts"]).as_i64().unwrap_or(0).into(),
        },
        Column {
            name: "PID",
            data_type: "integer",
            description: "process id",
            wide: false,
            cell: |o, _| match at(o, &["status", "state", "running", "pid"]) {
                Value::Null => at(o, &["status", "state", "stopping", "pid"]).clone(),
                pid => pid.clone(),
            },
        },
        Column {
            name: "Node",
            data_type: "string",
            description: "where it runs",
            wide: true,
            cell: |o, _| at(o, &["spec", "nodeName"]).clone(),
        },
        Column {
            name: "Revision",
            data_type: "string",
            description: "what it was made from",
            wide: true,
            cell: |o, _| at(o, &["spec", "revision"]).clone(),
        },
        Column {
            name: "Next-Start",
            data_type: "string",
            description: "when the next attempt is due, while it waits",
            wide: true,
            cell: |o, _| at(o, &["status", "nextStartTime"]).clone(),
        },
        Column {
            name: "Last-Exit",
            data_type: "string",
            description: "how the last attempt ended",
            wide: true,
            cell: |o, _| last_exit_word(at(o, &["status", "lastExit"])).into(),
        },
    ],
    fields: &[
        SelectableField { label: "spec.nodeName", value: node_of },
        SelectableField {
            label: "status.phase",
            value: |o| Some(phase(&o.typed::<Instance>()?.status).word().to_owned()),
        },
    ],
    views: &[super::pod::VIEW, super::metrics::OF_PODS],
    check,
    ..KindInfo::of::<Instance>("Instance", "instances", "instance")
};

/// `OOMKilled`, `0`, `SIGKILL` or `lost`; empty if nothing has ended yet.
pub fn last_exit_word(exit: &Value) -> String {
    match (&exit["code"], exit["signal"].as_str(), exit["lost"].as_bool()) {
        _ if exit["oomKilled"] == true => "OOMKilled".to_owned(),
        (Value::Number(code), _, _) => code.to_string(),
        (_, Some(signal), _) => signal.to_owned(),
        (_, _, Some(true)) => "lost".to_owned(),
        _ => String::new(),
    }
}

/// The name of an App's instance.
pub fn instance_name(revision: &str, ordinal: u32) -> String {
    format!("{revision}-{ordinal}")
}

impl InstanceSpec {
    /// The process that it takes over instead of starting one.
    pub fn adopts(&self) -> Option<i32> {
        Some(self.process.as_ref()?.adopt?.pid)
    }
}

impl InstanceState {
    /// The process id, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|r| r.pid).or_else(|| self.stopping.as_ref().map(|s| s.pid))
    }

    /// When the present attempt was started.
    pub fn start_time(&self) -> Option<Time> {
        let running = self.running.as_ref().map(|r| r.start_time);
        running.or_else(|| self.stopping.as_ref().map(|s| s.start_time)).map(|t| Time(t.0))
    }
}
