//! What the agent does next for one Instance: a pure function of the Instance, the agent's memory of it and the time.
//!
//! | now \ wanted | runs | outside its window | suspended | gone |
//! |---|---|---|---|---|
//! | `Waiting` | `Start` when due and the attempt before is durable, a container after `Fetch`; a first start `Wait`s for dependencies | `Wait`, or `Rest` if it never opens again | `Rest` | `Remove` |
//! | `Starting`, `Doubtful`, `Unknown` | – | – | – | – |
//! | `Running` | `Stop` if a restart is asked for, or a probe or hook says that it is of no use | `Stop` | `Stop`, after what depends on it | `Stop`, after what depends on it |
//! | `Stopping` | `Signal` when due | `Signal` when due | `Signal` when due | `Signal` when due, `Stop` anew with the shorter grace |
//! | `Exited` | `Resume` if it was suspended or outside, a restart is asked for, or a crash loop's spec changed | `Wait` if it was suspended or outside | `Rest` | `Remove` when its exit is durable |
//! | `Removing` | – | – | – | – |
//! | `Removed`, `Released` | – | – | – | `Release` once |
//!
//! An Instance that is `once` has an `Intend` before its `Start`, of the same attempt, and nothing after that. One that was written down
//! ahead has neither before its turn comes (`rows.rs`).
//!
//! Grace periods and backoff are points in time that stand in the status; nothing here waits.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    fetch::{self, Fetch},
    memory::{AFTER_HOOK, CONFIG_ERROR, CONFIG_RETRY, Memory, Phase, StopReason},
};
use crate::{
    api::{Instance, Object, signal_number},
    drivers::Reach,
    policy::{
        depends::NOT_READY,
        restart::{CRASH_LOOPING, LOST, SUSPENDED},
        window::{Activity, OUTSIDE, activity},
    },
};

/// How long to wait for SIGKILL to work before it is sent again.
const KILL_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// A time that is further away than it can be by this was made by a clock that has been set back since.
const SLACK: SignedDuration = SignedDuration::from_secs(5);
/// How long to wait before a window whose hours cannot be told is looked at again.
const TELL_AGAIN: SignedDuration = SignedDuration::from_secs(60);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What is wanted of an Instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It runs, as its restart policy says, up to this time if its window has an end.
    Runs(Option<Timestamp>),
    /// Nothing runs until its window opens, if ever.
    Outside(Option<Timestamp>),
    /// What runs goes on and nothing is started: nobody can tell, for this reason, whether its window is open.
    Unclear(String),
    /// It stays, and nothing runs.
    Suspended,
    /// It goes.
    Gone,
}

/// What decides beside the Instance itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// True while the daemon stops together with everything it runs.
    pub draining: bool,
    /// What a first start waits for, in one sentence; empty if it waits for nothing.
    pub needs: String,
    /// It is not asked to end before this time, for the sake of what depends on it.
    pub needed_until: Option<Timestamp>,
    /// It was written down ahead, and the step before it has not succeeded yet.
    pub stands_in_row: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch what the next start needs.
    Fetch,
    /// Write down that the one start that it has is about to be made.
    Intend {
        /// Its number.
        attempt: u32,
    },
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
    Rest {
        /// Why, in one word.
        reason: &'static str,
        /// One sentence.
        message: String,
    },
    /// Nothing runs, and a first start has to wait.
    Wait {
        /// For what, in one word.
        reason: &'static str,
        /// One sentence.
        message: String,
        /// When it is due.
        at: Timestamp,
    },
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
            Action::Fetch => f.write_str("fetch its image"),
            Action::Intend { attempt } => write!(f, "write down that attempt {attempt} is to be started"),
            Action::Start { attempt } => write!(f, "start attempt {attempt}"),
            Action::Stop { reason, .. } => write!(f, "stop it because it is {}", reason.plain()),
            Action::Signal { signal, reach: Reach::Process, .. } => write!(f, "send signal {signal}"),
            Action::Signal { signal, reach: Reach::Tree, .. } => write!(f, "send signal {signal} to all of it"),
            Action::Rest { reason: SUSPENDED, .. } => f.write_str("rest"),
            Action::Rest { reason, .. } => write!(f, "rest because of {reason}"),
            Action::Wait { reason, message, .. } => write!(f, "wait because of {reason}: {message}"),
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

