//! The names and the index of log files: `logs/<attempt>.<seq>.{out,err,idx}` in an Instance's directory.
//!
//! `out` and `err` hold the bytes as they came, apart. `idx` tells in which order and when: one record of 24 bytes per
//! piece that was moved, written after the piece. Little-endian: nanoseconds since 1970 (`i64`), offset in its file
//! (`u64`, highest bit: standard error), length (`u32`), zero (`u32`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// Both.
    pub const ALL: [Stream; 2] = [Stream::Out, Stream::Err];

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Stream::Out => "out",
            Stream::Err => "err",
        }
    }
}

/// One log file of an Instance: files are ordered by attempt, then by number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub attempt: u32,
    pub seq: u32,
}

impl Segment {
    pub(super) fn path(self, logs: &Path, suffix: &str) -> PathBuf {
        logs.join(format!("{}.{}.{suffix}", self.attempt, self.seq))
    }

    fn parse(name: &str) -> Option<Segment> {
        let mut parts = name.strip_suffix(".idx")?.split('.');
        let segment = Segment { attempt: parts.next()?.parse().ok()?, seq: parts.next()?.parse().ok()? };
        parts.next().is_none().then_some(segment)
    }
}

/// All segments of a directory, oldest first. A directory that is not there has none.
pub(super) fn segments(logs: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(logs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(Segment::parse));
    }
    found.sort_unstable();
    Ok(found)
}

/// One piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub nanos: i64,
    pub stream: Stream,
    pub offset: u64,
    pub length: u32,
}

/// Its size in the file.
pub(super) const RECORD: usize = 24;
const ERR: u64 = 1 << 63;

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD] {
        let marked = match self.stream {
            Stream::Out => self.offset,
            Stream::Err => self.offset | ERR,
        };
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.nanos.to_le_bytes());
        bytes[8..16].copy_from_slice(&marked.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; RECORD]) -> Record {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let marked = word(8);
        Record {
            nanos: word(0).cast_signed(),
            stream: if marked & ERR == 0 { Stream::Out } else { Stream::Err },
            offset: marked & !ERR,
            length: u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")),
        }
    }
}

/// The whole records in some bytes.
pub(super) fn records(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Record> {
    bytes.as_chunks::<RECORD>().0.iter().map(Record::from_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(nanos: i64, err: bool, offset in 0..ERR, length: u32) {
            let stream = if err { Stream::Err } else { Stream::Out };
            let record = Record { nanos, stream, offset, length };
            prop_assert_eq!(records(&record.to_bytes()).next(), Some(record));
        }
    }

    #[test]
    fn segments_are_ordered_by_number_and_strangers_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.1.idx", "2.10.idx", "2.9.idx", "2.9.out", "x.idx", "1.idx", "1.2.3.idx"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found: Vec<_> = segments(dir.path()).unwrap().into_iter().map(|s| (s.attempt, s.seq)).collect();
        assert_eq!(found, [(2, 9), (2, 10), (10, 1)]);
        assert!(segments(&dir.path().join("none")).unwrap().is_empty());
    }
}
