//! Removing what the logs need not keep, a small batch at a time.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{
    Sqlite,
    schema::{end_of, number, revision},
};
use crate::{
    api::{Durability, Rev},
    store::{Bounds, EngineError, Limits, Oldest, Retention},
};

impl Sqlite {
    /// Looks at commits from the oldest kept one on, and only as far as they are beyond the limits.
    pub(super) async fn find_beyond(&self, limits: &Limits, now: Timestamp) -> Result<Bounds, EngineError> {
        let mut writing = self.writing.lock().await;
        let seq = writing.seq;
        let found = async {
            let connection = writing.ready(self, Durability::Relaxed).await?;
            let sql = "SELECT oldest_main, oldest_short, oldest_history FROM meta";
            let (main, short, history): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&mut *connection).await?;
            let sql = "SELECT revision FROM txn WHERE revision > ? AND at >= ? AND seq_main > ? \
                       ORDER BY revision LIMIT 1";
            let main = last_beyond(connection, sql, main, limits.changes, seq.main, now).await?;
            let sql = "SELECT revision FROM txn WHERE revision > ? AND at >= ? AND seq_short > ? \
                       ORDER BY revision LIMIT 1";
            let short = last_beyond(connection, sql, short, limits.short, seq.short, now).await?;
            let sql = "SELECT revision FROM txn WHERE revision > ? AND at >= ? AND seq_history > ? \
                       ORDER BY revision LIMIT 1";
            let history = last_beyond(connection, sql, history, limits.history, seq.history, now).await?;
            Ok(Bounds { oldest: Oldest { main, short }, history })
        };
        let found = found.await;
        match found {
            Ok(bounds) => Ok(bounds),
            Err(error) => Err(writing.fail(error).await),
        }
    }

    pub(super) async fn remove_beyond(&self, bounds: Bounds, rows: usize) -> Result<bool, EngineError> {
        let mut writing = self.writing.lock().await;
        let pruned = writing.pruned;
        let done = async {
            let connection = writing.ready(self, Durability::Relaxed).await?;
            let more = remove(connection, bounds, pruned, rows).await?;
            if !more {
                writing.pruned = bounds.oldest.main.min(bounds.oldest.short);
                writing.settle(self).await?;
            }
            Ok(more)
        };
        let done = done.await;
        match done {
            Ok(more) => Ok(more),
            Err(error) => Err(writing.fail(error).await),
        }
    }
}

/// The last revision that is beyond `keep`, or `oldest` if none after it is.
async fn last_beyond(
    connection: &mut SqliteConnection,
    first_kept: &'static str,
    oldest: i64,
    keep: Retention,
    seq: i64,
    now: Timestamp,
) -> sqlx::Result<Rev> {
    let cutoff = now.checked_sub(keep.age).unwrap_or(Timestamp::MIN);
    let rows = i64::try_from(keep.rows).unwrap_or(i64::MAX);
    let query =
        sqlx::query_scalar(first_kept).bind(oldest).bind(cutoff.as_microsecond()).bind(seq.saturating_sub(rows));
    let kept: Option<i64> = query.fetch_optional(&mut *connection).await?;
    let last = match kept {
        Some(kept) => kept - 1,
        None => {
            let newest: Option<i64> =
                sqlx::query_scalar("SELECT max(revision) FROM txn").fetch_one(&mut *connection).await?;
            newest.unwrap_or_default()
        }
    };
    Ok(revision(last.max(oldest)))
}

/// Removes up to `rows` rows of each log; true if there are more.
async fn remove(connection: &mut SqliteConnection, bounds: Bounds, pruned: Rev, rows: usize) -> sqlx::Result<bool> {
    let Bounds { oldest: Oldest { main, short }, history } = bounds;
    let limit = i64::try_from(rows).unwrap_or(i64::MAX);
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    sqlx::query("UPDATE meta SET oldest_main = ?, oldest_short = ?, oldest_history = ?")
        .bind(number(main))
        .bind(number(short))
        .bind(number(history))
        .execute(&mut *connection)
        .await?;
    let mut more = false;
    for (sql, bound) in [
        ("DELETE FROM change WHERE id IN (SELECT id FROM change WHERE id < ? ORDER BY id LIMIT ?)", main),
        ("DELETE FROM change_short WHERE id IN (SELECT id FROM change_short WHERE id < ? ORDER BY id LIMIT ?)", short),
        ("DELETE FROM history WHERE id IN (SELECT id FROM history WHERE id < ? ORDER BY id LIMIT ?)", history),
    ] {
        let gone = sqlx::query(sql).bind(end_of(bound)).bind(limit).execute(&mut *connection).await?.rows_affected();
        more |= gone >= rows as u64;
    }
    if !more {
        more = remove_commits(connection, main.min(short), history, pruned, limit).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(more)
}

/// Removes commits that no log speaks of any more.
async fn remove_commits(
    connection: &mut SqliteConnection,
    changes: Rev,
    history: Rev,
    pruned: Rev,
    limit: i64,
) -> sqlx::Result<bool> {
    let all = "DELETE FROM txn WHERE revision IN (SELECT revision FROM txn WHERE revision <= ? LIMIT ?)";
    let all = sqlx::query(all).bind(number(changes.min(history))).bind(limit).execute(&mut *connection).await?;
    let forgettable = "DELETE FROM txn WHERE revision IN (SELECT revision FROM txn \
                       WHERE revision > ? AND revision <= ? AND remembered = 0 ORDER BY revision LIMIT ?)";
    let query = sqlx::query(forgettable).bind(number(pruned)).bind(number(changes)).bind(limit);
    let some = query.execute(&mut *connection).await?;
    let full = u64::try_from(limit).unwrap_or(u64::MAX);
    Ok(all.rows_affected() >= full || some.rows_affected() >= full)
}
