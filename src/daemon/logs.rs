//! Gives the server the output of Instances, read from the files that the logger writes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    api::{Instance, Object, Status},
    logger::{
        Stream,
        read::{Attempts, Query, logs_dir},
        stream::{Form, pieces},
    },
    server::{LogPieces, LogQuery, LogSource, LogStream},
};

/// The output of the Instances in `data_dir`.
pub(super) fn source(data_dir: PathBuf) -> LogSource {
    Arc::new(move |instance, query| {
        let data_dir = data_dir.clone();
        Box::pin(async move { open(&data_dir, &instance, &query) })
    })
}

fn open(data_dir: &Path, instance: &Object<Instance>, query: &LogQuery) -> Result<LogPieces, Status> {
    let attempts = attempts(instance, query)?;
    let stream = match query.stream {
        LogStream::All => None,
        LogStream::Stdout => Some(Stream::Out),
        LogStream::Stderr => Some(Stream::Err),
    };
    // The server counts the bytes, timestamps included.
    let wanted = Query { attempts, stream, tail: query.tail, since: query.since, limit_bytes: None };
    let form = Form { follow: query.follow, timestamps: query.timestamps };
    pieces(logs_dir(data_dir, instance.uid()), wanted, form).map_err(|error| {
        tracing::error!(%error, instance = instance.metadata.name, "its logs cannot be read");
        Status::internal("the logs cannot be read")
    })
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
