//! The output of containers: followed at the engine, written into the same files as that of processes.
//!
//! The engine keeps what a container writes, with times, whether this daemon runs or not. Each attempt has one follower,
//! which asks for everything from a little before the last piece that is on disk, and passes over what is there already
//! ([`crate::logger::record`]). So neither the death of this daemon nor that of the engine loses or doubles a byte, as
//! long as the engine still has what was written meanwhile: it is told to keep more than the App itself keeps.
//!
//! An attempt's container is removed only after its follower has read to the end of what an ended container wrote.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Engine, engine::settled, names, state, veil::Veil, verdict};
use crate::{
    api::Uid,
    clock::{Clock, System},
    drivers::{Attempt, LogLimits, StartKey, Unreachable, last_words::last_words},
    logger::{
        Stream,
        read::logs_dir,
        record::{Piece, Recorder, Seen},
    },
};

/// Pieces that are written at once.
const AT_ONCE: usize = 1024;
/// How long a follower rests when the engine or the disk does not do as it should.
const REST: Duration = Duration::from_millis(500);
/// How soon an engine that has let go is looked at again.
const SETTLES: Duration = Duration::from_millis(20);
/// How long the end of an attempt is not told because its output is still being read.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the end of an attempt's output is waited for at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a container that says nothing of limits.
const DEFAULT_LIMITS: LogLimits = LogLimits { max_size: 10 << 20, max_files: 5, redact: false };

/// One that follows.
#[derive(Debug)]
struct Follower {
    limits: watch::Sender<Option<LogLimits>>,
    drained: watch::Receiver<bool>,
    life: CancellationToken,
}

/// All that follow.
#[derive(Debug)]
pub(super) struct Output {
    data_dir: PathBuf,
    followers: Mutex<BTreeMap<StartKey, Follower>>,
    life: CancellationToken,
}

impl Output {
    pub(super) fn new(data_dir: PathBuf, life: CancellationToken) -> Self {
        Self { data_dir, followers: Mutex::default(), life }
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, BTreeMap<StartKey, Follower>> {
        self.followers.lock().expect("no holder panics")
    }

    /// Follows an attempt from now on, unless somebody does. Answers when everything is read.
    pub(super) fn follow(&self, engine: &Engine, key: &StartKey) -> watch::Receiver<bool> {
        let mut followers = self.followers();
        if let Some(follower) = followers.get(key) {
            return follower.drained.clone();
        }
        let (limits, new_limits) = watch::channel(None);
        let (done, drained) = watch::channel(false);
        let life = self.life.child_token();
        let task =
            Task { engine: engine.clone(), key: key.clone(), logs: logs_dir(&self.data_dir, &key.uid), new_limits };
        let ends = life.clone();
        tokio::spawn(async move {
            if ends.run_until_cancelled(task.run()).await.is_some() {
                done.send_replace(true);
            }
        });
        followers.insert(key.clone(), Follower { limits, drained: drained.clone(), life });
        drained
    }

    /// Waits until everything that an ended container wrote is on disk, so that whoever follows it sees that before the end; not for
    /// ever, where it cannot be written.
    pub(super) async fn last_words_read(&self, engine: &Engine, key: &StartKey) {
        let mut drained = self.follow(engine, key);
        let _ = tokio::time::timeout(LAST_WORDS, drained.wait_for(|done| *done)).await;
    }

    /// Waits until everything that an ended container wrote is on disk.
    pub(super) async fn drained(&self, engine: &Engine, key: &StartKey) -> Result<(), Unreachable> {
        let mut drained = self.follow(engine, key);
        match tokio::time::timeout(PATIENCE, drained.wait_for(|done| *done)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Unreachable(format!("the output of `{key}` is still being read"))),
        }
    }

    /// Nobody wants more of an attempt's output.
    pub(super) fn forget(&self, key: &StartKey) {
        if let Some(follower) = self.followers().remove(key) {
            follower.life.cancel();
        }
    }

    pub(super) fn forget_all(&self, uid: &Uid) {
        self.followers().retain(|key, follower| {
            let stays = key.uid != *uid;
            if !stays {
                follower.life.cancel();
            }
            stays
        });
    }

    pub(super) fn set_limits(&self, uid: &Uid, limits: LogLimits) {
        note_asked(&logs_dir(&self.data_dir, uid), limits);
        for (_, follower) in self.followers().iter().filter(|(key, _)| key.uid == *uid) {
            follower.limits.send_replace(Some(limits));
        }
    }

    /// The end of what an attempt wrote.
    pub(super) async fn last_words(&self, key: &StartKey) -> String {
        last_words(&self.data_dir, key).await
    }

    /// Removes an Instance's directory.
    pub(super) async fn remove(&self, uid: &Uid) -> Result<(), Unreachable> {
        let dir = self.data_dir.join("instances").join(uid.as_str());
        match tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await {
            Ok(Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                Err(Unreachable(format!("cannot remove the directory of `{uid}`: {e}")))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Unreachable("removing was interrupted".to_owned())),
        }
    }
}

/// Why a pass over the output came to its end.
enum Over {
    /// Everything is read, and nothing more will come.
    Drained,
    /// It must be gone on with.
    Again,
}

struct Task {
    engine: Engine,
    key: StartKey,
    logs: PathBuf,
    new_limits: watch::Receiver<Option<LogLimits>>,
}

