//! The output of many instances, line by line in the order of their times.
//!
//! Each output comes in its own order, so the oldest of the first waiting lines is the next one: as soon as every output has
//! one waiting. Whoever follows cannot wait for that, because an instance may be silent for hours; there a line is held for a moment,
//! within which the others may still come with older ones. An output that is far ahead is not read on, so that little is in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{FuturesUnordered, StreamFuture},
};
use jiff::Timestamp;
use tokio::time::{Sleep, sleep};

use super::Pieces;
use crate::client::http::RequestError;

/// How long a line is held while others are silent.
const HOLD: Duration = Duration::from_millis(100);
/// An output of which so many bytes wait is not read on.
const AHEAD: usize = 1 << 20;
/// A line that is longer is shown in parts.
const LONGEST: usize = 256 << 10;
/// Lines that are given out at once.
const TOGETHER: usize = 1024;

/// A line of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its time, as the server wrote it.
    pub(super) time: Vec<u8>,
    /// Its text, with a newline at the end.
    pub(super) text: Vec<u8>,
}

/// Cuts an output with times into lines.
#[derive(Debug, Default)]
struct Cutter {
    rest: Vec<u8>,
    last: Option<(Timestamp, Vec<u8>)>,
    /// True in the middle of a line of which a part was given out.
    goes_on: bool,
}

impl Cutter {
    /// The lines that are whole now. No line of an output is older than the one before it.
    fn cut(&mut self, piece: &[u8]) -> Vec<(Timestamp, Line)> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.extend(self.end());
                self.goes_on = false;
            } else if self.rest.len() >= LONGEST {
                lines.extend(self.end());
                self.goes_on = true;
            }
        }
        lines
    }

    /// What is left is a line.
    fn end(&mut self) -> Option<(Timestamp, Line)> {
        let mut text = std::mem::take(&mut self.rest);
        if text.is_empty() {
            return None;
        }
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let stamp = text.iter().position(|byte| *byte == b' ').filter(|_| !self.goes_on);
        let time = stamp.and_then(|at| Some((at, str::from_utf8(&text[..at]).ok()?.parse::<Timestamp>().ok()?)));
        if let Some((at, time)) = time {
            let word = text.drain(..=at).take(at).collect();
            let not_before = self.last.as_ref().map_or(time, |(last, _)| time.max(*last));
            self.last = Some((not_before, word));
        }
        let (at, time) = self.last.clone().unwrap_or_default();
        Some((at, Line { time, text }))
    }
}

/// One output.
#[derive(Debug, Default)]
struct Lane {
    cutter: Cutter,
    lines: VecDeque<(Timestamp, Line)>,
    bytes: usize,
    ended: bool,
}

/// All outputs.
pub(super) struct Merge<'a> {
    following: bool,
    lanes: BTreeMap<usize, Lane>,
    reading: FuturesUnordered<StreamFuture<Lined<'a>>>,
    /// Those that are far ahead.
    parked: BTreeMap<usize, Lined<'a>>,
    /// The first waiting line of each.
    heads: BTreeSet<(Timestamp, usize)>,
    /// Those of which nothing waits, and more may come.
    silent: usize,
    /// When the lines up to this time have been held for long enough.
    held: Option<(Pin<Box<Sleep>>, Timestamp)>,
    released: Option<Timestamp>,
}

/// An output that knows its number.
type Lined<'a> = Pin<Box<dyn futures::Stream<Item = (usize, Option<Result<Bytes, RequestError>>)> + Send + 'a>>;

impl<'a> Merge<'a> {
    /// Without any output yet.
    pub(super) fn new(following: bool) -> Self {
        Self {
            following,
            lanes: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            parked: BTreeMap::new(),
            heads: BTreeSet::new(),
            silent: 0,
            held: None,
            released: None,
        }
    }

    /// One more output, of lines with times.
    pub(super) fn add(&mut self, number: usize, pieces: Pieces<'a>) {
        self.lanes.insert(number, Lane::default());
        self.silent += 1;
        let end = futures::stream::once(async move { (number, None) });
        let lined: Lined<'a> = Box::pin(pieces.map(move |piece| (number, Some(piece))).chain(end));
        self.reading.push(lined.into_future());
    }

    /// True if every output has ended and everything was given out.
    pub(super) fn is_over(&self) -> bool {
        self.reading.is_empty() && self.parked.is_empty() && self.heads.is_empty()
    }

