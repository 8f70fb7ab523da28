//! Against guessing: who fails waits, longer each time.
//!
//! Failures are counted by account and by source (an IPv6 /64 is one source). A few are free; then nothing is even tried until a
//! pause is over that doubles with each failure. An attempt counts as a failure until it has succeeded, so that many at once
//! are no way around. The counts are in memory, written to the store as they change, and read from there at the start.
//!
//! A stranger's guesses keep nobody out who is known: from a source where the user has a session, only the failures of that user
//! from that source count. The owner at the socket is not counted.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::{records, secret};
use crate::{
    api::{Durability, Reason, Status, Throttle, Time},
    clock::SharedClock,
    store::{CommitError, Store},
};

/// What is long ago is forgotten.
const MEMORY: SignedDuration = SignedDuration::from_hours(2);
/// How many are counted at once: beyond that the oldest is forgotten.
const MOST: usize = 10_000;

/// How failures of one sort are counted.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// How many cost nothing.
    free: u32,
    /// The longest pause, in seconds.
    longest: i64,
}

const OF_ACCOUNT: Rule = Rule { free: 5, longest: 300 };
const OF_KNOWN: Rule = Rule { free: 10, longest: 300 };
const OF_SOURCE: Rule = Rule { free: 30, longest: 900 };

impl Rule {
    fn pause(self, failures: u32) -> i64 {
        match failures.checked_sub(self.free) {
            None | Some(0) => 0,
            Some(over) => 1i64.checked_shl(over - 1).filter(|s| *s > 0).unwrap_or(i64::MAX).min(self.longest),
        }
    }
}

/// The guard at the door.
pub(super) struct Guard {
    store: Arc<Store>,
    clock: SharedClock,
    counts: Mutex<HashMap<String, Count>>,
    /// One writer at a time, so that the last count is the one that stays.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Count {
    failures: u32,
    last: Timestamp,
    until: Timestamp,
}

/// An attempt that was let through. Dropped without a word it is a failure, which the next write puts on disk.
#[derive(Debug)]
pub(super) struct Attempt {
    names: Vec<String>,
}

