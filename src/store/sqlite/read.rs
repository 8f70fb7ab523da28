//! Reading: everything at start, and changes later, beside the writer.

use futures::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    Sqlite,
    schema::{classify, corrupt, end_of, revision, revision_of},
    write::Seq,
};
use crate::{
    api::{Body, ChangeLog, Key, KindInfo, Rev},
    store::{Anchor, Before, ChangeRow, EngineError, Loaded, LoadedObject, Oldest, OpenError, Provenance, Tail},
};

impl Sqlite {
    pub(super) async fn load_all(&self) -> Result<Loaded, OpenError> {
        let mut writing = self.writing.lock().await;
        let failed = |e| classify(&self.file, e);
        let connection = writing.connection();
        let meta = sqlx::query("SELECT reserved, clean, boot_id, oldest_main, oldest_short FROM meta")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        let whole = meta.get(1) || meta.get::<&str, _>(2) == self.boot_id;
        if !whole {
            self.check(connection).await?;
        }
        let anchor = sqlx::query("SELECT first, seq, hash FROM audit").fetch_optional(&mut *connection).await;
        let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
        let anchor = anchor.map_err(failed)?.map(|row| Anchor {
            first: unsigned(row.get(0)),
            seq: unsigned(row.get(1)),
            hash: row.get(2),
        });
        let newest =
            "SELECT revision, seq_main, seq_short, seq_history, bytes_history FROM txn ORDER BY revision DESC LIMIT 1";
        let newest = sqlx::query(newest).fetch_optional(&mut *connection).await.map_err(failed)?;
        let objects = self.load_objects(connection).await?;
        let oldest = Oldest { main: revision(meta.get(3)), short: revision(meta.get(4)) };
        let mut last = oldest.main.max(oldest.short);
        if let Some(row) = newest {
            last = last.max(revision(row.get(0)));
            writing.seq = Seq { main: row.get(1), short: row.get(2), history: row.get(3), bytes: row.get(4) };
        }
        let tail = if whole { Tail::Whole } else { Tail::Doubtful };
        let (reserved, place) = (revision(meta.get(0)), self.file.clone());
        Ok(Loaded { objects, last, reserved, oldest, tail, anchor, place })
    }

    /// After a power loss: whether the disk kept its word.
    async fn check(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(connection)
            .await
            .map_err(|e| classify(&self.file, e))?;
        if verdict == "ok" { Ok(()) } else { Err(corrupt(&self.file, verdict)) }
    }

    async fn load_objects(&self, connection: &mut SqliteConnection) -> Result<Vec<LoadedObject>, OpenError> {
        let mut rows = sqlx::query("SELECT kind, namespace, name, revision, body FROM object").fetch(connection);
        let mut objects = Vec::new();
        let mut unknown = 0;
        while let Some(row) = rows.try_next().await.map_err(|e| classify(&self.file, e))? {
            let Some(kind) = self.kind_named(row.get(0)) else {
                unknown += 1;
                continue;
            };
            let key = Key::new(kind, row.get(1), row.get(2));
            let body = self.body(&key, row.get(4)).map_err(|e| match e {
                Unreadable::Sealed(detail) => OpenError::Key { file: self.key_file.path.clone(), detail },
                Unreadable::Malformed(detail) => corrupt(&self.file, format!("{key}: {detail}")),
            })?;
            objects.push(LoadedObject { key, revision: revision(row.get(3)), body });
        }
        if unknown > 0 {
            tracing::warn!(objects = unknown, "objects of kinds that this version does not know are left alone");
        }
        Ok(objects)
    }

    pub(super) fn body(&self, key: &Key, stored: &[u8]) -> Result<Body, Unreadable> {
        let json = self.seal.unseal(key, stored).map_err(|e| Unreadable::Sealed(e.to_string()))?;
        Body::from_json(json).map_err(|e| Unreadable::Malformed(e.to_string()))
    }

    pub(super) async fn read_changes(
        &self,
        kind: &'static KindInfo,
        after: Rev,
        until: Rev,
        limit: usize,
    ) -> Result<Vec<ChangeRow>, EngineError> {
        // The plus signs keep SQLite to the ids: it would build an index over the whole log otherwise.
        let sql = match kind.log {
            ChangeLog::Main => {
                "SELECT c.id, c.namespace, c.name, c.deleted, c.body, c.before, b.body FROM change c LEFT JOIN change b \
                 ON b.id >= c.before << 14 AND b.id < (c.before + 1) << 14 \
                 AND +b.kind = c.kind AND +b.namespace = c.namespace AND +b.name = c.name \
                 WHERE c.id >= ? AND c.id < ? AND c.kind = ? ORDER BY c.id LIMIT ?"
            }
            ChangeLog::Short => {
                "SELECT c.id, c.namespace, c.name, c.deleted, c.body, c.before, b.body FROM change_short c \
                 LEFT JOIN change_short b ON b.id >= c.before << 14 AND b.id < (c.before + 1) << 14 \
                 AND +b.kind = c.kind AND +b.namespace = c.namespace AND +b.name = c.name \
                 WHERE c.id >= ? AND c.id < ? AND c.kind = ? ORDER BY c.id LIMIT ?"
            }
        };
        let query = sqlx::query(sql).bind(end_of(after)).bind(end_of(until)).bind(self.kind_name(kind));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(query.bind(limit), |row| {
            let key = Key::new(kind, row.get(1), row.get(2));
            let read = |body: &[u8]| self.body(&key, body).map_err(|e| EngineError(format!("`{key}`: {e}")));
            let (deleted, body) = (row.get(3), read(row.get(4))?);
            let before = match (row.get::<Option<i64>, _>(5), row.get::<Option<&[u8]>, _>(6)) {
                (Some(0), _) => Before::Nothing,
                (Some(at), _) if deleted => Before::Object(revision(at), body.clone()),
                (Some(at), Some(old)) => Before::Object(revision(at), read(old)?),
                _ => Before::Unknown,
            };
            Ok(ChangeRow { revision: revision_of(row.get(0)), key, before, deleted, body })
        })
        .await
    }
}

pub(super) fn provenance(row: &SqliteRow) -> Provenance {
    Provenance {
        actor: row.get(2),
        manager: row.get(3),
        request_id: row.get(4),
        cause: row.get::<Option<i64>, _>(5).map(revision),
        reason: row.get(6),
        rule: String::new(),
    }
}

/// Why a stored body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    Sealed(String),
    #[error("{0}")]
    Malformed(String),
}
