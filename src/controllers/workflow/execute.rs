//! Does what a plan says, in one transaction.

use serde_json::{Value, json};

use super::{Action, MANAGER, Observed, Plan, begin::Begun, history};
use crate::{
    api::{
        App, Durability, Key, Kind, Object, Operation, OperationVerb, Preconditions, Reason, Rev, Run, Status,
        StoredObject, WorkflowRun,
    },
    client::{Done, SharedClient},
    controllers::{operations, run},
    runtime::{Caches, batch::Batch},
};

/// What a history entry says at most.
const LONGEST_REASON: usize = 512;

/// Does all of the plan or none of it, with `begun`, the first attempts of the steps that it begins, the ends of attempts that were told and
/// those of Runs that were seen.
/// What a step runs as, and the status that says so, cannot be lost one without the other; and before its process starts both are durable:
/// an attempt that is begun here may start as soon as it is heard of, so this waits for the disk, and of all others the agent writes down the
/// intent. Beside them the end of a run waits, and a message that is to be sent once at most. What was done is
/// returned; nothing, if there was nothing to do.
pub(super) async fn execute(
    client: &SharedClient,
    caches: &Caches,
    run: &Object<WorkflowRun>,
    observed: &Observed,
    plan: &Plan,
    begun: Begun,
) -> Result<Vec<Done>, Status> {
    let begins = !begun.runs.is_empty();
    let sends_once = plan.actions.iter().any(|action| matches!(action, Action::Send(sending) if !sending.again));
    let is_begun = |action: &Action| match action {
        Action::Start { object } => object["metadata"]["name"].as_str().is_some_and(|name| begun.runs.contains(name)),
        Action::Foresee { .. } => true,
        _ => false,
    };
    let others = plan.actions.iter().filter(|action| !is_begun(action));
    let mut operations: Vec<Operation> = others.filter_map(|action| operation(action, caches)).collect();
    operations.extend(begun.operations);
    operations.extend(plan.actions.iter().flat_map(|action| match action {
        Action::Discard(planned) => planned.discard(),
        _ => Vec::new(),
    }));
    operations.extend(observed.told.values().map(run::Told::operation));
    operations.extend(observed.ended.iter().map(|ended| operations::status(&ended.run, &ended.plan.status)));
    if plan.status != run.status {
        let mut object = named(run);
        object["status"] = json!(plan.status);
        let mut write = Operation::new(OperationVerb::Status, object);
        let (uid, version) = (run.uid().clone(), run.metadata.resource_version.clone());
        // What came meanwhile is judged anew.
        write.preconditions = Preconditions { uid: Some(uid), resource_version: Some(version) };
        operations.push(write);
    }
    operations.extend(history::last_run(caches, run, plan));
    if operations.is_empty() {
        return Ok(Vec::new());
    }
    // An end is acknowledged once it was written down.
    let tells = !observed.told.is_empty();
    let durability =
        if plan.status.is_over() || sends_once || begins || tells { Durability::Durable } else { Durability::Relaxed };
    let reason = plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let reason: String = reason.chars().take(LONGEST_REASON).collect();
    let batch = Batch { manager: MANAGER, reason: &reason, durability };
    let done = client.transact(batch.transaction(operations)).await?;
    caches.written(&done);
    Ok(done)
}

/// The version of the run that was written among all that was done.
pub(super) fn version(run: &Object<WorkflowRun>, done: &[Done]) -> Option<Rev> {
    let own = done.iter().find(|done| done.object.meta().uid.as_ref() == Some(run.uid()));
    own.map(|done| done.object.revision)
}

fn operation(action: &Action, caches: &Caches) -> Option<Operation> {
    Some(match action {
        Action::Start { object } => Operation::new(OperationVerb::Create, (**object).clone()),
        Action::Send(_) | Action::Foresee { .. } | Action::Discard(_) => return None,
        Action::StopService(app) => {
            let stored = caches.kind::<App>().get(&app.key())?;
            changed(&stored, app, |spec| spec["suspend"] = json!(true))
        }
        Action::CancelRun(run) => {
            let key = Key::of::<Run>(&run.metadata.namespace, &run.metadata.name);
            changed(&*caches.kind::<Run>().get(&key)?, run, |spec| spec["cancel"] = json!(true))
        }
        Action::CancelChild { run, mode } => {
            let key = Key::of::<WorkflowRun>(&run.metadata.namespace, &run.metadata.name);
            let stored = caches.kind::<WorkflowRun>().get(&key)?;
            changed(&stored, run, |spec| spec["cancel"] = json!(mode))
        }
    })
}

/// From the stored text, so that what a newer binary wrote stays.
fn changed<K: Kind>(stored: &StoredObject, object: &Object<K>, change: impl FnOnce(&mut Value)) -> Operation {
    let mut value = stored.value();
    change(&mut value["spec"]);
    // Its controller writes the status all the time; that is not what is changed.
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.shift_remove("resourceVersion");
    }
    let mut operation = Operation::new(OperationVerb::Update, value);
    operation.preconditions.uid = Some(object.uid().clone());
    operation
}

/// The object's name alone.
fn named(run: &Object<WorkflowRun>) -> Value {
    let meta = &run.metadata;
    json!({
        "apiVersion": WorkflowRun::INFO.api_version(),
        "kind": WorkflowRun::INFO.kind,
        "metadata": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
    })
}

/// Whether the server would take an object.
///
/// # Errors
/// Why not.
pub(super) async fn try_out(client: &SharedClient, object: &Value) -> Result<(), Status> {
    let batch = Batch { manager: MANAGER, reason: "", durability: Durability::Relaxed };
    let mut transaction = batch.transaction(vec![Operation::new(OperationVerb::Create, object.clone())]);
    transaction.dry_run = true;
    client.transact(transaction).await.map(drop)
}

/// Deletes runs, each for itself; one that is gone already is as good.
pub(super) async fn forget(client: &SharedClient, caches: &Caches, deletions: Vec<Operation>) -> Result<(), Status> {
    let batch = Batch { manager: MANAGER, reason: "newer runs ended", durability: Durability::Durable };
    let groups = deletions.into_iter().map(|deletion| vec![deletion]).collect();
    for done in batch.write(&**client, groups).await {
        match done {
            Ok(done) => caches.written(&done),
            Err(status) if status.is(Reason::NotFound) || status.is(Reason::Conflict) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}
