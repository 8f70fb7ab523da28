//! Standard input that is sent while a process runs.
//!
//! A FIFO: the process has its reading end, whoever feeds it opens the writing end, and the keeper holds one, too, so that the process sees no
//! end while nobody feeds it yet, or when the server dies in the middle. The end is let go when the feeder says that this was all. A feeder
//! that is gone without having said so hangs the process up: SIGHUP to its group, as if its terminal had gone, and only then the end. So
//! nothing takes a part for the whole that does not ask for it.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use nix::{libc, sys::stat::Mode, unistd::mkfifo};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    pipe::fcntl_setpipe_size,
};

use super::{
    protocol::Answer,
    serve::{Keeper, Waiting},
    spawn,
};
use crate::drivers::StartKey;

/// The name of the FIFO in the directory of an attempt.
pub const INPUT: &str = "in.fifo";
/// That of the FIFO for the answers of an attempt that does tasks by lines.
pub const ANSWERS: &str = "lines.fifo";
/// What it holds, if the kernel allows so much.
const ROOM: usize = 1 << 20;

/// The ends that are held.
#[derive(Debug, Default)]
pub(super) struct Inputs(BTreeMap<StartKey, Input>);

#[derive(Debug)]
struct Input {
    end: OwnedFd,
    /// The client that feeds it.
    fed_by: Option<u64>,
}

impl Inputs {
    pub(super) fn hold(&mut self, key: StartKey, end: OwnedFd) {
        self.0.insert(key, Input { end, fed_by: None });
    }

    pub(super) fn forget(&mut self, key: &StartKey) {
        self.0.remove(key);
    }

    /// Those that nobody feeds yet, for a successor.
    pub(super) fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.values().map(|input| &input.end)
    }

    pub(super) fn raw(&self) -> Vec<(StartKey, RawFd)> {
        self.0.iter().map(|(key, input)| (key.clone(), input.end.as_raw_fd())).collect()
    }

    fn fed(&self, is_gone: impl Fn(u64) -> bool) -> Vec<StartKey> {
        self.0.iter().filter(|(_, input)| input.fed_by.is_some_and(&is_gone)).map(|(key, _)| key.clone()).collect()
    }
}

/// Makes the FIFO: the process's end, and ours.
pub(super) fn open(dir: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let path = dir.join(INPUT);
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(e) => return Err(e.into()),
    }
    // Without waiting for the other end, which is opened next; the process itself is to wait for its input.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let theirs: OwnedFd = OpenOptions::new().read(true).custom_flags(flags).open(&path)?.into();
    let ours: OwnedFd = OpenOptions::new().write(true).custom_flags(flags).open(&path)?.into();
    fcntl_setfl(&theirs, OFlags::empty())?;
    widen(&ours);
    Ok((theirs, ours))
}

/// More room for what goes through a FIFO.
pub(super) fn widen(end: &OwnedFd) {
    // A smaller one does, too.
    let _ = fcntl_setpipe_size(end, ROOM);
}

impl Keeper {
    /// A client begins to feed an attempt.
    pub(super) fn open_input(&mut self, to: Waiting, key: &StartKey) {
        let answer = match self.inputs.0.get_mut(key) {
            None => Answer::Failed("its input is not waited for, or has ended".to_owned()),
            Some(Input { fed_by: Some(_), .. }) => Answer::Failed("somebody sends its input already".to_owned()),
            Some(input) => {
                input.fed_by = Some(to.0);
                Answer::Done
            }
        };
        self.answer(to, answer);
    }

    /// A client has fed all, or breaks off.
    pub(super) fn close_input(&mut self, to: Waiting, key: &StartKey, whole: bool) {
        match whole {
            true => self.inputs.forget(key),
            false => self.hang_up(key),
        }
        self.answer(to, Answer::Done);
    }

    /// What a client that is gone was feeding is hung up.
    pub(super) fn client_feeds_no_more(&mut self, token: u64) {
        self.inputs.fed(|client| client == token).iter().for_each(|key| self.hang_up(key));
    }

    /// Clients do not outlive a replacement of this image.
    pub(super) fn nobody_feeds_any_more(&mut self) {
        self.inputs.fed(|_| true).iter().for_each(|key| self.hang_up(key));
    }

    fn hang_up(&mut self, key: &StartKey) {
        let Some(input) = self.inputs.0.remove(key) else { return };
        if let Some(live) = self.live.get(key) {
            // The whole group, which it leads; one that is gone has nothing to be told.
            let _ = spawn::kill(-live.pid, libc::SIGHUP);
        }
        drop(input);
    }
}
