//! The past, read on the connection that is not the writer's; and pins.

use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    Sqlite, connect_to_read,
    read::provenance,
    schema::{end_of, number, revision, revision_of, row_id},
};
use crate::{
    api::{Durability, Key, Rev},
    store::{
        EngineError, HistoryEntry, history,
        past::{Archive, AsOf, Horizon, PAGE_BYTES, PastTouch, PastTransaction, Pin, Stood, Transactions},
    },
};

impl Archive for Sqlite {
    fn horizon(&self) -> BoxFuture<'_, Result<Horizon, EngineError>> {
        Box::pin(self.find_horizon())
    }

    fn revision_at(&self, at: Timestamp) -> BoxFuture<'_, Result<Rev, EngineError>> {
        Box::pin(async move {
            let sql = "SELECT revision FROM txn WHERE at <= ? ORDER BY revision DESC LIMIT 1";
            let query = sqlx::query(sql).bind(at.as_microsecond());
            let found = self.read(query, |row| Ok(revision(row.get(0)))).await?;
            Ok(found.first().copied().unwrap_or_default())
        })
    }

    fn versions<'a>(
        &'a self,
        key: &'a Key,
        below: Option<Rev>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, EngineError>> {
        Box::pin(self.read_versions(key, below, limit))
    }

    fn as_of<'a>(&'a self, of: &'a AsOf, limit: usize) -> BoxFuture<'a, Result<Stood, EngineError>> {
        Box::pin(self.read_as_of(of, limit))
    }

    fn transactions<'a>(
        &'a self,
        of: &'a Transactions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PastTransaction>, EngineError>> {
        Box::pin(self.read_transactions(of, limit))
    }

    fn pin(&self, pin: Pin) -> BoxFuture<'_, Result<bool, EngineError>> {
        Box::pin(async move {
            let sql = "INSERT OR REPLACE INTO pin SELECT kind, namespace, name, ?, id, ?, ? FROM history \
                       WHERE id >= ? AND id < ? AND kind = ? AND namespace = ? AND name = ? AND body IS NOT NULL";
            let query = sqlx::query(sql).bind(pin.name).bind(pin.at.as_microsecond()).bind(pin.actor);
            let query = query.bind(row_id(pin.revision, 0)).bind(end_of(pin.revision));
            let query = query.bind(self.kind_name(pin.key.kind)).bind(pin.key.namespace).bind(pin.key.name);
            Ok(self.write_durably(query).await? > 0)
        })
    }

    fn unpin<'a>(&'a self, key: &'a Key, name: &'a str) -> BoxFuture<'a, Result<bool, EngineError>> {
        Box::pin(async move {
            let sql = "DELETE FROM pin WHERE kind = ? AND namespace = ? AND name = ? AND pin = ?";
            let query = sqlx::query(sql).bind(self.kind_name(key.kind)).bind(key.namespace.clone());
            Ok(self.write_durably(query.bind(key.name.clone()).bind(name.to_owned())).await? > 0)
        })
    }

    fn pins<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Vec<Pin>, EngineError>> {
        Box::pin(async move {
            let sql = "SELECT pin, id, at, actor FROM pin WHERE kind = ? AND namespace = ? AND name = ? ORDER BY pin";
            let query = sqlx::query(sql).bind(self.kind_name(key.kind));
            self.read(query.bind(key.namespace.clone()).bind(key.name.clone()), |row| {
                Ok(Pin {
                    key: key.clone(),
                    name: row.get(0),
                    revision: revision_of(row.get(1)),
                    at: Timestamp::from_microsecond(row.get(2)).unwrap_or_default(),
                    actor: row.get(3),
                })
            })
            .await
        })
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Of a remembered version, and of the commit that made it, if that is known.
const VERSION: &str = "SELECT h.id, t.at, t.actor, t.manager, t.request_id, t.cause, t.reason, h.uid, h.body \
                       FROM history h LEFT JOIN txn t ON t.revision = h.id >> 14 WHERE ";

impl Sqlite {
    async fn find_horizon(&self) -> Result<Horizon, EngineError> {
        let sql = "SELECT max(oldest_history, whole), (SELECT at FROM txn WHERE revision > max(oldest_history, whole) \
                   ORDER BY revision LIMIT 1) FROM meta";
        let found = self.read(sqlx::query(sql), |row| {
            let since = row.get::<Option<i64>, _>(1).and_then(|at| Timestamp::from_microsecond(at).ok());
            Ok(Horizon { oldest: revision(row.get(0)), since })
        });
        Ok(found.await?.first().copied().unwrap_or_default())
    }

    async fn read_versions(
        &self,
        key: &Key,
        below: Option<Rev>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, EngineError> {
        // So many that their bodies fit: what is read is never more.
        let sql = format!(
            "WITH some AS (SELECT id, coalesce(length(body), 0) + 256 AS own FROM history \
             WHERE kind = ? AND namespace = ? AND name = ? AND id < ? ORDER BY id DESC LIMIT ?), \
             fitting AS (SELECT id, sum(own) OVER (ORDER BY id DESC) - own AS before FROM some) \
             {VERSION} h.id IN (SELECT id FROM fitting WHERE before < ?) ORDER BY h.id DESC"
        );
        let below = below.map_or(i64::MAX, |below| row_id(below, 0));
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(self.kind_name(key.kind));
        let query = query.bind(key.namespace.clone()).bind(key.name.clone()).bind(below);
        self.read(query.bind(most(limit)).bind(most(PAGE_BYTES)), |row| self.version(key, row)).await
    }

    fn version(&self, key: &Key, row: &SqliteRow) -> Result<HistoryEntry, EngineError> {
        let at: Option<i64> = row.get(1);
        let body = row.get::<Option<&[u8]>, _>(8).map(|stored| self.body(key, stored)).transpose();
        let body = body.map_err(|e| EngineError(format!("`{key}`: {e}")))?;
        // What stands without a commit was taken over from the objects, with its status.
        let body = if at.is_none() { body.as_ref().map(history::without_status) } else { body };
        Ok(HistoryEntry {
            at: at.and_then(|at| Timestamp::from_microsecond(at).ok()).unwrap_or_default(),
            provenance: if at.is_none() { Default::default() } else { provenance(row) },
            revision: revision_of(row.get(0)),
            uid: row.get::<&str, _>(7).into(),
            body,
        })
    }

    async fn read_as_of(&self, of: &AsOf, limit: usize) -> Result<Stood, EngineError> {
        let (namespace, name) = of.after.clone().unwrap_or_default();
        let sql = match of.namespace {
            Some(_) => {
                "SELECT max(id), namespace, name FROM history WHERE kind = ? AND namespace = ? AND name > ? AND id < ? \
                 GROUP BY namespace, name ORDER BY namespace, name LIMIT ?"
            }
            None => {
                "SELECT max(id), namespace, name FROM history WHERE kind = ? AND (namespace, name) > (?, ?) AND id < ? \
                 GROUP BY namespace, name ORDER BY namespace, name LIMIT ?"
            }
        };
        let query = sqlx::query(sql).bind(self.kind_name(of.kind)).bind(of.namespace.clone().unwrap_or(namespace));
        let query = query.bind(name).bind(end_of(of.at)).bind(most(limit));
        let found =
            self.read(query, |row| Ok((row.get::<i64, _>(0), Key::new(of.kind, row.get(1), row.get(2))))).await?;
        let whole = found.len() < limit;
        let (mut stood, mut room) = (Stood::default(), PAGE_BYTES);
        let total = found.len();
        for (place, (id, key)) in found.into_iter().enumerate() {
            let query = sqlx::query(sqlx::AssertSqlSafe(format!("{VERSION} h.id = ?"))).bind(id);
            let version = self.read(query, |row| self.version(&key, row)).await?.pop();
            let version = version.filter(|version| version.body.is_some());
            if let Some(version) = version {
                room = room.saturating_sub(version.body.as_ref().map_or(0, |body| body.json().len()));
                stood.objects.push((key.clone(), version));
            }
            if (room == 0 && place + 1 < total) || (place + 1 == total && !whole) {
                stood.next = Some((key.namespace.to_string(), key.name.to_string()));
                break;
            }
        }
        Ok(stood)
    }

    async fn read_transactions(&self, of: &Transactions, limit: usize) -> Result<Vec<PastTransaction>, EngineError> {
        const COLUMNS: &str =
            "SELECT revision, at, actor, manager, request_id, cause, reason, remembered FROM txn WHERE";
        let (query, touched) = match of {
            Transactions::Of { actor, below, touched } => {
                let sql = format!(
                    "{COLUMNS} actor = ? AND revision < ? AND remembered > 0 AND request_id <> '' \
                     ORDER BY revision DESC LIMIT ?"
                );
                let below = below.map_or(i64::MAX, number);
                let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(actor.clone());
                (query.bind(below).bind(most(limit)), *touched)
            }
            Transactions::At(at) => {
                let sql = format!("{COLUMNS} revision = ?");
                (sqlx::query(sqlx::AssertSqlSafe(sql)).bind(number(*at)), usize::MAX)
            }
        };
        let read = self.read(query, |row| {
            Ok(PastTransaction {
                revision: revision(row.get(0)),
                at: Timestamp::from_microsecond(row.get(1)).unwrap_or_default(),
                provenance: provenance(row),
                touched: Vec::new(),
                count: usize::try_from(row.get::<i64, _>(7)).unwrap_or_default(),
            })
        });
        let mut all = read.await?;
        for one in &mut all {
            one.touched = self.read_touched(one.revision, touched).await?;
        }
        Ok(all)
    }

    async fn read_touched(&self, of: Rev, limit: usize) -> Result<Vec<PastTouch>, EngineError> {
        // An object that was asked to go says so in its metadata; a sealed body tells nothing here.
        let sql = "SELECT h.kind, h.namespace, h.name, h.uid, CASE WHEN h.body IS NULL THEN 1 \
                   WHEN json_valid(CAST(h.body AS TEXT)) \
                   THEN json_extract(CAST(h.body AS TEXT), '$.metadata.deletionTimestamp') IS NOT NULL ELSE 0 END, \
                   (SELECT b.body IS NOT NULL FROM history b WHERE b.kind = h.kind AND b.namespace = h.namespace \
                    AND b.name = h.name AND b.id < h.id ORDER BY b.id DESC LIMIT 1) \
                   FROM history h WHERE h.id >= ? AND h.id < ? ORDER BY h.id LIMIT ?";
        let query = sqlx::query(sql).bind(row_id(of, 0)).bind(end_of(of)).bind(most(limit));
        let read = self.read(query, |row| {
            // What a newer appm made is not named.
            let Some(kind) = self.kind_named(row.get(0)) else { return Ok(None) };
            Ok(Some(PastTouch {
                key: Key::new(kind, row.get(1), row.get(2)),
                uid: row.get::<&str, _>(3).into(),
                deleted: row.get(4),
                was: row.get::<Option<bool>, _>(5).unwrap_or_default(),
            }))
        });
        Ok(read.await?.into_iter().flatten().collect())
    }

    /// Runs a query on the reading connection, which is opened when it is first needed.
    pub(super) async fn read<T>(
        &self,
        query: Query<'_>,
        each: impl Fn(&SqliteRow) -> Result<T, EngineError>,
    ) -> Result<Vec<T>, EngineError> {
        let mut reading = self.reading.lock().await;
        if reading.is_none() {
            *reading = Some(connect_to_read(&self.file).await?);
        }
        let connection = reading.as_mut().expect("it was opened just above");
        let rows = query.fetch_all(connection).await;
        if rows.is_err() {
            *reading = None;
        }
        rows?.iter().map(each).collect()
    }

    async fn write_durably(&self, query: Query<'_>) -> Result<u64, EngineError> {
        let mut writing = self.writing.lock().await;
        let done = async {
            let connection = writing.ready(self, Durability::Durable).await?;
            query.execute(connection).await
        };
        match done.await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(writing.fail(error).await),
        }
    }
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
