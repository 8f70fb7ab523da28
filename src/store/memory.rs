//! The engine of the simulated world: a disk in memory that can lose what was not synced.
//!
//! [`Memory`] is the disk. It outlives the servers that run on it: [`Memory::engine`] is what one server's store is
//! opened with, and takes the disk away from the server before it.

mod past;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, ready};
use imbl::OrdMap;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Anchor, Before, Bounds, ChangeRow, Engine, EngineError, Group, Limits, Loaded, LoadedObject, Oldest, OpenError,
    Pin, Provenance, Remembered, Retention, RotateError, Sealing, Tail, Txn,
    backup::{Snapshot, SnapshotError},
};
use crate::api::{Body, ChangeLog, Durability, Key, KindInfo, Rev, Uid};

/// The largest commit, as in SQLite's form.
const LARGEST: usize = 1 << 14;

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
    /// Counts engines; only the last one may use the disk.
    lease: Arc<watch::Sender<u64>>,
}

/// With which write the life of a server ends.
///
/// What would come after it is neither written nor answered: whoever waits for it waits until the disk is taken away from that server, and whoever
/// reads finds what was written and told before. So a test can end a life after each write that a server ever does, one by one.
#[derive(Clone, Copy, Debug)]
pub struct LastWrite {
    /// Which transactions count: those that change such an object.
    pub counts: fn(&Key) -> bool,
    /// So many of them, from now on.
    pub after: u64,
    /// Whether they who asked for it still learn that it was written.
    pub told: Told,
}

/// What is known of a last write in the life that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was answered, and what follows from it outside of the disk is done.
    Yes,
    /// The server ended between writing it and knowing that it was written.
    No,
}

#[derive(Debug, Default)]
struct Disk {
    /// What a process that is started now finds.
    written: Image,
    /// What a machine that is started now finds.
    synced: Image,
    boot: u64,
    last: Option<LastWrite>,
    /// How many more commits fail, and what the disk has of them afterwards.
    failing: u32,
}

/// Whose version it is, and the body unless it is a deletion.
type Version = (Key, Uid, Option<Body>);

/// What stands on the disk. Cloning is cheap.
#[derive(Clone, Debug, Default)]
struct Image {
    objects: OrdMap<Key, (Rev, Body)>,
    txns: OrdMap<Rev, (Timestamp, Provenance)>,
    main: OrdMap<(Rev, usize), ChangeRow>,
    short: OrdMap<(Rev, usize), ChangeRow>,
    history: OrdMap<(Rev, usize), Version>,
    pins: OrdMap<(Key, String), Pin>,
    /// What stood is known from here on.
    horizon: Rev,
    reserved: Rev,
    oldest: Oldest,
    anchor: Option<Anchor>,
    clean: bool,
    boot: u64,
}

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// An engine on this disk. Engines that were made before fail from now on, as those of a process that was killed.
    pub fn engine(&self) -> Box<dyn Engine> {
        let lease = self.take_away();
        Box::new(MemoryEngine { disk: self.clone(), lease })
    }

    /// The power fails: what was not synced is gone, engines fail, and the next engine runs in another boot.
    pub fn crash(&self) {
        self.take_away();
        let mut disk = self.lock();
        disk.boot += 1;
        disk.written = disk.synced.clone();
    }

    /// The life of the server that runs now ends with this write.
    pub fn end_with(&self, last: LastWrite) {
        self.lock().last = Some(last);
    }

    /// Whether the last write has been done; what comes after it waits.
    pub fn has_ended(&self) -> bool {
        self.lock().has_ended()
    }

    /// Takes the disk away from whoever had it, and gives the number of who has it next.
    fn take_away(&self) -> u64 {
        self.lock().last = None;
        self.lease.send_modify(|lease| *lease += 1);
        *self.lease.borrow()
    }

    /// The next `count` writes fail, as on a full disk.
    pub fn fail_next(&self, count: u32) {
        self.lock().failing = count;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of the disk panics")
    }
}

struct MemoryEngine {
    disk: Memory,
    lease: u64,
}

