//! One cell of a job: its steps one after the other, then `finally`, then what others learn of it.
//!
//! | a step | its `if` | cancelled, too late | else |
//! |---|---|---|---|
//! | is next | does not hold: `Skipped`, or `Cancelled` for that | `if: always()`: begun | begun |
//! | runs | | stopped, unless its `if` wants it to go on | waits |
//! | failed, may be tried again | | `Cancelled` | the next attempt when it is due |
//!
//! Whatever the time of a job was, `finally` and steps that want it have [`RESERVE`] more.

use jiff::{SignedDuration, Timestamp};

use super::{
    Action,
    make::{self, Making},
    pass::{Cell, Cut, INVALID, Pass, TIMED_OUT},
    scope::{Here, In, Told},
    turns::Standing,
};
use crate::{
    api::{
        COMPLETE, CancelMode, Condition, ConditionStatus, JobStatus, RUN_DEADLINE, RUN_FAILED, RunExit, RunStatus,
        StepRetry, StepStatus, Time, WorkState, WorkflowRun, WorkflowStep, signal_number, step_by_number,
    },
    policy::{backoff::spread, expr},
};

/// What `finally`, and what else is done after the time was over, may take.
const RESERVE: SignedDuration = SignedDuration::from_mins(10);
/// What the steps of a job point out, all together.
const MOST_ANNOTATIONS: usize = 50;
/// The longest pause between two attempts.
const LONGEST_PAUSE: f64 = 3600.0;

/// How a step's attempt ended.
pub(super) struct Outcome {
    pub state: WorkState,
    pub reason: String,
    pub message: String,
    pub exit_code: Option<i32>,
    pub at: Timestamp,
}

impl Outcome {
    pub(super) fn failure(reason: &str, message: String, at: Timestamp) -> Self {
        Self { state: WorkState::Failure, reason: reason.to_owned(), message, exit_code: None, at }
    }
}

