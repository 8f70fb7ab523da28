//! Calendar events of systemd and cron expressions, as far as they say the same.
//!
//! `DOW YYYY-MM-DD HH:MM:SS ZONE`. What cron cannot say (a year, the last day of a month, a weekday *and* a day of the month) is an error.

use crate::api::{cron::Cron, time_zone};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// The cron expression and the time zone of a calendar event.
///
/// # Errors
/// A sentence for the timer's author.
pub fn to_cron(text: &str) -> Result<(String, Option<String>), String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let zone = match words.last() {
        Some(last)
            if words.len() > 1 && last.starts_with(|c: char| c.is_ascii_alphabetic()) && time_zone(last).is_ok() =>
        {
            words.pop().map(str::to_owned)
        }
        _ => None,
    };
    let short = match words.as_slice() {
        [word] => shorthand(&word.to_ascii_lowercase()),
        _ => None,
    };
    let short: Vec<&str> = short.map(|whole| whole.split_whitespace().collect()).unwrap_or_default();
    let words = if short.is_empty() { words } else { short };
    let (mut days, mut date, mut time) = (None, None, None);
    for word in &words {
        let place = match word {
            w if w.contains(':') => &mut time,
            w if w.starts_with(|c: char| c.is_ascii_alphabetic()) && date.is_none() && time.is_none() => &mut days,
            w if w.contains('-') => &mut date,
            _ => return Err(format!("`{text}`: `{word}` is no part of a calendar event that is understood")),
        };
        if place.replace(*word).is_some() {
            return Err(format!("`{text}` says the same twice"));
        }
    }
    if words.is_empty() {
        return Err("there is no time in it".to_owned());
    }
    let weekday =
        days.map_or(Ok("*".to_owned()), |days| weekdays(days).ok_or(format!("`{days}` is no list of weekdays")))?;
    let date: Vec<&str> = date.unwrap_or("*-*-*").split('-').collect();
    let (year, month, day) = match date[..] {
        [year, month, day] => (year, month, day),
        [month, day] => ("*", month, day),
        _ => return Err(format!("`{text}`: a date is YEAR-MONTH-DAY")),
    };
    if year != "*" {
        return Err(format!("`{text}` names a year, which cron cannot; a Schedule's `at` lists single times"));
    }
    if day.contains('~') || month.contains('~') {
        return Err(format!("`{text}` counts from the end of a month, which cron cannot"));
    }
    let time: Vec<&str> = time.unwrap_or("0:0:0").split(':').collect();
    let (hour, minute, second) = match time[..] {
        [hour, minute, second] => (hour, minute, second),
        [hour, minute] => (hour, minute, "0"),
        _ => return Err(format!("`{text}`: a time is HOUR:MINUTE:SECOND")),
    };
    let field =
        |value: &str, most: u32| component(value, most).ok_or(format!("`{text}`: `{value}` cannot be said in cron"));
    let (month, day) = (field(month, 12)?, field(day, 31)?);
    if weekday != "*" && day != "*" {
        return Err(format!("`{text}` means a weekday that is this day of the month, too; cron means either"));
    }
    let (second, minute, hour) = (field(second, 59)?, field(minute, 59)?, field(hour, 23)?);
    let rest = format!("{minute} {hour} {day} {month} {weekday}");
    let cron = if second == "0" { rest } else { format!("{second} {rest}") };
    cron.parse::<Cron>().map_err(|why| format!("`{text}` is `{cron}` in cron: {why}"))?;
    Ok((cron, zone))
}

fn shorthand(word: &str) -> Option<&'static str> {
    Some(match word {
        "minutely" => "*-*-* *:*:00",
        "hourly" => "*-*-* *:00:00",
        "daily" => "*-*-* 00:00:00",
        "monthly" => "*-*-01 00:00:00",
        "weekly" => "Mon *-*-* 00:00:00",
        "yearly" | "annually" => "*-01-01 00:00:00",
        "quarterly" => "*-01,04,07,10-01 00:00:00",
        "semiannually" => "*-01,07-01 00:00:00",
        _ => return None,
    })
}

/// `Mon..Fri,Sun` as `1-5,0`.
fn weekdays(text: &str) -> Option<String> {
    let number = |day: &str| {
        let short: String = day.chars().take(3).collect();
        DAYS.iter().position(|known| known.eq_ignore_ascii_case(&short))
    };
    let part = |part: &str| match part.split_once("..").or_else(|| part.split_once('-')) {
        // A week ends with Sunday, which is 7 there.
        Some((from, to)) => {
            Some(format!("{}-{}", number(from)?, Some(number(to)?).map(|n| if n == 0 { 7 } else { n })?))
        }
        None => Some(number(part)?.to_string()),
    };
    let parts: Option<Vec<String>> = text.trim_end_matches(',').split(',').map(part).collect();
    parts.map(|parts| parts.join(","))
}

/// One part of a date or a time, in cron's words.
fn component(text: &str, most: u32) -> Option<String> {
    let number = |text: &str| {
        let whole = text
            .split_once('.')
            .map_or(text, |(whole, fraction)| if fraction.trim_matches('0').is_empty() { whole } else { "" });
        whole.parse::<u32>().ok()
    };
    let one = |part: &str| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step = match step {
            Some(step) => Some(number(step)?),
            None => None,
        };
        let range = match (range, range.split_once("..")) {
            ("*", _) => "*".to_owned(),
            (_, Some((from, to))) => format!("{}-{}", number(from)?, number(to)?),
            // From there on to the end.
            (from, None) if step.is_some() => match number(from)? {
                0 => "*".to_owned(),
                from => format!("{from}-{most}"),
            },
            (single, None) => number(single)?.to_string(),
        };
        Some(step.map_or(range.clone(), |step| format!("{range}/{step}")))
    };
    let parts: Option<Vec<String>> = text.split(',').map(one).collect();
    parts.map(|parts| parts.join(","))
}

