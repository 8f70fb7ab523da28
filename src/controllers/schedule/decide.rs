//! What a pass does about one Schedule: pure.
//!
//! | | |
//! |---|---|
//! | suspended | nothing is started; when it is resumed, what was missed is not made up for |
//! | its times were changed | the new ones count from now on |
//! | a time is due | one Run, named for it; several that are due count as one, the last |
//! | it is too late for it | it is missed, and said to be |
//! | `Forbid`, and a Run goes on | it stays due |
//! | `Replace`, and a Run goes on | that is cancelled, `replaceGrace` after its successor began |
//!
//! A time is never started twice, because `lastScheduleTime` never goes back: where the clock does, the next time is the first one that
//! lies behind it.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::{
    api::{
        COMPLETE, ConcurrencyPolicy, Condition, ConditionStatus, Object, ObjectReference, Run, SCHEDULED_AT, Schedule,
        ScheduleStatus, Time,
    },
    policy::schedule::{COUNTED, Coming, Due, Times, surplus},
    runtime::{EventType, Requeue},
};

/// It waits for its next time.
const READY: &str = "Ready";
/// The reason of `Ready: False` while a Run is due that is refused.
const REFUSED: &str = "RunRefused";
/// Nothing is started.
const SUSPENDED: &str = "Suspended";
/// Times that the status tells beforehand.
const TOLD: usize = 3;

/// The world as one Schedule's pass sees it.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The Runs that are there of it.
    pub(super) runs: Vec<Arc<Object<Run>>>,
    /// The server's time zone.
    pub(super) zone: TimeZone,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Make the Run of a time.
    Start {
        /// The time.
        at: Timestamp,
        /// How many times before it were missed and count as this one.
        missed: usize,
    },
    /// Cancel a Run.
    Cancel(Arc<Object<Run>>),
    /// Forget a Run that ended.
    Delete(Arc<Object<Run>>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { at, .. } => write!(f, "start the run of {}", Time(*at)),
            Self::Cancel(run) => write!(f, "cancel run {} because its successor began", run.metadata.name),
            Self::Delete(run) => write!(f, "delete run {} because newer ones ended", run.metadata.name),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: ScheduleStatus,
    pub(super) requeue: Requeue,
    /// A time that is missed, and how many before it.
    missed: Option<(Timestamp, usize)>,
}

impl Plan {
    /// True if it makes a Run.
    pub(super) fn starts(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Start { .. }))
    }

    /// Nothing is started after all: the Run was refused. True if that is news.
    pub(super) fn refuse(&mut self, schedule: &Object<Schedule>, message: String, now: Timestamp) -> bool {
        self.actions.clear();
        self.status.last_schedule_time = schedule.status.last_schedule_time;
        // As it was before, so that the same refusal is not told as a new one.
        self.status.conditions.retain(|condition| condition.kind != READY);
        let before = Condition::find(&schedule.status.conditions, READY).cloned();
        let known = before.as_ref().is_some_and(|c| c.reason == REFUSED && c.message == message);
        if let Some(before) = before {
            Condition::set(&mut self.status.conditions, before);
        }
        set(&mut self.status, READY, false, REFUSED, message, schedule, now);
        !known
    }

    /// What people are told of it.
    pub(super) fn told(&self) -> Vec<(EventType, &'static str, String)> {
        let many = |count: usize| match count {
            COUNTED.. => format!("{COUNTED} or more"),
            count => count.to_string(),
        };
        let mut told = Vec::new();
        for action in &self.actions {
            match action {
                Action::Start { at, missed: 0 } => {
                    told.push((EventType::Normal, "Started", format!("Made the run of {}", Time(*at))));
                }
                Action::Start { at, missed } => {
                    let message =
                        format!("Made the run of {}, for {} missed times before it, too", Time(*at), many(*missed));
                    told.push((EventType::Warning, "Started", message));
                }
                Action::Cancel(run) => {
                    let message = format!("Cancelled run {}, whose successor began", run.metadata.name);
                    told.push((EventType::Normal, "Replaced", message));
                }
                Action::Delete(_) => {}
            }
        }
        if let Some((at, more)) = self.missed {
            let message = match more {
                0 => format!("It is too late to start the run of {}", Time(at)),
                more => {
                    format!("It is too late to start the run of {}, and of {} times before it", Time(at), many(more))
                }
            };
            told.push((EventType::Warning, "Missed", message));
        }
        told
    }
}

