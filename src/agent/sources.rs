//! Reads the ConfigMaps and Secrets that attempts need, when they start and never before.
//!
//! Nothing is kept: what a start reads was true after it was asked for. But starts that ask for the same object while it is
//! on its way already share the next reading of it, so a thousand that begin together cost the API a reading or two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared, try_join_all},
};

use crate::{
    api::{Key, Rev, Status, StoredObject},
    client::{Query, SharedClient},
    clock::SharedClock,
    runtime::{Delta, follow},
};

/// What was found under each key; `None`: no such object.
pub(super) type Found = BTreeMap<Key, Option<Arc<StoredObject>>>;

type Answer = Shared<BoxFuture<'static, Result<Option<Arc<StoredObject>>, Status>>>;

/// One reading of one object.
#[derive(Clone)]
struct Flight {
    answer: Answer,
    /// True once it is on its way: whoever asks later may not share it, for it may see what was true before.
    departed: Arc<AtomicBool>,
}

/// Where ConfigMaps and Secrets come from. Clones share their readings.
#[derive(Clone)]
pub(super) struct Sources {
    client: SharedClient,
    clock: SharedClock,
    flights: Arc<Mutex<BTreeMap<Key, Flight>>>,
}

impl Sources {
    pub(super) fn new(client: SharedClient, clock: SharedClock) -> Self {
        Self { client, clock, flights: Arc::default() }
    }

    /// Reads these objects.
    pub(super) async fn read(&self, keys: BTreeSet<Key>) -> Result<Found, Status> {
        let answers: Vec<_> = keys.iter().map(|key| self.flight(key)).collect();
        let found = try_join_all(answers).await;
        let landed = |flight: &Flight| flight.answer.peek().is_some();
        self.flights.lock().expect("no holder panics").retain(|_, flight| !landed(flight));
        Ok(keys.into_iter().zip(found?).collect())
    }

    /// The next reading of this object that has not begun.
    fn flight(&self, key: &Key) -> Answer {
        let mut flights = self.flights.lock().expect("no holder panics");
        let before = match flights.get(key) {
            Some(flight) if !flight.departed.load(Ordering::Relaxed) => return flight.answer.clone(),
            before => before.map(|flight| flight.answer.clone()),
        };
        let departed = Arc::new(AtomicBool::new(false));
        let (client, key_, has_departed) = (self.client.clone(), key.clone(), departed.clone());
        let answer = async move {
            if let Some(before) = before {
                // One at a time; how that one went is for those who asked before.
                let _ = before.await;
            }
            has_departed.store(true, Ordering::Relaxed);
            client.get(&key_).await
        };
        let answer = answer.boxed().shared();
        flights.insert(key.clone(), Flight { answer: answer.clone(), departed });
        answer
    }

    /// Resolves when this object is another than the one of revision `known`, or than none.
    pub(super) fn changed(&self, key: Key, known: Option<Rev>) -> BoxFuture<'static, Key> {
        let field_selector = format!("metadata.name={}", key.name);
        let query = Query { namespace: Some(key.namespace.to_string()), field_selector, ..Query::default() };
        let mut deltas = follow(self.client.clone(), self.clock.clone(), key.kind, query);
        async move {
            while let Some(delta) = deltas.next().await {
                match delta {
                    Delta::Replace(listing) if listing.items.first().map(|object| object.revision) == known => {}
                    Delta::Bookmark(_) => {}
                    Delta::Replace(_) | Delta::Change(..) => break,
                }
            }
            key
        }
        .boxed()
    }
}
