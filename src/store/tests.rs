//! One test for each promise of the store, on the engine in memory. What only a real disk can show is in `sqlite`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    api::{App, Body, Durability, Event, Instance, Kind, Node},
    clock::Virtual,
};

pub(super) fn clock() -> Arc<Virtual> {
    Arc::new(Virtual::new(Timestamp::UNIX_EPOCH, 1))
}

pub(super) async fn open(disk: &Memory) -> Arc<Store> {
    Store::open(disk.engine(), clock(), Limits::default()).await.expect("opens")
}

pub(super) fn body(kind: &'static KindInfo, name: &str, mark: &str) -> Body {
    Body::new(json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"mark": mark}, "status": {"seen": mark},
    }))
}

pub(super) fn write(kind: &'static KindInfo, name: &str, expect: Expect, mark: Option<&str>) -> Write {
    let body = mark.map(|mark| body(kind, name, mark));
    Write { key: Key::new(kind, "default", name), expect, body, status_only: false }
}

pub(super) fn commit(durability: Durability, writes: Vec<Write>) -> Commit {
    let provenance = Provenance { actor: "tester".to_owned(), ..Provenance::default() };
    Commit { writes, given: Vec::new(), ceilings: Vec::new(), durability, provenance, at: Timestamp::UNIX_EPOCH }
}

pub(super) async fn create(store: &Store, name: &str) -> Rev {
    let write = write(App::INFO, name, Expect::Absent, Some("1"));
    store.commit(commit(Durability::Durable, vec![write])).await.expect("is created").revision
}

pub(super) async fn update(store: &Store, name: &str, at: Rev, mark: &str) -> Rev {
    let write = write(App::INFO, name, Expect::At(at), Some(mark));
    store.commit(commit(Durability::Durable, vec![write])).await.expect("is updated").revision
}

pub(super) async fn delete(store: &Store, name: &str, at: Rev) -> Committed {
    store.commit(commit(Durability::Durable, vec![write(App::INFO, name, Expect::At(at), None)])).await.expect("goes")
}

/// All versions of an object, oldest first.
pub(super) async fn remembered(store: &Store, key: &Key) -> Vec<HistoryEntry> {
    let mut all = store.versions(key, None, usize::MAX).await.expect("reads");
    all.reverse();
    all
}

pub(super) fn app(name: &str) -> Key {
    Key::of::<App>("default", name)
}

pub(super) fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.items.iter().map(|object| object.key.name.to_string()).collect()
}

/// The next batch as text: revision, then `+name`, `~name` or `-name`.
pub(super) async fn step(watch: &mut Watch) -> String {
    let batch = watch.next().await.expect("the watch goes on");
    let sign = |change: &Change| match (&change.old, change.deleted) {
        (_, true) => '-',
        (None, _) => '+',
        _ => '~',
    };
    let changes = batch.changes.iter().map(|change| format!(" {}{}", sign(change), change.new.key.name));
    format!("{}{}", batch.revision, changes.collect::<String>())
}

#[tokio::test]
async fn a_new_store_is_at_a_revision_above_zero() {
    let store = open(&Memory::new()).await;
    assert_eq!(store.revision(), Rev(1));
    assert_eq!(create(&store, "web").await, Rev(2));
}

#[tokio::test]
async fn what_is_committed_can_be_read_listed_and_found() {
    let store = open(&Memory::new()).await;
    create(&store, "web").await;
    let revision = create(&store, "db").await;
    let web = store.get(&app("web")).expect("is there");
    assert_eq!(web.value()["metadata"]["resourceVersion"], "2");
    let all = store.list(App::INFO, None);
    assert_eq!((all.revision, names(&all)), (revision, vec!["db".to_owned(), "web".to_owned()]));
    assert!(store.list(App::INFO, Some("other")).items.is_empty());
    assert_eq!(store.list(App::INFO, Some("default")).items.len(), 2);
    assert_eq!(store.find_uid(&"uid-web".into()), Some(app("web")));
}

