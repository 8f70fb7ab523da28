//! Steps of a workflow that were written down ahead, a row of them: each is started when the one before it has succeeded, by the agent
//! alone.
//!
//! Such an Instance says after which one it comes (`spec.step.after`). That one's end and the intent to start this one are written down in
//! one transaction; so whoever looks after a reboot finds a row of which some have ended, one may have been started, and the others were
//! not. If the step before fails, or sets something for those after it, nothing is started: what was written down ahead is not what is to
//! be done, and the controller of WorkflowRuns takes it away.

use std::collections::BTreeMap;

use super::{
    memory::{Memory, Phase},
    pump::Slot,
};
use crate::{
    api::{Instance, Object, StepResult, Uid},
    policy::restart::COMPLETED,
};

/// Namespace and name.
type Name = (String, String);

/// Who comes after whom.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Of all steps.
    names: BTreeMap<Name, Uid>,
    /// By the one before.
    after: BTreeMap<Name, Uid>,
}

fn name(instance: &Object<Instance>) -> Name {
    (instance.metadata.namespace.clone(), instance.metadata.name.clone())
}

fn before(instance: &Object<Instance>) -> Option<Name> {
    let step = instance.spec.step.as_ref().filter(|step| !step.after.is_empty())?;
    Some((instance.metadata.namespace.clone(), step.after.clone()))
}

impl Rows {
    /// An Instance came or changed.
    pub(super) fn learn(&mut self, uid: &Uid, instance: &Object<Instance>) {
        if instance.spec.step.is_none() {
            return;
        }
        self.names.insert(name(instance), uid.clone());
        self.after.extend(before(instance).map(|before| (before, uid.clone())));
    }

    /// It is gone. Another one may have its name by now.
    pub(super) fn forget(&mut self, uid: &Uid, instance: &Object<Instance>) {
        let remove = |of: &mut BTreeMap<Name, Uid>, name: Name| {
            if of.get(&name) == Some(uid) {
                of.remove(&name);
            }
        };
        remove(&mut self.names, name(instance));
        if let Some(before) = before(instance) {
            remove(&mut self.after, before);
        }
    }

    /// The one after it.
    pub(super) fn next(&self, instance: &Object<Instance>) -> Option<&Uid> {
        self.after.get(&name(instance))
    }

    /// True if it may not be started, because the one before it has not led on to it.
    pub(super) fn keep_waiting(&self, slot: &Slot, instance: &Object<Instance>, slots: &BTreeMap<Uid, Slot>) -> bool {
        let Some(before) = before(instance).filter(|_| slot.stands_in_row()) else { return false };
        let before = self.names.get(&before).and_then(|uid| slots.get(uid));
        // An end that somebody else writes down may come after what is written here.
        !before.is_some_and(|before| leads_on(&before.memory) && !before.handed)
    }
}

/// True of a step that has succeeded and left nothing that those after it would have to know.
pub(super) fn leads_on(memory: &Memory) -> bool {
    let completed = matches!(&memory.phase, Phase::Exited { reason, .. } if reason == COMPLETED);
    let exit = memory.last_exit.as_ref().is_some_and(|exit| exit.code == Some(0));
    completed && exit && memory.result.as_ref().is_some_and(StepResult::sets_nothing)
}
