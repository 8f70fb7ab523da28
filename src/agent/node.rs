//! The Node: what machine this is, and what a reboot means for the Instances on it.
//!
//! The boot id in the store is compared with the machine's. If they differ, everything that ran is gone, and one attempt
//! of each Instance may have been started without a record (a start is recorded durably, but after it). Before anything
//! is started, the store is told durably: what ran is lost, one number is skipped, and this is the new boot.
//! Telling it twice skips two numbers, which harms nobody; so a crash in between needs no care.

mod judge;
mod keep;
mod machine;
mod ports;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use self::judge::Judged;
pub(super) use self::keep::keep;
pub use self::machine::{Disk, Machine, Measured, ThisMachine};
use super::memory::{Memory, Note};
use crate::{
    api::{
        Durability, Instance, Key, Kind, Node, NodeAddress, NodeInfo, NodeStatus, Object, ObjectMeta, Operation,
        OperationVerb, Preconditions, Status,
    },
    client::{Query, SharedClient, operation},
    clock::SharedClock,
    runtime::batch::Batch,
};

/// When a condition is written again that could not be written.
const AGAIN: Duration = Duration::from_secs(1);
/// Instances whose reboot is told in one transaction.
const BATCH: usize = 500;

/// What the agent says of its machine.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The Node's name.
    pub name: String,
    /// What machine this is, and which boot of it.
    pub info: NodeInfo,
    /// `cpu` (cores), `memory` (bytes), `ephemeral-storage` (bytes), `pods`.
    pub capacity: BTreeMap<String, String>,
}

/// A host name as the name of a Node: lower case, everything else than letters, digits, dots and dashes left out.
pub fn node_name(host: &str) -> String {
    let kept = host.to_ascii_lowercase().replace('_', "-");
    let kept: String = kept.chars().filter(|c| c.is_ascii_alphanumeric() || ['-', '.'].contains(c)).collect();
    let labels: Vec<&str> = kept.split('.').map(|l| l.trim_matches('-')).filter(|l| !l.is_empty()).collect();
    let name: String = labels.join(".").chars().take(63).collect();
    match name.trim_end_matches(['-', '.']) {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Which Instances are bound to a node.
pub(super) fn bound_to(node: &str) -> Query {
    Query { field_selector: format!("spec.nodeName={node}"), ..Query::default() }
}

/// Tells the store of this machine and this boot, durably. Returns what people should know of the Instances.
///
/// The write always changes something (the time of the agent's start), so when it is answered, everything that the store
/// showed before it is durable too.
///
/// # Errors
/// When the store does not take it. Safe to repeat.
pub(super) async fn register(
    client: &SharedClient,
    facts: &NodeFacts,
    address: &str,
    now: Timestamp,
) -> Result<Vec<(Arc<Object<Instance>>, Note)>, Status> {
    let key = Key::of::<Node>("", &facts.name);
    let stored = client.get(&key).await?.and_then(|object| object.typed::<Node>());
    let mut operations = Vec::new();
    let mut notes = Vec::new();
    let batch = Batch { manager: "appm-agent", reason: "the agent started", durability: Durability::Durable };
    if stored.as_ref().is_none_or(|node| node.status.node_info.boot_id != facts.info.boot_id) {
        let listing = client.list(Instance::INFO, &bound_to(&facts.name)).await?;
        for instance in listing.items.iter().filter_map(|object| object.typed::<Instance>()) {
            let (operation, told) = rebooted(&instance, now);
            operations.push(operation);
            notes.extend(told.into_iter().map(|note| (instance.clone(), note)));
            if operations.len() == BATCH {
                client.transact(batch.transaction(std::mem::take(&mut operations))).await?;
            }
        }
    }
    if stored.is_none() {
        operations.push(operation(OperationVerb::Create, &Object::new(metadata(facts), Node::default())));
    }
    operations.push(operation(OperationVerb::Status, &node(facts, address, stored.as_deref(), now)));
    client.transact(batch.transaction(operations)).await?;
    Ok(notes)
}

fn rebooted(instance: &Object<Instance>, now: Timestamp) -> (Operation, Vec<Note>) {
    let (memory, notes) = Memory::after_reboot(instance, now);
    let before = &instance.status;
    let status = memory.status(instance, before, &before.address, now).expect("nothing runs after a reboot");
    let meta = &instance.metadata;
    let object = json!({
        "apiVersion": Instance::INFO.api_version(),
        "kind": Instance::INFO.kind,
        "metadata": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid},
        "status": status,
    });
    let mut operation = Operation::new(OperationVerb::Status, object);
    operation.preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
    (operation, notes)
}

fn metadata(facts: &NodeFacts) -> ObjectMeta {
    let labels = [
        ("kubernetes.io/hostname", &facts.name),
        ("kubernetes.io/os", &facts.info.operating_system),
        ("kubernetes.io/arch", &facts.info.architecture),
    ];
    let labels = labels.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), v.clone())).collect();
    ObjectMeta { name: facts.name.clone(), labels, ..ObjectMeta::default() }
}

