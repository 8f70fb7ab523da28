//! The form in which an artifact is kept: a tar archive of plain files (POSIX.1-2001), which `tar -x` of any system takes.
//!
//! What is read here was written here, so it is read strictly: plain files with names that lead nowhere else, and nothing beside.

use std::{
    fmt::Write as _,
    io::{self, Read},
};

/// All is in blocks of so many bytes.
const BLOCK: usize = 512;
/// The longest name.
const LONGEST_NAME: usize = 4096;

/// A file in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name, steps with `/` between them.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its owner may execute it.
    pub executable: bool,
    /// When it was last changed, in seconds since 1970.
    pub modified: u64,
}

/// Why something cannot be read as an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It is no archive of ours, or is damaged.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It cannot be read, or what is in it cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What stands before a file's bytes.
pub fn beginning(entry: &Entry) -> Vec<u8> {
    let mut all = Vec::with_capacity(BLOCK);
    let plain = entry.path.len() <= 100 && entry.path.is_ascii();
    if !plain {
        let record = record("path", &entry.path);
        all.extend(header("pax", record.len() as u64, b'x', 0o644, entry.modified));
        all.extend(record.as_bytes());
        all.resize(all.len() + padding(record.len() as u64), 0);
    }
    let name = if plain { entry.path.as_str() } else { "long" };
    let mode = if entry.executable { 0o755 } else { 0o644 };
    all.extend(header(name, entry.size, b'0', mode, entry.modified));
    all
}

/// How many zero bytes stand behind so many bytes of a file.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

/// What stands behind the last file.
pub fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// `27 path=…\n`, its own length first.
fn record(name: &str, value: &str) -> String {
    let rest = name.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length = rest + digits(rest + digits(rest));
    format!("{length} {name}={value}\n")
}

fn header(name: &str, size: u64, kind: u8, mode: u32, modified: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{:011o}", modified.min(0o77_777_777_777)));
    put(148, "        ");
    put(257, "ustar\x0000");
    block[156] = kind;
    let sum = format!("{:06o}\0 ", sum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    block
}

fn sum(block: &[u8; BLOCK]) -> u32 {
    block.iter().map(|byte| u32::from(*byte)).sum()
}

/// Gives each file with its bytes to `each`, which need not read them to their end.
///
/// # Errors
/// If it is no such archive, cannot be read, or `each` fails.
pub fn unpack(
    archive: &mut dyn Read,
    each: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), TarError> {
    let mut long = None;
    loop {
        let mut block = [0; BLOCK];
        archive.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            return match long {
                None => Ok(()),
                Some(_) => Err(TarError::Damaged("a name without a file")),
            };
        }
        let (name, kind, entry) = parse(&block)?;
        match kind {
            b'x' if long.is_none() && entry.size <= 2 * LONGEST_NAME as u64 => {
                let mut text = String::new();
                archive.take(entry.size).read_to_string(&mut text)?;
                skip(archive, padding(entry.size) as u64)?;
                let path = text.split_once(" path=").and_then(|(_, path)| path.strip_suffix('\n'));
                long = Some(path.ok_or(TarError::Damaged("a name that is none"))?.to_owned());
            }
            b'0' => {
                let entry = Entry { path: long.take().unwrap_or(name), ..entry };
                if !leads_down(&entry.path) {
                    return Err(TarError::Damaged("a name that leads elsewhere"));
                }
                let mut bytes = archive.take(entry.size);
                each(&entry, &mut bytes)?;
                let left = bytes.limit();
                skip(archive, left + padding(entry.size) as u64)?;
            }
            _ => return Err(TarError::Damaged("something else than files")),
        }
    }
}

fn skip(archive: &mut dyn Read, bytes: u64) -> Result<(), TarError> {
    match io::copy(&mut archive.take(bytes), &mut io::sink())? == bytes {
        true => Ok(()),
        false => Err(TarError::Damaged("it ends too soon")),
    }
}

fn parse(block: &[u8; BLOCK]) -> Result<(String, u8, Entry), TarError> {
    let mut blank = *block;
    blank[148..156].fill(b' ');
    let number = |from: usize, length: usize| {
        let mut digits = block[from..from + length].iter().take_while(|byte| **byte != 0 && **byte != b' ');
        digits.try_fold(0_u64, |all, byte| match byte {
            b'0'..=b'7' => all.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        })
    };
    if number(148, 8) != Some(u64::from(sum(&blank))) {
        return Err(TarError::Damaged("a sum does not hold"));
    }
    let bad = TarError::Damaged("a number that is none");
    let (Some(mode), Some(size), Some(modified)) = (number(100, 8), number(124, 12), number(136, 12)) else {
        return Err(bad);
    };
    let mut name = String::new();
    for byte in block[..100].iter().take_while(|byte| **byte != 0) {
        let _ = name.write_char(char::from(*byte));
    }
    let entry = Entry { path: String::new(), size, executable: mode & 0o100 != 0, modified };
    Ok((name, block[156], entry))
}

fn leads_down(path: &str) -> bool {
    let good = |step: &str| !matches!(step, "" | "." | "..");
    path.len() <= LONGEST_NAME && !path.contains('\0') && path.split('/').all(good)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(files: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (entry, bytes) in files {
            all.extend(beginning(entry));
            all.extend(bytes);
            all.resize(all.len() + padding(entry.size), 0);
        }
        all.extend(end());
        all
    }

    fn unpacked(mut archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
        let mut files = Vec::new();
        unpack(&mut archive, &mut |entry, bytes| {
            let mut read = Vec::new();
            bytes.read_to_end(&mut read)?;
            files.push((entry.clone(), read));
            Ok(())
        })?;
        Ok(files)
    }

    fn file(path: &str, bytes: &[u8]) -> (Entry, Vec<u8>) {
        let entry =
            Entry { path: path.to_owned(), size: bytes.len() as u64, executable: true, modified: 1_700_000_000 };
        (entry, bytes.to_vec())
    }

    #[test]
    fn names_that_lead_elsewhere_and_archives_that_break_off_are_refused() {
        for path in ["../x", "/x", "a/../b", "a//b", "./a", "a/"] {
            assert!(matches!(unpacked(&packed(&[file(path, b"x")])), Err(TarError::Damaged(_))), "{path}");
        }
        let whole = packed(&[file("a", b"abc"), file("b", b"d")]);
        assert_eq!(unpacked(&whole).unwrap().len(), 2);
        for length in (0..whole.len() - BLOCK).step_by(97) {
            assert!(unpacked(&whole[..length]).is_err(), "{length}");
        }
        let mut damaged = whole;
        damaged[3] = b'z';
        assert!(matches!(unpacked(&damaged), Err(TarError::Damaged("a sum does not hold"))));
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(
            files in prop::collection::vec(("[a-zA-Zä ]{1,60}(/[a-z]{1,60}){0,4}", prop::collection::vec(any::<u8>(), 0..1500)), 0..6),
        ) {
            let files: Vec<_> = files.iter().map(|(path, bytes)| file(path, bytes)).collect();
            prop_assert_eq!(unpacked(&packed(&files)).unwrap(), files);
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = unpacked(&bytes);
        }
    }
}
