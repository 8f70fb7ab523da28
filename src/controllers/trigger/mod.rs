//! The triggers of Workflows: what starts one by itself, at times and by what happens to an App.
//!
//! Each pass: look (the App and its Instances, own runs and Schedules, from caches) → [`decide`](decide::decide) (pure) → one transaction, in
//! which the runs of what happened and the status that says that it was told stand together. A Workflow without such triggers has a pass
//! that does nothing, and Instances of Apps that no Workflow asks for are not looked at.

mod decide;
mod execute;
mod happened;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};

use self::{
    decide::{Observed, Plan, decide},
    happened::Present,
};
use crate::{
    api::{
        APP_LABEL, App, EventName, Instance, Key, Kind, Object, ObjectReference, Schedule, Status, StoredObject,
        Workflow, WorkflowRun,
    },
    client::{Query, SharedClient},
    controllers::operations,
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-trigger";
/// States of Instances that are kept for one Workflow; beyond that the oldest are forgotten, and what comes after them tells what is.
const MOST_HEARD: usize = 10_000;
/// How long what could not be started waits before it is tried again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The controller. Run it with [`crate::runtime::run`].
pub struct TriggerController {
    client: SharedClient,
    events: Reporter,
    asked: Arc<Mutex<Asked>>,
}

/// Which Workflows ask for the events of which Apps.
#[derive(Default)]
struct Asked {
    by_app: BTreeMap<(Arc<str>, String), BTreeSet<Key>>,
    by_workflow: BTreeMap<Key, String>,
    /// States of Instances that the Workflow has not been told of yet, in their order.
    heard: BTreeMap<Key, VecDeque<Arc<Object<Instance>>>>,
}

impl Asked {
    /// What a Workflow asks for.
    fn note(&mut self, workflow: &Key, app: Option<&str>) {
        if self.by_workflow.get(workflow).map(String::as_str) == app {
            return;
        }
        if let Some(before) = self.by_workflow.remove(workflow) {
            let place = (workflow.namespace.clone(), before);
            if let Some(all) = self.by_app.get_mut(&place) {
                all.remove(workflow);
                if all.is_empty() {
                    self.by_app.remove(&place);
                }
            }
        }
        self.heard.remove(workflow);
        if let Some(app) = app {
            self.by_app.entry((workflow.namespace.clone(), app.to_owned())).or_default().insert(workflow.clone());
            self.by_workflow.insert(workflow.clone(), app.to_owned());
        }
    }

    fn who(&self, namespace: &Arc<str>, app: &str) -> Vec<Key> {
        if self.by_app.is_empty() {
            return Vec::new();
        }
        self.by_app.get(&(namespace.clone(), app.to_owned())).into_iter().flatten().cloned().collect()
    }
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TriggerController {
    /// A controller that acts through `client`.
    pub fn new(client: SharedClient, events: Reporter) -> Self {
        Self { client, events, asked: Arc::default() }
    }

    fn observe(&self, workflow: &Object<Workflow>, caches: &Caches) -> Observed {
        let (namespace, name) = (&workflow.metadata.namespace, &workflow.metadata.name);
        let controlled = |kind| caches.of(kind).controlled_by(namespace, Workflow::INFO.kind, name);
        let own = |meta: &crate::api::ObjectMeta| meta.controller().is_some_and(|owner| owner.uid == *workflow.uid());
        let schedules = controlled(Schedule::INFO).iter().filter_map(|object| object.typed::<Schedule>()).collect();
        let (mut runs, mut present) =
            (BTreeMap::new(), Present { app: None, instances: Vec::new(), earlier: Vec::new() });
        if let Some(trigger) = &workflow.spec.on.app_event {
            let found = controlled(WorkflowRun::INFO);
            let found = found.iter().filter_map(|object| object.typed::<WorkflowRun>());
            let found = found.filter(|run| own(&run.metadata) && run.spec.event.name == EventName::AppEvent);
            runs = found.map(|run| (run.metadata.name.to_string(), run.status.is_over())).collect();
            present.app = caches.kind::<App>().typed::<App>(&Key::of::<App>(namespace, &trigger.app));
            let instances = caches.kind::<Instance>().controlled_by(namespace, App::INFO.kind, &trigger.app);
            present.instances = instances.iter().filter_map(|object| object.typed::<Instance>()).collect();
            let heard = lock(&self.asked).heard.get(&workflow.key()).cloned().unwrap_or_default();
            present.earlier = heard.into();
        }
        Observed { present, runs, schedules }
    }

    async fn pass(&self, key: &Key, caches: &Caches, now: Timestamp) -> Result<Requeue, Status> {
        let workflow = caches.kind::<Workflow>().typed::<Workflow>(key);
        let asks = workflow.as_ref().and_then(|workflow| workflow.spec.on.app_event.as_ref());
        lock(&self.asked).note(key, asks.map(|trigger| trigger.app.as_str()));
        let Some(workflow) = workflow else { return Ok(Requeue::Rest) };
        let observed = self.observe(&workflow, caches);
        let plan = decide(&workflow, &observed, now);
        let about = || ObjectReference::to(&*workflow);
        match execute::execute(&self.client, caches, &workflow, &plan).await {
            Ok(()) => {}
            // The Workflow goes soon, too.
            Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
            // Somebody has to do something; what is not started stays due.
            Err(status) if !plan.actions.is_empty() && operations::is_refusal(&status) => {
                let message = self.in_parts(key, &workflow, caches, &observed, plan, &status, now).await?;
                if !workflow.status.conditions.iter().any(|known| known.message == message) {
                    self.events.record(about(), EventType::Warning, "FailedCreate", message, now);
                }
                return Ok(Requeue::At(now.saturating_add(TRY_AGAIN).unwrap_or(Timestamp::MAX)));
            }
            Err(status) => return Err(status),
        }
        for (kind, reason, message) in plan.told {
            self.events.record(about(), kind, reason, message, now);
        }
        self.forget(key, &observed, plan.untold);
        Ok(Requeue::Rest)
    }

    /// A plan was refused: neither holds back the other, what is done about times and what about events. What the Workflow says of it.
    #[expect(clippy::too_many_arguments, reason = "the parts of one pass")]
    async fn in_parts(
        &self,
        key: &Key,
        workflow: &Object<Workflow>,
        caches: &Caches,
        observed: &Observed,
        mut plan: Plan,
        refusal: &Status,
        now: Timestamp,
    ) -> Result<String, Status> {
        let execute = async |plan: &Plan| match execute::execute(&self.client, caches, workflow, plan).await {
            Ok(()) => Ok(true),
            Err(status) if operations::is_refusal(&status) && !super::is_terminating(&status) => Ok(false),
            Err(status) => Err(status),
        };
        let times = plan.take_times(workflow);
        if !times.actions.is_empty() {
            let message = format!("its schedules could not be made: {}", refusal.message);
            plan.say_refused(workflow, message.clone(), now);
            if execute(&plan).await? {
                for (kind, reason, message) in plan.told {
                    self.events.record(ObjectReference::to(workflow), kind, reason, message, now);
                }
                self.forget(key, observed, plan.untold);
                return Ok(message);
            }
            execute(&times).await?;
        }
        let message = format!("nothing was started: {}", refusal.message);
        plan.refuse(workflow, message.clone(), now);
        execute::execute(&self.client, caches, workflow, &plan).await?;
        Ok(message)
    }

    /// What was told need not be known any more.
    fn forget(&self, key: &Key, observed: &Observed, untold: Option<usize>) {
        let mut asked = lock(&self.asked);
        let Some(heard) = asked.heard.get_mut(key) else { return };
        let told = observed.present.earlier.len().min(untold.unwrap_or(usize::MAX)).min(heard.len());
        heard.drain(..told);
        if heard.is_empty() {
            asked.heard.remove(key);
        }
    }
}

/// Keeps what is heard of an Instance for those who ask for it.
fn of_instance(object: &StoredObject, asked: &Mutex<Asked>) -> Vec<Key> {
    let mut asked = lock(asked);
    if asked.by_app.is_empty() {
        return Vec::new();
    }
    let Some(app) = object.meta().labels.get(APP_LABEL) else { return Vec::new() };
    let who = asked.who(&object.key.namespace, app);
    if !who.is_empty()
        && let Some(state) = object.typed::<Instance>()
    {
        for workflow in &who {
            let heard = asked.heard.entry(workflow.clone()).or_default();
            if heard.len() >= MOST_HEARD {
                heard.pop_front();
            }
            heard.push_back(state.clone());
        }
    }
    who
}

impl Controller for TriggerController {
    fn name(&self) -> &'static str {
        "trigger"
    }

    fn watches(&self) -> Vec<Watched> {
        let watched = |kind, map| Watched { kind, query: Query::default(), map, kept: true };
        let asked = self.asked.clone();
        let apps =
            watched(App::INFO, Box::new(move |object, _| lock(&asked).who(&object.key.namespace, &object.key.name)));
        let asked = self.asked.clone();
        let instances = watched(Instance::INFO, Box::new(move |object, _| of_instance(object, &asked)));
        // Whoever waits for room has it when a run is over. Of a Workflow that asks for no events nobody does, and its runs are not read.
        let asked = self.asked.clone();
        let runs = watched(
            WorkflowRun::INFO,
            Box::new(move |object, caches| {
                let owner = object.meta().controller().filter(|owner| owner.kind == Workflow::INFO.kind);
                let workflow = owner.map(|owner| Key::of::<Workflow>(&object.key.namespace, &owner.name));
                let asks = workflow.filter(|workflow| lock(&asked).by_workflow.contains_key(workflow));
                let over = || caches.kind::<WorkflowRun>().typed::<WorkflowRun>(&object.key);
                asks.filter(|_| over().is_none_or(|run| run.status.is_over())).into_iter().collect()
            }),
        );
        let schedules = Watched::controlled(Schedule::INFO, Workflow::INFO);
        vec![Watched::primary(Workflow::INFO), apps, instances, runs, schedules]
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        self.pass(key, caches, now).boxed()
    }
}
