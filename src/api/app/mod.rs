//! App: a long-running process or container, N replicas of it, rolled out like a Deployment.
//!
//! Every field of the spec has a [`FieldClass`], which says what a change of it does to running instances.
//! Durations without a Kubernetes counterpart are Go-style strings; the rest bears Kubernetes' names and units.

mod check;
mod container;
mod downward;
mod endpoint;
mod env;
mod logs;
mod port;
mod probe;
mod process;
mod resources;
mod restart;
mod rlimit;
mod rollout;
mod share;
mod signals;
mod when;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    container::*, downward::*, endpoint::*, env::*, logs::*, port::*, probe::*, process::*, resources::*, restart::*,
    rlimit::*, rollout::*, share::*, signals::*, when::*,
};
use super::{Column, Condition, FieldPath, Kind, KindInfo, Subresource, Time, Violation, at};

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
    /// Is applied to running instances in place where it can be, and is of the template all the same: a Revision keeps it.
    Kept,
    /// Steers the controller only.
    Control,
}

impl FieldClass {
    /// True if a Revision holds the field.
    pub fn is_of_template(self) -> bool {
        matches!(self, FieldClass::Revision | FieldClass::Kept)
    }
}

/// The class of every field of [`AppSpec`], by its JSON name.
pub const FIELDS: &[(&str, FieldClass)] = &[
    ("replicas", FieldClass::Control),
    ("suspend", FieldClass::Control),
    ("paused", FieldClass::Control),
    ("process", FieldClass::Revision),
    ("container", FieldClass::Revision),
    ("env", FieldClass::Revision),
    ("envFrom", FieldClass::Revision),
    ("files", FieldClass::Revision),
    ("ports", FieldClass::Revision),
    ("resources", FieldClass::Kept),
    ("nodeSelector", FieldClass::Control),
    ("restartPolicy", FieldClass::Live),
    ("restart", FieldClass::Live),
    ("terminationGracePeriodSeconds", FieldClass::Live),
    ("stopSignal", FieldClass::Live),
    ("lifecycle", FieldClass::Live),
    ("startupProbe", FieldClass::Live),
    ("readinessProbe", FieldClass::Live),
    ("livenessProbe", FieldClass::Live),
    ("dependsOn", FieldClass::Live),
    ("activeWindow", FieldClass::Live),
    ("logs", FieldClass::Live),
    ("terminationMessagePolicy", FieldClass::Live),
    ("sharing", FieldClass::Live),
    ("task", FieldClass::Live),
    ("strategy", FieldClass::Control),
    ("minReadySeconds", FieldClass::Control),
    ("progressDeadlineSeconds", FieldClass::Control),
    ("revisionHistoryLimit", FieldClass::Control),
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
    /// True: a changed template waits; scaling goes on.
    #[serde(default)]
    pub paused: bool,
    /// What to run: a process of the operating system. Exactly one of `process` and `container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// What to run: a container of Docker or Podman.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The environment, beside what appm adds (`APPM_*`, `PORT`, `PORT_<NAME>`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// More of the environment, from whole ConfigMaps and Secrets; `env` goes before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env_from: Vec<EnvFrom>,
    /// Files that are written before each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileSource>,
    /// The ports that it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// How much of the machine an instance may use, and is meant to use. Limits that an instance was started with are changed and
    /// lifted while it runs.
    #[serde(default)]
    pub resources: Resources,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
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
    /// What is done at the turns of an instance's life.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Whether an instance has finished its start; until then the other probes wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Whether an instance can be used; default: it can when it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Whether an instance is alive; one that is not is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Other Apps of the namespace that must have come so far before an instance starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["app"]))]
    pub depends_on: Vec<Dependency>,
    /// The time within which it runs; outside it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_window: Option<ActiveWindow>,
    /// What others than the owner may do with it.
    #[serde(default)]
    pub sharing: Sharing,
    /// How tasks that are sent to it go into its processes.
    #[serde(default)]
    pub task: Tasks,
    /// How a new template replaces running instances.
    #[serde(default)]
    pub strategy: Strategy,
    /// Seconds that an instance must be ready to count as available.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub min_ready_seconds: i32,
    /// Seconds without progress after which a rollout counts as failed.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub progress_deadline_seconds: i32,
    /// How many past Revisions are kept.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 1000))]
    pub revision_history_limit: i32,
    /// How much output is kept.
    #[serde(default)]
    pub logs: Logs,
    /// What becomes the message of an exit that was a failure; default: nothing, because output may hold what not everybody
    /// who reads statuses may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_message_policy: Option<TerminationMessagePolicy>,
}

fn one() -> i32 {
    1
}
fn ten() -> i32 {
    10
}
fn ten_minutes() -> i32 {
    600
}
pub(super) use check::check_window;

/// The rules of an App, for what is written as one.
pub(super) fn check_app(app: &Value) -> Vec<Violation> {
    check::check(app, None)
}

pub(super) fn thirty() -> i64 {
    30
}
pub(super) fn sigterm() -> String {
    "SIGTERM".to_owned()
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
    /// The last Revision that was fully available; where `autoRollback` returns to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_revision: String,
    /// The Revision of the current template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub update_revision: String,
    /// When the rollout that is on its way last came nearer to its end; `progressDeadlineSeconds` counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_time: Option<Time>,
    /// How near it came: the most new instances that were ready at one time, each counted twice once it was available. One that
    /// crashes and is ready again comes no nearer.
    #[serde(default, skip_serializing_if = "crate::api::is_zero")]
    pub progress_count: i32,
    /// The restart that was asked for last (`appm.dev/restartedAt`), once every instance has had it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restarted_at: String,
    /// Where the App is reached, by instance: those that are ready, and for a moment those that are being taken away. Only of
    /// Apps with `ports`, and the first 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instance"]))]
    pub endpoints: Vec<Endpoint>,
    /// The label selector that finds the instances.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// `Ready`, `Available`, `Progressing`, `Suspended`; `RolledBack` after `autoRollback` did so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl App {
    /// The Apps that it depends on.
    fn waits_for(app: &Value) -> Vec<(FieldPath, String)> {
        let at = FieldPath::of("spec").field("dependsOn");
        let listed = app["spec"]["dependsOn"].as_array().into_iter().flatten().enumerate();
        listed.filter_map(|(i, on)| Some((at.index(i).field("app"), on["app"].as_str()?.to_owned()))).collect()
    }
}

impl Kind for App {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    categories: &["all"],
    subresources: &[Subresource::Status, Subresource::Scale, Subresource::Task],
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
            cell: |o, _| command_line(at(o, &["spec"])).into(),
        },
    ],
    check: check::check,
    waits_for: App::waits_for,
    ..KindInfo::of::<App>("App", "apps", "app")
};

/// What a spec runs, for people: the words of command and args, the first line of the script, or the image.
pub fn command_line(spec: &Value) -> String {
    let process = &spec["process"];
    if let Some(image) = spec["container"]["image"].as_str() {
        return image.to_owned();
    }
    if let Some(pid) = process["adopt"]["pid"].as_i64() {
        return format!("process {pid}");
    }
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
}
