//! Whose turn it is: of all runs of a concurrency group one goes on at a time.
//!
//! A run holds its group from its beginning to its end. Whoever comes while another holds it waits, in the order in which they came,
//! or has the holder cancelled, if the Workflow says so. The group of a run is a function of what was settled when it was made.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    scope::{Here, NOTHING_YET},
    turns,
};
use crate::api::{Concurrency, ConcurrencyQueue, Object, WorkflowRun, WorkflowSpec};

/// Runs that may wait for one group.
pub(super) const LONGEST_QUEUE: usize = 100;

/// Whether a run may begin.
pub(super) enum Turn {
    /// It may.
    Now {
        /// Those that are cancelled for it.
        instead_of: Vec<Arc<Object<WorkflowRun>>>,
    },
    /// Not yet.
    Waits {
        /// What for.
        message: String,
        /// How long at most.
        until: Option<Timestamp>,
        /// Those that are cancelled for it.
        instead_of: Vec<Arc<Object<WorkflowRun>>>,
    },
    /// It will not.
    Never {
        /// In a word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
}

/// The group of a run, if it has one.
///
/// # Errors
/// If its expressions cannot be evaluated.
fn group(run: &Object<WorkflowRun>, template: &WorkflowSpec) -> Result<Option<String>, String> {
    let Some(concurrency) = &template.concurrency else { return Ok(None) };
    let (ended, runs) = (BTreeMap::new(), BTreeMap::new());
    let here = Here { run, ended: &ended, runs: &runs, job: None, told: NOTHING_YET, there: false };
    here.text(&concurrency.group).map(Some).map_err(|why| format!("concurrency.group: {why}"))
}

/// What a run as a whole says of a group, and which it is.
pub(super) fn wanted(run: &Object<WorkflowRun>) -> Option<(&Concurrency, String)> {
    let template = run.spec.template.as_deref()?;
    Some((template.concurrency.as_ref()?, group(run, template).ok()??))
}

/// Whether what goes on is to end for a run.
///
/// # Errors
/// If that cannot be evaluated.
pub(super) fn cancels(run: &Object<WorkflowRun>, said: &Concurrency) -> Result<bool, String> {
    let (ended, runs) = (BTreeMap::new(), BTreeMap::new());
    let here = Here { run, ended: &ended, runs: &runs, job: None, told: NOTHING_YET, there: false };
    here.flag(said.cancel_in_progress.as_ref()).map_err(|why| format!("cancel-in-progress: {why}"))
}

fn came(run: &Object<WorkflowRun>) -> (Timestamp, &str) {
    (run.metadata.creation_timestamp.map_or(Timestamp::MIN, |at| at.0), &run.metadata.name)
}

/// Whether a run may begin. `others` are those of its namespace that have not ended.
pub(super) fn turn(
    run: &Object<WorkflowRun>,
    template: &WorkflowSpec,
    others: &[Arc<Object<WorkflowRun>>],
    now: Timestamp,
) -> Result<Turn, String> {
    let Some(concurrency) = &template.concurrency else { return Ok(Turn::Now { instead_of: Vec::new() }) };
    let own = group(run, template)?;
    let same = |other: &&Arc<Object<WorkflowRun>>| {
        let theirs = other.spec.template.as_deref().and_then(|template| group(other, template).ok()?);
        other.uid() != run.uid() && theirs == own
    };
    let same: Vec<&Arc<Object<WorkflowRun>>> = others.iter().filter(same).collect();
    let holders: Vec<_> = same.iter().filter(|other| other.status.start_time.is_some()).collect();
    let mut before: Vec<_> =
        same.iter().filter(|other| other.status.start_time.is_none() && came(other) < came(run)).collect();
    let going = |other: &&&&Arc<Object<WorkflowRun>>| other.spec.cancel.is_none();
    let mut instead_of = Vec::new();
    let (ended, runs) = (BTreeMap::new(), BTreeMap::new());
    let here = Here { run, ended: &ended, runs: &runs, job: None, told: NOTHING_YET, there: false };
    if cancels(run, concurrency)? {
        instead_of.extend(holders.iter().filter(going).map(|other| (**other).clone()));
    }
    if concurrency.queue == ConcurrencyQueue::Single {
        instead_of.extend(before.iter().filter(going).map(|other| (**other).clone()));
        before.clear();
    }
    let ahead = holders.first().or(before.first()).map(|run| run.metadata.name.to_string());
    // A job that is to end for it sees that by itself.
    let job = |other: &Arc<Object<WorkflowRun>>| turns::job_before(other, own.as_deref()?, came(run).0);
    let Some(ahead) = ahead.or_else(|| others.iter().find_map(job)) else { return Ok(Turn::Now { instead_of }) };
    if before.len() >= LONGEST_QUEUE {
        let message = format!("{LONGEST_QUEUE} others wait for the group already");
        return Ok(Turn::Never { reason: "QueueFull", message });
    }
    let minutes = here.number(template.queue_timeout_minutes.as_ref());
    let minutes = minutes.map_err(|why| format!("queue-timeout-minutes: {why}"))?;
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range is taken to it")]
    let until = minutes.map(|minutes| {
        let length = jiff::SignedDuration::from_millis((minutes * 60_000.0) as i64);
        came(run).0.checked_add(length).unwrap_or(Timestamp::MAX)
    });
    if until.is_some_and(|until| until <= now) {
        let message = "it waited for its turn as long as it may".to_owned();
        return Ok(Turn::Never { reason: "QueueTimeout", message });
    }
    let message = format!("waits for {ahead}, which is of the same group");
    Ok(Turn::Waits { message, until, instead_of })
}
