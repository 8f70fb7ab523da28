//! Limits are enforced by control groups, and nobody in a group outlives its attempt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use appm::drivers::{Attempt, Driver, End, Limits, Reach, Start, StartError, StartKey};
use nix::sys::signal::Signal;

use super::{Bench, key, runs, script, signal};
use crate::harness::wait_for;

fn limited(start: Start, limits: Limits) -> Start {
    Start { limits, ..start }
}

fn memory(mebibytes: u64) -> Limits {
    Limits { memory: Some(mebibytes << 20), ..Limits::default() }
}

fn pids(pids: u64) -> Limits {
    Limits { pids: Some(pids), ..Limits::default() }
}

/// Starts an attempt with limits. False, loudly, where this machine cannot enforce them; never in CI.
async fn starts(bench: &Bench, start: Start) -> bool {
    match bench.driver.start(start).await {
        Ok(_) => true,
        Err(StartError::ResourcesUnavailable(why)) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED, limits cannot be tested here: {why}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

/// The directories of an attempt's groups.
fn groups(key: &StartKey) -> Vec<PathBuf> {
    let leaf = format!("{}-{}", key.uid, key.attempt);
    fn seek(dir: &Path, leaf: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(leaf) {
                    found.push(entry.path());
                }
                seek(&entry.path(), leaf, found);
            }
        }
    }
    let mut found = Vec::new();
    seek(Path::new("/sys/fs/cgroup"), &leaf, &mut found);
    found
}

fn members(key: &StartKey) -> Vec<i32> {
    let texts = groups(key).into_iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
    texts.flat_map(|text| text.lines().map(|line| line.parse().unwrap()).collect::<Vec<i32>>()).collect()
}

fn wait_until_gone(key: &StartKey) {
    wait_for("the groups to be gone", || match groups(key) {
        dirs if dirs.is_empty() => Ok(()),
        dirs => Err(format!("{dirs:?} with {:?}", members(key))),
    });
}

/// Ends the keeper properly, so that nothing of it is left under /sys/fs/cgroup.
async fn quit(bench: Bench) {
    bench.driver.quit().await.unwrap();
}

#[tokio::test]
async fn what_needs_more_memory_than_its_limit_is_reported_as_oom_killed() {
    let mut bench = Bench::new().await;
    let (greedy, modest) = (key("greedy", 1), key("modest", 1));
    // `tail` keeps what has no end in memory.
    if !starts(&bench, limited(script(&greedy, "exec tail /dev/zero"), memory(24))).await {
        return;
    }
    let ended = bench.end_of(&greedy).await;
    assert_eq!((ended.end, ended.oom_killed), (End::Signal(9), true));
    assert!(starts(&bench, limited(script(&modest, "kill -9 $$"), memory(24))).await);
    let ended = bench.end_of(&modest).await;
    assert_eq!((ended.end, ended.oom_killed), (End::Signal(9), false), "not every SIGKILL is for want of memory");
    for key in [&greedy, &modest] {
        bench.driver.acknowledge(key).await.unwrap();
        wait_until_gone(key);
    }
    quit(bench).await;
}

#[tokio::test]
async fn a_fork_bomb_stays_small_and_is_killed_whole() {
    let mut bench = Bench::new().await;
    let bomb = key("bomb", 1);
    // Each leaves its session and its environment behind, and ignores what can be ignored.
    let text = "trap '' TERM HUP INT; b() { while :; do env -i setsid sleep 1000 & b & done; }; b 2> /dev/null";
    if !starts(&bench, limited(script(&bomb, text), pids(30))).await {
        return;
    }
    wait_for("the kernel to refuse a fork", || {
        let events = groups(&bomb).into_iter().filter_map(|dir| fs::read_to_string(dir.join("pids.events")).ok());
        let text: String = events.collect();
        if text.starts_with("max ") && text != "max 0\n" { Ok(()) } else { Err(text) }
    });
    bench.driver.signal(&bomb, 9, Reach::Tree).await.unwrap();
    // The first shell may have given up before: it cannot fork either.
    bench.end_of(&bomb).await;
    wait_for("everybody to end", || if members(&bomb).is_empty() { Ok(()) } else { Err("not yet".into()) });
    bench.driver.acknowledge(&bomb).await.unwrap();
    wait_until_gone(&bomb);
    quit(bench).await;
}

