//! What was begun of attempts and must not be begun again: programs beside them (hooks), and their input.
//!
//! An engine names each such program by an id, starts it once at most, and knows how it went for as long as it lives itself
//! (Docker: five minutes after the end). So the id is written down before the start, and whoever comes later, another server
//! perhaps, asks the engine under that id: one that never began begins, one that runs is waited for, one that is over is not
//! repeated. Nothing here is synced: when the machine dies, the container dies too.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{api::Uid, drivers::StartKey};

/// One directory for each attempt that has such programs, one file for each of these.
#[derive(Debug)]
pub(super) struct Begun {
    dir: PathBuf,
}

impl Begun {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("containers/begun") }
    }

    fn of(&self, key: &StartKey) -> PathBuf {
        self.dir.join(format!("{}-{}", key.uid, key.attempt))
    }

    /// The engine's id of a program.
    pub(super) fn find(&self, key: &StartKey, name: &str) -> Option<String> {
        fs::read_to_string(self.of(key).join(name)).ok().filter(|id| !id.is_empty())
    }

    /// Writes the id of a program down, in place of an earlier one.
    pub(super) fn note(&self, key: &StartKey, name: &str, id: &str) -> io::Result<()> {
        let dir = self.of(key);
        fs::create_dir_all(&dir)?;
        let next = dir.join(format!("{name}.new"));
        fs::write(&next, id)?;
        fs::rename(next, dir.join(name))
    }

    /// The file by which whoever makes it begins something for which the engine has no id.
    pub(super) fn claim(&self, key: &StartKey, name: &str) -> io::Result<PathBuf> {
        let dir = self.of(key);
        fs::create_dir_all(&dir)?;
        Ok(dir.join(name))
    }

    /// The attempt is over.
    pub(super) fn forget(&self, key: &StartKey) {
        // There is none as a rule. What cannot be removed now goes with the Instance, or does no harm.
        let _ = fs::remove_dir_all(self.of(key));
    }

    /// The Instance is gone.
    pub(super) fn forget_all(&self, uid: &Uid) {
        let prefix = format!("{uid}-");
        for entry in fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_known_to_the_next_server_until_its_instance_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let key = |attempt| StartKey { uid: "0b5c".into(), attempt };
        let begun = Begun::new(dir.path());
        assert_eq!(begun.find(&key(1), "postStart"), None);
        begun.note(&key(1), "postStart", "aa").unwrap();
        begun.note(&key(1), "postStart", "ab").unwrap();
        begun.note(&key(2), "preStop", "cd").unwrap();
        fs::File::create_new(begun.claim(&key(2), "stdin").unwrap()).unwrap();
        fs::File::create_new(Begun::new(dir.path()).claim(&key(2), "stdin").unwrap()).unwrap_err();
        let next = Begun::new(dir.path());
        assert_eq!(next.find(&key(1), "postStart").as_deref(), Some("ab"));
        assert_eq!(next.find(&key(1), "preStop"), None);
        next.forget(&key(1));
        assert_eq!(next.find(&key(1), "postStart"), None);
        assert_eq!(next.find(&key(2), "preStop").as_deref(), Some("cd"));
        next.forget_all(&"0b5".into());
        assert_eq!(next.find(&key(2), "preStop").as_deref(), Some("cd"));
        next.forget_all(&"0b5c".into());
        assert_eq!(next.find(&key(2), "preStop"), None);
    }
}
