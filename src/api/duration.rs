//! Durations in Go's spelling (`30s`, `1h30m`, `1.5s`, `250ms`), for fields that Kubernetes has no counterpart of.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Never negative, at most about 292 years (Go's own limit), nanosecond resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

const PATTERN: &str = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$";

impl GoDuration {
    /// Whole seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration such as 30s, 1h30m or 250ms");
        if text == "0" {
            return Ok(Self::default());
        }
        let mut rest = text;
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let (unit, scale) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
            nanos = nanos.checked_add(scaled(number, *scale).ok_or_else(wrong)?).ok_or_else(wrong)?;
            rest = &tail[unit.len()..];
        }
        match i64::try_from(nanos) {
            Ok(n) if !text.is_empty() => Ok(Self(Duration::from_nanos(n.unsigned_abs()))),
            _ => Err(wrong()),
        }
    }
}

/// Longer units that share a prefix come first: `ms` before `m`.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `number` (digits with at most one dot) times `scale`, exactly, fractions below a nanosecond dropped.
fn scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || whole.len() > 19 || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(15)];
    let part = fraction.parse::<u128>().ok()? * u128::from(scale) / 10_u128.pow(fraction.len() as u32);
    Some(whole.parse::<u128>().ok()? * u128::from(scale) + part)
}

impl fmt::Display for GoDuration {
    /// In Go's spelling, as a person writes it: `1h30m`, `250ms`, `0s`. (Go itself adds the zeros: `1h30m0s`.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if secs == 0 && nanos > 0 {
            return match nanos {
                n if n % 1_000_000 == 0 => write!(f, "{}ms", n / 1_000_000),
                n if n % 1_000 == 0 => write!(f, "{}µs", n / 1_000),
                n => write!(f, "{n}ns"),
            };
        }
        if secs >= 3600 {
            write!(f, "{}h", secs / 3600)?;
        }
        if secs % 3600 >= 60 {
            write!(f, "{}m", secs % 3600 / 60)?;
        }
        match (secs % 60, nanos) {
            (0, 0) if secs > 0 => Ok(()),
            (secs, 0) => write!(f, "{secs}s"),
            (secs, nanos) => write!(f, "{secs}.{}s", format!("{nanos:09}").trim_end_matches('0')),
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "description": "a duration such as 30s, 1h30m or 250ms"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_go_does_and_writes_as_people_do() {
        for (text, nanos, back) in [
            ("30s", 30_000_000_000, "30s"),
            ("1h30m", 5_400_000_000_000, "1h30m"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("250ms", 250_000_000, "250ms"),
            ("0", 0, "0s"),
            ("2h", 7_200_000_000_000, "2h"),
            ("3605s", 3_605_000_000_000, "1h5s"),
            ("60.5s", 60_500_000_000, "1m0.5s"),
            ("24h0m0s", 86_400_000_000_000, "24h"),
        ] {
            let read: GoDuration = text.parse().expect(text);
            assert_eq!(read.0.as_nanos(), nanos, "{text}");
            assert_eq!(read.to_string(), back);
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for bad in ["", "30", "s", "-1s", "1x", "1..2s", ".5s", "9999999999h", "1 s"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
