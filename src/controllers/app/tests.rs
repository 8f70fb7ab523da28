//! Tables of situations and plans, and the laws of [`decide`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        Condition, ConditionStatus, Exited, Instance, InstanceState, MicroTime, Object, RESTARTED_AT, ROLLED_BACK_AT,
        Running, Time,
    },
    policy::{place::Place, template},
};

pub(super) fn start() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a time")
}

/// A small world in which a plan can be carried out: what the store and a perfect agent would do.
pub(super) struct World {
    pub(super) app: Value,
    pub(super) observed: Observed,
    pub(super) now: Timestamp,
    made: u32,
}

impl World {
    pub(super) fn new(spec: Value) -> Self {
        let app = json!({
            "apiVersion": "appm.dev/v1", "kind": "App", "spec": spec,
            "metadata": {"name": "web", "namespace": "default", "uid": "app-uid", "generation": 1},
        });
        let observed = Observed {
            full: None,
            template: Value::Null,
            instances: Vec::new(),
            revisions: Vec::new(),
            leftovers: 0,
            place: Ok(Place { node: "host-a".to_owned(), room: usize::MAX }),
            since: start(),
            hold: String::new(),
        };
        Self { app, observed, now: start(), made: 0 }
    }

    pub(super) fn app(&self) -> Object<App> {
        serde_json::from_value(self.app.clone()).expect("a valid app")
    }

    pub(super) fn plan(&mut self) -> Plan {
        self.observed.template = template::of(&self.app["spec"]);
        let app = self.app();
        let wanted = decide::ports_wanted(&app, &self.observed, self.now);
        let free: Vec<u16> = (0..wanted as u16).map(|n| 20000 + n).collect();
        decide(&app, &self.observed, &free, self.now)
    }

    pub(super) fn shown(&mut self) -> Vec<String> {
        self.plan().actions.iter().map(|action| action.to_string().replace("web-", "")).collect()
    }

    /// The pass is done, and every deletion with it. Zero if there was nothing to do, and nothing is waited for.
    pub(super) fn pass(&mut self) -> usize {
        let plan = self.plan();
        let news = usize::from(plan.status != self.app().body.status);
        self.app["status"] = json!(plan.status);
        for action in &plan.actions {
            self.carry_out(action);
        }
        let waits = matches!(plan.requeue, Requeue::At(_));
        plan.actions.len() + news + usize::from(waits)
    }

    fn carry_out(&mut self, action: &Action) {
        let observed = &mut self.observed;
        match action {
            Action::CreateRevision { name, number, data } => {
                let metadata =
                    instance::metadata(&serde_json::from_value(self.app.clone()).expect("valid"), name.clone());
                let body = Revision { revision: *number, data: data.clone() };
                observed.revisions.push(Arc::new(Object::new(metadata, body)));
            }
            Action::UpdateRevision { revision, change } => {
                let found = observed.revisions.iter_mut().find(|r| r.metadata.name == revision.metadata.name);
                let found = Arc::make_mut(found.expect("there"));
                match change {
                    Change::Current { number, resized } => {
                        found.body.revision = *number;
                        if let Some(like) = resized {
                            template::resize(&mut found.body.data, like);
                        }
                    }
                    Change::RolledBack(at) => {
                        found.metadata.annotations.insert(ROLLED_BACK_AT, &MicroTime(*at).to_string());
                    }
                }
            }
            Action::RollBack { to, .. } => template::put(&mut self.app["spec"], &to.data),
            Action::DeleteRevision { revision } => {
                observed.revisions.retain(|r| r.metadata.name != revision.metadata.name);
            }
            Action::CreateInstance { instance, .. } => {
                assert!(observed.instances.iter().all(|i| i.metadata.name != instance.metadata.name));
                self.made += 1;
                let mut instance = (**instance).clone();
                instance.metadata.uid = Some(format!("uid-{}", self.made).into());
                observed.instances.push(Arc::new(instance));
                observed.instances.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
            }
            Action::UpdateInstance { instance, live, labels, .. } => {
                let found = observed.instances.iter_mut().find(|i| i.metadata.name == instance.metadata.name);
                let found = found.expect("there");
                let mut value = found.to_value();
                live.write(&mut value["spec"]);
                value["metadata"]["labels"] = json!(labels);
                *found = Arc::new(serde_json::from_value(value).expect("valid"));
            }
            Action::DeleteInstance { instance, .. } => {
                observed.instances.retain(|i| i.metadata.name != instance.metadata.name);
            }
            Action::DeleteApp { .. } => self.app["metadata"]["deletionTimestamp"] = json!(Time(self.now)),
        }
    }

