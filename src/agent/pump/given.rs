//! Before an attempt is started: what it is given out of ConfigMaps and Secrets is read.
//!
//! The Instance stays as it is meanwhile. If something is missing no attempt is used up: it waits, and is looked at again
//! as soon as what is missing changes.

use std::collections::BTreeSet;

use super::{Finished, Pump};
use crate::{
    agent::{
        memory::{CONFIG_ERROR, Phase},
        resolve::{self, Given, Lack},
        sources::Found,
    },
    api::{Key, Rev, Status, Uid},
};

/// What the next attempt of an Instance is given.
#[derive(Debug, Default)]
pub(super) enum Preparation {
    /// Nobody has asked.
    #[default]
    None,
    /// It is being read.
    Reading,
    /// It is here.
    Ready(Given),
}

impl Preparation {
    /// What is here, which is then gone.
    pub(super) fn take(&mut self) -> Given {
        match std::mem::take(self) {
            Preparation::Ready(given) => given,
            Preparation::None | Preparation::Reading => Given::default(),
        }
    }
}

impl Pump {
    /// True if the next attempt may start now; else what it needs is being read.
    pub(super) fn is_prepared(&mut self, uid: &Uid) -> bool {
        let Some(slot) = self.slots.get_mut(uid) else { return true };
        let Some(instance) = &slot.instance else { return true };
        match slot.given {
            Preparation::Ready(_) => return true,
            Preparation::Reading => return false,
            Preparation::None => {}
        }
        let needs = resolve::needs(&instance.metadata.namespace, &instance.spec);
        if needs.is_empty() {
            return true;
        }
        slot.given = Preparation::Reading;
        let (uid, sources) = (uid.clone(), self.sources.clone());
        self.work.push(Box::pin(async move { Finished::Read(uid, sources.read(needs).await) }));
        false
    }

    /// What an attempt needs was read, or could not be.
    pub(super) fn read(&mut self, uid: &Uid, result: Result<Found, Status>) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        slot.given = Preparation::None;
        let Some(instance) = slot.instance.clone() else { return };
        let resolved = match result {
            Ok(found) => resolve::resolve(&instance.metadata.namespace, &instance.spec, &found),
            Err(status) => {
                let sentence = format!("its ConfigMaps and Secrets cannot be read: {}", status.message);
                Err(Lack { sentences: vec![sentence], keys: Vec::new() })
            }
        };
        match resolved {
            Ok(given) => {
                slot.given = Preparation::Ready(given);
                self.settle(uid);
                // If it was not wanted any more, it is read anew when it is.
                if let Some(slot) = self.slots.get_mut(uid) {
                    slot.given = Preparation::None;
                }
            }
            Err(lack) => {
                let message = lack.sentences.join("; ");
                self.with(uid, |slot, now| slot.memory.unconfigured(message, now));
                lack.keys.into_iter().for_each(|(key, known)| self.await_change(uid, key, known));
            }
        }
    }

    fn await_change(&mut self, uid: &Uid, key: Key, known: Option<Rev>) {
        let slots = &self.slots;
        if let Some(waiting) = self.awaited.get_mut(&key) {
            waiting.retain(|uid| slots.contains_key(uid));
            waiting.insert(uid.clone());
            return;
        }
        self.awaited.insert(key.clone(), BTreeSet::from([uid.clone()]));
        let changed = self.sources.changed(key, known);
        self.work.push(Box::pin(async move { Finished::Changed(changed.await) }));
    }

    /// What somebody waits for is another than it was.
    pub(super) fn source_changed(&mut self, key: &Key) {
        for uid in self.awaited.remove(key).into_iter().flatten() {
            self.with(&uid, |slot, now| {
                if let Phase::Waiting { reason: CONFIG_ERROR, at, .. } = &mut slot.memory.phase {
                    *at = now;
                }
                Vec::new()
            });
        }
    }
}
