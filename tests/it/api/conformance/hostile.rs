//! Whoever sends too much, too slowly or nonsense gets the right answer, and keeps nobody else from theirs.

use std::time::Duration;

use appm::{policy::fair::Seats, server::Bounds, store::Limits};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{JSON, PATCH, failure, names};
use crate::{
    api::{APPS, Api, app},
    harness::World,
};

async fn connect(api: &Api) -> UnixStream {
    UnixStream::connect(api.dir.path().join("appm.sock")).await.unwrap()
}

/// All that comes until the other side closes.
async fn rest(mut stream: UnixStream) -> String {
    let mut all = Vec::new();
    // A connection that is reset says nothing more either.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await.expect("an end");
    String::from_utf8_lossy(&all).into_owned()
}

fn laughs() -> String {
    let lines = (1..12).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")));
    format!("a0: &a0 [lol,lol,lol]\n{}", lines.collect::<String>())
}

fn keys(count: usize) -> String {
    let all: Vec<String> = (0..count).map(|i| format!("\"k{i}\":1")).collect();
    format!("{{{}}}", all.join(","))
}

#[tokio::test]
async fn nonsense_gets_its_status() {
    let api = Api::start().await;
    let long_text = format!("a0: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 20_000].join(","));
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    for (content_type, body, codes) in [
        (JSON, b"\xff\xfe{}".to_vec(), [400, 400]),
        (JSON, b"{\"metadata\":{\"name\":\"\xff\"}}".to_vec(), [400, 400]),
        (JSON, vec![0; 100], [400, 400]),
        (JSON, b"{\"a\":1e999}".to_vec(), [400, 400]),
        (JSON, b"{} {}".to_vec(), [400, 400]),
        (JSON, b"[]".to_vec(), [400, 400]),
        (JSON, b"null".to_vec(), [400, 400]),
        (JSON, b"5".to_vec(), [400, 400]),
        (JSON, b"\"x\"".to_vec(), [400, 400]),
        (JSON, deep("[", "]", 100_000).into(), [400, 400]),
        (JSON, deep("{\"a\":", "", 100_000).into(), [400, 400]),
        (JSON, deep("[", "]", 110).into(), [400, 400]),
        (JSON, keys(100_000).into(), [400, 400]),
        (JSON, keys(1_000_000).into(), [413, 413]),
        (JSON, format!("[{}0]", "0,".repeat(1_000_000)).into(), [413, 413]),
        ("application/yaml", b"\xff".to_vec(), [400, 400]),
        ("application/yaml", b"a: *nobody".to_vec(), [400, 400]),
        ("application/yaml", b"a: 1\n---\nb: 2\n".to_vec(), [400, 400]),
        ("application/yaml", b"? [a, b]\n: c\n".to_vec(), [400, 400]),
        ("application/yaml", deep("[", "]", 10_000).into(), [400, 400]),
        ("application/yaml", laughs().into(), [400, 413]),
        ("application/yaml", long_text.into(), [400, 413]),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let reply = api.send(Method::POST, APPS, &[("content-type", content_type)], body.clone()).await;
        assert!(codes.contains(&reply.code), "{shown}: {} {}", reply.code, reply.text());
        failure(&reply.json());
        if reply.code == 400 && content_type == JSON {
            api.patch(&format!("{APPS}/none"), "application/merge-patch+json", body.clone()).await;
            let reply = api.patch(&format!("{APPS}/none"), PATCH, body).await;
            assert!((400..500).contains(&reply.code), "{shown}: {}", reply.code);
        }
    }
    assert!(names(&api.get(APPS).await.json()).is_empty());
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let api = Api::start().await;
    let mut stream = connect(&api).await;
    let head =
        format!("POST {APPS} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..60 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("RequestEntityTooLarge"), "{answer}");
}

const TWO: Seats = Seats { all: 2, alone: 2, among: 2, waiting: 8192 };

#[tokio::test]
async fn what_is_sent_by_halves_is_not_waited_for_long_and_hinders_nobody() {
    let soon = Duration::from_millis(500);
    let bounds = Bounds { body: soon, idle: soon, writing: TWO, ..Bounds::default() };
    let api = Api::open(Limits::default(), bounds).await;
    let mut halves = Vec::new();
    for at in 0..300 {
        let mut stream = connect(&api).await;
        let half = match at % 3 {
            0 => String::new(),
            1 => format!("GET {APPS} HTTP/1.1\r\nhost: localhost\r\nx-long"),
            _ => {
                format!(
                    "POST {APPS} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{{\"kind\""
                )
            }
        };
        stream.write_all(half.as_bytes()).await.unwrap();
        halves.push(stream);
    }
    api.made("a").await;
    for (at, stream) in halves.into_iter().enumerate() {
        let answer = rest(stream).await;
        if at % 3 == 2 {
            assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("\"Timeout\""), "{answer}");
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_others_have_idled_out() {
    let bounds = Bounds { connections: 4, idle: Duration::from_millis(500), ..Bounds::default() };
    let api = Api::open(Limits::default(), bounds).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(connect(&api).await);
    }
    api.made("a").await;
    drop(idle);
}

#[tokio::test]
async fn what_does_not_fit_is_429_with_retry_after() {
    let api = Api::open(Limits::default(), Bounds { in_bodies: 2000, ..Bounds::default() }).await;
    api.made("a").await;
    let mut large = app("b");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(5000)});
    let reply = api.post(APPS, &large).await.expect(429);
    assert_eq!(reply.headers["retry-after"], "1");
    let status = reply.json();
    assert_eq!((failure(&status).0, &status["details"]["retryAfterSeconds"]), ("TooManyRequests", &json!(1)));
    api.made("c").await;
}

#[tokio::test]
async fn more_requests_than_seats_take_their_turns() {
    let api = Api::open(Limits::default(), Bounds { writing: TWO, reading: TWO, ..Bounds::default() }).await;
    let made = futures::future::join_all((0..100).map(|at| {
        let api = &api;
        async move { api.post(APPS, &app(&format!("a{at}"))).await.code }
    }));
    assert!(made.await.iter().all(|code| *code == 201));
    assert_eq!(names(&api.get(APPS).await.json()).len(), 100);
}

#[tokio::test]
async fn a_reader_that_reads_nothing_is_hung_up_on() {
    let api = Api::open(Limits::default(), Bounds { stalled: Duration::from_millis(300), ..Bounds::default() }).await;
    let mut large = app("a");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(200_000)});
    for at in 0..20 {
        large["metadata"]["name"] = json!(format!("a{at}"));
        api.post(APPS, &large).await.expect(201);
    }
    let whole = api.get(APPS).await.expect(200).body.len();
    let mut stream = connect(&api).await;
    stream.write_all(format!("GET {APPS} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    // Not a wait for something: the reader is to stall for longer than it may.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rest(stream).await.len() < whole);
}

#[tokio::test]
async fn a_watcher_that_stalls_is_cut_off_and_resumes_where_it_was() {
    let api = Api::with(|limits| limits.watcher_batches = 8).await;
    let from = api.get(APPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut padded = app("a");
    padded["metadata"]["annotations"] = json!({"a": "x".repeat(100_000)});
    let path = format!("{APPS}?watch=1&resourceVersion={from}");
    let stalled = api.request(Method::GET, &path, &[], "").await;
    for at in 0..100 {
        padded["metadata"]["name"] = json!(format!("a{at}"));
        api.post(APPS, &padded).await.expect(201);
    }
    // What was sent before it was cut off ends cleanly, after a whole line.
    let text = stalled.into_body().collect().await.unwrap().to_bytes();
    let seen: Vec<Value> =
        text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert!(seen.len() < 100, "{}", seen.len());
    let last =
        seen.last().map_or(from.clone(), |e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    let again = api.get(&format!("{APPS}?watch=1&resourceVersion={last}&timeoutSeconds=1")).await.text();
    let mut all: Vec<String> = Vec::new();
    let later: Vec<Value> = again.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for event in seen.iter().chain(&later) {
        // Whether what is read back from the disk was there before is not known; "modified" adds it as well.
        assert!(matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")), "{event}");
        all.push(event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(all, (0..100).map(|at| format!("a{at}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn history_that_is_gone_is_an_error_in_the_stream() {
    let api = Api::with(|limits| {
        limits.ring_bytes = 1;
        limits.changes.rows = 1;
        limits.compact_every = jiff::SignedDuration::from_millis(10);
    })
    .await;
    for at in 0..20 {
        api.made(&format!("a{at}")).await;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let text = api.get(&format!("{APPS}?watch=1&resourceVersion=2&timeoutSeconds=1")).await.expect(200).text();
        let first: Value = serde_json::from_str(text.lines().next().expect("a line")).unwrap();
        if first["type"] == "ERROR" {
            assert_eq!((&first["object"]["code"], failure(&first["object"]).0), (&json!(410), "Expired"));
            assert_eq!(text.lines().count(), 1);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the history never goes: {text}");
    }
}

#[tokio::test]
async fn one_http2_connection_carries_hundreds_of_watches() {
    let api = Api::start().await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(connect(&api).await)).await.unwrap();
    tokio::spawn(connection);
    let mut watches = Vec::new();
    for _ in 0..300 {
        let request = Request::get(format!("http://localhost{APPS}?watch=1")).body(Full::<Bytes>::default()).unwrap();
        sender.ready().await.unwrap();
        watches.push(sender.send_request(request).await.unwrap());
    }
    let request = Request::post(format!("http://localhost{APPS}")).body(Full::from(app("a").to_string())).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 201);
    for watch in watches {
        let line = watch.into_body().into_data_stream().next().await.unwrap().unwrap();
        assert!(line.starts_with(b"{\"type\":\"ADDED\""));
    }
}

/// The most memory that a process has used, in MiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("a high water mark");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_storm_of_bad_requests_leaves_the_memory_bounded_and_nothing_panics() {
    let mut world = World::new();
    world.start();
    let server = world.processes().into_iter().find(|p| p.words.get(1).is_some_and(|w| w == "server")).unwrap().pid;
    let api = world.api();
    let object = app("web").to_string();
    api.ask("POST", APPS, JSON, object.as_bytes()).unwrap();
    let many = |text: String| text.into_bytes();
    let values = many(format!("{{\"metadata\":{{\"name\":\"x\"}},\"spec\":[{}0]}}", "0,".repeat(240_000)));
    let wide = many(keys(100_000));
    let copies: Vec<Value> = (0..5000).map(|_| json!({"op": "copy", "from": "/spec", "path": "/spec/x"})).collect();
    let copies = many(Value::Array(copies).to_string());
    let laughs = many(laughs());
    let annotations = many(format!(
        r#"{{"operations":[{{"verb":"Apply","object":{{"apiVersion":"appm.dev/v1","kind":"App","metadata":{{"name":"x","annotations":{}}}}}}}]}}"#,
        keys(1_000_000)
    ));
    let one = format!("{APPS}/web");
    let storm: Vec<(&str, &str, &str, &[u8])> = vec![
        ("POST", APPS, JSON, &values),
        ("POST", APPS, JSON, &wide),
        ("POST", APPS, "application/yaml", &wide),
        ("POST", APPS, "application/yaml", &laughs),
        ("PATCH", &one, PATCH, &copies),
        ("PATCH", &one, "application/merge-patch+json", &wide),
        ("PATCH", &one, "application/apply-patch+yaml", &wide),
        ("POST", "/apis/appm.dev/v1/transactions", JSON, &annotations),
    ];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (method, path, media, body) in &storm {
                    let answer =
                        api.ask(method, path, media, body).unwrap_or_else(|e| panic!("{method} {path} {media}: {e}"));
                    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
                    assert!((400..500).contains(&answer.code), "{method} {path}: {} {text}", answer.code);
                    assert!(answer.body.len() < 4 << 20, "an answer of {} bytes", answer.body.len());
                }
            });
        }
    });
    assert!(api.get(&one).unwrap().is_some());
    let peak = peak(server);
    eprintln!("peak memory of the server: {peak} MiB");
    assert!(peak < 1500, "{peak} MiB");
    assert!(!world.stderr().contains("panicked"), "{}", world.stderr());
}