    /// The agent brings every instance where it should be.
    pub(super) fn agent(&mut self) {
        for instance in &mut self.observed.instances {
            let instance = Arc::make_mut(instance);
            let ready = !instance.spec.suspend;
            instance.status.restarted_at = instance.spec.restarted_at.clone();
            instance.status.address = "127.0.0.1".to_owned();
            instance.status.state = match ready {
                true => running(),
                false => exited("Suspended"),
            };
            set_ready(instance, ready);
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            // The agent first: a pass that waits for an instance to be ready does nothing, and is not rest.
            self.agent();
            if self.pass() == 0 {
                return;
            }
            self.now += SignedDuration::from_secs(1);
        }
        panic!("it does not converge: {:?}", self.shown());
    }

    pub(super) fn change(&mut self, field: &str, value: Value) {
        self.app["spec"][field] = value;
        let generation = self.app["metadata"]["generation"].as_i64().unwrap_or(0);
        self.app["metadata"]["generation"] = json!(generation + 1);
    }

    pub(super) fn instance(&mut self, at: usize) -> &mut Object<Instance> {
        Arc::make_mut(&mut self.observed.instances[at])
    }

    pub(super) fn condition(&self, kind: &str) -> String {
        let status = self.app().body.status;
        let found = Condition::find(&status.conditions, kind).expect("judged");
        format!("{:?}/{}: {}", found.status, found.reason, found.message)
    }
}

fn running() -> InstanceState {
    let running = Running { pid: 1, start_time: crate::api::MicroTime(start()), adopted: false };
    InstanceState { running: Some(running), ..InstanceState::default() }
}

fn waiting(reason: &str) -> InstanceState {
    let waiting =
        crate::api::Waiting { reason: reason.to_owned(), message: "it waits".to_owned(), ..Default::default() };
    InstanceState { waiting: Some(waiting), ..InstanceState::default() }
}

pub(super) fn exited(reason: &str) -> InstanceState {
    let exited = Exited { reason: reason.to_owned(), message: "it ended".to_owned() };
    InstanceState { exited: Some(exited), ..InstanceState::default() }
}

pub(super) fn set_ready(instance: &mut Object<Instance>, ready: bool) {
    let condition = Condition {
        kind: "Ready".to_owned(),
        status: ConditionStatus::from(ready),
        reason: String::new(),
        message: String::new(),
        last_transition_time: Time(start()),
        observed_generation: None,
    };
    Condition::set(&mut instance.status.conditions, condition);
}

pub(super) fn spec(replicas: i32) -> Value {
    json!({"replicas": replicas, "process": {"command": ["sleep", "1"]}})
}

#[test]
fn a_new_app_gets_a_revision_and_its_instances_in_one_pass() {
    let mut world = World::new(spec(2));
    insta::assert_debug_snapshot!(world.shown(), @r#"
    [
        "create revision 36772c as number 1",
        "create instance 36772c-0 because an instance is missing",
        "create instance 36772c-1 because an instance is missing",
    ]
    "#);
    world.settle();
    assert_eq!(world.shown(), [""; 0]);
    assert_eq!(world.condition("Ready"), "True/AllReady: 2 of 2 instances are ready");
    let status = world.app().body.status;
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (2, 2, 2));
    assert_eq!(status.current_revision, status.update_revision);
}

#[test]
fn instances_are_complete_and_bear_owner_label_and_finalizer() {
    let mut world = World::new(json!({
        "process": {"command": ["a", "$(PORT)"]}, "env": [{"name": "A", "value": "1"}], "stopSignal": "SIGINT",
        "ports": [{"name": "http"}, {"name": "admin", "containerPort": 9000}],
    }));
    world.app["metadata"]["labels"] = json!({"tier": "front"});
    world.pass();
    let made = world.instance(0).clone();
    assert_eq!(made.metadata.labels, [("appm.dev/app", "web"), ("tier", "front")].into_iter().collect());
    assert_eq!(made.metadata.finalizers, ["appm.dev/agent"]);
    assert_eq!(made.metadata.controller().map(|o| o.uid.as_str()), Some("app-uid"));
    assert_eq!(made.spec.ports.iter().map(|p| p.container_port).collect::<Vec<_>>(), [20000, 9000]);
    assert_eq!((made.spec.node_name.as_str(), made.spec.stop_signal.as_str()), ("host-a", "SIGINT"));
}

