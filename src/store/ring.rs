//! The newest changes in memory, so that resuming a watch seldom needs the disk.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::Batch;
use crate::api::{KindInfo, Rev, StoredObject, Uid};

/// Batches for which there is always room.
const ROOM: usize = 64;

/// A queue of batches, bounded by bytes.
pub(super) struct Ring {
    /// Every batch after this revision is here.
    floor: Rev,
    bytes: usize,
    limit: usize,
    batches: VecDeque<(&'static KindInfo, Arc<Batch>)>,
    /// The last states of what was deleted in them.
    gone: HashMap<Uid, Arc<StoredObject>>,
}

impl Ring {
    pub(super) fn new(floor: Rev, limit: usize) -> Self {
        Self { floor, bytes: 0, limit, batches: VecDeque::new(), gone: HashMap::new() }
    }

    pub(super) fn push(&mut self, kind: &'static KindInfo, batch: Arc<Batch>) {
        self.bytes += weight(&batch);
        for change in deletions(&batch) {
            self.gone.extend(change.meta().uid.clone().map(|uid| (uid, change.clone())));
        }
        self.batches.push_back((kind, batch));
        self.shorten(self.limit);
    }

    /// Keeps the newest changes only, of so many bytes together.
    pub(super) fn shorten(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some((_, gone)) = self.batches.pop_front() else { break };
            self.bytes -= weight(&gone);
            deletions(&gone)
                .filter_map(|object| object.meta().uid.as_ref())
                .for_each(|uid| drop(self.gone.remove(uid)));
            self.floor = gone.revision;
        }
        if self.batches.capacity() > ROOM + 4 * self.batches.len() {
            self.batches.shrink_to(ROOM + 2 * self.batches.len());
        }
    }

    /// The last state of an object that was deleted lately.
    pub(super) fn gone(&self, uid: &Uid) -> Option<Arc<StoredObject>> {
        self.gone.get(uid).cloned()
    }

    /// The batches of `kind` after `from`; `None` if they are not all here.
    pub(super) fn after(&self, kind: &'static KindInfo, from: Rev) -> Option<VecDeque<Arc<Batch>>> {
        if from < self.floor {
            return None;
        }
        let start = self.batches.partition_point(|(_, batch)| batch.revision <= from);
        let newer = self.batches.range(start..).filter(|(of, _)| *of == kind);
        Some(newer.map(|(_, batch)| batch.clone()).collect())
    }
}

fn deletions(batch: &Batch) -> impl Iterator<Item = &Arc<StoredObject>> {
    batch.changes.iter().filter(|change| change.deleted).map(|change| &change.new)
}

/// What a batch holds in memory, roughly: two versions of each object, with their parsed metadata.
pub(super) fn weight(batch: &Batch) -> usize {
    const OVERHEAD: usize = 512;
    let of = |change: &super::Change| {
        OVERHEAD + change.new.json.len() + change.old.as_ref().map_or(0, |old| OVERHEAD + old.json.len())
    };
    OVERHEAD + batch.changes.iter().map(of).sum::<usize>()
}
