//! The engine of the simulated world: a disk in memory that can lose what was not synced.
//!
//! [`Memory`] is the disk. It outlives the servers that run on it: [`Memory::engine`] is what one server's store is
//! opened with, and takes the disk away from the server before it.

mod past;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, ready};
use imbl::OrdMap;
use jiff::Timestamp;

use super::{
    Anchor, Before, Bounds, ChangeRow, Engine, EngineError, Group, Limits, Loaded, LoadedObject, Oldest, OpenError,
    Pin, Provenance, Remembered, Retention, RotateError, Sealing, Tail,
    backup::{Snapshot, SnapshotError},
};
use crate::api::{Body, ChangeLog, Durability, Key, KindInfo, Rev, Uid};

/// The largest commit, as in SQLite's form.
const LARGEST: usize = 1 << 14;

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    /// What a process that is started now finds.
    written: Image,
    /// What a machine that is started now finds.
    synced: Image,
    boot: u64,
    /// Counts engines; only the last one may use the disk.
    lease: u64,
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
        let mut disk = self.lock();
        disk.lease += 1;
        Box::new(MemoryEngine { disk: self.clone(), lease: disk.lease })
    }

    /// The power fails: what was not synced is gone, engines fail, and the next engine runs in another boot.
    pub fn crash(&self) {
        let mut disk = self.lock();
        disk.lease += 1;
        disk.boot += 1;
        disk.written = disk.synced.clone();
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
        match disk.lease == self.lease {
            true => Ok(disk),
            false => Err(EngineError("the disk is gone".to_owned())),
        }
    }

    /// The disk for a write, unless it is to fail.
    fn writable(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let mut disk = self.disk()?;
        if disk.failing > 0 {
            disk.failing -= 1;
            return Err(EngineError("the disk is full".to_owned()));
        }
        Ok(disk)
    }
}

impl Engine for MemoryEngine {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>> {
        let loaded = self.disk().map(|disk| disk.written.load(disk.boot)).map_err(OpenError::Engine);
        Box::pin(ready(loaded))
    }

    fn reserve(&self, end: Rev, oldest: Oldest) -> BoxFuture<'_, Result<(), EngineError>> {
        let done = self.writable().map(|mut disk| {
            let boot = disk.boot;
            let image = &mut disk.written;
            (image.reserved, image.oldest, image.clean, image.boot) = (end, oldest, false, boot);
            disk.sync();
        });
        Box::pin(ready(done))
    }

    fn commit(&self, group: Group) -> BoxFuture<'_, Result<(), EngineError>> {
        let done = self.writable().map(|mut disk| {
            let durability = group.durability;
            disk.written.write(group);
            if durability == Durability::Durable {
                disk.sync();
            }
        });
        Box::pin(ready(done))
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

    fn write(&mut self, group: Group) {
        for txn in group.txns {
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
