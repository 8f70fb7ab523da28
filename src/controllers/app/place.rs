//! Where an App's new Instances go, and who waits for room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    api::{App, Instance, Key, Node, Object, Quantity, RequestName, StoredObject},
    policy::place::{Amounts, Candidate, Place, amount, amounts, place},
    runtime::{Caches, Map, Watched},
};

/// The machine for new Instances of `app`, or why there is none.
pub(super) fn choose(app: &App, caches: &Caches) -> Result<Place, String> {
    let wanted = amounts(&app.spec.resources.requests);
    let nodes = caches.kind::<Node>().list();
    let nodes: Vec<Arc<Object<Node>>> = nodes.iter().filter_map(|object| object.typed()).collect();
    let requested = if wanted.is_empty() { BTreeMap::new() } else { requested(caches) };
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
    place(&candidates, &app.spec.node_selector, &wanted)
}

fn is_open(node: &Object<Node>) -> bool {
    !node.spec.unschedulable && !node.metadata.is_deleting() && node.status.is_ready()
}

fn allocatable(node: &Node) -> Amounts {
    let there = [(RequestName::Memory, "memory"), (RequestName::Cpu, "cpu")];
    let amounts = there.into_iter().filter_map(|(name, word)| {
        let quantity = node.status.allocatable.get(word)?.parse::<Quantity>().ok()?;
        Some((name, amount(name, &quantity)))
    });
    amounts.collect()
}

/// What the Instances on each machine request together.
fn requested(caches: &Caches) -> BTreeMap<String, Amounts> {
    let mut all: BTreeMap<String, Amounts> = BTreeMap::new();
    for instance in caches.kind::<Instance>().list().iter().filter_map(|object| object.typed::<Instance>()) {
        for (name, amount) in amounts(&instance.spec.resources.requests) {
            *all.entry(instance.spec.node_name.clone()).or_default().entry(name).or_default() += amount;
        }
    }
    all
}

/// Apps that found no room. They have their turn when an Instance that requested something is gone.
#[derive(Clone, Default)]
pub(super) struct Homeless(Arc<Mutex<BTreeSet<Key>>>);

impl Homeless {
    /// An App has had its turn, or is gone.
    pub(super) fn note(&self, app: &Key, waits: bool) {
        let mut all = self.lock();
        match waits {
            true => all.insert(app.clone()),
            false => all.remove(app),
        };
    }

    /// What `instances` brings the turn of, and those who wait for room.
    pub(super) fn waiting_for(&self, instances: Watched) -> Watched {
        let (homeless, others) = (self.clone(), instances.map);
        let map = move |object: &StoredObject, caches: &Caches| {
            let mut keys = others(object, caches);
            if caches.kind::<Instance>().get(&object.key).is_none() {
                keys.extend(homeless.lock().iter().cloned());
            }
            keys
        };
        Watched { map: Box::new(map), ..instances }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.0.lock().expect("no holder of the homeless panics")
    }
}

/// What a node says of its place among the others matters to every App; whatever else it says does not.
pub(super) fn every_app() -> Map {
    let known = Mutex::new(BTreeMap::new());
    Box::new(move |object: &StoredObject, caches: &Caches| {
        let node = caches.kind::<Node>().typed::<Node>(&object.key);
        let facts = node.map(|node| (is_open(&node), node.metadata.labels.clone(), allocatable(&node)));
        let mut known = known.lock().expect("no holder of the nodes panics");
        if known.get(&object.key) == Some(&facts) {
            return Vec::new();
        }
        known.insert(object.key.clone(), facts);
        caches.kind::<App>().list().iter().map(|app| app.key.clone()).collect()
    })
}
