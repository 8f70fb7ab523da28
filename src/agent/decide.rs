//! What the agent does next for one Instance: a pure function of the Instance, the agent's memory of it and the time.
//!
//! | now \ wanted | runs | suspended | gone |
//! |---|---|---|---|
//! | `Waiting` | `Start` when due and the attempt before is durable | `Rest` | `Remove` |
//! | `Starting`, `Doubtful`, `Unknown` | – | – | – |
//! | `Running` | `Stop` if a restart is asked for | `Stop` | `Stop` |
//! | `Stopping` | `Signal` when due | `Signal` when due | `Signal` when due, `Stop` anew with the shorter grace |
//! | `Exited` | `Resume` if it was suspended, a restart is asked for, or a crash loop's spec changed | `Rest` | `Remove` when its exit is durable |
//! | `Removing` | – | – | – |
//! | `Removed`, `Released` | – | – | `Release` once |
//!
//! Grace periods and backoff are points in time that stand in the status; nothing here waits.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::memory::{Memory, Phase, StopReason};
use crate::{
    api::{Instance, Object, signal_number},
    drivers::Reach,
    policy::restart::{CRASH_LOOPING, SUSPENDED},
};

/// How long to wait for SIGKILL to work before it is sent again.
const KILL_AGAIN: SignedDuration = SignedDuration::from_secs(5);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What is wanted of an Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It runs, as its restart policy says.
    Runs,
    /// It stays, and nothing runs.
    Suspended,
    /// It goes.
    Gone,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the next attempt.
    Start {
        /// Its number.
        attempt: u32,
    },
    /// From now on it is to end: signals follow.
    Stop {
        /// Why.
        reason: StopReason,
        /// From when on only SIGKILL helps.
        kill_at: Timestamp,
    },
    /// Send a signal to what runs.
    Signal {
        /// Which.
        signal: i32,
        /// To whom.
        reach: Reach,
        /// When the next one is due, if it does not end.
        next: Timestamp,
    },
    /// Nothing runs and nothing is to run.
    Rest,
    /// What had ended may start again, with a clean slate.
    Resume {
        /// Why.
        because: &'static str,
    },
    /// Let the driver forget the Instance.
    Remove,
    /// Tell the store that nothing of it is left.
    Release,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start { attempt } => write!(f, "start attempt {attempt}"),
            Action::Stop { reason, .. } => write!(f, "stop it because it is {}", reason.word().to_lowercase()),
            Action::Signal { signal, reach: Reach::Process, .. } => write!(f, "send signal {signal}"),
            Action::Signal { signal, reach: Reach::Tree, .. } => write!(f, "send signal {signal} to all of it"),
            Action::Rest => f.write_str("rest"),
            Action::Resume { because } => write!(f, "resume because {because}"),
            Action::Remove => f.write_str("remove it from the machine"),
            Action::Release => f.write_str("release it"),
        }
    }
}

/// At most one thing to do, and when to look again though nothing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub action: Option<Action>,
    /// When time alone will change the answer.
    pub look_again: Option<Timestamp>,
}

impl Plan {
    const NOTHING: Plan = Plan { action: None, look_again: None };

    fn act(action: Action) -> Self {
        Self { action: Some(action), look_again: None }
    }

    fn at(at: Timestamp) -> Self {
        Self { action: None, look_again: Some(at) }
    }
}

/// What is wanted. `draining` is true while the daemon stops together with everything it runs.
pub(super) fn wanted(instance: Option<&Object<Instance>>, draining: bool) -> Wanted {
    match instance {
        None => Wanted::Gone,
        Some(instance) if instance.metadata.is_deleting() => Wanted::Gone,
        Some(instance) if instance.spec.suspend || draining => Wanted::Suspended,
        Some(_) => Wanted::Runs,
    }
}

