//! A log that is followed through restarts of the server: no line is lost, and none is shown twice.
//!
//! Lines are asked for with their times. When the connection breaks, the log is asked for again from the last time that was seen,
//! and as many lines of that very time are left out as were shown already.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use jiff::Timestamp;

use crate::client::http::{Request, RequestError};

use super::{
    context::{Context, instance_log_path},
    logs::LogOptions,
};

/// How long a server may be away, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);

/// Where a reader of lines with times is.
#[derive(Debug, Default)]
struct Position {
    /// The time of the last line, as it was written, and how many lines of that time there were.
    last: Option<(Vec<u8>, usize)>,
    /// How many lines of that time are known already.
    known: usize,
    /// Whether times are wanted by whoever reads.
    with_times: bool,
}

impl Position {
    /// What is to be shown of a line; nothing if it was shown before.
    fn take<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (time, text) = match line.iter().position(|b| *b == b' ') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => return Some(line),
        };
        if std::str::from_utf8(time).ok().and_then(|t| t.parse::<Timestamp>().ok()).is_none() {
            return Some(line);
        }
        match &mut self.last {
            Some((last, _)) if last == time && self.known > 0 => {
                self.known -= 1;
                return None;
            }
            Some((last, count)) if last == time => *count += 1,
            last => {
                self.known = 0;
                *last = Some((time.to_vec(), 1));
            }
        }
        Some(if self.with_times { line } else { text })
    }

    /// The connection broke: what comes next begins with lines that are known.
    fn again(&mut self) {
        self.known = self.last.as_ref().map_or(0, |(_, count)| *count);
    }

    fn since(&self) -> Option<String> {
        self.last.as_ref().map(|(time, _)| String::from_utf8_lossy(time).into_owned())
    }
}

type Pieces<'a> = BoxStream<'a, Result<Bytes, RequestError>>;

struct Steady<'a> {
    context: &'a Context,
    namespace: String,
    name: String,
    options: LogOptions,
    pieces: Option<Pieces<'static>>,
    position: Position,
    rest: Vec<u8>,
    waited: Duration,
}

/// Follows an instance's log.
pub(super) async fn follow<'a>(
    context: &'a Context,
    namespace: &str,
    name: &str,
    options: &LogOptions,
) -> Result<Pieces<'a>, RequestError> {
    let mut steady = Steady {
        context,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        options: options.clone(),
        pieces: None,
        position: Position { with_times: options.timestamps, ..Position::default() },
        rest: Vec::new(),
        waited: Duration::ZERO,
    };
    steady.pieces = Some(steady.open().await?);
    let shown = stream::unfold(Some(steady), |steady| async {
        let mut steady = steady?;
        match steady.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(steady))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(shown.boxed())
}

impl Steady<'_> {
    async fn open(&mut self) -> Result<Pieces<'static>, RequestError> {
        let query = self.options.resumed(self.position.since());
        let path = instance_log_path(&self.namespace, &self.name, &query);
        self.context.client.stream(Request::get(path).accept("text/plain, application/json")).await
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            let pieces = match self.pieces.take() {
                Some(pieces) => self.pieces.insert(pieces),
                None => match self.open().await {
                    Ok(pieces) => {
                        self.waited = Duration::ZERO;
                        self.pieces.insert(pieces)
                    }
                    Err(error @ RequestError::Refused(_)) => return Err(error),
                    Err(error) if self.waited >= PATIENCE => return Err(error),
                    Err(_) => {
                        self.waited += PAUSE;
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            match pieces.next().await {
                Some(Ok(piece)) => {
                    self.rest.extend_from_slice(&piece);
                    let shown = self.shown();
                    if !shown.is_empty() {
                        return Ok(Some(shown.into()));
                    }
                }
                // A server that ends closes its streams; one that is still there has nothing more to say.
                None if self.context.client.call(Request::get("/version")).await.is_ok() => {
                    let rest = std::mem::take(&mut self.rest);
                    let last = self.position.take(&rest).unwrap_or_default().to_vec();
                    // After a line without an end the empty stream says that this is all.
                    self.pieces = Some(stream::empty().boxed());
                    return Ok(if last.is_empty() { None } else { Some(last.into()) });
                }
                None | Some(Err(_)) => {
                    self.pieces = None;
                    self.rest.clear();
                    self.position.again();
                }
            }
        }
    }

    /// The whole lines that have come, as far as they are new.
    fn shown(&mut self) -> Vec<u8> {
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let position = &mut self.position;
        whole.split_inclusive(|b| *b == b'\n').filter_map(|line| position.take(line)).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(position: &mut Position, lines: &[&str]) -> Vec<String> {
        lines
            .iter()
            .filter_map(|l| position.take(l.as_bytes()))
            .map(|l| String::from_utf8_lossy(l).into_owned())
            .collect()
    }

    #[test]
    fn after_a_break_known_lines_are_left_out_and_new_ones_of_the_same_time_are_not() {
        let mut position = Position::default();
        let before = ["2026-01-01T00:00:00.5Z a\n", "2026-01-01T00:00:01Z b\n", "2026-01-01T00:00:01Z c\n"];
        assert_eq!(shown(&mut position, &before), ["a\n", "b\n", "c\n"]);
        position.again();
        assert_eq!(position.since().as_deref(), Some("2026-01-01T00:00:01Z"));
        let after = [
            "2026-01-01T00:00:01Z b\n",
            "2026-01-01T00:00:01Z c\n",
            "2026-01-01T00:00:01Z d\n",
            "2026-01-01T00:00:02Z \n",
        ];
        assert_eq!(shown(&mut position, &after), ["d\n", "\n"]);
        position.again();
        assert_eq!(shown(&mut position, &["2026-01-01T00:00:02Z \n", "2026-01-01T00:00:03Z e\n"]), ["e\n"]);
    }

    #[test]
    fn times_stay_where_they_are_wanted_and_lines_without_one_are_shown_as_they_are() {
        let mut position = Position { with_times: true, ..Position::default() };
        assert_eq!(
            shown(&mut position, &["2026-01-01T00:00:00Z a\n", "no time\n", "x\n"]),
            ["2026-01-01T00:00:00Z a\n", "no time\n", "x\n"]
        );
    }
}
