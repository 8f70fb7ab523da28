//! The first attempt of a step, made in the transaction that makes its Run: so the agent may start it as soon as it hears of it.
//!
//! With the Instance goes the *intent* (021): its status says that attempt 1 is to be started, and the transaction waits for the disk. An
//! agent that finds it so need not write that down itself. That is done only of what can be started at once: a step that waits for
//! something would be taken for lost after a reboot, though it never began. All else is left to the controller of Runs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Action;
use crate::{
    api::{Instance, InstanceStatus, Kind, Object, Operation, OperationVerb, Run, RunSpec, Status, attempt_name},
    client::{SharedClient, operation},
    controllers::{
        place::{self, Nodes},
        run,
    },
    runtime::Caches,
};

/// What begins with its first attempt.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Makes the Runs and their attempts.
    pub operations: Vec<Operation>,
    /// The names of the Runs.
    pub runs: BTreeSet<String>,
}

/// Those of the Runs in `actions` that can start at once.
///
/// # Errors
/// The nodes cannot be looked at.
pub(super) async fn begin(
    client: &SharedClient,
    caches: &Caches,
    nodes: &Nodes,
    actions: &[Action],
    now: Timestamp,
) -> Result<Begun, Status> {
    let mut begun = Begun::default();
    // Attempts ahead that were not made: none is made after them.
    let mut lacking = BTreeSet::new();
    for action in actions {
        let (Action::Start { object } | Action::Foresee { object }) = action else { continue };
        let ahead = matches!(action, Action::Foresee { .. });
        if ahead {
            let attempt = attempt_name(object["metadata"]["name"].as_str().unwrap_or_default(), 1);
            lacking.insert(attempt);
            if lacking.contains(object["spec"]["step"]["after"].as_str().unwrap_or_default()) {
                continue;
            }
        }
        let Some(run) = about_to_be(object) else { continue };
        let (namespace, name) = (&run.metadata.namespace, &run.metadata.name);
        let leftovers = caches.kind::<Instance>().controlled_by(namespace, Run::INFO.kind, name);
        let place = place::choose(client, caches, nodes, &run.spec.node_selector, run.spec.requests()).await?;
        let Some(place) = place.ok().filter(|_| leftovers.is_empty()) else { continue };
        let plan = run::first_attempt(&run, place, now);
        begun.operations.push(with_status((**object).clone(), json!(plan.status)));
        for action in plan.actions {
            let run::Action::CreateInstance { instance, .. } = action else { continue };
            lacking.remove(&instance.metadata.name);
            // One that is made ahead is the agent's to begin, who writes down the intent then.
            let intent = InstanceStatus { attempt: u32::from(!ahead), ..InstanceStatus::default() };
            begun.operations.push(with_status(operation(OperationVerb::Create, &*instance).object, json!(intent)));
        }
        begun.runs.insert(name.clone());
    }
    Ok(begun)
}

/// Makes an object that has its status from the beginning.
fn with_status(mut object: Value, status: Value) -> Operation {
    object["status"] = status;
    Operation { with_status: true, ..Operation::new(OperationVerb::Create, object) }
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
