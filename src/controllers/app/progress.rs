//! How far a rollout is: whether it moves, has arrived, or has not moved for too long.
//!
//! As with a Deployment, a rollout that has arrived stays so: what becomes of its instances later is told by `Ready` and
//! `Available`. The deadline counts from the last time that the rollout came nearer to its end than ever before (an instance that
//! crashes, is ready for a moment and crashes again moves nothing), and never from before this daemon was there to see it.

use jiff::{SignedDuration, Timestamp};

use super::{revision::Held, status::Counts};
use crate::{
    api::{App, ConditionStatus, Time},
    policy::restart::CRASH_LOOPING,
};

/// The reason of `Progressing` when everything has arrived.
pub(super) const ARRIVED: &str = "RevisionAvailable";
/// The reason of `Progressing` when nothing came nearer for `progressDeadlineSeconds`.
pub(super) const DEADLINE: &str = "ProgressDeadlineExceeded";
/// The reason of `Progressing` when the App is paused.
pub(super) const PAUSED: &str = "Paused";
/// The condition, and the reason of `Progressing`, of an App whose template was rolled back.
pub(super) const ROLLED_BACK: &str = "RolledBack";

/// What is known of a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Progress {
    /// True if every instance is of the current revision and available, now.
    pub(super) done: bool,
    /// When it last moved, while it is on its way.
    pub(super) since: Option<Timestamp>,
    /// How near it came since it began, as `AppStatus::progress_count` has it.
    pub(super) count: i32,
    /// When it must have moved again.
    pub(super) deadline: Option<Timestamp>,
    pub(super) status: ConditionStatus,
    pub(super) reason: &'static str,
}

impl Progress {
    /// True if the deadline has passed.
    pub(super) fn is_late(&self) -> bool {
        self.reason == DEADLINE
    }
}

/// Judges the rollout to `revision`. `seen_since` is when this daemon began to look.
pub(super) fn progress(
    app: &App,
    revision: Option<&str>,
    held: Option<Held>,
    counts: &Counts,
    seen_since: Timestamp,
    now: Timestamp,
) -> Progress {
    let before = &app.status;
    let only_new = counts.old == 0 && counts.updated == counts.wanted;
    let done = held.is_none() && only_new && counts.updated_available + counts.finished >= counts.wanted;
    let arrived = done || (counts.old == 0 && revision == Some(before.current_revision.as_str()));
    let at_rest = |status, reason| Progress { done, since: None, count: 0, deadline: None, status, reason };
    match held {
        Some(Held::Paused) => return at_rest(ConditionStatus::Unknown, PAUSED),
        Some(Held::RolledBack) => return at_rest(ConditionStatus::False, ROLLED_BACK),
        None if arrived && counts.crash_looping => return at_rest(ConditionStatus::False, CRASH_LOOPING),
        None if arrived => return at_rest(ConditionStatus::True, ARRIVED),
        None if app.spec.suspend => return at_rest(ConditionStatus::True, "Suspended"),
        // Not late: the time that others take is not its own.
        None if counts.waiting > 0 => return at_rest(ConditionStatus::True, "Waiting"),
        None => {}
    }
    let begins = revision != Some(before.update_revision.as_str());
    let farthest = if begins { 0 } else { before.progress_count };
    let count = farthest.max(counts.updated_ready + counts.updated_available);
    let moved = begins
        || count > farthest
        || counts.updated > before.updated_replicas
        || counts.old < before.replicas - before.updated_replicas;
    let since = before.progress_time.filter(|_| !moved).map_or(now, |Time(at)| at.min(now));
    let deadline = since.max(seen_since) + SignedDuration::from_secs(i64::from(app.spec.progress_deadline_seconds));
    let (status, reason) = match deadline <= now {
        true => (ConditionStatus::False, DEADLINE),
        false if counts.crash_looping => (ConditionStatus::False, CRASH_LOOPING),
        false => (ConditionStatus::True, "Updating"),
    };
    Progress { done, since: Some(since), count, deadline: Some(deadline).filter(|at| *at > now), status, reason }
}
