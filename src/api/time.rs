//! Points in time as Kubernetes writes them.

use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

macro_rules! time_type {
    ($(#[$doc:meta])* $name:ident, $format:literal, $schema:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Timestamp);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.strftime($format))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl $name {
            /// Writes the time in this type's own form, as Kubernetes does with whatever a client wrote. What is no time
            /// stays as it is: it is refused later.
            pub fn rewrite(value: &mut serde_json::Value) {
                let read = value.as_str().and_then(|text| text.parse().ok());
                if let Some(at) = read.map(Self) {
                    *value = at.to_string().into();
                }
            }
        }

        impl From<Timestamp> for $name {
            fn from(at: Timestamp) -> Self {
                Self(at)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map(Self).map_err(|_| D::Error::custom(format!("`{text}` is not an RFC 3339 time")))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": "date-time", "description": $schema})
            }
        }
    };
}

time_type!(
    /// RFC 3339 in UTC with whole seconds, Kubernetes' `metav1.Time`. Sub-second parts are dropped on writing.
    Time, "%Y-%m-%dT%H:%M:%SZ", "RFC 3339 time in UTC, whole seconds"
);
time_type!(
    /// RFC 3339 in UTC with microseconds, Kubernetes' `metav1.MicroTime`.
    MicroTime, "%Y-%m-%dT%H:%M:%S.%6fZ", "RFC 3339 time in UTC, microseconds"
);

/// An age as `kubectl` prints it: two units at most, the coarser the older.
pub fn age(now: Timestamp, since: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let seconds = now.duration_since(since).as_secs();
    let pair = |large: i64, small: i64, names: [&str; 2]| match seconds % large / small {
        0 => format!("{}{}", seconds / large, names[0]),
        rest => format!("{}{}{rest}{}", seconds / large, names[0], names[1]),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => pair(MINUTE, 1, ["m", "s"]),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => pair(HOUR, MINUTE, ["h", "m"]),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => pair(DAY, HOUR, ["d", "h"]),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => pair(YEAR, DAY, ["y", "d"]),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_rewritten_as_kubernetes_writes_them() {
        for (written, time, micro) in [
            ("2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z"),
            ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02T04:04:05.1+01:00", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.100000Z"),
            ("yesterday", "yesterday", "yesterday"),
        ] {
            let (mut as_time, mut as_micro) = (json!(written), json!(written));
            Time::rewrite(&mut as_time);
            MicroTime::rewrite(&mut as_micro);
            assert_eq!((as_time, as_micro), (json!(time), json!(micro)), "{written}");
        }
    }

    #[test]
    fn ages_are_printed_as_kubectl_prints_them() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600 + 60, "9h"),
            (2 * 86400, "2d"),
            (3 * 86400 + 3600, "3d1h"),
            (400 * 86400, "400d"),
            (3 * 365 * 86400, "3y"),
        ] {
            let since = now - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(age(now, since), expected, "{seconds}");
        }
    }
}
