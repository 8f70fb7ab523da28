//! The Run controller's judgement: a pure function of the Run, what was observed and the time.
//!
//! | the last attempt | cancelled | late | suspended | else |
//! |---|---|---|---|---|
//! | none yet | `Failed` | `Failed` | nothing | the first attempt |
//! | runs, or is about to | stop it | stop it | stop it | wait |
//! | ended with code 0, unasked | `Complete` | `Complete` | `Complete` | `Complete` |
//! | ended because it was suspended | `Failed` | | nothing | the next attempt |
//! | ended otherwise | `Failed` | `Failed` | nothing, or `Failed` | the next attempt when it is due, or `Failed` |
//!
//! A Run that is suspended is never late: its time counts anew when it is resumed.
//!
//! Laws, stated as property tests: the same inputs give the same plan; at most one attempt is under way; no number is used twice; what
//! is over stays as it is.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Observed, Plan};
use crate::{
    api::{
        AGENT_FINALIZER, BACKOFF_LIMIT, CANCELED, COMPLETE, Condition, EXIT_ZERO, Instance, InstanceSpec,
        InstanceStatus, MicroTime, OVER_QUOTA, Object, ObjectMeta, OwnerReference, RUN_DEADLINE, RUN_FAILED, RUN_LABEL,
        RUN_LOST, RUN_SUSPENDED, RUNNING, Restart, RestartPolicy, Run, RunExit, RunStatus, StepResult, TaskMode, Time,
        attempt_name,
    },
    policy::{backoff, restart::SUSPENDED},
    runtime::Requeue,
};

/// How long to wait before looking for room again, if no node says anything before.
const ROOM_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// Room that a quota gets and nobody is told of (a User's limits were raised, say) is found after so long.
const QUOTA_RETRY: SignedDuration = SignedDuration::from_secs(60);
/// No node has room.
pub(super) const UNSCHEDULABLE: &str = "Unschedulable";

/// What became of the last attempt.
enum Attempt {
    /// There is none.
    None,
    /// It is not over.
    Active(Arc<Object<Instance>>),
    /// It is over.
    Ended {
        /// How; nothing if it was stopped before it was started.
        exit: Option<RunExit>,
        /// What it left behind, of a step of a workflow.
        result: Option<Box<StepResult>>,
        /// Somebody had asked it to end.
        stopped: bool,
        /// By `suspend`, of the Run or of the Instance alone.
        suspended: bool,
        /// When, as far as anybody knows.
        at: Timestamp,
    },
}

/// What to do for `run` now.
pub fn decide(run: &Object<Run>, observed: &Observed, now: Timestamp) -> Plan {
    if run.metadata.is_deleting() {
        return rest(run.status.clone());
    }
    if run.status.is_over() {
        return kept(run, now);
    }
    let mut status = run.status.clone();
    status.observed_generation = run.metadata.generation;
    status.start_time = match run.spec.suspend {
        true => None,
        false => observed.begun(run).or(status.start_time).or(Some(Time(now))),
    };
    let limit = run.spec.active_deadline_seconds.map(SignedDuration::from_secs);
    let deadline = limit.zip(status.start_time).and_then(|(limit, start)| start.0.checked_add(limit).ok());
    let pass = Pass { run, observed, now, deadline };
    pass.say_suspended(&mut status);
    match pass.last_attempt() {
        Attempt::Active(instance) => pass.wait(status, instance),
        Attempt::None => match pass.early_end() {
            Some((reason, message)) => pass.fail(status, reason, message.to_owned()),
            None if run.spec.suspend => pass.pause(status),
            None => pass.attempt(status, "there was none yet"),
        },
        Attempt::Ended { exit, result, stopped, suspended, at } => {
            status.exit = exit.or(status.exit);
            status.result = result.map(|result| *result).or(status.result);
            pass.follow(status, stopped, suspended, at)
        }
    }
}

fn rest(status: RunStatus) -> Plan {
    Plan { actions: Vec::new(), status, requeue: Requeue::Rest, waits_for_room: false }
}

