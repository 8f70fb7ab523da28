//! Schedule: when to make Runs or WorkflowRuns, as a CronJob does, or to send tasks.
//!
//! What its times are is judged by `policy/schedule`, and docs/design/020-schedules.md has the rules. A time is an instant of UTC, and what is
//! made for a time bears it in its name.

mod check;
mod target;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::target::{ScheduledTask, ScheduledTaskState, TaskTarget, WorkflowTarget};

use super::{
    ActiveWindow, Column, Condition, GoDuration, Kind, KindInfo, ObjectReference, RunSpec, Subresource, Time, age, at,
    command_line,
};

/// The label of the Runs and WorkflowRuns that a Schedule made: its name.
pub const SCHEDULE_LABEL: &str = "appm.dev/schedule";
/// The annotation of a Run or WorkflowRun that a Schedule made: the time that it was made for.
pub const SCHEDULED_AT: &str = "appm.dev/scheduledAt";
/// The longest name of a Schedule: its Runs have `-` and the seconds of their time behind it.
pub const LONGEST_SCHEDULE_NAME: usize = 52;

/// When to make Runs or WorkflowRuns, as a CronJob does, or to send tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Schedule {
    /// When, and what.
    pub spec: ScheduleSpec,
    /// How it goes.
    #[serde(default)]
    pub status: ScheduleStatus,
}

/// When, and what. Exactly one of `cron`, `every` and `at` says when, exactly one of `run`, `workflow` and `task` what.
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
    /// Each Schedule starts later than its times, by an amount up to this that is always the same for it.
    #[serde(default)]
    pub jitter: GoDuration,
    /// True: nothing is started, and what is missed meanwhile is not made up for.
    #[serde(default)]
    pub suspend: bool,
    /// What happens at a time when an earlier Run, WorkflowRun or task has not ended yet.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// `Replace`: how long the earlier one may go on beside the new one before it is cancelled.
    #[serde(default)]
    pub replace_grace: GoDuration,
    /// How many seconds late a time may still start; default: however late it is. Several missed times count as one, the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub starting_deadline_seconds: Option<i64>,
    /// The time within which its times count; others are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_window: Option<ActiveWindow>,
    /// How many Runs, WorkflowRuns or tasks that succeeded are kept.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 10000))]
    pub successful_runs_history_limit: i32,
    /// How many of those that failed are kept.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10000))]
    pub failed_runs_history_limit: i32,
    /// What to do: the spec of a Run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSpec>,
    /// What to do: a Workflow, with what it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowTarget>,
    /// What to do: a task into an App that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskTarget>,
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

/// What happens at a time when an earlier Run, WorkflowRun or task has not ended yet.
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
    /// The last time for which something was made or sent. Never goes back, whatever the clock does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a Run, WorkflowRun or task last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// The times that come next, without `jitter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_schedule_times: Vec<Time>,
    /// The Runs and WorkflowRuns that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<ObjectReference>,
    /// The tasks that were sent: those that are waited for, and of the others as many as the limits say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<ScheduledTask>,
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

/// What is done then: `app/backup`, `workflow/etl`, `task/worker`, or the command.
fn target(object: &Value) -> String {
    let spec = &object["spec"];
    let named = |word: &str, name: &Value| Some(format!("{word}/{}", name.as_str()?));
    named("app", at(spec, &["run", "app"]))
        .or_else(|| named("workflow", at(spec, &["workflow", "name"])))
        .or_else(|| named("task", at(spec, &["task", "app"])))
        .unwrap_or_else(|| command_line(at(spec, &["run"])))
}

/// Those that have not ended.
fn active(object: &Value) -> usize {
    let listed = |name: &str| at(object, &["status", name]).as_array().map_or(&[][..], Vec::as_slice);
    listed("active").len() + listed("tasks").iter().filter(|task| task["state"] == "Sent").count()
}

fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

impl Kind for Schedule {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["sched"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    columns: &[
        Column { name: "Schedule", data_type: "string", description: "when", wide: false, cell: |o, _| when(o).into() },
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
            description: "what was begun and has not ended",
            wide: false,
            cell: |o, _| active(o).into(),
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
            name: "Target",
            data_type: "string",
            description: "what is done then",
            wide: false,
            cell: |o, _| target(o).into(),
        },
    ],
    check: check::check,
    ..KindInfo::of::<Schedule>("Schedule", "schedules", "schedule")
};
