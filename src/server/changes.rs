//! Tells when files that somebody else writes may have changed.
//!
//! What is watched are their directories: whoever renews a certificate renames a new file over the old one, or turns a symbolic link
//! elsewhere, and a watch on the file itself would stay with the old one. Costs nothing while nothing happens.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Certificate and key are two files: both are to be there before anybody looks.
const SETTLE: Duration = Duration::from_millis(200);

/// A watch on the directories of some files.
#[derive(Default)]
pub(super) struct Changes {
    events: Option<Receiver>,
}

impl Changes {
    /// Watches; nothing, if there are no files.
    ///
    /// # Errors
    /// When a directory cannot be watched.
    pub(super) fn of(files: &[PathBuf]) -> io::Result<Self> {
        if files.is_empty() {
            return Ok(Self::default());
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE;
        for directory in directories {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            inotify::add_watch(&inotify, directory, what)?;
        }
        // To the kernel's poll an inotify descriptor is as good as a pipe: bytes are there, or they are not.
        Ok(Self { events: Some(Receiver::from_owned_fd_unchecked(inotify)?) })
    }

    /// Resolves a moment after something happened. Cancel-safe: what happened meanwhile is there at the next call.
    pub(super) async fn next(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        if let Err(error) = events.readable().await {
            tracing::warn!(%error, "changes of certificates are no longer noticed; SIGHUP makes the server look");
            return std::future::pending().await;
        }
        tokio::time::sleep(SETTLE).await;
        let mut said = [0; 4096];
        while matches!(events.try_read(&mut said), Ok(length) if length > 0) {}
    }
}
