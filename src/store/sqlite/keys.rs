//! The keys that bodies are sealed with: found at start, changed while everything goes on.
//!
//! Every step of a rotation can be the last one before a crash, because the key file may hold more than one key and each
//! data key's row names the one that wraps it:
//!
//! | after the step | what a start finds, and does |
//! |---|---|
//! | the new key stands above the old one in the file | rows name the old key: they are wrapped with the first |
//! | one transaction has wrapped all data keys with it | rows name the new key: the old one leaves the file |
//! | the old key has left the file | nothing |
//! | data keys were retired, in the same transaction; bodies are sealed anew, some at a time | that goes on |
//! | no body needs a retired key, and its row has gone | nothing |

use std::path::Path;

use sqlx::{AssertSqlSafe, Row, SqliteConnection, sqlite::SqliteRow};

use super::{Sqlite, schema::classify, write::Writing};
use crate::{
    api::{Durability, Key},
    store::{
        EngineError, OpenError, RotateError, Sealing,
        seal::{DataKeyRow, KeyFile, Seal, WrappingKey},
    },
};

/// Where bodies of sealed kinds are.
const TABLES: [&str; 4] = ["object", "change", "change_short", "history"];

/// How far bodies were sealed anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resealed {
    table: usize,
    after: i64,
}

/// Reads keys and data keys, and finishes a rotation that was cut off.
pub(super) async fn open_seal(
    connection: &mut SqliteConnection,
    database: &Path,
    file: &KeyFile,
) -> Result<Seal, OpenError> {
    let failed = |e| classify(database, e);
    let rows = read_rows(connection).await.map_err(failed)?;
    let mut keys = match file.read()? {
        Some(keys) => keys,
        None if !rows.is_empty() => return Err(file.unusable(LOST)),
        None if !file.ours => {
            return Err(file.unusable("there is no such file; `head -c 32 /dev/urandom | base64` makes a key"));
        }
        None => {
            let made = WrappingKey::make();
            // On disk before anything is sealed with it.
            file.write(&[&made]).map_err(|e| file.unusable(e))?;
            vec![made]
        }
    };
    let data_keys = unwrap_all(connection, &rows, &keys, file).await?;
    let outdated = rows.iter().any(|row| row.get::<&str, _>(2) != keys[0].id());
    if outdated {
        write_wrapped(connection, &data_keys, false).await.map_err(failed)?;
    }
    let older = keys.split_off(1);
    let wrapping = keys.pop().expect("a key file without a key is refused");
    if file.ours && !older.is_empty() {
        file.write(&[&wrapping]).map_err(|e| file.unusable(e))?;
    }
    Ok(knowing(wrapping, &data_keys))
}

/// The same for whoever only reads: nothing is made or written.
pub(super) async fn open_seal_to_read(
    connection: &mut SqliteConnection,
    database: &Path,
    file: &KeyFile,
) -> Result<Seal, OpenError> {
    let rows = read_rows(connection).await.map_err(|e| classify(database, e))?;
    let mut keys = match file.read()? {
        Some(keys) => keys,
        None if rows.is_empty() => vec![WrappingKey::make()],
        None => return Err(file.unusable(LOST)),
    };
    let data_keys = unwrap_all(connection, &rows, &keys, file).await?;
    Ok(knowing(keys.swap_remove(0), &data_keys))
}

/// All data keys, wrapped with the first of the keys.
async fn unwrap_all(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
    keys: &[WrappingKey],
    file: &KeyFile,
) -> Result<Vec<DataKeyRow>, OpenError> {
    let mut data_keys = Vec::with_capacity(rows.len());
    for row in rows {
        let found = match stored(row) {
            Some(found) => found,
            None => adopt(connection, keys, file).await?,
        };
        let by = keys.iter().find(|key| key.id() == found.wrapping).ok_or_else(|| wrong(file, keys, &found))?;
        data_keys.push(Seal::wrap_anew(&found, by, &keys[0]).ok_or_else(|| wrong(file, keys, &found))?);
    }
    Ok(data_keys)
}

/// A seal that knows these data keys.
fn knowing(wrapping: WrappingKey, data_keys: &[DataKeyRow]) -> Seal {
    let seal = Seal::new(wrapping);
    for row in data_keys {
        assert!(seal.learn(row), "it was wrapped with this key just now");
    }
    seal
}

const LOST: &str = "there is no such file, and the database holds what was sealed with it. Put the key back, or a backup of \
                    the database together with its key. Nothing was changed";

fn wrong(file: &KeyFile, keys: &[WrappingKey], row: &DataKeyRow) -> OpenError {
    let held: Vec<&str> = keys.iter().map(WrappingKey::id).collect();
    if held.contains(&row.wrapping.as_str()) {
        return file.unusable(format!("the data key of the namespace `{}` in the database is damaged", row.namespace));
    }
    file.unusable(format!(
        "it is another key: what the database holds is sealed with the key {}, the file holds {}. Put the right key back. \
         Nothing was changed",
        row.wrapping,
        held.join(", ")
    ))
}

