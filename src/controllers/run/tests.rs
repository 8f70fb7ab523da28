//! Tables of situations and plans, and the laws of [`decide`].

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Condition, ConditionStatus, Exit, Exited, InstanceState, MicroTime, Object, Running, Time},
    policy::place::Place,
};

fn start() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a time")
}

/// A Run, its Instances and the time: what the store and an agent would make of plans.
struct World {
    run: Object<Run>,
    observed: Observed,
    now: Timestamp,
    starts: Vec<u32>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut all = json!({"process": {"command": ["a"]}});
        all.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
        let run = json!({
            "metadata": {"name": "job", "namespace": "default", "uid": "run-uid", "generation": 1}, "spec": all,
        });
        let place = Ok(Place { node: "host-a".to_owned(), room: usize::MAX });
        let observed = Observed { attempts: BTreeMap::new(), leftovers: 0, place, full: None };
        let run = serde_json::from_value(run).expect("a valid run");
        Self { run, observed, now: start(), starts: Vec::new() }
    }

    /// One pass. What it did, and the word for people.
    fn pass(&mut self) -> String {
        let plan = decide(&self.run, &self.observed, self.now);
        assert_eq!(plan, decide(&self.run, &self.observed, self.now), "the same inputs give the same plan");
        let actions: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
        for action in plan.actions {
            match action {
                Action::CreateInstance { instance, .. } => {
                    let attempt = instance.spec.ordinal;
                    assert!(!self.starts.contains(&attempt), "attempt {attempt} is made once");
                    assert!(self.observed.attempts.values().all(|i| i.status.state.exited.is_some()), "one at a time");
                    self.starts.push(attempt);
                    self.observed.attempts.insert(attempt, Arc::new(*instance));
                }
                Action::StopInstance { instance, .. } => {
                    let found = self.observed.attempts.get_mut(&instance.spec.ordinal).expect("there");
                    Arc::make_mut(found).body.spec.suspend = true;
                }
                Action::DeleteRun { .. } => {}
            }
        }
        self.run.body.status = plan.status;
        let word = crate::api::run_word(&self.run.to_value());
        if actions.is_empty() { word } else { format!("{word}: {}", actions.join("; ")) }
    }

    fn last(&mut self) -> Option<&mut Instance> {
        self.observed.attempts.last_entry().map(|entry| &mut Arc::make_mut(entry.into_mut()).body)
    }

    fn runs(&mut self) {
        let start_time = MicroTime(self.now);
        if let Some(instance) = self.last().filter(|i| i.status.state.exited.is_none()) {
            let running = Some(Running { pid: 1, start_time, adopted: false });
            instance.status.state = InstanceState { running, ..InstanceState::default() };
        }
    }

    /// The process ends, by itself or because it was told to.
    fn ends(&mut self, exit: Exit) {
        let finish_time = Some(MicroTime(self.now));
        if let Some(instance) = self.last().filter(|i| i.status.state.exited.is_none()) {
            let reason = if instance.spec.suspend { "Suspended" } else { "Whatever" }.to_owned();
            instance.status.last_exit = Some(Exit { attempt: 1, finish_time, ..exit });
            let exited = Some(Exited { reason, message: String::new() });
            instance.status.state = InstanceState { exited, ..InstanceState::default() };
        }
    }

    fn pass_time(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn told(&self) -> Value {
        let status = json!(self.run.status);
        json!({"attempts": status["attempts"], "exit": status["exit"]})
    }
}

fn code(code: i32) -> Exit {
    Exit { code: Some(code), ..Exit::default() }
}

fn signal(name: &str) -> Exit {
    Exit { signal: Some(name.to_owned()), ..Exit::default() }
}

#[test]
fn one_that_was_made_ahead_of_its_turn_began_when_its_process_did() {
    let mut world = World::new(json!({"step": {"workspace": "w", "after": "other-a1"}}));
    world.pass();
    assert_eq!(world.run.status.start_time, Some(Time(start())));
    world.pass_time(300);
    let began = Some(Time(world.now));
    world.runs();
    world.pass();
    assert_eq!(world.run.status.start_time, began);
}

#[test]
fn one_that_succeeds_is_complete_and_goes_when_its_time_is_over() {
    let mut world = World::new(json!({"ttlSecondsAfterFinished": 60}));
    assert_eq!(world.pass(), "Starting: create instance job-a1 because there was none yet");
    assert_eq!(world.pass(), "Starting");
    world.runs();
    assert_eq!(world.pass(), "Running");
    world.pass_time(5);
    world.ends(code(0));
    assert_eq!(world.pass(), "Complete");
    assert_eq!(world.told(), json!({"attempts": 1, "exit": {"code": 0}}));
    let plan = decide(&world.run, &world.observed, world.now);
    assert_eq!(plan.requeue, Requeue::At(start() + SignedDuration::from_secs(65)));
    world.pass_time(60);
    assert_eq!(world.pass(), "Complete: delete the run because it ended as long ago as it was to be kept");
}

