//! When an Instance runs: windows, dependencies, and a clock that is set.

use super::*;
use crate::policy::window::OUTSIDE;

const DAILY: &str = "/spec/activeWindow";

fn office() -> Value {
    json!({"daily": {"from": "08:00", "to": "20:00"}})
}

fn hours(hours: i64) -> Timestamp {
    after(hours * 3600)
}

fn waits(reason: &'static str, message: &str, at: Timestamp) -> Phase {
    Phase::Waiting { reason, message: message.to_owned(), at }
}

#[test]
fn outside_its_window_nothing_runs_and_the_next_opening_is_told() {
    let windowed = instance(json!({DAILY: office()}));
    let at = |phase: Phase, now| shown(Some(&windowed), &memory(1, phase), now);
    let opens = "its active window opens at 2026-11-22T08:00:00Z";
    assert_eq!(at(Phase::Running(started(start())), hours(11)), "look again in 3600s");
    assert_eq!(at(Phase::Running(started(start())), hours(12)), "stop it because it is outside its active window");
    let wait = format!("wait because of OutsideActiveWindow: {opens}");
    assert_eq!(at(exited(OUTSIDE), hours(12)), wait);
    assert_eq!(at(exited("Suspended"), hours(12)), wait);
    assert_eq!(at(waiting(start()), hours(12)), wait);
    assert_eq!(at(waits(OUTSIDE, opens, hours(24)), hours(23)), "look again in 3600s");
    assert_eq!(at(waits(OUTSIDE, opens, hours(24)), hours(24)), "start attempt 2");
    // What ended for good does not come back with the next day.
    for reason in ["Completed", "Failed", "CrashLooping"] {
        assert_eq!(at(exited(reason), hours(12)), "-");
        assert_eq!(at(exited(reason), hours(24)), "-");
    }
    // A window that is changed is obeyed at once.
    let open = instance(json!({}));
    assert_eq!(shown(Some(&open), &memory(1, waits(OUTSIDE, opens, hours(24))), hours(13)), "start attempt 2");
}

#[test]
fn a_window_that_is_over_ends_it_for_good_until_it_is_changed() {
    let over = instance(json!({DAILY: {"notAfter": "2026-11-21T09:00:00Z"}}));
    let open = instance(json!({DAILY: {"notAfter": "2026-11-22T09:00:00Z"}}));
    assert_eq!(shown(Some(&over), &memory(1, exited(OUTSIDE)), hours(1)), "rest because of OutsideActiveWindow");
    let mut rests = memory(1, exited(OUTSIDE));
    rests.rest(OUTSIDE, "its active window does not open again".to_owned(), 1);
    assert_eq!(shown(Some(&over), &rests, hours(1)), "-");
    assert_eq!(shown(Some(&open), &rests, hours(1)), "resume because its active window is open");
}

#[test]
fn the_status_of_a_closed_window_says_when_it_opens_and_survives_a_restart_of_the_agent() {
    let windowed = instance(json!({DAILY: office()}));
    let mut memory = memory(1, Phase::Waiting { reason: "Starting", message: String::new(), at: start() });
    memory.wait(OUTSIDE, "it opens".to_owned(), hours(24));
    let status = memory.status(&windowed, &windowed.status, "127.0.0.1", hours(13)).expect("certain");
    assert_eq!(status.next_start_time.map(|at| at.0), Some(hours(24)));
    assert_eq!(status.state.waiting.as_ref().map(|w| w.reason.as_str()), Some(OUTSIDE));
    let mut back = Memory::new(&status, hours(14));
    back.adopt(&stored(&memory, &windowed), &BTreeMap::new(), hours(14));
    assert_eq!(back.phase, memory.phase);
}

#[test]
fn an_hour_that_cannot_be_told_starts_nothing_and_stops_nothing() {
    let unclear = instance(json!({DAILY: {"daily": {"from": "08:00", "to": "20:00", "timeZone": "Mars/Olympus"}}}));
    let at = |phase: Phase| shown(Some(&unclear), &memory(1, phase), hours(13));
    assert_eq!(at(Phase::Running(started(start()))), "look again in 60s");
    assert!(at(waiting(start())).starts_with("wait because of OutsideActiveWindow: no such time zone"));
}

