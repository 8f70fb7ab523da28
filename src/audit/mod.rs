//! The audit log: who did what, when, from where, and whether they might. Append-only, chained, on disk before the answer.
//!
//! ```text
//!   server ── Audit::begin, Entry::end ──┐                        ┌─► DATA_DIR/audit/000000000001.jsonl
//!   store's writer ── Audit::witness ────┴─► queue ─► one thread ─┤   one write and one sync for all that waits
//!                                                                 └─► head ─► the store, now and then (an anchor)
//! ```
//!
//! A change is recorded by the store's writer while it is being written, so both syncs go on at the same time and neither
//! is done for one change alone. Everything else is recorded when its answer is known. A reader of the files sees
//! whether a record was changed, taken out or put in; the anchor in the store tells when the newest are missing.
//!
//! Room on the disk is reserved ahead. When no more can be reserved, changes are refused with the reason *before* they
//! are made; reads go on, and what could not be recorded of them is counted.

mod flood;
mod queue;
mod read;
mod record;
mod trail;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot, watch};

pub use read::{Fault, Filter, Follower, Verdict};
pub use record::{Changed, Decision, Record};
pub use trail::OpenError;

use crate::{
    api::Time,
    clock::SharedClock,
    store::{Anchor, Store, Testimony, Witness},
};
use trail::{Message, Trail};

/// What of reads is recorded. Changes, refusals, logins and reads of Secrets always are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing else.
    #[default]
    Changes,
    /// Every read.
    Reads,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its files are.
    pub dir: PathBuf,
    /// What is recorded.
    pub level: Level,
    /// A new file is begun beyond so many bytes, and each day.
    pub max_size: u64,
    /// So many files are kept; 0: all.
    pub max_files: usize,
}

/// Records that may wait for the disk.
const WAITING: usize = 4096;

/// The audit log. Shared by `Arc`.
pub struct Audit {
    settings: Settings,
    clock: SharedClock,
    queue: queue::Sender,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    /// Requests that may change something, until they are answered.
    open: Mutex<HashMap<(String, String), Open>>,
}

/// What the thread tells.
struct Shared {
    /// Why nothing can be written at present.
    trouble: watch::Sender<Option<String>>,
    /// The newest record that is synced.
    head: watch::Sender<Anchor>,
    /// Counts pieces that were written.
    written: watch::Sender<u64>,
}

/// A request that is not answered.
#[derive(Default)]
struct Open {
    draft: Record,
    /// Its changes are recorded.
    recorded: bool,
}

impl Audit {
    /// Goes on with the log in its directory, or begins one. `anchor` is what the store remembers of it.
    ///
    /// # Errors
    /// When its files cannot be read or written.
    pub fn open(settings: Settings, clock: SharedClock, anchor: Option<Anchor>) -> Result<Arc<Self>, OpenError> {
        let trail = Trail::open(&settings, clock.clone(), anchor)?;
        let shared = trail.shared();
        let (queue, waiting) = queue::queue();
        let started = std::thread::Builder::new().name("audit".to_owned()).spawn(move || trail.run(&waiting));
        started.map_err(|source| OpenError { action: "start the writer of", path: settings.dir.clone(), source })?;
        let (room, open) = (Arc::new(Semaphore::new(WAITING)), Mutex::default());
        Ok(Arc::new(Self { settings, clock, queue, room, shared, open }))
    }

