//! What hooks and probes lead to.

use super::*;
use crate::{
    api::{Condition, InstanceStatus},
    drivers::{CheckState, ImageCheck},
    policy::probe::{Purpose, Turn},
};

fn probed(changes: Value) -> Object<Instance> {
    let mut all = json!({
        "/spec/startupProbe": {"tcpSocket": {"port": 1}},
        "/spec/readinessProbe": {"tcpSocket": {"port": 1}},
        "/spec/livenessProbe": {"tcpSocket": {"port": 1}},
        "/spec/terminationGracePeriodSeconds": 30,
    });
    changes.as_object().expect("a map").iter().for_each(|(path, value)| all[path] = value.clone());
    instance(all)
}

fn running() -> Memory {
    memory(1, Phase::Running(started(start())))
}

fn status(memory: &Memory, of: &Object<Instance>) -> InstanceStatus {
    memory.status(of, &of.status, "127.0.0.1", after(1)).expect("certain")
}

/// `True Running`, and whether it has started.
fn ready(memory: &Memory, of: &Object<Instance>) -> String {
    let status = status(memory, of);
    let ready = Condition::find(&status.conditions, "Ready").expect("it is judged");
    format!("{:?} {} {:?} {}", ready.status, ready.reason, status.started.unwrap_or(false), ready.message)
}

