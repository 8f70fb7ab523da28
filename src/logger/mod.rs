//! The logger: moves what processes write into files, so that a slow disk never delays the keeper.
//!
//! A child of the keeper, started anew whenever it dies; it may be killed at any instant without a byte being lost or
//! doubled (see [`mod@sink`]). Single-threaded; the bytes never pass through its memory (splice(2)), unless secret values are
//! to be taken out of them (see [`mod@redact`]). A full disk stops the writers by back-pressure, and drops nothing. If the keeper dies it goes on until everything is drained or a new keeper
//! ends it.
//!
//! The files are read by [`mod@read`], by anybody who may.

pub mod control;
mod files;
pub(crate) mod masks;
pub mod notices;
pub mod part;
pub mod read;
pub mod record;
pub(crate) mod redact;
mod seek;
mod sink;
pub mod stream;
pub mod tail;
pub mod veil;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
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
    redact::{Guard, Redactors, withhold},
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
    policy::redact::End,
};

/// How long a stream rests after its file could not be written.
const REST: SignedDuration = SignedDuration::from_millis(250);
/// How long what may be the beginning of a secret is held back at most, if nothing follows.
const HOLD: SignedDuration = SignedDuration::from_secs(1);
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
    guard: Guard,
    /// Whether secret values are to be taken out.
    redact: bool,
    dir: PathBuf,
    taps: [Option<Tap>; 2],
}

impl Pumped {
    /// Moves one piece. `Moved::Some`: there may be more.
    fn take(&mut self, stream: Stream, scratch: &Scratch) -> io::Result<Moved> {
        let now = System.now();
        if !self.redact && !self.guard.listens() {
            self.unguard(now)?;
        }
        let Some(Tap { fifo, .. }) = &self.taps[stream as usize] else { return Ok(Moved::NotYet) };
        if let Guard::Redact(stage) = &mut self.guard {
            return stage.take(&mut self.sink, fifo, stream, now);
        }
        match scratch.peek(fifo, self.sink.has_room(stream))? {
            Moved::Some(_) => match &mut self.guard {
                Guard::Withhold(is_said) => withhold(&mut self.sink, fifo, is_said, now),
                _ => self.sink.take(fifo, stream, now),
            },
            other => Ok(other),
        }
    }

    /// What is held back is written, and from then on everything as it is.
    fn unguard(&mut self, now: Timestamp) -> io::Result<()> {
        if let Guard::Redact(stage) = &mut self.guard {
            for stream in Stream::ALL {
                stage.drain(&mut self.sink, stream, End::Over, now)?;
            }
        }
        self.guard = Guard::Plain;
        Ok(())
    }

    /// Nothing has come for a while.
    fn pause(&mut self, stream: Stream) -> io::Result<()> {
        match &mut self.guard {
            Guard::Redact(stage) => stage.drain(&mut self.sink, stream, End::Pause, System.now()),
            Guard::Plain | Guard::Withhold(_) => Ok(()),
        }
    }

    fn is_said_to_be_withheld(&self) -> bool {
        matches!(self.guard, Guard::Withhold(true))
    }
}

