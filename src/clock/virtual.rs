//! A clock that a simulation moves by hand, with seeded chance.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::Clock;

/// Stands still until [`Virtual::advance`] is called.
#[derive(Debug, Clone)]
pub struct Virtual {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    seed: u64,
    wanted: BTreeSet<Timestamp>,
}

impl Virtual {
    /// A clock that shows `now` and draws chance from `seed`.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let state = Mutex::new(State { now, seed, wanted: BTreeSet::new() });
        Self { inner: Arc::new(Inner { state, moved: Notify::new() }) }
    }

    /// Moves on by `by` and wakes every sleeper that is due.
    pub fn advance(&self, by: SignedDuration) {
        {
            let mut state = self.lock();
            state.now += by;
            let now = state.now;
            state.wanted.retain(|at| *at > now);
        }
        self.inner.moved.notify_waiters();
    }

    /// The earliest time that anybody sleeps until, if anybody does.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.lock().wanted.first().copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().expect("no holder of the clock panics")
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let moved = clock.inner.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                {
                    let mut state = clock.lock();
                    if state.now >= at {
                        return;
                    }
                    state.wanted.insert(at);
                }
                moved.await;
            }
        })
    }

    fn uptime(&self) -> Duration {
        Duration::try_from(self.now().duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now().saturating_add(duration).unwrap_or(Timestamp::MAX))
    }

    /// SplitMix64: small, and good enough to make names and jitter.
    fn random(&self) -> u64 {
        let mut state = self.lock();
        state.seed = state.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
