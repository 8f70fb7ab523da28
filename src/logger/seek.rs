//! Where to begin reading. Found from the end, so that a question about the last minute costs the last minute, however
//! much is kept.

use std::{fs::File, io, path::Path};

use jiff::Timestamp;

use super::{
    files::{RECORD, Record, Segment, Stream},
    read::{INDEX_CHUNK, read_at},
};

/// The records of an index, the last one first, each with its position. A chunk of the index is in memory at a time.
struct Backwards {
    index: File,
    /// What lies before the chunk.
    left: u64,
    chunk: Vec<u8>,
}

impl Backwards {
    /// None if there is no such index.
    fn open(logs: &Path, segment: Segment) -> io::Result<Option<Self>> {
        let index = match File::open(segment.path(logs, "idx")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            index => index?,
        };
        let left = index.metadata()?.len() / RECORD as u64 * RECORD as u64;
        Ok(Some(Self { index, left, chunk: Vec::new() }))
    }

    fn next(&mut self) -> io::Result<Option<(u64, Record)>> {
        if self.chunk.is_empty() {
            let length = self.left.min(INDEX_CHUNK as u64);
            self.left -= length;
            self.chunk.resize(usize::try_from(length).expect("a chunk is small"), 0);
            let got = read_at(&self.index, &mut self.chunk, self.left)? / RECORD * RECORD;
            self.chunk.truncate(got);
        }
        let Some((before, last)) = self.chunk.split_last_chunk::<RECORD>() else { return Ok(None) };
        let (at, record) = (before.len(), Record::from_bytes(last));
        self.chunk.truncate(at);
        Ok(Some((self.left + at as u64, record)))
    }
}

/// Where each stream must be begun so that `lines` lines come out.
pub(super) fn tail(
    logs: &Path,
    wanted: &[Segment],
    only: Option<Stream>,
    lines: u64,
) -> io::Result<[Option<(Segment, u64)>; 2]> {
    let mut start = [None; 2];
    let mut seen = [false; 2];
    let (mut counted, mut cut) = (0, false);
    for segment in wanted.iter().rev() {
        let Some(mut records) = Backwards::open(logs, *segment)? else { continue };
        let files = Stream::ALL.map(|stream| File::open(segment.path(logs, stream.suffix())).ok());
        let is_open = |start: &[Option<_>; 2], stream: Stream| {
            start[stream as usize].is_none() && only.is_none_or(|one| one == stream)
        };
        // A stream without a file has nothing to say here.
        let is_sought =
            |start: &[Option<_>; 2]| Stream::ALL.iter().any(|s| is_open(start, *s) && files[*s as usize].is_some());
        while is_sought(&start)
            && let Some((_, record)) = records.next()?
        {
            let slot = record.stream as usize;
            let Some(file) = files[slot].as_ref().filter(|_| is_open(&start, record.stream)) else { continue };
            let mut bytes = vec![0; record.length as usize];
            let length = read_at(file, &mut bytes, record.offset)?;
            // A part of a line at the very end counts as a line.
            if !std::mem::replace(&mut seen[slot], true) && bytes[..length].last().is_some_and(|byte| *byte != b'\n') {
                counted += 1;
            }
            for at in (0..length).rev().filter(|at| bytes[*at] == b'\n') {
                if cut || counted >= lines {
                    cut = true;
                    start[slot] = Some((*segment, record.offset + at as u64 + 1));
                    break;
                }
                counted += 1;
            }
        }
        if !Stream::ALL.iter().any(|stream| is_open(&start, *stream)) {
            break;
        }
    }
    Ok(start)
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beginning {
    pub segment: Segment,
    /// Of the index.
    pub position: u64,
    /// True where a stream is in the middle of a line there, which began before.
    pub inside: [bool; 2],
}

/// The place after the last piece that is older than `since`. The clock may have been set back meanwhile: then it is what
/// came after that. `start` is where a stream is begun at the earliest, at the beginning of a line.
pub(super) fn since(
    logs: &Path,
    wanted: &[Segment],
    start: [Option<(Segment, u64)>; 2],
    since: Timestamp,
) -> io::Result<Option<Beginning>> {
    let since =
        i64::try_from(since.as_nanosecond()).unwrap_or(if since < Timestamp::UNIX_EPOCH { 0 } else { i64::MAX });
    let mut place = None;
    let mut newer: [Option<(Segment, u64)>; 2] = [None; 2];
    'segments: for segment in wanted.iter().rev() {
        let Some(mut records) = Backwards::open(logs, *segment)? else { continue };
        place = place.or(Some((*segment, records.left)));
        while let Some((position, record)) = records.next()? {
            if record.nanos < since {
                break 'segments;
            }
            newer[record.stream as usize] = Some((*segment, record.offset));
            place = Some((*segment, position));
        }
    }
    let Some((segment, position)) = place else { return Ok(None) };
    let mut inside = [false; 2];
    for stream in Stream::ALL {
        let (newer, start) = (newer[stream as usize], start[stream as usize]);
        if newer.is_some() && start >= newer {
            continue;
        }
        // A stream that has said nothing since may yet go on with the line that it began.
        inside[stream as usize] = is_inside(logs, wanted, stream, newer)?;
    }
    Ok(Some(Beginning { segment, position, inside }))
}

/// Whether the byte before this place of a stream (or its last byte) leaves a line unfinished.
fn is_inside(logs: &Path, wanted: &[Segment], stream: Stream, place: Option<(Segment, u64)>) -> io::Result<bool> {
    for segment in wanted.iter().rev() {
        if place.is_some_and(|(of, _)| segment.attempt != of.attempt || *segment > of) {
            continue;
        }
        let Ok(file) = File::open(segment.path(logs, stream.suffix())) else { continue };
        let end = match place {
            Some((of, offset)) if of == *segment => offset,
            _ => file.metadata()?.len(),
        };
        let mut byte = [0];
        if end > 0 && read_at(&file, &mut byte, end - 1)? == 1 {
            return Ok(byte != [b'\n']);
        }
    }
    Ok(false)
}
