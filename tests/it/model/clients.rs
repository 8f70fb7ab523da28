//! Those who act and those who watch: threads that write down what they did and saw.

use std::{
    io::{self, BufRead as _},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use super::{
    content::{Key, revision},
    history::{Answer, History, Moments, Record, Session, Start},
    operation::{Lot, Op, collection},
    selector::Selector,
};
use crate::harness::{Api, Dice, wait_for};

/// The App whose creation is the end of a run.
pub(super) const SENTINEL: &str = "sentinel";

/// What all threads of a run share.
pub(super) struct Run {
    pub(super) api: Api,
    pub(super) moments: Moments,
    pub(super) history: Mutex<History>,
    /// True once clients are done: watchers finish.
    pub(super) ending: AtomicBool,
    /// The newest revision that anybody has seen: where watchers resume from.
    pub(super) seen: AtomicU64,
}

impl Run {
    pub(super) fn new(api: Api) -> Self {
        let (moments, history) = (Moments::default(), Mutex::new(History::default()));
        Self { api, moments, history, ending: AtomicBool::new(false), seen: AtomicU64::new(0) }
    }

    fn wait_for_server(&self) {
        wait_for("the server to be back", || match self.api.ask("GET", "/readyz", "", b"") {
            Ok(answer) if answer.is_ok() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Asks, and writes down what came of it.
    pub(super) fn act(&self, who: &str, op: Op) -> Option<Answer> {
        let begin = self.moments.tick();
        let (answer, end) = match self.ask(&op) {
            Ok((answer, end)) => (Some(answer), end),
            Err(_) => (None, self.moments.tick()),
        };
        let record = Record { who: who.to_owned(), op, begin, end, answer: answer.clone() };
        self.history.lock().unwrap().records.push(record);
        answer
    }

    /// The answer, and the moment when its first page was there.
    fn ask(&self, op: &Op) -> io::Result<(Answer, u64)> {
        let request = op.request();
        let reply = self.api.ask(request.method, &request.path, request.media, request.body.as_bytes())?;
        let end = self.moments.tick();
        let mut answer = Answer { code: reply.code, body: reply.json(), pages: Vec::new() };
        if answer.code == 200 && matches!(op, Op::List { .. }) {
            answer.pages.push(revision(&answer.body));
            while let Some(next) = answer.body["metadata"]["continue"].as_str() {
                let page = self.api.ask("GET", &format!("{}&continue={next}", request.path), "", b"")?;
                let mut page_body = page.json();
                if page.code != 200 {
                    return Ok((Answer { code: page.code, body: page_body, pages: Vec::new() }, end));
                }
                answer.pages.push(revision(&page_body));
                answer.body["metadata"] = page_body["metadata"].take();
                let more = page_body["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
                answer.body["items"].as_array_mut().expect("a list").extend(more);
            }
        }
        Ok((answer, end))
    }

    /// One client's whole day.
    pub(super) fn client(&self, seed: u64, number: usize, operations: u64) {
        let mut lot = Lot::new(seed, number);
        let who = format!("client-{number}");
        for _ in 0..operations {
            let op = lot.draw();
            let Some(answer) = self.act(&who, op) else {
                // Killed. Whoever comes back too early is counted, not hurt.
                self.wait_for_server();
                continue;
            };
            let results = answer.body["results"].as_array().into_iter().flatten().map(|r| &r["object"]);
            let items = answer.body["items"].as_array().into_iter().flatten();
            results.chain(items).chain([&answer.body]).for_each(|object| lot.learn(object));
        }
    }

    /// One watch. Reads at most `most` lines and then hangs up; gives the revision that it came to.
    fn session(&self, who: &str, mut session: Session, bookmarks: bool, most: u64) -> io::Result<u64> {
        let start = match session.start {
            Start::After(revision) => format!("&resourceVersion={revision}"),
            Start::Everything => String::new(),
            Start::Streamed => "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let path = collection(session.namespace.as_deref());
        let query = session.selector.query();
        let path = format!("{path}?watch=1&timeoutSeconds=1&allowWatchBookmarks={bookmarks}{start}{query}");
        session.begin = self.moments.tick();
        let (code, lines) = self.api.open("GET", &path, "", b"")?;
        assert_eq!(code, 200, "{who}: watch of {path}");
        for line in lines.lines().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            // Cut off by a kill: what came before it counts.
            let Ok(line) = line else { break };
            let mut event: Value = serde_json::from_str(&line).expect("a line is an event");
            let object = event["object"].take();
            self.seen.fetch_max(revision(&object), Ordering::SeqCst);
            session.events.push((event["type"].as_str().unwrap_or_default().to_owned(), object));
        }
        let reached = session.events.iter().map(|(_, object)| revision(object)).max();
        self.history.lock().unwrap().sessions.push(session);
        Ok(reached.unwrap_or(0))
    }

    /// One watcher's whole day: watches that are opened anywhere, dropped anywhere and resumed anywhere. At the end it
    /// watches once more in each way, to the very end.
    pub(super) fn watcher(&self, seed: u64, number: usize, from: u64) {
        let mut dice = Dice::new(seed.wrapping_mul(77).wrapping_add(number as u64));
        let who = format!("watcher-{number}");
        while !self.ending.load(Ordering::SeqCst) {
            let seen = self.seen.load(Ordering::SeqCst).max(from);
            let start = match dice.below(10) {
                0 | 1 => Start::Everything,
                2 | 3 => Start::Streamed,
                4 | 5 => Start::After(from + dice.below(seen - from + 1)),
                _ => Start::After(seen),
            };
            let most = if dice.below(3) == 0 { u64::MAX } else { 1 + dice.below(60) };
            let bookmarks = start == Start::Streamed || dice.below(2) == 0;
            let session = blank(&who, &mut dice, start);
            if self.session(&who, session, bookmarks, most).is_err() {
                self.wait_for_server();
            }
        }
        let due = revision(&self.api.get(&collection(None)).unwrap().unwrap());
        for mut start in [Start::After(from), Start::After(from + dice.below(due - from + 1)), Start::Streamed] {
            let session = blank(&who, &mut dice, start);
            let mut reached = if let Start::After(from) = start { from } else { 0 };
            wait_for("a watch to come to the end", || {
                let again = Session { start, ..session.clone() };
                reached = reached.max(self.session(&who, again, true, u64::MAX).map_err(|e| e.to_string())?);
                start = Start::After(reached);
                if reached >= due { Ok(()) } else { Err(format!("{session:?} is at {reached} of {due}")) }
            });
        }
    }

    /// Sees everything from the start to the sentinel, through every kill.
    pub(super) fn witness(&self, from: u64) {
        let (mut whole, mut changes): (u64, Vec<(String, Value)>) = (from, Vec::new());
        loop {
            let path = format!("{}?watch=1&resourceVersion={whole}", collection(None));
            let opened = self.api.open("GET", &path, "", b"");
            let Ok((200, lines)) = opened else {
                self.wait_for_server();
                continue;
            };
            // What is seen again after a cut is no second event.
            let known = changes.last().map_or(from, |(_, last)| revision(last));
            for line in lines.lines() {
                let Ok(line) = line else { break };
                let mut event: Value = serde_json::from_str(&line).expect("a line is an event");
                let object = event["object"].take();
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                assert_ne!(kind, "ERROR", "the witness was sent away after {whole}: {object}");
                if object["metadata"]["name"] == SENTINEL {
                    self.history.lock().unwrap().changes = changes;
                    return;
                }
                let now = revision(&object);
                let newest = changes.last().map_or(from, |(_, last)| revision(last));
                // A cut may fall between the events of one transaction: only what a later one follows is whole.
                if now > newest {
                    whole = newest.max(whole);
                }
                let again =
                    |(k, o): &(String, Value)| *k == kind && revision(o) == now && Key::of(o) == Key::of(&object);
                if now > known || !changes.iter().rev().take(10).any(again) {
                    changes.push((kind, object));
                }
            }
        }
    }

    /// Reads everything once more, and makes what ends the run.
    pub(super) fn finish(&self) {
        self.act("the end", Op::List { namespace: None, selector: Selector::All, limit: None });
        let app = json!({
            "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": SENTINEL},
            "spec": {"suspend": true, "replicas": 0, "process": {"command": ["true"]}},
        });
        let path = collection(Some("default"));
        let made = self.api.ask("POST", &path, "application/json", app.to_string().as_bytes()).unwrap();
        assert_eq!(made.code, 201, "{}", String::from_utf8_lossy(&made.body));
    }
}

fn blank(who: &str, dice: &mut Dice, start: Start) -> Session {
    let namespace = [None, Some("default"), Some("other")][dice.below(3) as usize].map(str::to_owned);
    let selector = Selector::draw(dice);
    Session { who: who.to_owned(), namespace, selector, start, begin: 0, events: Vec::new() }
}