/// What to do next. `instance` is `None` if the store has none any more.
pub fn decide(instance: Option<&Object<Instance>>, memory: &Memory, draining: bool, now: Timestamp) -> Plan {
    let wanted = wanted(instance, draining);
    match (&memory.phase, wanted) {
        (Phase::Unknown | Phase::Starting | Phase::Doubtful | Phase::Removing | Phase::Released, _) => Plan::NOTHING,
        // What has ended is left as it is, so that the next daemon finds it so.
        (Phase::Waiting { .. } | Phase::Exited { .. }, Wanted::Suspended) if draining => Plan::NOTHING,
        (Phase::Waiting { at, .. }, Wanted::Runs) => waiting(instance, memory, *at, now),
        (Phase::Waiting { .. }, Wanted::Suspended) => Plan::act(Action::Rest),
        (Phase::Running(_), _) => running(instance, memory, wanted, now),
        (Phase::Stopping { reason, kill_at, signal_at, .. }, _) => {
            let hurry = shorter_grace(instance, wanted, *reason, *kill_at, now);
            hurry.unwrap_or_else(|| stopping(instance, *kill_at, *signal_at, now))
        }
        (Phase::Exited { reason, generation, .. }, Wanted::Runs) => {
            exited(instance, memory, reason, *generation).map_or(Plan::NOTHING, Plan::act)
        }
        (Phase::Exited { reason, .. }, Wanted::Suspended) if reason == SUSPENDED => Plan::NOTHING,
        (Phase::Exited { .. }, Wanted::Suspended) => Plan::act(Action::Rest),
        (Phase::Waiting { .. } | Phase::Exited { .. }, Wanted::Gone) => {
            // An orphan has no status that its exit could stand in.
            let recorded = instance.is_none() || memory.durable_exit >= memory.exit_attempt();
            if recorded { Plan::act(Action::Remove) } else { Plan::NOTHING }
        }
        (Phase::Removed, Wanted::Gone) => Plan::act(Action::Release),
        (Phase::Removed, _) => Plan::NOTHING,
    }
}

fn waiting(instance: Option<&Object<Instance>>, memory: &Memory, at: Timestamp, now: Timestamp) -> Plan {
    let due = at <= now || restart_asked(instance, memory);
    match (due, memory.durable_attempt >= memory.attempt) {
        (true, true) => Plan::act(Action::Start { attempt: memory.attempt + 1 }),
        // The answer to the write comes back to us.
        (true, false) => Plan::NOTHING,
        (false, _) => Plan::at(at),
    }
}

fn restart_asked(instance: Option<&Object<Instance>>, memory: &Memory) -> bool {
    memory.attempt > 0 && instance.is_some_and(|i| i.spec.restarted_at != memory.restarted_at)
}

fn running(instance: Option<&Object<Instance>>, memory: &Memory, wanted: Wanted, now: Timestamp) -> Plan {
    let reason = match wanted {
        Wanted::Gone => StopReason::Deleted,
        Wanted::Suspended => StopReason::Suspended,
        Wanted::Runs if restart_asked(instance, memory) => StopReason::Restarted,
        Wanted::Runs => return Plan::NOTHING,
    };
    Plan::act(Action::Stop { reason, kill_at: now + grace(instance) })
}

/// The grace period: what the deletion asked for, else what the spec says, else Kubernetes' default.
fn grace(instance: Option<&Object<Instance>>) -> SignedDuration {
    let asked = instance.and_then(|i| i.metadata.deletion_grace_period_seconds.filter(|_| i.metadata.is_deleting()));
    let seconds = asked.or(instance.map(|i| i.spec.termination_grace_period_seconds)).unwrap_or(30);
    SignedDuration::from_secs(seconds.clamp(0, 86400))
}

/// A deletion that comes while it stops for another reason, or that leaves it less time.
fn shorter_grace(
    instance: Option<&Object<Instance>>,
    wanted: Wanted,
    reason: StopReason,
    kill_at: Timestamp,
    now: Timestamp,
) -> Option<Plan> {
    if wanted != Wanted::Gone {
        return None;
    }
    let allowed = now + grace(instance);
    let hurried = grace(instance).is_zero() && now < kill_at;
    let stop = Action::Stop { reason: StopReason::Deleted, kill_at: kill_at.min(allowed) };
    (reason != StopReason::Deleted || hurried).then(|| Plan::act(stop))
}

fn stopping(instance: Option<&Object<Instance>>, kill_at: Timestamp, signal_at: Timestamp, now: Timestamp) -> Plan {
    if now < signal_at {
        return Plan::at(signal_at);
    }
    if now >= kill_at {
        return Plan::act(Action::Signal { signal: SIGKILL, reach: Reach::Tree, next: now + KILL_AGAIN });
    }
    let signal = instance.and_then(|i| signal_number(&i.spec.stop_signal)).unwrap_or(SIGTERM);
    Plan::act(Action::Signal { signal, reach: Reach::Process, next: kill_at })
}

/// Whether what has ended for good starts again all the same.
fn exited(instance: Option<&Object<Instance>>, memory: &Memory, reason: &str, generation: i64) -> Option<Action> {
    let because = if reason == SUSPENDED {
        "it is no longer suspended"
    } else if restart_asked(instance, memory) {
        "a restart was asked for"
    } else if reason == CRASH_LOOPING && instance.is_some_and(|i| i.metadata.generation != generation) {
        "its spec changed"
    } else {
        return None;
    };
    Some(Action::Resume { because })
}
