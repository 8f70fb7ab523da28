//! Civil times and instants: what becomes of an expression where clocks are set.
//!
//! - An entry with fixed minutes and hours follows a clock on the wall that is never put back: a time that is skipped in
//!   spring comes with the first instant after the gap (several such times come as one), a time that is repeated in
//!   autumn comes the first time only.
//! - An entry with a wildcard or a step in minute or hour is true at every instant whose civil time it names: it runs
//!   through both passes of a repeated hour, and does not know a skipped one.
//!
//! Nothing here walks through time: a search ends at the first change of the zone that lies beyond its answer.

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

use super::Cron;
use crate::api::zone::{change_before, reached};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

impl Cron {
    /// The first instant after `after`.
    pub fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        if self.elapsed { self.next_elapsed(zone, after) } else { self.next_fixed(zone, after) }
    }

    /// The last instant at or before `at`.
    pub fn last(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        if self.elapsed { self.last_elapsed(zone, at) } else { self.last_fixed(zone, at) }
    }

    fn next_elapsed(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut from = whole(after).checked_add(SECOND).ok()?;
        loop {
            let offset = zone.to_offset(from);
            let civil = self.at_or_after(offset.to_datetime(from))?;
            let change = zone.following(from).next().map(|change| change.timestamp());
            let found = offset.to_timestamp(civil).ok();
            match change {
                None => return found,
                Some(change) => match found.filter(|found| *found < change) {
                    Some(found) => return Some(found),
                    None => from = change,
                },
            }
        }
    }

    fn last_elapsed(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let mut to = whole(at);
        loop {
            let offset = zone.to_offset(to);
            let civil = self.at_or_before(offset.to_datetime(to))?;
            let found = offset.to_timestamp(civil).ok();
            match change_before(zone, to) {
                None => return found,
                Some(change) => match found.filter(|found| *found >= change) {
                    Some(found) => return Some(found),
                    None => to = change.checked_sub(SECOND).ok()?,
                },
            }
        }
    }

    fn next_fixed(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let after = whole(after);
        let mut from = zone.to_datetime(after).checked_add(SECOND).ok()?;
        if let Some((_, end)) = second_pass(zone, after) {
            from = from.max(end);
        }
        loop {
            let civil = self.at_or_after(from)?;
            match reached(zone, civil)? {
                found if found > after => return Some(found),
                _ => from = civil.checked_add(SECOND).ok()?,
            }
        }
    }

    fn last_fixed(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let at = whole(at);
        let mut to = zone.to_datetime(at);
        if let Some((_, end)) = second_pass(zone, at) {
            to = to.max(end.checked_sub(SECOND).ok()?);
        }
        loop {
            let civil = self.at_or_before(to)?;
            match reached(zone, civil)? {
                found if found <= at => return Some(found),
                _ => to = civil.checked_sub(SECOND).ok()?,
            }
        }
    }
}

/// If the civil time of `at` is shown for the second time: where the repeated time begins and ends.
fn second_pass(zone: &TimeZone, at: Timestamp) -> Option<(DateTime, DateTime)> {
    let change = change_before(zone, at)?;
    let before: Offset = zone.to_offset(change.checked_sub(SECOND).ok()?);
    let (begin, end) = (zone.to_datetime(change), before.to_datetime(change));
    (zone.to_datetime(at) < end).then_some((begin, end))
}

/// The second that has begun.
fn whole(at: Timestamp) -> Timestamp {
    let second = at.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(second as i64).unwrap_or(Timestamp::MIN)
}
