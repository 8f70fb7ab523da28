//! The keeper's side of the logger: the process that pumps output, and the FIFO ends that keep output safe from its death.
//!
//! The keeper holds the reading ends of an attempt's FIFOs until the logger says that it is drained (everybody who could
//! write is gone, and all is in files). So the logger may be killed at any time: its successor goes on where it was.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
};

use jiff::{SignedDuration, Timestamp};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{
    channel::{Channel, Received, Watches},
    input::INPUT,
    ledger::Book,
    memory::Memory,
    prepare, proc,
    serve::Source,
};
use crate::{
    api::Uid,
    drivers::{LogLimits, StartKey},
    logger::control::{Order, Report},
};

/// What is kept of an output of which nothing else is known: no secret, to be sure.
pub(super) const DEFAULT_LIMITS: LogLimits = LogLimits { max_size: 10 << 20, max_files: 5, redact: true };

/// A logger that lived shorter than this is not started again at once.
const SHORT_LIFE: SignedDuration = SignedDuration::from_millis(100);

/// A logger that runs.
#[derive(Debug)]
struct Running {
    pid: i32,
    token: u64,
    control: Channel,
    since: Timestamp,
}

/// The logger and what it is responsible for.
#[derive(Debug, Default)]
pub(super) struct Pump {
    running: Option<Running>,
    /// The reading ends, by attempt, until it is drained.
    pub taps: BTreeMap<StartKey, [OwnedFd; 2]>,
    /// Not started before this.
    start_at: Option<Timestamp>,
    /// Attempts whose directories may have to go.
    left: Vec<StartKey>,
}

impl Pump {
    /// The logger's process.
    pub(super) fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// When a logger must be started, if none runs.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.start_at.filter(|_| self.running.is_none())
    }

    /// True if a logger must be started now.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.running.is_none() && self.start_at.is_none_or(|at| at <= now)
    }

    /// It could not be started; again at this time.
    pub(super) fn retry_at(&mut self, at: Timestamp) {
        self.start_at = Some(at);
    }

    /// Holds the FIFOs that an earlier keeper left: everything that is not drained has its FIFOs on disk still.
    pub(super) fn reopen(&mut self, book: &Book) {
        let Ok(instances) = std::fs::read_dir("instances") else { return };
        for instance in instances.filter_map(Result::ok) {
            let Ok(uid) = instance.file_name().into_string() else { continue };
            let Ok(attempts) = std::fs::read_dir(instance.path()) else { continue };
            for attempt in attempts.filter_map(Result::ok) {
                let number = attempt.file_name().to_str().and_then(|name| name.parse().ok());
                let Some(number) = number else { continue };
                let key = StartKey { uid: uid.as_str().into(), attempt: number };
                let open = |name: &str| prepare::open_tap(&attempt.path().join(name));
                match (open("out.fifo"), open("err.fifo")) {
                    (Ok(out), Ok(err)) => drop(self.taps.insert(key, [out, err])),
                    _ => self.tidy(&key, book),
                }
            }
        }
    }

    /// Starts a logger and tells it of everything that is not drained.
    pub(super) fn start(&mut self, book: &Book, watches: &mut Watches<Source>, now: Timestamp) -> io::Result<i32> {
        let (ours, theirs) = UnixStream::pair()?;
        let control = Channel::new(ours)?;
        let token = watches.add(control.socket(), Source::Logger)?;
        fcntl_setfd(&theirs, FdFlags::empty())?;
        let child = Command::new("/proc/self/exe")
            .arg0("appm")
            .args(["logger", "--control", &theirs.as_raw_fd().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        self.running = Some(Running { pid, token, control, since: now });
        for key in self.taps.keys().cloned().collect::<Vec<_>>() {
            let limits = limits(book, &key.uid);
            self.order(&Order::Open { key, limits });
        }
        Ok(pid)
    }

    /// The logger died. Its successor is due at once, or a little later if it lived a short life.
    pub(super) fn died(&mut self, now: Timestamp) {
        let short = self.running.take().is_some_and(|run| now.duration_since(run.since) < SHORT_LIFE);
        self.start_at = Some(if short { now + SHORT_LIFE } else { now });
    }

    /// Tells the logger something; it is written with the next [`Pump::flush`].
    pub(super) fn order(&mut self, order: &Order) {
        if let Some(running) = &mut self.running {
            running.control.put(order);
        }
    }

    /// Writes what waits. Failure means that the logger is dying: it is reaped, and its successor told everything.
    pub(super) fn flush(&mut self, watches: &Watches<Source>) {
        if let Some(running) = &mut self.running
            && running.control.flush(watches, running.token).is_err()
        {
            self.hang_up();
        }
    }

    /// What the logger says.
    pub(super) fn receive(&mut self) -> Received<Report> {
        match &mut self.running {
            Some(running) => running.control.receive(),
            None => Received { frames: Vec::new(), over: None },
        }
    }

    /// The logger does not listen any more: whatever it is, it must end.
    pub(super) fn hang_up(&mut self) {
        if let Some(pid) = self.pid() {
            // It is our child and not reaped yet, so the number is its own.
            let _ = super::spawn::kill(pid, nix::libc::SIGKILL);
        }
    }

    /// Nothing more will come from this attempt.
    pub(super) fn drained(&mut self, key: &StartKey, book: &Book) {
        let dir = prepare::attempt_dir(key);
        for name in ["out.fifo", "err.fifo"] {
            // Gone already if the Instance was removed meanwhile.
            let _ = std::fs::remove_file(dir.join(name));
        }
        self.taps.remove(key);
        self.tidy(key, book);
    }

    /// An attempt was forgotten. What is left of it is removed when whatever is more urgent was done: a start, say, that came with it.
    pub(super) fn leave(&mut self, key: StartKey) {
        self.left.push(key);
    }

    /// Removes what is left of attempts that were forgotten.
    pub(super) fn tidy_up(&mut self, book: &Book) {
        for key in std::mem::take(&mut self.left) {
            self.tidy(&key, book);
        }
    }

    /// Removes the directory of an attempt that is drained and forgotten.
    fn tidy(&self, key: &StartKey, book: &Book) {
        if !self.taps.contains_key(key) && !book.attempts.contains_key(key) {
            let dir = prepare::attempt_dir(key);
            // Whatever is not there need not be removed; whatever cannot be goes with the Instance.
            let _ = std::fs::remove_file(dir.join("script"));
            let _ = std::fs::remove_file(dir.join(INPUT));
            Memory::forget(key);
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// How much output of an Instance is kept.
pub(super) fn limits(book: &Book, uid: &Uid) -> LogLimits {
    book.logs.get(uid).copied().unwrap_or(DEFAULT_LIMITS)
}

/// Ends the logger of a keeper that died, and waits until it is gone: two loggers must never read one FIFO.
/// It may be killed at any instant, so this is no loss.
pub(super) fn end_orphan(pid: i32, ticks: u64) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        process::{PidfdFlags, pidfd_open},
    };
    let Some(pidfd) = rustix::process::Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return;
    };
    if proc::runs(pid, ticks) {
        let _ = super::spawn::kill_fd(&pidfd, nix::libc::SIGKILL);
        // A process that sits in an uninterruptible write ends when the disk lets it.
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None);
    }
}
