//! The end of what an attempt wrote, at a cost that does not grow with how much that was.

use std::{fs::File, io, path::Path};

use super::{
    files::{RECORD, Record, Stream, records, segments},
    read::read_at,
};

/// The last bytes of an attempt on both streams, in the order in which they came: at most so many bytes and lines, from the
/// beginning of a line on if there is one.
pub fn tail(logs: &Path, attempt: u32, most: usize, lines: usize) -> io::Result<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    // One byte more tells whether anything is left out.
    let mut wanted = most + 1;
    for segment in segments(logs)?.into_iter().rev().filter(|segment| segment.attempt == attempt) {
        let open = |suffix: &str| File::open(segment.path(logs, suffix));
        let index = open("idx")?;
        let streams = Stream::ALL.map(|stream| open(stream.suffix()).ok());
        let mut end = index.metadata()?.len() / RECORD as u64;
        while wanted > 0 && end > 0 {
            // Each piece has a byte at least.
            let count = end.min(wanted as u64);
            end -= count;
            let mut chunk = vec![0; usize::try_from(count).expect("not more than is wanted") * RECORD];
            let length = read_at(&index, &mut chunk, end * RECORD as u64)?;
            for Record { stream, offset, length, .. } in records(&chunk[..length]).rev() {
                let Some(file) = &streams[stream as usize] else { continue };
                let taken = wanted.min(length as usize);
                let mut bytes = vec![0; taken];
                let got = read_at(file, &mut bytes, offset + (length as usize - taken) as u64)?;
                bytes.truncate(got);
                wanted -= taken;
                pieces.push(bytes);
            }
        }
    }
    pieces.reverse();
    let mut all = pieces.concat();
    if all.len() > most {
        let from = all.len() - most;
        let line = all[from - 1..].iter().position(|byte| *byte == b'\n').filter(|at| from + at < all.len());
        all.drain(..from + line.unwrap_or(0));
    }
    let whole = all.strip_suffix(b"\n").unwrap_or(&all);
    let cut = whole.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines.saturating_sub(1));
    if let Some((at, _)) = cut {
        all.drain(..=at);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(logs: &Path, name: &str, pieces: &[(Stream, &str)]) {
        let (mut index, mut streams) = (Vec::new(), [Vec::new(), Vec::new()]);
        for (nanos, (stream, text)) in (0..).zip(pieces) {
            let file = &mut streams[*stream as usize];
            let length = u32::try_from(text.len()).unwrap();
            index.extend(Record { nanos, stream: *stream, offset: file.len() as u64, length }.to_bytes());
            file.extend(text.bytes());
        }
        fs::write(logs.join(format!("{name}.idx")), index).unwrap();
        for stream in Stream::ALL {
            fs::write(logs.join(format!("{name}.{}", stream.suffix())), &streams[stream as usize]).unwrap();
        }
    }

    #[test]
    fn the_end_is_found_over_streams_and_files_and_of_that_attempt_alone() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "1.0", &[(Stream::Out, "other\n")]);
        write(dir.path(), "2.0", &[(Stream::Out, "one\ntwo\n"), (Stream::Err, "three\n")]);
        write(dir.path(), "2.1", &[(Stream::Err, "four\n"), (Stream::Out, "five")]);
        for (most, lines, end) in [
            (100, 100, "one\ntwo\nthree\nfour\nfive"),
            (100, 3, "three\nfour\nfive"),
            (100, 1, "five"),
            (23, 100, "one\ntwo\nthree\nfour\nfive"),
            (22, 100, "two\nthree\nfour\nfive"),
            (12, 100, "four\nfive"),
            (9, 100, "four\nfive"),
            (2, 100, "ve"),
        ] {
            let told = tail(dir.path(), 2, most, lines).unwrap();
            assert_eq!(String::from_utf8(told).unwrap(), end, "{most} bytes, {lines} lines");
        }
        assert_eq!(tail(dir.path(), 3, 9, 9).unwrap(), b"");
        assert_eq!(tail(&dir.path().join("none"), 3, 9, 9).unwrap(), b"");
    }
}
