//! How the keeper becomes another executable without its children noticing.
//!
//! The process stays: so do its children, their exit codes, and the pending exits. What it must not let go of (the lock,
//! the listening socket, the ends of the FIFOs) is kept open across exec and named in a memory file. The state file
//! tells the rest. Clients and the logger are let go: the former come back, the latter is started anew.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::{exec::Origin, prepare::Inherited, serve::Keeper};
use crate::drivers::StartKey;

/// What the old image hands to the new one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    pub lock: RawFd,
    pub listener: RawFd,
    pub taps: Vec<(StartKey, [RawFd; 2])>,
    /// Not our children.
    pub adopted: Vec<StartKey>,
    /// To be ended and reaped.
    pub logger: Option<i32>,
    pub inherited: Inherited,
    /// The sockets of those that may speak by sd_notify.
    #[serde(default)]
    pub ears: Vec<(StartKey, RawFd)>,
    /// The writing ends of standard inputs that are not fed yet.
    #[serde(default)]
    pub inputs: Vec<(StartKey, RawFd)>,
    /// What attempts were started with.
    #[serde(default)]
    pub origins: Vec<(StartKey, Origin)>,
}

/// Executes `exe` in place of this image. Returns only if that failed, with everything as it was.
pub(super) fn replace(keeper: &Keeper, lock: &OwnedFd, exe: &Path) -> io::Error {
    let taps = keeper.pump.taps.values().flatten();
    let ears = keeper.ears.fds().map(|(_, fd)| fd);
    let kept: Vec<_> = taps
        .chain(keeper.inputs.fds())
        .chain([lock])
        .map(AsFd::as_fd)
        .chain([keeper.listener.as_fd()])
        .chain(ears)
        .collect();
    let failed = hand_over(keeper, lock, exe, &kept).expect_err("exec returns only if it failed");
    for fd in kept {
        // It is open, so this cannot fail; children close everything anyway.
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    failed
}

fn hand_over(
    keeper: &Keeper,
    lock: &OwnedFd,
    exe: &Path,
    kept: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<std::convert::Infallible> {
    let handover = Handover {
        lock: lock.as_raw_fd(),
        listener: keeper.listener.as_raw_fd(),
        taps: keeper
            .pump
            .taps
            .iter()
            .map(|(key, fds)| (key.clone(), [fds[0].as_raw_fd(), fds[1].as_raw_fd()]))
            .collect(),
        adopted: keeper.live.iter().filter(|(_, live)| live.pidfd.is_some()).map(|(key, _)| key.clone()).collect(),
        logger: keeper.pump.pid(),
        inherited: keeper.inherited,
        ears: keeper.ears.raw(),
        inputs: keeper.inputs.raw(),
        origins: keeper.live.iter().filter_map(|(key, live)| Some((key.clone(), live.origin.clone()?))).collect(),
    };
    let mut file = File::from(rustix::fs::memfd_create("handover", rustix::fs::MemfdFlags::empty())?);
    file.write_all(&serde_json::to_vec(&handover).map_err(io::Error::other)?)?;
    file.seek(SeekFrom::Start(0))?;
    let path = CString::new(exe.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let number = CString::new(file.as_raw_fd().to_string()).map_err(io::Error::other)?;
    for fd in kept {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(nix::unistd::execv(&path, &[c"appm", c"keeper", c"--dir", c".", c"--resume", &number])?)
}

/// Reads what the old image handed over.
pub(super) fn receive(fd: OwnedFd) -> io::Result<Handover> {
    let mut text = Vec::new();
    File::from(fd).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}
