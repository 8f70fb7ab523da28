//! Does what a plan says, in one transaction.

use serde_json::{Value, json};

use super::{
    MANAGER,
    decide::{Action, Plan},
};
use crate::{
    api::{
        Durability, Key, Kind, Object, Operation, OperationVerb, OwnerReference, Preconditions, Reason, Run,
        SCHEDULE_LABEL, SCHEDULED_AT, Schedule, Status, StoredObject, Time,
    },
    client::SharedClient,
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
    let reason = plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let reason = reason.chars().take(512).collect::<String>();
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
        operations.push(status(schedule, plan));
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
    let mut object = named::<Run>(&schedule.metadata.namespace, &name);
    object["metadata"]["labels"] = json!({SCHEDULE_LABEL: schedule.metadata.name});
    object["metadata"]["annotations"] = json!({SCHEDULED_AT: Time(*at).to_string()});
    object["metadata"]["ownerReferences"] = json!([owner(schedule)]);
    // As its author wrote it, without defaults.
    object["spec"] = stored.value()["spec"]["run"].clone();
    Some(Operation::new(OperationVerb::Create, object))
}

/// What becomes of a Run that was there before.
fn of_earlier(action: &Action, caches: &Caches) -> Option<Operation> {
    let (mut operation, run) = match action {
        Action::Start { .. } => return None,
        Action::Cancel(run) => {
            let key = Key::of::<Run>(&run.metadata.namespace, &run.metadata.name);
            let mut object = caches.kind::<Run>().get(&key)?.value();
            object["spec"]["cancel"] = json!(true);
            (Operation::new(OperationVerb::Update, object), run)
        }
        Action::Delete(run) => {
            let object = named::<Run>(&run.metadata.namespace, &run.metadata.name);
            (Operation::new(OperationVerb::Delete, object), run)
        }
    };
    operation.preconditions.uid = run.metadata.uid.clone();
    Some(operation)
}

fn status(schedule: &Object<Schedule>, plan: &Plan) -> Operation {
    let mut object = named::<Schedule>(&schedule.metadata.namespace, &schedule.metadata.name);
    object["status"] = json!(plan.status);
    let mut operation = Operation::new(OperationVerb::Status, object);
    operation.preconditions = Preconditions {
        uid: schedule.metadata.uid.clone(),
        resource_version: Some(schedule.metadata.resource_version.clone()),
    };
    operation
}

/// The reference by which a Run is this Schedule's.
fn owner(schedule: &Object<Schedule>) -> OwnerReference {
    OwnerReference {
        api_version: Schedule::INFO.api_version(),
        kind: Schedule::INFO.kind.to_owned(),
        name: schedule.metadata.name.clone(),
        uid: schedule.uid().clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn named<K: Kind>(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": K::INFO.api_version(), "kind": K::INFO.kind,
        "metadata": {"namespace": namespace, "name": name},
    })
}
