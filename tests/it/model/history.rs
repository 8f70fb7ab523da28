//! What happened: who asked what when, what came back, what watchers saw, and every change in order.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;

use super::{
    content::{Key, State, revision},
    operation::Op,
    selector::Selector,
};

/// The order of moments. What ended at a smaller tick than something else began came before it.
#[derive(Default)]
pub(super) struct Moments(AtomicU64);

impl Moments {
    pub(super) fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// An operation with its answer.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) who: String,
    pub(super) op: Op,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// `None` if no whole answer came: it may or may not have been done.
    pub(super) answer: Option<Answer>,
}

/// What came back. The pages of a list are one answer, with all their items.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Value,
    /// The revision that each page named.
    pub(super) pages: Vec<u64>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = || self.body["items"].as_array().into_iter().flatten();
        match self.body["kind"].as_str() {
            Some("App") => write!(f, "{} {}", self.code, short(&self.body)),
            Some("AppList") => {
                let items: Vec<String> = items().map(short).collect();
                write!(f, "{} list @{}: {items:#?}", self.code, revision(&self.body))
            }
            _ => write!(f, "{} {}", self.code, self.body),
        }
    }
}

/// Where a watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// After a revision.
    After(u64),
    /// With everything that was there, unmarked.
    Everything,
    /// With everything that was there, and a bookmark after it.
    Streamed,
}

/// One watch from its beginning to its end.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) who: String,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    pub(super) start: Start,
    pub(super) begin: u64,
    /// `type` and `object`, bookmarks included.
    pub(super) events: Vec<(String, Value)>,
}

/// Everything of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) records: Vec<Record>,
    pub(super) sessions: Vec<Session>,
    /// Every change of every key, as one watcher of everything saw it from the start.
    pub(super) changes: Vec<(String, Value)>,
}

/// What is wrong with a history.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) key: Option<Key>,
    /// The revision near which to look.
    pub(super) near: u64,
}

/// A line about an object: enough to see what a change did.
pub(super) fn short(object: &Value) -> String {
    let State { uid, revision, generation, deleting, fields, .. } = State::of(object);
    let shown = fields.iter().filter(|(path, _)| !path.starts_with("status.") || *path == "status.restarts");
    let shown: Vec<String> = shown.map(|(path, value)| format!("{path}={value}")).collect();
    let going = if deleting { " deleting" } else { "" };
    format!("@{revision} uid {} gen {generation}{going}: {}", &uid[..uid.len().min(8)], shown.join(" "))
}

impl History {
    /// What happened to a key around the place where it went wrong, short enough to read.
    pub(super) fn tell(&self, wrong: &Wrong) -> String {
        let mut out = format!("{}\n", wrong.what);
        let Some(key) = &wrong.key else { return out };
        let mine = |object: &Value| Key::of(object) == *key;
        writeln!(out, "changes of {}/{}:", key.namespace, key.name).unwrap();
        let changes: Vec<_> = self.changes.iter().filter(|(_, object)| mine(object)).collect();
        let at = changes.partition_point(|(_, object)| revision(object) < wrong.near);
        for (kind, object) in &changes[at.saturating_sub(6)..changes.len().min(at + 4)] {
            writeln!(out, "  {kind:<8} {}", short(object)).unwrap();
        }
        writeln!(out, "requests about it:").unwrap();
        let asked: Vec<_> = self.records.iter().filter(|r| r.op.keys().contains(&key)).collect();
        let near = |r: &&&Record| r.answer.as_ref().is_none_or(|a| revision(&a.body).abs_diff(wrong.near) < 30);
        for Record { who, op, begin, end, answer, .. } in asked.iter().filter(near) {
            let said = match answer {
                None => "no answer".to_owned(),
                Some(a) if a.code < 300 => format!("{a:?}"),
                Some(a) => format!("{} {}", a.code, a.body["message"]),
            };
            writeln!(out, "  [{begin}..{end}] {who} {op:?}\n      -> {said}").unwrap();
        }
        out
    }
}
