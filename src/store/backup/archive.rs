//! The archive: a tar file whose first entry says what it is, and whose last one has the sums of all others.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Read, Write},
};

use aws_lc_rs::digest::{Context, SHA256};
use tar::{Archive, Builder, EntryType, Header};

use super::{About, FORMAT, is_known};

const ABOUT: &str = "backup.json";
const SUMS: &str = "SHA256SUMS";
/// The largest head or list of sums.
const LONGEST_TEXT: u64 = 1 << 20;

/// Writes an archive, file by file.
pub struct Writer<W: Write> {
    tar: Builder<W>,
    /// Seconds since 1970: all entries bear the time of the backup.
    at: u64,
    sums: String,
}

impl<W: Write> Writer<W> {
    /// An archive that begins with what it is.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn begin(out: W, about: &About) -> io::Result<Self> {
        let at = u64::try_from(about.created.0.as_second()).unwrap_or_default();
        let mut writer = Self { tar: Builder::new(out), at, sums: String::new() };
        let head = serde_json::to_vec_pretty(about)?;
        writer.add(ABOUT, head.len() as u64, &mut head.as_slice())?;
        Ok(writer)
    }

    /// Adds the first `size` bytes of a file, which may be growing.
    ///
    /// # Errors
    /// When it is shorter, or cannot be read or written.
    pub fn add(&mut self, name: &str, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut hashed = Hashed { bytes: bytes.take(size), hash: Context::new(&SHA256) };
        self.put(name, size, &mut hashed)?;
        if hashed.bytes.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("`{name}` became shorter meanwhile")));
        }
        let _ = writeln!(self.sums, "{}  {name}", hex::encode(hashed.hash.finish()));
        Ok(())
    }

    /// Ends it with its sums.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let sums = std::mem::take(&mut self.sums);
        self.put(SUMS, sums.len() as u64, &mut sums.as_bytes())?;
        self.tar.into_inner()
    }

    fn put(&mut self, name: &str, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.at);
        self.tar.append_data(&mut header, name, bytes)
    }
}

/// What is done with what an archive holds.
pub trait Visitor {
    /// The archive says what it is.
    ///
    /// # Errors
    /// Ends the reading.
    fn about(&mut self, about: &About) -> io::Result<()>;

    /// A file; its bytes are read to their end.
    ///
    /// # Errors
    /// Ends the reading.
    fn file(&mut self, name: &str, size: u64, bytes: &mut dyn Read) -> io::Result<()>;
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error("it is no backup of appm: {0}")]
    NoBackup(String),
    /// A later appm made it.
    #[error(
        "it was made by appm {appm} in form {format}, and this binary reads form {FORMAT}: use that appm, or a later one"
    )]
    Newer {
        /// The version of that appm.
        appm: String,
        /// The form.
        format: u32,
    },
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is shorter than what was written.
    #[error("it was cut off: its list of sums is missing")]
    CutOff,
    /// It cannot be read, or what is in it cannot be put elsewhere.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads an archive to its end. What the visitor was given is whole only if this succeeds.
///
/// # Errors
/// See [`ArchiveError`].
pub fn read(archive: &mut dyn Read, visitor: &mut dyn Visitor) -> Result<About, ArchiveError> {
    let mut archive = Archive::new(archive);
    let mut about = None;
    let mut sums = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|e| broken(about.is_some(), &e))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != EntryType::Regular {
            return Err(ArchiveError::NoBackup(format!("`{name}` is not a plain file")));
        }
        let (name, size) = (name.as_str(), entry.size());
        match (&about, name) {
            (None, ABOUT) => {
                let text = text(&mut entry, size)?;
                sums.insert(ABOUT.to_owned(), sum(text.as_bytes()));
                let found = parse(&text)?;
                visitor.about(&found)?;
                about = Some(found);
            }
            (None, _) => return Err(ArchiveError::NoBackup(format!("it begins with `{name}`, not with `{ABOUT}`"))),
            (Some(found), SUMS) => {
                let said = text(&mut entry, size)?;
                compare(&said, &sums)?;
                return Ok(found.clone());
            }
            (Some(_), _) if !is_known(name) || sums.contains_key(name) => {
                return Err(ArchiveError::NoBackup(format!("nothing may be put at `{name}`")));
            }
            (Some(_), _) => {
                let mut hashed = Hashed { bytes: entry.take(size), hash: Context::new(&SHA256) };
                visitor.file(name, size, &mut hashed)?;
                io::copy(&mut hashed, &mut io::sink())?;
                if hashed.bytes.limit() > 0 {
                    return Err(ArchiveError::CutOff);
                }
                sums.insert(name.to_owned(), hex::encode(hashed.hash.finish()));
            }
        }
    }
    Err(if about.is_some() { ArchiveError::CutOff } else { ArchiveError::NoBackup("it is empty".to_owned()) })
}

/// An error of the tar reader: what is no archive at all, and one that ends in the middle.
fn broken(begun: bool, error: &io::Error) -> ArchiveError {
    match (begun, error.kind()) {
        (true, io::ErrorKind::UnexpectedEof) => ArchiveError::CutOff,
        (true, _) => ArchiveError::Damaged(error.to_string()),
        (false, _) => ArchiveError::NoBackup(error.to_string()),
    }
}

fn text(entry: &mut dyn Read, size: u64) -> Result<String, ArchiveError> {
    if size > LONGEST_TEXT {
        return Err(ArchiveError::Damaged("its head or its sums are too long".to_owned()));
    }
    let mut text = String::new();
    entry.take(size).read_to_string(&mut text)?;
    if text.len() as u64 == size { Ok(text) } else { Err(ArchiveError::CutOff) }
}

fn parse(text: &str) -> Result<About, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct Form {
        format: u32,
        appm: String,
    }
    let no_backup = |e: serde_json::Error| ArchiveError::NoBackup(format!("`{ABOUT}`: {e}"));
    let form: Form = serde_json::from_str(text).map_err(no_backup)?;
    if form.format > FORMAT {
        return Err(ArchiveError::Newer { appm: form.appm, format: form.format });
    }
    serde_json::from_str(text).map_err(no_backup)
}

fn compare(said: &str, found: &BTreeMap<String, String>) -> Result<(), ArchiveError> {
    let said: BTreeMap<&str, &str> =
        said.lines().filter_map(|line| line.split_once("  ")).map(|(a, b)| (b, a)).collect();
    let wrong = |name: &str| ArchiveError::Damaged(format!("`{name}` is not what it was when the backup was made"));
    for (name, sum) in found {
        if said.get(name.as_str()) != Some(&sum.as_str()) {
            return Err(wrong(name));
        }
    }
    match said.keys().find(|name| !found.contains_key(**name)) {
        Some(missing) => Err(ArchiveError::Damaged(format!("`{missing}` is missing"))),
        None => Ok(()),
    }
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&SHA256, bytes))
}

/// Bytes, and the hash of those that were read.
struct Hashed<R> {
    bytes: io::Take<R>,
    hash: Context,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}
