//! How often somebody may ask: so many times a second, and twice as many at once after a rest.
//!
//! For each who asks one time is kept: when everything that they asked for would be paid off, at the even pace of their rate (the
//! generic cell rate algorithm, a token bucket without a clock of its own). Whoever is ahead of it by more than two seconds' worth waits.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

/// How much of what may be asked for in a second may come at once: so many seconds' worth.
const AT_ONCE: u32 = 2;
/// Who has paid is forgotten this often.
const SWEEP: Duration = Duration::from_secs(10);

/// Who is how far ahead.
#[derive(Debug)]
pub struct Meter<K> {
    paid: HashMap<K, Duration>,
    swept: Duration,
}

impl<K> Default for Meter<K> {
    fn default() -> Self {
        Self { paid: HashMap::new(), swept: Duration::ZERO }
    }
}

impl<K: Hash + Eq> Meter<K> {
    /// One more request of somebody who has so many a second.
    ///
    /// # Errors
    /// How long to wait before the next one; this one does not count.
    pub fn ask<Q: Hash + Eq + ToOwned<Owned = K> + ?Sized>(
        &mut self,
        who: &Q,
        per_second: u32,
        now: Duration,
    ) -> Result<(), Duration>
    where
        K: Borrow<Q>,
    {
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.paid.retain(|_, paid| *paid > now);
        }
        let each = Duration::from_secs(1) / per_second.max(1);
        let paid = self.paid.get(who).copied().unwrap_or_default().max(now) + each;
        let latest = now + Duration::from_secs(AT_ONCE.into()).max(each);
        if paid > latest {
            return Err(paid - latest);
        }
        match self.paid.get_mut(who) {
            Some(there) => *there = paid,
            None => drop(self.paid.insert(who.to_owned(), paid)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn twice_as_many_may_come_at_once_and_then_so_many_a_second() {
        let mut meter: Meter<String> = Meter::default();
        let mut granted =
            |millis: u64, tries: u32| (0..tries).filter(|_| meter.ask("ann", 100, at(millis)).is_ok()).count();
        assert_eq!(granted(1000, 500), 200);
        assert_eq!(granted(1500, 500), 50);
        assert_eq!(granted(2500, 500), 100);
        assert_eq!(granted(60_000, 500), 200);
    }

    #[test]
    fn whoever_is_refused_is_told_how_long_and_pays_nothing() {
        let mut meter: Meter<String> = Meter::default();
        for _ in 0..4 {
            meter.ask("ann", 2, at(0)).expect("at once");
        }
        for _ in 0..1000 {
            assert_eq!(meter.ask("ann", 2, at(100)), Err(at(400)));
        }
        meter.ask("bob", 2, at(100)).expect("another one's");
        meter.ask("ann", 2, at(500)).expect("as was said");
    }

    #[test]
    fn one_in_ever_so_long_is_let_in_and_the_idle_are_forgotten() {
        let mut meter: Meter<String> = Meter::default();
        meter.ask("ann", 0, at(0)).expect("the slowest rate is one a second");
        meter.ask("bob", 1, at(20_000)).expect("the first");
        assert_eq!(meter.paid.len(), 1);
    }
}
