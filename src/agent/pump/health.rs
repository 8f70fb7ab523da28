//! The pump's part in hooks and probes: begins them where an attempt runs, and takes what they lead to.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{Finished, Pump, Slot, tell};
use crate::{
    agent::{
        Drivers,
        decide::grace,
        forms::Form,
        health::Death,
        hooks::{self, Hook, Time},
        memory::{Note, Phase, StopReason},
        probes::{Command, Report, Subject, ask::Place},
    },
    api::{Instance, LifecycleHandler, Object, Uid},
    drivers::{Notified, StartKey},
    policy::probe::{Probes, Purpose, Turn},
};

/// What was begun for an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attended {
    attempt: u32,
    /// The hook that was begun last.
    hook: Option<Hook>,
    /// The generation whose probes are asked.
    watched: Option<i64>,
    /// This agent has started it.
    fresh: bool,
}

impl Attended {
    /// Of an attempt that this agent has just started.
    pub(super) fn fresh(attempt: u32, before: &Attended) -> Self {
        Self { attempt, watched: before.watched, hook: None, fresh: true }
    }

    /// Whether this agent has started that attempt.
    pub(super) fn is_fresh(&self, attempt: u32) -> bool {
        self.fresh && self.attempt == attempt
    }
}

impl Pump {
    /// Begins and ends what an attempt needs beside itself. Does nothing for one without hooks and probes.
    pub(super) fn attend(&mut self, uid: &Uid, now: Timestamp) {
        let Some(slot) = self.slots.get(uid) else { return };
        let attempt = slot.memory.attempt;
        if slot.attended.attempt != attempt {
            self.forget_probes(uid);
        }
        let Some(slot) = self.slots.get_mut(uid) else { return };
        if slot.attended.attempt != attempt {
            slot.attended = Attended { attempt, ..Attended::default() };
        }
        let Some(instance) = slot.instance.clone() else { return self.forget_probes(uid) };
        match &slot.memory.phase {
            Phase::Running(started) => {
                let age = Duration::try_from(now.duration_since(started.start_time)).unwrap_or_default();
                self.attend_running(uid, &instance, age);
            }
            Phase::Stopping { kill_at, reason, .. } => {
                let left = kill_at.duration_since(now);
                // An earlier agent may have begun it. A probe may leave less time than the spec: then nobody knows since when.
                let gone = match reason {
                    StopReason::Unhealthy => SignedDuration::ZERO,
                    _ => grace(Some(&instance)) - left,
                };
                let positive = |time: SignedDuration| Duration::try_from(time).unwrap_or_default();
                let time = Time { left: positive(left), gone: positive(gone) };
                let handler = instance.spec.lifecycle.pre_stop.as_ref();
                match handler.filter(|_| slot.memory.health.pre_stop) {
                    Some(handler) => {
                        self.begin_hook(uid, &instance, Hook::PreStop, handler.clone(), time);
                    }
                    // It was taken out of the manifest while it was waited for.
                    None if slot.memory.health.pre_stop => slot.memory.pre_stop_ended(now),
                    None => {}
                }
                self.forget_probes(uid);
            }
            _ => self.forget_probes(uid),
        }
    }