async fn read_rows(connection: &mut SqliteConnection) -> sqlx::Result<Vec<SqliteRow>> {
    sqlx::query("SELECT id, namespace, wrapping, wrapped, retired FROM data_key ORDER BY id")
        .fetch_all(connection)
        .await
}

/// A data key; `None` for the one that is no other than the key file's.
fn stored(row: &SqliteRow) -> Option<DataKeyRow> {
    Some(DataKeyRow {
        id: row.get(0),
        namespace: row.get::<&str, _>(1).into(),
        wrapping: row.get(2),
        wrapped: row.get::<Option<Vec<u8>>, _>(3)?,
        retired: row.get(4),
    })
}

/// What an older appm sealed everything with: one of the file's keys, if it opens what is there.
async fn adopt(
    connection: &mut SqliteConnection,
    keys: &[WrappingKey],
    file: &KeyFile,
) -> Result<DataKeyRow, OpenError> {
    let sample = "SELECT namespace, name, body FROM object WHERE kind = 'secrets' UNION ALL \
                  SELECT namespace, name, body FROM change WHERE kind = 'secrets' UNION ALL \
                  SELECT namespace, name, body FROM history WHERE kind = 'secrets' AND body IS NOT NULL LIMIT 1";
    let sample = sqlx::query(sample).fetch_one(connection).await;
    let sample = sample.map_err(|e| OpenError::Engine(e.into()))?;
    let adopted =
        keys.iter().find_map(|key| Seal::adopt(key, ("secrets", sample.get(0), sample.get(1)), sample.get(2)));
    adopted.ok_or_else(|| {
        file.unusable("it does not open what the database holds. Put the right key back. Nothing was changed")
    })
}

/// Writes data keys that were wrapped anew, durably.
async fn write_wrapped(connection: &mut SqliteConnection, rows: &[DataKeyRow], retire: bool) -> sqlx::Result<()> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for row in rows {
        let sql = "UPDATE data_key SET wrapping = ?, wrapped = ?, retired = max(retired, ?) WHERE id = ?";
        let query = sqlx::query(sql).bind(row.wrapping.as_str()).bind(row.wrapped.as_slice()).bind(retire).bind(row.id);
        query.execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    // The log's pages and the database's hold what the old key opens until they are overwritten.
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    Ok(())
}

/// Writes new data keys, in the transaction of the bodies that need them.
pub(super) async fn insert_data_keys(to: &mut SqliteConnection, rows: &[DataKeyRow]) -> sqlx::Result<()> {
    for row in rows {
        let query = sqlx::query("INSERT INTO data_key VALUES (?, ?, ?, ?, ?)").bind(row.id);
        let query = query.bind(row.namespace.as_ref()).bind(row.wrapping.as_str()).bind(row.wrapped.as_slice());
        query.bind(row.retired).execute(&mut *to).await?;
    }
    Ok(())
}

impl Sqlite {
    /// See [`crate::store::Engine::rotate`].
    pub(super) async fn rotate_keys(&self, data_keys: bool) -> Result<Sealing, RotateError> {
        let mut writing = self.writing.lock().await;
        let unusable = |e: OpenError| RotateError::KeyFile(e.to_string());
        let mut keys = self.key_file.read().map_err(unusable)?.unwrap_or_default();
        let in_use = self.seal.wrapping_id();
        if !keys.iter().any(|key| key.id() == in_use) {
            return Err(RotateError::Gone { file: self.key_file.path.clone(), id: in_use });
        }
        if self.key_file.ours {
            keys.insert(0, WrappingKey::make());
            let all: Vec<&WrappingKey> = keys.iter().collect();
            self.key_file.write(&all).map_err(|e| RotateError::KeyFile(e.to_string()))?;
        } else if keys[0].id() == in_use && !data_keys {
            return Err(RotateError::NoNewKey { file: self.key_file.path.clone() });
        }
        if let Err(error) = self.wrap_all(&mut writing, &keys, data_keys).await {
            // What the transaction did is not known for sure: both keys stay in the file.
            return Err(RotateError::Engine(writing.fail(error).await));
        }
        writing.resealed = Resealed::default();
        if data_keys {
            self.seal.retire();
        }
        let wrapping = keys.swap_remove(0);
        if self.key_file.ours {
            // With the old key in it the file is still right, and the next start shortens it.
            let shortened = self.key_file.write(&[&wrapping]);
            shortened.unwrap_or_else(|error| tracing::warn!(%error, "the old key stays in the key file"));
        }
        self.seal.set_wrapping(wrapping);
        Ok(self.sealing_now())
    }

    async fn wrap_all(&self, writing: &mut Writing, keys: &[WrappingKey], retire: bool) -> sqlx::Result<()> {
        let connection = writing.ready(self, Durability::Durable).await?;
        let mut anew = Vec::new();
        for row in read_rows(connection).await?.iter().filter_map(stored) {
            let by = keys.iter().find(|key| key.id() == row.wrapping);
            let wrapped = by.and_then(|by| Seal::wrap_anew(&row, by, &keys[0]));
            let lost = || sqlx::Error::Protocol(format!("the data key {} cannot be unwrapped", row.id));
            anew.push(wrapped.ok_or_else(lost)?);
        }
        write_wrapped(connection, &anew, retire).await
    }

