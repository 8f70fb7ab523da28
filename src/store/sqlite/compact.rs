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
            let main =
                last_beyond(connection, sql, main, limits.changes, &[beyond(seq.main, limits.changes.rows)], now)
                    .await?;
            let sql = "SELECT revision FROM txn WHERE revision > ? AND at >= ? AND seq_short > ? \
                       ORDER BY revision LIMIT 1";
            let short =
                last_beyond(connection, sql, short, limits.short, &[beyond(seq.short, limits.short.rows)], now).await?;
            let sql = "SELECT revision FROM txn WHERE revision > ? AND at >= ? AND seq_history > ? AND bytes_history > ? \
                       ORDER BY revision LIMIT 1";
            let first = [beyond(seq.history, limits.history.rows), beyond(seq.bytes, limits.history_bytes)];
            let history = last_beyond(connection, sql, history, limits.history, &first, now).await?;
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
        // Versions that stay are looked at once for each bound.
        let after = if writing.looked.0 == bounds.history { writing.looked.1 } else { 0 };
        let done = async {
            let connection = writing.ready(self, Durability::Relaxed).await?;
            let (more, looked) = remove(connection, bounds, pruned, after, rows).await?;
            writing.looked = (bounds.history, looked);
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

/// Where a count stood when there was no more to come than `keep`.
fn beyond(count: i64, keep: u64) -> i64 {
    count.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX))
}

/// The last revision that is beyond `keep`, or `oldest` if none after it is. `counts` are what the query asks for after the time.
async fn last_beyond(
    connection: &mut SqliteConnection,
    first_kept: &'static str,
    oldest: i64,
    keep: Retention,
    counts: &[i64],
    now: Timestamp,
) -> sqlx::Result<Rev> {
    let cutoff = now.checked_sub(keep.age).unwrap_or(Timestamp::MIN);
    let query = sqlx::query_scalar(first_kept).bind(oldest).bind(cutoff.as_microsecond());
    let query = counts.iter().fold(query, |query, count| query.bind(*count));
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

/// Removes up to `rows` rows of each log, of the history from the id `after` on; whether there are more, and how far the history was
/// looked at.
async fn remove(
    connection: &mut SqliteConnection,
    bounds: Bounds,
    pruned: Rev,
    after: i64,
    rows: usize,
) -> sqlx::Result<(bool, i64)> {
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
    ] {
        let gone = sqlx::query(sql).bind(end_of(bound)).bind(limit).execute(&mut *connection).await?.rows_affected();
        more |= gone >= rows as u64;
    }
    let looked = remove_versions(connection, end_of(history), main.min(short), after, limit).await?;
    more |= looked.is_some();
    if !more {
        more = remove_commits(connection, main.min(short), pruned, limit).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok((more, looked.unwrap_or(end_of(history))))
}

/// Looks at `limit` versions before the id `end`, and removes those of them that stand no more and that no pin keeps: what stood at the
/// bound stays, however old it is. How far it looked, if there are more.
async fn remove_versions(
    connection: &mut SqliteConnection,
    end: i64,
    changes: Rev,
    after: i64,
    limit: i64,
) -> sqlx::Result<Option<i64>> {
    // A deletion stays while an older version is pinned: nothing stood since then.
    let sql = "SELECT h.id, NOT EXISTS (SELECT 1 FROM pin p WHERE p.id = h.id) AND (                EXISTS (SELECT 1 FROM history n WHERE n.kind = h.kind AND n.namespace = h.namespace AND n.name = h.name                        AND n.id > h.id AND n.id < ?1)                OR h.body IS NULL AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.kind = h.kind AND p.namespace = h.namespace                                                  AND p.name = h.name))                FROM history h WHERE h.id > ?2 AND h.id < ?1 ORDER BY h.id LIMIT ?3";
    let seen: Vec<(i64, bool)> =
        sqlx::query_as(sql).bind(end).bind(after).bind(limit).fetch_all(&mut *connection).await?;
    let doomed: Vec<i64> = seen.iter().filter(|(_, goes)| *goes).map(|(id, _)| *id).collect();
    if !doomed.is_empty() {
        let ids = serde_json::to_string(&doomed).expect("numbers");
        let gone = "DELETE FROM history WHERE id IN (SELECT value FROM json_each(?))";
        sqlx::query(gone).bind(ids.as_str()).execute(&mut *connection).await?;
        let counted = "UPDATE txn SET remembered = (SELECT count(*) FROM history WHERE id >= txn.revision << 14                        AND id < (txn.revision + 1) << 14)                        WHERE revision IN (SELECT DISTINCT value >> 14 FROM json_each(?))";
        sqlx::query(counted).bind(ids.as_str()).execute(&mut *connection).await?;
        let forgotten = "DELETE FROM txn WHERE remembered = 0 AND revision <= ?                          AND revision IN (SELECT DISTINCT value >> 14 FROM json_each(?))";
        sqlx::query(forgotten).bind(number(changes)).bind(ids).execute(connection).await?;
    }
    let full = i64::try_from(seen.len()).is_ok_and(|seen| seen >= limit);
    Ok(seen.last().map(|(id, _)| *id).filter(|_| full))
}

/// Removes commits that no log speaks of any more.
async fn remove_commits(
    connection: &mut SqliteConnection,
    changes: Rev,
    pruned: Rev,
    limit: i64,
) -> sqlx::Result<bool> {
    let forgettable = "DELETE FROM txn WHERE revision IN (SELECT revision FROM txn \
                       WHERE revision > ? AND revision <= ? AND remembered = 0 ORDER BY revision LIMIT ?)";
    let query = sqlx::query(forgettable).bind(number(pruned)).bind(number(changes)).bind(limit);
    let gone = query.execute(&mut *connection).await?.rows_affected();
    Ok(gone >= u64::try_from(limit).unwrap_or(u64::MAX))
}