#[test]
fn failures_are_tried_again_later_and_later_up_to_the_limit() {
    let mut world = World::new(json!({"backoffLimit": 2}));
    world.pass();
    for (pause, next) in [(10, 2), (20, 3)] {
        world.ends(code(7));
        assert_eq!(world.pass(), "BackOff");
        world.pass_time(pause - 1);
        assert_eq!(world.pass(), "BackOff");
        world.pass_time(1);
        let made = format!("Starting: create instance job-a{next} because the one before failed");
        assert_eq!(world.pass(), made);
    }
    world.ends(signal("SIGSEGV"));
    assert_eq!(world.pass(), "Failed");
    assert_eq!(world.told(), json!({"attempts": 3, "exit": {"signal": "SIGSEGV"}}));
    let failed = Condition::find(&world.run.status.conditions, "Failed").expect("failed");
    assert_eq!((failed.status, failed.reason.as_str()), (ConditionStatus::True, "BackoffLimitExceeded"));
    assert_eq!(failed.message, "attempt 3 was ended by SIGSEGV");
}

#[test]
fn one_that_is_cancelled_is_stopped_first_and_its_exit_is_kept() {
    let mut world = World::new(json!({"backoffLimit": 3}));
    world.pass();
    world.runs();
    world.run.body.spec.cancel = true;
    assert_eq!(world.pass(), "Stopping: stop instance job-a1 because it was cancelled");
    assert_eq!(world.pass(), "Stopping");
    world.ends(code(0));
    assert_eq!(world.pass(), "Canceled");
    assert_eq!(world.told(), json!({"attempts": 1, "exit": {"code": 0}}));

    let mut never = World::new(json!({"cancel": true}));
    assert_eq!(never.pass(), "Canceled");
    assert_eq!(never.told(), json!({"attempts": 0, "exit": null}));

    // It was done before anybody told it to stop.
    let mut done = World::new(json!({}));
    done.pass();
    done.ends(code(0));
    done.run.body.spec.cancel = true;
    assert_eq!(done.pass(), "Complete");
}

#[test]
fn one_that_takes_too_long_is_stopped_and_pauses_count_too() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 15, "backoffLimit": 5}));
    world.pass();
    world.pass_time(8);
    world.ends(code(1));
    assert_eq!(world.pass(), "BackOff");
    let plan = decide(&world.run, &world.observed, world.now);
    assert_eq!(plan.requeue, Requeue::At(start() + SignedDuration::from_secs(15)));
    world.pass_time(7);
    assert_eq!(world.pass(), "DeadlineExceeded");

    let mut runs = World::new(json!({"activeDeadlineSeconds": 15}));
    runs.pass();
    runs.runs();
    runs.pass_time(15);
    assert_eq!(runs.pass(), "Stopping: stop instance job-a1 because it took longer than `activeDeadlineSeconds`");
    runs.ends(signal("SIGTERM"));
    assert_eq!(runs.pass(), "DeadlineExceeded");
    assert_eq!(runs.told()["exit"], json!({"signal": "SIGTERM"}));
}

#[test]
fn what_nobody_saw_is_lost_and_no_number_is_used_again() {
    let mut world = World::new(json!({"backoffLimit": 1}));
    world.pass();
    world.ends(Exit { lost: true, ..Exit::default() });
    assert_eq!(world.pass(), "BackOff");
    world.pass_time(10);
    world.pass();
    // Somebody deletes the Instance.
    world.observed.attempts.clear();
    assert_eq!(world.pass(), "Lost");
    assert_eq!(world.told(), json!({"attempts": 2, "exit": {"lost": true}}));
}

#[test]
fn an_exit_that_was_seen_counts_though_its_instance_is_gone() {
    let mut world = World::new(json!({"backoffLimit": 1}));
    world.pass();
    world.ends(code(3));
    world.pass();
    world.observed.attempts.clear();
    assert_eq!(world.pass(), "BackOff");
    assert_eq!(world.told()["exit"], json!({"code": 3}));
}

#[test]
fn without_a_place_or_beside_leftovers_nothing_is_made() {
    let mut world = World::new(json!({}));
    world.observed.place = Err("0/1 nodes are ready".to_owned());
    assert_eq!(world.pass(), "Unschedulable");
    assert!(decide(&world.run, &world.observed, world.now).waits_for_room);
    world.observed.place = Ok(Place { node: "host-a".to_owned(), room: 1 });
    world.observed.leftovers = 1;
    assert_eq!(world.pass(), "Waiting");
    world.observed.leftovers = 0;
    assert_eq!(world.pass(), "Starting: create instance job-a1 because there was none yet");
}

