//! The agent's one writer: statuses of many Instances in few transactions.
//!
//! At most one transaction is under way; what comes meanwhile is merged, the latest status of an Instance wins. Two
//! different exits are never merged into one: each stands in `lastExit` of a version of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::{
    api::{
        AGENT_FINALIZER, Durability, Instance, InstanceStatus, Key, Kind, Operation, OperationVerb, Preconditions,
        Reason, Uid,
    },
    client::{Done, SharedClient},
    runtime::batch::{Batch, is_transient},
};

/// Instances in one transaction.
const BATCH: usize = 256;
const MANAGER: &str = "appm-agent";

/// Something to write of one Instance.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) uid: Uid,
    pub(super) what: What,
    pub(super) durability: Durability,
}

/// What to write.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The status.
    Status(Box<InstanceStatus>),
    /// The whole object without our finalizer: nothing of it is left on this machine.
    Release(Box<Value>),
}

/// How the writing of an entry went.
pub(super) enum Written {
    /// It is in the store, as durable as asked for or more.
    Stored(Vec<Done>, Durability),
    /// The store has no such Instance any more, or will never take this.
    Refused,
    /// Not now.
    Later,
}

/// Entries that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pending: BTreeMap<Uid, VecDeque<Entry>>,
    /// The exits that were handed to the store last.
    issued: BTreeMap<Uid, u32>,
    /// Of whom something is in the transaction that is under way.
    pub(super) in_flight: BTreeSet<Uid>,
    /// Of whom something was handed to somebody else, who writes it.
    handed: BTreeSet<Uid>,
}

fn exit_of(what: &What) -> Option<u32> {
    match what {
        What::Status(status) => Some(status.last_exit.as_ref().map_or(0, |exit| exit.attempt)),
        What::Release(_) => None,
    }
}

impl Writer {
    /// Puts an entry in line, in place of one that says less and hides no exit.
    pub(super) fn push(&mut self, entry: Entry) {
        let issued = self.issued.get(&entry.uid).copied().unwrap_or(0);
        let line = self.pending.entry(entry.uid.clone()).or_default();
        let merges = line.back().is_some_and(|last| match (exit_of(&last.what), exit_of(&entry.what)) {
            (Some(last), Some(next)) => last == next || last <= issued,
            _ => false,
        });
        match line.back_mut().filter(|_| merges) {
            Some(last) => {
                let durability = last.durability.max(entry.durability);
                *last = Entry { durability, ..entry };
            }
            None => line.push_back(entry),
        }
    }

    /// Takes the next batch, one entry of each Instance, if none is under way.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        if !self.in_flight.is_empty() || self.pending.is_empty() {
            return Vec::new();
        }
        let uids: Vec<Uid> =
            self.pending.keys().filter(|uid| !self.handed.contains(*uid)).take(BATCH).cloned().collect();
        let mut batch = Vec::with_capacity(uids.len());
        for uid in uids {
            let Some(line) = self.pending.get_mut(&uid) else { continue };
            batch.extend(line.pop_front());
            if line.is_empty() {
                self.pending.remove(&uid);
            }
        }
        for entry in &batch {
            if let Some(exit) = exit_of(&entry.what) {
                self.issued.insert(entry.uid.clone(), exit);
            }
        }
        self.in_flight = batch.iter().map(|entry| entry.uid.clone()).collect();
        batch
    }

    /// Notes that an entry is handed to somebody else; false if something of its Instance is before it.
    pub(super) fn hand_over(&mut self, entry: &Entry) -> bool {
        let uid = &entry.uid;
        if self.pending.contains_key(uid) || self.in_flight.contains(uid) || !self.handed.insert(uid.clone()) {
            return false;
        }
        if let Some(exit) = exit_of(&entry.what) {
            self.issued.insert(uid.clone(), exit);
        }
        true
    }

    /// What was handed over was written, or comes back.
    pub(super) fn handed_back(&mut self, uid: &Uid) {
        self.handed.remove(uid);
    }

    /// Puts an entry that could not be written back at the head of its line.
    pub(super) fn put_back(&mut self, entry: Entry) {
        // The store may not have that exit after all: nothing may take its place.
        self.issued.remove(&entry.uid);
        let line = self.pending.entry(entry.uid.clone()).or_default();
        let says_more = line.front().is_some_and(|next| exit_of(&next.what) == exit_of(&entry.what));
        match line.front_mut().filter(|_| says_more) {
            Some(next) => next.durability = next.durability.max(entry.durability),
            None => line.push_front(entry),
        }
    }

    /// Forgets an Instance.
    pub(super) fn forget(&mut self, uid: &Uid) {
        self.pending.remove(uid);
        self.issued.remove(uid);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.handed.is_empty() && self.pending.is_empty()
    }
}

/// Writes a batch: all in one transaction, as durable as the most demanding of them.
pub(super) async fn write(client: SharedClient, batch: Vec<Entry>) -> Vec<(Entry, Written)> {
    let durability = batch.iter().map(|entry| entry.durability).max().unwrap_or_default();
    let groups = batch.iter().map(|entry| vec![operation(entry)]).collect();
    let results = Batch { manager: MANAGER, reason: "", durability }.write(&*client, groups).await;
    let judged = results.into_iter().map(|result| match result {
        Ok(done) => Written::Stored(done, durability),
        Err(status) if is_transient(&status) => Written::Later,
        Err(status) => {
            // Gone is normal; anything else is a disagreement between this agent and its server.
            if !matches!(status.reason, Reason::NotFound | Reason::Conflict) {
                tracing::error!(%status, "the store refuses what became of an instance");
            }
            Written::Refused
        }
    });
    batch.into_iter().zip(judged).collect()
}