impl Task {
    async fn run(mut self) {
        let mut complained = false;
        // An engine lets go of whoever follows when the container ends, and again and again where it keeps no output.
        let mut again = SETTLES;
        loop {
            let rest = match self.pass().await {
                Ok(Over::Drained) => return,
                Ok(Over::Again) => {
                    complained = false;
                    let rest = again;
                    again = REST.min(2 * rest);
                    rest
                }
                Err(why) if !std::mem::replace(&mut complained, true) => {
                    tracing::warn!(key = %self.key, why, "the output of a container cannot be taken; it stays with the engine");
                    REST
                }
                Err(_) => REST,
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// Reads from where the files end until the engine ends.
    async fn pass(&mut self) -> Result<Over, String> {
        let name = names::container_name(&self.key);
        let found = match settled(|| self.engine.docker.inspect_container(&name, None)).await {
            Ok(found) => found,
            // Removed: what it had is gone with it.
            Err(error) if verdict(&error).is_some_and(|(status, _)| status == 404) => return Ok(Over::Drained),
            Err(error) => return Err(super::sentence(&error)),
        };
        let config = found.config.unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        let told = *self.new_limits.borrow_and_update();
        let labelled = || names::read_limits(&labels).map(|limits| asked_since(&self.logs, limits));
        let mut limits = told.or_else(labelled).unwrap_or(DEFAULT_LIMITS);
        let env = config.env.unwrap_or_default();
        let veil = |limits: LogLimits| if limits.redact { Veil::of(&labels, &env) } else { Veil::default() };
        let mut drawn = veil(limits);
        let state = found.state.as_ref().and_then(|state| state::attempt(state, System.now()));
        let has_ended = matches!(state, Some(Attempt::Ended(_)));
        let (mut recorder, mut seen) = open(&self.logs, self.key.attempt, limits).await?;
        let options = LogsOptionsBuilder::default()
            .follow(!has_ended)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(seen.since).unwrap_or(0));
        let output = self.engine.docker.logs(&name, Some(options.build()));
        let mut output = Box::pin(output.ready_chunks(AT_ONCE));
        while let Some(chunk) = output.next().await {
            let mut pieces = Vec::with_capacity(chunk.len());
            let mut broken = None;
            for piece in chunk {
                match piece {
                    Ok(piece) => pieces.extend(read(piece).map(|piece| {
                        let is_new = seen.is_new(&piece);
                        (piece, is_new)
                    })),
                    Err(error) => broken = Some(super::sentence(&error)),
                }
            }
            if let Some(new) = self.new_limits.has_changed().is_ok_and(|new| new).then(|| self.limits()).flatten() {
                recorder.set_limits(new);
                if new.redact != limits.redact {
                    drawn = veil(new);
                }
                limits = new;
            }
            recorder = put(recorder, drawn.draw(pieces)).await?;
            if let Some(why) = broken {
                return Err(why);
            }
        }
        // Whoever followed a running container to its end looks once more, after the end.
        Ok(if has_ended { Over::Drained } else { Over::Again })
    }

    fn limits(&mut self) -> Option<LogLimits> {
        *self.new_limits.borrow_and_update()
    }
}

/// What is asked for since a container was made, which its label cannot say: a file in the Instance's directory.
const ASKED: &str = "redact";

/// A daemon that comes later reads it before it is told. If it cannot be written, it is told a little later.
fn note_asked(logs: &Path, limits: LogLimits) {
    if let Some(dir) = logs.parent().filter(|dir| dir.is_dir() && (limits.redact || dir.join(ASKED).exists()))
        && let Err(error) = std::fs::write(dir.join(ASKED), if limits.redact { "1" } else { "0" })
    {
        tracing::warn!(%error, dir = %dir.display(), "what is asked of a container's output cannot be noted");
    }
}

fn asked_since(logs: &Path, limits: LogLimits) -> LogLimits {
    let asked = logs.parent().and_then(|dir| std::fs::read(dir.join(ASKED)).ok());
    LogLimits { redact: asked.map_or(limits.redact, |asked| asked == b"1"), ..limits }
}

async fn open(logs: &Path, attempt: u32, limits: LogLimits) -> Result<(Recorder, Seen), String> {
    let logs = logs.to_owned();
    let opened = tokio::task::spawn_blocking(move || Recorder::open(logs, attempt, limits)).await;
    opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Files block: they are written beside.
async fn put(mut recorder: Recorder, pieces: Vec<Piece>) -> Result<Recorder, String> {
    let work = move || recorder.put(&pieces).map(|()| recorder);
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// A piece as an engine gives it: a time, a blank, the bytes. `None` for what is none.
fn read(output: LogOutput) -> Option<Piece> {
    let (stream, message) = match output {
        LogOutput::StdErr { message } => (Stream::Err, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => (Stream::Out, message),
        LogOutput::StdIn { .. } => return None,
    };
    let blank = message.iter().take(64).position(|byte| *byte == b' ')?;
    let time: Timestamp = std::str::from_utf8(&message[..blank]).ok()?.parse().ok()?;
    let bytes: Bytes = message.slice(blank + 1..);
    Some(Piece { nanos: i64::try_from(time.as_nanosecond()).ok()?, stream, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_as_docker_and_podman_give_them() {
        let out = |text: &'static str| LogOutput::StdOut { message: Bytes::from_static(text.as_bytes()) };
        let one = read(out("2026-11-21T19:03:20.612426307Z two words\n")).unwrap();
        assert_eq!(
            (one.nanos % 1_000_000_000, one.stream, &one.bytes[..]),
            (612_426_307, Stream::Out, &b"two words\n"[..])
        );
        // Podman: whole seconds, and possibly of a time zone.
        let two = read(LogOutput::StdErr { message: Bytes::from_static(b"2026-11-21T20:03:20+01:00 x") }).unwrap();
        assert_eq!((two.nanos, two.stream, &two.bytes[..]), (one.nanos - 612_426_307, Stream::Err, &b"x"[..]));
        assert_eq!(read(out("no time")), None);
    }
}
