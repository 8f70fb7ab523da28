//! The laws of [`decide`], on made-up workflows whose steps end in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Action, Observed, decide, rows::Planned};
use crate::{
    api::{Object, Run, WorkState, WorkflowRun},
    runtime::Requeue,
};

/// A job: which of those before it it needs, how many cells, whether one that fails stops the others, how many may run at once, and
/// which of its steps fail.
type Job = (Vec<prop::sample::Index>, usize, bool, Option<i32>, Vec<bool>);

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let steps = prop::collection::vec(prop::bool::weighted(0.15), 1..4);
    let job = (needs, 0..4_usize, any::<bool>(), prop::option::of(1..3), steps);
    prop::collection::vec(job, 1..6)
}

fn template(jobs: &[Job], fail_fast: bool) -> Value {
    let mut made = serde_json::Map::new();
    for (at, (needs, cells, fast, most, steps)) in jobs.iter().enumerate() {
        let needs: BTreeSet<String> = needs.iter().filter(|_| at > 0).map(|n| format!("j{}", n.index(at))).collect();
        let steps: Vec<Value> =
            steps.iter().map(|fails| json!({"run": if *fails { "false" } else { "true" }})).collect();
        let mut job = json!({"needs": needs, "steps": steps, "finally": [{"run": "true"}]});
        if *cells > 0 {
            job["strategy"] =
                json!({"matrix": {"n": (0..*cells).collect::<Vec<_>>()}, "fail-fast": *fast && fail_fast});
            if let Some(most) = most {
                job["strategy"]["max-parallel"] = json!(most);
            }
        }
        made.insert(format!("j{at}"), job);
    }
    json!({"jobs": made})
}

/// A run, and the Runs of its steps as they stand.
struct World {
    run: Object<WorkflowRun>,
    steps: BTreeMap<String, Value>,
    /// Which of them were made ahead of their turn.
    ahead: BTreeSet<String>,
    now: Timestamp,
}

impl World {
    fn new(template: &Value) -> Self {
        let run = json!({
            "metadata": {"name": "demo-1", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"workflow": "demo", "identity": "ada", "template": template},
        });
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self { run: serde_json::from_value(run).expect("a run"), steps: BTreeMap::new(), ahead: BTreeSet::new(), now }
    }

    fn observed(&self) -> Observed {
        let read = |value: &Value| Arc::new(serde_json::from_value::<Object<Run>>(value.clone()).expect("a Run"));
        let runs = self.steps.iter().map(|(name, value)| (name.clone(), read(value)));
        let row =
            self.ahead.iter().map(|name| (name.clone(), Planned { run: read(&self.steps[name]), instance: None }));
        Observed { runs: runs.collect(), row: row.collect(), ..Observed::default() }
    }

    /// One pass, done; the names of what it began.
    fn pass(&mut self) -> Vec<String> {
        let plan = decide(&self.run, &self.observed(), self.now);
        let mut begun = Vec::new();
        for action in plan.actions {
            match action {
                Action::Start { object } => {
                    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                    assert!(self.steps.insert(name.clone(), *object).is_none(), "{name} is begun twice");
                    begun.push(name);
                }
                Action::Foresee { object } => {
                    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                    assert!(self.steps.insert(name.clone(), *object).is_none(), "{name} is made twice");
                    self.ahead.insert(name);
                }
                Action::Discard(planned) => {
                    let name = &planned.run.metadata.name;
                    assert!(self.ahead.remove(name) && self.steps.remove(name).is_some(), "{name} was not made ahead");
                }
                Action::CancelRun(run) => self.end(&run.metadata.name.clone(), "Canceled"),
                Action::CancelChild { .. } | Action::StopService(_) | Action::Send(_) => {}
            }
        }
        self.run.status = plan.status;
        let steps = self.run.status.jobs.values().flat_map(|job| &job.steps);
        self.ahead.retain(|name| steps.clone().all(|step| step.run != *name));
        let again = matches!(plan.requeue, Requeue::At(at) if at <= self.now);
        let next = decide(&self.run, &self.observed(), self.now);
        let moved_on = next.status != self.run.status || !next.actions.is_empty();
        let cancelled = self.steps.values().any(|step| step["spec"]["cancel"] == true);
        assert!(again || cancelled || !moved_on, "a pass did not go as far as it could:\n{:#?}", self.run.status);
        begun
    }

    fn end(&mut self, name: &str, how: &str) {
        let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": self.now.to_string()});
        let (condition, code) = match how {
            "true" => (condition("Complete", "ExitZero"), 0),
            "false" => (condition("Failed", "BackoffLimitExceeded"), 1),
            _ => (condition("Failed", "Canceled"), 143),
        };
        let step = self.steps.get_mut(name).expect("it was begun");
        step["spec"]["cancel"] = json!(how == "Canceled");
        step["status"] = json!({"conditions": [condition], "exit": {"code": code}, "attempts": 1, "result": {}, "completionTime": self.now.to_string()});
    }

    /// Goes on until it is over; `order` says whose step ends next. The states of all cells and steps.
    fn finish(&mut self, order: &[prop::sample::Index]) -> String {
        for turn in 0..500 {
            self.pass();
            if self.run.status.is_over() {
                break;
            }
            let goes = |name: &String, step: &Value| step["status"].is_null() && !self.ahead.contains(name);
            let going: Vec<String> =
                self.steps.iter().filter(|(name, step)| goes(name, step)).map(|(name, _)| name.clone()).collect();
            if going.is_empty() {
                continue;
            }
            let name = &going[order[turn % order.len()].index(going.len())];
            let how = self.steps[name]["spec"]["process"]["script"].as_str().expect("a script").to_owned();
            self.end(name, &how);
        }
        let status = &self.run.status;
        assert!(status.is_over(), "it does not end: {status:#?}");
        let word = |state: WorkState| state.word();
        let cells = status.jobs.iter().map(|(name, cell)| {
            let steps: Vec<&str> = cell.steps.iter().map(|step| word(step.state)).collect();
            format!("{name}: {} {steps:?}", word(cell.state))
        });
        cells.collect::<Vec<_>>().join("\n")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn each_pass_goes_as_far_as_it_can_nothing_is_begun_twice_and_every_run_ends(
        jobs in jobs(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        World::new(&template(&jobs, true)).finish(&order);
    }

    #[test]
    fn what_comes_out_does_not_depend_on_whose_step_ends_first(
        jobs in jobs(),
        one in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
        other in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let template = template(&jobs, false);
        let (one, other) = (World::new(&template).finish(&one), World::new(&template).finish(&other));
        prop_assert_eq!(one, other);
    }
}
