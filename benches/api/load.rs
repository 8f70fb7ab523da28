//! Load: so many clients, each on a connection of its own, each asking again as soon as it is answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Options,
    line::{JSON, Line},
    report::Figure,
    server::Server,
    subject,
};

/// One request, made anew each time.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) media: &'static str,
    pub(crate) body: Vec<u8>,
}

/// What client number `.0` asks the `.1`th time in run `.2`.
pub(crate) type Script = Arc<dyn Fn(usize, usize, usize) -> Request + Send + Sync>;

/// Requests in a second, over several runs; and what one costs the server, in microseconds of processor time.
pub(crate) async fn rate(options: &Options, server: &Server, clients: usize, script: Script) -> (Figure, f64) {
    let mut lines = Vec::new();
    for _ in 0..clients {
        lines.push(server.line().await);
    }
    let (mut figure, mut all, cpu) = (Figure::default(), 0, server.cpu());
    for run in 0..options.runs {
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(options.seconds);
        let tasks: Vec<_> = lines
            .drain(..)
            .enumerate()
            .map(|(client, line)| tokio::spawn(ask_until(end, line, client, run, script.clone())))
            .collect();
        let mut asked = 0;
        for task in tasks {
            let (line, count) = task.await.unwrap();
            lines.push(line);
            asked += count;
        }
        figure.add(asked as f64 / begin.elapsed().as_secs_f64());
        all += asked;
    }
    (figure, (server.cpu() - cpu) / all as f64 * 1e6)
}

async fn ask_until(end: Instant, mut line: Line, client: usize, run: usize, script: Script) -> (Line, usize) {
    let mut count = 0;
    while Instant::now() < end {
        let Request { method, path, media, body } = script(client, count, run);
        line.ask(method, &path, media, &body).await.sound();
        count += 1;
    }
    (line, count)
}

/// Makes the objects `o-FROM` to `o-UNTIL` in transactions of a thousand.
pub(crate) async fn fill(server: &Server, from: usize, until: usize) {
    let mut line = server.line().await;
    for start in (from..until).step_by(1000) {
        let names: Vec<String> = (start..until.min(start + 1000)).map(|n| format!("o-{n}")).collect();
        line.ask("POST", TRANSACTIONS, JSON, &transaction("Create", &names, 0)).await.sound();
    }
}

pub(crate) const TRANSACTIONS: &str = "/apis/appm.dev/v1/transactions";

/// One operation for each name.
pub(crate) fn transaction(verb: &str, names: &[String], mark: usize) -> Vec<u8> {
    let operations: Vec<_> =
        names.iter().map(|name| serde_json::json!({"verb": verb, "object": subject::object(name, mark)})).collect();
    serde_json::json!({"operations": operations, "fieldManager": "bench"}).to_string().into_bytes()
}
