//! Who tells others what became of a Source: a task for each receiver, while there is something to tell it.
//!
//! What is to be told stands in the Source's status, written together with what it tells of, until the receiver has taken it. So nothing is
//! forgotten by a `kill -9`, and what was sent but not yet crossed out is sent again, under the same id. Whoever does not answer is
//! asked again after a while, longer each time, and given up after [`PATIENCE`]; an event says so. Nobody waits for somebody else's receiver.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    api::{
        Key, Object, ObjectReference, PendingNotification, Secret, SecretValue, Source, SourceNotification,
        SourceStatus, WEBHOOK_TOKEN,
    },
    client::{
        SharedClient,
        http::{Told, deliver},
    },
    clock::SharedClock,
    runtime::{EventType, Reporter},
};

/// How long a receiver may take.
const ANSWER: Duration = Duration::from_secs(10);
/// After the first time that it did not take something; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Whoever cannot be told so long after something has happened is not told.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Whom a task tells: of which Source, under which name.
type Address = (Key, String);
/// Which notification to which receiver.
type Delivery = (String, String);

/// All who tell.
pub(super) struct Couriers {
    client: SharedClient,
    clock: SharedClock,
    events: Reporter,
    call: mpsc::UnboundedSender<Key>,
    working: Mutex<BTreeMap<Address, Courier>>,
    /// What need not be told any more, until the status says so.
    ended: Arc<Mutex<BTreeMap<Key, BTreeSet<Delivery>>>>,
}

struct Courier {
    to: SourceNotification,
    /// What it was given to tell, and still stands in the status.
    given: BTreeSet<String>,
    tell: mpsc::UnboundedSender<PendingNotification>,
    _end: DropGuard,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Couriers {
    /// Couriers that give a Source its turn by `call` when somebody was told.
    pub(super) fn new(
        client: SharedClient,
        clock: SharedClock,
        events: Reporter,
        call: mpsc::UnboundedSender<Key>,
    ) -> Self {
        Self { client, clock, events, call, working: Mutex::default(), ended: Arc::default() }
    }

    /// Crosses out of a status what was told.
    pub(super) fn cross_out(&self, source: &Key, status: &mut SourceStatus) {
        let all = lock(&self.ended);
        let Some(ended) = all.get(source) else { return };
        for pending in &mut status.notifications {
            pending.receivers.retain(|name| !ended.contains(&(pending.id.clone(), name.clone())));
        }
        status.notifications.retain(|pending| !pending.receivers.is_empty());
    }

    /// Tells what stands in a Source's status, which was written.
    pub(super) fn go(&self, source: &Object<Source>, status: &SourceStatus) {
        let key = source.key();
        self.forget_ended(&key, status);
        let mut working = lock(&self.working);
        let receivers = || source.spec.notifications.iter().filter(|to| due(status, &to.name).next().is_some());
        working.retain(|(of, name), known| *of != key || receivers().any(|to| to.name == *name && *to == known.to));
        for to in receivers() {
            let begin = || self.begin(source, to.clone());
            let courier = working.entry((key.clone(), to.name.clone())).or_insert_with(begin);
            courier.given.retain(|id| due(status, &to.name).any(|pending| pending.id == *id));
            for pending in due(status, &to.name) {
                if courier.given.insert(pending.id.clone()) {
                    // It listens until it is dropped.
                    let _ = courier.tell.send(pending.clone());
                }
            }
        }
    }

    /// Tells nobody any more: the Source is gone.
    pub(super) fn forget(&self, source: &Key) {
        lock(&self.working).retain(|(of, _), _| of != source);
        lock(&self.ended).remove(source);
    }

    /// What no longer stands in the status need not be remembered.
    fn forget_ended(&self, key: &Key, status: &SourceStatus) {
        let mut all = lock(&self.ended);
        let Some(ended) = all.get_mut(key) else { return };
        ended.retain(|(id, _)| status.notifications.iter().any(|pending| pending.id == *id));
        if ended.is_empty() {
            all.remove(key);
        }
    }

    fn begin(&self, source: &Object<Source>, to: SourceNotification) -> Courier {
        let (end, (tell, told)) = (CancellationToken::new(), mpsc::unbounded_channel());
        let telling = Telling {
            key: source.key(),
            about: ObjectReference::to(source),
            to: to.clone(),
            client: self.client.clone(),
            clock: self.clock.clone(),
            events: self.events.clone(),
            ended: self.ended.clone(),
            call: self.call.clone(),
        };
        let until = end.clone();
        tokio::spawn(async move { until.run_until_cancelled(telling.go_on(told)).await });
        Courier { to, given: BTreeSet::new(), tell, _end: end.drop_guard() }
    }
}

/// A task at work.
struct Telling {
    key: Key,
    about: ObjectReference,
    to: SourceNotification,
    client: SharedClient,
    clock: SharedClock,
    events: Reporter,
    ended: Arc<Mutex<BTreeMap<Key, BTreeSet<Delivery>>>>,
    call: mpsc::UnboundedSender<Key>,
}

impl Telling {
    async fn go_on(self, mut told: mpsc::UnboundedReceiver<PendingNotification>) {
        while let Some(pending) = told.recv().await {
            self.one(&pending).await;
            let delivery = (pending.id, self.to.name.clone());
            lock(&self.ended).entry(self.key.clone()).or_default().insert(delivery);
            // Whoever listens is gone only when the server stops.
            let _ = self.call.send(self.key.clone());
        }
    }