/// What is wanted.
pub(super) fn wanted(instance: Option<&Object<Instance>>, draining: bool, now: Timestamp) -> Wanted {
    let Some(instance) = instance.filter(|instance| !instance.metadata.is_deleting()) else { return Wanted::Gone };
    if instance.spec.suspend || draining {
        return Wanted::Suspended;
    }
    match activity(instance.spec.active_window.as_ref(), now) {
        Activity::Open(until) => Wanted::Runs(until),
        Activity::Closed(until) => Wanted::Outside(until),
        Activity::Unknown(why) => Wanted::Unclear(why),
    }
}

/// What to do next. `instance` is `None` if the store has none any more.
pub fn decide(instance: Option<&Object<Instance>>, memory: &Memory, around: &Around, now: Timestamp) -> Plan {
    let wanted = wanted(instance, around.draining, now);
    match (&memory.phase, &wanted) {
        (Phase::Unknown | Phase::Starting | Phase::Doubtful | Phase::Removing | Phase::Released, _) => Plan::NOTHING,
        // What has ended is left as it is, so that the next daemon finds it so.
        (Phase::Waiting { .. } | Phase::Exited { .. }, Wanted::Suspended) if around.draining => Plan::NOTHING,
        (Phase::Waiting { .. }, Wanted::Runs(_)) if around.stands_in_row => Plan::NOTHING,
        (Phase::Waiting { .. }, Wanted::Runs(_)) => waiting(instance, memory, &around.needs, now),
        (Phase::Waiting { .. }, Wanted::Outside(until)) => outside(memory, *until),
        (Phase::Waiting { .. }, Wanted::Unclear(why)) => {
            wait(memory, OUTSIDE, why.clone(), now).unwrap_or(Plan::at(now + TELL_AGAIN))
        }
        (Phase::Waiting { .. }, Wanted::Suspended) => Plan::act(suspended()),
        (Phase::Running(_), _) => running(instance, memory, &wanted, around, now),
        (Phase::Stopping { reason, kill_at, signal_at, .. }, _) => {
            let extended = memory.health.extended;
            let hurry = shorter_grace(instance, &wanted, *reason, (*kill_at, extended), now);
            hurry.unwrap_or_else(|| stopping(instance, memory, *kill_at, *signal_at, now))
        }
        (Phase::Exited { reason, generation, .. }, Wanted::Runs(_)) => {
            exited(instance, memory, reason, *generation).map_or(Plan::NOTHING, Plan::act)
        }
        (Phase::Exited { reason, .. }, Wanted::Outside(until)) if [SUSPENDED, OUTSIDE].contains(&reason.as_str()) => {
            outside(memory, *until)
        }
        (Phase::Exited { .. }, Wanted::Outside(_) | Wanted::Unclear(_)) => Plan::NOTHING,
        (Phase::Exited { reason, .. }, Wanted::Suspended) if reason == SUSPENDED => Plan::NOTHING,
        // How it ended is what its Run is judged by.
        (Phase::Exited { .. }, Wanted::Suspended) if is_once(instance) => Plan::NOTHING,
        (Phase::Exited { .. }, Wanted::Suspended) => Plan::act(suspended()),
        (Phase::Waiting { .. } | Phase::Exited { .. }, Wanted::Gone) => {
            // An orphan has no status that its exit could stand in.
            let recorded = instance.is_none() || memory.durable_exit >= memory.exit_attempt();
            if recorded { Plan::act(Action::Remove) } else { Plan::NOTHING }
        }
        (Phase::Removed, Wanted::Gone) => Plan::act(Action::Release),
        (Phase::Removed, _) => Plan::NOTHING,
    }
}

/// Whether it may be started once only.
fn is_once(instance: Option<&Object<Instance>>) -> bool {
    instance.is_some_and(|instance| instance.spec.once)
}

fn suspended() -> Action {
    Action::Rest { reason: SUSPENDED, message: String::new() }
}

/// Says what is waited for; `None` if it says so already.
fn wait(memory: &Memory, reason: &'static str, message: String, at: Timestamp) -> Option<Plan> {
    let said = matches!(&memory.phase, Phase::Waiting { reason: known, message: text, .. } if *known == reason && *text == message);
    (!said).then(|| Plan::act(Action::Wait { reason, message, at }))
}