impl Pass<'_> {
    /// Takes one cell as far as it comes now. `free`: it may begin if it has not.
    pub(super) fn cell(&mut self, of: Cell<'_>, cell: &mut JobStatus, free: bool) {
        if cell.state == WorkState::Pending {
            if let Some(cut) = of.cut.filter(|cut| !self.wants_to_run(of, *cut)) {
                (cell.state, cell.completion_time) = (WorkState::Cancelled, Some(Time(self.now)));
                cell.reason = cut.reason.to_owned();
                return;
            }
            if !free || !self.has_room() {
                return;
            }
            match self.turn(of, cell) {
                Ok(Standing::Begins) => {}
                Ok(Standing::Waits) => return,
                Ok(Standing::Never) => {
                    (cell.state, cell.completion_time) = (WorkState::Cancelled, Some(Time(self.now)));
                    return;
                }
                Err(why) => return self.conclude(of, cell, Some(why)),
            }
            (cell.state, cell.start_time) = (WorkState::Running, Some(Time(self.now)));
        }
        let of = Cell { cut: of.cut.or_else(|| self.superseded(of, cell)), ..of };
        let of = match self.job_limit(of, cell) {
            Ok(limit) if limit <= self.now => {
                let late = Cut { mode: CancelMode::Stop, reason: TIMED_OUT };
                Cell { cut: of.cut.or(Some(late)), ..of }
            }
            Ok(limit) => {
                self.wake(limit);
                of
            }
            Err(why) => return self.conclude(of, cell, Some(why)),
        };
        if of.cut.is_none() {
            match self.serve(of, cell) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return self.conclude(of, cell, Some(why)),
            }
        }
        let (steps, finally) = (&of.job.steps, &of.job.finally);
        loop {
            while let Some(step) = cell.steps.len().checked_sub(1).filter(|_| !last_is_over(cell)) {
                // There is one, since the status was made of this template.
                let Some(said) = steps.iter().chain(finally).nth(step) else { break };
                self.follow(of, cell, said);
                if !last_is_over(cell) {
                    return self.look_ahead(of, cell);
                }
            }
            let Some(said) = steps.iter().chain(finally).nth(cell.steps.len()) else { break };
            if self.take_up(of, cell, said) {
                continue;
            }
            if !self.begin(of, cell, said) {
                return;
            }
            if !last_is_over(cell) {
                return self.look_ahead(of, cell);
            }
        }
        self.conclude(of, cell, None);
    }

    /// Whether the job's `if` wants it to be done although all is being cancelled.
    fn wants_to_run(&self, of: Cell<'_>, cut: Cut) -> bool {
        let text = of.job.condition.as_ref().map_or("", |condition| condition.as_str());
        let Ok(condition) = expr::Condition::parse(text) else { return false };
        if cut.mode == CancelMode::Kill || condition.implies_success() {
            return false;
        }
        let told = Told { success: false, failure: true, cancelled: true };
        let place = In { key: of.key, job: of.job, cell: None, env: None, place: of.place };
        matches!(Here { job: Some(place), told, ..self.here() }.why_not(&condition), Ok(None))
    }

    /// How the steps before have ended.
    pub(super) fn told_in(of: Cell<'_>, cell: &JobStatus) -> Told {
        let main = cell.steps.iter().take(of.job.steps.len()).filter(|step| step.state.is_over());
        let mut told = Told { success: true, failure: false, cancelled: of.cut.is_some() };
        for step in main {
            match step.conclusion.unwrap_or(step.state) {
                WorkState::Failure => (told.success, told.failure) = (false, true),
                WorkState::Cancelled => told.success = false,
                _ => {}
            }
        }
        told
    }

    /// Begins the next step, or says why it is not done. False: not in this pass.
    fn begin(&mut self, of: Cell<'_>, cell: &mut JobStatus, step: &WorkflowStep) -> bool {
        let number = cell.steps.len();
        let id = step.identity().map_or_else(|| step_by_number(number + 1), str::to_owned);
        let last = number >= of.job.steps.len();
        let mut status = StepStatus { id, ..StepStatus::default() };
        match self.verdict_on(of, cell, step, last) {
            Ok(()) => {}
            Err((state, reason, message)) => {
                (status.state, status.reason, status.message) = (state, reason.to_owned(), message);
                status.completion_time = (state == WorkState::Failure).then_some(Time(self.now));
                if state == WorkState::Failure {
                    self.forgive(of, cell, step, &mut status);
                }
                cell.steps.push(status);
                return true;
            }
        }
        if !self.has_room() {
            return false;
        }
        status.start_time = Some(Time(self.now));
        self.attempt(of, cell, step, &mut status);
        cell.steps.push(status);
        true
    }

    /// Why a step is not done.
    fn verdict_on(
        &self,
        of: Cell<'_>,
        cell: &JobStatus,
        step: &WorkflowStep,
        last: bool,
    ) -> Result<(), (WorkState, &'static str, String)> {
        let cancelled = |cut: Cut| (WorkState::Cancelled, cut.reason, "the job ended before it began".to_owned());
        if let Some(cut) = of.cut
            && (cut.mode == CancelMode::Kill || self.reserve(of, cell) <= self.now)
        {
            return Err(cancelled(cut));
        }
        let invalid = |why: String| (WorkState::Failure, INVALID, format!("if: {why}"));
        let text = step.condition.as_ref().map_or("", |condition| condition.as_str());
        let condition = expr::Condition::parse(text).map_err(|fault| invalid(fault.to_string()))?;
        let mut told = Self::told_in(of, cell);
        if last && condition.implies_success() {
            // It is done however the steps ended, unless it asks.
            (told.success, told.cancelled) = (true, false);
        }
        let env = make::environment(self, of, cell).map_err(|why| (WorkState::Failure, INVALID, why))?;
        let texts = env.texts();
        let place = In { key: of.key, job: of.job, cell: Some(cell), env: Some(&texts), place: of.place };
        let here = Here { job: Some(place), told, ..self.here() };
        let Some(why) = here.why_not(&condition).map_err(invalid)? else { return Ok(()) };
        if let Some(cut) = of.cut.filter(|_| !last) {
            return Err(cancelled(cut));
        }
        let failed = || cell.steps.iter().find(|s| s.conclusion.unwrap_or(s.state) == WorkState::Failure);
        let message = match failed().filter(|_| condition.implies_success() && told.failure) {
            Some(failed) => format!("step `{}` failed", failed.id),
            None => why,
        };
        Err((WorkState::Skipped, "Condition", message))
    }

    /// Makes the next attempt.
    pub(super) fn attempt(&mut self, of: Cell<'_>, cell: &JobStatus, step: &WorkflowStep, status: &mut StepStatus) {
        status.attempts += 1;
        (status.state, status.next_attempt_time) = (WorkState::Running, None);
        let until = match self.reserve(of, cell).max(self.job_limit(of, cell).unwrap_or(self.now)) {
            reserved if cell.steps.len() >= of.job.steps.len() || of.cut.is_some() => reserved,
            _ => self.job_limit(of, cell).unwrap_or(self.now),
        };
        let making = Making { of, cell, step, status, told: Self::told_in(of, cell), until };
        if let Some(message) = &step.message {
            if let Err(why) = self.send(&making, message) {
                let outcome = Outcome::failure(INVALID, why, self.now);
                self.over(of, cell, step, status, outcome);
            }
            return;
        }
        match make::child(self, &making) {
            Ok(child) => {
                status.run = child.name;
                match self.observed.refused.get(&status.run) {
                    Some(why) => {
                        let (reason, message) = ("Refused".to_owned(), why.clone());
                        let outcome = Outcome::failure(&reason, message, self.now);
                        status.run.clear();
                        self.over(of, cell, step, status, outcome);
                    }
                    None => self.actions.push(Action::Start { object: Box::new(child.object) }),
                }
            }
            Err(why) => {
                let outcome = Outcome::failure(INVALID, why, self.now);
                self.over(of, cell, step, status, outcome);
            }
        }
    }

    /// Until when what is done after the end of its time may go on.
    fn reserve(&self, of: Cell<'_>, cell: &JobStatus) -> Timestamp {
        let limit = self.job_limit(of, cell).unwrap_or(self.now);
        let last = cell.steps.iter().enumerate().find_map(|(at, step)| {
            let start = step.start_time?.0;
            (at >= of.job.steps.len() || start >= limit).then_some(start)
        });
        last.unwrap_or(self.now).saturating_add(RESERVE).unwrap_or(Timestamp::MAX)
    }

    /// The last step goes on: has it ended, is it to be tried again, is it to be stopped?
    fn follow(&mut self, of: Cell<'_>, cell: &mut JobStatus, step: &WorkflowStep) {
        let Some(mut status) = cell.steps.pop() else { return };
        let last = cell.steps.len() >= of.job.steps.len();
        let stop = of.cut.filter(|cut| match cut.mode {
            CancelMode::Kill => true,
            CancelMode::Stop => !last && !self.goes_on(of, cell, step),
            CancelMode::Drain => false,
        });
        if let Some(at) = status.next_attempt_time {
            match stop.or(of.cut.filter(|_| !last)) {
                Some(cut) => {
                    let state = WorkState::Cancelled;
                    let (reason, message) = (cut.reason.to_owned(), status.message.clone());
                    let outcome = Outcome { state, reason, message, exit_code: status.exit_code, at: self.now };
                    self.over(of, cell, step, &mut status, outcome);
                }
                None if at.0 > self.now => self.wake(at.0),
                None => self.attempt(of, cell, step, &mut status),
            }
        } else if step.message.is_some() {
            self.follow_message(of, cell, step, &mut status, stop);
        } else if step.workflow.is_some() {
            self.follow_child(of, cell, step, &mut status, stop);
        } else {
            self.follow_run(of, cell, step, &mut status, stop);
        }
        cell.steps.push(status);
    }

    /// Whether a step that runs wants to go on although all is being cancelled.
    fn goes_on(&self, of: Cell<'_>, cell: &JobStatus, step: &WorkflowStep) -> bool {
        let asks = |text: &str| expr::Condition::parse(text).is_ok_and(|condition| !condition.implies_success());
        let own = step.condition.as_ref().is_some_and(|condition| asks(condition.as_str()));
        own && self.verdict_on(of, cell, step, false).is_ok()
    }

    fn follow_run(
        &mut self,
        of: Cell<'_>,
        cell: &JobStatus,
        step: &WorkflowStep,
        status: &mut StepStatus,
        stop: Option<Cut>,
    ) {
        let Some(run) = self.observed.runs.get(&status.run).cloned() else {
            let message = format!("its run `{}` was deleted", status.run);
            let outcome = Outcome::failure("Lost", message, self.now);
            return self.over(of, cell, step, status, outcome);
        };
        if run.status.is_over() {
            let outcome = outcome(&run.status, status.attempts, of.cut, self.now);
            if let Some(result) = &run.status.result {
                status.outputs.clone_from(&result.outputs);
                let before: usize = cell.steps.iter().map(|step| step.annotations.len()).sum();
                let room = MOST_ANNOTATIONS.saturating_sub(before);
                status.annotations = result.annotations.iter().take(room).cloned().collect();
            }
            let outcome = self.note_artifact(of, &run, &status.id, outcome);
            return self.over(of, cell, step, status, outcome);
        }
        if stop.is_some() && !run.spec.cancel {
            self.actions.push(Action::CancelRun(run));
        }
    }

    fn follow_child(
        &mut self,
        of: Cell<'_>,
        cell: &JobStatus,
        step: &WorkflowStep,
        status: &mut StepStatus,
        stop: Option<Cut>,
    ) {
        let Some(child) = self.observed.children.get(&status.run).cloned() else {
            let message = format!("its run `{}` was deleted", status.run);
            let outcome = Outcome::failure("Lost", message, self.now);
            return self.over(of, cell, step, status, outcome);
        };
        if child.status.is_over() {
            let outcome = of_child(&child, self.now);
            status.outputs.clone_from(&child.status.outputs);
            return self.over(of, cell, step, status, outcome);
        }
        let late = of.cut.is_some_and(|cut| cut.reason == TIMED_OUT);
        if let Some(cut) = stop.or(of.cut.filter(|_| late))
            && child.spec.cancel.is_none_or(|mode| mode < cut.mode)
        {
            self.actions.push(Action::CancelChild { run: child, mode: cut.mode });
        }
    }

    /// An attempt has ended: so has the step, or it is tried again.
    pub(super) fn over(
        &mut self,
        of: Cell<'_>,
        cell: &JobStatus,
        step: &WorkflowStep,
        status: &mut StepStatus,
        outcome: Outcome,
    ) {
        (status.reason, status.message) = (outcome.reason, outcome.message);
        status.exit_code = outcome.exit_code;
        let last = cell.steps.len() >= of.job.steps.len();
        if outcome.state == WorkState::Failure
            && (of.cut.is_none() || last)
            && let Some(retry) = step.retry.as_ref().filter(|retry| may_retry(retry, status))
        {
            let pause = pause(retry, status.attempts, &format!("{}/{}/{}", self.run.uid(), of.name, status.id));
            let at = self.now.saturating_add(pause).unwrap_or(Timestamp::MAX);
            status.next_attempt_time = Some(Time(at));
            return self.wake(at);
        }
        (status.state, status.next_attempt_time) = (outcome.state, None);
        status.completion_time = Some(Time(outcome.at));
        if outcome.state == WorkState::Failure {
            self.forgive(of, cell, step, status);
        }
    }

    /// `continue-on-error`.
    fn forgive(&self, of: Cell<'_>, cell: &JobStatus, step: &WorkflowStep, status: &mut StepStatus) {
        let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
        let here = Here { job: Some(place), told: Self::told_in(of, cell), ..self.here() };
        if here.flag(step.continue_on_error.as_ref()) == Ok(true) {
            status.conclusion = Some(WorkState::Success);
        }
    }

    /// All steps have ended.
    fn conclude(&mut self, of: Cell<'_>, cell: &mut JobStatus, fault: Option<String>) {
        let main = || cell.steps.iter().take(of.job.steps.len());
        let is = |state: WorkState| main().any(|step| step.conclusion.unwrap_or(step.state) == state);
        let told = Self::told_in(of, cell);
        let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
        let here = Here { job: Some(place), told, ..self.here() };
        let outputs = of.job.outputs.iter().map(|(name, text)| match here.text(text.as_str()) {
            Ok(text) => Ok((name.clone(), text)),
            Err(why) => Err(format!("output `{name}`: {why}")),
        });
        let outputs: Result<_, String> = outputs.collect();
        let forgiven = here.flag(of.job.continue_on_error.as_ref()) == Ok(true);
        let (state, message) = match fault.or(outputs.as_ref().err().cloned()) {
            Some(fault) => (WorkState::Failure, fault),
            None if is(WorkState::Failure) => {
                let failed = main().find(|step| step.conclusion.unwrap_or(step.state) == WorkState::Failure);
                let id = failed.map(|step| step.id.clone()).unwrap_or_default();
                (WorkState::Failure, format!("step `{id}` failed"))
            }
            None if is(WorkState::Cancelled) => (WorkState::Cancelled, String::new()),
            None => (WorkState::Success, String::new()),
        };
        let reason = match (state, of.cut) {
            (WorkState::Success, _) => "",
            (_, Some(cut)) => cut.reason,
            (_, None) => "Failure",
        };
        (cell.state, cell.message, cell.reason) = (state, message, reason.to_owned());
        cell.conclusion = (forgiven && state == WorkState::Failure).then_some(WorkState::Success);
        cell.outputs = outputs.unwrap_or_default();
        cell.completion_time = Some(Time(self.now));
    }
}

