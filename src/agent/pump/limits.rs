//! Limits of what runs are kept as its Instance has them.

use jiff::Timestamp;

use super::{Finished, Pump};
use crate::{
    agent::{launch::limits, memory::Phase},
    api::Uid,
    drivers::{LimitError, StartKey},
};

impl Pump {
    /// Tells the driver what an attempt that runs may use, if that is another thing than it was.
    pub(super) fn keep_limits(&mut self, uid: &Uid, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let (Phase::Running(_), Some(instance)) = (&slot.memory.phase, &slot.instance) else { return };
        let resizing = &mut slot.memory.resizing;
        if resizing.begins(&instance.spec.resources, now) {
            let key = StartKey { uid: uid.clone(), attempt: slot.memory.attempt };
            let limits = limits(&instance.spec.resources);
            let driver = self.agent.drivers.of(slot.form).clone();
            self.work.push(Box::pin(async move {
                let result = driver.set_limits(&key, limits).await;
                Finished::Limits(key, result)
            }));
        } else if let Some(at) = resizing.again() {
            self.due.add(uid.clone(), at);
        }
    }

    pub(super) fn limits_answered(&mut self, key: &StartKey, result: Result<(), LimitError>) {
        self.with(&key.uid, |slot, now| match slot.memory.attempt == key.attempt {
            true => slot.memory.resizing.answered(result, now).into_iter().collect(),
            false => Vec::new(),
        });
    }
}
