//! What an Instance of an App looks like.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{
    AGENT_FINALIZER, APP_LABEL, ActiveWindow, App, AppSpec, Condition, Container, Dependency, Instance, InstanceSpec,
    InstanceStatus, LIVE_FIELDS, Lifecycle, Logs, MicroTime, Object, ObjectMeta, OwnerReference, Port, Probe, Protocol,
    RESTARTED_AT, Resources, Restart, RestartPolicy, StrategyType, TaskMode, TerminationMessagePolicy, TextMap,
    instance_name,
};
use crate::{controllers::referred_annotations, policy::rollout};

/// The fields that are applied to a running Instance in place.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    #[serde(skip_serializing_if = "Resources::is_empty")]
    resources: Resources,
    restart_policy: RestartPolicy,
    restart: Restart,
    termination_grace_period_seconds: i64,
    stop_signal: String,
    logs: Logs,
    #[serde(skip_serializing_if = "Option::is_none")]
    termination_message_policy: Option<TerminationMessagePolicy>,
    #[serde(skip_serializing_if = "TaskMode::is_requests")]
    task_mode: TaskMode,
    #[serde(skip_serializing_if = "Lifecycle::is_empty")]
    lifecycle: Lifecycle,
    #[serde(skip_serializing_if = "Option::is_none")]
    startup_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readiness_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    liveness_probe: Option<Probe>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<Dependency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_window: Option<ActiveWindow>,
    suspend: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    restarted_at: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    hold: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_until: Option<MicroTime>,
}

/// The fields that an App's spec and an Instance's have in common.
macro_rules! live {
    ($spec:expr, $($own:tt)*) => {
        Live {
            restart_policy: $spec.restart_policy,
            restart: $spec.restart.clone(),
            termination_grace_period_seconds: $spec.termination_grace_period_seconds,
            stop_signal: $spec.stop_signal.clone(),
            termination_message_policy: $spec.termination_message_policy,
            lifecycle: $spec.lifecycle.clone(),
            startup_probe: $spec.startup_probe.clone(),
            readiness_probe: $spec.readiness_probe.clone(),
            liveness_probe: $spec.liveness_probe.clone(),
            depends_on: $spec.depends_on.clone(),
            active_window: $spec.active_window.clone(),
            suspend: $spec.suspend,
            $($own)*
        }
    };
}

impl Live {
    /// What the App wants, for an Instance that is to be restarted up to `restarted_at`. What it waits for is `hold`.
    /// `resources` are those of its own Revision.
    pub(super) fn wanted(spec: &AppSpec, resources: &Resources, restarted_at: &str, hold: &str) -> Self {
        let resources = resources.clone();
        let logs = spec.logs.shared_by(most(spec));
        live!(spec, resources, logs, task_mode: spec.task.mode, restarted_at: restarted_at.to_owned(), hold: hold.to_owned(), drain_until: None)
    }

    /// The same for one that is to go, when it has served until then.
    pub(super) fn drained(self, until: Timestamp) -> Self {
        Self { drain_until: Some(MicroTime(until)), ..self }
    }

    /// It waits for this; for nothing if empty.
    pub(super) fn hold_for(&mut self, sentence: &str) {
        sentence.clone_into(&mut self.hold);
    }

    /// What an Instance has.
    pub(super) fn of(spec: &InstanceSpec) -> Self {
        let (restarted_at, hold) = (spec.restarted_at.clone(), spec.hold.clone());
        let resources = spec.resources.clone();
        live!(spec, resources, logs: spec.logs.clone(), task_mode: spec.task_mode, restarted_at, hold, drain_until: spec.drain_until)
    }

    /// Puts the fields into the JSON of an Instance's spec.
    pub(super) fn write(&self, spec: &mut Value) {
        let (mut fields, Some(spec)) = (json!(self), spec.as_object_mut()) else { return };
        for name in LIVE_FIELDS {
            match fields[*name].take() {
                Value::Null => spec.shift_remove(*name),
                value => spec.insert((*name).to_owned(), value),
            };
        }
    }
}

