//! `GET /backup`: database and audit log as one archive, made beside everything else. Keys are not in it.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::Method;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    documents::not_allowed,
    respond::{self, Answer, BodyError},
    state::State,
    watch,
};
use crate::{
    api::{Reason, Status, Time},
    auth::{Attributes, Identity},
    store::backup::{About, FORMAT, Snapshot, SnapshotError, Writer, audit_files},
};

/// The path.
pub(super) const PATH: &str = "backup";
/// So much is sent at once, and so many pieces wait for a slow client.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// Answers it.
pub(super) async fn answer(state: &Arc<State>, method: &Method, who: &Identity) -> Result<Answer, Status> {
    state.admission.authority().must(who, &Attributes { verb: "get", path: "/backup", ..Attributes::default() })?;
    if *method != Method::GET {
        return Err(not_allowed());
    }
    let share = state.watch_of(who)?;
    let busy = || Status::new(Reason::TooManyRequests, "a backup is being made already: try again when it is there");
    let permit = state.backup.clone().try_acquire_owned().map_err(|_| busy())?;
    let snapshot = state.store.snapshot().await.map_err(|error| refused(&error))?;
    let about = About {
        format: FORMAT,
        appm: env!("CARGO_PKG_VERSION").to_owned(),
        created: Time(state.clock.now()),
        node: state.node.clone(),
        revision: snapshot.revision,
        objects: snapshot.objects.clone(),
        sealed_with: snapshot.sealed_with.clone(),
        keys: false,
    };
    let (pieces, sent) = mpsc::channel(WAITING);
    let data_dir = state.data_dir.clone();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { pieces: pieces.clone(), part: Vec::with_capacity(PIECE), _permit: permit };
        if let Err(error) = write(&mut out, &about, snapshot, data_dir) {
            tracing::warn!(%error, "a backup was broken off");
            // Nobody may be there to be told.
            let _ = pieces.blocking_send(Err(error.into()));
        }
    });
    let (stopping, revoked) = (state.stopping.clone(), watch::revoked(state, who));
    let end = async move {
        tokio::select! { () = stopping.cancelled() => {}, _ = revoked => {} }
    };
    let pieces = stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) }).map(move |piece| {
        // Held as long as something is sent.
        let _held = &share;
        piece
    });
    let mut answer = respond::streamed("application/x-tar", pieces.take_until(Box::pin(end)).boxed());
    respond::header(&mut answer, "cache-control", "no-store");
    Ok(answer)
}

/// Whoever may have all of it may know where it lies.
fn refused(error: &SnapshotError) -> Status {
    tracing::warn!(%error, "a backup cannot be made");
    Status::new(Reason::ServiceUnavailable, error.to_string())
}

fn write(out: &mut Pieces, about: &About, mut snapshot: Snapshot, data_dir: PathBuf) -> io::Result<()> {
    let mut archive = Writer::begin(&mut *out, about)?;
    archive.add("appm.db", snapshot.database.metadata()?.len(), &mut snapshot.database)?;
    for (name, path) in audit_files(&data_dir)? {
        match File::open(&path) {
            Ok(mut file) => archive.add(&name, file.metadata()?.len(), &mut file)?,
            // The oldest may go meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    archive.finish()?;
    out.flush()
}

/// What is written, in pieces for the client.
struct Pieces {
    pieces: mpsc::Sender<Result<Bytes, BodyError>>,
    part: Vec<u8>,
    /// Another backup can be made when this one was sent.
    _permit: OwnedSemaphorePermit,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PIECE));
        if part.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(Ok(part.into())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