impl MemoryEngine {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let disk = self.disk.lock();
        match *self.disk.lease.borrow() == self.lease {
            true => Ok(disk),
            false => Err(gone()),
        }
    }

    /// What a server hears after its last write: nothing, until somebody else has the disk.
    async fn silence(&self) -> EngineError {
        let mut leases = self.disk.lease.subscribe();
        // The sender is as old as the disk.
        let _ = leases.wait_for(|lease| *lease != self.lease).await;
        gone()
    }

    /// The disk for a write, unless it is to fail.
    fn writable(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let mut disk = self.disk()?;
        if disk.has_ended() {
            return Err(gone());
        }
        if disk.failing > 0 {
            disk.failing -= 1;
            return Err(EngineError("the disk is full".to_owned()));
        }
        Ok(disk)
    }
}

fn gone() -> EngineError {
    EngineError("the disk is gone".to_owned())
}

impl Engine for MemoryEngine {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>> {
        let loaded = self.disk().map(|disk| disk.written.load(disk.boot)).map_err(OpenError::Engine);
        Box::pin(ready(loaded))
    }

    fn reserve(&self, end: Rev, oldest: Oldest) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            if self.disk.has_ended() {
                return Err(self.silence().await);
            }
            let mut disk = self.writable()?;
            let boot = disk.boot;
            let image = &mut disk.written;
            (image.reserved, image.oldest, image.clean, image.boot) = (end, oldest, false, boot);
            disk.sync();
            Ok(())
        })
    }

    fn commit(&self, group: Group) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let over = self.disk.has_ended() || self.writable()?.commit(group) == Told::No;
            if over { Err(self.silence().await) } else { Ok(()) }
        })
    }

    fn changes(
        &self,
        kind: &'static KindInfo,
        after: Rev,
        until: Rev,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChangeRow>, EngineError>> {
        let rows = self.disk().map(|disk| {
            let range = (after.next(), 0)..(until.next(), 0);
            let newer = disk.written.log(kind.log).range(range).map(|(_, row)| row);
            newer.filter(|row| row.key.kind == kind).take(limit).cloned().collect()
        });
        Box::pin(ready(rows))
    }

    fn beyond<'a>(&'a self, limits: &'a Limits, now: Timestamp) -> BoxFuture<'a, Result<Bounds, EngineError>> {
        Box::pin(ready(self.disk().map(|disk| disk.written.beyond(limits, now))))
    }

    fn compact(&self, bounds: Bounds, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(ready(self.writable().map(|mut disk| disk.written.compact(bounds, rows))))
    }

    fn anchor(&self, anchor: Anchor) -> BoxFuture<'_, Result<(), EngineError>> {
        let done = self.writable().map(|mut disk| disk.written.anchor = Some(anchor));
        Box::pin(ready(done))
    }

    fn sealing(&self) -> Option<Sealing> {
        None
    }

    fn rotate(&self, _data_keys: bool) -> BoxFuture<'_, Result<Sealing, RotateError>> {
        Box::pin(ready(Err(RotateError::Unsealed)))
    }

    fn reseal(&self, _rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(ready(Ok(false)))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, SnapshotError>> {
        Box::pin(ready(Err(SnapshotError::Engine(EngineError("nothing of it is on a disk".to_owned())))))
    }

    fn tidy(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn largest(&self) -> usize {
        LARGEST
    }

    fn close(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        let done = self.writable().map(|mut disk| {
            disk.written.clean = true;
            disk.sync();
        });
        Box::pin(ready(done))
    }
}

impl Disk {
    /// Writes a group as far as the life of its server lasts; whether that one learns of it.
    fn commit(&mut self, group: Group) -> Told {
        let Group { mut txns, durability } = group;
        let mut told = Told::Yes;
        if let Some(last) = &mut self.last {
            let all = txns.len();
            let counts = |txn: &Txn| txn.rows.iter().any(|row| (last.counts)(&row.key));
            let ends = txns.iter().enumerate().filter(|(_, txn)| counts(txn)).map(|(at, _)| at);
            let ends: Vec<usize> = ends.take(usize::try_from(last.after).unwrap_or(usize::MAX)).collect();
            last.after -= ends.len() as u64;
            if last.after == 0 {
                txns.truncate(ends.last().map_or(0, |at| at + 1));
                // One answer goes to all who wrote together.
                told = if txns.len() == all { last.told } else { Told::No };
            }
        }
        self.written.write(txns);
        if durability == Durability::Durable {
            self.sync();
        }
        told
    }

    fn has_ended(&self) -> bool {
        self.last.is_some_and(|last| last.after == 0)
    }

    fn sync(&mut self) {
        self.synced = self.written.clone();
    }
}

impl Image {
    fn load(&self, boot: u64) -> Loaded {
        let object = |(key, (revision, body)): (&Key, &(Rev, Body))| LoadedObject {
            key: key.clone(),
            revision: *revision,
            body: body.clone(),
        };
        let newest = self.txns.get_max().map_or(Rev(0), |(revision, _)| *revision);
        Loaded {
            objects: self.objects.iter().map(object).collect(),
            last: newest.max(self.oldest.main).max(self.oldest.short),
            reserved: self.reserved,
            oldest: self.oldest,
            tail: if self.clean || self.boot == boot { Tail::Whole } else { Tail::Doubtful },
            anchor: self.anchor.clone(),
            place: "memory".into(),
        }
    }

    fn write(&mut self, txns: Vec<Txn>) {
        for txn in txns {
            for (i, row) in txn.rows.into_iter().enumerate() {
                let place = (txn.revision, i);
                match row.remembered {
                    Remembered::Nothing => None,
                    Remembered::Version(body) => {
                        self.history.insert(place, (row.key.clone(), row.uid.clone(), Some(body)))
                    }
                    Remembered::Deletion => self.history.insert(place, (row.key.clone(), row.uid.clone(), None)),
                };
                let old = match row.deleted {
                    true => self.objects.remove(&row.key),
                    false => self.objects.insert(row.key.clone(), (txn.revision, row.body.clone())),
                };
                let before = old.map_or(Before::Nothing, |(revision, body)| Before::Object(revision, body));
                let log = match row.key.kind.log {
                    ChangeLog::Main => &mut self.main,
                    ChangeLog::Short => &mut self.short,
                };
                let (key, deleted, body) = (row.key, row.deleted, row.body);
                log.insert(place, ChangeRow { revision: txn.revision, key, before, deleted, body });
            }
            self.txns.insert(txn.revision, (txn.at, txn.provenance));
        }
    }

    fn log(&self, log: ChangeLog) -> &OrdMap<(Rev, usize), ChangeRow> {
        match log {
            ChangeLog::Main => &self.main,
            ChangeLog::Short => &self.short,
        }
    }

    fn beyond(&self, limits: &Limits, now: Timestamp) -> Bounds {
        let main = self.last_beyond(&self.main, limits.changes, now);
        let short = self.last_beyond(&self.short, limits.short, now);
        let history = self.last_beyond(&self.history, limits.history, now).max(self.too_large(limits.history_bytes));
        let oldest = Oldest { main: main.max(self.oldest.main), short: short.max(self.oldest.short) };
        Bounds { oldest, history: history.max(self.horizon) }
    }

    /// The newest revision in `log` that is too old or one too many.
    fn last_beyond<V: Clone>(&self, log: &OrdMap<(Rev, usize), V>, keep: Retention, now: Timestamp) -> Rev {
        let old = |revision: &Rev| self.txns.get(revision).is_none_or(|(at, _)| now.duration_since(*at) > keep.age);
        let too_old = log.keys().map(|(revision, _)| *revision).take_while(old).last();
        let too_many = log.keys().rev().nth(usize::try_from(keep.rows).unwrap_or(usize::MAX));
        too_old.max(too_many.map(|(revision, _)| *revision)).unwrap_or_default()
    }

    fn compact(&mut self, bounds: Bounds, rows: usize) -> bool {
        self.oldest = bounds.oldest;
        let more = drop_up_to(&mut self.main, bounds.oldest.main, rows)
            | drop_up_to(&mut self.short, bounds.oldest.short, rows)
            | self.drop_versions(bounds.history, rows);
        self.horizon = bounds.history;
        if !more {
            let kept: std::collections::BTreeSet<Rev> = self.history.keys().map(|(revision, _)| *revision).collect();
            let floor = bounds.oldest.main.min(bounds.oldest.short);
            self.txns = self.txns.iter().filter(|(r, _)| **r > floor || kept.contains(r)).map(clone_pair).collect();
        }
        more
    }
}

fn clone_pair<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}

/// Drops up to `rows` rows at or below the bound; true if there are more.
fn drop_up_to<V: Clone>(log: &mut OrdMap<(Rev, usize), V>, bound: Rev, rows: usize) -> bool {
    for _ in 0..rows {
        match log.get_min().map(|(place, _)| *place) {
            Some(place) if place.0 <= bound => log.remove(&place),
            _ => return false,
        };
    }
    log.get_min().is_some_and(|(place, _)| place.0 <= bound)
}
