//! Looks at what is used: when it is due, and when somebody asks.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{
    super::{memory::Note, usage},
    Pump, tell,
};
use crate::{api::Uid, drivers::StartKey};

impl Pump {
    /// Somebody wants to know.
    pub(super) fn look(&mut self, asker: oneshot::Sender<()>) {
        let now = self.now();
        if self.looks.begins(asker, now) {
            self.samples.hurry(now);
        }
    }

    /// Answers when everything was looked at, and is written.
    pub(super) fn answer_looks(&mut self) {
        if self.looks.is_under_way() && self.samples.is_done(self.now()) && self.writer.is_idle() {
            self.looks.answer();
        }
    }

    /// Looks at a few that are due.
    pub(super) fn sample(&mut self, now: Timestamp) {
        for uid in self.samples.due(now) {
            self.sample_one(&uid, now);
        }
    }

    fn sample_one(&mut self, uid: &Uid, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        if slot.memory.started().is_none() {
            return;
        }
        let key = StartKey { uid: uid.clone(), attempt: slot.memory.attempt };
        let used = self.agent.drivers.of(slot.form).usage(&key);
        let before = slot.memory.usage.as_ref();
        let changed = used.as_ref().is_some_and(|used| usage::differs(before, used, self.looks.is_under_way()));
        if let (true, Some(used)) = (changed, used) {
            let killed = used.oom_kills > before.map_or(0, |before| before.oom_kills);
            slot.memory.usage = Some(used);
            if let (true, Some(instance)) = (killed, &slot.instance) {
                let note = Note::warning("OOMKilling", "A process of it was ended for want of memory; it goes on");
                tell(&self.agent.events, instance, note, now);
            }
            self.show(uid, now);
        }
        self.samples.again(uid, changed, now);
    }
}
