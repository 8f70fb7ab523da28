//! What only a real file can show: kill and reopen, damage, a full disk.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use proptest::prelude::*;
use sqlx::Row;
use tempfile::TempDir;

use super::*;
use crate::{
    api::{App, Durability, Event, Instance, Key, Kind},
    store::{
        Archive, AsOf, Change, CommitError, Expect, HistoryEntry, Horizon, Memory, PastTransaction, Pin, Stood, Store,
        Transactions, Watch, Write,
        past_tests::{pins_outlive_everything, what_stood_is_told_at_any_revision},
        tests::{app, clock, commit, create, names, old_changes_go_by_age_and_count, remembered, step, update, write},
    },
};

async fn engine(dir: &Path, boot_id: &str) -> Result<Sqlite, OpenError> {
    Sqlite::open_in_boot(dir, None, KINDS, boot_id.to_owned()).await
}

pub(super) async fn store_of(engine: Sqlite) -> Arc<Store> {
    Store::open(Box::new(engine), clock(), Limits::default()).await.expect("opens")
}

async fn open(dir: &TempDir) -> Arc<Store> {
    store_of(engine(dir.path(), "boot-1").await.expect("opens")).await
}

/// What a new process finds after `kill -9`: all that was written, whether synced or not.
pub(super) fn killed(dir: &TempDir) -> TempDir {
    let copy = TempDir::new().expect("a directory");
    fs::create_dir(copy.path().join("keys")).expect("is made");
    for file in ["appm.db", "appm.db-wal", "keys/seal.key"] {
        fs::copy(dir.path().join(file), copy.path().join(file)).expect("is there");
    }
    copy
}

async fn refusal(dir: &Path, boot_id: &str) -> OpenError {
    let opened = async { Store::open(Box::new(engine(dir, boot_id).await?), clock(), Limits::default()).await };
    opened.await.expect_err("is refused")
}

#[tokio::test]
async fn everything_is_there_after_a_clean_restart() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let made = create(&store, "web").await;
    let updated = update(&store, "web", made, "2").await;
    store.close().await;
    assert!(!dir.path().join("appm.db-wal").exists());

    let store = store_of(engine(dir.path(), "boot-2").await.unwrap()).await;
    assert_eq!(store.revision(), updated);
    assert_eq!(store.get(&app("web")).unwrap().value()["spec"]["mark"], "2");
    assert_eq!(remembered(&store, &app("web")).await.len(), 2);
    let mut watch = store.watch(App::INFO, made).await.unwrap();
    assert_eq!(step(&mut watch).await, format!("{updated} ~web"));
}

#[tokio::test]
async fn everything_is_there_after_a_kill_and_revisions_go_on() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    create(&store, "durable").await;
    let relaxed = commit(Durability::Relaxed, vec![write(App::INFO, "relaxed", Expect::Absent, Some("1"))]);
    let last = store.commit(relaxed).await.unwrap().revision;

    let store = open(&killed(&dir)).await;
    assert_eq!(names(&store.list(App::INFO, None)), ["durable", "relaxed"]);
    assert_eq!(create(&store, "next").await, last.next());
}

#[tokio::test]
async fn after_a_power_loss_no_revision_is_handed_out_twice_and_old_cursors_expire() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let last = create(&store, "web").await;
    let copy = killed(&dir);
    let store = store_of(engine(copy.path(), "boot-2").await.unwrap()).await;
    assert_eq!(store.revision(), Rev(1 + Limits::default().block));
    assert!(matches!(store.watch(App::INFO, last).await, Err(crate::store::WatchError::Expired { .. })));
    let (snapshot, _) = store.list_and_watch(App::INFO);
    assert!(store.watch(App::INFO, snapshot.revision).await.is_ok());
}

#[tokio::test]
async fn a_second_server_is_refused_by_name_and_pid() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let refused = refusal(dir.path(), "boot-1").await;
    let expected = format!("`{}` is in use by process {}", dir.path().display(), std::process::id());
    assert!(refused.to_string().ends_with(&expected), "{refused}");
    store.close().await;
    open(&dir).await;
}

