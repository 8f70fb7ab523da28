//! The form in which an artifact is kept: a tar archive of plain files, which `tar -x` of any system takes.
//!
//! The crate knows the form. What is read here was written here, so it is read strictly: plain files with names that lead nowhere else, and
//! nothing beside; and names are bounded, whatever an archive says of their length.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    str,
};

use tar::{Archive, Builder, EntryType, Header, PaxExtensions};

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

/// Writes an archive, file by file.
pub struct Packer<W: Write>(Builder<W>);

impl<W: Write> Packer<W> {
    /// An archive without files.
    pub fn begin(out: W) -> Self {
        Self(Builder::new(out))
    }

    /// Adds a file; what there is beyond its size is left.
    ///
    /// # Errors
    /// If it is shorter, cannot be read, or the archive cannot be written.
    pub fn add(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(entry.size);
        header.set_mode(if entry.executable { 0o755 } else { 0o644 });
        header.set_mtime(entry.modified);
        let mut bytes = bytes.take(entry.size);
        self.0.append_data(&mut header, &entry.path, &mut bytes)?;
        match bytes.limit() {
            0 => Ok(()),
            _ => Err(io::Error::other("it grew shorter while it was read")),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

/// Gives each file with its bytes to `each`, which need not read them to their end.
///
/// # Errors
/// If it is no such archive, cannot be read, or `each` fails.
pub fn unpack(
    archive: &mut dyn Read,
    each: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), TarError> {
    let over = Cell::new(false);
    let mut archive = Archive::new(Watched { archive, over: &over });
    let mut long: Option<String> = None;
    // Raw: whoever asks for names as they are meant gets as much in memory as the archive says that they are long.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let header = entry.header().clone();
        match header.entry_type() {
            EntryType::GNULongName | EntryType::XHeader
                if long.is_none() && entry.size() <= 2 * LONGEST_NAME as u64 =>
            {
                let mut text = Vec::new();
                entry.read_to_end(&mut text)?;
                long = Some(long_name(&header, &text).ok_or(TarError::Damaged("a name that is none"))?);
            }
            EntryType::Regular => {
                let name = || String::from_utf8(header.path_bytes().into_owned()).ok();
                let path = long.take().or_else(name).filter(|path| leads_down(path));
                let path = path.ok_or(TarError::Damaged("a name that leads elsewhere"))?;
                let executable = header.mode()? & 0o100 != 0;
                let file = Entry { path, size: entry.size(), executable, modified: header.mtime()? };
                each(&file, &mut entry)?;
            }
            _ => return Err(TarError::Damaged("something else than files")),
        }
    }
    match long {
        Some(_) => Err(TarError::Damaged("a name without a file")),
        None if over.get() => Err(TarError::Damaged("it ends too soon")),
        None => Ok(()),
    }
}

/// Notes that the archive is over; it has a last block that says so, after which nothing is read.
struct Watched<'a> {
    archive: &'a mut dyn Read,
    over: &'a Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.archive.read(buffer)?;
        self.over.set(self.over.get() || read == 0 && !buffer.is_empty());
        Ok(read)
    }
}

/// The name of the file that follows, in GNU's way or in that of POSIX.
fn long_name(header: &Header, text: &[u8]) -> Option<String> {
    let name = match header.entry_type() {
        EntryType::GNULongName => text.strip_suffix(b"\0").unwrap_or(text),
        _ => {
            let mut all = PaxExtensions::new(text).filter_map(Result::ok);
            all.find(|extension| extension.key_bytes() == b"path")?.value_bytes()
        }
    };
    str::from_utf8(name).ok().map(str::to_owned)
}

fn leads_down(path: &str) -> bool {
    let good = |step: &str| !matches!(step, "" | "." | "..");
    path.len() <= LONGEST_NAME && !path.contains('\0') && path.split('/').all(good)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 512;

    fn packed(files: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut all = Packer::begin(Vec::new());
        for (entry, bytes) in files {
            all.add(entry, &mut bytes.as_slice()).unwrap();
        }
        all.finish().unwrap()
    }

    /// One entry as somebody else may write it.
    fn foreign(name: &[u8], kind: EntryType, size: u64, bytes: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        let mut all = header.as_bytes().to_vec();
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(BLOCK), 0);
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
    fn names_that_lead_elsewhere_links_and_archives_that_break_off_are_refused() {
        let ended = |mut archive: Vec<u8>| {
            archive.extend([0; 2 * BLOCK]);
            unpacked(&archive)
        };
        let names = ["../x", "/x", "a/../b", "a//b", "./a", "a/", "..", ""];
        for (name, long) in names.iter().flat_map(|name| [(name, false), (name, true)]) {
            let mut archive = Vec::new();
            if long {
                archive.extend(foreign(b"long", EntryType::GNULongName, name.len() as u64, name.as_bytes()));
            }
            let plain = if long { "plain" } else { *name };
            archive.extend(foreign(plain.as_bytes(), EntryType::Regular, 1, b"x"));
            assert!(matches!(ended(archive), Err(TarError::Damaged("a name that leads elsewhere"))), "{name}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char, EntryType::GNUSparse] {
            assert!(matches!(ended(foreign(b"a", kind, 0, b"")), Err(TarError::Damaged(_))), "{kind:?}");
        }
        let huge = foreign(b"a", EntryType::GNULongName, 1 << 40, b"x");
        assert!(matches!(ended(huge), Err(TarError::Damaged(_))), "nobody reads a name of a terabyte");
        let whole = packed(&[file("a", b"abc"), file("b", b"d")]);
        assert_eq!(unpacked(&whole).unwrap().len(), 2);
        for length in (0..=whole.len() - 2 * BLOCK).step_by(BLOCK).chain((0..whole.len() - 2 * BLOCK).step_by(97)) {
            assert!(unpacked(&whole[..length]).is_err(), "{length}");
        }
        let mut damaged = whole;
        damaged[3] = b'z';
        assert!(unpacked(&damaged).is_err(), "a sum does not hold");
        let (entry, bytes) = file("a", b"abc");
        let shorter = Packer::begin(Vec::new()).add(&entry, &mut &bytes[..2]);
        assert_eq!(shorter.unwrap_err().to_string(), "it grew shorter while it was read");
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let name = "ä/".repeat(60) + "b";
        let record = format!(" path={name}\n");
        let length = record.len() + 3;
        let record = format!("{length}{record}");
        let mut archive = foreign(b"pax", EntryType::XHeader, record.len() as u64, record.as_bytes());
        archive.extend(foreign(b"long", EntryType::Regular, 3, b"abc"));
        archive.extend([0; 2 * BLOCK]);
        let files = unpacked(&archive).unwrap();
        assert_eq!((files[0].0.path.as_str(), files[0].1.as_slice()), (name.as_str(), &b"abc"[..]));
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
