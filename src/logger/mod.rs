//! The logger: moves what processes write into files, so that a slow disk never delays the keeper.
//!
//! A child of the keeper, started anew whenever it dies; it may be killed at any instant without a byte being lost or
//! doubled (see [`mod@sink`]). Single-threaded; the bytes never pass through its memory (splice(2)). A full disk stops the
//! writers by back-pressure, and drops nothing. If the keeper dies it goes on until everything is drained or a new keeper
//! ends it.
//!
//! The files are read by [`mod@read`], by anybody who may.

pub mod control;
mod files;
pub mod read;
pub mod record;
mod seek;
mod sink;
pub mod stream;
pub mod tail;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::ExitCode,
};

use jiff::{SignedDuration, Timestamp};
use rustix::{
    fs::Timespec,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, tee},
};

pub use self::files::Stream;
use self::{
    control::{Order, Report},
    sink::{Moved, PIECE, Sink},
};
use crate::{
    api::Uid,
    clock::{Clock, System},
    drivers::{LogLimits, StartKey},
    keeper::{
        channel::{Channel, Watches},
        spawn,
    },
};

/// How long a stream rests after its file could not be written.
const REST: SignedDuration = SignedDuration::from_millis(250);
/// A piece of this size shows that a stream is busy and deserves a larger FIFO.
const BUSY: usize = 48 << 10;

/// `appm logger --control FD`, started by the keeper in the data directory.
#[allow(clippy::print_stderr, reason = "the logger's standard error is the keeper's log file")]
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let control = match (args.next().as_deref().and_then(|word| word.to_str()), args.next()) {
        (Some("--control"), Some(fd)) => fd.to_str().and_then(|fd| fd.parse().ok()),
        _ => None,
    };
    let Some(control) = control else {
        eprintln!("usage: appm logger --control FD; the keeper starts it");
        return ExitCode::FAILURE;
    };
    match Logger::new(control).and_then(|mut logger| logger.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{} appm logger: {e}", System.now());
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Control,
    Fifo(StartKey, Stream),
}

/// One FIFO.
#[derive(Debug)]
struct Tap {
    fifo: OwnedFd,
    token: Option<u64>,
    enlarged: bool,
}

/// One attempt.
#[derive(Debug)]
struct Pumped {
    sink: Sink,
    taps: [Option<Tap>; 2],
}

struct Logger {
    /// None once the keeper is gone.
    control: Option<(Channel, u64)>,
    watches: Watches<Source>,
    pumped: BTreeMap<StartKey, Pumped>,
    /// Streams that rest, until then.
    resting: BTreeSet<(StartKey, Stream)>,
    rested_at: Timestamp,
    complained: bool,
    scratch: Scratch,
}

