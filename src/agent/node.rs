//! The Node: what machine this is, and what a reboot means for the Instances on it.
//!
//! The boot id in the store is compared with the machine's. If they differ, everything that ran is gone, and one attempt
//! of each Instance may have been started without a record (a start is recorded durably, but after it). Before anything
//! is started, the store is told durably: what ran is lost, one number is skipped, and this is the new boot.
//! Telling it twice skips two numbers, which harms nobody; so a crash in between needs no care.

use std::{collections::BTreeMap, fs, sync::Arc};

use jiff::Timestamp;
use serde_json::json;

use super::memory::{Memory, Note};
use crate::{
    api::{
        Condition, ConditionStatus, Durability, Instance, Key, Kind, Node, NodeAddress, NodeInfo, NodeStatus, Object,
        ObjectMeta, Operation, OperationVerb, Preconditions, Status, Time,
    },
    client::{Query, SharedClient, operation},
    runtime::batch::Batch,
};

/// Instances whose reboot is told in one transaction.
const BATCH: usize = 500;

/// What the agent says of its machine.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The Node's name.
    pub name: String,
    /// What machine this is, and which boot of it.
    pub info: NodeInfo,
    /// `cpu` (cores), `memory` (bytes).
    pub capacity: BTreeMap<String, String>,
}

impl NodeFacts {
    /// What this machine says of itself. `boot_id` tells one boot from another.
    pub fn of_this_machine(boot_id: String) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let uname = nix::sys::utsname::uname().ok();
        let text = |pick: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|u| pick(u).to_string_lossy().into_owned()).unwrap_or_default()
        };
        let pretty = |line: &str| line.strip_prefix("PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned());
        let memory = |line: &str| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        let machine_id = read("/etc/machine-id").trim().to_owned();
        let info = NodeInfo {
            system_uuid: machine_id.clone(),
            machine_id,
            boot_id,
            kernel_version: text(nix::sys::utsname::UtsName::release),
            os_image: read("/etc/os-release").lines().find_map(pretty).unwrap_or_default(),
            operating_system: std::env::consts::OS.to_owned(),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            kubelet_version: format!("v{}", env!("CARGO_PKG_VERSION")),
            container_runtime_version: format!("appm://{}", env!("CARGO_PKG_VERSION")),
            kube_proxy_version: String::new(),
        };
        let mut capacity = BTreeMap::new();
        if let Ok(cores) = std::thread::available_parallelism() {
            capacity.insert("cpu".to_owned(), cores.to_string());
        }
        if let Some(kilobytes) = read("/proc/meminfo").lines().find_map(memory) {
            capacity.insert("memory".to_owned(), format!("{kilobytes}Ki"));
        }
        Self { name: node_name(&text(nix::sys::utsname::UtsName::nodename)), info, capacity }
    }
}

/// Go's word for an architecture, as Kubernetes uses it.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
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
    let mut conditions = stored.map(|node| node.status.conditions.clone()).unwrap_or_default();
    let ready = Condition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::True,
        reason: "AgentReady".to_owned(),
        message: format!("the agent has been running since {now}"),
        last_transition_time: Time(now),
        observed_generation: None,
    };
    Condition::set(&mut conditions, ready);
    let at = |kind: &str, address: &str| NodeAddress { kind: kind.to_owned(), address: address.to_owned() };
    let status = NodeStatus {
        capacity: facts.capacity.clone(),
        allocatable: facts.capacity.clone(),
        addresses: vec![at("InternalIP", address), at("Hostname", &facts.name)],
        node_info: facts.info.clone(),
        conditions,
    };
    let body = Node { status, ..Node::default() };
    Object::new(metadata(facts), body)
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
