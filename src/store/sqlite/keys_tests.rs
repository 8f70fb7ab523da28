//! Sealing on a real file: what lies there, keys that are lost or wrong, and rotations that are cut off anywhere.

use std::{fs, path::Path};

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sqlx::Row;
use tempfile::TempDir;

use super::{
    tests::{killed, store_of},
    *,
};
use crate::{
    api::{Durability, Key, Kind, Namespace},
    store::{
        Expect, Store,
        tests::{commit, remembered, write},
    },
};

static SECRET: KindInfo = KindInfo { kind: "Secret", plural: "secrets", sealed: true, ..*Namespace::INFO };
static SEALED_KINDS: &[&KindInfo] = &[&SECRET];

async fn try_open(dir: &Path, key_file: Option<&Path>) -> Result<Sqlite, OpenError> {
    let key_file = key_file.map(|path| KeyFile { path: path.to_owned(), ours: false });
    Sqlite::open_in_boot(dir, key_file, SEALED_KINDS, "boot-1".to_owned()).await
}

async fn open(dir: &Path) -> Sqlite {
    try_open(dir, None).await.expect("opens")
}

/// Two secrets, one of them with a past.
async fn fill(store: &Store) -> Rev {
    let make = |name, mark| commit(Durability::Durable, vec![write(&SECRET, name, Expect::Absent, Some(mark))]);
    let made = store.commit(make("door", "open sesame")).await.expect("is made").revision;
    store.commit(make("gate", "open sesame")).await.expect("is made");
    let change = write(&SECRET, "door", Expect::At(made), Some("open barley"));
    store.commit(commit(Durability::Durable, vec![change])).await.expect("is changed").revision
}

/// That everything that [`fill`] wrote can be read: objects, changes and history.
async fn assert_readable(engine: Sqlite, why: &str) {
    let until = Rev(u64::MAX >> 16);
    let changes = engine.changes(&SECRET, Rev(0), until, 99).await.unwrap_or_else(|e| panic!("{why}: {e}"));
    assert_eq!(changes.len(), 3, "{why}");
    let store = store_of(engine).await;
    let door = Key::new(&SECRET, "default", "door");
    assert_eq!(store.get(&door).expect("is there").value()["spec"]["mark"], "open barley", "{why}");
    let past = remembered(&store, &door).await;
    assert_eq!(past.iter().filter(|entry| entry.body.is_some()).count(), 2, "{why}");
    store.close().await;
}

fn keys_in(file: &Path) -> Vec<String> {
    fs::read_to_string(file).expect("is there").lines().map(str::to_owned).collect()
}

fn new_key(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; 32])
}

async fn data_keys(engine: &Sqlite) -> Vec<(i64, bool)> {
    let mut writing = engine.writing.lock().await;
    let rows = sqlx::query("SELECT id, retired FROM data_key").fetch_all(writing.connection()).await.expect("is read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn sealed_kinds_never_reach_the_disk_in_the_clear() {
    let dir = TempDir::new().unwrap();
    let store = store_of(open(dir.path()).await).await;
    let last = fill(&store).await;
    let copy = killed(&dir);
    for file in ["appm.db", "appm.db-wal"] {
        let bytes = fs::read(copy.path().join(file)).unwrap();
        assert!(!bytes.windows(5).any(|w| w == b"open "), "{file}");
    }
    let engine = open(copy.path()).await;
    sqlx::query("UPDATE change SET body = (SELECT body FROM object WHERE name = 'gate') WHERE name = 'door'")
        .execute(engine.writing.lock().await.connection())
        .await
        .unwrap();
    let swapped = engine.changes(&SECRET, Rev(0), last, 9).await.unwrap_err();
    assert!(swapped.to_string().contains("cannot be unsealed"), "{swapped}");
    assert_readable(open(killed(&dir).path()).await, "a copy of everything").await;
}

#[tokio::test]
async fn a_lost_key_and_a_wrong_key_are_named_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    let store = store_of(open(dir.path()).await).await;
    fill(&store).await;
    let copy = killed(&dir);
    let key_file = copy.path().join("keys/seal.key");
    let right = fs::read(&key_file).unwrap();

    fs::remove_file(&key_file).unwrap();
    let refused = try_open(copy.path(), None).await.err().expect("the key is lost").to_string();
    assert!(refused.contains("Put the key back"), "{refused}");
    assert!(!key_file.exists(), "a new key would hide that the old one is lost");

    for (wrong, said) in [
        (new_key(7), "it is another key"),
        ("# a comment\n".to_owned(), "there is no key in it"),
        ("c2hvcnQ=".to_owned(), "32 bytes"),
    ] {
        fs::write(&key_file, &wrong).unwrap();
        let refused = try_open(copy.path(), None).await.err().expect("the key is wrong").to_string();
        assert!(refused.contains(said), "{refused}");
        assert_eq!(fs::read_to_string(&key_file).unwrap(), wrong);
    }
    fs::write(&key_file, right).unwrap();
    assert_readable(open(copy.path()).await, "the right key again").await;
}

