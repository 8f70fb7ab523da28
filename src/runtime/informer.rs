//! List, then watch, for ever: the stream of deltas that keeps a [`Cache`](super::Cache) true.
//!
//! A watch that ends is resumed from the last revision that was seen whole (the changes of one transaction share a
//! revision, and a stream may break between them); one that expired begins again with a list.

use std::sync::Arc;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::{
    api::{KindInfo, Reason, Rev, Status, StoredObject},
    client::{ChangeType, Listing, Query, SharedClient, WatchEvent, WatchStream},
    clock::SharedClock,
    policy::backoff,
};

/// One step of what is known.
#[derive(Clone, Debug)]
pub enum Delta {
    /// This is everything; forget the rest.
    Replace(Listing),
    /// This changed.
    Change(ChangeType, Arc<StoredObject>),
    /// Nothing else changed up to here.
    Bookmark(Rev),
}

struct Informer {
    client: SharedClient,
    clock: SharedClock,
    kind: &'static KindInfo,
    query: Query,
    watch: Option<WatchStream>,
    /// The last revision seen whole, and the last seen at all. `None`: list first.
    seen: Option<(Rev, Rev)>,
    failures: u32,
}

/// The deltas of the objects of `kind` that `query` selects. Never ends; failures are retried with backoff.
pub fn follow(
    client: SharedClient,
    clock: SharedClock,
    kind: &'static KindInfo,
    query: Query,
) -> BoxStream<'static, Delta> {
    let informer = Informer { client, clock, kind, query, watch: None, seen: None, failures: 0 };
    stream::unfold(informer, |mut informer| async move {
        loop {
            match informer.step().await {
                Ok(delta) => {
                    informer.failures = 0;
                    return Some((delta, informer));
                }
                Err(status) => informer.failed(&status).await,
            }
        }
    })
    .boxed()
}

impl Informer {
    async fn step(&mut self) -> Result<Delta, Status> {
        let Some((whole, last)) = self.seen else {
            let listing = self.client.list(self.kind, &self.query).await?;
            self.seen = Some((listing.revision, listing.revision));
            self.watch = None;
            return Ok(Delta::Replace(listing));
        };
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => none.insert(self.client.watch(self.kind, &self.query, whole).await?),
        };
        match watch.next().await {
            Some(Ok(WatchEvent::Change(change, object))) => {
                let whole = if object.revision > last { last } else { whole };
                self.seen = Some((whole, object.revision.max(last)));
                Ok(Delta::Change(change, object))
            }
            Some(Ok(WatchEvent::Bookmark(revision))) => {
                self.seen = Some((revision, revision));
                Ok(Delta::Bookmark(revision))
            }
            Some(Err(status)) => Err(status),
            None => Err(Status::new(Reason::ServiceUnavailable, "the watch was closed")),
        }
    }

    async fn failed(&mut self, status: &Status) {
        self.watch = None;
        if status.is(Reason::Expired) {
            self.seen = None;
        }
        tracing::debug!(kind = self.kind.kind, %status, "the watch is resumed");
        let pause = backoff::retry(self.failures, self.clock.random());
        self.failures += 1;
        self.clock.sleep(pause).await;
    }
}
