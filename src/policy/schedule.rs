//! When the times of a Schedule are, and which of them is due.
//!
//! A time is *nominal*: an instant of UTC in whole seconds, which the Run bears in its name. It starts `jitter` later, the same for
//! every time of one Schedule. Of several times that were missed the last one counts. No question walks through the times in between,
//! but for those that `activeWindow` leaves out, and of those only so many.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::window::{self, Activity};
use crate::api::{ActiveWindow, ScheduleSpec, cron::Cron, single_time, time_zone};

/// Times outside the active window that one question goes past. Then it is asked again when the last of them is over.
const LEFT_OUT: usize = 1000;
/// Missed times are counted up to here.
pub const COUNTED: usize = 100;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The times of a Schedule.
#[derive(Clone, Debug)]
pub struct Times {
    rule: Rule,
    window: Option<ActiveWindow>,
    jitter: SignedDuration,
    deadline: Option<SignedDuration>,
    /// The name of the zone by whose clocks they are read.
    pub zone: String,
    /// Changes when what the times are does. Neither jitter nor deadline changes that.
    pub hash: String,
}

#[derive(Clone, Debug)]
enum Rule {
    Cron(Cron, TimeZone),
    /// Interval and anchor in seconds.
    Grid(i64, i64),
    List(Vec<Timestamp>),
}

/// The time that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming {
    /// Then.
    At(Timestamp),
    /// Not before then; ask again.
    AskAgain(Timestamp),
    /// There is none.
    Never,
}

/// Whether a time is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// None is.
    Not,
    /// This one, and the number of those before it that were missed.
    Start(Timestamp, usize),
    /// This one, the last of several perhaps, and it is too late for it.
    TooLate(Timestamp, usize),
}

impl Times {
    /// The times of a spec. `server_zone` is meant where it names none; `uid` decides on the jitter.
    ///
    /// # Errors
    /// A sentence, for what admission would have refused.
    pub fn of(spec: &ScheduleSpec, server_zone: &TimeZone, uid: &str) -> Result<Self, String> {
        let zone = spec.time_zone.as_deref().map_or_else(|| Ok(server_zone.clone()), time_zone)?;
        let rule = match (&spec.cron, &spec.every) {
            (Some(cron), _) => Rule::Cron(cron.parse().map_err(|e| format!("`{cron}`: {e}"))?, zone.clone()),
            (None, Some(every)) => {
                let interval = i64::try_from(every.interval.0.as_secs()).unwrap_or(i64::MAX).max(1);
                Rule::Grid(interval, every.anchor.map_or(0, |anchor| anchor.0.as_second()))
            }
            (None, None) => {
                let mut list = spec.at.iter().map(|text| single_time(text, &zone)).collect::<Result<Vec<_>, _>>()?;
                list.sort_unstable();
                list.dedup();
                Rule::List(list)
            }
        };
        let zone = zone.iana_name().unwrap_or("UTC").to_owned();
        let interval = spec.every.as_ref().map(|every| (every.interval, every.anchor));
        let told = format!("{:?} {interval:?} {:?} {zone} {:?}", spec.cron, spec.at, spec.active_window);
        let jitter = i128::try_from(spec.jitter.0.as_nanos()).unwrap_or(i128::MAX);
        let share = if jitter == 0 { 0 } else { i128::from(spread(uid)) % jitter };
        Ok(Self {
            rule,
            window: spec.active_window.clone(),
            jitter: SignedDuration::from_nanos(i64::try_from(share).unwrap_or(i64::MAX)),
            deadline: spec.starting_deadline_seconds.map(SignedDuration::from_secs),
            zone,
            hash: format!("{:016x}", spread(&told)),
        })
    }

    /// How much later than its time each start is.
    pub fn jitter(&self) -> SignedDuration {
        self.jitter
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Coming {
        let mut from = after;
        for _ in 0..LEFT_OUT {
            let Some(at) = self.rule.next(from) else { return Coming::Never };
            match window::activity(self.window.as_ref(), at) {
                Activity::Open(_) => return Coming::At(at),
                Activity::Closed(Some(opens)) => from = at.max(opens.saturating_sub(SECOND).unwrap_or(at)),
                Activity::Closed(None) => return Coming::Never,
                Activity::Unknown(_) => return Coming::AskAgain(at),
            }
        }
        Coming::AskAgain(from)
    }

    /// The next `count` times after `after`, as far as they can be told.
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let next = |at: &Timestamp| match self.next(*at) {
            Coming::At(at) => Some(at),
            Coming::AskAgain(_) | Coming::Never => None,
        };
        std::iter::successors(next(&after), next).take(count).collect()
    }

