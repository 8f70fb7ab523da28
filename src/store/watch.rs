//! Watches: a bounded queue for each, filled by the writer; what came before is read from the ring or from disk.
//!
//! The hub's lock is held while the writer publishes a group, so a watcher that registers under it has exactly the
//! changes after the revision that it saw. A watcher whose queue is full is dropped from the hub: it reads what is
//! queued and is then told [`WatchError::TooSlow`].

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

use super::{
    Batch, Before, Change, ChangeRow, Core, Limits, WatchError,
    ring::{Ring, weight},
};
use crate::api::{ChangeLog, KindInfo, Rev, StoredObject, Uid};

/// Everybody who watches.
pub(super) struct Hub {
    outlets: BTreeMap<&'static KindInfo, Vec<Outlet>>,
    main: Ring,
    short: Ring,
    closed: bool,
    cut_off: u64,
    batches: usize,
    bytes: usize,
}

/// The hub's end of one watcher's queue.
struct Outlet {
    queue: mpsc::UnboundedSender<Arc<Batch>>,
    gauge: Arc<Gauge>,
}

/// What waits in one watcher's queue.
#[derive(Debug, Default)]
struct Gauge {
    batches: AtomicUsize,
    bytes: AtomicUsize,
    too_slow: AtomicBool,
}

enum Offered {
    Taken,
    Gone,
    TooSlow,
}

impl Hub {
    pub(super) fn new(revision: Rev, limits: &Limits) -> Self {
        Self {
            outlets: BTreeMap::new(),
            main: Ring::new(revision, limits.ring_bytes),
            short: Ring::new(revision, limits.ring_bytes),
            closed: false,
            cut_off: 0,
            batches: limits.watcher_batches,
            bytes: limits.watcher_bytes,
        }
    }

    /// Gives a batch to everybody who watches the kind. Called in the order of revisions.
    pub(super) fn publish(&mut self, kind: &'static KindInfo, batch: Arc<Batch>) {
        let (bytes, most_batches, most_bytes) = (weight(&batch), self.batches, self.bytes);
        if let Some(outlets) = self.outlets.get_mut(kind) {
            outlets.retain(|outlet| match outlet.offer(&batch, bytes, most_batches, most_bytes) {
                Offered::Taken => true,
                Offered::Gone => false,
                Offered::TooSlow => {
                    self.cut_off += 1;
                    false
                }
            });
        }
        self.ring(kind.log).push(kind, batch);
    }

    /// Ends every watch.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.outlets.clear();
    }

    /// How many watch, and how many were cut off.
    pub(super) fn census(&self) -> (usize, u64) {
        let alive = self.outlets.values().flatten().filter(|outlet| !outlet.queue.is_closed());
        (alive.count(), self.cut_off)
    }

    /// The changes of a kind after a revision, if they are all in memory.
    pub(super) fn since(&self, kind: &'static KindInfo, from: Rev) -> Option<VecDeque<Arc<Batch>>> {
        match kind.log {
            ChangeLog::Main => self.main.after(kind, from),
            ChangeLog::Short => self.short.after(kind, from),
        }
    }

    /// The last state of an object that was deleted lately.
    pub(super) fn gone(&self, uid: &Uid) -> Option<Arc<StoredObject>> {
        self.main.gone(uid).or_else(|| self.short.gone(uid))
    }

    /// Nothing has happened for a while: whoever resumes a watch of Events from long ago reads from disk.
    pub(super) fn rest(&mut self, bytes: usize) {
        self.short.shorten(bytes);
    }

    fn ring(&mut self, log: ChangeLog) -> &mut Ring {
        match log {
            ChangeLog::Main => &mut self.main,
            ChangeLog::Short => &mut self.short,
        }
    }

    fn register(&mut self, kind: &'static KindInfo) -> (mpsc::UnboundedReceiver<Arc<Batch>>, Arc<Gauge>) {
        let (queue, batches) = mpsc::unbounded_channel();
        let gauge = Arc::new(Gauge::default());
        if !self.closed {
            let outlets = self.outlets.entry(kind).or_default();
            // A quiet kind publishes nothing that would sweep out those who left.
            outlets.retain(|outlet| !outlet.queue.is_closed());
            outlets.push(Outlet { queue, gauge: gauge.clone() });
        }
        (batches, gauge)
    }
}

impl Outlet {
    fn offer(&self, batch: &Arc<Batch>, bytes: usize, most_batches: usize, most_bytes: usize) -> Offered {
        let waiting = self.gauge.batches.load(Ordering::Acquire);
        let held = self.gauge.bytes.load(Ordering::Acquire);
        if waiting >= most_batches || (waiting > 0 && held + bytes > most_bytes) {
            self.gauge.too_slow.store(true, Ordering::Release);
            return Offered::TooSlow;
        }
        self.gauge.batches.fetch_add(1, Ordering::AcqRel);
        self.gauge.bytes.fetch_add(bytes, Ordering::AcqRel);
        match self.queue.send(batch.clone()) {
            Ok(()) => Offered::Taken,
            Err(_) => Offered::Gone,
        }
    }
}

