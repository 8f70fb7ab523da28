//! A storm of events: applications that start, write, end and go, told to many at once, over both transports and by both generations. Nothing is lost, nothing
//! is told twice, and of each start the order is START, STDOUT, EXIT, and REMOVED after all of them.

use std::{collections::BTreeMap, sync::mpsc, thread};

use serde_json::{Value, json};

use crate::{
    frames::{Frames, https},
    harness::{app, app_path},
    wire::{Node, node, token},
};

const APPS: usize = 8;
/// Starts of each that every listener hears the whole of, before all are removed.
const STARTS: usize = 3;
/// Lines of a start. Each is written a moment after the one before, so that it comes in pieces.
const LINES: usize = 40;

/// What one listener has heard of one application.
#[derive(Default)]
struct Heard {
    /// START, STDOUT, EXIT, REMOVED: one for several STDOUT in a row.
    words: Vec<String>,
    /// What was written since the last START.
    output: String,
    ended: usize,
}

/// A listener: its connection, and what it has heard.
struct Listener {
    line: Frames,
    heard: BTreeMap<String, Heard>,
    sequence: u64,
    events: usize,
}

fn all_of(name: &str) -> String {
    (1..=LINES).map(|line| format!("{name} {line}\n")).collect()
}

impl Listener {
    fn new(mut line: Frames, headers: &[(&str, &str)]) -> Self {
        let events = [("events", "START,STDOUT,EXIT,REMOVED")];
        let subscribed = line.ask("POST", "/appmesh/subscribe", headers, &events, b"");
        assert_eq!(subscribed.code, 200, "{subscribed:?}");
        Self { line, heard: BTreeMap::new(), sequence: 0, events: 0 }
    }

    /// The next event, which is in its place.
    fn next(&mut self) {
        let event = self.line.next().unwrap();
        assert_eq!(event.uri, "/appmesh/event");
        let (word, body) = (event.header("X-Event-Type").to_owned(), event.json());
        let (name, data) = (body["app_name"].as_str().unwrap().to_owned(), &body["data"]);
        let sequence = body["sequence"].as_u64().unwrap();
        assert!(sequence > self.sequence, "{body} after {}", self.sequence);
        self.sequence = sequence;
        self.events += 1;
        let heard = self.heard.entry(name.clone()).or_default();
        let before = heard.words.last().map(String::as_str);
        match word.as_str() {
            "START" => {
                assert!(matches!(before, None | Some("EXIT")), "{name}: START after {before:?}");
                heard.output.clear();
            }
            "STDOUT" => {
                assert!(matches!(before, Some("START" | "STDOUT")), "{name}: STDOUT after {before:?}");
                assert_eq!(data["position"], heard.output.len(), "{name}");
                heard.output += data["output"].as_str().unwrap();
            }
            "EXIT" => {
                assert!(matches!(before, Some("START" | "STDOUT")), "{name}: EXIT after {before:?}");
                let whole = all_of(&name);
                let code = data["exit_code"].as_i64().unwrap();
                match heard.ended < STARTS {
                    true => assert_eq!((code, &heard.output), (3, &whole), "{name}"),
                    // Removed in the middle, and its output with it.
                    false => assert!(code >= 3 && whole.starts_with(&heard.output), "{name}: {code}: {}", heard.output),
                }
                heard.ended += 1;
            }
            word => assert_eq!((word, before), ("REMOVED", Some("EXIT")), "{name}"),
        }
        if before != Some(&word) {
            heard.words.push(word);
        }
    }

    fn until(&mut self, is_over: impl Fn(&Heard) -> bool) {
        while self.heard.len() < APPS || !self.heard.values().all(&is_over) {
            self.next();
        }
    }
}

/// One listener for each transport and each generation, and one more who begins to read when all is over.
fn listeners(a: &Node) -> Vec<Listener> {
    let bearer = format!("Bearer {}", token(a));
    let shown = [("authorization", bearer.as_str())];
    let logged_in = |mut line: Frames| {
        assert_eq!(line.login("admin", "password-of-a").code, 200);
        Listener::new(line, &[])
    };
    vec![
        logged_in(Frames::connect(a.tcp, &a.ca)),
        Listener::new(Frames::connect(a.tcp, &a.ca), &shown),
        logged_in(Frames::web_socket((a.wss, &a.ca), &[])),
        Listener::new(Frames::web_socket((a.wss, &a.ca), &shown), &[]),
        Listener::new(Frames::web_socket((a.wss, &a.ca), &shown), &[]),
    ]
}

#[test]
fn a_storm_of_events_reaches_every_listener_whole_and_in_order() {
    let a = node("password-of-a", &json!([]));
    let mut all = listeners(&a);
    let slow = all.pop().unwrap();
    let (heard_enough, enough) = mpsc::channel();
    let threads: Vec<_> = all
        .into_iter()
        .map(|mut listener| {
            let heard_enough = heard_enough.clone();
            thread::spawn(move || {
                listener.until(|heard| heard.ended >= STARTS);
                heard_enough.send(()).unwrap();
                listener.until(|heard| heard.words.last().is_some_and(|word| word == "REMOVED"));
                listener
            })
        })
        .collect();
    let names: Vec<String> = (0..APPS).map(|n| format!("storm-{n}")).collect();
    for name in &names {
        let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo {name} $i; sleep 0.01; done; exit 3");
        let web = app(&a.world, name, 1, &script);
        assert!(a.world.api().apply(&web).unwrap().is_ok());
    }
    threads.iter().for_each(|_| enough.recv().expect("a listener's assertion failed"));
    for name in &names {
        let gone = a.world.api().ask("DELETE", &app_path(name), "", b"").unwrap();
        assert_eq!(gone.code, 200, "{}", String::from_utf8_lossy(&gone.body));
    }
    let mut all: Vec<Listener> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut slow = slow;
    slow.until(|heard| heard.words.last().is_some_and(|word| word == "REMOVED"));
    all.push(slow);
    // Everybody was told of the same starts and ends. What the last start wrote may be gone with it.
    let turns = |heard: &Heard| heard.words.iter().filter(|word| *word != "STDOUT").cloned().collect();
    let words = |listener: &Listener| -> BTreeMap<String, Vec<String>> {
        listener.heard.iter().map(|(name, heard)| (name.clone(), turns(heard))).collect()
    };
    let first = words(&all[0]);
    assert!(first.keys().eq(names.iter()), "{:?}", first.keys());
    for listener in &all {
        assert_eq!(words(listener), first);
    }
    eprintln!("{} events, each in its place", all.iter().map(|listener| listener.events).sum::<usize>());
    a.end();
}

/// Over HTTP there is nobody to push to, and it is said.
#[test]
fn events_over_http_are_refused_in_words() {
    let a = node("password-of-a", &json!([]));
    let bearer = format!("Bearer {}", token(&a));
    let (code, _, body) = https((a.https, &a.ca), "POST", "/appmesh/subscribe", &[("Authorization", &bearer)], b"");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert!(code == 405 && body["message"].as_str().is_some_and(|why| why.contains("TCP and WebSocket")), "{body}");
    a.end();
}
