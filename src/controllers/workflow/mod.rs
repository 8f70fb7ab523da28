//! The WorkflowRun controller: a Run for each attempt of each step, until all jobs have ended.
//!
//! Each pass: look (own Runs, their attempts, and sub-runs, from caches) → [`decide`] (pure) → one transaction, in which the Runs of steps and the status
//! that tells of them stand together. What a step does is the business of its Run; this controller says what is done next, stops what
//! is cancelled or late, and folds what became of it into jobs, outputs and an end. `docs/design/023-workflows.md` says how.

mod ahead;
mod artifacts;
mod begin;
mod cells;
mod ends;
mod execute;
mod flights;
mod history;
mod make;
mod memory;
mod message;
mod names;
mod observe;
#[cfg(test)]
mod parts_tests;
mod pass;
mod queue;
mod rerun;
mod rows;
mod scope;
mod services;
mod steps;
#[cfg(test)]
mod tests;
mod turns;
mod workspace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use self::{
    ahead::{Ahead, Standing},
    begin::Begun,
    ends::Ends,
    flights::Flights,
    memory::{Decoded, Memory, Remembered},
    observe::Ended,
    rows::{Planned, Rowing},
};
pub use self::{message::Sending, observe::Observed, pass::decide};
use crate::{
    api::{
        App, CancelMode, Condition, Instance, Key, Kind, Node, Object, ObjectReference, RUN_FAILED, Reason, Rev, Run,
        Status, StoredObject, WORKFLOW_RUN_LABEL, WorkState, Workflow, WorkflowRun, WorkflowRunStatus, WorkflowSpec,
    },
    client::{Done, Query, SharedClient},
    controllers::{self, operations, place::Nodes, run::Steps},
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-workflow";

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make the Run or the WorkflowRun of a step.
    Start {
        /// All of it.
        object: Box<Value>,
    },
    /// Make the Run of a step whose turn has not come yet; the agent begins it when the one before has succeeded.
    Foresee {
        /// All of it.
        object: Box<Value>,
    },
    /// Take away what was made ahead, if nobody has begun it.
    Discard(Box<Planned>),
    /// Stop what ran beside a job. What it printed is kept with it until the run goes.
    StopService(Arc<Object<App>>),
    /// Send the message of a step.
    Send(Box<Sending>),
    /// Stop the Run of a step.
    CancelRun(Arc<Object<Run>>),
    /// Stop a WorkflowRun: that of a step, or one whose turn is over.
    CancelChild {
        /// Which.
        run: Arc<Object<WorkflowRun>>,
        /// How.
        mode: CancelMode,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start { object } => match object["metadata"]["annotations"][crate::api::STEP_ANNOTATION].as_str() {
                Some(step) => write!(f, "begin step {step}"),
                None => write!(f, "begin service {}", object["metadata"]["name"].as_str().unwrap_or_default()),
            },
            Action::Foresee { object } => {
                let step = object["metadata"]["annotations"][crate::api::STEP_ANNOTATION].as_str().unwrap_or_default();
                write!(f, "make step {step} ahead")
            }
            Action::Discard(_) => f.write_str("take back a step that was made ahead"),
            Action::StopService(app) => write!(f, "end service {}", app.metadata.name),
            Action::Send(sending) => write!(f, "send the message of step {}", sending.step),
            Action::CancelRun(run) => write!(f, "stop run {}", run.metadata.name),
            Action::CancelChild { run, .. } => write!(f, "stop workflow run {}", run.metadata.name),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In one transaction.
    pub actions: Vec<Action>,
    /// The status to write with them, if it differs from what is there.
    pub status: WorkflowRunStatus,
    /// When to look again though nothing changed.
    pub requeue: Requeue,
    /// It waits for another run to end.
    pub waits: bool,
    /// The messages that are under way from now on; others of it are withdrawn.
    pub under_way: BTreeSet<String>,
}

/// The controller. Run it with [`crate::runtime::run`].
pub struct WorkflowRunController {
    client: SharedClient,
    events: Reporter,
    /// Runs that wait for others. They have their turn when one ends.
    waiting: Arc<Mutex<BTreeSet<Key>>>,
    /// Held by a pass that may begin a run of a group, so that no two take the same turn.
    beginning: tokio::sync::Mutex<()>,
    flights: Flights,
    memory: Arc<Memory>,
    ahead: Ahead,
    ends: Ends,
    rowing: Rowing,
    nodes: Nodes,
    steps: Steps,
}

impl WorkflowRunController {
    /// A controller that acts through `client`, and shares `steps` with that of Runs.
    pub fn new(client: SharedClient, events: Reporter, steps: Steps) -> Self {
        Self {
            client,
            events,
            waiting: Arc::default(),
            beginning: tokio::sync::Mutex::default(),
            flights: Flights::new(),
            memory: Arc::default(),
            ahead: Ahead::default(),
            ends: Ends::default(),
            rowing: Rowing::default(),
            nodes: Nodes::default(),
            steps,
        }
    }

    /// Lets go of what is made anew when it is asked for, each time the server comes to rest; ends with who counts those.
    pub fn give_back(&self, mut rests: watch::Receiver<u64>) -> impl Future<Output = ()> + Send + use<> {
        let memory = self.memory.clone();
        async move {
            while rests.changed().await.is_ok() {
                memory.rest();
            }
        }
    }

    fn note(&self, key: &Key, waits: bool) {
        let mut waiting = self.waiting.lock().expect("no holder of the waiting panics");
        match waits {
            true => waiting.insert(key.clone()),
            false => waiting.remove(key),
        };
    }

    /// Does what there is to do; when to look again, and the version of the run that it wrote.
    async fn pass(&self, key: &Key, caches: &Caches, now: Timestamp) -> Result<(Requeue, Option<Rev>), Status> {
        let Some(stored) = caches.kind::<WorkflowRun>().typed::<WorkflowRun>(key) else {
            self.note(key, false);
            self.flights.keep(key, &BTreeSet::new());
            self.memory.gone(key);
            self.ahead.forget(key);
            self.ends.drop(key);
            self.rowing.forget(key);
            self.steps.leave(key);
            return Ok((Requeue::Rest, None));
        };
        let _turn = match stored.spec.template.as_ref().is_some_and(|template| takes_turns(&stored, template)) {
            true => {
                // So that it hears of who ends while it looks.
                self.note(key, true);
                Some(self.beginning.lock().await)
            }
            false => None,
        };
        let ends = self.ends.take(key, &stored);
        let standing = self.ahead.take(key, stored);
        let mut known = self.memory.take(key);
        let mut observed = observe::observe(caches, &self.memory, &standing.run, &mut known, ends.told(), now);
        observed.messages = self.flights.of(key);
        let plan = decide(&standing.run, &observed, now);
        if let Some(until) = standing.may_wait(&observed, &plan, self.flights.may_go_again(key), now) {
            return Ok((self.go_ahead(key, standing, plan, known, until, now), None));
        }
        let (plan, done) = match self.carry_out(key, caches, &standing, &mut observed, plan, now).await {
            Ok(done) => done,
            // The run goes soon, too.
            Err(status) if super::is_terminating(&status) => return Ok((Requeue::Rest, None)),
            Err(status) => {
                self.ahead.put_back(key, standing);
                return Err(status);
            }
        };
        let run = &standing.run;
        ends.written(&done);
        let written = execute::version(run, &done);
        let ended = observed.ended.iter().map(|ended| ended.run.key()).collect();
        let row = in_row(&observed, &plan);
        self.rowing.note(run, if plan.status.is_over() { 0 } else { row.len() }, now);
        self.steps.awaits(key, awaited(run, &plan, row), &ended);
        // Who holds a group may have to end for one that comes.
        self.note(key, plan.waits || !plan.status.is_over() && turns::takes_turns(&plan.status));
        self.send(key, &plan);
        if plan.status.is_over() {
            self.memory.forget(key);
            execute::forget(&self.client, caches, history::beyond(caches, &self.memory, run, now)).await?;
        } else {
            // Now, while its steps run, and not when somebody waits for the next.
            let stored = caches.kind::<WorkflowRun>().get(key);
            let decoded = stored.and_then(|run| Some(Decoded { length: run.json.len(), run: run.typed()? }));
            self.memory.keep(key, known, decoded);
        }
        self.report(run, &plan, now);
        for Ended { run, plan } in &observed.ended {
            controllers::run::report(&self.events, run, plan, now);
        }
        let requeue = match history::expires(caches, run) {
            Some(at) if run.status.is_over() && at > now => Requeue::At(at),
            _ => plan.requeue,
        };
        // Of an end there is more to do when it is heard of.
        Ok((requeue, written.filter(|_| !plan.status.is_over())))
    }

    /// Writes down what was planned and does it. What the server refuses is planned anew.
    async fn carry_out(
        &self,
        key: &Key,
        caches: &Caches,
        standing: &Standing,
        observed: &mut Observed,
        mut plan: Plan,
        now: Timestamp,
    ) -> Result<(Plan, Vec<Done>), Status> {
        loop {
            // Before it is written: what is begun may have ended before that is answered.
            self.steps.will_await(key, &awaited(&standing.run, &plan, in_row(observed, &plan)));
            match self.execute(caches, &standing.stored, observed, &plan, now).await {
                Ok(done) => return Ok((plan, done)),
                Err(status) if !super::is_terminating(&status) && operations::is_refusal(&status) => {
                    let Some(refused) = self.refused(&plan, &observed.refused).await? else { return Err(status) };
                    observed.refused.extend(refused);
                }
                Err(status) => return Err(status),
            }
            plan = decide(&standing.run, observed, now);
        }
    }

    /// Goes on as planned, and writes that down later; when to do so.
    fn go_ahead(
        &self,
        key: &Key,
        standing: Standing,
        plan: Plan,
        known: Remembered,
        until: Timestamp,
        now: Timestamp,
    ) -> Requeue {
        self.send(key, &plan);
        self.memory.keep(key, known, None);
        let at = match plan.requeue {
            Requeue::Rest => until,
            Requeue::At(at) => at.min(until),
        };
        self.ahead.hold(key, standing, plan, now);
        Requeue::At(at)
    }

    /// Withdraws the messages that go on no more, and sends those that are to be sent.
    fn send(&self, key: &Key, plan: &Plan) {
        self.flights.keep(key, &plan.under_way);
        for action in &plan.actions {
            if let Action::Send(sending) = action {
                self.flights.send(&self.client, key, sending);
            }
        }
    }

    /// Does the plan, and makes the first attempts of the steps that it begins. If that cannot be done, their Runs alone are made: whose
    /// controller finds out what they lack.
    async fn execute(
        &self,
        caches: &Caches,
        run: &Object<WorkflowRun>,
        observed: &Observed,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Vec<Done>, Status> {
        let begun = begin::begin(&self.client, caches, &self.nodes, &plan.actions, now).await?;
        if !begun.runs.is_empty() {
            match execute::execute(&self.client, caches, run, observed, plan, begun).await {
                Err(status) if !super::is_terminating(&status) => {
                    tracing::debug!(run = run.metadata.name, %status, "steps are begun without their attempts");
                }
                done => return done,
            }
        }
        execute::execute(&self.client, caches, run, observed, plan, Begun::default()).await
    }

    /// Which of the things that were to be begun will never be taken, and why. `None`: none of them.
    async fn refused(
        &self,
        plan: &Plan,
        known: &BTreeMap<String, String>,
    ) -> Result<Option<BTreeMap<String, String>>, Status> {
        let mut refused = BTreeMap::new();
        for action in &plan.actions {
            let Action::Start { object } = action else { continue };
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if known.contains_key(&name) {
                continue;
            }
            match execute::try_out(&self.client, object).await {
                Ok(()) => {}
                // One of its own, of which only the cache does not know yet, comes with the next look.
                Err(status) if status.is(Reason::AlreadyExists) => return Err(status),
                Err(status) if operations::is_refusal(&status) => drop(refused.insert(name, status.message)),
                Err(status) => return Err(status),
            }
        }
        Ok((!refused.is_empty()).then_some(refused))
    }

    fn report(&self, run: &Object<WorkflowRun>, plan: &Plan, now: Timestamp) {
        if let Some(failed) = Condition::find(&plan.status.conditions, RUN_FAILED)
            && !run.status.is_over()
        {
            let message = format!("{}: {}", failed.reason, failed.message);
            self.events.record(ObjectReference::to(run), EventType::Warning, "Failed", message, now);
        }
    }
}

impl Controller for WorkflowRunController {
    fn name(&self) -> &'static str {
        "workflow"
    }

    fn watches(&self) -> Vec<Watched> {
        let (waiting, memory) = (self.waiting.clone(), self.memory.clone());
        let own = Watched {
            kind: WorkflowRun::INFO,
            query: Query::default(),
            map: Box::new(move |object, caches| {
                let meta = object.meta();
                let above = meta.controller().filter(|owner| owner.kind == WorkflowRun::INFO.kind);
                let above = above.map(|owner| Key::of::<WorkflowRun>(&object.key.namespace, &owner.name));
                let itself = Some(object.key.clone()).filter(|key| memory.is_news(key, object.revision));
                let mut keys: Vec<Key> = above.into_iter().chain(itself).collect();
                let is_there = caches.kind::<WorkflowRun>().typed::<WorkflowRun>(&object.key);
                let concerns = |run: &Object<WorkflowRun>| {
                    let waits = run.status.start_time.is_none() && queue::wanted(run).is_some();
                    run.status.is_over() || waits || run.status.jobs.values().any(|cell| cell.turn.is_some())
                };
                if is_there.is_none_or(|run| concerns(&run)) {
                    let waiting = waiting.lock().expect("no holder of the waiting panics");
                    let same = |key: &&Key| key.namespace == object.key.namespace && **key != object.key;
                    keys.extend(waiting.iter().filter(same).cloned());
                }
                keys
            }),
            kept: true,
        };
        let of_workflows =
            Watched { kind: Workflow::INFO, query: Query::default(), map: Box::new(|_, _| Vec::new()), kept: true };
        let label_selector = WORKFLOW_RUN_LABEL.to_owned();
        let services = Watched {
            query: Query { label_selector, ..Query::default() },
            ..Watched::controlled(App::INFO, WorkflowRun::INFO)
        };
        let memory = self.memory.clone();
        let of_steps = Watched {
            map: Box::new(move |object, caches| {
                // That it has ended is mostly what the run's own pass has written.
                of_step(object, caches).filter(|key| memory.is_other(key, object.revision)).into_iter().collect()
            }),
            ..Watched::controlled(Run::INFO, WorkflowRun::INFO)
        };
        let label_selector = WORKFLOW_RUN_LABEL.to_owned();
        let attempts = Watched {
            kind: Instance::INFO,
            query: Query { label_selector, ..Query::default() },
            map: Box::new(|object, caches| of_attempt(object, caches).into_iter().collect()),
            kept: true,
        };
        let of_nodes =
            Watched { kind: Node::INFO, query: Query::default(), map: Box::new(|_, _| Vec::new()), kept: true };
        vec![own, of_steps, attempts, of_workflows, services, of_nodes]
    }

    fn calls(&self) -> BoxStream<'static, Key> {
        stream::select(self.flights.calls(), self.ends.calls(&self.steps)).boxed()
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            if let Some(until) = self.rowing.until(key, caches, now).filter(|_| !self.ends.wait(key)) {
                // What is new is what the agent does by itself.
                return Ok(Requeue::At(until));
            }
            self.memory.begin(key);
            let done = self.pass(key, caches, now).await;
            if done.is_err() {
                // Who knows when it succeeds: until then their own controller sees to them.
                self.steps.leave(key);
            }
            let news = self.memory.end(key, done.as_ref().map_or(None, |(_, written)| *written));
            done.map(|(requeue, _)| if news { Requeue::At(now) } else { requeue })
        }
        .boxed()
    }
}

