//! What there is to tell of a Source: what is so now and was not when somebody was last told.
//!
//! It is compared with what was noted ([`Noted`]), not with the status of before: a server that has just begun says for a moment that it
//! knows nothing, and what is as it was before is then nothing new.

use crate::api::{
    Condition, ConditionStatus, Noted, PendingNotification, SourceEvent, SourceNotification, SourceStatus, Time,
    source_condition::{DRIFTED, READY, STALLED},
};

/// As much as is kept for who cannot be told; the oldest goes.
pub const MOST_PENDING: usize = 32;
/// Reasons of a Source that knows nothing for now, or does nothing: nothing that was noted is over by that.
const NOTHING_KNOWN: &[&str] = &["Reading", "DependencyNotReady", "Suspended"];
/// The reason of a plan that waits for somebody's leave.
const APPROVAL: &str = "AwaitingApproval";

/// Notes what is new in a status, and who is to be told: all that is still to be told is in the status then.
pub fn note(status: &mut SourceStatus, to: &[SourceNotification], uid: &str, now: Time) {
    if to.is_empty() {
        // Who comes later is told how it is then.
        status.notifications.clear();
        status.noted = None;
        return;
    }
    let known = |name: &String| to.iter().any(|one| one.name == *name);
    for pending in &mut status.notifications {
        pending.receivers.retain(known);
    }
    let mut noted = status.noted.clone().unwrap_or_default();
    let new = news(status, &mut noted);
    for (event, reason, message) in new {
        noted.count += 1;
        let wants = |one: &&SourceNotification| one.events.is_empty() || one.events.contains(&event);
        status.notifications.push(PendingNotification {
            id: format!("{uid}-{}", noted.count),
            event,
            time: now,
            reason,
            message,
            revision: status.last_applied_revision.clone(),
            receivers: to.iter().filter(wants).map(|one| one.name.clone()).collect(),
        });
    }
    status.notifications.retain(|pending| !pending.receivers.is_empty());
    let over = status.notifications.len().saturating_sub(MOST_PENDING);
    status.notifications.drain(..over);
    status.noted = (noted != Noted::default()).then_some(noted);
}

type News = (SourceEvent, String, String);

