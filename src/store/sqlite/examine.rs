//! Everything that is in a database, read once to see whether it can be: for reading only, beside a server if there is one.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection, sqlite::SqliteRow};

use super::{connect_to_read, keys, schema::classify};
use crate::{
    api::{Body, Event, KINDS, Key, Kind, StoredObject, Uid},
    store::{
        Anchor, OpenError,
        seal::{KeyFile, Seal},
    },
};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// How many objects there are.
    pub objects: u64,
    /// How many rows of logs and history were read beside.
    pub rows: u64,
    /// How many objects are of kinds that only another appm knows.
    pub unknown: u64,
    /// How many objects have an owner that is not there: a running server removes them.
    pub orphans: u64,
    /// Where the audit log stood when it was last said.
    pub anchor: Option<Anchor>,
    /// What is wrong, the first of them in words.
    pub faults: Vec<String>,
    /// How much is wrong beyond that.
    pub more: u64,
}

/// So many faults are told in words.
const TOLD: usize = 20;

impl Examination {
    fn fault(&mut self, what: String) {
        match self.faults.len() < TOLD {
            true => self.faults.push(what),
            false => self.more += 1,
        }
    }
}

/// Reads the database of a data directory whole: SQLite's own checks, each body with its seal, each object as its kind, what
/// objects say of each other. `each` is given every object that can be read.
///
/// # Errors
/// When it cannot be opened, or its key is missing.
pub async fn examine(
    dir: &Path,
    key_file: Option<&Path>,
    each: &mut (dyn FnMut(&StoredObject) + Send),
) -> Result<Examination, OpenError> {
    let (file, ours) = (dir.join("appm.db"), dir.join("keys/seal.key"));
    let key_file = KeyFile { path: key_file.map_or(ours, Path::to_owned), ours: false };
    let failed = |e| classify(&file, e);
    let mut connection = connect_to_read(&file).await.map_err(failed)?;
    let mut found = Examination::default();
    let said: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&mut connection).await.map_err(failed)?;
    said.into_iter().filter(|line| line != "ok").for_each(|line| found.fault(line));
    // One moment, whatever is written meanwhile.
    sqlx::query("BEGIN").execute(&mut connection).await.map_err(failed)?;
    let seal = keys::open_seal_to_read(&mut connection, &file, &key_file).await?;
    let anchor = sqlx::query("SELECT first, seq, hash FROM audit").fetch_optional(&mut connection).await;
    let unsigned = |n: i64| u64::try_from(n).unwrap_or_default();
    found.anchor = anchor.map_err(failed)?.map(|row| Anchor {
        first: unsigned(row.get(0)),
        seq: unsigned(row.get(1)),
        hash: row.get(2),
    });
    objects(&mut connection, &seal, &mut found, each).await.map_err(failed)?;
    for table in ["change", "change_short", "history"] {
        rows(&mut connection, &seal, table, &mut found).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)?;
    Ok(found)
}

/// What a row holds; `None` for kinds that this binary does not know.
fn body(row: &SqliteRow, seal: &Seal) -> Option<(Key, Result<Body, String>)> {
    let kind = KINDS.iter().find(|kind| *kind.qualified() == *row.get::<&str, _>(0))?;
    let key = Key::new(kind, row.get(1), row.get(2));
    let json = seal.unseal(&key, row.get::<Option<&[u8]>, _>(3).unwrap_or_default()).map_err(|e| e.to_string());
    let body = json.and_then(|json| Body::from_json(json).map_err(|e| e.to_string()));
    Some((key, body))
}

async fn objects(
    connection: &mut SqliteConnection,
    seal: &Seal,
    found: &mut Examination,
    each: &mut (dyn FnMut(&StoredObject) + Send),
) -> sqlx::Result<()> {
    let mut seen: HashMap<Uid, Key> = HashMap::new();
    let mut owners: Vec<Uid> = Vec::new();
    let mut read = sqlx::query("SELECT kind, namespace, name, body, revision FROM object").fetch(connection);
    while let Some(row) = read.try_next().await? {
        let Some((key, body)) = body(&row, seal) else {
            found.unknown += 1;
            continue;
        };
        found.objects += 1;
        let revision = super::schema::revision(row.get(4));
        let object = body.and_then(|body| {
            StoredObject::new(key.clone(), revision, &body).map_err(|e| format!("it is no object: {e}"))
        });
        let object = match object {
            Ok(object) => object,
            Err(why) => {
                found.fault(format!("{key}: {why}"));
                continue;
            }
        };
        let (meta, value) = (object.meta(), object.value());
        if let Err(error) = (key.kind.decode)(object.body().json(), None) {
            found.fault(format!("{key}: it cannot be read as its kind: {error}"));
        }
        let says = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        if (says("namespace"), says("name")) != (key.namespace.to_string(), key.name.to_string()) {
            found.fault(format!("{key}: it calls itself {}/{}", says("namespace"), says("name")));
        }
        match meta.uid.clone() {
            None => found.fault(format!("{key}: it has no uid")),
            Some(uid) => {
                if let Some(other) = seen.insert(uid, key.clone()) {
                    found.fault(format!("{key}: it has the uid of {other}"));
                }
            }
        }
        if key.kind != Event::INFO {
            owners.extend(meta.owner_references.iter().map(|owner| owner.uid.clone()));
        }
        each(&object);
    }
    let uids: HashSet<&Uid> = seen.keys().collect();
    found.orphans = owners.iter().filter(|uid| !uids.contains(uid)).count() as u64;
    Ok(())
}

async fn rows(
    connection: &mut SqliteConnection,
    seal: &Seal,
    table: &'static str,
    found: &mut Examination,
) -> sqlx::Result<()> {
    let sql = AssertSqlSafe(format!("SELECT kind, namespace, name, body FROM {table} WHERE body IS NOT NULL"));
    let mut read = sqlx::query(sql).fetch(connection);
    while let Some(row) = read.try_next().await? {
        found.rows += 1;
        if let Some((key, Err(why))) = body(&row, seal) {
            found.fault(format!("{table} of {key}: {why}"));
        }
    }
    Ok(())
}
