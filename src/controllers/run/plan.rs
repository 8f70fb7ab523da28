//! What a pass will do, in sentences that leave the executor no choice.

use std::{fmt, sync::Arc};

use crate::{
    api::{Instance, Object, Run, RunStatus},
    runtime::Requeue,
};

/// One thing to do, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the Instance of an attempt.
    CreateInstance {
        /// All of it.
        instance: Box<Object<Instance>>,
        /// Why.
        because: &'static str,
    },
    /// Stop what runs, and keep its output and its exit.
    StopInstance {
        /// The Instance.
        instance: Arc<Object<Instance>>,
        /// Why.
        because: &'static str,
    },
    /// Delete the Run itself, and with it everything that it made.
    DeleteRun {
        /// Why.
        because: &'static str,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateInstance { instance, because } => {
                write!(f, "create instance {} because {because}", instance.metadata.name)
            }
            Action::StopInstance { instance, because } => {
                write!(f, "stop instance {} because {because}", instance.metadata.name)
            }
            Action::DeleteRun { because } => write!(f, "delete the run because {because}"),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In this order, in one transaction.
    pub actions: Vec<Action>,
    /// The status to write with them, if it differs from what is there.
    pub status: RunStatus,
    /// When to look again though nothing changed.
    pub requeue: Requeue,
    /// An attempt is due that there is no room for.
    pub waits_for_room: bool,
}

impl Plan {
    /// True if all that it does is to say how `run` has ended.
    pub(super) fn concludes(&self, run: &Run) -> bool {
        self.actions.is_empty() && self.status.is_over() && !run.status.is_over()
    }

    /// True if it makes an attempt.
    pub(super) fn makes(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::CreateInstance { .. }))
    }
}
