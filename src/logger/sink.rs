//! Where one attempt's output goes: the current segment, its index, and rotation.
//!
//! Bytes are spliced from the FIFO into the file at the position that the file's own length gives, and the index record
//! is written after them. So whatever is killed when, a byte is either in the FIFO or in the file; a successor finds the
//! bytes without a record (at most one piece) by comparing lengths, and writes the record.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::pipe::{SpliceFlags, splice};

use super::{
    files::{RECORD, Record, Segment, Stream, records, segments},
    record::Piece,
};
use crate::drivers::LogLimits;

/// The most that is moved at once; also the largest FIFO that an unprivileged process may have.
pub(super) const PIECE: usize = 1 << 20;

/// What became of an attempt to move bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// So many bytes.
    Some(usize),
    /// There are none now.
    NotYet,
    /// There are none, and nobody is left who could write any.
    End,
}

/// What is about to be written: when the index of that segment is so long, it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Intent {
    pub seq: u32,
    pub index: u64,
}

/// The files of one segment.
#[derive(Debug)]
struct Open {
    index: File,
    index_length: u64,
    /// Opened when the first byte comes.
    streams: [Option<File>; 2],
}

/// Where one attempt's output goes.
#[derive(Debug)]
pub(super) struct Sink {
    logs: PathBuf,
    segment: Segment,
    limits: LogLimits,
    lengths: [u64; 2],
    /// None while the attempt is quiet and descriptors are scarce, and before the first byte.
    open: Option<Open>,
    /// True while there may be bytes without a record: nothing is added before they have theirs.
    broken: bool,
    /// The last piece that can be made again: if its record is not there, neither are its bytes.
    intended: Option<Intent>,
}

impl Sink {
    /// Goes on where an earlier logger was, if there was one, which was about to do what is intended.
    pub(super) fn new(logs: PathBuf, attempt: u32, limits: LogLimits, intended: Option<Intent>) -> io::Result<Sink> {
        let last = segments(&logs)?.into_iter().rfind(|segment| segment.attempt == attempt);
        let segment = last.unwrap_or(Segment { attempt, seq: 1 });
        let mut sink = Sink { logs, segment, limits, lengths: [0; 2], open: None, broken: last.is_some(), intended };
        sink.mend()?;
        Ok(sink)
    }

    pub(super) fn set_limits(&mut self, limits: LogLimits) {
        self.limits = limits;
    }

    /// True if there is a file for this stream in the current segment, and room in it.
    pub(super) fn has_room(&self, stream: Stream) -> bool {
        self.lengths.iter().sum::<u64>() < self.limits.max_size
            && self.open.as_ref().is_some_and(|open| open.streams[stream as usize].is_some())
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Lets go of the files; they are opened again when they are needed.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// How much the current segment may take; if it is full, another one is begun.
    pub(super) fn room(&mut self) -> io::Result<u64> {
        self.mend()?;
        if self.open.as_ref().is_some_and(Open::is_removed) {
            self.begin_anew()?;
        }
        let total: u64 = self.lengths.iter().sum();
        if total >= self.limits.max_size && total > 0 {
            self.rotate()?;
        }
        let total: u64 = self.lengths.iter().sum();
        Ok(self.limits.max_size.saturating_sub(total))
    }

    /// Whether what was intended was done.
    pub(super) fn is_done(&mut self, intent: Intent) -> io::Result<bool> {
        if intent.seq != self.segment.seq {
            // A segment is left only when everything in it is done.
            return Ok(true);
        }
        let length = match fs::metadata(self.segment.path(&self.logs, "idx")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            meta => meta?.size(),
        };
        Ok(length / RECORD as u64 * RECORD as u64 >= intent.index)
    }

    /// Writes bytes and their record, after `intend` has noted down what is about to be. Whatever fails or is killed, either
    /// both are there or, when the sink is mended, neither.
    pub(super) fn put_surely(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        now: Timestamp,
        intend: impl FnOnce(Intent) -> io::Result<()>,
    ) -> io::Result<()> {
        self.room()?;
        self.open_stream(stream)?;
        let offset = self.lengths[stream as usize];
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let intent = Intent { seq: self.segment.seq, index: self.opened()?.index_length + RECORD as u64 };
        intend(intent)?;
        self.intended = Some(intent);
        let file = self.open.as_ref().and_then(|open| open.streams[stream as usize].as_ref());
        file.expect("it was opened just now").write_all_at(bytes, offset)?;
        self.lengths[stream as usize] += u64::from(length);
        self.record(Record { nanos: nanos(now), stream, offset, length })
    }

    /// Moves what is in the FIFO, at most one piece.
    pub(super) fn take(&mut self, fifo: &OwnedFd, stream: Stream, now: Timestamp) -> io::Result<Moved> {
        let room = usize::try_from(self.room()?).unwrap_or(PIECE).clamp(1, PIECE);
        self.open_stream(stream)?;
        let offset = self.lengths[stream as usize];
        let file = self.open.as_ref().and_then(|open| open.streams[stream as usize].as_ref());
        let file = file.expect("it was opened just now");
        let mut position = offset;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let length = match splice(fifo, None, file, Some(&mut position), room, flags) {
            Ok(0) => return Ok(Moved::End),
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Moved::NotYet),
            Err(e) => return Err(e.into()),
        };
        self.lengths[stream as usize] += length as u64;
        let length32 = u32::try_from(length).expect("a piece is at most 1 MiB");
        self.record(Record { nanos: nanos(now), stream, offset, length: length32 })?;
        Ok(Moved::Some(length))
    }