fn node(facts: &NodeFacts, address: &str, stored: Option<&Object<Node>>, now: Timestamp) -> Object<Node> {
    let before = stored.map(|node| node.status.clone()).unwrap_or_default();
    let ready = Judged::ready(now);
    let at = |kind: &str, address: &str| NodeAddress { kind: kind.to_owned(), address: address.to_owned() };
    let status = NodeStatus {
        capacity: facts.capacity.clone(),
        allocatable: facts.capacity.clone(),
        addresses: vec![at("InternalIP", address), at("Hostname", &facts.name)],
        node_info: facts.info.clone(),
        conditions: judge::conditions(&before.conditions, vec![ready], now),
        ..before
    };
    let body = Node { status, ..Node::default() };
    Object::new(metadata(facts), body)
}

/// Says on the Node whether the engine of containers answers. What cannot be written is said again with the next change.
pub(super) async fn show_engine(client: &SharedClient, clock: &SharedClock, name: &str, trouble: Option<String>) {
    if let Err(status) = show(client, clock, name, Judged::engine(trouble), "the container engine").await {
        tracing::warn!(%status, "the node's condition cannot be written");
    }
}

/// Says on the Node whether the audit log can be written, from now on. Never resolves.
pub async fn show_audit(
    client: SharedClient,
    clock: SharedClock,
    name: String,
    mut trouble: watch::Receiver<Option<String>>,
) {
    loop {
        let now = trouble.borrow_and_update().clone();
        // Before the first start of the agent there is no Node yet; and others write its status, too.
        if show(&client, &clock, &name, Judged::audit(now), "the audit log").await.is_err() {
            clock.sleep(AGAIN).await;
            trouble.mark_changed();
        }
        if trouble.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Writes a condition of the Node.
async fn show(
    client: &SharedClient,
    clock: &SharedClock,
    name: &str,
    judged: Judged,
    reason: &str,
) -> Result<(), Status> {
    let key = Key::of::<Node>("", name);
    let stored = client.get(&key).await?.ok_or_else(|| Status::not_found(&key))?;
    let node = stored.typed::<Node>().ok_or_else(|| Status::not_found(&key))?;
    let mut status = node.status.clone();
    status.conditions = judge::conditions(&status.conditions, vec![judged], clock.now());
    let metadata = ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() };
    let mut write = operation(OperationVerb::Status, &Object::new(metadata, Node { status, ..Node::default() }));
    // What somebody else has written meanwhile is not undone.
    write.preconditions.resource_version = Some(stored.revision.to_string());
    let batch = Batch { manager: "appm-agent", reason, durability: Durability::Relaxed };
    client.transact(batch.transaction(vec![write])).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_names() {
        for (host, name) in [
            ("host-a", "host-a"),
            ("My_Laptop.Local", "my-laptop.local"),
            ("-x-..y-", "x.y"),
            ("äöü", "localhost"),
            ("", "localhost"),
        ] {
            assert_eq!(node_name(host), name, "{host}");
        }
    }
}
