//! An expression in words: `at 02:30, Monday to Friday`.
//!
//! The words are made of what is meant, not of how it was written: `*/15`, `0-59/15` and `0,15,30,45` say the same.

use std::fmt;

use super::{Cron, Days, has};

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// So many times of the day are written out.
const WRITTEN_OUT: usize = 6;

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let month = |n: i8| MONTHS[n as usize - 1].to_owned();
        let months = match Values::of(self.months, 1, 12) {
            Values::All => String::new(),
            values => format!("in {}", and(&runs(&values.list(), month))),
        };
        let parts = [self.time(), self.days.to_string(), months];
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    }
}

impl Cron {
    fn time(&self) -> String {
        let (seconds, minutes, hours) =
            (Values::of(self.seconds, 0, 59), Values::of(self.minutes, 0, 59), Values::of(self.hours, 0, 23));
        let (hour_list, minute_list, second_list) = (hours.list(), minutes.list(), seconds.list());
        if hour_list.len() * minute_list.len() * second_list.len() <= WRITTEN_OUT {
            let mut times = Vec::new();
            for (hour, minute) in hour_list.iter().flat_map(|h| minute_list.iter().map(move |m| (h, m))) {
                times.extend(second_list.iter().map(|second| match self.seconds {
                    1 => format!("{hour:02}:{minute:02}"),
                    _ => format!("{hour:02}:{minute:02}:{second:02}"),
                }));
            }
            return format!("at {}", and(&times));
        }
        let mut parts = Vec::new();
        if self.seconds != 1 {
            parts.push(seconds.words("second"));
        }
        if !matches!((&minutes, parts.is_empty()), (Values::All, false)) {
            parts.push(minutes.words("minute"));
        }
        match &hours {
            Values::All if matches!(minutes, Values::List(_)) => parts.push("every hour".to_owned()),
            Values::All => {}
            hours => parts.push(hours.words("hour")),
        }
        let told = parts.join(" of ");
        if told.starts_with("every ") { told } else { format!("at {told}") }
    }
}

/// What a set of numbers looks like.
enum Values {
    All,
    /// From the least on, and evenly over the end.
    Every(i8, Vec<i8>),
    List(Vec<i8>),
}

impl Values {
    fn of(set: u64, least: i8, most: i8) -> Self {
        let list: Vec<i8> = (least..=most).filter(|n| has(set, *n)).collect();
        let count = most - least + 1;
        let step = list.get(1).map_or(count, |second| second - list[0]);
        let is_even = list.first() == Some(&least) && list.windows(2).all(|w| w[1] - w[0] == step);
        match (list.len() as i8, is_even) {
            (n, _) if n == count => Self::All,
            (n, true) if n > 1 && n * step == count => Self::Every(step, list),
            _ => Self::List(list),
        }
    }

    fn list(&self) -> Vec<i8> {
        match self {
            Self::All => (0..60).collect(),
            Self::Every(_, list) | Self::List(list) => list.clone(),
        }
    }

    fn words(&self, unit: &str) -> String {
        match self {
            Self::All => format!("every {unit}"),
            Self::Every(2, _) => format!("every second {unit}"),
            Self::Every(step, _) => format!("every {step} {unit}s"),
            Self::List(list) if list.len() == 1 => format!("{unit} {}", list[0]),
            Self::List(list) => format!("{unit}s {}", and(&runs(list, |n| n.to_string()))),
        }
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of_month, of_week) = (self.words_of_month(), self.words_of_week());
        match (of_month.is_empty(), of_week.is_empty()) {
            (true, _) => f.write_str(&of_week),
            (_, true) => f.write_str(&of_month),
            _ if self.either => write!(f, "{of_month} or {of_week}"),
            _ => write!(f, "{of_month} if it is {of_week}"),
        }
    }
}

impl Days {
    fn words_of_month(&self) -> String {
        let mut parts = match Values::of(self.of_month, 1, 31) {
            Values::All => return String::new(),
            values => runs(&values.list(), ordinal).into_iter().map(|days| format!("the {days}")).collect::<Vec<_>>(),
        };
        parts.extend(self.last.then(|| "the last day of the month".to_owned()));
        parts.extend(self.last_weekday.then(|| "the last weekday of the month".to_owned()));
        let nearest = (1..=31).filter(|day| has(self.nearest, *day));
        parts.extend(nearest.map(|day| format!("the weekday nearest to the {}", ordinal(day))));
        format!("on {}", and(&parts))
    }

    fn words_of_week(&self) -> String {
        let name = |day: i8| WEEKDAYS[day as usize].to_owned();
        let plain: Vec<i8> = (0..7).filter(|day| has(self.of_week, *day)).collect();
        if plain.len() == 7 {
            return String::new();
        }
        let mut parts = runs(&plain, name);
        for day in 0..7 {
            let nth = self.nth[day as usize];
            let numbers = (1..=5).filter(|n| nth >> n & 1 == 1).map(ordinal);
            let all: Vec<String> = numbers.chain((nth & 1 == 1).then(|| "last".to_owned())).collect();
            parts.extend((!all.is_empty()).then(|| format!("the {} {} of the month", and(&all), name(day))));
        }
        format!("on {}", and(&parts))
    }
}

fn ordinal(n: i8) -> String {
    let ending = match (n % 10, n / 10) {
        (1, 0 | 2 | 3) => "st",
        (2, 0 | 2) => "nd",
        (3, 0 | 2) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// Three or more in a row are told by their ends.
fn runs(list: &[i8], name: impl Fn(i8) -> String) -> Vec<String> {
    let mut found = Vec::new();
    for run in list.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [from, .., to] if run.len() > 2 => found.push(format!("{} to {}", name(*from), name(*to))),
            few => found.extend(few.iter().map(|n| name(*n))),
        }
    }
    found
}

fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [few @ .., last] => format!("{} and {last}", few.join(", ")),
    }
}
