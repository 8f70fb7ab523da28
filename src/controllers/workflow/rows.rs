//! Steps that are written down ahead: a row of them, of which the agent starts one after the other by itself.
//!
//! What a pass costs, and the way from the agent to it and back, are more than a quick command takes. So behind quick steps of a job those that
//! follow are made before it is their turn, as far as they are known: a command without an `if`, in whose texts nothing is read that a step
//! before it may change. The agent begins each of them if the one before succeeded and set nothing (`agent/rows.rs`); the passes follow, a moment
//! later, and fold in one what became of several.
//!
//! | one that was made ahead | the step before it led on to it | else |
//! |---|---|---|
//! | was begun | is the next step of the journal | stopped (it cannot be) |
//! | was not begun | is the next step: the agent begins it | taken away, in the version in which nobody had begun it |
//!
//! Its name is a function of the Run before it, so nobody has to write down what was made ahead, and none that was taken away comes again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Action, Observed,
    make::{self, Making},
    names,
    pass::{Cell, Pass},
};
use crate::{
    api::{
        Instance, JobStatus, Key, Object, Operation, Run, StepResult, StepStatus, Time, WorkState, WorkflowRun,
        WorkflowStep, attempt_name, step_by_number,
    },
    controllers::{operations, run},
    runtime::Caches,
};

/// Steps that are made ahead at most.
const LONGEST: usize = 64;
/// A step that took less is quick.
const QUICK: SignedDuration = SignedDuration::from_secs(1);
/// How much later the journal may tell of what the agent did by itself: what is waiting then is some thirty steps.
const BEHIND: SignedDuration = SignedDuration::from_millis(100);
/// Of what steps before may change, and of how they ended, a text speaks in one of these words.
const UNFORESEEN: &[&str] = &["steps", "env", "job", "hashFiles", "success", "failure", "always", "cancelled"];

/// A step that was made ahead.
#[derive(Clone, Debug)]
pub struct Planned {
    pub(super) run: Arc<Object<Run>>,
    pub(super) instance: Option<Arc<Object<Instance>>>,
}

impl Planned {
    /// When it was begun, if it was, or is about to be.
    fn begun(&self, now: Timestamp) -> Option<Timestamp> {
        let status = &self.instance.as_ref()?.status;
        let since = status.last_exit.as_ref().and_then(|exit| exit.start_time);
        let since = since.or(status.state.running.as_ref().map(|running| running.start_time));
        (status.attempt > 0).then(|| since.map_or(now, |since| since.0))
    }

    /// Takes it away, if nobody has begun it.
    pub(super) fn discard(&self) -> Vec<Operation> {
        let attempt = self.instance.as_ref().filter(|instance| !instance.metadata.is_deleting()).map(|instance| {
            let mut delete = operations::delete(&instance.key(), instance.uid());
            delete.preconditions.resource_version = Some(instance.metadata.resource_version.clone());
            delete
        });
        attempt.into_iter().chain([operations::delete(&self.run.key(), self.run.uid())]).collect()
    }
}

fn identity(step: &WorkflowStep, number: usize) -> String {
    step.identity().map_or_else(|| step_by_number(number + 1), str::to_owned)
}

/// Looks what was made ahead behind the steps that go on.
pub(super) fn observe(caches: &Caches, run: &Object<WorkflowRun>, observed: &mut Observed, now: Timestamp) {
    let Some(template) = &run.spec.template else { return };
    let namespace = &run.metadata.namespace;
    for (name, cell) in run.status.jobs.iter().filter(|(_, cell)| cell.state == WorkState::Running) {
        let Some(job) = template.jobs.get(if cell.job.is_empty() { name } else { &cell.job }) else { continue };
        let Some(mut before) = going(cell).map(|step| step.run.clone()) else { continue };
        for (at, step) in job.steps.iter().enumerate().skip(cell.steps.len()) {
            let name = names::ahead(run, name, &identity(step, at), &before);
            let found = caches.kind::<Run>().typed::<Run>(&Key::of::<Run>(namespace, &name));
            let Some(found) = found.filter(|run| !run.metadata.is_deleting()) else { break };
            let instance = Key::of::<Instance>(namespace, &attempt_name(&name, 1));
            let instance = caches.kind::<Instance>().typed::<Instance>(&instance);
            let mut planned = Planned { run: found, instance };
            if let Some(plan) = run::conclusion(&planned.run, caches, &observed.told, now) {
                planned.run = observed.end(planned.run, plan);
            }
            observed.runs.insert(name.clone(), planned.run.clone());
            observed.row.insert(name.clone(), planned);
            before = name;
        }
    }
}

