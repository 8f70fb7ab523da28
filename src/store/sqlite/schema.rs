//! The tables (`migrations/`), their ids, and what SQLite's errors mean at start.

use std::path::Path;

use sqlx::{SqliteConnection, migrate::MigrateError};

use crate::{
    api::Rev,
    store::{EngineError, OpenError},
};

/// A row's id is `revision << PLACE_BITS | place in the commit`.
pub(super) const PLACE_BITS: u32 = 14;

/// The id of a row.
pub(super) fn row_id(revision: Rev, place: usize) -> i64 {
    number(revision) << PLACE_BITS | i64::try_from(place).expect("commits are smaller than 2^14 writes")
}

/// The first id that belongs to a later revision.
pub(super) fn end_of(revision: Rev) -> i64 {
    row_id(revision.next(), 0)
}

/// The revision of an id.
pub(super) fn revision_of(id: i64) -> Rev {
    revision(id >> PLACE_BITS)
}

/// A revision as SQLite's integer.
pub(super) fn number(revision: Rev) -> i64 {
    i64::try_from(revision.0).expect("revisions stay below 2^49")
}

/// A revision out of SQLite's integer.
pub(super) fn revision(number: i64) -> Rev {
    Rev(u64::try_from(number).unwrap_or_default())
}

/// Brings the tables to this binary's version.
pub(super) async fn migrate(connection: &mut SqliteConnection, file: &Path) -> Result<(), OpenError> {
    sqlx::migrate!("../../migrations").run(connection).await.map_err(|error| match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => classify(file, e),
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            OpenError::Newer { file: file.to_owned(), version }
        }
        other => OpenError::Engine(EngineError(other.to_string())),
    })
}

/// Damage, or anything else.
pub(super) fn classify(file: &Path, error: sqlx::Error) -> OpenError {
    match primary_code(&error) {
        Some(CORRUPT | NOT_A_DATABASE) => corrupt(file, error),
        _ => OpenError::Engine(error.into()),
    }
}

/// Damage.
pub(super) fn corrupt(file: &Path, detail: impl ToString) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), detail: detail.to_string() }
}

/// True if the disk failed, as opposed to being full.
pub(super) fn is_io_error(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(IO_ERROR)
}

/// True for a rollback where there was nothing to roll back.
pub(super) fn is_without_transaction(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(GENERIC)
}

const GENERIC: u32 = 1;
const IO_ERROR: u32 = 10;
const CORRUPT: u32 = 11;
const NOT_A_DATABASE: u32 = 26;

/// SQLite's result code, without its extension.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}