    /// The next lines, each with the number of its output; none when all is over. Cancel-safe.
    ///
    /// # Errors
    /// When an output breaks off.
    pub(super) async fn next(&mut self) -> Result<Vec<(usize, Line)>, RequestError> {
        loop {
            let lines: Vec<_> = std::iter::from_fn(|| self.pop()).take(TOGETHER).collect();
            if !lines.is_empty() || self.is_over() {
                return Ok(lines);
            }
            if self.following && self.held.is_none() && !self.heads.is_empty() {
                let newest = self.lanes.values().filter_map(|lane| Some(lane.lines.back()?.0)).max();
                self.held = newest.map(|newest| (Box::pin(sleep(HOLD)), newest));
            }
            let hold = async {
                match &mut self.held {
                    Some((timer, newest)) => {
                        timer.as_mut().await;
                        *newest
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((Some((number, piece)), pieces)) = self.reading.next() => self.take(number, piece.transpose()?, pieces),
                newest = hold => {
                    self.held = None;
                    self.released = Some(newest);
                }
            }
        }
    }

    fn take(&mut self, number: usize, piece: Option<Bytes>, pieces: Lined<'a>) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let was_empty = lane.lines.is_empty();
        let lines = match &piece {
            Some(piece) => lane.cutter.cut(piece),
            None => lane.cutter.end().into_iter().collect(),
        };
        lane.bytes += lines.iter().map(|(_, line)| line.text.len()).sum::<usize>();
        lane.lines.extend(lines);
        lane.ended = piece.is_none();
        if was_empty {
            self.heads.extend(lane.lines.front().map(|(at, _)| (*at, number)));
            self.silent -= usize::from(!lane.lines.is_empty() || lane.ended);
        }
        if !lane.ended {
            match lane.bytes < AHEAD {
                true => self.reading.push(pieces.into_future()),
                false => drop(self.parked.insert(number, pieces)),
            }
        }
    }

    /// The next line, if it is known to be that.
    fn pop(&mut self) -> Option<(usize, Line)> {
        let (at, number) = *self.heads.first()?;
        if self.silent > 0 && self.released.is_none_or(|until| at > until) {
            self.released = None;
            return None;
        }
        self.heads.pop_first();
        let lane = self.lanes.get_mut(&number)?;
        let (_, line) = lane.lines.pop_front()?;
        lane.bytes -= line.text.len();
        match lane.lines.front() {
            Some((at, _)) => drop(self.heads.insert((*at, number))),
            None => self.silent += usize::from(!lane.ended),
        }
        if lane.bytes < AHEAD / 2
            && let Some(pieces) = self.parked.remove(&number)
        {
            self.reading.push(pieces.into_future());
        }
        Some((number, line))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream::{self, BoxStream};
    use proptest::prelude::*;

    use super::*;

    type Pieces = BoxStream<'static, Result<Bytes, RequestError>>;

    fn pieces(texts: Vec<String>) -> Pieces {
        stream::iter(texts.into_iter().map(|text| Ok(Bytes::from(text)))).boxed()
    }

    fn stamped(second: u8, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000000Z {text}\n")
    }

    async fn all(merge: &mut Merge<'_>) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        while !merge.is_over() {
            let lines = merge.next().await.expect("no error");
            all.extend(
                lines.into_iter().map(|(n, line)| (n, String::from_utf8_lossy(&line.text).trim_end().to_owned())),
            );
        }
        all
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_bounded_and_keeps_its_time() {
        let mut merge = Merge::new(false);
        let long = "x".repeat(LONGEST);
        let texts = vec!["2026-01-01T00:00:01Z ".to_owned(), long.clone(), long, "y".to_owned()];
        merge.add(0, pieces(texts));
        merge.add(1, pieces(vec![stamped(0, "before"), stamped(2, "after")]));
        let shown = all(&mut merge).await;
        let lengths: Vec<(usize, usize)> = shown.iter().map(|(n, text)| (*n, text.len())).collect();
        assert_eq!(lengths, [(1, 6), (0, LONGEST), (0, LONGEST), (0, 1), (1, 5)]);
    }

    #[tokio::test]
    async fn who_is_silent_holds_nobody_up_for_long_when_following() {
        let mut merge = Merge::new(true);
        merge.add(0, stream::pending().boxed());
        merge.add(1, pieces(vec![stamped(2, "b")]).chain(stream::pending()).boxed());
        merge.add(2, pieces(vec![stamped(1, "a")]).chain(stream::pending()).boxed());
        let lines = merge.next().await.expect("no error");
        let texts: Vec<_> = lines.iter().map(|(n, line)| (*n, line.text.as_slice())).collect();
        assert_eq!(texts, [(2, &b"a\n"[..]), (1, b"b\n")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn everything_comes_out_sorted_and_each_output_in_its_own_order(
            lanes in prop::collection::vec(prop::collection::vec(0..20u8, 0..12), 1..5), cut in 1..40usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            let mut merge = Merge::new(false);
            let mut expected = Vec::new();
            for (number, seconds) in lanes.iter().enumerate() {
                let mut seconds = seconds.clone();
                seconds.sort_unstable();
                let text: String = seconds.iter().enumerate().map(|(n, s)| stamped(*s, &format!("{s:02} {number} {n:02}"))).collect();
                let parts = text.as_bytes().chunks(cut).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
                merge.add(number, pieces(parts));
                expected.extend(seconds.iter().enumerate().map(|(n, s)| (number, format!("{s:02} {number} {n:02}"))));
            }
            expected.sort_by(|a, b| a.1.cmp(&b.1));
            prop_assert_eq!(runtime.block_on(all(&mut merge)), expected);
        }
    }
}
