//! Does what a plan says, in one transaction.

use serde_json::{Value, json};

use super::{
    Action, MANAGER, Plan, instance,
    revision::{self, Change},
};
use crate::{
    api::{
        App, CHANGE_CAUSE, Durability, Instance, Key, Kind, MicroTime, Object, Operation, OperationVerb, Preconditions,
        ROLLED_BACK_AT, Revision, Status,
    },
    client::{SharedClient, operation},
    policy::template,
    runtime::{Caches, batch::Batch},
};

/// Does all of the plan or none of it. Safe to repeat: names are deterministic, deletions and updates bear the uid.
pub(super) async fn execute(
    client: &SharedClient,
    caches: &Caches,
    app: &Object<App>,
    plan: &Plan,
) -> Result<(), Status> {
    let mut operations: Vec<Operation> =
        plan.actions.iter().filter_map(|action| operation_of(action, app, caches)).collect();
    let deletes_app = plan.actions.iter().any(|action| matches!(action, Action::DeleteApp { .. }));
    let changes_app = plan.actions.iter().any(|action| matches!(action, Action::RollBack { .. }));
    if plan.status != app.status && !deletes_app {
        let mut operation = status(app, plan);
        if !changes_app {
            // Others may write conditions of their own: what came meanwhile is not overwritten, but judged anew.
            operation.preconditions.resource_version = Some(app.metadata.resource_version.clone());
        }
        operations.push(operation);
    }
    if operations.is_empty() {
        return Ok(());
    }
    // The App is what its author declared: that it goes or changes must survive a power loss.
    let durability = if deletes_app || changes_app { Durability::Durable } else { Durability::Relaxed };
    let reason = plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let reason = reason.chars().take(512).collect::<String>();
    let batch = Batch { manager: MANAGER, reason: &reason, durability };
    let done = client.transact(batch.transaction(operations)).await?;
    caches.written(&done);
    Ok(())
}

fn operation_of(action: &Action, app: &Object<App>, caches: &Caches) -> Option<Operation> {
    Some(match action {
        Action::CreateRevision { name, number, data } => {
            let body = Revision { revision: *number, data: data.clone() };
            let mut metadata = instance::metadata(app, name.clone());
            if let Some(cause) = revision::cause(app) {
                metadata.annotations.insert(CHANGE_CAUSE, cause);
            }
            operation(OperationVerb::Create, &Object::new(metadata, body))
        }
        Action::UpdateRevision { revision, change } => {
            let mut object = (**revision).clone();
            match change {
                Change::Current { number, resized } => {
                    object.body.revision = *number;
                    if let Some(like) = resized {
                        template::resize(&mut object.body.data, like);
                    }
                    if let Some(cause) = revision::cause(app) {
                        object.metadata.annotations.insert(CHANGE_CAUSE, cause);
                    }
                }
                Change::RolledBack(at) => {
                    object.metadata.annotations.insert(ROLLED_BACK_AT, &MicroTime(*at).to_string());
                }
            }
            with_uid(operation(OperationVerb::Update, &object), revision)
        }
        Action::DeleteRevision { revision } => delete(&**revision),
        Action::CreateInstance { instance, .. } => operation(OperationVerb::Create, instance),
        Action::UpdateInstance { instance, live, labels, .. } => {
            let key = Key::of::<Instance>(&instance.metadata.namespace, &instance.metadata.name);
            // From the stored text, so that what a newer binary wrote stays.
            let mut object = caches.kind::<Instance>().get(&key)?.value();
            live.write(&mut object["spec"]);
            object["metadata"]["labels"] = json!(labels);
            // The agent writes the status all the time; only this controller writes the rest.
            strip_version(&mut object);
            with_uid(Operation::new(OperationVerb::Update, object), instance)
        }
        Action::DeleteInstance { instance, .. } => delete(&**instance),
        Action::RollBack { to, .. } => {
            // From the stored text, at the revision that was judged: an edit that came meanwhile counts.
            let key = Key::of::<App>(&app.metadata.namespace, &app.metadata.name);
            let mut object = caches.kind::<App>().get(&key)?.value();
            template::put(&mut object["spec"], &to.data);
            if let Some(cause) = to.metadata.annotations.get(CHANGE_CAUSE) {
                object["metadata"]["annotations"][CHANGE_CAUSE] = json!(cause);
            }
            Operation::new(OperationVerb::Update, object)
        }
        Action::DeleteApp { .. } => delete(app),
    })
}

fn strip_version(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("managedFields");
    }
}

fn with_uid<K: Kind>(mut operation: Operation, object: &Object<K>) -> Operation {
    operation.preconditions = Preconditions { uid: Some(object.uid().clone()), resource_version: None };
    operation
}

/// The object's name alone.
fn named<K: Kind>(object: &Object<K>) -> Value {
    json!({
        "apiVersion": K::INFO.api_version(),
        "kind": K::INFO.kind,
        "metadata": {"namespace": object.metadata.namespace, "name": object.metadata.name, "uid": object.metadata.uid},
    })
}

fn delete<K: Kind>(object: &Object<K>) -> Operation {
    with_uid(Operation::new(OperationVerb::Delete, named(object)), object)
}

fn status(app: &Object<App>, plan: &Plan) -> Operation {
    let mut object = named(app);
    object["status"] = json!(plan.status);
    with_uid(Operation::new(OperationVerb::Status, object), app)
}
