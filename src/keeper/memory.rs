//! Where things lie that are to be on no disk: a directory in memory (tmpfs), of this data directory alone.
//!
//! `<uid>/<attempt>/` holds what the logger needs to take secret values out of an attempt's output (see
//! [`crate::logger::redact`]), and `<uid>/files/` the files that are entries of Secrets. It is gone after a reboot, as the
//! processes are; what is left of Instances that are gone is removed by the next keeper. The link `keeper/memory` says which
//! directory it is, so that every successor finds the same one, whatever it would choose. It is made when it is needed first.

use std::{
    ffi::{CString, OsString},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use super::{
    prepare::{attempt_dir, instance_dir},
    pump,
    serve::{Keeper, complain},
    spawn::Switch,
};
use crate::{
    api::Uid,
    drivers::{Start, StartKey},
    logger::{
        masks::{LISTENS, MEMORY},
        redact::{Known, Redactors, SECRETS, VALUES},
    },
    policy::redact::{End, LONGEST},
};

const FILES: &str = "files";
/// Where a link leads that is to lead nowhere: there are secrets, and no memory to keep them in.
const NOWHERE: &str = "/nonexistent/appm";
/// What statfs(2) says of file systems that are in memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// The directory in memory, once it was looked for.
#[derive(Debug, Default)]
pub(super) struct Memory {
    found: Option<PathBuf>,
    complained: bool,
}

impl Memory {
    /// What an earlier keeper used, without what nobody needs any more.
    pub(super) fn recorded() -> Memory {
        // A copied data directory is another one.
        let found = fs::read_link(MEMORY).ok().filter(|dir| dir.file_name() == name().as_deref() && is_ours(dir));
        for entry in found.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(Result::ok) {
            let is_known = entry.file_name().to_str().is_some_and(|uid| instance_dir(&uid.into()).exists());
            if !is_known {
                remove(&entry.path());
            }
        }
        Memory { found, complained: false }
    }

    fn dir(&mut self) -> Option<&Path> {
        if self.found.as_ref().is_none_or(|dir| !is_ours(dir)) {
            self.found = find().and_then(|dir| {
                let _ = fs::remove_file(MEMORY);
                symlink(&dir, MEMORY).ok()?;
                Some(dir)
            });
        }
        if self.found.is_none() && !std::mem::replace(&mut self.complained, true) {
            complain(
                "there is no file system in memory (/run, /run/user, /dev/shm) to write to: files of Secrets are written to \
                 disk, and where secret values are to be taken out of it, output is withheld",
            );
        }
        self.found.as_deref()
    }

    /// Keeps the values that an attempt's output must not show, before it can write any, and whether it may ask for more. That there are some is
    /// noted beside its FIFOs; so whoever pumps them knows, even if the values are gone.
    pub(super) fn keep_values(&mut self, start: &Start) -> io::Result<()> {
        let link = attempt_dir(&start.key).join(SECRETS);
        match fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listens = start.step.as_ref().is_some_and(|step| step.commands);
        if start.secrets.is_empty() && !listens {
            return Ok(());
        }
        let Some(dir) = self.dir() else {
            // What it asks to have hidden is then overwritten when it has ended.
            return if start.secrets.is_empty() { Ok(()) } else { symlink(NOWHERE, link) };
        };
        let of_instance = dir.join(start.key.uid.as_str());
        let place = of_instance.join(start.key.attempt.to_string());
        make(&of_instance, 0o711)?;
        make(&place, 0o700)?;
        symlink(&place, link)?;
        let write = |name: &str, bytes: &[u8]| {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(place.join(name));
            file?.write_all(bytes)
        };
        write(VALUES, &serde_json::to_vec(&start.secrets).map_err(io::Error::other)?)?;
        if listens { write(LISTENS, b"") } else { Ok(()) }
    }

    /// Where the secret files of an Instance are written, by its process. `None`: where they are wanted.
    pub(super) fn files(&mut self, start: &Start, switch: Option<&Switch>) -> io::Result<Option<CString>> {
        if !start.process().is_some_and(|process| process.files.iter().any(|file| file.secret)) {
            return Ok(None);
        }
        let Some(dir) = self.dir() else { return Ok(None) };
        let of_instance = dir.join(start.key.uid.as_str());
        let files = of_instance.join(FILES);
        make(&of_instance, 0o711)?;
        make(&files, 0o700)?;
        if let Some(switch) = switch {
            chown(&files, Some(switch.uid), Some(switch.gid))?;
        }
        Ok(CString::new(files.display().to_string()).ok())
    }

    /// Removes what an attempt had, when it is drained and forgotten.
    pub(super) fn forget(key: &StartKey) {
        let link = attempt_dir(key).join(SECRETS);
        if let Ok(place) = fs::read_link(&link) {
            remove(&place);
            // Whatever cannot be removed goes with the Instance.
            let _ = fs::remove_file(link);
        }
    }

    /// Removes what an Instance had.
    pub(super) fn remove(&self, uid: &Uid) {
        if let Some(dir) = &self.found {
            remove(&dir.join(uid.as_str()));
        }
    }

    /// Nothing runs, and this keeper ends.
    pub(super) fn leave(&self) {
        if let Some(dir) = &self.found {
            remove(dir);
            let _ = fs::remove_file(MEMORY);
        }
    }
}

impl Keeper {
    /// What may be told of something that an attempt's programs have said. If it was cut off, its first [`LONGEST`] bytes may
    /// hold the end of a secret: they only serve to find what goes on after them.
    pub(super) fn without_secrets(&self, key: &StartKey, said: Vec<u8>, is_cut: bool) -> Vec<u8> {
        if !pump::limits(self.ledger.book(), &key.uid).redact {
            return said;
        }
        match Known::of(&attempt_dir(key), &mut Redactors::default()) {
            Known::Nothing => said,
            Known::Gone => b"(withheld)".to_vec(),
            Known::Values(redactor) => {
                let mut shown = Vec::with_capacity(said.len());
                redactor.redact(&said, if is_cut { LONGEST.min(said.len()) } else { 0 }, End::Over, &mut shown);
                shown
            }
        }
    }
}

fn remove(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => complain(&format!("cannot remove `{}`: {e}", dir.display())),
        _ => {}
    }
}

fn make(dir: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// The first place where a directory of ours is, or can be made. Of /dev/shm anybody may make one with this name: a directory
/// of somebody else, or that somebody else may write to, is passed over.
fn find() -> Option<PathBuf> {
    let (me, name) = (rustix::process::geteuid().as_raw(), name()?);
    let own = if me == 0 { PathBuf::from("/run") } else { PathBuf::from(format!("/run/user/{me}")) };
    [own, PathBuf::from("/dev/shm")].into_iter().map(|parent| parent.join(&name)).find(|dir| {
        let is_memory = dir.parent().is_some_and(is_in_memory);
        is_memory && make(dir, 0o711).is_ok() && is_ours(dir)
    })
}

/// Of this data directory alone.
fn name() -> Option<OsString> {
    let data = fs::metadata(".").ok()?;
    Some(format!("appm-{}-{:x}-{:x}", rustix::process::geteuid().as_raw(), data.dev(), data.ino()).into())
}

fn is_in_memory(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

fn is_ours(dir: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == me && meta.mode() & 0o022 == 0)
        && is_in_memory(dir)
}