fn last_is_over(cell: &JobStatus) -> bool {
    cell.steps.last().is_none_or(|step| step.state.is_over())
}

/// What became of the Run that is the step's attempt of that number.
fn outcome(run: &RunStatus, attempt: u32, cut: Option<Cut>, now: Timestamp) -> Outcome {
    let at = run.completion_time.map_or(now, |at| at.0);
    let exit = run.exit.clone().unwrap_or_default();
    let exit_code = code(&exit);
    let fault = run.result.as_ref().map_or("", |result| &result.fault);
    let (state, reason, message) =
        match Condition::find(&run.conditions, RUN_FAILED).filter(|c| c.status == ConditionStatus::True) {
            None if !fault.is_empty() => (WorkState::Failure, "InvalidFile", fault.to_owned()),
            None => (WorkState::Success, "", String::new()),
            Some(failed) if failed.reason == crate::api::CANCELED => {
                (WorkState::Cancelled, cut.map_or(crate::api::CANCELED, |cut| cut.reason), failed.message.clone())
            }
            Some(failed) if failed.reason == RUN_DEADLINE => {
                (WorkState::Failure, TIMED_OUT, "it took longer than it may".to_owned())
            }
            Some(failed) if exit.lost => (WorkState::Failure, "Lost", failed.message.clone()),
            Some(failed) => (WorkState::Failure, "ExitCode", failed.message.clone()),
        };
    // A Run of a step has one attempt; the step may have had others before.
    let message = message.strip_prefix("attempt 1 ").map_or(message.clone(), |how| format!("attempt {attempt} {how}"));
    Outcome { state, reason: reason.to_owned(), message, exit_code, at }
}