/// Nothing runs until the window opens.
fn outside(memory: &Memory, until: Option<Timestamp>) -> Plan {
    let Some(at) = until else {
        let over = "its active window does not open again".to_owned();
        let said =
            matches!(&memory.phase, Phase::Exited { reason, message, .. } if reason == OUTSIDE && *message == over);
        return if said { Plan::NOTHING } else { Plan::act(Action::Rest { reason: OUTSIDE, message: over }) };
    };
    wait(memory, OUTSIDE, format!("its active window opens at {at}"), at).unwrap_or(Plan::at(at))
}

fn waiting(instance: Option<&Object<Instance>>, memory: &Memory, needs: &str, now: Timestamp) -> Plan {
    let Phase::Waiting { reason, at, .. } = memory.phase else { return Plan::NOTHING };
    if let Some(pid) = taken_over_before(instance, memory) {
        return Plan::act(spent(pid));
    }
    if memory.first && !needs.is_empty() {
        return wait(memory, NOT_READY, needs.to_owned(), now).unwrap_or(Plan::NOTHING);
    }
    let longest = instance.map_or(Duration::ZERO, |i| i.spec.restart.backoff.max.0);
    let longest = SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX).saturating_add(SLACK);
    let due = match reason {
        // Whoever asks for a restart does not bring what is missing.
        CONFIG_ERROR => at <= now || at.duration_since(now) > CONFIG_RETRY.saturating_add(SLACK),
        // What waited for its window, and whose clock was set back, is due.
        _ => at <= now || at.duration_since(now) > longest || reason == OUTSIDE,
    };
    let may_be_asked = reason != CONFIG_ERROR && !fetch::is_pause(reason);
    let due = due || (may_be_asked && (restart_asked(instance, memory) || is_resized(instance, memory)));
    match (due, memory.durable_attempt >= memory.attempt) {
        (true, true) if memory.lacks_image(instance) => match memory.fetch {
            Fetch::Needed => Plan::act(Action::Fetch),
            // Its answer comes back to us.
            Fetch::UnderWay | Fetch::Done => Plan::NOTHING,
        },
        // Whoever looks after a reboot must know that it may have been started.
        (true, true) if is_once(instance) && memory.attempt == 0 => Plan::act(Action::Intend { attempt: 1 }),
        (true, true) if is_once(instance) => Plan::act(Action::Start { attempt: memory.attempt }),
        (true, true) => Plan::act(Action::Start { attempt: memory.attempt + 1 }),
        // The answer to the write comes back to us.
        (true, false) => Plan::NOTHING,
        (false, _) => Plan::at(at),
    }
}

/// The process that it took over, or would have. Once: later its number may be another's.
fn taken_over_before(instance: Option<&Object<Instance>>, memory: &Memory) -> Option<i32> {
    instance.filter(|_| memory.attempt > 0)?.spec.adopts()
}

fn spent(pid: i32) -> Action {
    Action::Rest { reason: LOST, message: format!("process {pid} is not taken over a second time") }
}

/// Other resources than those that the last attempt ended with: it is tried with them at once.
fn is_resized(instance: Option<&Object<Instance>>, memory: &Memory) -> bool {
    memory.attempt > 0 && instance.is_some_and(|i| i.spec.resources != *memory.resizing.in_force())
}

fn restart_asked(instance: Option<&Object<Instance>>, memory: &Memory) -> bool {
    memory.attempt > 0 && instance.is_some_and(|i| i.spec.restarted_at != memory.restarted_at)
}

fn running(
    instance: Option<&Object<Instance>>,
    memory: &Memory,
    wanted: &Wanted,
    around: &Around,
    now: Timestamp,
) -> Plan {
    let reason = match wanted {
        Wanted::Gone => StopReason::Deleted,
        Wanted::Suspended => StopReason::Suspended,
        Wanted::Outside(_) => StopReason::Outside,
        Wanted::Runs(_) if restart_asked(instance, memory) => StopReason::Restarted,
        Wanted::Runs(_) | Wanted::Unclear(_) if memory.health.dead.is_some() => return dying(instance, memory, now),
        Wanted::Runs(until) => return until.map_or(Plan::NOTHING, Plan::at),
        Wanted::Unclear(_) => return Plan::at(now + TELL_AGAIN),
    };
    let in_turn = matches!(wanted, Wanted::Gone | Wanted::Suspended) && !grace(instance).is_zero();
    match around.needed_until.filter(|until| in_turn && *until > now) {
        Some(until) => Plan::at(until),
        None => Plan::act(Action::Stop { reason, kill_at: now + grace(instance) }),
    }
}