struct Logger {
    /// None once the keeper is gone.
    control: Option<(Channel, u64)>,
    watches: Watches<Source>,
    pumped: BTreeMap<StartKey, Pumped>,
    /// Streams that rest, until then.
    resting: BTreeSet<(StartKey, Stream)>,
    rested_at: Timestamp,
    /// Streams of which something is held back, since then.
    holding: BTreeMap<(StartKey, Stream), Timestamp>,
    redactors: Redactors,
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
            holding: BTreeMap::new(),
            redactors: Redactors::default(),
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
            let pauses = [(!self.resting.is_empty()).then_some(REST), (!self.holding.is_empty()).then_some(HOLD)];
            let pause = pauses.into_iter().flatten().min();
            let pause =
                pause.map(|pause| Timespec { tv_sec: pause.as_secs(), tv_nsec: i64::from(pause.subsec_nanos()) });
            self.watches.wait(&mut ready, pause.as_ref())?;
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
                    self.holding.retain(|(key, _), _| key.uid != uid);
                    self.report(&Report::Dropped { uid });
                }
            }
        }
    }

    fn set_limits(&mut self, uid: &Uid, limits: LogLimits) {
        for (_, pumped) in self.pumped.iter_mut().filter(|(key, _)| key.uid == *uid) {
            pumped.sink.set_limits(limits);
            pumped.redact = limits.redact;
            if limits.redact && matches!(pumped.guard, Guard::Plain) {
                pumped.guard = Guard::of(&pumped.dir, &mut self.redactors);
            }
        }
    }

    fn open(&mut self, key: StartKey, limits: LogLimits) {
        if self.pumped.contains_key(&key) {
            return;
        }
        let dir = Path::new("instances").join(key.uid.as_str());
        let attempt_dir = dir.join(key.attempt.to_string());
        // One that was redacted before may have left something behind.
        let guarded = limits.redact || redact::is_guarded(&attempt_dir);
        let guard = if guarded { Guard::of(&attempt_dir, &mut self.redactors) } else { Guard::Plain };
        let opened = Sink::new(dir.join("logs"), key.attempt, limits, guard.intent()).and_then(|sink| {
            let tap = |stream: Stream| -> io::Result<Option<Tap>> {
                let path = attempt_dir.join(format!("{}.fifo", stream.suffix()));
                Ok(Some(Tap { fifo: open_fifo(&path)?, token: None, enlarged: false }))
            };
            let taps = [tap(Stream::Out)?, tap(Stream::Err)?];
            Ok(Pumped { sink, guard, redact: limits.redact, dir: attempt_dir.clone(), taps })
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
        pumped.taps[stream as usize].as_ref()?;
        let was_said = pumped.is_said_to_be_withheld();
        let moved = pumped.take(stream, &self.scratch);
        let is_withheld = !was_said && pumped.is_said_to_be_withheld();
        match moved {
            Ok(moved) => {
                if let (Moved::Some(length), Some(tap)) = (moved, pumped.taps[stream as usize].as_mut()) {
                    self.complained = false;
                    if length >= BUSY && !tap.enlarged {
                        tap.enlarged = true;
                        // Refused to an unprivileged user who has many large ones already: then it stays as it is.
                        let _ = fcntl_setpipe_size(&tap.fifo, PIECE);
                    }
                }
                self.hold(key, stream);
                if is_withheld {
                    self.report(&Report::Withheld { key: key.clone() });
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
                self.failed(key, stream, &e);
                None
            }
        }
    }

    fn failed(&mut self, key: &StartKey, stream: Stream, e: &io::Error) {
        if !(is_shortage(e) && self.let_go()) {
            self.complain(&format!("the output of `{key}` cannot be written, its writers wait: {e}"));
        }
        if let Some(pumped) = self.pumped.get_mut(key) {
            // The disk may have taken a piece and refused its record.
            pumped.sink.broke();
        }
        self.rest(key, stream);
    }

    /// Remembers whether something is held back.
    fn hold(&mut self, key: &StartKey, stream: Stream) {
        if self.pumped.get(key).is_some_and(|pumped| pumped.guard.holds(stream)) {
            self.holding.insert((key.clone(), stream), System.now());
        } else if !self.holding.is_empty() {
            self.holding.remove(&(key.clone(), stream));
        }
    }

    /// What was held back long enough is given out.
    fn give_out(&mut self) {
        let now = System.now();
        let due = self.holding.extract_if(.., |_, since| now.duration_since(*since).abs() >= HOLD);
        for (key, stream) in due.map(|(which, _)| which).collect::<Vec<_>>() {
            let paused = self.pumped.get_mut(&key).map(|pumped| pumped.pause(stream));
            if let Some(Err(e)) = paused {
                self.failed(&key, stream, &e);
            }
        }
    }

    /// Nobody can write to this stream any more.
    fn ended(&mut self, key: &StartKey, stream: Stream) {
        self.holding.remove(&(key.clone(), stream));
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
        if !self.holding.is_empty() {
            self.give_out();
        }
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
