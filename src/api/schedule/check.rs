//! The rules between a Schedule's fields.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LONGEST_SCHEDULE_NAME, Schedule, ScheduleSpec};
use crate::api::{
    FieldPath, GoDuration, Kind as _, Object, Problem, Run, Violation,
    app::check_window,
    check_label_name,
    cron::{Cron, CronError},
    single_time, time_zone,
};

/// What the server writes into a Run, and what nobody wants of one that is not made yet.
const OF_THE_RUN: &[(&str, &str)] = &[
    ("template", "it is written by the server when the run is made"),
    ("stdinOnce", "nobody is there to send it anything; give `stdin`"),
    ("cancel", "a run that is cancelled from the beginning does nothing; `suspend` the schedule"),
];

/// The longest that anybody waits for a task.
const LONGEST_TASK: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let root = FieldPath::of("spec");
    let mut found: Vec<Violation> = check_name(new).into_iter().collect();
    found.extend(check_target(&new["spec"], &root));
    let Ok(object) = serde_json::from_value::<Object<Schedule>>(new.clone()) else { return found };
    found.extend(check_when(&object.spec, &root));
    found.extend(check_window(object.spec.active_window.as_ref(), &root.field("activeWindow")));
    found
}

fn check_name(object: &Value) -> Option<Violation> {
    let too_long = |name: &str| {
        let message =
            format!("must be no more than {LONGEST_SCHEDULE_NAME} characters, because its runs add their time");
        (name.len() > LONGEST_SCHEDULE_NAME)
            .then(|| Violation::new(FieldPath::of("metadata.name"), Problem::TooLong, message))
    };
    check_label_name(object).or_else(|| too_long(object["metadata"]["name"].as_str()?))
}

/// Exactly one of `run`, `workflow` and `task`.
fn check_target(spec: &Value, root: &FieldPath) -> Vec<Violation> {
    let given: Vec<&str> = ["run", "workflow", "task"].into_iter().filter(|name| !spec[*name].is_null()).collect();
    let Some((first, more)) = given.split_first() else {
        let message = "say what is to be done: set `run`, `workflow` or `task`";
        return vec![Violation::new(root.field("run"), Problem::Required, message)];
    };
    let mut found: Vec<Violation> = more
        .iter()
        .map(|second| {
            let message = format!("set either `{first}` or `{second}`, not both");
            Violation::new(root.field(second), Problem::Forbidden, message)
        })
        .collect();
    if !spec["run"].is_null() {
        found.extend(check_run(&spec["run"], &root.field("run")));
    }
    found.extend(check_task(&spec["task"], &root.field("task")));
    found
}

fn check_task(task: &Value, at: &FieldPath) -> Option<Violation> {
    let timeout = task["timeout"].as_str()?.parse::<GoDuration>().ok()?;
    let message = "must be more than nothing, and at most 24h";
    (timeout.0.is_zero() || timeout.0 > LONGEST_TASK)
        .then(|| Violation::new(at.field("timeout"), Problem::Invalid, message))
}

/// What it makes is a Run, and follows the rules of Runs.
fn check_run(run: &Value, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, message) in OF_THE_RUN {
        if !run[*name].is_null() && run[*name] != false {
            found.push(Violation::new(at.field(name), Problem::Forbidden, *message));
        }
    }
    let made = json!({"metadata": {"name": "run"}, "spec": run});
    found.extend((Run::INFO.check)(&made, None).into_iter().map(|mut violation| {
        let inside = violation.path.as_str().strip_prefix("spec").unwrap_or(violation.path.as_str());
        violation.path = at.join(&FieldPath::of(inside.trim_start_matches('.')));
        violation
    }));
    found
}

