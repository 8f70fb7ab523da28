//! The first attempt of a step, made in the transaction that makes its Run: so the agent may start it as soon as it hears of it.
//!
//! With the Instance goes the *intent* (021): its status says that attempt 1 is to be started, and the transaction waits for the disk. An
//! agent that finds it so need not write that down itself. That is done only of what can be started at once: a step that waits for
//! something would be taken for lost after a reboot, though it never began. All else is left to the controller of Runs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Action;
use crate::{
    api::{Instance, InstanceStatus, Kind, Object, Operation, OperationVerb, Run, RunSpec, Status},
    client::{SharedClient, operation},
    controllers::{
        operations::named,
        place::{self, Nodes},
        run,
    },
    runtime::Caches,
};

/// What is done beside the making of the Runs in `actions`.
///
/// # Errors
/// The nodes cannot be looked at.
pub(super) async fn begin(
    client: &SharedClient,
    caches: &Caches,
    nodes: &Nodes,
    actions: &[Action],
    now: Timestamp,
) -> Result<Vec<Operation>, Status> {
    let mut operations = Vec::new();
    for action in actions {
        let Action::Start { object } = action else { continue };
        let Some(run) = about_to_be(object) else { continue };
        let (namespace, name) = (&run.metadata.namespace, &run.metadata.name);
        let leftovers = caches.kind::<Instance>().controlled_by(namespace, Run::INFO.kind, name);
        let place = place::choose(client, caches, nodes, &run.spec.node_selector, run.spec.requests()).await?;
        let Some(place) = place.ok().filter(|_| leftovers.is_empty()) else { continue };
        let plan = run::first_attempt(&run, place, now);
        for action in &plan.actions {
            let run::Action::CreateInstance { instance, .. } = action else { continue };
            operations.push(operation(OperationVerb::Create, &**instance));
            let intent = InstanceStatus { attempt: 1, ..InstanceStatus::default() };
            operations.push(with_status(named(&instance.key()), &json!(intent)));
        }
        operations.push(with_status(named(&run.key()), &json!(plan.status)));
    }
    Ok(operations)
}

fn with_status(mut object: Value, status: &Value) -> Operation {
    object["status"] = status.clone();
    Operation::new(OperationVerb::Status, object)
}

/// The Run as it will be, if nothing stands between it and its start. Its uid is not known yet; who refers to it says nothing of that.
fn about_to_be(object: &Value) -> Option<Object<Run>> {
    if object["kind"] != Run::INFO.kind {
        return None;
    }
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("");
    object["metadata"]["generation"] = json!(1);
    let run = Object::<Run>::from_slice(object.to_string().as_bytes()).ok()?;
    starts_at_once(&run.spec).then_some(run)
}

fn starts_at_once(spec: &RunSpec) -> bool {
    let said = spec.env.iter().all(|variable| variable.value_from.is_none());
    spec.process.is_some() && said && spec.env_from.is_empty() && spec.files.is_empty() && spec.requests().is_empty()
}
