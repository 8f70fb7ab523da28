//! How the running attempt is doing, as far as its hooks and probes have told, and what that makes of `Ready`.
//!
//! Part of [`super::Memory`]; a new agent makes it again from `status.started` and the `Ready` condition. An Instance
//! without hooks and probes is ready as soon as it runs.

use crate::{
    agent::StopReason,
    api::{Condition, InstanceSpec, InstanceStatus},
    policy::probe::{Purpose, Turn},
};

/// How it is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Its postStart hook has succeeded.
    pub post_started: bool,
    /// It has finished its start: the postStart hook and the startup probe have succeeded.
    started: bool,
    /// The readiness probe has succeeded, and has not failed since.
    ready: bool,
    /// Why it is not ready, if a probe said so.
    message: String,
    /// What it says of itself by sd_notify.
    words: String,
    /// It is to be ended.
    pub dead: Option<Death>,
    /// Its preStop hook runs, or is to be run: the stop signal waits for it.
    pub pre_stop: bool,
}

/// Why an attempt is to be ended although it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    /// In a word.
    pub reason: StopReason,
    /// In a sentence.
    pub message: String,
    /// The grace period, if it is not the Instance's own.
    pub grace_seconds: Option<i64>,
}

impl Health {
    /// What a status says of the attempt that it shows.
    pub fn of(status: &InstanceStatus) -> Self {
        let started = status.started == Some(true);
        Self {
            post_started: started,
            started,
            ready: started && Condition::holds(&status.conditions, "Ready"),
            message: Condition::find(&status.conditions, "Ready")
                .filter(|ready| ready.reason == "ProbeFailed")
                .map(|ready| ready.message.clone())
                .unwrap_or_default(),
            pre_stop: status.state.stopping.as_ref().is_some_and(|stopping| stopping.pre_stop),
            ..Self::default()
        }
    }

    /// True once the postStart hook has succeeded, if there is one.
    pub fn is_open(&self, spec: &InstanceSpec) -> bool {
        self.post_started || self.started || spec.lifecycle.post_start.is_none()
    }

    /// True once it has finished its start.
    pub fn is_started(&self, spec: &InstanceSpec) -> bool {
        self.started || (self.is_open(spec) && spec.startup_probe.is_none())
    }

    /// Remembers that it has finished its start, so that a startup probe that is added later asks no more.
    pub fn note_started(&mut self, spec: &InstanceSpec) {
        self.started = self.is_started(spec);
    }

    /// True while it can be used.
    pub fn is_ready(&self, spec: &InstanceSpec) -> bool {
        self.is_started(spec) && self.dead.is_none() && (self.ready || spec.readiness_probe.is_none())
    }

    /// Reason and message of the `Ready` condition while it runs.
    pub fn condition(&self, spec: &InstanceSpec) -> (&'static str, String) {
        let asked = spec.readiness_probe.is_some();
        match &self.dead {
            Some(death) => (death.reason.word(), death.message.clone()),
            None if self.is_ready(spec) => (if asked { "ProbeSucceeded" } else { "Running" }, self.words.clone()),
            None if !self.message.is_empty() => ("ProbeFailed", self.message.clone()),
            None => ("Starting", self.words.clone()),
        }
    }

    /// A probe's verdict turned.
    pub fn turn(&mut self, turn: Turn, message: String, grace_seconds: Option<i64>) {
        match turn {
            Turn::Started => self.started = true,
            Turn::Ready => (self.ready, self.message) = (true, String::new()),
            Turn::Unready => (self.ready, self.message) = (false, message),
            Turn::Dead(Purpose::Startup | Purpose::Readiness | Purpose::Liveness) => {
                self.dead = Some(Death { reason: StopReason::Unhealthy, message, grace_seconds });
            }
        }
    }

    /// What it says of itself.
    pub fn says(&mut self, words: String) {
        self.words = words;
    }
}
