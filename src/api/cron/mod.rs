//! Cron expressions, exactly: what they mean on a calendar, and at which instants a clock on the wall makes them true.
//!
//! Five fields by Vixie's rules, six with seconds first, `@daily` and its like, and of Quartz `L`, `W` and `#`. The parser is our
//! own, because the libraries take what nobody means (`1,,2`, `JANFEB`, `+5`), and none says the rule for clock changes
//! that is ours (see [`zoned`]); docs/design/020-schedules.md has the table.
//!
//! An expression is five sets of bits, so that 100,000 of them cost nothing. Searching goes by months, of which each has
//! one mask of days, and ends: the calendar repeats after 400 years.

mod parse;
mod words;
mod zoned;

pub use parse::CronError;

use jiff::{
    SignedDuration,
    civil::{Date, DateTime, Time},
};

/// When a clock on the wall and a calendar make an expression true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    /// One bit for each second, minute, hour of the day and month of the year (1–12).
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: Days,
    /// True if minute or hour is a wildcard or has a step: it follows elapsed time, not the clock on the wall.
    elapsed: bool,
}

/// Which days of a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Days {
    /// Days of the month, 1–31.
    of_month: u64,
    /// `15W`: the weekday nearest to the 15th.
    nearest: u64,
    /// `L`, and `LW`.
    last: bool,
    last_weekday: bool,
    /// Days of the week, Sunday is 0.
    of_week: u64,
    /// `5#2` is bit 2 of day 5; `5L` is bit 0.
    nth: [u8; 7],
    /// True if a day of either sort will do: both fields are restricted. A field that begins with `*` is not.
    either: bool,
}

/// The calendar begins to repeat.
const YEARS: i16 = 400;

impl Cron {
    /// True if minute or hour is a wildcard or has a step.
    pub fn follows_elapsed_time(&self) -> bool {
        self.elapsed
    }

    /// True if no day of any year is meant: 31 February.
    pub fn is_never(&self) -> bool {
        self.at_or_after(Date::constant(2000, 1, 1).to_datetime(Time::midnight())).is_none()
    }

    /// The first time at or after `from` that a clock on the wall would show, were it never set. Whole seconds.
    fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let from = match from.subsec_nanosecond() {
            0 => from,
            _ => from.with().subsec_nanosecond(0).build().ok()?.checked_add(SignedDuration::from_secs(1)).ok()?,
        };
        if self.has_day(from.date())
            && let Some(time) = self.time_from(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let day = self.day_from(from.date().tomorrow().ok()?)?;
        Some(day.to_datetime(self.time_from(Time::midnight())?))
    }

    /// The last time at or before `from`.
    fn at_or_before(&self, from: DateTime) -> Option<DateTime> {
        if self.has_day(from.date())
            && let Some(time) = self.time_to(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let day = self.day_to(from.date().yesterday().ok()?)?;
        Some(day.to_datetime(self.time_to(Time::constant(23, 59, 59, 0))?))
    }

    fn has_day(&self, day: Date) -> bool {
        has(self.days_in(day.year(), day.month()), day.day())
    }

    fn time_from(&self, from: Time) -> Option<Time> {
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = first(self.seconds, second)
            {
                return Some(Time::constant(hour, minute, second, 0));
            }
            if let Some(minute) = first(self.minutes, minute + 1) {
                return Some(Time::constant(hour, minute, first(self.seconds, 0)?, 0));
            }
        }
        Some(Time::constant(first(self.hours, hour + 1)?, first(self.minutes, 0)?, first(self.seconds, 0)?, 0))
    }

