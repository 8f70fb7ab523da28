//! When an App runs: after others, and within a window of time.

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{Time, time_zone};

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
    /// The time zone.
    ///
    /// # Errors
    /// A sentence for the manifest's author.
    pub fn zone(&self) -> Result<TimeZone, String> {
        self.time_zone.as_deref().map_or(Ok(TimeZone::UTC), time_zone)
    }
}
