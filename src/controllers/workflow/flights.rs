//! Messages that are under way: memory only, so whoever comes after this process knows of none.
//!
//! A message is sent when its pass has written down that it is, and withdrawn when a pass names it no more. Its answer stays here until a
//! pass has written down what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::message::{Answer, Sending};
use crate::{api::Key, client::SharedClient};

/// The messages of all runs.
pub(super) struct Flights {
    inner: Arc<Mutex<Inner>>,
    call: mpsc::UnboundedSender<Key>,
    called: Mutex<Option<mpsc::UnboundedReceiver<Key>>>,
}

/// A message that was sent. Dropped, it is withdrawn.
struct Flight {
    task: AbortHandle,
    /// To send it once more does no harm.
    idempotent: bool,
    answer: Option<Arc<Answer>>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Inner = BTreeMap<Key, BTreeMap<String, Flight>>;

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    pub(super) fn new() -> Self {
        let (call, called) = mpsc::unbounded_channel();
        Self { inner: Arc::default(), call, called: Mutex::new(Some(called)) }
    }

    /// The runs for which an answer has come. The first who asks gets them.
    pub(super) fn calls(&self) -> BoxStream<'static, Key> {
        let called = self.called.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream::iter(called)
            .flat_map(|called| stream::unfold(called, |mut called| async move { Some((called.recv().await?, called)) }))
            .boxed()
    }

    /// Those of a run: by the name of the attempt what came of it, or nothing yet.
    pub(super) fn of(&self, run: &Key) -> BTreeMap<String, Option<Arc<Answer>>> {
        let inner = lock(&self.inner);
        let flights = inner.get(run).into_iter().flatten();
        flights.map(|(name, flight)| (name.clone(), flight.answer.clone())).collect()
    }

    /// Whether all of a run may be sent twice.
    pub(super) fn may_go_again(&self, run: &Key) -> bool {
        let inner = lock(&self.inner);
        inner.get(run).into_iter().flatten().all(|(_, flight)| flight.idempotent)
    }

    /// Sends one.
    pub(super) fn send(&self, client: &SharedClient, run: &Key, sending: &Sending) {
        let (client, message) = (client.clone(), sending.message.clone());
        let (inner, call) = (self.inner.clone(), self.call.clone());
        let (key, name) = (run.clone(), sending.name.clone());
        // Held until it is noted, so that no answer comes before.
        let mut flights = lock(&self.inner);
        let sent = tokio::spawn(async move {
            let answer = client.send_task(message).await;
            if let Some(flight) = lock(&inner).get_mut(&key).and_then(|flights| flights.get_mut(&name)) {
                flight.answer = Some(Arc::new(answer));
            }
            // Nobody listens any more when the server stops.
            let _ = call.send(key);
        });
        let flight = Flight { task: sent.abort_handle(), idempotent: sending.message.idempotent, answer: None };
        flights.entry(run.clone()).or_default().insert(sending.name.clone(), flight);
    }

    /// What a run names no more is withdrawn, or written down.
    pub(super) fn keep(&self, run: &Key, named: &BTreeSet<String>) {
        let mut inner = lock(&self.inner);
        let Some(flights) = inner.get_mut(run) else { return };
        flights.retain(|name, _| named.contains(name));
        if flights.is_empty() {
            inner.remove(run);
        }
    }
}
