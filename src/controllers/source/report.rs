//! What is said of a Source: its status, of what was read, done and seen. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    decide::{Held, Plan, named, some},
    execute::Outcome,
    ledger::Ledger,
};
use crate::{
    api::{
        Condition, ConditionStatus, Key, Object, Source, SourceStatus, Time,
        source_condition::{CONFLICTED, DRIFTED, READY, STALLED, SUSPENDED},
    },
    policy::fleet::Fleet,
    runtime::Requeue,
};

/// Why what is there could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: String,
    pub(super) message: String,
    /// What was read, if it is what it says that is wrong.
    pub(super) revision: String,
}

/// Everything that a status is made of.
pub(super) struct Judged<'a> {
    pub(super) fleet: Option<&'a Fleet>,
    pub(super) revision: &'a str,
    pub(super) trouble: Option<&'a Trouble>,
    /// Why nothing is deleted, though everything could be read.
    pub(super) incomplete: Option<&'a str>,
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    /// What the server warned of.
    pub(super) warnings: &'a str,
    pub(super) ledger: &'a Ledger,
    pub(super) heard: &'a str,
}

struct Verdict {
    ready: ConditionStatus,
    stalled: bool,
    reason: String,
    message: String,
}

impl Verdict {
    fn not(reason: &str, message: impl Into<String>, stalled: bool) -> Self {
        Self { ready: ConditionStatus::False, stalled, reason: reason.to_owned(), message: message.into() }
    }
}

/// The status of a suspended Source.
pub(super) fn suspended(source: &Object<Source>, now: Timestamp) -> SourceStatus {
    let mut status = SourceStatus { observed_generation: source.metadata.generation, ..source.status.clone() };
    status.pending = None;
    let message = "it is suspended: nothing is read, and nothing changed";
    set(&mut status, source, READY, ConditionStatus::False, "Suspended", message, now);
    set(&mut status, source, SUSPENDED, ConditionStatus::True, "Suspended", message, now);
    status.conditions.retain(|condition| ![STALLED, CONFLICTED, DRIFTED].contains(&condition.kind.as_str()));
    status
}

/// The status of a Source, and when somebody has to look again if nothing happens before.
pub(super) fn status(source: &Object<Source>, judged: &Judged<'_>, now: Timestamp) -> (SourceStatus, Requeue) {
    let before = &source.status;
    let mut status = SourceStatus { observed_generation: source.metadata.generation, ..before.clone() };
    judged.heard.clone_into(&mut status.last_handled_sync);
    status.objects = judged.fleet.map_or(before.objects, |fleet| fleet.declared().len() as i64);
    let done = judged.fleet.is_some() && judged.plan.held.is_none() && *judged.outcome == Outcome::Done;
    if done {
        if !judged.plan.apply.is_empty() || !judged.plan.prune.is_empty() || before.last_applied_time.is_none() {
            status.last_applied_time = Some(Time(now));
        }
        judged.revision.clone_into(&mut status.last_applied_revision);
    }
    let attempted = judged.trouble.map_or(judged.revision, |trouble| &trouble.revision);
    let attempted = if attempted == status.last_applied_revision { "" } else { attempted };
    attempted.clone_into(&mut status.last_attempted_revision);
    let (verdict, requeue) = verdict(source, judged, &status, now);
    set(&mut status, source, READY, verdict.ready, &verdict.reason, &verdict.message, now);
    let stalled = verdict.stalled.then(|| (verdict.reason.as_str(), verdict.message.clone()));
    let conflicted = !judged.plan.conflicts.is_empty();
    let conflicted =
        conflicted.then(|| ("DeclaredTwice", some(judged.plan.conflicts.len(), judged.plan.conflicts.iter().cloned())));
    let drifted = drift(judged).map(|fields| ("ChangedByOthers", fields));
    for (kind, found) in [(STALLED, stalled), (CONFLICTED, conflicted), (DRIFTED, drifted)] {
        match found {
            Some((reason, message)) => set(&mut status, source, kind, ConditionStatus::True, reason, &message, now),
            None => status.conditions.retain(|condition| condition.kind != kind),
        }
    }
    status.conditions.retain(|condition| condition.kind != SUSPENDED);
    (status, requeue)
}

