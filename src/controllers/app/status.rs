//! What an App's status says of its Instances.

use jiff::Timestamp;

use super::Observed;
use crate::{
    api::{App, AppStatus, Condition, ConditionStatus, Instance, Object, Time},
    policy::restart::{COMPLETED, CRASH_LOOPING, STOPPED},
};

/// The counts that everything else follows from.
struct Counts {
    wanted: i32,
    there: i32,
    ready: i32,
    updated: i32,
    finished: i32,
}

/// The status of `app`, whose current Revision is called `revision`. Equal inputs but for `now` give equal statuses:
/// a time is written only where a condition flips.
pub(super) fn status(app: &Object<App>, observed: &Observed, revision: &str, now: Timestamp) -> AppStatus {
    let there: Vec<&Object<Instance>> =
        observed.instances.iter().map(AsRef::as_ref).filter(|i| !i.metadata.is_deleting()).collect();
    let count = |pick: &dyn Fn(&Object<Instance>) -> bool| there.iter().filter(|i| pick(i)).count() as i32;
    let counts = Counts {
        wanted: app.spec.replicas,
        there: there.len() as i32,
        ready: count(&|i| Condition::holds(&i.status.conditions, "Ready")),
        updated: count(&|i| i.spec.revision == revision),
        finished: count(&|i| exited(i).is_some_and(|reason| [COMPLETED, STOPPED].contains(&reason))),
    };
    let settled = counts.updated == counts.wanted && observed.instances.iter().all(|i| i.spec.revision == revision);
    let before = &app.status;
    let current = if settled || before.current_revision.is_empty() { revision } else { &before.current_revision };
    let mut status = AppStatus {
        observed_generation: app.metadata.generation,
        replicas: counts.there,
        ready_replicas: counts.ready,
        updated_replicas: counts.updated,
        available_replicas: counts.ready,
        restarts: there.iter().map(|i| i64::from(i.status.restarts)).sum(),
        current_revision: current.to_owned(),
        update_revision: revision.to_owned(),
        selector: format!("{}={}", crate::api::APP_LABEL, app.metadata.name),
        conditions: before.conditions.clone(),
    };
    let ready = ready(app, observed, &counts, &there);
    let available = counts.ready >= counts.wanted - 1 && (counts.ready > 0 || counts.wanted == 0);
    let conditions = [
        ("Available", available, if available { "Available" } else { "TooFewReady" }.to_owned(), counts.ready_of()),
        progressing(&counts, &ready, settled),
        ("Ready", ready.0, ready.1, ready.2),
        suspended(app),
    ];
    for (kind, holds, reason, message) in conditions {
        let condition = Condition {
            kind: kind.to_owned(),
            status: ConditionStatus::from(holds),
            reason,
            message,
            last_transition_time: Time(now),
            observed_generation: Some(app.metadata.generation),
        };
        Condition::set(&mut status.conditions, condition);
    }
    status
}

impl Counts {
    fn ready_of(&self) -> String {
        format!("{} of {} instances are ready", self.ready, self.wanted)
    }
}

fn exited(instance: &Instance) -> Option<&str> {
    instance.status.state.exited.as_ref().map(|e| e.reason.as_str())
}

fn suspended(app: &App) -> (&'static str, bool, String, String) {
    match app.spec.suspend {
        true => ("Suspended", true, "Suspended".to_owned(), "nothing runs until the app is resumed".to_owned()),
        false => ("Suspended", false, "Active".to_owned(), String::new()),
    }
}

/// As a Deployment: true while it moves and when it has arrived, false when only somebody's doing can help.
fn progressing(counts: &Counts, ready: &(bool, String, String), settled: bool) -> (&'static str, bool, String, String) {
    let (holds, reason) = match ready.1.as_str() {
        CRASH_LOOPING => (false, CRASH_LOOPING),
        _ if settled && ready.0 => (true, "RevisionAvailable"),
        _ if !settled => (true, "Updating"),
        _ => (true, "Waiting"),
    };
    let message = format!("{} of {} instances are of the current revision", counts.updated, counts.wanted);
    ("Progressing", holds, reason.to_owned(), message)
}

/// Whether everything wanted serves, in the current revision; otherwise the reason that most needs somebody's eyes.
fn ready(app: &App, observed: &Observed, counts: &Counts, there: &[&Object<Instance>]) -> (bool, String, String) {
    let ready_of = counts.ready_of();
    let no = |reason: &str, message: String| (false, reason.to_owned(), message);
    if app.spec.suspend {
        return no("Suspended", "the app is suspended".to_owned());
    }
    if counts.wanted == 0 {
        return (true, "NoReplicas".to_owned(), "no instances are wanted".to_owned());
    }
    if counts.ready >= counts.wanted && counts.updated >= counts.wanted {
        return (true, "AllReady".to_owned(), ready_of);
    }
    if observed.leftovers > 0 {
        return no("Waiting", "what is left of a former app of this name must end first".to_owned());
    }
    if observed.node.is_none() && counts.there < counts.wanted {
        return no("Pending", "no node is ready".to_owned());
    }
    if let Some((reason, message)) = there.iter().filter_map(|i| trouble(i)).min_by_key(|t| t.0).map(|t| (t.1, t.2)) {
        return no(&reason, format!("{ready_of}; {message}"));
    }
    if counts.finished > 0 && counts.finished + counts.ready >= counts.wanted && counts.updated >= counts.wanted {
        return no(COMPLETED, format!("{} of {} instances have completed", counts.finished, counts.wanted));
    }
    if counts.updated < counts.there {
        return no("Updating", ready_of);
    }
    no("Starting", ready_of)
}

/// What is wrong with an Instance, the worst first.
fn trouble(instance: &Object<Instance>) -> Option<(u8, String, String)> {
    let state = &instance.status.state;
    let (rank, reason, message) = match (&state.exited, &state.waiting) {
        (Some(exited), _) => {
            let rank = match exited.reason.as_str() {
                CRASH_LOOPING => 0,
                COMPLETED | STOPPED | "Suspended" => return None,
                _ => 3,
            };
            (rank, &exited.reason, &exited.message)
        }
        (None, Some(waiting)) => {
            let rank = match waiting.reason.as_str() {
                "StartFailed" => 1,
                "BackOff" => 2,
                _ => return None,
            };
            (rank, &waiting.reason, &waiting.message)
        }
        (None, None) => return None,
    };
    Some((rank, reason.clone(), format!("{}: {message}", instance.metadata.name)))
}
