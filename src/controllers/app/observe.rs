//! What a pass looks at, read from the caches once.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{depends, instance::held_ports};
use crate::{
    api::{App, Instance, Kind, Object, Revision, Status, StoredObject},
    client::SharedClient,
    controllers::place,
    policy::{place::Place, template},
    runtime::Caches,
};

/// The world as one App's pass sees it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The App's template as its author wrote it.
    pub template: Value,
    /// The App's own Instances, by name.
    pub instances: Vec<Arc<Object<Instance>>>,
    /// The App's own Revisions, by name.
    pub revisions: Vec<Arc<Object<Revision>>>,
    /// What is left of a former App of that name.
    pub leftovers: usize,
    /// The node to place new Instances on, or why there is none.
    pub place: Result<Place, String>,
    /// Since when anybody looks: what happened before is known from what is written only.
    pub since: Timestamp,
    /// Why no more Instances can be made than there is room for, if a quota said so.
    pub full: Option<String>,
    /// What the App waits for, in one sentence; empty if nothing.
    pub hold: String,
}

pub(super) async fn observe(
    client: &SharedClient,
    app: &StoredObject,
    typed: &App,
    caches: &Caches,
    nodes: &place::Nodes,
    since: Timestamp,
) -> Result<Observed, Status> {
    let (namespace, name) = (&app.key.namespace, &app.key.name);
    let uid = app.meta().uid();
    let owned = |object: &Arc<StoredObject>| object.meta().controller().is_some_and(|owner| owner.uid == *uid);
    let instances = caches.kind::<Instance>().controlled_by(namespace, App::INFO.kind, name);
    let revisions = caches.kind::<Revision>().controlled_by(namespace, App::INFO.kind, name);
    let leftovers = instances.iter().chain(&revisions).filter(|o| !owned(o)).count();
    Ok(Observed {
        template: template::of(&spec_of(app)),
        instances: instances.iter().filter(|o| owned(o)).filter_map(|o| o.typed()).collect(),
        revisions: revisions.iter().filter(|o| owned(o)).filter_map(|o| o.typed()).collect(),
        leftovers,
        place: place::choose(client, caches, nodes, &typed.spec.node_selector, &typed.spec.resources.requests).await?,
        since,
        full: None,
        hold: depends::hold(app, caches),
    })
}

/// The spec as its author wrote it.
fn spec_of(app: &StoredObject) -> Value {
    #[derive(serde::Deserialize)]
    struct Wanted {
        #[serde(default)]
        spec: Value,
    }
    serde_json::from_slice::<Wanted>(&app.json).map(|wanted| wanted.spec).unwrap_or_default()
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
