//! The engine on SQLite, in WAL mode: one writing connection, and one for reading that is opened when first needed.
//!
//! A durable group is committed with `synchronous=FULL`, which syncs the WAL and so everything before it; a relaxed one
//! with `NORMAL`, which syncs nothing. Only checkpoints, which this engine makes itself between groups, touch the
//! database file. After a failed sync the whole WAL is written to the database anew before anything else is committed:
//! the kernel may have dropped pages that it could not write, and a later sync would not tell.

mod archive;
mod compact;
mod examine;
mod keys;
mod read;
mod schema;
mod write;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::Mutex;

use super::{
    Anchor, Bounds, ChangeRow, Engine, EngineError, Group, Limits, Loaded, Oldest, OpenError, RotateError, Sealing,
    backup::{self, Snapshot, SnapshotError},
    lock::DirLock,
    seal::{KeyFile, Seal},
};
use crate::{
    api::{KINDS, KindInfo, Rev},
    clock,
};
pub use examine::{Examination, examine};
use {schema::PLACE_BITS, write::Writing};

/// The kinds of a store.
type Kinds = &'static [&'static KindInfo];

/// A data directory's database.
pub struct Sqlite {
    file: PathBuf,
    boot_id: String,
    /// Each kind with the text that names it on disk.
    kinds: Vec<(&'static KindInfo, Arc<str>)>,
    seal: Seal,
    key_file: KeyFile,
    writing: Mutex<Writing>,
    reading: Mutex<Option<SqliteConnection>>,
    lock: std::sync::Mutex<Option<DirLock>>,
}

impl Sqlite {
    /// Locks the data directory, which is made if need be, and opens its database. What is sealed is sealed with the key
    /// in `key_file`; without one, with that in `keys/seal.key`, which is made with the first database.
    ///
    /// # Errors
    /// When another process has it, or it is damaged, or was written by a newer appm, or its key is lost.
    pub async fn open(dir: &Path, key_file: Option<&Path>) -> Result<Self, OpenError> {
        let unknown =
            |source| OpenError::File { action: "tell this boot from others by", path: "/proc".into(), source };
        let boot_id = clock::boot_id().map_err(unknown)?;
        let key_file = key_file.map(|path| KeyFile { path: path.to_owned(), ours: false });
        Self::open_in_boot(dir, key_file, KINDS, boot_id).await
    }

    /// Opens what was unpacked from a backup, to see whether that can be done.
    pub(super) async fn open_to_prove(dir: &Path, key_file: Option<KeyFile>) -> Result<Self, OpenError> {
        Self::open_in_boot(dir, key_file, KINDS, String::new()).await
    }

    async fn open_in_boot(
        dir: &Path,
        key_file: Option<KeyFile>,
        kinds: Kinds,
        boot_id: String,
    ) -> Result<Self, OpenError> {
        let lock = DirLock::take(dir)?;
        backup::finish(dir).map_err(|error| OpenError::Restore(Box::new(error)))?;
        let key_file = key_file.unwrap_or_else(|| KeyFile { path: dir.join("keys/seal.key"), ours: true });
        let file = dir.join("appm.db");
        let failed = |source| OpenError::File { action: "open", path: file.clone(), source };
        // SQLite gives its other files the mode of this one.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(failed)?;
        let mut connection = connect_to_write(&file).await.map_err(|e| schema::classify(&file, e))?;
        schema::migrate(&mut connection, &file).await?;
        let seal = keys::open_seal(&mut connection, &file, &key_file).await?;
        let writing = Mutex::new(Writing::new(connection));
        let kinds = kinds.iter().map(|kind| (*kind, kind.qualified().into())).collect();
        let (reading, lock) = (Mutex::new(None), std::sync::Mutex::new(Some(lock)));
        Ok(Self { file, boot_id, kinds, seal, key_file, writing, reading, lock })
    }

    /// The text that names a kind on disk.
    fn kind_name(&self, kind: &'static KindInfo) -> Arc<str> {
        let known = self.kinds.iter().find(|(known, _)| *known == kind);
        known.map_or_else(|| kind.qualified().into(), |(_, name)| name.clone())
    }

    /// The kind of that text; `None` if a newer appm wrote it.
    fn kind_named(&self, name: &str) -> Option<&'static KindInfo> {
        self.kinds.iter().find(|(_, known)| **known == *name).map(|(kind, _)| *kind)
    }
}

/// Small caches: all objects are in memory already.
fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .pragma("cache_size", "-1024")
        .foreign_keys(false)
        .row_buffer_size(256)
        .thread_name(|_| "store".to_owned())
        .disable_statement_logging()
}

async fn connect_to_write(file: &Path) -> sqlx::Result<SqliteConnection> {
    // Said again of a database that is so already, it would write to it before anybody looked whether it is whole.
    let is_new = file.metadata().is_ok_and(|file| file.len() == 0);
    let options = options(file);
    let options = if is_new { options.auto_vacuum(SqliteAutoVacuum::Incremental) } else { options };
    options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", "16777216")
        .connect()
        .await
}

async fn connect_to_read(file: &Path) -> sqlx::Result<SqliteConnection> {
    options(file).read_only(true).connect().await
}

impl From<sqlx::Error> for EngineError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

impl Engine for Sqlite {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>> {
        Box::pin(self.load_all())
    }

    fn reserve(&self, end: Rev, oldest: Oldest) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.reserve_up_to(end, oldest))
    }

    fn commit(&self, group: Group) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.commit_group(group))
    }

    fn changes(
        &self,
        kind: &'static KindInfo,
        after: Rev,
        until: Rev,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChangeRow>, EngineError>> {
        Box::pin(self.read_changes(kind, after, until, limit))
    }

    fn beyond<'a>(&'a self, limits: &'a Limits, now: Timestamp) -> BoxFuture<'a, Result<Bounds, EngineError>> {
        Box::pin(self.find_beyond(limits, now))
    }

    fn compact(&self, bounds: Bounds, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(self.remove_beyond(bounds, rows))
    }

    fn sealing(&self) -> Option<Sealing> {
        Some(self.sealing_now())
    }

    fn rotate(&self, data_keys: bool) -> BoxFuture<'_, Result<Sealing, RotateError>> {
        Box::pin(self.rotate_keys(data_keys))
    }

    fn reseal(&self, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(self.reseal_some(rows))
    }

    fn anchor(&self, anchor: Anchor) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.write_anchor(anchor))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, SnapshotError>> {
        Box::pin(async move { backup::snapshot(self.file.parent().expect("it lies in the data directory")).await })
    }

    fn tidy(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.checkpoint_if_long())
    }

    fn largest(&self) -> usize {
        1 << PLACE_BITS
    }

    fn close(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            if let Some(reading) = self.reading.lock().await.take() {
                // What matters is written by the other connection.
                let _ = reading.close().await;
            }
            let closed = self.mark_clean().await;
            self.lock.lock().expect("nobody panics while holding the lock file").take();
            closed
        })
    }
}

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod tests;
