//! What a pass looks at.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{Instance, Key, Kind, Object, Run, Status, StoredObject, Time, attempt_name},
    client::SharedClient,
    controllers::place::{self, Nodes},
    policy::place::Place,
    runtime::Caches,
};

/// The world as one Run's pass sees it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The Run's own Instance of each attempt.
    pub attempts: BTreeMap<u32, Arc<Object<Instance>>>,
    /// What is left of a former Run of that name.
    pub leftovers: usize,
    /// The node for the next attempt, or why there is none.
    pub place: Result<Place, String>,
    /// Why a quota has no room for the next attempt, if it said so.
    pub full: Option<String>,
}

impl Observed {
    /// When a step that was made ahead of its turn was begun.
    pub(super) fn begun(&self, run: &Object<Run>) -> Option<Time> {
        let is_ahead = run.spec.step.as_ref().is_some_and(|step| !step.after.is_empty());
        let status = &self.attempts.get(&run.status.attempts).filter(|_| is_ahead)?.status;
        let running = status.state.running.as_ref().map(|running| running.start_time);
        let since = running.or(status.last_exit.as_ref().and_then(|exit| exit.start_time));
        since.map(|since| Time(since.0))
    }

    /// True if the attempt that was made last is over.
    pub(super) fn has_ended(&self, run: &Object<Run>) -> bool {
        self.attempts.get(&run.status.attempts).is_some_and(|instance| instance.status.state.exited.is_some())
    }
}

/// The Run's own attempts among the Instances that bear its name as their controller, and how many are left of a former Run.
pub(super) fn attempts(
    run: &Object<Run>,
    instances: &[Arc<StoredObject>],
) -> (BTreeMap<u32, Arc<Object<Instance>>>, usize) {
    let (mut attempts, mut leftovers) = (BTreeMap::new(), 0);
    for object in instances {
        let own = object.meta().controller().is_some_and(|owner| owner.uid == *run.uid());
        let instance = object.typed::<Instance>().filter(|_| own);
        // Whatever else bears the Run's name as its controller was not made here.
        let known = instance.filter(|i| attempt_name(&run.metadata.name, i.spec.ordinal) == i.metadata.name);
        match known {
            Some(instance) => drop(attempts.insert(instance.spec.ordinal, instance)),
            None => leftovers += usize::from(!own),
        }
    }
    (attempts, leftovers)
}

pub(super) async fn observe(
    client: &SharedClient,
    run: &Object<Run>,
    caches: &Caches,
    nodes: &Nodes,
) -> Result<Observed, Status> {
    let (namespace, name) = (&run.metadata.namespace, &run.metadata.name);
    let mut instances = caches.kind::<Instance>().controlled_by(namespace, Run::INFO.kind, name);
    if run.status.attempts > 0 && instances.is_empty() {
        // The first attempt of a step is made by another controller: it may not have been heard of yet.
        let key = Key::of::<Instance>(namespace, &run.status.instance);
        instances.extend(client.get(&key).await?);
    }
    let (attempts, leftovers) = attempts(run, &instances);
    let place = match run.status.is_over() {
        true => Err(String::new()),
        false => place::choose(client, caches, nodes, &run.spec.node_selector, run.spec.requests()).await?,
    };
    Ok(Observed { attempts, leftovers, place, full: None })
}
