//! How the running attempt is doing, as far as its hooks and probes have told, and what that makes of `Ready`.
//!
//! Part of [`super::Memory`]; a new agent makes it again from `status.started`, the `Ready` condition and what the driver
//! says of the image's own check. That check counts where no readiness probe is declared. An Instance without hooks,
//! probes and such a check is ready as soon as it runs.

use jiff::Timestamp;

use crate::{
    agent::StopReason,
    api::{Condition, InstanceSpec, InstanceStatus},
    drivers::{CheckState, ImageCheck},
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
    /// What the check that its image brings says, if there is one.
    check: Option<ImageCheck>,
    /// It is to be ended.
    pub dead: Option<Death>,
    /// Its preStop hook runs, or is to be run: the stop signal waits for it.
    pub pre_stop: bool,
    /// Until when it may stop, since it asked for more time than its grace.
    pub extended: Option<Timestamp>,
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

    /// Remembers that it has finished its start, so that a startup probe that is added later asks no more; and while it has no readiness
    /// probe, whether it is ready, so that it stays so until one that is added later says otherwise.
    pub fn note_started(&mut self, spec: &InstanceSpec) {
        self.started = self.is_started(spec);
        if spec.readiness_probe.is_none() {
            self.ready = self.is_ready(spec);
        }
    }

    /// True while it can be used.
    pub fn is_ready(&self, spec: &InstanceSpec) -> bool {
        let ready = match (&spec.readiness_probe, &self.check) {
            (Some(_), _) => self.ready,
            (None, Some(check)) => check.state == CheckState::Healthy,
            (None, None) => true,
        };
        ready && self.is_started(spec) && self.dead.is_none()
    }

    /// What the check of its image says, where that counts.
    fn counted_check(&self, spec: &InstanceSpec) -> Option<&ImageCheck> {
        self.check.as_ref().filter(|_| spec.readiness_probe.is_none())
    }

    /// What the check of its image says now. Returns a sentence if that turned for the worse, and counts.
    pub fn checked(&mut self, check: Option<ImageCheck>, spec: &InstanceSpec) -> Option<String> {
        let is_bad = |check: Option<&ImageCheck>| check.is_some_and(|check| check.state == CheckState::Unhealthy);
        let was_bad = is_bad(self.check.as_ref());
        self.check = check;
        self.counted_check(spec).filter(|check| !was_bad && is_bad(Some(check))).map(sentence)
    }

    /// Reason and message of the `Ready` condition while it runs.
    pub fn condition(&self, spec: &InstanceSpec) -> (&'static str, String) {
        let good = match (&spec.readiness_probe, &self.check) {
            (Some(_), _) => "ProbeSucceeded",
            (None, Some(_)) => "HealthCheckSucceeded",
            (None, None) => "Running",
        };
        match &self.dead {
            Some(death) => (death.reason.word(), death.message.clone()),
            None if self.is_ready(spec) => (good, self.words.clone()),
            None => match self.counted_check(spec).filter(|_| self.is_started(spec)) {
                Some(check) if check.state == CheckState::Unhealthy => ("HealthCheckFailed", sentence(check)),
                Some(check) => ("Starting", sentence(check)),
                None if !self.message.is_empty() => ("ProbeFailed", self.message.clone()),
                None => ("Starting", self.words.clone()),
            },
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

/// What a check says, for people.
fn sentence(check: &ImageCheck) -> String {
    let before = if check.said.is_empty() { "" } else { ": " };
    format!("The image's HEALTHCHECK says {}{before}{}", check.state.word(), check.said)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: Value) -> InstanceSpec {
        let mut all = json!({"nodeName": "a", "revision": "web-1", "process": {"command": ["a"]}});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(all).expect("a spec")
    }

    #[test]
    fn what_is_ready_stays_so_when_a_readiness_probe_is_added_until_that_says_otherwise() {
        let probed = spec(json!({"readinessProbe": {"exec": {"command": ["ask"]}}}));
        let mut health = Health::default();
        health.note_started(&probed);
        assert!(!health.is_ready(&probed), "with a probe from the beginning nobody knows");
        let mut health = Health::default();
        health.note_started(&spec(json!({})));
        health.note_started(&probed);
        assert!(health.is_ready(&probed));
        health.turn(Turn::Unready, "no".to_owned(), None);
        health.note_started(&probed);
        assert!(!health.is_ready(&probed));
    }
}
