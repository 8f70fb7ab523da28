//! The driver of OS processes: a client of the keeper.
//!
//! One connection, requests pipelined by id, so a thousand starts may be under way at once. When the connection breaks
//! (the keeper was killed, or replaced itself) what was under way is answered "unknown", the connection is made anew, a
//! keeper started if there is none, and [`DriverEvent::Resync`] tells the agent to look. A keeper of another build than
//! `exe` is asked to become `exe`, in place.

mod feed;
mod link;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use self::link::Link;
use super::{
    Attempt, Driver, DriverEvent, Exec, ExecError, Executed, FeedError, LimitError, Limits, Lines, LogLimits, Notified,
    Pieces, Reach, Start, StartError, StartKey, Started, Unreachable, artifacts,
    last_words::last_words,
    processes::{Root, Scanner},
    step,
    usage::Meter,
};
use crate::{
    api::{InstanceProcesses, RunStep, StepResult, Uid, Usage},
    keeper::{
        self,
        protocol::{Answer, Message, Request},
    },
};

/// How long a request waits for a keeper that is being started or replaced.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the last output is waited for: a full disk may hold it back for ever.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Why there is no keeper to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its directory cannot be made.
    #[error("cannot make the directory `{0}`")]
    Directory(PathBuf, #[source] io::Error),
    /// The executable cannot be run.
    #[error("cannot start the keeper `{0}`")]
    Start(PathBuf, #[source] io::Error),
    /// It was started, but cannot be talked to; its own words are in `keeper/keeper.err`.
    #[error("the keeper in `{0}` does not answer")]
    NoAnswer(PathBuf, #[source] io::Error),
    /// It is of another version, and could not replace itself.
    #[error("the keeper speaks protocol {theirs}, this appm speaks {ours}")]
    OtherProtocol {
        /// The keeper's.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
}

/// What is under way: the request, and who waits for its answer.
type Job = (Request, oneshot::Sender<Answer>);

/// What runs, as far as this driver was told; for [`Driver::usage`].
type Running = Arc<Mutex<BTreeMap<StartKey, Started>>>;

/// Makes attempts real as OS processes.
#[derive(Debug)]
pub struct ProcessDriver {
    jobs: mpsc::UnboundedSender<Job>,
    events: Mutex<Option<mpsc::UnboundedReceiver<DriverEvent>>>,
    running: Running,
    meter: Meter,
    scanner: Scanner,
    data_dir: PathBuf,
}

impl ProcessDriver {
    /// Connects to the keeper of a data directory, which must exist; starts it as `exe keeper` if there is none.
    pub async fn connect(data_dir: &Path, exe: PathBuf) -> Result<Self, ConnectError> {
        let running = Running::default();
        let (events_in, events) = mpsc::unbounded_channel();
        let mut link = Link::new(data_dir.to_owned(), exe, events_in, running.clone());
        let stream = link.open().await?;
        let (jobs, waiting) = mpsc::unbounded_channel();
        // Ends when the driver is dropped, because then `jobs` is closed.
        tokio::spawn(link.run(stream, waiting));
        let events = Mutex::new(Some(events));
        Ok(Self {
            jobs,
            events,
            running,
            meter: Meter::default(),
            scanner: Scanner::default(),
            data_dir: data_dir.to_owned(),
        })
    }

    /// Asks the keeper to end. Refused while anything runs or waits to be acknowledged. Afterwards this driver is of no use.
    pub async fn quit(&self) -> Result<(), Unreachable> {
        self.done(Request::Quit).await
    }

    async fn ask(&self, request: Request) -> Result<Answer, Unreachable> {
        self.ask_within(PATIENCE, request).await
    }

    async fn ask_within(&self, patience: Duration, request: Request) -> Result<Answer, Unreachable> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send((request, answer)).map_err(|_| Unreachable("the driver has ended".to_owned()))?;
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unreachable("the connection to the keeper broke".to_owned())),
            Err(_) => Err(Unreachable("the keeper takes too long".to_owned())),
        }
    }

    async fn done(&self, request: Request) -> Result<(), Unreachable> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            Answer::Failed(why) => Err(Unreachable(why)),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits a moment for the output of an attempt that ended and was acknowledged to be on disk.
    async fn drained(&self, key: &StartKey) {
        // The attempt's own directory goes when its last byte is.
        let dir = self.data_dir.join("instances").join(key.uid.as_str()).join(key.attempt.to_string());
        for _look in 0..LOOKS {
            if !tokio::fs::try_exists(&dir).await.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<StartKey, Started>> {
        self.running.lock().expect("no holder panics")
    }
}

fn unexpected(answer: &Answer) -> Unreachable {
    Unreachable(format!("the keeper's answer was not expected: {answer:?}"))
}

impl Driver for ProcessDriver {
    fn feed<'a>(&'a self, key: &'a StartKey, pieces: Pieces) -> BoxFuture<'a, Result<u64, FeedError>> {
        Box::pin(self.feed_input(key, pieces))
    }

    fn lines(&self, key: &StartKey) -> io::Result<Option<Lines>> {
        self.open_lines(key)
    }

    fn observe(&self) -> BoxFuture<'_, Result<BTreeMap<StartKey, Attempt>, Unreachable>> {
        Box::pin(async move {
            let attempts: BTreeMap<_, _> = match self.ask(Request::List).await? {
                Answer::List(attempts) => attempts.into_iter().collect(),
                other => return Err(unexpected(&other)),
            };
            let mut running = self.running();
            running.clear();
            running.extend(attempts.iter().filter_map(|(key, attempt)| match attempt {
                Attempt::Running(started) => Some((key.clone(), started.clone())),
                Attempt::Ended(_) => None,
            }));
            drop(running);
            Ok(attempts)
        })
    }

    fn start(&self, start: Start) -> BoxFuture<'_, Result<Started, StartError>> {
        Box::pin(async move {
            match self.ask(Request::Start(Box::new(start))).await {
                Ok(Answer::Started(started)) => Ok(started),
                Ok(Answer::NotStarted(why)) => Err(why),
                Ok(other) => Err(StartError::Unknown(unexpected(&other).0)),
                Err(Unreachable(why)) => Err(StartError::Unknown(why)),
            }
        })
    }

    fn signal<'a>(&'a self, key: &'a StartKey, signal: i32, reach: Reach) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(self.done(Request::Signal { key: key.clone(), signal, reach }))
    }

    fn exec<'a>(&'a self, key: &'a StartKey, exec: Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        Box::pin(async move {
            let patience = PATIENCE.saturating_add(exec.timeout);
            match self.ask_within(patience, Request::Exec { key: key.clone(), exec }).await {
                Ok(Answer::Executed(outcome)) => outcome,
                Ok(other) => Err(ExecError::Unknown(unexpected(&other).0)),
                Err(Unreachable(why)) => Err(ExecError::Unknown(why)),
            }
        })
    }

    fn notified<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<Option<Notified>, Unreachable>> {
        Box::pin(async move {
            match self.ask(Request::Notified { key: key.clone() }).await? {
                Answer::Notified(said) => Ok(said),
                other => Err(unexpected(&other)),
            }
        })
    }

    fn acknowledge<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(self.done(Request::Acknowledge { key: key.clone() }))
    }

    fn remove<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(async move {
            self.done(Request::Remove { uid: uid.clone() }).await?;
            // Here and not in the keeper: a large directory takes its time.
            let dir = self.data_dir.join("instances").join(uid.as_str());
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
            match removed {
                Ok(Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                    Err(Unreachable(format!("cannot remove the directory of `{uid}`: {e}")))
                }
                Ok(_) => Ok(()),
                Err(_) => Err(Unreachable("removing was interrupted".to_owned())),
            }
        })
    }

    fn set_log_limits<'a>(&'a self, uid: &'a Uid, limits: LogLimits) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(self.done(Request::SetLogs { uid: uid.clone(), limits }))
    }

    fn set_limits<'a>(&'a self, key: &'a StartKey, limits: Limits) -> BoxFuture<'a, Result<(), LimitError>> {
        Box::pin(async move {
            match self.ask(Request::SetLimits { key: key.clone(), limits }).await {
                Ok(Answer::Done) => Ok(()),
                Ok(Answer::NotLimited(why)) => Err(why),
                Ok(other) => Err(LimitError::Unknown(unexpected(&other).0)),
                Err(Unreachable(why)) => Err(LimitError::Unknown(why)),
            }
        })
    }

    fn last_words<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, String> {
        Box::pin(async move {
            self.drained(key).await;
            last_words(&self.data_dir, key).await
        })
    }

    fn step_files<'a>(&'a self, key: &'a StartKey, step: &'a RunStep, guarded: bool) -> BoxFuture<'a, StepResult> {
        Box::pin(step::files(&self.data_dir, key, step, guarded))
    }

    fn step_output<'a>(
        &'a self,
        key: &'a StartKey,
        step: &'a RunStep,
        result: StepResult,
    ) -> BoxFuture<'a, StepResult> {
        Box::pin(async move {
            self.drained(key).await;
            step::output(&self.data_dir, key, step, result).await
        })
    }

    fn remove_workspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(async move {
            let (data_dir, workspace) = (self.data_dir.clone(), name.to_owned());
            let removed = tokio::task::spawn_blocking(move || step::remove_workspace(&data_dir, &workspace)).await;
            match removed {
                Ok(Err(e)) => Err(Unreachable(format!("cannot remove the workspace `{name}`: {e}"))),
                Ok(Ok(())) => Ok(()),
                Err(_) => Err(Unreachable("removing was interrupted".to_owned())),
            }
        })
    }

    fn remove_artifact<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(async move {
            let (data_dir, artifact) = (self.data_dir.clone(), file.to_owned());
            match tokio::task::spawn_blocking(move || artifacts::remove_one(&data_dir, &artifact)).await {
                Ok(Err(e)) => Err(Unreachable(format!("cannot remove the artifact `{file}`: {e}"))),
                Ok(Ok(())) => Ok(()),
                Err(_) => Err(Unreachable("removing was interrupted".to_owned())),
            }
        })
    }

    fn usage(&self, key: &StartKey) -> Option<Usage> {
        let started = self.running().get(key).cloned();
        self.meter.read(key, started.as_ref(), |pid| keeper::groups_of(key, pid))
    }

    fn processes(&self, key: &StartKey) -> Option<InstanceProcesses> {
        let running = self.running();
        let pid = running.get(key)?.pid;
        let others = running.values().map(|started| started.pid).filter(|other| *other != pid).collect();
        drop(running);
        Some(self.scanner.processes(&Root { key, pid, groups: keeper::groups_of(key, pid), others }))
    }

    fn events(&self) -> mpsc::UnboundedReceiver<DriverEvent> {
        self.events.lock().expect("no holder panics").take().expect("the events are taken once")
    }
}

/// Tells the agent what the keeper says by itself.
fn tell(events: &mpsc::UnboundedSender<DriverEvent>, running: &Running, message: Message) {
    let event = match message {
        Message::Answer { .. } => return,
        Message::Ended { key, ended } => {
            running.lock().expect("no holder panics").remove(&key);
            DriverEvent::Ended(key, ended)
        }
        Message::Main { key, started } => {
            running.lock().expect("no holder panics").insert(key.clone(), started.clone());
            DriverEvent::Main(key, started)
        }
        Message::Notified { key, said } => DriverEvent::Notified(key, said),
        Message::Withheld { key } => DriverEvent::Withheld(key),
        Message::LeftBehind { key, count } => DriverEvent::LeftBehind(key, count),
    };
    // Nobody listens when the agent has ended.
    let _ = events.send(event);
}
