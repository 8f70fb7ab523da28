//! The pump: one task for each controller that keeps its caches, hands keys out and runs passes.
//!
//! Passes of different keys run concurrently (up to [`IN_FLIGHT`], so that the store can commit them in groups), passes
//! of one key never do. A pass that panics fails like any other: it is tried again by backoff, and the others go on.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered},
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Caches, Delta, Next, WorkQueue, follow};
use crate::{
    api::{Key, KindInfo, Reason, Status, StoredObject},
    client::{Query, SharedClient},
    clock::{SharedClock, Timeline},
    policy::backoff,
};

/// Passes that run at once.
const IN_FLIGHT: usize = 64;

/// Which keys of the primary kind an object speaks for.
pub type Map = Box<dyn Fn(&StoredObject, &Caches) -> Vec<Key> + Send + Sync>;

/// A kind that a controller looks at.
pub struct Watched {
    /// The kind.
    pub kind: &'static KindInfo,
    /// Which objects of it.
    pub query: Query,
    /// What a change of one of them means.
    pub map: Map,
    /// Whether its objects are kept in the caches. Those of a kind that is not are only heard of: what went while nobody could
    /// hear it is not known, so every key of the primary kind, the first that is watched, has its turn after a gap.
    pub kept: bool,
}

impl Watched {
    /// Objects of the primary kind: a change means the object itself.
    pub fn primary(kind: &'static KindInfo) -> Self {
        Self { kind, query: Query::default(), map: Box::new(|object, _| vec![object.key.clone()]), kept: true }
    }

    /// Objects that a primary controls: a change means the owner.
    pub fn controlled(kind: &'static KindInfo, owner: &'static KindInfo) -> Self {
        let map = move |object: &StoredObject, _: &Caches| {
            let controller = object.meta().controller().filter(|o| o.kind == owner.kind);
            controller.map(|o| Key::new(owner, &object.key.namespace, &o.name)).into_iter().collect()
        };
        Self { kind, query: Query::default(), map: Box::new(map), kept: true }
    }
}

/// When a key's turn comes again, if nothing changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Not at all.
    Rest,
    /// Then.
    At(Timestamp),
}

/// Keeps the world equal to what objects of one kind declare.
pub trait Controller: Send + Sync + 'static {
    /// For the log.
    fn name(&self) -> &'static str;

    /// The kinds it looks at.
    fn watches(&self) -> Vec<Watched>;

    /// One pass: observe (from the caches), decide, execute. Level-triggered; the object may be gone. Safe to repeat
    /// after a crash at any await. Own writes must be given to [`Caches::written`]. `now` is of the pump's [`Timeline`].
    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>>;

    /// The time of day was set, to `now`; every key that waits for a time gets its turn.
    fn stepped(&self, _now: Timestamp) {}

    /// Keys whose turn comes because of something that no object tells: an answer that the controller waits for. Asked for once.
    fn calls(&self) -> BoxStream<'static, Key> {
        stream::pending().boxed()
    }
}

/// Runs a controller until `shutdown`; then ends the passes that have begun and returns.
///
/// `ready` turns true once every cache is synced and every object that was there then has had a pass.
pub async fn run(
    controller: Arc<dyn Controller>,
    client: SharedClient,
    clock: SharedClock,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let watches = controller.watches();
    let caches = Arc::new(Caches::new(watches.iter().map(|w| w.kind)));
    let streams = watches.iter().enumerate().map(|(i, watched)| {
        follow(client.clone(), clock.clone(), watched.kind, watched.query.clone()).map(move |d| (i, d)).boxed()
    });
    let mut deltas = stream::select_all(streams.collect::<Vec<_>>());
    let time = Timeline::new(clock.clone());
    let mut calls = controller.calls();
    let mut pump = Pump {
        queue: WorkQueue::default(),
        time,
        clock,
        controller,
        caches,
        passes: FuturesUnordered::new(),
        initial: None,
    };
    loop {
        pump.start_passes();
        pump.report(&ready);
        let wake = pump.next_wake();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _by = pump.time.stepped() => pump.stepped(),
            Some(key) = calls.next() => pump.called(key),
            Some((i, delta)) = deltas.next() => pump.learn(&watches[i], watches[0].kind, &delta),
            Some((key, result)) = pump.passes.next() => pump.finish(&key, result),
            () = wake => {}
        }
    }
    while let Some((key, result)) = pump.passes.next().await {
        pump.finish(&key, result);
    }
}

