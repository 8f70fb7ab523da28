//! Passes over runs whose steps are messages and whose jobs have services: pure, so whoever dies between two of them is played by forgetting.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Action, Observed, decide};
use crate::api::{App, Kind, Object, Reason, Status, WorkflowRun, WorkflowRunStatus};

/// A run, what its passes have written, and what they see.
struct World {
    spec: Value,
    status: WorkflowRunStatus,
    seen: Observed,
    now: Timestamp,
}

fn object<K: Kind>(name: &str, spec: &Value, status: Value) -> Object<K> {
    let meta = json!({"name": name, "namespace": "default", "uid": name, "generation": 1, "resourceVersion": "1"});
    let (version, kind) = (K::INFO.api_version(), K::INFO.kind);
    let value = json!({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec, "status": status});
    serde_json::from_value(value).expect("a fit object")
}

impl World {
    fn new(job: Value) -> Self {
        let template = json!({"jobs": {"j": job}});
        let spec = json!({"workflow": "w", "identity": "ada", "template": template});
        let now = "2026-11-22T08:00:00Z".parse().expect("a time");
        Self { spec, status: WorkflowRunStatus::default(), seen: Observed::default(), now }
    }

    /// The actions of a pass; what it writes stands then. Messages that it does not name any more are forgotten.
    fn pass(&mut self) -> Vec<Action> {
        let run = object::<WorkflowRun>("w-1", &self.spec, json!(self.status));
        let plan = decide(&run, &self.seen, self.now);
        self.status = plan.status;
        let known = std::mem::take(&mut self.seen.messages);
        let keep = |name: String| (name.clone(), known.get(&name).cloned().flatten());
        self.seen.messages = plan.under_way.into_iter().map(keep).collect();
        plan.actions
    }

    fn told(&mut self) -> Vec<String> {
        self.pass().iter().map(ToString::to_string).collect()
    }

    fn answer(&mut self, answer: Result<&'static str, Status>) {
        let answer = Arc::new(answer.map(Bytes::from));
        self.seen.messages.values_mut().for_each(|known| *known = Some(answer.clone()));
    }

    fn steps(&self) -> String {
        let cell = &self.status.jobs["j"];
        let steps = cell.steps.iter().map(|step| format!("{}:{:?}/{}", step.id, step.state, step.attempts));
        format!("{:?} {}", cell.state, steps.collect::<Vec<_>>().join(" "))
    }
}

