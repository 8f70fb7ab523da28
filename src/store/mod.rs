//! The store: every object in memory, every change one revision, SQLite the durable log.
//!
//! ```text
//!  commit() ──► bounded queue ──► writer (one task) ──► Engine: one transaction, one sync for the whole group
//!                                    │ only after that
//!                                    ▼
//!  get, list ◄── index (memory)   hub ──► one bounded queue per watcher
//! ```
//!
//! Invariants:
//! - A commit is one revision; revisions only grow, and no revision is ever handed out twice with other content.
//! - Readers and watchers see a commit only after the engine has it (and has synced it, if any commit of its group is
//!   durable). An acknowledged durable commit survives power loss.
//! - A watcher sees every change after its cursor once, in order, commit by commit, or is told that it does not.
//! - Reads never touch the disk; a slow watcher never slows the writer.
//!
//! Admission is the only writer of desired state; the server and the in-process client read.

pub mod backup;
mod counters;
mod engine;
mod fork;
mod history;
mod index;
mod limits;
mod lock;
mod memory;
mod model;
mod past;
mod ring;
mod seal;
mod sqlite;
mod watch;
mod witness;
mod writer;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard},
};

use tokio::sync::{Notify, mpsc, oneshot};

pub use engine::{
    Before, Bounds, ChangeRow, Engine, EngineError, Group, Loaded, LoadedObject, Oldest, OpenError, Remembered,
    RotateError, Row, Sealing, Tail, Txn,
};
pub use limits::{Limits, Retention};
pub use memory::{LastWrite, Memory, Told};
pub use model::*;
pub use past::{Archive, AsOf, Horizon, MOST_PINS, PAGE_BYTES, PastTouch, PastTransaction, Pin, Stood, Transactions};
pub use sqlite::{Examination, Sqlite, examine};
pub use watch::Watch;
pub use witness::{Anchor, Testimony, Touched, Witness};

use crate::{
    api::{Body, ChangeLog, Key, KindInfo, Measure, Rev, StoredObject, Uid},
    clock::SharedClock,
    policy::quota::Account,
};
use {
    counters::Counters,
    index::{Index, Objects},
    watch::Hub,
    writer::{Message, Writer},
};

/// The store. Shared by `Arc`; dropping the last one without [`Store::close`] is what a crash looks like.
#[derive(Debug)]
pub struct Store {
    core: Arc<Core>,
    queue: mpsc::Sender<Message>,
}

/// What the store, its writer and its watchers share. Lock order: `hub` before `index`.
struct Core {
    engine: Arc<dyn Engine>,
    limits: Limits,
    index: RwLock<Index>,
    hub: Mutex<Hub>,
    oldest: Mutex<Oldest>,
    counters: Counters,
    /// Told when a group was committed.
    committed: Notify,
    witness: OnceLock<Witness>,
    /// Told when quotas may be used otherwise than before.
    stirred: Notify,
    /// Where the audit log stood when it was last said.
    anchor: Mutex<Option<Anchor>>,
}

/// Figures for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The newest revision.
    pub revision: Rev,
    /// The oldest revision that a watch of a kind of the main log can resume from.
    pub oldest: Rev,
    /// Objects by kind, by the kind's qualified plural.
    pub objects: Vec<(String, usize)>,
    /// Commits that were done.
    pub commits: u64,
    /// Groups in which they were written: one engine transaction each.
    pub groups: u64,
    /// Groups that were synced.
    pub synced: u64,
    /// Commits refused because an expectation did not hold.
    pub conflicts: u64,
    /// Groups that the engine could not write.
    pub failures: u64,
    /// Commits refused because the queue was full.
    pub overloads: u64,
    /// Watchers at present.
    pub watchers: usize,
    /// Watchers that were cut off since the start.
    pub cut_off: u64,
}

impl Store {
    /// Loads everything and starts the writer, on the runtime that is current.
    ///
    /// # Errors
    /// When the engine cannot be read, or cannot record that it is in use.
    pub async fn open(engine: Box<dyn Engine>, clock: SharedClock, limits: Limits) -> Result<Arc<Self>, OpenError> {
        let engine: Arc<dyn Engine> = Arc::from(engine);
        let loaded = engine.load().await?;
        // Revisions that were handed out after the newest that survived must not be handed out again.
        let (revision, oldest) = match loaded.tail {
            Tail::Whole => (loaded.last.max(FIRST), loaded.oldest),
            Tail::Doubtful => {
                let jump = loaded.reserved.max(loaded.last).max(FIRST);
                (jump, Oldest { main: jump, short: jump })
            }
        };
        let oldest = Oldest { main: oldest.main.max(FIRST), short: oldest.short.max(FIRST) };
        let index = Index::load(revision, &loaded.place, loaded.objects)?;
        // The first thing that is written: everything could be read.
        let reserved = Rev(revision.0 + limits.block);
        engine.reserve(reserved, oldest).await.map_err(OpenError::Engine)?;

        Ok(Self::begin(engine, index, (oldest, loaded.anchor), reserved, clock, limits))
    }

