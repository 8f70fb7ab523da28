//! Pod: Instance as Kubernetes' own tools know it, `v1` Pod with one container.
//!
//! A projection, not a kind: nothing here is stored, and a Pod's name, namespace, uid and resourceVersion are its
//! Instance's. It can be read, watched and deleted (the App's controller then replaces it), and its log can be read; what
//! is declared is declared as an App. Only fields that say something true are served, under Kubernetes' names and with
//! Kubernetes' words (`CrashLoopBackOff`, `Completed`, `Error`). Field managers are left out: they own fields of the
//! Instance, which a Pod does not have.

mod columns;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Condition, ConditionStatus, EnvVar, Exit, Instance, InstanceSpec, InstanceState, InstanceStatus, Lifecycle,
    LimitName, Object, ObjectMeta, Port, Probe, Process, Quantity, RequestName, Resources, RestartPolicy,
    SelectableField, Subresource, Time, Verbs, View, no_check, signal_number,
};

/// What runs: one process, as a Pod of one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pod {
    /// What was to run.
    pub spec: PodSpec,
    /// What runs.
    pub status: PodStatus,
}

/// What was to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The node that runs it.
    pub node_name: String,
    /// The one process.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub containers: Vec<PodContainer>,
    /// Whether the process is started again when it ends.
    pub restart_policy: RestartPolicy,
    /// Seconds between the stop signal and SIGKILL.
    pub termination_grace_period_seconds: i64,
    /// True: a process has the network of its machine.
    pub host_network: bool,
}

/// A process, as a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodContainer {
    /// The name of the App, or `main`.
    pub name: String,
    /// The program that runs: a process has no image.
    pub image: String,
    /// Program and arguments; for a script its interpreter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// More arguments; for a script its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The working directory, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The environment as it was declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// The ports that it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<Port>,
    /// Its limits and requests, of memory and processors.
    #[serde(default, skip_serializing_if = "PodResources::is_empty")]
    pub resources: PodResources,
    /// Whether it has finished its start; none if it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Whether it can be used; none if it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Whether it is alive; none if it says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// What is done at the turns of its life.
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
}

/// What a container may use, and is meant to use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ResourceRequirements")]
pub struct PodResources {
    /// The most that it gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// What is set aside for it. Where only a limit is given, that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}

impl PodResources {
    fn of(resources: &Resources) -> Self {
        let limits = [("memory", LimitName::Memory), ("cpu", LimitName::Cpu)];
        let limits: BTreeMap<String, Quantity> = limits
            .into_iter()
            .filter_map(|(word, name)| Some((word.to_owned(), resources.limits.get(&name)?.clone())))
            .collect();
        let requests = [("memory", RequestName::Memory), ("cpu", RequestName::Cpu)];
        let mut all = limits.clone();
        all.extend(
            requests
                .into_iter()
                .filter_map(|(word, name)| Some((word.to_owned(), resources.requests.get(&name)?.clone()))),
        );
        Self { limits, requests: all }
    }

    fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }

    /// Kubernetes' rule.
    fn qos_class(&self) -> &'static str {
        if self.is_empty() {
            "BestEffort"
        } else if self.limits.len() == 2 && self.limits == self.requests {
            "Guaranteed"
        } else {
            "Burstable"
        }
    }
}

/// Where a Pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodPhase {
    /// It has not run yet, or its App is suspended.
    #[default]
    Pending,
    /// It runs, or it ran and will run again.
    Running,
    /// It ended well, for good.
    Succeeded,
    /// It ended badly, for good.
    Failed,
}

impl PodPhase {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            PodPhase::Pending => "Pending",
            PodPhase::Running => "Running",
            PodPhase::Succeeded => "Succeeded",
            PodPhase::Failed => "Failed",
        }
    }
}

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: PodPhase,
    /// `Ready`, `ContainersReady`, `Initialized`, `PodScheduled`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The address of its machine.
    #[serde(default, rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
    /// Where its ports are reached.
    #[serde(default, rename = "podIP", skip_serializing_if = "String::is_empty")]
    pub pod_ip: String,
    /// The same as a list.
    #[serde(default, rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// `BestEffort`, `Burstable` or `Guaranteed`: by its limits and requests.
    pub qos_class: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PodIP")]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// How a process is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// What it is doing.
    pub state: ContainerState,
    /// How it ended before it came to be as it is now.
    #[serde(default)]
    pub last_state: ContainerState,
    /// True if it can be used.
    pub ready: bool,
    /// Restarts by policy.
    pub restart_count: u32,
    /// The program that runs.
    pub image: String,
    /// Empty: a process has no image.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// `appm://`, the uid and the number of the present attempt.
    #[serde(default, rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// True if it runs.
    pub started: bool,
}

/// What a container is doing, or how it ended. At most one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerState {
    /// Nothing runs, and something will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<ContainerStateWaiting>,
    /// It runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ContainerStateRunning>,
    /// It ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<ContainerStateTerminated>,
}

