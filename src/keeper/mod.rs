//! The keeper: the parent of every process that appm runs.
//!
//! A separate small process of the same binary, so that the server can crash, be killed and be upgraded while Apps run:
//! ```text
//!   server ──keeper.sock──► keeper ──fork──► one child per attempt        instances/<uid>/work
//!                              │  └─fork──► logger ◄── FIFOs of all children ──► instances/<uid>/logs
//!                              └── keeper/state: what was started, how it ended
//! ```
//! It is synchronous and single-threaded (it forks), decides nothing, uses no network and no database.
//! What it promises:
//! - at most one start per (Instance, attempt), whatever dies: see [`mod@ledger`];
//! - every exit is kept until it is acknowledged;
//! - if it is killed, its children live on; a successor finds them, says that they are adopted, and that their exit codes are lost;
//! - it can replace its own executable in place: see [`mod@replace`].
//!
//! Only `drivers::process` talks to it.

mod adopt;
mod attempts;
mod cgroup;
pub(crate) mod channel;
mod exec;
mod files;
mod input;
mod ledger;
mod memory;
mod notify;
mod prepare;
pub mod proc;
pub mod protocol;
pub mod pty;
mod pump;
mod replace;
mod serve;
pub(crate) mod spawn;
mod tree;
mod users;
mod workspace;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::fs::{FlockOperation, flock};

pub use self::cgroup::{
    attempt_around, cgroup_version, groups_around, groups_of, memory_in_use, own_memory, working_set,
};
pub use self::input::{ANSWERS, INPUT};
pub use self::prepare::OUTPUT;
pub use self::proc::tag as tag_of;
pub use self::spawn::{release_code, release_heap};
use self::{
    ledger::Ledger,
    prepare::Inherited,
    protocol::Answer,
    pump::Pump,
    serve::{Keeper, Outcome, complain},
};
use crate::clock::{Clock, System, boot_id};

/// The keeper's directory in the data directory.
pub const DIR: &str = "keeper";
/// The name of its socket there.
pub const SOCKET: &str = "keeper.sock";
const LOCK: &str = "keeper/lock";
const STATE: &str = "keeper/state";
const SOCKET_PATH: &str = "keeper/keeper.sock";

/// Which executable a file is, as far as replacing the keeper is concerned.
pub fn build_id(exe: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(exe)?;
    Ok(format!("{}-{}-{}.{:09}", env!("CARGO_PKG_VERSION"), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

/// `appm keeper --dir DIR [--detach]`. Must be called before there is a second thread.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match Args::parse(args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Default)]
struct Args {
    dir: PathBuf,
    detach: bool,
    resume: Option<i32>,
}

impl Args {
    fn parse(mut words: impl Iterator<Item = OsString>) -> io::Result<Args> {
        let mut args = Args::default();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--dir") => args.dir = words.next().unwrap_or_default().into(),
                Some("--detach") => args.detach = true,
                Some("--resume") => args.resume = words.next().and_then(|fd| fd.to_str()?.parse().ok()),
                _ => return Err(io::Error::other(format!("unknown argument {}", word.display()))),
            }
        }
        if args.dir.as_os_str().is_empty() {
            return Err(io::Error::other("usage: appm keeper --dir DIR [--detach]"));
        }
        Ok(args)
    }
}

fn run(args: Args) -> io::Result<()> {
    if args.resume.is_none() {
        spawn::close_inherited();
    }
    std::env::set_current_dir(&args.dir)?;
    let signals = settle()?;
    match args.resume {
        Some(fd) => resumed(fd, signals),
        None if args.detach => detached(signals),
        None => fresh(signals, None),
    }
}

/// Away from whoever started us; the starter is let go when we listen, or when it is clear that another keeper does.
fn detached(signals: SignalFd) -> io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    if spawn::detach()? {
        drop(ours);
        return fresh(signals, Some(theirs));
    }
    drop(theirs);
    match ours.read(&mut [0])? {
        0 => Err(io::Error::other("it did not get as far as to listen")),
        _ => Ok(()),
    }
}

