//! Garbage collection: dependents go with their last owner, by uid.
//!
//! A re-created owner of the same name is another owner. Nothing is judged before every kind was listed, and an owner
//! counts as absent only when the API itself says so, because the informers of two kinds are never at the same revision.
//! Deletions here are relaxed: what power loss forgets is found again by looking.

mod decide;
mod graph;

use futures::{StreamExt, future::BoxFuture, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    decide::{Action, Observed, OwnerState, decide},
    graph::{Graph, waits},
};
use crate::{
    api::{ChangeLog, Durability, FOREGROUND_FINALIZER, KINDS, Key, KindInfo, OwnerReference, Reason, Status, kinds},
    client::{Query, SharedClient},
    clock::{SharedClock, Timeline},
    policy::backoff,
    runtime::{Next, WorkQueue, batch::Batch, follow},
};

/// Keys that are judged together and written in one transaction.
const TOGETHER: usize = 256;

/// The kinds that have owners or dependents: all but the chatty ones, which expire by themselves.
fn followed() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().copied().filter(|kind| kind.log == ChangeLog::Main && kind.verbs.allow("delete"))
}

/// Collects garbage until `shutdown`. `ready` turns true once everything that was there was judged.
pub async fn run(client: SharedClient, clock: SharedClock, ready: watch::Sender<bool>, shutdown: CancellationToken) {
    let streams = followed().map(|kind| {
        follow(client.clone(), clock.clone(), kind, Query::default()).map(move |delta| (kind, delta)).boxed()
    });
    let mut deltas = stream::select_all(streams.collect::<Vec<_>>());
    let time = Timeline::new(clock.clone());
    let mut collector = Collector { client, clock, time, graph: Graph::new(followed()), queue: WorkQueue::default() };
    loop {
        let wake = collector.next_wake();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _by = collector.time.stepped() => collector.queue.hurry(collector.time.now()),
            Some((kind, delta)) = deltas.next() => {
                let now = collector.time.now();
                collector.graph.apply(kind, &delta).into_iter().for_each(|key| collector.queue.add(key, now));
            }
            () = wake => collector.pass().await,
        }
        if collector.graph.is_synced() && collector.queue.next_due().is_none() {
            ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }
}

struct Collector {
    client: SharedClient,
    clock: SharedClock,
    time: Timeline,
    graph: Graph,
    queue: WorkQueue<Key>,
}

impl Collector {
    fn next_wake(&self) -> BoxFuture<'static, ()> {
        match self.queue.next_due().filter(|_| self.graph.is_synced()) {
            Some(at) => self.time.sleep_until(at),
            None => Box::pin(futures::future::pending()),
        }
    }

    /// Judges what is due, and does it.
    async fn pass(&mut self) {
        let now = self.time.now();
        let mut keys = Vec::new();
        while keys.len() < TOGETHER
            && let Some(key) = self.queue.pop_due(now)
        {
            keys.push(key);
        }
        let (mut groups, mut acting) = (Vec::new(), Vec::new());
        for key in keys {
            match self.observe(&key).await {
                Ok(observed) => {
                    let actions = observed.as_ref().map(decide).unwrap_or_default();
                    match actions.is_empty() {
                        true => self.queue.done(&key, Next::Rest),
                        false => {
                            groups.push(actions.iter().map(Action::operation).collect());
                            acting.push(key);
                        }
                    }
                }
                Err(status) => self.finish(&key, Err(status)),
            }
        }
        let batch = Batch { manager: "appm-gc", reason: "garbage collection", durability: Durability::Relaxed };
        let results = batch.write(&*self.client, groups).await;
        for (key, result) in acting.iter().zip(results) {
            self.finish(key, result.map(drop));
        }
    }

    fn finish(&mut self, key: &Key, result: Result<(), Status>) {
        let next = match result {
            Ok(()) => Next::Rest,
            Err(status) if status.is(Reason::NotFound) => Next::Rest,
            Err(status) => {
                tracing::debug!(%key, %status, "garbage collection is tried again");
                let pause = backoff::retry(self.queue.failures(key), self.clock.random());
                Next::Retry(self.time.now() + pause)
            }
        };
        self.queue.done(key, next);
    }

    async fn observe(&self, key: &Key) -> Result<Option<Observed>, Status> {
        let Some(object) = self.graph.get(key).cloned() else { return Ok(None) };
        let dependents = self.graph.dependents(object.meta().uid()).cloned().collect();
        let mut owners = Vec::new();
        if !object.meta().is_deleting() {
            for reference in &object.meta().owner_references {
                owners.push((reference.clone(), self.owner(key, reference).await?));
            }
        }
        Ok(Some(Observed { object, owners, dependents }))
    }

    async fn owner(&self, dependent: &Key, reference: &OwnerReference) -> Result<OwnerState, Status> {
        let state = |waits| if waits { OwnerState::Waiting } else { OwnerState::There };
        if let Some(owner) = self.graph.find(&reference.uid) {
            return Ok(state(waits(owner, FOREGROUND_FINALIZER)));
        }
        let Some(served) = kinds::find_served(&reference.api_version, &reference.kind) else {
            return Ok(OwnerState::Unknowable);
        };
        let namespace = if served.kind.is_namespaced() { &*dependent.namespace } else { "" };
        let found = self.client.get(&Key::new(served.kind, namespace, &reference.name)).await?;
        Ok(match found.filter(|owner| *owner.meta().uid() == reference.uid) {
            Some(owner) => state(waits(&owner, FOREGROUND_FINALIZER)),
            None => OwnerState::Absent,
        })
    }
}

#[cfg(test)]
mod tests;