/// It is over, and kept for a while.
fn kept(run: &Object<Run>, now: Timestamp) -> Plan {
    let mut plan = rest(run.status.clone());
    let ttl = SignedDuration::from_secs(run.spec.ttl_seconds_after_finished);
    let Some(until) = run.status.completion_time.and_then(|end| end.0.checked_add(ttl).ok()) else { return plan };
    if until > now {
        plan.requeue = Requeue::At(until);
    } else {
        plan.actions.push(Action::DeleteRun { because: "it ended as long ago as it was to be kept" });
    }
    plan
}

struct Pass<'a> {
    run: &'a Object<Run>,
    observed: &'a Observed,
    now: Timestamp,
    deadline: Option<Timestamp>,
}

impl Pass<'_> {
    fn last_attempt(&self) -> Attempt {
        let status = &self.run.status;
        if status.attempts == 0 {
            return Attempt::None;
        }
        let Some(instance) = self.observed.attempts.get(&status.attempts) else {
            // Somebody has deleted it. What was seen of its end before that counts.
            let seen = status.failed == status.attempts;
            let exit = status.exit.clone().filter(|_| seen).unwrap_or_else(RunExit::lost);
            return Attempt::Ended { exit: Some(exit), result: None, stopped: false, suspended: false, at: self.now };
        };
        let (exit, exited) = (&instance.status.last_exit, &instance.status.state.exited);
        match (exit, exited) {
            // What it left behind is being read.
            (Some(_), Some(_)) if instance.spec.step.is_some() && instance.status.result.is_none() => {
                Attempt::Active(instance.clone())
            }
            (exit, Some(exited)) => Attempt::Ended {
                exit: exit.as_ref().map(RunExit::from),
                result: instance.status.result.clone().map(Box::new),
                stopped: exit.is_none() || [SUSPENDED, "Deleted"].contains(&exited.reason.as_str()),
                suspended: exited.reason == SUSPENDED,
                at: exit.as_ref().and_then(|exit| exit.finish_time).map_or(self.now, |at| at.0),
            },
            (_, None) => Attempt::Active(instance.clone()),
        }
    }

    /// Why it is to end though it has not succeeded.
    fn early_end(&self) -> Option<(&'static str, &'static str)> {
        if self.run.spec.cancel {
            return Some((CANCELED, "it was cancelled"));
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= self.now);
        late.then_some((RUN_DEADLINE, "it took longer than `activeDeadlineSeconds`"))
    }

    /// An attempt is under way.
    fn wait(&self, mut status: RunStatus, instance: Arc<Object<Instance>>) -> Plan {
        let state = &instance.status.state;
        let (running, reason, message) = match (&state.running, &state.stopping, &state.waiting) {
            (Some(_), ..) => (true, RUNNING, String::new()),
            (_, Some(_), _) => (true, "Stopping", String::new()),
            (.., Some(waiting)) => (false, waiting.reason.as_str(), waiting.message.clone()),
            _ => (false, "Starting", String::new()),
        };
        let stop = self.early_end().or_else(|| self.run.spec.suspend.then_some((SUSPENDED, "it was suspended")));
        let (reason, message) = match stop {
            Some((_, why)) => ("Stopping", why.to_owned()),
            None => (reason, message),
        };
        self.say(&mut status, RUNNING, running, reason, message);
        let requeue = self.deadline.filter(|_| stop.is_none()).map_or(Requeue::Rest, Requeue::At);
        let stop = stop.filter(|_| !instance.spec.suspend && !instance.metadata.is_deleting());
        let stop = stop.map(|(_, because)| Action::StopInstance { instance, because });
        Plan { actions: stop.into_iter().collect(), status, requeue, waits_for_room: false }
    }

    /// The last attempt is over, and `status.exit` says how.
    fn follow(&self, mut status: RunStatus, stopped: bool, suspended: bool, at: Timestamp) -> Plan {
        let exit = status.exit.clone().unwrap_or_default();
        if exit.is_success() && !stopped {
            self.say(&mut status, COMPLETE, true, EXIT_ZERO, String::new());
            return self.end(status);
        }
        if status.failed < status.attempts {
            status.failed = status.attempts;
            if suspended && self.early_end().is_none() {
                status.suspended += 1;
            } else {
                let failures = status.attempts - status.suspended;
                let pause = SignedDuration::try_from(backoff::attempt(failures)).unwrap_or(SignedDuration::MAX);
                status.next_attempt_time = at.checked_add(pause).ok().map(MicroTime);
            }
        }
        let failures = status.attempts.saturating_sub(status.suspended);
        let exhausted = failures > u32::try_from(self.run.spec.backoff_limit).unwrap_or(0);
        match self.early_end() {
            Some((reason, message)) if stopped || !exhausted || reason == CANCELED => {
                return self.fail(status, reason, message.to_owned());
            }
            _ if exhausted => {
                let reason = if exit.lost { RUN_LOST } else { BACKOFF_LIMIT };
                let message = format!("attempt {} {}", status.attempts, ending(&exit, stopped));
                return self.fail(status, reason, message);
            }
            _ => {}
        }
        if self.run.spec.suspend {
            return self.pause(status);
        }
        let due = status.next_attempt_time.map_or(self.now, |at| at.0);
        // Whoever made it further away than it can be had another clock.
        let longest = SignedDuration::try_from(backoff::LONGEST_ATTEMPT).unwrap_or(SignedDuration::MAX);
        if due <= self.now || due.duration_since(self.now) > longest {
            return self.attempt(status, if suspended { "it was resumed" } else { "the one before failed" });
        }
        let message = format!("attempt {} {}; the next is due at {due}", status.attempts, ending(&exit, stopped));
        self.say(&mut status, RUNNING, false, "BackOff", message);
        let wake = self.deadline.map_or(due, |deadline| deadline.min(due));
        Plan { actions: Vec::new(), status, requeue: Requeue::At(wake), waits_for_room: false }
    }

    /// Nothing runs, and nothing is begun.
    fn pause(&self, mut status: RunStatus) -> Plan {
        self.say(&mut status, RUNNING, false, SUSPENDED, String::new());
        rest(status)
    }

    /// Of a Run that never was suspended nothing is said.
    fn say_suspended(&self, status: &mut RunStatus) {
        let before = Condition::find(&status.conditions, RUN_SUSPENDED).is_some();
        match self.run.spec.suspend {
            true => self.say(status, RUN_SUSPENDED, true, SUSPENDED, String::new()),
            false if before => self.say(status, RUN_SUSPENDED, false, "Resumed", String::new()),
            false => {}
        }
    }

    /// Makes the next attempt, if there is a place for it.
    fn attempt(&self, mut status: RunStatus, because: &'static str) -> Plan {
        let requeue = self.deadline.map_or(Requeue::Rest, Requeue::At);
        if self.observed.leftovers > 0 {
            let message = "something of a former run of this name is still there".to_owned();
            self.say(&mut status, RUNNING, false, "Waiting", message);
            return Plan { actions: Vec::new(), status, requeue, waits_for_room: false };
        }
        let node = match &self.observed.place {
            Ok(place) => &place.node,
            Err(why) => {
                self.say(&mut status, RUNNING, false, UNSCHEDULABLE, why.clone());
                return self.homeless(status, ROOM_RETRY);
            }
        };
        if let Some(why) = &self.observed.full {
            self.say(&mut status, RUNNING, false, OVER_QUOTA, why.clone());
            return self.homeless(status, QUOTA_RETRY);
        }
        status.attempts += 1;
        status.next_attempt_time = None;
        status.instance = attempt_name(&self.run.metadata.name, status.attempts);
        self.say(&mut status, RUNNING, false, "Starting", String::new());
        let instance = Box::new(instance(self.run, status.attempts, node));
        let actions = vec![Action::CreateInstance { instance, because }];
        Plan { actions, status, requeue, waits_for_room: false }
    }

    /// An attempt is due, and waits for room.
    fn homeless(&self, status: RunStatus, look_again: SignedDuration) -> Plan {
        let again = self.now + look_again;
        let requeue = Requeue::At(self.deadline.map_or(again, |deadline| deadline.min(again)));
        Plan { actions: Vec::new(), status, requeue, waits_for_room: true }
    }

    fn fail(&self, mut status: RunStatus, reason: &str, message: String) -> Plan {
        self.say(&mut status, RUN_FAILED, true, reason, message);
        self.end(status)
    }

    fn end(&self, mut status: RunStatus) -> Plan {
        status.completion_time = Some(Time(self.now));
        status.next_attempt_time = None;
        let told = status.conditions.iter().find(|c| [COMPLETE, RUN_FAILED].contains(&c.kind.as_str())).cloned();
        let (reason, message) = told.map(|c| (c.reason, c.message)).unwrap_or_default();
        self.say(&mut status, RUNNING, false, &reason, message);
        let ttl = SignedDuration::from_secs(self.run.spec.ttl_seconds_after_finished);
        let requeue = self.now.checked_add(ttl).map_or(Requeue::Rest, Requeue::At);
        Plan { requeue, ..rest(status) }
    }

    fn say(&self, status: &mut RunStatus, kind: &str, holds: bool, reason: &str, message: String) {
        let condition = Condition::new(kind, holds, reason, message, Time(self.now)).of(self.run.metadata.generation);
        Condition::set(&mut status.conditions, condition);
    }
}