/// What makes this process a keeper, whichever way it came to be.
fn settle() -> io::Result<SignalFd> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    reserve_low_descriptors()?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// A child puts its standard streams, its gate and its script below this number; the keeper's own stay above.
fn reserve_low_descriptors() -> io::Result<()> {
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() >= spawn::FIRST_FREE {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// The first keeper of this data directory, or the successor of one that died.
fn fresh(signals: SignalFd, starter: Option<UnixStream>) -> io::Result<()> {
    // Fails if we lead a process group (a service manager's child): then we have a session of our own already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    match DirBuilder::new().mode(0o700).create(DIR) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let lock: OwnedFd = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(LOCK)?.into();
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return match starter {
            Some(mut starter) => starter.write_all(&[1]),
            None => Err(io::Error::other("another keeper runs for this data directory")),
        };
    }
    let ledger = Ledger::open(Path::new(STATE), &boot_id()?, System.now())?;
    // What is in the FIFOs must be held before the old logger lets go of it.
    let mut pump = Pump::default();
    pump.reopen(ledger.book());
    if let Some((pid, ticks)) = ledger.book().logger {
        pump::end_orphan(pid, ticks);
    }
    let inherited = Inherited { nofile: raise_nofile()?, oom_protected: protect_from_oom() };
    let _ = std::fs::remove_file(SOCKET_PATH);
    let listener = UnixListener::bind(SOCKET_PATH)?;
    std::fs::set_permissions(SOCKET_PATH, std::fs::Permissions::from_mode(0o600))?;
    let mut keeper = Keeper::new(ledger, listener, signals, build_id(Path::new("/proc/self/exe"))?, inherited)?;
    keeper.pump = pump;
    keeper.take_over(&|_| false, BTreeMap::new())?;
    keeper.clean_groups();
    if let Some(mut starter) = starter {
        // A starter that did not wait has nothing to be told.
        let _ = starter.write(&[1]);
    }
    keep(keeper, &lock)
}

/// The same process after [`replace::replace`].
fn resumed(handover: i32, signals: SignalFd) -> io::Result<()> {
    let handover = replace::receive(spawn::inherited(handover)?)?;
    let lock = spawn::inherited(handover.lock)?;
    let listener = UnixListener::from(spawn::inherited(handover.listener)?);
    if let Some(pid) = handover.logger.and_then(rustix::process::Pid::from_raw) {
        // It belongs to the old executable. It may be killed at any instant, and is our child: no number is mistaken.
        let _ = spawn::kill(pid.as_raw_nonzero().get(), nix::libc::SIGKILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    let ledger = Ledger::open(Path::new(STATE), &boot_id()?, System.now())?;
    let build = build_id(Path::new("/proc/self/exe"))?;
    let mut keeper = Keeper::new(ledger, listener, signals, build, handover.inherited)?;
    for (key, [out, err]) in handover.taps {
        keeper.pump.taps.insert(key, [spawn::inherited(out)?, spawn::inherited(err)?]);
    }
    let mut ears = BTreeMap::new();
    for (key, fd) in handover.ears {
        ears.insert(key, spawn::inherited(fd)?);
    }
    for (key, fd) in handover.inputs {
        keeper.inputs.hold(key, spawn::inherited(fd)?);
    }
    keeper.take_over(&|key| !handover.adopted.contains(key), ears)?;
    for (key, origin) in handover.origins {
        keeper.live.get_mut(&key).into_iter().for_each(|live| live.origin = Some(origin.clone()));
    }
    keeper.clean_groups();
    keep(keeper, &lock)
}

fn keep(mut keeper: Keeper, lock: &OwnedFd) -> io::Result<()> {
    loop {
        match keeper.run()? {
            Outcome::Quit => return Ok(()),
            Outcome::Replace { exe, asked_by } => {
                keeper.nobody_feeds_any_more();
                let why = replace::replace(&keeper, lock, &exe);
                let why = format!("cannot become `{}`: {why}", exe.display());
                complain(&why);
                keeper.answer(asked_by, Answer::Failed(why));
            }
        }
    }
}

/// Every attempt costs a few descriptors here. Answers with what children get back.
fn raise_nofile() -> io::Result<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// True if it succeeded: children must get 0 back then.
fn protect_from_oom() -> bool {
    OpenOptions::new().write(true).open("/proc/self/oom_score_adj").and_then(|mut file| file.write_all(b"-900")).is_ok()
}
