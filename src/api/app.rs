//! App: a long-running process, N replicas of it, rolled out like a Deployment.
//!
//! Every field of the spec has a [`FieldClass`], which says what a change of it does to running instances.
//! Durations without a Kubernetes counterpart are Go-style strings; the rest bears Kubernetes' names and units.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ChangeLog, Column, Condition, FieldPath, GoDuration, Kind, KindInfo, Problem, Quantity, Scope, Subresource, Verbs,
    Violation, as_written, at, check_label_name, decode_as, schema_of,
};

/// The annotation whose change restarts the instances in place, one after another: `appm restart`.
pub const RESTARTED_AT: &str = "appm.dev/restartedAt";
/// The immutable annotation that names an object's creator.
pub const OWNER: &str = "appm.dev/owner";
/// The label that every Instance and Revision of an App carries: the App's name.
pub const APP_LABEL: &str = "appm.dev/app";

/// A long-running process with so many replicas, rolled out as a Deployment is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct App {
    /// What is wanted.
    pub spec: AppSpec,
    /// What is.
    #[serde(default)]
    pub status: AppStatus,
}

/// What a change of a spec field does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldClass {
    /// Makes a new Revision: instances are replaced.
    Revision,
    /// Is applied to running instances in place.
    Live,
    /// Steers the controller only.
    Control,
}

/// The class of every field of [`AppSpec`], by its JSON name.
pub const FIELDS: &[(&str, FieldClass)] = &[
    ("replicas", FieldClass::Control),
    ("suspend", FieldClass::Control),
    ("process", FieldClass::Revision),
    ("env", FieldClass::Revision),
    ("ports", FieldClass::Revision),
    ("restartPolicy", FieldClass::Live),
    ("restart", FieldClass::Live),
    ("terminationGracePeriodSeconds", FieldClass::Live),
    ("stopSignal", FieldClass::Live),
    ("strategy", FieldClass::Control),
    ("revisionHistoryLimit", FieldClass::Control),
    ("logs", FieldClass::Live),
];

/// The declared state of an App.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// How many instances; 0 keeps the App declared and stopped.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: i32,
    /// True stops every instance and keeps the definition.
    #[serde(default)]
    pub suspend: bool,
    /// What to run: a process of the operating system.
    pub process: Process,
    /// The environment, beside what appm adds (`APPM_*`, `PORT`, `PORT_<NAME>`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// The ports that the process listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// Whether an instance that ended is started again.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// How soon, how often, and what a given exit means.
    #[serde(default)]
    pub restart: Restart,
    /// Seconds between the stop signal and SIGKILL.
    #[serde(default = "thirty")]
    #[schemars(range(min = 0, max = 86400))]
    pub termination_grace_period_seconds: i64,
    /// The signal that asks an instance to end.
    #[serde(default = "sigterm")]
    #[schemars(regex(pattern = r"^SIG[A-Z0-9+-]{2,10}$"))]
    pub stop_signal: String,
    /// How a new template replaces running instances.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many past Revisions are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 1000))]
    pub revision_history_limit: i32,
    /// How much output is kept.
    #[serde(default)]
    pub logs: Logs,
}

fn one() -> i32 {
    1
}
fn ten() -> i32 {
    10
}
pub(super) fn thirty() -> i64 {
    30
}
pub(super) fn sigterm() -> String {
    "SIGTERM".to_owned()
}

/// A process of the operating system. Exactly one of `command` and `script`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments, no shell; `$(NAME)` expands from the environment, `$$(NAME)` is literal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub command: Vec<String>,
    /// More arguments, appended to `command`, expanded alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub args: Vec<String>,
    /// A script instead of a command: run by `sh -eu`, or by the interpreter of its `#!` line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub script: Option<String>,
    /// The working directory, absolute; default: a directory of the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/"))]
    pub working_dir: Option<String>,
    /// The OS user; default: the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// The OS group; default: the user's primary group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group: Option<String>,
    /// File mode creation mask, octal; default "022".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^0?[0-7]{3}$"))]
    pub umask: Option<String>,
    /// Scheduling priority; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -20, max = 19))]
    pub nice: Option<i32>,
    /// Resource limits by name (`nofile`, `core`, `as`, …), soft and hard alike.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<RlimitName, u64>,
    /// Text given to the process on its standard input, which is then closed; default: nothing to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub stdin: Option<String>,
}