#[test]
fn a_first_start_waits_for_what_it_depends_on_and_a_restart_does_not() {
    let runs = instance(json!({}));
    let needs = Around { needs: "waits for app db to be Ready (0 of 1)".to_owned(), ..Around::default() };
    let at = |memory: &Memory, around: &Around| decide(Some(&runs), memory, around, after(1)).action;
    let mut memory = memory(0, Phase::Waiting { reason: "Starting", message: String::new(), at: start() });
    let Some(Action::Wait { reason, message, at: due }) = at(&memory, &needs) else { panic!("it must wait") };
    memory.wait(reason, message, due);
    assert_eq!(at(&memory, &needs), None, "it is said already");
    let status = memory.status(&runs, &runs.status, "127.0.0.1", after(1)).expect("certain");
    assert_eq!(status.next_start_time, None, "nobody knows when");
    assert_eq!(at(&memory, &Around::default()), Some(Action::Start { attempt: 1 }));

    memory.begin(1);
    memory.start_answered(None, 1, started(start()));
    memory.ended(Some(&runs), 1, &ended(End::Code(1), start(), after(1)), after(1));
    memory.durable_attempt = 1;
    assert_eq!(at(&memory, &needs), Some(Action::Start { attempt: 2 }), "a crash does not wait for others");
    let (memory, _) =
        Memory::after_reboot(&stored(&self::memory(1, Phase::Running(started(start()))), &runs), after(9));
    assert!(memory.first, "after a reboot everything is a first start");
}

#[test]
fn what_others_depend_on_ends_after_them_unless_it_is_to_be_killed() {
    let needed = Around { needed_until: Some(after(20)), ..Around::default() };
    let running = memory(1, Phase::Running(started(start())));
    let plan = |object: &Object<Instance>, now| decide(Some(object), &running, &needed, now);
    let deleting = instance(json!({"/metadata/deletionTimestamp": Time(start())}));
    assert_eq!(plan(&deleting, after(1)), Plan { action: None, look_again: Some(after(20)) });
    assert!(matches!(plan(&deleting, after(20)).action, Some(Action::Stop { .. })));
    let at_once = instance(json!({
        "/metadata/deletionTimestamp": Time(start()), "/metadata/deletionGracePeriodSeconds": 0,
    }));
    assert!(matches!(plan(&at_once, after(1)).action, Some(Action::Stop { .. })));
}

#[test]
fn a_restart_is_counted_when_it_happens() {
    let runs = instance(json!({}));
    let suspended = instance(json!({"/spec/suspend": true}));
    let mut memory = memory(1, Phase::Running(started(start())));
    memory.ended(Some(&runs), 1, &ended(End::Code(1), start(), after(1)), after(1));
    assert_eq!((memory.restarts, memory.restart_due), (0, true));
    let Some(Action::Rest { reason, message }) = decide(Some(&suspended), &memory, &Around::default(), after(1)).action
    else {
        panic!("it rests")
    };
    memory.rest(reason, message, 1);
    memory.resume(after(2));
    memory.begin(2);
    assert_eq!(memory.restarts, 0, "it was suspended, so nothing was restarted");
    memory.start_answered(None, 2, started(after(2)));
    memory.ended(Some(&runs), 2, &ended(End::Code(1), after(2), after(3)), after(3));
    let waits = stored(&memory, &runs);
    let mut back = Memory::new(&waits.status, after(3));
    back.adopt(&waits, &BTreeMap::new(), after(3));
    back.begin(3);
    assert_eq!(back.restarts, 1, "by the next agent too");
}

#[test]
fn a_clock_that_is_set_back_delays_neither_a_start_nor_a_kill() {
    let runs = instance(json!({}));
    let hour_ago = after(-3600);
    assert_eq!(shown(Some(&runs), &memory(1, waiting(after(10))), hour_ago), "start attempt 2");
    assert_eq!(shown(Some(&runs), &memory(1, waiting(after(300))), start()), "look again in 300s");
    let deleting = instance(json!({"/metadata/deletionTimestamp": Time(start())}));
    let stops = memory(1, stopping(StopReason::Deleted, after(30)));
    let again = Action::Stop { reason: StopReason::Deleted, kill_at: hour_ago + SignedDuration::from_secs(30) };
    assert_eq!(decide(Some(&deleting), &stops, &Around::default(), hour_ago).action, Some(again));
    assert_eq!(shown(Some(&deleting), &stops, start()), "look again in 30s");
}
