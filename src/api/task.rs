//! `…/apps/NAME/task`: work that was sent into an App's processes, as it stands. Tasks live in the server's memory; nothing of them is stored.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, MicroTime, ObjectMeta};

/// The header that names a task: of the caller's answer, of what a worker fetches, and of what it gives back.
pub const TASK_HEADER: &str = "x-appm-task-id";
/// The header that names the instance that did it.
pub const TASK_INSTANCE_HEADER: &str = "x-appm-instance";
/// The header by which a worker says that what it gives back is a part of the result: `true`.
pub const TASK_PART_HEADER: &str = "x-appm-task-part";
/// The longest payload, and the longest result.
pub const TASK_LIMIT: usize = 64 << 20;

/// A task, without its payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// `appm.dev/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `Task`.
    #[serde(default)]
    pub kind: String,
    /// Its name, the App's namespace, and when it was sent.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The App that it was sent to.
    #[serde(default)]
    pub app: String,
    /// Who sent it.
    #[serde(default)]
    pub user: String,
    /// Where it stands.
    #[serde(default)]
    pub state: TaskState,
    /// The size of its payload.
    #[serde(default)]
    pub bytes: u64,
    /// When its caller gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<MicroTime>,
    /// True: it may be done again when an instance ends in the middle of it.
    #[serde(default)]
    pub idempotent: bool,
    /// How often it was handed to an instance.
    #[serde(default)]
    pub deliveries: u32,
    /// The instance that has it, or had it last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// When that got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<MicroTime>,
    /// Of a task that has failed: why, in one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Task {
    /// Its `kind`.
    pub const KIND: &'static str = "Task";

    /// The fields that every one of them has.
    pub fn named(name: String, namespace: &str) -> Self {
        let metadata = ObjectMeta { name, namespace: namespace.to_owned(), ..ObjectMeta::default() };
        Self { api_version: API_VERSION.to_owned(), kind: Self::KIND.to_owned(), metadata, ..Self::default() }
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaskState {
    /// It waits for an instance.
    #[default]
    Waiting,
    /// An instance has it.
    Working,
    /// Its result is there.
    Succeeded,
    /// There will be none.
    Failed,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The tasks of an App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskList {
    /// `appm.dev/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `TaskList`.
    #[serde(default)]
    pub kind: String,
    /// Nothing: they have no revision.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The tasks, in the order in which they were sent.
    #[serde(default)]
    pub items: Vec<Task>,
}

impl TaskList {
    /// Its `kind`.
    pub const KIND: &'static str = "TaskList";

    /// A list of these.
    pub fn of(items: Vec<Task>) -> Self {
        let (api_version, kind) = (API_VERSION.to_owned(), Self::KIND.to_owned());
        Self { api_version, kind, metadata: ObjectMeta::default(), items }
    }
}
