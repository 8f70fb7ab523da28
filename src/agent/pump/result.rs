//! What a step of a workflow left behind is read when it has ended, and told together with its exit.
//!
//! Its exit is not shown before, so one durable write holds both. What it printed is complete only when its end was
//! acknowledged, and what secret values it was given is known only until then: where its output is wanted the files are read first,
//! then the exit is shown, and the result follows. An agent that dies in between leaves the next one with an exit that is not
//! recorded, or with a recorded exit without a result: it reads again.

use jiff::{SignedDuration, Timestamp};

use super::{Finished, Pump, Slot};
use crate::{
    agent::memory::Phase,
    api::{RunStep, StepResult, Uid},
    drivers::StartKey,
};

/// What a step kept goes so long after its days are over: they are counted from when its end was written down.
const LATER: SignedDuration = SignedDuration::from_mins(1);

/// How far what a step left behind has been read.
#[derive(Debug, Default)]
pub(super) enum Left {
    /// Nobody has looked.
    #[default]
    Unread,
    /// Its files are being read.
    Reading,
    /// They were; what it printed is not complete yet.
    Files(Box<StepResult>),
    /// What it printed is being read, or was.
    Listening,
    /// Files that it kept for so many days went when those were over.
    LetGo,
}

impl Slot {
    /// The step whose result is wanted and not here yet.
    pub(super) fn lacks_result(&self) -> Option<&RunStep> {
        let step = self.instance.as_ref()?.spec.step.as_ref()?;
        let memory = &self.memory;
        let over = matches!(memory.phase, Phase::Exited { .. }) && memory.last_exit.is_some();
        (over && memory.result.is_none()).then_some(step)
    }

    /// What the step kept for so many days, and until when.
    fn kept_until(&self) -> Option<(String, Timestamp)> {
        let days = self.instance.as_ref()?.spec.step.as_ref()?.keep.as_ref()?.retention_days?;
        if matches!(self.left, Left::LetGo) || !matches!(self.memory.phase, Phase::Exited { .. }) {
            return None;
        }
        let kept = self.memory.result.as_ref()?.artifact.as_ref()?;
        let ended = self.memory.last_exit.as_ref()?.finish_time?;
        // As long as anybody is told that it is there.
        let until = ended.0.checked_add(SignedDuration::from_hours(24 * i64::from(days)) + LATER).ok()?;
        Some((kept.file.clone(), until))
    }
}

impl Pump {
    /// True if the exit is not to be shown yet. Sees to the reading of the result.
    pub(super) fn awaits_result(&mut self, uid: &Uid) -> bool {
        let Some(slot) = self.slots.get_mut(uid) else { return false };
        let Some(step) = slot.lacks_result().cloned() else { return false };
        let (driver, attempt) = (self.agent.drivers.of(slot.form).clone(), slot.memory.exit_attempt());
        let key = StartKey { uid: uid.clone(), attempt };
        match &mut slot.left {
            Left::Unread => {
                slot.left = Left::Reading;
                let guarded = slot.instance.as_ref().is_some_and(|instance| instance.spec.logs.redact_secrets);
                self.work.push(Box::pin(async move {
                    let files = driver.step_files(&key, &step, guarded).await;
                    Finished::Result(key.uid, Box::new(files))
                }));
                true
            }
            Left::Reading => true,
            Left::Files(_) if slot.memory.unacknowledged.contains(&attempt) => false,
            Left::Files(files) => {
                let files = std::mem::take(&mut **files);
                slot.left = Left::Listening;
                self.work.push(Box::pin(async move {
                    let result = driver.step_output(&key, &step, files).await;
                    Finished::Result(key.uid, Box::new(result))
                }));
                false
            }
            Left::Listening | Left::LetGo => false,
        }
    }

    /// Sees to it that files which a step kept for so many days go when these are over.
    pub(super) fn let_go(&mut self, uid: &Uid, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let Some((file, until)) = slot.kept_until() else { return };
        if until > now {
            return self.due.add(uid.clone(), until);
        }
        slot.left = Left::LetGo;
        let driver = self.agent.drivers.of(slot.form).clone();
        self.work.push(Box::pin(async move {
            if let Err(why) = driver.remove_artifact(&file).await {
                tracing::warn!(%why, "an artifact stays behind");
            }
            Finished::Other
        }));
    }

    /// Its files were read, or what it printed after them.
    pub(super) fn take_result(&mut self, uid: &Uid, result: StepResult) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        if matches!(slot.left, Left::Reading) && slot.lacks_result().is_some_and(RunStep::reads_output) {
            slot.left = Left::Files(Box::new(result));
            return self.settle(uid);
        }
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
