//! What the audit log promises, on real files.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::{
    api::{Body, Durability, Kind, Namespace, Secret},
    clock,
    store::{Commit, Expect, Limits, Memory, Provenance, Write},
};

fn settings(dir: &TempDir, max_size: u64, max_files: usize) -> Settings {
    Settings { dir: dir.path().join("audit"), level: Level::Changes, max_size, max_files }
}

fn open(dir: &TempDir, anchor: Option<Anchor>) -> Arc<Audit> {
    Audit::open(settings(dir, 1 << 20, 0), Arc::new(clock::System), anchor).expect("opens")
}

fn draft(user: &str, name: &str) -> Record {
    let (user, name, verb) = (user.to_owned(), name.to_owned(), "get".to_owned());
    Record { user, name, verb, resource: "secrets".to_owned(), source: "socket".to_owned(), ..Record::default() }
}

async fn filled(dir: &TempDir) -> Arc<Audit> {
    let audit = open(dir, None);
    for n in 0..10 {
        audit.note(draft("ann", &format!("s{n}"))).await;
    }
    audit.flush().await;
    audit
}

fn only_file(dir: &TempDir) -> PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(dir.path().join("audit")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[tokio::test]
async fn every_way_to_change_the_log_is_found_and_its_first_record_named() {
    let dir = TempDir::new().unwrap();
    let audit = filled(&dir).await;
    let whole = audit.verify(None).unwrap();
    assert_eq!((whole.records, whole.first, whole.last, &whole.fault), (10, 1, 10, &None));
    let file = only_file(&dir);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut cut_out = lines.clone();
    cut_out.remove(4);
    let cases = [
        ("changed", text.replacen("\"s4\"", "\"t4\"", 1), 6),
        ("cut out", joined(&cut_out), 5),
        ("cut short", joined(&lines[..7]), 8),
        ("emptied", String::new(), 1),
        ("beheaded", joined(&lines[3..]), 0),
        ("the last changed", text.replacen("\"s9\"", "\"t9\"", 1), 10),
        ("no JSON", text.replacen("{\"seq\":3", "{seq:3", 1), 3),
    ];
    for (what, changed, seq) in cases {
        fs::write(&file, changed).unwrap();
        let fault = audit.verify(None).unwrap().fault.unwrap_or_else(|| panic!("{what}: not found"));
        assert_eq!(fault.seq, seq, "{what}: {fault:?}");
    }
}

#[tokio::test]
async fn a_log_that_was_cut_while_no_server_ran_is_never_whole_again() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(Memory::new().engine(), Arc::new(clock::System), Limits::default()).await.unwrap();
    let audit = filled(&dir).await;
    audit.anchor_now(&store).await;
    drop(audit);
    let file = only_file(&dir);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.lines().take(7).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let audit = open(&dir, store.anchored());
    audit.note(draft("ann", "later")).await;
    audit.flush().await;
    audit.anchor_now(&store).await;
    let fault = audit.verify(store.anchored()).unwrap().fault.expect("is found");
    assert_eq!(fault.seq, 8, "{fault:?}");
    let (found, _) = audit.read(Filter { verb: "note".to_owned(), ..Filter::default() }, 9).unwrap();
    assert!(found[0].contains("the records from 8 to 10 are missing"), "{found:?}");
}

