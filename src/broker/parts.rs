//! Results that come in parts: what a process gives of a task before it is done with it.
//!
//! ```text
//!  process ─ give_part ─┬─ its caller waits for the end alone ─► gathered, and put before the result
//!                       └─ its caller wants to see them ───────► a short line ─► caller   (full: the process waits)
//! ```
//! What was told cannot be taken back: a task of which its caller has seen a part is not done again, however idempotent. Of one that is handed out
//! again what was gathered is forgotten.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Broker, Entry, Failure, GiveError, Outcome, Payload, Sent, Worker};
use crate::api::TASK_LIMIT;

/// Parts that wait for a caller to take them in.
const WAITING: usize = 16;
/// Parts that are gathered of a task at most, each of which has its price.
const MOST: usize = 1 << 16;
/// How long a process waits for its caller to take in what is there, before it is told to try again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the parts of a task.
#[derive(Debug)]
pub(super) enum Parts {
    /// They are put together.
    Gathered {
        /// What is there.
        whole: Payload,
        /// In how many parts it came.
        count: usize,
    },
    /// They are told as they come.
    Told {
        /// To whom.
        to: mpsc::Sender<Payload>,
        /// Some were.
        begun: bool,
    },
}

impl Parts {
    /// Of a task whose caller waits for its end.
    pub(super) fn gathered() -> Self {
        Parts::Gathered { whole: Payload::default(), count: 0 }
    }

    /// Of a task whose caller wants to see them.
    pub(super) fn told() -> (Self, mpsc::Receiver<Payload>) {
        let (to, told) = mpsc::channel(WAITING);
        (Parts::Told { to, begun: false }, told)
    }

    /// True if they cannot be taken back.
    pub(super) fn are_seen(&self) -> bool {
        matches!(self, Parts::Told { begun: true, .. })
    }

    /// Whoever begins anew begins with nothing.
    pub(super) fn forget(&mut self) {
        if let Parts::Gathered { whole, count } = self {
            (*whole, *count) = (Payload::default(), 0);
        }
    }

    /// The result, with what was gathered before it.
    pub(super) fn before(&mut self, result: Payload) -> Payload {
        match self {
            Parts::Gathered { whole, count: 1.. } => {
                let mut whole = std::mem::take(whole);
                whole.append(result);
                whole
            }
            _ => result,
        }
    }

    fn gather(&mut self, part: Payload) -> Result<(), GiveError> {
        let Parts::Gathered { whole, count } = self else { return Ok(()) };
        if *count >= MOST || whole.len() + part.len() > TASK_LIMIT {
            return Err(GiveError::TooMuch);
        }
        *count += 1;
        whole.append(part);
        Ok(())
    }
}

impl Broker {
    /// A process gives a part of the result of a task, which is named as for [`Broker::give`]. Waits while the caller has enough to take in.
    /// Cancel-safe: a part is given whole, or not at all.
    ///
    /// # Errors
    /// As [`Broker::give`]; when there is too much of it, or the caller takes nothing in for long.
    pub async fn give_part(
        self: &Arc<Self>,
        worker: &Worker,
        named: Option<&str>,
        on: Option<SocketAddr>,
        part: Payload,
    ) -> Result<(), GiveError> {
        let (task, to) = {
            let mut inner = self.inner();
            let at = self.meant(&inner, worker, named, on)?;
            let task = inner.owed[&worker.attempt][at].task;
            let entry = inner.tasks.get_mut(&task).filter(|entry| entry.is_with(&worker.attempt));
            let entry = entry.ok_or(GiveError::NobodyWaits)?;
            match &entry.parts {
                Parts::Told { to, .. } => (task, to.clone()),
                Parts::Gathered { .. } => return entry.parts.gather(part),
            }
        };
        let room = tokio::select! {
            room = to.reserve() => room.map_err(|_| GiveError::NobodyWaits)?,
            () = self.clock.sleep(PATIENCE) => return Err(GiveError::Slow),
        };
        // It may be over by now: what is given after its end would be told after it.
        let mut inner = self.inner();
        let entry: Option<&mut Entry> = inner.tasks.get_mut(&task).filter(|entry| entry.is_with(&worker.attempt));
        if let Parts::Told { begun, .. } = &mut entry.ok_or(GiveError::NobodyWaits)?.parts {
            *begun = true;
        }
        room.send(part);
        Ok(())
    }
}

/// What comes next of a task whose parts are told.
#[derive(Debug)]
pub enum Next {
    /// A part.
    Part(Payload),
    /// The end. Nothing comes after it.
    End(Outcome),
}

impl Sent {
    /// What comes next. Cancel-safe.
    pub async fn next(&mut self) -> Next {
        let Sent { told, parts, outcome, .. } = self;
        while outcome.is_none() {
            let part = async {
                match parts.as_mut() {
                    Some(parts) => parts.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                biased;
                Some(part) = part => return Next::Part(part),
                told = &mut *told => *outcome = Some(told.unwrap_or(Err(Failure::Nobody))),
            }
        }
        // What was given before the end is told before it.
        if let Some(part) = parts.as_mut().and_then(|parts| parts.try_recv().ok()) {
            return Next::Part(part);
        }
        self.over = true;
        Next::End(self.outcome.take().unwrap_or(Err(Failure::Nobody)))
    }
}
