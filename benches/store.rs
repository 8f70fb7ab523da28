//! `cargo bench --bench store`: the store on a real file, in a temporary directory of the file system that
//! `TMPDIR` names (a RAM disk there makes syncs free and the figures worthless).
//!
//! `sync` is the floor for everything durable: one 4 KiB write and fdatasync(2) on the same disk.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at the first thing that fails")]

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use appm::{
    api::{App, Body, Durability, Instance, Key, Kind, Rev},
    clock::System,
    store::{Commit, Expect, Limits, Provenance, Sqlite, Store, Watch, Write},
};
use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// A store in its own directory, and the runtime that it lives on.
struct World {
    store: Arc<Store>,
    runtime: Runtime,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = TempDir::new().unwrap();
        let store = runtime.block_on(open(&dir));
        Self { store, runtime, dir }
    }

    /// With that many Apps of about 1 KiB.
    fn with_apps(count: usize) -> Self {
        let world = Self::new();
        for start in (0..count).step_by(1000) {
            let names = (start..(start + 1000).min(count)).map(|i| format!("app-{i}"));
            let writes = names.map(|name| write(&name, Expect::Absent, 0)).collect();
            world.runtime.block_on(world.store.commit(commit(Durability::Relaxed, writes))).unwrap();
        }
        world
    }
}

async fn open(dir: &TempDir) -> Arc<Store> {
    let engine = Sqlite::open(dir.path(), None).await.unwrap();
    Store::open(Box::new(engine), Arc::new(System), Limits::default()).await.unwrap()
}

fn write(name: &str, expect: Expect, mark: u64) -> Write {
    let env: Vec<_> =
        (0..8).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "a value of some length"})).collect();
    let body = Body::new(json!({
        "apiVersion": "appm.dev/v1", "kind": "App",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("7d444840-9dc0-11d1-b245-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": mark, "labels": {"team": "web", "tier": "front"},
        },
        "spec": {"replicas": 1, "process": {"command": ["/usr/bin/server", "--listen", "0.0.0.0:8080"]}, "env": env},
        "status": {"replicas": 1, "readyReplicas": 1, "observedGeneration": mark},
    }));
    Write { key: Key::of::<App>("default", name), expect, body: Some(body), status_only: false }
}

fn commit(durability: Durability, writes: Vec<Write>) -> Commit {
    let provenance = Provenance { actor: "admin".into(), manager: "appm".into(), ..Provenance::default() };
    Commit { writes, given: Vec::new(), ceilings: Vec::new(), durability, provenance, at: Timestamp::UNIX_EPOCH }
}

#[divan::bench(sample_count = 50)]
fn sync(bencher: Bencher) {
    let dir = TempDir::new().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let page = [7; 4096];
    let mut at = 0;
    bencher.counter(ItemsCount::new(1u64)).bench_local(|| {
        file.write_all_at(&page, at).unwrap();
        at += 4096;
        file.sync_data().unwrap();
    });
}

/// Each writer changes an App of its own, again and again: compare-and-swap, acknowledged one by one.
#[divan::bench(args = [(1, true), (64, true), (1, false), (64, false)], sample_count = 10)]
fn commits(bencher: Bencher, (writers, durable): (usize, bool)) {
    const EACH: usize = 20;
    let world = World::with_apps(writers);
    let durability = if durable { Durability::Durable } else { Durability::Relaxed };
    let change = move |store: Arc<Store>, name: String| async move {
        for mark in 0..EACH as u64 {
            let at = store.get(&Key::of::<App>("default", &name)).unwrap().revision;
            store.commit(commit(durability, vec![write(&name, Expect::At(at), mark)])).await.unwrap();
        }
    };
    bencher.counter(ItemsCount::new(writers * EACH)).bench_local(|| {
        let tasks = (0..writers).map(|i| world.runtime.spawn(change(world.store.clone(), format!("app-{i}"))));
        let tasks: Vec<_> = tasks.collect();
        world.runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

/// One transaction of 1,000 new Apps.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn transaction_of_1000(bencher: Bencher) {
    bencher
        .counter(ItemsCount::new(1000u64))
        .with_inputs(|| {
            let writes = (0..1000).map(|i| write(&format!("app-{i}"), Expect::Absent, 0)).collect();
            (World::new(), commit(Durability::Durable, writes))
        })
        .bench_local_values(|(world, commit)| {
            world.runtime.block_on(world.store.commit(commit)).unwrap();
            world
        });
}

/// A list of 10,000 objects put together as one JSON text.
#[divan::bench(sample_count = 20)]
fn list_10000(bencher: Bencher) {
    let world = World::with_apps(10_000);
    let list = || {
        let mut out = Vec::new();
        for object in world.store.list(App::INFO, None).items {
            out.extend_from_slice(&object.json);
            out.push(b',');
        }
        out
    };
    bencher.counter(BytesCount::new(list().len())).bench_local(list);
}

/// One relaxed change until the last of 1,000 watchers has it.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn watch_fan_out_1000(bencher: Bencher) {
    let world = World::with_apps(1);
    let (seen, arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut arrivals = arrivals;
    for _ in 0..1000 {
        let (_, mut watch) = world.store.list_and_watch(App::INFO);
        let seen = seen.clone();
        world.runtime.spawn(async move { while watch.next().await.is_ok() && seen.send(()).is_ok() {} });
    }
    bencher.counter(ItemsCount::new(1000u64)).bench_local(|| {
        world.runtime.block_on(async {
            let at = world.store.get(&Key::of::<App>("default", "app-0")).unwrap().revision;
            let change = write("app-0", Expect::At(at), 1);
            world.store.commit(commit(Durability::Relaxed, vec![change])).await.unwrap();
            for _ in 0..1000 {
                arrivals.recv().await.unwrap();
            }
        });
    });
}

/// From an existing file of 10,000 objects to a store that answers.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn start_with_10000(bencher: Bencher) {
    let world = World::with_apps(10_000);
    world.runtime.block_on(world.store.close());
    bencher.bench_local(|| {
        let store = world.runtime.block_on(open(&world.dir));
        assert_eq!(store.list(App::INFO, None).items.len(), 10_000);
        // Part of the measurement: nothing is left to be written.
        world.runtime.block_on(store.close());
    });
}

/// Resuming a watch 1,000 changes back, after a restart: all of it is read from disk.
#[divan::bench(sample_count = 10)]
fn resume_1000_from_disk(bencher: Bencher) {
    let world = World::with_apps(1);
    let mut at = world.store.revision();
    for mark in 0..1000 {
        let change = commit(Durability::Relaxed, vec![write("app-0", Expect::At(at), mark)]);
        at = world.runtime.block_on(world.store.commit(change)).unwrap().revision;
    }
    world.runtime.block_on(world.store.close());
    let store = world.runtime.block_on(open(&world.dir));
    bencher.counter(ItemsCount::new(1000u64)).bench_local(|| {
        world.runtime.block_on(async {
            let mut watch: Watch = store.watch(App::INFO, Rev(at.0 - 1000)).await.unwrap();
            while watch.next().await.unwrap().revision < at {}
        });
    });
    assert!(store.list(Instance::INFO, None).items.is_empty());
}