fn check_when(spec: &ScheduleSpec, root: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let given = [("cron", spec.cron.is_some()), ("every", spec.every.is_some()), ("at", !spec.at.is_empty())];
    match given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect::<Vec<_>>().as_slice() {
        [] => found.push(Violation::new(root.field("cron"), Problem::Required, "set `cron`, `every` or `at`")),
        [_] => {}
        [first, rest @ ..] => found.extend(rest.iter().map(|second| {
            let message = format!("set either `{first}` or `{second}`, not both");
            Violation::new(root.field(second), Problem::Forbidden, message)
        })),
    }
    let zone = match spec.time_zone.as_deref().map(time_zone) {
        Some(Err(why)) => {
            found.push(Violation::new(root.field("timeZone"), Problem::NotSupported, why));
            None
        }
        Some(Ok(zone)) => Some(zone),
        None => None,
    };
    if let Some(Err(CronError(reasons))) = spec.cron.as_deref().map(str::parse::<Cron>) {
        found.extend(reasons.into_iter().map(|why| Violation::new(root.field("cron"), Problem::Invalid, why)));
    }
    if let Some(every) = &spec.every
        && (every.interval.0.as_secs() == 0 || every.interval.0.subsec_nanos() != 0)
    {
        let message = format!("{}: must be whole seconds, at least one", every.interval);
        found.push(Violation::new(root.field("every").field("interval"), Problem::Invalid, message));
    }
    let zone = zone.unwrap_or(jiff::tz::TimeZone::UTC);
    for (i, text) in spec.at.iter().enumerate() {
        if let Err(why) = single_time(text, &zone) {
            found.push(Violation::new(root.field("at").index(i), Problem::Invalid, why));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, spec: &Value) -> String {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        check(&object, None).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let spec = json!({
            "cron": "60 2 * * mondays", "every": {"interval": "1.5s"}, "at": ["tomorrow", "2026-12-24T18:00:00"],
            "timeZone": "Berlin", "run": {"app": "a", "process": {"command": ["a"]}, "cancel": true, "envFrom": []},
            "activeWindow": {"daily": {"from": "08:00", "to": "08:00"}},
        });
        insta::assert_snapshot!(told(&"a".repeat(53), &spec), @r##"
        metadata.name: Too long: must be no more than 52 characters, because its runs add their time
        spec.run.cancel: Forbidden: a run that is cancelled from the beginning does nothing; `suspend` the schedule
        spec.run.process: Forbidden: set either `app` or `process`, not both
        spec.every: Forbidden: set either `cron` or `every`, not both
        spec.at: Forbidden: set either `cron` or `at`, not both
        spec.timeZone: Unsupported value: no such time zone `Berlin`; did you mean `Europe/Berlin`?
        spec.cron: Invalid value: minute `60`: 60 is not within 0 to 59
        spec.cron: Invalid value: day of the week `mondays`: `mondays` is no day of the week
        spec.every.interval: Invalid value: 1.5s: must be whole seconds, at least one
        spec.at[0]: Invalid value: `tomorrow` is no time such as 2026-12-24T18:00:00 or 2026-12-24T18:00:00Z
        spec.activeWindow.daily.to: Invalid value: must not be the same as `from`; leave `daily` out for the whole day
        "##);
        let bare = told("Nightly", &json!({}));
        assert!(bare.contains("metadata.name: Invalid value") && bare.contains("spec.run: Required value"), "{bare}");
        let without_times = told("nightly", &json!({"run": {"app": "backup"}}));
        assert_eq!(without_times, "spec.cron: Required value: set `cron`, `every` or `at`");
        let right =
            json!({"cron": "@daily", "timeZone": "Europe/Berlin", "run": {"app": "backup"}, "activeWindow": {}});
        assert_eq!(told("nightly", &right), "");
    }

    #[test]
    fn one_thing_is_done_at_a_time() {
        let with = |target: Value| {
            let mut spec = target;
            spec["cron"] = json!("@daily");
            told("nightly", &spec)
        };
        assert_eq!(with(json!({"workflow": {"name": "etl", "inputs": {"day": 1}}})), "");
        assert_eq!(with(json!({"task": {"app": "worker", "payload": "tick", "timeout": "30s"}})), "");
        assert_eq!(
            with(json!({"task": {"app": "worker", "timeout": "25h"}})),
            "spec.task.timeout: Invalid value: must be more than nothing, and at most 24h"
        );
        assert_eq!(
            with(json!({"run": {"app": "a"}, "workflow": {"name": "etl"}, "task": {"app": "worker"}})),
            "spec.workflow: Forbidden: set either `run` or `workflow`, not both\n\
             spec.task: Forbidden: set either `run` or `task`, not both"
        );
        assert!(with(json!({})).starts_with("spec.run: Required value: say what is to be done"));
    }
}
