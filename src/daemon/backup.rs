//! Backups of a data directory and their way back, for the command line: with a server through its API, without one here.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

pub use crate::store::backup::{About, ArchiveError, RestoreError, SnapshotError};
use crate::{
    api::Time,
    clock::{Clock, System},
    store::backup::{FORMAT, Staged, Visitor, Writer, audit_files, key_files, read, snapshot_of_unused},
};

/// Writes an archive with what a server sent, and with the keys of its data directory if that is `dir`.
///
/// # Errors
/// When what came is no whole archive, or the keys cannot be read, or `out` cannot be written.
pub fn pass_on(sent: &mut dyn Read, dir: Option<&Path>, out: &mut dyn Write) -> Result<About, ArchiveError> {
    let keys = dir.map(key_files).transpose()?.unwrap_or_default();
    let mut copier = Copier { out: Some(out), archive: None, keys: !keys.is_empty() };
    let about = read(sent, &mut copier)?;
    if let Some(mut archive) = copier.archive {
        add_files(&mut archive, keys)?;
        archive.finish()?.flush()?;
    }
    Ok(About { keys: copier.keys, ..about })
}

/// Writes an archive of a data directory that no server uses.
///
/// # Errors
/// When there is no store, somebody uses it, or something cannot be read or written.
pub async fn of_unused(dir: &Path, node: String, with_keys: bool, out: &mut dyn Write) -> Result<About, SnapshotError> {
    let mut snapshot = snapshot_of_unused(dir).await?;
    let keys = if with_keys { key_files(dir)? } else { Vec::new() };
    let about = About {
        format: FORMAT,
        appm: env!("CARGO_PKG_VERSION").to_owned(),
        created: Time(System.now()),
        node,
        revision: snapshot.revision,
        objects: snapshot.objects,
        sealed_with: snapshot.sealed_with,
        keys: !keys.is_empty(),
    };
    let mut archive = Writer::begin(out, &about)?;
    archive.add("appm.db", snapshot.database.metadata()?.len(), &mut snapshot.database)?;
    add_files(&mut archive, audit_files(dir)?)?;
    add_files(&mut archive, keys)?;
    archive.finish()?.flush()?;
    Ok(about)
}

fn add_files<W: Write>(archive: &mut Writer<W>, files: Vec<(String, PathBuf)>) -> io::Result<()> {
    for (name, path) in files {
        let mut file = File::open(&path)?;
        archive.add(&name, file.metadata()?.len(), &mut file)?;
    }
    Ok(())
}

/// Looks whether an archive is whole.
///
/// # Errors
/// When it is not.
pub fn inspect(archive: &mut dyn Read) -> Result<About, ArchiveError> {
    struct Nobody;
    impl Visitor for Nobody {
        fn about(&mut self, _: &About) -> io::Result<()> {
            Ok(())
        }

        fn file(&mut self, _: &str, _: u64, _: &mut dyn Read) -> io::Result<()> {
            Ok(())
        }
    }
    read(archive, &mut Nobody)
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the archive says of itself.
    pub about: About,
    /// Where what stood there before is now, if anything did.
    pub aside: Option<PathBuf>,
}

/// Puts an archive in the place of a data directory's store; `over`: also of one that is there. `key_file`: what opens its Secrets.
///
/// # Errors
/// See [`RestoreError`]; nothing was changed then, unless files could not be moved: the next start of a server goes on with that.
pub async fn restore(
    dir: &Path,
    archive: &mut (dyn Read + Send),
    over: bool,
    key_file: Option<&Path>,
) -> Result<Restored, RestoreError> {
    let staged = Staged::unpack(dir, archive, over)?;
    if let Err(error) = staged.prove(key_file).await {
        staged.discard()?;
        return Err(error);
    }
    let about = staged.about().clone();
    Ok(Restored { about, aside: staged.install(System.now())? })
}

/// Copies an archive, with another head.
struct Copier<'o> {
    out: Option<&'o mut dyn Write>,
    archive: Option<Writer<&'o mut dyn Write>>,
    keys: bool,
}

impl Visitor for Copier<'_> {
    fn about(&mut self, about: &About) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            self.archive = Some(Writer::begin(out, &About { keys: self.keys, ..about.clone() })?);
        }
        Ok(())
    }

    fn file(&mut self, name: &str, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
        match &mut self.archive {
            Some(archive) => archive.add(name, size, bytes),
            None => Ok(()),
        }
    }
}
