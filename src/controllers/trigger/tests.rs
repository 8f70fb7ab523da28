//! Passes over an App to which things happen: what is started, what is told once, and what is told after nobody could look.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    decide::{Action, MOST, Observed, decide},
    happened::Present,
};
use crate::api::{App, Instance, Kind, Object, Schedule, Workflow, WorkflowStatus};

fn object<K: Kind>(name: &str, uid: &str, spec: Value, status: Value) -> Arc<Object<K>> {
    let value = json!({
        "apiVersion": K::INFO.api_version(), "kind": K::INFO.kind,
        "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": 1, "resourceVersion": "1"},
        "spec": spec, "status": status,
    });
    Arc::new(serde_json::from_value(value).expect("a fit object"))
}

/// A Workflow and the App that it looks at, pass after pass.
struct World {
    on: Value,
    status: WorkflowStatus,
    app: Option<Arc<Object<App>>>,
    instances: BTreeMap<String, Value>,
    earlier: Vec<Arc<Object<Instance>>>,
    runs: BTreeMap<String, bool>,
    schedules: Vec<Arc<Object<Schedule>>>,
}

fn app(uid: &str, suspend: bool) -> Option<Arc<Object<App>>> {
    Some(object("web", uid, json!({"process": {"command": ["x"]}, "suspend": suspend}), json!({})))
}

fn running(attempt: u32, ready: bool) -> Value {
    let since = "2026-11-22T08:00:00Z";
    json!({
        "attempt": attempt, "state": {"running": {"pid": 1, "startTime": "2026-11-22T08:00:00.000000Z"}},
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": since}],
        "lastExit": (attempt > 1).then(|| json!({"attempt": attempt - 1, "code": 3})),
    })
}

fn ended(attempt: u32, exit: Value) -> Value {
    let mut last = exit;
    last["attempt"] = json!(attempt);
    json!({"attempt": attempt, "state": {"exited": {"reason": "Failed"}}, "lastExit": last})
}

impl World {
    fn new(on: Value) -> Self {
        Self {
            on,
            status: WorkflowStatus::default(),
            app: app("app-1", false),
            instances: BTreeMap::new(),
            earlier: Vec::new(),
            runs: BTreeMap::new(),
            schedules: Vec::new(),
        }
    }

    fn events(events: &[&str], condition: &str) -> Self {
        let mut world = Self::new(json!({"app_event": {"app": "web", "events": events, "condition": condition}}));
        world.pass();
        world
    }

    fn set(&mut self, uid: &str, status: Value) {
        self.instances.insert(uid.to_owned(), status);
    }

    fn instance(uid: &str, status: &Value) -> Arc<Object<Instance>> {
        object(&format!("web-{uid}"), uid, json!({"nodeName": "n", "revision": "r"}), status.clone())
    }