#[tokio::test]
async fn what_is_not_a_database_is_named_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("appm.db");
    fs::write(&file, "this is somebody's shopping list. ".repeat(500)).unwrap();
    let before = fs::read(&file).unwrap();
    let refused = refusal(dir.path(), "boot-1").await;
    assert!(matches!(&refused, OpenError::Corrupt { file: named, .. } if *named == file), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_database_is_named_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    for i in 0..50 {
        create(&store, &format!("app-{i}")).await;
    }
    store.close().await;
    // SQLite's own thread closes the file, and may still be putting the log's pages into it.
    let log = dir.path().join("appm.db-wal");
    let closed = async {
        while log.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), closed).await.expect("it is closed");
    let file = dir.path().join("appm.db");
    let mut bytes = fs::read(&file).unwrap();
    for byte in bytes.iter_mut().skip(4096 * 2) {
        *byte = 0xA5;
    }
    fs::write(&file, &bytes).unwrap();
    let refused = refusal(dir.path(), "boot-1").await;
    assert!(matches!(&refused, OpenError::Corrupt { .. }), "{refused}");
    let left = fs::read(&file).unwrap();
    let written = left.iter().zip(&bytes).position(|(a, b)| a != b);
    assert_eq!((left.len(), written), (bytes.len(), None), "it was written to");
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_named_before_anything_is_written() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    create(&store, "web").await;
    let copy = killed(&dir);
    let engine = engine(copy.path(), "boot-1").await.unwrap();
    sqlx::query("UPDATE object SET body = CAST('{\"metadata\":{\"name\":7}}' AS BLOB)")
        .execute(engine.writing.lock().await.connection())
        .await
        .unwrap();
    let engine = Arc::new(engine);
    let refused = Store::open(Box::new(Shared(engine.clone())), clock(), Limits::default()).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Corrupt { detail, .. } if detail.contains("default/web")), "{refused}");
    assert_eq!(engine.load().await.unwrap().reserved, Rev(1 + Limits::default().block));
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path(), "boot-1").await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2030-01-01', 1, x'00', 1)")
        .execute(engine.writing.lock().await.connection())
        .await
        .unwrap();
    engine.close().await.unwrap();
    let refused = refusal(dir.path(), "boot-1").await;
    assert!(matches!(refused, OpenError::Newer { version: 9999, .. }), "{refused}");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path(), "boot-1").await.unwrap();
    let pages: i64 = {
        let mut writing = engine.writing.lock().await;
        let row = sqlx::query("PRAGMA page_count").fetch_one(writing.connection()).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(writing.connection()).await.unwrap();
        row.get(0)
    };
    let engine = Arc::new(engine);
    let store = Store::open(Box::new(Shared(engine.clone())), clock(), Limits::default()).await.unwrap();
    let big = "x".repeat(100_000);
    let make = |name| commit(Durability::Durable, vec![write(App::INFO, name, Expect::Absent, Some(&big))]);
    for _ in 0..3 {
        let refused = store.commit(make("a")).await.unwrap_err();
        assert!(matches!(&refused, CommitError::Unwritable(text) if text.contains("full")), "{refused}");
    }
    assert_eq!((store.revision(), store.get(&app("a")).is_none()), (Rev(1), true));
    let more = format!("PRAGMA max_page_count = {}", pages + 1000);
    let more = sqlx::query(sqlx::AssertSqlSafe(more));
    more.execute(engine.writing.lock().await.connection()).await.unwrap();
    assert_eq!(store.commit(make("a")).await.unwrap().revision, Rev(5));
    drop(store);
    let store = open(&killed(&dir)).await;
    assert_eq!((store.revision(), names(&store.list(App::INFO, None))), (Rev(5), vec!["a".to_owned()]));
}

/// An engine that a test keeps a hand on.
struct Shared(Arc<Sqlite>);

#[rustfmt::skip]
impl Archive for Shared {
    fn horizon(&self) -> BoxFuture<'_, Result<Horizon, EngineError>> { self.0.horizon() }
    fn revision_at(&self, at: Timestamp) -> BoxFuture<'_, Result<Rev, EngineError>> { self.0.revision_at(at) }
    fn versions<'a>(&'a self, key: &'a Key, below: Option<Rev>, limit: usize)
        -> BoxFuture<'a, Result<Vec<HistoryEntry>, EngineError>> { self.0.versions(key, below, limit) }
    fn as_of<'a>(&'a self, of: &'a AsOf, limit: usize) -> BoxFuture<'a, Result<Stood, EngineError>> { self.0.as_of(of, limit) }
    fn transactions<'a>(&'a self, of: &'a Transactions, limit: usize)
        -> BoxFuture<'a, Result<Vec<PastTransaction>, EngineError>> { self.0.transactions(of, limit) }
    fn pin(&self, pin: Pin) -> BoxFuture<'_, Result<bool, EngineError>> { self.0.pin(pin) }
    fn unpin<'a>(&'a self, key: &'a Key, name: &'a str) -> BoxFuture<'a, Result<bool, EngineError>> { self.0.unpin(key, name) }
    fn pins<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Vec<Pin>, EngineError>> { self.0.pins(key) }
}