    /// Tells one thing, or gives up.
    async fn one(&self, pending: &PendingNotification) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(why) = self.sent(pending).await else { return };
            let now = self.clock.now();
            if now.duration_since(pending.time.0) + SignedDuration::try_from(pause).unwrap_or_default() > PATIENCE {
                let message = format!("`{}` was not told that it is {:?}: {why}", self.to.name, pending.event);
                self.events.record(self.about.clone(), EventType::Warning, "NotNotified", message, now);
                return;
            }
            tracing::debug!(source = %self.key, receiver = self.to.name, why, "a notification was not taken");
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn sent(&self, pending: &PendingNotification) -> Result<(), String> {
        let (token, authority) = self.secret().await?;
        let body = Bytes::from(body(&self.key, pending).to_string());
        let mut headers =
            vec![("x-appm-event", format!("{:?}", pending.event)), ("x-appm-delivery", pending.id.clone())];
        headers.extend(token.map(|token| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &token), &body);
            let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            ("x-appm-signature-256", format!("sha256={digits}"))
        }));
        let url = &self.to.url;
        let told = Told { url, authority: authority.as_deref(), headers: &headers, body, patience: ANSWER };
        deliver(&told).await.map_err(|error| error.to_string())
    }

    /// What it is signed with, and who may vouch for the receiver: read anew each time.
    async fn secret(&self) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), String> {
        let Some(name) = self.to.secret_ref.as_ref().map(|secret| &secret.name) else { return Ok((None, None)) };
        let key = Key::of::<Secret>(&self.key.namespace, name);
        let found = self.client.get(&key).await.map_err(|status| status.message)?;
        let found = found.and_then(|object| object.typed::<Secret>());
        let found = found.ok_or_else(|| format!("there is no secret `{name}`"))?;
        let entry = |name: &str| found.data.get(name).and_then(SecretValue::bytes).filter(|bytes| !bytes.is_empty());
        match (entry(WEBHOOK_TOKEN), entry("ca.crt")) {
            (None, None) => Err(format!("the secret `{name}` has no entry `{WEBHOOK_TOKEN}`")),
            both => Ok(both),
        }
    }
}

/// What somebody is still to be told.
fn due<'a>(status: &'a SourceStatus, name: &'a str) -> impl Iterator<Item = &'a PendingNotification> {
    status.notifications.iter().filter(move |one| one.receivers.iter().any(|known| known == name))
}

/// What is sent. `text` is for whoever shows it as it is, as chats do.
fn body(source: &Key, pending: &PendingNotification) -> serde_json::Value {
    let PendingNotification { id, event, time, reason, message, revision, .. } = pending;
    let name = format!("{}/{}", source.namespace, source.name);
    json!({
        "id": id, "event": event, "time": time, "reason": reason, "message": message, "revision": revision,
        "source": {"namespace": &*source.namespace, "name": &*source.name},
        "text": format!("source {name}: {event:?}: {message}"),
    })
}
