//! What a pass will do, in sentences that leave the executor no choice.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{instance::Live, revision::Change};
use crate::{
    api::{AppStatus, Instance, Object, Revision, TextMap},
    runtime::Requeue,
};

/// One thing to do, with its reason. At most one for each Instance in a pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Record the current template under a name.
    CreateRevision {
        /// Its name.
        name: String,
        /// Its number, above all others.
        number: i64,
        /// The template as its author wrote it.
        data: Value,
    },
    /// Write into a Revision what is to be known of it.
    UpdateRevision {
        /// The Revision.
        revision: Arc<Object<Revision>>,
        /// What.
        change: Change,
    },
    /// Forget an old template.
    DeleteRevision {
        /// The Revision.
        revision: Arc<Object<Revision>>,
    },
    /// Make an Instance.
    CreateInstance {
        /// All of it.
        instance: Box<Object<Instance>>,
        /// Why.
        because: &'static str,
    },
    /// Bring live fields and labels of an Instance in step.
    UpdateInstance {
        /// The Instance as it is.
        instance: Arc<Object<Instance>>,
        /// The fields as they should be.
        live: Box<Live>,
        /// The labels as they should be.
        labels: TextMap,
        /// Why.
        because: &'static str,
    },
    /// Delete an Instance.
    DeleteInstance {
        /// The Instance.
        instance: Arc<Object<Instance>>,
        /// Why.
        because: &'static str,
    },
    /// Put the template of an earlier Revision into the App's spec.
    RollBack {
        /// The Revision.
        to: Arc<Object<Revision>>,
        /// Why.
        because: String,
    },
    /// Delete the App itself.
    DeleteApp {
        /// Why.
        because: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateRevision { name, number, .. } => write!(f, "create revision {name} as number {number}"),
            Action::UpdateRevision { revision, change: Change::Current { number, resized } } => {
                let name = &revision.metadata.name;
                match resized {
                    Some(_) if *number == revision.revision => write!(f, "change the resources of revision {name}"),
                    _ => write!(f, "raise revision {name} to number {number}"),
                }
            }
            Action::UpdateRevision { revision, change: Change::RolledBack(_) } => {
                write!(f, "mark revision {} as rolled back", revision.metadata.name)
            }
            Action::DeleteRevision { revision } => write!(f, "delete revision {}", revision.metadata.name),
            Action::CreateInstance { instance, because } => {
                write!(f, "create instance {} because {because}", instance.metadata.name)
            }
            Action::UpdateInstance { instance, because, .. } => {
                write!(f, "update instance {} because {because}", instance.metadata.name)
            }
            Action::DeleteInstance { instance, because } => {
                write!(f, "delete instance {} because {because}", instance.metadata.name)
            }
            Action::RollBack { to, because } => {
                write!(f, "roll back to revision {} because {because}", to.metadata.name)
            }
            Action::DeleteApp { because } => write!(f, "delete the app because {because}"),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In this order, in one transaction.
    pub actions: Vec<Action>,
    /// The status to write with them, if it differs from what is there.
    pub status: AppStatus,
    /// When to look again though nothing changed.
    pub requeue: Requeue,
    /// An Instance is wanted that no node has room for.
    pub waits_for_room: bool,
}