#[rustfmt::skip]
impl Engine for Shared {
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>> { self.0.load() }
    fn reserve(&self, end: Rev, oldest: Oldest) -> BoxFuture<'_, Result<(), EngineError>> { self.0.reserve(end, oldest) }
    fn commit(&self, group: Group) -> BoxFuture<'_, Result<(), EngineError>> { self.0.commit(group) }
    fn changes(&self, kind: &'static KindInfo, after: Rev, until: Rev, limit: usize)
        -> BoxFuture<'_, Result<Vec<ChangeRow>, EngineError>> { self.0.changes(kind, after, until, limit) }
    fn beyond<'a>(&'a self, limits: &'a Limits, now: Timestamp) -> BoxFuture<'a, Result<Bounds, EngineError>> {
        self.0.beyond(limits, now) }
    fn compact(&self, bounds: Bounds, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> { self.0.compact(bounds, rows) }
    fn anchor(&self, anchor: Anchor) -> BoxFuture<'_, Result<(), EngineError>> { self.0.anchor(anchor) }
    fn sealing(&self) -> Option<Sealing> { self.0.sealing() }
    fn rotate(&self, data_keys: bool) -> BoxFuture<'_, Result<Sealing, RotateError>> { self.0.rotate(data_keys) }
    fn reseal(&self, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>> { self.0.reseal(rows) }
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, SnapshotError>> { self.0.snapshot() }
    fn tidy(&self) -> BoxFuture<'_, ()> { self.0.tidy() }
    fn largest(&self) -> usize { self.0.largest() }
    fn close(&self) -> BoxFuture<'_, Result<(), EngineError>> { self.0.close() }
}

#[tokio::test]
async fn nobody_else_can_read_the_files() {
    let dir = TempDir::new().unwrap();
    let inner = dir.path().join("a/b");
    let store = store_of(engine(&inner, "boot-1").await.unwrap()).await;
    create(&store, "web").await;
    let mode = |path: &str| fs::metadata(inner.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("keys")], [0o700; 2]);
    assert_eq!([mode("appm.db"), mode("appm.db-wal"), mode("lock"), mode("keys/seal.key")], [0o600; 4]);
}

#[tokio::test]
async fn old_rows_leave_the_file() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path(), "boot-1").await.unwrap();
    let vacuum: i64 =
        sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(engine.writing.lock().await.connection()).await.unwrap();
    assert_eq!(vacuum, 2, "incremental");
    old_changes_go_by_age_and_count(Box::new(engine)).await;

    let engine = self::engine(dir.path(), "boot-1").await.unwrap();
    engine.load().await.unwrap();
    let bounds = engine.beyond(&Limits::default(), Timestamp::MAX).await.unwrap();
    while engine.compact(bounds, 2).await.unwrap() {}
    for (table, left) in [("change", 0), ("history", 1), ("txn", 1), ("object", 1)] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let mut writing = engine.writing.lock().await;
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(writing.connection()).await.unwrap();
        assert_eq!(rows, left, "{table}");
    }
    // What stands stays, and who made it. The counter does not need the rows.
    assert_eq!(store_of(engine).await.revision(), Rev(9));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Commit { durability: Durability, writes: Vec<(usize, usize, Aim)> },
    Restart,
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum Aim {
    Put,
    PutStatus,
    Delete,
    Stale,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let aim =
        prop_oneof![5 => Just(Aim::Put), 2 => Just(Aim::PutStatus), 2 => Just(Aim::Delete), 1 => Just(Aim::Stale)];
    let durability = prop_oneof![Just(Durability::Durable), Just(Durability::Relaxed)];
    let writes = prop::collection::btree_map((0..3usize, 0..4usize), aim, 1..6)
        .prop_map(|writes| writes.into_iter().map(|((kind, name), aim)| (kind, name, aim)).collect());
    let commit = (durability, writes).prop_map(|(durability, writes)| Step::Commit { durability, writes });
    prop::collection::vec(prop_oneof![12 => commit, 1 => Just(Step::Restart), 1 => Just(Step::Kill)], 1..40)
}

fn commit_of(
    store: &Store,
    writes: &[(usize, usize, Aim)],
    durability: Durability,
    mark: usize,
) -> super::super::Commit {
    let writes = writes.iter().map(|(kind, name, aim)| {
        let kind = [App::INFO, Instance::INFO, Event::INFO][*kind];
        let name = format!("n{name}");
        let current = store.get(&Key::new(kind, "default", &name));
        let expect = current.map_or(Expect::Absent, |object| Expect::At(object.revision));
        let mark = mark.to_string();
        match aim {
            Aim::Put => write(kind, &name, expect, Some(&mark)),
            Aim::PutStatus => Write { status_only: true, ..write(kind, &name, expect, Some(&mark)) },
            Aim::Delete => write(kind, &name, expect, None),
            Aim::Stale => write(kind, &name, Expect::At(Rev(u64::MAX)), Some(&mark)),
        }
    });
    commit(durability, writes.collect())
}

