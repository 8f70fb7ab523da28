//! The files that an importer may look at: regular files below a size, and what was given it as text (stdin, a test).

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use glob::Pattern;

/// The largest file that is read.
const LARGEST: u64 = 8 << 20;
/// The most files that one import reads, and the most that it looks at in directories.
const MOST: usize = 10_000;

/// Where files come from.
#[derive(Clone, Debug, Default)]
pub struct Files {
    given: BTreeMap<PathBuf, String>,
    on_disk: bool,
    seen: Cell<usize>,
}

impl Files {
    /// Those of this machine.
    pub fn of_disk() -> Self {
        Self { on_disk: true, ..Self::default() }
    }

    /// Only those that are [given](Self::give).
    pub fn none() -> Self {
        Self::default()
    }

    /// A file that is no file: `-`, or one of a test.
    pub fn give(&mut self, path: impl Into<PathBuf>, text: impl Into<String>) {
        self.given.insert(path.into(), text.into());
    }

    /// The text of a file.
    ///
    /// # Errors
    /// A sentence for whoever named it.
    pub fn read(&self, path: &Path) -> Result<String, String> {
        if let Some(text) = self.given.get(path) {
            return Ok(text.clone());
        }
        if !self.on_disk {
            return Err("cannot be read: there is no such file".to_owned());
        }
        self.count(1)?;
        let failed = |error: std::io::Error| format!("cannot be read: {error}");
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err("cannot be read: it is no regular file".to_owned());
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("is larger than {} MiB; split it", LARGEST >> 20));
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => Err("is no text: there is a NUL in it".to_owned()),
            Ok(text) => Ok(text),
            Err(_) => Err("is no UTF-8 text".to_owned()),
        }
    }

    /// True if it is there.
    pub fn is_file(&self, path: &Path) -> bool {
        self.given.contains_key(path) || (self.on_disk && path.is_file())
    }

    /// True if there is anything of this name.
    pub fn is_there(&self, path: &Path) -> bool {
        self.is_file(path) || self.is_dir(path) || (self.on_disk && path.exists())
    }

    /// True if it is a directory.
    pub fn is_dir(&self, path: &Path) -> bool {
        let below = |given: &PathBuf| given.starts_with(path) && given != path;
        self.given.keys().any(below) || (self.on_disk && path.is_dir())
    }

    /// What lies in a directory, by name; nothing if there is none.
    ///
    /// # Errors
    /// If it holds too much.
    pub fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, String> {
        let mut found: Vec<PathBuf> = self
            .given
            .keys()
            .filter_map(|path| path.strip_prefix(dir).ok()?.components().next().map(|first| dir.join(first)))
            .collect();
        if self.on_disk
            && let Ok(entries) = fs::read_dir(dir)
        {
            found.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).take(MOST + 1));
        }
        found.sort();
        found.dedup();
        self.count(found.len())?;
        Ok(found)
    }

    /// The files that a pattern of a shell means, by name.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn matching(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let mut found = vec![PathBuf::new()];
        for component in pattern.components() {
            let Component::Normal(name) = component else {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            };
            let name = name.to_string_lossy();
            if !name.contains(['*', '?', '[']) {
                found.iter_mut().for_each(|path| path.push(&*name));
                continue;
            }
            let wanted = Pattern::new(&name).map_err(|error| format!("`{name}` is no pattern: {error}"))?;
            let mut next = Vec::new();
            for dir in found {
                let fits =
                    |path: &PathBuf| path.file_name().is_some_and(|name| wanted.matches(&name.to_string_lossy()));
                next.extend(self.list(&dir)?.into_iter().filter(fits));
            }
            found = next;
        }
        found.retain(|path| self.is_file(path));
        Ok(found)
    }

    fn count(&self, more: usize) -> Result<(), String> {
        self.seen.set(self.seen.get() + more);
        if self.seen.get() > MOST {
            return Err(format!("more than {MOST} files were looked at: name fewer"));
        }
        Ok(())
    }
}
