//! How Instances become real. A driver starts, signals and watches attempts; it decides nothing.
//!
//! Two real ones: `process` (through the keeper) and `sim` (a simulated machine with seeded faults).
//! Both keep the same promises, and the same test bodies run on both:
//! - `start` is idempotent by [`StartKey`]: it never starts a key twice, whatever dies in between;
//! - an exit is reported until it is acknowledged;
//! - what cannot be known is said to be lost, never made up.

mod artifacts;
pub mod container;
mod feed;
mod last_words;
mod pieces;
mod prepare;
pub mod process;
mod processes;
pub mod sim;
pub mod sources;
mod start;
mod step;
mod usage;

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::artifacts::open_artifact;
pub use self::feed::{FeedError, Lines, Pieces};
pub use self::pieces::file_pieces;
pub use self::prepare::{Fetched, Login, Need, PrepareError};
pub use self::start::{ContainerProgram, Limits, LogLimits, ProcessProgram, Program, Start, StartFile};
pub use self::step::{STEP_FILES, WORKSPACES};
use crate::api::{InstanceProcesses, RunStep, StepResult, Uid, Usage};

/// What is started at most once: one attempt of one Instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StartKey {
    /// The Instance.
    pub uid: Uid,
    /// Its attempt, from 1.
    pub attempt: u32,
}

impl fmt::Display for StartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.uid, self.attempt)
    }
}

/// How a process may speak by sd_notify(3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// It is told that it must say `WATCHDOG=1` at least so often.
    pub watchdog: Option<Duration>,
}