fn message(id: &str) -> Value {
    json!({"id": id, "message": {"app": "web", "payload": "${{ steps.a.response }}!"}})
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_answer_ends_its_step_and_the_next_is_sent_in_the_same_pass() {
    let mut world = World::new(json!({"steps": [message("a"), message("b")]}));
    assert_eq!(world.told(), ["send the message of step a"]);
    assert_eq!(world.told(), NOTHING);
    world.answer(Ok("4"));
    let [Action::Send(sent)] = &world.pass()[..] else { panic!("the next is sent") };
    assert_eq!((&sent.message.payload[..], sent.message.user.as_deref(), sent.again), (&b"4!"[..], Some("ada"), false));
    assert_eq!(world.steps(), "Running a:Success/1 b:Running/1");
    world.answer(Ok(r#"{"status": "error", "message": "no"}"#));
    assert_eq!(world.told(), NOTHING);
    assert_eq!(world.steps(), "Failure a:Success/1 b:Failure/1");
    assert_eq!(world.status.jobs["j"].steps[1].message, "no");
}

#[test]
fn a_message_of_which_nobody_knows_is_lost_unless_it_may_be_sent_again() {
    let mut again = message("a");
    again["message"]["idempotent"] = json!(true);
    let mut tried = message("a");
    tried["retry"] = json!({"max": 1, "interval": 0});
    let send = "send the message of step a";
    for (step, sent_again, at_last) in [
        (message("a"), None, "Failure a:Failure/1"),
        (again, Some(1), "Running a:Running/1"),
        (tried, Some(2), "Running a:Running/2"),
    ] {
        let mut world = World::new(json!({"steps": [step]}));
        assert_eq!(world.told(), [send]);
        // The server dies.
        world.seen.messages.clear();
        let mut told = world.told();
        // The next attempt is due at once.
        told.extend(world.told());
        assert_eq!((told.len(), world.steps().as_str()), (usize::from(sent_again.is_some()), at_last), "{told:?}");
    }
}

#[test]
fn what_is_cancelled_is_named_no_more_and_refusals_and_lateness_fail() {
    let mut world = World::new(json!({"steps": [message("a")]}));
    world.pass();
    world.spec["cancel"] = json!("Drain");
    assert_eq!((world.told(), world.seen.messages.len()), (vec![], 1));
    world.spec["cancel"] = json!("Stop");
    assert_eq!((world.told(), world.seen.messages.len()), (vec![], 0));
    assert_eq!(world.steps(), "Cancelled a:Cancelled/1");
    let mut world = World::new(json!({"steps": [message("a")]}));
    world.pass();
    world.answer(Err(Status::new(Reason::NotFound, "there is no app `web`")));
    world.pass();
    assert_eq!((world.steps().as_str(), &*world.status.jobs["j"].steps[0].reason), ("Failure a:Failure/1", "Refused"));
    let mut world = World::new(json!({"timeout-minutes": 1, "steps": [message("a")]}));
    world.pass();
    world.now += SignedDuration::from_secs(60);
    world.pass();
    assert_eq!((world.steps().as_str(), &*world.status.jobs["j"].steps[0].reason), ("Failure a:Failure/1", "TimedOut"));
}

/// The Apps that were made, in this state.
fn apps(made: &[Action], conditions: Value) -> BTreeMap<String, Arc<Object<App>>> {
    let made = made.iter().filter_map(|action| match action {
        Action::Start { object } if object["kind"] == "App" => Some(object),
        _ => None,
    });
    let endpoint = json!({"instance": "i", "address": "127.0.0.1", "ready": true, "ports": [{"name": "sql", "port": 7001, "protocol": "TCP"}]});
    let status = json!({"observedGeneration": 1, "conditions": conditions, "endpoints": [endpoint]});
    made.map(|made| {
        let name = made["metadata"]["name"].as_str().expect("a name");
        (name.to_owned(), Arc::new(object::<App>(name, &made["spec"], status.clone())))
    })
    .collect()
}

fn ready(status: &str, reason: &str) -> Value {
    json!([{"type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-22T08:00:00Z"}])
}

#[test]
fn the_first_step_waits_until_what_runs_beside_its_job_is_ready_and_knows_where() {
    let job = json!({
        "services": {"db": {"image": "postgres", "ports": [{"name": "sql", "containerPort": 5432}], "env": {"A": "$b"}}},
        "steps": [{"id": "a", "run": "test ${{ job.services.db.ports['5432'] }} = ${{ job.services.db.ports.sql }}"}],
    });
    let mut world = World::new(job);
    let made = world.pass();
    let [Action::Start { object }] = &made[..] else { panic!("the service is made") };
    assert_eq!(
        object["spec"]["ports"],
        json!([{"name": "sql", "containerPort": 5432, "protocol": "TCP", "hostPort": 0}])
    );
    assert_eq!(object["spec"]["env"], json!([{"name": "A", "value": "$$b"}]));
    world.seen.services = apps(&made, ready("False", "Starting"));
    assert_eq!(world.told(), NOTHING);
    world.seen.services = apps(&made, ready("True", "AllReady"));
    let begun = world.pass();
    let [Action::Start { object }] = &begun[..] else { panic!("the step begins") };
    assert_eq!(object["spec"]["process"]["script"], "test 7001 = 7001");
    let env = object["spec"]["env"].as_array().expect("variables");
    assert!(env.contains(&json!({"name": "DB_SERVICE_PORT_SQL", "value": "7001"})), "{env:?}");
    // Whatever it is by now, it is not asked again. Its step's Run is nowhere, so the job is over: it goes, and that is said until it is gone.
    world.seen.services = apps(&made, ready("False", "CrashLooping"));
    let end = format!("end service {}", world.seen.services.keys().next().expect("a service"));
    assert_eq!(world.told().concat(), end);
    assert!(world.status.is_over());
    assert_eq!(world.told().concat(), end);
}

#[test]
fn a_service_that_never_will_be_ready_fails_its_job() {
    let job = json!({"services": {"db": {"process": {"command": ["x"]}}}, "steps": [{"run": "true"}]});
    for (state, why) in [("CrashLooping", "CrashLooping: "), ("", "its app was deleted")] {
        let mut world = World::new(job.clone());
        let made = world.pass();
        if !state.is_empty() {
            world.seen.services = apps(&made, ready("False", state));
        }
        world.pass();
        assert_eq!(world.status.jobs["j"].message, format!("service `db`: {why}"));
    }
    let mut world = World::new(job);
    let made = world.pass();
    let [Action::Start { object }] = &made[..] else { panic!("the service is made") };
    world.status = WorkflowRunStatus::default();
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    world.seen.refused.insert(name, "you may not".to_owned());
    assert_eq!(world.told(), NOTHING);
    assert_eq!(world.status.jobs["j"].message, "service `db`: you may not");
}
