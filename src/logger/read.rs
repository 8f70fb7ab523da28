//! Reading what the logger wrote: whole lines, in the order in which they came, while more may be coming.
//!
//! Plain functions over files; no process is asked, so logs can be read when nothing of appm runs. A [`Reader`] is its
//! own cursor: [`Reader::next_line`] answers `None` when it has caught up, and goes on when asked again later;
//! [`Changes`] waits for that without polling. Putting the bytes of one stream's lines together gives exactly what the
//! process wrote to it (as far as rotation has kept it).

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Timespec, inotify},
};

use super::{
    files::{RECORD, Record, Segment, Stream, records, segments},
    seek,
};
use crate::api::Uid;

/// A line longer than this is given out in parts.
const LONGEST_LINE: usize = 256 << 10;
/// How much of an index is read at once.
pub(super) const INDEX_CHUNK: usize = 4096 * RECORD;

/// Which attempts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// This one.
    Only(u32),
    /// This one and all after it.
    From(u32),
    /// All that are kept.
    All,
}

impl Attempts {
    fn includes(self, attempt: u32) -> bool {
        match self {
            Attempts::Only(one) => attempt == one,
            Attempts::From(first) => attempt >= first,
            Attempts::All => true,
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Of which attempts.
    pub attempts: Attempts,
    /// One stream; none: both, merged.
    pub stream: Option<Stream>,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only lines that began at or after this time.
    pub since: Option<Timestamp>,
    /// No more bytes than this.
    pub limit_bytes: Option<u64>,
}

impl Query {
    /// Everything of these attempts.
    pub fn of(attempts: Attempts) -> Query {
        Query { attempts, stream: None, tail: None, since: None, limit_bytes: None }
    }
}

/// A line of output, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the line's beginning was taken.
    pub at: Timestamp,
    /// False for a part of a line whose beginning was given out before.
    pub begins: bool,
    /// Who wrote it.
    pub attempt: u32,
    /// Where.
    pub stream: Stream,
    /// Its bytes, the newline included; without one the line may go on.
    pub bytes: Vec<u8>,
}

/// Where the logs of an Instance are.
pub fn logs_dir(data_dir: &Path, uid: &Uid) -> PathBuf {
    data_dir.join("instances").join(uid.as_str()).join("logs")
}

/// The attempts of which something is kept, in order.
pub fn attempts(logs: &Path) -> io::Result<Vec<u32>> {
    let mut found: Vec<u32> = segments(logs)?.into_iter().map(|segment| segment.attempt).collect();
    found.dedup();
    Ok(found)
}

/// The files of one segment, and how far its index was read.
#[derive(Debug)]
struct Place {
    segment: Segment,
    index: Option<File>,
    position: u64,
    streams: [Option<File>; 2],
}

/// Reads lines, and remembers where it is.
#[derive(Debug)]
pub struct Reader {
    logs: PathBuf,
    query: Query,
    place: Option<Place>,
    waiting: VecDeque<Record>,
    lines: VecDeque<Line>,
    partial: [Option<Line>; 2],
    /// When the line began of which a part was given out already.
    begun: [Option<Timestamp>; 2],
    /// What comes before this is not wanted.
    start: [Option<(Segment, u64)>; 2],
    left: u64,
}

impl Reader {
    /// Finds the place to begin at. A directory that is not there yet is empty.
    pub fn open(logs: &Path, query: Query) -> io::Result<Reader> {
        let mut reader = Reader {
            logs: logs.to_owned(),
            query,
            place: None,
            waiting: VecDeque::new(),
            lines: VecDeque::new(),
            partial: [None, None],
            begun: [None, None],
            start: [None, None],
            left: query.limit_bytes.unwrap_or(u64::MAX),
        };
        let mut wanted = segments(logs)?;
        wanted.retain(|segment| query.attempts.includes(segment.attempt));
        if let Some(lines) = query.tail {
            reader.start = seek::tail(logs, &wanted, query.stream, lines)?;
            let first = Stream::ALL.into_iter().filter(|s| query.stream.is_none_or(|one| one == *s));
            let first = first.map(|stream| reader.start[stream as usize].map(|(segment, _)| segment)).min().flatten();
            wanted.retain(|segment| first.is_none_or(|first| *segment >= first));
        }
        reader.place = wanted.first().map(|segment| reader.place_at(*segment));
        if let Some(since) = query.since
            && let Some(beginning) = seek::since(logs, &wanted, reader.start, since)?
        {
            let place = reader.place_at(beginning.segment);
            reader.place = Some(Place { position: beginning.position, ..place });
            // Older than anything that is wanted: such a line is passed over to its end.
            reader.begun = beginning.inside.map(|inside| inside.then_some(Timestamp::MIN));
        }
        Ok(reader)
    }