/// The rest of the sentence "attempt 3 …".
fn ending(exit: &RunExit, stopped: bool) -> String {
    let how = match exit {
        RunExit { lost: true, .. } => "ended, and nobody could see how".to_owned(),
        RunExit { oom_killed: true, .. } => "ran out of memory".to_owned(),
        RunExit { code: Some(code), message, .. } if !message.is_empty() => {
            format!("ended with code {code}: {message}")
        }
        RunExit { code: Some(code), .. } => format!("ended with code {code}"),
        RunExit { signal: Some(signal), .. } => format!("was ended by {signal}"),
        _ => "was not started".to_owned(),
    };
    if stopped { format!("{how} when it was told to stop") } else { how }
}

/// The Instance of an attempt.
fn instance(run: &Object<Run>, attempt: u32, node: &str) -> Object<Instance> {
    let template = run.spec.resolved().unwrap_or_default();
    let mut labels = run.metadata.labels.clone();
    labels.insert(RUN_LABEL, &run.metadata.name);
    let metadata = ObjectMeta {
        name: attempt_name(&run.metadata.name, attempt),
        namespace: run.metadata.namespace.clone(),
        labels,
        annotations: crate::controllers::referred_annotations(&run.metadata, &template.env),
        owner_references: vec![OwnerReference::controller_of(run)],
        finalizers: vec![AGENT_FINALIZER.to_owned()],
        ..ObjectMeta::default()
    };
    let spec = InstanceSpec {
        node_name: node.to_owned(),
        revision: template.revision,
        ordinal: attempt,
        once: true,
        stdin_once: run.spec.stdin_once,
        ports: Vec::new(),
        process: template.process,
        container: template.container,
        env: template.env,
        env_from: template.env_from,
        files: template.files,
        resources: template.resources,
        restart_policy: RestartPolicy::Never,
        restart: Restart::default(),
        termination_grace_period_seconds: template.termination_grace_period_seconds,
        stop_signal: template.stop_signal,
        logs: template.logs.shared_by(1),
        termination_message_policy: template.termination_message_policy,
        task_mode: TaskMode::default(),
        suspend: false,
        restarted_at: String::new(),
        hold: String::new(),
        drain_until: None,
        lifecycle: Default::default(),
        startup_probe: None,
        readiness_probe: None,
        liveness_probe: None,
        depends_on: Vec::new(),
        active_window: None,
        step: run.spec.step.clone(),
    };
    Object::new(metadata, Instance { spec, status: InstanceStatus::default() })
}
