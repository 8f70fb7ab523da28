//! The time of day was set: what counts a delay goes on as it was, what means a time of day is judged again.
//!
//! Until the pump comes to this, its timeline knows nothing of the step, so no grace period is over too soon and none
//! lasts for an hour. Statuses of a former daemon that speak of another clock's time are `decide`'s affair.

use jiff::{SignedDuration, Timestamp};

use super::Pump;
use crate::{
    agent::{forms::Form, memory::Phase},
    policy::window::OUTSIDE,
};

impl Pump {
    /// The time of day is another, by `by`.
    pub(super) fn stepped(&mut self, by: SignedDuration) {
        let now = self.now();
        for slot in self.slots.values_mut() {
            shift(&mut slot.memory.phase, by);
            slot.memory.resizing.hurry(now);
            let extended = &mut slot.memory.health.extended;
            *extended = extended.map(|until| moved(until, by));
        }
        self.order.stepped(by);
        self.samples.hurry(now);
        for form in Form::ALL {
            let again = &mut self.sights.of(form).again;
            *again = again.map(|_| now);
        }
        self.write_again = self.write_again.map(|_| now);
        self.due.hurry(now);
        self.settle_all();
    }
}

/// A time that was noted by the clock as it was.
pub(in crate::agent) fn moved(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

/// Moves what was counted from the clock as it was. When a window opens is written by people, and moves nowhere.
fn shift(phase: &mut Phase, by: SignedDuration) {
    match phase {
        Phase::Waiting { reason: OUTSIDE, .. } => {}
        Phase::Waiting { at, .. } => *at = moved(*at, by),
        Phase::Stopping { kill_at, signal_at, .. } => {
            (*kill_at, *signal_at) = (moved(*kill_at, by), moved(*signal_at, by));
        }
        Phase::Unknown
        | Phase::Starting
        | Phase::Doubtful
        | Phase::Running(_)
        | Phase::Exited { .. }
        | Phase::Removing
        | Phase::Removed
        | Phase::Released => {}
    }
}
