//! Time and chance, the only place where they come in.
//!
//! [`System`] is the machine's own; [`Virtual`] stands still until a simulation advances it, and its chance is seeded,
//! so that a failing run can be repeated exactly.
//!
//! There are two times. The time of day ([`Clock::now`]) may be set by anybody at any moment; the uptime cannot. Delays,
//! deadlines and intervals go by the uptime; what a person wrote as a time goes by the time of day, and is judged
//! again when that is set ([`Clock::steps`]). A loop that needs both has a [`Timeline`].

mod boot;
mod steps;
mod timeline;
mod r#virtual;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use jiff::Timestamp;

pub use boot::boot_id;
pub use steps::{Steps, notice_steps};
pub use timeline::Timeline;
pub use r#virtual::Virtual;

/// A source of time and chance.
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// Resolves once [`Clock::now`] is at or past `at`, by whatever way it got there. Cancel-safe.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// Time that nobody sets, from some moment on: for intervals.
    fn uptime(&self) -> Duration;

    /// Resolves after so much of [`Clock::uptime`]. Cancel-safe.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Tells when the time of day was set.
    fn steps(&self) -> Steps;

    /// 64 random bits.
    fn random(&self) -> u64;
}

/// The clock that everybody shares.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock and the operating system's randomness.
#[derive(Debug, Default, Clone, Copy)]
pub struct System;

impl Clock for System {
    #[allow(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = *self;
        let mut steps = self.steps();
        Box::pin(async move {
            loop {
                let left = at.duration_since(clock.now());
                let Ok(left) = Duration::try_from(left) else { return };
                if left.is_zero() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    Ok(()) = steps.changed() => {}
                }
            }
        })
    }

    #[allow(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn uptime(&self) -> Duration {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        BEGAN.get_or_init(Instant::now).elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn steps(&self) -> Steps {
        steps::steps()
    }

    #[allow(clippy::disallowed_methods, reason = "this is where chance comes in")]
    fn random(&self) -> u64 {
        rand::random()
    }
}

/// A new uid: a version 4 UUID made of the clock's randomness.
pub fn new_uid(clock: &dyn Clock) -> crate::api::Uid {
    uuid::Builder::from_random_bytes((u128::from(clock.random()) << 64 | u128::from(clock.random())).to_be_bytes())
        .into_uuid()
        .to_string()
        .into()
}

/// Five characters for `generateName`, from Kubernetes' alphabet (no vowels, so that no words arise).
pub fn name_suffix(clock: &dyn Clock) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bits = clock.random();
    (0..5)
        .map(|_| {
            let letter = ALPHABET[(bits % ALPHABET.len() as u64) as usize];
            bits /= ALPHABET.len() as u64;
            char::from(letter)
        })
        .collect()
}
