//! `GET …/instances/NAME/processes`: the processes of an instance, as they are now. Nothing of it is stored.
//!
//! Words of a command line may hold secrets, so none are here: a process is called what the kernel calls it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, MicroTime, ObjectMeta};

/// The processes of an instance, each after its parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceProcesses {
    /// `appm.dev/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `InstanceProcesses`.
    #[serde(default)]
    pub kind: String,
    /// Name and namespace of the instance.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The attempt that runs.
    #[serde(default)]
    pub attempt: u32,
    /// When the machine was looked at; absent if nothing runs, or where it cannot be seen from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// How many there are; of very many not all are listed.
    #[serde(default)]
    pub total: u32,
    /// The processes.
    #[serde(default)]
    pub items: Vec<ProcessFigures>,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessFigures {
    /// Its process id.
    pub pid: i32,
    /// That of its parent.
    pub ppid: i32,
    /// What the kernel calls it: at most 15 bytes, without the words of its command line.
    pub name: String,
    /// The letter of ps(1): `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped, `Z` has ended and its parent has not noticed.
    pub state: String,
    /// Cores, averaged since the look before if that is not long ago, else since its start.
    pub cpu_cores: f64,
    /// Processor time so far.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Threads.
    pub threads: u32,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
}

impl InstanceProcesses {
    /// Its `kind`.
    pub const KIND: &'static str = "InstanceProcesses";

    /// The same, said of the instance of this name.
    #[must_use]
    pub fn of(self, name: &str, namespace: &str) -> Self {
        let metadata = ObjectMeta { name: name.to_owned(), namespace: namespace.to_owned(), ..ObjectMeta::default() };
        Self { api_version: API_VERSION.to_owned(), kind: Self::KIND.to_owned(), metadata, ..self }
    }
}
