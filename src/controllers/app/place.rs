//! Which Apps a machine that changed matters to.

use std::{collections::BTreeMap, sync::Mutex};

use crate::{
    api::{App, Node, StoredObject},
    controllers::place::{allocatable, is_open},
    runtime::{Caches, Map},
};

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
