//! Writing what somebody else keeps and gives out again with its times: the output of containers.
//!
//! Each piece has one record with the time that its keeper gave it, and the bytes that lack a record are cut off when the
//! files are opened. So after any crash the files say exactly which pieces they have: [`Seen`] counts them by time and
//! stream, and whoever asks the keeper again from a little earlier on passes over just those. Nothing is lost or doubled as
//! long as the keeper still has what came since.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{
    files::{RECORD, Segment, Stream, records, segments},
    sink::Sink,
};
use crate::drivers::LogLimits;

/// Keepers are asked from whole seconds on, and the two streams may have overtaken each other a little.
const OVERLAP: i64 = 1;
const SECOND: i64 = 1_000_000_000;

/// One piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its time, in nanoseconds since 1970, as its keeper says it.
    pub nanos: i64,
    /// Where it was written to.
    pub stream: Stream,
    /// Its bytes.
    pub bytes: bytes::Bytes,
}

/// The files of one attempt.
#[derive(Debug)]
pub struct Recorder(Sink);

impl Recorder {
    /// Goes on where an earlier recorder was. After an error, open it anew.
    ///
    /// # Errors
    /// When the directory or the files cannot be read or written.
    pub fn open(logs: PathBuf, attempt: u32, limits: LogLimits) -> io::Result<(Self, Seen)> {
        directories(&logs)?;
        let own: Vec<Segment> = segments(&logs)?.into_iter().filter(|segment| segment.attempt == attempt).collect();
        if let Some(last) = own.last() {
            cut_unrecorded(&logs, *last)?;
        }
        let seen = Seen::read(&logs, &own)?;
        Ok((Self(Sink::new(logs, attempt, limits, None)?), seen))
    }

    /// Writes some pieces.
    ///
    /// # Errors
    /// When the disk does not take them all; open it anew then.
    pub fn put(&mut self, pieces: &[Piece]) -> io::Result<()> {
        self.0.put(pieces)
    }

    /// How much is kept from now on.
    pub fn set_limits(&mut self, limits: LogLimits) {
        self.0.set_limits(limits);
    }
}

/// `instances`, the Instance's own, and the one for its logs.
fn directories(logs: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(logs)
}

/// Cuts off the bytes that were written just before a crash and have no record.
fn cut_unrecorded(logs: &Path, segment: Segment) -> io::Result<()> {
    let path = segment.path(logs, "idx");
    let index = fs::read(&path)?;
    let mut ends = [0; 2];
    for record in records(&index) {
        ends[record.stream as usize] = record.offset + u64::from(record.length);
    }
    let cut = |file: File, length: u64| if file.metadata()?.size() > length { file.set_len(length) } else { Ok(()) };
    cut(OpenOptions::new().write(true).open(path)?, (index.len() / RECORD * RECORD) as u64)?;
    for stream in Stream::ALL {
        match OpenOptions::new().write(true).open(segment.path(logs, stream.suffix())) {
            Ok(file) => cut(file, ends[stream as usize])?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The latest pieces that are written already.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In seconds since 1970: everything that came before is written, so ask the keeper from here on.
    pub since: i64,
    counts: HashMap<(i64, Stream), u32>,
}

impl Seen {
    fn read(logs: &Path, own: &[Segment]) -> io::Result<Self> {
        let mut seen = Seen::default();
        for segment in own.iter().rev() {
            let index = fs::read(segment.path(logs, "idx"))?;
            let times = || records(&index).map(|record| record.nanos);
            if seen.since == 0 {
                seen.since = times().max().map_or(0, |last| last.div_euclid(SECOND) - OVERLAP);
            }
            for record in records(&index).filter(|record| record.nanos >= seen.since * SECOND) {
                *seen.counts.entry((record.nanos, record.stream)).or_default() += 1;
            }
            // An empty segment says nothing; the one before it may.
            if times().min().is_some_and(|first| first < seen.since * SECOND) {
                break;
            }
        }
        Ok(seen)
    }

    /// True for a piece that is not written yet. Pieces of the same time and stream come in the same order each time.
    pub fn is_new(&mut self, piece: &Piece) -> bool {
        if piece.nanos < self.since * SECOND {
            return false;
        }
        match self.counts.get_mut(&(piece.nanos, piece.stream)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        super::read::{Attempts, Query, Reader},
        *,
    };

    const LIMITS: LogLimits = LogLimits { max_size: 64, max_files: 9, redact: false };

    fn piece(nanos: i64, stream: Stream, text: &str) -> Piece {
        Piece { nanos, stream, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// What a container wrote: some in the same instant, a part of a line, streams that overtook each other.
    fn history() -> Vec<Piece> {
        let at = |s: i64, n: i64| s * SECOND + n;
        vec![
            piece(at(5, 1), Stream::Out, "a\n"),
            piece(at(5, 1), Stream::Out, "b\n"),
            piece(at(5, 0), Stream::Err, "c\n"),
            piece(at(6, 7), Stream::Out, "long long long long "),
            piece(at(6, 7), Stream::Out, "line\n"),
            piece(at(6, 7), Stream::Err, "d\n"),
            piece(at(7, 0), Stream::Out, "a rather long line that fills the file all by itself, or nearly\n"),
            piece(at(7, 0), Stream::Out, "e\n"),
            piece(at(9, 0), Stream::Out, "f"),
        ]
    }

    fn text(logs: &Path, stream: Stream) -> String {
        let query = Query { stream: Some(stream), ..Query::of(Attempts::Only(1)) };
        let mut reader = Reader::open(logs, query).unwrap();
        let mut lines: Vec<_> = std::iter::from_fn(|| reader.next_line().unwrap()).collect();
        lines.extend(reader.rest());
        lines.into_iter().map(|line| String::from_utf8(line.bytes).unwrap()).collect()
    }

    fn whole(stream: Stream) -> String {
        let of = history().into_iter().filter(|p| p.stream == stream);
        of.map(|p| String::from_utf8(p.bytes.to_vec()).unwrap()).collect()
    }

    /// Asks the keeper again, as after a reconnect.
    fn catch_up(logs: &Path, upto: usize) {
        let (mut recorder, mut seen) = Recorder::open(logs.to_owned(), 1, LIMITS).unwrap();
        let since = seen.since * SECOND;
        let given = history().into_iter().take(upto).filter(|p| p.nanos >= since);
        let new: Vec<Piece> = given.filter(|p| seen.is_new(p)).collect();
        recorder.put(&new).unwrap();
    }

    #[test]
    fn whoever_comes_back_at_any_moment_loses_and_doubles_nothing() {
        for first in 0..=history().len() {
            for second in first..=history().len() {
                let dir = tempfile::tempdir().unwrap();
                let logs = dir.path().join("instances/u/logs");
                catch_up(&logs, first);
                catch_up(&logs, second);
                catch_up(&logs, history().len());
                for stream in Stream::ALL {
                    assert_eq!(text(&logs, stream), whole(stream), "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn bytes_without_a_record_are_written_again_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        catch_up(&logs, 4);
        use std::io::Write;
        let append = |suffix: &str, bytes: &[u8]| {
            let path = segments(&logs).unwrap().last().unwrap().path(&logs, suffix);
            OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
        };
        append("out", b"line\n");
        append("idx", &[7; 11]);
        catch_up(&logs, history().len());
        assert_eq!(text(&logs, Stream::Out), whole(Stream::Out));
    }
}
