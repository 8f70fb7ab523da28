//! The one place that forks. Between fork and exec only async-signal-safe calls are made, on memory prepared before.
//!
//! The child first puts its descriptors in order, then blocks on the gate (one end of a socket pair). One byte through
//! the gate releases it; end of file means that the keeper died before it could record the child, so the child ends
//! without having executed anything. What goes wrong after that comes back through the gate as a [`Failure`]; the gate's
//! closing on exec says that all went well.

//!
//! The few other system calls that have no safe form stand here, too.

#![allow(unsafe_code, reason = "fork, and raw system calls between fork and exec, have no safe form")]

use std::{
    ffi::{CString, c_char, c_int},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::libc;

use super::files::{self, PreparedFile};

/// Where the gate is in the child.
const GATE: RawFd = 3;
/// Where the script is in the child, if it cannot be opened by path.
pub(super) const SCRIPT: RawFd = 4;
/// The keeper keeps its own descriptors at or above this one, so that the child may overwrite those below.
pub(super) const FIRST_FREE: RawFd = 10;

/// The variable that the child fills with its own number, if it stands empty in its environment.
pub(super) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Everything that the child needs, in the form in which system calls want it.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Where it writes itself into its control groups.
    pub groups: Vec<OwnedFd>,
    /// The files to try, in this order.
    pub programs: Vec<CString>,
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub script: Option<OwnedFd>,
    /// The standard streams are a terminal, which becomes the session's.
    pub terminal: bool,
    /// Entered before the user is switched.
    pub own_dir: CString,
    /// Entered after the user is switched.
    pub working_dir: Option<CString>,
    /// Written after the working directory was entered.
    pub files: Vec<PreparedFile>,
    pub switch: Option<Switch>,
    pub umask: u32,
    pub nice: i32,
    /// Resource, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The keeper is protected from the OOM killer; its children are not.
    pub reset_oom: bool,
}

/// Another user to become.
#[derive(Debug, Clone)]
pub(super) struct Switch {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Descriptors = 1,
    Terminal,
    OwnDir,
    Nice,
    Rlimit,
    User,
    WorkingDir,
    Files,
    Exec,
    Group,
}

const STAGES: [Stage; 10] = [
    Stage::Descriptors,
    Stage::Terminal,
    Stage::OwnDir,
    Stage::Nice,
    Stage::Rlimit,
    Stage::User,
    Stage::WorkingDir,
    Stage::Files,
    Stage::Exec,
    Stage::Group,
];

/// Why a child could not execute its program, as it says through the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub stage: Stage,
    pub errno: i32,
    /// Which of several.
    pub index: u32,
}

impl Failure {
    /// How long it is on the way.
    pub(super) const LENGTH: usize = 9;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [self.stage as u8; Self::LENGTH];
        bytes[1..5].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[5..].copy_from_slice(&self.index.to_ne_bytes());
        bytes
    }

    /// Reads what [`Failure::to_bytes`] wrote; `None` if nothing was said.
    pub(super) fn from_bytes(said: &[u8]) -> Option<Failure> {
        let (stage, numbers) = said.split_first()?;
        let (errno, index) = numbers.split_first_chunk()?;
        Some(Failure {
            stage: STAGES.into_iter().find(|known| *known as u8 == *stage)?,
            errno: i32::from_ne_bytes(*errno),
            index: u32::from_ne_bytes(index.try_into().ok()?),
        })
    }
}

/// The pointers for execve(2), null-terminated; `[0]` of `shell` and `[1]` are filled in by the child.
struct Vectors {
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    shell: Vec<*const c_char>,
    /// Where the empty [`WATCHDOG_PID`] stands in `env`.
    pid_at: Option<usize>,
}

const SH: &std::ffi::CStr = c"/bin/sh";

/// Forks a child that waits at the gate. The caller may only do so from a single-threaded process.
pub(super) fn fork(prepared: &Prepared) -> io::Result<(i32, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let argv = pointers(&prepared.argv);
    let mut shell = vec![SH.as_ptr(), SH.as_ptr()];
    shell.extend(argv.iter().skip(1));
    let blank = format!("{WATCHDOG_PID}=");
    let pid_at = prepared.env.iter().position(|var| var.as_bytes() == blank.as_bytes());
    let mut vectors = Vectors { argv, env: pointers(&prepared.env), shell, pid_at };
    // SAFETY: the process has one thread, and the child calls only async-signal-safe functions until it execs.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => child(prepared, &mut vectors, theirs.as_raw_fd()),
        pid => Ok((pid, ours)),
    }
}