#[test]
fn the_instance_of_an_attempt_is_started_once_and_says_whose_it_is() {
    let run = World::new(json!({
        "process": {"command": ["pg_dump"], "args": ["-v"]}, "args": ["--full"], "env": [{"name": "A", "value": "b"}],
        "stdin": "x", "stopSignal": "SIGINT", "terminationGracePeriodSeconds": 5,
    }));
    let plan = decide(&run.run, &run.observed, run.now);
    let [Action::CreateInstance { instance, .. }] = plan.actions.as_slice() else { panic!("one attempt") };
    let (meta, spec) = (&instance.metadata, json!(instance.spec));
    assert_eq!((meta.name.as_str(), meta.labels.get("appm.dev/run")), ("job-a1", Some("job")));
    assert_eq!((&spec["once"], &spec["restartPolicy"]), (&json!(true), &json!("Never")));
    assert_eq!(spec["process"], json!({"command": ["pg_dump"], "args": ["--full"], "stdin": "x"}));
    assert_eq!((&spec["stopSignal"], &spec["terminationGracePeriodSeconds"]), (&json!("SIGINT"), &json!(5)));
}

#[test]
fn one_that_is_suspended_goes_on_with_another_attempt_and_neither_time_nor_failures_count() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 15, "suspend": true}));
    assert_eq!(world.pass(), "Suspended");
    world.pass_time(3600);
    world.run.body.spec.suspend = false;
    assert_eq!(world.pass(), "Starting: create instance job-a1 because there was none yet");
    world.runs();
    world.pass_time(10);
    world.run.body.spec.suspend = true;
    assert_eq!(world.pass(), "Stopping: stop instance job-a1 because it was suspended");
    // It may take as long as it may, and how it ends does not matter.
    world.pass_time(10);
    assert_eq!(world.pass(), "Stopping");
    world.ends(code(0));
    assert_eq!(world.pass(), "Suspended");
    let suspended = Condition::find(&world.run.status.conditions, "Suspended").expect("said");
    assert_eq!((suspended.status, world.run.status.start_time), (ConditionStatus::True, None));
    world.pass_time(3600);
    world.run.body.spec.suspend = false;
    assert_eq!(world.pass(), "Starting: create instance job-a2 because it was resumed");
    world.ends(code(7));
    assert_eq!(world.pass(), "Failed");

    // Whoever cancels it, or whatever was done before, does not wait for anybody.
    let mut cancelled = World::new(json!({"suspend": true}));
    cancelled.pass();
    cancelled.run.body.spec.cancel = true;
    assert_eq!(cancelled.pass(), "Canceled");
    let mut done = World::new(json!({}));
    done.pass();
    done.ends(code(0));
    done.run.body.spec.suspend = true;
    assert_eq!(done.pass(), "Complete");
}

#[test]
fn one_that_a_quota_has_no_room_for_says_so_and_waits() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 30}));
    world.observed.full = Some("exceeded quota: few".to_owned());
    assert_eq!(world.pass(), "QuotaExceeded");
    let plan = decide(&world.run, &world.observed, world.now);
    assert!(plan.waits_for_room && plan.actions.is_empty());
    assert_eq!(plan.requeue, Requeue::At(start() + SignedDuration::from_secs(30)));
    world.observed.full = None;
    assert_eq!(world.pass(), "Starting: create instance job-a1 because there was none yet");
}

proptest! {
    #[test]
    fn whatever_happens_attempts_are_numbered_once_and_what_is_over_stays(
        limit in 0..4_i32,
        deadline in prop::option::of(1..60_i64),
        steps in prop::collection::vec(0..8_u8, 1..40),
    ) {
        let mut world = World::new(json!({"backoffLimit": limit, "activeDeadlineSeconds": deadline}));
        for step in steps {
            match step {
                0 => world.runs(),
                1 => world.ends(code(1)),
                2 => world.ends(code(0)),
                3 => world.ends(Exit { lost: true, ..Exit::default() }),
                4 => world.pass_time(11),
                5 => world.run.body.spec.cancel = true,
                6 => world.run.body.spec.suspend = !world.run.spec.suspend,
                _ => { world.observed.attempts.pop_last(); }
            }
            let over = world.run.status.is_over().then(|| world.run.status.clone());
            world.pass();
            if let Some(over) = over {
                prop_assert_eq!(&over, &world.run.status);
            }
            // At rest there is nothing more to do.
            let plan = decide(&world.run, &world.observed, world.now);
            prop_assert_eq!(plan.actions.len(), 0);
            prop_assert_eq!(&plan.status, &world.run.status);
        }
        let uncounted = usize::try_from(world.run.status.suspended).unwrap();
        prop_assert!(world.starts.len() <= usize::try_from(limit).unwrap() + 1 + uncounted);
        prop_assert_eq!(world.starts.len(), usize::try_from(world.run.status.attempts).unwrap());
    }
}