/// Whether a Run is this Schedule's, and not that of another one of the same name.
pub(super) fn is_of(run: &Object<Run>, schedule: &Object<Schedule>) -> bool {
    run.metadata.controller().is_some_and(|owner| Some(&owner.uid) == schedule.metadata.uid.as_ref())
}

/// The plan of one pass.
pub(super) fn decide(schedule: &Object<Schedule>, observed: &Observed, now: Timestamp) -> Plan {
    let mut status = of_runs(schedule, observed);
    let mut plan = Plan { actions: Vec::new(), status: status.clone(), requeue: Requeue::Rest, missed: None };
    if schedule.metadata.is_deleting() {
        return plan;
    }
    tidy(schedule, observed, &mut plan.actions);
    let times = match Times::of(&schedule.spec, &observed.zone, schedule.uid().as_str()) {
        Ok(times) => times,
        Err(why) => {
            set(&mut plan.status, READY, false, "UnknownTimes", why, schedule, now);
            return plan;
        }
    };
    let mut wakes = replace(schedule, observed, &mut plan.actions, now);
    let since = since(schedule, &times, now);
    let mut floor = since.max(status.last_schedule_time.map_or(Timestamp::MIN, |at| at.0));
    status.time_zone = times.zone.clone();
    status.times_hash = times.hash.clone();
    status.since = Some(Time(since));
    let suspended = schedule.spec.suspend;
    if !suspended {
        let blocked = schedule.spec.concurrency_policy == ConcurrencyPolicy::Forbid && !status.active.is_empty();
        match times.due(floor, now) {
            Due::Start(at, missed) if !blocked => {
                plan.actions.push(Action::Start { at, missed });
                status.last_schedule_time = Some(Time(at));
                floor = at;
                // To see the Run among those that are active, and to cancel those before it.
                wakes.push(now);
            }
            Due::TooLate(at, missed) => {
                plan.missed = Some((at, missed));
                status.since = Some(Time(at));
                floor = at;
            }
            Due::Start(..) | Due::Not => {}
        }
    }
    let reached = now.saturating_sub(times.jitter()).unwrap_or(Timestamp::MIN);
    let from = floor.max(reached);
    let coming = if suspended { Coming::Never } else { times.next(from) };
    wakes.extend(match coming {
        Coming::At(at) | Coming::AskAgain(at) => at.checked_add(times.jitter()).ok(),
        Coming::Never => None,
    });
    status.next_schedule_times = match coming {
        Coming::At(_) => times.upcoming(from, TOLD).into_iter().map(Time).collect(),
        Coming::AskAgain(_) | Coming::Never => Vec::new(),
    };
    plan.status = status;
    say(schedule, coming, &mut plan.status, now);
    plan.requeue = wakes.into_iter().min().map_or(Requeue::Rest, Requeue::At);
    plan
}

/// Up to when times are done with: it was made then, is resumed now, or has other times now. What lies ahead of a clock
/// that was put back does not count.
fn since(schedule: &Object<Schedule>, times: &Times, now: Timestamp) -> Timestamp {
    let status = &schedule.status;
    let resumed = Condition::holds(&status.conditions, SUSPENDED) && !schedule.spec.suspend;
    let changed = !status.times_hash.is_empty() && status.times_hash != times.hash;
    if resumed || changed {
        return now;
    }
    let made = schedule.metadata.creation_timestamp.map_or(now, |at| at.0);
    status.since.map_or(made, |at| at.0).min(now)
}