/// Reports a failure of the last system call through the gate and ends.
fn fail(stage: Stage, index: u32) -> ! {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    report(Failure { stage, errno, index })
}

fn report(failure: Failure) -> ! {
    let said = failure.to_bytes();
    // SAFETY: `said` lives on this stack; write and _exit are async-signal-safe.
    unsafe {
        libc::write(GATE, said.as_ptr().cast(), said.len());
        libc::_exit(127)
    }
}

fn check(outcome: c_int, stage: Stage) {
    if outcome < 0 {
        fail(stage, 0);
    }
}

fn child(prepared: &Prepared, vectors: &mut Vectors, gate: RawFd) -> ! {
    descriptors(prepared, gate);
    // SAFETY: async-signal-safe calls; `byte` lives on this stack.
    unsafe {
        libc::setsid();
        if prepared.terminal {
            check(libc::ioctl(0, libc::TIOCSCTTY, 0), Stage::Terminal);
        }
    }
    // Before the gate: while the child does that, the keeper writes it down.
    default_signals();
    // SAFETY: as above.
    unsafe {
        let mut byte = 0u8;
        loop {
            match libc::read(GATE, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(127),
            }
        }
    }
    become_user(prepared);
    put_files(prepared);
    let mut own_pid = [0; 32];
    if let Some(at) = vectors.pid_at {
        name_own_pid(&mut own_pid);
        vectors.env[at] = own_pid.as_ptr().cast();
    }
    execute(prepared, vectors)
}

/// `WATCHDOG_PID=` and our number, terminated by the zeros that are there; without allocating.
fn name_own_pid(text: &mut [u8; 32]) {
    let (mut left, mut at) = (std::process::id(), text.len() - 1);
    loop {
        at -= 1;
        text[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    let name = WATCHDOG_PID.as_bytes();
    let digits = text.len() - 1 - at;
    text.copy_within(at..at + digits, name.len() + 1);
    text[name.len() + 1 + digits..].fill(0);
    text[..name.len()].copy_from_slice(name);
    text[name.len()] = b'=';
}

/// Control groups, standard streams, the gate, perhaps the script; nothing else stays open.
fn descriptors(prepared: &Prepared, gate: RawFd) {
    // SAFETY: plain system calls on descriptors that are open here; all sources are at or above FIRST_FREE.
    unsafe {
        check(libc::dup3(gate, GATE, libc::O_CLOEXEC), Stage::Descriptors);
        for group in &prepared.groups {
            // Zero is whoever writes it.
            if libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1) < 0 {
                fail(Stage::Group, 0);
            }
        }
        check(libc::dup2(prepared.stdin.as_raw_fd(), 0), Stage::Descriptors);
        check(libc::dup2(prepared.stdout.as_raw_fd(), 1), Stage::Descriptors);
        check(libc::dup2(prepared.stderr.as_raw_fd(), 2), Stage::Descriptors);
        let mut first = SCRIPT;
        if let Some(script) = &prepared.script {
            check(libc::dup2(script.as_raw_fd(), SCRIPT), Stage::Descriptors);
            first += 1;
        }
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) < 0 {
            let most = libc::sysconf(libc::_SC_OPEN_MAX).clamp(1024, 1 << 20) as c_int;
            for fd in first..most {
                libc::close(fd);
            }
        }
    }
}

