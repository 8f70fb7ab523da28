//! The side of whoever has work: send, wait, look, cancel.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::sync::{mpsc, oneshot};

use super::{Broker, Desk, Entry, Failure, Inner, KEPT, KEPT_BYTES, KEPT_FOR, Outcome, Payload, lock, parts::Parts};
use crate::{
    api::{App, MicroTime, Object, Task, TaskState, Time, Uid},
    policy::tasks::{Board, Bounds},
};

/// A task that is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// The App's namespace, name and uid.
    pub namespace: String,
    /// Its name.
    pub app: String,
    /// Its uid.
    pub uid: Uid,
    /// Who sends it: their tasks are one line.
    pub caller: String,
    /// What is sent.
    pub payload: Payload,
    /// How long the caller waits.
    pub timeout: Duration,
    /// Whether it may be done again when an instance ends in the middle of it.
    pub idempotent: bool,
    /// Its caller wants to see the parts of its result as they come; see [`Sent::next`].
    pub streamed: bool,
    /// What the App's line holds.
    pub bounds: Bounds,
    /// The App itself, which the broker holds for those that come soon.
    pub held: Option<Arc<Object<App>>>,
}

/// A result.
#[derive(Clone, Debug)]
pub struct Done {
    /// The task's name.
    pub task: String,
    /// The instance that did it.
    pub instance: String,
    /// What it gave.
    pub result: Payload,
}

/// The outcome of a task that nobody waited for.
#[derive(Clone, Debug)]
pub struct Kept {
    /// As it is shown.
    pub shown: Task,
    app: Uid,
    /// What came of it.
    pub outcome: Outcome,
    at: Duration,
}

/// A task that is on its way. Dropped, it is cancelled: nobody waits for it.
pub struct Sent {
    pub(super) broker: Arc<Broker>,
    pub(super) task: u64,
    pub(super) told: oneshot::Receiver<Outcome>,
    pub(super) parts: Option<mpsc::Receiver<Payload>>,
    /// What came of it, while there are parts to be told before.
    pub(super) outcome: Option<Outcome>,
    pub(super) over: bool,
}

impl Broker {
    /// Puts a task in line.
    ///
    /// # Errors
    /// [`Failure::Full`].
    pub fn send(self: &Arc<Self>, order: Order) -> Result<Sent, Failure> {
        self.enter(order, false).map(|(sent, _)| sent)
    }

    /// Puts a task in line whose outcome is put by for whoever asks for it later.
    ///
    /// # Errors
    /// [`Failure::Full`].
    pub fn send_and_keep(self: &Arc<Self>, order: Order) -> Result<Task, Failure> {
        let (sent, shown) = self.enter(order, true)?;
        // Ends with the task, or ends it in time.
        tokio::spawn(sent.answer());
        Ok(shown)
    }

    fn enter(self: &Arc<Self>, order: Order, keep: bool) -> Result<(Sent, Task), Failure> {
        let (tell, told) = oneshot::channel();
        let now = self.clock.now();
        let caller: Arc<str> = order.caller.as_str().into();
        let mut inner = self.inner();
        let task = inner.next();
        if let Some(app) = order.held {
            inner.hold(app);
        }
        let nobody = || Desk { board: Board::new(order.bounds), asked: false };
        let desk = inner.desks.entry(order.uid.clone()).or_insert_with(nobody);
        desk.board.bound(order.bounds);
        if desk.board.enter(&caller, task).is_err() {
            return Err(Failure::Full { waiting: desk.board.waiting() });
        }
        let deadline = SignedDuration::try_from(order.timeout).ok().and_then(|left| now.checked_add(left).ok());
        let mut shown = Task {
            app: order.app,
            user: order.caller,
            bytes: order.payload.len() as u64,
            deadline: deadline.map(MicroTime),
            idempotent: order.idempotent,
            ..Task::named(self.name(task), &order.namespace)
        };
        shown.metadata.creation_timestamp = Some(Time(now));
        let first = shown.clone();
        let (parts, told_parts) = match order.streamed {
            true => {
                let (parts, told) = Parts::told();
                (parts, Some(told))
            }
            false => (Parts::gathered(), None),
        };
        let payload = order.payload;
        let due = self.clock.uptime().saturating_add(order.timeout);
        let entry = Entry { app: order.uid.clone(), caller, shown, payload, parts, at: None, due, keep, tell };
        inner.tasks.insert(task, entry);
        self.remind(&mut inner, task, due, order.timeout);
        self.hand_out(&mut inner, &order.uid);
        drop(inner);
        let sent = Sent { broker: self.clone(), task, told, parts: told_parts, outcome: None, over: false };
        Ok((sent, first))
    }