    /// See [`crate::store::Engine::sealing`].
    pub(super) fn sealing_now(&self) -> Sealing {
        let (data_keys, retired) = self.seal.count();
        let key_file = self.key_file.path.display().to_string();
        Sealing { key: self.seal.wrapping_id(), key_file, data_keys, retired }
    }

    /// Seals up to `rows` bodies anew whose data key is retired; removes the retired keys behind the last. True if there
    /// is more to do.
    pub(super) async fn reseal_some(&self, rows: usize) -> Result<bool, EngineError> {
        if self.seal.count().1 == 0 {
            return Ok(false);
        }
        let mut writing = self.writing.lock().await;
        let Resealed { table, after } = writing.resealed;
        let done = async {
            let Some(table) = TABLES.get(table) else {
                self.drop_retired(&mut writing).await?;
                return Ok(None);
            };
            self.reseal_rows(&mut writing, table, after, rows).await.map(Some)
        };
        match done.await {
            Ok(Some(Some(after))) => writing.resealed = Resealed { table, after },
            Ok(Some(None)) => writing.resealed = Resealed { table: table + 1, after: 0 },
            Ok(None) => {
                writing.resealed = Resealed::default();
                return Ok(false);
            }
            Err(error) => return Err(writing.fail(error).await),
        }
        Ok(true)
    }

    /// Gives the last row that was looked at, `None` if there are no more.
    async fn reseal_rows(
        &self,
        writing: &mut Writing,
        table: &'static str,
        after: i64,
        limit: usize,
    ) -> sqlx::Result<Option<i64>> {
        let sealed: Vec<_> = self.kinds.iter().filter(|(kind, _)| kind.sealed).collect();
        let places = vec!["?"; sealed.len()].join(",");
        let sql = format!(
            "SELECT id, kind, namespace, name, body FROM {table} WHERE id > ? AND kind IN ({places}) \
             AND body IS NOT NULL ORDER BY id LIMIT ?"
        );
        let connection = writing.ready(self, Durability::Relaxed).await?;
        let query =
            sealed.iter().fold(sqlx::query(AssertSqlSafe(sql)).bind(after), |q, (_, name)| q.bind(name.clone()));
        let rows = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(&mut *connection).await?;
        let outdated = rows.iter().filter(|row| self.seal.is_outdated(row.get(4))).filter_map(|row| {
            let kind = self.kind_named(row.get(1))?;
            Some((row.get::<i64, _>(0), Key::new(kind, row.get(2), row.get(3)), row.get::<&[u8], _>(4)))
        });
        let outdated: Vec<_> = outdated.collect();
        let fresh = self.seal.prepare(outdated.iter().map(|(_, key, _)| key));
        let written = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            insert_data_keys(connection, &fresh).await?;
            for (id, key, stored) in &outdated {
                let body = self.seal.unseal(key, stored).map_err(|e| sqlx::Error::Protocol(e.to_string()))?;
                let query = sqlx::query(AssertSqlSafe(format!("UPDATE {table} SET body = ? WHERE id = ?")));
                query.bind(self.seal.seal(key, &body)).bind(id).execute(&mut *connection).await?;
            }
            sqlx::query("COMMIT").execute(connection).await.map(drop)
        };
        let written: sqlx::Result<()> = written.await;
        if written.is_err() {
            self.seal.withdraw(&fresh);
        }
        written?;
        writing.note(outdated.iter().map(|(_, _, body)| body.len()).sum());
        Ok(rows.last().filter(|_| rows.len() >= limit).map(|row| row.get(0)))
    }

    /// Removes the keys that no body needs any more. A newer appm's kinds may be sealed with them: then they stay.
    async fn drop_retired(&self, writing: &mut Writing) -> sqlx::Result<()> {
        let connection = writing.ready(self, Durability::Durable).await?;
        for table in TABLES {
            let sql = AssertSqlSafe(format!("SELECT DISTINCT kind FROM {table}"));
            let kinds: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *connection).await?;
            if kinds.iter().any(|kind| self.kind_named(kind).is_none()) {
                tracing::info!("retired data keys stay: a newer appm may have sealed with them");
                return Ok(());
            }
        }
        // What is removed is overwritten: with the key file of then it would open older copies of the database.
        sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await?;
        let removed = sqlx::query("DELETE FROM data_key WHERE retired = 1").execute(&mut *connection).await;
        sqlx::query("PRAGMA secure_delete = OFF").execute(&mut *connection).await?;
        let removed = removed?.rows_affected();
        self.seal.forget_retired();
        writing.settle(self).await?;
        tracing::info!(data_keys = removed, "everything is sealed with new data keys");
        Ok(())
    }
}