/// The WorkflowRun of a step's Run that has ended, or is gone. How it goes meanwhile changes nothing.
fn of_step(object: &StoredObject, caches: &Caches) -> Option<Key> {
    let owner = object.meta().controller().filter(|owner| owner.kind == WorkflowRun::INFO.kind)?;
    let present = caches.kind::<Run>().typed::<Run>(&object.key);
    let goes_on = present.is_some_and(|run| !run.status.is_over() && !run.metadata.is_deleting());
    (!goes_on).then(|| Key::of::<WorkflowRun>(&object.key.namespace, &owner.name))
}

/// The WorkflowRun of a step's attempt that has ended, and whose Run has not, as far as is known.
fn of_attempt(object: &StoredObject, caches: &Caches) -> Option<Key> {
    let owner = object.meta().controller().filter(|owner| owner.kind == Run::INFO.kind)?;
    let above = object.meta().labels.get(WORKFLOW_RUN_LABEL)?;
    let instance = caches.kind::<Instance>().typed::<Instance>(&object.key)?;
    instance.status.state.exited.as_ref()?;
    let namespace = &object.key.namespace;
    let run = caches.kind::<Run>().typed::<Run>(&Key::of::<Run>(namespace, &owner.name));
    run.is_none_or(|run| !run.status.is_over()).then(|| Key::of::<WorkflowRun>(namespace, above))
}

