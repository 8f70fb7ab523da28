//! Gives the server the output of Instances, read from the files that the logger writes.
//!
//! Each open log has a blocking thread of its own, which sleeps in the kernel until something is written; it ends when
//! the client has gone, when the Instance's directory is removed, or when everything that was asked for was sent.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::mpsc;

use crate::{
    api::{Instance, MicroTime, Object, Status},
    logger::{
        Stream,
        read::{Attempts, Changes, Line, Query, Reader, logs_dir},
    },
    server::{LogPieces, LogQuery, LogSource, LogStream},
};

/// How long a follower sleeps before it looks whether its client is still there.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);
/// How much is gathered before it is handed on.
const PIECE: usize = 64 << 10;
/// How many pieces may wait for a slow client.
const WAITING: usize = 4;

/// The output of the Instances in `data_dir`.
pub(super) fn source(data_dir: PathBuf) -> LogSource {
    Arc::new(move |instance, query| {
        let data_dir = data_dir.clone();
        Box::pin(async move { open(data_dir, &instance, &query) })
    })
}

fn open(data_dir: PathBuf, instance: &Object<Instance>, query: &LogQuery) -> Result<LogPieces, Status> {
    let attempts = attempts(instance, query)?;
    let stream = match query.stream {
        LogStream::All => None,
        LogStream::Stdout => Some(Stream::Out),
        LogStream::Stderr => Some(Stream::Err),
    };
    // The server counts the bytes, timestamps included.
    let wanted = Query { attempts, stream, tail: query.tail, since: query.since, limit_bytes: None };
    let logs = logs_dir(&data_dir, instance.uid());
    let (pieces, taken) = mpsc::channel(WAITING);
    let (follow, timestamps) = (query.follow, query.timestamps);
    tokio::task::spawn_blocking(move || {
        let pump = Pump { pieces, timestamps, gathered: BytesMut::new() };
        if let Err((pump, error)) = pump.run(logs, wanted, follow) {
            let _ = pump.blocking_send(Err(error));
        }
    });
    Ok(tokio_stream(taken))
}

fn tokio_stream(taken: mpsc::Receiver<io::Result<Bytes>>) -> LogPieces {
    futures::stream::unfold(taken, |mut taken| async move { taken.recv().await.map(|piece| (piece, taken)) }).boxed()
}

/// The present attempt, or the one before; a follower goes on with the attempts that come.
fn attempts(instance: &Object<Instance>, query: &LogQuery) -> Result<Attempts, Status> {
    let present = instance.status.attempt;
    match (query.previous, query.follow) {
        (true, _) if present < 2 => Err(Status::bad_request(format!(
            "previous attempt of instance \"{}\" not found: it was started {present} time(s)",
            instance.metadata.name
        ))),
        (true, _) => Ok(Attempts::Only(present - 1)),
        (false, true) => Ok(Attempts::From(present)),
        (false, false) => Ok(Attempts::Only(present)),
    }
}

/// Moves lines from a reader to a client.
struct Pump {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    timestamps: bool,
    gathered: BytesMut,
}

type Failed = (mpsc::Sender<io::Result<Bytes>>, io::Error);

impl Pump {
    fn run(mut self, logs: PathBuf, wanted: Query, follow: bool) -> Result<(), Failed> {
        let pieces = self.pieces.clone();
        let failed = |error| (pieces.clone(), error);
        // Watched before the reader catches up, so that nothing is written in between unseen.
        let mut changes = Changes::watch(&logs).map_err(failed)?;
        let mut reader = Reader::open(&logs, wanted).map_err(failed)?;
        loop {
            while let Some(line) = reader.next_line().map_err(failed)? {
                if !self.gather(&line) {
                    return Ok(());
                }
            }
            if !follow {
                for part in reader.rest() {
                    self.gather(&part);
                }
            }
            if !self.flush() || !follow {
                return Ok(());
            }
            let was_there = logs.exists();
            changes.wait(LONGEST_SLEEP).map_err(failed)?;
            if self.pieces.is_closed() || (was_there && !logs.exists()) {
                return Ok(());
            }
        }
    }

    /// False if the client has gone.
    fn gather(&mut self, line: &Line) -> bool {
        if self.timestamps {
            self.gathered.extend_from_slice(format!("{} ", MicroTime(line.at)).as_bytes());
        }
        self.gathered.extend_from_slice(&line.bytes);
        self.gathered.len() < PIECE || self.flush()
    }

    fn flush(&mut self) -> bool {
        self.gathered.is_empty() || self.pieces.blocking_send(Ok(self.gathered.split().freeze())).is_ok()
    }
}
