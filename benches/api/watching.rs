//! Fan-out: one change, until so many watchers have it.
//!
//! The time runs from the moment when the change is sent to the server, so that its commit (with a sync) is part of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use crate::{
    Options,
    line::{JSON, Line, MERGE, connect},
    report::{Report, percentile},
    server::Server,
    subject::{COLLECTION, path, text},
};

/// How many watches share one HTTP/2 connection.
const STREAMS: usize = 100;
const REST: Duration = Duration::from_millis(1500);
const NAME: &str = "watched";

/// What the watchers tell of the change that is under way.
struct Round {
    epoch: Instant,
    /// When each had it, in nanoseconds of the epoch.
    at: Vec<AtomicU64>,
    left: AtomicUsize,
    all: Notify,
}

impl Round {
    /// Watcher `number` has so many lines more.
    fn arrived(&self, number: usize, lines: usize) {
        for _ in 0..lines {
            self.at[number].store(self.epoch.elapsed().as_nanos() as u64, Ordering::Relaxed);
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.all.notify_one();
            }
        }
    }
}

pub(crate) async fn measure(options: &Options, report: &mut Report) {
    let thousand = options.watchers.min(1000);
    let all: &[(usize, bool)] = &[(thousand, false), (thousand, true), (options.watchers, true)];
    for (count, shared) in all {
        fan_out(options, report, *count, *shared).await;
    }
}

async fn fan_out(options: &Options, report: &mut Report, count: usize, shared: bool) {
    let server = Server::start(options);
    let mut line = server.line().await;
    line.ask("POST", COLLECTION, JSON, &text(NAME, 0)).await.sound();
    let list: serde_json::Value = serde_json::from_slice(line.get(COLLECTION).await.sound()).unwrap();
    let url = format!("{COLLECTION}?watch=1&resourceVersion={}", list["metadata"]["resourceVersion"].as_str().unwrap());
    tokio::time::sleep(REST).await;
    let before = server.memory();
    let round = Arc::new(Round {
        epoch: Instant::now(),
        at: (0..count).map(|_| AtomicU64::new(0)).collect(),
        left: AtomicUsize::new(0),
        all: Notify::new(),
    });
    let watchers = if shared {
        on_streams(&server, count, &url, &round).await
    } else {
        on_lines(&server, count, &url, &round).await
    };
    tokio::time::sleep(REST).await;
    let idle = (server.memory() - before) / count as f64 / 1024.0;
    // The first changes make buffers grow and code warm.
    let mut mark = 0;
    for _ in 0..5 {
        mark += 1;
        change(&mut line, &round, mark).await;
    }
    let changes = (200_000 / count).clamp(20, 100) * options.runs / 3;
    let (mut each, mut last, mut cpu) = (Vec::new(), Vec::new(), server.cpu());
    for _ in 0..changes.max(5) {
        mark += 1;
        let mut took = change(&mut line, &round, mark).await;
        last.push(percentile(&mut took, 1.0));
        each.append(&mut took);
    }
    cpu = (server.cpu() - cpu) / last.len() as f64 / count as f64 * 1e6;
    tokio::time::sleep(REST).await;
    let used = (server.memory() - before) / count as f64 / 1024.0;
    let place =
        if shared { format!("{STREAMS} on each HTTP/2 connection") } else { "on connections of their own".to_owned() };
    let what = format!("change sent → {count} watchers have it, {place}");
    let measured = format!(
        "p50 {:.1} ms, p99 {:.1} ms; the last of them p50 {:.1} ms, p99 {:.1} ms",
        percentile(&mut each, 0.5),
        percentile(&mut each, 0.99),
        percentile(&mut last, 0.5),
        percentile(&mut last, 0.99),
    );
    report.add(&what, measured, &format!("{} changes, commit and sync included", last.len()));
    let weight = format!("{idle:.1} KiB idle, {used:.1} KiB after {mark} changes; {cpu:.1} µs of CPU");
    report.add("… for each watcher", weight, "PSS and CPU time of the server, connections included");
    drop(watchers);
}

/// Makes one change and waits until everybody has it; how long each waited, in milliseconds.
async fn change(line: &mut Line, round: &Round, mark: usize) -> Vec<f64> {
    round.left.store(round.at.len(), Ordering::Release);
    let body = serde_json::json!({"data": {"mark": mark.to_string()}}).to_string();
    let begin = round.epoch.elapsed().as_nanos() as u64;
    line.ask("PATCH", &path(NAME), MERGE, body.as_bytes()).await.sound();
    tokio::time::timeout(Duration::from_secs(30), round.all.notified()).await.unwrap();
    round.at.iter().map(|at| at.load(Ordering::Relaxed).saturating_sub(begin) as f64 / 1e6).collect()
}

/// Watchers that end when this is dropped.
type Watchers = JoinSet<()>;

async fn on_lines(server: &Server, count: usize, url: &str, round: &Arc<Round>) -> Watchers {
    let mut watchers = JoinSet::new();
    for number in 0..count {
        let mut followed = server.line().await.follow(url).await;
        let round = round.clone();
        watchers.spawn(async move {
            let mut lines = Lines::default();
            loop {
                let piece = followed.piece().await;
                if piece.is_empty() {
                    return;
                }
                round.arrived(number, lines.count(piece));
            }
        });
    }
    watchers
}

async fn on_streams(server: &Server, count: usize, url: &str, round: &Arc<Round>) -> Watchers {
    let mut watchers = JoinSet::new();
    let mut sender: Option<http2::SendRequest<Empty<Bytes>>> = None;
    for number in 0..count {
        if number % STREAMS == 0 {
            let stream = connect(&server.address, b"h2").await;
            let (new, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .handshake(TokioIo::new(stream))
                .await
                .unwrap();
            sender = Some(new);
            let _driver: JoinHandle<_> = tokio::spawn(connection);
        }
        let request = Request::get(format!("https://{}{url}", server.address.host))
            .header("authorization", format!("Bearer {}", server.address.token))
            .body(Empty::new())
            .unwrap();
        let answer = sender.as_mut().unwrap().send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let (mut body, round) = (answer.into_body(), round.clone());
        watchers.spawn(async move {
            let mut lines = Lines::default();
            while let Some(Ok(frame)) = body.frame().await {
                if let Some(piece) = frame.data_ref() {
                    round.arrived(number, lines.count(piece));
                }
            }
        });
    }
    watchers
}

/// Counts events: each ends with `}` and a line feed, which the framing of HTTP/1.1 never has in a row.
#[derive(Default)]
struct Lines {
    last: u8,
}

impl Lines {
    fn count(&mut self, piece: &[u8]) -> usize {
        let mut found = 0;
        for byte in piece {
            found += usize::from(self.last == b'}' && *byte == b'\n');
            self.last = *byte;
        }
        found
    }
}
