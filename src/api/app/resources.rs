//! How much of the machine an instance may use, and is meant to use.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Quantity;

/// How much of the machine an instance may use, and is meant to use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// The most that it gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<LimitName, Quantity>,
    /// What is set aside for it: an instance is placed on a node that has so much left.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<RequestName, Quantity>,
}

impl Resources {
    /// True if nothing is said.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitName {
    /// Bytes of memory; beyond it the kernel ends the instance (`OOMKilled`).
    Memory,
    /// Bytes of memory and swap together; default: no swap beside `memory`.
    MemorySwap,
    /// Cores, `1.5` or `500m`.
    Cpu,
    /// Processes and threads.
    Pids,
    /// The share of the disks' time, from 1 to 10000; usual is 100.
    IoWeight,
}

/// What can be set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RequestName {
    /// Bytes of memory.
    Memory,
    /// Cores, `1.5` or `500m`.
    Cpu,
}