fn operation(entry: &Entry) -> Operation {
    let mut operation = match &entry.what {
        What::Status(status) => {
            let object = json!({
                "apiVersion": Instance::INFO.api_version(),
                "kind": Instance::INFO.kind,
                "metadata": {"namespace": &*entry.key.namespace, "name": &*entry.key.name, "uid": entry.uid},
                "status": status,
            });
            Operation::new(OperationVerb::Status, object)
        }
        What::Release(object) => Operation::new(OperationVerb::Update, (**object).clone()),
    };
    operation.preconditions = Preconditions { uid: Some(entry.uid.clone()), resource_version: None };
    operation
}

/// The Instance without our finalizer, whatever its revision is by now.
pub(super) fn released(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("resourceVersion");
        metadata.shift_remove("managedFields");
        if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| finalizer != AGENT_FINALIZER);
        }
    }
    object
}

/// What of a status must not be lost: which attempts there were, and how they ended.
pub(super) fn records(status: &InstanceStatus) -> (u32, Option<u32>, bool) {
    (status.attempt, status.last_exit.as_ref().map(|exit| exit.attempt), status.state.exited.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Exit;

    fn entry(attempt: u32, exit: u32, durability: Durability) -> Entry {
        let last_exit = (exit > 0).then(|| Exit { attempt: exit, ..Exit::default() });
        let status = InstanceStatus { attempt, last_exit, ..InstanceStatus::default() };
        let what = What::Status(Box::new(status));
        Entry { key: Key::of::<Instance>("default", "a"), uid: "u".into(), what, durability }
    }

    fn shown(batch: &[Entry]) -> Vec<(u32, Durability)> {
        let attempt = |e: &Entry| match &e.what {
            What::Status(status) => status.attempt,
            What::Release(_) => 0,
        };
        batch.iter().map(|e| (attempt(e), e.durability)).collect()
    }

    #[test]
    fn the_latest_status_wins_and_keeps_the_strongest_promise() {
        let mut writer = Writer::default();
        writer.push(entry(1, 0, Durability::Durable));
        writer.push(entry(2, 0, Durability::Relaxed));
        assert_eq!(shown(&writer.take()), [(2, Durability::Durable)]);
        writer.push(entry(3, 0, Durability::Relaxed));
        assert!(writer.take().is_empty(), "one transaction at a time");
    }

    #[test]
    fn two_exits_are_never_merged() {
        let mut writer = Writer::default();
        writer.push(entry(2, 1, Durability::Durable));
        writer.push(entry(2, 2, Durability::Durable));
        writer.push(entry(3, 2, Durability::Durable));
        assert_eq!(shown(&writer.take()), [(2, Durability::Durable)]);
        writer.in_flight.clear();
        assert_eq!(shown(&writer.take()), [(3, Durability::Durable)]);
    }

    #[test]
    fn an_exit_that_could_not_be_written_is_not_merged_away() {
        let mut writer = Writer::default();
        writer.push(entry(2, 2, Durability::Durable));
        let batch = writer.take();
        writer.in_flight.clear();
        batch.into_iter().for_each(|e| writer.put_back(e));
        writer.push(entry(3, 3, Durability::Durable));
        assert_eq!(shown(&writer.take()), [(2, Durability::Durable)]);
    }

    #[test]
    fn what_was_handed_over_is_overtaken_by_nothing() {
        let mut writer = Writer::default();
        let end = entry(1, 1, Durability::Durable);
        writer.push(entry(1, 0, Durability::Relaxed));
        assert!(!writer.hand_over(&end), "something waits before it");
        assert_eq!(writer.take().len(), 1);
        assert!(!writer.hand_over(&end), "something is being written before it");
        writer.in_flight.clear();
        assert!(writer.hand_over(&end) && !writer.hand_over(&end) && !writer.is_idle());
        writer.push(entry(2, 1, Durability::Relaxed));
        assert!(writer.take().is_empty());
        writer.handed_back(&end.uid);
        writer.put_back(end);
        assert_eq!(
            shown(&writer.take()),
            [(2, Durability::Durable)],
            "what came later says the same exit, and is as durable"
        );
    }

    #[test]
    fn what_could_not_be_written_stays_at_the_head() {
        let mut writer = Writer::default();
        writer.push(entry(1, 0, Durability::Durable));
        let batch = writer.take();
        writer.push(entry(2, 1, Durability::Relaxed));
        writer.in_flight.clear();
        batch.into_iter().for_each(|e| writer.put_back(e));
        assert_eq!(shown(&writer.take()), [(1, Durability::Durable)]);
        writer.in_flight.clear();
        assert_eq!(shown(&writer.take()), [(2, Durability::Relaxed)]);
        writer.in_flight.clear();
        assert!(writer.is_idle());
    }
}
