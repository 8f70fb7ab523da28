//! A log that is followed through restarts of the server: no line is lost, and none is shown twice.
//!
//! Lines are asked for with their times. When the connection breaks, the log is asked for again from the last time that was seen,
//! and as many lines of that very time are left out as were shown already.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use jiff::Timestamp;

use crate::{
    api::KindInfo,
    client::http::{Request, RequestError},
};

use super::{
    context::{Context, log_path},
    logs::LogOptions,
};

/// How long a server may be away, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);

/// Longest time that a line can begin with.
const LONGEST_TIME: usize = 64;

/// Where a reader of lines with times is. It shows bytes as they come and keeps none, however long a line is.
#[derive(Debug, Default)]
struct Position {
    /// The time of the last line, as it was written, and how many lines of that time there were.
    last: Option<(Vec<u8>, usize)>,
    /// How many lines of that time are known already.
    known: usize,
    /// How much of the last of these is known, if it had no end yet.
    begun: Option<usize>,
    /// Whether times are wanted by whoever reads.
    with_times: bool,
    /// The beginning of a line, up to the end of its time.
    head: Vec<u8>,
    /// In the middle of a line.
    inside: Option<Inside>,
}

/// In the middle of a line.
#[derive(Debug, PartialEq)]
struct Inside {
    /// How much of its text has come.
    length: usize,
    /// How much of it is known already.
    hidden: usize,
}

impl Position {
    /// What is to be shown of some bytes, without what was shown before.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = match self.inside {
                Some(_) => part,
                None => self.begin(part, &mut shown),
            };
            if let Some(Inside { length, hidden }) = &mut self.inside {
                let new = hidden.saturating_sub(*length).min(text.len());
                shown.extend_from_slice(&text[new..]);
                *length = length.saturating_add(text.len());
            }
            if part.ends_with(b"\n") {
                self.inside = None;
                self.head.clear();
            }
        }
        shown
    }

    /// The beginning of a line, or more of it. What follows its time is left.
    fn begin<'a>(&mut self, part: &'a [u8], shown: &mut Vec<u8>) -> &'a [u8] {
        let Some(space) = part.iter().position(|byte| *byte == b' ') else {
            self.head.extend_from_slice(part);
            if self.head.ends_with(b"\n") || self.head.len() > LONGEST_TIME {
                // No time at all: shown as it is.
                shown.append(&mut self.head);
                self.inside = Some(Inside { length: 0, hidden: 0 });
            }
            return &[];
        };
        self.head.extend_from_slice(&part[..space]);
        let time = std::mem::take(&mut self.head);
        let is_time = str::from_utf8(&time).is_ok_and(|time| time.parse::<Timestamp>().is_ok());
        let hidden = if is_time { self.hidden(&time) } else { 0 };
        self.inside = Some(Inside { length: 0, hidden });
        if hidden == 0 && (self.with_times || !is_time) {
            shown.extend_from_slice(&time);
            shown.push(b' ');
        }
        &part[space + 1..]
    }

    /// How much of a line of this time is known.
    fn hidden(&mut self, time: &[u8]) -> usize {
        match &mut self.last {
            Some((last, _)) if last == time && self.known > 0 => {
                self.known -= 1;
                let begun = self.begun.take_if(|_| self.known == 0);
                begun.unwrap_or(usize::MAX)
            }
            Some((last, count)) if last == time => {
                *count += 1;
                0
            }
            last => {
                (self.known, self.begun) = (0, None);
                *last = Some((time.to_vec(), 1));
                0
            }
        }
    }

    /// The connection broke: what comes next begins with lines that are known.
    fn again(&mut self) {
        // While it still went through lines that are known, it learned nothing new.
        if self.known == 0 {
            let begun = self.inside.as_ref().filter(|inside| inside.hidden != usize::MAX);
            self.begun = begun.map(|inside| inside.length.max(inside.hidden));
        }
        self.inside = None;
        self.known = self.last.as_ref().map_or(0, |(_, count)| *count);
        self.head.clear();
    }

    fn since(&self) -> Option<String> {
        self.last.as_ref().map(|(time, _)| String::from_utf8_lossy(time).into_owned())
    }
}

type Pieces<'a> = BoxStream<'a, Result<Bytes, RequestError>>;

