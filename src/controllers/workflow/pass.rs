//! The judgement about one WorkflowRun: a pure function of the run, of what its steps have come to, and of the time.
//!
//! The state is folded anew in each pass, from the status (what was decided) and the Runs of the steps (what was done). What is
//! decided and the Runs that it leads to are written in one transaction; so whoever dies between two of them, the next pass
//! comes to the same. Laws: the same inputs give the same plan; a step is begun once, an attempt of it has one name; what has
//! ended stays as it is; a job begins when the last that it needs has ended.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    Action, Observed, Plan, artifacts, queue, rerun,
    scope::{Here, In, NOTHING_YET, Told},
};
use crate::{
    api::{
        COMPLETE, CancelMode, Condition, JobStatus, Object, RUN_FAILED, RUNNING, Time, WorkState, WorkflowJob,
        WorkflowRun, WorkflowRunStatus, WorkflowSpec,
    },
    policy::{
        dag::{Before, Dag, End},
        expr,
    },
    runtime::Requeue,
};

/// Minutes that a run and a job may take if nothing is said.
const LONGEST: f64 = 360.0;
/// What one pass begins at most; the rest follows at once.
const MOST_ACTIONS: usize = 256;
/// It took longer than it may.
pub(super) const TIMED_OUT: &str = "TimedOut";
/// Somebody cancelled it.
pub(super) const CANCELED: &str = "Canceled";
/// Another cell of its job failed.
const FAIL_FAST: &str = "FailFast";
/// An expression cannot be evaluated.
pub(super) const INVALID: &str = "InvalidExpression";

/// A job that has ended, all its cells together.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// What it counts as.
    pub state: WorkState,
    /// Of all its cells.
    pub outputs: BTreeMap<String, String>,
}

/// Something ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub mode: CancelMode,
    pub reason: &'static str,
}

/// One pass.
pub(super) struct Pass<'a> {
    pub run: &'a Object<WorkflowRun>,
    pub template: &'a WorkflowSpec,
    pub observed: &'a Observed,
    pub now: Timestamp,
    pub status: WorkflowRunStatus,
    pub actions: Vec<Action>,
    pub ended: BTreeMap<&'a str, Ended>,
    /// All of the run.
    pub cut: Option<Cut>,
    /// Messages that go on.
    pub under_way: BTreeSet<String>,
    /// A job waits for its turn.
    pub waits: bool,
    /// The Runs that were made ahead and stay.
    pub rows: BTreeSet<String>,
    wakes: Vec<Timestamp>,
}

/// A job and one cell of it.
#[derive(Clone, Copy)]
pub(super) struct Cell<'a> {
    pub key: &'a str,
    pub job: &'a WorkflowJob,
    /// Its name in the status.
    pub name: &'a str,
    pub place: (usize, usize),
    /// All of this cell.
    pub cut: Option<Cut>,
}

/// What to do about `run` now.
pub fn decide(run: &Object<WorkflowRun>, observed: &Observed, now: Timestamp) -> Plan {
    let status = run.status.clone();
    let nothing = WorkflowSpec::default();
    let template = run.spec.template.as_deref();
    let mut pass = Pass {
        run,
        template: template.unwrap_or(&nothing),
        observed,
        now,
        status,
        actions: Vec::new(),
        ended: BTreeMap::new(),
        cut: None,
        under_way: BTreeSet::new(),
        waits: false,
        rows: BTreeSet::new(),
        wakes: Vec::new(),
    };
    if run.metadata.is_deleting() || run.status.is_over() {
        return pass.plan();
    }
    pass.status.observed_generation = run.metadata.generation;
    if template.is_none() {
        return pass.end(WorkState::Failure, "NoWorkflow", "what it was to run was not written down".to_owned());
    }
    if pass.status.start_time.is_none()
        && let Some(plan) = pass.wait_or_begin()
    {
        return plan;
    }
    pass.go_on()
}

impl<'a> Pass<'a> {
    /// A plan while it waits for its turn, or if it ends before it began.
    fn wait_or_begin(&mut self) -> Option<Plan> {
        if self.run.spec.cancel.is_some() {
            return Some(self.end(WorkState::Cancelled, CANCELED, "it was cancelled before it began".to_owned()));
        }
        match queue::turn(self.run, self.template, &self.observed.others, self.now) {
            Ok(queue::Turn::Now { instead_of }) => {
                self.actions
                    .extend(instead_of.into_iter().map(|run| Action::CancelChild { run, mode: CancelMode::Stop }));
            }
            Ok(queue::Turn::Waits { message, until, instead_of }) => {
                self.actions
                    .extend(instead_of.into_iter().map(|run| Action::CancelChild { run, mode: CancelMode::Stop }));
                self.say(RUNNING, false, "Queued", message);
                let requeue = until.map_or(Requeue::Rest, Requeue::At);
                return Some(Plan { requeue, waits: true, ..self.plan() });
            }
            Ok(queue::Turn::Never { reason, message }) => return Some(self.end(WorkState::Cancelled, reason, message)),
            Err(message) => return Some(self.end(WorkState::Failure, INVALID, message)),
        }
        self.status.start_time = Some(Time(self.now));
        if let Some(again) = &self.run.spec.rerun {
            match rerun::carried(again, self.template, self.observed.earlier.as_deref()) {
                Ok(jobs) => {
                    self.status.artifacts = artifacts::carried(&jobs, self.observed.earlier.as_deref());
                    self.status.jobs = jobs;
                    self.enter_workspace();
                }
                Err(message) => return Some(self.end(WorkState::Failure, "NoEarlierRun", message)),
            }
        }
        None
    }

