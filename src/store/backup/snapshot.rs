//! A copy of the database as it is at one moment, made beside the writer.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};

use super::DATABASE;
use crate::{
    api::Rev,
    store::{EngineError, OpenError, lock::DirLock},
};

/// Where a copy lies while it is made. It has no name any more when it is read.
pub(in crate::store) const STALE: &str = "appm.db.snapshot";
/// So much room is left to those who write.
const RESERVE: u64 = 64 << 20;

/// A copy, and what is in it.
#[derive(Debug)]
pub struct Snapshot {
    /// The database. Its file has no name: it goes when this is dropped.
    pub database: File,
    /// The newest revision.
    pub revision: Rev,
    /// How many objects there are, by the kind's qualified plural.
    pub objects: BTreeMap<String, u64>,
    /// The name of the key that data keys are encrypted with.
    pub sealed_with: Option<String>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The copy would fill the disk.
    #[error(
        "a copy of the database takes {needed} MiB for as long as it is sent, and {free} MiB of `{}` are free: make room there",
        dir.display()
    )]
    NoRoom {
        /// The data directory.
        dir: PathBuf,
        /// MiB that are needed, with what is left to others.
        needed: u64,
        /// MiB that are there.
        free: u64,
    },
    /// There is no database.
    #[error("there is no store in `{}`", dir.display())]
    Absent {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory is in use, or cannot be used.
    #[error(transparent)]
    Lock(#[from] OpenError),
    /// A file cannot be made or read.
    #[error("cannot copy the database: {0}")]
    Io(#[from] io::Error),
    /// SQLite says something else.
    #[error("cannot copy the database: {0}")]
    Engine(#[from] EngineError),
}

impl From<sqlx::Error> for SnapshotError {
    fn from(error: sqlx::Error) -> Self {
        Self::Engine(error.into())
    }
}

/// Copies the database of a data directory that no server uses.
///
/// # Errors
/// See [`SnapshotError`].
pub async fn snapshot_of_unused(dir: &Path) -> Result<Snapshot, SnapshotError> {
    if !dir.join(DATABASE).exists() {
        return Err(SnapshotError::Absent { dir: dir.to_owned() });
    }
    let _lock = DirLock::take(dir)?;
    snapshot(dir).await
}

/// Copies the database of a data directory. Whoever calls this holds its lock; one call at a time.
pub(in crate::store) async fn snapshot(dir: &Path) -> Result<Snapshot, SnapshotError> {
    let (database, copy) = (dir.join(DATABASE), dir.join(STALE));
    let mut from = connect(&database).await?;
    let bytes: i64 = sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        .fetch_one(&mut from)
        .await?;
    let bytes = u64::try_from(bytes).unwrap_or_default();
    let room = rustix::fs::statvfs(dir).map_err(io::Error::from)?;
    let (needed, free) = (bytes + RESERVE, room.f_bavail * room.f_frsize);
    if free < needed {
        return Err(SnapshotError::NoRoom { dir: dir.to_owned(), needed: needed >> 20, free: free >> 20 });
    }
    remove(&copy)?;
    let made = async {
        sqlx::query("VACUUM INTO ?").bind(copy.to_string_lossy()).execute(&mut from).await?;
        from.close().await?;
        let mut copied = connect(&copy).await?;
        let snapshot = describe(&mut copied, File::open(&copy)?).await?;
        copied.close().await?;
        Ok(snapshot)
    };
    let made = made.await;
    remove(&copy)?;
    made
}

async fn connect(file: &Path) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new().filename(file).read_only(true).disable_statement_logging().connect().await
}

async fn describe(copied: &mut SqliteConnection, database: File) -> Result<Snapshot, SnapshotError> {
    let newest: i64 = sqlx::query_scalar(
        "SELECT MAX(IFNULL((SELECT MAX(revision) FROM txn), 0), oldest_main, oldest_short) FROM meta",
    )
    .fetch_one(&mut *copied)
    .await?;
    let rows = sqlx::query("SELECT kind, COUNT(*) FROM object GROUP BY kind").fetch_all(&mut *copied).await?;
    let count = |row: &sqlx::sqlite::SqliteRow| (row.get(0), u64::try_from(row.get::<i64, _>(1)).unwrap_or_default());
    let sealed_with = sqlx::query_scalar("SELECT wrapping FROM data_key WHERE wrapping <> '' ORDER BY retired LIMIT 1")
        .fetch_optional(copied)
        .await?;
    Ok(Snapshot {
        database,
        revision: Rev(u64::try_from(newest).unwrap_or_default()),
        objects: rows.iter().map(count).collect(),
        sealed_with,
    })
}

/// Removes a file that may be there.
fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
