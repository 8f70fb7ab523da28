//! Time zones by their IANA names, from the machine's own database, else from the one that is compiled in; and where their civil times
//! and instants do not fit together.

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

/// The zone of this name.
///
/// # Errors
/// A sentence for the manifest's author, with the name that was probably meant.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
        match nearest(name, &known) {
            Some(meant) => format!("no such time zone `{name}`; did you mean `{meant}`?"),
            None => format!("no such time zone `{name}`; a name such as `Europe/Berlin` is meant"),
        }
    })
}

/// The name that was probably meant: the same but for case and separators, or the same city.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-'], "_");
    let city = |text: &str| plain(text).rsplit('/').next().unwrap_or_default().to_owned();
    let same = known.iter().find(|zone| plain(zone) == plain(name));
    same.or_else(|| known.iter().find(|zone| zone.contains('/') && city(zone) == city(name)))
}

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
pub(super) fn change_before(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let after = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
    zone.preceding(after).next().map(|change| change.timestamp())
}

/// A single time: with an offset of its own an instant, else what the clocks of `zone` show (of a repeated time the first, of a skipped one
/// the end of the gap). Whole seconds.
///
/// # Errors
/// A sentence for the manifest's author.
pub fn single_time(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let wrong = || format!("`{text}` is no time such as 2026-12-24T18:00:00 or 2026-12-24T18:00:00Z");
    if text.contains('[') {
        return Err(wrong());
    }
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => reached(zone, text.parse::<DateTime>().map_err(|_| wrong())?).ok_or_else(wrong)?,
    };
    match at.subsec_nanosecond() {
        0 => Ok(at),
        _ => Err(format!("`{text}`: must be whole seconds")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;

    use super::*;

    #[test]
    fn a_zone_that_nobody_knows_says_what_was_meant() {
        for (name, why) in [
            ("europe berlin", "no such time zone `europe berlin`; a name such as `Europe/Berlin` is meant"),
            ("Berlin", "no such time zone `Berlin`; did you mean `Europe/Berlin`?"),
            ("America/New-York", "no such time zone `America/New-York`; did you mean `America/New_York`?"),
        ] {
            assert_eq!(time_zone(name).err().as_deref(), Some(why));
        }
        assert!(time_zone("UTC").is_ok());
    }

    #[test]
    fn single_times_are_instants_or_what_a_clock_shows() {
        let berlin = time_zone("Europe/Berlin").expect("a zone");
        for (text, expected) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+05:00", "2026-12-24T13:00:00Z"),
            ("2026-12-24T18:00:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24 18:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24", "2026-12-23T23:00:00Z"),
            ("2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
            ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
            ("tomorrow", "`tomorrow` is no time such as 2026-12-24T18:00:00 or 2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00.5Z", "`2026-12-24T18:00:00.5Z`: must be whole seconds"),
        ] {
            let found = single_time(text, &berlin).map_or_else(|why| why, |at| at.to_string());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn zones_are_known_on_a_machine_that_has_no_database() {
        let bundled = TimeZoneDatabase::bundled();
        assert!(bundled.get("Europe/Berlin").is_ok() && bundled.available().count() > 400);
    }
}
