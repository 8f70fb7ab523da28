//! Terminals, and the small process behind each.
//!
//! ```text
//!   child ◄──slave── pty ──master──► relay ──► out.fifo ──► logger
//! ```
//! Whoever holds the master end decides over the terminal's life: when nobody does, the child is hung up. So it is held
//! by neither keeper nor logger, which may be killed and replaced, but by a relay for each attempt: the same binary, a
//! loop of two system calls. What it moves goes through the attempt's FIFO like all output, and is as safe there. It ends
//! when nobody has the terminal open any more. What is lost if the relay itself is killed is said in 002-keeper.md.

use std::{
    ffi::OsString,
    fs::{File, Permissions},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{PermissionsExt, fchown},
            process::CommandExt,
        },
    },
    process::{Command, ExitCode, Stdio},
};

use nix::{
    libc,
    pty::{Winsize, openpty},
    sys::signal::{SigSet, Signal},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{OFlags, Timespec, fcntl_getfl, fcntl_setfl, fstat},
    io::{Errno, FdFlags, fcntl_setfd, write},
};

use super::spawn::{self, Switch};

/// What a program sees that asks for the size of its window.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
/// How often a relay that cannot write looks whether its attempt was removed meanwhile.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A new terminal whose output goes to `output`. Returns the child's end.
pub(super) fn open(output: OwnedFd, switch: Option<&Switch>) -> io::Result<OwnedFd> {
    let pty = openpty(&SIZE, None)?;
    for fd in [&pty.master, &pty.slave] {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    let slave = File::from(pty.slave);
    if let Some(switch) = switch {
        // As login(1) does: who works at a terminal may open it by its name.
        fchown(&slave, Some(switch.uid), None)?;
        slave.set_permissions(Permissions::from_mode(0o620))?;
    }
    start_relay(&pty.master, &output)?;
    Ok(slave.into())
}

/// It is reaped with everybody else.
fn start_relay(master: &OwnedFd, output: &OwnedFd) -> io::Result<()> {
    for fd in [master, output] {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let started = Command::new("/proc/self/exe")
        .arg0("appm")
        .args(["relay", &master.as_raw_fd().to_string(), &output.as_raw_fd().to_string()])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    for fd in [master, output] {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    started.map(drop)
}

/// `appm relay MASTER OUTPUT`, started by the keeper.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut descriptor = || spawn::inherited(args.next()?.to_str()?.parse().ok()?).ok();
    match descriptor().zip(descriptor()).map(|(master, output)| relay(master.into(), &output)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(_)) | None => ExitCode::FAILURE,
    }
}

fn relay(mut master: File, output: &OwnedFd) -> io::Result<()> {
    // It ends with its terminal, and by nothing less than SIGKILL.
    let mut mask = SigSet::empty();
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    fcntl_setfl(output, fcntl_getfl(output)? | OFlags::NONBLOCK)?;
    let mut piece = [0; 16 << 10];
    loop {
        match master.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) if pass_on(output, &piece[..length])? => {}
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // What Linux says when nobody has the other end open any more, and all was read.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// False if the attempt was removed, and nobody will ever read.
fn pass_on(output: &OwnedFd, mut rest: &[u8]) -> io::Result<bool> {
    while !rest.is_empty() {
        match write(output, rest) {
            Ok(length) => rest = &rest[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::OUT)], Some(&LOOK))?;
                if fstat(output)?.st_nlink == 0 {
                    return Ok(false);
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(true)
}
