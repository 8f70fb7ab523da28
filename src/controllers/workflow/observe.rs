//! Looks: the Runs and sub-runs of a WorkflowRun, and who else is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    memory::{Memory, Remembered},
    message::Answer,
    rows::{self, Planned},
    workspace,
};
use crate::{
    api::{App, Key, Kind, Object, Run, WorkState, WorkflowRun},
    controllers::run,
    runtime::Caches,
};

/// The world as one WorkflowRun's pass sees it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The Runs of steps of jobs that go on, by name.
    pub runs: BTreeMap<String, Arc<Object<Run>>>,
    /// The WorkflowRuns of steps, by name.
    pub children: BTreeMap<String, Arc<Object<WorkflowRun>>>,
    /// Those of the namespace that have not ended, of a run that may have to wait for them.
    pub others: Vec<Arc<Object<WorkflowRun>>>,
    /// The run that is done again.
    pub earlier: Option<Arc<Object<WorkflowRun>>>,
    /// The workspace that a run goes on in which goes on with an earlier one; else why there is none.
    pub workspace: Option<Result<String, String>>,
    /// What was not taken by the server, by name, and why.
    pub refused: BTreeMap<String, String>,
    /// Steps of whose standard output something is made.
    pub printed: Arc<BTreeSet<String>>,
    /// The Apps that it made to run beside its jobs, by name.
    pub services: BTreeMap<String, Arc<Object<App>>>,
    /// Messages that were sent, by the name of the attempt, and what came of them.
    pub messages: BTreeMap<String, Option<Arc<Answer>>>,
    /// How many runs are above this one.
    pub depth: usize,
    /// The Runs among `runs` whose end is yet to be written down, in the transaction that says what follows from it.
    pub ended: Vec<Ended>,
    /// How attempts ended of which only the agent knows yet: it is to be written down with all else, by the names of the Instances.
    pub told: BTreeMap<Key, run::Told>,
    /// Steps that were made ahead of the journal, by the names of their Runs, which are among `runs`.
    pub row: BTreeMap<String, Planned>,
}

/// A step's Run whose attempt is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// As it stands in the store.
    pub run: Arc<Object<Run>>,
    /// How it has ended.
    pub plan: run::Plan,
}

impl Observed {
    /// The Run as it will be when this pass has written down its end.
    pub(super) fn end(&mut self, run: Arc<Object<Run>>, plan: run::Plan) -> Arc<Object<Run>> {
        let mut ended = (*run).clone();
        ended.body.status.clone_from(&plan.status);
        self.ended.push(Ended { run, plan });
        Arc::new(ended)
    }
}

/// From caches alone; so what it does not find is not there.
pub(super) fn observe(
    caches: &Caches,
    memory: &Memory,
    run: &Object<WorkflowRun>,
    known: &mut Remembered,
    told: BTreeMap<Key, run::Told>,
    now: Timestamp,
) -> Observed {
    let namespace = &run.metadata.namespace;
    let mut observed = Observed { depth: depth(caches, run), told, ..Observed::default() };
    let apps = caches.kind::<App>().controlled_by(namespace, WorkflowRun::INFO.kind, &run.metadata.name);
    let own = |app: &Arc<Object<App>>| app.metadata.controller().is_some_and(|owner| owner.uid == *run.uid());
    let apps = apps.iter().filter_map(|app| app.typed::<App>()).filter(own);
    observed.services = apps.map(|app| (app.metadata.name.to_string(), app)).collect();
    if run.metadata.is_deleting() || run.status.is_over() {
        return observed;
    }
    let find = |name: &str| caches.kind::<WorkflowRun>().typed::<WorkflowRun>(&Key::of::<WorkflowRun>(namespace, name));
    let going = run.status.jobs.values().filter(|cell| !cell.state.is_over());
    for step in going.flat_map(|cell| &cell.steps).filter(|step| !step.run.is_empty()) {
        if step.state.is_over()
            && let Some(left) = known.ended.get(&step.run)
        {
            observed.runs.extend(left.iter().map(|run| (step.run.clone(), run.clone())));
        } else if let Some(found) = caches.kind::<Run>().typed::<Run>(&Key::of::<Run>(namespace, &step.run)) {
            if step.state.is_over() {
                known.ended.insert(step.run.clone(), Some(found.clone()).filter(|run| leaves_something(run)));
            }
            let found = match run::conclusion(&found, caches, &observed.told, now)
                .filter(|_| step.state == WorkState::Running)
            {
                Some(plan) => observed.end(found, plan),
                None => found,
            };
            observed.runs.insert(step.run.clone(), found);
        } else if step.state == WorkState::Running
            && let Some(found) = find(&step.run)
        {
            observed.children.insert(step.run.clone(), found);
        }
    }
    rows::observe(caches, run, &mut observed, now);
    if let Some(template) = &run.spec.template {
        observed.printed = known.printed.get_or_insert_with(|| Arc::new(printed(&json!(template)))).clone();
        if run.status.start_time.is_none() {
            observed.earlier = run.spec.rerun.as_ref().and_then(|rerun| find(&rerun.of));
            observed.workspace = observed.earlier.as_deref().and_then(|earlier| workspace::left(caches, run, earlier));
        }
        if super::takes_turns(run, template) {
            let all = caches.kind::<WorkflowRun>().list();
            let all = all.iter().filter(|other| *other.key.namespace == **namespace);
            // Of those that are over each version is read once, for whoever asks.
            let going = all.filter(|other| memory.ended(other, now).is_none());
            let going = going.filter_map(|other| other.typed::<WorkflowRun>());
            observed.others = going.filter(|other| !other.status.is_over()).collect();
        }
    }
    observed
}

/// Whether steps after it read more of it than stands in the run's status.
fn leaves_something(run: &Run) -> bool {
    let result = run.status.result.as_ref();
    result.is_some_and(|left| !left.env.is_empty() || !left.path.is_empty() || !left.stdout.is_empty())
}

/// The steps of whose `stdout` some text of the Workflow speaks. Too many do no harm.
fn printed(template: &Value) -> BTreeSet<String> {
    fn texts<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::String(text) if text.contains("stdout") && text.contains("steps") => found.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    texts(template, &mut found);
    if found.is_empty() {
        return BTreeSet::new();
    }
    let jobs = template["jobs"].as_object().into_iter().flat_map(|jobs| jobs.values());
    let steps = jobs.flat_map(|job| ["steps", "finally"].map(|name| job[name].as_array()));
    let ids = steps.flatten().flatten().filter_map(|step| step["id"].as_str().or(step["name"].as_str()));
    ids.filter(|id| found.iter().any(|text| text.contains(id))).map(str::to_owned).collect()
}

fn depth(caches: &Caches, run: &Object<WorkflowRun>) -> usize {
    let above = |run: &Object<WorkflowRun>| {
        let owner = run.metadata.controller().filter(|owner| owner.kind == WorkflowRun::INFO.kind)?;
        let key = Key::of::<WorkflowRun>(&run.metadata.namespace, &owner.name);
        caches.kind::<WorkflowRun>().typed::<WorkflowRun>(&key)
    };
    let mut depth = 0;
    let mut at = above(run);
    while let Some(next) = at {
        depth += 1;
        if depth > 64 {
            break;
        }
        at = above(&next);
    }
    depth
}
