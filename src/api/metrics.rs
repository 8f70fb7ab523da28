//! PodMetrics and NodeMetrics: what is used, as `metrics.k8s.io/v1beta1` has it, so that `kubectl top` works.
//!
//! Projections of what agents write into the status of Instances and Nodes. Whoever reads them makes the agent look first
//! ([`View::measured`]). Beside `cpu` and `memory` stand what Kubernetes has no name for: `appm.dev/fds` and the like.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Column, GoDuration, Instance, MicroTime, Node, ObjectMeta, SelectableField, Time, Usage, Verbs, View, at,
    container_name, no_check,
};

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";

/// What a Pod uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct PodMetrics {
    /// When it was measured.
    pub timestamp: Time,
    /// Over which time the use of processors is averaged.
    pub window: GoDuration,
    /// Its one container.
    pub containers: Vec<ContainerMetrics>,
}

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ContainerMetrics {
    /// Its name, as in the Pod.
    pub name: String,
    /// `cpu` in cores, `memory` in bytes; `appm.dev/fds`, `appm.dev/threads`, `appm.dev/processes`.
    pub usage: BTreeMap<String, String>,
}

/// What a Node uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct NodeMetrics {
    /// When it was measured.
    pub timestamp: Time,
    /// Over which time the use of processors is averaged.
    pub window: GoDuration,
    /// `cpu` in cores, `memory` in bytes.
    pub usage: BTreeMap<String, String>,
}

/// What of an Instance is known to be used, as metrics of a Pod.
pub(super) const OF_PODS: View = View {
    kind: "PodMetrics",
    plural: "pods",
    singular: "pod",
    fields: &[SelectableField {
        label: "usage",
        value: |o| o.typed::<Instance>()?.status.usage.as_ref().map(|_| KNOWN.to_owned()),
    }],
    project: of_pod,
    schema: pod_schema,
    ..COMMON
};

/// What of a Node is known to be used.
pub(super) const OF_NODES: View = View {
    kind: "NodeMetrics",
    plural: "nodes",
    singular: "node",
    fields: &[SelectableField {
        label: "usage",
        value: |o| o.typed::<Node>()?.status.usage.as_ref().map(|_| KNOWN.to_owned()),
    }],
    project: of_node,
    schema: node_schema,
    ..COMMON
};

const KNOWN: &str = "known";

const COMMON: View = View {
    group: GROUP,
    version: VERSION,
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    verbs: Verbs::ReadOnly,
    subresources: &[],
    columns: Some(COLUMNS),
    fields: &[],
    only: "usage=known",
    measured: true,
    project: |value| value.clone(),
    lift: None,
    check: no_check,
    schema: pod_schema,
};

const COLUMNS: &[Column] = &[
    Column {
        name: "CPU",
        data_type: "string",
        description: "cores",
        wide: false,
        cell: |o, _| first_usage(o)["cpu"].clone(),
    },
    Column {
        name: "Memory",
        data_type: "string",
        description: "bytes",
        wide: false,
        cell: |o, _| first_usage(o)["memory"].clone(),
    },
    Column {
        name: "Window",
        data_type: "string",
        description: "over which time the use of processors is averaged",
        wide: false,
        cell: |o, _| o["window"].clone(),
    },
];

fn first_usage(object: &Value) -> &Value {
    match &object["containers"][0]["usage"] {
        Value::Null => &object["usage"],
        usage => usage,
    }
}

fn pod_schema(generator: &mut SchemaGenerator) -> Schema {
    super::object::object_schema::<PodMetrics>(generator)
}

fn node_schema(generator: &mut SchemaGenerator) -> Schema {
    super::object::object_schema::<NodeMetrics>(generator)
}

