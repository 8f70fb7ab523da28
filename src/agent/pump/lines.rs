//! The pump's part in tasks by lines: begins a conversation where an attempt runs, and tells it of the end.

use std::collections::BTreeMap;

use super::Pump;
use crate::{
    agent::lines::{self, End, Party},
    api::{APP_LABEL, TaskMode, Uid},
    drivers::{Ended, StartKey},
};

/// How far below 2^53, which is what every reader of JSON takes for a whole number, the numbers of tasks begin.
const ROOM_FOR_NUMBERS: u32 = 20;

/// The attempts that are spoken to. `None`: one that has no pipes.
#[derive(Debug, Default)]
pub(super) struct Spoken(BTreeMap<StartKey, Option<End>>);

impl Spoken {
    /// False if nobody speaks to it: then its end is to be told by whoever knows it.
    fn ended(&self, key: &StartKey, ended: &Ended) -> bool {
        self.0.get(key).and_then(Option::as_ref).is_some_and(|end| end.send(ended.clone()).is_ok())
    }
}

impl Pump {
    /// Speaks to an attempt that runs and does tasks by lines, unless that has begun already.
    pub(super) fn speak(&mut self, uid: &Uid) {
        let Some(slot) = self.slots.get(uid) else { return };
        let (Some(instance), Some(broker)) = (&slot.instance, &self.agent.config.broker) else { return };
        let (attempt, spec) = (slot.memory.attempt, &instance.spec);
        if spec.task_mode != TaskMode::Lines || spec.once || slot.memory.started().is_none() {
            return;
        }
        let key = StartKey { uid: uid.clone(), attempt };
        if self.lines.0.contains_key(&key) {
            return;
        }
        let pipes = self.agent.drivers.of(slot.form).lines(&key).unwrap_or_else(|error| {
            tracing::warn!(%key, %error, "the pipes of a process that does tasks by lines cannot be opened");
            None
        });
        let party = Party {
            broker: broker.clone(),
            app: instance.metadata.labels.get(APP_LABEL).unwrap_or_default().to_owned(),
            key: key.clone(),
            fresh: slot.attended.is_fresh(attempt),
            first: (self.agent.clock.random() >> (64 - 32)) << ROOM_FOR_NUMBERS,
        };
        let end = pipes.map(|pipes| lines::begin(party, pipes));
        let slots = &self.slots;
        self.lines
            .0
            .retain(|key, end| slots.contains_key(&key.uid) && end.as_ref().is_some_and(|end| !end.is_closed()));
        self.lines.0.insert(key, end);
    }

    /// Whoever sent a task to an attempt that has ended learns it now, not when it is written down.
    pub(super) fn tell_broker(&self, key: &StartKey, ended: &Ended) {
        if let Some(broker) = &self.agent.config.broker
            && !self.lines.ended(key, ended)
        {
            broker.ended(key, ended);
        }
    }
}
