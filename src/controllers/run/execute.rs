//! Does what a plan says, in one transaction.

use serde_json::json;

use super::{Action, MANAGER, Plan};
use crate::{
    api::{Durability, Object, Operation, OperationVerb, Rev, Run, Status},
    client::{SharedClient, operation},
    controllers::operations::{change, delete, reason, status},
    runtime::{Caches, batch::Batch},
};

/// Does all of the plan or none of it. Safe to repeat: names are deterministic, and whatever is changed bears its uid.
pub(super) async fn execute(
    client: &SharedClient,
    caches: &Caches,
    run: &Object<Run>,
    plan: &Plan,
) -> Result<(), Status> {
    let mut operations: Vec<Operation> =
        plan.actions.iter().filter_map(|action| operation_of(action, run, caches)).collect();
    let deletes = plan.actions.iter().any(|action| matches!(action, Action::DeleteRun { .. }));
    if plan.status != run.status && !deletes {
        operations.push(status(run, &plan.status));
    }
    if operations.is_empty() {
        return Ok(());
    }
    // The Run is what its author asked for: that it is gone must survive a power loss.
    let durability = if deletes { Durability::Durable } else { Durability::Relaxed };
    let reason = reason(&plan.actions);
    let batch = Batch { manager: MANAGER, reason: &reason, durability };
    let mut transaction = batch.transaction(operations);
    transaction.cause = Rev::parse(&run.metadata.resource_version);
    let done = client.transact(transaction).await?;
    caches.written(&done);
    Ok(())
}

fn operation_of(action: &Action, run: &Object<Run>, caches: &Caches) -> Option<Operation> {
    Some(match action {
        Action::CreateInstance { instance, .. } => operation(OperationVerb::Create, instance),
        Action::StopInstance { instance, .. } => {
            change(&**instance, caches, |object| object["spec"]["suspend"] = json!(true))?
        }
        Action::DeleteRun { .. } => delete(&run.key(), run.uid()),
    })
}