    /// The last time at or before `at` and after `floor`.
    fn last(&self, at: Timestamp, floor: Timestamp) -> Option<Timestamp> {
        let mut to = at;
        for _ in 0..LEFT_OUT {
            let found = self.rule.last(to).filter(|found| *found > floor)?;
            match window::last_open(self.window.as_ref(), found)? {
                open if open == found => return Some(found),
                open => to = open,
            }
        }
        None
    }

    /// What is due at `now`, if all times up to `floor` are done with.
    pub fn due(&self, floor: Timestamp, now: Timestamp) -> Due {
        let Ok(reached) = now.checked_sub(self.jitter) else { return Due::Not };
        let Some(at) = self.last(reached, floor) else { return Due::Not };
        let mut missed = self.upcoming(floor, COUNTED + 1);
        missed.retain(|earlier| *earlier < at);
        match self.deadline {
            Some(deadline) if reached.duration_since(at).as_secs() > deadline.as_secs() => {
                Due::TooLate(at, missed.len())
            }
            _ => Due::Start(at, missed.len()),
        }
    }
}

impl Rule {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron, zone) => cron.next(zone, after),
            Self::Grid(interval, anchor) => {
                // The second that has begun is not after `after`; the next one is.
                let steps = (floor_second(after) - anchor).div_euclid(*interval) + 1;
                grid(*interval, *anchor, steps.max(0))
            }
            Self::List(list) => list.get(list.partition_point(|at| *at <= after)).copied(),
        }
    }

    fn last(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(cron, zone) => cron.last(zone, at),
            Self::Grid(interval, anchor) => {
                let steps = (floor_second(at) - anchor).div_euclid(*interval);
                (steps >= 0).then(|| grid(*interval, *anchor, steps))?
            }
            Self::List(list) => list.partition_point(|known| *known <= at).checked_sub(1).map(|i| list[i]),
        }
    }
}

fn grid(interval: i64, anchor: i64, steps: i64) -> Option<Timestamp> {
    Timestamp::from_second(interval.checked_mul(steps)?.checked_add(anchor)?).ok()
}

fn floor_second(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond().div_euclid(1_000_000_000)).unwrap_or(i64::MIN)
}

/// A number that depends on nothing but the text (FNV-1a), mixed so that its high bits count, too.
fn spread(text: &str) -> u64 {
    let mixed = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1
}

