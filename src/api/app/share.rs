//! Who else may do what with an App, and how work is sent into it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::GoDuration;

/// What others than the owner may do with an App. It is asked when there is more than one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sharing {
    /// The users of the owner's group.
    #[serde(default)]
    pub group: Access,
    /// All other users.
    #[serde(default)]
    pub others: Access,
}

/// How much somebody may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Nothing.
    #[default]
    None,
    /// See it, and what it prints.
    Read,
    /// Change it, too.
    ReadWrite,
}

/// How tasks that are sent to the App go into its processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tasks {
    /// Most tasks that wait for an instance.
    #[serde(default = "many")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_queue: u32,
    /// Most tasks that an instance works on at a time.
    #[serde(default = "one_task")]
    #[schemars(range(min = 1, max = 10000))]
    pub concurrency: u32,
    /// How long a caller waits for its result if it says nothing else.
    #[serde(default = "patience")]
    pub timeout: GoDuration,
    /// True: a task may be done again when an instance ends in the middle of it. A caller may say so of a single one.
    #[serde(default)]
    pub idempotent: bool,
    /// How they reach a process. A change takes effect when an instance starts.
    #[serde(default, skip_serializing_if = "TaskMode::is_requests")]
    pub mode: TaskMode,
}

/// How tasks reach a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskMode {
    /// It asks for them: over the Unix socket in `APPM_SOCKET`, or as App Mesh's clients do.
    #[default]
    Requests,
    /// It reads them from standard input and writes results to standard output: a JSON object a line (`{"id": 1, "data": "…"}`).
    Lines,
}

impl TaskMode {
    /// True for the one that nobody has to say.
    pub fn is_requests(&self) -> bool {
        *self == TaskMode::Requests
    }
}

fn many() -> u32 {
    512
}
fn one_task() -> u32 {
    1
}
fn patience() -> GoDuration {
    GoDuration::secs(300)
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            max_queue: many(),
            concurrency: one_task(),
            timeout: patience(),
            idempotent: false,
            mode: TaskMode::default(),
        }
    }
}
