//! No byte of output is lost or doubled, whoever is killed.

use std::{fs, process::Command};

use appm::{
    drivers::{Attempt, Driver, LogLimits},
    logger::Stream,
};
use nix::sys::signal::Signal;

use super::{Bench, code, key, script, signal};
use crate::harness::wait_for;

/// What `seq 1 N` writes.
fn numbers(last: usize) -> Vec<u8> {
    (1..=last).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

#[tokio::test]
async fn both_streams_are_kept_apart_and_in_order() {
    let mut bench = Bench::new().await;
    let own = key("streams", 1);
    let text = "for n in 1 2 3; do echo out $n; sleep 0.02; echo err $n >&2; sleep 0.02; done; printf end";
    bench.run(script(&own, text)).await;
    assert_eq!(code(&bench.end_of(&own).await), 0);
    assert_eq!(bench.text(&own, 21), "out 1\nout 2\nout 3\nend");
    bench.output(&own, Stream::Err, 18);
    let merged: Vec<_> = bench.lines(&own, None).into_iter().map(|l| String::from_utf8(l.bytes).unwrap()).collect();
    assert_eq!(merged.concat(), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nend");
}

#[tokio::test]
async fn a_killed_logger_loses_and_doubles_nothing() {
    let mut bench = Bench::new().await;
    let own = key("logger", 1);
    bench.run(script(&own, "seq 1 300000; seq 1 100000 >&2; exit 5")).await;
    for _kill in 0..5 {
        let logger = bench.logger_pid();
        signal(logger, Signal::SIGKILL);
        wait_for("another logger", || if super::runs(logger) { Err("it runs".to_owned()) } else { Ok(()) });
    }
    assert_eq!(code(&bench.end_of(&own).await), 5);
    let (out, err) = (numbers(300_000), numbers(100_000));
    assert!(bench.output(&own, Stream::Out, out.len()) == out);
    assert!(bench.output(&own, Stream::Err, err.len()) == err);
}

#[tokio::test]
async fn a_killed_keeper_loses_and_doubles_nothing() {
    let mut bench = Bench::new().await;
    let own = key("keeper", 1);
    bench
        .run(script(&own, "n=0; while [ ! -e go ]; do sleep 0.02; done; seq 1 200000; sleep 0.2; echo last; exit 5"))
        .await;
    let go = bench.path().join(format!("instances/{}/work/go", own.uid));
    let (keeper, logger) = (bench.keeper_pid(), bench.logger_pid());
    signal(keeper, Signal::SIGKILL);
    fs::write(go, "").unwrap();
    signal(logger, Signal::SIGKILL);
    bench.resync().await;
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    let mut wanted = numbers(200_000);
    wanted.extend_from_slice(b"last\n");
    let found = bench.output(&own, Stream::Out, wanted.len());
    assert!(found == wanted, "{} of {}", found.len(), wanted.len());
}

/// Children come and go while keeper and logger are killed by turns; the one that is left keeps what is under way.
#[tokio::test]
async fn output_is_whole_however_often_keeper_and_logger_are_killed_by_turns() {
    let mut bench = Bench::new().await;
    let keys: Vec<_> = (0..8).map(|n| key(&format!("chaos{n}"), 1)).collect();
    // Some end early, so that their last words are in a FIFO that nobody writes to any more.
    for (n, key) in keys.iter().enumerate() {
        let text = format!("for n in $(seq 1 {}); do seq 1 2000; seq 1 50 >&2; sleep 0.05; done", 3 * (n + 1));
        bench.run(script(key, &text)).await;
    }
    for turn in 0..12 {
        // One of the two must hold the FIFOs at any time: bytes that nobody holds end with the process that wrote them.
        wait_for("the logger to hold all FIFOs", || bench.fifos_without_logger());
        let logger = bench.logger_pid();
        if turn % 3 == 0 {
            signal(bench.keeper_pid(), Signal::SIGKILL);
            bench.resync().await;
        } else {
            signal(logger, Signal::SIGKILL);
        }
        wait_for("another logger", || if super::runs(logger) { Err("it runs".to_owned()) } else { Ok(()) });
    }
    for (n, key) in keys.iter().enumerate() {
        bench.end_of(key).await;
        let rounds = 3 * (n + 1);
        let (out, err) = (numbers(2000).repeat(rounds), numbers(50).repeat(rounds));
        let found = bench.output(key, Stream::Out, out.len());
        assert!(found == out, "{key}: {} of {} bytes", found.len(), out.len());
        assert!(bench.output(key, Stream::Err, err.len()) == err, "{key}");
    }
}

#[tokio::test]
async fn attempts_leave_no_directories_behind() {
    let mut bench = Bench::new().await;
    for attempt in 1..=20 {
        let own = key("again", attempt);
        bench.run(script(&own, "echo $APPM_ATTEMPT; exit 1")).await;
        bench.end_of(&own).await;
        bench.driver.acknowledge(&own).await.unwrap();
    }
    let dir = bench.path().join(format!("instances/{}", key("again", 1).uid));
    wait_for("the attempts to be drained", || {
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        if names == ["logs", "work"] { Ok(()) } else { Err(format!("{names:?}")) }
    });
    let logs = appm::logger::read::attempts(&dir.join("logs")).unwrap();
    assert_eq!(logs, (16..=20).collect::<Vec<_>>(), "as many as are kept");
    assert_eq!(bench.text(&key("again", 20), 3), "20\n");
}

#[tokio::test]
async fn files_are_rotated_by_size_and_the_oldest_go() {
    let mut bench = Bench::new().await;
    let own = key("rotate", 1);
    let mut start = script(&own, "seq 1 100000");
    start.logs = LogLimits { max_size: 64 << 10, max_files: 3, redact: false };
    bench.run(start).await;
    bench.end_of(&own).await;
    wait_for("the end of the output", || {
        let said: Vec<u8> = bench.lines(&own, None).into_iter().flat_map(|line| line.bytes).collect();
        if said.ends_with(b"\n100000\n") { Ok(()) } else { Err(format!("{} bytes", said.len())) }
    });
    let logs = bench.path().join(format!("instances/{}/logs", own.uid));
    let sizes: Vec<u64> = fs::read_dir(&logs)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "out"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    let kept: Vec<u8> = bench.lines(&own, None).into_iter().flat_map(|line| line.bytes).collect();
    assert!(numbers(100_000).ends_with(&kept));
    bench.driver.acknowledge(&own).await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_says_nothing_has_no_files_and_its_fifos_go() {
    let mut bench = Bench::new().await;
    let own = key("quiet", 1);
    assert_eq!(bench.say(script(&own, ":")).await, "");
    let logs = bench.path().join(format!("instances/{}/logs", own.uid));
    assert_eq!(fs::read_dir(logs).unwrap().count(), 0);
}

/// Printed, not judged.
#[tokio::test]
async fn much_output_arrives_whole() {
    let mut bench = Bench::new().await;
    let own = key("much", 1);
    let size: u64 = 1 << 30;
    let mut start = script(&own, &format!("head -c {size} /dev/zero"));
    start.logs = LogLimits { max_size: size, max_files: 3, redact: false };
    let before = std::time::Instant::now();
    bench.run(start).await;
    bench.end_of(&own).await;
    let logs = bench.path().join(format!("instances/{}/logs", own.uid));
    let length = || fs::metadata(logs.join("1.1.out")).map(|meta| meta.len()).unwrap_or(0);
    wait_for("the output", || if length() == size { Ok(()) } else { Err(format!("{}", length())) });
    let took = before.elapsed();
    let stat = fs::read_to_string(format!("/proc/{}/stat", bench.logger_pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
    eprintln!("1 GiB of output: {took:?}; logger: utime {} stime {} ticks", fields[12], fields[13]);
}

#[tokio::test]
async fn logs_that_somebody_removes_come_back_with_the_next_output() {
    let mut bench = Bench::new().await;
    let own = key("removed", 1);
    let text = "echo one; while [ ! -e go ]; do sleep 0.02; done; seq 1 100000; echo last >&2; exit 3";
    bench.run(script(&own, text)).await;
    bench.text(&own, 4);
    let dir = bench.path().join(format!("instances/{}", own.uid));
    fs::remove_dir_all(dir.join("logs")).unwrap();
    fs::write(dir.join("work/go"), "").unwrap();
    assert_eq!(code(&bench.end_of(&own).await), 3);
    let wanted = numbers(100_000);
    assert!(bench.output(&own, Stream::Out, wanted.len()) == wanted);
    assert_eq!(bench.output(&own, Stream::Err, 5), b"last\n");
}

#[tokio::test]
async fn a_process_that_closes_its_output_goes_on_and_the_other_stream_is_kept() {
    let mut bench = Bench::new().await;
    let own = key("closed", 1);
    let text = "echo said; exec 1>&-; echo still >&2; exec 2>&-; while [ ! -e go ]; do sleep 0.02; done; exit 4";
    bench.run(script(&own, text)).await;
    assert_eq!(bench.text(&own, 5), "said\n");
    assert_eq!(bench.output(&own, Stream::Err, 6), b"still\n");
    // Nobody can write any more, so nobody listens: an end that nothing waits for costs no cycles.
    wait_for("the FIFOs to be drained", || {
        let fifo = bench.path().join(format!("instances/{}/1/out.fifo", own.uid));
        if fifo.exists() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    assert!(matches!(bench.driver.observe().await.unwrap()[&own], Attempt::Running(_)));
    fs::write(bench.path().join(format!("instances/{}/work/go", own.uid)), "").unwrap();
    assert_eq!(code(&bench.end_of(&own).await), 4);
}

/// The disk of one logs directory, of so many bytes. Unmounted in the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where nobody may mount: a file system needs root.
    fn mount(at: &std::path::Path, bytes: u64) -> Option<Self> {
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().unwrap();
        if mount.status.success() {
            return Some(Self(at.to_owned()));
        }
        let why = String::from_utf8_lossy(&mount.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "this test needs to mount a tmpfs: {why}");
        eprintln!("SKIPPED: this test needs to mount a tmpfs: {why}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_makes_writers_wait_and_loses_nothing() {
    let mut bench = Bench::new().await;
    let own = key("full", 1);
    let logs = bench.path().join(format!("instances/{}/logs", own.uid));
    fs::create_dir_all(&logs).unwrap();
    let Some(disk) = SmallDisk::mount(&logs, 4 << 20) else { return };
    let filler = logs.join("filler");
    fs::write(&filler, vec![0; 3 << 20]).unwrap();
    let mut start = script(&own, "seq 1 400000; seq 1 20000 >&2; exit 3");
    start.logs = LogLimits { max_size: 512 << 10, max_files: 1000, redact: false };
    bench.run(start).await;
    // The disk takes no more, and the process waits in its write.
    wait_for("the disk to be full", || {
        let room = nix::sys::statvfs::statvfs(&logs).unwrap().blocks_available();
        if room == 0 { Ok(()) } else { Err(format!("{room} blocks are free")) }
    });
    assert!(matches!(bench.driver.observe().await.unwrap()[&own], Attempt::Running(_)));
    // While it waits, others are served.
    let other = key("beside", 1);
    assert_eq!(bench.say(script(&other, "echo fine")).await, "fine\n");
    fs::remove_file(&filler).unwrap();
    assert_eq!(code(&bench.end_of(&own).await), 3);
    let (out, err) = (numbers(400_000), numbers(20_000));
    assert!(bench.output(&own, Stream::Out, out.len()) == out);
    assert!(bench.output(&own, Stream::Err, err.len()) == err);
    drop(disk);
}

/// Every piece makes a new file, so most kills come in the middle of that.
#[tokio::test]
async fn a_logger_that_is_killed_while_it_rotates_loses_and_doubles_nothing() {
    let mut bench = Bench::new().await;
    let own = key("rotating", 1);
    let mut start = script(&own, "for n in $(seq 1 30); do seq 1 5000; sleep 0.02; done; exit 3");
    start.logs = LogLimits { max_size: 4096, max_files: 100_000, redact: false };
    bench.run(start).await;
    for _kill in 0..10 {
        let logger = bench.logger_pid();
        signal(logger, Signal::SIGKILL);
        wait_for("another logger", || if super::runs(logger) { Err("it runs".to_owned()) } else { Ok(()) });
    }
    assert_eq!(code(&bench.end_of(&own).await), 3);
    let wanted = numbers(5000).repeat(30);
    assert!(bench.output(&own, Stream::Out, wanted.len()) == wanted);
}
