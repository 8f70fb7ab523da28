//! An Instance that this agent hears of for the first time.

use std::sync::Arc;

use super::{Pump, Slot, given::Preparation, health::Attended, result};
use crate::{
    agent::{
        forms::Form,
        memory::{Memory, Phase},
    },
    api::{Instance, InstanceState, Key, Object, Uid},
};

impl Pump {
    /// A new Instance. Before the driver was first heard, and for one with a history, only the driver can tell what runs.
    pub(super) fn adopt_later(&mut self, uid: Uid, key: Key, instance: Arc<Object<Instance>>) {
        let mut memory = Memory::new(&instance.status, self.now());
        let form = Form::of(&instance);
        if !self.sights.at(form).known {
            memory.phase = Phase::Unknown;
        } else if is_intended(&instance) {
            memory.resume(self.now());
        } else if memory.phase == Phase::Unknown {
            self.observe(form);
        }
        let shown = instance.status.clone();
        let slot = Slot {
            key,
            form,
            instance: Some(instance),
            memory,
            shown,
            touched: 0,
            limits: None,
            calling: None,
            early_end: None,
            handed: false,
            attended: Attended::default(),
            given: Preparation::None,
            left: result::Left::default(),
        };
        self.slots.insert(uid, slot);
    }
}

/// True if whoever made it wrote down, too, that its one attempt is to be started, and nothing more is known: it may be started right away.
/// If another agent did so after all, the driver knows that number, and says so.
fn is_intended(instance: &Object<Instance>) -> bool {
    let status = &instance.status;
    let untouched = status.state == InstanceState::default() && status.last_exit.is_none();
    instance.spec.once && status.attempt == 1 && untouched
}
