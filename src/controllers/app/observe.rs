//! What a pass looks at, read from the caches once.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{depends, instance::held_ports};
use crate::{
    api::{App, Instance, Kind, Node, Object, Revision, StoredObject},
    policy::template,
    runtime::Caches,
};

/// The world as one App's pass sees it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The App's template as its author wrote it.
    pub template: Value,
    /// The App's own Instances, by name.
    pub instances: Vec<Arc<Object<Instance>>>,
    /// The App's own Revisions, by name.
    pub revisions: Vec<Arc<Object<Revision>>>,
    /// What is left of a former App of that name.
    pub leftovers: usize,
    /// The node to place new Instances on; none is ready if absent.
    pub node: Option<String>,
    /// Since when anybody looks: what happened before is known from what is written only.
    pub since: Timestamp,
    /// What the App waits for, in one sentence; empty if nothing.
    pub hold: String,
}

pub(super) fn observe(app: &StoredObject, caches: &Caches, since: Timestamp) -> Observed {
    let (namespace, name) = (&app.key.namespace, &app.key.name);
    let uid = app.meta().uid();
    let owned = |object: &Arc<StoredObject>| object.meta().controller().is_some_and(|owner| owner.uid == *uid);
    let instances = caches.kind::<Instance>().controlled_by(namespace, App::INFO.kind, name);
    let revisions = caches.kind::<Revision>().controlled_by(namespace, App::INFO.kind, name);
    let leftovers = instances.iter().chain(&revisions).filter(|o| !owned(o)).count();
    Observed {
        template: template::of(&app.value()["spec"]),
        instances: instances.iter().filter(|o| owned(o)).filter_map(|o| o.typed()).collect(),
        revisions: revisions.iter().filter(|o| owned(o)).filter_map(|o| o.typed()).collect(),
        leftovers,
        node: node(caches),
        since,
        hold: depends::hold(app, caches),
    }
}

/// The one node that is ready; the first by name, should there be several.
pub(super) fn node(caches: &Caches) -> Option<String> {
    let nodes = caches.kind::<Node>().list();
    let ready = |object: &Arc<StoredObject>| {
        object
            .typed::<Node>()
            .is_some_and(|node| !node.spec.unschedulable && !node.metadata.is_deleting() && node.status.is_ready())
    };
    nodes.iter().find(|node| ready(node)).map(|node| node.key.name.to_string())
}

/// Every port that an Instance has, whether it runs or not.
pub(super) fn taken_ports(caches: &Caches) -> BTreeSet<u16> {
    let instances = caches.kind::<Instance>().list();
    let typed = instances.iter().filter_map(|object| object.typed::<Instance>());
    let held = |i: Arc<Object<Instance>>| {
        held_ports(&i.spec.ports, i.spec.container.as_ref()).map(|(number, _)| number).collect::<Vec<_>>()
    };
    typed.flat_map(held).collect()
}
