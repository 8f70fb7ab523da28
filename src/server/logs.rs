//! `GET …/instances/NAME/log`: what an instance wrote, with the parameters of a Pod's log.
//!
//! The reader of log files belongs to the logger; the daemon hands it in as a [`LogSource`].

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};

use super::query::Params;
use crate::api::{Instance, Kind, Object, Served, Status};

/// Which output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStream {
    /// Both, in the order in which they were written.
    #[default]
    All,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What of an instance's output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on with what is written later.
    pub follow: bool,
    /// The attempt before the last one.
    pub previous: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// At most so many lines from the end.
    pub tail: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Which output.
    pub stream: LogStream,
}

/// Output, piece by piece as it comes.
pub type LogPieces = BoxStream<'static, io::Result<Bytes>>;

/// Opens the output of an instance. Given by the daemon.
pub type LogSource =
    Arc<dyn Fn(Arc<Object<Instance>>, LogQuery) -> BoxFuture<'static, Result<LogPieces, Status>> + Send + Sync>;

/// True for the one form that has logs.
pub(super) fn serves(served: Served) -> bool {
    served.view.is_none() && served.kind == Instance::INFO
}

/// Reads the parameters.
///
/// # Errors
/// 400 for one that cannot be understood, or that excludes another.
pub(super) fn query(params: &Params, now: Timestamp) -> Result<LogQuery, Status> {
    let seconds = params.number("sinceSeconds")?.map(|s| {
        let back = SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX));
        now.checked_sub(back).unwrap_or(Timestamp::MIN)
    });
    let time = match params.get("sinceTime") {
        "" => None,
        text => Some(text.parse().map_err(|_| Status::bad_request("sinceTime must be an RFC 3339 time"))?),
    };
    if seconds.is_some() && time.is_some() {
        return Err(Status::bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    let stream = match params.get("stream") {
        "" | "All" | "all" => LogStream::All,
        "Stdout" | "stdout" => LogStream::Stdout,
        "Stderr" | "stderr" => LogStream::Stderr,
        other => {
            return Err(Status::bad_request(format!("stream must be All, Stdout or Stderr (got \"{other}\")")));
        }
    };
    Ok(LogQuery {
        follow: params.flag("follow")?,
        previous: params.flag("previous")?,
        timestamps: params.flag("timestamps")?,
        tail: params.number("tailLines")?,
        since: seconds.or(time),
        limit_bytes: params.number("limitBytes")?,
        stream,
    })
}

/// Ends a stream after so many bytes.
pub(super) fn limited(pieces: LogPieces, limit: Option<u64>) -> LogPieces {
    let Some(limit) = limit else { return pieces };
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    let cut = |left: &mut usize, piece: io::Result<Bytes>| {
        let piece = piece.map(|bytes| bytes.slice(..bytes.len().min(*left)));
        let go_on = *left > 0;
        *left -= piece.as_ref().map_or(0, Bytes::len);
        futures::future::ready(go_on.then_some(piece))
    };
    pieces.scan(whole, cut).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_exact() {
        let pieces = futures::stream::iter(["abc", "def"].map(|p| Ok(Bytes::from(p)))).boxed();
        let all: Vec<_> = limited(pieces, Some(4)).map(|p| p.expect("no error")).collect().await;
        assert_eq!(all.concat(), b"abcd");
    }

    #[test]
    fn the_parameters_are_those_of_a_pods_log() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("time");
        let read = |text| query(&Params::parse(Some(text)), now);
        let all = read("follow=true&tailLines=5&sinceSeconds=30&previous=1&timestamps=true&limitBytes=9&stream=Stderr");
        let expected = LogQuery {
            follow: true,
            previous: true,
            timestamps: true,
            tail: Some(5),
            since: Some("2026-01-01T00:00:30Z".parse().expect("time")),
            limit_bytes: Some(9),
            stream: LogStream::Stderr,
        };
        assert_eq!(all, Ok(expected));
        assert!(read("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z").is_err());
        assert!(read("stream=x").is_err());
    }
}
