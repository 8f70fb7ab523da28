//! The judge, judged: histories written by hand, each of which is good but for one thing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    check::check,
    content::{Fields, Key},
    history::{Answer, History, Record, Session, Start},
    operation::Op,
    rules::{Change, Edit},
    selector::Selector,
};

fn key() -> Key {
    Key { namespace: "default".to_owned(), name: "a".to_owned() }
}

/// The App `a` with a mark and a team.
fn app(revision: u64, mark: &str, team: &str) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "spec": {},
        "metadata": {
            "name": "a", "namespace": "default", "uid": "u1", "resourceVersion": revision.to_string(), "generation": 1,
            "annotations": {"mark": mark}, "labels": {"team": team},
            "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {
                "f:metadata": {"f:annotations": {"f:mark": {}}, "f:labels": {"f:team": {}}},
            }}],
        },
    })
}

fn fields(mark: &str, team: &str) -> Fields {
    BTreeMap::from([("annotation:mark".to_owned(), json!(mark)), ("label:team".to_owned(), json!(team))])
}

fn create() -> Change {
    Change::Create(fields("1", "red"))
}

fn edit(path: &str, value: &str) -> Change {
    let edits = vec![Edit::Set(path.to_owned(), json!(value))];
    Change::Edit { edits, tests: Vec::new(), json_patch: false, status: false }
}

fn put(mark: &str, version: u64) -> Change {
    Change::Put { fields: fields(mark, "red"), version: Some(version), uid: None, body: None, strict: true }
}

fn record(begin: u64, op: Op, answer: Option<(u16, Value)>) -> Record {
    let pages = answer.iter().map(|(_, body)| super::content::revision(body)).collect();
    let answer = answer.map(|(code, body)| Answer { code, body, pages });
    Record { who: "c".to_owned(), op, begin, end: begin + 1, answer }
}

fn write(begin: u64, change: Change, answer: Option<(u16, Value)>) -> Record {
    record(begin, Op::Write { key: key(), change, manager: "m".to_owned() }, answer)
}

fn get(begin: u64, answer: Value) -> Record {
    let code = if answer["kind"] == "App" { 200 } else { 404 };
    record(begin, Op::Get(key()), Some((code, answer)))
}

fn refusal(reason: &str) -> Value {
    json!({"kind": "Status", "reason": reason})
}

fn list(begin: u64, revision: u64, items: &[Value]) -> Record {
    let body = json!({"metadata": {"resourceVersion": revision.to_string()}, "items": items});
    record(begin, Op::List { namespace: None, selector: Selector::All, limit: None }, Some((200, body)))
}

fn event(kind: &str, object: Value) -> (String, Value) {
    (kind.to_owned(), object)
}

fn bookmark(revision: u64) -> (String, Value) {
    event("BOOKMARK", json!({"metadata": {"resourceVersion": revision.to_string()}}))
}

fn watch(selector: Selector, start: Start, events: Vec<(String, Value)>) -> Session {
    Session { who: "w".to_owned(), namespace: None, selector, start, begin: 100, events }
}

/// Made red at 10, marked at 11, blue at 12; read, listed and watched rightly.
fn good() -> History {
    let (first, second, third) = (app(10, "1", "red"), app(11, "2", "red"), app(12, "2", "blue"));
    let all = vec![event("ADDED", first.clone()), event("MODIFIED", second.clone()), event("MODIFIED", third.clone())];
    let mut left = second.clone();
    left["metadata"]["resourceVersion"] = json!("12");
    let red =
        vec![event("ADDED", first.clone()), event("MODIFIED", second.clone()), event("DELETED", left), bookmark(12)];
    History {
        records: vec![
            get(0, refusal("NotFound")),
            write(2, create(), Some((201, first.clone()))),
            write(4, create(), Some((409, refusal("AlreadyExists")))),
            get(6, first),
            write(8, edit("annotation:mark", "2"), Some((200, second.clone()))),
            write(10, put("9", 10), Some((409, refusal("Conflict")))),
            list(12, 11, &[second]),
            write(14, edit("label:team", "blue"), None),
            get(16, third),
        ],
        sessions: vec![
            watch(Selector::All, Start::After(5), all.clone()),
            watch(Selector::All, Start::Everything, vec![event("ADDED", app(12, "2", "blue"))]),
            watch(Selector::Team("red"), Start::After(5), red),
            watch(Selector::Team("blue"), Start::After(10), vec![event("ADDED", app(12, "2", "blue"))]),
        ],
        changes: all,
    }
}

