//! Whose turn it is among jobs: of all jobs and runs of one concurrency group one goes on at a time.
//!
//! A job claims its group once nothing else keeps it from beginning. The claim stands in its status, with its time: so who comes later
//! waits behind it, and a controller that comes after one that died finds it again. It holds the group from its beginning to its end.
//! Nobody ends the job of another run: one that goes on and sees a later claim by which it is to end ends itself.

use jiff::Timestamp;

use super::{
    pass::{Cell, Cut, Pass},
    queue::{self, LONGEST_QUEUE},
    scope::{Here, In, NOTHING_YET},
};
use crate::api::{
    CancelMode, ConcurrencyQueue, JobStatus, JobTurn, Object, Time, WorkState, WorkflowRun, WorkflowRunStatus,
};

/// A later one of the group has come in its place.
const SUPERSEDED: &str = "Superseded";

/// Whether a job may begin.
pub(super) enum Standing {
    /// It may.
    Begins,
    /// Not yet.
    Waits,
    /// It will not.
    Never,
}

/// What somebody wants of a group.
struct Claim {
    /// Who came first has its turn first; among those of one moment the names decide.
    since: (Timestamp, String),
    holds: bool,
    /// What goes on is to end for it.
    cancels: bool,
    /// What waits is to end for it.
    single: bool,
}

impl Pass<'_> {
    /// Whether it is this job's turn; if not, its status says why.
    ///
    /// # Errors
    /// If its group cannot be evaluated.
    pub(super) fn turn(&mut self, of: Cell<'_>, cell: &mut JobStatus) -> Result<Standing, String> {
        let Some(said) = &of.job.concurrency else { return Ok(Standing::Begins) };
        if cell.turn.is_none() {
            let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
            let here = Here { job: Some(place), told: NOTHING_YET, ..self.here() };
            let group = here.text(&said.group).map_err(|why| format!("concurrency.group: {why}"))?;
            let cancels = here.flag(said.cancel_in_progress.as_ref());
            let cancel_in_progress = cancels.map_err(|why| format!("cancel-in-progress: {why}"))?;
            let since = Time(self.now);
            cell.turn = Some(JobTurn { group, since, cancel_in_progress, queue: said.queue });
        }
        let Some(turn) = cell.turn.clone() else { return Ok(Standing::Begins) };
        let own = self.claim(of.name, &turn, false);
        let others = self.claims(of.name, &turn.group);
        if others.iter().any(|other| !other.holds && other.single && other.since > own.since) {
            cell.message = format!("a later one of the group `{}` waits in its place", turn.group);
            cell.reason = SUPERSEDED.to_owned();
            return Ok(Standing::Never);
        }
        let before = others.iter().filter(|other| !other.holds && other.since < own.since).count();
        let before = if own.single { 0 } else { before };
        let held = others.iter().any(|other| other.holds);
        if before >= LONGEST_QUEUE {
            cell.message = format!("{LONGEST_QUEUE} others wait for the group `{}` already", turn.group);
            "QueueFull".clone_into(&mut cell.reason);
            return Ok(Standing::Never);
        }
        if held || before > 0 {
            cell.message = format!("waits for its turn in the group `{}`", turn.group);
            "Queued".clone_into(&mut cell.reason);
            self.waits = true;
            return Ok(Standing::Waits);
        }
        cell.message.clear();
        cell.reason.clear();
        Ok(Standing::Begins)
    }

    /// That a job which goes on is to end for a later one.
    pub(super) fn superseded(&self, of: Cell<'_>, cell: &JobStatus) -> Option<Cut> {
        let turn = cell.turn.as_ref()?;
        let own = self.claim(of.name, turn, true);
        let later = |other: &Claim| !other.holds && other.cancels && other.since > own.since;
        let is_over = self.claims(of.name, &turn.group).iter().any(later);
        is_over.then_some(Cut { mode: CancelMode::Stop, reason: SUPERSEDED })
    }

    fn claim(&self, job: &str, turn: &JobTurn, holds: bool) -> Claim {
        claim(&self.run.metadata.name, job, turn, holds)
    }

    /// What all others want of a group.
    fn claims(&self, job: &str, group: &str) -> Vec<Claim> {
        let own = of_jobs(&self.run.metadata.name, &self.status, group, Some(job));
        // What its run holds as a whole is its jobs' to share: who waits for the run is not before them.
        let whole = queue::wanted(self.run).is_some_and(|(_, of)| of == group);
        let others = self.observed.others.iter().filter(|other| !whole && other.uid() != self.run.uid());
        let others = others.flat_map(|other| {
            let jobs = of_jobs(&other.metadata.name, &other.status, group, None);
            jobs.into_iter().chain(of_run(other, group))
        });
        own.into_iter().chain(others).collect()
    }
}

