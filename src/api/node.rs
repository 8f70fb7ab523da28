//! Node: a machine that runs Instances, in Kubernetes' own `v1` shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ChangeLog, Column, Condition, Kind, KindInfo, Scope, Subresource, Verbs, as_written, at, decode_as, for_nobody,
    no_check, schema_of,
};

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
    /// `cpu` (cores), `memory` (bytes).
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
    /// `Ready`: the agent is alive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
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
    const INFO: &'static KindInfo = &KindInfo {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        scope: Scope::Cluster,
        verbs: Verbs::All,
        subresources: &[Subresource::Status],
        log: ChangeLog::Main,
        sealed: false,
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
                    let role =
                        |(name, _): (&String, _)| name.strip_prefix("node-role.kubernetes.io/").map(str::to_owned);
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
        fields: &[],
        views: &[],
        schema: schema_of::<Node>,
        normalize: as_written,
        defaults: as_written,
        check: no_check,
        waits_for: for_nobody,
        decode: decode_as::<Node>,
    };
}