/// The step of a cell that runs as a Run.
fn going(cell: &JobStatus) -> Option<&StepStatus> {
    cell.steps.last().filter(|step| step.state == WorkState::Running && !step.run.is_empty())
}

/// Whether a step is known before those before it have ended.
fn is_foreseen(step: &WorkflowStep) -> bool {
    let plain = step.condition.is_none() && step.timeout.is_none() && step.timeout_minutes.is_none();
    let text = json!(step).to_string();
    let fixed = !text.contains("${{") || UNFORESEEN.iter().all(|word| !text.contains(word));
    plain && fixed && step.sec_env.is_empty() && is_plain_command(step)
}

/// Whether all that a step leaves is known with its exit.
fn is_plain_command(step: &WorkflowStep) -> bool {
    step.script().is_some_and(|script| !make::says_commands(script))
}

impl Pass<'_> {
    /// Takes the next step of a cell for begun, if it was made ahead and the step before led on to it.
    pub(super) fn take_up(&mut self, of: Cell<'_>, cell: &mut JobStatus, step: &WorkflowStep) -> bool {
        let Some(before) = cell.steps.last().filter(|_| cell.steps.len() < of.job.steps.len()) else { return false };
        let id = identity(step, cell.steps.len());
        let name = names::ahead(self.run, of.name, &id, &before.run);
        let Some(planned) = self.observed.row.get(&name) else { return false };
        let begun = planned.begun(self.now);
        // The agent goes by the first attempt of the Run before it: one that was suspended has others.
        let first = self.observed.runs.get(&before.run).filter(|run| run.status.attempts == 1);
        let left = first.and_then(|run| run.status.result.as_ref());
        let led_on = before.state == WorkState::Success && left.is_some_and(StepResult::sets_nothing);
        if begun.is_none() && (of.cut.is_some() || !led_on) {
            return false;
        }
        let start_time = Some(Time(begun.unwrap_or(self.now)));
        self.rows.insert(name.clone());
        let (state, attempts) = (WorkState::Running, 1);
        cell.steps.push(StepStatus { id, state, attempts, run: name, start_time, ..StepStatus::default() });
        true
    }

    /// Makes steps ahead behind the one that runs.
    pub(super) fn look_ahead(&mut self, of: Cell<'_>, cell: &JobStatus) {
        let is_head = |step: &&StepStatus| step.next_attempt_time.is_none() && cell.steps.len() <= of.job.steps.len();
        let Some(head) = going(cell).filter(is_head).filter(|_| of.cut.is_none()) else { return };
        let (mut before, mut at, mut waiting) = (head.run.clone(), cell.steps.len(), 0);
        while let Some(step) = of.job.steps.get(at) {
            let name = names::ahead(self.run, of.name, &identity(step, at), &before);
            if !self.observed.row.contains_key(&name) {
                break;
            }
            self.rows.insert(name.clone());
            (before, at, waiting) = (name, at + 1, waiting + 1);
        }
        let (told, wanted) = (Self::told_in(of, cell), pace(cell));
        let leads = of.job.steps.get(cell.steps.len() - 1).is_some_and(is_plain_command);
        let known = leads && !self.observed.printed.contains(&head.id) && told.success;
        let Ok(until) = self.job_limit(of, cell) else { return };
        if !known || waiting > wanted / 2 {
            return;
        }
        while let Some(step) = of.job.steps.get(at).filter(|step| waiting < wanted && is_foreseen(step)) {
            let id = identity(step, at);
            if self.observed.printed.contains(&id) || self.is_full() {
                return;
            }
            let name = names::ahead(self.run, of.name, &id, &before);
            let status = StepStatus { id, attempts: 1, ..StepStatus::default() };
            let Ok(child) = make::child(self, &Making { of, cell, step, status: &status, told, until }) else { return };
            let mut object = child.object;
            object["metadata"]["name"] = json!(name);
            object["spec"]["step"]["after"] = json!(attempt_name(&before, 1));
            self.actions.push(Action::Foresee { object: Box::new(object) });
            (before, at, waiting) = (name, at + 1, waiting + 1);
        }
    }

    /// What was made ahead and is not to be done any more.
    pub(super) fn clear_rows(&mut self) {
        for (_, planned) in self.observed.row.iter().filter(|(name, _)| !self.rows.contains(*name)) {
            match planned.begun(self.now) {
                None => self.actions.push(Action::Discard(Box::new(planned.clone()))),
                Some(_) if planned.run.status.is_over() || planned.run.spec.cancel => {}
                Some(_) => self.actions.push(Action::CancelRun(planned.run.clone())),
            }
        }
    }
}

