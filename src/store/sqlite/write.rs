//! Writing: groups of commits, reservations, checkpoints.

use std::{collections::BTreeMap, iter, sync::Arc};

use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{
    Sqlite, connect_to_write,
    keys::{Resealed, insert_data_keys},
    schema::{is_io_error, is_without_transaction, number, row_id},
};
use crate::{
    api::{ChangeLog, Durability, Key, Rev},
    store::{Anchor, EngineError, Group, Oldest, Remembered, Row, Txn, seal::DataKeyRow},
};

/// The writing connection and what it remembers between groups.
pub(super) struct Writing {
    /// `None` after a failure.
    connection: Option<SqliteConnection>,
    /// What `synchronous` stands at.
    mode: Durability,
    /// Rows written so far, by log.
    pub(super) seq: Seq,
    /// Bytes written to the WAL since the last checkpoint, roughly.
    wal: usize,
    /// True after a failed sync: pages that the kernel gave up on may be missing from the WAL.
    doubtful: bool,
    /// How far the history was looked at for removal, and up to which bound: an id.
    pub(super) looked: (Rev, i64),
    /// How far bodies were sealed with new data keys.
    pub(super) resealed: Resealed,
    /// Commits up to here have been looked at for removal.
    pub(super) pruned: Rev,
}

/// Rows written so far, by log. Stands with each commit, so that a log's length is a difference.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seq {
    pub(super) main: i64,
    pub(super) short: i64,
    pub(super) history: i64,
    /// Bytes of the history, not rows.
    pub(super) bytes: i64,
}

/// A WAL longer than this is folded into the database.
const LONG_WAL: usize = 4 << 20;

impl Writing {
    pub(super) fn new(connection: SqliteConnection) -> Self {
        Self {
            connection: Some(connection),
            mode: Durability::Durable,
            seq: Seq::default(),
            wal: 0,
            doubtful: false,
            looked: (Rev(0), 0),
            resealed: Resealed::default(),
            pruned: Rev(0),
        }
    }

    /// The connection, set to that durability; opened anew after a failure.
    pub(super) async fn ready(
        &mut self,
        engine: &Sqlite,
        durability: Durability,
    ) -> sqlx::Result<&mut SqliteConnection> {
        if self.connection.is_none() {
            self.connection = Some(connect_to_write(&engine.file).await?);
            self.mode = Durability::Durable;
        }
        let connection = self.connection.as_mut().expect("it was opened just above");
        if self.doubtful {
            // Writes every page of the WAL once more, to another file, and syncs that.
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
            if row.get::<i64, _>(0) != 0 {
                return Err(sqlx::Error::Protocol("the log could not be saved after a failed sync".to_owned()));
            }
            self.doubtful = false;
        }
        if self.mode != durability {
            let pragma = match durability {
                Durability::Durable => "PRAGMA synchronous=FULL",
                Durability::Relaxed => "PRAGMA synchronous=NORMAL",
            };
            sqlx::query(pragma).execute(&mut *connection).await?;
            self.mode = durability;
        }
        Ok(connection)
    }

    /// Takes back whatever transaction is open. The connection stays if it can: only its own view of the WAL leaves
    /// out what it could not sync.
    pub(super) async fn fail(&mut self, error: sqlx::Error) -> EngineError {
        self.doubtful |= is_io_error(&error);
        if let Some(connection) = self.connection.as_mut() {
            let rolled_back = sqlx::query("ROLLBACK").execute(connection).await;
            // After some errors SQLite has rolled back by itself.
            let at_rest = rolled_back.as_ref().map_or_else(is_without_transaction, |_| true);
            if !at_rest {
                self.connection = None;
            }
        }
        error.into()
    }

    /// Counts what else was written.
    pub(super) fn note(&mut self, bytes: usize) {
        self.wal += bytes;
    }

    /// What was opened first, for reading at start.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("nothing was written yet that could have failed")
    }

    /// Folds the WAL into the database as far as readers let it.
    async fn checkpoint(&mut self, engine: &Sqlite, pragma: &'static str) -> sqlx::Result<()> {
        let mode = self.mode;
        let connection = self.ready(engine, mode).await?;
        sqlx::query(pragma).execute(connection).await?;
        self.wal = 0;
        Ok(())
    }

    /// When there is time: leaves an empty WAL and gives free pages back to the file system.
    pub(super) async fn settle(&mut self, engine: &Sqlite) -> sqlx::Result<()> {
        const FREE_PAGES: i64 = 256;
        let mode = self.mode;
        let connection = self.ready(engine, mode).await?;
        let free: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *connection).await?;
        if free > FREE_PAGES {
            sqlx::query("PRAGMA incremental_vacuum(2048)").execute(&mut *connection).await?;
            self.wal += 1;
        }
        if self.wal > 0 {
            self.checkpoint(engine, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
        }
        Ok(())
    }
}

