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
    server::{LogEnd, LogPieces, LogQuery, LogSource, LogStream},
};

/// The output of the Instances in `data_dir`.
pub(super) fn source(data_dir: PathBuf) -> LogSource {
    Arc::new(move |instance, query, end| {
        let data_dir = data_dir.clone();
        Box::pin(async move { open(&data_dir, &instance, &query, end) })
    })
}

fn open(
    data_dir: &Path,
    instance: &Object<Instance>,
    query: &LogQuery,
    end: Option<LogEnd>,
) -> Result<LogPieces, Status> {
    let attempts = match query.follow {
        true => Attempts::From(query.attempt),
        false => Attempts::Only(query.attempt),
    };
    let stream = match query.stream {
        LogStream::All => None,
        LogStream::Stdout => Some(Stream::Out),
        LogStream::Stderr => Some(Stream::Err),
    };
    // The server counts the bytes, timestamps included.
    let wanted = Query { attempts, stream, tail: query.tail, since: query.since, limit_bytes: None };
    let form = Form { follow: query.follow, timestamps: query.timestamps };
    pieces(logs_dir(data_dir, instance.uid()), wanted, form, end).map_err(|error| {
        tracing::error!(%error, instance = instance.metadata.name, "its logs cannot be read");
        Status::internal("the logs cannot be read")
    })
}
