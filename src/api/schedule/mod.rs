//! Schedule: when to make Runs, as a CronJob does.
//!
//! What its times are is judged by `policy/schedule`, and docs/design/020-schedules.md has the rules. A time is an instant of UTC, and the Run
//! of a time bears it in its name.

mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ActiveWindow, ChangeLog, Column, Condition, GoDuration, Kind, KindInfo, ObjectReference, RunSpec, Scope,
    Subresource, Time, Verbs, age, as_written, at, decode_as, for_nobody, schema_of,
};

/// The label of the Runs that a Schedule made: its name.
pub const SCHEDULE_LABEL: &str = "appm.dev/schedule";
/// The annotation of a Run that a Schedule made: the time that it was made for.
pub const SCHEDULED_AT: &str = "appm.dev/scheduledAt";
/// The longest name of a Schedule: its Runs have `-` and the seconds of their time behind it.
pub const LONGEST_SCHEDULE_NAME: usize = 52;

/// When to make Runs, as a CronJob does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// When, and what.
    pub spec: ScheduleSpec,
    /// How it goes.
    #[serde(default)]
    pub status: ScheduleStatus,
}

/// When, and what. Exactly one of `cron`, `every` and `at` says when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// A cron expression: five fields (minute, hour, day of the month, month, day of the week), six with seconds first, or `@daily` and its like.
    /// `appm cron explain` says what one means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub cron: Option<String>,
    /// A fixed grid of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Every>,
    /// Single times: `2026-12-24T18:00:00` by the clocks of `timeZone`, or with an offset of their own, `2026-12-24T18:00:00Z`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 64)))]
    pub at: Vec<String>,
    /// The IANA time zone by whose clocks `cron` and `at` are meant, `Europe/Berlin` say; default: the server's. Where clocks are set, a time with
    /// fixed hour and minute comes once (a skipped one right after the gap, a repeated one the first time); one with a wildcard or a step there follows elapsed time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Each Schedule starts its Runs later than their times, by an amount up to this that is always the same for it.
    #[serde(default)]
    pub jitter: GoDuration,
    /// True: nothing is started, and what is missed meanwhile is not made up for.
    #[serde(default)]
    pub suspend: bool,
    /// What happens at a time when an earlier Run has not ended yet.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// `Replace`: how long the earlier Run may go on beside the new one before it is cancelled.
    #[serde(default)]
    pub replace_grace: GoDuration,
    /// How many seconds late a time may still start; default: however late it is. Several missed times count as one, the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub starting_deadline_seconds: Option<i64>,
    /// The time within which its times count; others are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_window: Option<ActiveWindow>,
    /// How many Runs that succeeded are kept.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 10000))]
    pub successful_runs_history_limit: i32,
    /// How many Runs that failed are kept.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10000))]
    pub failed_runs_history_limit: i32,
    /// What to do: the spec of a Run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSpec>,
}

/// A grid of times that does not drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Every {
    /// From one time to the next: whole seconds.
    pub interval: GoDuration,
    /// One of the times, and the first; default: 1970-01-01T00:00:00Z, so that `15m` means each quarter of an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Time>,
}

/// What happens at a time when an earlier Run has not ended yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one waits for the end of the earlier one, within `startingDeadlineSeconds`.
    Forbid,
    /// The earlier one is cancelled.
    Replace,
}

fn three() -> i32 {
    3
}

fn one() -> i32 {
    1
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The time of the last Run that was made by time. Never goes back, whatever the clock does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a Run last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// The times that come next, without `jitter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_schedule_times: Vec<Time>,
    /// The Runs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<ObjectReference>,
    /// The time zone by which its times are read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
    /// Times up to here are done with: it was made then, its times were changed, it was resumed, or they were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Changes when what its times are does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub times_hash: String,
    /// `Ready`: it waits for its next time. `Suspended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a person wrote: the expression, the interval, or the first time.
fn when(object: &Value) -> String {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let every = || Some(format!("every {}", spec["every"]["interval"].as_str()?));
    let single = || {
        let more = spec["at"].as_array()?.len() - 1;
        let first = spec["at"][0].as_str()?;
        Some(if more == 0 { first.to_owned() } else { format!("{first} +{more}") })
    };
    text(&spec["cron"]).or_else(every).or_else(single).unwrap_or_default()
}

fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

impl Kind for Schedule {
    const INFO: &'static KindInfo = &KindInfo {
        group: super::GROUP,
        version: super::VERSION,
        kind: "Schedule",
        plural: "schedules",
        singular: "schedule",
        short_names: &["sched"],
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: Verbs::All,
        subresources: &[Subresource::Status],
        log: ChangeLog::Main,
        sealed: false,
        columns: &[
            Column {
                name: "Schedule",
                data_type: "string",
                description: "when",
                wide: false,
                cell: |o, _| when(o).into(),
            },
            Column {
                name: "Timezone",
                data_type: "string",
                description: "by whose clocks",
                wide: false,
                cell: |o, _| at(o, &["status", "timeZone"]).clone(),
            },
            Column {
                name: "Suspend",
                data_type: "boolean",
                description: "whether nothing is started",
                wide: false,
                cell: |o, _| at(o, &["spec", "suspend"]).as_bool().unwrap_or(false).into(),
            },
            Column {
                name: "Active",
                data_type: "integer",
                description: "runs that have not ended",
                wide: false,
                cell: |o, _| at(o, &["status", "active"]).as_array().map_or(0, Vec::len).into(),
            },
            Column {
                name: "Last Schedule",
                data_type: "string",
                description: "how long ago the last time was",
                wide: false,
                cell: |o, now| {
                    time(at(o, &["status", "lastScheduleTime"])).map_or(Value::Null, |last| age(now, last).into())
                },
            },
            Column {
                name: "Next",
                data_type: "string",
                description: "how far away the next time is",
                wide: false,
                cell: |o, now| {
                    time(&at(o, &["status", "nextScheduleTimes"])[0]).map_or(Value::Null, |next| age(next, now).into())
                },
            },
            Column {
                name: "App",
                data_type: "string",
                description: "the App that its runs are of",
                wide: true,
                cell: |o, _| at(o, &["spec", "run", "app"]).clone(),
            },
        ],
        fields: &[],
        views: &[],
        schema: schema_of::<Schedule>,
        normalize: as_written,
        defaults: as_written,
        check: check::check,
        waits_for: for_nobody,
        decode: decode_as::<Schedule>,
    };
}