impl Sqlite {
    pub(super) async fn commit_group(&self, group: Group) -> Result<(), EngineError> {
        let mut writing = self.writing.lock().await;
        let keys = group.txns.iter().flat_map(|txn| txn.rows.iter().map(|row| &row.key));
        let fresh = self.seal.prepare(keys);
        let (seq, bytes) = match self.write_group(&mut writing, &group, &fresh).await {
            Ok(written) => written,
            Err(error) => {
                self.seal.withdraw(&fresh);
                return Err(writing.fail(error).await);
            }
        };
        writing.seq = seq;
        writing.wal += bytes;
        Ok(())
    }

    async fn write_group(
        &self,
        writing: &mut Writing,
        group: &Group,
        fresh: &[DataKeyRow],
    ) -> sqlx::Result<(Seq, usize)> {
        let mut seq = writing.seq;
        let connection = writing.ready(self, group.durability).await?;
        let rows = Rows::of(self, group, &mut seq);
        let bytes = rows.bytes;
        if fresh.is_empty() && rows.are_few() {
            rows.write_at_once(connection).await?;
            return Ok((seq, bytes));
        }
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        insert_data_keys(connection, fresh).await?;
        rows.write(connection).await?;
        sqlx::query("COMMIT").execute(connection).await?;
        Ok((seq, bytes))
    }

    pub(super) async fn reserve_up_to(&self, end: Rev, oldest: Oldest) -> Result<(), EngineError> {
        let mut writing = self.writing.lock().await;
        let done = async {
            let connection = writing.ready(self, Durability::Durable).await?;
            let sql = "UPDATE meta SET reserved = ?, clean = 0, boot_id = ?, oldest_main = ?, oldest_short = ?";
            let query = sqlx::query(sql).bind(number(end)).bind(self.boot_id.as_str());
            query.bind(number(oldest.main)).bind(number(oldest.short)).execute(connection).await
        };
        let done = done.await;
        match done {
            Ok(_) => Ok(()),
            Err(error) => Err(writing.fail(error).await),
        }
    }

    pub(super) async fn write_anchor(&self, anchor: Anchor) -> Result<(), EngineError> {
        let mut writing = self.writing.lock().await;
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let done = async {
            let connection = writing.ready(self, Durability::Relaxed).await?;
            let query = sqlx::query("INSERT OR REPLACE INTO audit VALUES (1, ?, ?, ?)").bind(signed(anchor.first));
            query.bind(signed(anchor.seq)).bind(anchor.hash).execute(connection).await
        };
        match done.await {
            Ok(_) => Ok(()),
            Err(error) => Err(writing.fail(error).await),
        }
    }

    pub(super) async fn checkpoint_if_long(&self) {
        let mut writing = self.writing.lock().await;
        if writing.wal < LONG_WAL && !writing.doubtful {
            return;
        }
        if let Err(error) = writing.checkpoint(self, "PRAGMA wal_checkpoint(PASSIVE)").await {
            let error = writing.fail(error).await;
            tracing::warn!(%error, "cannot fold the log into the database");
        }
    }

    /// Marks the shutdown as clean and closes; SQLite then folds the WAL away.
    pub(super) async fn mark_clean(&self) -> Result<(), EngineError> {
        let mut writing = self.writing.lock().await;
        let done = async {
            let connection = writing.ready(self, Durability::Durable).await?;
            sqlx::query("UPDATE meta SET clean = 1").execute(connection).await
        };
        let done = done.await;
        match done {
            Err(error) => Err(writing.fail(error).await),
            Ok(_) => match writing.connection.take() {
                Some(connection) => Ok(connection.close().await?),
                None => Ok(()),
            },
        }
    }
}