/// What the Runs that are there say of it.
fn of_runs(schedule: &Object<Schedule>, observed: &Observed) -> ScheduleStatus {
    let mut status = schedule.status.clone();
    status.observed_generation = schedule.metadata.generation;
    let mut active: Vec<&Arc<Object<Run>>> = observed.runs.iter().filter(|run| !run.status.is_over()).collect();
    active.sort_by_key(|run| began(run));
    status.active = active.into_iter().map(|run| ObjectReference::to(&**run)).collect();
    let succeeded = observed.runs.iter().filter(|run| Condition::holds(&run.status.conditions, COMPLETE));
    let last = succeeded.filter_map(|run| run.status.completion_time).max();
    status.last_successful_time = status.last_successful_time.max(last);
    status
}

/// The Runs that are beyond the limits of its history.
fn tidy(schedule: &Object<Schedule>, observed: &Observed, actions: &mut Vec<Action>) {
    let over = observed.runs.iter().filter(|run| run.status.is_over() && !run.metadata.is_deleting());
    let (succeeded, failed): (Vec<_>, Vec<_>) =
        over.cloned().partition(|run| Condition::holds(&run.status.conditions, COMPLETE));
    let spec = &schedule.spec;
    for (runs, keep) in [(succeeded, spec.successful_runs_history_limit), (failed, spec.failed_runs_history_limit)] {
        let ended = runs.into_iter().map(|run| (run.status.completion_time.map_or(began(&run).0, |at| at.0), run));
        actions.extend(surplus(ended.collect(), keep).into_iter().map(Action::Delete));
    }
}

/// Cancels the Runs whose time beside their successors is over, and says when that of others is.
fn replace(
    schedule: &Object<Schedule>,
    observed: &Observed,
    actions: &mut Vec<Action>,
    now: Timestamp,
) -> Vec<Timestamp> {
    let mut wakes = Vec::new();
    if schedule.spec.concurrency_policy != ConcurrencyPolicy::Replace {
        return wakes;
    }
    let grace = SignedDuration::try_from(schedule.spec.replace_grace.0).unwrap_or(SignedDuration::MAX);
    let mut runs: Vec<&Arc<Object<Run>>> = observed.runs.iter().collect();
    runs.sort_by_key(|run| began(run));
    for pair in runs.windows(2) {
        let (earlier, successor) = (pair[0], pair[1]);
        if earlier.status.is_over() || earlier.spec.cancel || earlier.metadata.is_deleting() {
            continue;
        }
        match began(successor).0.checked_add(grace) {
            Ok(end) if end <= now => actions.push(Action::Cancel(earlier.clone())),
            Ok(end) => wakes.push(end),
            Err(_) => {}
        }
    }
    wakes
}

/// When a Run was made; of one second, the one of the earlier time first.
fn began(run: &Object<Run>) -> (Timestamp, String) {
    let made = run.metadata.creation_timestamp.map_or(Timestamp::MIN, |at| at.0);
    (made, run.metadata.annotations.get(SCHEDULED_AT).unwrap_or_default().to_owned())
}

/// The conditions.
fn say(schedule: &Object<Schedule>, coming: Coming, status: &mut ScheduleStatus, now: Timestamp) {
    let (suspended, word) = match schedule.spec.suspend {
        true => (true, "Suspended"),
        false => (false, "Resumed"),
    };
    set(status, SUSPENDED, suspended, word, String::new(), schedule, now);
    let (ready, reason) = match coming {
        _ if suspended => (false, "Suspended"),
        Coming::Never => (false, "NoMoreTimes"),
        Coming::At(_) | Coming::AskAgain(_) => (true, "Waiting"),
    };
    set(status, READY, ready, reason, String::new(), schedule, now);
}

fn set(
    status: &mut ScheduleStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: String,
    schedule: &Object<Schedule>,
    now: Timestamp,
) {
    let condition = Condition {
        kind: kind.to_owned(),
        status: ConditionStatus::from(holds),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(now),
        observed_generation: Some(schedule.metadata.generation),
    };
    Condition::set(&mut status.conditions, condition);
}