    /// Why changes are refused at present.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.borrow().clone()
    }

    /// The same, for whoever waits for it to change.
    pub fn troubles(&self) -> watch::Receiver<Option<String>> {
        self.shared.trouble.subscribe()
    }

    /// What is recorded.
    pub fn level(&self) -> Level {
        self.settings.level
    }

    /// A request that may change something begins: what the store's writer sees of it is recorded as its doing.
    pub fn begin(&self, draft: Record) -> Begun<'_> {
        let key = (draft.request_id.clone(), draft.user.clone());
        self.open_requests().insert(key.clone(), Open { draft, recorded: false });
        Begun { audit: self, key }
    }

    /// Records what is not a change: written with the next that is or a hundredth of a second later, on disk half a second later.
    pub async fn note(&self, mut draft: Record) {
        draft.time = Time(self.clock.now()).to_string();
        let permit = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.queue.send(Message::Note { draft: Box::new(draft), permit });
    }

    /// Everything that was noted so far is on disk.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        self.queue.send(Message::Flush { reply });
        // An error means that the thread is gone.
        let _ = done.await;
    }

    /// What the store's writer asks and tells.
    pub fn witness(self: &Arc<Self>) -> Witness {
        let (asked, told) = (self.clone(), self.clone());
        Witness {
            refuses: Box::new(move || asked.trouble()),
            tell: Box::new(move |testimonies| told.testify(testimonies)),
        }
    }

    fn testify(&self, testimonies: Vec<Testimony>) -> BoxFuture<'static, Result<(), String>> {
        let time = Time(self.clock.now()).to_string();
        let mut open = self.open_requests();
        let deeds = testimonies.into_iter().map(|testimony| {
            let by = &testimony.provenance;
            let draft = match open.get_mut(&(by.request_id.clone(), by.actor.clone())) {
                Some(open) => {
                    open.recorded = true;
                    open.draft.clone()
                }
                None => Record { request_id: by.request_id.clone(), user: by.actor.clone(), ..Record::default() },
            };
            let rule = by.rule.clone();
            let draft = Record { time: time.clone(), revision: testimony.revision.0, rule, ..draft };
            (draft, testimony.changes)
        });
        let deeds = deeds.collect();
        drop(open);
        let (reply, done) = oneshot::channel();
        self.queue.send(Message::Deeds { deeds, reply });
        Box::pin(async move { done.await.unwrap_or_else(|_| Err(ENDED.to_owned())) })
    }

    fn open_requests(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Open>> {
        self.open.lock().expect("nobody panics while holding it")
    }

    /// Has the store remember the newest record, now and then, until the log is dropped.
    pub async fn anchor(&self, store: &Store) {
        const EVERY: std::time::Duration = std::time::Duration::from_secs(60);
        let mut head = self.shared.head.subscribe();
        loop {
            self.anchor_now(store).await;
            self.clock.sleep(EVERY).await;
            // Nothing new needs no anchor, and wakes nobody.
            if head.changed().await.is_err() {
                return;
            }
        }
    }

    /// Has the store remember the newest record.
    pub async fn anchor_now(&self, store: &Store) {
        let head = self.shared.head.borrow().clone();
        if let Err(error) = store.anchor(head).await {
            tracing::warn!(%error, "the audit log could not be anchored in the store");
        }
    }

    /// Reads the whole log and says whether it is what was written. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn verify(&self, anchor: Option<Anchor>) -> std::io::Result<Verdict> {
        let head = self.shared.head.borrow().clone();
        read::verify(&self.settings.dir, anchor.as_ref(), Some(&head))
    }

    /// The records that `filter` wants, the last `tail` of them, and whoever wants more after that. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(&self, filter: Filter, tail: usize) -> std::io::Result<(Vec<String>, Follower)> {
        read::last(&self.settings.dir, filter, tail, self.shared.written.subscribe())
    }
}

/// Reads the whole log of a directory and says whether it is what was written. Blocks.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(dir: &std::path::Path, anchor: Option<&Anchor>) -> std::io::Result<Verdict> {
    read::verify(dir, anchor, None)
}

const ENDED: &str = "the writer of the audit log has ended";

/// A request that may change something, while it lasts.
pub struct Begun<'a> {
    audit: &'a Audit,
    key: (String, String),
}

impl Begun<'_> {
    /// Whether its changes are recorded.
    pub fn is_recorded(&self) -> bool {
        self.audit.open_requests().get(&self.key).is_some_and(|open| open.recorded)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.audit.open_requests().remove(&self.key);
    }
}

#[cfg(test)]
mod tests;
