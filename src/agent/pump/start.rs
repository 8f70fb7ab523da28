//! An attempt is started, and the driver says what became of that.

use super::{Pump, Slot, health::Attended};
use crate::{
    agent::{
        AgentConfig, Resizing,
        launch::{Here, Launch, launch, log_limits},
        memory::{Phase, RESOURCES_UNAVAILABLE, START_FAILED},
    },
    api::{Instance, Object, Uid},
    drivers::{StartError, StartKey, Started},
};

impl Slot {
    /// From now on the attempt is used; what is returned has to reach the driver.
    pub(super) fn begin(
        &mut self,
        attempt: u32,
        instance: &Object<Instance>,
        config: &AgentConfig,
        step: u64,
    ) -> Launch {
        let memory = &mut self.memory;
        memory.begin(attempt);
        if memory.restarted_at != instance.spec.restarted_at {
            memory.consecutive = 0;
        }
        memory.restarted_at = instance.spec.restarted_at.clone();
        self.touched = step;
        self.calling = Some(attempt);
        self.limits = Some(log_limits(&instance.spec));
        memory.resizing = Resizing::started(&instance.spec.resources);
        let process = instance.spec.process.as_ref();
        let account = process.and_then(|process| (config.account)(process.user.as_deref()));
        let key = StartKey { uid: instance.uid().clone(), attempt };
        let process_key = config.broker.as_ref().map(|broker| broker.key_of(&key));
        let (process_key, socket) = (process_key.as_deref(), config.socket.as_deref());
        let here = Here { process_key, socket, ..Here::new(&config.address, &config.node) };
        launch(instance, attempt, here, account.as_ref(), self.given.take())
    }
}

impl Pump {
    pub(super) fn start_answered(&mut self, key: &StartKey, result: Result<Started, StartError>) {
        let attempt = key.attempt;
        let now = self.now();
        let Some(slot) = self.slots.get_mut(&key.uid) else { return };
        let form = slot.form;
        slot.calling = None;
        let early_end = slot.early_end.take();
        match result {
            Ok(started) => {
                self.samples.started(&key.uid, now);
                self.with(&key.uid, |slot, _| {
                    slot.attended = Attended::fresh(attempt, &slot.attended);
                    slot.memory.start_answered(slot.instance.as_deref(), attempt, started)
                });
            }
            Err(StartError::Refused(why)) => self.start_refused(&key.uid, attempt, START_FAILED, &why),
            Err(StartError::ResourcesUnavailable(why)) => {
                self.start_refused(&key.uid, attempt, RESOURCES_UNAVAILABLE, &why);
            }
            Err(StartError::AlreadyStarted(_) | StartError::Unknown(_)) => {
                self.with(&key.uid, |slot, _| {
                    if slot.memory.attempt == attempt && slot.memory.phase == Phase::Starting {
                        slot.memory.phase = Phase::Doubtful;
                    }
                    Vec::new()
                });
                self.observe(form);
            }
        }
        if let Some(ended) = early_end {
            self.with(&key.uid, |slot, now| slot.memory.ended(slot.instance.as_deref(), attempt, &ended, now));
            self.look_for_taken_ports(key);
        }
    }

    fn start_refused(&mut self, uid: &Uid, attempt: u32, reason: &'static str, why: &str) {
        self.with(uid, |slot, now| slot.memory.start_refused(slot.instance.as_deref(), attempt, reason, why, now));
    }
}