/// All changes of one kind after a revision.
pub struct Watch {
    core: Arc<Core>,
    kind: &'static KindInfo,
    /// What is on disk and not read yet: after the first, up to the second.
    on_disk: Option<(Rev, Rev)>,
    /// What was read.
    ready: VecDeque<Arc<Batch>>,
    live: mpsc::UnboundedReceiver<Arc<Batch>>,
    gauge: Arc<Gauge>,
}

impl Watch {
    /// From now on. `hub` is locked, so nothing is published until the caller is done.
    pub(super) fn live(core: &Arc<Core>, hub: &mut Hub, kind: &'static KindInfo) -> Self {
        let (live, gauge) = hub.register(kind);
        Self { core: core.clone(), kind, on_disk: None, ready: VecDeque::new(), live, gauge }
    }

    /// From a revision on.
    pub(super) fn resume(core: &Arc<Core>, kind: &'static KindInfo, from: Rev) -> Result<Self, WatchError> {
        let mut hub = core.hub();
        if hub.closed {
            return Err(WatchError::Closed);
        }
        let (current, provided) = (core.index().revision(), core.index().provided_at(kind));
        let oldest = core.oldest(kind.log).max(provided);
        if from > current {
            return Err(WatchError::Future { asked: from, current });
        }
        if from < oldest {
            return Err(WatchError::Expired { asked: from, oldest });
        }
        let mut watch = Self::live(core, &mut hub, kind);
        match hub.since(kind, from) {
            Some(recent) => watch.ready = recent,
            None => watch.on_disk = Some((from, current)),
        }
        Ok(watch)
    }

    /// The next commit's changes. Waits for one if need be. Cancel-safe.
    ///
    /// # Errors
    /// [`WatchError::TooSlow`] or [`WatchError::Expired`] if the watcher must begin anew, `Closed` at shutdown.
    pub async fn next(&mut self) -> Result<Arc<Batch>, WatchError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let Some((after, until)) = self.on_disk else { break };
            self.read(after, until).await?;
        }
        match self.live.recv().await {
            Some(batch) => {
                self.gauge.bytes.fetch_sub(weight(&batch), Ordering::AcqRel);
                self.gauge.batches.fetch_sub(1, Ordering::AcqRel);
                Ok(batch)
            }
            None if self.gauge.too_slow.load(Ordering::Acquire) => Err(WatchError::TooSlow),
            None => Err(WatchError::Closed),
        }
    }

    /// The revision that a bookmark may carry now: every change up to it was given out by [`Watch::next`].
    /// `None` while changes wait, or may wait on disk: then [`Watch::next`] must be polled once more.
    pub fn bookmark(&self) -> Option<Rev> {
        // Batches enter the queue under this lock only.
        let hub = self.core.hub();
        let at_rest = self.ready.is_empty() && self.on_disk.is_none() && self.live.is_empty();
        let live = !hub.closed && !self.gauge.too_slow.load(Ordering::Acquire);
        (at_rest && live).then(|| self.core.index().revision())
    }

    /// Reads one page of what is on disk. Nothing is noted before all is read, which makes it cancel-safe.
    async fn read(&mut self, after: Rev, until: Rev) -> Result<(), WatchError> {
        let mut limit = PAGE;
        let (batches, rest) = loop {
            let read = self.core.engine.changes(self.kind, after, until, limit).await;
            let oldest = self.core.oldest(self.kind.log);
            if after < oldest {
                return Err(WatchError::Expired { asked: after, oldest });
            }
            let rows = read.map_err(|error| {
                tracing::error!(kind = self.kind.kind, %error, "cannot read the change log");
                // Whoever lists again does not need it.
                WatchError::Expired { asked: after, oldest: until }
            })?;
            match page(rows, limit) {
                Some(done) => break done,
                None => limit *= 4,
            }
        };
        self.ready.extend(batches);
        self.on_disk = rest.map(|after| (after, until));
        Ok(())
    }
}

const PAGE: usize = 500;

/// Whole commits out of a page of rows, and the revision after which to go on. `None` if not even one commit is whole.
fn page(mut rows: Vec<ChangeRow>, limit: usize) -> Option<(VecDeque<Arc<Batch>>, Option<Rev>)> {
    let mut rest = None;
    if rows.len() >= limit {
        // The last commit may go on after the page.
        let cut = rows.last()?.revision;
        rows.retain(|row| row.revision < cut);
        rest = Some(rows.last()?.revision);
    }
    let mut batches: VecDeque<Batch> = VecDeque::new();
    for ChangeRow { revision, key, before, deleted, body } in rows {
        let old = match &before {
            Before::Object(at, body) => StoredObject::new(key.clone(), *at, body).ok().map(Arc::new),
            Before::Nothing | Before::Unknown => None,
        };
        let old_known = old.is_some() || matches!(before, Before::Nothing);
        let Ok(new) = StoredObject::new(key, revision, &body) else { continue };
        let change = Change { old, new: Arc::new(new), deleted, old_known };
        match batches.back_mut() {
            Some(batch) if batch.revision == revision => batch.changes.push(change),
            _ => batches.push_back(Batch { revision, changes: vec![change] }),
        }
    }
    Some((batches.into_iter().map(Arc::new).collect(), rest))
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("kind", &self.kind.kind).field("on_disk", &self.on_disk).finish_non_exhaustive()
    }
}