/// All that can be seen of a store from outside.
async fn seen(store: &Store) -> Vec<String> {
    let kinds = [App::INFO, Instance::INFO, Event::INFO];
    let last = kinds.map(|kind| write(kind, "last", Expect::Absent, Some("1"))).to_vec();
    let end = store.commit(commit(Durability::Durable, last)).await.expect("is done").revision;
    let mut seen = Vec::new();
    for kind in kinds {
        for object in store.list(kind, None).items {
            seen.push(String::from_utf8_lossy(&object.json).into_owned());
        }
        for name in 0..4 {
            let key = Key::new(kind, "default", &format!("n{name}"));
            for entry in remembered(store, &key).await {
                seen.push(format!("{key} {} {:?}", entry.revision, entry.body));
            }
        }
        let mut watch: Watch = store.watch(kind, Rev(1)).await.expect("all is kept");
        loop {
            let batch = watch.next().await.expect("goes on");
            let old = |c: &Change| (c.old_known, c.old.as_ref().map(|old| (old.revision, old.json.clone())));
            let changes =
                batch.changes.iter().map(|c| format!("{:?} {} {:?} {:?}", c.new, c.deleted, c.new.json, old(c)));
            seen.push(format!("{} {}", batch.revision, changes.collect::<String>()));
            if batch.revision == end {
                break;
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_and_memory_cannot_be_told_apart_whatever_happens(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let disk = Memory::new();
            let mut model = Store::open(disk.engine(), clock(), Limits::default()).await.unwrap();
            let mut dir = TempDir::new().unwrap();
            let mut store = open(&dir).await;
            for (mark, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Commit { durability, writes } => {
                        let expected = model.commit(commit_of(&model, &writes, durability, mark)).await;
                        let done = store.commit(commit_of(&store, &writes, durability, mark)).await;
                        assert_eq!(done.map(|d| d.revision), expected.map(|d| d.revision));
                    }
                    Step::Restart => {
                        store.close().await;
                        store = open(&dir).await;
                        model.close().await;
                        model = Store::open(disk.engine(), clock(), Limits::default()).await.unwrap();
                    }
                    Step::Kill => {
                        let copy = killed(&dir);
                        store = open(&copy).await;
                        dir = copy;
                        model = Store::open(disk.engine(), clock(), Limits::default()).await.unwrap();
                    }
                }
            }
            assert_eq!(seen(&store).await, seen(&model).await);
        });
    }
}

#[tokio::test]
async fn what_stood_is_told_by_the_file_as_by_the_memory() {
    let dir = TempDir::new().unwrap();
    what_stood_is_told_at_any_revision(Box::new(engine(dir.path(), "boot-1").await.expect("opens"))).await;
}

#[tokio::test]
async fn a_pinned_version_outlives_compaction_and_kill_9() {
    let last = std::sync::Mutex::new(None::<TempDir>);
    pins_outlive_everything(async || {
        // What a process finds that begins anew: nothing was closed.
        let found = last.lock().unwrap().as_ref().map_or_else(|| TempDir::new().unwrap(), killed);
        let engine = engine(found.path(), "boot-1").await.expect("opens");
        *last.lock().unwrap() = Some(found);
        Box::new(engine) as Box<dyn Engine>
    })
    .await;
}

/// An older appm removed versions by their age though they still stood.
#[tokio::test]
async fn what_an_older_appm_forgot_is_not_made_up() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let old = create(&store, "old").await;
    let new = create(&store, "new").await;
    store.close().await;
    drop(store);
    let file = dir.path().join("appm.db");
    let mut connection = connect_to_write(&file).await.unwrap();
    for sql in [
        "DELETE FROM history WHERE name = 'old'".to_owned(),
        format!("UPDATE meta SET oldest_history = {old}"),
        "DROP TABLE pin".to_owned(),
        "ALTER TABLE txn DROP COLUMN bytes_history".to_owned(),
        "ALTER TABLE meta DROP COLUMN whole".to_owned(),
        "DELETE FROM _sqlx_migrations WHERE version = 5".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let store = open(&dir).await;
    assert_eq!(store.horizon().await.unwrap().oldest, new);
    let of = AsOf { kind: App::INFO, namespace: None, at: new, after: None };
    let stood = store.as_of(&of, 9).await.unwrap();
    let names: Vec<&str> = stood.objects.iter().map(|(key, _)| &*key.name).collect();
    assert_eq!(names, ["new", "old"]);
    let kept = stood.objects[1].1.body.as_ref().unwrap();
    assert!(!String::from_utf8_lossy(kept.json()).contains("status"));
    assert_eq!(stood.objects[1].1.uid.as_str(), "uid-old");
}
