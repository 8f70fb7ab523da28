//! Events: what happened to objects, told to people.
//!
//! Recording never waits. One task writes what was recorded, many at a time and relaxed; the same event again only raises
//! its count. Events are for reading: nothing in appm decides by them.
//!
//! The same task sees what clients write, and keeps all of it within bounds: an event goes an hour after it happened last, an
//! object keeps its newest [`PER_OBJECT`] events of ours and [`PER_OBJECT_OTHERS`] of others', and there are never more
//! than [`TOTAL`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Delta,
    batch::{Batch, is_transient},
    follow,
};
use crate::{
    api::{
        Durability, Event, EventSeries, EventSource, Key, Kind, MicroTime, Object, ObjectMeta, ObjectReference,
        Operation, OperationVerb, StoredObject, Time,
    },
    client::{ChangeType, Query, SharedClient, operation},
    clock::SharedClock,
    policy::backoff,
};

/// Distinct events of ours that one object keeps.
const PER_OBJECT: usize = 24;
/// Distinct events that one object keeps of those that clients write.
const PER_OBJECT_OTHERS: usize = 500;
/// Events in all.
const TOTAL: usize = 10_000;
/// Bytes of a message, as in Kubernetes.
const LONGEST: usize = 1024;
/// How long an event is kept after it happened last.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often expired events are looked for, while there are any events at all.
const SWEEP: Duration = Duration::from_mins(5);
/// How long an event may wait for company, so that telling stays out of the way of doing.
const GATHER: Duration = Duration::from_millis(500);
/// Events written in one transaction.
const BATCH: usize = 256;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    fn word(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

#[derive(Debug)]
struct Record {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    component: &'static str,
    host: Arc<str>,
    at: Timestamp,
}

/// Where one component tells what happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    records: mpsc::UnboundedSender<Record>,
    component: &'static str,
    host: Arc<str>,
}

impl Reporter {
    /// Records that something happened at `at`. Never waits, never fails.
    pub fn record(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
        at: Timestamp,
    ) {
        let (component, host) = (self.component, self.host.clone());
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(LONGEST));
        let record = Record { about, kind, reason: reason.to_owned(), message, component, host, at };
        // The recorder is gone only when the daemon stops.
        let _ = self.records.send(record);
    }
}

/// The one writer of events. [`EventRecorder::run`] must be polled for anything to be written.
pub struct EventRecorder {
    client: SharedClient,
    clock: SharedClock,
    sender: mpsc::UnboundedSender<Record>,
    records: mpsc::UnboundedReceiver<Record>,
    known: BTreeMap<Key, Known>,
    /// `None` sorts before every key, so a range begins there.
    by_object: BTreeSet<(About, Timestamp, Option<Key>)>,
    by_time: BTreeSet<(Timestamp, Key)>,
    dirty: BTreeSet<Key>,
    dropped: BTreeSet<Key>,
}

/// Whose events count together: those about one object, ours and others' apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    object: Arc<str>,
    ours: bool,
}

/// An event as it is, or should soon be, in the store.
#[derive(Debug)]
struct Known {
    about: About,
    last: Timestamp,
    /// Only ours is written again.
    event: Option<Told>,
}

/// An event as JSON: most are never told again, and as a value each has room for much that none of ours says.
#[derive(Debug)]
struct Told(Box<[u8]>);

impl Told {
    fn new(event: &Event) -> Self {
        Self(serde_json::to_vec(event).expect("plain data").into())
    }

    fn event(&self) -> Event {
        serde_json::from_slice(&self.0).expect("it was written here")
    }
}

impl EventRecorder {
    /// A recorder that has written nothing yet.
    pub fn new(client: SharedClient, clock: SharedClock) -> Self {
        let (sender, records) = mpsc::unbounded_channel();
        Self {
            client,
            clock,
            sender,
            records,
            known: BTreeMap::new(),
            by_object: BTreeSet::new(),
            by_time: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dropped: BTreeSet::new(),
        }
    }

    /// The reporter of a component (`appm.dev/agent`) on a host.
    pub fn reporter(&self, component: &'static str, host: &str) -> Reporter {
        Reporter { records: self.sender.clone(), component, host: host.into() }
    }

