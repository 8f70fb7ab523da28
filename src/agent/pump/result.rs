//! What a step of a workflow left behind is read when it has ended, and told together with its exit.
//!
//! Its exit is not shown before, so one durable write holds both. What it printed is complete only when its end was
//! acknowledged: where that is wanted the exit is shown first, and the result follows. An agent that dies in between leaves
//! the next one with an exit that is not recorded, or with a recorded exit without a result: it reads again.

use super::{Finished, Pump, Slot};
use crate::{
    agent::memory::Phase,
    api::{RunStep, StepResult, Uid},
    drivers::StartKey,
};

impl Slot {
    /// The step whose result is wanted and not here yet.
    pub(super) fn lacks_result(&self) -> Option<&RunStep> {
        let step = self.instance.as_ref()?.spec.step.as_ref()?;
        let memory = &self.memory;
        let over = matches!(memory.phase, Phase::Exited { .. }) && memory.last_exit.is_some();
        (over && memory.result.is_none()).then_some(step)
    }
}

impl Pump {
    /// True if the exit is not to be shown yet. Sees to the reading of the result.
    pub(super) fn awaits_result(&mut self, uid: &Uid) -> bool {
        let Some(slot) = self.slots.get_mut(uid) else { return false };
        let Some(step) = slot.lacks_result().cloned() else { return false };
        let (driver, attempt) = (self.agent.drivers.of(slot.form).clone(), slot.memory.exit_attempt());
        let unacknowledged = slot.memory.unacknowledged.contains(&attempt);
        let early = step.stdout && unacknowledged;
        if !slot.reads_result && !early {
            slot.reads_result = true;
            let (key, step) = (StartKey { uid: uid.clone(), attempt }, step.clone());
            self.work.push(Box::pin(async move {
                let result = driver.step_result(&key, &step).await;
                Finished::Result(key.uid, Box::new(result))
            }));
        }
        !step.stdout
    }

    /// It was read.
    pub(super) fn take_result(&mut self, uid: &Uid, result: StepResult) {
        self.with(uid, |slot, _| {
            slot.memory.result = Some(result);
            Vec::new()
        });
    }

    /// An Instance is gone: so is the workspace that it was the last one in.
    pub(super) fn leave_workspace(&mut self, uid: &Uid) {
        let workspace = |slot: &Slot| Some(slot.instance.as_ref()?.spec.step.as_ref()?.workspace.clone());
        let Some(slot) = self.slots.get(uid) else { return };
        let Some(name) = workspace(slot) else { return };
        let gone = |slot: &Slot| matches!(slot.memory.phase, Phase::Removed | Phase::Released);
        let others = self.slots.iter().filter(|(other, slot)| *other != uid && !gone(slot));
        if others.filter_map(|(_, slot)| workspace(slot)).any(|other| other == name) {
            return;
        }
        let driver = self.agent.drivers.of(slot.form).clone();
        self.work.push(Box::pin(async move {
            if let Err(why) = driver.remove_workspace(&name).await {
                tracing::warn!(%why, "a workspace stays behind");
            }
            Finished::Other
        }));
    }
}