    fn time_to(&self, to: Time) -> Option<Time> {
        let (hour, minute, second) = (to.hour(), to.minute(), to.second());
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = last(self.seconds, second)
            {
                return Some(Time::constant(hour, minute, second, 0));
            }
            if let Some(minute) = last(self.minutes, minute - 1) {
                return Some(Time::constant(hour, minute, last(self.seconds, 59)?, 0));
            }
        }
        Some(Time::constant(last(self.hours, hour - 1)?, last(self.minutes, 59)?, last(self.seconds, 59)?, 0))
    }

    fn day_from(&self, from: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (from.year(), from.month(), from.day());
        let end = year.saturating_add(YEARS + 1).min(Date::MAX.year());
        while year <= end {
            if let Some(day) = first(self.days_in(year, month), day) {
                return Date::new(year, month, day).ok();
            }
            day = 1;
            (year, month) = match first(self.months, month + 1) {
                Some(next) => (year, next),
                None => (year + 1, first(self.months, 1)?),
            };
        }
        None
    }

    fn day_to(&self, to: Date) -> Option<Date> {
        let (mut year, mut month, mut day) = (to.year(), to.month(), to.day());
        let end = year.saturating_sub(YEARS + 1).max(Date::MIN.year());
        while year >= end {
            if let Some(day) = last(self.days_in(year, month), day) {
                return Date::new(year, month, day).ok();
            }
            day = 31;
            (year, month) = match last(self.months, month - 1) {
                Some(next) => (year, next),
                None => (year - 1, last(self.months, 12)?),
            };
        }
        None
    }

    /// The days of a month, as bits.
    fn days_in(&self, year: i16, month: i8) -> u64 {
        if !has(self.months, month) {
            return 0;
        }
        let Ok(begin) = Date::new(year, month, 1) else { return 0 };
        let length = begin.days_in_month();
        let monday_based = begin.weekday().to_sunday_zero_offset();
        self.days.in_month(monday_based, length)
    }
}

impl Days {
    /// Of a month of this length that begins on this day of the week.
    fn in_month(&self, begins: i8, length: i8) -> u64 {
        let all = ((1u64 << length) - 1) << 1;
        let of_month = self.of_month & all | self.by_rule(begins, length);
        let of_week = self.by_week(begins, length);
        (if self.either { of_month | of_week } else { of_month & of_week }) & all
    }

    /// `L`, `LW` and `15W`.
    fn by_rule(&self, begins: i8, length: i8) -> u64 {
        let weekday = |day: i8| (begins + day - 1) % 7;
        let mut found = if self.last { bit(length) } else { 0 };
        if self.last_weekday {
            found |= bit(length - [2, 0, 0, 0, 0, 0, 1][weekday(length) as usize]);
        }
        for day in (1..=length).filter(|day| has(self.nearest, *day)) {
            found |= bit(match weekday(day) {
                6 if day > 1 => day - 1,
                6 => day + 2,
                0 if day < length => day + 1,
                0 => day - 2,
                _ => day,
            });
        }
        found
    }

    fn by_week(&self, begins: i8, length: i8) -> u64 {
        let mut found = 0;
        for weekday in 0..7 {
            let days = (1 + (weekday - begins).rem_euclid(7)..=length).step_by(7);
            let nth = self.nth[weekday as usize];
            for (day, n) in days.zip(1..) {
                let is_last = day + 7 > length;
                if has(self.of_week, weekday) || nth & 1 << n != 0 || nth & 1 != 0 && is_last {
                    found |= bit(day);
                }
            }
        }
        found
    }
}

fn bit(n: i8) -> u64 {
    1 << n
}

fn has(set: u64, n: i8) -> bool {
    set >> n & 1 == 1
}

/// The lowest bit that is not below `from`.
fn first(set: u64, from: i8) -> Option<i8> {
    let rest = set.checked_shr(u32::from(from.unsigned_abs()))?;
    (rest != 0).then(|| from + rest.trailing_zeros() as i8)
}

/// The highest bit that is not above `to`.
fn last(set: u64, to: i8) -> Option<i8> {
    let below = if to < 0 { 0 } else { set & (u64::MAX >> (63 - to)) };
    (below != 0).then(|| 63 - below.leading_zeros() as i8)
}

#[cfg(test)]
mod tests;