    /// Writes pieces that have their times already: as many as belong into one file at once, bytes first, records second.
    pub(super) fn put(&mut self, mut pieces: &[Piece]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(Open::is_removed) {
            self.begin_anew()?;
        }
        while !pieces.is_empty() {
            let mut total: u64 = self.lengths.iter().sum();
            if total >= self.limits.max_size && total > 0 {
                self.rotate()?;
                total = 0;
            }
            let fits = pieces.iter().take_while(|piece| {
                let before = total;
                total += piece.bytes.len() as u64;
                before < self.limits.max_size
            });
            let (now, later) = pieces.split_at(fits.count().max(1));
            self.put_here(now)?;
            pieces = later;
        }
        Ok(())
    }

    fn put_here(&mut self, pieces: &[Piece]) -> io::Result<()> {
        for stream in Stream::ALL.into_iter().filter(|stream| pieces.iter().any(|piece| piece.stream == *stream)) {
            self.open_stream(stream)?;
        }
        let mut lengths = self.lengths;
        let mut bytes = [Vec::new(), Vec::new()];
        let mut index = Vec::with_capacity(pieces.len() * RECORD);
        for piece in pieces {
            let slot = piece.stream as usize;
            let length = u32::try_from(piece.bytes.len()).map_err(io::Error::other)?;
            let record = Record { nanos: piece.nanos, stream: piece.stream, offset: lengths[slot], length };
            index.extend_from_slice(&record.to_bytes());
            bytes[slot].extend_from_slice(&piece.bytes);
            lengths[slot] += u64::from(length);
        }
        for (stream, bytes) in Stream::ALL.into_iter().zip(bytes).filter(|(_, bytes)| !bytes.is_empty()) {
            let offset = self.lengths[stream as usize];
            let file = self.open.as_ref().and_then(|open| open.streams[stream as usize].as_ref());
            file.expect("it was opened above").write_all_at(&bytes, offset)?;
        }
        let open = self.opened()?;
        open.index.write_all_at(&index, open.index_length)?;
        open.index_length += index.len() as u64;
        self.lengths = lengths;
        Ok(())
    }

    fn open_stream(&mut self, stream: Stream) -> io::Result<()> {
        let path = self.segment.path(&self.logs, stream.suffix());
        let slot = &mut self.opened()?.streams[stream as usize];
        if slot.is_none() {
            let file = open_to_write(&path)?;
            let length = file.metadata()?.size();
            *slot = Some(file);
            // Shorter than it was left: it was removed while it was closed.
            let known = &mut self.lengths[stream as usize];
            *known = length.min(*known);
        }
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        if self.open.is_none() {
            let path = self.segment.path(&self.logs, "idx");
            if self.segment.seq == 1 && self.lengths == [0; 2] {
                self.trim()?;
            }
            let index = open_to_write(&path)?;
            let whole = index.metadata()?.size() / RECORD as u64 * RECORD as u64;
            self.open = Some(Open { index, index_length: whole, streams: [None, None] });
        }
        Ok(self.open.as_mut().expect("it was filled just now"))
    }