fn of_pod(instance: &Value) -> Value {
    let meta = ObjectMeta::deserialize(&instance["metadata"]).unwrap_or_default();
    let usage = Usage::deserialize(at(instance, &["status", "usage"])).ok();
    let mut metrics = head("PodMetrics", &meta, usage.as_ref());
    let containers = usage.map(|usage| {
        let figures = usage.figures();
        json!([{"name": container_name(&meta), "usage": figures}])
    });
    metrics["containers"] = containers.unwrap_or_else(|| json!([]));
    metrics
}

fn of_node(node: &Value) -> Value {
    let meta = ObjectMeta::deserialize(&node["metadata"]).unwrap_or_default();
    let usage = Usage::deserialize(at(node, &["status", "usage"])).ok();
    let mut metrics = head("NodeMetrics", &meta, usage.as_ref());
    let (cpu, memory) = usage.map_or((0.0, 0), |usage| (usage.cpu_cores, usage.memory_bytes));
    metrics["usage"] = json!({"cpu": cores(cpu), "memory": kibibytes(memory)});
    metrics
}

fn head(kind: &str, meta: &ObjectMeta, usage: Option<&Usage>) -> Value {
    let mut metadata = json!({"name": meta.name});
    if !meta.namespace.is_empty() {
        metadata["namespace"] = json!(meta.namespace);
    }
    if !meta.labels.is_empty() {
        metadata["labels"] = json!(meta.labels);
    }
    if let Some(made) = meta.creation_timestamp {
        metadata["creationTimestamp"] = json!(made);
    }
    let time = usage.and_then(|usage| usage.time).unwrap_or(MicroTime(Timestamp::UNIX_EPOCH));
    let window = usage.map_or(0, |usage| usage.window_seconds);
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": metadata,
        "timestamp": Time(time.0), "window": GoDuration::secs(window.into()),
    })
}

impl Usage {
    /// As quantities by name.
    pub fn figures(&self) -> BTreeMap<String, String> {
        let mut figures = BTreeMap::from([
            ("cpu".to_owned(), cores(self.cpu_cores)),
            ("memory".to_owned(), kibibytes(self.memory_bytes)),
            ("appm.dev/fds".to_owned(), self.fds.to_string()),
            ("appm.dev/threads".to_owned(), self.threads.to_string()),
            ("appm.dev/processes".to_owned(), self.processes.to_string()),
        ]);
        figures.extend(self.peak_memory_bytes.map(|peak| ("appm.dev/peak-memory".to_owned(), kibibytes(peak))));
        figures
    }
}

/// Billionths of a core, as the kubelet gives them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
fn cores(cores: f64) -> String {
    format!("{}n", (cores.max(0.0) * 1e9).round() as u64)
}

fn kibibytes(bytes: u64) -> String {
    format!("{}Ki", bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_measured_as_a_pod_of_one_container() {
        let instance = json!({
            "metadata": {
                "name": "web-1-0", "namespace": "shop", "uid": "u", "labels": {"tier": "front"},
                "ownerReferences": [{"apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": "a", "controller": true}],
            },
            "status": {"usage": {
                "cpuCores": 0.25, "memoryBytes": 2048, "fds": 3, "threads": 2, "processes": 1,
                "time": "2026-11-21T08:00:00.000000Z", "windowSeconds": 30,
            }},
        });
        assert_eq!(
            of_pod(&instance),
            json!({
                "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
                "metadata": {"name": "web-1-0", "namespace": "shop", "labels": {"tier": "front"}},
                "timestamp": "2026-11-21T08:00:00Z", "window": "30s",
                "containers": [{"name": "web", "usage": {
                    "appm.dev/fds": "3", "appm.dev/processes": "1", "appm.dev/threads": "2",
                    "cpu": "250000000n", "memory": "2Ki",
                }}],
            })
        );
    }

    #[test]
    fn a_node_is_measured_as_a_whole() {
        let node = json!({"metadata": {"name": "a"}, "status": {"usage": {"cpuCores": 1.5, "memoryBytes": 1 << 20}}});
        assert_eq!(of_node(&node)["usage"], json!({"cpu": "1500000000n", "memory": "1024Ki"}));
    }
}
