//! What holds when keeper, logger or driver are killed or replaced.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use appm::{
    drivers::{Attempt, Driver, End, StartError, process::ProcessDriver},
    keeper,
};
use nix::sys::signal::Signal;

use super::{Bench, EXE, code, command, connect, key, runs, script, signal};
use crate::harness::wait_for;

#[tokio::test]
async fn after_the_keeper_is_killed_its_processes_are_adopted_and_their_codes_are_lost() {
    let mut bench = Bench::new().await;
    let (long, short) = (key("long", 1), key("short", 1));
    let started = bench.run(command(&long, &["sleep", "1000"])).await;
    let gone = bench.run(command(&short, &["sleep", "1000"])).await;
    let keeper = bench.keeper_pid();
    signal(keeper, Signal::SIGSTOP);
    signal(gone.pid, Signal::SIGKILL);
    signal(keeper, Signal::SIGKILL);
    bench.resync().await;
    let seen = bench.driver.observe().await.unwrap();
    let Attempt::Running(found) = &seen[&long] else { panic!("{seen:?}") };
    assert_eq!((found.pid, found.adopted, found.start_time), (started.pid, true, started.start_time));
    assert_eq!(bench.end_of(&short).await.end, End::Lost);
    assert_eq!(bench.run(command(&long, &["sleep", "1000"])).await, *found);
    let again = bench.driver.start(command(&short, &["true"])).await;
    assert_eq!(again, Err(StartError::AlreadyStarted(short.clone())));
    signal(started.pid, Signal::SIGTERM);
    assert_eq!(bench.end_of(&long).await.end, End::Lost);
    bench.driver.acknowledge(&long).await.unwrap();
}

#[tokio::test]
async fn a_keeper_replaces_itself_and_keeps_children_and_codes() {
    let bench = Bench::new().await;
    let (coded, killed) = (key("coded", 1), key("killed", 1));
    let first = bench.run(script(&coded, "echo before; read -r _ < /proc/self/fd/0 || :; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 42")).await;
    bench.run(command(&killed, &["sleep", "1000"])).await;
    bench.text(&coded, 7);
    let (keeper, logger) = (bench.keeper_pid(), bench.logger_pid());

    // The same program, another file: a newer build.
    let newer = bench.path().join("appm-newer");
    fs::copy(EXE, &newer).unwrap();
    fs::set_permissions(&newer, fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(keeper::build_id(&newer).unwrap(), keeper::build_id(EXE.as_ref()).unwrap());
    let upgraded = ProcessDriver::connect(bench.path(), newer.clone()).await.unwrap();
    assert_eq!(bench.keeper_pid(), keeper, "the process stays");
    assert_eq!(fs::read_link(format!("/proc/{keeper}/exe")).unwrap(), newer.canonicalize().unwrap());
    wait_for("the logger to be new", || if bench.logger_pid() == logger { Err("old".into()) } else { Ok(()) });

    let seen = upgraded.observe().await.unwrap();
    assert_eq!(seen[&coded], Attempt::Running(first.clone()));
    fs::write(bench.path().join(format!("instances/{}/work/go", coded.uid)), "").unwrap();
    let events = upgraded.events();
    let found = end_seen(events, &coded).await;
    assert_eq!(found, End::Code(42));
    assert_eq!(bench.text(&coded, 13), "before\nafter\n");
    let refused = ProcessDriver::connect(bench.path(), PathBuf::from("/no/such/appm")).await;
    assert!(refused.is_ok(), "an executable that is not there replaces nothing");
}

async fn end_seen(
    mut events: tokio::sync::mpsc::UnboundedReceiver<appm::drivers::DriverEvent>,
    key: &appm::drivers::StartKey,
) -> End {
    loop {
        if let Some(appm::drivers::DriverEvent::Ended(of, ended)) = events.recv().await
            && of == *key
        {
            return ended.end;
        }
    }
}

#[tokio::test]
async fn two_racing_starters_end_with_one_keeper() {
    let dir = tempfile::tempdir().unwrap();
    let mut many = futures::future::join_all((0..6).map(|_| connect(dir.path()))).await;
    let key = key("race", 1);
    let start = command(&key, &["sleep", "1000"]);
    let pids = futures::future::join_all(many.iter().map(|(driver, _)| driver.start(start.clone()))).await;
    let pid = pids[0].as_ref().unwrap().pid;
    assert!(pids.iter().all(|started| started.as_ref().unwrap().pid == pid), "{pids:?}");
    let (driver, _) = &many[0];
    driver.signal(&key, 9, appm::drivers::Reach::Tree).await.unwrap();
    wait_for("the end", || if runs(pid) { Err("it runs".to_owned()) } else { Ok(()) });
    // It may be a zombie for a moment, until it is reaped.
    while driver.acknowledge(&key).await.is_err() {}
    // The others would start a keeper again.
    many.truncate(1);
    many[0].0.quit().await.unwrap();
}

#[tokio::test]
async fn exits_are_kept_for_a_driver_that_comes_later() {
    let mut bench = Bench::new().await;
    let own = key("later", 1);
    bench.run(script(&own, "exit 7")).await;
    bench.end_of(&own).await;
    let (later, _events) = connect(bench.path()).await;
    let Attempt::Ended(ended) = later.observe().await.unwrap()[&own].clone() else { panic!() };
    assert_eq!(code(&ended), 7);
    later.acknowledge(&own).await.unwrap();
    assert!(bench.driver.observe().await.unwrap().is_empty());
}
