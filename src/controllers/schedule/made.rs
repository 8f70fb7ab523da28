//! What a Schedule began, whatever it is: when, whether it goes on, and how it ended.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::api::{
    COMPLETE, Condition, Object, ObjectMeta, ObjectReference, Run, SCHEDULED_AT, Schedule, ScheduledTask,
    ScheduledTaskState, Time, WorkflowRun,
};

/// One thing that a Schedule began.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    /// A Run, by time or by hand.
    Run(Arc<Object<Run>>),
    /// A WorkflowRun, by time or by hand.
    WorkflowRun(Arc<Object<WorkflowRun>>),
    /// A task, of which its status tells.
    Task(ScheduledTask),
}

/// Whether an object is this Schedule's, and not that of another one of the same name.
pub(super) fn is_of(meta: &ObjectMeta, schedule: &Object<Schedule>) -> bool {
    meta.controller().is_some_and(|owner| Some(&owner.uid) == schedule.metadata.uid.as_ref())
}

impl Made {
    fn meta(&self) -> Option<&ObjectMeta> {
        match self {
            Made::Run(run) => Some(&run.metadata),
            Made::WorkflowRun(run) => Some(&run.metadata),
            Made::Task(_) => None,
        }
    }

    /// When it was made; of one second, the one of the earlier time first.
    pub(super) fn began(&self) -> (Timestamp, String) {
        match (self, self.meta()) {
            (Made::Task(task), _) => (task.start_time.0, task.scheduled_time.to_string()),
            (_, Some(meta)) => {
                let made = meta.creation_timestamp.map_or(Timestamp::MIN, |at| at.0);
                (made, meta.annotations.get(SCHEDULED_AT).unwrap_or_default().to_owned())
            }
            (_, None) => (Timestamp::MIN, String::new()),
        }
    }

    /// True once it has ended, in whatever way.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Made::Run(run) => run.status.is_over(),
            Made::WorkflowRun(run) => run.status.is_over(),
            Made::Task(task) => task.state != ScheduledTaskState::Sent,
        }
    }

    /// True if it ended well.
    pub(super) fn succeeded(&self) -> bool {
        match self {
            Made::Run(run) => Condition::holds(&run.status.conditions, COMPLETE),
            Made::WorkflowRun(run) => Condition::holds(&run.status.conditions, COMPLETE),
            Made::Task(task) => task.state == ScheduledTaskState::Succeeded,
        }
    }

    /// When it ended.
    pub(super) fn ended(&self) -> Option<Time> {
        match self {
            Made::Run(run) => run.status.completion_time,
            Made::WorkflowRun(run) => run.status.completion_time,
            Made::Task(task) => task.finish_time,
        }
    }

    /// True if it is being deleted.
    pub(super) fn is_deleting(&self) -> bool {
        self.meta().is_some_and(ObjectMeta::is_deleting)
    }

    /// True if it was told to end.
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Made::Run(run) => run.spec.cancel,
            Made::WorkflowRun(run) => run.spec.cancel.is_some(),
            Made::Task(_) => false,
        }
    }

    /// The object, if it is one.
    pub(super) fn reference(&self) -> Option<ObjectReference> {
        match self {
            Made::Run(run) => Some(ObjectReference::to(&**run)),
            Made::WorkflowRun(run) => Some(ObjectReference::to(&**run)),
            Made::Task(_) => None,
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Made::Run(run) => write!(f, "run {}", run.metadata.name),
            Made::WorkflowRun(run) => write!(f, "workflow run {}", run.metadata.name),
            Made::Task(task) => write!(f, "the task of {}", task.scheduled_time),
        }
    }
}
