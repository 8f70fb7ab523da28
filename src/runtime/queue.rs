//! The work queue: a plain struct with no clock and no lock; its owner tells it the time.
//!
//! A key is in it at most once, the earliest time wins. A key is never handed out twice at once: if it is added while it
//! is worked on, it runs once more afterwards.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// Keys and when they are due.
#[derive(Debug)]
pub struct WorkQueue<K> {
    due: BTreeSet<(Timestamp, K)>,
    waiting: BTreeMap<K, Timestamp>,
    /// Keys that are worked on, with the time for which they were added meanwhile.
    running: BTreeMap<K, Option<Timestamp>>,
    failures: BTreeMap<K, u32>,
}

/// What becomes of a key after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is to be done until it is added again. Failures are forgotten.
    Rest,
    /// Its turn comes again then. Failures are forgotten.
    At(Timestamp),
    /// It failed; its turn comes again then.
    Retry(Timestamp),
}

impl<K: Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), waiting: BTreeMap::new(), running: BTreeMap::new(), failures: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> WorkQueue<K> {
    /// Puts `key` in line for `at`, or earlier if it already is.
    pub fn add(&mut self, key: K, at: Timestamp) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = Some(again.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        match self.waiting.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert((at, key.clone()));
        self.waiting.insert(key, at);
    }

    /// Takes the key that has been due longest at `now`, for its owner to work on.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.waiting.remove(&key);
        self.running.insert(key.clone(), None);
        Some(key)
    }

    /// Ends the turn of a key that `pop_due` handed out.
    pub fn done(&mut self, key: &K, next: Next) {
        let again = self.running.remove(key).flatten();
        match next {
            Next::Rest | Next::At(_) => {
                self.failures.remove(key);
            }
            Next::Retry(_) => *self.failures.entry(key.clone()).or_default() += 1,
        }
        if let Next::At(at) | Next::Retry(at) = next {
            self.add(key.clone(), at);
        }
        if let Some(at) = again {
            self.add(key.clone(), at);
        }
    }

    /// Takes a key out, unless it is being worked on.
    pub fn forget(&mut self, key: &K) {
        if let Some(at) = self.waiting.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
        self.failures.remove(key);
    }

    /// The time of day was set: whatever waits for a time is looked at now, and what is being worked on once more.
    pub fn hurry(&mut self, now: Timestamp) {
        let keys: Vec<K> = self.waiting.keys().chain(self.running.keys()).cloned().collect();
        self.due.clear();
        self.waiting.clear();
        keys.into_iter().for_each(|key| self.add(key, now));
    }

    /// How often `key` has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.failures.get(key).copied().unwrap_or(0)
    }

    /// When the next key is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The keys in line, sorted.
    pub fn waiting_keys(&self) -> impl Iterator<Item = &K> {
        self.waiting.keys()
    }

    /// True if nothing waits and nothing is worked on.
    pub fn is_idle(&self) -> bool {
        self.due.is_empty() && self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn a_key_is_there_once_and_the_earliest_time_wins() {
        let mut queue = WorkQueue::default();
        queue.add("a", at(5));
        queue.add("a", at(3));
        queue.add("a", at(9));
        assert_eq!((queue.next_due(), queue.pop_due(at(2))), (Some(at(3)), None));
        assert_eq!((queue.pop_due(at(3)), queue.pop_due(at(99))), (Some("a"), None));
    }

    #[test]
    fn a_key_added_during_its_turn_runs_once_more_afterwards() {
        let mut queue = WorkQueue::default();
        queue.add("a", at(1));
        assert_eq!(queue.pop_due(at(1)), Some("a"));
        queue.add("a", at(2));
        queue.add("a", at(1));
        assert_eq!(queue.pop_due(at(9)), None);
        queue.done(&"a", Next::At(at(50)));
        assert_eq!((queue.pop_due(at(1)), queue.pop_due(at(99))), (Some("a"), None));
        queue.done(&"a", Next::Rest);
        assert!(queue.is_idle());
    }

    #[test]
    fn when_the_clock_was_set_everything_is_looked_at_whatever_its_time_was() {
        for now in [3, 300] {
            let mut queue = WorkQueue::default();
            ["a", "b", "c"].into_iter().zip([5, 200, 0]).for_each(|(key, time)| queue.add(key, at(time)));
            assert_eq!(queue.pop_due(at(1)), Some("c"));
            queue.hurry(at(now));
            assert_eq!([queue.pop_due(at(now)), queue.pop_due(at(now))], [Some("a"), Some("b")]);
            assert_eq!(queue.pop_due(at(999)), None);
            queue.done(&"c", Next::At(at(7)));
            assert_eq!(queue.pop_due(at(now)), Some("c"));
        }
    }

    #[test]
    fn failures_count_until_a_turn_succeeds() {
        let mut queue = WorkQueue::default();
        for n in 0..3 {
            queue.add("a", at(0));
            assert_eq!((queue.pop_due(at(n)), queue.failures(&"a")), (Some("a"), n as u32));
            queue.done(&"a", Next::Retry(at(n + 1)));
        }
        assert_eq!(queue.pop_due(at(9)), Some("a"));
        queue.done(&"a", Next::Rest);
        assert_eq!(queue.failures(&"a"), 0);
    }

    proptest! {
        #[test]
        fn every_added_key_gets_a_turn_and_never_two_at_once(
            steps in prop::collection::vec((0u8..4, 0u8..5, 0i64..20), 1..80)
        ) {
            let mut queue = WorkQueue::default();
            let mut running: Vec<u8> = Vec::new();
            let mut owed: BTreeSet<u8> = BTreeSet::new();
            for (step, key, time) in steps {
                match step {
                    0 | 1 => { queue.add(key, at(time)); owed.insert(key); }
                    2 => if let Some(key) = queue.pop_due(at(time)) {
                        prop_assert!(!running.contains(&key));
                        running.push(key);
                        owed.remove(&key);
                    },
                    _ => if let Some(key) = running.pop() { queue.done(&key, Next::Rest); },
                }
            }
            for key in running.drain(..) { queue.done(&key, Next::Rest); }
            while let Some(key) = queue.pop_due(at(100)) { owed.remove(&key); queue.done(&key, Next::Rest); }
            prop_assert!(owed.is_empty() && queue.is_idle());
        }
    }
}