/// The resource limits of setrlimit(2), in lower case without `RLIMIT_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "setrlimit(2) explains each name")]
pub enum RlimitName {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Nofile,
    Nproc,
    Stack,
}

/// One variable. At most one of `value` and `valueFrom`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.-]*$"), length(max = 256))]
    pub name: String,
    /// Its value; `$(NAME)` expands from variables above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where to take the value from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where a variable's value comes from. Exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// A field of the Instance itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A field of the Instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Which.
    pub field_path: FieldRefPath,
}

/// The fields that a process may see of its Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FieldRefPath {
    /// The Instance's name.
    #[serde(rename = "metadata.name")]
    Name,
    /// Its namespace.
    #[serde(rename = "metadata.namespace")]
    Namespace,
    /// Its uid.
    #[serde(rename = "metadata.uid")]
    Uid,
    /// The node it runs on.
    #[serde(rename = "spec.nodeName")]
    NodeName,
    /// The address it is reached at.
    #[serde(rename = "status.podIP")]
    Address,
}

/// A port that the process listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name; `PORT_<NAME>` in the environment.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 15))]
    pub name: String,
    /// The port's number; 0 allocates a free one for each instance.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65535))]
    pub container_port: u16,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// When an ended instance is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// After every exit.
    #[default]
    Always,
    /// After a failure only.
    OnFailure,
    /// Never.
    Never,
}

/// How soon, how often, and what a given exit means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// The growing pause before a restart.
    #[serde(default)]
    pub backoff: Backoff,
    /// How many restarts in a row, without a stable run between them, are allowed; 0: no limit.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000000))]
    pub max_restarts: u32,
    /// What an exit code (`"0"`) or signal (`SIGKILL`) means, before `restartPolicy` is asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exit_codes: BTreeMap<String, ExitAction>,
}

/// The pause before a restart: none after a stable run, then `initial`, doubling up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first pause.
    #[serde(default = "backoff_initial")]
    pub initial: GoDuration,
    /// The longest pause.
    #[serde(default = "backoff_max")]
    pub max: GoDuration,
    /// A run of at least this long is stable: the restart after it is immediate, and counting begins anew.
    #[serde(default = "backoff_reset")]
    pub reset_after: GoDuration,
}

fn backoff_initial() -> GoDuration {
    GoDuration::secs(1)
}
fn backoff_max() -> GoDuration {
    GoDuration::secs(300)
}
fn backoff_reset() -> GoDuration {
    GoDuration::secs(60)
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: backoff_initial(), max: backoff_max(), reset_after: backoff_reset() }
    }
}

/// What an exit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExitAction {
    /// Start again, by backoff.
    Restart,
    /// Stay ended.
    Stop,
    /// Stay ended, and delete the App.
    Remove,
}

/// How a new template replaces running instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Strategy {
    /// One after another, or all at once.
    #[serde(default, rename = "type")]
    pub kind: StrategyType,
}

/// The ways of replacing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyType {
    /// One instance after another; the next one when its replacement is ready.
    #[default]
    RollingUpdate,
    /// All old ones are stopped, then all new ones are started.
    Recreate,
}

/// How much output of an instance is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// The size at which a log file is rotated; default 10Mi.
    #[serde(default = "ten_mebi")]
    pub max_size: Quantity,
    /// How many files are kept, the current one included; default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: u32,
}

fn ten_mebi() -> Quantity {
    "10Mi".parse().expect("a quantity")
}
fn five() -> u32 {
    5
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: ten_mebi(), max_files: five() }
    }
}

/// The observed state of an App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Instances that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Instances that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Instances of the current template.
    #[serde(default)]
    pub updated_replicas: i32,
    /// Ready instances that count as available.
    #[serde(default)]
    pub available_replicas: i32,
    /// Restarts of the present instances, added up.
    #[serde(default)]
    pub restarts: i64,
    /// The Revision that every instance had last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_revision: String,
    /// The Revision of the current template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub update_revision: String,
    /// The label selector that finds the instances.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// `Ready`, `Available`, `Progressing`, `Suspended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Signals that may stand in `stopSignal` and `exitCodes`, with their numbers on Linux.
pub const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// The number of a signal's name.
pub fn signal_number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
}