struct Steady<'a> {
    context: &'a Context,
    kind: &'static KindInfo,
    namespace: String,
    name: String,
    options: LogOptions,
    pieces: Option<Pieces<'static>>,
    position: Position,
    waited: Duration,
}

/// Follows an object's log.
pub(super) async fn follow<'a>(
    context: &'a Context,
    kind: &'static KindInfo,
    namespace: &str,
    name: &str,
    options: &LogOptions,
) -> Result<Pieces<'a>, RequestError> {
    let mut steady = Steady {
        context,
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        options: options.clone(),
        pieces: None,
        position: Position { with_times: options.timestamps, ..Position::default() },
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
        let path = log_path(self.kind, &self.namespace, &self.name, &query);
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
                    let shown = self.position.take(&piece);
                    if !shown.is_empty() {
                        return Ok(Some(shown.into()));
                    }
                }
                // A server that ends closes its streams; one that is still there has nothing more to say.
                None if self.context.client.call(Request::get("/version")).await.is_ok() => return Ok(None),
                None | Some(Err(_)) => {
                    self.pieces = None;
                    self.position.again();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(position: &mut Position, lines: &[&str]) -> String {
        String::from_utf8(position.take(lines.concat().as_bytes())).expect("text")
    }

    #[test]
    fn after_a_break_known_lines_are_left_out_and_new_ones_of_the_same_time_are_not() {
        let mut position = Position::default();
        let before = ["2026-01-01T00:00:00.5Z a\n", "2026-01-01T00:00:01Z b\n", "2026-01-01T00:00:01Z c\n"];
        assert_eq!(shown(&mut position, &before), "a\nb\nc\n");
        position.again();
        assert_eq!(position.since().as_deref(), Some("2026-01-01T00:00:01Z"));
        let after = [
            "2026-01-01T00:00:01Z b\n",
            "2026-01-01T00:00:01Z c\n",
            "2026-01-01T00:00:01Z d\n",
            "2026-01-01T00:00:02Z \n",
        ];
        assert_eq!(shown(&mut position, &after), "d\n\n");
        position.again();
        assert_eq!(shown(&mut position, &["2026-01-01T00:00:02Z \n", "2026-01-01T00:00:03Z e\n"]), "e\n");
    }

    #[test]
    fn times_stay_where_they_are_wanted_and_lines_without_one_are_shown_as_they_are() {
        let mut position = Position { with_times: true, ..Position::default() };
        assert_eq!(
            shown(&mut position, &["2026-01-01T00:00:00Z a\n", "no time\n", "x\n"]),
            "2026-01-01T00:00:00Z a\nno time\nx\n"
        );
    }

    #[test]
    fn whoever_loses_its_connection_again_and_again_misses_nothing_and_shows_nothing_twice() {
        let whole = "2026-01-01T00:00:01Z a\n2026-01-01T00:00:02Z b\n2026-01-01T00:00:02Z cc\n2026-01-01T00:00:02Z a long line\n";
        let text = "a\nb\ncc\na long line\n";
        for first in 0..whole.len() {
            for second in 0..whole.len() {
                let mut position = Position::default();
                let mut seen = position.take(&whole.as_bytes()[..first]);
                for end in [second, second / 2, second / 3, whole.len()] {
                    position.again();
                    let since = position.since().unwrap_or_default();
                    let from = whole.find(&since).expect("it is there");
                    seen.extend(position.take(&whole.as_bytes()[from..end.max(from)]));
                }
                assert_eq!(String::from_utf8(seen).expect("text"), text, "{first} {second}");
            }
        }
    }

    #[test]
    fn after_a_break_in_the_middle_of_a_line_it_goes_on_where_it_was_in_pieces_of_any_size() {
        let whole = "2026-01-01T00:00:00Z a\n2026-01-01T00:00:01Z b\n2026-01-01T00:00:01Z a long line\nno time\n";
        for at in 0..whole.len() {
            for size in 1..12 {
                let mut position = Position::default();
                let mut seen = position.take(&whole.as_bytes()[..at]);
                position.again();
                // The server begins with the first line of the last time.
                let since = position.since().unwrap_or_default();
                let from = whole.find(&since).expect("it is there");
                for piece in whole.as_bytes()[from..].chunks(size) {
                    seen.extend(position.take(piece));
                }
                let seen = String::from_utf8(seen).expect("text");
                assert!(seen.starts_with("a\nb\na long line\n"), "{at} {size}: {seen:?}");
            }
        }
    }
}
