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
}
