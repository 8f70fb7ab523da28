//! Does what a plan says, in one transaction.

use super::{
    MANAGER,
    decide::{Action, Plan},
};
use crate::{
    api::{Durability, Object, Operation, OperationVerb, Status, Workflow},
    client::SharedClient,
    controllers::operations::{change, delete, reason, status},
    runtime::{Caches, batch::Batch},
};

/// Does all of the plan or none of it. Nothing of it waits for the disk: what is lost with it is seen again.
pub(super) async fn execute(
    client: &SharedClient,
    caches: &Caches,
    workflow: &Object<Workflow>,
    plan: &Plan,
) -> Result<(), Status> {
    let mut operations: Vec<Operation> = plan.actions.iter().filter_map(|action| operation(action, caches)).collect();
    if plan.status != workflow.status {
        operations.push(status(workflow, &plan.status));
    }
    if operations.is_empty() {
        return Ok(());
    }
    let reason = reason(&plan.actions);
    let batch = Batch { manager: MANAGER, reason: &reason, durability: Durability::Relaxed };
    let done = client.transact(batch.transaction(operations)).await?;
    caches.written(&done);
    Ok(())
}

fn operation(action: &Action, caches: &Caches) -> Option<Operation> {
    match action {
        Action::Run { object, .. } | Action::Schedule(object) => {
            Some(Operation::new(OperationVerb::Create, (**object).clone()))
        }
        Action::Reschedule(schedule, spec) => change(schedule, caches, |object| {
            for (name, value) in spec.as_object().into_iter().flatten() {
                object["spec"][name.as_str()] = value.clone();
            }
        }),
        Action::Unschedule(schedule) => Some(delete(&schedule.key(), schedule.uid())),
    }
}