    /// Writes until `shutdown`, then writes what is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut stored = follow(self.client.clone(), self.clock.clone(), Event::INFO, Query::default());
        if !self.load(&mut stored, &shutdown).await {
            return;
        }
        let mut sweep = self.clock.uptime() + SWEEP;
        let mut failures = 0;
        loop {
            let tick = match self.known.is_empty() {
                true => Box::pin(futures::future::pending()),
                false => self.clock.sleep(sweep.saturating_sub(self.clock.uptime())),
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(record) = self.records.recv() => {
                    self.take(record);
                    let gathered = self.clock.sleep(GATHER);
                    tokio::select! { () = shutdown.cancelled() => break, () = gathered => {} }
                }
                Some(delta) = stored.next() => self.learn(&delta),
                () = tick => {}
            }
            self.take_all();
            if self.clock.uptime() >= sweep {
                self.expire();
                sweep = self.clock.uptime() + SWEEP;
            }
            while !self.flush().await && !shutdown.is_cancelled() {
                let pause = backoff::retry(failures, self.clock.random());
                failures += 1;
                let wake = self.clock.sleep(pause);
                tokio::select! { () = shutdown.cancelled() => {}, () = wake => {} }
                self.take_all();
            }
            failures = 0;
        }
        self.take_all();
        self.flush().await;
    }

    /// Learns the events of former daemons, to go on counting and to let them expire. False at shutdown.
    async fn load(&mut self, stored: &mut BoxStream<'static, Delta>, shutdown: &CancellationToken) -> bool {
        tokio::select! {
            () = shutdown.cancelled() => false,
            first = stored.next() => {
                first.iter().for_each(|delta| self.learn(delta));
                true
            }
        }
    }

    /// What is in the store, written by whomever.
    fn learn(&mut self, delta: &Delta) {
        match delta {
            Delta::Replace(listing) => {
                let there: BTreeSet<&Key> = listing.items.iter().map(|object| &object.key).collect();
                let gone = self.known.keys().filter(|key| !there.contains(key) && !self.dirty.contains(key));
                gone.cloned().collect::<Vec<_>>().iter().for_each(|key| self.forget(key));
                listing.items.iter().for_each(|object| self.see(object, last_told(object)));
            }
            Delta::Change(ChangeType::Deleted, object) if !self.dirty.contains(&object.key) => {
                self.forget(&object.key);
            }
            Delta::Change(ChangeType::Deleted, _) | Delta::Bookmark(_) => {}
            Delta::Change(_, object) => self.see(object, None),
        }
    }

    /// An event as it is in the store; it happened `last`, or just now. What clients say of the future is not believed.
    fn see(&mut self, object: &StoredObject, last: Option<Timestamp>) {
        let now = self.clock.now();
        let last = last.unwrap_or(now).min(now);
        match self.known.get(&object.key) {
            // The echo of our own write.
            Some(known) if known.about.ours => {}
            Some(_) => self.again(&object.key, last),
            None if self.dropped.contains(&object.key) => {}
            None => {
                if let Some(event) = object.typed::<Event>() {
                    self.remember(object.key.clone(), &event.body, last);
                }
            }
        }
    }

    fn remember(&mut self, key: Key, event: &Event, last: Timestamp) {
        let about = about(event);
        self.by_object.insert((about.clone(), last, Some(key.clone())));
        self.by_time.insert((last, key.clone()));
        let event = about.ours.then(|| Told::new(event));
        self.known.insert(key, Known { about: about.clone(), last, event });
        self.cap(&about);
    }

    /// A known event happened once more.
    fn again(&mut self, key: &Key, at: Timestamp) {
        let Some(known) = self.known.get_mut(key) else { return };
        let before = known.last;
        known.last = before.max(at);
        if let Some(told) = &mut known.event {
            let mut event = told.event();
            count(&mut event, known.last);
            *told = Told::new(&event);
        }
        self.by_time.remove(&(before, key.clone()));
        self.by_time.insert((known.last, key.clone()));
        self.by_object.remove(&(known.about.clone(), before, Some(key.clone())));
        self.by_object.insert((known.about.clone(), known.last, Some(key.clone())));
    }

    fn take_all(&mut self) {
        while let Ok(record) = self.records.try_recv() {
            self.take(record);
        }
    }

    fn take(&mut self, record: Record) {
        let key = key_of(&record);
        self.dropped.remove(&key);
        self.dirty.insert(key.clone());
        match self.known.get(&key).is_some_and(|known| known.about.ours) {
            true => self.again(&key, record.at),
            false => {
                // Whoever else wrote something under that name is written over.
                self.forget(&key);
                let last = record.at;
                self.remember(key, &first(record), last);
            }
        }
    }

    /// Drops the oldest of what is too many.
    fn cap(&mut self, about: &About) {
        let most = if about.ours { PER_OBJECT } else { PER_OBJECT_OTHERS };
        let from = (about.clone(), Timestamp::MIN, None);
        let mut of_object = self.by_object.range(&from..).take_while(|(of, ..)| of == about).peekable();
        let oldest = of_object.peek().and_then(|(.., key)| key.as_ref());
        let too_many = oldest.filter(|_| of_object.count() > most);
        let oldest = too_many.or_else(|| Some(&self.by_time.first().filter(|_| self.by_time.len() > TOTAL)?.1));
        if let Some(key) = oldest.cloned() {
            self.drop_event(&key);
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        let old: Vec<Key> =
            self.by_time.iter().take_while(|(last, _)| *last + KEPT <= now).map(|(_, key)| key.clone()).collect();
        for key in old {
            self.drop_event(&key);
        }
    }

    fn drop_event(&mut self, key: &Key) {
        self.forget(key);
        self.dirty.remove(key);
        self.dropped.insert(key.clone());
    }

    fn forget(&mut self, key: &Key) {
        let Some(known) = self.known.remove(key) else { return };
        self.by_time.remove(&(known.last, key.clone()));
        self.by_object.remove(&(known.about, known.last, Some(key.clone())));
    }

    /// Writes what has changed. False if some of it has to be tried again later.
    async fn flush(&mut self) -> bool {
        while !self.dirty.is_empty() || !self.dropped.is_empty() {
            let written: Vec<Key> = self.dirty.iter().take(BATCH).cloned().collect();
            let deleted: Vec<Key> = self.dropped.iter().take(BATCH).cloned().collect();
            let groups =
                written.iter().filter_map(|key| Some(vec![apply(key, self.known.get(key)?.event.as_ref()?.event())]));
            let groups = groups.chain(deleted.iter().map(|key| vec![delete(key)])).collect();
            let batch = Batch { manager: "appm-events", reason: "", durability: Durability::Relaxed };
            let results = batch.write(&*self.client, groups).await;
            let mut transient = false;
            for (key, result) in written.iter().chain(&deleted).zip(results) {
                match result {
                    Err(status) if is_transient(&status) => {
                        transient = true;
                        continue;
                    }
                    // Its namespace is going, or it was deleted by somebody: nobody misses it.
                    Err(_) => self.forget(key),
                    Ok(_) => {}
                }
                self.dirty.remove(key);
                self.dropped.remove(key);
            }
            if transient {
                return false;
            }
        }
        true
    }
}

