//! What a pass looks at.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{Instance, Kind, Node, Object, Run, Status, attempt_name},
    client::{Query, SharedClient},
    controllers::place,
    policy::place::{Place, amounts},
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
}

pub(super) async fn observe(client: &SharedClient, run: &Object<Run>, caches: &Caches) -> Result<Observed, Status> {
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
    Ok(Observed { attempts, leftovers, place: choose(client, run, caches).await? })
}

/// Where the next attempt goes. Only where room matters does everybody's room have to be looked at.
async fn choose(client: &SharedClient, run: &Run, caches: &Caches) -> Result<Result<Place, String>, Status> {
    if run.status.is_over() {
        return Ok(Err(String::new()));
    }
    let template = run.spec.resolved().unwrap_or_default();
    let wanted = amounts(&template.resources.requests);
    let requested = match wanted.is_empty() {
        true => BTreeMap::new(),
        false => place::requested(&client.list(Instance::INFO, &Query::default()).await?.items),
    };
    let nodes = caches.kind::<Node>().list();
    Ok(place::among(&nodes, &requested, &run.spec.node_selector, &wanted))
}