/// A group as rows of tables.
struct Rows<'g> {
    txns: Vec<(&'g Txn, Seq, i64)>,
    /// The last state of each object that the group leaves.
    objects: BTreeMap<&'g Key, (Rev, Option<&'g Row>)>,
    main: Vec<(i64, &'g Row)>,
    short: Vec<(i64, &'g Row)>,
    history: Vec<(i64, &'g Row)>,
    engine: &'g Sqlite,
    bytes: usize,
}

impl<'g> Rows<'g> {
    fn of(engine: &'g Sqlite, group: &'g Group, seq: &mut Seq) -> Self {
        let (txns, objects) = (Vec::with_capacity(group.txns.len()), BTreeMap::new());
        let (main, short, history) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = Self { txns, objects, main, short, history, engine, bytes: 4096 };
        for txn in &group.txns {
            let (mut remembered, mut bytes) = (0, 0);
            for (place, row) in txn.rows.iter().enumerate() {
                let id = row_id(txn.revision, place);
                rows.bytes += 3 * row.body.json().len() + 512;
                rows.objects.insert(&row.key, (txn.revision, (!row.deleted).then_some(row)));
                match row.key.kind.log {
                    ChangeLog::Main => rows.main.push((id, row)),
                    ChangeLog::Short => rows.short.push((id, row)),
                }
                if let Some(size) = row.remembered.size() {
                    rows.history.push((id, row));
                    remembered += 1;
                    bytes += i64::try_from(size).unwrap_or(i64::MAX);
                }
            }
            *seq = Seq {
                main: seq.main + txn.rows.iter().filter(|row| row.key.kind.log == ChangeLog::Main).count() as i64,
                short: seq.short + txn.rows.iter().filter(|row| row.key.kind.log == ChangeLog::Short).count() as i64,
                history: seq.history + remembered,
                bytes: seq.bytes.saturating_add(bytes),
            };
            rows.txns.push((txn, *seq, remembered));
        }
        rows
    }

    async fn write(self, to: &mut SqliteConnection) -> sqlx::Result<()> {
        insert(to, &TXN, &self.txns, bind_txn).await?;
        for (table, rows) in [(&CHANGE, &self.main), (&CHANGE_SHORT, &self.short)] {
            insert(to, table, rows, |query, row| bind_change(self.engine, query, row)).await?;
        }
        insert(to, &HISTORY, &self.history, |query, row| bind_version(self.engine, query, row)).await?;
        let (there, gone) = self.there_and_gone();
        for key in gone {
            bind_key(self.engine, sqlx::query(DELETE), key).execute(&mut *to).await?;
        }
        insert(to, &OBJECT, &there, |query, row| bind_object(self.engine, query, row)).await
    }

    /// True of most commits: those of one writer who waits for it.
    fn are_few(&self) -> bool {
        self.txns.len() == 1 && self.main.len() + self.short.len() <= FEW
    }

    /// Writes all of a transaction with one text of many statements. Each hand-over to SQLite's thread and back takes as long as a small
    /// statement itself, and there would be ten. Few rows make few texts, so that all of them stay prepared.
    async fn write_at_once(self, to: &mut SqliteConnection) -> sqlx::Result<()> {
        let (there, gone) = self.there_and_gone();
        let inserts = [
            (&TXN, self.txns.len()),
            (&CHANGE, self.main.len()),
            (&CHANGE_SHORT, self.short.len()),
            (&HISTORY, self.history.len()),
            (&OBJECT, there.len()),
        ];
        let inserts = inserts.into_iter().filter(|(_, rows)| *rows > 0).map(|(into, rows)| into.text(rows));
        let deletes = gone.iter().map(|_| DELETE.to_owned());
        let all: Vec<String> = iter::once("BEGIN IMMEDIATE".to_owned()).chain(inserts).chain(deletes).collect();
        let mut query = sqlx::query(AssertSqlSafe(format!("{};COMMIT", all.join(";"))));
        query = self.txns.iter().fold(query, bind_txn);
        let changes = self.main.iter().chain(&self.short);
        query = changes.fold(query, |query, row| bind_change(self.engine, query, row));
        query = self.history.iter().fold(query, |query, row| bind_version(self.engine, query, row));
        query = there.iter().fold(query, |query, row| bind_object(self.engine, query, row));
        query = gone.iter().fold(query, |query, key| bind_key(self.engine, query, key));
        query.execute(to).await.map(drop)
    }

    /// The objects that the group leaves, and those that it takes away.
    fn there_and_gone(&self) -> (Vec<(Rev, &'g Row)>, Vec<&'g Key>) {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for (key, (revision, row)) in &self.objects {
            match row {
                Some(row) => there.push((*revision, *row)),
                None => gone.push(*key),
            }
        }
        (there, gone)
    }
}

fn bind_txn<'q>(query: Bound<'q>, (txn, seq, remembered): &(&Txn, Seq, i64)) -> Bound<'q> {
    let Txn { revision, at, provenance: by, .. } = txn;
    let query = query.bind(number(*revision)).bind(at.as_microsecond());
    let query = query.bind(by.actor.clone()).bind(by.manager.clone()).bind(by.request_id.clone());
    let query = query.bind(by.cause.map(number)).bind(by.reason.clone());
    query.bind(seq.main).bind(seq.short).bind(seq.history).bind(*remembered).bind(seq.bytes)
}

fn bind_change<'q>(engine: &Sqlite, query: Bound<'q>, (id, row): &(i64, &Row)) -> Bound<'q> {
    let query = bind_key(engine, query.bind(*id), &row.key);
    query.bind(row.deleted).bind(engine.seal.seal(&row.key, row.body.json())).bind(number(row.before))
}

