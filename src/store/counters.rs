//! Counters of what the store did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// See [`super::Metrics`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: Counter,
    pub(super) groups: Counter,
    pub(super) synced: Counter,
    pub(super) conflicts: Counter,
    pub(super) failures: Counter,
    pub(super) overloads: Counter,
}
