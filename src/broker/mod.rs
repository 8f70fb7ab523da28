//! The broker: tasks that somebody sends to an App, and the processes of it that ask for them.
//!
//! ```text
//!  send ─► [ line of the App ] ─► fetch ─► the process works ─► give ─► the caller
//!            │  policy::tasks      │          │
//!            │                     │          └─ ended (the driver's word): the caller is told how, or it goes back in line
//!            │                     └─ never sent to the end: back to its old place
//!            └─ deadline, cancel, caller gone: out
//! ```
//! Everything is in memory, and lives as long as the server. Whoever waits when that dies has an answer that says nothing: the work may
//! have been done or not. What is promised is that no task is handed out twice unless it was declared idempotent, or never reached the
//! process that it was meant for. A process is named by its key ([`Keys`]), so one of another attempt, or another App, gets nothing.
//!
//! An App to which nobody sends anything is not known here.

mod due;
mod failure;
mod key;
mod parts;
mod payload;
mod send;
#[cfg(test)]
mod tests;
mod work;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use self::{due::Due, parts::Parts};
pub use self::{
    failure::Failure,
    key::Keys,
    parts::Next,
    payload::{Payload, Pieces},
    send::{Done, Kept, Order, Sent},
    work::{Delivery, FetchError, GiveError, Over, Superseded, Worker},
};
use crate::{
    api::{App, Instance, Object, Task, TaskState, Uid},
    clock::{self, SharedClock},
    drivers::StartKey,
    policy::tasks::{Board, Match},
    store::Store,
};

/// How often a task is handed out at most, however idempotent it is: it may be what ends the processes.
const DELIVERIES: u32 = 3;
/// How long the outcome of a task is kept that nobody waits for.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// How many of these, and how many bytes of results; the oldest make room.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 128 << 20;
/// So many Apps are held to which something was sent lately.
const HELD: usize = 16;

/// How a task ended.
pub type Outcome = Result<Done, Failure>;

/// Brings tasks and processes together.
pub struct Broker {
    store: Arc<Store>,
    clock: SharedClock,
    keys: OnceLock<Keys>,
    /// Before the number in every task's name: numbers begin anew with each server.
    tag: String,
    inner: Mutex<Inner>,
    /// The outcome of a task was put by.
    kept: Notify,
}

#[derive(Default)]
struct Inner {
    /// The last number that was given to a task or a question.
    last: u64,
    desks: HashMap<Uid, Desk>,
    tasks: BTreeMap<u64, Entry>,
    questions: HashMap<u64, Question>,
    /// What was handed to whom and not answered, in the order in which it was handed out.
    owed: HashMap<StartKey, Vec<Owed>>,
    /// Whoever asked.
    staff: HashMap<StartKey, Member>,
    /// The last attempt of an instance that has ended, of those that ever asked.
    ended: HashMap<Uid, u32>,
    kept: VecDeque<(u64, Kept)>,
    kept_bytes: usize,
    due: Due,
    /// Apps as they were when something was sent to them: read once for all that comes soon.
    held: VecDeque<Arc<Object<App>>>,
}

/// A process asks.
struct Question {
    tell: oneshot::Sender<Delivery>,
    over: Option<Over>,
}

/// A process that asked.
struct Member {
    app: Uid,
    /// The name of its instance.
    instance: String,
    /// The instance, read for all that it asks soon.
    _held: Option<Arc<Object<Instance>>>,
}

/// The line before the instances of an App.
struct Desk {
    board: Board<Arc<str>, StartKey>,
    /// True if an instance has asked.
    asked: bool,
}

/// A task that is not over.
struct Entry {
    app: Uid,
    caller: Arc<str>,
    /// As it is shown.
    shown: Task,
    payload: Payload,
    parts: Parts,
    at: Option<Handed>,
    /// The uptime at which its caller gives up.
    due: Duration,
    /// The outcome is put by.
    keep: bool,
    tell: oneshot::Sender<Outcome>,
}

/// Who has a task.
struct Handed {
    to: StartKey,
    instance: String,
    since: Timestamp,
    over: Option<Over>,
}

/// A process has this task, as far as anybody knows.
#[derive(Clone, Copy, Debug)]
struct Owed {
    task: u64,
    /// The connection on which it went.
    on: Option<SocketAddr>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// A broker without tasks, whose processes are the instances in the store.
    pub fn new(store: Arc<Store>, clock: SharedClock) -> Self {
        let tag = clock::name_suffix(&*clock);
        Self { store, clock, keys: OnceLock::new(), tag, inner: Mutex::default(), kept: Notify::new() }
    }