/// Of Runs that ended, those that are beyond the newest `keep`. Each with when it ended.
pub fn surplus<T>(mut ended: Vec<(Timestamp, T)>, keep: i32) -> Vec<T> {
    ended.sort_by_key(|(at, _)| Reverse(*at));
    let keep = usize::try_from(keep).unwrap_or(0).min(ended.len());
    ended.split_off(keep).into_iter().map(|(_, run)| run).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn times(spec: Value) -> Times {
        let spec = serde_json::from_value(spec).expect("a spec");
        Times::of(&spec, &TimeZone::UTC, "uid").expect("right")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn next(spec: Value, after: &str) -> String {
        let all = times(spec).upcoming(at(after), 3);
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_way_of_saying_when_has_its_times() {
        let office = json!({"daily": {"from": "08:00", "to": "18:00"}});
        for (spec, expected) in [
            (json!({"every": {"interval": "15m"}}), "2026-01-01T12:15:00Z 2026-01-01T12:30:00Z 2026-01-01T12:45:00Z"),
            (
                json!({"every": {"interval": "7h", "anchor": "2026-01-01T00:00:01Z"}}),
                "2026-01-01T14:00:01Z 2026-01-01T21:00:01Z 2026-01-02T04:00:01Z",
            ),
            (
                json!({"every": {"interval": "1h", "anchor": "2027-01-01T00:00:00Z"}}),
                "2027-01-01T00:00:00Z 2027-01-01T01:00:00Z 2027-01-01T02:00:00Z",
            ),
            (
                json!({"at": ["2026-05-01T00:00:00Z", "2025-01-01", "2026-02-01", "2026-02-01T00:00:00Z"]}),
                "2026-02-01T00:00:00Z 2026-05-01T00:00:00Z",
            ),
            (json!({"at": ["2026-05-01T12:00:00"], "timeZone": "Europe/Berlin"}), "2026-05-01T10:00:00Z"),
            (
                json!({"cron": "0 */8 * * *", "activeWindow": office}),
                "2026-01-01T16:00:00Z 2026-01-02T08:00:00Z 2026-01-02T16:00:00Z",
            ),
            (json!({"cron": "0 3 * * *", "activeWindow": office}), ""),
            (
                json!({"cron": "* * * * *", "activeWindow": {"notAfter": "2026-01-01T12:02:00Z"}}),
                "2026-01-01T12:01:00Z",
            ),
        ] {
            assert_eq!(next(spec.clone(), "2026-01-01T12:00:00.5Z"), expected, "{spec}");
        }
    }

    #[test]
    fn of_what_was_missed_in_ten_years_the_last_one_is_due_at_once() {
        let (floor, now) = (at("2016-01-01T00:00:00Z"), at("2026-01-01T00:00:30Z"));
        let due = |spec: Value| times(spec).due(floor, now);
        let last = at("2026-01-01T00:00:30Z");
        assert_eq!(due(json!({"cron": "* * * * * *"})), Due::Start(last, COUNTED + 1));
        assert_eq!(due(json!({"every": {"interval": "1s"}})), Due::Start(last, COUNTED + 1));
        assert_eq!(due(json!({"cron": "0 0 1 7 *"})), Due::Start(at("2025-07-01T00:00:00Z"), 9));
        assert_eq!(
            due(json!({"cron": "0 0 1 7 *", "startingDeadlineSeconds": 100})),
            Due::TooLate(at("2025-07-01T00:00:00Z"), 9)
        );
        assert_eq!(due(json!({"at": ["2015-01-01", "2027-01-01"]})), Due::Not);
    }

    #[test]
    fn jitter_is_the_same_for_each_time_of_one_schedule_and_spreads_them() {
        let spec = serde_json::from_value(json!({"cron": "@hourly", "jitter": "10m"})).expect("a spec");
        let of = |uid: &str| Times::of(&spec, &TimeZone::UTC, uid).expect("right").jitter();
        let all: Vec<_> = (0..1000).map(|n| of(&format!("8a0b5f0e-{n}"))).collect();
        assert!(all.iter().all(|jitter| (SignedDuration::ZERO..SignedDuration::from_mins(10)).contains(jitter)));
        for tenth in 0..10 {
            let within = all.iter().filter(|jitter| jitter.as_secs() / 60 == tenth).count();
            assert!((50..150).contains(&within), "{within} within minute {tenth}");
        }
        assert_eq!(of("a"), of("a"));
        let jitter = of("a");
        let times = Times::of(&spec, &TimeZone::UTC, "a").expect("right");
        let hour = at("2026-01-01T12:00:00Z");
        let floor = hour - SignedDuration::from_mins(1);
        assert_eq!(times.due(floor, hour + jitter - SignedDuration::from_nanos(1)), Due::Not);
        assert_eq!(times.due(floor, hour + jitter), Due::Start(hour, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn next_and_last_agree_on_what_the_times_are(
            interval in 1u64..5000, anchor in 0i64..100_000, from in -1000i64..200_000, nanos in 0i32..1_000_000_000,
            window in any::<bool>(), list in prop::collection::vec(0i64..200_000, 1..20), grid in any::<bool>(),
        ) {
            let second = |n| Timestamp::from_second(n).expect("a time");
            let mut spec = match grid {
                true => json!({"every": {"interval": format!("{interval}s"), "anchor": second(anchor).to_string()}}),
                false => json!({"at": list.iter().map(|n| second(*n).to_string()).collect::<Vec<_>>()}),
            };
            if window {
                spec["activeWindow"] = json!({"daily": {"from": "03:00", "to": "20:00"}});
            }
            let times = times(spec);
            let at = second(from) + SignedDuration::from_nanos(i64::from(nanos));
            match times.next(at) {
                Coming::At(next) => {
                    prop_assert!(next > at);
                    let before = next - SignedDuration::from_nanos(1);
                    prop_assert_eq!(times.last(next, Timestamp::MIN), Some(next));
                    prop_assert_eq!(times.last(before, Timestamp::MIN), times.last(at, Timestamp::MIN));
                }
                Coming::Never => {
                    prop_assert_eq!(times.last(Timestamp::MAX, Timestamp::MIN), times.last(at, Timestamp::MIN));
                }
                Coming::AskAgain(_) => prop_assert!(false),
            }
        }
    }
}