fn of_child(child: &WorkflowRun, now: Timestamp) -> Outcome {
    let run = &child.status;
    let at = run.completion_time.map_or(now, |at| at.0);
    let failed =
        Condition::find(&run.conditions, RUN_FAILED).filter(|condition| condition.status == ConditionStatus::True);
    let (state, reason, message) = match failed {
        None if Condition::holds(&run.conditions, COMPLETE) => (WorkState::Success, "", ""),
        None => (WorkState::Failure, "Failure", ""),
        Some(failed) if failed.reason == super::pass::CANCELED => {
            (WorkState::Cancelled, failed.reason.as_str(), failed.message.as_str())
        }
        Some(failed) => (WorkState::Failure, failed.reason.as_str(), failed.message.as_str()),
    };
    let message = match cause(child).filter(|_| state == WorkState::Failure) {
        Some(cause) => cause,
        None => message.to_owned(),
    };
    Outcome { state, reason: reason.to_owned(), message, exit_code: None, at }
}

/// Why a called Workflow failed: what the first step says that failed, be it of one that was called in turn.
fn cause(child: &WorkflowRun) -> Option<String> {
    let failed = |state: WorkState, conclusion: Option<WorkState>| conclusion.unwrap_or(state) == WorkState::Failure;
    let (name, job) = child.status.jobs.iter().find(|(_, job)| failed(job.state, job.conclusion))?;
    let (at, step) = job.steps.iter().enumerate().find(|(_, step)| failed(step.state, step.conclusion))?;
    let key = if job.job.is_empty() { name } else { &job.job };
    let said = child.spec.template.as_ref().and_then(|template| template.jobs.get(key));
    let called =
        said.and_then(|job| job.steps.iter().chain(&job.finally).nth(at)).is_some_and(|s| s.workflow.is_some());
    // What it says has its place in it already, wherever it comes from.
    let has_place = called && step.message.starts_with("job `");
    match (step.message.is_empty(), has_place) {
        (true, _) => None,
        (false, true) => Some(step.message.clone()),
        (false, false) => Some(format!("job `{name}`, step `{}`: {}", step.id, step.message)),
    }
}