#[tokio::test]
async fn the_chain_goes_on_through_files_restarts_and_lines_that_a_crash_cut_short() {
    let dir = TempDir::new().unwrap();
    let mut written = 0;
    for round in 0..3 {
        let audit = Audit::open(settings(&dir, 1000, 0), Arc::new(clock::System), None).unwrap();
        for n in 0..10 {
            audit.note(draft("ann", &format!("{round}-{n}"))).await;
            audit.flush().await;
            written += 1;
        }
        let whole = audit.verify(None).unwrap();
        assert_eq!((whole.records, whole.last, &whole.fault), (written, written, &None));
        drop(audit);
        let newest = fs::read_dir(dir.path().join("audit")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        let mut text = fs::read(&newest).unwrap();
        text.extend_from_slice(b"{\"seq\":99,\"ti");
        fs::write(&newest, text).unwrap();
    }
    assert!(fs::read_dir(dir.path().join("audit")).unwrap().count() > 5);
    // Old files go, and the log says from where on it is whole.
    let audit = Audit::open(settings(&dir, 1000, 3), Arc::new(clock::System), None).unwrap();
    for n in 0..10 {
        audit.note(draft("ann", &format!("{n}"))).await;
        audit.flush().await;
    }
    assert_eq!(fs::read_dir(dir.path().join("audit")).unwrap().count(), 3);
    let whole = audit.verify(None).unwrap();
    assert!(whole.fault.is_none() && whole.first > 1 && whole.last == written + 10, "{whole:?}");
}

fn commit(request_id: &str, kind: &'static crate::api::KindInfo, name: &str, value: &str) -> Commit {
    let body = serde_json::json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": "default", "uid": name}, "data": {"v": value},
    });
    let key = crate::api::Key::new(kind, "default", name);
    let write = Write { key, expect: Expect::Absent, body: Some(Body::new(body)), status_only: false };
    let provenance = Provenance {
        actor: "ann".to_owned(),
        manager: "test".to_owned(),
        request_id: request_id.to_owned(),
        rule: "by the role `edit`".to_owned(),
        ..Provenance::default()
    };
    Commit {
        writes: vec![write],
        given: Vec::new(),
        ceilings: Vec::new(),
        durability: Durability::Durable,
        provenance,
        at: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_change_is_in_the_log_before_it_is_acknowledged_and_no_secret_is() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(Memory::new().engine(), Arc::new(clock::System), Limits::default()).await.unwrap();
    let audit = open(&dir, None);
    store.set_witness(audit.witness());
    let request = Record { request_id: "r1".to_owned(), source: "192.0.2.7".to_owned(), ..draft("ann", "door") };
    let begun = audit.begin(Record { verb: "create".to_owned(), ..request });
    store.commit(commit("r1", Secret::INFO, "door", "b3BlbiBzZXNhbWU=")).await.unwrap();
    assert!(begun.is_recorded());
    // Nothing is flushed here: the answer has waited for it.
    let text = fs::read_to_string(only_file(&dir)).unwrap();
    let record: Record = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&*record.user, &*record.source, &*record.verb), ("ann", "192.0.2.7", "create"));
    assert_eq!(record.rule, "by the role `edit`");
    assert_eq!((&*record.changes[0].kind, &*record.changes[0].name, &*record.changes[0].new), ("secrets", "door", ""));
    assert!(!text.contains("b3Blbi"), "{text}");
    drop(begun);
    store.commit(commit("r2", Namespace::INFO, "prod", "x")).await.unwrap();
    store.commit(commit("", Namespace::INFO, "own", "x")).await.unwrap();
    let (found, _) = audit.read(Filter::default(), 9).unwrap();
    assert_eq!(found.len(), 2, "what appm does by itself is no request: {found:?}");
    assert!(found[1].contains("\"new\":\""), "{found:?}");
    store.close().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_refuses_changes_before_they_are_made_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(Memory::new().engine(), Arc::new(clock::System), Limits::default()).await.unwrap();
    let audit = open(&dir, None);
    store.set_witness(audit.witness());
    audit.shared.trouble.send_replace(Some("no space left".to_owned()));
    let refused = store.commit(commit("r1", Namespace::INFO, "a", "x")).await.unwrap_err();
    assert_eq!(refused.to_string(), "no space left");
    assert!(store.list(Namespace::INFO, None).items.is_empty());
    store.commit(commit("", Namespace::INFO, "own", "x")).await.expect("what nobody asked for goes on");
    // The thread asks the disk again, and finds room.
    audit.note(draft("ann", "passed over")).await;
    audit.flush().await;
    store.commit(commit("r2", Namespace::INFO, "b", "x")).await.unwrap();
    let (found, _) = audit.read(Filter { verb: "note".to_owned(), ..Filter::default() }, 9).unwrap();
    assert!(found[0].contains("1 records of what changes nothing are missing"), "{found:?}");
    assert!(audit.verify(None).unwrap().fault.is_none());
    store.close().await;
}

#[tokio::test]
async fn filters_choose_and_followers_wait_for_more() {
    let dir = TempDir::new().unwrap();
    let audit = filled(&dir).await;
    audit.note(Record { decision: Decision::Deny, ..draft("bob", "s1") }).await;
    audit.flush().await;
    let count = |filter: Filter| audit.read(filter, 99).unwrap().0.len();
    let text = str::to_owned;
    assert_eq!(count(Filter { user: text("ann"), ..Filter::default() }), 10);
    assert_eq!(count(Filter { name: text("s1"), ..Filter::default() }), 2);
    assert_eq!(count(Filter { denied: true, ..Filter::default() }), 1);
    assert_eq!(count(Filter { resource: text("apps"), ..Filter::default() }), 0);
    let (last, mut follower) = audit.read(Filter { user: text("bob"), ..Filter::default() }, 0).unwrap();
    assert!(last.is_empty());
    audit.note(draft("ann", "s1")).await;
    audit.note(draft("bob", "s2")).await;
    let next = follower.next().await.unwrap();
    assert!(next.len() == 1 && next[0].contains("s2"), "{next:?}");
}
