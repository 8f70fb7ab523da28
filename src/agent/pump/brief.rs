//! Most steps of workflows end at once: that such a one runs is told only if it goes on for a moment.

use jiff::{SignedDuration, Timestamp};

use super::{Pump, Slot};
use crate::{agent::memory::Phase, api::Uid};

/// How long a step may run before that is told.
const BRIEF: SignedDuration = SignedDuration::from_millis(25);

impl Slot {
    /// True of a step that was written down ahead and has not been begun: of that there is nothing to tell.
    pub(in crate::agent) fn stands_in_row(&self) -> bool {
        let step = self.instance.as_ref().and_then(|instance| instance.spec.step.as_ref());
        let waits = matches!(self.memory.phase, Phase::Waiting { .. }) && self.memory.attempt == 0;
        waits && step.is_some_and(|step| !step.after.is_empty())
    }
}

impl Pump {
    /// True of a step that is being started, or began just now. Most end at once, and then nobody has to be told that they ran: two writes less,
    /// of an Instance and of its Run. That it was to be started is on disk already.
    pub(super) fn may_be_brief(&mut self, uid: &Uid, now: Timestamp) -> bool {
        let Some(slot) = self.slots.get(uid) else { return false };
        if slot.stands_in_row() {
            return true;
        }
        let is_step = slot.instance.as_ref().is_some_and(|instance| instance.spec.step.is_some());
        if is_step && slot.memory.phase == Phase::Starting {
            // That it was intended is known.
            return slot.shown.attempt == slot.memory.attempt;
        }
        let Phase::Running(started) = &slot.memory.phase else { return false };
        let shown = slot.shown.state.running.is_some();
        let left = started.start_time.saturating_add(BRIEF).unwrap_or(now).duration_since(now);
        if !is_step || shown || left <= SignedDuration::ZERO || left > BRIEF {
            return false;
        }
        self.due.add(uid.clone(), now + left);
        true
    }
}
