//! A clock that a simulation moves by hand, with seeded chance.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use super::{Clock, Steps};

/// Stands still until [`Virtual::advance`] is called.
#[derive(Debug, Clone)]
pub struct Virtual {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    moved: Notify,
    steps: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    now: Timestamp,
    uptime: Duration,
    seed: u64,
    /// Times of day that somebody sleeps until.
    wanted: BTreeSet<Timestamp>,
    /// Uptimes that somebody sleeps until.
    delays: BTreeSet<Duration>,
}

impl Virtual {
    /// A clock that shows `now` and draws chance from `seed`.
    pub fn new(now: Timestamp, seed: u64) -> Self {
        let (wanted, delays) = (BTreeSet::new(), BTreeSet::new());
        let state = Mutex::new(State { now, uptime: Duration::ZERO, seed, wanted, delays });
        Self { inner: Arc::new(Inner { state, moved: Notify::new(), steps: watch::Sender::new(()) }) }
    }

    /// Moves on by `by` and wakes every sleeper that is due.
    pub fn advance(&self, by: SignedDuration) {
        self.move_by(by, by.unsigned_abs());
    }

    /// Sets the time of day, which everybody is told; the uptime stays as it is.
    pub fn step(&self, by: SignedDuration) {
        self.move_by(by, Duration::ZERO);
        self.inner.steps.send_replace(());
    }

    fn move_by(&self, by: SignedDuration, uptime: Duration) {
        {
            let mut state = self.lock();
            state.now += by;
            state.uptime += uptime;
            let (now, uptime) = (state.now, state.uptime);
            state.wanted.retain(|at| *at > now);
            state.delays.retain(|at| *at > uptime);
        }
        self.inner.moved.notify_waiters();
    }

    /// The earliest time that anybody sleeps until, if anybody does.
    pub fn next_due(&self) -> Option<Timestamp> {
        let state = self.lock();
        let delay = state.delays.first().map(|at| state.now + at.saturating_sub(state.uptime));
        state.wanted.first().copied().into_iter().chain(delay).min()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().expect("no holder of the clock panics")
    }

    /// Resolves once `is_over`, which is asked whenever the clock has moved.
    fn until(&self, is_over: impl Fn(&mut State) -> bool + Send + 'static) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let moved = clock.inner.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if is_over(&mut clock.lock()) {
                    return;
                }
                moved.await;
            }
        })
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        self.until(move |state| {
            let is_over = state.now >= at;
            if !is_over {
                state.wanted.insert(at);
            }
            is_over
        })
    }

    fn uptime(&self) -> Duration {
        self.lock().uptime
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let at = self.uptime().saturating_add(duration);
        self.until(move |state| {
            let is_over = state.uptime >= at;
            if !is_over {
                state.delays.insert(at);
            }
            is_over
        })
    }

    fn steps(&self) -> Steps {
        self.inner.steps.subscribe()
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