#[tokio::test]
async fn what_hides_from_its_session_and_environment_does_not_outlive_its_attempt() {
    let mut bench = Bench::new().await;
    let hidden = key("hidden", 1);
    let text = "env -i setsid sh -c 'env -i setsid sleep 1000 & echo $!' & wait; sleep 0.2";
    if !starts(&bench, limited(script(&hidden, text), pids(30))).await {
        return;
    }
    let pid: i32 = bench.text(&hidden, 2).trim().parse().unwrap();
    bench.end_of(&hidden).await;
    assert!(runs(pid));
    bench.driver.acknowledge(&hidden).await.unwrap();
    wait_for("what was left behind to end", || if runs(pid) { Err("it runs".into()) } else { Ok(()) });
    wait_until_gone(&hidden);
    quit(bench).await;
}

#[tokio::test]
async fn a_process_gets_no_more_than_its_share_of_a_core() {
    let mut bench = Bench::new().await;
    let busy = key("busy", 1);
    let limits = Limits { cpu: Some(100), ..Limits::default() };
    if !starts(&bench, limited(script(&busy, "while :; do :; done"), limits)).await {
        return;
    }
    wait_for("the kernel to hold it back", || {
        let stats = groups(&busy).into_iter().filter_map(|dir| fs::read_to_string(dir.join("cpu.stat")).ok());
        let text: String = stats.collect();
        let times = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok());
        if times.is_some_and(|times| times > 2) { Ok(()) } else { Err(text) }
    });
    bench.driver.signal(&busy, 9, Reach::Tree).await.unwrap();
    bench.end_of(&busy).await;
    bench.driver.acknowledge(&busy).await.unwrap();
    wait_until_gone(&busy);
    quit(bench).await;
}

#[tokio::test]
async fn limits_outlive_the_keeper_and_its_successor_tells_of_memory_and_cleans_up() {
    let mut bench = Bench::new().await;
    let (grows, forgotten) = (key("grows", 1), key("forgotten", 1));
    let text = "while [ ! -e go ]; do sleep 0.02; done; exec tail /dev/zero";
    if !starts(&bench, limited(script(&grows, text), memory(24))).await {
        return;
    }
    assert!(starts(&bench, limited(script(&forgotten, "exec sleep 1000"), pids(5))).await);
    let base = groups(&grows)[0].parent().unwrap().to_owned();
    // What a keeper made and could not record before it died.
    let stray = base.join("stray-1");
    fs::create_dir(&stray).unwrap();
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    let seen = bench.driver.observe().await.unwrap();
    assert!(matches!(&seen[&grows], Attempt::Running(started) if started.adopted), "{seen:?}");
    wait_for("the stray group to be gone", || if stray.exists() { Err("there".into()) } else { Ok(()) });
    fs::write(bench.path().join(format!("instances/{}/work/go", grows.uid)), "").unwrap();
    let ended = bench.end_of(&grows).await;
    assert_eq!((ended.end, ended.oom_killed), (End::Lost, true), "how it ended is lost, and why is not");
    bench.driver.signal(&forgotten, 9, Reach::Tree).await.unwrap();
    bench.end_of(&forgotten).await;
    for key in [&grows, &forgotten] {
        bench.driver.acknowledge(key).await.unwrap();
        wait_until_gone(key);
    }
    quit(bench).await;
    wait_for("the keeper's own group to be gone", || if base.exists() { Err("there".into()) } else { Ok(()) });
}

#[tokio::test]
async fn a_limit_that_cannot_be_enforced_is_refused_with_the_reason() {
    let bench = Bench::new().await;
    let unreal = key("unreal", 1);
    // No kernel takes this weight.
    let limits = Limits { io_weight: Some(1_000_000_000), ..Limits::default() };
    let refused = bench.driver.start(limited(script(&unreal, "true"), limits)).await.unwrap_err();
    assert!(matches!(&refused, StartError::ResourcesUnavailable(_)), "{refused}");
    assert!(groups(&unreal).is_empty());
    bench.driver.acknowledge(&unreal).await.unwrap();
    quit(bench).await;
}
