//! The connection to the keeper: made, kept, made anew.

use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
};

use super::{ConnectError, Job, Running, tell};
use crate::{
    drivers::{Attempt, DriverEvent, StartKey, Started},
    keeper::{
        self,
        protocol::{self, Answer, Call, FrameError, Message, Request, VERSION},
    },
};

/// How long between tries to reach a keeper that is just being started by somebody else.
const PAUSE: Duration = Duration::from_millis(5);
/// Tries before a keeper is given up.
const TRIES: u32 = 400;

/// Everything that is needed to connect.
#[derive(Debug)]
pub(super) struct Link {
    data_dir: PathBuf,
    exe: PathBuf,
    events: mpsc::UnboundedSender<DriverEvent>,
    running: Running,
    next_id: u64,
    was_open: bool,
    /// The keeper has agreed to end: nobody needs another one.
    has_quit: bool,
}

/// What waits for an answer.
#[derive(Debug)]
struct Pending {
    answer: oneshot::Sender<Answer>,
    started: Option<StartKey>,
    quits: bool,
}

/// Frames, read as they come.
#[derive(Debug)]
struct Frames {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    from: usize,
}

impl Frames {
    /// Cancel-safe: what was read stays in the buffer.
    async fn next(&mut self) -> io::Result<Message> {
        loop {
            match protocol::take(&self.buffer, &mut self.from) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(e @ (FrameError::TooLong(_) | FrameError::Malformed(_))) => return Err(io::Error::other(e)),
            }
            self.buffer.drain(..self.from);
            self.from = 0;
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// An open connection that has said hello.
#[derive(Debug)]
pub(super) struct Open {
    frames: Frames,
    write: OwnedWriteHalf,
}

impl Link {
    pub(super) fn new(
        data_dir: PathBuf,
        exe: PathBuf,
        events: mpsc::UnboundedSender<DriverEvent>,
        running: Running,
    ) -> Self {
        Self { data_dir, exe, events, running, next_id: 0, was_open: false, has_quit: false }
    }

    /// Serves jobs until there are no more; reconnects as often as needed.
    pub(super) async fn run(mut self, first: Open, mut jobs: mpsc::UnboundedReceiver<Job>) {
        let mut open = first;
        loop {
            // What was under way when the connection broke is dropped with the table: its waiters learn of it.
            if self.serve(&mut open, &mut jobs).await.is_ok() || self.has_quit {
                return;
            }
            loop {
                match self.open().await {
                    Ok(again) => {
                        open = again;
                        break;
                    }
                    Err(e) => {
                        tracing::error!(error = &e as &dyn std::error::Error, "the keeper cannot be reached");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
                if jobs.is_closed() {
                    return;
                }
            }
            // Nobody listens when the agent has ended.
            let _ = self.events.send(DriverEvent::Resync);
        }
    }

    /// Ok when there are no more jobs; an error when the connection broke.
    async fn serve(&mut self, open: &mut Open, jobs: &mut mpsc::UnboundedReceiver<Job>) -> io::Result<()> {
        let mut pending: HashMap<u64, Pending> = HashMap::new();
        let (mut batch, mut out) = (Vec::new(), Vec::new());
        loop {
            tokio::select! {
                count = jobs.recv_many(&mut batch, 256), if out.is_empty() => {
                    if count == 0 {
                        return Ok(());
                    }
                    for (request, answer) in batch.drain(..) {
                        self.next_id += 1;
                        let started = match &request {
                            Request::Start(start) => Some(start.key.clone()),
                            _ => None,
                        };
                        let quits = matches!(request, Request::Quit);
                        pending.insert(self.next_id, Pending { answer, started, quits });
                        protocol::put(&mut out, &Call { id: self.next_id, request });
                    }
                }
                // Both directions go on at once, so that neither side ever waits for the other to read.
                written = open.write.write(&out), if !out.is_empty() => {
                    out.drain(..written?);
                }
                message = open.frames.next() => match message? {
                    Message::Answer { id, answer } => self.answered(&mut pending, id, answer),
                        pushed => tell(&self.events, &self.running, pushed),
                },
            }
        }
    }

    fn answered(&mut self, pending: &mut HashMap<u64, Pending>, id: u64, answer: Answer) {
        let Some(waiting) = pending.remove(&id) else { return };
        if let (Some(key), Answer::Started(started)) = (waiting.started, &answer) {
            self.note(key, started.clone());
        }
        self.has_quit |= waiting.quits && matches!(answer, Answer::Done);
        // Nobody waits any more: the caller was cancelled.
        let _ = waiting.answer.send(answer);
    }

    fn note(&self, key: StartKey, started: Started) {
        self.running.lock().expect("no holder panics").insert(key, started);
    }

    /// Connects, starting a keeper if there is none, and replacing one of another build.
    pub(super) async fn open(&mut self) -> Result<Open, ConnectError> {
        // Once: a keeper that becomes something else later does so for a newer driver than this one.
        let mut may_replace = !std::mem::replace(&mut self.was_open, true);
        let mut last = None;
        let mut spawned = false;
        for _try in 0..TRIES {
            match self.greet().await {
                Ok((mut open, build, version)) => {
                    let ours = keeper::build_id(&self.exe).ok();
                    if may_replace && ours.is_some_and(|ours| ours != build) {
                        may_replace = false;
                        self.replace(&mut open).await;
                        continue;
                    }
                    if version != VERSION {
                        return Err(ConnectError::OtherProtocol { theirs: version, ours: VERSION });
                    }
                    self.learn(&mut open).await.map_err(|e| ConnectError::NoAnswer(self.data_dir.clone(), e))?;
                    return Ok(open);
                }
                Err(e) => last = Some(e),
            }
            if !spawned {
                spawned = true;
                self.spawn().await?;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let last = last.unwrap_or_else(|| io::ErrorKind::TimedOut.into());
        Err(ConnectError::NoAnswer(self.data_dir.clone(), last))
    }

    async fn greet(&mut self) -> io::Result<(Open, String, u32)> {
        // A socket's path may be 107 bytes long; that of a data directory may be longer.
        let dir = File::open(self.data_dir.join(keeper::DIR))?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), keeper::SOCKET)).await?;
        let (read, write) = stream.into_split();
        let mut open = Open { frames: Frames { half: read, buffer: Vec::new(), from: 0 }, write };
        match self.ask(&mut open, Request::Hello { version: VERSION }).await? {
            Answer::Hello { version, build, .. } => Ok((open, build, version)),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// One request on a connection that nobody else uses yet.
    async fn ask(&mut self, open: &mut Open, request: Request) -> io::Result<Answer> {
        self.next_id += 1;
        let call = Call { id: self.next_id, request };
        let mut out = Vec::new();
        protocol::put(&mut out, &call);
        open.write.write_all(&out).await?;
        loop {
            match open.frames.next().await? {
                Message::Answer { id, answer } if id == call.id => return Ok(answer),
                Message::Answer { .. } => {}
                pushed => tell(&self.events, &self.running, pushed),
            }
        }
    }

    async fn replace(&mut self, open: &mut Open) {
        let exe = std::path::absolute(&self.exe).unwrap_or_else(|_| self.exe.clone());
        match self.ask(open, Request::Replace { exe }).await {
            // The connection ends when it becomes another.
            Err(_) => tracing::info!("the keeper became this executable"),
            Ok(answer) => tracing::warn!(?answer, "the keeper stays what it was"),
        }
    }

    /// Which processes run, so that their usage can be read.
    async fn learn(&mut self, open: &mut Open) -> io::Result<()> {
        if let Answer::List(attempts) = self.ask(open, Request::List).await? {
            let mut running = self.running.lock().expect("no holder panics");
            running.clear();
            for (key, attempt) in attempts {
                if let Attempt::Running(started) = attempt {
                    running.insert(key, started);
                }
            }
        }
        Ok(())
    }

    /// Starts a keeper that outlives us. Returns when it listens, or when another one turned out to be there.
    async fn spawn(&self) -> Result<(), ConnectError> {
        let dir = self.data_dir.join(keeper::DIR);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(ConnectError::Directory(dir, e)),
            _ => {}
        }
        let failed = |e| ConnectError::Start(self.exe.clone(), e);
        let log = dir.join("keeper.err");
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log).map_err(failed)?;
        let mut starter = tokio::process::Command::new(&self.exe)
            .arg("keeper")
            .arg("--dir")
            .arg(&self.data_dir)
            .arg("--detach")
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().map_err(failed)?))
            .stderr(Stdio::from(log))
            .spawn()
            .map_err(failed)?;
        let status = starter.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(failed(io::Error::other(format!("{status}; see `{}`", dir.join("keeper.err").display()))));
        }
        Ok(())
    }
}