    /// The next whole line; `None`: nothing more for now.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            while let Some(line) = self.lines.pop_front() {
                if let Some(line) = self.admit(line) {
                    return Ok(Some(line));
                }
            }
            if !self.step()? {
                return Ok(None);
            }
        }
    }

    /// The parts of lines at the end that may never be completed. For when nothing more comes, or not soon.
    pub fn rest(&mut self) -> Vec<Line> {
        let parts: Vec<Line> = self.partial.iter_mut().filter_map(Option::take).collect();
        for part in &parts {
            self.begun[part.stream as usize] = Some(part.at);
        }
        parts.into_iter().filter_map(|line| self.admit(line)).collect()
    }

    /// True if the wanted number of bytes was given out.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    fn admit(&mut self, mut line: Line) -> Option<Line> {
        if self.left == 0 || self.query.since.is_some_and(|since| line.at < since) {
            return None;
        }
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(line.bytes.len());
        line.bytes.truncate(length);
        self.left -= length as u64;
        Some(line)
    }

    fn place_at(&self, segment: Segment) -> Place {
        let open = |suffix: &str| File::open(segment.path(&self.logs, suffix)).ok();
        Place { segment, index: open("idx"), position: 0, streams: Stream::ALL.map(|stream| open(stream.suffix())) }
    }

    /// Takes one piece, or goes to the next segment. False: caught up.
    fn step(&mut self) -> io::Result<bool> {
        if let Some(record) = self.next_record()? {
            self.take(record)?;
            return Ok(true);
        }
        let now = self.place.as_ref().map(|place| place.segment);
        let wanted =
            |segment: &Segment| self.query.attempts.includes(segment.attempt) && now.is_none_or(|now| *segment > now);
        let Some(next) = segments(&self.logs)?.into_iter().find(wanted) else {
            // Somebody removed the files, and perhaps a new logger begins to count anew.
            let gone = self.place.take_if(|place| place.is_removed()).is_some();
            if gone {
                self.start = [None, None];
            }
            return Ok(gone);
        };
        // The next one is there, so this one is complete; what was added before that must not be passed over.
        if let Some(record) = self.next_record()? {
            self.take(record)?;
            return Ok(true);
        }
        if now.is_some_and(|now| now.attempt != next.attempt) {
            self.lines.extend(self.partial.iter_mut().filter_map(Option::take));
            self.begun = [None, None];
        }
        self.place = Some(self.place_at(next));
        Ok(true)
    }

    fn next_record(&mut self) -> io::Result<Option<Record>> {
        if let Some(record) = self.waiting.pop_front() {
            return Ok(Some(record));
        }
        let Some(place) = &mut self.place else { return Ok(None) };
        let Some(index) = &place.index else { return Ok(None) };
        let mut chunk = vec![0; INDEX_CHUNK];
        let length = read_at(index, &mut chunk, place.position)? / RECORD * RECORD;
        place.position += length as u64;
        self.waiting.extend(records(&chunk[..length]));
        Ok(self.waiting.pop_front())
    }

    fn take(&mut self, record: Record) -> io::Result<()> {
        let Record { nanos, stream, mut offset, length } = record;
        if self.query.stream.is_some_and(|wanted| wanted != stream) {
            return Ok(());
        }
        let Some(place) = &mut self.place else { return Ok(()) };
        let segment = place.segment;
        let end = offset + u64::from(length);
        match self.start[stream as usize] {
            Some((first, _)) if segment < first => return Ok(()),
            Some((first, from)) if segment == first => offset = offset.max(from.min(end)),
            _ => {}
        }
        let slot = &mut place.streams[stream as usize];
        if slot.is_none() {
            // It was made after we came here.
            *slot = File::open(segment.path(&self.logs, stream.suffix())).ok();
        }
        let Some(file) = slot else { return Ok(()) };
        let mut bytes = vec![0; usize::try_from(end - offset).expect("a piece fits into memory")];
        let length = read_at(file, &mut bytes, offset)?;
        bytes.truncate(length);
        let at = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
        self.cut(at, segment.attempt, stream, &bytes);
        Ok(())
    }

    /// Cuts a piece into lines.
    fn cut(&mut self, at: Timestamp, attempt: u32, stream: Stream, bytes: &[u8]) {
        let (slot, begun) = (&mut self.partial[stream as usize], &mut self.begun[stream as usize]);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in line.chunks(LONGEST_LINE) {
                let (at, begins) = (begun.unwrap_or(at), begun.is_none());
                let line = slot.get_or_insert_with(|| Line { at, begins, attempt, stream, bytes: Vec::new() });
                line.bytes.extend_from_slice(part);
                let is_whole = part.ends_with(b"\n");
                if is_whole || line.bytes.len() >= LONGEST_LINE {
                    *begun = (!is_whole).then_some(line.at);
                    self.lines.extend(slot.take());
                }
            }
        }
    }
}

