//! The side of the processes: ask, take, give back, end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    Broker, DELIVERIES, Desk, Done, Entry, Failure, Handed, Inner, Member, Outcome, Owed, Payload, Pieces, Question,
};
use crate::{
    api::{APP_LABEL, Instance, MicroTime, Object, TaskState, Uid},
    drivers::{Ended, StartKey},
    policy::tasks::{Board, Bounds},
};

/// How long a question is left open. The clients of App Mesh cut it off after 300 s: a task must not be on its way just then.
const QUESTION: Duration = Duration::from_secs(240);
/// So many answers that never came are remembered of a process.
const OWED: usize = 64;
/// So much of what a process says of its failure is told.
const LONGEST_MESSAGE: usize = 4096;
/// So many instances that have ended are remembered before those that are gone from the store are forgotten.
const ENDED: usize = 4096;

/// A process that has proved which one it is.
#[derive(Clone, Debug)]
pub struct Worker {
    pub(super) attempt: StartKey,
    pub(super) app: Uid,
    pub(super) instance: String,
    /// The instance itself, which the broker holds for what it asks soon.
    pub(super) held: Option<Arc<Object<Instance>>>,
    /// True: it is being stopped, and is given nothing more.
    pub(super) leaves: bool,
    pub(super) over: Option<Over>,
}

/// Is told the name of a task that is over while a process has it, and why.
pub type Over = mpsc::UnboundedSender<(String, String)>;

impl Worker {
    /// The same, which is told of tasks that it has and nobody waits for any more.
    #[must_use]
    pub fn told(self, over: Over) -> Self {
        Self { over: Some(over), ..self }
    }
}

/// The key is none, or another attempt has taken the place of the one that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded;

/// Why there is no task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// There was none: ask again.
    Nothing,
    /// There will be none for this process.
    Superseded,
}

/// Why a result is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveError {
    /// Nobody waits for it: the task was cancelled, or its caller is gone, or it took too long.
    NobodyWaits,
    /// The process has several tasks and does not say which one it means.
    WhichOne,
    /// The parts of a result are more than a result may be.
    TooMuch,
    /// The caller has not taken in what was given before.
    Slow,
}

impl Broker {
    /// Who holds this key, which must be that of a process of an App of this name.
    ///
    /// # Errors
    /// When it is nobody's, or the attempt that it names has ended.
    pub fn worker(&self, app: &str, key: &str) -> Result<Worker, Superseded> {
        let attempt = self.keys().read(key).ok_or(Superseded)?;
        let at = self.store.find_uid(&attempt.uid).ok_or(Superseded)?;
        let instance: Arc<Object<Instance>> = self.store.get(&at).and_then(|found| found.typed()).ok_or(Superseded)?;
        if instance.uid() != &attempt.uid || instance.metadata.labels.get(APP_LABEL) != Some(app) {
            return Err(Superseded);
        }
        let status = &instance.status;
        let over = status.last_exit.as_ref().is_some_and(|exit| exit.attempt >= attempt.attempt);
        if over || status.attempt > attempt.attempt || self.has_ended(&attempt) {
            return Err(Superseded);
        }
        let owner = instance.metadata.controller().ok_or(Superseded)?;
        let leaves = instance.metadata.is_deleting();
        Ok(Worker {
            attempt,
            app: owner.uid.clone(),
            instance: instance.metadata.name.clone(),
            held: Some(instance),
            leaves,
            over: None,
        })
    }

    fn has_ended(&self, attempt: &StartKey) -> bool {
        self.inner().ended.get(&attempt.uid).is_some_and(|ended| *ended >= attempt.attempt)
    }