fn news(status: &SourceStatus, noted: &mut Noted) -> Vec<News> {
    let mut all = Vec::new();
    let Some(ready) = Condition::find(&status.conditions, READY) else { return all };
    if NOTHING_KNOWN.contains(&ready.reason.as_str()) {
        return all;
    }
    let applied = &status.last_applied_revision;
    if !applied.is_empty() && noted.applied != *applied {
        applied.clone_into(&mut noted.applied);
        noted.ready.clear();
        all.push((SourceEvent::Applied, "Applied".to_owned(), format!("{applied} is applied")));
    }
    let (now, event) = match (ready.status, ready.reason.as_str()) {
        (ConditionStatus::True, _) => ("Healthy".to_owned(), SourceEvent::Healthy),
        // Nobody can tell yet.
        (_, "Progressing") | (ConditionStatus::Unknown, _) => (noted.ready.clone(), SourceEvent::Healthy),
        (_, reason @ ("Failed" | "HealthTimeout")) => (reason.to_owned(), SourceEvent::Unhealthy),
        (_, APPROVAL) => (format!("{APPROVAL} {}", ready.message), SourceEvent::ApprovalNeeded),
        (_, reason) => (format!("{reason} {}", status.last_attempted_revision), SourceEvent::Failed),
    };
    if noted.ready != now {
        noted.ready = now;
        all.push((event, ready.reason.clone(), ready.message.clone()));
    }
    for (kind, noted, event) in
        [(STALLED, &mut noted.stalled, SourceEvent::Stalled), (DRIFTED, &mut noted.drifted, SourceEvent::Drifted)]
    {
        let found = Condition::find(&status.conditions, kind).filter(|found| found.status == ConditionStatus::True);
        let now = found.map_or("", |found| found.reason.as_str());
        if noted != now {
            now.clone_into(noted);
            all.extend(found.map(|found| (event, found.reason.clone(), found.message.clone())));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).expect("a time"))
    }

    fn all() -> Vec<SourceNotification> {
        let one = |name: &str, events: &[SourceEvent]| SourceNotification {
            name: name.to_owned(),
            url: "https://example.org".to_owned(),
            events: events.to_vec(),
            secret_ref: None,
        };
        vec![one("all", &[]), one("bad", &[SourceEvent::Failed, SourceEvent::Unhealthy])]
    }

    /// What is told, `EVENT to WHOM`, when the status says these, one after the other.
    fn told(steps: &[(&str, ConditionStatus, &str, &[&str])]) -> Vec<Vec<String>> {
        let mut status = SourceStatus::default();
        let mut each = Vec::new();
        for (i, (revision, holds, reason, more)) in steps.iter().enumerate() {
            (*revision).clone_into(&mut status.last_applied_revision);
            let condition =
                |kind: &str, holds: ConditionStatus, reason: &str| Condition::new(kind, holds, reason, "why", at(0));
            status.conditions = vec![condition(READY, *holds, reason)];
            status.conditions.extend(more.iter().map(|kind| condition(kind, ConditionStatus::True, "Because")));
            note(&mut status, &all(), "uid", at(i as i64));
            let said = |one: &PendingNotification| format!("{:?} {} to {}", one.event, one.id, one.receivers.join("+"));
            each.push(status.notifications.iter().map(said).collect());
            status.notifications.clear();
        }
        each
    }

    const YES: ConditionStatus = ConditionStatus::True;
    const NO: ConditionStatus = ConditionStatus::False;

    #[test]
    fn what_is_new_is_told_once_and_what_goes_on_is_not_told_again() {
        let steps = told(&[
            ("", ConditionStatus::Unknown, "Reading", &[]),
            ("a", NO, "Progressing", &[]),
            ("a", YES, "Applied", &[]),
            ("a", YES, "Applied", &[]),
            // A server begins anew.
            ("a", ConditionStatus::Unknown, "Reading", &[]),
            ("a", YES, "Applied", &[]),
            ("a", NO, "InvalidManifest", &[STALLED]),
            ("a", ConditionStatus::Unknown, "Reading", &[]),
            ("a", NO, "InvalidManifest", &[STALLED]),
            ("b", YES, "Applied", &[DRIFTED]),
            ("b", NO, "HealthTimeout", &[STALLED, DRIFTED]),
            ("b", YES, "Applied", &[]),
            ("b", NO, "AwaitingApproval", &[STALLED]),
        ]);
        let steps: Vec<String> = steps.iter().map(|step| step.join(", ")).collect();
        assert_eq!(
            steps,
            [
                "",
                "Applied uid-1 to all",
                "Healthy uid-2 to all",
                "",
                "",
                "",
                "Failed uid-3 to all+bad, Stalled uid-4 to all",
                "",
                "",
                "Applied uid-5 to all, Healthy uid-6 to all, Drifted uid-7 to all",
                "Unhealthy uid-8 to all+bad, Stalled uid-9 to all",
                "Healthy uid-10 to all",
                "ApprovalNeeded uid-11 to all, Stalled uid-12 to all",
            ]
        );
    }

    #[test]
    fn who_cannot_be_told_does_not_make_the_status_grow() {
        let mut status = SourceStatus::default();
        for i in 0..100 {
            status.last_applied_revision = i.to_string();
            status.conditions = vec![Condition::new(READY, YES, "Applied", "", at(0))];
            note(&mut status, &all(), "uid", at(i));
        }
        assert_eq!(status.notifications.len(), MOST_PENDING);
        assert_eq!(status.notifications.last().map(|last| last.id.as_str()), Some("uid-200"));
        // Whoever is no longer to be told is not waited for.
        note(&mut status, &[], "uid", at(200));
        assert_eq!(status.notifications, []);
    }
}
