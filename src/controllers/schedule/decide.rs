//! What a pass does about one Schedule: pure.
//!
//! | | |
//! |---|---|
//! | suspended | nothing is started; when it is resumed, what was missed is not made up for |
//! | its times were changed | the new ones count from now on |
//! | a time is due | one Run, WorkflowRun or task, named for it; several that are due count as one, the last |
//! | it is too late for it | it is missed, and said to be |
//! | `Forbid`, and an earlier one goes on | it stays due |
//! | `Replace`, and an earlier one goes on | that is cancelled, `replaceGrace` after its successor began |
//! | a task was sent and nobody waits for it | it was that of a server that ended: it is lost |
//!
//! A time is never started twice, because `lastScheduleTime` never goes back: where the clock does, the next time is the first one that
//! lies behind it.

use std::{collections::BTreeSet, fmt};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{made::Made, tasks::MOST_UNDER_WAY};
use crate::{
    api::{ConcurrencyPolicy, Condition, Object, Schedule, ScheduleStatus, ScheduledTask, ScheduledTaskState, Time},
    policy::schedule::{COUNTED, Coming, Due, Times, surplus},
    runtime::{EventType, Requeue},
};

/// It waits for its next time.
const READY: &str = "Ready";
/// The reason of `Ready: False` while a Run or WorkflowRun is due that is refused.
const REFUSED: &str = "RunRefused";
/// Nothing is started.
const SUSPENDED: &str = "Suspended";
/// How long a time that was refused waits before it is tried again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// Times that the status tells beforehand.
const TOLD: usize = 3;

/// The world as one Schedule's pass sees it.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The Runs and WorkflowRuns that are there of it.
    pub(super) made: Vec<Made>,
    /// The times whose tasks are waited for.
    pub(super) under_way: BTreeSet<Timestamp>,
    /// The server's time zone.
    pub(super) zone: TimeZone,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Make the Run or WorkflowRun of a time, or send its task.
    Start {
        /// The time.
        at: Timestamp,
        /// How many times before it were missed and count as this one.
        missed: usize,
    },
    /// Cancel an earlier one.
    Cancel(Made),
    /// Forget one that ended.
    Delete(Made),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { at, .. } => write!(f, "start the run of {}", Time(*at)),
            Self::Cancel(made) => write!(f, "cancel {made} because its successor began"),
            Self::Delete(made) => write!(f, "delete {made} because newer ones ended"),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: ScheduleStatus,
    pub(super) requeue: Requeue,
    /// When the time after those that are due is.
    next: Option<Timestamp>,
    /// A time that is missed, and how many before it.
    missed: Option<(Timestamp, usize)>,
    /// The times whose tasks are lost.
    lost: Vec<Time>,
}

impl Plan {
    /// True if it starts something.
    pub(super) fn starts(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Start { .. }))
    }

    /// Nothing is started after all: it was refused. True if that is news.
    pub(super) fn refuse(&mut self, schedule: &Object<Schedule>, message: String, now: Timestamp) -> bool {
        self.actions.clear();
        self.status.last_schedule_time = schedule.status.last_schedule_time;
        self.status.tasks.clone_from(&schedule.status.tasks);
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

    /// When it is tried again after a refusal: soon, and not later than the next time, which may be taken.
    pub(super) fn again(&self, now: Timestamp) -> Timestamp {
        let soon = now.saturating_add(TRY_AGAIN).unwrap_or(Timestamp::MAX);
        self.next.map_or(soon, |next| next.min(soon))
    }

    /// What people are told of it.
    pub(super) fn told(&self, schedule: &Object<Schedule>) -> Vec<(EventType, &'static str, String)> {
        let made = match (&schedule.spec.workflow, &schedule.spec.task) {
            (Some(_), _) => "Made the workflow run",
            (_, Some(_)) => "Sent the task",
            _ => "Made the run",
        };
        let before = |count: usize, word: &str| match count {
            1 => format!("the {word}time before it"),
            COUNTED.. => format!("{COUNTED} or more {word}times before it"),
            count => format!("{count} {word}times before it"),
        };
        let mut told = Vec::new();
        for action in &self.actions {
            match action {
                Action::Start { at, missed: 0 } => {
                    told.push((EventType::Normal, "Started", format!("{made} of {}", Time(*at))));
                }
                Action::Start { at, missed } => {
                    let message = format!("{made} of {}, for {}, too", Time(*at), before(*missed, "missed "));
                    told.push((EventType::Warning, "Started", message));
                }
                Action::Cancel(made) => {
                    let message = format!("Cancelled {made}, whose successor began");
                    told.push((EventType::Normal, "Replaced", message));
                }
                Action::Delete(_) => {}
            }
        }
        if let Some((at, more)) = self.missed {
            let message = match more {
                0 => format!("It is too late to start the run of {}", Time(at)),
                more => format!("It is too late to start the run of {}, and of {}", Time(at), before(more, "")),
            };
            told.push((EventType::Warning, "Missed", message));
        }
        let lost = self.lost.iter().map(|at| (EventType::Warning, "TaskLost", format!("The task of {at}: {LOST}")));
        told.extend(lost);
        told
    }
}

