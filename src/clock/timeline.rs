//! The time of day as one loop goes by it: it moves with the uptime, and steps only where the loop lets it.
//!
//! A loop that compares times of day with times that it noted before does wrong when somebody sets the clock between the two:
//! a grace period of thirty seconds is over at once, or lasts an hour. On a timeline there is no such moment. The step
//! arrives as one more thing that happened ([`Timeline::stepped`]) and says how far it was; what counts a delay is moved by that
//! ([`WorkQueue`](crate::runtime::WorkQueue) looks at everything anew), what means a time of day is judged again.

use std::time::Duration;

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use jiff::{SignedDuration, Timestamp};

use super::{SharedClock, Steps};

/// See the module. Each loop has its own.
pub struct Timeline {
    clock: SharedClock,
    /// The time of day when the uptime was zero.
    zero: Timestamp,
    steps: Steps,
}

impl Timeline {
    /// Shows what the clock shows now.
    pub fn new(clock: SharedClock) -> Self {
        // In this order: a step between the two is noticed, and changes nothing.
        let steps = clock.steps();
        Self { zero: zero(&clock), clock, steps }
    }

    /// The time of day, as if nobody had set it since the last [`Timeline::stepped`].
    pub fn now(&self) -> Timestamp {
        self.zero.saturating_add(self.clock.uptime()).unwrap_or(Timestamp::MAX)
    }

    /// Resolves once [`Timeline::now`] is at or past `at`, if no step comes first. Cancel-safe.
    pub fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        match Duration::try_from(at.duration_since(self.now())) {
            Ok(left) if !left.is_zero() => self.clock.sleep(left),
            _ => ready(()).boxed(),
        }
    }

    /// Resolves when the time of day was set, and says by how much. From then on [`Timeline::now`] is the new one. Cancel-safe.
    pub async fn stepped(&mut self) -> SignedDuration {
        if self.steps.changed().await.is_err() {
            // A clock that is gone is not set any more.
            return std::future::pending().await;
        }
        let before = std::mem::replace(&mut self.zero, zero(&self.clock));
        self.zero.duration_since(before)
    }
}

fn zero(clock: &SharedClock) -> Timestamp {
    let uptime = clock.uptime();
    clock.now().saturating_sub(uptime).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, Virtual};

    #[tokio::test]
    async fn a_step_is_seen_when_it_is_asked_for_and_not_before() {
        let hour = SignedDuration::from_hours(1);
        for step in [-hour, hour * 24] {
            let begin: Timestamp = "2026-11-21T08:00:00Z".parse().expect("a time");
            let clock = Virtual::new(begin, 1);
            let mut time = Timeline::new(Arc::new(clock.clone()));
            clock.advance(hour);
            assert_eq!((time.now(), time.stepped().now_or_never()), (begin + hour, None));
            clock.step(step);
            assert_eq!((time.now(), clock.now()), (begin + hour, begin + hour + step));
            assert_eq!(time.stepped().now_or_never(), Some(step));
            assert_eq!((time.now(), time.stepped().now_or_never()), (begin + hour + step, None));
        }
    }

    #[tokio::test]
    async fn a_delay_lasts_as_long_as_it_should_whatever_the_clock_shows() {
        let begin: Timestamp = "2026-11-21T08:00:00Z".parse().expect("a time");
        let clock = Virtual::new(begin, 1);
        let time = Timeline::new(Arc::new(clock.clone()));
        let second = SignedDuration::from_secs(1);
        let mut sleep = time.sleep_until(begin + second * 10);
        clock.step(SignedDuration::from_hours(24));
        assert_eq!((&mut sleep).now_or_never(), None);
        clock.step(SignedDuration::from_hours(-25));
        clock.advance(second * 9);
        assert_eq!((&mut sleep).now_or_never(), None);
        clock.advance(second);
        assert_eq!((&mut sleep).now_or_never(), Some(()));
    }
}