fn claim(run: &str, job: &str, turn: &JobTurn, holds: bool) -> Claim {
    let (cancels, single) = (turn.cancel_in_progress, turn.queue == ConcurrencyQueue::Single);
    Claim { since: (turn.since.0, format!("{run}/{job}")), holds, cancels, single }
}

/// What the jobs of a run want of a group.
fn of_jobs(run: &str, status: &WorkflowRunStatus, group: &str, but: Option<&str>) -> Vec<Claim> {
    let going = status.jobs.iter().filter(|(name, cell)| !cell.state.is_over() && Some(name.as_str()) != but);
    going
        .filter_map(|(name, cell)| {
            let turn = cell.turn.as_ref().filter(|turn| turn.group == group)?;
            Some(claim(run, name, turn, cell.state == WorkState::Running))
        })
        .collect()
}

/// What a run as a whole wants of a group.
fn of_run(run: &Object<WorkflowRun>, group: &str) -> Option<Claim> {
    let (said, _) = queue::wanted(run).filter(|(_, of)| of == group)?;
    let since = (run.metadata.creation_timestamp.map_or(Timestamp::MIN, |at| at.0), run.metadata.name.to_string());
    let (holds, single) = (run.status.start_time.is_some(), said.queue == ConcurrencyQueue::Single);
    Some(Claim { since, holds, cancels: queue::cancels(run, said) == Ok(true), single })
}

/// The job of a run that holds a group, or claimed it before this time; its name.
pub(super) fn job_before(run: &Object<WorkflowRun>, group: &str, since: Timestamp) -> Option<String> {
    let claims = of_jobs(&run.metadata.name, &run.status, group, None);
    claims.into_iter().find(|claim| claim.holds || claim.since.0 < since).map(|claim| claim.since.1)
}