#[tokio::test]
async fn dependents_are_found_by_the_uid_of_their_owner() {
    let store = open(&Memory::new()).await;
    let owned = Body::new(json!({
        "apiVersion": "appm.dev/v1", "kind": "Instance",
        "metadata": {"name": "web-0", "namespace": "default", "uid": "u0", "ownerReferences": [
            {"apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": "uid-web"}]},
    }));
    let key = Key::of::<Instance>("default", "web-0");
    let write = Write { key: key.clone(), expect: Expect::Absent, body: Some(owned), status_only: false };
    let made = store.commit(commit(Durability::Durable, vec![write])).await.expect("is created");
    assert_eq!(store.dependents(&"uid-web".into()), std::slice::from_ref(&key));
    let gone = Write { key, expect: Expect::At(made.revision), body: None, status_only: false };
    store.commit(commit(Durability::Durable, vec![gone])).await.expect("goes");
    assert_eq!(store.dependents(&"uid-web".into()), []);
    assert_eq!(store.find_uid(&"u0".into()), None);
}

#[tokio::test]
async fn a_write_to_an_outdated_revision_conflicts_and_nothing_of_its_commit_is_done() {
    let store = open(&Memory::new()).await;
    let first = create(&store, "web").await;
    update(&store, "web", first, "2").await;
    let writes = vec![
        write(App::INFO, "other", Expect::Absent, Some("1")),
        write(App::INFO, "web", Expect::At(first), Some("3")),
    ];
    let refused = store.commit(commit(Durability::Durable, writes)).await;
    assert_eq!(refused.unwrap_err(), CommitError::Conflict(app("web")));
    assert!(store.get(&app("other")).is_none());
    assert_eq!(store.revision(), Rev(3));
}

#[tokio::test]
async fn a_commit_of_several_kinds_is_one_revision() {
    let store = open(&Memory::new()).await;
    let (_, mut apps) = store.list_and_watch(App::INFO);
    let (_, mut instances) = store.list_and_watch(Instance::INFO);
    let writes = vec![
        write(App::INFO, "a", Expect::Absent, Some("1")),
        write(Instance::INFO, "a-0", Expect::Absent, Some("1")),
        write(App::INFO, "b", Expect::Absent, Some("1")),
    ];
    let done = store.commit(commit(Durability::Durable, writes)).await.expect("is done");
    assert_eq!(done.objects.iter().map(|o| o.revision).collect::<Vec<_>>(), [Rev(2); 3]);
    assert_eq!(step(&mut apps).await, "2 +a +b");
    assert_eq!(step(&mut instances).await, "2 +a-0");
}

#[tokio::test]
async fn commits_that_wait_together_see_one_another_and_fail_alone() {
    let store = open(&Memory::new()).await;
    let make = || store.commit(commit(Durability::Durable, vec![write(App::INFO, "x", Expect::Absent, Some("1"))]));
    let remake = store.commit(commit(Durability::Durable, vec![write(App::INFO, "x", Expect::At(Rev(2)), None)]));
    let (first, second, removed, again) = tokio::join!(make(), make(), remake, make());
    assert_eq!(first.unwrap().revision, Rev(2));
    assert_eq!(second.unwrap_err(), CommitError::Conflict(app("x")));
    assert_eq!(removed.unwrap().revision, Rev(3));
    assert_eq!(again.unwrap().revision, Rev(4));
    assert_eq!(store.metrics().groups, 1);
}

#[tokio::test]
async fn a_deletion_carries_the_last_state_at_its_own_revision() {
    let store = open(&Memory::new()).await;
    let at = create(&store, "web").await;
    let (_, mut watch) = store.list_and_watch(App::INFO);
    let gone = delete(&store, "web", at).await;
    assert_eq!(gone.objects[0].value()["metadata"]["resourceVersion"], "3");
    let batch = watch.next().await.unwrap();
    assert_eq!(batch.changes[0].new.value()["spec"]["mark"], "1");
    assert_eq!(batch.changes[0].new.revision, Rev(3));
    assert!(store.get(&app("web")).is_none());
}