/// The name of a signal; `SIGRTn` names are not used, numbers outside the table print as `SIG<n>`.
pub fn signal_name(number: i32) -> String {
    match SIGNALS.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("SIG{number}"),
    }
}

/// The rules between fields.
fn check(new: &Value, _old: Option<&Value>) -> Vec<Violation> {
    let Ok(spec) = AppSpec::deserialize(&new["spec"]) else {
        return vec![Violation::new(FieldPath::of("spec"), Problem::Invalid, "cannot be read")];
    };
    let root = FieldPath::of("spec");
    let mut found: Vec<Violation> = check_label_name(new).into_iter().collect();
    found.extend(check_process(&spec.process, &root.field("process")));
    found.extend(check_env(&spec.env, &root.field("env")));
    found.extend(check_ports(&spec.ports, &root.field("ports")));
    if signal_number(&spec.stop_signal).is_none() {
        let message = format!("`{}` is not a signal of this system, such as SIGTERM or SIGINT", spec.stop_signal);
        found.push(Violation::new(root.field("stopSignal"), Problem::NotSupported, message));
    }
    found.extend(check_restart(&spec.restart, &root.field("restart")));
    if spec.logs.max_size.units() < 4096 {
        let at = root.field("logs").field("maxSize");
        found.push(Violation::new(at, Problem::Invalid, "must be at least 4Ki"));
    }
    found
}

/// Exactly one of command and script; nothing that execve(2) cannot carry.
pub fn check_process(process: &Process, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    match (process.command.is_empty(), &process.script) {
        (true, None) => {
            found.push(Violation::new(at.field("command"), Problem::Required, "set `command` or `script`"));
        }
        (false, Some(_)) => {
            let message = "set either `command` or `script`, not both";
            found.push(Violation::new(at.field("script"), Problem::Forbidden, message));
        }
        _ => {}
    }
    if process.command.first().is_some_and(String::is_empty) {
        let message = "the program's name must not be empty";
        found.push(Violation::new(at.field("command").index(0), Problem::Invalid, message));
    }
    let texts = process.command.iter().enumerate().map(|(i, t)| (at.field("command").index(i), t));
    let texts = texts.chain(process.args.iter().enumerate().map(|(i, t)| (at.field("args").index(i), t)));
    for (path, _) in texts.filter(|(_, text)| text.contains('\0')) {
        found.push(Violation::new(path, Problem::Invalid, "must not contain a NUL character"));
    }
    found
}

fn check_env(env: &[EnvVar], at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, var) in env.iter().enumerate() {
        let path = at.index(i);
        if env[..i].iter().any(|earlier| earlier.name == var.name) {
            found.push(Violation::new(path.field("name"), Problem::Duplicate, format!("`{}`", var.name)));
        }
        if var.value.as_ref().is_some_and(|v| v.contains('\0')) {
            found.push(Violation::new(path.field("value"), Problem::Invalid, "must not contain a NUL character"));
        }
        if let Some(source) = &var.value_from {
            if var.value.is_some() {
                let message = "set either `value` or `valueFrom`, not both";
                found.push(Violation::new(path.field("valueFrom"), Problem::Forbidden, message));
            }
            if source.field_ref.is_none() {
                found.push(Violation::new(path.field("valueFrom"), Problem::Required, "set `fieldRef`"));
            }
        }
    }
    found
}

fn check_ports(ports: &[Port], at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let earlier = &ports[..i];
        if earlier.iter().any(|p| p.name == port.name) {
            found.push(Violation::new(at.index(i).field("name"), Problem::Duplicate, format!("`{}`", port.name)));
        }
        let taken = |p: &Port| p.container_port == port.container_port && p.protocol == port.protocol;
        if port.container_port != 0 && earlier.iter().any(taken) {
            let message = port.container_port.to_string();
            found.push(Violation::new(at.index(i).field("containerPort"), Problem::Duplicate, message));
        }
    }
    found
}

fn check_restart(restart: &Restart, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for word in restart.exit_codes.keys() {
        if word.parse::<u8>().is_err() && signal_number(word).is_none() {
            let message = "an exit is a code from 0 to 255 or a signal such as SIGKILL";
            found.push(Violation::new(at.field("exitCodes").field(word), Problem::NotSupported, message));
        }
    }
    if restart.backoff.initial > restart.backoff.max {
        let message = format!("must not be longer than `max` ({})", restart.backoff.max);
        found.push(Violation::new(at.field("backoff").field("initial"), Problem::Invalid, message));
    }
    found
}