/// The calendar events of a cron expression: one, or two where it means either of weekday and day of the month.
///
/// # Errors
/// A sentence for the Schedule's author.
pub fn from_cron(text: &str) -> Result<Vec<String>, String> {
    let alias = match text.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    };
    let fields: Vec<&str> = alias.split_whitespace().collect();
    let (second, rest) = match fields.len() {
        5 => ("0", &fields[..]),
        6 => (fields[0], &fields[1..]),
        _ => return Err(format!("`{text}` has no five or six fields")),
    };
    let wrong = |field: &str| format!("`{field}` of `{text}` has no counterpart in systemd");
    let time = |field: &str| parts(field, &[]).ok_or_else(|| wrong(field));
    const MONTHS: [&str; 13] = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let clock = format!("{}:{}:{}", time(rest[1])?, time(rest[0])?, time(second)?);
    let (day, month) = (time(rest[2])?, parts(rest[3], &MONTHS).ok_or_else(|| wrong(rest[3]))?);
    let weekday = |field: &str| {
        let names = DAYS.map(str::to_ascii_lowercase);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let numbered = parts(field, &names).filter(|made| !made.contains('/'))?;
        let name = |number: &str| number.parse::<usize>().ok().and_then(|n| DAYS.get(n % 7)).copied();
        let one = |part: &str| match part.split_once("..") {
            Some((from, to)) => Some(format!("{}..{}", name(from)?, name(to)?)),
            None => name(part).map(str::to_owned),
        };
        numbered.split(',').map(one).collect::<Option<Vec<_>>>().map(|all| all.join(","))
    };
    let is_any = |field: &str| field == "*" || field == "?";
    match (is_any(rest[2]), is_any(rest[4])) {
        (_, true) => Ok(vec![format!("*-{month}-{day} {clock}")]),
        (true, false) => Ok(vec![format!("{} *-{month}-* {clock}", weekday(rest[4]).ok_or_else(|| wrong(rest[4]))?)]),
        (false, false) => Ok(vec![
            format!("*-{month}-{day} {clock}"),
            format!("{} *-{month}-* {clock}", weekday(rest[4]).ok_or_else(|| wrong(rest[4]))?),
        ]),
    }
}

/// A field of cron, its names as numbers, ranges with two dots.
fn parts(field: &str, names: &[&str]) -> Option<String> {
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| !name.is_empty() && *name == lower);
        named.or_else(|| text.parse().ok()).map(|n: usize| n.to_string())
    };
    let one = |part: &str| {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let range = match (range, range.split_once('-')) {
            ("*" | "?", _) => {
                if step.is_some() {
                    "0".to_owned()
                } else {
                    "*".to_owned()
                }
            }
            (_, Some((from, to))) => format!("{}..{}", number(from)?, number(to)?),
            (single, None) => number(single)?,
        };
        let step = match step {
            Some(step) => format!("/{}", step.parse::<u32>().ok()?),
            None => String::new(),
        };
        Some(format!("{range}{step}"))
    };
    field.split(',').map(one).collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_events_are_cron_expressions_where_both_say_the_same() {
        for (event, cron, zone) in [
            ("daily", "0 0 * * *", None),
            ("hourly", "0 * * * *", None),
            ("weekly", "0 0 * * 1", None),
            ("quarterly", "0 0 1 1,4,7,10 *", None),
            ("Mon..Fri 02:30", "30 2 * * 1-5", None),
            ("Sat,Sun *-*-* 6:00:00", "0 6 * * 6,0", None),
            ("Mon..Sun 06:00", "0 6 * * 1-7", None),
            ("*:0/15", "*/15 * * * *", None),
            ("*-*-* *:5/10:30", "30 5-59/10 * * * *", None),
            ("*-*-01,15 04:00:00 Europe/Berlin", "0 4 1,15 * *", Some("Europe/Berlin")),
            ("*-06..08-* 12:00 UTC", "0 12 * 6-8 *", Some("UTC")),
        ] {
            assert_eq!(to_cron(event), Ok((cron.to_owned(), zone.map(str::to_owned))), "{event}");
        }
        for event in
            ["", "2027-01-01 00:00", "*-*~1", "Mon *-*-01", "Blursday", "25:00", "*-*-* 1:2:3:4", "a b c d", "*:0/0"]
        {
            assert!(to_cron(event).is_err(), "{event}");
        }
    }

    #[test]
    fn what_goes_there_comes_back() {
        for cron in ["30 2 * * 1-5", "*/15 * * * *", "0 4 1,15 * *", "0 12 * 6-8 *", "30 5-59/10 * * * *", "0 6 * * 0"]
        {
            let events = from_cron(cron).expect(cron);
            assert_eq!(events.len(), 1);
            assert_eq!(to_cron(&events[0]).expect(&events[0]).0, cron, "{events:?}");
        }
        assert_eq!(from_cron("0 0 1 jan mon").expect("both").len(), 2);
        assert!(from_cron("0 0 L * *").is_err() && from_cron("x").is_err());
    }
}
