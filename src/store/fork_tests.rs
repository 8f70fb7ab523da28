//! A fork begins as its store is, and from then on neither sees the other.

use super::{
    tests::{app, clock, create, names, open, step, update},
    *,
};
use crate::api::{App, Kind};

#[tokio::test]
async fn a_fork_begins_as_its_store_is_and_neither_sees_what_is_done_to_the_other() {
    let disk = Memory::new();
    let store = open(&disk).await;
    let made = create(&store, "web").await;
    let fork = store.fork(clock(), Limits::default());
    assert_eq!(fork.revision(), store.revision());
    let (first, second) = (store.get(&app("web")).expect("there"), fork.get(&app("web")).expect("there"));
    assert!(Arc::ptr_eq(&first, &second), "what is the same is not there twice");

    let (_, mut watch) = fork.list_and_watch(App::INFO);
    update(&fork, "web", made, "2").await;
    create(&fork, "new").await;
    assert_eq!(step(&mut watch).await, "3 ~web");
    assert_eq!(step(&mut watch).await, "4 +new");
    assert_eq!(names(&store.list(App::INFO, None)), ["web"]);
    assert_eq!(store.get(&app("web")).expect("there").revision, made);

    create(&store, "other").await;
    assert_eq!(names(&fork.list(App::INFO, None)), ["new", "web"]);
    drop(fork);
    drop(store);
    let again = open(&disk).await;
    assert_eq!(names(&again.list(App::INFO, None)), ["other", "web"], "nothing of it was written");
}

#[tokio::test]
async fn whoever_wants_changes_from_before_the_fork_must_list_again() {
    let store = open(&Memory::new()).await;
    let first = create(&store, "web").await;
    create(&store, "db").await;
    let fork = store.fork(clock(), Limits::default());
    assert!(matches!(fork.watch(App::INFO, Rev(first.0 - 1)).await, Err(WatchError::Expired { .. })));
}
