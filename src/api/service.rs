//! Service: the one that Kubernetes' tools look for, `kubernetes` in `default`: where the API is.
//!
//! Made anew at each start and never stored or written; how Apps are reached is said by Routes. Without it
//! `kubectl cluster-info` fails, and a process cannot look up the API as it would in a cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Column, Kind, KindInfo, Protocol, Verbs, at};

/// Where something is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Where.
    pub spec: ServiceSpec,
    /// Always empty.
    #[serde(default)]
    pub status: ServiceStatus,
}

/// Where something is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// The same as a list.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// The ports.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["port", "protocol"]))]
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The number at the target.
    pub target_port: u16,
}

/// Nothing balances loads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Always empty.
    #[serde(default)]
    pub load_balancer: BTreeMap<String, String>,
}

impl Kind for Service {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["svc"],
    verbs: Verbs::ReadOnly,
    columns: &[
        Column {
            name: "Type",
            data_type: "string",
            description: "ClusterIP",
            wide: false,
            cell: |o, _| at(o, &["spec", "type"]).clone(),
        },
        Column {
            name: "Cluster-IP",
            data_type: "string",
            description: "the address",
            wide: false,
            cell: |o, _| at(o, &["spec", "clusterIP"]).clone(),
        },
        Column {
            name: "External-IP",
            data_type: "string",
            description: "always <none>",
            wide: false,
            cell: |_, _| "<none>".into(),
        },
        Column {
            name: "Port(s)",
            data_type: "string",
            description: "the ports",
            wide: false,
            cell: |o, _| {
                let ports = at(o, &["spec", "ports"]).as_array().into_iter().flatten();
                let shown = |p: &Value| format!("{}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"));
                ports.map(shown).collect::<Vec<_>>().join(",").into()
            },
        },
    ],
    ..KindInfo::of::<Service>("Service", "services", "service")
};
