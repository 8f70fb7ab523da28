//! When to look at what processes use, and when that is worth a write.
//!
//! The first look is a second after a start, then every thirty, and every sixty at what does not change. Looks are
//! gathered on whole five-second marks, so that a thousand instances wake the agent a few times in half a minute, not a
//! thousand times. Whoever asks ([`super::looks`]) gets a look at once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::api::{Uid, Usage};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const EVERY: SignedDuration = SignedDuration::from_secs(30);
/// What did not change is looked at so often.
const SELDOM: SignedDuration = SignedDuration::from_secs(60);
/// Whoever asks is not shown figures that are older, even if they have not changed much.
const STALE: SignedDuration = SignedDuration::from_secs(60);
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
    pub(super) fn again(&mut self, uid: &Uid, changed: bool, now: Timestamp) {
        self.at(uid, mark(now + if changed { EVERY } else { SELDOM }, 5));
    }

    /// Everything is to be looked at now.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        for (uid, at) in &mut self.of {
            *at = now.min(*at);
            self.due.insert((*at, uid.clone()));
        }
        self.due.retain(|(at, uid)| self.of.get(uid) == Some(at));
    }

    /// Nothing is due any more.
    pub(super) fn is_done(&self, now: Timestamp) -> bool {
        self.next().is_none_or(|at| at > now)
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

/// True if somebody would want to know: memory moved by a tenth, or CPU by a twentieth of a core. Who asked wants to know
/// smaller moves, and that it is still so.
pub(super) fn differs(before: Option<&Usage>, after: &Usage, asked: bool) -> bool {
    let Some(before) = before else { return true };
    let age = after.time.zip(before.time).map(|(after, before)| after.0.duration_since(before.0));
    if asked && (age.is_none_or(|age| age > STALE) || (before.cpu_cores - after.cpu_cores).abs() > 0.005) {
        return true;
    }
    if before.oom_kills != after.oom_kills {
        return true;
    }
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
        assert!(differs(None, &usage(0.0, 0), false));
        assert!(!differs(Some(&usage(0.0, 1000)), &usage(0.04, 1100), false));
        assert!(differs(Some(&usage(0.0, 1000)), &usage(0.0, 1101), false));
        assert!(differs(Some(&usage(0.5, 1000)), &usage(0.0, 1000), false));
        assert!(differs(Some(&usage(0.01, 1000)), &usage(0.02, 1000), true));
    }
}
