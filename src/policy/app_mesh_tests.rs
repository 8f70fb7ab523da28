//! The Schedules of manifests/app-mesh.yaml come when App Mesh's own definitions would, which stand beside them.
//!
//! What App Mesh does is written down here a second time, as plainly as can be: second by second.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::schedule::Times;
use crate::api::{Kind, Object, Schedule};

const MANIFEST: &str = include_str!("../../manifests/app-mesh.yaml");

/// One of App Mesh's definitions.
struct Mesh {
    definition: Value,
}

impl Mesh {
    fn number(&self, name: &str) -> Option<i64> {
        self.definition[name].as_i64()
    }

    fn is_time(&self, second: i64) -> bool {
        let start = self.number("start_time").unwrap_or(0);
        let within = start <= second && self.number("end_time").is_none_or(|end| second <= end);
        within && self.is_in_day(second.rem_euclid(86_400)) && self.recurs(second, start)
    }

    fn is_in_day(&self, second: i64) -> bool {
        let daily = &self.definition["daily_limitation"];
        let (Some(start), Some(end)) = (daily["daily_start"].as_i64(), daily["daily_end"].as_i64()) else {
            return true;
        };
        if start <= end { (start..end).contains(&second) } else { second >= start || second < end }
    }

    fn recurs(&self, second: i64, start: i64) -> bool {
        match &self.definition["start_interval_seconds"] {
            Value::String(cron) if self.definition["cron"] == true => matches(cron, second),
            Value::String(text) => (second - start) % iso(text) == 0,
            interval => (second - start) % interval.as_i64().expect("seconds") == 0,
        }
    }
}

/// `P1DT1H30M` in seconds.
fn iso(text: &str) -> i64 {
    let (mut total, mut number) = (0, 0);
    for letter in text.chars() {
        match letter {
            '0'..='9' => number = number * 10 + i64::from(u32::from(letter) - u32::from('0')),
            letter => {
                let scale = match letter {
                    'D' => 86_400,
                    'H' => 3600,
                    'M' => 60,
                    'S' => 1,
                    _ => 0,
                };
                total += number * scale;
                number = 0;
            }
        }
    }
    total
}

/// Of croncpp what is used here: numbers, ranges and `*`, in six fields.
fn matches(cron: &str, second: i64) -> bool {
    let time = Timestamp::from_second(second).expect("a time").to_zoned(TimeZone::UTC);
    let now =
        [time.second(), time.minute(), time.hour(), time.day(), time.month(), time.weekday().to_sunday_zero_offset()];
    cron.split(' ').zip(now).all(|(field, now)| match field.split_once('-') {
        Some((from, to)) => (from.parse().expect("a number")..=to.parse::<i8>().expect("a number")).contains(&now),
        None => field == "*" || field.parse() == Ok(now),
    })
}

#[test]
fn app_meshs_own_ways_to_say_when_have_the_same_times_here() {
    let mut compared = 0;
    for text in MANIFEST.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(text).expect("yaml");
        if object["kind"] != "Schedule" {
            continue;
        }
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let wrong = (Schedule::INFO.check)(&object, None);
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        let mesh = object["metadata"]["annotations"]["example.com/app-mesh"].as_str().expect("App Mesh's");
        let mesh = Mesh { definition: serde_json::from_str(mesh).expect("json") };
        let schedule: Object<Schedule> = serde_json::from_value(object).expect("a schedule");
        let times = Times::of(&schedule.spec, &TimeZone::UTC, "uid").expect("right");
        // Across the beginning of the year, and beyond what ends in January.
        let from: Timestamp = "2025-12-31T12:00:00Z".parse().expect("a time");
        let until: Timestamp = "2026-02-02T00:00:00Z".parse().expect("a time");
        let since = mesh.number("start_time").unwrap_or(0).max(from.as_second() + 1);
        let expected: Vec<i64> = (since..=until.as_second()).filter(|second| mesh.is_time(*second)).collect();
        let all = times.upcoming(from, expected.len() + 1);
        let found: Vec<i64> = all.iter().filter(|at| **at <= until).map(|at| at.as_second()).collect();
        assert!(expected.len() > 20, "{name}: {} times", expected.len());
        assert_eq!(found, expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 4);
}
