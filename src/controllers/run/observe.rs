//! What a pass looks at.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{Instance, Kind, Object, Run, Status, attempt_name},
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

pub(super) async fn observe(
    client: &SharedClient,
    run: &Object<Run>,
    caches: &Caches,
    nodes: &Nodes,
) -> Result<Observed, Status> {
    let (namespace, name) = (&run.metadata.namespace, &run.metadata.name);
    let instances = caches.kind::<Instance>().controlled_by(namespace, Run::INFO.kind, name);
    let (mut attempts, mut leftovers) = (BTreeMap::new(), 0);
    for object in instances {
        let own = object.meta().controller().is_some_and(|owner| owner.uid == *run.uid());
        let instance = object.typed::<Instance>().filter(|_| own);
        // Whatever else bears the Run's name as its controller was not made here.
        let known = instance.filter(|i| attempt_name(name, i.spec.ordinal) == i.metadata.name);
        match known {
            Some(instance) => drop(attempts.insert(instance.spec.ordinal, instance)),
            None => leftovers += usize::from(!own),
        }
    }
    let place = match run.status.is_over() {
        true => Err(String::new()),
        false => place::choose(client, caches, nodes, &run.spec.node_selector, run.spec.requests()).await?,
    };
    Ok(Observed { attempts, leftovers, place, full: None })
}
