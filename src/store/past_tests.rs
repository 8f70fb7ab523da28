//! The promises about the past, on any engine.

use jiff::{SignedDuration, Timestamp};

use super::{
    tests::{app, clock, commit, create, delete, until, update, write},
    *,
};
use crate::api::{App, Durability, Kind};

fn mark(entry: &HistoryEntry) -> String {
    let body = entry.body.as_ref().map(|body| serde_json::from_slice::<serde_json::Value>(body.json()).expect("JSON"));
    body.map_or("-".to_owned(), |body| body["spec"]["mark"].as_str().unwrap_or_default().to_owned())
}

/// `a=1 b=2`
async fn stood(store: &Store, at: Rev) -> String {
    let mut of = AsOf { kind: App::INFO, namespace: None, at, after: None };
    let mut all = Vec::new();
    loop {
        // Page by page, of one object each.
        let page = store.as_of(&of, 1).await.expect("reads");
        all.extend(page.objects.iter().map(|(key, entry)| format!("{}={}", key.name, mark(entry))));
        of.after = page.next;
        if of.after.is_none() {
            return all.join(" ");
        }
    }
}

/// On any engine.
pub(super) async fn what_stood_is_told_at_any_revision(engine: Box<dyn Engine>) {
    let store = Store::open(engine, clock(), Limits::default()).await.expect("opens");
    let a1 = create(&store, "a").await;
    let b1 = create(&store, "b").await;
    let a2 = update(&store, "a", a1, "2").await;
    let gone = delete(&store, "a", a2).await.revision;
    let a3 = create(&store, "a").await;
    for (at, expected) in [(a1, "a=1"), (b1, "a=1 b=1"), (a2, "a=2 b=1"), (gone, "b=1"), (a3, "a=1 b=1"), (Rev(1), "")]
    {
        assert_eq!(stood(&store, at).await, expected, "{at}");
    }
    let versions = store.versions(&app("a"), None, 2).await.expect("reads");
    assert_eq!(versions.iter().map(|v| v.revision).collect::<Vec<_>>(), [a3, gone]);
    let older = store.versions(&app("a"), Some(gone), 9).await.expect("reads");
    assert_eq!(
        older.iter().map(|v| (v.revision, mark(v))).collect::<Vec<_>>(),
        [(a2, "2".to_owned()), (a1, "1".to_owned())]
    );
    let elsewhere = AsOf { kind: App::INFO, namespace: Some("other".to_owned()), at: a3, after: None };
    assert!(store.as_of(&elsewhere, 9).await.expect("reads").objects.is_empty());

    // Transactions: one's own, from outside.
    let mut asked = commit(Durability::Durable, vec![write(App::INFO, "b", Expect::At(b1), Some("9"))]);
    asked.provenance.request_id = "r-1".to_owned();
    asked.at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60);
    let asked = store.commit(asked).await.expect("is done").revision;
    let of = Transactions::Of { actor: "tester".to_owned(), below: None, touched: 9 };
    let told = store.transactions(&of, 9).await.expect("reads");
    assert_eq!(told.iter().map(|t| (t.revision, t.count)).collect::<Vec<_>>(), [(asked, 1)]);
    let touch = PastTouch { key: app("b"), uid: "uid-b".into(), was: true, deleted: false };
    assert_eq!(told[0].touched, [touch]);
    let of = Transactions::Of { actor: "somebody".to_owned(), below: None, touched: 9 };
    assert!(store.transactions(&of, 9).await.expect("reads").is_empty());
    let at = store.transactions(&Transactions::At(gone), 1).await.expect("reads");
    assert_eq!((at[0].touched[0].was, at[0].touched[0].deleted), (true, true));
    assert_eq!(store.revision_at(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(59)).await, Ok(a3));
    assert_eq!(store.revision_at(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60)).await, Ok(asked));
    store.close().await;
}

fn short_lived() -> Limits {
    let hour = SignedDuration::from_hours(1);
    Limits { history: Retention { age: hour * 2, rows: 100 }, compact_rows: 2, ..Limits::default() }
}

/// With engines that each begin with what the one before has left when it was killed.
pub(super) async fn pins_outlive_everything(engine: impl AsyncFn() -> Box<dyn Engine>) {
    let clock = clock();
    let open = async || Store::open(engine().await, clock.clone(), short_lived()).await.expect("opens");
    let store = open().await;
    let at = create(&store, "web").await;
    let pin = |name: &str, revision| Pin {
        key: app("web"),
        name: name.to_owned(),
        revision,
        at: Timestamp::UNIX_EPOCH,
        actor: "ann".to_owned(),
    };
    let second = update(&store, "web", at, "2").await;
    let third = update(&store, "web", second, "3").await;
    assert_eq!(store.pin(pin("baseline", second)).await, Ok(true));
    assert_eq!(store.pin(pin("nothing", Rev(third.0 + 1))).await, Ok(false));
    let gone = delete(&store, "web", third).await.revision;
    drop(store);

    let store = open().await;
    until(|| async {
        clock.advance(SignedDuration::from_hours(3));
        store.versions(&app("web"), None, 9).await.expect("reads").len() == 2
    })
    .await;
    let left = store.versions(&app("web"), None, 9).await.expect("reads");
    assert_eq!(
        left.iter().map(|v| v.revision).collect::<Vec<_>>(),
        [gone, second],
        "what is pinned, and that it ended"
    );
    assert_eq!((mark(&left[1]), left[1].provenance.actor.as_str()), ("2".to_owned(), "tester"));
    assert_eq!(stood(&store, store.revision()).await, "", "what is pinned stands no more for it");
    let horizon = store.horizon().await.expect("reads");
    assert!(horizon.oldest >= gone && horizon.since.is_none(), "{horizon:?}");
    drop(store);

    let store = open().await;
    assert_eq!(store.pins(&app("web")).await, Ok(vec![pin("baseline", second)]));
    assert_eq!(
        (store.unpin(&app("web"), "baseline").await, store.unpin(&app("web"), "baseline").await),
        (Ok(true), Ok(false))
    );
    create(&store, "other").await;
    until(|| async {
        clock.advance(SignedDuration::from_hours(3));
        store.versions(&app("web"), None, 9).await.expect("reads").is_empty()
    })
    .await;
    store.close().await;
}

#[tokio::test]
async fn what_stood_is_told_by_the_memory() {
    what_stood_is_told_at_any_revision(Memory::new().engine()).await;
}

#[tokio::test]
async fn a_pinned_version_outlives_compaction() {
    let disk = Memory::new();
    pins_outlive_everything(async || disk.engine()).await;
}

#[tokio::test]
async fn the_history_keeps_no_more_bytes_than_it_may() {
    for memory in [true, false] {
        let dir = tempfile::TempDir::new().expect("a place");
        let engine = match memory {
            true => Memory::new().engine(),
            false => Box::new(Sqlite::open(dir.path(), None).await.expect("opens")) as Box<dyn Engine>,
        };
        let clock = clock();
        let limits = Limits { history_bytes: 3_000, ..Limits::default() };
        let store = Store::open(engine, clock.clone(), limits).await.expect("opens");
        let mut at = create(&store, "web").await;
        for i in 0..30 {
            at = update(&store, "web", at, &i.to_string()).await;
        }
        until(|| async {
            clock.advance(limits.compact_every);
            store.versions(&app("web"), None, 99).await.expect("reads").len() < 20
        })
        .await;
        let kept = store.versions(&app("web"), None, 99).await.expect("reads");
        assert!(kept.len() > 3 && kept[0].revision == at, "{} {:?}", kept.len(), kept[0].revision);
        store.close().await;
    }
}
