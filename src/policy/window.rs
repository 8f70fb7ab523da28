//! Whether an App is within its active window, and when that changes.
//!
//! A day's window begins when a clock on the wall first shows `from` or more, and ends when it first shows `to` or more.
//! So a `from` that is skipped in spring begins where the skipped hour ends, and an hour that is repeated in autumn opens
//! and closes nothing twice. A window whose `to` is not later than its `from` ends on the next day.
//!
//! Time zones are looked up in the machine's own database, else in the one that is compiled in; that is the one thing here that
//! is not in the arguments.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};

use crate::api::{ActiveWindow, DailyWindow, reached};

/// The reason of an instance that does not run because of its window.
pub const OUTSIDE: &str = "OutsideActiveWindow";

/// The state of a window at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It is open, up to this time if there is an end.
    Open(Option<Timestamp>),
    /// It is closed; opens at this time, if ever.
    Closed(Option<Timestamp>),
    /// Nobody can tell, for this reason: nothing is started, and nothing is stopped.
    Unknown(String),
}

/// The state of `window` at `now`. Without a window it is always open.
pub fn activity(window: Option<&ActiveWindow>, now: Timestamp) -> Activity {
    let Some(window) = window else { return Activity::Open(None) };
    let last = window.not_after.map_or(Timestamp::MAX, |at| at.0);
    let first = window.not_before.map_or(Timestamp::MIN, |at| at.0);
    if now >= last {
        return Activity::Closed(None);
    }
    let end = |at: Option<Timestamp>| at.into_iter().chain(window.not_after.map(|at| at.0)).min();
    let opens = |at: Option<Timestamp>| Activity::Closed(at.filter(|at| *at < last));
    let Some(daily) = &window.daily else {
        return if now < first { opens(Some(first)) } else { Activity::Open(end(None)) };
    };
    let days = match Days::of(daily) {
        Ok(days) => days,
        Err(why) => return Activity::Unknown(why),
    };
    match days.around(now.max(first)) {
        Some((from, to)) if from <= now && first <= now => Activity::Open(end(Some(to))),
        Some((from, _)) => opens(Some(from.max(first))),
        None => opens(None),
    }
}

/// The last whole second at or before `at` at which it is open; `at` itself if it is open then. `None` if there is none, or nobody can tell.
pub fn last_open(window: Option<&ActiveWindow>, at: Timestamp) -> Option<Timestamp> {
    let Some(window) = window else { return Some(at) };
    let before = |end: Timestamp| end.checked_sub(SignedDuration::from_secs(1)).ok();
    let to = match window.not_after.map(|end| end.0).filter(|end| at >= *end) {
        Some(end) => before(end)?,
        None => at,
    };
    let found = match &window.daily {
        None => to,
        Some(daily) => Days::of(daily).ok()?.last_before(to)?,
    };
    window.not_before.is_none_or(|first| found >= first.0).then_some(found)
}

struct Days {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Days {
    fn of(daily: &DailyWindow) -> Result<Self, String> {
        let time = |text: &str| {
            Time::strptime("%H:%M", text).map_err(|_| format!("`{text}` is not a time of the day such as 08:00"))
        };
        Ok(Self { from: time(&daily.from)?, to: time(&daily.to)?, zone: daily.zone()? })
    }

    /// The window that holds `now`, else the next one.
    fn around(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let today = self.zone.to_datetime(now).date();
        // A window may have begun yesterday; a day may be left out altogether, where the date line was moved.
        let days = (-2..=3).filter_map(|n| today.checked_add(SignedDuration::from_hours(24 * n)).ok());
        days.filter_map(|day| self.of_day(day)).find(|(_, to)| now < *to)
    }

    /// The last whole second at or before `at` that a window holds.
    fn last_before(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let days = (-3..=2).rev().filter_map(|n| today.checked_add(SignedDuration::from_hours(24 * n)).ok());
        let (_, to) = days.filter_map(|day| self.of_day(day)).find(|(from, _)| *from <= at)?;
        Some(if at < to { at } else { to.checked_sub(SignedDuration::from_secs(1)).ok()? })
    }

