//! Gives the server the output of Instances, read from the files that the logger writes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    api::{Instance, Object, Status},
    appmesh::{NoticeSource, OutputSource, Start, Written},
    logger::{
        Stream,
        notices::Notices,
        part::{Part, end, part},
        read::{Attempts, Query, attempts, logs_dir},
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

/// The output of the Instances in `data_dir` from a place on.
pub(super) fn output(data_dir: PathBuf) -> OutputSource {
    Arc::new(move |instance, wanted| {
        let data_dir = data_dir.clone();
        Box::pin(async move {
            let logs = logs_dir(&data_dir, instance.uid());
            if wanted.ended && instance.spec.process.is_some() {
                let ended: LogEnd = Box::pin(std::future::ready(()));
                let attempt = match wanted.start {
                    Start::Ago(_) => instance.status.attempt,
                    Start::Attempt(attempt) => attempt,
                };
                drained(ended, &data_dir, &instance, attempt).await;
            }
            let read = move || -> std::io::Result<Option<Written>> {
                let attempt = match wanted.start {
                    Start::Attempt(attempt) => Some(attempt),
                    Start::Ago(ago) => {
                        let kept = attempts(&logs)?;
                        kept.len().checked_sub(ago + 1).and_then(|at| kept.get(at).copied())
                    }
                };
                let (Some(attempt), Some(from)) = (attempt, wanted.from) else {
                    let next = attempt.map_or(Ok(wanted.from.unwrap_or(0)), |attempt| end(&logs, attempt))?;
                    let is_last = attempt.is_some() || wanted.start == Start::Ago(0);
                    return Ok(is_last.then_some(Written { bytes: Vec::new(), next }));
                };
                let Part { bytes, next } = part(&logs, attempt, from, wanted.most)?;
                Ok(Some(Written { bytes, next }))
            };
            let read = tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
            read.map_err(|error| {
                tracing::error!(%error, instance = instance.metadata.name, "its logs cannot be read");
                Status::internal("the logs cannot be read")
            })
        })
    })
}

/// Tells whose output in `data_dir` has grown.
pub(super) fn notices(data_dir: PathBuf) -> NoticeSource {
    Arc::new(move || Notices::new(data_dir.clone()))
}

/// How often the pipes of an attempt that has ended are looked at, and how often at most: a full disk may hold them up for ever.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
const LOOKS: u32 = 5000;

/// Resolves when an attempt has ended and the logger has taken everything out of its pipes, which then go.
fn drained(end: LogEnd, data_dir: &Path, instance: &Object<Instance>, attempt: u32) -> LogEnd {
    let dir = data_dir.join("instances").join(instance.uid().as_str()).join(attempt.to_string());
    Box::pin(async move {
        end.await;
        for _look in 0..LOOKS {
            let pipes = ["out.fifo", "err.fifo"].map(|name| dir.join(name));
            if !pipes.iter().any(|pipe| pipe.exists()) {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
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
    let form = Form { follow: query.follow, timestamps: query.timestamps, exact: instance.spec.process.is_some() };
    let end = end.map(|end| drained(end, data_dir, instance, query.attempt));
    pieces(logs_dir(data_dir, instance.uid()), wanted, form, end).map_err(|error| {
        tracing::error!(%error, instance = instance.metadata.name, "its logs cannot be read");
        Status::internal("the logs cannot be read")
    })
}
