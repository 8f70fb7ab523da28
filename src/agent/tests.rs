//! Tables of the agent's judgement, and the life of an Instance as a sequence of what happens to it.

mod health;
mod once;
mod when;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{decide::decide, memory::START_FAILED, *};
use crate::{
    api::{Instance, Object, Time},
    drivers::{Attempt, End, Ended, Reach, Started},
    policy::backoff,
};

fn start() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a time")
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

fn instance(changes: Value) -> Object<Instance> {
    let mut object = json!({
        "metadata": {"name": "web-1-0", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {"nodeName": "host-a", "revision": "web-1", "process": {"command": ["a"]}},
    });
    for (path, value) in changes.as_object().expect("a map") {
        *object
            .pointer_mut(path.rsplit_once('/').expect("a pointer").0)
            .expect("there")
            .as_object_mut()
            .expect("a map")
            .entry(path.rsplit_once('/').expect("a pointer").1)
            .or_insert(Value::Null) = value.clone();
    }
    serde_json::from_value(object).expect("a valid instance")
}

fn started(at: Timestamp) -> Started {
    Started { pid: 42, start_time: at, adopted: false }
}

fn ended(end: End, from: Timestamp, to: Timestamp) -> Ended {
    Ended { end, oom_killed: false, start_time: from, finish_time: to }
}

/// A memory in a phase, everything durable.
fn memory(attempt: u32, phase: Phase) -> Memory {
    let mut memory = Memory::new(&Default::default(), start());
    (memory.attempt, memory.durable_attempt, memory.phase) = (attempt, attempt, phase);
    memory
}

fn exited(reason: &str) -> Phase {
    Phase::Exited { reason: reason.to_owned(), message: String::new(), generation: 1 }
}

fn waiting(at: Timestamp) -> Phase {
    Phase::Waiting { reason: "BackOff", message: String::new(), at }
}

fn stopping(reason: StopReason, signal_at: Timestamp) -> Phase {
    Phase::Stopping { started: started(start()), reason, kill_at: after(30), signal_at }
}

fn shown(instance: Option<&Object<Instance>>, memory: &Memory, now: Timestamp) -> String {
    let plan = decide(instance, memory, &Around::default(), now);
    match (plan.action, plan.look_again) {
        (Some(action), _) => action.to_string(),
        (None, Some(at)) => format!("look again in {}s", at.duration_since(now).as_secs()),
        (None, None) => "-".to_owned(),
    }
}

#[test]
fn the_table_of_now_and_wanted() {
    let runs = instance(json!({}));
    let suspended = instance(json!({"/spec/suspend": true}));
    let deleting = instance(json!({"/metadata/deletionTimestamp": Time(start())}));
    let wanted = [Some(&runs), Some(&suspended), Some(&deleting), None];
    let now = after(10);
    let rows = [
        ("unknown", Phase::Unknown),
        ("waiting, due", waiting(start())),
        ("waiting, not due", waiting(after(15))),
        ("starting", Phase::Starting),
        ("doubtful", Phase::Doubtful),
        ("running", Phase::Running(started(start()))),
        ("stopping, deleted, due", stopping(StopReason::Deleted, start())),
        ("stopping, suspended, signalled", stopping(StopReason::Suspended, after(30))),
        ("exited, completed", exited("Completed")),
        ("exited, suspended", exited("Suspended")),
        ("removing", Phase::Removing),
        ("removed", Phase::Removed),
        ("released", Phase::Released),
    ];
    let table: Vec<String> = rows
        .into_iter()
        .map(|(name, phase)| {
            let memory = memory(1, phase);
            format!("{name}: {}", wanted.map(|w| shown(w, &memory, now)).join(" | "))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"), @"
    unknown: - | - | - | -
    waiting, due: start attempt 2 | rest | remove it from the machine | remove it from the machine
    waiting, not due: look again in 5s | rest | remove it from the machine | remove it from the machine
    starting: - | - | - | -
    doubtful: - | - | - | -
    running: - | stop it because it is suspended | stop it because it is deleted | stop it because it is deleted
    stopping, deleted, due: send signal 15 | send signal 15 | send signal 15 | send signal 15
    stopping, suspended, signalled: look again in 20s | look again in 20s | stop it because it is deleted | stop it because it is deleted
    exited, completed: - | rest | remove it from the machine | remove it from the machine
    exited, suspended: resume because it is no longer suspended | - | remove it from the machine | remove it from the machine
    removing: - | - | - | -
    removed: - | - | release it | release it
    released: - | - | - | -
    ");
}

#[test]
fn the_next_attempt_waits_until_the_one_before_is_durable() {
    let runs = instance(json!({}));
    let mut memory = memory(3, waiting(start()));
    memory.durable_attempt = 2;
    assert_eq!(shown(Some(&runs), &memory, after(1)), "-");
    memory.durable_attempt = 3;
    assert_eq!(shown(Some(&runs), &memory, after(1)), "start attempt 4");
}

#[test]
fn an_instance_is_removed_only_when_its_exit_is_durable() {
    let deleting = instance(json!({"/metadata/deletionTimestamp": Time(start())}));
    let mut memory = memory(1, Phase::Running(started(start())));
    memory.ended(Some(&deleting), 1, &ended(End::Code(0), start(), after(1)), after(1));
    assert_eq!(shown(Some(&deleting), &memory, after(1)), "-");
    memory.durable_exit = 1;
    assert_eq!(shown(Some(&deleting), &memory, after(1)), "remove it from the machine");
}

#[test]
fn the_grace_period_ends_with_sigkill_to_all_of_it_again_and_again() {
    let deleting = instance(json!({"/metadata/deletionTimestamp": Time(start()), "/spec/stopSignal": "SIGINT"}));
    let at = |signal_at, now| {
        decide(Some(&deleting), &memory(1, stopping(StopReason::Deleted, signal_at)), &Around::default(), now)
    };
    let signal = |signal, reach, next| Some(Action::Signal { signal, reach, next });
    assert_eq!(at(start(), start()).action, signal(2, Reach::Process, after(30)));
    assert_eq!(at(after(30), after(29)).look_again, Some(after(30)));
    assert_eq!(at(after(30), after(30)).action, signal(9, Reach::Tree, after(35)));
}

#[test]
fn a_deletion_without_grace_kills_what_was_stopping_gently() {
    let now = after(1);
    let deleting = instance(json!({
        "/metadata/deletionTimestamp": Time(start()), "/metadata/deletionGracePeriodSeconds": 0,
    }));
    let plan = decide(Some(&deleting), &memory(1, stopping(StopReason::Suspended, after(30))), &Around::default(), now);
    assert_eq!(plan.action, Some(Action::Stop { reason: StopReason::Deleted, kill_at: now }));
}

#[test]
fn what_ended_for_good_starts_again_when_somebody_asks() {
    let asked = instance(json!({"/spec/restartedAt": "2026-11-21T08:00:00Z"}));
    let changed = instance(json!({"/metadata/generation": 2}));
    let plain = instance(json!({}));
    for (object, reason, expected) in [
        (&asked, "Failed", "resume because a restart was asked for"),
        (&asked, "CrashLooping", "resume because a restart was asked for"),
        (&changed, "CrashLooping", "resume because its spec changed"),
        (&changed, "Failed", "-"),
        (&plain, "CrashLooping", "-"),
        (&plain, "Suspended", "resume because it is no longer suspended"),
    ] {
        assert_eq!(shown(Some(object), &memory(1, exited(reason)), after(1)), expected, "{reason}");
    }
}

#[test]
fn a_draining_agent_stops_what_runs_and_touches_nothing_else() {
    let runs = instance(json!({}));
    let draining = Around { draining: true, ..Around::default() };
    let action = |phase| decide(Some(&runs), &memory(1, phase), &draining, after(1)).action;
    assert!(matches!(action(Phase::Running(started(start()))), Some(Action::Stop { .. })));
    assert_eq!(
        (action(waiting(start())), action(exited("Completed")), action(exited("Suspended"))),
        (None, None, None)
    );
}

/// Lets an instance crash `lifetimes` long after each start; returns the pauses before the next starts.
fn pauses(instance: &Object<Instance>, lifetimes: &[i64]) -> Vec<String> {
    let mut memory = memory(0, waiting(start()));
    let mut now = start();
    let mut pauses = Vec::new();
    for seconds in lifetimes {
        memory.attempt += 1;
        memory.phase = Phase::Starting;
        memory.start_answered(None, memory.attempt, started(now));
        let end = now + SignedDuration::from_secs(*seconds);
        memory.ended(Some(instance), memory.attempt, &ended(End::Code(1), now, end), end);
        match &memory.phase {
            Phase::Waiting { at, .. } => {
                // Shortened by up to a quarter at random.
                pauses.push((at.duration_since(end).as_millis() as f64 / 1000.0).ceil().to_string());
                now = *at;
            }
            Phase::Exited { reason, .. } => pauses.push(reason.clone()),
            other => panic!("{other:?}"),
        }
    }
    pauses
}

#[test]
fn crash_looping_app_backs_off_then_recovers() {
    let default = instance(json!({}));
    assert_eq!(pauses(&default, &[1, 1, 1, 1, 60, 1, 59]), ["0", "1", "2", "4", "0", "1", "2"]);
    let quick = instance(json!({"/spec/restart": {"backoff": {"initial": "0", "max": "0"}}}));
    assert_eq!(pauses(&quick, &[0, 0, 0]), ["0", "0", "0"]);
    let limited = instance(json!({"/spec/restart": {"maxRestarts": 2}}));
    assert_eq!(pauses(&limited, &[1, 1, 1]), ["0", "1", "CrashLooping"]);
    assert_eq!(pauses(&limited, &[1, 1, 60]), ["0", "1", "0"]);
}

#[test]
fn an_exit_after_we_asked_for_it_is_not_judged_by_the_policy() {
    let runs = instance(json!({"/spec/restartPolicy": "Never", "/spec/restart": {"exitCodes": {"SIGTERM": "Remove"}}}));
    for (reason, phase) in
        [(StopReason::Restarted, "Starting"), (StopReason::Suspended, "Suspended"), (StopReason::Deleted, "Deleted")]
    {
        let mut memory = memory(1, stopping(reason, after(30)));
        memory.ended(Some(&runs), 1, &ended(End::Signal(15), start(), after(1)), after(1));
        let seen = match &memory.phase {
            Phase::Waiting { reason, .. } => (*reason).to_owned(),
            Phase::Exited { reason, .. } => reason.clone(),
            other => format!("{other:?}"),
        };
        assert_eq!((seen.as_str(), memory.restarts), (phase, 0));
    }
}

#[test]
fn a_report_that_comes_twice_or_early_counts_once() {
    let runs = instance(json!({}));
    let mut memory = memory(1, Phase::Starting);
    let end = ended(End::Code(3), start(), after(1));
    assert_eq!(memory.ended(Some(&runs), 1, &end, after(1)).len(), 1);
    let once = memory.clone();
    assert_eq!(memory.ended(Some(&runs), 1, &end, after(2)), []);
    assert_eq!(memory.start_answered(None, 1, started(start())), []);
    assert_eq!(memory, once);
    assert_eq!((memory.restart_due, memory.consecutive, memory.exit_attempt()), (true, 1, 1));
}

#[test]
fn an_observation_older_than_the_report_of_an_end_revives_nothing() {
    let runs = instance(json!({}));
    let mut memory = memory(1, Phase::Starting);
    memory.ended(Some(&runs), 1, &ended(End::Code(3), start(), after(1)), after(1));
    let once = memory.clone();
    memory.confirm_running(1, &started(start()));
    assert_eq!(memory, once);
}

#[test]
fn what_is_missing_uses_up_no_attempt_and_neither_a_restart_nor_the_clock_makes_it_spin() {
    let web =
        instance(json!({"/spec/restartedAt": "now", "/spec/restart": {"backoff": {"initial": "1ms", "max": "1ms"}}}));
    let mut memory = memory(3, waiting(start()));
    let notes = memory.unconfigured("no such thing".to_owned(), start());
    assert_eq!((memory.attempt, memory.restarts, notes.len()), (3, 0, 1));
    assert!(memory.unconfigured("no such thing".to_owned(), start()).is_empty(), "it is told once");
    let plan = |now| decide(Some(&web), &memory, &Around::default(), now);
    assert_eq!((plan(start()).action, plan(start()).look_again), (None, Some(after(10))));
    assert_eq!(plan(after(10)).action, Some(Action::Start { attempt: 4 }));
    assert_eq!(plan(after(-3600)).action, Some(Action::Start { attempt: 4 }), "the clock was set back");
    let status = memory.status(&web, &Default::default(), "", start()).expect("a status");
    assert_eq!(status.next_start_time, None, "somebody's doing ends it, not time");
    let mut again = Memory::new(&status, start());
    again.adopt(&instance(json!({"/status": status})), &BTreeMap::new(), start());
    let phase = Phase::Waiting { reason: "ConfigError", message: "no such thing".to_owned(), at: start() };
    assert_eq!(again.phase, phase);
}

#[test]
fn a_refused_start_uses_up_its_attempt_and_backs_off_from_the_first_time() {
    let runs = instance(json!({}));
    let mut memory = memory(1, Phase::Starting);
    memory.start_refused(Some(&runs), 1, START_FAILED, "no such program `x`", start());
    let pause = backoff::restart(&runs.spec.restart.backoff, 1, backoff::spread("u", 1));
    let at = start() + SignedDuration::try_from(pause).expect("short");
    let message = "no such program `x`".to_owned();
    assert_eq!(memory.phase, Phase::Waiting { reason: "StartFailed", message, at });
    let status = memory.status(&runs, &runs.status, "127.0.0.1", start()).expect("certain");
    let exit = status.last_exit.expect("an exit");
    assert_eq!((exit.attempt, exit.message.as_str(), exit.code, exit.lost), (1, "no such program `x`", None, false));

    let never = instance(json!({"/spec/restartPolicy": "Never"}));
    let mut memory = self::memory(1, Phase::Starting);
    memory.start_refused(Some(&never), 1, START_FAILED, "no", start());
    assert!(matches!(memory.phase, Phase::Exited { ref reason, .. } if reason == "Failed"));
}

/// The status that a memory shows, as the store would give it back.
fn stored(memory: &Memory, of: &Object<Instance>) -> Object<Instance> {
    let mut object = of.clone();
    object.body.status = memory.status(of, &of.status, "127.0.0.1", after(1)).expect("certain");
    object
}

#[test]
fn a_new_agent_adopts_what_the_driver_says() {
    let runs = instance(json!({}));
    let running = stored(&memory(2, Phase::Running(started(start()))), &runs);
    let backing_off = {
        let mut memory = memory(2, Phase::Running(started(start())));
        memory.ended(Some(&runs), 2, &ended(End::Code(1), start(), after(1)), after(1));
        stored(&memory, &runs)
    };
    let run = Attempt::Running(started(after(2)));
    let end = Attempt::Ended(ended(End::Code(9), start(), after(2)));
    let none = || BTreeMap::new();
    for (name, object, attempts, expected) in [
        ("it still runs", &running, BTreeMap::from([(2, run.clone())]), "attempt 2, exit 0, running"),
        ("it ended meanwhile", &running, BTreeMap::from([(2, end.clone())]), "attempt 2, exit 2, waiting"),
        (
            "it was restarted unrecorded",
            &running,
            BTreeMap::from([(2, end.clone()), (3, run.clone())]),
            "attempt 3, exit 2, running",
        ),
        ("nobody knows", &running, none(), "attempt 2, exit 2, waiting"),
        ("it waits", &backing_off, none(), "attempt 2, exit 2, waiting"),
        (
            "it waits, the exit is not acknowledged",
            &backing_off,
            BTreeMap::from([(2, end.clone())]),
            "attempt 2, exit 2, waiting",
        ),
        ("its first start was unrecorded", &runs, BTreeMap::from([(1, run.clone())]), "attempt 1, exit 0, running"),
        ("it is new", &runs, none(), "attempt 0, exit 0, waiting"),
    ] {
        let mut memory = Memory::new(&object.status, after(3));
        memory.adopt(object, &attempts, after(3));
        let phase = match memory.phase {
            Phase::Running(_) => "running",
            Phase::Waiting { .. } => "waiting",
            _ => "something else",
        };
        assert_eq!(format!("attempt {}, exit {}, {phase}", memory.attempt, memory.exit_attempt()), expected, "{name}");
        let kept: Vec<u32> = attempts.iter().filter(|(_, a)| matches!(a, Attempt::Ended(_))).map(|(n, _)| *n).collect();
        assert_eq!(memory.unacknowledged.into_iter().collect::<Vec<_>>(), kept, "{name}");
    }
}

#[test]
fn a_reboot_loses_what_ran_and_skips_one_number() {
    let runs = instance(json!({}));
    let running = stored(&memory(2, Phase::Running(started(start()))), &runs);
    let (memory, notes) = Memory::after_reboot(&running, after(9));
    assert_eq!((memory.attempt, memory.exit_attempt(), notes.len()), (3, 2, 1));
    assert!(memory.last_exit.as_ref().is_some_and(|exit| exit.lost));
    assert!(matches!(memory.phase, Phase::Waiting { .. }));

    let (memory, notes) = Memory::after_reboot(&runs, after(9));
    assert_eq!((memory.attempt, memory.exit_attempt(), notes.len()), (1, 0, 0));
}

#[test]
fn a_status_survives_the_way_through_the_store() {
    let runs = instance(json!({}));
    for phase in [
        waiting(after(5)),
        Phase::Running(started(start())),
        stopping(StopReason::Restarted, after(3)),
        exited("CrashLooping"),
    ] {
        let before = memory(2, phase.clone());
        let object = stored(&before, &runs);
        let mut back = Memory::new(&object.status, after(3));
        let run = BTreeMap::from([(2, Attempt::Running(started(start())))]);
        let seen = if before.started().is_some() { run } else { BTreeMap::new() };
        back.adopt(&object, &seen, after(3));
        assert_eq!(back.phase, phase);
    }
}

#[test]
fn a_number_of_another_boot_is_nobody() {
    let running = json!({"pid": 4711, "startTime": "2026-11-21T07:00:00Z", "adopted": true});
    for status in [
        json!({"attempt": 1, "state": {"running": running}}),
        json!({}),
        json!({"state": {"exited": {"reason": "Suspended"}}}),
    ] {
        let taking = instance(json!({"/spec/process": {"adopt": {"pid": 4711}}, "/status": status}));
        let (mut memory, _) = Memory::after_reboot(&taking, after(3));
        memory.durable_attempt = memory.attempt;
        let said = shown(Some(&taking), &memory, after(3));
        let is_over = matches!(&memory.phase, Phase::Exited { reason, .. } if reason == "Lost");
        assert!(is_over || said == "rest because of Lost", "{memory:?}: {said}");
    }
}