    /// A store of these objects, whose writer runs on the runtime that is current; revisions up to `reserved` may be handed out.
    fn begin(
        engine: Arc<dyn Engine>,
        index: Index,
        (oldest, anchor): (Oldest, Option<Anchor>),
        reserved: Rev,
        clock: SharedClock,
        limits: Limits,
    ) -> Arc<Self> {
        let revision = index.revision();
        let core = Arc::new(Core {
            engine,
            hub: Mutex::new(Hub::new(revision, &limits)),
            index: RwLock::new(index),
            oldest: Mutex::new(oldest),
            counters: Counters::default(),
            committed: Notify::new(),
            witness: OnceLock::new(),
            stirred: Notify::new(),
            anchor: Mutex::new(anchor),
            limits,
        });
        let (queue, requests) = mpsc::channel(core.limits.queue);
        let writer = Writer::new(core.clone(), clock, revision, reserved);
        tokio::spawn(writer.run(requests));
        Arc::new(Self { core, queue })
    }

    /// The newest revision.
    pub fn revision(&self) -> Rev {
        self.core.index().revision()
    }

    /// A number that is another one whenever an object of the kind has changed: for what is made of all of them.
    pub fn changes_of(&self, kind: &'static KindInfo) -> u64 {
        self.core.index().changes_of(kind)
    }

    /// The object, as it is now.
    pub fn get(&self, key: &Key) -> Option<Arc<StoredObject>> {
        self.core.index().get(key).cloned()
    }

    /// The objects of a kind, in one namespace or in all, from one revision. Never touches the disk.
    pub fn list(&self, kind: &'static KindInfo, namespace: Option<&str>) -> Snapshot {
        let (revision, objects) = self.core.index().objects(kind);
        Snapshot { revision, items: index::select(&objects, namespace) }
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &'static KindInfo) -> usize {
        self.core.index().count_of(kind)
    }

    /// The objects of a kind as they were at a revision, as far as the recent changes in memory reach back; `None` beyond
    /// that, and for a revision that is still to come.
    pub fn list_at(&self, kind: &'static KindInfo, namespace: Option<&str>, at: Rev) -> Option<Snapshot> {
        let hub = self.core.hub();
        let (revision, mut objects) = self.core.index().objects(kind);
        let since = hub.since(kind, at)?;
        drop(hub);
        for change in since.iter().rev().flat_map(|batch| batch.changes.iter().rev()) {
            index::undo(&mut objects, change);
        }
        (at <= revision).then(|| Snapshot { revision: at, items: index::select(&objects, namespace) })
    }

    /// The keys of all objects that name `owner` in their owner references, sorted.
    pub fn dependents(&self, owner: &Uid) -> Vec<Key> {
        self.core.index().dependents(owner)
    }

    /// The key of the live object of that uid.
    pub fn find_uid(&self, uid: &Uid) -> Option<Key> {
        self.core.index().find_uid(uid).cloned()
    }

    /// The last state of an object of that uid that was deleted lately: as long as watches are resumed from memory.
    pub fn gone(&self, uid: &Uid) -> Option<Arc<StoredObject>> {
        self.core.hub().gone(uid)
    }

    /// How much of something an account has.
    pub fn used(&self, account: &Account, measure: Measure) -> i128 {
        self.core.index().sums().get(account, measure)
    }

    /// The namespaces with ResourceQuotas in which what is used, or a quota, has changed since this was asked last; waits for the first.
    /// For one who asks. Cancel-safe.
    pub async fn stirred(&self) -> BTreeSet<Arc<str>> {
        loop {
            let told = self.core.stirred.notified();
            if self.core.index().is_stirred() {
                return self.core.index.write().expect("nobody panics while holding the index").take_stirred();
            }
            told.await;
        }
    }

    /// Shows objects of a kind that is not stored, all of them, from now on. Nobody watches the kind yet; a watch from an
    /// earlier revision, which may have seen others, gets [`WatchError::Expired`].
    pub fn provide(&self, kind: &'static KindInfo, objects: Vec<(Key, Body)>) {
        self.core.index.write().expect("nobody panics while holding the index").provide(kind, objects);
    }

    /// Resolves when something was committed since it resolved last. For one caller at a time. Cancel-safe.
    pub async fn committed(&self) {
        self.core.committed.notified().await;
    }

    /// Nothing was committed for a while: an eighth of the recent Events stays in memory, and no room for decoded objects.
    pub fn rest(&self) {
        self.core.hub().rest(self.core.limits.ring_bytes / 8);
        let all = self.core.index().everything();
        all.iter().flat_map(Objects::values).for_each(|object| object.rest());
    }

    /// How many writes one commit may have.
    pub fn largest(&self) -> usize {
        self.core.engine.largest()
    }