/// What a process has said by sd_notify(3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notified {
    /// `READY=1`, at least once.
    pub ready: bool,
    /// `STATUS=`: one line for people.
    pub status: String,
    /// `RELOADING=1`, and no `READY=1` since.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `WATCHDOG=trigger`: it asks to be taken for dead.
    pub trigger: bool,
    /// `WATCHDOG_USEC=`: how often it will say `WATCHDOG=1` from now on.
    pub watchdog: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`: nothing that it is waited for runs out before this much time has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended: Option<Duration>,
    /// How long ago it said `WATCHDOG=1` last, or began to be listened to.
    pub silent: Duration,
}

/// A program that is run beside an attempt: as its user, in its environment, its directory and its control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments, expanded.
    pub argv: Vec<String>,
    /// When it and everything that it started is killed.
    pub timeout: Duration,
    /// If given, it runs at most once under this name beside this attempt: who asks again gets the outcome of the first
    /// time, as long as the driver remembers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
}

/// What became of an [`Exec`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Its exit code; none if a signal ended it. 127 or 126 if it could not be run at all.
    pub code: Option<i32>,
    /// The end of what it said, on both streams; at most [`EXEC_OUTPUT`] bytes.
    pub output: Vec<u8>,
    /// It was killed because it took too long.
    pub timed_out: bool,
}

/// How much of the output of an [`Exec`] is kept.
pub const EXEC_OUTPUT: usize = 4096;

/// Why nobody knows how an [`Exec`] went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ExecError {
    /// The attempt does not run; nothing was done.
    #[error("the instance does not run")]
    NotRunning,
    /// The driver is short of something, or was lost on the way. It may have been run.
    #[error("the driver did not answer: {0}")]
    Unknown(String),
}

/// A process that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its process id.
    pub pid: i32,
    /// When it was started.
    pub start_time: Timestamp,
    /// True if it is not the keeper's child: its exit code cannot be known.
    pub adopted: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody could see how.
    Lost,
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub end: End,
    /// True if the kernel ended a process of it for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When it was started.
    pub start_time: Timestamp,
    /// When it ended, or when that was noticed.
    pub finish_time: Timestamp,
}

/// An attempt as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attempt {
    /// It runs.
    Running(Started),
    /// It ended, and nobody has acknowledged that yet.
    Ended(Ended),
}

/// What the check that an image brings (`HEALTHCHECK`) says of a container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCheck {
    /// Where it stands.
    pub state: CheckState,
    /// The end of what the last one printed, or its exit code; empty if none has ended.
    pub said: String,
}

/// Where the check of an image stands, in its engine's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It has not succeeded yet, nor failed as often as it may.
    Starting,
    /// It succeeded last, or has failed less often than it may.
    Healthy,
    /// It failed as often in a row as it may.
    Unhealthy,
}

impl CheckState {
    /// The engine's word.
    pub fn word(self) -> &'static str {
        match self {
            CheckState::Starting => "starting",
            CheckState::Healthy => "healthy",
            CheckState::Unhealthy => "unhealthy",
        }
    }
}

/// What the driver reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverEvent {
    /// An attempt ended.
    Ended(StartKey, Ended),
    /// An attempt's process has said something new by sd_notify; a mere `WATCHDOG=1` is not reported.
    Notified(StartKey, Notified),
    /// An attempt has another main process than before: it said `MAINPID=`.
    Main(StartKey, Started),
    /// An attempt whose end was acknowledged left so many processes behind, which were killed.
    LeftBehind(StartKey, usize),
    /// Output of an attempt is not written any more: it may hold secrets that nobody knows any more.
    Withheld(StartKey),
    /// What [`Driver::check`] answers of this attempt is another thing than before.
    Checked(StartKey),
    /// How the fetching of what an Instance needs goes on, in one sentence.
    Fetching(Uid, String),
    /// Reports may have been missed: call [`Driver::observe`].
    Resync,
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// The process itself.
    Process,
    /// Everything that it left behind too: its session, its process group, its descendants.
    Tree,
}

/// Why a start did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StartError {
    /// The manifest's author can mend it: no such program, user, directory. The attempt counts as used; no event is
    /// sent for it, but `observe` shows it as ended with code 127 or 126 until it is acknowledged.
    #[error("{0}")]
    Refused(String),
    /// Limits that this machine cannot enforce: whoever runs appm can mend it. The attempt counts as used, as above.
    #[error("{0}")]
    ResourcesUnavailable(String),
    /// That attempt was started before, and has ended since; its end is reported by `observe`.
    #[error("attempt {0} was started before")]
    AlreadyStarted(StartKey),
    /// Nobody knows whether it was started, or the machine was short of something: ask `observe`; if the attempt is not
    /// there, it was not started, and may be tried again.
    #[error("the driver did not answer: {0}")]
    Unknown(String),
}

/// Why what an attempt that runs may use was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LimitError {
    /// It uses more than it would have: later, perhaps.
    #[error("{0}")]
    InUse(String),
    /// Not while it runs.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody knows whether it was done.
    #[error("the driver did not answer: {0}")]
    Unknown(String),
}

/// The driver could not look or act. Says nothing about the processes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver cannot be reached: {0}")]
pub struct Unreachable(pub String);

/// Makes attempts real.
pub trait Driver: Send + Sync + 'static {
    /// Gives an attempt what it reads from its standard input, as fast as it reads, and then its end; each attempt once, if
    /// `fed` of its program says so. Answers with how many bytes were taken, when all are, or as soon as nobody reads any more. When the input
    /// breaks off, this call is dropped, or its whole process dies, the attempt is hung up: a part is never taken for the whole.
    fn feed<'a>(&'a self, _key: &'a StartKey, _pieces: Pieces) -> BoxFuture<'a, Result<u64, FeedError>> {
        Box::pin(async { Err(FeedError::NotWanted("it reads nothing that is sent".to_owned())) })
    }

    /// The pipes of an attempt whose program says `lines`; `None` if it has none.
    ///
    /// # Errors
    /// When they cannot be opened.
    fn lines(&self, _key: &StartKey) -> io::Result<Option<Lines>> {
        Ok(None)
    }

    /// Every attempt that runs, or ended and is not acknowledged.
    fn observe(&self) -> BoxFuture<'_, Result<BTreeMap<StartKey, Attempt>, Unreachable>>;

    /// Fetches what a start needs and this machine lacks; starts nothing. `None` if it was there already.
    fn prepare(&self, _: Need) -> BoxFuture<'_, Result<Option<Fetched>, PrepareError>> {
        // A process needs nothing but itself.
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Starts an attempt, unless its key was started before. If it runs already, answers with what runs.
    fn start(&self, start: Start) -> BoxFuture<'_, Result<Started, StartError>>;

    /// Sends a signal to an attempt that runs; one that ended meanwhile is no error.
    fn signal<'a>(&'a self, key: &'a StartKey, signal: i32, reach: Reach) -> BoxFuture<'a, Result<(), Unreachable>>;

    /// Runs a program beside an attempt that runs. Dropping the future does not end the program; its timeout does.
    fn exec<'a>(&'a self, key: &'a StartKey, exec: Exec) -> BoxFuture<'a, Result<Executed, ExecError>>;

    /// Whether an attempt answers on its ports; `None`: that is found out over the network. A simulated machine has none.
    fn answers(&self, _: &StartKey) -> Option<bool> {
        None
    }

    /// What an attempt that runs has said by sd_notify; `None` if it was given no socket for that.
    fn notified<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<Option<Notified>, Unreachable>>;

    /// The exit of an attempt is on disk elsewhere: the driver may forget it. Also kills what the attempt left behind.
    fn acknowledge<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<(), Unreachable>>;

    /// The Instance is gone: forget all its attempts, remove its directory and its output.
    fn remove<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<(), Unreachable>>;

    /// How much output of an Instance is kept from now on.
    fn set_log_limits<'a>(&'a self, uid: &'a Uid, limits: LogLimits) -> BoxFuture<'a, Result<(), Unreachable>>;

    /// Changes what an attempt that runs may use, while it runs. To do it again does no harm; one that ended meanwhile is no error.
    fn set_limits<'a>(&'a self, _: &'a StartKey, _: Limits) -> BoxFuture<'a, Result<(), LimitError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The address of an attempt that has one of its own; `None`: it has that of this machine.
    fn address(&self, _: &StartKey) -> Option<String> {
        None
    }

    /// What the check of its image says of an attempt that runs; `None`: it has none.
    fn check(&self, _: &StartKey) -> Option<ImageCheck> {
        None
    }

    /// The end of what an attempt wrote that ended and was acknowledged. Waits a moment for what is on its way to the disk.
    fn last_words<'a>(&'a self, _: &'a StartKey) -> BoxFuture<'a, String> {
        Box::pin(std::future::ready(String::new()))
    }

    /// What a step of a workflow left in its files, which has ended. `guarded`: it was given secret values, which must not be
    /// in that; they are known until its end is acknowledged.
    fn step_files<'a>(&'a self, _: &'a StartKey, _: &'a RunStep, _guarded: bool) -> BoxFuture<'a, StepResult> {
        Box::pin(std::future::ready(StepResult::default()))
    }

    /// Puts what it printed to that, as far as it is wanted. Complete only once its end was acknowledged.
    fn step_output<'a>(&'a self, _: &'a StartKey, _: &'a RunStep, files: StepResult) -> BoxFuture<'a, StepResult> {
        Box::pin(std::future::ready(files))
    }

    /// Nobody works in this workspace any more: forget it. One that is not there is no error.
    fn remove_workspace<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Nobody may read these files of a step any more: forget them. Such as are not there are no error.
    fn remove_artifact<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What an attempt that runs uses; `None` if it does not run.
    fn usage(&self, key: &StartKey) -> Option<Usage>;

    /// Who an attempt that runs consists of now; `None` if it does not run, or where this process cannot look. Looks at every
    /// process of the machine: not for a thread that others wait for.
    fn processes(&self, _: &StartKey) -> Option<InstanceProcesses> {
        None
    }

    /// The stream of reports. May be taken once.
    fn events(&self) -> mpsc::UnboundedReceiver<DriverEvent>;
}

/// The driver that everybody shares.
pub type SharedDriver = Arc<dyn Driver>;
