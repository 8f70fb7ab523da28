//! Backups of a data directory: an archive that anybody can look into, and its way back (`docs/design/030-backup.md`).
//!
//! ```text
//!   appm.db ──VACUUM INTO──► snapshot ─┐
//!   audit/*.jsonl ────────────────────┼─► tar: backup.json, the files, SHA256SUMS last
//!   keys, certificates (CLI only) ────┘
//!
//!   tar ─► restore.part/ (checked, opened as a store) ─► restore.ready/ (it is done) ─► in place
//! ```

mod archive;
mod place;
mod snapshot;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use archive::{ArchiveError, Visitor, Writer, read};
pub use place::{RestoreError, Staged, finish};
pub(super) use snapshot::{STALE, snapshot};
pub use snapshot::{Snapshot, SnapshotError, snapshot_of_unused};

use crate::api::{Rev, Time};

/// The form that this binary writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The first entry of an archive: what it is a backup of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The form of the archive.
    pub format: u32,
    /// The version of the appm that made it.
    pub appm: String,
    /// When.
    pub created: Time,
    /// The node that was served.
    pub node: String,
    /// The newest revision in it.
    pub revision: Rev,
    /// How many objects there are, by the kind's qualified plural.
    pub objects: BTreeMap<String, u64>,
    /// The name of the key that data keys are encrypted with; none if nothing is sealed.
    pub sealed_with: Option<String>,
    /// True if what opens Secrets and proves the server is in it.
    pub keys: bool,
}

/// Files with keys, by their names in archive and data directory; all of `pki/` beside.
const KEYS: [&str; 2] = ["keys/seal.key", "worker.key"];
/// The database, in both.
const DATABASE: &str = "appm.db";
/// Folders of which every file is taken, but none of a folder below.
const PKI: &str = "pki";
const AUDIT: &str = "audit";

/// The files of a folder of the data directory, as archive name and path, in order of names.
///
/// # Errors
/// When the folder cannot be read; one that is not there is empty.
fn files_of(dir: &Path, folder: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(dir.join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            files.push((format!("{folder}/{name}"), entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// The files of the audit log.
///
/// # Errors
/// When its folder cannot be read.
pub fn audit_files(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    Ok(files_of(dir, AUDIT)?.into_iter().filter(|(name, _)| name.ends_with(".jsonl")).collect())
}

/// The files with keys and certificates.
///
/// # Errors
/// When they cannot be looked at.
pub fn key_files(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let plain = KEYS.iter().map(|name| ((*name).to_owned(), dir.join(name))).filter(|(_, path)| path.is_file());
    Ok(plain.chain(files_of(dir, PKI)?).collect())
}

/// True for what may be in an archive beside its head and its sums. Nothing else is ever written.
fn is_known(name: &str) -> bool {
    let below = |folder: &str| {
        let file = name.strip_prefix(folder)?.strip_prefix('/')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        Some(!file.starts_with('.') && !file.is_empty() && file.len() <= 128 && file.chars().all(plain))
    };
    name == DATABASE || KEYS.contains(&name) || [PKI, AUDIT].iter().any(|folder| below(folder) == Some(true))
}

#[cfg(test)]
mod tests;
