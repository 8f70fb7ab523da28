//! A connection that never blocks: frames in, frames out, and an epoll registration that follows what waits.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::event::epoll::{self, EventData, EventFlags};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    protocol::{self, FrameError},
    spawn,
};

/// After so long without an event the process lets go of the code that it does not need to wait.
const REST: Duration = Duration::from_secs(5);

/// An epoll and what its events are about. Tokens are never used twice, so a late event of something that is gone is
/// known for what it is.
#[derive(Debug)]
pub(crate) struct Watches<S> {
    epoll: OwnedFd,
    sources: HashMap<u64, S>,
    last: u64,
    /// Nothing has happened for so long that the code was let go.
    resting: bool,
}

impl<S: Clone> Watches<S> {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sources: HashMap::new(),
            last: 0,
            resting: false,
        })
    }

    /// Watches a descriptor for input. Closing it ends the watch.
    pub(crate) fn add(&mut self, fd: &impl AsFd, source: S) -> io::Result<u64> {
        let token = self.last + 1;
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)?;
        self.last = token;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Forgets what a token is about.
    pub(crate) fn forget(&mut self, token: u64) {
        self.sources.remove(&token);
    }

    /// Ends the watch of a descriptor that stays open.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // It is not there if it could not be added: then there is nothing to end.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// What a token is about.
    pub(crate) fn source(&self, token: u64) -> Option<S> {
        self.sources.get(&token).cloned()
    }

    /// Whether a descriptor is watched for room to write, too.
    pub(crate) fn set_writable(&self, fd: &impl AsFd, token: u64, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token), flags)?)
    }

    /// Waits for events, at most so long. May return before that without any.
    pub(crate) fn wait(
        &mut self,
        ready: &mut Vec<epoll::Event>,
        timeout: Option<&rustix::fs::Timespec>,
    ) -> io::Result<()> {
        ready.clear();
        let rest = rustix::fs::Timespec { tv_sec: REST.as_secs() as i64, tv_nsec: 0 };
        let rests = !self.resting && timeout.is_none_or(|timeout| timeout.tv_sec >= rest.tv_sec);
        let timeout = if rests { Some(&rest) } else { timeout };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), timeout) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        self.resting = ready.is_empty() && (rests || self.resting);
        if self.resting && rests {
            spawn::release_heap();
            // It only costs memory if that fails.
            let _ = spawn::release_code();
        }
        Ok(())
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    read: Vec<u8>,
    out: Vec<u8>,
    wants_write: bool,
}

/// What came in.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub frames: Vec<T>,
    /// Nothing more will come: closed, broken, or not understood.
    pub over: Option<Over>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Over {
    #[error("closed")]
    Closed,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    NotUnderstood(#[from] FrameError),
}

impl Channel {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, read: Vec::new(), out: Vec::new(), wants_write: false })
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// How much waits to be written.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len()
    }

    /// Puts a frame among those that wait for [`Channel::flush`].
    pub(crate) fn put<T: Serialize>(&mut self, frame: &T) {
        protocol::put(&mut self.out, frame);
    }

    /// Takes everything that is there.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Received<T> {
        let mut over = self.fill().err();
        let (mut from, mut frames) = (0, Vec::new());
        loop {
            match protocol::take(&self.read, &mut from) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => {
                    over = Some(e.into());
                    break;
                }
            }
        }
        self.read.drain(..from);
        Received { frames, over }
    }

    fn fill(&mut self) -> Result<(), Over> {
        let mut chunk = [0; 64 << 10];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(Over::Closed),
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Writes what waits, as far as it is taken; the rest when there is room again.
    pub(crate) fn flush<S: Clone>(&mut self, watches: &Watches<S>, token: u64) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.socket.write(&self.out[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => sent += length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.out.drain(..sent);
        if self.out.is_empty() {
            self.out.shrink_to(64 << 10);
        }
        let wanted = !self.out.is_empty();
        if wanted != self.wants_write {
            watches.set_writable(&self.socket, token, wanted)?;
            self.wants_write = wanted;
        }
        Ok(())
    }
}
