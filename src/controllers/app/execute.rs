//! Does what a plan says, in one transaction.

use serde_json::json;

use super::{
    Action, MANAGER, Plan, instance,
    revision::{self, Change},
};
use crate::{
    api::{
        App, CHANGE_CAUSE, Durability, MicroTime, Object, Operation, OperationVerb, ROLLED_BACK_AT, Rev, Revision,
        Status,
    },
    client::{SharedClient, operation},
    controllers::operations::{change, delete, reason, status, with_uid},
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
    let makes = |action: &Action| matches!(action, Action::CreateInstance { .. } | Action::CreateRevision { .. });
    let makes = plan.actions.iter().any(makes);
    let deletes_app = plan.actions.iter().any(|action| matches!(action, Action::DeleteApp { .. }));
    let changes_app = plan.actions.iter().any(|action| matches!(action, Action::RollBack { .. }));
    if (makes || plan.status != app.status) && !deletes_app {
        // Others may write conditions of their own: what came meanwhile is not overwritten, but judged anew. And nothing is made for an
        // App that went meanwhile: whoever was told that it is gone must not see it start.
        let mut operation = status(app, &plan.status);
        if changes_app {
            operation.preconditions.resource_version = None;
        }
        operations.push(operation);
    }
    if operations.is_empty() {
        return Ok(());
    }
    // The App is what its author declared: that it goes or changes must survive a power loss.
    let durability = if deletes_app || changes_app { Durability::Durable } else { Durability::Relaxed };
    let reason = reason(&plan.actions);
    let batch = Batch { manager: MANAGER, reason: &reason, durability };
    let mut transaction = batch.transaction(operations);
    transaction.cause = Rev::parse(&app.metadata.resource_version);
    let done = client.transact(transaction).await?;
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
            with_uid(operation(OperationVerb::Update, &object), revision.uid())
        }
        Action::DeleteRevision { revision } => delete(&revision.key(), revision.uid()),
        Action::CreateInstance { instance, .. } => operation(OperationVerb::Create, instance),
        Action::UpdateInstance { instance, live, labels, .. } => {
            // The agent writes the status all the time; only this controller writes the rest.
            change(&**instance, caches, |object| {
                live.write(&mut object["spec"]);
                object["metadata"]["labels"] = json!(labels);
            })?
        }
        Action::DeleteInstance { instance, .. } => delete(&instance.key(), instance.uid()),
        Action::RollBack { to, .. } => {
            // From the stored text, at the revision that was judged: an edit that came meanwhile counts.
            let mut object = caches.kind::<App>().get(&app.key())?.value();
            template::put(&mut object["spec"], &to.data);
            if let Some(cause) = to.metadata.annotations.get(CHANGE_CAUSE) {
                object["metadata"]["annotations"][CHANGE_CAUSE] = json!(cause);
            }
            Operation::new(OperationVerb::Update, object)
        }
        Action::DeleteApp { .. } => delete(&app.key(), app.uid()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        admission::{Admission, LocalClient},
        api::{Instance, Key, Kind as _, OperationVerb, Reason, Transaction},
        auth::Identity,
        client::Query,
        clock::{SharedClock, System},
        policy::powers::Host,
        runtime::Requeue,
        store::{Limits, Memory, Store},
    };

    #[tokio::test]
    async fn nothing_is_made_for_an_app_that_went_while_it_was_judged() {
        let clock: SharedClock = Arc::new(System);
        let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.expect("opens");
        let admission = Admission::new(store, clock, Host::default());
        let client: SharedClient = Arc::new(LocalClient::new(admission, Identity::system("app"), MANAGER));
        let write = async |verb, object| {
            client.transact(Transaction::new("test", vec![Operation::new(verb, object)])).await.expect("done")
        };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        write(OperationVerb::Create, namespace).await;
        let web = json!({
            "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"process": {"command": ["x"]}},
        });
        let made = write(OperationVerb::Create, web.clone()).await;
        let app = made[0].object.typed::<App>().expect("an app");
        let caches = Caches::new([App::INFO, Instance::INFO, Revision::INFO]);
        let instance = json!({
            "apiVersion": "appm.dev/v1", "kind": "Instance", "metadata": {"name": "web-1-0", "namespace": "default"},
            "spec": {"nodeName": "sim", "revision": "web-1", "process": {"command": ["x"]}},
        });
        let instance = Box::new(serde_json::from_value(instance).expect("an instance"));
        // Everything that the status says is so already.
        let plan = Plan {
            actions: vec![Action::CreateInstance { instance, because: "it is wanted" }],
            status: app.status.clone(),
            requeue: Requeue::Rest,
            waits_for_room: false,
        };
        write(OperationVerb::Delete, web).await;
        let refused = execute(&client, &caches, &app, &plan).await.expect_err("the app is gone");
        assert!(refused.is(Reason::NotFound) || refused.is(Reason::Conflict), "{refused}");
        let left = client.list(Instance::INFO, &Query::default()).await.expect("listed").items;
        assert!(left.is_empty(), "{:?}", left.iter().map(|object| &object.key).collect::<Vec<&Key>>());
    }
}