#[test]
fn a_changed_template_replaces_one_instance_after_another() {
    let mut world = World::new(spec(2));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    let mut log = Vec::new();
    for _ in 0..9 {
        let shown = world.shown();
        if shown.is_empty() && !log.is_empty() && world.condition("Ready").starts_with("True") {
            break;
        }
        log.push(shown.join("; "));
        world.pass();
        world.agent();
    }
    insta::assert_debug_snapshot!(log, @r#"
    [
        "create revision 174023 as number 2; create instance 174023-0 because an instance is missing",
        "delete instance 36772c-0 because the template changed; create instance 174023-1 because an instance is missing",
        "delete instance 36772c-1 because the template changed",
        "",
    ]
    "#);
}

#[test]
fn a_template_that_only_spells_out_defaults_replaces_nothing() {
    let mut world = World::new(spec(1));
    world.settle();
    world.change("process", json!({"command": ["sleep", "1"], "args": []}));
    world.change("env", json!([]));
    assert_eq!(world.shown(), [""; 0]);
}

#[test]
fn going_back_raises_the_old_revision() {
    let mut world = World::new(spec(1));
    world.settle();
    world.change("process", json!({"command": ["sleep", "2"]}));
    world.settle();
    world.change("process", json!({"command": ["sleep", "1"]}));
    insta::assert_debug_snapshot!(world.shown(), @r#"
    [
        "raise revision 36772c to number 3",
        "create instance 36772c-0 because an instance is missing",
    ]
    "#);
}

#[test]
fn old_revisions_beyond_the_limit_are_forgotten() {
    let mut world = World::new(spec(1));
    world.change("revisionHistoryLimit", json!(1));
    for n in 1..5 {
        world.change("process", json!({"command": ["sleep", n.to_string()]}));
        world.settle();
    }
    let numbers: Vec<i64> = world.observed.revisions.iter().map(|r| r.revision).collect();
    assert_eq!(numbers, [3, 4]);
}

#[test]
fn live_fields_and_labels_are_kept_in_step_without_a_replacement() {
    let mut world = World::new(spec(1));
    world.settle();
    let because = "because the app's live fields or labels changed";
    for (field, value) in [
        ("restartPolicy", json!("Never")),
        ("suspend", json!(true)),
        ("logs", json!({"maxSize": "1Mi"})),
        ("terminationMessagePolicy", json!("FallbackToLogsOnError")),
        ("terminationGracePeriodSeconds", json!(1)),
    ] {
        world.change(field, value);
        assert_eq!(world.shown(), [format!("update instance 36772c-0 {because}")], "{field}");
        world.settle();
    }
    assert_eq!(world.condition("Suspended"), "True/Suspended: nothing runs until the app is resumed");
    world.app["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(world.shown(), [format!("update instance 36772c-0 {because}")]);
}

#[test]
fn limits_change_in_place_where_they_can_and_the_way_back_knows_them() {
    let mut world = World::new(spec(2));
    world.change("resources", json!({"limits": {"memory": "1Gi", "pids": "9"}}));
    world.settle();
    let first = world.observed.instances[0].spec.revision.clone();
    let words = first.trim_start_matches("web-").to_owned();
    let because = "because the app's live fields or labels changed";
    for resources in [json!({"limits": {"memory": "2Gi", "pids": "9"}}), json!({"limits": {"memory": "3Gi"}})] {
        world.change("resources", resources.clone());
        let shown = [0, 1].map(|n| format!("update instance {words}-{n} {because}"));
        assert_eq!(world.shown(), [vec![format!("change the resources of revision {words}")], shown.to_vec()].concat());
        world.settle();
        assert_eq!(json!(world.observed.instances[1].spec.resources), resources);
        assert_eq!((world.observed.revisions.len(), world.shown().len()), (1, 0));
    }
    // No group was made for processor time: that needs other instances.
    world.change("resources", json!({"limits": {"memory": "3Gi", "cpu": "1"}}));
    world.settle();
    assert!(world.observed.instances.iter().all(|i| i.spec.revision != first) && world.observed.revisions.len() == 2);
    let data = world.observed.revisions[0].data.clone();
    template::put(&mut world.app["spec"], &data);
    world.settle();
    let back = &world.observed.instances[0].spec;
    assert_eq!((&back.revision, json!(back.resources)), (&first, json!({"limits": {"memory": "3Gi"}})));
}

#[test]
fn what_failed_is_tried_again_with_other_resources() {
    let mut world = World::new(spec(1));
    world.change("resources", json!({"limits": {"memory": "1Mi"}}));
    world.settle();
    Arc::make_mut(&mut world.observed.revisions[0])
        .metadata
        .annotations
        .insert(ROLLED_BACK_AT, &MicroTime(world.now).to_string());
    world.change("resources", json!({"limits": {"memory": "1Gi"}}));
    world.settle();
    assert_eq!(world.observed.revisions.len(), 2);
}

#[test]
fn a_restart_goes_through_the_instances_one_by_one() {
    let mut world = World::new(spec(2));
    world.settle();
    world.app["metadata"]["annotations"] = json!({ RESTARTED_AT: "now" });
    assert_eq!(world.shown(), ["update instance 36772c-0 because a restart was asked for"]);
    world.pass();
    assert_eq!(world.shown(), [""; 0], "the first one is not back yet");
    world.agent();
    assert_eq!(world.shown(), ["update instance 36772c-1 because a restart was asked for"]);
    world.settle();
    assert!(world.observed.instances.iter().all(|i| i.spec.restarted_at == "now"));
}

#[test]
fn no_more_instances_are_made_than_there_is_room_for() {
    let mut world = World::new(spec(3));
    world.observed.place = Ok(Place { node: "host-a".to_owned(), room: 2 });
    assert!(world.plan().waits_for_room);
    world.pass();
    assert_eq!(world.observed.instances.len(), 2);
    world.observed.place = Err("0/1 nodes are available: 1 insufficient memory".to_owned());
    world.pass();
    assert_eq!(world.condition("Ready"), "False/Pending: 0/1 nodes are available: 1 insufficient memory");
}

#[test]
fn severe_cases_come_first() {
    let mut deleting = World::new(spec(1));
    deleting.app["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
    assert_eq!(deleting.shown(), [""; 0]);

    let mut no_node = World::new(spec(1));
    no_node.observed.place = Err("0/1 nodes are available: 1 not ready or unschedulable".to_owned());
    no_node.pass();
    assert!(no_node.observed.instances.is_empty());
    assert_eq!(no_node.condition("Ready"), "False/Pending: 0/1 nodes are available: 1 not ready or unschedulable");

    let mut leftovers = World::new(spec(1));
    leftovers.observed.leftovers = 1;
    assert_eq!(leftovers.shown(), [""; 0]);

    let mut removed = World::new(spec(1));
    removed.settle();
    removed.instance(0).status.state = exited("Removed");
    assert_eq!(removed.shown(), ["delete the app because the exit of instance 36772c-0 says so"]);
}

#[test]
fn a_terminal_instance_is_not_replaced_until_the_template_changes() {
    let mut world = World::new(spec(1));
    world.settle();
    for reason in ["Completed", "Failed", "CrashLooping", "Stopped", "Lost"] {
        world.instance(0).status.state = exited(reason);
        set_ready(world.instance(0), false);
        assert_eq!(world.shown(), [""; 0], "{reason}");
        world.pass();
    }
    world.change("process", json!({"command": ["sleep", "2"]}));
    assert_eq!(world.shown()[1], "delete instance 36772c-0 because the template changed");
}

#[test]
fn without_a_free_port_it_tries_again_later() {
    let mut world = World::new(json!({"process": {"command": ["a"]}, "ports": [{"name": "http"}]}));
    world.observed.template = template::of(&world.app["spec"]);
    let plan = decide(&world.app(), &world.observed, &[], world.now);
    assert_eq!(plan.requeue, Requeue::At(start() + SignedDuration::from_secs(5)));
    assert!(plan.actions.iter().all(|a| !matches!(a, Action::CreateInstance { .. })));
}

#[test]
fn who_lost_a_port_that_was_chosen_for_it_makes_room_for_one_with_another() {
    for (number, makes_room) in [(0, true), (8080, false)] {
        let mut world = World::new(spec(1));
        world.change("ports", json!([{"name": "http", "containerPort": number}]));
        world.settle();
        let (name, now) = (world.observed.instances[0].metadata.name.replace("web-", ""), world.now);
        let instance = world.instance(0);
        instance.metadata.creation_timestamp = Some(Time(now));
        instance.status.state = waiting("BackOff");
        instance.status.state.waiting.as_mut().expect("it waits").taken_port = Some("http".to_owned());
        set_ready(instance, false);
        assert_eq!(world.shown(), [""; 0], "it has just been made");
        world.now += SignedDuration::from_secs(2);
        let because = format!("delete instance {name} because somebody else holds a port that was chosen for it");
        let wanted = if makes_room { vec![because] } else { Vec::new() };
        assert_eq!(world.shown(), wanted, "{number}");
    }
}

#[test]
fn the_reason_of_ready_names_the_worst_trouble() {
    let mut world = World::new(spec(2));
    world.settle();
    for (state, shown) in [
        (exited("CrashLooping"), "False/CrashLooping: 1 of 2 instances are ready; web-36772c-0: it ended"),
        (exited("Failed"), "False/Failed: 1 of 2 instances are ready; web-36772c-0: it ended"),
        (waiting("ErrImagePull"), "False/ErrImagePull: 1 of 2 instances are ready; web-36772c-0: it waits"),
        (waiting("Starting"), "False/Starting: 1 of 2 instances are ready"),
        (InstanceState::default(), "False/Starting: 1 of 2 instances are ready"),
    ] {
        world.instance(0).status.state = state;
        set_ready(world.instance(0), false);
        world.pass();
        assert_eq!(world.condition("Ready"), shown);
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Replicas(i32),
    Command(u8),
    Suspend(bool),
    Restart(u8),
    Strategy(bool),
    Bounds(u8, u8),
    Ports(u16),
    Pause(bool),
    MinReady(u8),
    Crash(usize, &'static str),
    Pass,
    Agent,
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..5).prop_map(Edit::Replicas),
        (0..3u8).prop_map(Edit::Command),
        any::<bool>().prop_map(Edit::Suspend),
        (0..3u8).prop_map(Edit::Restart),
        any::<bool>().prop_map(Edit::Strategy),
        (0..3u8, 0..3u8).prop_map(|(surge, unavailable)| Edit::Bounds(surge, unavailable)),
        (0..3u16).prop_map(Edit::Ports),
        any::<bool>().prop_map(Edit::Pause),
        (0..4u8).prop_map(Edit::MinReady),
        (0..5usize, prop_oneof![Just("Failed"), Just("Completed"), Just("CrashLooping")])
            .prop_map(|(at, reason)| Edit::Crash(at, reason)),
        Just(Edit::Pass),
        Just(Edit::Agent),
    ]
}

fn edit(world: &mut World, edit: Edit) {
    match edit {
        Edit::Replicas(n) => world.change("replicas", json!(n)),
        Edit::Command(n) => world.change("process", json!({"command": ["sleep", n.to_string()]})),
        Edit::Suspend(on) => world.change("suspend", json!(on)),
        Edit::Restart(n) => world.app["metadata"]["annotations"] = json!({ RESTARTED_AT: n.to_string() }),
        Edit::Strategy(recreate) => {
            world.change("strategy", json!({"type": if recreate { "Recreate" } else { "RollingUpdate" }}));
        }
        Edit::Bounds(surge, unavailable) => {
            let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            world.change("strategy", json!({"rollingUpdate": bounds}));
        }
        Edit::Ports(0) => world.change("ports", json!([])),
        Edit::Ports(n) => world.change("ports", json!([{"name": "a", "containerPort": n - 1}])),
        Edit::Pause(on) => world.change("paused", json!(on)),
        Edit::MinReady(n) => world.change("minReadySeconds", json!(n)),
        Edit::Crash(at, reason) if at < world.observed.instances.len() => {
            world.instance(at).status.state = exited(reason);
            set_ready(world.instance(at), false);
        }
        Edit::Crash(..) => {}
        Edit::Pass => {
            world.pass();
        }
        Edit::Agent => world.agent(),
    }
}

fn touched(action: &Action) -> Option<&str> {
    match action {
        Action::CreateInstance { instance, .. } => Some(&instance.metadata.name),
        Action::UpdateInstance { instance, .. } | Action::DeleteInstance { instance, .. } => {
            Some(&instance.metadata.name)
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_was_edited_it_converges_and_then_rests(steps in prop::collection::vec(edits(), 0..20)) {
        let mut world = World::new(spec(1));
        for step in steps {
            edit(&mut world, step);
            let plan = world.plan();
            prop_assert_eq!(&plan, &world.plan(), "deterministic");
            let mut names: Vec<&str> = plan.actions.iter().filter_map(touched).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), all, "at most one action for each instance");
        }
        world.change("paused", json!(false));
        world.settle();
        world.now += SignedDuration::from_secs(5);
        let plan = world.plan();
        let app = world.app();
        prop_assert_eq!(plan.actions, vec![]);
        prop_assert_eq!(&plan.status, &app.status, "at rest nothing is written");
        prop_assert_eq!(world.observed.instances.len() as i32, app.spec.replicas);
        let current = &app.status.update_revision;
        prop_assert!(world.observed.instances.iter().all(|i| i.spec.revision == *current || app.spec.replicas == 0));
    }
}
