//! Tables of rollouts: bounds, drains, deadlines, pauses and the way back.

use jiff::SignedDuration;
use serde_json::json;

use super::{
    tests::{World, exited, set_ready, spec, start},
    *,
};
use crate::api::{Condition, Endpoint, InstanceState, MicroTime, RESTARTED_AT, Running};

fn web(replicas: i32) -> World {
    let mut world = World::new(json!({
        "replicas": replicas, "process": {"command": ["a"]}, "ports": [{"name": "http"}],
    }));
    world.settle();
    world
}

fn endpoints(world: &World) -> Vec<String> {
    let word = |e: &Endpoint| match (e.ready, e.terminating) {
        (true, false) => "ready",
        (false, true) => "terminating",
        _ => "odd",
    };
    let shown = |e: &Endpoint| format!("{} {}", e.instance.replace("web-", ""), word(e));
    world.app().body.status.endpoints.iter().map(shown).collect()
}

/// Passes and the agent's work until nothing moves, each pass in a line.
fn log(world: &mut World) -> Vec<String> {
    let mut log = Vec::new();
    for _ in 0..20 {
        let shown = world.shown().join("; ");
        world.pass();
        world.agent();
        if shown.is_empty() && world.shown().is_empty() {
            break;
        }
        log.push(shown);
        world.now += SignedDuration::from_secs(1);
    }
    log
}

#[test]
fn an_instance_that_serves_is_taken_off_the_endpoints_before_it_is_deleted() {
    let mut world = web(2);
    world.change("process", json!({"command": ["b"]}));
    world.pass();
    world.agent();
    assert_eq!(endpoints(&world), ["afd47f-0 ready", "afd47f-1 ready"], "the new one was not seen to be ready yet");
    world.pass();
    let first = ["08dbaf-0 ready", "afd47f-0 terminating", "afd47f-1 ready"];
    assert_eq!(endpoints(&world), first, "in the commit in which it is told so");
    assert_eq!(world.observed.instances.len(), 4);
    let plan = world.plan();
    assert_eq!((plan.actions.len(), plan.requeue), (0, Requeue::At(world.now + SignedDuration::from_secs(1))));
    world.now += SignedDuration::from_secs(1);
    assert_eq!(world.shown(), ["delete instance afd47f-0 because the template changed"]);
    world.pass();
    assert_eq!(endpoints(&world), ["08dbaf-0 ready", "afd47f-1 ready"], "in the commit in which it is deleted");
}

#[test]
fn an_instance_that_is_wanted_again_while_it_is_drained_comes_back() {
    let mut world = web(2);
    world.change("replicas", json!(1));
    world.pass();
    assert_eq!(endpoints(&world), ["afd47f-0 ready", "afd47f-1 terminating"]);
    world.change("replicas", json!(2));
    assert_eq!(log(&mut world), ["update instance afd47f-1 because the app's live fields or labels changed"]);
    assert_eq!(endpoints(&world), ["afd47f-0 ready", "afd47f-1 ready"]);
}

#[test]
fn nobody_is_drained_where_nobody_else_serves_or_the_author_has_a_hook() {
    let mut alone = web(1);
    alone.change("replicas", json!(0));
    assert_eq!(alone.shown(), ["delete instance afd47f-0 because it is beyond the number of replicas"]);

    let mut hook = web(2);
    hook.change("lifecycle", json!({"preStop": {"sleep": {"seconds": 3}}}));
    hook.settle();
    hook.change("replicas", json!(1));
    assert_eq!(hook.shown(), ["delete instance afd47f-1 because it is beyond the number of replicas"]);
    hook.pass();
    assert_eq!(endpoints(&hook), ["afd47f-0 ready"]);
}