/// Whether jobs of a run have claimed groups: then others wait for it, or it for them.
pub(super) fn takes_turns(status: &WorkflowRunStatus) -> bool {
    status.jobs.values().any(|cell| cell.turn.is_some() && !cell.state.is_over())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::Run,
        controllers::workflow::{Action, Observed, decide},
    };

    /// Runs of one namespace, and the Runs of their steps.
    struct World {
        runs: Vec<Object<WorkflowRun>>,
        steps: BTreeMap<String, Value>,
        now: Timestamp,
    }

    impl World {
        fn new() -> Self {
            let now = "2026-11-22T08:00:00Z".parse().expect("a time");
            Self { runs: Vec::new(), steps: BTreeMap::new(), now }
        }

        fn come(&mut self, name: &str, template: &Value) {
            let run = json!({
                "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1", "creationTimestamp": self.now.to_string()},
                "spec": {"workflow": "w", "identity": "ada", "template": template},
            });
            self.runs.push(serde_json::from_value(run).expect("a run"));
            self.look();
        }

        /// Passes over all, until nothing changes; at each moment one of a group goes on at most.
        fn look(&mut self) {
            for _ in 0..5 {
                for at in 0..self.runs.len() {
                    let others = self.runs.iter().filter(|run| !run.status.is_over());
                    let others = others.map(|run| Arc::new(run.clone())).collect();
                    let read =
                        |step: &Value| Arc::new(serde_json::from_value::<Object<Run>>(step.clone()).expect("a Run"));
                    let runs = self.steps.iter().map(|(name, step)| (name.clone(), read(step))).collect();
                    let plan = decide(&self.runs[at], &Observed { others, runs, ..Observed::default() }, self.now);
                    self.runs[at].status = plan.status;
                    for action in plan.actions {
                        match action {
                            Action::Start { object } => {
                                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                                self.steps.insert(name, *object);
                            }
                            Action::CancelRun(run) => self.end(&run.metadata.name.clone(), "Canceled"),
                            _ => {}
                        }
                    }
                    let holds = |run: &Object<WorkflowRun>| {
                        of_jobs("", &run.status, "g", None).iter().filter(|c| c.holds).count()
                    };
                    assert!(self.runs.iter().map(holds).sum::<usize>() <= 1, "{}", self.told());
                }
            }
        }

        fn end(&mut self, step: &str, reason: &str) {
            let kind = if reason == "ExitZero" { "Complete" } else { "Failed" };
            let now = self.now.to_string();
            let condition =
                json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now});
            let status = json!({"conditions": [condition], "exit": {"code": 0}, "completionTime": now});
            self.steps.get_mut(step).expect("it was begun")["status"] = status;
        }

        /// Every step that runs ends; later, all is looked at.
        fn go_on(&mut self) -> String {
            self.now += SignedDuration::from_secs(1);
            for name in self.steps.keys().cloned().collect::<Vec<_>>() {
                if self.steps[&name]["status"].is_null() {
                    self.end(&name, "ExitZero");
                }
            }
            self.look();
            self.told()
        }

        fn told(&self) -> String {
            let cells = self.runs.iter().flat_map(|run| &run.status.jobs);
            cells.map(|(name, cell)| format!("{name}:{:?}", cell.state)).collect::<Vec<_>>().join(" ")
        }
    }

    fn job(name: &str, concurrency: Value) -> Value {
        json!({"jobs": {name: {"concurrency": concurrency, "steps": [{"run": "true"}]}}})
    }

    #[test]
    fn jobs_of_a_group_go_on_one_at_a_time_in_the_order_in_which_they_came() {
        let mut world = World::new();
        let group = json!({"group": "g"});
        let cells = json!({"jobs": {"a": {
            "strategy": {"matrix": {"n": [1, 2]}}, "concurrency": group, "steps": [{"run": "true"}],
        }}});
        world.come("r1", &cells);
        world.now += SignedDuration::from_secs(1);
        world.come("r0", &job("b", group));
        assert_eq!(world.told(), "a (1):Running a (2):Pending b:Pending");
        assert_eq!(world.runs[1].status.jobs["b"].message, "waits for its turn in the group `g`");
        assert_eq!(world.go_on(), "a (1):Success a (2):Running b:Pending");
        assert_eq!(world.go_on(), "a (1):Success a (2):Success b:Running");
        assert_eq!(world.runs[1].status.jobs["b"].message, "");
        assert_eq!(world.go_on(), "a (1):Success a (2):Success b:Success");
    }

    #[test]
    fn a_later_job_ends_what_goes_on_or_what_waits_if_it_says_so() {
        let mut world = World::new();
        world.come("r1", &job("a", json!({"group": "g"})));
        for (name, key) in [("r2", "b"), ("r3", "c")] {
            world.now += SignedDuration::from_secs(1);
            world.come(name, &job(key, json!({"group": "g", "queue": "single"})));
        }
        assert_eq!(world.told(), "a:Running b:Cancelled c:Pending");
        world.now += SignedDuration::from_secs(1);
        world.come("r4", &job("d", json!({"group": "g", "cancel-in-progress": true})));
        world.look();
        assert_eq!(world.told(), "a:Cancelled b:Cancelled c:Cancelled d:Running");
        assert_eq!(world.runs[0].status.jobs["a"].reason, SUPERSEDED);
    }

    #[test]
    fn a_run_and_the_jobs_of_others_take_turns_and_its_own_jobs_do_not_wait_for_it() {
        let mut world = World::new();
        world.come("r1", &job("a", json!({"group": "g"})));
        world.now += SignedDuration::from_secs(1);
        let mut whole = job("b", json!({"group": "g"}));
        whole["concurrency"] = json!({"group": "g"});
        world.come("r2", &whole);
        world.now += SignedDuration::from_secs(1);
        world.come("r3", &job("c", json!({"group": "g"})));
        assert_eq!(world.told(), "a:Running c:Pending");
        assert_eq!(world.go_on(), "a:Success b:Running c:Pending");
        assert_eq!(world.go_on(), "a:Success b:Success c:Running");
    }
}