type Pass = BoxFuture<'static, (Key, Result<Requeue, Status>)>;

struct Pump {
    controller: Arc<dyn Controller>,
    clock: SharedClock,
    time: Timeline,
    caches: Arc<Caches>,
    queue: WorkQueue<Key>,
    passes: FuturesUnordered<Pass>,
    /// The keys that were there when the caches were first synced and have had no pass yet.
    initial: Option<BTreeSet<Key>>,
}

impl Pump {
    fn stepped(&mut self) {
        let now = self.time.now();
        self.controller.stepped(now);
        self.queue.hurry(now);
    }

    fn learn(&mut self, watched: &Watched, primary: &'static KindInfo, delta: &Delta) {
        let now = self.time.now();
        let cache = self.caches.of(watched.kind);
        if !watched.kept && matches!(delta, Delta::Replace(_)) {
            self.caches.of(primary).list().iter().for_each(|object| self.queue.add(object.key.clone(), now));
        }
        for object in if watched.kept { cache.apply(delta) } else { cache.hear(delta) } {
            for key in (watched.map)(&object, &self.caches) {
                self.queue.add(key, now);
            }
        }
    }

    fn called(&mut self, key: Key) {
        let now = self.time.now();
        self.queue.add(key, now);
    }

    /// No pass before every cache is synced: until then, absent means unknown.
    fn start_passes(&mut self) {
        if !self.caches.are_synced() {
            return;
        }
        let now = self.time.now();
        self.initial.get_or_insert_with(|| self.queue.waiting_keys().cloned().collect());
        while self.passes.len() < IN_FLIGHT
            && let Some(key) = self.queue.pop_due(now)
        {
            let (controller, caches) = (self.controller.clone(), self.caches.clone());
            self.passes.push(Box::pin(async move {
                let pass = async { controller.reconcile(&key, &caches, now).await };
                let result = AssertUnwindSafe(pass).catch_unwind().await;
                let result = result.unwrap_or_else(|_| Err(Status::internal("the pass panicked")));
                (key, result)
            }));
        }
    }

    fn finish(&mut self, key: &Key, result: Result<Requeue, Status>) {
        let next = match result {
            Ok(Requeue::Rest) => Next::Rest,
            Ok(Requeue::At(at)) => Next::At(at),
            Err(status) => self.retry(key, &status),
        };
        self.queue.done(key, next);
        if let Some(initial) = &mut self.initial {
            initial.remove(key);
        }
    }

    fn retry(&self, key: &Key, status: &Status) -> Next {
        let pause = backoff::retry(self.queue.failures(key), self.clock.random());
        let name = self.controller.name();
        match status.reason {
            Reason::Conflict | Reason::AlreadyExists | Reason::NotFound | Reason::TooManyRequests => {
                tracing::debug!(controller = name, %key, %status, "the pass is repeated");
            }
            _ => tracing::warn!(controller = name, %key, %status, "the pass failed"),
        }
        Next::Retry(self.time.now() + pause)
    }

    fn report(&self, ready: &watch::Sender<bool>) {
        if self.initial.as_ref().is_some_and(BTreeSet::is_empty) {
            ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    fn next_wake(&self) -> BoxFuture<'static, ()> {
        let due = self.queue.next_due().filter(|_| self.caches.are_synced() && self.passes.len() < IN_FLIGHT);
        due.map_or_else(|| futures::future::pending().boxed(), |at| self.time.sleep_until(at))
    }
}