#[tokio::test]
async fn what_an_older_appm_sealed_with_the_file_s_key_is_read_and_sealed_anew() {
    let dir = TempDir::new().unwrap();
    let store = store_of(open(dir.path()).await).await;
    fill(&store).await;
    let copy = killed(&dir);
    let key_file = copy.path().join("keys/seal.key");
    let raw = BASE64_STANDARD.decode(&keys_in(&key_file)[0]).unwrap();
    let old = RandomizedNonceKey::new(&AES_256_GCM, &raw).unwrap();
    {
        let engine = open(copy.path()).await;
        let mut writing = engine.writing.lock().await;
        for table in ["object", "change", "history"] {
            let sql = format!("SELECT id, name, body FROM {table}");
            for row in sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(writing.connection()).await.unwrap() {
                let name: &str = row.get(1);
                let body = engine.seal.unseal(&Key::new(&SECRET, "default", name), row.get(2)).unwrap();
                let mut text = body.to_vec();
                let aad = Aad::from(format!("secrets\0default\0{name}"));
                let nonce = old.seal_in_place_append_tag(aad, &mut text).unwrap();
                let sealed = [&[1], nonce.as_ref().as_slice(), &text].concat();
                let sql = format!("UPDATE {table} SET body = ? WHERE id = ?");
                let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(sealed).bind(row.get::<i64, _>(0));
                query.execute(writing.connection()).await.unwrap();
            }
        }
        for sql in ["DELETE FROM data_key", "INSERT INTO data_key VALUES (0, '', '', NULL, 1)"] {
            sqlx::query(sql).execute(writing.connection()).await.unwrap();
        }
    }
    fs::write(&key_file, new_key(7)).unwrap();
    let refused = try_open(copy.path(), None).await.err().expect("the key is wrong").to_string();
    assert!(refused.contains("does not open what the database holds"), "{refused}");

    // The old key stays good after a rotation, too, until nothing needs it.
    fs::write(&key_file, BASE64_STANDARD.encode(&raw)).unwrap();
    let engine = open(copy.path()).await;
    engine.rotate(false).await.unwrap();
    assert_ne!(keys_in(&key_file), [BASE64_STANDARD.encode(&raw)]);
    drop(engine);
    let engine = open(copy.path()).await;
    assert_eq!(data_keys(&engine).await, [(0, true)]);
    while engine.reseal(2).await.unwrap() {}
    let left = data_keys(&engine).await;
    assert!(left.len() == 1 && left[0].0 != 0 && !left[0].1, "{left:?}");
    drop(engine);
    assert_readable(open(copy.path()).await, "sealed anew").await;
}

#[tokio::test]
async fn a_rotation_can_be_cut_off_after_every_step_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let store = store_of(open(dir.path()).await).await;
    fill(&store).await;
    let start = || {
        let copy = killed(&dir);
        let key_file = copy.path().join("keys/seal.key");
        let old = keys_in(&key_file).remove(0);
        (copy, key_file, old)
    };

    let (copy, key_file, old) = start();
    fs::write(&key_file, format!("{}\n{old}\n", new_key(7))).unwrap();
    assert_readable(open(copy.path()).await, "the new key was added to the file").await;
    assert_eq!(keys_in(&key_file), [new_key(7)], "the start has finished what was begun");

    let (copy, key_file, old) = start();
    let engine = open(copy.path()).await;
    engine.rotate(false).await.unwrap();
    drop(engine);
    let new = keys_in(&key_file).remove(0);
    fs::write(&key_file, format!("{new}\n{old}\n")).unwrap();
    assert_readable(open(copy.path()).await, "the data keys were wrapped").await;
    assert_eq!(keys_in(&key_file), [new]);

    // Bodies are sealed anew one by one, and after each the process is killed.
    let (copy, _, _) = start();
    let engine = open(copy.path()).await;
    let before = data_keys(&engine).await;
    assert_eq!(engine.rotate(true).await.unwrap().retired, 1);
    drop(engine);
    for killed_after in 0.. {
        let engine = open(copy.path()).await;
        let mut more = true;
        for _ in 0..=killed_after {
            more = more && engine.reseal(1).await.unwrap();
        }
        let second = killed(&copy);
        drop(engine);
        assert_readable(open(second.path()).await, &format!("killed after batch {killed_after}")).await;
        if !more {
            break;
        }
    }
    let engine = open(copy.path()).await;
    let after = data_keys(&engine).await;
    assert!(after.iter().all(|key| !key.1 && !before.contains(key)), "{before:?} {after:?}");
}

#[tokio::test]
async fn new_keys_are_taken_in_use_while_writers_go_on() {
    let dir = TempDir::new().unwrap();
    let store = store_of(open(dir.path()).await).await;
    fill(&store).await;
    let sealing = store.sealing().unwrap();
    let rotated = store.rotate_keys(true).await.unwrap();
    assert_ne!(rotated.key, sealing.key);
    for n in 0..20 {
        let write = write(&SECRET, &format!("s{n}"), Expect::Absent, Some("open sesame"));
        store.commit(commit(Durability::Durable, vec![write])).await.unwrap();
    }
    while store.sealing().unwrap().retired > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.sealing().unwrap().data_keys, 1);
    store.close().await;
    let store = store_of(open(dir.path()).await).await;
    assert_eq!(store.list(&SECRET, None).items.len(), 22);
}

#[tokio::test]
async fn a_key_file_that_somebody_else_made_is_never_written() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("given.key");
    let refused = try_open(dir.path(), Some(&file)).await.err().expect("there is no key").to_string();
    assert!(refused.contains("makes a key"), "{refused}");
    fs::write(&file, new_key(1)).unwrap();
    let store = store_of(try_open(dir.path(), Some(&file)).await.unwrap()).await;
    fill(&store).await;
    let refused = store.rotate_keys(false).await.unwrap_err().to_string();
    assert!(refused.contains("in use already"), "{refused}");
    fs::write(&file, new_key(2)).unwrap();
    let refused = store.rotate_keys(false).await.unwrap_err().to_string();
    assert!(refused.contains("Put it back"), "{refused}");
    let both = format!("# newest first\n{}\n{}\n", new_key(2), new_key(1));
    fs::write(&file, &both).unwrap();
    store.rotate_keys(false).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), both);
    store.close().await;
    fs::write(&file, new_key(2)).unwrap();
    assert_readable(try_open(dir.path(), Some(&file)).await.unwrap(), "only the new key").await;
    assert!(!dir.path().join("keys").exists());
}
