//! Tables, and the laws.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::*;

fn cron(text: &str) -> Cron {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Field by field, as crontab(5) puts it.
fn names(cron: &Cron, at: DateTime) -> bool {
    let date = at.date();
    has(cron.seconds, at.second())
        && has(cron.minutes, at.minute())
        && has(cron.hours, at.hour())
        && has(cron.months, at.month())
        && cron.has_day(date)
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A time zone around one of its changes, minute by minute.
struct Walk {
    /// Each instant, what the zone's clock shows, and what a clock showed before that is never put back.
    minutes: Vec<(Timestamp, DateTime, DateTime)>,
}

impl Walk {
    fn new(zone: &TimeZone, begin: Timestamp, end: Timestamp) -> Self {
        // How far the clock on the wall has come by then: as far as it ever came on the day before.
        let day_before = (0..26 * 4).map(|n| zone.to_datetime(begin - SignedDuration::from_mins(15 * n)));
        let mut wall = day_before.max().expect("some");
        let (mut at, mut minutes) = (begin, Vec::new());
        while at < end {
            at += MINUTE;
            let shown = zone.to_datetime(at);
            minutes.push((at, shown, wall));
            wall = wall.max(shown);
        }
        Self { minutes }
    }

    fn fires(&self, cron: &Cron) -> Vec<Timestamp> {
        let at = |(at, shown, mut wall): (Timestamp, DateTime, DateTime)| {
            if cron.follows_elapsed_time() {
                return names(cron, shown).then_some(at);
            }
            let mut any = false;
            while wall < shown {
                wall += MINUTE;
                any |= names(cron, wall);
            }
            any.then_some(at)
        };
        self.minutes.iter().copied().filter_map(at).collect()
    }
}

#[test]
fn every_change_of_every_zone_is_gone_through_by_the_rules() {
    let (first, last): (Timestamp, Timestamp) =
        ("2000-01-01T00:00:00Z".parse().unwrap(), "2041-01-01T00:00:00Z".parse().unwrap());
    let mut seen = BTreeSet::new();
    let (mut changes, mut fires) = (0, 0);
    for name in jiff::tz::db().available() {
        let zone = TimeZone::get(name.as_str()).unwrap();
        for change in zone.following(first).take_while(|change| change.timestamp() < last) {
            changes += 1;
            let at = change.timestamp();
            let (before, after) = (zone.to_offset(at - SignedDuration::from_secs(1)), zone.to_offset(at));
            // The same change in another zone is the same.
            if !seen.insert((at, before, after)) || before == after {
                continue;
            }
            let (old, new) = (before.to_datetime(at), after.to_datetime(at));
            let (low, high) = (old.min(new), old.max(new));
            let inside = low + SignedDuration::from_mins(7).min(high.duration_since(low) / 2);
            let (h, m) = (inside.hour(), inside.minute());
            let span = SignedDuration::from_mins(100) + high.duration_since(low);
            let (begin, end) = (at - span, at + span);
            let walk = Walk::new(&zone, begin, end);
            for text in [
                format!("{m} {h} * * *"),
                format!("{} {} * * *", low.minute(), low.hour()),
                format!("{} {} * * *", high.minute(), high.hour()),
                format!("0,7,{m} {h},{} * * *", high.hour()),
                format!("*/10 {h} * * *"),
                "17 * * * *".to_owned(),
                "0 */2 * * *".to_owned(),
                format!("{m} {h} {} {} *", inside.day(), inside.month()),
            ] {
                let cron = cron(&text);
                let expected = walk.fires(&cron);
                let next = |t: &Timestamp| cron.next(&zone, *t).filter(|next| *next <= end);
                let found: Vec<_> = std::iter::successors(next(&begin), next).collect();
                assert_eq!(found, expected, "{text} in {name} at {at}, {before} to {after}");
                let back = |t: &Timestamp| cron.last(&zone, *t).filter(|last| *last > begin);
                let earlier = |t: &Timestamp| back(&(*t - SignedDuration::from_nanos(1)));
                let mut found: Vec<_> = std::iter::successors(back(&end), earlier).collect();
                found.reverse();
                assert_eq!(found, expected, "backwards: {text} in {name} at {at}, {before} to {after}");
                fires += found.len();
            }
        }
    }
    assert!(changes > 10_000 && seen.len() > 1000 && fires > 50_000, "{changes}, {}, {fires}", seen.len());
}

#[test]
fn expressions_are_told_in_words() {
    for (text, words) in [
        ("30 2 * * 1-5", "at 02:30, on Monday to Friday"),
        ("* * * * *", "every minute"),
        ("* * * * * *", "every second"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0,15,30,45 * * * *", "every 15 minutes"),
        ("*/25 * * * *", "at minutes 0, 25 and 50 of every hour"),
        ("17 * * * *", "at minute 17 of every hour"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("*/10 9-17 * * mon", "every 10 minutes of hours 9 to 17, on Monday"),
        ("0 */2 * * *", "at minute 0 of every second hour"),
        ("0 9,12,18 * * *", "at 09:00, 12:00 and 18:00"),
        ("5 30 2 * * *", "at 02:30:05"),
        ("* 30 2 * * *", "every second of minute 30 of hour 2"),
        ("@yearly", "at 00:00, on the 1st, in January"),
        ("@weekly", "at 00:00, on Sunday"),
        ("0 0 1,15 * 5", "at 00:00, on the 1st and the 15th or on Friday"),
        (
            "0 0 */2 * 1",
            "at 00:00, on the 1st, the 3rd, the 5th, the 7th, the 9th, the 11th, the 13th, the 15th, the 17th, \
            the 19th, the 21st, the 23rd, the 25th, the 27th, the 29th and the 31st if it is on Monday",
        ),
        ("0 0 L * *", "at 00:00, on the last day of the month"),
        ("0 0 LW,15W * *", "at 00:00, on the last weekday of the month and the weekday nearest to the 15th"),
        ("0 0 * 6-8,12 fri#2,5L", "at 00:00, on the 2nd and last Friday of the month, in June to August and December"),
    ] {
        assert_eq!(cron(text).to_string(), words, "{text}");
    }
}

#[test]
fn what_nobody_means_is_refused_with_every_reason() {
    for (text, why) in [
        ("", "there is no expression"),
        (
            "* * * *",
            "it has 4 fields, not five: minute, hour, day of the month, month and day of the week; a sixth for seconds \
            may stand before them",
        ),
        (
            "60 24 0 13 8",
            "minute `60`: 60 is not within 0 to 59; hour `24`: 24 is not within 0 to 23; day of the month `0`: \
            0 is not within 1 to 31; month `13`: 13 is not within 1 to 12; day of the week `8`: 8 is not within 0 to 7",
        ),
        ("1,,2 * * * *", "minute `1,,2`: something is missing"),
        ("+5 * * * *", "minute `+5`: `+5` is no minute"),
        ("*/61 * * * *", "minute `*/61`: a step of 61 leads nowhere; 1 to 60 do"),
        ("*/0 * * * *", "minute `*/0`: a step of 0 leads nowhere; 1 to 60 do"),
        ("5-1 * * * *", "minute `5-1`: `5-1` ends before it begins; write two ranges, with a comma between them"),
        ("0 0 * JANFEB *", "month `JANFEB`: `JANFEB` is no month"),
        ("0 0 31 2 *", "no day of any year is meant by it"),
        ("0 0 * * 5#6", "day of the week `5#6`: after `#` a number from 1 to 5 is meant"),
        ("0 0 * * L", "day of the week `L`: `L` needs a day, such as `5L` for the last Friday"),
        ("0 L * * *", "hour `L`: `L` is no hour"),
        ("? * * * *", "minute `?`: `?` is no minute"),
        ("@reboot", "`@reboot` is no time: what runs from the start on is an App"),
        ("@every 5m", "an interval is a field of its own, `every: {interval: …}`"),
        ("@hurly", "there is no `@hurly`: @yearly, @monthly, @weekly, @daily and @hourly are meant"),
        ("TZ=UTC 0 0 * * *", "the time zone is a field of its own, `timeZone`"),
    ] {
        let found = text.parse::<Cron>().map(|c| c.to_string()).map_err(|e| e.to_string());
        assert_eq!(found, Err(why.to_owned()), "{text}");
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The next times in a zone, as its clocks show them.
fn next(text: &str, zone: &str, from: &str, n: usize) -> String {
    let (cron, zone) = (cron(text), TimeZone::get(zone).expect("a zone"));
    let next = |at: &Timestamp| cron.next(&zone, *at);
    let shown = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string();
    std::iter::successors(next(&at(from)), next).take(n).map(shown).collect::<Vec<_>>().join(", ")
}

#[test]
fn days_are_those_of_vixies_rules() {
    for (text, expected) in [
        // Either day, where both are restricted.
        ("0 0 13 * 5", "01-02 00:00+00:00, 01-09 00:00+00:00, 01-13 00:00+00:00, 01-16 00:00+00:00"),
        // Both, where one begins with `*`.
        ("0 0 */2 * 1", "01-05 00:00+00:00, 01-19 00:00+00:00, 02-09 00:00+00:00, 02-23 00:00+00:00"),
        ("0 0 * * 7", "01-04 00:00+00:00, 01-11 00:00+00:00, 01-18 00:00+00:00, 01-25 00:00+00:00"),
        ("0 0 * * fri-sun", "01-02 00:00+00:00, 01-03 00:00+00:00, 01-04 00:00+00:00, 01-09 00:00+00:00"),
        ("0 0 L * *", "01-31 00:00+00:00, 02-28 00:00+00:00, 03-31 00:00+00:00, 04-30 00:00+00:00"),
        ("0 0 LW * *", "01-30 00:00+00:00, 02-27 00:00+00:00, 03-31 00:00+00:00, 04-30 00:00+00:00"),
        ("0 0 1W,31W * *", "01-30 00:00+00:00, 02-02 00:00+00:00, 03-02 00:00+00:00, 03-31 00:00+00:00"),
        ("0 0 * * 5#2", "01-09 00:00+00:00, 02-13 00:00+00:00, 03-13 00:00+00:00, 04-10 00:00+00:00"),
        ("0 0 * * 5L", "01-30 00:00+00:00, 02-27 00:00+00:00, 03-27 00:00+00:00, 04-24 00:00+00:00"),
        ("59 59 23 29 2 *", "02-29 23:59+00:00, 02-29 23:59+00:00, 02-29 23:59+00:00, 02-29 23:59+00:00"),
    ] {
        assert_eq!(next(text, "UTC", "2026-01-01T00:00:00Z", 4), expected, "{text}");
    }
}

#[test]
fn clocks_that_are_set_change_what_the_manifest_says_they_change() {
    let berlin = "Europe/Berlin";
    for (text, from, expected) in [
        // Skipped: right after the gap, once, and both as one.
        ("30 2 * * *", "2026-03-28T12:00:00Z", "03-29 03:00+02:00, 03-30 02:30+02:00"),
        ("0,30 2,3 * * *", "2026-03-28T12:00:00Z", "03-29 03:00+02:00, 03-29 03:30+02:00"),
        // Repeated: the first time.
        ("30 2 * * *", "2026-10-24T12:00:00Z", "10-25 02:30+02:00, 10-26 02:30+01:00"),
        ("30 2 * * *", "2026-10-25T00:45:00Z", "10-26 02:30+01:00, 10-27 02:30+01:00"),
        // Elapsed: both passes, and nothing of what is skipped.
        (
            "*/30 2 * * *",
            "2026-10-24T23:00:00Z",
            "10-25 02:00+02:00, 10-25 02:30+02:00, 10-25 02:00+01:00, 10-25 02:30+01:00",
        ),
        ("*/30 2 * * *", "2026-03-28T12:00:00Z", "03-30 02:00+02:00, 03-30 02:30+02:00"),
        ("0 * * * *", "2026-10-24T23:30:00Z", "10-25 02:00+02:00, 10-25 02:00+01:00, 10-25 03:00+01:00"),
    ] {
        let n = expected.split(", ").count();
        assert_eq!(next(text, berlin, from, n), expected, "{text} after {from}");
    }
    // A day that is left out altogether, and one that there is twice.
    assert_eq!(next("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1), "12-31 00:00+14:00");
    assert_eq!(next("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 2), "12-29 12:00-10:00, 12-31 00:00+14:00");
}