/// Counts an event that happened again, last at `last`.
fn count(event: &mut Event, last: Timestamp) {
    event.count = event.count.max(1) + 1;
    event.last_timestamp = Some(Time(last));
    event.series = Some(EventSeries { count: event.count, last_observed_time: Some(MicroTime(last)) });
}

/// Reporters of ours have names under this domain.
const OURS: &str = "appm.dev/";

fn about(event: &Event) -> About {
    let object = &event.involved_object;
    let name = match object.uid.as_str() {
        "" => format!("{}/{}/{}", object.kind, object.namespace, object.name),
        uid => uid.to_owned(),
    };
    About { object: name.into(), ours: event.reporting_component.starts_with(OURS) }
}

/// When a stored event happened last, by its own account and not before it was made.
fn last_told(object: &StoredObject) -> Option<Timestamp> {
    let event = object.typed::<Event>()?;
    let series = event.series.as_ref().and_then(|series| series.last_observed_time);
    let told = [series, event.event_time].into_iter().flatten().map(|t| t.0);
    let made = [event.last_timestamp, object.meta().creation_timestamp].into_iter().flatten().map(|t| t.0);
    told.chain(made).max()
}

fn first(record: Record) -> Event {
    Event {
        involved_object: record.about,
        action: record.reason.clone(),
        reason: record.reason,
        message: record.message,
        source: EventSource { component: record.component.to_owned(), host: record.host.to_string() },
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        count: 1,
        kind: record.kind.word().to_owned(),
        event_time: Some(MicroTime(record.at)),
        series: None,
        related: None,
        reporting_component: record.component.to_owned(),
        reporting_instance: record.host.to_string(),
    }
}

/// Equal events have equal names, before and after a restart of the daemon.
fn key_of(record: &Record) -> Key {
    let about = &record.about;
    let parts = [&about.kind, &about.uid, record.kind.word(), &record.reason, &record.message, record.component];
    let digest = Sha256::digest(parts.join("\0"));
    let hash = hex::encode(&digest[..8]);
    // Events about cluster-scoped objects live in the default namespace, as in Kubernetes.
    let namespace = if about.namespace.is_empty() { "default" } else { &about.namespace };
    Key::of::<Event>(namespace, &format!("{}.{hash}", about.name))
}

fn metadata(key: &Key) -> ObjectMeta {
    ObjectMeta { name: key.name.to_string(), namespace: key.namespace.to_string(), ..ObjectMeta::default() }
}

fn apply(key: &Key, event: Event) -> Operation {
    let mut operation = operation(OperationVerb::Apply, &Object::new(metadata(key), event));
    operation.force = true;
    operation
}

fn delete(key: &Key) -> Operation {
    operation(OperationVerb::Delete, &Object::new(metadata(key), Event::default()))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