impl Kind for App {
    const INFO: &'static KindInfo = &KindInfo {
        group: super::GROUP,
        version: super::VERSION,
        kind: "App",
        plural: "apps",
        singular: "app",
        short_names: &[],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: Verbs::All,
        subresources: &[Subresource::Status, Subresource::Scale],
        log: ChangeLog::Main,
        sealed: false,
        columns: &[
            Column {
                name: "Ready",
                data_type: "string",
                description: "ready instances of those wanted",
                wide: false,
                cell: |o, _| {
                    let wanted = at(o, &["spec", "replicas"]).as_i64().unwrap_or(1);
                    let ready = at(o, &["status", "readyReplicas"]).as_i64().unwrap_or(0);
                    format!("{ready}/{wanted}").into()
                },
            },
            Column {
                name: "Status",
                data_type: "string",
                description: "the reason of the Ready condition",
                wide: false,
                cell: |o, _| {
                    let conditions = at(o, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
                    let ready = conditions.iter().find(|c| c["type"] == "Ready");
                    ready.map_or_else(|| "Pending".into(), |c| c["reason"].clone())
                },
            },
            Column {
                name: "Restarts",
                data_type: "integer",
                description: "restarts of the present instances",
                wide: false,
                cell: |o, _| at(o, &["status", "restarts"]).as_i64().unwrap_or(0).into(),
            },
            Column {
                name: "Revision",
                data_type: "string",
                description: "the Revision of the current template",
                wide: true,
                cell: |o, _| at(o, &["status", "updateRevision"]).clone(),
            },
            Column {
                name: "Command",
                data_type: "string",
                description: "what is run",
                wide: true,
                cell: |o, _| command_line(at(o, &["spec", "process"])).into(),
            },
        ],
        fields: &[],
        views: &[],
        schema: schema_of::<App>,
        normalize: as_written,
        defaults: as_written,
        check,
        decode: decode_as::<App>,
    };
}

/// What a process runs, for people: the words of command and args, or the first line of the script.
pub fn command_line(process: &Value) -> String {
    if let Some(script) = process["script"].as_str() {
        return script.lines().find(|l| !l.trim().is_empty()).unwrap_or_default().to_owned();
    }
    let words = ["command", "args"].into_iter().filter_map(|list| process[list].as_array()).flatten();
    words.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spec_field_has_a_class() {
        let schema = schemars::schema_for!(AppSpec).to_value();
        let mut fields: Vec<&str> =
            schema["properties"].as_object().expect("properties").keys().map(String::as_str).collect();
        let mut classed: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        fields.sort_unstable();
        classed.sort_unstable();
        assert_eq!(fields, classed);
    }

    #[test]
    fn a_minimal_app_gets_the_documented_defaults() {
        let spec: AppSpec = serde_json::from_value(json!({"process": {"command": ["true"]}})).expect("valid");
        assert_eq!((spec.replicas, spec.suspend, spec.termination_grace_period_seconds), (1, false, 30));
        assert_eq!(spec.restart.backoff, Backoff::default());
        assert_eq!((spec.logs.max_size.units(), spec.logs.max_files), (10 << 20, 5));
        assert_eq!(spec.stop_signal, "SIGTERM");
    }

    #[test]
    fn all_violations_are_found_at_once() {
        let app = json!({"spec": {
            "process": {"command": ["a"], "script": "b"},
            "env": [{"name": "A", "value": "1"}, {"name": "A"}],
            "ports": [{"name": "a", "containerPort": 80}, {"name": "b", "containerPort": 80}],
            "stopSignal": "SIGFOO",
            "restart": {"exitCodes": {"300": "Stop"}, "backoff": {"initial": "10s", "max": "1s"}},
            "logs": {"maxSize": "1"},
        }});
        let paths: Vec<String> = check(&app, None).iter().map(|v| v.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "spec.process.script",
                "spec.env[1].name",
                "spec.ports[1].containerPort",
                "spec.stopSignal",
                "spec.restart.exitCodes.300",
                "spec.restart.backoff.initial",
                "spec.logs.maxSize",
            ]
        );
    }
}