/// The source, as it is counted.
pub(super) fn source(address: Option<IpAddr>) -> String {
    match address.map(|a| a.to_canonical()) {
        None => "local".to_owned(),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        Some(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

impl Guard {
    /// Knows what was counted before.
    pub(super) fn new(store: Arc<Store>, clock: SharedClock) -> Self {
        let counts = records::all::<Throttle>(&store).into_iter().map(|found| {
            let until = found.until.unwrap_or(found.last).0;
            (found.metadata.name.clone(), Count { failures: found.failures, last: found.last.0, until })
        });
        let counts = Mutex::new(counts.collect());
        Self { store, clock, counts, writing: tokio::sync::Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an attempt through, or says when to come back. `known`: the user has a session from there.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub(super) fn begin(&self, account: &str, source: &str, known: bool) -> Result<Attempt, Status> {
        let now = self.clock.now();
        let rules = match known {
            true => vec![(format!("known.{}", secret::digest(&[account, source])), OF_KNOWN)],
            false => vec![
                (format!("account.{}", secret::digest(&[account])), OF_ACCOUNT),
                (format!("source.{}", secret::digest(&[source])), OF_SOURCE),
            ],
        };
        let mut counts = self.counts();
        for (name, rule) in &rules {
            let Some(count) = counts.get(name) else { continue };
            // A clock that was set back keeps nobody waiting for longer than the rule says.
            let left = count.until.duration_since(now).as_secs_f64().ceil() as i64;
            if left > 0 && left <= rule.longest {
                return Err(wait(left));
            }
        }
        for (name, rule) in &rules {
            let failures = counts.get(name).filter(|count| now.duration_since(count.last) < MEMORY);
            let failures = failures.map_or(0, |count| count.failures).saturating_add(1);
            let until = now.saturating_add(SignedDuration::from_secs(rule.pause(failures))).unwrap_or(now);
            if counts.len() >= MOST && !counts.contains_key(name) {
                let oldest = counts.iter().min_by_key(|(_, count)| count.last).map(|(name, _)| name.clone());
                oldest.and_then(|name| counts.remove(&name));
            }
            counts.insert(name.clone(), Count { failures, last: now, until });
        }
        Ok(Attempt { names: rules.into_iter().map(|(name, _)| name).collect() })
    }

    /// The attempt failed: that is remembered across restarts.
    pub(super) async fn failed(&self, attempt: Attempt) {
        self.write(&attempt.names).await;
    }

    /// It was no attempt to guess: as if it had not been.
    pub(super) async fn forgiven(&self, attempt: Attempt) {
        {
            let mut counts = self.counts();
            for name in &attempt.names {
                let Some(count) = counts.get_mut(name) else { continue };
                count.failures = count.failures.saturating_sub(1);
                count.until = count.last;
                if count.failures == 0 {
                    counts.remove(name);
                }
            }
        }
        self.write(&attempt.names).await;
    }

    /// The attempt succeeded: the account's failures are forgotten, the source keeps its others.
    pub(super) async fn succeeded(&self, attempt: Attempt) {
        {
            let mut counts = self.counts();
            counts.retain(|name, _| name.starts_with("source.") || !attempt.names.contains(name));
        }
        self.forgiven(attempt).await;
    }

    /// Makes the store's counts equal to those in memory.
    async fn write(&self, names: &[String]) {
        let _one = self.writing.lock().await;
        let write = |name: &String| {
            let (count, found) = (self.counts().get(name).copied(), records::find::<Throttle>(&self.store, name));
            match (count, found) {
                (None, None) => None,
                (None, Some(found)) => Some(records::remove(&found)),
                (Some(count), found) => {
                    let body = Throttle {
                        failures: count.failures,
                        last: Time(count.last),
                        until: (count.until > count.last).then_some(Time(count.until)),
                    };
                    match found {
                        Some(found) if found.body == body => None,
                        Some(found) => Some(records::replace(&found, body)),
                        None => Some(records::make(records::metadata(name, &*self.clock), body)),
                    }
                }
            }
        };
        let writes = names.iter().filter_map(write).collect();
        let (now, reason) = (self.clock.now(), "an attempt to log in");
        // A count that a loss of power forgets was not asked for by the one who failed, and slows nobody down.
        match records::commit(&self.store, now, writes, Durability::Relaxed, reason).await {
            Ok(()) | Err(CommitError::Conflict(_)) => {}
            Err(error) => tracing::warn!(%error, "a failed login is not remembered across a restart"),
        }
    }

    /// Forgets what is long ago.
    pub(super) async fn tidy(&self) {
        let now = self.clock.now();
        let is_old = |count: &Count| now.duration_since(count.last) >= MEMORY;
        let mut names: Vec<String> = Vec::new();
        self.counts().retain(|name, count| {
            let old = is_old(count);
            if old {
                names.push(name.clone());
            }
            !old
        });
        // And those that made room for others.
        let stored = records::all::<Throttle>(&self.store).into_iter().map(|found| found.metadata.name.clone());
        let counts = stored.filter(|name| !self.counts().contains_key(name));
        names.extend(counts.collect::<Vec<_>>());
        names.sort();
        names.dedup();
        for some in names.chunks(100) {
            self.write(some).await;
        }
    }
}

fn wait(seconds: i64) -> Status {
    let mut status = Status::new(Reason::TooManyRequests, format!("too many failed logins: try again in {seconds} s"));
    status.details.retry_after_seconds = u32::try_from(seconds).ok();
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Virtual,
        store::{Limits, Memory},
    };

    struct World {
        clock: Virtual,
        store: Arc<Store>,
        guard: Guard,
    }

    impl World {
        async fn new() -> Self {
            let clock = Virtual::new("2026-11-21T08:00:00Z".parse().expect("a time"), 1);
            let shared: SharedClock = Arc::new(clock.clone());
            let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
            let guard = Guard::new(store.clone(), shared);
            Self { clock, store, guard }
        }

        async fn fail(&self, account: &str, source: &str) -> Result<(), Option<u32>> {
            let attempt = self.guard.begin(account, source, false).map_err(|s| s.details.retry_after_seconds)?;
            self.guard.failed(attempt).await;
            Ok(())
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<i64> = [0, 5, 6, 7, 8, 14, 15, 80, u32::MAX].map(|n| OF_ACCOUNT.pause(n)).into();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 256, 300, 300, 300]);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let of = |text: &str| source(Some(text.parse().expect("an address")));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[tokio::test]
    async fn whoever_guesses_waits_also_after_a_restart_and_from_another_source() {
        let world = World::new().await;
        for _ in 0..6 {
            assert_eq!(world.fail("ada", "10.0.0.1").await, Ok(()));
        }
        assert_eq!(world.fail("ada", "10.0.0.1").await, Err(Some(1)));
        assert_eq!(world.fail("ada", "10.0.0.2").await, Err(Some(1)), "the account is guarded, not the source alone");
        assert_eq!(world.fail("bob", "10.0.0.1").await, Ok(()), "others are not in the way of it");
        let again = Guard::new(world.store.clone(), Arc::new(world.clock.clone()));
        assert!(again.begin("ada", "10.0.0.3", false).is_err(), "a restart forgets nothing");
        world.clock.advance(SignedDuration::from_secs(1));
        assert_eq!(world.fail("ada", "10.0.0.1").await, Ok(()));
        assert_eq!(world.fail("ada", "10.0.0.1").await, Err(Some(2)));
        world.clock.advance(SignedDuration::from_hours(3));
        world.guard.tidy().await;
        assert_eq!(records::all::<Throttle>(&world.store).len(), 0);
    }

    #[tokio::test]
    async fn whoever_is_known_is_not_kept_out_by_a_stranger() {
        let world = World::new().await;
        while world.fail("ada", "10.0.0.66").await.is_ok() {}
        let attempt = world.guard.begin("ada", "10.0.0.1", true).expect("let through");
        world.guard.succeeded(attempt).await;
        assert!(world.fail("ada", "10.0.0.66").await.is_err(), "and helps the stranger nothing");
    }

    #[tokio::test]
    async fn a_source_that_tries_many_accounts_waits() {
        let world = World::new().await;
        let mut names = (0..).map(|i| format!("user-{i}"));
        for name in names.by_ref().take(31) {
            assert_eq!(world.fail(&name, "10.0.0.1").await, Ok(()));
        }
        assert!(world.fail("somebody", "10.0.0.1").await.is_err());
        assert_eq!(world.fail("somebody", "10.0.0.2").await, Ok(()));
    }

    #[tokio::test]
    async fn many_at_once_are_no_way_around_and_success_is_forgiven() {
        let world = World::new().await;
        let through: Vec<_> = (0..20).filter_map(|_| world.guard.begin("ada", "10.0.0.1", false).ok()).collect();
        assert_eq!(through.len(), 6);
        for attempt in through {
            world.guard.succeeded(attempt).await;
        }
        assert_eq!(records::all::<Throttle>(&world.store).len(), 0);
        for _ in 0..100 {
            let attempt = world.guard.begin("ada", "10.0.0.1", false).expect("nobody fails");
            world.guard.succeeded(attempt).await;
        }
    }
}
