//! Events: what happened to objects, told to people.
//!
//! Recording never waits. One task writes what was recorded, many at a time and relaxed; the same event again only raises
//! its count. An object keeps its newest [`PER_OBJECT`] events, and an event goes an hour after it happened last.
//! Events are for reading: nothing in appm decides by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, is_transient};
use crate::{
    api::{
        Durability, Event, EventSeries, EventSource, Key, Kind, MicroTime, Object, ObjectMeta, ObjectReference,
        Operation, OperationVerb, Time,
    },
    client::{Query, SharedClient, operation},
    clock::SharedClock,
    policy::backoff,
};

/// Distinct events that one object keeps.
const PER_OBJECT: usize = 24;
/// How long an event is kept after it happened last.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// How often expired events are looked for, while there are any events at all.
const SWEEP: SignedDuration = SignedDuration::from_mins(5);
/// How long an event may wait for company, so that telling stays out of the way of doing.
const GATHER: SignedDuration = SignedDuration::from_millis(500);
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
        let record = Record { about, kind, reason: reason.to_owned(), message: message.into(), component, host, at };
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
    by_object: BTreeMap<String, BTreeSet<Key>>,
    dirty: BTreeSet<Key>,
    dropped: BTreeSet<Key>,
}

/// An event as it is, or should soon be, in the store.
#[derive(Debug)]
struct Known {
    event: Event,
    last: Timestamp,
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
            by_object: BTreeMap::new(),
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
        self.load(&shutdown).await;
        let mut sweep = self.clock.now() + SWEEP;
        let mut failures = 0;
        loop {
            let tick = match self.known.is_empty() {
                true => Box::pin(futures::future::pending()),
                false => self.clock.sleep_until(sweep),
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(record) = self.records.recv() => {
                    self.take(record);
                    let gathered = self.clock.sleep_until(self.clock.now() + GATHER);
                    tokio::select! { () = shutdown.cancelled() => break, () = gathered => {} }
                }
                () = tick => {}
            }
            self.take_all();
            if self.clock.now() >= sweep {
                self.expire();
                sweep = self.clock.now() + SWEEP;
            }
            while !self.flush().await && !shutdown.is_cancelled() {
                let pause = backoff::retry(failures, self.clock.random());
                failures += 1;
                let wake = self.clock.sleep_until(self.clock.now() + pause);
                tokio::select! { () = shutdown.cancelled() => {}, () = wake => {} }
                self.take_all();
            }
            failures = 0;
        }
        self.take_all();
        self.flush().await;
    }

    /// Learns the events of former daemons, to go on counting and to let them expire.
    async fn load(&mut self, shutdown: &CancellationToken) {
        for attempt in 0.. {
            if let Ok(listing) = self.client.list(Event::INFO, &Query::default()).await {
                for object in listing.items {
                    if let Some(event) = object.typed::<Event>() {
                        self.remember(object.key.clone(), event.body.clone());
                    }
                }
                return;
            }
            let wake = self.clock.now() + backoff::retry(attempt, self.clock.random());
            tokio::select! { () = shutdown.cancelled() => return, () = self.clock.sleep_until(wake) => {} }
        }
    }

    fn remember(&mut self, key: Key, event: Event) {
        let last = event.series.as_ref().and_then(|s| s.last_observed_time).or(event.event_time).map(|t| t.0);
        let last = last.or(event.last_timestamp.map(|t| t.0)).unwrap_or_else(|| self.clock.now());
        self.by_object.entry(event.involved_object.uid.clone()).or_default().insert(key.clone());
        self.known.insert(key, Known { event, last });
    }

    fn take_all(&mut self) {
        while let Ok(record) = self.records.try_recv() {
            self.take(record);
        }
    }

    fn take(&mut self, record: Record) {
        let key = key_of(&record);
        match self.known.get_mut(&key) {
            Some(known) => known.again(record.at),
            None => self.remember(key.clone(), first(record)),
        }
        self.dropped.remove(&key);
        let uid = self.known[&key].event.involved_object.uid.clone();
        self.dirty.insert(key);
        self.cap(&uid);
    }

    fn cap(&mut self, uid: &str) {
        let Some(keys) = self.by_object.get(uid).filter(|keys| keys.len() > PER_OBJECT) else { return };
        let oldest = keys.iter().min_by_key(|key| self.known.get(key).map(|k| k.last)).cloned();
        if let Some(key) = oldest {
            self.drop_event(&key);
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now();
        let old: Vec<Key> =
            self.known.iter().filter(|(_, known)| known.last + KEPT <= now).map(|(key, _)| key.clone()).collect();
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
        let uid = &known.event.involved_object.uid;
        if let Some(keys) = self.by_object.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_object.remove(uid);
            }
        }
    }

    /// Writes what has changed. False if some of it has to be tried again later.
    async fn flush(&mut self) -> bool {
        while !self.dirty.is_empty() || !self.dropped.is_empty() {
            let written: Vec<Key> = self.dirty.iter().take(BATCH).cloned().collect();
            let deleted: Vec<Key> = self.dropped.iter().take(BATCH).cloned().collect();
            let groups = written.iter().filter_map(|key| Some(vec![apply(key, &self.known.get(key)?.event)]));
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

impl Known {
    fn again(&mut self, at: Timestamp) {
        let event = &mut self.event;
        self.last = self.last.max(at);
        event.count = event.count.max(1) + 1;
        event.last_timestamp = Some(Time(self.last));
        event.series = Some(EventSeries { count: event.count, last_observed_time: Some(MicroTime(self.last)) });
    }
}

fn first(record: Record) -> Event {
    Event {
        involved_object: record.about,
        reason: record.reason,
        message: record.message,
        source: EventSource { component: record.component.to_owned(), host: record.host.to_string() },
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        count: 1,
        kind: record.kind.word().to_owned(),
        event_time: Some(MicroTime(record.at)),
        series: None,
        action: String::new(),
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
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // Events about cluster-scoped objects live in the default namespace, as in Kubernetes.
    let namespace = if about.namespace.is_empty() { "default" } else { &about.namespace };
    Key::of::<Event>(namespace, &format!("{}.{hash}", about.name))
}

fn metadata(key: &Key) -> ObjectMeta {
    ObjectMeta { name: key.name.to_string(), namespace: key.namespace.to_string(), ..ObjectMeta::default() }
}

fn apply(key: &Key, event: &Event) -> Operation {
    let mut operation = operation(OperationVerb::Apply, &Object::new(metadata(key), event.clone()));
    operation.force = true;
    operation
}

fn delete(key: &Key) -> Operation {
    operation(OperationVerb::Delete, &Object::new(metadata(key), Event::default()))
}
