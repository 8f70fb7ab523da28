//! Tells that a directory, or anything below it, has changed and come to rest, by one inotify.
//!
//! Which files have changed is said only where that is beyond doubt: the kernel named each, and nothing else. At anything else (its queue
//! overflowed, a directory came or went) whoever is told reads all of it, of which only dates are read where nothing changed. So nothing is lost when a directory was made and filled before it could be watched, or when an editor renames
//! files around. What the kernel tells nobody (another machine's writes to a network file system) the Source's interval is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::is_manifest;
use crate::clock::SharedClock;

/// So long must nothing happen.
const QUIET: Duration = Duration::from_millis(25);
/// Whoever goes on and on is not waited for any longer than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// A file that is being written is waited for so long, until it is closed.
const PATIENCE_OPEN: Duration = Duration::from_secs(10);
/// More directories are not watched; the interval of the Source finds what happens in them.
const MOST: usize = 10_000;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    /// Perhaps anything.
    Anything,
    /// What has these names, which is no directory: each was written, made, deleted or renamed.
    Files(BTreeSet<PathBuf>),
}

impl Noticed {
    const fn nothing() -> Self {
        Self::Files(BTreeSet::new())
    }

    fn add(&mut self, file: PathBuf) {
        match self {
            Self::Files(files) if files.len() < MOST_NAMED => drop(files.insert(file)),
            _ => *self = Self::Anything,
        }
    }
}

/// More files are not named.
const MOST_NAMED: usize = 1000;

/// A directory that is watched, with all below it.
pub struct DirectoryWatch {
    root: PathBuf,
    clock: SharedClock,
    inotify: AsyncFd<OwnedFd>,
    watched: BTreeMap<i32, PathBuf>,
    /// Manifests that somebody has written to and not closed yet.
    open: BTreeSet<PathBuf>,
    /// What has changed since somebody was told.
    noticed: Noticed,
}

impl DirectoryWatch {
    /// Watches nothing yet. Within a runtime.
    ///
    /// # Errors
    /// When the kernel has no more of them.
    pub fn new(root: &Path, clock: SharedClock) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what took its place is unsafe: for descriptors that may be closed early, which this is not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        let (watched, open, noticed) = (BTreeMap::new(), BTreeSet::new(), Noticed::nothing());
        Ok(Self { root: root.to_owned(), clock, inotify, watched, open, noticed })
    }

    /// Watches what is there now: the directory, all below it, where symbolic links lead, and the directory that it is in. To be called
    /// before all of it is read, so that what comes later is noticed, and what came before is not told again.
    pub fn arm(&mut self) {
        self.noticed = Noticed::nothing();
        let mut wanted = BTreeSet::new();
        wanted.extend(self.root.parent().map(Path::to_owned));
        gather(&self.root, &mut wanted);
        let gone: Vec<i32> =
            self.watched.iter().filter(|(_, path)| !wanted.contains(*path)).map(|(number, _)| *number).collect();
        for number in gone {
            self.watched.remove(&number);
            // Of a directory that is gone the kernel has forgotten it already.
            let _ = inotify::remove_watch(self.inotify.get_ref(), number);
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for path in wanted {
            // Where it is, much may be going on: only that it comes and goes matters there.
            let above = Some(path.as_path()) == self.root.parent();
            let flags = if above {
                flags.difference(WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB)
            } else {
                flags
            };
            // One that is watched already has the same number again, unless another directory has its name by now.
            if let Ok(number) = inotify::add_watch(self.inotify.get_ref(), &path, flags) {
                self.watched.insert(number, path);
            }
        }
    }

    /// Waits until something has changed, and then until nothing has for a moment and every manifest that was written to is closed.
    /// Cancel-safe: what was noticed before the call was dropped is told by the next one, or was read by whoever armed it since.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn changed(&mut self) -> io::Result<Noticed> {
        while !self.news().await? {}
        let began = self.clock.uptime();
        loop {
            let patience = if self.open.is_empty() { PATIENCE } else { PATIENCE_OPEN };
            let left = patience.saturating_sub(self.clock.uptime().saturating_sub(began));
            let pause = if self.open.is_empty() { QUIET.min(left) } else { left };
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                news = self.news() => drop(news?),
                () = clock.sleep(pause) => return Ok(self.told()),
            }
            if left.is_zero() {
                return Ok(self.told());
            }
        }
    }

    fn told(&mut self) -> Noticed {
        self.open.clear();
        std::mem::replace(&mut self.noticed, Noticed::nothing())
    }

    /// Takes in what the kernel tells next; whether any of it matters.
    async fn news(&mut self) -> io::Result<bool> {
        let mut ready = self.inotify.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut matters = false;
        loop {
            match events.next() {
                Ok(event) => {
                    let flags = event.events();
                    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                        self.open.clear();
                        self.noticed = Noticed::Anything;
                        matters = true;
                        continue;
                    }
                    let Some(directory) = self.watched.get(&event.wd()) else { continue };
                    let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                    let Some(name) = name else {
                        if !flags.contains(ReadFlags::IGNORED) {
                            self.noticed = Noticed::Anything;
                            matters = true;
                        }
                        continue;
                    };
                    let path = directory.join(&name);
                    if !concerns(&self.root, directory, &path) {
                        continue;
                    }
                    let is_one = name.to_str().is_some_and(is_manifest);
                    let contents = ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE | ReadFlags::ATTRIB;
                    if flags.intersects(contents) && !is_one && !flags.contains(ReadFlags::ISDIR) {
                        continue;
                    }
                    matters = true;
                    if flags.contains(ReadFlags::MODIFY) && is_one {
                        self.open.insert(path.clone());
                    } else if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                        self.open.remove(&path);
                    }
                    if path.starts_with(&self.root) && path != self.root && !flags.contains(ReadFlags::ISDIR) {
                        self.noticed.add(path);
                    } else {
                        self.noticed = Noticed::Anything;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(matters);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Of the directory that the watched one is in, only that one matters.
fn concerns(root: &Path, directory: &Path, path: &Path) -> bool {
    let outside = Some(directory) == root.parent();
    !outside || path == root
}

/// All directories below one, and those that symbolic links lead into. What cannot be read is left out: the reading says so.
fn gather(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    if found.len() >= MOST || !found.insert(directory.to_owned()) {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_symlink() && !hidden {
            let Ok(to) = fs::canonicalize(entry.path()) else { continue };
            let leads_to = if to.is_dir() { Some(to.as_path()) } else { to.parent() };
            // Not above where it stands: it would be the whole machine.
            if let Some(to) = leads_to.filter(|to| !directory.starts_with(to)) {
                if entry.path().is_dir() {
                    gather(to, found);
                } else {
                    found.insert(to.to_owned());
                }
            }
        } else if kind.is_dir() && !hidden {
            gather(&entry.path(), found);
        }
    }
}
