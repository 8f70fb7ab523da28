//! Steps that give a task to a running App: what is sent, and what its answer makes of the step.
//!
//! That it is to be sent is in the journal, on disk, before it is sent. So whoever finds it there and knows of no answer, because the
//! server died meanwhile, cannot know whether the work was done: the step has failed, unless it says that it may be done again.
//!
//! | the journal says that it was sent, and | a step | one that is `idempotent` |
//! |---|---|---|
//! | its answer is there | ends | ends |
//! | it is under way | waits | waits |
//! | nobody knows of it | `Lost`, and `retry` counts | sent again |

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Action,
    make::{self, Making},
    names,
    pass::{Cell, Cut, Pass, TIMED_OUT},
    scope::{Here, In},
    steps::Outcome,
};
use crate::{
    api::{JobStatus, MessageStep, Status, StepStatus, WorkState, WorkflowStep},
    client::Message,
};

/// More of an answer is not kept.
const LONGEST: usize = 64 * 1024;
/// What a step learns of the answer, as an output: `steps.ID.response`.
const RESPONSE: &str = "response";

/// What came of a message.
pub(super) type Answer = Result<Bytes, Status>;

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The name of the attempt.
    pub name: String,
    /// The step, for people.
    pub step: String,
    /// To whom, and what.
    pub message: Message,
    /// To send it once more does no harm, so that nothing of it has to be on disk before.
    pub again: bool,
}

impl Pass<'_> {
    /// Sends the message of an attempt.
    pub(super) fn send(&mut self, making: &Making<'_>, message: &MessageStep) -> Result<(), String> {
        let Making { of, cell, step, status, told, .. } = making;
        let env = make::environment(self, *of, cell)?.texts();
        let place = In { key: of.key, job: of.job, cell: Some(cell), env: Some(&env), place: of.place };
        let here = Here { job: Some(place), told: *told, ..self.here() };
        let app = here.text(&message.app).map_err(|why| format!("message.app: {why}"))?;
        let payload = here.text(&message.payload).map_err(|why| format!("message.payload: {why}"))?;
        let timed = step.timeout.is_some() || step.timeout_minutes.is_some();
        let seconds = make::seconds(self, &here, making)?;
        let timeout = timed.then(|| Duration::from_secs(seconds.unsigned_abs()));
        let message = Message {
            namespace: self.run.metadata.namespace.to_string(),
            app,
            payload: payload.into(),
            timeout,
            idempotent: message.idempotent,
            user: Some(self.run.spec.identity.clone()),
        };
        let name = names::child(self.run, of.name, &status.id, status.attempts);
        let again = message.idempotent || step.retry.is_some();
        let sending = Sending { name: name.clone(), step: status.id.clone(), message, again };
        self.actions.push(Action::Send(Box::new(sending)));
        self.under_way.insert(name);
        Ok(())
    }

    /// A message was sent: is its answer there, is it to be stopped?
    pub(super) fn follow_message(
        &mut self,
        of: Cell<'_>,
        cell: &JobStatus,
        step: &WorkflowStep,
        status: &mut StepStatus,
        stop: Option<Cut>,
    ) {
        let name = names::child(self.run, of.name, &status.id, status.attempts);
        let outcome = match self.observed.messages.get(&name) {
            Some(Some(answer)) => answered(answer, status, self.now),
            known => match (stop, known.is_some()) {
                // What is not named any more is withdrawn: from the line, or from whoever has it.
                (Some(cut), _) if cut.reason == TIMED_OUT => {
                    Outcome::failure(TIMED_OUT, "it took longer than it may".to_owned(), self.now)
                }
                (Some(cut), _) => {
                    let (state, reason) = (WorkState::Cancelled, cut.reason.to_owned());
                    Outcome { state, reason, message: String::new(), exit_code: None, at: self.now }
                }
                (None, true) => {
                    self.under_way.insert(name);
                    return;
                }
                (None, false) if step.message.as_ref().is_some_and(|message| message.idempotent) => {
                    return self.send_again(of, cell, step, status);
                }
                (None, false) => {
                    let message = "nobody knows what became of it, because the server ended meanwhile; the work may have been done";
                    Outcome::failure("Lost", message.to_owned(), self.now)
                }
            },
        };
        self.over(of, cell, step, status, outcome);
    }

    fn send_again(&mut self, of: Cell<'_>, cell: &JobStatus, step: &WorkflowStep, status: &mut StepStatus) {
        if self.has_room() {
            status.attempts = status.attempts.saturating_sub(1);
            self.attempt(of, cell, step, status);
        }
    }
}

/// What an answer makes of a step.
fn answered(answer: &Answer, status: &mut StepStatus, now: Timestamp) -> Outcome {
    let bytes = match answer {
        Ok(bytes) => bytes,
        Err(refusal) => {
            let cause = refusal.details.causes.first().map_or("Refused", |cause| cause.reason.as_str());
            let reason = if cause == "TaskTimedOut" { TIMED_OUT } else { cause };
            return Outcome::failure(reason, refusal.message.clone(), now);
        }
    };
    let kept = &bytes[..bytes.len().min(LONGEST)];
    status.outputs = [(RESPONSE.to_owned(), String::from_utf8_lossy(kept).into_owned())].into();
    if let Some(message) = error_of(bytes) {
        return Outcome::failure("Answer", message, now);
    }
    let cut = format!("of its answer of {} bytes the first {LONGEST} were kept", bytes.len());
    let message = if bytes.len() > LONGEST { cut } else { String::new() };
    Outcome { state: WorkState::Success, reason: String::new(), message, exit_code: None, at: now }
}

/// `{"status": "error", "message": …}` says that it went wrong, as in App Mesh.
fn error_of(answer: &[u8]) -> Option<String> {
    let object = answer.first().is_some_and(|first| *first == b'{');
    let value: Value = object.then(|| serde_json::from_slice(answer).ok())??;
    let message = value["message"].as_str().unwrap_or("its answer says so");
    (value["status"] == "error").then(|| message.chars().take(1024).collect())
}