/// Default dispositions for every signal, and an empty mask.
fn default_signals() {
    // The kernel's own form of sigaction, because libc's refuses the two signals that it keeps for itself, and those may
    // be ignored by whoever started us. All zero: SIG_DFL, no flags, empty mask. SIGKILL and SIGSTOP are refused.
    let default = [0u64; 8];
    // SAFETY: the structure is at most 64 bytes long on Linux and all zero; the set lives on this stack.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn become_user(prepared: &Prepared) {
    // SAFETY: raw system calls; all pointers are to memory that outlives them.
    unsafe {
        if prepared.reset_oom {
            let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(fd, c"0".as_ptr().cast(), 1);
            libc::close(fd);
        }
        // Our allocator switches huge pages off for us; that is inherited, and not for others to bear.
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        libc::umask(prepared.umask);
        check(libc::chdir(prepared.own_dir.as_ptr()), Stage::OwnDir);
        if prepared.nice != 0 {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, prepared.nice), Stage::Nice);
        }
        for (index, (resource, soft, hard)) in (0..).zip(&prepared.rlimits) {
            let limit = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
            if libc::setrlimit(*resource, &raw const limit) < 0 {
                fail(Stage::Rlimit, index);
            }
        }
        if let Some(switch) = &prepared.switch {
            check(libc::setgroups(switch.groups.len(), switch.groups.as_ptr()), Stage::User);
            check(libc::setresgid(switch.gid, switch.gid, switch.gid), Stage::User);
            check(libc::setresuid(switch.uid, switch.uid, switch.uid), Stage::User);
        }
        if let Some(dir) = &prepared.working_dir {
            check(libc::chdir(dir.as_ptr()), Stage::WorkingDir);
        }
    }
}

fn put_files(prepared: &Prepared) {
    for (index, file) in (0..).zip(&prepared.files) {
        if let Err(e) = files::put(file) {
            report(Failure { stage: Stage::Files, errno: e.raw_os_error(), index });
        }
    }
}

/// As execvp(3): tries each file; a text file without an interpreter line is given to the shell; a file that may not be
/// executed is remembered while the others are tried.
fn execute(prepared: &Prepared, vectors: &mut Vectors) -> ! {
    let mut denied = false;
    // SAFETY: the vectors are null-terminated and point into `prepared`, which lives until this process is replaced.
    unsafe {
        for program in &prepared.programs {
            libc::execve(program.as_ptr(), vectors.argv.as_ptr(), vectors.env.as_ptr());
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => denied = true,
                libc::ENOEXEC => {
                    vectors.shell[1] = program.as_ptr();
                    libc::execve(SH.as_ptr(), vectors.shell.as_ptr(), vectors.env.as_ptr());
                    fail(Stage::Exec, 0)
                }
                _ => fail(Stage::Exec, 0),
            }
        }
        *libc::__errno_location() = if denied { libc::EACCES } else { libc::ENOENT };
    }
    fail(Stage::Exec, 0)
}

/// Sends any signal, those without a name included. A process that is gone is no error.
pub(super) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => Err(other),
        },
    }
}

/// As [`kill`], for a process that is held by a pidfd.
pub(super) fn kill_fd(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; a null siginfo is allowed.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => Err(other),
        },
    }
}

/// Forks the keeper itself away from whoever started it. True in the child.
pub(super) fn detach() -> io::Result<bool> {
    // SAFETY: the process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid == 0),
    }
}

/// Closes what whoever started us left open: a keeper lives long, and must not hold other people's files and locks.
/// Must be called before anything is opened.
pub(super) fn close_inherited() {
    // SAFETY: nothing in this process owns a descriptor above the standard streams yet.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
}

/// Lets go of the pages of the executable that this process has used: what it goes on to use is mapped again, page by page, from
/// the page cache, where all of it stays. Most of what a start or a burst touches is not needed at rest.
///
/// Only pages are dropped that no process can write: those of the code, and of the constants that are not relocated.
///
/// # Errors
/// When the kernel does not say what is mapped, or refuses. Nothing depends on it.
pub fn release_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let (code, constant) = (release_code as *const () as usize, SH.as_ptr() as usize);
    for (range, _) in maps.lines().filter_map(mapping).filter(|(_, access)| matches!(*access, "r-xp" | "r--p")) {
        if !range.contains(&code) && !range.contains(&constant) {
            continue;
        }
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the mapping is this executable's, of a file, and was never writable: its pages are those of the file, and
        // whoever reads or executes one that was dropped has it mapped again.
        if unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives what this thread's heap has free back to the kernel, and what all threads together have. After a burst that is most of
/// it, and the allocator alone does so only when it is asked for more.
pub fn release_heap() {
    // SAFETY: it touches nothing that is in use, and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// A line of `/proc/self/maps`: addresses and access.
fn mapping(line: &str) -> Option<(std::ops::Range<usize>, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(from)?..address(to)?, words.next()?))
}

/// Takes over a descriptor that an earlier image of this process, or its parent, left open for it.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) on a number is harmless; it fails if nothing is open there.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no descriptor {fd} was inherited")));
    }
    // SAFETY: it is open, and named once in what was handed over, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
