//! What the server gives back when it rests: memory that a start or a burst has used.
//!
//! Rest begins when nothing was written for [`REST`]; no timer runs before something is written again. Then the store keeps fewer recent Events, each thread
//! of the runtime gives back what its heap has free when it parks next ([`parked`]), and the code is unmapped: what goes on being
//! used comes back page by page.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{clock::SharedClock, keeper, store::Store};

/// So long without a write, and at most twice that.
const REST: Duration = Duration::from_secs(4);
/// What is freed in the first moment of a rest is given back, too.
const AGAIN: Duration = Duration::from_millis(50);

/// How often the server has come to rest.
static RESTS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The rest at which this thread's heap was given back.
    static GIVEN: Cell<u64> = const { Cell::new(0) };
}

/// A thread of the runtime has nothing to do: once in each rest, its heap is given back.
pub fn parked() {
    let rests = RESTS.load(Ordering::Relaxed);
    if GIVEN.replace(rests) != rests {
        keeper::release_heap();
    }
}

/// Gives back at each rest, until the end. `rested` counts the rests, for those who have something to give back themselves.
pub(super) async fn rest(
    store: Arc<Store>,
    clock: SharedClock,
    rested: watch::Sender<u64>,
    shutdown: CancellationToken,
) {
    let rests = async {
        loop {
            store.committed().await;
            // One timer, however much is written meanwhile.
            loop {
                clock.sleep(REST).await;
                if store.committed().now_or_never().is_none() {
                    break;
                }
            }
            store.rest();
            rested.send_modify(|rests| *rests += 1);
            tokio::task::yield_now().await;
            RESTS.fetch_add(1, Ordering::Relaxed);
            // Something to do wakes another thread, which parks again.
            for _ in 0..2 {
                tokio::spawn(std::future::ready(()));
                clock.sleep(AGAIN).await;
            }
            if let Err(error) = keeper::release_code() {
                tracing::debug!(%error, "the code stays mapped");
            }
        }
    };
    tokio::select! { () = rests => {}, () = shutdown.cancelled() => {} }
}