/// How many Instances there are at most, in the middle of a rolling update.
fn most(spec: &AppSpec) -> u32 {
    let replicas = u32::try_from(spec.replicas).unwrap_or(0);
    let rolling = &spec.strategy.rolling_update;
    match spec.strategy.kind {
        StrategyType::Recreate => replicas,
        StrategyType::RollingUpdate => {
            replicas.saturating_add(rollout::bounds(replicas, &rolling.max_surge, &rolling.max_unavailable).0)
        }
    }
}

/// The value of the annotation that asks for a restart; empty if there is none.
pub(super) fn restarted_at(app: &Object<App>) -> &str {
    app.metadata.annotations.get(RESTARTED_AT).unwrap_or_default()
}

/// The labels of everything that belongs to the App.
pub(super) fn labels(app: &Object<App>) -> TextMap {
    let mut labels = app.metadata.labels.clone();
    labels.insert(APP_LABEL, &app.metadata.name);
    labels
}

/// The metadata of a dependent.
pub(super) fn metadata(app: &Object<App>, name: String) -> ObjectMeta {
    ObjectMeta {
        name,
        namespace: app.metadata.namespace.clone(),
        labels: labels(app),
        owner_references: vec![OwnerReference::controller_of(app)],
        ..ObjectMeta::default()
    }
}

/// True if it can be used. One whose restart is asked for but not done cannot: it is about to end.
pub(super) fn is_ready(instance: &Instance) -> bool {
    instance.status.restarted_at == instance.spec.restarted_at && Condition::holds(&instance.status.conditions, "Ready")
}

/// How many ports of an Instance are for appm to choose.
pub(super) fn zero_ports(spec: &AppSpec) -> usize {
    spec.ports.iter().filter(|port| port.reached_at() == 0).count()
}

/// The ports of the machine that something with these ports holds. A container holds those that are published.
pub(super) fn held_ports<'a>(
    ports: &'a [Port],
    container: Option<&'a Container>,
) -> impl Iterator<Item = (u16, Protocol)> + 'a {
    let held = move |port: &Port| match container {
        Some(container) if container.network != "host" => port.host_port,
        _ => Some(port.container_port),
    };
    ports.iter().filter_map(move |port| Some((held(port)?, port.protocol))).filter(|(number, _)| *number != 0)
}

/// A port of which appm chooses the number.
fn chosen(port: &Port, number: u16) -> Port {
    match port.host_port {
        Some(_) => Port { host_port: Some(number), ..port.clone() },
        None => Port { container_port: number, ..port.clone() },
    }
}

/// A new Instance of a template. `free` holds one port for each that is to be chosen.
pub(super) fn new(
    app: &Object<App>,
    spec: &AppSpec,
    revision: &str,
    ordinal: u32,
    node: &str,
    free: &[u16],
) -> Object<Instance> {
    let live = Live::wanted(spec, &spec.resources, restarted_at(app), "");
    let mut free = free.iter();
    let ports = spec.ports.iter().map(|port| match port.reached_at() {
        0 => chosen(port, free.next().copied().unwrap_or_default()),
        _ => port.clone(),
    });
    let spec = InstanceSpec {
        node_name: node.to_owned(),
        revision: revision.to_owned(),
        ordinal,
        once: false,
        stdin_once: false,
        ports: ports.collect(),
        process: spec.process.clone(),
        container: spec.container.clone(),
        env: spec.env.clone(),
        env_from: spec.env_from.clone(),
        files: spec.files.clone(),
        resources: live.resources,
        restart_policy: live.restart_policy,
        restart: live.restart,
        termination_grace_period_seconds: live.termination_grace_period_seconds,
        stop_signal: live.stop_signal,
        logs: live.logs,
        termination_message_policy: live.termination_message_policy,
        task_mode: live.task_mode,
        suspend: live.suspend,
        restarted_at: live.restarted_at,
        hold: live.hold,
        drain_until: live.drain_until,
        lifecycle: live.lifecycle,
        startup_probe: live.startup_probe,
        readiness_probe: live.readiness_probe,
        liveness_probe: live.liveness_probe,
        depends_on: live.depends_on,
        active_window: live.active_window,
        step: None,
    };
    let mut metadata = metadata(app, instance_name(revision, ordinal));
    metadata.annotations = referred_annotations(&app.metadata, &spec.env);
    metadata.finalizers = vec![AGENT_FINALIZER.to_owned()];
    Object::new(metadata, Instance { spec, status: InstanceStatus::default() })
}