    /// A full disk may cut a record short; it is written at a position, so the next try covers the stump.
    fn record(&mut self, record: Record) -> io::Result<()> {
        let open = self.opened()?;
        open.index.write_all_at(&record.to_bytes(), open.index_length)?;
        open.index_length += RECORD as u64;
        Ok(())
    }

    /// Something could not be written: what is on disk must be looked at before more is added.
    pub(super) fn broke(&mut self) {
        (self.open, self.broken) = (None, true);
    }

    /// Finds the lengths, and writes records for bytes that have none: a logger was killed, or its disk full, between
    /// the two. Bytes that will be made again are cut off instead.
    fn mend(&mut self) -> io::Result<()> {
        if !self.broken {
            return Ok(());
        }
        let index = match fs::read(self.segment.path(&self.logs, "idx")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            index => index?,
        };
        let mut indexed = [0; 2];
        for record in records(&index) {
            indexed[record.stream as usize] = record.offset + u64::from(record.length);
        }
        let whole = (index.len() / RECORD * RECORD) as u64;
        if self.intended.is_some_and(|intent| intent.seq == self.segment.seq && whole < intent.index) {
            self.cut(indexed)?;
        }
        let found = Stream::ALL.map(|stream| fs::metadata(self.segment.path(&self.logs, stream.suffix())).ok());
        self.lengths = found.each_ref().map(|meta| meta.as_ref().map_or(0, MetadataExt::size));
        for (stream, meta) in Stream::ALL.into_iter().zip(found) {
            let Some(meta) = meta else { continue };
            let mut offset = indexed[stream as usize];
            while offset < meta.size() {
                let length = u32::try_from((meta.size() - offset).min(PIECE as u64)).expect("a piece is small");
                let nanos = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
                self.record(Record { nanos, stream, offset, length })?;
                offset += u64::from(length);
            }
        }
        self.broken = false;
        Ok(())
    }

    fn cut(&self, lengths: [u64; 2]) -> io::Result<()> {
        for stream in Stream::ALL {
            match OpenOptions::new().write(true).open(self.segment.path(&self.logs, stream.suffix())) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                file => file?.set_len(lengths[stream as usize])?,
            }
        }
        Ok(())
    }

    /// Somebody removed files that are written to. What was in them is gone; the rest goes into files of the next number,
    /// so that a reader that was here finds them.
    fn begin_anew(&mut self) -> io::Result<()> {
        self.open = None;
        let last = segments(&self.logs)?.into_iter().rfind(|segment| segment.attempt == self.segment.attempt);
        self.segment.seq = self.segment.seq.max(last.map_or(0, |last| last.seq)) + 1;
        self.lengths = [0; 2];
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        self.segment.seq += 1;
        self.lengths = [0; 2];
        self.opened()?;
        let kept = segments(&self.logs)?;
        let surplus = kept.len().saturating_sub(self.limits.max_files.max(1) as usize);
        for old in kept.into_iter().take(surplus).filter(|old| *old < self.segment) {
            remove(&self.logs, old);
        }
        Ok(())
    }

    /// Makes room for a new attempt's first file.
    fn trim(&self) -> io::Result<()> {
        let kept = segments(&self.logs)?;
        let others = kept.into_iter().filter(|segment| segment.attempt < self.segment.attempt).collect::<Vec<_>>();
        let surplus = (others.len() + 1).saturating_sub(self.limits.max_files.max(1) as usize);
        others.into_iter().take(surplus).for_each(|old| remove(&self.logs, old));
        Ok(())
    }
}

impl Open {
    /// True if any of the files has no name any more.
    fn is_removed(&self) -> bool {
        let files = std::iter::once(&self.index).chain(self.streams.iter().flatten());
        files.into_iter().any(|file| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0))
    }
}

/// Makes the directory again if somebody removed it, unless that of the Instance is gone too.
fn open_to_write(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    match (open(), path.parent()) {
        (Err(e), Some(logs)) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(logs)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// The index last: as long as it is there, the segment is found and its removal can be finished.
fn remove(logs: &Path, old: Segment) {
    for suffix in ["out", "err", "idx"] {
        // Not there (nothing came on that stream), or stuck: then it is tried again with the next rotation.
        let _ = fs::remove_file(old.path(logs, suffix));
    }
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}
