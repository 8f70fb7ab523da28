//! Where new Instances go, whoever makes them, and who waits for room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    api::{Instance, Key, Kind, Node, Object, Quantity, RequestName, ResourceQuota, Status, StoredObject},
    client::{Query, SharedClient},
    policy::place::{Amounts, Candidate, Place, amount, amounts, place},
    runtime::{Caches, Watched},
};

/// What an Instance is to have for itself.
type Requests = BTreeMap<RequestName, Quantity>;

/// Whose turn it is to give room away: one at a time, of all controllers that share it.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<tokio::sync::Mutex<()>>);

impl Turns {
    /// Waits for a turn that lasts as long as what is returned, if `requests` are any: who wants no room of its own takes none.
    pub(super) async fn take(&self, requests: &Requests) -> Option<OwnedMutexGuard<()>> {
        match requests.is_empty() {
            true => None,
            false => Some(self.0.clone().lock_owned().await),
        }
    }
}

/// The nodes as the last pass saw them: held, so that they are not decoded anew for every pass.
#[derive(Default)]
pub(super) struct Nodes(Mutex<Vec<Arc<Object<Node>>>>);

impl Nodes {
    fn all(&self, caches: &Caches) -> Vec<Arc<Object<Node>>> {
        let nodes: Vec<_> = caches.kind::<Node>().list().iter().filter_map(|object| object.typed()).collect();
        nodes.clone_into(&mut self.0.lock().expect("no holder of the nodes panics"));
        nodes
    }
}

/// The machine for new Instances, or why there is none. Only where room matters does everybody's room have to be looked at, and then in the
/// store: no cache shows yet what another controller gave away in its turn.
pub(super) async fn choose(
    client: &SharedClient,
    caches: &Caches,
    nodes: &Nodes,
    selector: &BTreeMap<String, String>,
    requests: &Requests,
) -> Result<Result<Place, String>, Status> {
    let wanted = amounts(requests);
    let requested = match wanted.is_empty() {
        true => BTreeMap::new(),
        false => requested(&client.list(Instance::INFO, &Query::default()).await?.items),
    };
    let nodes = nodes.all(caches);
    let candidates: Vec<Candidate<'_>> = nodes
        .iter()
        .map(|node| Candidate {
            name: &node.metadata.name,
            open: is_open(node),
            labels: &node.metadata.labels,
            allocatable: allocatable(node),
            requested: requested.get(&node.metadata.name).cloned().unwrap_or_default(),
        })
        .collect();
    Ok(place(&candidates, selector, &wanted))
}

pub(super) fn is_open(node: &Object<Node>) -> bool {
    !node.spec.unschedulable && !node.metadata.is_deleting() && node.status.is_ready()
}

pub(super) fn allocatable(node: &Node) -> Amounts {
    let there = [(RequestName::Memory, "memory"), (RequestName::Cpu, "cpu")];
    let amounts = there.into_iter().filter_map(|(name, word)| {
        let quantity = node.status.allocatable.get(word)?.parse::<Quantity>().ok()?;
        Some((name, amount(name, &quantity)))
    });
    amounts.collect()
}

/// True for an attempt of a Run that is over: it stays for its output, and needs no room any more.
fn needs_no_room(instance: &Instance) -> bool {
    instance.spec.once && instance.status.state.exited.is_some()
}

/// What the Instances on each machine request together.
fn requested(instances: &[Arc<StoredObject>]) -> BTreeMap<String, Amounts> {
    let mut all: BTreeMap<String, Amounts> = BTreeMap::new();
    let typed = instances.iter().filter_map(|object| object.typed::<Instance>());
    for instance in typed.filter(|instance| !needs_no_room(instance)) {
        for (name, amount) in amounts(&instance.spec.resources.requests) {
            *all.entry(instance.spec.node_name.clone()).or_default().entry(name).or_default() += amount;
        }
    }
    all
}

/// Those who found no room for what they are to make. They have their turn when an Instance is gone, or needs no room any more.
#[derive(Clone, Default)]
pub(super) struct Homeless(Arc<Mutex<BTreeSet<Key>>>);

impl Homeless {
    /// One has had its turn, or is gone.
    pub(super) fn note(&self, key: &Key, waits: bool) {
        let mut all = self.lock();
        match waits {
            true => all.insert(key.clone()),
            false => all.remove(key),
        };
    }

    /// What `instances` brings the turn of, and those who wait for room.
    pub(super) fn waiting_for(&self, instances: Watched) -> Watched {
        let (homeless, others) = (self.clone(), instances.map);
        let map = move |object: &StoredObject, caches: &Caches| {
            let mut keys = others(object, caches);
            let waiting = homeless.lock();
            if !waiting.is_empty()
                && caches.kind::<Instance>().typed::<Instance>(&object.key).is_none_or(|i| needs_no_room(&i))
            {
                keys.extend(waiting.iter().cloned());
            }
            keys
        };
        Watched { map: Box::new(map), ..instances }
    }

    /// A quota that changed, or is used otherwise, brings the turn of those in its namespace who wait for room.
    pub(super) fn waiting_for_quota(&self) -> Watched {
        let homeless = self.clone();
        let map = move |quota: &StoredObject, _: &Caches| {
            let waiting = homeless.lock();
            waiting.iter().filter(|key| key.namespace == quota.key.namespace).cloned().collect()
        };
        Watched { kind: ResourceQuota::INFO, query: Query::default(), map: Box::new(map), kept: true }
    }

    /// What a node says brings the turn of those who wait for room.
    pub(super) fn waiting_for_nodes(&self) -> Watched {
        let homeless = self.clone();
        let map = move |_: &StoredObject, _: &Caches| homeless.lock().iter().cloned().collect();
        Watched { kind: Node::INFO, query: Query::default(), map: Box::new(map), kept: true }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().expect("no holder of the homeless panics")
    }
}