    fn attend_running(&mut self, uid: &Uid, instance: &Arc<Object<Instance>>, age: Duration) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let (spec, generation) = (&instance.spec, instance.metadata.generation);
        slot.memory.health.note_started(spec);
        if slot.form == Form::Container {
            let key = StartKey { uid: uid.clone(), attempt: slot.memory.attempt };
            let check = self.agent.drivers.of(slot.form).check(&key);
            if let Some(message) = slot.memory.health.checked(check, spec) {
                tell(&self.agent.events, instance, Note::warning("Unhealthy", message), self.agent.clock.now());
            }
        }
        if !slot.memory.health.is_open(spec)
            && let Some(handler) = &spec.lifecycle.post_start
        {
            let time = Time { left: hooks::LONGEST, gone: Duration::ZERO };
            return self.begin_hook(uid, instance, Hook::PostStart, handler.clone(), time);
        }
        if slot.attended.watched == Some(generation) {
            return;
        }
        let probes = Probes::of(spec);
        if probes.is_empty() {
            return self.forget_probes(uid);
        }
        slot.attended.watched = Some(generation);
        let health = &slot.memory.health;
        let (started, ready, fresh) = (health.is_started(spec), health.is_ready(spec), slot.attended.fresh);
        let place = self.place(uid, instance);
        let subject = Subject { place, probes, age, fresh, started, ready };
        self.probing.tell(Command::Watch(Box::new(subject)));
    }

    fn place(&self, uid: &Uid, instance: &Arc<Object<Instance>>) -> Place {
        let attempt = self.slots.get(uid).map_or(0, |slot| slot.memory.attempt);
        let key = StartKey { uid: uid.clone(), attempt };
        let own = self.agent.drivers.of(Form::of(instance)).address(&key);
        Place { instance: instance.clone(), key, own, address: self.agent.config.address.clone() }
    }

    /// An attempt that stops says that it needs more time (`EXTEND_TIMEOUT_USEC`).
    pub(super) fn extend_stop(&mut self, key: &StartKey, said: &Notified) {
        let Some(time) = said.extended else { return };
        self.with(&key.uid, |slot, now| {
            if slot.memory.attempt == key.attempt {
                slot.memory.extend_stop(SignedDuration::try_from(time).unwrap_or_default(), now);
            }
            Vec::new()
        });
    }

    /// Nothing is asked of it any more.
    pub(super) fn forget_probes(&mut self, uid: &Uid) {
        if self.slots.get_mut(uid).and_then(|slot| slot.attended.watched.take()).is_some() {
            self.probing.tell(Command::Forget(uid.clone()));
        }
    }

    fn begin_hook(
        &mut self,
        uid: &Uid,
        instance: &Arc<Object<Instance>>,
        hook: Hook,
        handler: LifecycleHandler,
        time: Time,
    ) {
        let place = self.place(uid, instance);
        let Some(slot) = self.slots.get_mut(uid).filter(|slot| slot.attended.hook != Some(hook)) else { return };
        slot.attended.hook = Some(hook);
        let (driver, clock) = (self.agent.drivers.of(Form::of(instance)).clone(), self.agent.clock.clone());
        self.work.push(Box::pin(async move {
            let key = place.key.clone();
            Finished::Hook(key, hook, hooks::run(driver, clock, place, hook, handler, time).await)
        }));
    }

    /// A hook is over. What comes too late to matter changes nothing.
    pub(super) fn hook_ended(&mut self, key: &StartKey, hook: Hook, outcome: Result<(), String>) {
        self.with(&key.uid, |slot, now| {
            if slot.memory.attempt != key.attempt {
                return Vec::new();
            }
            let word = hook.word();
            let failed = outcome.err().map(|why| format!("The {word} hook failed: {why}"));
            match (hook, &slot.memory.phase) {
                (Hook::PostStart, Phase::Running(_)) => match &failed {
                    None => slot.memory.health.post_started = true,
                    Some(message) => {
                        let (reason, message) = (StopReason::PostStartHookError, message.clone());
                        slot.memory.health.dead = Some(Death { reason, message, grace_seconds: None });
                    }
                },
                (Hook::PreStop, Phase::Stopping { .. }) => slot.memory.pre_stop_ended(now),
                _ => return Vec::new(),
            }
            let reason = if hook == Hook::PostStart { "FailedPostStartHook" } else { "FailedPreStopHook" };
            failed.map(|message| Note::warning(reason, message)).into_iter().collect()
        });
    }

    /// What the prober says. Of an attempt that does not run any more it says nothing.
    pub(super) fn probe_reported(&mut self, report: Report) {
        let now = self.now();
        let (Report::Turn { key, .. } | Report::Failed { key, .. } | Report::Words { key, .. }) = &report;
        let uid = key.uid.clone();
        let present = |slot: &&mut super::Slot| {
            slot.memory.attempt == key.attempt && matches!(slot.memory.phase, Phase::Running(_))
        };
        let Some(slot) = self.slots.get_mut(&uid).filter(present) else { return };
        match report {
            Report::Failed { message, .. } => {
                if let Some(instance) = &slot.instance {
                    tell(&self.agent.events, instance, Note::warning("Unhealthy", message), now);
                }
                return;
            }
            Report::Words { words, .. } => slot.memory.health.says(words),
            Report::Turn { turn, message, grace_seconds, .. } => {
                let message = match turn {
                    Turn::Dead(Purpose::Startup) => format!("It did not finish its start: {message}"),
                    _ => message,
                };
                slot.memory.health.turn(turn, message, grace_seconds);
            }
        }
        self.settle(&uid);
    }
}

/// The address at which a running container is reached that is not its machine's. Where a port is published, that is the address.
pub(super) fn own_address(drivers: &Drivers, slot: &Slot, uid: &Uid, instance: &Instance) -> Option<String> {
    slot.memory.started().filter(|_| !instance.spec.publishes())?;
    drivers.of(slot.form).address(&StartKey { uid: uid.clone(), attempt: slot.memory.attempt })
}
