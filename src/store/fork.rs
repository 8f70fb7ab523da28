//! A store that begins as another one is, and goes its own way from there: for whoever wants to know what would come of a change.
//!
//! Objects are shared until they change, and nothing is written anywhere: when a fork is dropped, it never was.

use std::sync::Arc;

use futures::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::{
    Anchor, Archive, AsOf, Bounds, ChangeRow, Engine, EngineError, Group, HistoryEntry, Horizon, Limits, Loaded,
    Oldest, OpenError, PastTransaction, Pin, RotateError, Sealing, Stood, Store, Transactions,
    backup::{Snapshot, SnapshotError},
};
use crate::{
    api::{Key, KindInfo, Rev},
    clock::SharedClock,
};

impl Store {
    /// A store with the objects of this one as they are now, on a clock of its own; its writer runs on the runtime that is current. What is done
    /// to one of the two is not seen in the other.
    pub fn fork(&self, clock: SharedClock, limits: Limits) -> Arc<Store> {
        let index = self.core.index().clone();
        let revision = index.revision();
        let oldest = Oldest { main: revision, short: revision };
        let engine = Arc::new(Forgetful { largest: self.largest(), oldest });
        Store::begin(engine, index, (oldest, None), Rev(u64::MAX), clock, limits)
    }
}

/// Keeps nothing: what the store has in memory is all there is. Whoever wants older changes must list again.
struct Forgetful {
    largest: usize,
    oldest: Oldest,
}

/// It has no past.
impl Archive for Forgetful {
    fn horizon(&self) -> BoxFuture<'_, Result<Horizon, EngineError>> {
        Box::pin(ready(Ok(Horizon { oldest: self.oldest.main, since: None })))
    }

    fn revision_at(&self, _: Timestamp) -> BoxFuture<'_, Result<Rev, EngineError>> {
        Box::pin(ready(Ok(self.oldest.main)))
    }

    fn versions<'a>(
        &'a self,
        _: &'a Key,
        _: Option<Rev>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, EngineError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn as_of<'a>(&'a self, _: &'a AsOf, _: usize) -> BoxFuture<'a, Result<Stood, EngineError>> {
        Box::pin(ready(Ok(Stood::default())))
    }

    fn transactions<'a>(
        &'a self,
        _: &'a Transactions,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<PastTransaction>, EngineError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn pin(&self, _: Pin) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(ready(Ok(false)))
    }

    fn unpin<'a>(&'a self, _: &'a Key, _: &'a str) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(ready(Ok(false)))
    }

    fn pins<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Vec<Pin>, EngineError>> {
        Box::pin(ready(Ok(Vec::new())))
    }
}

impl Engine for Forgetful {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>> {
        Box::pin(ready(Err(OpenError::Engine(nothing()))))
    }

    fn reserve(&self, _: Rev, _: Oldest) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(ready(Ok(())))
    }

    fn commit(&self, _: Group) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(ready(Ok(())))
    }

    fn changes(
        &self,
        _: &'static KindInfo,
        _: Rev,
        _: Rev,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<ChangeRow>, EngineError>> {
        Box::pin(ready(Err(nothing())))
    }

    fn beyond<'a>(&'a self, _: &'a Limits, _: Timestamp) -> BoxFuture<'a, Result<Bounds, EngineError>> {
        Box::pin(ready(Ok(Bounds { oldest: self.oldest, history: Rev(0) })))
    }

    fn compact(&self, _: Bounds, _: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(ready(Ok(false)))
    }

    fn sealing(&self) -> Option<Sealing> {
        None
    }

    fn rotate(&self, _: bool) -> BoxFuture<'_, Result<Sealing, RotateError>> {
        Box::pin(ready(Err(RotateError::Unsealed)))
    }

    fn reseal(&self, _: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(ready(Ok(false)))
    }

    fn anchor(&self, _: Anchor) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(ready(Ok(())))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, SnapshotError>> {
        Box::pin(ready(Err(SnapshotError::Engine(nothing()))))
    }

    fn tidy(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn largest(&self) -> usize {
        self.largest
    }

    fn close(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(ready(Ok(())))
    }
}

fn nothing() -> EngineError {
    EngineError("a fork keeps no log".to_owned())
}
