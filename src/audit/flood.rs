//! Refusals that come in floods: the first of a minute stand in the log one by one, the others as one record that counts them.
//!
//! The log is bounded, and its oldest files go. Without this, whoever is refused a few thousand times a second pushes out what matters.
//! What is refused says little that its first did not: who, from where, how often, and with which codes is kept.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::record::{Decision, Record};

/// So many of one party stand in the log one by one, in each minute.
const ONE_BY_ONE: u64 = 30;
/// How long a minute is.
const MINUTE: Duration = Duration::from_secs(60);
/// So many parties are told apart; what others are refused counts together.
const PARTIES: usize = 1024;

/// Who is refused: the user, as far as known, and from where.
type Party = (String, String);

/// Counts what is not written.
#[derive(Debug, Default)]
pub(super) struct Floods {
    parties: HashMap<Party, Minute>,
}

#[derive(Debug)]
struct Minute {
    ends: Duration,
    written: u64,
    /// How many were refused beside, by code.
    counted: BTreeMap<u16, u64>,
    first: String,
    last: String,
}

impl Floods {
    /// The record, if it is to be written; otherwise it is counted.
    pub(super) fn pass(&mut self, draft: Record, now: Duration) -> Option<Record> {
        if draft.code < 400 {
            return Some(draft);
        }
        let known = (draft.user.clone(), draft.source.clone());
        let party = match self.parties.len() < PARTIES || self.parties.contains_key(&known) {
            true => known,
            false => Party::default(),
        };
        let minute = self.parties.entry(party).or_insert_with(|| Minute {
            ends: now + MINUTE,
            written: 0,
            counted: BTreeMap::new(),
            first: String::new(),
            last: String::new(),
        });
        if minute.written < ONE_BY_ONE {
            minute.written += 1;
            return Some(draft);
        }
        *minute.counted.entry(draft.code).or_default() += 1;
        if minute.first.is_empty() {
            minute.first.clone_from(&draft.time);
        }
        minute.last = draft.time;
        None
    }

    /// When the first minute ends of which something is to be told.
    pub(super) fn next(&self) -> Option<Duration> {
        self.parties.values().filter(|minute| !minute.counted.is_empty()).map(|minute| minute.ends).min()
    }

    /// One record for each party of whom something was counted: of those whose minute is over, or of all.
    pub(super) fn told(&mut self, now: Option<Duration>) -> Vec<Record> {
        let mut told = Vec::new();
        self.parties.retain(|(user, source), minute| {
            let over = now.is_none_or(|now| now >= minute.ends);
            if over && !minute.counted.is_empty() {
                let counted = std::mem::take(&mut minute.counted);
                told.push(summary(user, source, minute, &counted));
                minute.first.clear();
            }
            // Whose minute is not over goes on being counted.
            now.is_none() || !over
        });
        told.sort_by(|a, b| (&a.user, &a.source).cmp(&(&b.user, &b.source)));
        told
    }
}

fn summary(user: &str, source: &str, minute: &Minute, counted: &BTreeMap<u16, u64>) -> Record {
    let all: u64 = counted.values().sum();
    let codes: Vec<String> = counted.iter().map(|(code, count)| format!("{count} × {code}")).collect();
    let whose = if user.is_empty() && source.is_empty() { "of many others" } else { "like those before" };
    let note = format!("{all} more refusals {whose}, from {} to {}: {}", minute.first, minute.last, codes.join(", "));
    let denied = counted.keys().any(|code| matches!(code, 401 | 403));
    Record {
        time: minute.last.clone(),
        user: user.to_owned(),
        source: source.to_owned(),
        verb: "note".to_owned(),
        decision: if denied { Decision::Deny } else { Decision::Allow },
        note,
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(user: &str, code: u16, second: u64) -> Record {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        Record { user: user.to_owned(), source: "10.0.0.9".to_owned(), code, time, ..Record::default() }
    }

    #[test]
    fn a_flood_of_refusals_is_a_few_records_and_one_that_counts_the_rest() {
        let (mut floods, mut written) = (Floods::default(), 0);
        for n in 0..5000 {
            let code = if n % 5 == 0 { 403 } else { 401 };
            written += usize::from(floods.pass(refused("", code, n / 100), Duration::from_secs(n / 100)).is_some());
        }
        assert_eq!(written, 30);
        assert!(floods.pass(refused("ann", 403, 50), Duration::from_secs(50)).is_some(), "another party's");
        assert!(floods.pass(Record { code: 200, ..refused("", 0, 50) }, Duration::from_secs(50)).is_some());
        assert_eq!(floods.next(), Some(Duration::from_secs(60)));
        assert!(floods.told(Some(Duration::from_secs(59))).is_empty());
        let told = floods.told(Some(Duration::from_secs(60)));
        let notes: Vec<_> = told.iter().map(|record| (record.source.as_str(), record.note.as_str())).collect();
        let expected = "4970 more refusals like those before, from 2026-01-01T00:00:00Z to 2026-01-01T00:00:49Z: \
                        3976 × 401, 994 × 403";
        assert_eq!(notes, [("10.0.0.9", expected)]);
        assert_eq!(told[0].decision, Decision::Deny);
        assert_eq!(floods.next(), None);
        assert!(floods.pass(refused("", 401, 59), Duration::from_secs(70)).is_some(), "a new minute");
    }

    #[test]
    fn whoever_reads_the_log_sees_what_was_counted_so_far() {
        let mut floods = Floods::default();
        for _ in 0..40 {
            floods.pass(refused("ann", 422, 1), Duration::ZERO);
        }
        assert_eq!(floods.told(None).len(), 1);
        assert!(floods.told(None).is_empty());
        assert!(floods.pass(refused("ann", 422, 2), Duration::ZERO).is_none(), "the minute goes on");
        assert_eq!(floods.told(None).len(), 1);
    }

    #[test]
    fn many_parties_take_a_bounded_room() {
        let mut floods = Floods::default();
        for n in 0..5000 {
            let source = format!("10.0.{}.{}", n / 250, n % 250);
            floods.pass(Record { source, ..refused("", 401, 0) }, Duration::ZERO);
        }
        assert_eq!(floods.parties.len(), PARTIES + 1);
        let told = floods.told(None);
        assert_eq!(told.len(), 1);
        assert!(told[0].note.starts_with("3946 more refusals of many others"), "{}", told[0].note);
    }
}