#[test]
fn a_restart_in_place_is_off_the_endpoints_before_the_agent_hears_of_it() {
    let mut world = web(2);
    world.app["metadata"]["annotations"] = json!({ RESTARTED_AT: "now" });
    world.pass();
    assert_eq!(endpoints(&world), ["afd47f-0 terminating", "afd47f-1 ready"]);
    assert!(world.observed.instances.iter().all(|i| i.spec.restarted_at.is_empty()));
    world.now += SignedDuration::from_secs(1);
    world.pass();
    assert_eq!(endpoints(&world), ["afd47f-1 ready"]);
    assert_eq!(world.observed.instances[0].spec.restarted_at, "now");
    assert_eq!(world.observed.instances[0].spec.drain_until, None);
}

#[test]
fn a_suspended_app_has_no_endpoints_and_a_huge_one_not_more_than_a_thousand() {
    let mut world = web(1200);
    assert_eq!(world.app().body.status.endpoints.len(), 1000);
    world.change("suspend", json!(true));
    world.pass();
    assert_eq!(endpoints(&world), [""; 0]);
}

#[test]
fn instances_with_one_fixed_port_are_exchanged_one_after_another() {
    let mut world = World::new(spec(1));
    world.change("ports", json!([{"name": "http", "containerPort": 8080}]));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    insta::assert_debug_snapshot!(log(&mut world), @r#"
    [
        "create revision 6a2f81 as number 2; delete instance d32a8c-0 because the template changed",
        "create instance 6a2f81-0 because an instance is missing",
    ]
    "#);
    world.change("process", json!({"command": ["sleep", "3"]}));
    world.pass();
    let said = "True/Updating: 0 of 1 instances are of the current revision; port 8080 is fixed, \
                so an old instance must end before a new one starts";
    assert_eq!(world.condition("Progressing"), said);
    // Another port: nothing is in the way.
    world.settle();
    world.change("ports", json!([{"name": "http", "containerPort": 8081}]));
    assert!(world.shown()[1].starts_with("create instance"), "{:?}", world.shown());
}

#[test]
fn available_is_ready_for_long_enough() {
    let mut world = World::new(spec(1));
    world.change("minReadySeconds", json!(5));
    world.pass();
    world.agent();
    world.pass();
    let status = world.app().body.status;
    assert_eq!((status.ready_replicas, status.available_replicas), (1, 0));
    assert_eq!(world.plan().requeue, Requeue::At(start() + SignedDuration::from_secs(5)));
    world.now += SignedDuration::from_secs(5);
    world.pass();
    assert_eq!(world.app().body.status.available_replicas, 1);
}

#[test]
fn a_process_that_has_only_just_begun_takes_nobodys_place() {
    let mut world = World::new(spec(1));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.pass();
    let begun = world.now;
    world.agent();
    let new = world.observed.instances.iter().position(|i| i.metadata.name.contains("174023")).expect("made");
    world.instance(new).status.state.running.as_mut().expect("runs").start_time = MicroTime(begun);
    world.pass();
    assert_eq!(world.shown(), [""; 0], "it may end at once");
    assert_eq!(world.plan().requeue, Requeue::At(begun + SignedDuration::from_secs(1)));
    world.now += SignedDuration::from_secs(1);
    assert_eq!(world.shown(), ["delete instance 36772c-0 because the template changed"]);
}

#[test]
fn a_clock_that_is_set_makes_no_rollout_late_and_keeps_none_waiting() {
    let hour = SignedDuration::from_hours(1);
    for by in [-hour, hour * 24] {
        let mut world = World::new(spec(2));
        world.change("progressDeadlineSeconds", json!(10));
        world.change("minReadySeconds", json!(5));
        world.settle();
        world.now += SignedDuration::from_secs(5);
        world.settle();
        let mut set = world.now + by;
        (world.now, world.observed.since) = (set, set);
        world.pass();
        assert_eq!(world.app().status.available_replicas, 2, "what was available still is, {by:?}");
        world.change("process", json!({"command": ["sleep", "2"]}));
        world.pass();
        assert_eq!(world.plan().actions.len(), 0, "{by:?}");
        world.now += SignedDuration::from_secs(8);
        set = world.now + by;
        (world.now, world.observed.since) = (set, set);
        world.pass();
        assert!(world.condition("Progressing").starts_with("True/Updating"), "{by:?}");
        world.now += SignedDuration::from_secs(10);
        world.pass();
        assert!(world.condition("Progressing").starts_with("False/ProgressDeadlineExceeded"), "{by:?}");
    }
}

#[test]
fn a_rollout_that_does_not_move_is_late_and_one_that_moves_is_not() {
    let mut world = World::new(spec(2));
    world.change("progressDeadlineSeconds", json!(10));
    world.settle();
    assert_eq!(world.condition("Progressing"), "True/RevisionAvailable: 2 of 2 instances are of the current revision");
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.pass();
    assert_eq!(world.plan().requeue, Requeue::At(world.now + SignedDuration::from_secs(10)));
    world.now += SignedDuration::from_secs(9);
    world.agent();
    world.pass();
    world.pass();
    world.now += SignedDuration::from_secs(9);
    world.pass();
    assert!(world.condition("Progressing").starts_with("True/Updating"), "it moved meanwhile");
    world.now += SignedDuration::from_secs(1);
    world.pass();
    let late =
        "False/ProgressDeadlineExceeded: 2 of 2 instances are of the current revision; nothing came nearer for 10 s";
    assert_eq!(world.condition("Progressing"), late);
    world.settle();
    assert!(world.condition("Progressing").starts_with("True/RevisionAvailable"));
    // What becomes of it later is no rollout any more.
    set_ready(world.instance(0), false);
    world.now += SignedDuration::from_secs(100);
    world.pass();
    assert!(world.condition("Progressing").starts_with("True/RevisionAvailable"));
}

#[test]
fn an_instance_that_is_ready_between_its_crashes_holds_no_deadline_off() {
    let mut world = World::new(spec(1));
    world.change("progressDeadlineSeconds", json!(10));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.pass();
    assert_eq!(world.observed.instances[0].metadata.name, "web-174023-0", "the new one");
    for second in 0..10 {
        assert!(world.condition("Progressing").starts_with("True/Updating"), "second {second}");
        world.now += SignedDuration::from_secs(1);
        let running = Running { pid: 1, start_time: MicroTime(world.now), adopted: false };
        world.instance(0).status.state = InstanceState { running: Some(running), ..InstanceState::default() };
        set_ready(world.instance(0), second % 2 == 0);
        world.pass();
    }
    assert!(world.condition("Progressing").starts_with("True/Updating"), "it was nearer once, after a second");
    world.now += SignedDuration::from_secs(1);
    world.pass();
    assert!(world.condition("Progressing").starts_with("False/ProgressDeadlineExceeded"));
}

#[test]
fn the_time_in_which_nobody_looked_does_not_count() {
    let mut world = World::new(spec(1));
    world.change("progressDeadlineSeconds", json!(10));
    world.pass();
    world.now += SignedDuration::from_secs(100);
    world.observed.since = world.now;
    world.pass();
    assert!(world.condition("Progressing").starts_with("True/Updating"));
}

#[test]
fn a_paused_app_keeps_its_template_and_is_scaled() {
    let mut world = World::new(spec(2));
    world.settle();
    world.change("paused", json!(true));
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.change("replicas", json!(3));
    assert_eq!(log(&mut world), ["create instance 36772c-2 because an instance is missing"]);
    assert_eq!(world.condition("Progressing"), "Unknown/Paused: 0 of 3 instances are of the current revision");
    assert_eq!(world.condition("Ready"), "True/Paused: 3 of 3 instances are ready");
    assert_eq!(world.observed.instances[2].spec.process, world.observed.instances[0].spec.process);
    world.app["metadata"]["annotations"] = json!({ RESTARTED_AT: "now" });
    assert_eq!(world.shown(), [""; 0], "restarts wait, too");
    world.change("paused", json!(false));
    assert_eq!(world.shown()[0], "create revision 174023 as number 2");
    world.settle();
    assert_eq!(world.condition("Ready"), "True/AllReady: 3 of 3 instances are ready");
}

/// An App that had a good template, and got one that never becomes ready.
fn failing() -> World {
    let mut world = World::new(spec(2));
    world.change("progressDeadlineSeconds", json!(10));
    world.change("strategy", json!({"autoRollback": true}));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.pass();
    let broken = world.observed.instances.iter().position(|i| i.metadata.name.contains("174023")).expect("made");
    world.instance(broken).status.state = exited("Failed");
    world.pass();
    world
}

#[test]
fn a_rollout_that_is_late_goes_back_if_that_was_asked_for() {
    let mut world = failing();
    assert_eq!(world.observed.instances.len(), 3, "what serves was not touched");
    world.now += SignedDuration::from_secs(10);
    insta::assert_debug_snapshot!(world.shown(), @r#"
    [
        "roll back to revision 36772c because revision 174023 did not come nearer for 10 s",
        "mark revision 174023 as rolled back",
    ]
    "#);
    world.pass();
    assert_eq!(world.app().spec.process.as_ref().expect("a process").command, ["sleep", "1"]);
    let told = "True/ProgressDeadlineExceeded: web-36772c runs again, because revision web-174023 did not come nearer for 10 s";
    assert_eq!(world.condition("RolledBack"), told);
    let back = ["raise revision 36772c to number 3; delete instance 174023-0 because the template changed"];
    assert_eq!(log(&mut world), back);
    assert_eq!(world.condition("RolledBack"), told, "until there is another template");
    assert!(world.condition("Ready").starts_with("True/AllReady"));
    world.change("process", json!({"command": ["sleep", "3"]}));
    world.settle();
    assert!(Condition::find(&world.app().body.status.conditions, "RolledBack").is_none());
}

#[test]
fn a_template_that_was_rolled_back_is_not_rolled_out_again_unless_somebody_asks() {
    let mut world = failing();
    world.now += SignedDuration::from_secs(10);
    world.pass();
    world.settle();
    // As a loop that knows nothing but its manifest does.
    world.change("process", json!({"command": ["sleep", "2"]}));
    assert_eq!(world.shown(), [""; 0]);
    world.pass();
    assert_eq!(world.shown(), [""; 0]);
    let said = "False/RolledBack: 0 of 2 instances are of the current revision; this template was rolled back before: \
                change it, or restart the app to try it again";
    assert_eq!(world.condition("Progressing"), said);
    assert_eq!(world.condition("Ready"), "True/RolledBack: 2 of 2 instances are ready");
    world.now += SignedDuration::from_secs(1);
    world.app["metadata"]["annotations"] = json!({ RESTARTED_AT: world.now.to_string() });
    world.settle();
    assert!(world.observed.instances.iter().all(|i| i.metadata.name.contains("174023")));
}

#[test]
fn nothing_goes_back_without_a_revision_that_was_ever_good() {
    let mut world = World::new(spec(1));
    world.change("strategy", json!({"autoRollback": true}));
    world.change("progressDeadlineSeconds", json!(10));
    world.pass();
    world.pass();
    world.now += SignedDuration::from_secs(20);
    assert_eq!(world.shown(), [""; 0]);
    world.pass();
    assert!(world.condition("Progressing").starts_with("False/ProgressDeadlineExceeded"));
}

#[test]
fn conditions_of_others_stay() {
    let mut world = World::new(spec(1));
    world.settle();
    let other = json!({
        "type": "Certified", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-11-21T08:00:00Z",
    });
    world.app["status"]["conditions"].as_array_mut().expect("conditions").push(other);
    world.change("replicas", json!(2));
    world.settle();
    assert_eq!(world.condition("Certified"), "True/X: ");
}