#[tokio::test]
async fn a_watch_resumes_from_any_kept_revision_also_after_a_restart() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let made = create(&store, "web").await;
    let updated = update(&store, "web", made, "2").await;
    delete(&store, "web", updated).await;
    let mut watch = store.watch(App::INFO, made).await.unwrap();
    assert_eq!([step(&mut watch).await, step(&mut watch).await], ["3 ~web", "4 -web"]);

    let store = open(&disk).await;
    let mut watch = store.watch(App::INFO, made).await.unwrap();
    assert_eq!(watch.bookmark(), None);
    assert_eq!([step(&mut watch).await, step(&mut watch).await], ["3 ~web", "4 -web"]);
    create(&store, "new").await;
    assert_eq!(step(&mut watch).await, "5 +new");
    assert_eq!(watch.bookmark(), Some(Rev(5)));
}

#[tokio::test]
async fn resuming_from_disk_reads_page_by_page_and_never_splits_a_commit() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let mut expected = Vec::new();
    for (start, count) in [(0, 499), (499, 3), (502, 2500), (3002, 1)] {
        let writes = (start..start + count).map(|i| write(App::INFO, &format!("a{i}"), Expect::Absent, Some("1")));
        let done = store.commit(commit(Durability::Durable, writes.collect())).await.expect("is done");
        expected.push((done.revision, count));
    }
    let store = open(&disk).await;
    let mut watch = store.watch(App::INFO, Rev(1)).await.unwrap();
    for step in expected {
        let batch = watch.next().await.unwrap();
        assert_eq!((batch.revision, batch.changes.len()), step);
    }
    assert_eq!(watch.bookmark(), Some(Rev(5)));
}

#[tokio::test]
async fn a_cursor_from_the_future_is_refused() {
    let store = open(&Memory::new()).await;
    let refused = store.watch(App::INFO, Rev(9)).await.unwrap_err();
    assert_eq!(refused, WatchError::Future { asked: Rev(9), current: Rev(1) });
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_told_and_may_resume() {
    let limits = Limits { watcher_batches: 2, ..Limits::default() };
    let store = Store::open(Memory::new().engine(), clock(), limits).await.unwrap();
    let (_, mut slow) = store.list_and_watch(App::INFO);
    let (_, mut quick) = store.list_and_watch(App::INFO);
    for name in ["a", "b", "c", "d"] {
        create(&store, name).await;
        quick.next().await.expect("keeps up");
    }
    assert_eq!([step(&mut slow).await, step(&mut slow).await], ["2 +a", "3 +b"]);
    assert_eq!(slow.next().await.unwrap_err(), WatchError::TooSlow);
    assert_eq!(store.metrics().cut_off, 1);
    let mut resumed = store.watch(App::INFO, Rev(3)).await.unwrap();
    assert_eq!([step(&mut resumed).await, step(&mut resumed).await], ["4 +c", "5 +d"]);
}

#[tokio::test]
async fn a_failed_write_is_never_shown_and_its_revision_never_used_again() {
    let disk = Memory::new();
    let store = open(&disk).await;
    create(&store, "a").await;
    disk.fail_next(1);
    let write = write(App::INFO, "b", Expect::Absent, Some("1"));
    let refused = store.commit(commit(Durability::Durable, vec![write])).await.unwrap_err();
    assert!(matches!(refused, CommitError::Unwritable(_)));
    assert!(store.get(&app("b")).is_none());
    assert_eq!(store.revision(), Rev(2));
    assert_eq!(create(&store, "c").await, Rev(4));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let limits = Limits { queue: 1, ..Limits::default() };
    let store = Store::open(Memory::new().engine(), clock(), limits).await.unwrap();
    let make =
        |name| store.commit(commit(Durability::Durable, vec![write(App::INFO, name, Expect::Absent, Some("1"))]));
    let (first, second) = tokio::join!(make("a"), make("b"));
    assert!(first.is_ok());
    assert_eq!(second.unwrap_err(), CommitError::Overloaded);
}

#[tokio::test]
async fn power_loss_takes_the_relaxed_tail_and_nothing_else() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let relaxed = |name: &str| commit(Durability::Relaxed, vec![write(App::INFO, name, Expect::Absent, Some("1"))]);
    store.commit(relaxed("before")).await.unwrap();
    let durable = create(&store, "durable").await;
    let lost = store.commit(relaxed("after")).await.unwrap().revision;
    disk.crash();

    let store = open(&disk).await;
    assert_eq!(names(&store.list(App::INFO, None)), ["before", "durable"]);
    // Somebody may have seen revisions that are lost, so they and all cursors before are void.
    assert!(store.revision() > lost);
    assert!(create(&store, "later").await > Rev(lost.0 + 9_000));
    let expired = store.watch(App::INFO, durable).await.unwrap_err();
    assert!(matches!(expired, WatchError::Expired { asked, .. } if asked == durable));
}

