//! Does what a plan says, in one transaction.

use serde_json::json;

use super::{
    MANAGER,
    decide::{Action, Plan},
    made::Made,
    tasks::Tasks,
};
use crate::{
    api::{
        CancelMode, Durability, EventName, Key, Kind, Object, Operation, OperationVerb, OwnerReference, Reason, Run,
        SCHEDULE_LABEL, SCHEDULED_AT, Schedule, Status, StoredObject, Time, WorkflowRun,
    },
    client::SharedClient,
    controllers::operations::{change, delete, named, reason, status, with_uid},
    runtime::{Caches, batch::Batch},
};

/// By whom and on what it is done.
pub(super) struct Acting<'a> {
    pub(super) client: &'a SharedClient,
    pub(super) tasks: &'a Tasks,
    pub(super) caches: &'a Caches,
}

impl Acting<'_> {
    /// Does all of the plan: what becomes of earlier ones, each for itself; then in one transaction the Run of a time and the status.
    /// That is written to the revision that was judged, so of two passes that see the same time one fails. A time that was started,
    /// and one from which on times count, are on disk before this returns, and before a task is sent.
    pub(super) async fn execute(
        &self,
        stored: &StoredObject,
        schedule: &Object<Schedule>,
        plan: &Plan,
    ) -> Result<(), Status> {
        let (client, caches) = (self.client, self.caches);
        let reason = reason(&plan.actions);
        let batch = |durability| Batch { manager: MANAGER, reason: &reason, durability };
        let groups = plan.actions.iter().filter_map(|action| Some(vec![of_earlier(action, caches)?])).collect();
        for done in batch(Durability::Relaxed).write(&**client, groups).await {
            match done {
                Ok(done) => caches.written(&done),
                // It is gone already, or is another one by now.
                Err(status) if status.is(Reason::NotFound) || status.is(Reason::Conflict) => {}
                Err(status) => return Err(status),
            }
        }
        let mut operations: Vec<Operation> =
            plan.actions.iter().filter_map(|action| of_new(action, stored, schedule)).collect();
        if plan.status != schedule.status {
            operations.push(status(schedule, &plan.status));
        }
        if !operations.is_empty() {
            let before = schedule.status.since;
            let lasting = plan.starts() || before.is_some() && before != plan.status.since;
            let durability = if lasting { Durability::Durable } else { Durability::Relaxed };
            let mut transaction = batch(durability).transaction(operations);
            transaction.cause = Some(stored.revision);
            let done = client.transact(transaction).await?;
            caches.written(&done);
        }
        for action in &plan.actions {
            match (action, &schedule.spec.task) {
                (Action::Start { at, .. }, Some(task)) => self.tasks.send(schedule, task, *at),
                (Action::Cancel(Made::Task(task)), _) => self.tasks.replace(schedule, task.scheduled_time.0),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The Run or WorkflowRun of a time; a task is none.
fn of_new(action: &Action, stored: &StoredObject, schedule: &Object<Schedule>) -> Option<Operation> {
    let Action::Start { at, .. } = action else { return None };
    let (kind, spec) = match (&schedule.spec.run, &schedule.spec.workflow) {
        // As its author wrote it, without defaults.
        (Some(_), _) => (Run::INFO, stored.value()["spec"]["run"].clone()),
        (None, Some(workflow)) => {
            let payload = json!({"schedule": schedule.metadata.name, "time": Time(*at).to_string()});
            let event = json!({"name": EventName::Schedule, "payload": payload});
            let spec = json!({"workflow": workflow.name, "inputs": workflow.inputs, "event": event});
            (WorkflowRun::INFO, spec)
        }
        (None, None) => return None,
    };
    let name = format!("{}-{}", schedule.metadata.name, at.as_second());
    let mut object = named(&Key::new(kind, &schedule.metadata.namespace, &name));
    object["metadata"]["labels"] = json!({SCHEDULE_LABEL: schedule.metadata.name});
    object["metadata"]["annotations"] = json!({SCHEDULED_AT: Time(*at).to_string()});
    object["metadata"]["ownerReferences"] = json!([OwnerReference::controller_of(schedule)]);
    object["spec"] = spec;
    Some(Operation::new(OperationVerb::Create, object))
}

/// What becomes of one that was there before.
fn of_earlier(action: &Action, caches: &Caches) -> Option<Operation> {
    match action {
        Action::Start { .. } | Action::Cancel(Made::Task(_)) | Action::Delete(Made::Task(_)) => None,
        Action::Cancel(Made::Run(run)) => {
            let mut object = caches.kind::<Run>().get(&run.key())?.value();
            object["spec"]["cancel"] = json!(true);
            Some(with_uid(Operation::new(OperationVerb::Update, object), run.uid()))
        }
        Action::Cancel(Made::WorkflowRun(run)) => {
            change(&**run, caches, |object| object["spec"]["cancel"] = json!(CancelMode::Stop))
        }
        Action::Delete(Made::Run(run)) => Some(delete(&run.key(), run.uid())),
        Action::Delete(Made::WorkflowRun(run)) => Some(delete(&run.key(), run.uid())),
    }
}
