//! What a Workflow says of its runs, and how many of them are kept.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Plan, memory::Memory};
use crate::{
    api::{
        COMPLETE, Condition, Key, Kind, LastRun, Object, Operation, OperationVerb, Preconditions, RUN_FAILED,
        StoredObject, WORKFLOW_LABEL, WorkState, Workflow, WorkflowRun, WorkflowRunStatus, WorkflowSpec,
    },
    policy::schedule::surplus,
    runtime::Caches,
};

/// The Workflow's word about its newest run, where this pass changes it: when a run begins, and when it ends.
pub(super) fn last_run(caches: &Caches, run: &Object<WorkflowRun>, plan: &Plan) -> Option<Operation> {
    let turned = run.status.start_time != plan.status.start_time || plan.status.is_over() && !run.status.is_over();
    if !turned {
        return None;
    }
    let key = Key::of::<Workflow>(&run.metadata.namespace, &run.spec.workflow);
    let workflow = caches.kind::<Workflow>().typed::<Workflow>(&key)?;
    let start_time = plan.status.start_time.or(plan.status.completion_time);
    let last = LastRun { name: run.metadata.name.clone(), state: state(&plan.status), start_time };
    let newer = |known: &LastRun| known.name != last.name && known.start_time > last.start_time;
    if workflow.status.last_run.as_ref().is_some_and(newer) {
        return None;
    }
    let mut status = workflow.status.clone();
    (status.last_run, status.observed_generation) = (Some(last), workflow.metadata.generation);
    let object = json!({
        "apiVersion": Workflow::INFO.api_version(), "kind": Workflow::INFO.kind,
        "metadata": {"namespace": workflow.metadata.namespace, "name": workflow.metadata.name},
        "status": status,
    });
    let mut operation = Operation::new(OperationVerb::Status, object);
    // Of a Workflow that something starts by itself, `appEvents` and `conditions` are the controller's of triggers: they are passed on as they
    // were seen, and only if they are that still. `lastRun` is written here alone.
    let on = &workflow.spec.on;
    let triggered = on.app_event.is_some() || !on.schedule.is_empty();
    let shared = triggered || workflow.status.app_events.is_some() || !workflow.status.conditions.is_empty();
    let resource_version = shared.then(|| workflow.metadata.resource_version.clone());
    operation.preconditions = Preconditions { uid: Some(workflow.uid().clone()), resource_version };
    Some(operation)
}

fn state(status: &WorkflowRunStatus) -> WorkState {
    let failed = Condition::find(&status.conditions, RUN_FAILED);
    match failed.filter(|_| Condition::holds(&status.conditions, RUN_FAILED)) {
        Some(failed) if failed.reason == super::pass::CANCELED => WorkState::Cancelled,
        Some(_) => WorkState::Failure,
        None if Condition::holds(&status.conditions, COMPLETE) => WorkState::Success,
        None => WorkState::Running,
    }
}

/// When a run that is over goes for its age.
pub(super) fn expires(caches: &Caches, run: &Object<WorkflowRun>) -> Option<Timestamp> {
    let key = Key::of::<Workflow>(&run.metadata.namespace, &run.spec.workflow);
    kept_until(&caches.kind::<Workflow>().typed::<Workflow>(&key)?.spec, run.status.completion_time?.0)
}

fn kept_until(workflow: &WorkflowSpec, end: Timestamp) -> Option<Timestamp> {
    let days = workflow.runs_retention_days?;
    end.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()
}

/// The runs of the same Workflow that are beyond the limit of its history, or older than it says, now that one has ended.
pub(super) fn beyond(caches: &Caches, memory: &Memory, run: &Object<WorkflowRun>, now: Timestamp) -> Vec<Operation> {
    let key = Key::of::<Workflow>(&run.metadata.namespace, &run.spec.workflow);
    let Some(workflow) = caches.kind::<Workflow>().typed::<Workflow>(&key) else { return Vec::new() };
    let all = caches.kind::<WorkflowRun>().list();
    let same = all.iter().filter(|other| {
        let meta = other.meta();
        *other.key.namespace == *run.metadata.namespace
            && meta.labels.get(WORKFLOW_LABEL) == Some(run.spec.workflow.as_str())
            // Those of steps go with the runs that made them.
            && meta.controller().is_none_or(|owner| owner.kind != WorkflowRun::INFO.kind)
    });
    let kept = same.filter(|other| !other.meta().is_deleting());
    let ended = kept.filter_map(|other| Some((memory.ended(other, now)?, other)));
    let is_old = |at: Timestamp| kept_until(&workflow.spec, at).is_some_and(|until| until <= now);
    let (old, young): (Vec<_>, Vec<_>) = ended.partition(|(at, _)| is_old(*at));
    let old = old.into_iter().map(|(_, run)| run);
    old.chain(surplus(young, workflow.spec.runs_history_limit)).map(|run| delete(run)).collect()
}

fn delete(run: &StoredObject) -> Operation {
    let object: Value = json!({
        "apiVersion": WorkflowRun::INFO.api_version(), "kind": WorkflowRun::INFO.kind,
        "metadata": {"namespace": run.meta().namespace, "name": run.meta().name},
    });
    let mut operation = Operation::new(OperationVerb::Delete, object);
    operation.preconditions.uid = run.meta().uid.clone();
    operation
}
