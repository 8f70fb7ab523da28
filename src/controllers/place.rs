//! Where new Instances go, whoever makes them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{Instance, Node, Object, Quantity, RequestName, StoredObject},
    policy::place::{Amounts, Candidate, Place, amount, amounts, place},
};

/// The machine among `nodes` for an Instance that wants so much, or why there is none. `requested` is what Instances have already.
pub(super) fn among(
    nodes: &[Arc<StoredObject>],
    requested: &BTreeMap<String, Amounts>,
    selector: &BTreeMap<String, String>,
    wanted: &Amounts,
) -> Result<Place, String> {
    let nodes: Vec<Arc<Object<Node>>> = nodes.iter().filter_map(|object| object.typed()).collect();
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
    place(&candidates, selector, wanted)
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
pub(super) fn needs_no_room(instance: &Instance) -> bool {
    instance.spec.once && instance.status.state.exited.is_some()
}

/// What the Instances on each machine request together.
pub(super) fn requested(instances: &[Arc<StoredObject>]) -> BTreeMap<String, Amounts> {
    let mut all: BTreeMap<String, Amounts> = BTreeMap::new();
    let typed = instances.iter().filter_map(|object| object.typed::<Instance>());
    for instance in typed.filter(|instance| !needs_no_room(instance)) {
        for (name, amount) in amounts(&instance.spec.resources.requests) {
            *all.entry(instance.spec.node_name.clone()).or_default().entry(name).or_default() += amount;
        }
    }
    all
}
