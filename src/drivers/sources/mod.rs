//! Where manifests come from: directories of this machine, and git repositories. Reads them; judges nothing.
//!
//! What is read is a [`Tree`]: all of it, from one moment, or an error. A tree that cannot be read whole is none, so that what is missing
//! in one is really not there.

mod directory;
mod git;
mod sealed;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use self::sealed::Content;
pub use self::{
    directory::{read as read_directory, read_again},
    git::{Credentials, Git, PASSED_ON, Wanted},
    sealed::Keys,
    watch::{DirectoryWatch, Noticed},
};
use crate::policy::fleet::Texts;

/// As many files as one source may have.
const MOST_FILES: usize = 50_000;
/// As large as a file may be: an object cannot be larger.
const LARGEST_FILE: u64 = 4 << 20;
/// As much text as one source may have.
const MOST_TEXT: u64 = 256 << 20;

/// Why a source cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// One CamelCase word.
    pub reason: &'static str,
    /// One sentence, of nobody's secrets.
    pub message: String,
}

impl ReadError {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// All manifests of a source, as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `main@sha1:…`, `sha256:…`.
    pub revision: String,
    /// The text of each file, by its path in the source.
    pub texts: Texts,
    /// Files with nothing in them: somebody may be about to write them.
    pub empty: Vec<Arc<str>>,
    /// What tells whether a file is still the one that was read.
    stamps: BTreeMap<Arc<str>, Stamp>,
    /// Of a directory: the digest of each file's text.
    digests: BTreeMap<Arc<str>, [u8; 32]>,
    /// Of a directory: some of it is there by symbolic links, so one file may have several names.
    linked: bool,
    /// Files that were encrypted, and what tells each from others.
    sealed: BTreeMap<Arc<str>, [u8; 32]>,
    /// What tells the keys that opened them from others.
    keys: Option<[u8; 32]>,
    /// What could not be opened.
    closed: Vec<ReadError>,
}

/// What tells whether a file is still the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stamp {
    /// Its name in git, which is made of what is in it.
    Blob(String),
    /// What the kernel says of it.
    File { device: u64, inode: u64, size: u64, modified: Timestamp, changed: Timestamp },
    /// It was changed so shortly before it was read that it may have been changed again since, in the same tick of the kernel's clock.
    Unsure,
}

impl Tree {
    /// With nothing in it, for what these keys open.
    fn of(keys: &Keys) -> Self {
        Self { keys: keys.name(), ..Self::default() }
    }

    /// The one of before, if the same keys have opened it.
    fn opened_by<'a>(earlier: Option<&'a Tree>, keys: &Keys) -> Option<&'a Tree> {
        earlier.filter(|earlier| earlier.keys == keys.name())
    }

    /// True if what a file says was encrypted: nobody is shown any of it.
    pub fn is_sealed(&self, path: &str) -> bool {
        self.sealed.contains_key(path)
    }

    /// What is in a file that did not change since.
    fn known(&self, path: &str, stamp: &Stamp) -> Option<Content> {
        let same = *stamp != Stamp::Unsure && self.stamps.get(path)? == stamp;
        same.then(|| self.content(path)).flatten()
    }

    fn content(&self, path: &str) -> Option<Content> {
        let text = self.texts.get(path)?.clone();
        Some(Content { text, sealed: self.sealed.get(path).copied() })
    }

    fn add(&mut self, path: &str, content: Result<Content, ReadError>, stamp: Stamp) {
        let path: Arc<str> = path.into();
        let Content { text, sealed } = match content {
            Ok(content) => content,
            Err(error) => return self.closed.push(error),
        };
        if text.is_empty() {
            self.empty.push(path.clone());
        }
        self.sealed.extend(sealed.map(|digest| (path.clone(), digest)));
        self.stamps.insert(path.clone(), stamp);
        self.texts.insert(path, text);
    }

    /// All of it, or everything that could not be opened.
    fn whole(self) -> Result<Self, ReadError> {
        const SHOWN: usize = 3;
        let Some(first) = self.closed.first() else { return Ok(self) };
        let mut all: Vec<String> = self.closed.iter().take(SHOWN).map(ToString::to_string).collect();
        all.extend(self.closed.len().checked_sub(SHOWN + 1).map(|more| format!("and {} more", more + 1)));
        Err(ReadError::new(first.reason, all.join("; ")))
    }

    fn remove(&mut self, path: &str) {
        self.empty.retain(|empty| **empty != *path);
        self.stamps.remove(path);
        self.texts.remove(path);
        self.digests.remove(path);
        self.sealed.remove(path);
    }

    /// The name of everything that was read. Of a text that is in `earlier`, too, only the digest is looked at.
    fn digest(&mut self, earlier: Option<&Tree>) -> String {
        let known = |path: &Arc<str>, text: &Arc<str>| {
            let earlier =
                earlier.filter(|earlier| earlier.texts.get(path).is_some_and(|was| Arc::ptr_eq(was, text)))?;
            earlier.digests.get(path).copied()
        };
        let mut all = Sha256::new();
        for (path, text) in &self.texts {
            // The name stands in the status: it is not made of what was encrypted, for that could be guessed by it.
            let sealed = self.sealed.get(path).copied();
            let digest = sealed.or_else(|| known(path, text)).unwrap_or_else(|| Sha256::digest(text.as_bytes()).into());
            all.update((path.len() as u64).to_be_bytes());
            all.update(path.as_bytes());
            all.update(digest);
            self.digests.insert(path.clone(), digest);
        }
        hex::encode(all.finalize())
    }
}

/// True for files that may be manifests by their name; whether one that `age` has encrypted is, its keys say ([`Keys::takes`]).
fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && (has_manifest_ending(name) || name.ends_with(sealed::ENDING))
}

/// True for the endings of manifests.
fn has_manifest_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    matches!(ending, Some("yaml" | "yml" | "json"))
}

/// Counts what is read, within bounds.
#[derive(Default)]
struct Room {
    files: usize,
    bytes: u64,
}

impl Room {
    fn take(&mut self, path: &str, bytes: u64) -> Result<(), ReadError> {
        let too_large = |message: String| Err(ReadError::new("TooLarge", message));
        self.files += 1;
        self.bytes += bytes;
        match () {
            () if bytes > LARGEST_FILE => too_large(format!("{path} has {bytes} bytes: limit is {LARGEST_FILE}")),
            () if self.files > MOST_FILES => too_large(format!("there are more than {MOST_FILES} manifests")),
            () if self.bytes > MOST_TEXT => too_large(format!("the manifests have more than {MOST_TEXT} bytes")),
            () => Ok(()),
        }
    }
}
