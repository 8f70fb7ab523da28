//! What an object weighs: the slope of the server's memory between ten thousand and fifty thousand of them.

use std::time::Duration;

use crate::{
    Options,
    load::fill,
    report::{Figure, Report},
    server::Server,
    subject::path,
};

/// Until garbage has gone back to the system.
const REST: Duration = Duration::from_secs(4);

pub(crate) async fn measure(options: &Options, report: &mut Report) {
    let mut server = Server::start(options);
    tokio::time::sleep(REST).await;
    let empty = server.memory() / 1e6;
    report.add("memory of a server without objects", Figure::from_iter([empty]).shown(1, "MB"), "PSS");
    let (few, many) = (options.objects, 5 * options.objects);
    fill(&server, 0, few).await;
    tokio::time::sleep(REST).await;
    let before = server.memory();
    fill(&server, few, many).await;
    tokio::time::sleep(REST).await;
    let slope = |before: f64, after: f64| (after - before) / (many - few) as f64;
    let grown = slope(before, server.memory());
    let json = server.line().await.get(&path(&format!("o-{few}"))).await.sound().len() as f64;
    let share = |bytes: f64| format!("{:.0} bytes, {:.2} × its JSON of {json:.0}", bytes, bytes / json);
    let note = format!("PSS of the server, slope from {few} to {many}");
    report.add("memory of a stored object, after it was made", share(grown), &note);
    let ready = server.restart();
    tokio::time::sleep(REST).await;
    let loaded = slope(empty * 1e6, server.memory()) * (many - few) as f64 / many as f64;
    report.add("… after a restart", share(loaded), "PSS, above that of an empty server");
    report.add(&format!("start with {many} objects"), Figure::from_iter([ready]).shown(2, "s"), "`kill -9` before it");
}