#[test]
fn readiness_is_what_hooks_and_probes_say() {
    let (plain, hooked) =
        (instance(json!({})), instance(json!({"/spec/lifecycle": {"postStart": {"sleep": {"seconds": 1}}}})));
    let all = probed(json!({"/spec/lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}));
    let mut memory = running();
    assert_eq!(ready(&memory, &plain), "True Running true ");
    assert_eq!(ready(&memory, &hooked), "False Starting false ");
    assert_eq!(ready(&memory, &all), "False Starting false ");
    memory.health.post_started = true;
    assert_eq!(ready(&memory, &hooked), "True Running true ");
    assert_eq!(ready(&memory, &all), "False Starting false ");
    memory.health.turn(Turn::Started, String::new(), None);
    assert_eq!(ready(&memory, &all), "False Starting true ");
    memory.health.turn(Turn::Unready, "Readiness probe failed: no".to_owned(), None);
    assert_eq!(ready(&memory, &all), "False ProbeFailed true Readiness probe failed: no");
    memory.health.turn(Turn::Ready, String::new(), None);
    memory.health.says("open".to_owned());
    assert_eq!(ready(&memory, &all), "True ProbeSucceeded true open");
    assert_eq!(ready(&memory, &plain), "True Running true open", "probes are live");
}

#[test]
fn the_check_of_an_image_counts_where_no_readiness_probe_is_declared() {
    let check = |state, said: &str| Some(ImageCheck { state, said: said.to_owned() });
    let (plain, all) = (instance(json!({})), probed(json!({})));
    let started_late = instance(json!({"/spec/startupProbe": {"tcpSocket": {"port": 1}}}));
    let mut memory = running();
    assert_eq!(memory.health.checked(check(CheckState::Starting, ""), &plain.spec), None);
    assert_eq!(ready(&memory, &plain), "False Starting true The image's HEALTHCHECK says starting");
    let told = memory.health.checked(check(CheckState::Unhealthy, "refused"), &plain.spec);
    assert_eq!(told.as_deref(), Some("The image's HEALTHCHECK says unhealthy: refused"));
    assert_eq!(memory.health.checked(check(CheckState::Unhealthy, "still"), &plain.spec), None, "told once");
    assert_eq!(ready(&memory, &plain), "False HealthCheckFailed true The image's HEALTHCHECK says unhealthy: still");
    memory.health.checked(check(CheckState::Healthy, "fine"), &plain.spec);
    assert_eq!(ready(&memory, &plain), "True HealthCheckSucceeded true ");
    assert_eq!(ready(&memory, &started_late), "False Starting false ", "a startup probe is waited for");

    let mut memory = running();
    assert_eq!(memory.health.checked(check(CheckState::Unhealthy, "refused"), &all.spec), None);
    memory.health.turn(Turn::Started, String::new(), None);
    memory.health.turn(Turn::Ready, String::new(), None);
    assert_eq!(ready(&memory, &all), "True ProbeSucceeded true ");
}

#[test]
fn a_new_agent_knows_what_the_status_says() {
    let all = probed(json!({"/spec/lifecycle": {"preStop": {"sleep": {"seconds": 9}}}}));
    let mut before = running();
    before.health.turn(Turn::Started, String::new(), None);
    let again = |memory: &Memory| {
        let mut next = Memory::new(&status(memory, &all), after(2));
        next.adopt(&all, &BTreeMap::from([(1, Attempt::Running(started(start())))]), after(2));
        next
    };
    assert_eq!(ready(&again(&before), &all), "False Starting true ");
    before.health.turn(Turn::Unready, "no".to_owned(), None);
    assert_eq!(ready(&again(&before), &all), "False ProbeFailed true no");
    before.health.turn(Turn::Ready, String::new(), None);
    assert_eq!(ready(&again(&before), &all), "True ProbeSucceeded true ");
    // An attempt that the store does not know of has its start before it.
    let mut next = Memory::new(&status(&before, &all), after(2));
    next.adopt(&all, &BTreeMap::from([(2, Attempt::Running(started(after(1))))]), after(2));
    assert_eq!(ready(&next, &all), "False Starting false ");
    before.begin_pre_stop(Some(&all), after(30), start());
    before.phase = stopping(StopReason::Deleted, start());
    assert!(status(&before, &all).state.stopping.expect("it stops").pre_stop);
    assert!(Memory::new(&status(&before, &all), after(2)).health.pre_stop, "the hook is still to be waited for");
}

#[test]
fn what_is_of_no_use_is_stopped_and_started_again_however_it_ends() {
    let all = probed(json!({"/spec/restart": {"exitCodes": {"0": "Stop"}}}));
    let mut memory = running();
    memory.health.turn(Turn::Dead(Purpose::Liveness), "Liveness probe failed: no".to_owned(), Some(5));
    let plan = decide(Some(&all), &memory, &Around::default(), after(100));
    assert_eq!(plan.action, Some(Action::Stop { reason: StopReason::Unhealthy, kill_at: after(105) }));
    assert_eq!(ready(&memory, &all), "False Unhealthy false Liveness probe failed: no");
    memory.phase = Phase::Stopping {
        started: started(start()),
        reason: StopReason::Unhealthy,
        kill_at: after(105),
        signal_at: after(100),
    };
    memory.ended(Some(&all), 1, &ended(End::Code(0), start(), after(101)), after(101));
    assert!(matches!(memory.phase, Phase::Waiting { reason: "Starting", .. }), "{:?}", memory.phase);
    let never = probed(json!({"/spec/restartPolicy": "Never"}));
    let mut memory = running();
    memory.health.turn(Turn::Dead(Purpose::Startup), "it hangs".to_owned(), None);
    memory.phase = stopping(StopReason::Unhealthy, start());
    memory.ended(Some(&never), 1, &ended(End::Signal(15), start(), after(9)), after(9));
    let Phase::Exited { reason, message, .. } = &memory.phase else { panic!("{:?}", memory.phase) };
    assert_eq!((reason.as_str(), message.as_str()), ("Failed", "it hangs; attempt 1 was ended by SIGTERM"));
}

#[test]
fn a_probe_may_give_more_grace_than_the_app() {
    let patient = probed(json!({
        "/spec/livenessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 600},
    }));
    let mut memory = running();
    memory.phase = Phase::Stopping {
        started: started(start()),
        reason: StopReason::Unhealthy,
        kill_at: after(600),
        signal_at: after(600),
    };
    assert_eq!(shown(Some(&patient), &memory, after(1)), "look again in 599s");
    memory.phase = Phase::Stopping {
        started: started(start()),
        reason: StopReason::Deleted,
        kill_at: after(600),
        signal_at: after(600),
    };
    assert_eq!(shown(Some(&patient), &memory, after(1)), "stop it because it is deleted");
}

#[test]
fn the_stop_signal_waits_for_the_hook_and_no_longer_than_the_grace() {
    let hooked = instance(json!({"/spec/lifecycle": {"preStop": {"sleep": {"seconds": 9}}}}));
    let mut memory = running();
    memory.begin_pre_stop(Some(&hooked), after(30), start());
    memory.phase = stopping(StopReason::Deleted, start());
    assert_eq!(shown(Some(&hooked), &memory, after(1)), "look again in 31s");
    memory.pre_stop_ended(after(9));
    assert_eq!(shown(Some(&hooked), &memory, after(9)), "send signal 15");
    memory.begin_pre_stop(Some(&hooked), after(30), after(10));
    assert!(!memory.health.pre_stop, "it is not begun twice");
    let mut late = running();
    late.begin_pre_stop(Some(&hooked), after(30), start());
    late.phase = stopping(StopReason::Deleted, start());
    late.pre_stop_ended(after(30));
    assert_eq!(shown(Some(&hooked), &late, after(30)), "send signal 15", "however late, the signal comes first");
    let mut hurried = running();
    hurried.begin_pre_stop(Some(&hooked), start(), start());
    assert!(!hurried.health.pre_stop, "without grace there is no time for it");
}

#[test]
fn whoever_asks_for_more_time_to_stop_gets_it_and_is_not_asked_again() {
    let plain = instance(json!({}));
    let stopping =
        |reason| Phase::Stopping { started: started(start()), reason, kill_at: after(30), signal_at: after(30) };
    let mut memory = memory(1, stopping(StopReason::Restarted));
    memory.extend_stop(SignedDuration::from_secs(5), after(20));
    let plan = |memory: &Memory, at| decide(Some(&plain), memory, &Around::default(), after(at));
    assert_eq!(plan(&memory, 25).look_again, Some(after(30)), "it had more than that");
    memory.extend_stop(SignedDuration::from_secs(120), after(20));
    assert_eq!(plan(&memory, 31), Plan { action: None, look_again: Some(after(140)) });
    assert!(matches!(plan(&memory, 140).action, Some(Action::Signal { signal: 9, .. })));
    let mut deleted = plain.clone();
    deleted.metadata.deletion_timestamp = Some(Time(after(31)));
    deleted.metadata.deletion_grace_period_seconds = Some(0);
    let plan = decide(Some(&deleted), &memory, &Around::default(), after(31));
    assert!(matches!(plan.action, Some(Action::Stop { kill_at, .. }) if kill_at == after(31)), "{plan:?}");
}