    /// The next task for a process, which came on the connection `on`. Cancel-safe: what was on its way to whoever does not wait any more
    /// goes back to its place.
    ///
    /// # Errors
    /// When there was none for a while, or the process is not to get any.
    pub async fn fetch(self: &Arc<Self>, worker: &Worker, on: Option<SocketAddr>) -> Result<Delivery, FetchError> {
        if worker.leaves {
            return Err(FetchError::Superseded);
        }
        let (tell, told) = oneshot::channel();
        let question = {
            let mut inner = self.inner();
            if inner.ended.get(&worker.attempt.uid).is_some_and(|ended| *ended >= worker.attempt.attempt) {
                return Err(FetchError::Superseded);
            }
            let question = inner.next();
            inner.questions.insert(question, Question { tell, over: worker.over.clone() });
            let Inner { owed, tasks, staff, .. } = &mut *inner;
            let Worker { attempt, app, instance, held, .. } = worker.clone();
            staff.insert(attempt, Member { app, instance, _held: held });
            if let Some(owed) = owed.get_mut(&worker.attempt) {
                // What it got on this connection and nobody waits for any more it has given up.
                let is_live = |owed: &Owed| tasks.contains_key(&owed.task);
                owed.retain(|owed| owed.on.is_none() || owed.on != on || is_live(owed));
                let old = owed.len().saturating_sub(OWED);
                let mut at = 0;
                owed.retain(|owed| {
                    at += 1;
                    at > old || is_live(owed)
                });
            }
            // An App to which nothing was sent yet: its bounds come with the first task.
            let nothing = || Desk { board: Board::new(Bounds { most_waiting: 0, each: 1 }), asked: false };
            let desk = inner.desks.entry(worker.app.clone()).or_insert_with(nothing);
            desk.asked = true;
            desk.board.ask(&worker.attempt, question);
            self.hand_out(&mut inner, &worker.app);
            question
        };
        let asking = Asking { broker: self, app: &worker.app, question };
        let answer = tokio::select! {
            biased;
            told = told => told.map_err(|_| FetchError::Superseded),
            () = self.clock.sleep(QUESTION) => Err(FetchError::Nothing),
        };
        drop(asking);
        let delivery = answer?;
        if let Some(owed) = self.inner().owed.get_mut(&worker.attempt)
            && let Some(this) = owed.iter_mut().find(|owed| owed.task == delivery.task)
        {
            this.on = on;
        }
        Ok(delivery)
    }

    /// A process gives the result of the task of this name. Without a name it is the one that it got on this connection, or the only one
    /// that it has.
    ///
    /// # Errors
    /// When nobody waits for it, or it cannot be told which task is meant.
    pub fn give(
        self: &Arc<Self>,
        worker: &Worker,
        named: Option<&str>,
        on: Option<SocketAddr>,
        result: Payload,
    ) -> Result<(), GiveError> {
        self.settle(worker, named, on, |task, entry| {
            let result = entry.parts.before(result);
            Ok(Done { task, instance: worker.instance.clone(), result })
        })
    }

    /// A process says that it could not do the task, which is named as for [`Broker::give`]. It is not done again: somebody has looked at it.
    ///
    /// # Errors
    /// As [`Broker::give`].
    pub fn fail(
        self: &Arc<Self>,
        worker: &Worker,
        named: Option<&str>,
        on: Option<SocketAddr>,
        message: &str,
    ) -> Result<(), GiveError> {
        let message = message.chars().take(LONGEST_MESSAGE).collect();
        self.settle(worker, named, on, |_, _| Err(Failure::Failed { instance: worker.instance.clone(), message }))
    }

    fn settle(
        self: &Arc<Self>,
        worker: &Worker,
        named: Option<&str>,
        on: Option<SocketAddr>,
        outcome: impl FnOnce(String, &mut Entry) -> Outcome,
    ) -> Result<(), GiveError> {
        let mut inner = self.inner();
        let at = self.meant(&inner, worker, named, on)?;
        let owed = inner.owed.get_mut(&worker.attempt).ok_or(GiveError::NobodyWaits)?;
        let Owed { task, .. } = owed.remove(at);
        if owed.is_empty() {
            inner.owed.remove(&worker.attempt);
        }
        let entry = inner.tasks.get_mut(&task).filter(|entry| entry.is_with(&worker.attempt));
        let outcome = outcome(self.name(task), entry.ok_or(GiveError::NobodyWaits)?);
        self.finish(&mut inner, task, outcome);
        Ok(())
    }

    /// Which of those that a process has is meant.
    pub(super) fn meant(
        &self,
        inner: &Inner,
        worker: &Worker,
        named: Option<&str>,
        on: Option<SocketAddr>,
    ) -> Result<usize, GiveError> {
        let owed = inner.owed.get(&worker.attempt).ok_or(GiveError::NobodyWaits)?;
        match named.filter(|name| !name.is_empty()) {
            Some(name) => {
                let number = self.number(name).ok_or(GiveError::NobodyWaits)?;
                owed.iter().position(|owed| owed.task == number).ok_or(GiveError::NobodyWaits)
            }
            None => {
                let here = owed.iter().rposition(|owed| on.is_some() && owed.on == on);
                let only = (owed.len() == 1).then_some(0);
                here.or(only).ok_or(GiveError::WhichOne)
            }
        }
    }