    /// Keeps an outcome for a while.
    pub(super) fn put_by(&self, inner: &mut Inner, number: u64, mut shown: Task, app: Uid, outcome: Outcome) {
        shown.finish_time = Some(MicroTime(self.clock.now()));
        shown.state = if outcome.is_ok() { TaskState::Succeeded } else { TaskState::Failed };
        if let Err(failure) = &outcome {
            shown.message = failure.to_string();
        }
        let at = self.clock.uptime();
        inner.kept_bytes += size(&outcome);
        inner.kept.push_back((number, Kept { shown, app, outcome, at }));
        while inner.kept.len() > KEPT
            || inner.kept_bytes > KEPT_BYTES && inner.kept.len() > 1
            || inner.kept.front().is_some_and(|(_, kept)| kept.at + KEPT_FOR < at)
        {
            let Some((_, gone)) = inner.kept.pop_front() else { break };
            inner.kept_bytes -= size(&gone.outcome);
        }
        self.kept.notify_waiters();
    }

    /// The tasks of an App, in the order in which they were sent: those that are not over, and those whose outcome is kept.
    pub fn tasks_of(&self, app: &Uid) -> Vec<Task> {
        let inner = self.inner();
        let live = inner.tasks.iter().filter(|(_, entry)| entry.app == *app).map(|(at, e)| (*at, e.shown.clone()));
        let kept = inner.kept.iter().filter(|(_, kept)| kept.app == *app).map(|(at, k)| (*at, k.shown.clone()));
        let mut all: Vec<(u64, Task)> = live.chain(kept).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, task)| task).collect()
    }

    /// A task of an App by its name.
    pub fn task(&self, app: &Uid, name: &str) -> Option<Task> {
        let number = self.number(name)?;
        let inner = self.inner();
        let live = inner.tasks.get(&number).filter(|entry| entry.app == *app).map(|entry| entry.shown.clone());
        live.or_else(|| inner.kept(number, app).map(|kept| kept.shown.clone()))
    }

    /// The outcome of a task that is kept, as soon as it is there, or what is known when `patience` ends; `None` if there is no such task.
    pub async fn outcome(&self, app: &Uid, name: &str, patience: Duration) -> Option<Result<Kept, Task>> {
        let number = self.number(name)?;
        let mut end = self.clock.sleep(patience);
        loop {
            let kept = self.kept.notified();
            tokio::pin!(kept);
            kept.as_mut().enable();
            if let Some(kept) = self.inner().kept(number, app) {
                return Some(Ok(kept.clone()));
            }
            let shown = self.task(app, name)?;
            tokio::select! {
                () = &mut kept => {}
                () = &mut end => return Some(Err(shown)),
            }
        }
    }

    /// Cancels a task: its caller is told so, and what a process gives for it is not taken. False if it is over, or was never there.
    pub fn cancel(self: &Arc<Self>, app: &Uid, name: &str, by: &str) -> bool {
        let Some(number) = self.number(name) else { return false };
        let mut inner = self.inner();
        let Some(entry) = inner.tasks.get(&number).filter(|entry| entry.app == *app) else { return false };
        let failure = Failure::Cancelled { by: by.to_owned(), at: entry.instance() };
        self.finish(&mut inner, number, Err(failure));
        true
    }

    /// Cancels every task of an App that a process has. How many.
    pub fn cancel_working(self: &Arc<Self>, app: &Uid, by: &str) -> usize {
        let mut inner = self.inner();
        let working = inner.tasks.iter().filter(|(_, entry)| entry.app == *app && entry.at.is_some());
        let working: Vec<(u64, Option<String>)> = working.map(|(number, entry)| (*number, entry.instance())).collect();
        for (number, at) in &working {
            let failure = Failure::Cancelled { by: by.to_owned(), at: at.clone() };
            self.finish(&mut inner, *number, Err(failure));
        }
        working.len()
    }

    /// The caller's time is over.
    pub(super) fn expire(self: &Arc<Self>, inner: &mut Inner, task: u64, after: Duration) {
        let Some(entry) = inner.tasks.get(&task) else { return };
        let asked = inner.desks.get(&entry.app).is_some_and(|desk| desk.asked);
        let failure = Failure::TimedOut { after, at: entry.instance(), asked };
        self.finish(inner, task, Err(failure));
    }
}

impl Inner {
    fn kept(&self, number: u64, app: &Uid) -> Option<&Kept> {
        self.kept.iter().find(|(at, kept)| *at == number && kept.app == *app).map(|(_, kept)| kept)
    }
}

fn size(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or(0, |done| done.result.len())
}

impl Sent {
    /// The task's name.
    pub fn name(&self) -> String {
        self.broker.name(self.task)
    }

    /// Waits for the outcome, as long as its caller would.
    pub async fn answer(mut self) -> Outcome {
        let told = (&mut self.told).await;
        self.over = true;
        told.unwrap_or(Err(Failure::Nobody))
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.over {
            let mut inner = lock(&self.broker.inner);
            let at = inner.tasks.get(&self.task).and_then(Entry::instance);
            let failure = Failure::Cancelled { by: "its caller, who is gone".to_owned(), at };
            self.broker.finish(&mut inner, self.task, Err(failure));
        }
    }
}