/// The Runs that stay made ahead, or are made so.
fn in_row(observed: &Observed, plan: &Plan) -> BTreeSet<String> {
    let journal: BTreeSet<&str> =
        plan.status.jobs.values().flat_map(|job| &job.steps).map(|step| step.run.as_str()).collect();
    let stay = observed.row.keys().filter(|name| !journal.contains(name.as_str())).cloned();
    let made = plan.actions.iter().filter_map(|action| match action {
        Action::Foresee { object } => object["metadata"]["name"].as_str().map(str::to_owned),
        _ => None,
    });
    stay.chain(made).collect()
}

/// The Runs whose end the next passes will look for.
fn awaited(run: &Object<WorkflowRun>, plan: &Plan, row: BTreeSet<String>) -> BTreeSet<Key> {
    if plan.status.is_over() || run.metadata.is_deleting() {
        return BTreeSet::new();
    }
    let going = plan.status.jobs.values().filter(|job| !job.state.is_over()).flat_map(|job| &job.steps);
    let running = going.filter(|step| step.state == WorkState::Running && !step.run.is_empty());
    let names = running.map(|step| step.run.as_str()).chain(row.iter().map(String::as_str));
    names.map(|name| Key::of::<Run>(&run.metadata.namespace, name)).collect()
}

/// Whether it has to look who else is of a concurrency group, or works in the workspace that it is to go on in.
fn takes_turns(run: &WorkflowRun, template: &WorkflowSpec) -> bool {
    let shares = template.concurrency.is_some() || run.spec.rerun.is_some();
    let begins = run.status.start_time.is_none() && shares;
    begins || template.jobs.values().any(|job| job.concurrency.is_some())
}