/// The plan of one pass.
pub(super) fn decide(schedule: &Object<Schedule>, observed: &Observed, now: Timestamp) -> Plan {
    let mut status = schedule.status.clone();
    let lost = lose(&mut status.tasks, observed, now);
    let tasks = status.tasks.iter().cloned().map(Made::Task);
    let mut all: Vec<Made> = observed.made.iter().cloned().chain(tasks).collect();
    all.sort_by_cached_key(Made::began);
    add_up(schedule, &all, &mut status);
    let mut plan =
        Plan { actions: Vec::new(), status: status.clone(), requeue: Requeue::Rest, next: None, missed: None, lost };
    if schedule.metadata.is_deleting() {
        return plan;
    }
    tidy(schedule, &all, &mut status.tasks, &mut plan.actions);
    let times = match Times::of(&schedule.spec, &observed.zone, schedule.uid().as_str()) {
        Ok(times) => times,
        Err(why) => {
            set(&mut plan.status, READY, false, "UnknownTimes", why, schedule, now);
            return plan;
        }
    };
    let mut wakes = replace(schedule, &all, &mut plan.actions, now);
    let since = since(schedule, &times, now);
    let mut floor = since.max(status.last_schedule_time.map_or(Timestamp::MIN, |at| at.0));
    status.time_zone = times.zone.clone();
    status.times_hash = times.hash.clone();
    status.since = Some(Time(since));
    let suspended = schedule.spec.suspend;
    if !suspended {
        let going = all.iter().filter(|made| !made.is_over()).count();
        let sent = status.tasks.iter().filter(|task| task.state == ScheduledTaskState::Sent).count();
        let blocked = schedule.spec.concurrency_policy == ConcurrencyPolicy::Forbid && going > 0;
        let blocked = blocked || sent >= MOST_UNDER_WAY;
        match times.due(floor, now) {
            Due::Start(at, missed) if !blocked => {
                plan.actions.push(Action::Start { at, missed });
                status.last_schedule_time = Some(Time(at));
                status.tasks.extend(schedule.spec.task.as_ref().map(|task| sent_now(&task.app, at, now)));
                floor = at;
                // To see it among those that are active, and to cancel those before it.
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
    plan.next = match coming {
        Coming::At(at) | Coming::AskAgain(at) => at.checked_add(times.jitter()).ok(),
        Coming::Never => None,
    };
    wakes.extend(plan.next);
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

/// What is said of a task that is lost.
const LOST: &str = "the server ended before its result came; the work may have been done";

fn sent_now(app: &str, at: Timestamp, now: Timestamp) -> ScheduledTask {
    ScheduledTask {
        scheduled_time: Time(at),
        app: app.to_owned(),
        start_time: Time(now),
        state: ScheduledTaskState::Sent,
        finish_time: None,
        result: String::new(),
        message: String::new(),
    }
}

/// Those that nobody waits for any more.
fn lose(tasks: &mut [ScheduledTask], observed: &Observed, now: Timestamp) -> Vec<Time> {
    let sent = tasks.iter_mut().filter(|task| task.state == ScheduledTaskState::Sent);
    let lost = sent.filter(|task| !observed.under_way.contains(&task.scheduled_time.0));
    lost.map(|task| {
        (task.state, task.finish_time) = (ScheduledTaskState::Lost, Some(Time(now)));
        LOST.clone_into(&mut task.message);
        task.scheduled_time
    })
    .collect()
}

/// What those that are there say of it.
fn add_up(schedule: &Object<Schedule>, all: &[Made], status: &mut ScheduleStatus) {
    status.observed_generation = schedule.metadata.generation;
    status.active = all.iter().filter(|made| !made.is_over()).filter_map(Made::reference).collect();
    let last = all.iter().filter(|made| made.succeeded()).filter_map(Made::ended).max();
    status.last_successful_time = status.last_successful_time.max(last);
}

/// Those that are beyond the limits of its history.
fn tidy(schedule: &Object<Schedule>, all: &[Made], tasks: &mut Vec<ScheduledTask>, actions: &mut Vec<Action>) {
    let over = all.iter().filter(|made| made.is_over() && !made.is_deleting());
    let (succeeded, failed): (Vec<_>, Vec<_>) = over.cloned().partition(Made::succeeded);
    let spec = &schedule.spec;
    for (made, keep) in [(succeeded, spec.successful_runs_history_limit), (failed, spec.failed_runs_history_limit)] {
        let ended = made.into_iter().map(|made| (made.ended().map_or(made.began().0, |at| at.0), made));
        for gone in surplus(ended.collect(), keep) {
            match gone {
                Made::Task(gone) => tasks.retain(|task| *task != gone),
                gone => actions.push(Action::Delete(gone)),
            }
        }
    }
}

/// Cancels those whose time beside their successors is over, and says when that of others is.
fn replace(schedule: &Object<Schedule>, all: &[Made], actions: &mut Vec<Action>, now: Timestamp) -> Vec<Timestamp> {
    let mut wakes = Vec::new();
    if schedule.spec.concurrency_policy != ConcurrencyPolicy::Replace {
        return wakes;
    }
    let grace = SignedDuration::try_from(schedule.spec.replace_grace.0).unwrap_or(SignedDuration::MAX);
    for pair in all.windows(2) {
        let (earlier, successor) = (&pair[0], &pair[1]);
        if earlier.is_over() || earlier.is_cancelled() || earlier.is_deleting() {
            continue;
        }
        match successor.began().0.checked_add(grace) {
            Ok(end) if end <= now => actions.push(Action::Cancel(earlier.clone())),
            Ok(end) => wakes.push(end),
            Err(_) => {}
        }
    }
    wakes
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
    let condition = Condition::new(kind, holds, reason, message, Time(now)).of(schedule.metadata.generation);
    Condition::set(&mut status.conditions, condition);
}