impl Place {
    fn is_removed(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        self.index.as_ref().is_none_or(|index| index.metadata().is_ok_and(|meta| meta.nlink() == 0))
    }
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], from + got as u64) {
            Ok(0) => break,
            Ok(length) => got += length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

/// Waits for an Instance's logs to change, in a thread that may block.
#[derive(Debug)]
pub struct Changes {
    logs: PathBuf,
    inotify: OwnedFd,
    watched: bool,
}

impl Changes {
    /// Watches a directory, which need not be there yet. To be made before the reader catches up.
    pub fn watch(logs: &Path) -> io::Result<Changes> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let mut changes = Changes { logs: logs.to_owned(), inotify, watched: false };
        changes.try_watch();
        Ok(changes)
    }

    /// Watches what bears the name now: the directory may have been removed and made again.
    fn try_watch(&mut self) {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE_SELF;
        self.watched = inotify::add_watch(&self.inotify, &self.logs, flags).is_ok();
    }

    /// Returns when something changed (true), when `until` can be read or was hung up, or after `most`. Must not be called
    /// on an async thread.
    pub fn wait(&mut self, most: Duration, until: Option<&OwnedFd>) -> io::Result<bool> {
        // As long as the directory is not there, look for it every now and then.
        let most = if self.watched { most } else { most.min(Duration::from_millis(100)) };
        let timeout = Timespec::try_from(most).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut awaited = vec![PollFd::new(&self.inotify, PollFlags::IN)];
        awaited.extend(until.map(|until| PollFd::new(until, PollFlags::IN)));
        match poll(&mut awaited, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let was_watched = self.watched;
        self.try_watch();
        let (mut events, mut changed) = ([0; 4096], self.watched && !was_watched);
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|length| length > 0) {
            changed = true;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    /// Writes pieces as the logger does, a new segment where `None` stands.
    fn write(logs: &Path, attempt: u32, pieces: &[Option<(Stream, &str)>]) {
        let mut seq = 1;
        let mut lengths = [0u64; 2];
        let path = |seq: u32, suffix: &str| Segment { attempt, seq }.path(logs, suffix);
        let append = |path: PathBuf, bytes: &[u8]| {
            fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
        };
        append(path(seq, "idx"), b"");
        for (time, piece) in pieces.iter().enumerate() {
            match piece {
                None => {
                    (seq, lengths) = (seq + 1, [0; 2]);
                    append(path(seq, "idx"), b"");
                }
                Some((stream, text)) => {
                    let offset = lengths[*stream as usize];
                    lengths[*stream as usize] += text.len() as u64;
                    append(path(seq, stream.suffix()), text.as_bytes());
                    let nanos = 1_000_000_000 * time as i64;
                    let record = Record { nanos, stream: *stream, offset, length: text.len() as u32 };
                    append(path(seq, "idx"), &record.to_bytes());
                }
            }
        }
    }

    fn all(logs: &Path, query: Query) -> Vec<String> {
        let mut reader = Reader::open(logs, query).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            lines.push(line);
        }
        lines.extend(reader.rest());
        lines.into_iter().map(|line| String::from_utf8(line.bytes).unwrap()).collect()
    }

    const OUT: Stream = Stream::Out;
    const ERR: Stream = Stream::Err;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let pieces = [
            Some((OUT, "a\nb")),
            Some((ERR, "x\n")),
            Some((OUT, "b\n")),
            None,
            Some((OUT, "c\nd\n")),
            Some((ERR, "y")),
        ];
        write(dir.path(), 1, &pieces);
        dir
    }

    #[test]
    fn lines_come_whole_and_in_order_across_pieces_and_files() {
        let dir = sample();
        let query = Query::of(Attempts::All);
        assert_eq!(all(dir.path(), query), ["a\n", "x\n", "bb\n", "c\n", "d\n", "y"]);
        assert_eq!(all(dir.path(), Query { stream: Some(ERR), ..query }), ["x\n", "y"]);
        assert_eq!(all(dir.path(), Query { limit_bytes: Some(3), ..query }), ["a\n", "x"]);
        assert_eq!(
            all(dir.path(), Query { since: Some(Timestamp::from_second(1).unwrap()), ..query }),
            ["x\n", "c\n", "d\n", "y"]
        );
    }

    #[test]
    fn a_line_that_began_before_is_passed_over_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let pieces = [
            Some((OUT, "a\nlo")),
            Some((ERR, "x\n")),
            Some((OUT, "ng")),
            None,
            Some((OUT, "er\nb\n")),
            Some((ERR, "y\n")),
            Some((OUT, "c\n")),
        ];
        write(dir.path(), 1, &pieces);
        let since = |second| Query { since: Some(Timestamp::from_second(second).unwrap()), ..Query::of(Attempts::All) };
        for (second, expected) in [
            (0, &["a\n", "x\n", "longer\n", "b\n", "y\n", "c\n"][..]),
            (1, &["x\n", "b\n", "y\n", "c\n"]),
            (2, &["b\n", "y\n", "c\n"]),
            (4, &["b\n", "y\n", "c\n"]),
            (5, &["y\n", "c\n"]),
            (6, &["c\n"]),
            (7, &[]),
        ] {
            assert_eq!(all(dir.path(), since(second)), expected, "{second}");
        }
        let whole = all(dir.path(), since(0));
        for tail in 1..8 {
            let last = whole[whole.len().saturating_sub(tail)..].iter();
            let expected: Vec<_> = last.filter(|line| !["a\n", "longer\n"].contains(&line.as_str())).collect();
            let found = all(dir.path(), Query { tail: Some(tail as u64), ..since(1) });
            assert!(found.iter().eq(expected), "{tail}: {found:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_hides_nothing_that_came_after() {
        let dir = tempfile::tempdir().unwrap();
        // The helper's clock counts pieces; the second attempt begins at 0 again.
        write(dir.path(), 1, &[Some((OUT, "1\n")), Some((OUT, "2\n")), Some((OUT, "3\n"))]);
        write(dir.path(), 2, &[Some((OUT, "4\n")), Some((OUT, "5\n"))]);
        let query = Query { since: Some(Timestamp::from_second(1).unwrap()), ..Query::of(Attempts::All) };
        assert_eq!(all(dir.path(), query), ["5\n"]);
    }

    #[test]
    fn the_tail_is_the_end_of_the_whole() {
        let dir = sample();
        let query = Query::of(Attempts::All);
        let whole = all(dir.path(), query);
        for lines in 1..8 {
            let wanted = whole[whole.len().saturating_sub(lines)..].to_vec();
            assert_eq!(all(dir.path(), Query { tail: Some(lines as u64), ..query }), wanted, "{lines}");
        }
        assert_eq!(all(dir.path(), Query { tail: Some(2), stream: Some(OUT), ..query }), ["c\n", "d\n"]);
    }

    #[test]
    fn a_reader_goes_on_when_more_has_come_and_with_the_next_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path();
        let mut reader = Reader::open(logs, Query::of(Attempts::From(2))).unwrap();
        assert_eq!(reader.next_line().unwrap(), None);
        write(logs, 1, &[Some((OUT, "not this\n"))]);
        write(logs, 2, &[Some((OUT, "one\ntw"))]);
        assert_eq!(reader.next_line().unwrap().unwrap().bytes, b"one\n");
        assert_eq!(reader.next_line().unwrap(), None);
        write(logs, 3, &[Some((OUT, "three\n"))]);
        let more: Vec<_> = std::iter::from_fn(|| reader.next_line().unwrap()).map(|l| (l.attempt, l.bytes)).collect();
        assert_eq!(more, [(2, b"tw".to_vec()), (3, b"three\n".to_vec())]);
        assert_eq!(attempts(logs).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn changes_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = Changes::watch(dir.path()).unwrap();
        fs::write(dir.path().join("1.1.idx"), "x").unwrap();
        changes.wait(Duration::from_secs(3600), None).unwrap();
    }
}