    /// The window that begins on this day; none if all of it is skipped.
    fn of_day(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let window =
            (reached(&self.zone, day.to_datetime(self.from))?, reached(&self.zone, last.to_datetime(self.to))?);
        (window.0 < window.1).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::DateTime;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn window(value: Value) -> ActiveWindow {
        serde_json::from_value(value).expect("a window")
    }

    fn daily(from: &str, to: &str, zone: &str) -> ActiveWindow {
        window(json!({"daily": {"from": from, "to": to, "timeZone": zone}}))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn shown(window: &ActiveWindow, now: &str) -> String {
        match activity(Some(window), at(now)) {
            Activity::Open(until) => format!("open until {}", until.map_or("-".to_owned(), |at| at.to_string())),
            Activity::Closed(until) => format!("closed until {}", until.map_or("-".to_owned(), |at| at.to_string())),
            Activity::Unknown(why) => why,
        }
    }

    #[test]
    fn each_window_has_its_hours() {
        let office = daily("08:00", "20:00", "Europe/Berlin");
        let night = daily("22:00", "06:00", "Europe/Berlin");
        let skipped = daily("02:30", "04:00", "Europe/Berlin");
        let within = daily("02:10", "02:50", "Europe/Berlin");
        let into = daily("01:00", "02:30", "Europe/Berlin");
        let utc = window(json!({"daily": {"from": "08:00", "to": "09:00"}}));
        let dates = window(json!({"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-02-01T00:00:00Z"}));
        let both = window(json!({
            "notBefore": "2026-01-01T12:00:00Z", "notAfter": "2026-01-03T08:30:00Z",
            "daily": {"from": "08:00", "to": "20:00"},
        }));
        for (window, now, expected) in [
            (&office, "2026-01-15T06:59:59Z", "closed until 2026-01-15T07:00:00Z"),
            (&office, "2026-01-15T07:00:00Z", "open until 2026-01-15T19:00:00Z"),
            (&office, "2026-01-15T19:00:00Z", "closed until 2026-01-16T07:00:00Z"),
            (&office, "2026-07-15T06:00:00Z", "open until 2026-07-15T18:00:00Z"),
            (&night, "2026-01-15T04:00:00Z", "open until 2026-01-15T05:00:00Z"),
            (&night, "2026-01-15T05:00:00Z", "closed until 2026-01-15T21:00:00Z"),
            (&night, "2026-01-15T23:30:00Z", "open until 2026-01-16T05:00:00Z"),
            // A night that is an hour shorter, and one that is an hour longer.
            (&night, "2026-03-28T21:30:00Z", "open until 2026-03-29T04:00:00Z"),
            (&night, "2026-10-24T21:30:00Z", "open until 2026-10-25T05:00:00Z"),
            // 02:00 to 03:00 is skipped: it begins at 03:00, or not at all that day.
            (&skipped, "2026-03-29T00:00:00Z", "closed until 2026-03-29T01:00:00Z"),
            (&skipped, "2026-03-29T01:00:00Z", "open until 2026-03-29T02:00:00Z"),
            (&within, "2026-03-28T12:00:00Z", "closed until 2026-03-30T00:10:00Z"),
            // 02:00 to 03:00 is repeated: the first time counts.
            (&into, "2026-10-25T00:15:00Z", "open until 2026-10-25T00:30:00Z"),
            (&into, "2026-10-25T01:15:00Z", "closed until 2026-10-26T00:00:00Z"),
            (&within, "2026-10-25T01:30:00Z", "closed until 2026-10-26T01:10:00Z"),
            (&utc, "2026-01-15T08:30:00Z", "open until 2026-01-15T09:00:00Z"),
            (&dates, "2025-12-31T23:59:59Z", "closed until 2026-01-01T00:00:00Z"),
            (&dates, "2026-01-01T00:00:00Z", "open until 2026-02-01T00:00:00Z"),
            (&dates, "2026-02-01T00:00:00Z", "closed until -"),
            (&both, "2026-01-01T09:00:00Z", "closed until 2026-01-01T12:00:00Z"),
            (&both, "2026-01-01T13:00:00Z", "open until 2026-01-01T20:00:00Z"),
            (&both, "2026-01-02T21:00:00Z", "closed until 2026-01-03T08:00:00Z"),
            (&both, "2026-01-03T08:10:00Z", "open until 2026-01-03T08:30:00Z"),
            (&both, "2026-01-03T08:30:00Z", "closed until -"),
        ] {
            assert_eq!(shown(window, now), expected, "{now} {window:?}");
        }
        assert_eq!(activity(None, at("2026-01-01T00:00:00Z")), Activity::Open(None));
    }

    /// Goes through the time minute by minute with a clock on the wall that is never put back.
    fn oracle(window: &ActiveWindow, zone: &TimeZone, begin: Timestamp, minutes: i64) -> Vec<bool> {
        let daily = window.daily.as_ref().expect("daily");
        let (from, to): (Time, Time) = (daily.from.parse().expect("time"), daily.to.parse().expect("time"));
        let mut wall = DateTime::MIN;
        let lead = 3 * 24 * 60;
        let at = |minute: i64| begin + SignedDuration::from_mins(minute);
        let seen = (-lead..minutes).map(|minute| {
            wall = wall.max(zone.to_datetime(at(minute)));
            let time = wall.time();
            if from < to { from <= time && time < to } else { from <= time || time < to }
        });
        seen.collect::<Vec<_>>().split_off(usize::try_from(lead).expect("positive"))
    }

    /// Zones with changes of an hour, of half an hour, at midnight, and of a whole day.
    fn places() -> impl Strategy<Value = (&'static str, Timestamp)> {
        prop_oneof![
            Just(("Europe/Berlin", at("2026-03-28T00:00:00Z"))),
            Just(("Europe/Berlin", at("2026-10-24T00:00:00Z"))),
            Just(("America/New_York", at("2026-03-07T00:00:00Z"))),
            Just(("America/New_York", at("2026-10-31T00:00:00Z"))),
            Just(("Australia/Lord_Howe", at("2026-04-04T00:00:00Z"))),
            Just(("Australia/Lord_Howe", at("2026-10-03T00:00:00Z"))),
            Just(("America/Havana", at("2026-03-07T00:00:00Z"))),
            Just(("America/Santiago", at("2026-09-05T00:00:00Z"))),
            Just(("Pacific/Apia", at("2011-12-29T00:00:00Z"))),
            Just(("UTC", at("2026-01-01T00:00:00Z"))),
        ]
    }

    fn time_of_day() -> impl Strategy<Value = String> {
        (0..24i8, prop_oneof![Just(0i8), Just(30), 0..60i8]).prop_map(|(h, m)| format!("{h:02}:{m:02}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn it_is_open_as_a_clock_on_the_wall_says(
            (zone, begin) in places(), from in time_of_day(), to in time_of_day()
        ) {
            prop_assume!(from != to);
            let window = daily(&from, &to, zone);
            let zone = TimeZone::get(zone).expect("a zone");
            for (minute, expected) in (0i64..).zip(oracle(&window, &zone, begin, 3 * 24 * 60)) {
                let now = begin + SignedDuration::from_mins(minute);
                let found = activity(Some(&window), now);
                prop_assert_eq!(matches!(found, Activity::Open(_)), expected, "{} {:?}", now, found);
            }
        }

        #[test]
        fn the_last_time_at_which_it_was_open_is_found(
            (zone, begin) in places(), from in time_of_day(), to in time_of_day(), seconds in 0i64..4 * 86_400,
        ) {
            prop_assume!(from != to);
            let window = daily(&from, &to, zone);
            let at = begin + SignedDuration::from_secs(seconds);
            let minute = |n: i64| at - SignedDuration::from_secs(n);
            let is_open = |at| matches!(activity(Some(&window), at), Activity::Open(_));
            let seen = (0..2 * 86_400).step_by(60).map(minute).find(|at| is_open(*at));
            match (last_open(Some(&window), at), seen) {
                (Some(found), Some(seen)) => {
                    prop_assert!(is_open(found) && found <= at && found >= seen);
                    prop_assert!(found == at || !is_open(found + SignedDuration::from_secs(1)));
                }
                // A day without a window, in spring.
                (found, None) => prop_assert!(found.is_none_or(|found| found < minute(2 * 86_400 - 60))),
                (None, seen) => prop_assert!(false, "{seen:?}"),
            }
        }

        #[test]
        fn what_it_says_of_the_next_change_is_so(
            (zone, begin) in places(), from in time_of_day(), to in time_of_day(), minute in 0i64..4320,
            first in 0i64..4320, length in 1i64..4320,
        ) {
            prop_assume!(from != to);
            let mut window = daily(&from, &to, zone);
            let later = |minutes| begin + SignedDuration::from_mins(minutes);
            window.not_before = Some(crate::api::Time(later(first)));
            window.not_after = Some(crate::api::Time(later(first + length)));
            let moment = SignedDuration::from_nanos(1);
            let is_open = |at| matches!(activity(Some(&window), at), Activity::Open(_));
            match activity(Some(&window), later(minute)) {
                Activity::Open(Some(until)) => prop_assert!(is_open(until - moment) && !is_open(until)),
                Activity::Closed(Some(until)) => prop_assert!(!is_open(until - moment) && is_open(until)),
                Activity::Closed(None) => prop_assert!((minute..6 * 1440).all(|m| !is_open(later(m)))),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