/// As a shell says it.
fn code(exit: &RunExit) -> Option<i32> {
    let signal = exit.signal.as_deref().and_then(signal_number);
    exit.code.or(signal.map(|signal| 128 + signal))
}

fn may_retry(retry: &StepRetry, status: &StepStatus) -> bool {
    let more = status.attempts <= u32::try_from(retry.max).unwrap_or(0);
    let coded = retry.exit_codes.is_empty() || status.exit_code.is_some_and(|code| retry.exit_codes.contains(&code));
    more && coded
}

/// The pause after so many attempts; the same whenever the same is judged again.
fn pause(retry: &StepRetry, attempts: u32, identity: &str) -> SignedDuration {
    let interval = f64::from(retry.interval);
    let grown = match retry.backoff {
        crate::api::RetryBackoff::Fixed => interval,
        crate::api::RetryBackoff::Exponential => {
            interval * 2_f64.powi(i32::try_from(attempts).unwrap_or(32).min(32) - 1)
        }
    };
    let share = f64::from(u32::try_from(spread(identity, attempts) % 1000).unwrap_or(0)) / 1000.0;
    let seconds = grown.min(LONGEST_PAUSE) * (1.0 + retry.jitter.unwrap_or(0.0) * share);
    #[expect(clippy::cast_possible_truncation, reason = "an hour and as much again at most")]
    SignedDuration::from_secs(seconds.ceil() as i64)
}
