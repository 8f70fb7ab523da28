//! Tables of what one pass decides, and a world in which nothing happens but time: the clock is set, the server is gone for a while, Runs
//! take long, and each time is started once.

use std::{collections::BTreeSet, sync::Arc};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Condition, ConditionStatus, SCHEDULED_AT, ScheduledTaskState, Time},
    clock::{Clock as _, Virtual},
    controllers::schedule::decide::{Action, Plan},
};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn schedule(spec: &Value) -> Object<Schedule> {
    let metadata = json!({
        "name": "job", "namespace": "default", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    let mut spec = spec.clone();
    spec["run"] = json!({"app": "a"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a schedule")
}

#[test]
fn a_time_that_is_refused_is_tried_again_and_the_next_one_comes_at_its_time() {
    for (interval, again) in [("10s", "2026-01-01T00:00:20Z"), ("1h", "2026-01-01T01:00:30Z")] {
        let mut schedule = schedule(&json!({"every": {"interval": interval}}));
        let now = at(again).saturating_sub(SignedDuration::from_secs(if interval == "1h" { 30 } else { 10 }));
        let now = now.expect("in range");
        let mut plan =
            decide(&schedule, &Observed { made: vec![], under_way: BTreeSet::new(), zone: TimeZone::UTC }, now);
        assert!(plan.starts() && plan.refuse(&schedule, "its name is taken".to_owned(), now));
        assert_eq!((plan.starts(), plan.again(now)), (false, at(again)));
        schedule.status = plan.status;
        let ready = Condition::find(&schedule.status.conditions, "Ready").expect("a condition");
        assert_eq!((ready.status, &*ready.message), (ConditionStatus::False, "its name is taken"));
        // The next time has a name of its own.
        assert!(pass(&schedule, &[], again).starts());
    }
}

/// A Run of the time, made then; how it ended, if it has, and when.
fn run(scheduled: &str, ended: Option<(&str, &str)>) -> Arc<Object<Run>> {
    let owner = json!({"apiVersion": "appm.dev/v1", "kind": "Schedule", "name": "job", "uid": "u", "controller": true});
    let mut run = json!({
        "metadata": {
            "name": format!("job-{}", at(scheduled).as_second()), "uid": scheduled, "creationTimestamp": scheduled,
            "annotations": {SCHEDULED_AT: scheduled}, "ownerReferences": [owner],
        },
        "spec": {"app": "a"},
    });
    if let Some((how, when)) = ended {
        let condition = json!({"type": how, "status": "True", "lastTransitionTime": when});
        run["status"] = json!({"completionTime": when, "conditions": [condition]});
    }
    Arc::new(serde_json::from_value(run).expect("a run"))
}

fn pass(schedule: &Object<Schedule>, runs: &[Arc<Object<Run>>], now: &str) -> Plan {
    let made = runs.iter().cloned().map(Made::Run).collect();
    decide(schedule, &Observed { made, under_way: BTreeSet::new(), zone: TimeZone::UTC }, at(now))
}

fn shown(plan: &Plan) -> String {
    let requeue = match plan.requeue {
        Requeue::Rest => "rest".to_owned(),
        Requeue::At(at) => at.to_string(),
    };
    let actions = plan.actions.iter().map(ToString::to_string);
    let told = plan
        .told(&schedule(&json!({})))
        .into_iter()
        .map(|(_, _, message)| message)
        .filter(|m| !m.starts_with("Made the run of 2026-01-01T03:00:00Z") || m.contains(','));
    actions.chain(told).chain([requeue]).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_is_due_is_started_once_and_by_the_policies() {
    let hourly = |more: Value| {
        let mut spec = json!({"cron": "0 * * * *"});
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let mut made = schedule(&spec);
        made.status.last_schedule_time = Some(Time(at("2026-01-01T02:00:00Z")));
        made
    };
    let goes_on = || run("2026-01-01T02:00:00Z", None);
    for (schedule, runs, now, expected) in [
        (hourly(json!({})), vec![], "2026-01-01T02:59:59Z", "2026-01-01T03:00:00Z"),
        (
            hourly(json!({})),
            vec![],
            "2026-01-01T03:00:00Z",
            "start the run of 2026-01-01T03:00:00Z; 2026-01-01T03:00:00Z",
        ),
        // Back by an hour, and forward by a day.
        (hourly(json!({})), vec![], "2026-01-01T01:00:00Z", "2026-01-01T03:00:00Z"),
        (
            hourly(json!({})),
            vec![],
            "2026-01-02T02:30:00Z",
            "start the run of 2026-01-02T02:00:00Z; Made the run of 2026-01-02T02:00:00Z, for 23 missed times before it, too; \
             2026-01-02T02:30:00Z",
        ),
        (
            hourly(json!({"startingDeadlineSeconds": 100})),
            vec![],
            "2026-01-01T03:01:41Z",
            "It is too late to start the run of 2026-01-01T03:00:00Z; 2026-01-01T04:00:00Z",
        ),
        (hourly(json!({"suspend": true})), vec![], "2026-01-01T03:00:00Z", "rest"),
        (
            hourly(json!({"concurrencyPolicy": "Forbid"})),
            vec![goes_on()],
            "2026-01-01T03:00:00Z",
            "2026-01-01T04:00:00Z",
        ),
        (
            hourly(json!({"concurrencyPolicy": "Forbid"})),
            vec![run("2026-01-01T02:00:00Z", Some(("Failed", "2026-01-01T03:20:00Z")))],
            "2026-01-01T03:20:00Z",
            "start the run of 2026-01-01T03:00:00Z; 2026-01-01T03:20:00Z",
        ),
        (
            hourly(json!({"concurrencyPolicy": "Replace", "replaceGrace": "10m"})),
            vec![goes_on(), run("2026-01-01T03:00:00Z", None)],
            "2026-01-01T03:09:00Z",
            "start the run of 2026-01-01T03:00:00Z; 2026-01-01T03:09:00Z",
        ),
        (
            hourly(json!({"concurrencyPolicy": "Replace", "replaceGrace": "10m", "suspend": true})),
            vec![goes_on(), run("2026-01-01T03:00:00Z", None)],
            "2026-01-01T03:09:00Z",
            "2026-01-01T03:10:00Z",
        ),
        (
            hourly(json!({"concurrencyPolicy": "Replace", "suspend": true})),
            vec![run("2026-01-01T03:00:00Z", None), goes_on()],
            "2026-01-01T03:00:00Z",
            "cancel run job-1767232800 because its successor began; Cancelled run job-1767232800, whose successor began; rest",
        ),
        (
            hourly(json!({"successfulRunsHistoryLimit": 1, "failedRunsHistoryLimit": 0})),
            vec![
                run("2026-01-01T00:00:00Z", Some(("Complete", "2026-01-01T00:10:00Z"))),
                run("2026-01-01T01:00:00Z", Some(("Complete", "2026-01-01T01:10:00Z"))),
                run("2026-01-01T02:00:00Z", Some(("Failed", "2026-01-01T02:10:00Z"))),
            ],
            "2026-01-01T02:20:00Z",
            "delete run job-1767225600 because newer ones ended; delete run job-1767232800 because newer ones ended; \
             2026-01-01T03:00:00Z",
        ),
        (
            hourly(json!({"startingDeadlineSeconds": 100})),
            vec![],
            "2026-01-01T04:01:41Z",
            "It is too late to start the run of 2026-01-01T04:00:00Z, and of the time before it; 2026-01-01T05:00:00Z",
        ),
        (schedule(&json!({"at": ["2025-01-01"]})), vec![], "2026-01-01T03:00:00Z", "rest"),
    ] {
        assert_eq!(shown(&pass(&schedule, &runs, now)), expected, "{now} {:?}", schedule.spec);
    }
}

#[test]
fn what_was_missed_while_it_was_paused_or_had_other_times_is_not_made_up_for() {
    let mut schedule = schedule(&json!({"cron": "0 * * * *", "suspend": true}));
    schedule.status = pass(&schedule, &[], "2026-01-01T00:30:00Z").status;
    schedule.spec.suspend = false;
    let resumed = pass(&schedule, &[], "2036-01-01T05:30:00Z");
    assert_eq!(shown(&resumed), "2036-01-01T06:00:00Z");
    schedule.status = resumed.status;
    schedule.spec.cron = Some("*/10 * * * *".to_owned());
    let changed = pass(&schedule, &[], "2036-01-01T05:45:00Z");
    assert_eq!(shown(&changed), "2036-01-01T05:50:00Z");
    schedule.status = changed.status;
    // Whatever else is changed changes nothing of that.
    schedule.spec.starting_deadline_seconds = Some(1000);
    assert_eq!(pass(&schedule, &[], "2036-01-01T05:51:00Z").actions.len(), 1);
}

#[test]
fn at_rest_nothing_is_written() {
    let mut schedule = schedule(&json!({"cron": "0 * * * *", "timeZone": "Europe/Berlin", "jitter": "1m"}));
    for now in ["2026-01-01T00:30:00Z", "2026-01-01T00:30:01.5Z", "2026-01-01T00:59:00Z"] {
        let plan = pass(&schedule, &[], now);
        assert!(plan.actions.is_empty());
        assert_eq!(schedule.status == plan.status, now != "2026-01-01T00:30:00Z", "{now}");
        // As it comes back from the store.
        let text = serde_json::to_string(&plan.status).expect("json");
        schedule.status = serde_json::from_str(&text).expect("a status");
    }
}

/// The server is gone now and then, passes come early and late, the clock is set: no time is started twice, none is left out but those
/// that others stand for, and times only go forward.
#[test]
fn every_time_is_started_once_whatever_the_clock_does() {
    for seed in 0..24 {
        let dice = Virtual::new(at("2026-03-28T20:00:00Z"), seed);
        let roll = |n: u64| dice.random() % n;
        let cron = ["*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "*/20 * * * * *"][roll(4) as usize];
        let mut schedule = schedule(&json!({"cron": cron, "timeZone": "Europe/Berlin"}));
        schedule.metadata.creation_timestamp = Some(Time(dice.now()));
        let mut started: Vec<Timestamp> = Vec::new();
        for _ in 0..150 {
            match roll(20) {
                0 => dice.step(SignedDuration::from_secs([-3600, -7, 86_400][roll(3) as usize])),
                1 => dice.advance(SignedDuration::from_secs(roll(40_000) as i64)),
                _ => dice.advance(SignedDuration::from_millis(roll(400_000) as i64)),
            }
            let plan = pass(&schedule, &[], &dice.now().to_string());
            let starts = plan.actions.iter().filter_map(|action| match action {
                Action::Start { at, missed } => Some((*at, *missed)),
                _ => None,
            });
            for (time, missed) in starts.collect::<Vec<_>>() {
                assert!(
                    started.last().is_none_or(|last| *last < time),
                    "seed {seed}: {time} after {:?}",
                    started.last()
                );
                // What lies between this one and the one before was missed, all of it.
                let times = crate::policy::schedule::Times::of(&schedule.spec, &TimeZone::UTC, "u").expect("right");
                let floor = started.last().copied().unwrap_or(schedule.metadata.creation_timestamp.expect("made").0);
                let between = times.upcoming(floor, 102).into_iter().filter(|between| *between < time).count();
                assert!(
                    between.min(101) == missed || started.is_empty(),
                    "seed {seed}: {between} before {time}, told {missed}"
                );
                started.push(time);
            }
            let text = serde_json::to_string(&plan.status).expect("json");
            schedule.status = serde_json::from_str(&text).expect("a status");
            // Nothing that has come since the Schedule was made, and is not done with, waits beyond its pass.
            let done = schedule.status.last_schedule_time;
            assert_eq!(done.map(|time| time.0), started.last().copied(), "seed {seed}");
        }
        assert_eq!(started.iter().collect::<BTreeSet<_>>().len(), started.len(), "seed {seed}");
    }
}

/// Passes over a Schedule of tasks, in which nothing but these times are waited for.
fn task_pass(schedule: &mut Object<Schedule>, under_way: &[&str], now: &str) -> Plan {
    let under_way = under_way.iter().copied().map(at).collect();
    let plan = decide(schedule, &Observed { made: Vec::new(), under_way, zone: TimeZone::UTC }, at(now));
    schedule.status = plan.status.clone();
    plan
}

#[test]
fn a_task_that_was_sent_and_that_nobody_waits_for_is_lost_and_never_sent_again() {
    let mut schedule = schedule(&json!({"cron": "0 * * * *"}));
    (schedule.spec.run, schedule.spec.task) =
        (None, Some(serde_json::from_value(json!({"app": "worker"})).expect("a task")));
    let states = |schedule: &Object<Schedule>| {
        schedule.status.tasks.iter().map(|task| task.state.to_string()).collect::<Vec<_>>().join(" ")
    };
    let plan = task_pass(&mut schedule, &[], "2026-01-01T01:00:00Z");
    assert!(plan.starts());
    assert_eq!(states(&schedule), "Sent");
    // It is waited for; the next one goes beside it.
    let waited = ["2026-01-01T01:00:00Z"];
    assert_eq!(shown(&task_pass(&mut schedule, &waited, "2026-01-01T01:10:00Z")), "2026-01-01T02:00:00Z");
    let plan = task_pass(&mut schedule, &waited, "2026-01-01T02:00:00Z");
    assert!(plan.starts());
    assert_eq!(states(&schedule), "Sent Sent");
    // The server was gone: of failures the newest is kept.
    let plan = task_pass(&mut schedule, &[], "2026-01-01T02:30:00Z");
    assert!(!plan.starts());
    let lost = plan.told(&schedule).iter().filter(|(_, reason, _)| *reason == "TaskLost").count();
    assert_eq!((lost, states(&schedule).as_str()), (2, "Lost"));
    assert_eq!(shown(&task_pass(&mut schedule, &[], "2026-01-01T02:31:00Z")), "2026-01-01T03:00:00Z");
}

#[test]
fn tasks_follow_the_policies_and_the_limits_as_runs_do() {
    let of_policy = |policy: &str| {
        let mut schedule = schedule(&json!({"cron": "0 * * * *", "concurrencyPolicy": policy}));
        (schedule.spec.run, schedule.spec.task) =
            (None, Some(serde_json::from_value(json!({"app": "worker"})).expect("a task")));
        task_pass(&mut schedule, &[], "2026-01-01T01:00:00Z");
        schedule
    };
    let waited = ["2026-01-01T01:00:00Z"];
    let mut forbidding = of_policy("Forbid");
    assert!(!task_pass(&mut forbidding, &waited, "2026-01-01T02:00:00Z").starts());
    forbidding.status.tasks[0].state = ScheduledTaskState::Succeeded;
    forbidding.status.tasks[0].finish_time = Some(Time(at("2026-01-01T02:10:00Z")));
    assert!(task_pass(&mut forbidding, &[], "2026-01-01T02:10:00Z").starts(), "it stayed due");
    let last = forbidding.status.last_successful_time;
    assert_eq!(last, Some(Time(at("2026-01-01T02:10:00Z"))));

    let mut replacing = of_policy("Replace");
    assert!(task_pass(&mut replacing, &waited, "2026-01-01T02:00:00Z").starts());
    let both = ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"];
    assert!(
        shown(&task_pass(&mut replacing, &both, "2026-01-01T02:00:00Z"))
            .starts_with("cancel the task of 2026-01-01T01:00:00Z because its successor began")
    );

    // However long each takes, there is an end to those that are waited for.
    let mut allowing = of_policy("Allow");
    allowing.spec.cron = Some("* * * * * *".to_owned());
    allowing.status.times_hash.clear();
    let mut waited = vec!["2026-01-01T01:00:00Z".to_owned()];
    let mut now = at("2026-01-01T01:00:01Z");
    while waited.len() < 150 {
        let known: Vec<&str> = waited.iter().map(String::as_str).collect();
        if !task_pass(&mut allowing, &known, &now.to_string()).starts() {
            break;
        }
        waited.push(now.to_string());
        now += SignedDuration::from_secs(1);
    }
    assert_eq!(waited.len(), tasks::MOST_UNDER_WAY);
}
