//! What the driver says of one Instance.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Slot;
use crate::{
    agent::memory::{Memory, Note, Phase},
    drivers::{Attempt, Ended},
};

impl Slot {
    /// The image of a container.
    pub(super) fn image(&self) -> &str {
        let container = self.instance.as_ref().and_then(|instance| instance.spec.container.as_ref());
        container.map_or("", |container| &container.image)
    }

    /// True if something of it runs, or may.
    pub(in crate::agent) fn is_alive(&self) -> bool {
        self.memory.started().is_some()
            || matches!(self.memory.phase, Phase::Unknown | Phase::Starting | Phase::Doubtful)
    }

    /// The driver reports an end. It waits if the start has yet to be answered, and says nothing of an Instance whose
    /// history has yet to be observed.
    pub(super) fn reported(&mut self, attempt: u32, ended: Ended, now: Timestamp) -> Vec<Note> {
        if self.calling == Some(attempt) {
            self.early_end = Some(ended);
            return Vec::new();
        }
        if self.memory.phase == Phase::Unknown {
            return Vec::new();
        }
        self.memory.ended(self.instance.as_deref(), attempt, &ended, now)
    }

    /// What the driver saw of this Instance when step `step` was over.
    pub(super) fn observed(&mut self, attempts: &BTreeMap<u32, Attempt>, step: u64, now: Timestamp) -> Vec<Note> {
        let instance = self.instance.clone();
        let instance = instance.as_deref();
        let memory = &mut self.memory;
        match (&memory.phase, instance) {
            (Phase::Unknown, Some(instance)) => return memory.adopt(instance, attempts, now),
            (Phase::Unknown, None) => {
                *memory = Memory::orphan(attempts, now);
                return Vec::new();
            }
            (Phase::Starting, _) => return Vec::new(),
            _ if self.touched > step => return Vec::new(),
            _ => {}
        }
        let present = attempts.get(&memory.attempt);
        let mut notes = Vec::new();
        match (&memory.phase, present) {
            (Phase::Doubtful | Phase::Running(_) | Phase::Stopping { .. }, None) => notes = memory.lost(instance, now),
            (_, Some(Attempt::Running(started))) => memory.confirm_running(memory.attempt, started),
            (_, Some(Attempt::Ended(ended))) => notes = memory.ended(instance, memory.attempt, ended, now),
            (_, None) => {}
        }
        let exit = memory.exit_attempt();
        let ended = attempts.iter().filter(|(n, seen)| **n <= exit && matches!(seen, Attempt::Ended(_)));
        memory.unacknowledged.extend(ended.map(|(n, _)| *n));
        notes
    }
}
