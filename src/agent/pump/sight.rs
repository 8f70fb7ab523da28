//! Looking at the drivers, and what is shown while one of them does not answer.

use std::collections::BTreeMap;

use super::{DRIVER_RETRY, Finished, Pump, Slot, given::Preparation, health::Attended};
use crate::{
    agent::{
        forms::Form,
        memory::{Memory, Phase},
        node,
    },
    api::{Instance, InstanceStatus, Key, Uid},
    drivers::{Attempt, Fetched, PrepareError, StartKey, Unreachable},
};

impl Pump {
    pub(super) fn observe(&mut self, form: Form) {
        let sight = self.sights.of(form);
        sight.again = None;
        if sight.under_way {
            // What this one sees may be older than what we were just told: look once more after it.
            sight.once_more = true;
            return;
        }
        sight.under_way = true;
        let (driver, step) = (self.agent.drivers.of(form).clone(), self.step);
        self.work.push(Box::pin(async move { Finished::Observe(form, step, driver.observe().await) }));
    }

    pub(super) fn observation(
        &mut self,
        form: Form,
        step: u64,
        result: Result<BTreeMap<StartKey, Attempt>, Unreachable>,
    ) {
        let again = self.now() + DRIVER_RETRY;
        let sight = self.sights.of(form);
        sight.under_way = false;
        let once_more = std::mem::take(&mut sight.once_more);
        let before = std::mem::replace(&mut sight.trouble, result.as_ref().err().map(|Unreachable(why)| why.clone()));
        if once_more {
            self.observe(form);
        }
        let Ok(seen) = result else {
            self.sights.of(form).again = Some(again);
            self.doubt(form, before.is_none());
            return;
        };
        let mut by_uid: BTreeMap<Uid, BTreeMap<u32, Attempt>> = BTreeMap::new();
        for (key, attempt) in seen {
            if let Attempt::Ended(ended) = &attempt {
                self.tell_broker(&key, ended);
            }
            by_uid.entry(key.uid).or_default().insert(key.attempt, attempt);
        }
        let now = self.now();
        let engine_answers = form == Form::Container && (before.is_some() || !by_uid.is_empty());
        for uid in self.uids(form) {
            let attempts = by_uid.remove(&uid).unwrap_or_default();
            self.with(&uid, |slot, now| slot.observed(&attempts, step, now));
            if self.slots.get(&uid).is_some_and(|slot| slot.memory.started().is_some()) {
                self.samples.started(&uid, now);
            }
            self.acknowledge(&uid);
        }
        for (uid, attempts) in by_uid {
            tracing::warn!(%uid, "ending what runs without an instance in the store");
            let slot = Slot {
                key: Key::of::<Instance>("", ""),
                form,
                instance: None,
                memory: Memory::orphan(&attempts, now),
                shown: InstanceStatus::default(),
                touched: self.step,
                limits: None,
                calling: None,
                early_end: None,
                handed: false,
                attended: Attended::default(),
                given: Preparation::None,
                left: super::result::Left::default(),
            };
            self.slots.insert(uid.clone(), slot);
            self.settle(&uid);
        }
        self.sights.of(form).known = true;
        let is_open = |slot: &Slot| slot.form == form && matches!(slot.memory.phase, Phase::Unknown | Phase::Doubtful);
        if self.slots.values().any(is_open) {
            self.sights.of(form).again = Some(now + DRIVER_RETRY);
        }
        if engine_answers {
            self.show_engine(None);
        }
    }

    /// Shows that nothing is known of what a driver makes real.
    pub(super) fn doubt(&mut self, form: Form, is_new: bool) {
        let Some(why) = self.sights.doubt(form).filter(|_| is_new).map(str::to_owned) else { return };
        tracing::warn!(why, "the containers cannot be looked at");
        let now = self.now();
        self.uids(form).iter().for_each(|uid| self.show(uid, now));
        self.show_engine(Some(why));
    }

    /// Tells the Node whether the engine of containers is there; nothing is said where no container ever was.
    pub(super) fn show_engine(&mut self, trouble: Option<String>) {
        if self.engine_shown.replace(trouble.is_none()) != Some(trouble.is_none()) {
            let (client, clock, name) =
                (self.agent.client.clone(), self.agent.clock.clone(), self.agent.config.node.name.clone());
            self.work.push(Box::pin(async move {
                node::show_engine(&client, &clock, &name, trouble).await;
                Finished::Other
            }));
        }
    }

    pub(super) fn fetched(&mut self, uid: &Uid, result: Result<Option<Fetched>, PrepareError>) {
        match &result {
            Err(PrepareError::NoEngine(why)) => self.show_engine(Some(why.clone())),
            _ => self.show_engine(None),
        }
        self.with(uid, |slot, now| {
            let image = slot.image().to_owned();
            slot.memory.fetched(&image, result, now)
        });
    }

    pub(super) fn uids(&self, form: Form) -> Vec<Uid> {
        self.slots.iter().filter(|(_, slot)| slot.form == form).map(|(uid, _)| uid.clone()).collect()
    }
}
