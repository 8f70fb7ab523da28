//! Does what a plan says, in one transaction.

use serde_json::json;

use super::{
    MANAGER,
    decide::{Action, Plan},
};
use crate::{
    api::{
        Durability, Key, Object, Operation, OperationVerb, OwnerReference, Reason, Run, SCHEDULE_LABEL, SCHEDULED_AT,
        Schedule, Status, StoredObject, Time,
    },
    client::SharedClient,
    controllers::operations::{delete, named, reason, status, with_uid},
    runtime::{Caches, batch::Batch},
};

/// Does all of the plan: what becomes of earlier Runs, each for itself; then in one transaction the Run of a time and the status.
/// That is written to the revision that was judged, so of two passes that see the same time one fails. A time that was started, and one
/// from which on times count, are on disk before this returns.
pub(super) async fn execute(
    client: &SharedClient,
    caches: &Caches,
    stored: &StoredObject,
    schedule: &Object<Schedule>,
    plan: &Plan,
) -> Result<(), Status> {
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
    if operations.is_empty() {
        return Ok(());
    }
    let before = schedule.status.since;
    let lasting = plan.starts() || before.is_some() && before != plan.status.since;
    let durability = if lasting { Durability::Durable } else { Durability::Relaxed };
    let done = client.transact(batch(durability).transaction(operations)).await?;
    caches.written(&done);
    Ok(())
}

/// The Run of a time.
fn of_new(action: &Action, stored: &StoredObject, schedule: &Object<Schedule>) -> Option<Operation> {
    let Action::Start { at, .. } = action else { return None };
    let name = format!("{}-{}", schedule.metadata.name, at.as_second());
    let mut object = named(&Key::of::<Run>(&schedule.metadata.namespace, &name));
    object["metadata"]["labels"] = json!({SCHEDULE_LABEL: schedule.metadata.name});
    object["metadata"]["annotations"] = json!({SCHEDULED_AT: Time(*at).to_string()});
    object["metadata"]["ownerReferences"] = json!([OwnerReference::controller_of(schedule)]);
    // As its author wrote it, without defaults.
    object["spec"] = stored.value()["spec"]["run"].clone();
    Some(Operation::new(OperationVerb::Create, object))
}

/// What becomes of a Run that was there before.
fn of_earlier(action: &Action, caches: &Caches) -> Option<Operation> {
    match action {
        Action::Start { .. } => None,
        Action::Cancel(run) => {
            let mut object = caches.kind::<Run>().get(&run.key())?.value();
            object["spec"]["cancel"] = json!(true);
            Some(with_uid(Operation::new(OperationVerb::Update, object), run.uid()))
        }
        Action::Delete(run) => Some(delete(&run.key(), run.uid())),
    }
}
