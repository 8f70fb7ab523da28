//! Values that a process asked to have hidden after it had printed them (`::add-mask::`): they are overwritten where they stand, byte for byte,
//! so that index and lengths stay what they are. Of an attempt that has ended and whose output is on disk; who read it before
//! has seen them.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::libc;

use super::files::{Stream, segments};
use crate::policy::redact::Redactor;

/// So much is looked at at once.
const CHUNK: usize = 4 << 20;
/// The longest value that is found across the border of two chunks.
const OVERLAP: usize = 128 << 10;

/// Overwrites what the redactor finds in the output of an attempt.
///
/// # Errors
/// If its files cannot be read or written.
pub fn veil(logs: &Path, attempt: u32, redactor: &Redactor) -> io::Result<()> {
    for segment in segments(logs)?.into_iter().filter(|segment| segment.attempt == attempt) {
        for stream in Stream::ALL {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
            match file.open(segment.path(logs, stream.suffix())) {
                Ok(file) => veil_file(&file, redactor)?,
                // It was rotated away, or nothing was written to that stream.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn veil_file(file: &std::fs::File, redactor: &Redactor) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
    let mut at = 0;
    while at < length {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            break;
        }
        for place in redactor.places(&chunk[..read]) {
            file.write_all_at(&vec![b'*'; place.len()], at + place.start as u64)?;
        }
        at += if at + (read as u64) < length { (read.saturating_sub(OVERLAP)).max(1) } else { read } as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_overwritten_where_they_stand_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new([b"hunter2!".as_slice()]).unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        let mut long = vec![b'x'; CHUNK - 3];
        long.extend(b"hunter2! and hunter2!\n");
        write("1.0.out", &long);
        write("1.0.err", b"a hunter2!");
        write("1.0.idx", b"");
        write("2.0.out", b"hunter2!");
        write("2.0.idx", b"");
        veil(dir.path(), 1, &redactor).unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let shown = read("1.0.out");
        assert_eq!((shown.len(), &shown[CHUNK - 5..]), (long.len(), &b"xx******** and ********\n"[..]));
        assert_eq!((read("1.0.err"), read("2.0.out")), (b"a ********".to_vec(), b"hunter2!".to_vec()));
        veil(&dir.path().join("none"), 1, &redactor).unwrap();
    }
}
