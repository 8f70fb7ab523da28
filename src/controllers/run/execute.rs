//! Does what a plan says, in one transaction.

use serde_json::{Value, json};

use super::{Action, MANAGER, Plan};
use crate::{
    api::{Durability, Instance, Key, Kind, Object, Operation, OperationVerb, Preconditions, Run, Status},
    client::{SharedClient, operation},
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
        let mut object = named(run);
        object["status"] = json!(plan.status);
        let mut operation = with_uid(Operation::new(OperationVerb::Status, object), run);
        // What came meanwhile is judged anew.
        operation.preconditions.resource_version = Some(run.metadata.resource_version.clone());
        operations.push(operation);
    }
    if operations.is_empty() {
        return Ok(());
    }
    // The Run is what its author asked for: that it is gone must survive a power loss.
    let durability = if deletes { Durability::Durable } else { Durability::Relaxed };
    let reason = plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let batch = Batch { manager: MANAGER, reason: &reason, durability };
    let done = client.transact(batch.transaction(operations)).await?;
    caches.written(&done);
    Ok(())
}

fn operation_of(action: &Action, run: &Object<Run>, caches: &Caches) -> Option<Operation> {
    Some(match action {
        Action::CreateInstance { instance, .. } => operation(OperationVerb::Create, instance),
        Action::StopInstance { instance, .. } => {
            let key = Key::of::<Instance>(&instance.metadata.namespace, &instance.metadata.name);
            // From the stored text, so that what a newer binary wrote stays.
            let mut object = caches.kind::<Instance>().get(&key)?.value();
            object["spec"]["suspend"] = json!(true);
            // The agent writes the status all the time; only this controller writes the rest.
            object["metadata"].as_object_mut()?.shift_remove("resourceVersion");
            with_uid(Operation::new(OperationVerb::Update, object), instance)
        }
        Action::DeleteRun { .. } => with_uid(Operation::new(OperationVerb::Delete, named(run)), run),
    })
}

fn with_uid<K: Kind>(mut operation: Operation, object: &Object<K>) -> Operation {
    operation.preconditions = Preconditions { uid: Some(object.uid().clone()), resource_version: None };
    operation
}

/// The object's name alone.
fn named(run: &Object<Run>) -> Value {
    let meta = &run.metadata;
    json!({
        "apiVersion": Run::INFO.api_version(),
        "kind": Run::INFO.kind,
        "metadata": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
    })
}
