//! How much the store keeps and how much it lets wait. Every queue in the store is bounded by a number that stands here.

use jiff::SignedDuration;

/// How long and how much a log keeps. Whatever is beyond either goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older rows go.
    pub age: SignedDuration,
    /// No more rows than this.
    pub rows: u64,
}

/// The store's limits; the defaults suit one machine with a few thousand objects in 40 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commits that may wait for the writer; more are `Overloaded`.
    pub queue: usize,
    /// Commits that are written together.
    pub group: usize,
    /// Revisions that are reserved with one sync.
    pub block: u64,
    /// Bytes of recent changes that are held in memory for resuming watches, for each of the two logs.
    pub ring_bytes: usize,
    /// Batches that may wait for one watcher; more cut it off.
    pub watcher_batches: usize,
    /// Bytes that may wait for one watcher. One batch may always wait.
    pub watcher_bytes: usize,
    /// What the change log keeps.
    pub changes: Retention,
    /// What the short change log (Events) keeps.
    pub short: Retention,
    /// What the history keeps, beside what still stood at its begin and what is pinned.
    pub history: Retention,
    /// Bytes that the history keeps.
    pub history_bytes: u64,
    /// How often what is beyond the limits is looked for.
    pub compact_every: SignedDuration,
    /// Rows that are removed at once, between two groups.
    pub compact_rows: usize,
    /// Bodies that are sealed with a new data key at once, between two groups.
    pub reseal_rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 4096,
            group: 256,
            block: 10_000,
            ring_bytes: 2 << 20,
            watcher_batches: 4096,
            watcher_bytes: 8 << 20,
            changes: Retention { age: SignedDuration::from_hours(1), rows: 30_000 },
            short: Retention { age: SignedDuration::from_mins(10), rows: 10_000 },
            history: Retention { age: SignedDuration::from_hours(7 * 24), rows: 100_000 },
            history_bytes: 256 << 20,
            compact_every: SignedDuration::from_mins(5),
            compact_rows: 500,
            reseal_rows: 100,
        }
    }
}
