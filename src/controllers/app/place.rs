//! Where an App's new Instances go, and who waits for room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    api::{App, Instance, Key, Kind, Node, Object, ResourceQuota, StoredObject},
    client::Query,
    controllers::place::{self, allocatable, is_open},
    policy::place::{Place, amounts},
    runtime::{Caches, Map, Watched},
};

/// The nodes as the last pass saw them: held, so that they are not decoded anew for every pass.
#[derive(Default)]
pub(super) struct Nodes(Mutex<Vec<Arc<Object<Node>>>>);

impl Nodes {
    fn all(&self, caches: &Caches) -> Vec<Arc<StoredObject>> {
        let nodes = caches.kind::<Node>().list();
        let typed = nodes.iter().filter_map(|object| object.typed()).collect();
        *self.0.lock().expect("no holder of the nodes panics") = typed;
        nodes
    }
}

/// The machine for new Instances of `app`, or why there is none.
pub(super) fn choose(app: &App, caches: &Caches, nodes: &Nodes) -> Result<Place, String> {
    let wanted = amounts(&app.spec.resources.requests);
    let requested = match wanted.is_empty() {
        true => BTreeMap::new(),
        false => place::requested(&caches.kind::<Instance>().list()),
    };
    place::among(&nodes.all(caches), &requested, &app.spec.node_selector, &wanted)
}

/// Apps that found no room. They have their turn when an Instance that requested something is gone, or needs no room any more.
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
            if caches.kind::<Instance>().typed::<Instance>(&object.key).is_none_or(|i| place::needs_no_room(&i)) {
                keys.extend(homeless.lock().iter().cloned());
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
            waiting.iter().filter(|app| app.namespace == quota.key.namespace).cloned().collect()
        };
        Watched { kind: ResourceQuota::INFO, query: Query::default(), map: Box::new(map), kept: true }
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