    /// The actions of a pass; what it writes stands then.
    fn pass(&mut self) -> Vec<String> {
        let spec = json!({"on": self.on, "execution_identity": "ada", "jobs": {"j": {"steps": [{"run": "true"}]}}});
        let workflow = object::<Workflow>("look", "wf", spec, json!(self.status));
        let instances = self.instances.iter().map(|(uid, status)| Self::instance(uid, status)).collect();
        let present = Present { app: self.app.clone(), instances, earlier: std::mem::take(&mut self.earlier) };
        let observed = Observed { present, runs: self.runs.clone(), schedules: self.schedules.clone() };
        let plan = decide(&workflow, &observed, Timestamp::UNIX_EPOCH);
        self.status = plan.status;
        for action in &plan.actions {
            if let Action::Run { object, .. } = action {
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                assert_eq!(self.runs.insert(name, false), None, "a run of this name is there already");
            }
        }
        plan.actions.iter().map(|action| action.to_string().replace("start a run, because ", "")).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn what_was_so_before_is_not_told_and_what_happens_is_told_once() {
    let on = json!({"app_event": {"app": "web", "events": ["START", "EXIT", "HEALTH", "STATUS", "REMOVED"]}});
    let mut world = World::new(on);
    world.set("a", running(2, true));
    assert_eq!(world.pass(), NOTHING);
    assert_eq!(world.pass(), NOTHING);
    world.set("a", running(3, false));
    assert_eq!(world.pass(), ["web-a started", "web-a is not ready any more", "web-a ended with code 3"]);
    assert_eq!(world.pass(), NOTHING);
    world.set("b", running(1, true));
    assert_eq!(world.pass(), ["web-b started", "web-b became ready"]);
    world.set("b", ended(1, json!({"signal": "SIGKILL"})));
    assert_eq!(world.pass(), ["web-b is not ready any more", "web-b was ended by SIGKILL"]);
    world.app = app("app-1", true);
    assert_eq!(world.pass(), ["web was suspended"]);
    (world.app, world.instances) = (None, BTreeMap::new());
    assert_eq!(world.pass(), ["web-a ended, and nobody could see how", "web was deleted"]);
    assert_eq!(world.pass(), NOTHING);
    // Another one of the name, suspended from the beginning.
    world.app = app("app-2", true);
    assert_eq!(world.pass(), NOTHING);
    world.app = app("app-2", false);
    assert_eq!(world.pass(), ["web was resumed"]);
    assert!(world.status.app_events.as_ref().is_some_and(|seen| seen.instances.is_empty()));
}

#[test]
fn only_what_fits_the_condition_starts_a_run_and_no_code_is_not_the_code_0() {
    let mut world = World::events(&["EXIT"], "exit_code == 0");
    world.set("a", ended(1, json!({"code": 3})));
    world.set("b", ended(1, json!({"code": 0})));
    world.set("c", ended(1, json!({"lost": true})));
    world.set("d", ended(1, json!({"signal": "SIGTERM"})));
    assert_eq!(world.pass(), ["web-b ended with code 0"]);
    assert_eq!(world.pass(), NOTHING);
    let mut world = World::events(&["EXIT"], "exit_code != 0 && instance == 'web-a'");
    world.set("a", ended(1, json!({"signal": "SIGTERM"})));
    world.set("b", ended(1, json!({"code": 1})));
    assert_eq!(world.pass(), ["web-a was ended by SIGTERM"]);
}

#[test]
fn an_instance_that_goes_is_told_as_it_was_last_and_then_forgotten() {
    let mut world = World::events(&["EXIT"], "");
    world.set("a", running(1, true));
    assert_eq!(world.pass(), NOTHING);
    world.instances.clear();
    world.earlier = [running(2, true), ended(2, json!({"code": 7}))].map(|s| World::instance("a", &s)).into();
    assert_eq!(world.pass(), ["web-a ended with code 3", "web-a ended with code 7"]);
    // One that nobody had seen.
    world.earlier = vec![World::instance("b", &ended(1, json!({"code": 8})))];
    assert_eq!(world.pass(), ["web-b ended with code 8"]);
    assert!(world.status.app_events.as_ref().is_some_and(|seen| seen.instances.is_empty()));
    assert_eq!(world.pass(), NOTHING);
}

#[test]
fn when_too_many_runs_go_on_the_rest_waits_and_its_last_is_told() {
    let mut world = World::events(&["EXIT"], "");
    for number in 0..MOST + 1 {
        world.set(&format!("i{number:03}"), ended(1, json!({"code": 1})));
    }
    assert_eq!(world.pass().len(), MOST);
    assert_eq!(world.pass(), NOTHING);
    world.set("i100", ended(5, json!({"code": 2})));
    assert_eq!(world.pass(), NOTHING);
    let first = world.runs.keys().next().expect("a run").clone();
    world.runs.insert(first, true);
    assert_eq!(world.pass(), ["web-i100 ended with code 2"]);
}

#[test]
fn another_trigger_begins_anew_and_none_leaves_nothing() {
    let mut world = World::events(&["EXIT"], "");
    world.set("a", ended(1, json!({"code": 1})));
    world.on = json!({"app_event": {"app": "web", "events": ["START", "EXIT"]}});
    assert_eq!(world.pass(), NOTHING);
    world.set("a", running(2, true));
    assert_eq!(world.pass(), ["web-a started"]);
    world.on = json!({});
    assert_eq!(world.pass(), NOTHING);
    assert_eq!(world.status, WorkflowStatus { observed_generation: 1, ..WorkflowStatus::default() });
}