    fn go_on(mut self) -> Plan {
        let here = Here {
            run: self.run,
            ended: &self.ended,
            runs: &self.observed.runs,
            job: None,
            told: NOTHING_YET,
            there: false,
        };
        let minutes = here.number(self.template.timeout_minutes.as_ref());
        let limit = match minutes {
            Ok(minutes) => self.after(self.status.start_time, minutes.unwrap_or(LONGEST)),
            Err(why) => return self.end(WorkState::Failure, INVALID, format!("timeout-minutes: {why}")),
        };
        self.cut = match self.run.spec.cancel {
            Some(mode) => Some(Cut { mode, reason: CANCELED }),
            None if limit <= self.now => Some(Cut { mode: CancelMode::Stop, reason: TIMED_OUT }),
            None => None,
        };
        if self.cut.is_none() {
            self.wakes.push(limit);
        }
        let template = self.template;
        let keys: Vec<&str> = template.jobs.keys().map(String::as_str).collect();
        let place = |key: &str| keys.binary_search(&key).ok();
        let needs: Vec<Vec<usize>> =
            template.jobs.values().map(|job| job.needs.iter().filter_map(place).collect()).collect();
        let Ok(mut dag) = Dag::of(&needs) else {
            return self.end(WorkState::Failure, "Circle", "its jobs need each other in a circle".to_owned());
        };
        let mut cells: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, cell) in &self.status.jobs {
            let key = if cell.job.is_empty() { name } else { &cell.job };
            cells.entry(key.clone()).or_default().push(name.clone());
        }
        while let Some((node, before)) = dag.ready() {
            let key = keys[node];
            let known = cells.remove(key).unwrap_or_default();
            if let Some(ended) = self.job(key, &template.jobs[key], before, known) {
                dag.finish(node, end_of(ended.state));
                self.ended.insert(key, ended);
            }
        }
        if dag.left() > 0 {
            let word = match self.cut {
                None => RUNNING,
                Some(Cut { mode: CancelMode::Drain, .. }) => "Draining",
                Some(_) => "Stopping",
            };
            self.say(RUNNING, true, word, String::new());
            return self.plan();
        }
        self.finish()
    }

    /// One job, as far as it comes now; nothing while it goes on.
    fn job(&mut self, key: &'a str, job: &'a WorkflowJob, before: Before, mut cells: Vec<String>) -> Option<Ended> {
        if cells.is_empty() {
            cells = self.begin_job(key, job, before);
        }
        cells.sort_unstable();
        let strategy = job.strategy.as_ref();
        let place = |cell| In { key, job, cell, env: None, place: (0, cells.len()) };
        let here = Here { told: self.told(before), job: Some(place(None)), ..self.here() };
        let fail_fast = strategy.is_some() && here.flag_or(strategy.and_then(|s| s.fail_fast.as_ref()), true);
        let most = here.number(strategy.and_then(|s| s.max_parallel.as_ref())).ok().flatten();
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "what is out of range is taken to it"
        )]
        let most = most.map_or(usize::MAX, |most| most.max(1.0) as usize);
        let failed = |cell: &JobStatus| cell.conclusion.unwrap_or(cell.state) == WorkState::Failure;
        let over = |status: &WorkflowRunStatus| {
            cells.iter().filter(|name| status.jobs.get(*name).is_some_and(|cell| cell.state.is_over())).count()
        };
        let before_it = over(&self.status);
        for (at, name) in cells.iter().enumerate() {
            let states = || cells.iter().filter_map(|name| self.status.jobs.get(name));
            let fast = fail_fast && states().any(failed);
            let running = states().filter(|cell| cell.state == WorkState::Running).count();
            let Some(mut cell) = self.status.jobs.remove(name) else { continue };
            if !cell.state.is_over() {
                let cut = self.cut.or_else(|| fast.then_some(Cut { mode: CancelMode::Stop, reason: FAIL_FAST }));
                let of = Cell { key, job, name, place: (at, cells.len()), cut };
                self.cell(of, &mut cell, running < most);
            }
            self.status.jobs.insert(name.clone(), cell);
        }
        let ended = over(&self.status);
        if before_it < ended && ended < cells.len() {
            // Cells that were looked at before may go on, or have to stop, for that.
            self.wakes.push(self.now);
        }
        self.gather(&cells)
    }

    /// The job's result, when all its cells have one.
    fn gather(&self, cells: &[String]) -> Option<Ended> {
        let cells: Vec<&JobStatus> = cells.iter().filter_map(|name| self.status.jobs.get(name)).collect();
        let states: Vec<WorkState> = cells.iter().map(|cell| cell.conclusion.unwrap_or(cell.state)).collect();
        if states.iter().any(|state| !state.is_over()) {
            return None;
        }
        let is = |state: WorkState| states.contains(&state);
        let state = match () {
            () if is(WorkState::Failure) => WorkState::Failure,
            () if is(WorkState::Cancelled) => WorkState::Cancelled,
            () if is(WorkState::Success) => WorkState::Success,
            () => WorkState::Skipped,
        };
        let outputs = cells.iter().flat_map(|cell| &cell.outputs);
        let outputs = outputs.map(|(name, text)| (name.clone(), text.clone())).collect();
        Some(Ended { state, outputs })
    }

    /// Judges its `if` and finds its cells; their names.
    fn begin_job(&mut self, key: &'a str, job: &'a WorkflowJob, before: Before) -> Vec<String> {
        let verdict = self.verdict(key, job, before);
        let cells = match verdict {
            Ok(()) => {
                let here = Here { job: Some(self.place(key, job)), told: self.told(before), ..self.here() };
                super::cells::cells(&here, self.status.jobs.len())
            }
            Err((state, reason, message)) => {
                let ended = Some(Time(self.now));
                let cell = JobStatus {
                    state,
                    reason: reason.to_owned(),
                    message,
                    completion_time: ended,
                    ..JobStatus::default()
                };
                self.status.jobs.insert(key.to_owned(), cell);
                return vec![key.to_owned()];
            }
        };
        match cells {
            Ok(cells) => {
                let mut names = Vec::new();
                for (name, cell) in cells {
                    names.push(name.clone());
                    self.status.jobs.insert(name, cell);
                }
                names
            }
            Err(message) => {
                let (state, reason) = (WorkState::Failure, "InvalidMatrix".to_owned());
                let completion_time = Some(Time(self.now));
                let cell = JobStatus { state, reason, message, completion_time, ..JobStatus::default() };
                self.status.jobs.insert(key.to_owned(), cell);
                vec![key.to_owned()]
            }
        }
    }

    fn verdict(
        &self,
        key: &'a str,
        job: &'a WorkflowJob,
        before: Before,
    ) -> Result<(), (WorkState, &'static str, String)> {
        let cancelled = |cut: Cut| (WorkState::Cancelled, cut.reason, "the run ended before it began".to_owned());
        if let Some(cut) = self.cut.filter(|cut| cut.mode == CancelMode::Kill) {
            return Err(cancelled(cut));
        }
        let invalid = |why: String| (WorkState::Failure, INVALID, format!("if: {why}"));
        let text = job.condition.as_ref().map_or("", |condition| condition.as_str());
        let condition = expr::Condition::parse(text).map_err(|fault| invalid(fault.to_string()))?;
        let here = Here { job: Some(self.place(key, job)), told: self.told(before), ..self.here() };
        let Some(why) = here.why_not(&condition).map_err(invalid)? else { return Ok(()) };
        if let Some(cut) = self.cut {
            return Err(cancelled(cut));
        }
        let blocked = job.needs.iter().find_map(|need| {
            let state = self.ended.get(need)?.state;
            (state != WorkState::Success).then(|| format!("job `{need}` {}", past(state)))
        });
        let message = match blocked {
            Some(blocked) if condition.implies_success() => blocked,
            _ => why,
        };
        Err((WorkState::Skipped, "Condition", message))
    }

    /// All jobs have ended.
    fn finish(mut self) -> Plan {
        let is = |state: WorkState| self.ended.values().any(|ended| ended.state == state);
        let (state, reason) = match self.cut {
            Some(cut) if is(WorkState::Cancelled) || is(WorkState::Failure) => match cut.reason {
                TIMED_OUT => (WorkState::Failure, TIMED_OUT),
                reason => (WorkState::Cancelled, reason),
            },
            _ if is(WorkState::Failure) => (WorkState::Failure, "Failure"),
            _ if is(WorkState::Cancelled) => (WorkState::Cancelled, CANCELED),
            _ => (WorkState::Success, "Success"),
        };
        let bad =
            self.ended.iter().filter(|(_, ended)| matches!(ended.state, WorkState::Failure | WorkState::Cancelled));
        let words: Vec<String> = bad.take(5).map(|(key, ended)| format!("job `{key}` {}", past(ended.state))).collect();
        let told =
            Told { success: state == WorkState::Success, failure: state == WorkState::Failure, cancelled: false };
        let here = Here { told, ..self.here() };
        let call = self.template.on.workflow_call.iter().flat_map(|call| &call.outputs);
        let outputs: Result<BTreeMap<String, String>, String> = call
            .map(|(name, output)| {
                let text = here.text(output.value.as_str()).map_err(|why| format!("output `{name}`: {why}"))?;
                Ok((name.clone(), text))
            })
            .collect();
        match outputs {
            Ok(outputs) => self.status.outputs = outputs,
            Err(why) => return self.end(WorkState::Failure, INVALID, why),
        }
        self.end(state, reason, words.join(", "))
    }

    pub(super) fn here(&self) -> Here<'_> {
        Here {
            run: self.run,
            ended: &self.ended,
            runs: &self.observed.runs,
            job: None,
            told: NOTHING_YET,
            there: false,
        }
    }

    fn place(&self, key: &'a str, job: &'a WorkflowJob) -> In<'a> {
        In { key, job, cell: None, env: None, place: (0, 1) }
    }

    fn told(&self, before: Before) -> Told {
        Told { success: before.success, failure: before.failure, cancelled: self.cut.is_some() }
    }

    /// So many minutes after that.
    pub(super) fn after(&self, since: Option<Time>, minutes: f64) -> Timestamp {
        let since = since.map_or(self.now, |at| at.0);
        #[expect(clippy::cast_possible_truncation, reason = "what is out of range is taken to it")]
        let length = SignedDuration::from_millis((minutes.max(0.0) * 60_000.0) as i64);
        since.checked_add(length).unwrap_or(Timestamp::MAX)
    }

    /// The minutes that a job may take.
    pub(super) fn job_limit(&self, cell: Cell<'_>, status: &JobStatus) -> Result<Timestamp, String> {
        let place = In { key: cell.key, job: cell.job, cell: Some(status), env: None, place: cell.place };
        let here = Here { job: Some(place), ..self.here() };
        let minutes =
            here.number(cell.job.timeout_minutes.as_ref()).map_err(|why| format!("timeout-minutes: {why}"))?;
        Ok(self.after(status.start_time, minutes.unwrap_or(LONGEST)))
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wakes.push(at);
    }

    /// False if this pass has begun so much that the rest waits for the next.
    pub(super) fn has_room(&mut self) -> bool {
        if self.is_full() {
            self.wakes.push(self.now);
        }
        !self.is_full()
    }

    /// True if this pass has begun as much as one may.
    pub(super) fn is_full(&self) -> bool {
        self.actions.len() >= MOST_ACTIONS
    }

    fn plan(&mut self) -> Plan {
        self.clear_services();
        self.clear_rows();
        let requeue = self.wakes.iter().min().map_or(Requeue::Rest, |at| Requeue::At(*at));
        let (actions, status) = (std::mem::take(&mut self.actions), std::mem::take(&mut self.status));
        Plan { actions, status, requeue, waits: self.waits, under_way: std::mem::take(&mut self.under_way) }
    }

    fn end(&mut self, state: WorkState, reason: &str, message: String) -> Plan {
        let kind = if state == WorkState::Success { COMPLETE } else { RUN_FAILED };
        let reason = if reason == "Success" { state_word(state) } else { reason };
        self.say(kind, true, reason, message.clone());
        self.say(RUNNING, false, reason, message);
        self.status.completion_time = Some(Time(self.now));
        self.wakes.clear();
        self.plan()
    }

    pub(super) fn say(&mut self, kind: &str, holds: bool, reason: &str, message: String) {
        let condition = Condition::new(kind, holds, reason, message, Time(self.now)).of(self.run.metadata.generation);
        Condition::set(&mut self.status.conditions, condition);
    }
}

fn end_of(state: WorkState) -> End {
    match state {
        WorkState::Success => End::Success,
        WorkState::Failure => End::Failure,
        WorkState::Cancelled => End::Cancelled,
        WorkState::Skipped | WorkState::Pending | WorkState::Running => End::Skipped,
    }
}

fn state_word(state: WorkState) -> &'static str {
    match state {
        WorkState::Success => "Success",
        WorkState::Cancelled => "Cancelled",
        _ => "Failure",
    }
}

/// The rest of the sentence "job `build` …".
pub(super) fn past(state: WorkState) -> &'static str {
    match state {
        WorkState::Success => "succeeded",
        WorkState::Failure => "failed",
        WorkState::Cancelled => "was cancelled",
        WorkState::Skipped => "was skipped",
        WorkState::Pending | WorkState::Running => "has not ended",
    }
}
