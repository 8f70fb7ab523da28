//! A moment of the past, as people write it: `10m` ago, `2d` ago, or a point in time.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::GoDuration;

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

const EXPECTED: &str = "expected how long ago, `10m`, `3h` or `2d12h`, or a point in time, `2026-11-21T08:00:00Z`";

impl Moment {
    /// Reads a moment.
    ///
    /// # Errors
    /// With what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(ago) = ago(text) {
            return Ok(Moment::Ago(ago));
        }
        if let Ok(at) = text.parse() {
            return Ok(Moment::At(at));
        }
        let without_zone = text.parse::<jiff::civil::DateTime>().is_ok();
        let hint = if without_zone { ": it lacks its zone, `Z` or `+01:00`" } else { "" };
        Err(format!("`{text}` is no moment{hint}; {EXPECTED}"))
    }

    /// The point in time.
    ///
    /// # Errors
    /// When it is still to come.
    pub fn at(self, now: Timestamp) -> Result<Timestamp, String> {
        match self {
            Moment::Ago(ago) => Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN)),
            Moment::At(at) if at > now => Err(format!("{at} is still to come: it is {now}")),
            Moment::At(at) => Ok(at),
        }
    }
}

/// `2d12h`: Go's durations, and days.
fn ago(text: &str) -> Option<Duration> {
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) if !days.is_empty() && days.bytes().all(|b| b.is_ascii_digit()) => {
            (days.parse::<u64>().ok()?, rest)
        }
        _ => (0, text),
    };
    let rest = if rest.is_empty() && days > 0 { GoDuration::default() } else { rest.parse::<GoDuration>().ok()? };
    rest.0.checked_add(Duration::from_secs(days.checked_mul(86_400)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("10m", "2026-11-21T11:50:00Z"),
            ("1h30m", "2026-11-21T10:30:00Z"),
            ("2d", "2026-11-19T12:00:00Z"),
            ("1d12h", "2026-11-20T00:00:00Z"),
            ("0", "2026-11-21T12:00:00Z"),
            ("2026-11-21T08:00:00Z", "2026-11-21T08:00:00Z"),
            ("2026-11-21T09:00:00+01:00", "2026-11-21T08:00:00Z"),
        ] {
            let read = Moment::parse(text).and_then(|moment| moment.at(now));
            assert_eq!(read, Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "yesterday", "10", "-5m", "d", "99999999999999999999d", "2026-13-01T00:00:00Z"] {
            assert!(Moment::parse(text).unwrap_err().contains("expected"), "{text}");
        }
        assert!(Moment::parse("2026-11-21T08:00").unwrap_err().contains("lacks its zone"));
        assert!(Moment::parse("2026-11-22T08:00:00Z").unwrap().at(now).unwrap_err().contains("still to come"));
    }
}