#[track_caller]
fn accepted(history: &History) {
    if let Err(wrong) = check(history) {
        panic!("{}", history.tell(&wrong));
    }
}

#[track_caller]
fn refused(history: &History, because: &str) {
    let wrong = check(history).expect_err("something is wrong with it");
    assert!(wrong.what.contains(because), "{}", wrong.what);
}

#[test]
fn a_history_that_can_have_happened_is_accepted() {
    accepted(&good());
    // Answers that overlap may have come true in either order.
    let mut overlapping = good();
    overlapping.records.push(Record { begin: 7, end: 20, ..get(0, app(11, "2", "red")) });
    accepted(&overlapping);
}

#[test]
fn a_stale_read_is_found() {
    let mut stale = good();
    stale.records.push(get(18, app(11, "2", "red")));
    refused(&stale, "read what was not there");
    let mut blind = good();
    blind.records.push(get(18, refusal("NotFound")));
    refused(&blind, "read what was not there");
    let mut backwards = good();
    backwards.records.push(list(18, 11, &[app(11, "2", "red")]));
    refused(&backwards, "a list of 11");
}

#[test]
fn a_lost_update_is_found() {
    let mut both = good();
    both.changes = vec![
        event("ADDED", app(10, "1", "red")),
        event("MODIFIED", app(11, "2", "red")),
        event("MODIFIED", app(12, "3", "red")),
    ];
    both.sessions.clear();
    both.records = vec![
        write(0, create(), Some((201, app(10, "1", "red")))),
        write(2, put("2", 10), Some((200, app(11, "2", "red")))),
        write(4, put("3", 10), Some((200, app(12, "3", "red")))),
    ];
    refused(&both, "revision 12 cannot have come of this");
    // Acknowledged, and in no change.
    let mut gone = good();
    gone.records.push(write(18, edit("annotation:mark", "3"), Some((200, app(13, "3", "blue")))));
    refused(&gone, "an acknowledged write is in no change");
}

#[test]
fn a_change_that_nobody_made_is_found() {
    let mut ghost = good();
    ghost.records.retain(|r| r.answer.is_some());
    refused(&ghost, "nobody made the change");
    // A refused write must leave nothing behind.
    let mut refused_and_done = good();
    refused_and_done.records[7].answer = Some(Answer { code: 422, body: refusal("Invalid"), pages: Vec::new() });
    refused(&refused_and_done, "refused for no reason");
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let mut needless = good();
    needless.records.push(write(18, put("3", 12), Some((409, refusal("Conflict")))));
    refused(&needless, "refused for no reason");
}

#[test]
fn half_a_transaction_is_found() {
    let other = Key { name: "b".to_owned(), ..key() };
    let steps = vec![(key(), edit("label:team", "blue")), (other, Change::Create(fields("1", "red")))];
    let mut half = good();
    half.records[7].op = Op::Transaction { steps, manager: "m".to_owned() };
    refused(&half, "nobody made the change");
}

