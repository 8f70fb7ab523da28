//! Keeps the Node's status true: measures once a minute and when somebody asks, writes what is worth it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Machine, NodeFacts, judge, metadata};
use crate::{
    agent::{AgentConfig, looks::Looks},
    api::{Durability, Key, Node, NodeStatus, Object, OperationVerb, Status},
    client::{SharedClient, operation},
    clock::SharedClock,
    runtime::batch::Batch,
};

const EVERY: Duration = Duration::from_secs(60);
/// The first figures come soon after the start, when there is a time to average over.
const FIRST: Duration = Duration::from_secs(2);

/// Never resolves. What cannot be written now is measured and written the next time.
pub(in crate::agent) async fn keep(client: SharedClient, clock: SharedClock, config: AgentConfig, mut looks: Looks) {
    let AgentConfig { node: facts, machine: Some(machine), .. } = config else { return std::future::pending().await };
    let mut next = clock.uptime() + FIRST;
    loop {
        tokio::select! {
            () = clock.sleep(next.saturating_sub(clock.uptime())) => {}
            asker = looks.asked() => if !looks.begins(asker, clock.now()) { continue },
        }
        let now = clock.now();
        let asked = looks.is_under_way();
        if let Err(status) = look(&client, &facts, &machine, asked, now).await {
            tracing::debug!(%status, "the node's figures cannot be written now");
        }
        looks.answer();
        next = clock.uptime() + EVERY;
    }
}

async fn look(
    client: &SharedClient,
    facts: &NodeFacts,
    machine: &Arc<dyn Machine>,
    asked: bool,
    now: Timestamp,
) -> Result<(), Status> {
    // A file system of another machine may keep whoever asks for its size waiting.
    let measuring = machine.clone();
    let Ok(measured) = tokio::task::spawn_blocking(move || measuring.measure()).await else { return Ok(()) };
    let key = Key::of::<Node>("", &facts.name);
    let Some(found) = client.get(&key).await? else { return Ok(()) };
    let (Some(stored), revision) = (found.typed::<Node>(), found.revision.to_string()) else { return Ok(()) };
    let before = &stored.status;
    let mut usage = measured.usage.clone();
    let since = before.usage.as_ref().and_then(|usage| usage.time);
    usage.time = Some(now.into());
    usage.window_seconds = since.map_or(0, |since| now.duration_since(since.0).as_secs().try_into().unwrap_or(0));
    let mut capacity = facts.capacity.clone();
    capacity.insert("ephemeral-storage".to_owned(), format!("{}Ki", measured.disk.bytes / 1024));
    let after = NodeStatus {
        allocatable: capacity.clone(),
        capacity,
        conditions: judge::conditions(&before.conditions, judge::pressures(&measured), now),
        usage: Some(usage),
        host: Some(measured.host),
        ..before.clone()
    };
    if !judge::differs(before, &after, asked, now) {
        return Ok(());
    }
    let mut conditions = after.conditions;
    // It is alive: it says so.
    conditions.iter_mut().for_each(|condition| condition.last_heartbeat_time = Some(now.into()));
    let node = Object::new(metadata(facts), Node { status: NodeStatus { conditions, ..after }, ..Node::default() });
    let batch = Batch { manager: "appm-agent", reason: "the machine was measured", durability: Durability::Relaxed };
    let mut write = operation(OperationVerb::Status, &node);
    // A condition that came meanwhile is not undone.
    write.preconditions.resource_version = Some(revision);
    client.transact(batch.transaction(vec![write])).await?;
    Ok(())
}