impl Logger {
    fn new(control: i32) -> io::Result<Self> {
        let control = Channel::new(UnixStream::from(spawn::inherited(control)?))?;
        let mut watches = Watches::new()?;
        let token = watches.add(control.socket(), Source::Control)?;
        Ok(Self {
            control: Some((control, token)),
            watches,
            pumped: BTreeMap::new(),
            resting: BTreeSet::new(),
            rested_at: Timestamp::UNIX_EPOCH,
            complained: false,
            scratch: Scratch::new()?,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::with_capacity(256);
        loop {
            self.flush();
            if self.control.is_none() && self.pumped.is_empty() {
                return Ok(());
            }
            let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(REST.subsec_nanos()) };
            self.watches.wait(&mut ready, (!self.resting.is_empty()).then_some(&rest))?;
            for event in ready.drain(..) {
                match self.watches.source(event.data.u64()) {
                    Some(Source::Control) => self.obey(),
                    Some(Source::Fifo(key, stream)) => self.pump(&key, stream),
                    None => {}
                }
            }
            self.wake();
        }
    }

    fn flush(&mut self) {
        if let Some((control, token)) = &mut self.control
            && control.flush(&self.watches, *token).is_err()
        {
            self.control = None;
        }
    }

    fn report(&mut self, report: &Report) {
        if let Some((control, _)) = &mut self.control {
            control.put(report);
        }
    }

    fn obey(&mut self) {
        let Some((control, _)) = &mut self.control else { return };
        let received = control.receive::<Order>();
        if received.over.is_some() {
            self.control = None;
        }
        for order in received.frames {
            match order {
                Order::Open { key, limits } => self.open(key, limits),
                Order::Limits { uid, limits } => self.set_limits(&uid, limits),
                Order::Drop { uid } => {
                    self.pumped.retain(|key, _| key.uid != uid);
                    self.resting.retain(|(key, _)| key.uid != uid);
                    self.report(&Report::Dropped { uid });
                }
            }
        }
    }

    fn set_limits(&mut self, uid: &Uid, limits: LogLimits) {
        for (_, pumped) in self.pumped.iter_mut().filter(|(key, _)| key.uid == *uid) {
            pumped.sink.set_limits(limits);
        }
    }

    fn open(&mut self, key: StartKey, limits: LogLimits) {
        if self.pumped.contains_key(&key) {
            return;
        }
        let dir = Path::new("instances").join(key.uid.as_str());
        let opened = Sink::new(dir.join("logs"), key.attempt, limits).and_then(|sink| {
            let tap = |stream: Stream| -> io::Result<Option<Tap>> {
                let path = dir.join(key.attempt.to_string()).join(format!("{}.fifo", stream.suffix()));
                Ok(Some(Tap { fifo: open_fifo(&path)?, token: None, enlarged: false }))
            };
            Ok(Pumped { sink, taps: [tap(Stream::Out)?, tap(Stream::Err)?] })
        });
        match opened {
            Ok(pumped) => {
                self.pumped.insert(key.clone(), pumped);
                Stream::ALL.into_iter().for_each(|stream| self.begin(&key, stream));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.report(&Report::Drained { key }),
            Err(e) if is_shortage(&e) && self.let_go() => self.open(key, limits),
            Err(e) => self.complain(&format!("the output of `{key}` cannot be taken: {e}")),
        }
    }

    /// What is in the FIFO already; then it is watched. A FIFO whose writers were gone before it was opened never says
    /// so to epoll, but its emptiness does: hence first reading, then watching.
    fn begin(&mut self, key: &StartKey, stream: Stream) {
        // A FIFO holds at most a megabyte; if there is more, somebody writes, and epoll works.
        for _piece in 0..32 {
            match self.step(key, stream) {
                Some(Moved::Some(_)) => {}
                Some(Moved::NotYet) => break,
                Some(Moved::End) | None => return,
            }
        }
        self.watch(key, stream);
    }

    fn watch(&mut self, key: &StartKey, stream: Stream) {
        let Some(tap) = self.pumped.get_mut(key).and_then(|pumped| pumped.taps[stream as usize].as_mut()) else {
            return;
        };
        match self.watches.add(&tap.fifo, Source::Fifo(key.clone(), stream)) {
            Ok(token) => tap.token = Some(token),
            Err(e) => {
                let why = format!("the output of `{key}` cannot be watched: {e}");
                self.rest(key, stream);
                self.complain(&why);
            }
        }
    }

    fn pump(&mut self, key: &StartKey, stream: Stream) {
        self.step(key, stream);
    }

    /// Moves one piece. `None`: the stream rests or is unknown.
    fn step(&mut self, key: &StartKey, stream: Stream) -> Option<Moved> {
        let pumped = self.pumped.get_mut(key)?;
        let tap = pumped.taps[stream as usize].as_mut()?;
        let moved = match self.scratch.peek(&tap.fifo, pumped.sink.has_room(stream)) {
            Ok(Moved::Some(_)) => pumped.sink.take(&tap.fifo, stream, System.now()),
            other => other,
        };
        match moved {
            Ok(moved) => {
                if let Moved::Some(length) = moved {
                    self.complained = false;
                    if length >= BUSY && !tap.enlarged {
                        tap.enlarged = true;
                        // Refused to an unprivileged user who has many large ones already: then it stays as it is.
                        let _ = fcntl_setpipe_size(&tap.fifo, PIECE);
                    }
                }
                if moved == Moved::End {
                    self.ended(key, stream);
                }
                Some(moved)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // The Instance's directory was removed.
                self.ended(key, stream);
                None
            }
            Err(e) => {
                if !(is_shortage(&e) && self.let_go()) {
                    self.complain(&format!("the output of `{key}` cannot be written, its writers wait: {e}"));
                }
                if let Some(pumped) = self.pumped.get_mut(key) {
                    // The disk may have taken a piece and refused its record.
                    pumped.sink.broke();
                }
                self.rest(key, stream);
                None
            }
        }
    }

    /// Nobody can write to this stream any more.
    fn ended(&mut self, key: &StartKey, stream: Stream) {
        let Some(pumped) = self.pumped.get_mut(key) else { return };
        if let Some(token) = pumped.taps[stream as usize].take().and_then(|tap| tap.token) {
            self.watches.forget(token);
        }
        if pumped.taps.iter().all(Option::is_none) {
            self.pumped.remove(key);
            self.report(&Report::Drained { key: key.clone() });
        }
    }

    /// Not watched for a while, so that a full disk costs no cycles; its writers wait meanwhile.
    fn rest(&mut self, key: &StartKey, stream: Stream) {
        let Some(tap) = self.pumped.get_mut(key).and_then(|pumped| pumped.taps[stream as usize].as_mut()) else {
            return;
        };
        if let Some(token) = tap.token.take() {
            self.watches.forget(token);
            self.watches.remove(tap.fifo.as_fd());
        }
        if self.resting.is_empty() {
            self.rested_at = System.now();
        }
        self.resting.insert((key.clone(), stream));
    }

    fn wake(&mut self) {
        if !self.resting.is_empty() && System.now().duration_since(self.rested_at).abs() >= REST {
            for (key, stream) in std::mem::take(&mut self.resting) {
                self.begin(&key, stream);
            }
        }
    }

    /// Frees descriptors: files of attempts are opened again when something comes. True if there were any.
    fn let_go(&mut self) -> bool {
        let mut any = false;
        for pumped in self.pumped.values_mut() {
            any |= pumped.sink.is_open();
            pumped.sink.close();
        }
        any
    }

    /// Once, until something can be written again.
    #[allow(clippy::print_stderr, reason = "the logger's standard error is the keeper's log file")]
    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            eprintln!("{} appm logger: {what}", System.now());
        }
    }
}

/// A pipe of our own, to look into FIFOs without taking anything from them.
struct Scratch {
    read: OwnedFd,
    write: OwnedFd,
}

impl Scratch {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// Whether there is something in a FIFO. Asked only before a file is made, so that none is made for nothing.
    fn peek(&self, fifo: &OwnedFd, known: bool) -> io::Result<Moved> {
        if known {
            return Ok(Moved::Some(0));
        }
        match tee(fifo, &self.write, 1, SpliceFlags::NONBLOCK) {
            Ok(0) => Ok(Moved::End),
            Ok(length) => {
                let mut copy = [0; 1];
                rustix::io::read(&self.read, &mut copy)?;
                Ok(Moved::Some(length))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Moved::NotYet),
            Err(e) => Err(e.into()),
        }
    }
}

fn is_shortage(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE))
}

fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    Ok(std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}
