//! Node: a machine that runs Instances, in Kubernetes' own `v1` shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Column, ConditionStatus, Kind, KindInfo, Scope, Subresource, Time, Usage, at};

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// What its owner wants of it.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What its agent says of it.
    #[serde(default)]
    pub status: NodeStatus,
}

/// Kubernetes' `NodeSpec`, as far as it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeSpec {
    /// True: nothing new is placed here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
}

/// Kubernetes' `NodeStatus`, as far as it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// `cpu` (cores), `memory` (bytes), `ephemeral-storage` (bytes of the data directory's disk), `pods`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, String>,
    /// The same: appm keeps nothing for itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocatable: BTreeMap<String, String>,
    /// Where it is reached: `Hostname`, `InternalIP`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub addresses: Vec<NodeAddress>,
    /// What machine this is.
    #[serde(default)]
    pub node_info: NodeInfo,
    /// `Ready`: the agent is alive. `MemoryPressure`, `DiskPressure`, `PIDPressure`: the machine runs short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<NodeCondition>,
    /// What is used of the machine, by everybody on it. Not in Kubernetes, where only its metrics say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// More about the machine, measured now and then. Not in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

impl NodeStatus {
    /// Its agent is alive, as far as is known.
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().any(|c| c.kind == "Ready" && c.status == ConditionStatus::True)
    }
}

/// Kubernetes' `NodeCondition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    /// `Ready`, `MemoryPressure`, `DiskPressure`, `PIDPressure`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// When the agent last said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// When `status` last flipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One word for programs.
    #[serde(default)]
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
}

/// A machine, as far as Kubernetes has no place for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Host {
    /// When it was booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Time>,
    /// `v1`, `v2`, `hybrid`, or empty: how limits are enforced.
    pub cgroup_version: String,
    /// Processors of one chip each.
    pub cpu_sockets: u32,
    /// Cores, without their threads.
    pub cpu_cores: u32,
    /// Threads of all cores that are online.
    pub cpu_processors: u32,
    /// Processes waiting to run, averaged.
    pub load: Load,
    /// Memory and swap.
    pub memory: HostMemory,
    /// File systems on disks, by where they are mounted.
    pub filesystems: Vec<Filesystem>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
}

/// Processes waiting to run, averaged over so many minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Load {
    /// Over one minute.
    pub one_minute: f64,
    /// Over five.
    pub five_minutes: f64,
    /// Over fifteen.
    pub fifteen_minutes: f64,
}

/// Memory and swap, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostMemory {
    /// All of it.
    pub total_bytes: u64,
    /// What could be used without swapping.
    pub available_bytes: u64,
    /// All swap.
    pub swap_total_bytes: u64,
    /// Swap that is free.
    pub swap_free_bytes: u64,
}

/// A file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Filesystem {
    /// What is mounted.
    pub device: String,
    /// Where.
    pub mount_point: String,
    /// All of it, in bytes.
    pub size_bytes: u64,
    /// What others than root may still use.
    pub available_bytes: u64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses, of either version.
    pub addresses: Vec<String>,
}

/// One way to reach a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeAddress {
    /// `Hostname` or `InternalIP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name or the address.
    pub address: String,
}

/// Kubernetes' `NodeSystemInfo`; the agent's version stands where Kubernetes has the kubelet's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// `/etc/machine-id`.
    #[serde(default, rename = "machineID")]
    pub machine_id: String,
    /// The same again: what a firmware calls the machine is root's to read.
    #[serde(default, rename = "systemUUID")]
    pub system_uuid: String,
    /// Changes at every boot; attempts of an earlier boot cannot be running any more.
    #[serde(default, rename = "bootID")]
    pub boot_id: String,
    /// `uname -r`.
    #[serde(default)]
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    #[serde(default)]
    pub os_image: String,
    /// `linux`.
    #[serde(default)]
    pub operating_system: String,
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// The agent's version.
    #[serde(default)]
    pub kubelet_version: String,
    /// `appm://` and the agent's version: what runs the processes.
    #[serde(default)]
    pub container_runtime_version: String,
    /// Empty. Kubernetes' schema requires it, and typed clients refuse a Node without it.
    #[serde(default)]
    pub kube_proxy_version: String,
}

const NONE: &str = "<none>";

impl Kind for Node {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["no"],
    scope: Scope::Cluster,
    subresources: &[Subresource::Status],
    columns: &[
        Column {
            name: "Status",
            data_type: "string",
            description: "Ready, NotReady or Unknown",
            wide: false,
            cell: |o, _| {
                let conditions = at(o, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
                match conditions.iter().find(|c| c["type"] == "Ready").map(|c| c["status"].as_str()) {
                    Some(Some("True")) => "Ready".into(),
                    Some(Some("False")) => "NotReady".into(),
                    _ => "Unknown".into(),
                }
            },
        },
        Column {
            name: "Roles",
            data_type: "string",
            description: "by the labels node-role.kubernetes.io/ROLE",
            wide: false,
            cell: |o, _| {
                let labels = at(o, &["metadata", "labels"]).as_object().into_iter().flatten();
                let role = |(name, _): (&String, _)| name.strip_prefix("node-role.kubernetes.io/").map(str::to_owned);
                let roles: Vec<String> = labels.filter_map(role).collect();
                if roles.is_empty() { NONE.into() } else { roles.join(",").into() }
            },
        },
        Column {
            name: "Version",
            data_type: "string",
            description: "version of the agent",
            wide: false,
            cell: |o, _| at(o, &["status", "nodeInfo", "kubeletVersion"]).clone(),
        },
        Column {
            name: "Internal-IP",
            data_type: "string",
            description: "where it is reached",
            wide: true,
            cell: |o, _| {
                let mut addresses = at(o, &["status", "addresses"]).as_array().into_iter().flatten();
                addresses.find(|a| a["type"] == "InternalIP").map_or(NONE.into(), |a| a["address"].clone())
            },
        },
        Column {
            name: "External-IP",
            data_type: "string",
            description: "always <none>",
            wide: true,
            cell: |_, _| NONE.into(),
        },
        Column {
            name: "OS-Image",
            data_type: "string",
            description: "operating system",
            wide: true,
            cell: |o, _| at(o, &["status", "nodeInfo", "osImage"]).clone(),
        },
        Column {
            name: "Kernel-Version",
            data_type: "string",
            description: "kernel",
            wide: true,
            cell: |o, _| at(o, &["status", "nodeInfo", "kernelVersion"]).clone(),
        },
        Column {
            name: "Container-Runtime",
            data_type: "string",
            description: "what runs the processes",
            wide: true,
            cell: |o, _| at(o, &["status", "nodeInfo", "containerRuntimeVersion"]).clone(),
        },
    ],
    views: &[super::metrics::OF_NODES],
    ..KindInfo::of::<Node>("Node", "nodes", "node")
};
