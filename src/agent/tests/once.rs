//! An Instance that is started once at most: what is written down before its start, and what a reboot makes of it.

use super::*;

fn once() -> Object<Instance> {
    instance(json!({"/spec/once": true, "/spec/restartPolicy": "Never"}))
}

fn due() -> Phase {
    Phase::Waiting { reason: "Starting", message: String::new(), at: start() }
}

#[test]
fn its_start_is_written_down_first_and_made_once() {
    let (once, now) = (once(), start());
    let mut memory = memory(0, due());
    assert_eq!(shown(Some(&once), &memory, now), "write down that attempt 1 is to be started");
    memory.attempt = 1;
    assert_eq!(shown(Some(&once), &memory, now), "-", "not before it is on disk");
    memory.durable_attempt = 1;
    assert_eq!(shown(Some(&once), &memory, now), "start attempt 1");
    memory.begin(1);
    memory.start_answered(Some(&once), 1, started(now));
    memory.ended(Some(&once), 1, &ended(End::Code(0), now, after(1)), after(1));
    assert_eq!(shown(Some(&once), &memory, after(2)), "-");
}

#[test]
fn one_that_was_made_ahead_waits_for_its_turn_without_a_word() {
    let (once, memory) = (once(), memory(0, due()));
    let in_row = Around { stands_in_row: true, ..Around::default() };
    assert_eq!(decide(Some(&once), &memory, &in_row, start()).action, None);
    assert_eq!(decide(Some(&once), &memory, &Around::default(), start()).action, Some(Action::Intend { attempt: 1 }));
}

#[test]
fn what_was_stopped_with_the_server_or_by_its_run_is_not_started_again() {
    let (once, suspended) = (once(), instance(json!({"/spec/once": true, "/spec/suspend": true})));
    for reason in ["Suspended", "Completed", "Lost"] {
        let memory = memory(1, exited(reason));
        assert_eq!(
            (shown(Some(&once), &memory, after(1)), shown(Some(&suspended), &memory, after(1))),
            ("-".into(), "-".into())
        );
    }
    // One that never began may begin.
    let memory = memory(0, exited("Suspended"));
    assert_eq!(shown(Some(&once), &memory, after(1)), "resume because it is no longer suspended");
}

#[test]
fn after_a_reboot_what_was_written_down_is_lost_and_what_was_not_is_started() {
    let with = |status: Value| -> Object<Instance> {
        let mut once = once();
        once.body.status = serde_json::from_value(status).expect("a status");
        once
    };
    let told = |status: Value| {
        let instance = with(status);
        let (memory, _) = Memory::after_reboot(&instance, after(60));
        let status = memory.status(&instance, &instance.status, "", after(60)).expect("it is told");
        let exit = status.last_exit.map(|exit| (exit.attempt, exit.lost, exit.code));
        (status.attempt, exit, status.state.exited.map(|exited| exited.reason))
    };
    let waiting = json!({"waiting": {"reason": "Starting"}});
    let running = json!({"running": {"pid": 7, "startTime": "2026-11-21T08:00:00Z"}});
    let completed = json!({"exited": {"reason": "Completed"}});
    assert_eq!(told(json!({})), (0, None, None));
    // Written down by whoever made it.
    assert_eq!(told(json!({"attempt": 1})), (1, Some((1, true, None)), Some("Lost".to_owned())));
    assert_eq!(told(json!({"attempt": 1, "state": waiting})), (1, Some((1, true, None)), Some("Lost".to_owned())));
    assert_eq!(told(json!({"attempt": 1, "state": running})), (1, Some((1, true, None)), Some("Lost".to_owned())));
    let done = json!({"attempt": 1, "state": completed, "lastExit": {"attempt": 1, "code": 0}});
    assert_eq!(told(done), (1, Some((1, false, Some(0))), Some("Completed".to_owned())));
}