#[test]
fn of_two_lost_requests_each_has_its_own_change() {
    let both = |path: &str, value: &str| Edit::Set(path.to_owned(), json!(value));
    let back = Change::Edit {
        edits: vec![both("annotation:mark", "5"), both("label:team", "red")],
        tests: Vec::new(),
        json_patch: false,
        status: false,
    };
    // The first of them can have made either change, the second only the earlier one.
    let earlier = Change::Edit {
        edits: vec![both("label:team", "blue")],
        tests: vec![("annotation:mark".to_owned(), json!("2"))],
        json_patch: true,
        status: false,
    };
    let mut two = good();
    two.sessions.clear();
    two.changes.push(event("MODIFIED", app(13, "5", "red")));
    two.changes.push(event("MODIFIED", app(14, "5", "blue")));
    two.records.insert(8, write(14, earlier, None));
    two.records.push(write(18, back, Some((200, app(13, "5", "red")))));
    accepted(&two);
    two.records.remove(8);
    refused(&two, "nobody made the change");
}

#[test]
fn what_a_lost_request_did_already_is_not_done_again() {
    // The first answer was lost; the same request, asked again later, finds nothing to do.
    let mut again = good();
    again.records.push(write(18, edit("label:team", "blue"), Some((200, app(12, "2", "blue")))));
    accepted(&again);
    again.records.push(write(20, edit("annotation:mark", "3"), Some((200, app(13, "3", "blue")))));
    again.changes.push(event("MODIFIED", app(13, "3", "blue")));
    again.sessions.clear();
    again.records.push(write(22, edit("label:team", "blue"), Some((200, app(12, "2", "blue")))));
    refused(&again, "although 13 was there");
}

#[test]
fn a_torn_list_is_found() {
    let mut torn = good();
    torn.records.push(list(18, 12, &[app(11, "2", "red")]));
    refused(&torn, "a list is not the state at 12");
    let mut pages = good();
    pages.records[6].answer.as_mut().unwrap().pages = vec![11, 12];
    refused(&pages, "pages [11, 12]");
}

#[test]
fn what_a_watch_may_not_do_is_found() {
    let session = |at: usize, spoil: fn(&mut Vec<(String, Value)>)| {
        let mut history = good();
        spoil(&mut history.sessions[at].events);
        history
    };
    refused(&session(0, |events| events.insert(1, events[0].clone())), "ADDED");
    refused(&session(0, |events| events.push(events[2].clone())), "nothing happened");
    refused(&session(0, |events| drop(events.remove(1))), "and not MODIFIED");
    refused(&session(0, |events| events.swap(1, 2)), "and not MODIFIED");
    refused(&session(0, |events| events[0].0 = "MODIFIED".to_owned()), "and not ADDED");
    // Of a selection: what left it, with the state in which it was selected and the revision at which it left.
    refused(&session(2, |events| events[2].1 = app(12, "2", "blue")), "and not DELETED");
    refused(&session(2, |events| drop(events.remove(2))), "a bookmark of 12 skips");
    refused(&session(3, |events| events[0].0 = "MODIFIED".to_owned()), "and not ADDED");
    refused(&session(1, |events| events[0].1 = app(11, "2", "red")), "begins with the state of no revision");
}

#[test]
fn what_the_server_alone_writes_must_follow_its_rules() {
    let change = |at: usize, spoil: fn(&mut Value)| {
        let mut history = good();
        spoil(&mut history.changes[at].1);
        history
    };
    refused(&change(1, |object| object["metadata"]["generation"] = json!(2)), "generation 2 follows 1");
    refused(&change(1, |object| object["spec"]["replicas"] = json!(2)), "generation 1 follows 1");
    refused(&change(1, |object| object["metadata"]["uid"] = json!("u2")), "the uid changes");
    refused(&change(2, |object| object["metadata"]["resourceVersion"] = json!("9")), "revisions go back");
    let mut theirs = good();
    theirs.changes[1].1["metadata"]["managedFields"][0]["manager"] = json!("somebody else");
    theirs.changes.truncate(2);
    theirs.records.truncate(5);
    theirs.records[4].answer.as_mut().unwrap().body = theirs.changes[1].1.clone();
    refused(&theirs, "nobody made the change");
}