fn bind_version<'q>(engine: &Sqlite, query: Bound<'q>, (id, row): &(i64, &Row)) -> Bound<'q> {
    let body = match &row.remembered {
        Remembered::Version(body) => Some(engine.seal.seal(&row.key, body.json())),
        Remembered::Nothing | Remembered::Deletion => None,
    };
    bind_key(engine, query.bind(*id), &row.key).bind(row.uid.to_string()).bind(body)
}

fn bind_object<'q>(engine: &Sqlite, query: Bound<'q>, (revision, row): &(Rev, &Row)) -> Bound<'q> {
    let query = bind_key(engine, query, &row.key).bind(number(*revision));
    query.bind(engine.seal.seal(&row.key, row.body.json()))
}

type Bound<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

fn bind_key<'q>(engine: &Sqlite, query: Bound<'q>, key: &Key) -> Bound<'q> {
    query.bind(engine.kind_name(key.kind)).bind(Arc::clone(&key.namespace)).bind(Arc::clone(&key.name))
}

/// How rows are inserted into a table: SQL before and after the values, and how many columns.
struct Insert {
    head: &'static str,
    columns: usize,
    tail: &'static str,
}

impl Insert {
    /// The statement for so many rows.
    fn text(&self, rows: usize) -> String {
        let tuple = format!("({})", vec!["?"; self.columns].join(","));
        format!("{}{}{}", self.head, vec![tuple; rows].join(","), self.tail)
    }
}

const DELETE: &str = "DELETE FROM object WHERE kind = ? AND namespace = ? AND name = ?";
/// Rows of a transaction that is written with one text.
const FEW: usize = 12;

const TXN: Insert = Insert { head: "INSERT INTO txn VALUES ", columns: 12, tail: "" };
const CHANGE: Insert = Insert { head: "INSERT INTO change VALUES ", columns: 7, tail: "" };
const CHANGE_SHORT: Insert = Insert { head: "INSERT INTO change_short VALUES ", columns: 7, tail: "" };
const HISTORY: Insert = Insert { head: "INSERT INTO history VALUES ", columns: 6, tail: "" };
const OBJECT: Insert = Insert {
    head: "INSERT INTO object (kind, namespace, name, revision, body) VALUES ",
    columns: 5,
    tail: " ON CONFLICT DO UPDATE SET revision = excluded.revision, body = excluded.body",
};

/// Inserts rows, many with one statement: each statement costs a hand-over to SQLite's thread and back. The few
/// lengths there are keep the number of prepared statements small.
async fn insert<T>(
    to: &mut SqliteConnection,
    into: &Insert,
    mut rows: &[T],
    bind: impl for<'q> Fn(Bound<'q>, &T) -> Bound<'q>,
) -> sqlx::Result<()> {
    while !rows.is_empty() {
        let length = [64, 16, 4, 1].into_iter().find(|length| *length <= rows.len()).expect("1 fits");
        let (now, later) = rows.split_at(length);
        let query = now.iter().fold(sqlx::query(AssertSqlSafe(into.text(length))), &bind);
        query.execute(&mut *to).await?;
        rows = later;
    }
    Ok(())
}