/// True if the one says nothing that the other does not, but what it still waits for.
pub(super) fn only_counts(before: &SourceStatus, after: &SourceStatus) -> bool {
    let without = |status: &SourceStatus| {
        let mut status = status.clone();
        let waiting = status.conditions.iter_mut().filter(|condition| condition.reason == "Progressing");
        waiting.for_each(|condition| condition.message.clear());
        status
    };
    before != after && without(before) == without(after)
}

/// `app default/web: spec.replicas, spec.env[0].value`
fn drift(judged: &Judged<'_>) -> Option<String> {
    let Judged { ledger, plan, .. } = judged;
    let changed = ledger.drifted.iter().map(|key| format!("{}: {}", named(key), ledger.drift(key).join(", ")));
    let gone = plan.gone.iter().map(|key| format!("{} was deleted", named(key)));
    let count = ledger.drifted.len() + plan.gone.len();
    (count > 0).then(|| some(count, changed.chain(gone)))
}

fn verdict(source: &Object<Source>, judged: &Judged<'_>, status: &SourceStatus, now: Timestamp) -> (Verdict, Requeue) {
    let later = |time: Timestamp, by: crate::api::GoDuration| {
        Requeue::At(
            time.saturating_add(jiff::SignedDuration::try_from(by.0).unwrap_or_default()).unwrap_or(Timestamp::MAX),
        )
    };
    if let Some(trouble) = judged.trouble {
        let stays = if status.last_applied_revision.is_empty() { "" } else { "; what was applied before stays" };
        let message = format!("{}{stays}", trouble.message);
        return (Verdict::not(&trouble.reason, message, !trouble.revision.is_empty()), Requeue::Rest);
    }
    let Some(fleet) = judged.fleet else {
        let verdict =
            Verdict { ready: ConditionStatus::Unknown, ..Verdict::not("Reading", "it was not read yet", false) };
        return (verdict, Requeue::Rest);
    };
    if let Some(Held { reason, message, stalled }) = &judged.plan.held {
        return (Verdict::not(reason, message.clone(), *stalled), Requeue::Rest);
    }
    if let Outcome::Refused(message) = judged.outcome {
        let message = format!("nothing was applied: {message}");
        return (Verdict::not("Refused", message, true), later(now, source.spec.interval));
    }
    let told =
        |all: &BTreeMap<Key, String>| some(all.len(), all.iter().map(|(key, why)| format!("{}: {why}", named(key))));
    let Ledger { failed, waiting, .. } = judged.ledger;
    if !failed.is_empty() {
        return (Verdict::not("Failed", told(failed), true), Requeue::Rest);
    }
    if !waiting.is_empty() {
        let since = status.last_applied_time.map_or(now, |time| time.0);
        let patience = jiff::SignedDuration::try_from(source.spec.timeout.0).unwrap_or_default();
        return match now.duration_since(since) < patience {
            true => (Verdict::not("Progressing", told(waiting), false), later(since, source.spec.timeout)),
            false => (Verdict::not("HealthTimeout", told(waiting), true), Requeue::Rest),
        };
    }
    let count = fleet.declared().len();
    let objects = if count == 1 { "1 object".to_owned() } else { format!("{count} objects") };
    let pruned = judged.incomplete.map(|why| format!("nothing is pruned: {why}"));
    let warned = Some(judged.warnings.to_owned()).filter(|warnings| !warnings.is_empty());
    let message = std::iter::once(objects).chain(pruned).chain(warned).collect::<Vec<_>>().join("; ");
    (Verdict { ready: ConditionStatus::True, stalled: false, reason: "Applied".to_owned(), message }, Requeue::Rest)
}

fn set(
    status: &mut SourceStatus,
    source: &Object<Source>,
    kind: &str,
    holds: ConditionStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let condition = Condition::new(kind, holds, reason, message, Time(now)).of(source.metadata.generation);
    Condition::set(&mut status.conditions, condition);
}
