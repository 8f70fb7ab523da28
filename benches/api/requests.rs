//! Rates of single requests, transactions, and lists.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    Options,
    line::{APPLY, JSON, MERGE},
    load::{Request, Script, TRANSACTIONS, fill, rate, transaction},
    report::{Figure, Report},
    server::Server,
    subject::{COLLECTION, path, text},
};

const MANY: usize = 64;

pub(crate) async fn measure(options: &Options, report: &mut Report) {
    let server = Server::start(options);
    let syncs = sync_rate(options, &server);
    report.add("syncs of this disk, one after another", syncs.shown(0, "/s"), "4 KiB written, `fdatasync`, 500 times");
    let own: Vec<String> = (0..MANY).map(|client| format!("own-{client}")).collect();
    let mut line = server.line().await;
    line.ask("POST", TRANSACTIONS, JSON, &transaction("Create", &own, 0)).await.sound();
    for (what, note, script) in scripts() {
        for clients in [1, MANY] {
            let plural = if clients == 1 { "client" } else { "clients" };
            let (figure, cpu) = rate(options, &server, clients, script.clone()).await;
            let note = format!("{note}; {cpu:.0} µs of the server's CPU each");
            report.add(&format!("{what}, {clients} {plural}"), figure.shown(0, "/s"), &note);
        }
    }
    let mut names = Vec::new();
    for (what, verb) in [("new objects", "Apply"), ("changed objects", "Apply"), ("deletions", "Delete")] {
        let mut figure = Figure::default();
        for run in 0..options.runs {
            if verb == "Apply" && what == "new objects" {
                names.push((0..1000).map(|n| format!("t{run}-{n}")).collect::<Vec<_>>());
            }
            let body = transaction(verb, &names[run], usize::from(what == "changed objects"));
            let begin = Instant::now();
            line.ask("POST", TRANSACTIONS, JSON, &body).await.sound();
            figure.add(begin.elapsed().as_secs_f64() * 1000.0);
        }
        report.add(
            &format!("transaction of 1,000: {what}"),
            figure.shown(0, "ms"),
            "one request, one revision, synced",
        );
    }
}

/// What is asked, as (what, how, requests).
fn scripts() -> Vec<(&'static str, &'static str, Script)> {
    let synced = "each answered when it is synced";
    let own = |client| path(&format!("own-{client}"));
    vec![
        (
            "get",
            "one object of 1 KiB",
            Arc::new(move |client, _, _| Request { method: "GET", path: own(client), media: "", body: Vec::new() }),
        ),
        (
            "create",
            synced,
            Arc::new(|_, _, _| {
                static MADE: AtomicUsize = AtomicUsize::new(0);
                let name = format!("c-{}", MADE.fetch_add(1, Ordering::Relaxed));
                Request { method: "POST", path: COLLECTION.to_owned(), media: JSON, body: text(&name, 0) }
            }),
        ),
        (
            "update",
            synced,
            Arc::new(move |client, count, run| {
                let body = text(&format!("own-{client}"), 1_000_000 * (run + 1) + count);
                Request { method: "PUT", path: own(client), media: JSON, body }
            }),
        ),
        (
            "merge patch",
            synced,
            Arc::new(move |client, count, run| {
                let mark = 2_000_000 * (run + 1) + count;
                let body = json!({"data": {"mark": mark.to_string()}}).to_string().into_bytes();
                Request { method: "PATCH", path: own(client), media: MERGE, body }
            }),
        ),
        (
            "server-side apply",
            synced,
            Arc::new(move |client, count, run| {
                let path = format!("{}?fieldManager=bench&force=true", own(client));
                let body = text(&format!("own-{client}"), 3_000_000 * (run + 1) + count);
                Request { method: "PATCH", path, media: APPLY, body }
            }),
        ),
    ]
}

fn sync_rate(options: &Options, server: &Server) -> Figure {
    let file = File::create(server.dir.path().join("syncs")).unwrap();
    let runs = (0..options.runs).map(|run| {
        let begin = Instant::now();
        for at in 0..500 {
            file.write_all_at(&[7; 4096], (run as u64 * 500 + at) * 4096).unwrap();
            file.sync_data().unwrap();
        }
        500.0 / begin.elapsed().as_secs_f64()
    });
    runs.collect()
}

pub(crate) async fn measure_lists(options: &Options, report: &mut Report) {
    let server = Server::start(options);
    fill(&server, 0, options.objects).await;
    let objects = options.objects;
    let mut line = server.line().await;
    let (mut whole, mut first, mut rates, mut size) = (Figure::default(), Figure::default(), Figure::default(), 0);
    for _ in 0..options.runs.max(10) {
        let begin = Instant::now();
        let answer = line.get(COLLECTION).await;
        let took = begin.elapsed().as_secs_f64();
        first.add((answer.began - begin).as_secs_f64() * 1000.0);
        size = answer.sound().len();
        whole.add(took * 1000.0);
        rates.add(size as f64 / took / 1e6);
    }
    let what = format!("list of {objects} objects, {:.1} MB", size as f64 / 1e6);
    report.add(&what, whole.shown(1, "ms"), "one client, over TLS, read to the end");
    report.add("… bytes in a second", rates.shown(0, "MB/s"), "this program's decryption included");
    report.add("… time to the first byte", first.shown(2, "ms"), "");
    let mut figure = Figure::default();
    for _ in 0..options.runs {
        let begin = Instant::now();
        let (mut token, mut seen) = (String::new(), 0);
        loop {
            let list: Value =
                serde_json::from_slice(line.get(&format!("{COLLECTION}?limit=500&continue={token}")).await.sound())
                    .unwrap();
            seen += list["items"].as_array().unwrap().len();
            match list["metadata"]["continue"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(seen, objects);
        figure.add(begin.elapsed().as_secs_f64() * 1000.0);
    }
    report.add("… in pages of 500", figure.shown(0, "ms"), "parsed, one after another");
    let mut figure = Figure::default();
    let mut found = 0;
    for _ in 0..options.runs.max(10) {
        let begin = Instant::now();
        let answer = line.get(&format!("{COLLECTION}?labelSelector=tier%3Dfront,shard%3Ds7")).await;
        let took = begin.elapsed().as_secs_f64();
        found = answer.sound().windows(12).filter(|window| window == br#""apiVersion""#).count().saturating_sub(1);
        figure.add(took * 1000.0);
    }
    report.add(&format!("list by label, some {found} of {objects}"), figure.shown(2, "ms"), "");
}