    /// An attempt has ended: whoever waits for it learns how. Of one that never asked nothing is known here.
    pub fn ended(self: &Arc<Self>, attempt: &StartKey, ended: &Ended) {
        let mut inner = self.inner();
        let Some(Member { app, .. }) = inner.staff.remove(attempt) else { return };
        let owed = inner.owed.remove(attempt).unwrap_or_default();
        let questions = inner.desks.get_mut(&app).map(|desk| desk.board.lost(attempt)).unwrap_or_default();
        // Whoever waits for an answer is told by that there will be none.
        questions.iter().for_each(|question| drop(inner.questions.remove(question)));
        let last = inner.ended.entry(attempt.uid.clone()).or_default();
        *last = attempt.attempt.max(*last);
        if inner.ended.len() > ENDED {
            inner.ended.retain(|uid, _| self.store.find_uid(uid).is_some());
        }
        for Owed { task, .. } in owed {
            let Some(entry) = inner.tasks.get_mut(&task).filter(|entry| entry.is_with(attempt)) else { continue };
            let Some(handed) = entry.at.take() else { continue };
            // It was on its way when there was nobody any more who could have begun.
            let unread = handed.since > ended.finish_time;
            let again = entry.shown.idempotent && entry.shown.deliveries < DELIVERIES && !entry.parts.are_seen();
            if unread || again {
                entry.shown.deliveries += u32::from(!unread);
                entry.back();
                let caller = entry.caller.clone();
                if let Some(desk) = inner.desks.get_mut(&app) {
                    desk.board.put_back(&caller, task);
                }
                continue;
            }
            let failure = Failure::Died { instance: handed.instance, key: attempt.clone(), ended: ended.clone() };
            self.finish(&mut inner, task, Err(failure));
        }
        self.hand_out(&mut inner, &app);
    }

    /// A task did not reach the process that it was meant for: it goes back to its place.
    fn undelivered(self: &Arc<Self>, task: u64, worker: &StartKey) {
        let mut inner = self.inner();
        if let Some(owed) = inner.owed.get_mut(worker) {
            owed.retain(|owed| owed.task != task);
            if owed.is_empty() {
                inner.owed.remove(worker);
            }
        }
        let Some(entry) = inner.tasks.get_mut(&task).filter(|entry| entry.is_with(worker)) else { return };
        entry.back();
        let (app, caller) = (entry.app.clone(), entry.caller.clone());
        if let Some(desk) = inner.desks.get_mut(&app) {
            desk.board.freed(worker);
            desk.board.put_back(&caller, task);
        }
        self.hand_out(&mut inner, &app);
    }
}

impl Entry {
    pub(super) fn is_with(&self, worker: &StartKey) -> bool {
        self.at.as_ref().is_some_and(|handed| handed.to == *worker)
    }
}

/// A question that is open. Dropped, it is withdrawn.
struct Asking<'a> {
    broker: &'a Arc<Broker>,
    app: &'a Uid,
    question: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut inner = self.broker.inner();
        inner.questions.remove(&self.question);
        if let Some(desk) = inner.desks.get_mut(self.app) {
            desk.board.unask(self.question);
            if desk.board.is_idle() {
                inner.desks.remove(self.app);
            }
        }
    }
}

/// A task on its way to a process. Unless all of it was taken, it goes back to its place when this is dropped.
pub struct Delivery {
    broker: Arc<Broker>,
    task: u64,
    worker: StartKey,
    pieces: Pieces,
    done: bool,
}

impl Delivery {
    pub(super) fn new(
        broker: Arc<Broker>,
        task: u64,
        (worker, instance, over): (StartKey, &str, Option<Over>),
        entry: &mut Entry,
    ) -> Self {
        let since = broker.clock.now();
        entry.shown.state = TaskState::Working;
        entry.shown.deliveries += 1;
        entry.shown.start_time = Some(MicroTime(since));
        instance.clone_into(&mut entry.shown.instance);
        entry.at = Some(Handed { to: worker.clone(), instance: instance.to_owned(), since, over });
        let pieces = entry.payload.clone().into_pieces();
        Self { broker, task, worker, pieces, done: false }
    }

    /// The task's name.
    pub fn name(&self) -> String {
        self.broker.name(self.task)
    }

    /// How many bytes there are yet.
    pub fn left(&self) -> usize {
        self.pieces.left()
    }

    /// It is sent from here on: of nothing there is nothing left to take.
    #[must_use]
    pub fn begun(mut self) -> Self {
        self.done = self.left() == 0;
        self
    }

    /// It goes nowhere, and whoever made it knows.
    pub(super) fn forget(mut self) {
        self.done = true;
    }
}

impl Iterator for Delivery {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next();
        self.done = self.left() == 0;
        piece
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.done {
            self.broker.undelivered(self.task, &self.worker);
        }
    }
}