#[tokio::test]
async fn a_killed_process_loses_nothing_and_keeps_its_cursors() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let write = write(App::INFO, "relaxed", Expect::Absent, Some("1"));
    let at = store.commit(commit(Durability::Relaxed, vec![write])).await.unwrap().revision;
    drop(store);
    let store = open(&disk).await;
    assert_eq!((store.revision(), names(&store.list(App::INFO, None))), (at, vec!["relaxed".to_owned()]));
    assert!(store.watch(App::INFO, at).await.is_ok());
}

#[tokio::test]
async fn a_closed_store_ends_its_watches_and_takes_nothing_more() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let at = create(&store, "web").await;
    let (_, mut watch) = store.list_and_watch(App::INFO);
    store.close().await;
    store.close().await;
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Closed);
    let refused =
        store.commit(commit(Durability::Durable, vec![write(App::INFO, "b", Expect::Absent, Some("1"))])).await;
    assert_eq!(refused.unwrap_err(), CommitError::Closed);
    disk.crash();
    assert_eq!(open(&disk).await.revision(), at, "a clean shutdown jumps over no revision");
}

#[tokio::test]
async fn the_history_remembers_specs_with_who_and_why_and_no_status() {
    let store = open(&Memory::new()).await;
    let made = create(&store, "web").await;
    let updated = update(&store, "web", made, "2").await;
    let mut status = write(App::INFO, "web", Expect::At(updated), Some("status"));
    status.status_only = true;
    let at = store.commit(commit(Durability::Relaxed, vec![status])).await.unwrap().revision;
    let gone = delete(&store, "web", at).await.revision;
    let history = remembered(&store, &app("web")).await;
    let seen: Vec<_> = history.iter().map(|entry| (entry.revision, entry.body.is_some())).collect();
    assert_eq!(seen, [(made, true), (updated, true), (gone, false)]);
    let text = String::from_utf8_lossy(history[1].body.as_ref().unwrap().json()).into_owned();
    assert!(text.contains(r#""mark":"2""#) && !text.contains("status"), "{text}");
    assert_eq!((history[0].provenance.actor.as_str(), history[0].uid.as_str()), ("tester", "uid-web"));
}

#[tokio::test]
async fn events_have_a_short_log_of_their_own_and_no_history() {
    let store = open(&Memory::new()).await;
    let write = write(Event::INFO, "e", Expect::Absent, Some("1"));
    store.commit(commit(Durability::Relaxed, vec![write])).await.unwrap();
    assert!(remembered(&store, &Key::of::<Event>("default", "e")).await.is_empty());
    let mut watch = store.watch(Event::INFO, Rev(1)).await.unwrap();
    assert_eq!(step(&mut watch).await, "2 +e");
}

#[tokio::test]
async fn a_commit_stands_on_objects_that_it_does_not_write() {
    let store = open(&Memory::new()).await;
    let lease = create(&store, "lease").await;
    let held = |lease, name| Commit {
        given: vec![(app("lease"), Expect::At(lease))],
        ..commit(Durability::Durable, vec![write(App::INFO, name, Expect::Absent, Some("1"))])
    };
    store.commit(held(lease, "a")).await.expect("the lease is held");
    let lost = update(&store, "lease", lease, "somebody else's").await;
    assert_eq!(store.commit(held(lease, "b")).await.unwrap_err(), CommitError::Conflict(app("lease")));
    store.commit(held(lost, "b")).await.expect("the lease is held");
}

#[tokio::test]
async fn a_watch_that_reads_from_disk_knows_what_was_there_before() {
    let limits = Limits { ring_bytes: 0, ..Limits::default() };
    let store = Store::open(Memory::new().engine(), clock(), limits).await.expect("opens");
    let made = create(&store, "web").await;
    let updated = update(&store, "web", made, "2").await;
    delete(&store, "web", updated).await;
    let mut watch = store.watch(App::INFO, Rev(1)).await.expect("is kept");
    let mut before = Vec::new();
    for _ in 0..3 {
        let batch = watch.next().await.expect("goes on");
        let change = &batch.changes[0];
        before.push((change.old_known, change.old.as_ref().map(|old| old.revision)));
    }
    assert_eq!(before, [(true, None), (true, Some(made)), (true, Some(updated))]);
}

/// The promise of compaction, on any engine.
pub(super) async fn old_changes_go_by_age_and_count(engine: Box<dyn Engine>) {
    let clock = clock();
    let hour = jiff::SignedDuration::from_hours(1);
    let limits = Limits {
        ring_bytes: 0,
        changes: Retention { age: hour, rows: 3 },
        history: Retention { age: hour * 2, rows: 100 },
        compact_rows: 2,
        reseal_rows: 2,
        ..Limits::default()
    };
    let store = Store::open(engine, clock.clone(), limits).await.expect("opens");
    let mut at = create(&store, "web").await;
    for i in 0..7 {
        at = update(&store, "web", at, &i.to_string()).await;
    }
    clock.advance(limits.compact_every);
    let kept = Rev(at.0 - 3);
    until(|| async { store.oldest() == kept }).await;
    let expired = store.watch(App::INFO, Rev(at.0 - 4)).await.expect_err("is too old");
    assert_eq!(expired, WatchError::Expired { asked: Rev(at.0 - 4), oldest: kept });
    let mut watch = store.watch(App::INFO, kept).await.expect("is kept");
    assert_eq!(watch.next().await.expect("is kept").revision, Rev(at.0 - 2));
    assert_eq!(remembered(&store, &app("web")).await.len(), 8);

    until(|| async {
        // The timer is armed anew when the removal before is done.
        clock.advance(limits.compact_every);
        store.oldest() == at
    })
    .await;
    until(|| async {
        clock.advance(limits.compact_every);
        remembered(&store, &app("web")).await.len() == 1
    })
    .await;
    let stood = store.versions(&app("web"), None, 9).await.expect("reads").remove(0);
    assert_eq!((stood.revision, stood.provenance.actor.as_str()), (at, "tester"), "what stands stays, however old");
    assert!(store.get(&app("web")).is_some());
    store.close().await;
}

/// Waits for a level that other tasks and threads work towards.
pub(super) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("it comes to hold");
}

#[tokio::test]
async fn old_changes_go_by_age_and_count_and_their_cursors_expire() {
    old_changes_go_by_age_and_count(Memory::new().engine()).await;
}

#[tokio::test]
async fn objects_that_are_not_stored_are_read_and_watched_from_when_they_were_made() {
    let memory = Memory::new();
    let store = open(&memory).await;
    let newest = create(&store, "a").await;
    let body = Body::new(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "made", "uid": "u"}}));
    store.provide(Node::INFO, vec![(Key::of::<Node>("", "made"), body)]);
    let listed = store.list(Node::INFO, None);
    assert_eq!((listed.revision, listed.items.len()), (newest, 1));
    assert_eq!(listed.items[0].revision, newest);
    assert!(store.watch(Node::INFO, listed.revision).await.is_ok());
    let earlier = store.watch(Node::INFO, Rev(newest.0 - 1)).await;
    assert!(matches!(earlier, Err(WatchError::Expired { .. })));
    assert!(store.watch(App::INFO, Rev(newest.0 - 1)).await.is_ok());
}
