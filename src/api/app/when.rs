//! When an App runs: after others, and within a window of time.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Time;

/// Another App of the same namespace that must have come so far before this one starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dependency {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub app: String,
    /// How far.
    #[serde(default)]
    pub condition: DependencyCondition,
}

/// How far an App has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DependencyCondition {
    /// All its instances are ready.
    #[default]
    Ready,
    /// All its instances run.
    Started,
    /// All its instances have ended as they should.
    Complete,
}

/// The time within which an App runs; outside it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveWindow {
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// Not from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// Only at this time of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<DailyWindow>,
}

/// A part of each day. From `22:00` to `06:00` it spans midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DailyWindow {
    /// Hours and minutes at which it begins, `08:00`.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// Hours and minutes at which it ends.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// An IANA time zone such as `Europe/Berlin`; default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

impl DailyWindow {
    /// The time zone, looked up in the machine's own database.
    ///
    /// # Errors
    /// A sentence for the manifest's author.
    pub fn zone(&self) -> Result<TimeZone, String> {
        let Some(name) = &self.time_zone else { return Ok(TimeZone::UTC) };
        TimeZone::get(name).map_err(|_| {
            let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
            if known.is_empty() {
                return format!(
                    "`{name}` cannot be looked up: this machine has no time zone database (package tzdata)"
                );
            }
            match nearest(name, &known) {
                Some(meant) => format!("no such time zone `{name}`; did you mean `{meant}`?"),
                None => format!("no such time zone `{name}`; a name such as `Europe/Berlin` is meant"),
            }
        })
    }
}

/// The name that was probably meant: the same but for case and separators, or the same city.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace([' ', '-'], "_");
    let city = |text: &str| plain(text).rsplit('/').next().unwrap_or_default().to_owned();
    let same = known.iter().find(|zone| plain(zone) == plain(name));
    same.or_else(|| known.iter().find(|zone| zone.contains('/') && city(zone) == city(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_nobody_knows_says_what_was_meant() {
        let zone = |name: Option<&str>| {
            let daily =
                DailyWindow { from: "08:00".to_owned(), to: "20:00".to_owned(), time_zone: name.map(str::to_owned) };
            daily.zone().map(|_| ()).err()
        };
        for (name, why) in [
            ("europe berlin", "no such time zone `europe berlin`; a name such as `Europe/Berlin` is meant"),
            ("Berlin", "no such time zone `Berlin`; did you mean `Europe/Berlin`?"),
            ("America/New-York", "no such time zone `America/New-York`; did you mean `America/New_York`?"),
        ] {
            assert_eq!(zone(Some(name)).as_deref(), Some(why));
        }
        assert_eq!((zone(None), zone(Some("UTC"))), (None, None));
    }
}
