//! The keys of an issuer, and when they are fetched: judged apart from the fetching.
//!
//! ```text
//!  fetched ──── fresh (what the issuer says) ────┬──── still good, fetched anew beside it ────┬── nothing
//!                                                                                             a day
//! ```
//! A key that is not among them is looked for once more at the issuer, but not more often than every ten seconds, whoever asks: a token
//! of nobody must not make us ask an issuer again and again.

use std::{sync::Arc, time::Duration};

use super::jwk::Jwk;

/// Between two attempts.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// How long keys are good where the issuer is not heard of.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// They are fetched anew after this time, if the issuer says nothing.
const USUAL: Duration = Duration::from_secs(3600);
/// And not before this, whatever it says.
const SHORTEST: Duration = Duration::from_secs(5 * 60);

/// What is known of an issuer's keys. Times are uptimes.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) keys: Option<Held>,
    /// When they were last asked for, and whether they came.
    pub(super) tried: Option<(Duration, bool)>,
}

/// Keys as they came.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) keys: Arc<[Jwk]>,
    pub(super) etag: Option<String>,
    pub(super) at: Duration,
    pub(super) fresh: Duration,
}

/// What is done about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The keys are there.
    Use,
    /// They are, and should be fetched anew; nobody waits for that.
    UseAndFetch,
    /// They are fetched first.
    Fetch,
    /// The issuer has no such key.
    Unknown,
    /// The issuer cannot be asked.
    Away,
}

impl Known {
    /// What is done about a token of which `has` says whether some of the keys fit it.
    pub(super) fn decide(&self, now: Duration, has: impl Fn(&[Jwk]) -> bool) -> Next {
        let just_tried = self.tried.filter(|(at, _)| now.saturating_sub(*at) < PAUSE);
        let Some(held) = self.keys.as_ref().filter(|held| now.saturating_sub(held.at) < LONGEST) else {
            return if just_tried.is_some() { Next::Away } else { Next::Fetch };
        };
        match (has(&held.keys), just_tried) {
            (true, None) if now.saturating_sub(held.at) >= held.fresh => Next::UseAndFetch,
            (true, _) => Next::Use,
            (false, None) => Next::Fetch,
            (false, Some((_, true))) => Next::Unknown,
            (false, Some((_, false))) => Next::Away,
        }
    }
}

/// How long keys are fresh of which the issuer says this.
pub(super) fn fresh(max_age: Option<Duration>) -> Duration {
    max_age.unwrap_or(USUAL).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn keys_are_fetched_when_they_are_needed_and_not_more_often() {
        let (hour, day) = (3600, 24 * 3600);
        // When they came, when they were tried for last and with what success, whether the key is among them, now.
        for (came, tried, has, now, next) in [
            (None, None, false, 100, Next::Fetch),
            (None, Some((95, false)), false, 100, Next::Away),
            (None, Some((90, false)), false, 100, Next::Fetch),
            (Some(100), Some((100, true)), true, 100, Next::Use),
            (Some(100), Some((100, true)), true, 100 + hour - 1, Next::Use),
            (Some(100), Some((100, true)), true, 100 + hour, Next::UseAndFetch),
            (Some(100), Some((100 + hour, false)), true, 105 + hour, Next::Use),
            (Some(100), Some((100 + hour, false)), true, 110 + hour, Next::UseAndFetch),
            (Some(100), Some((100, true)), true, 100 + day - 1, Next::UseAndFetch),
            (Some(100), Some((100, true)), true, 100 + day, Next::Fetch),
            (Some(100), Some((95 + day, false)), true, 100 + day, Next::Away),
            (Some(100), Some((100, true)), false, 109, Next::Unknown),
            (Some(100), Some((100, true)), false, 110, Next::Fetch),
            (Some(100), Some((200, false)), false, 205, Next::Away),
        ] {
            let held = came.map(|at| Held { keys: Arc::new([]), etag: None, at: seconds(at), fresh: fresh(None) });
            let known = Known { keys: held, tried: tried.map(|(at, good)| (seconds(at), good)) };
            assert_eq!(known.decide(seconds(now), |_| has), next, "{came:?} {tried:?} {has} {now}");
        }
    }

    #[test]
    fn an_issuer_can_ask_for_no_extremes() {
        for (said, is) in [(None, 3600), (Some(0), 300), (Some(900), 900), (Some(u64::MAX), 24 * 3600)] {
            assert_eq!(fresh(said.map(seconds)), seconds(is));
        }
    }
}