/// Nothing runs, and something will.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerStateWaiting {
    /// `ContainerCreating`, `CrashLoopBackOff`, `RunContainerError`, `CreateContainerConfigError`; `Suspended` with its App.
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// It runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStateRunning {
    /// Since when.
    pub started_at: Time,
}

/// It ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStateTerminated {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub exit_code: i32,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// `appm://`, the uid and the number of the attempt.
    #[serde(rename = "containerID")]
    pub container_id: String,
}

/// How an Instance is served as a Pod.
pub(super) const VIEW: View = View {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    verbs: Verbs::ReadDelete,
    subresources: &[Subresource::Log],
    columns: Some(columns::COLUMNS),
    fields: FIELDS,
    only: "",
    measured: false,
    project,
    lift: None,
    check: no_check,
    schema,
};

/// Beside `spec.nodeName` and `status.phase`, which an Instance has too.
const FIELDS: &[SelectableField] = &[
    SelectableField {
        label: "spec.restartPolicy",
        value: |o| Some(format!("{:?}", o.typed::<Instance>()?.spec.restart_policy)),
    },
    SelectableField { label: "status.podIP", value: |o| Some(o.typed::<Instance>()?.status.address.clone()) },
];

fn schema(generator: &mut SchemaGenerator) -> Schema {
    super::object::object_schema::<Pod>(generator)
}

fn project(instance: &Value) -> Value {
    let read = || {
        let metadata = ObjectMeta::deserialize(&instance["metadata"])?;
        let body = Instance::deserialize(instance)?;
        serde_json::to_value(Object {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            body: pod(&metadata, &body),
            metadata,
        })
    };
    // Admission let it in, so it can be read, unless another release of appm wrote it.
    read().unwrap_or_else(
        |_: serde_json::Error| serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": instance["metadata"]}),
    )
}

/// The name of the one container: the App's.
pub fn container_name(metadata: &ObjectMeta) -> &str {
    metadata.controller().map_or("main", |owner| &owner.name)
}

/// Where an Instance is in its life as a Pod.
pub(super) fn phase(status: &InstanceStatus) -> PodPhase {
    let succeeded = status.last_exit.as_ref().is_some_and(Exit::is_success);
    match &status.state {
        InstanceState { exited: Some(exited), .. } if exited.reason == SUSPENDED => PodPhase::Pending,
        InstanceState { exited: Some(_), .. } if succeeded => PodPhase::Succeeded,
        InstanceState { exited: Some(_), .. } => PodPhase::Failed,
        state if state.pid().is_some() || status.last_exit.is_some() => PodPhase::Running,
        _ => PodPhase::Pending,
    }
}

const SUSPENDED: &str = "Suspended";

fn pod(metadata: &ObjectMeta, instance: &Instance) -> Pod {
    let InstanceSpec { node_name, restart_policy, termination_grace_period_seconds, .. } = &instance.spec;
    let container = container(container_name(metadata), &instance.spec);
    let status = status(metadata, &container, &instance.status);
    Pod {
        spec: PodSpec {
            node_name: node_name.clone(),
            containers: vec![container],
            restart_policy: *restart_policy,
            termination_grace_period_seconds: *termination_grace_period_seconds,
            host_network: true,
        },
        status,
    }
}

fn container(name: &str, spec: &InstanceSpec) -> PodContainer {
    let (image, command, args, working_dir) = match (&spec.process, &spec.container) {
        (Some(Process { script: Some(script), working_dir, .. }), _) => {
            let command = interpreter(script);
            (command.first().cloned(), command, vec![script.clone()], working_dir)
        }
        (Some(Process { command, args, working_dir, .. }), _) => {
            (command.first().or(args.first()).cloned(), command.clone(), args.clone(), working_dir)
        }
        (None, Some(super::Container { image, command, args, working_dir, .. })) => {
            (Some(image.clone()), command.clone(), args.clone(), working_dir)
        }
        (None, None) => (None, Vec::new(), Vec::new(), &None),
    };
    PodContainer {
        name: name.to_owned(),
        image: image.unwrap_or_default(),
        command,
        args,
        working_dir: working_dir.clone(),
        env: spec.env.clone(),
        ports: spec.ports.clone(),
        resources: PodResources::of(&spec.resources),
        startup_probe: asked(&spec.startup_probe),
        readiness_probe: asked(&spec.readiness_probe),
        liveness_probe: asked(&spec.liveness_probe),
        lifecycle: spec.lifecycle.clone(),
    }
}

/// Kubernetes knows no probe by sd_notify.
fn asked(probe: &Option<Probe>) -> Option<Probe> {
    probe.clone().filter(|probe| probe.notify.is_none())
}

/// What runs a script: the words of its `#!` line, or the shell.
fn interpreter(script: &str) -> Vec<String> {
    let named = script.strip_prefix("#!").and_then(|rest| rest.lines().next());
    named.unwrap_or("sh -eu").split_whitespace().map(str::to_owned).collect()
}

