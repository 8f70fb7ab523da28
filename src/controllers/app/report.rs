//! Tells people what a pass did, as Events of the App: one for each reason, however many instances it was done to.
//!
//! What becomes of an Instance is told by the agent, as Events of the Instance; a new App's first instances need no more words.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Action, Plan,
    progress::{DEADLINE, PAUSED},
    quota::{self, FAILED_CREATE},
    revision::Change,
};
use crate::{
    api::{App, AppStatus, Condition, OVER_QUOTA, Object, ObjectReference, Status},
    runtime::{EventType, Reporter},
};

/// Names in one sentence.
const NAMED: usize = 3;

/// Records the Events of a pass that was done.
pub(super) fn report(events: &Reporter, app: &Object<App>, plan: &Plan, now: Timestamp) {
    for (kind, reason, message) in told(app, plan) {
        events.record(ObjectReference::to(app), kind, reason, message, now);
    }
}

/// Records that a quota has no room for something else than new Instances: larger limits of those that run, say. It is tried again.
pub(super) fn refused(events: &Reporter, app: &Object<App>, status: &Status, now: Timestamp) {
    events.record(ObjectReference::to(app), EventType::Warning, OVER_QUOTA, status.message.clone(), now);
}

type Told = (EventType, &'static str, String);

fn told(app: &Object<App>, plan: &Plan) -> Vec<Told> {
    let is_new = app.status.observed_generation == 0;
    let mut told: Vec<Told> = Vec::new();
    let mut instances: BTreeMap<(&'static str, &'static str, &'static str), Vec<&str>> = BTreeMap::new();
    for action in &plan.actions {
        let (reason, verb, instance, because) = match action {
            Action::CreateInstance { instance, because } => ("CreatedInstance", "Created", &**instance, *because),
            Action::UpdateInstance { instance, because, .. } => ("UpdatedInstance", "Updated", &**instance, *because),
            Action::DeleteInstance { instance, because } => ("DeletedInstance", "Deleted", &**instance, *because),
            action => {
                told.extend(alone(action));
                continue;
            }
        };
        if !is_new {
            instances.entry((reason, verb, because)).or_default().push(&instance.metadata.name);
        }
    }
    let grouped = instances.into_iter().map(|((reason, verb, because), names)| {
        let message = format!("{verb} {} because {because}", listed(&names));
        (EventType::Normal, reason, message)
    });
    told.extend(grouped);
    told.extend(turned(&app.status, &plan.status));
    let failure = quota::failure(&plan.status).filter(|why| quota::failure(&app.status) != Some(why));
    told.extend(failure.map(|why| (EventType::Warning, FAILED_CREATE, why.to_owned())));
    told
}

/// `instance a`, `instances a, b`, `instances a, b, c and 4 more`
fn listed(names: &[&str]) -> String {
    let word = if names.len() == 1 { "instance" } else { "instances" };
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{word} {}{more}", names[..names.len().min(NAMED)].join(", "))
}

fn alone(action: &Action) -> Option<Told> {
    let sentence = |verb: &str| {
        let text = action.to_string();
        let rest = text.split_once(' ').map_or("", |(_, rest)| rest);
        format!("{verb} {rest}")
    };
    Some(match action {
        Action::CreateRevision { number: 2.., .. } => (EventType::Normal, "CreatedRevision", sentence("Created")),
        Action::UpdateRevision { revision, change: Change::Current { number, .. } } if *number != revision.revision => {
            (EventType::Normal, "RaisedRevision", sentence("Raised"))
        }
        Action::RollBack { .. } => (EventType::Warning, "RolledBack", sentence("Rolled")),
        Action::DeleteApp { .. } => (EventType::Normal, "Removed", sentence("Deleted")),
        _ => return None,
    })
}

/// What is different from before.
fn turned(before: &AppStatus, after: &AppStatus) -> Option<Told> {
    let progressing = |status: &AppStatus| {
        let condition = Condition::find(&status.conditions, "Progressing");
        condition.map(|c| (c.reason.clone(), c.message.clone())).unwrap_or_default()
    };
    let ((was, _), (is, message)) = (progressing(before), progressing(after));
    let revision = &after.current_revision;
    if !before.current_revision.is_empty() && before.current_revision != *revision {
        let message =
            format!("Revision {revision} is rolled out: {} instances are available", after.available_replicas);
        return Some((EventType::Normal, "RolledOut", message));
    }
    match (was.as_str(), is.as_str()) {
        (was, is) if was == is => None,
        (_, DEADLINE) => Some((EventType::Warning, DEADLINE, message)),
        (_, PAUSED) => {
            Some((EventType::Normal, PAUSED, "The template is not rolled out until the app is resumed".into()))
        }
        (PAUSED, _) => Some((EventType::Normal, "Resumed", "The template is rolled out again".into())),
        _ => None,
    }
}