    /// The keys by which processes are known; without them those of this process are, which no other server reads. The first call counts.
    pub fn use_keys(&self, keys: Keys) {
        // Whoever comes second has come too late: keys of the first may be out already.
        let _ = self.keys.set(keys);
    }

    /// A code over bytes that only this server can make, before and after a restart; for `purpose` alone.
    pub fn seal(&self, purpose: &str, bytes: &[u8]) -> String {
        self.keys().seal(purpose, bytes)
    }

    fn keys(&self) -> &Keys {
        self.keys.get_or_init(Keys::of_this_process)
    }

    /// The key that a process of this attempt is given.
    pub fn key_of(&self, attempt: &StartKey) -> String {
        self.keys().of_attempt(attempt)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The number in a task's name.
    fn number(&self, name: &str) -> Option<u64> {
        let (tag, number) = name.split_once('-')?;
        (tag == self.tag).then(|| number.parse().ok()).flatten()
    }

    fn name(&self, task: u64) -> String {
        format!("{}-{task}", self.tag)
    }

    /// Hands out what can be handed out.
    fn hand_out(self: &Arc<Self>, inner: &mut Inner, app: &Uid) {
        let Some(desk) = inner.desks.get_mut(app) else { return };
        while let Some(Match { task, asked, worker }) = desk.board.deal() {
            let (Some(entry), Some(question)) = (inner.tasks.get_mut(&task), inner.questions.remove(&asked)) else {
                // Neither is forgotten without the board.
                continue;
            };
            let instance = inner.staff.get(&worker).map(|member| member.instance.as_str());
            let instance = instance.unwrap_or_default();
            let Question { tell, over } = question;
            let delivery = Delivery::new(self.clone(), task, (worker.clone(), instance, over), entry);
            match tell.send(delivery) {
                Ok(()) => inner.owed.entry(worker).or_default().push(Owed { task, on: None }),
                Err(back) => {
                    back.forget();
                    entry.back();
                    desk.board.freed(&worker);
                    desk.board.put_back(&entry.caller.clone(), task);
                }
            }
        }
        if desk.board.is_idle() {
            inner.desks.remove(app);
        }
    }

    /// A task is over: its caller is told, and whoever had it has one less.
    fn finish(self: &Arc<Self>, inner: &mut Inner, task: u64, outcome: Outcome) {
        let Some(entry) = inner.tasks.remove(&task) else { return };
        inner.due.forget(entry.due, task);
        if let Some(desk) = inner.desks.get_mut(&entry.app) {
            match &entry.at {
                Some(handed) => desk.board.freed(&handed.to),
                None => drop(desk.board.withdraw(&entry.caller, task)),
            }
        }
        if let (
            Some(Handed { over: Some(over), .. }),
            Err(why @ (Failure::TimedOut { .. } | Failure::Cancelled { .. })),
        ) = (&entry.at, &outcome)
        {
            // Whoever is gone needs not be told.
            let _ = over.send((self.name(task), why.to_string()));
        }
        let app = entry.app.clone();
        if entry.keep {
            self.put_by(inner, task, entry.shown, entry.app, outcome.clone());
        }
        // Whoever does not listen any more has no use for it.
        let _ = entry.tell.send(outcome);
        self.hand_out(inner, &app);
    }
}

impl Inner {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Holds an App for whoever sends something to it soon.
    fn hold(&mut self, app: Arc<Object<App>>) {
        if self.held.back().is_some_and(|last| Arc::ptr_eq(last, &app)) {
            return;
        }
        self.held.retain(|held| held.uid() != app.uid());
        self.held.push_back(app);
        if self.held.len() > HELD {
            self.held.pop_front();
        }
    }
}

impl Entry {
    /// It is not with anybody any more.
    fn back(&mut self) {
        self.at = None;
        self.parts.forget();
        self.shown.state = TaskState::Waiting;
        self.shown.deliveries = self.shown.deliveries.saturating_sub(1);
        self.shown.start_time = None;
        self.shown.instance.clear();
    }

    /// The instance that has it.
    fn instance(&self) -> Option<String> {
        self.at.as_ref().map(|handed| handed.instance.clone())
    }
}
