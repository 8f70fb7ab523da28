//! Reads an expression, strictly: what Vixie's cron would refuse or would take for something else is refused with the
//! reason, and every field that is wrong is named.

use std::str::FromStr;

use super::{Cron, Days, bit};

/// What is wrong with an expression, as sentences.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct CronError(pub Vec<String>);

/// What a field may hold.
struct Field {
    name: &'static str,
    least: i8,
    most: i8,
    words: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", least: 0, most: 59, words: &[] };
const MINUTE: Field = Field { name: "minute", least: 0, most: 59, words: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, words: &[] };
const DAY: Field = Field { name: "day of the month", least: 1, most: 31, words: &[] };
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Field = Field { name: "month", least: 1, most: 12, words: MONTHS };
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// 7 is Sunday too.
const WEEKDAY: Field = Field { name: "day of the week", least: 0, most: 7, words: DAYS };

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let one = |why: String| CronError(vec![why]);
        let expression = match text.trim() {
            "" => return Err(one("there is no expression".to_owned())),
            name if name.starts_with('@') => nickname(name).map_err(one)?,
            text if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") => {
                return Err(one("the time zone is a field of its own, `timeZone`".to_owned()));
            }
            text => text,
        };
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let (second, rest) = match fields.len() {
            5 => ("0", &fields[..]),
            6 => (fields[0], &fields[1..]),
            n => {
                let shape = "minute, hour, day of the month, month and day of the week; a sixth for seconds may stand before them";
                return Err(one(format!("it has {n} fields, not five: {shape}")));
            }
        };
        let mut wrong = Vec::new();
        let mut read = |field: &Field, text: &str| match parts(field, text) {
            Ok(set) => set,
            Err(why) => {
                wrong.push(why);
                Set::default()
            }
        };
        let (seconds, minutes, hours) = (read(&SECOND, second), read(&MINUTE, rest[0]), read(&HOUR, rest[1]));
        let (days, months, weekdays) = (read(&DAY, rest[2]), read(&MONTH, rest[3]), read(&WEEKDAY, rest[4]));
        if !wrong.is_empty() {
            return Err(CronError(wrong));
        }
        let sunday = weekdays.plain >> 7 & 1;
        let mut nth = weekdays.nth;
        nth[0] |= nth[7];
        let days = Days {
            of_month: days.plain,
            nearest: days.nearest,
            last: days.last,
            last_weekday: days.last_weekday,
            of_week: weekdays.plain & 0x7f | sunday,
            nth: std::array::from_fn(|weekday| nth[weekday]),
            either: !days.is_free && !weekdays.is_free,
        };
        let elapsed = minutes.has_step || hours.has_step;
        let (seconds, minutes) = (seconds.plain, minutes.plain);
        let cron = Self { seconds, minutes, hours: hours.plain, months: months.plain, days, elapsed };
        match cron.is_never() {
            true => Err(one("no day of any year is meant by it".to_owned())),
            false => Ok(cron),
        }
    }
}

fn nickname(name: &str) -> Result<&'static str, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => return Err("`@reboot` is no time: what runs from the start on is an App".to_owned()),
        every if every.starts_with("@every") => {
            return Err("an interval is a field of its own, `every: {interval: …}`".to_owned());
        }
        _ => return Err(format!("there is no `{name}`: @yearly, @monthly, @weekly, @daily and @hourly are meant")),
    })
}

/// What a field says.
#[derive(Default)]
struct Set {
    plain: u64,
    nearest: u64,
    last: bool,
    last_weekday: bool,
    nth: [u8; 8],
    /// It begins with a wildcard, and by Vixie's rule does not restrict the day.
    is_free: bool,
    /// A wildcard or a step is in it.
    has_step: bool,
}

fn parts(field: &Field, text: &str) -> Result<Set, String> {
    let mut set = Set { is_free: text.starts_with(['*', '?']), ..Set::default() };
    for part in text.split(',') {
        field.read(part, &mut set).map_err(|why| format!("{} `{text}`: {why}", field.name))?;
    }
    Ok(set)
}

impl Field {
    fn read(&self, part: &str, set: &mut Set) -> Result<(), String> {
        let upper = part.to_ascii_uppercase();
        let (is_day, is_weekday) = (self.name == DAY.name, self.name == WEEKDAY.name);
        if is_day && upper == "L" {
            set.last = true;
        } else if is_day && (upper == "LW" || upper == "WL") {
            set.last_weekday = true;
        } else if is_day && let Some(day) = upper.strip_suffix('W') {
            set.nearest |= bit(self.number(day)?);
        } else if is_weekday && let Some((day, nth)) = upper.split_once('#') {
            let nth = digits(nth).filter(|n| (1..=5).contains(n)).ok_or("after `#` a number from 1 to 5 is meant")?;
            set.nth[self.number(day)? as usize] |= 1u8 << nth;
        } else if is_weekday && upper == "L" {
            return Err("`L` needs a day, such as `5L` for the last Friday".to_owned());
        } else if is_weekday && let Some(day) = upper.strip_suffix('L') {
            set.nth[self.number(day)? as usize] |= 1;
        } else {
            self.range(part, is_day || is_weekday, set)?;
        }
        Ok(())
    }

    /// `*`, `5`, `1-5`, each with a step or without.
    fn range(&self, part: &str, may_ask: bool, set: &mut Set) -> Result<(), String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (part, None),
        };
        let (from, to) = match range {
            "*" => (self.least, self.top()),
            "?" if may_ask => (self.least, self.top()),
            range => match range.split_once('-') {
                Some((from, to)) => (self.number(from)?, self.end(to)?),
                None if step.is_some() => (self.number(range)?, self.top()),
                None => {
                    let number = self.number(range)?;
                    (number, number)
                }
            },
        };
        if from > to {
            return Err(format!("`{range}` ends before it begins; write two ranges, with a comma between them"));
        }
        (from..=to).step_by(step.unwrap_or(1)).for_each(|n| set.plain |= bit(n));
        set.has_step |= step.is_some() || range == "*";
        Ok(())
    }

    /// The last value, without the second Sunday.
    fn top(&self) -> i8 {
        self.most.min(if self.name == WEEKDAY.name { 6 } else { self.most })
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        let values = (self.top() - self.least + 1) as usize;
        match digits(text) {
            Some(n) if (1..=values).contains(&n) => Ok(n),
            Some(n) => Err(format!("a step of {n} leads nowhere; 1 to {values} do")),
            None => Err(format!("`{text}` is no step")),
        }
    }

    /// The end of a range: as one, Sunday stands after Saturday.
    fn end(&self, text: &str) -> Result<i8, String> {
        match self.number(text)? {
            0 if self.name == WEEKDAY.name && digits(text).is_none() => Ok(7),
            n => Ok(n),
        }
    }

    fn number(&self, text: &str) -> Result<i8, String> {
        if let Some(at) = self.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(at as i8 + self.least);
        }
        let (least, most) = (self.least, self.most);
        match digits(text).and_then(|n| i8::try_from(n).ok()) {
            Some(n) if (least..=most).contains(&n) => Ok(n),
            Some(_) => Err(format!("{text} is not within {least} to {most}")),
            None if text.is_empty() => Err("something is missing".to_owned()),
            None if digits(text).is_some() => Err(format!("{text} is not within {least} to {most}")),
            None => Err(format!("`{text}` is no {}", self.name)),
        }
    }
}

/// Digits and nothing else, not too many.
fn digits(text: &str) -> Option<usize> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}
