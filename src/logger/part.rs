//! Output as one run of bytes in the order in which they came, read from a place on: for clients that ask again and again.
//!
//! A place is the number of bytes before it, until the first file of the attempt is full. From then on it says which file is meant in its upper
//! bits: files that are gone meanwhile move nothing, and nothing before the place is read but the index of one file.

use std::{fs::File, io, path::Path};

use super::{
    files::{RECORD, Record, Segment, records, segments},
    read::{INDEX_CHUNK, read_at},
};

/// Where in a place the number of the file begins. A file is shorter, and JavaScript's numbers can hold it.
const FILE: u32 = 40;

/// A part of an attempt's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What was written from the place on.
    pub bytes: Vec<u8>,
    /// The place after it.
    pub next: u64,
}

/// At most so many bytes from a place on. What was there before the oldest file that is kept is passed over.
pub fn part(logs: &Path, attempt: u32, from: u64, most: usize) -> io::Result<Part> {
    let mut found = Part { bytes: Vec::new(), next: from };
    for segment in segments(logs)?.into_iter().filter(|segment| segment.attempt == attempt) {
        let file = u64::from(segment.seq.saturating_sub(1));
        if file < found.next >> FILE {
            continue;
        }
        let before = if file == found.next >> FILE { found.next & ((1 << FILE) - 1) } else { 0 };
        let read = Reading { logs, segment, streams: [None, None] }.take(before, most, &mut found.bytes)?;
        // An empty file says nothing new of the place.
        if read > before || file == found.next >> FILE {
            found.next = file << FILE | read.max(before);
        }
        if found.bytes.len() >= most {
            break;
        }
    }
    Ok(found)
}

/// The place after all that an attempt has written so far.
pub fn end(logs: &Path, attempt: u32) -> io::Result<u64> {
    let Some(last) = segments(logs)?.into_iter().rfind(|segment| segment.attempt == attempt) else {
        return Ok(0);
    };
    let read = Reading { logs, segment: last, streams: [None, None] }.take(u64::MAX, 0, &mut Vec::new())?;
    Ok(u64::from(last.seq.saturating_sub(1)) << FILE | read)
}

/// One file of an attempt, which is two.
struct Reading<'a> {
    logs: &'a Path,
    segment: Segment,
    streams: [Option<File>; 2],
}

impl Reading<'_> {
    /// Adds what comes after so many bytes, and tells how many there are then.
    fn take(mut self, before: u64, most: usize, into: &mut Vec<u8>) -> io::Result<u64> {
        let index = match File::open(self.segment.path(self.logs, "idx")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(before),
            index => index?,
        };
        let (mut place, mut passed, mut chunk) = (0, 0u64, vec![0; INDEX_CHUNK]);
        loop {
            let length = read_at(&index, &mut chunk, place)? / RECORD * RECORD;
            if length == 0 {
                return Ok(passed);
            }
            place += length as u64;
            for record in records(&chunk[..length]) {
                let end = passed + u64::from(record.length);
                if end > before {
                    let skipped = before.saturating_sub(passed);
                    let taken = self.piece(record, skipped, most - into.len(), into)?;
                    if into.len() >= most {
                        return Ok(passed + skipped + taken);
                    }
                }
                passed = end;
            }
        }
    }

    fn piece(&mut self, record: Record, skipped: u64, most: usize, into: &mut Vec<u8>) -> io::Result<u64> {
        let Record { stream, offset, length, .. } = record;
        let wanted = usize::try_from(u64::from(length) - skipped).unwrap_or(usize::MAX).min(most);
        let slot = &mut self.streams[stream as usize];
        let file = match slot {
            Some(file) => file,
            None => slot.insert(File::open(self.segment.path(self.logs, stream.suffix()))?),
        };
        let start = into.len();
        into.resize(start + wanted, 0);
        let read = read_at(file, &mut into[start..], offset + skipped)?;
        into.truncate(start + read);
        Ok(read as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::logger::files::Stream;

    /// A file of an attempt, of pieces as they came.
    fn write(logs: &Path, seq: u32, pieces: &[(Stream, &str)]) {
        fs::create_dir_all(logs).expect("made");
        let (mut index, mut texts) = (Vec::new(), [String::new(), String::new()]);
        for (stream, text) in pieces {
            let whole = &mut texts[*stream as usize];
            let record = Record { nanos: 0, stream: *stream, offset: whole.len() as u64, length: text.len() as u32 };
            whole.push_str(text);
            index.extend(record.to_bytes());
        }
        let segment = Segment { attempt: 1, seq };
        fs::write(segment.path(logs, "idx"), index).expect("written");
        for stream in Stream::ALL {
            fs::write(segment.path(logs, stream.suffix()), &texts[stream as usize]).expect("written");
        }
    }

    fn read(logs: &Path, from: u64, most: usize) -> (String, u64) {
        let part = part(logs, 1, from, most).expect("read");
        (String::from_utf8(part.bytes).expect("text"), part.next)
    }

    #[test]
    fn both_streams_come_in_the_order_in_which_they_were_written() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path(), 0, 100), (String::new(), 0));
        write(dir.path(), 1, &[(Stream::Out, "ab"), (Stream::Err, "CD\n"), (Stream::Out, "ef\n")]);
        for (from, most, expected) in [
            (0, 100, ("abCD\nef\n", 8)),
            (1, 100, ("bCD\nef\n", 8)),
            (3, 3, ("D\ne", 6)),
            (0, 2, ("ab", 2)),
            (8, 100, ("", 8)),
            (99, 100, ("", 99)),
        ] {
            assert_eq!(read(dir.path(), from, most), (expected.0.to_owned(), expected.1), "{from} {most}");
        }
    }

    #[test]
    fn a_place_stays_where_it_is_when_older_files_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let third = 2 << FILE;
        write(dir.path(), 1, &[(Stream::Out, "first")]);
        write(dir.path(), 2, &[(Stream::Out, "second")]);
        write(dir.path(), 3, &[(Stream::Out, "third")]);
        assert_eq!(read(dir.path(), 2, 100), ("rstsecondthird".to_owned(), third + 5));
        assert_eq!(read(dir.path(), 2, 5), ("rstse".to_owned(), (1 << FILE) + 2));
        for seq in [1, 2] {
            fs::remove_file(Segment { attempt: 1, seq }.path(dir.path(), "idx")).expect("removed");
        }
        assert_eq!(read(dir.path(), third + 2, 100), ("ird".to_owned(), third + 5));
        assert_eq!(read(dir.path(), 2, 100), ("third".to_owned(), third + 5));
        assert_eq!((end(dir.path(), 1).expect("read"), end(dir.path(), 2).expect("read")), (third + 5, 0));
    }
}
