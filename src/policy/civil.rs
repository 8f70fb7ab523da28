//! Where civil times and instants do not fit together: gaps and folds of a time zone.

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// When a clock on the wall that is never put back first shows this time, or a later one.
pub fn reached(zone: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(civil).ok()
        }
        // Where the gap ends: the change at or before the instant that the old offset would have made.
        AmbiguousOffset::Gap { before, .. } => change_before(zone, before.to_timestamp(civil).ok()?),
    }
}

/// The last change of the zone at or before `at`.
pub fn change_before(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let after = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
    zone.preceding(after).next().map(|change| change.timestamp())
}
