//! Tells people what a pass did, as Events of the Run. That it was made and went well is no news.

use jiff::Timestamp;

use super::{Action, Plan, decide::UNSCHEDULABLE};
use crate::{
    api::{Condition, OVER_QUOTA, Object, ObjectReference, RUN_FAILED, RUN_SUSPENDED, RUNNING, Run},
    runtime::{EventType, Reporter},
};

/// Records the Events of a pass that was done.
pub(in crate::controllers) fn report(events: &Reporter, run: &Object<Run>, plan: &Plan, now: Timestamp) {
    for (kind, reason, message) in told(run, plan) {
        events.record(ObjectReference::to(run), kind, reason, message, now);
    }
}

fn told(run: &Object<Run>, plan: &Plan) -> Vec<(EventType, &'static str, String)> {
    let mut told = Vec::new();
    for action in &plan.actions {
        match action {
            Action::StopInstance { because, .. } => {
                told.push((EventType::Normal, "Stopping", format!("Stopping the attempt: {because}")));
            }
            Action::CreateInstance { instance, .. } if run.status.attempts > 0 => {
                told.push((EventType::Normal, "Retried", format!("Tried again as {}", instance.metadata.name)));
            }
            _ => {}
        }
    }
    if let Some(failed) = Condition::find(&plan.status.conditions, RUN_FAILED)
        && !run.status.is_over()
    {
        told.push((EventType::Warning, "Failed", format!("{}: {}", failed.reason, failed.message)));
    }
    let suspended = |conditions: &[Condition]| Condition::holds(conditions, RUN_SUSPENDED);
    match (suspended(&run.status.conditions), suspended(&plan.status.conditions)) {
        (false, true) => told.push((EventType::Normal, "Suspended", "Nothing runs until it is resumed".to_owned())),
        (true, false) => told.push((EventType::Normal, "Resumed", "It goes on".to_owned())),
        _ => {}
    }
    for (waits, event) in [(UNSCHEDULABLE, UNSCHEDULABLE), (OVER_QUOTA, "FailedCreate")] {
        let waiting =
            |conditions| Condition::find(conditions, RUNNING).filter(|c: &&Condition| c.reason == waits).cloned();
        if let (Some(now), None) = (waiting(&plan.status.conditions), waiting(&run.status.conditions)) {
            told.push((EventType::Warning, event, now.message));
        }
    }
    told
}