/// How many steps to make ahead of a cell: as many as were quick of those before, if most were.
fn pace(cell: &JobStatus) -> usize {
    let ended = cell.steps.iter().rev().skip(1).take(LONGEST);
    let took = |step: &StepStatus| Some(step.completion_time?.0.duration_since(step.start_time?.0));
    let quick = |step: &&StepStatus| {
        step.state == WorkState::Success && !step.run.is_empty() && took(step).is_some_and(|took| took < QUICK)
    };
    let quick = ended.filter(quick).count();
    let considered = (cell.steps.len() - 1).min(LONGEST);
    if 2 * quick < considered { 0 } else { quick }
}

/// Runs whose agent goes on by itself for a while, and until when nobody has to look; with their generation, since a wish that comes
/// meanwhile is seen at once.
#[derive(Debug, Default)]
pub(super) struct Rowing(Mutex<BTreeMap<Key, (Timestamp, i64)>>);

impl Rowing {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<Key, (Timestamp, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass at that time has left so many steps for the agent to begin.
    pub(super) fn note(&self, run: &Object<WorkflowRun>, row: usize, now: Timestamp) {
        let until = now.saturating_add(BEHIND).unwrap_or(now);
        match row > 1 {
            true => drop(self.inner().insert(run.key(), (until, run.metadata.generation))),
            false => self.forget(&run.key()),
        }
    }

    /// The run is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.inner().remove(key);
    }

    /// Until when a pass can wait.
    pub(super) fn until(&self, key: &Key, caches: &Caches, now: Timestamp) -> Option<Timestamp> {
        let (until, generation) = *self.inner().get(key)?;
        let same = caches.kind::<WorkflowRun>().get(key).is_some_and(|run| run.meta().generation == generation);
        // What is further away than it can be was noted by another clock.
        (same && now < until && until.duration_since(now) <= BEHIND).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_step_is_foreseen_if_no_step_before_it_can_change_it() {
        let is_foreseen = |said: Value| is_foreseen(&serde_json::from_value(said).expect("a step"));
        for said in [
            json!({"run": "make"}),
            json!({"id": "b", "command": "make", "env": {"A": "b"}, "shell": "sh", "continue-on-error": true}),
            json!({"run": "make ${{ matrix.target }} ${{ github.sha }} ${{ inputs.level }}", "retry": {"max": 2}}),
            json!({"run": "ls steps"}),
        ] {
            assert!(is_foreseen(said.clone()), "{said}");
        }
        for said in [
            json!({"run": "echo ${{ steps.a.outputs.b }}"}),
            json!({"run": "make", "if": "always()"}),
            json!({"run": "make", "timeout": 5}),
            json!({"run": "make", "env": {"A": "${{ inputs.level }}"}}),
            json!({"run": "make", "sec_env": {"T": {"secret": "a", "key": "b"}}}),
            json!({"run": "echo ::error::no"}),
            json!({"app": "build"}),
            json!({"workflow": "other"}),
            json!({"uses": "actions/upload-artifact@v4", "with": {"path": "a"}}),
        ] {
            assert!(!is_foreseen(said.clone()), "{said}");
        }
    }

    #[test]
    fn as_many_are_made_ahead_as_were_quick() {
        let cell = |took: &[i64]| {
            let at = |seconds: i64| Some(Time(Timestamp::from_second(seconds).expect("a time")));
            let ended = |took: &i64| StepStatus {
                state: WorkState::Success,
                run: "r".to_owned(),
                start_time: at(0),
                completion_time: at(*took),
                ..StepStatus::default()
            };
            let mut steps: Vec<StepStatus> = took.iter().map(ended).collect();
            steps.push(StepStatus { state: WorkState::Running, run: "r".to_owned(), ..StepStatus::default() });
            JobStatus { steps, ..JobStatus::default() }
        };
        assert_eq!(
            [&[][..], &[0], &[0, 0, 300], &[300], &[0, 300, 300]].map(|took| pace(&cell(took))),
            [0, 1, 2, 0, 0]
        );
        assert_eq!(pace(&cell(&[0; 100])), LONGEST);
    }
}