/// What it may have been given: a probe has a grace period of its own.
fn longest_grace(instance: Option<&Object<Instance>>, reason: StopReason) -> SignedDuration {
    let probes = instance.map(|i| [&i.spec.startup_probe, &i.spec.liveness_probe]).into_iter().flatten();
    let own = probes.filter_map(|probe| probe.as_ref()?.termination_grace_period_seconds).max();
    let own = own.filter(|_| reason == StopReason::Unhealthy).unwrap_or(0);
    grace(instance).max(SignedDuration::from_secs(own.clamp(0, 86400)))
}

/// A probe or a hook says that it is of no use.
fn dying(instance: Option<&Object<Instance>>, memory: &Memory, now: Timestamp) -> Plan {
    let Some(death) = &memory.health.dead else { return Plan::NOTHING };
    let own = death.grace_seconds.map(|seconds| SignedDuration::from_secs(seconds.clamp(0, 86400)));
    Plan::act(Action::Stop { reason: death.reason, kill_at: now + own.unwrap_or_else(|| grace(instance)) })
}

/// The grace period: what the deletion asked for, else what the spec says, else Kubernetes' default.
pub(super) fn grace(instance: Option<&Object<Instance>>) -> SignedDuration {
    let asked = instance.and_then(|i| i.metadata.deletion_grace_period_seconds.filter(|_| i.metadata.is_deleting()));
    let seconds = asked.or(instance.map(|i| i.spec.termination_grace_period_seconds)).unwrap_or(30);
    SignedDuration::from_secs(seconds.clamp(0, 86400))
}

/// A deletion that comes while it stops for another reason, or that leaves it less time; a grace period that became
/// shorter; a clock that was set back. More time that it asked for itself stays, but for a deletion that gives it none.
fn shorter_grace(
    instance: Option<&Object<Instance>>,
    wanted: &Wanted,
    reason: StopReason,
    (kill_at, extended): (Timestamp, Option<Timestamp>),
    now: Timestamp,
) -> Option<Plan> {
    let allowed = now + grace(instance);
    let is_deleted = *wanted == Wanted::Gone;
    let hurried = is_deleted && grace(instance).is_zero() && now < kill_at;
    let too_far = extended != Some(kill_at) && kill_at.duration_since(now + longest_grace(instance, reason)) > SLACK;
    let is_new = is_deleted && reason != StopReason::Deleted;
    let reason = if is_deleted { StopReason::Deleted } else { reason };
    let kill_at = if is_deleted { kill_at.min(allowed) } else { now + longest_grace(instance, reason) };
    let stop = Action::Stop { reason, kill_at };
    (is_new || hurried || too_far).then(|| Plan::act(stop))
}

fn stopping(
    instance: Option<&Object<Instance>>,
    memory: &Memory,
    kill_at: Timestamp,
    signal_at: Timestamp,
    now: Timestamp,
) -> Plan {
    // The end of the hook moves both; this is for one that never comes.
    if memory.health.pre_stop && now < kill_at + AFTER_HOOK {
        return Plan::at(kill_at + AFTER_HOOK);
    }
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
    if let Some(pid) = taken_over_before(instance, memory) {
        return [SUSPENDED, OUTSIDE].contains(&reason).then(|| spent(pid));
    }
    if is_once(instance) && memory.attempt > 0 {
        return None;
    }
    let because = if reason == SUSPENDED {
        "it is no longer suspended"
    } else if reason == OUTSIDE {
        "its active window is open"
    } else if restart_asked(instance, memory) {
        "a restart was asked for"
    } else if reason == CRASH_LOOPING && instance.is_some_and(|i| i.metadata.generation != generation) {
        "its spec changed"
    } else {
        return None;
    };
    Some(Action::Resume { because })
}