fn status(metadata: &ObjectMeta, container: &PodContainer, status: &InstanceStatus) -> PodStatus {
    let state = state(metadata, status);
    // An exit that is over and done with, or about to be, is the state itself.
    let last = status.last_exit.as_ref().filter(|_| state.terminated.is_none());
    let last_state = ContainerState { terminated: last.map(|e| terminated(metadata, e)), ..ContainerState::default() };
    let container_status = ContainerStatus {
        name: container.name.clone(),
        ready: Condition::holds(&status.conditions, "Ready"),
        started: state.running.is_some() && status.started != Some(false),
        state,
        last_state,
        restart_count: status.restarts,
        image: container.image.clone(),
        image_id: String::new(),
        container_id: if status.attempt == 0 { String::new() } else { container_id(metadata, status.attempt) },
    };
    let phase = phase(status);
    let address = status.address.clone();
    PodStatus {
        phase,
        conditions: conditions(metadata, &container.name, phase, status),
        host_ip: address.clone(),
        pod_ips: if address.is_empty() { Vec::new() } else { vec![PodIp { ip: address.clone() }] },
        pod_ip: address,
        start_time: metadata.creation_timestamp,
        container_statuses: vec![container_status],
        qos_class: container.resources.qos_class().to_owned(),
    }
}

fn state(metadata: &ObjectMeta, status: &InstanceStatus) -> ContainerState {
    let waiting = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: reason.to_owned(), message: message.to_owned() }),
        ..ContainerState::default()
    };
    let state = &status.state;
    if let Some(started_at) = state.start_time() {
        return ContainerState { running: Some(ContainerStateRunning { started_at }), ..ContainerState::default() };
    }
    match (&state.exited, &status.last_exit, &state.waiting) {
        (Some(exited), ..) if exited.reason == SUSPENDED => waiting(SUSPENDED, &exited.message),
        (Some(_), Some(exit), _) => {
            ContainerState { terminated: Some(terminated(metadata, exit)), ..ContainerState::default() }
        }
        (Some(exited), None, _) => waiting(&exited.reason, &exited.message),
        (_, _, Some(now)) => waiting(waiting_word(&now.reason), &now.message),
        _ => waiting(waiting_word("Starting"), ""),
    }
}

/// Kubernetes' word for what is waited for.
fn waiting_word(reason: &str) -> &str {
    match reason {
        "Starting" => "ContainerCreating",
        "BackOff" | "CrashLooping" => "CrashLoopBackOff",
        "StartFailed" => "RunContainerError",
        "ConfigError" => "CreateContainerConfigError",
        other => other,
    }
}

fn terminated(metadata: &ObjectMeta, exit: &Exit) -> ContainerStateTerminated {
    let signal = exit.signal.as_deref().and_then(signal_number);
    let (exit_code, reason) = match (exit.code, signal) {
        (Some(0), _) => (0, "Completed"),
        (Some(code), _) => (code, "Error"),
        (None, Some(signal)) => (128 + signal, "Error"),
        (None, None) if exit.lost || exit.message.is_empty() => (137, "ContainerStatusUnknown"),
        (None, None) => (128, "StartError"),
    };
    ContainerStateTerminated {
        exit_code,
        signal,
        reason: if exit.oom_killed { "OOMKilled" } else { reason }.to_owned(),
        message: exit.message.clone(),
        started_at: exit.start_time.map(|t| Time(t.0)),
        finished_at: exit.finish_time.map(|t| Time(t.0)),
        container_id: container_id(metadata, exit.attempt),
    }
}

fn container_id(metadata: &ObjectMeta, attempt: u32) -> String {
    format!("appm://{}-{attempt}", metadata.uid.as_ref().map_or("", |uid| uid.as_str()))
}

/// In Kubernetes' order.
fn conditions(metadata: &ObjectMeta, container: &str, phase: PodPhase, status: &InstanceStatus) -> Vec<Condition> {
    let made = metadata.creation_timestamp.unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH));
    let from_the_start = |kind: &str| Condition::new(kind, true, "", "", made);
    let judged = Condition::find(&status.conditions, "Ready");
    let ready = |kind: &str| match judged {
        Some(ready) if ready.status == ConditionStatus::True => {
            Condition { last_transition_time: ready.last_transition_time, ..from_the_start(kind) }
        }
        judged => Condition {
            status: ConditionStatus::False,
            reason: if phase == PodPhase::Succeeded { "PodCompleted" } else { "ContainersNotReady" }.to_owned(),
            message: format!("containers with unready status: [{container}]"),
            last_transition_time: judged.map_or(made, |ready| ready.last_transition_time),
            ..from_the_start(kind)
        },
    };
    vec![from_the_start("Initialized"), ready("Ready"), ready("ContainersReady"), from_the_start("PodScheduled")]
}