    /// Does all writes of `commit` in one revision, or none. Answers when the commit counts as done.
    ///
    /// Not cancel-safe: a dropped call may or may not have been done.
    ///
    /// # Errors
    /// See [`CommitError`]; nothing was done then.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        debug_assert!(!commit.writes.is_empty(), "a commit without writes has no revision to give");
        let (writes, largest) = (commit.writes.len(), self.largest());
        if writes > largest {
            return Err(CommitError::TooLarge { writes, largest });
        }
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Message::Commit { commit: Box::new(commit), reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                self.core.counters.overloads.add();
                CommitError::Overloaded
            }
            mpsc::error::TrySendError::Closed(_) => CommitError::Closed,
        })?;
        answer.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Every change of `kind` after `from`. Also after a restart, as long as the change log reaches back so far.
    ///
    /// # Errors
    /// [`WatchError::Expired`] if it does not, [`WatchError::Future`] if `from` was never handed out.
    pub async fn watch(&self, kind: &'static KindInfo, from: Rev) -> Result<Watch, WatchError> {
        Watch::resume(&self.core, kind, from)
    }

    /// All objects of `kind`, and every change after that. Nothing falls between the two.
    pub fn list_and_watch(&self, kind: &'static KindInfo) -> (Snapshot, Watch) {
        let mut hub = self.core.hub();
        let (revision, objects) = self.core.index().objects(kind);
        let watch = Watch::live(&self.core, &mut hub, kind);
        drop(hub);
        (Snapshot { revision, items: index::select(&objects, None) }, watch)
    }

    /// The oldest revision that a watch of a kind of the main log can resume from.
    pub fn oldest(&self) -> Rev {
        self.core.oldest(ChangeLog::Main)
    }

    /// The oldest revision that a watch of `kind` can resume from.
    pub fn oldest_of(&self, kind: &'static KindInfo) -> Rev {
        self.core.oldest(kind.log)
    }

    /// From now on what is asked for from outside needs a witness. The first one stays.
    pub fn set_witness(&self, witness: Witness) {
        let _ = self.core.witness.set(witness);
    }

    /// Remembers where the audit log stands.
    ///
    /// # Errors
    /// When the engine cannot write it.
    pub async fn anchor(&self, anchor: Anchor) -> Result<(), EngineError> {
        self.core.engine.anchor(anchor.clone()).await?;
        *self.core.anchor.lock().expect("nobody panics while holding it") = Some(anchor);
        Ok(())
    }

    /// Where the audit log stood when it was last said.
    pub fn anchored(&self) -> Option<Anchor> {
        self.core.anchor.lock().expect("nobody panics while holding it").clone()
    }

    /// How what is stored is sealed; `None` where nothing reaches a disk.
    pub fn sealing(&self) -> Option<Sealing> {
        self.core.engine.sealing()
    }

    /// Takes a new wrapping key in use, and with `data_keys` new data keys; bodies are then sealed anew little by little,
    /// beside all else.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub async fn rotate_keys(&self, data_keys: bool) -> Result<Sealing, RotateError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Message::Rotate { data_keys, reply }).await.map_err(|_| RotateError::Closed)?;
        answer.await.unwrap_or(Err(RotateError::Closed))
    }

    /// A copy of the database as it is now, made beside all else. One at a time.
    ///
    /// # Errors
    /// See [`SnapshotError`]; where nothing reaches a disk there is nothing to copy.
    pub async fn snapshot(&self) -> Result<backup::Snapshot, backup::SnapshotError> {
        self.core.engine.snapshot().await
    }

    /// Figures for `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let (watchers, cut_off) = self.core.hub().census();
        let index = self.core.index();
        let counters = &self.core.counters;
        Metrics {
            revision: index.revision(),
            oldest: self.oldest(),
            objects: index.counts(),
            commits: counters.commits.get(),
            groups: counters.groups.get(),
            synced: counters.synced.get(),
            conflicts: counters.conflicts.get(),
            failures: counters.failures.get(),
            overloads: counters.overloads.get(),
            watchers,
            cut_off,
        }
    }

    /// Writes what is queued, ends all watches and marks the shutdown as clean. Later commits get `Closed`.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.queue.send(Message::Close { reply }).await.is_ok() {
            // An error means that another close was first.
            let _ = done.await;
        }
    }
}

/// The revision of an empty store. Not 0, which means "any" to clients.
const FIRST: Rev = Rev(1);

impl Core {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("nobody panics while holding the index")
    }

    fn hub(&self) -> std::sync::MutexGuard<'_, Hub> {
        self.hub.lock().expect("nobody panics while holding the hub")
    }

    fn oldest(&self, log: ChangeLog) -> Rev {
        self.all_oldest().of(log)
    }

    fn all_oldest(&self) -> std::sync::MutexGuard<'_, Oldest> {
        self.oldest.lock().expect("nobody panics while holding these two numbers")
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("revision", &self.index().revision()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fork_tests;
#[cfg(test)]
mod past_tests;
#[cfg(test)]
mod tests;
