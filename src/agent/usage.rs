//! When to look at what processes use, and when that is worth a write.
//!
//! The first look is a second after a start, then every thirty. Looks are gathered on whole five-second marks, so that a
//! thousand instances wake the agent a few times in half a minute, not a thousand times.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::{Uid, Usage};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const EVERY: SignedDuration = SignedDuration::from_secs(30);
/// How many are looked at before everything else gets its turn again.
const AT_ONCE: usize = 32;

/// Who is looked at when.
#[derive(Debug, Default)]
pub(super) struct Samples {
    due: BTreeSet<(Timestamp, Uid)>,
    of: BTreeMap<Uid, Timestamp>,
}

impl Samples {
    /// A process was started, or adopted.
    pub(super) fn started(&mut self, uid: &Uid, now: Timestamp) {
        self.at(uid, mark(now + FIRST, 1));
    }

    /// It was looked at and still runs.
    pub(super) fn again(&mut self, uid: &Uid, now: Timestamp) {
        self.at(uid, mark(now + EVERY, 5));
    }

    fn at(&mut self, uid: &Uid, at: Timestamp) {
        if let Some(before) = self.of.insert(uid.clone(), at) {
            self.due.remove(&(before, uid.clone()));
        }
        self.due.insert((at, uid.clone()));
    }

    /// Those that are due, a few at a time.
    pub(super) fn due(&mut self, now: Timestamp) -> BTreeSet<Uid> {
        let mut due = BTreeSet::new();
        while due.len() < AT_ONCE && self.due.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.due.pop_first().map(|(_, uid)| uid));
        }
        for uid in &due {
            self.of.remove(uid);
        }
        due
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }
}

/// The next whole multiple of `seconds`.
fn mark(at: Timestamp, seconds: i64) -> Timestamp {
    let whole = at.as_second().div_euclid(seconds) * seconds;
    let up = if whole == at.as_second() && at.subsec_nanosecond() == 0 { whole } else { whole + seconds };
    Timestamp::from_second(up).unwrap_or(at)
}

/// True if somebody would want to know: memory moved by a tenth, or CPU by a twentieth of a core.
pub(super) fn differs(before: Option<&Usage>, after: &Usage) -> bool {
    let Some(before) = before else { return true };
    let moved = before.memory_bytes.abs_diff(after.memory_bytes);
    moved > before.memory_bytes / 10 || (before.cpu_cores - after.cpu_cores).abs() > 0.05
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn looks_are_gathered_on_marks() {
        assert_eq!(mark(at("2026-11-21T08:00:01.2Z"), 1), at("2026-11-21T08:00:02Z"));
        assert_eq!(mark(at("2026-11-21T08:00:01.2Z"), 5), at("2026-11-21T08:00:05Z"));
        assert_eq!(mark(at("2026-11-21T08:00:05Z"), 5), at("2026-11-21T08:00:05Z"));
    }

    #[test]
    fn small_moves_are_not_worth_a_write() {
        let usage = |cpu_cores, memory_bytes| Usage { cpu_cores, memory_bytes, ..Usage::default() };
        assert!(differs(None, &usage(0.0, 0)));
        assert!(!differs(Some(&usage(0.0, 1000)), &usage(0.04, 1100)));
        assert!(differs(Some(&usage(0.0, 1000)), &usage(0.0, 1101)));
        assert!(differs(Some(&usage(0.5, 1000)), &usage(0.0, 1000)));
    }
}
