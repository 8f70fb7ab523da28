//! Programs that are run beside an attempt, and what attempts say by sd_notify.

use std::time::{Duration, Instant};

use appm::drivers::{
    Driver, DriverEvent, EXEC_OUTPUT, End, Exec, ExecError, Executed, Notified, Notify, Start, StartKey,
};
use nix::sys::signal::Signal;

use super::{Bench, code, command, key, process, runs, script, signal};
use crate::harness::{PATIENCE, wait_for};

fn exec(words: &[&str], timeout: Duration) -> Exec {
    Exec { argv: words.iter().map(|word| (*word).to_owned()).collect(), timeout, once: None }
}

async fn say(bench: &Bench, key: &StartKey, text: &str) -> Executed {
    bench.driver.exec(key, exec(&["sh", "-c", text], PATIENCE)).await.unwrap()
}

#[tokio::test]
async fn a_program_beside_an_attempt_has_its_environment_directory_umask_and_a_session_of_its_own() {
    let mut bench = Bench::new().await;
    let own = key("beside", 1);
    let mut start = command(&own, &["sleep", "1000"]);
    start.env.push(("COLOUR".to_owned(), "blue".to_owned()));
    process(&mut start).umask = 0o027;
    bench.run(start).await;
    let text = "echo $COLOUR $APPM_INSTANCE_UID $APPM_ATTEMPT; pwd; umask; echo on stderr >&2; exit 3";
    let wanted = |dir: &std::path::Path| {
        let work = dir.canonicalize().unwrap().join(format!("instances/{}/work", own.uid));
        format!("blue {} 1\n{}\n0027\non stderr\n", own.uid, work.display())
    };
    let said = say(&bench, &own, text).await;
    assert_eq!((said.code, String::from_utf8(said.output).unwrap()), (Some(3), wanted(bench.path())));
    let session = say(&bench, &own, "test $(cut -d' ' -f6 /proc/$$/stat) = $$").await;
    assert_eq!(session.code, Some(0));
    let missing = bench.driver.exec(&own, exec(&["no-such-program"], PATIENCE)).await.unwrap();
    assert_eq!(missing.code, Some(127));
    assert!(
        String::from_utf8(missing.output)
            .unwrap()
            .starts_with("exec.command: no such program `no-such-program` in PATH")
    );
    // The keeper that knew what it was given is gone; the process itself tells its successor.
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    let said = say(&bench, &own, text).await;
    assert_eq!((said.code, String::from_utf8(said.output).unwrap()), (Some(3), wanted(bench.path())));
}

#[tokio::test]
async fn output_is_bounded_and_its_end_kept() {
    let bench = Bench::new().await;
    let own = key("tail", 1);
    bench.run(command(&own, &["sleep", "1000"])).await;
    let said = say(&bench, &own, "head -c 3000000 /dev/zero; echo the end").await;
    assert_eq!((said.code, said.output.len()), (Some(0), EXEC_OUTPUT));
    assert!(said.output.ends_with(b"\0the end\n"));
}

#[tokio::test]
async fn a_slow_program_is_killed_with_all_that_it_started_and_delays_nobody() {
    let mut bench = Bench::new().await;
    let own = key("slow", 1);
    bench.run(command(&own, &["sleep", "1000"])).await;
    let pids = bench.path().join("pids");
    let text = format!("sleep 998 & setsid sleep 999 & echo $$ $! >> {}; echo before; wait", pids.display());
    let began = Instant::now();
    let slow = bench.driver.exec(&own, exec(&["sh", "-c", &text], Duration::from_millis(400)));
    let quick = async {
        let done = say(&bench, &own, "true").await;
        (done, began.elapsed())
    };
    let (slow, (quick, took)) = futures::join!(slow, quick);
    assert_eq!(slow.unwrap(), Executed { code: None, output: b"before\n".to_vec(), timed_out: true });
    assert_eq!(quick.code, Some(0));
    assert!(took < Duration::from_millis(400), "a quick one took {took:?} beside a slow one");
    for pid in std::fs::read_to_string(pids).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()) {
        wait_for("what it started to end", || if runs(pid) { Err(format!("{pid}")) } else { Ok(()) });
    }
    assert!(bench.driver.observe().await.unwrap().contains_key(&own));
    let started = bench.driver.start(command(&own, &["sleep", "1000"])).await.unwrap();
    assert!(runs(started.pid), "the attempt itself goes on");
    signal(started.pid, Signal::SIGKILL);
    bench.end_of(&own).await;
    let gone = bench.driver.exec(&own, exec(&["true"], PATIENCE)).await;
    assert_eq!(gone, Err(ExecError::NotRunning));
}

#[tokio::test]
async fn what_is_to_run_once_runs_once_however_often_it_is_asked_for() {
    let bench = Bench::new().await;
    let own = key("once-beside", 1);
    bench.run(command(&own, &["sleep", "1000"])).await;
    let count = bench.path().join("count");
    let text = format!("echo x >> {}; sleep 0.2; exit 4", count.display());
    let hook = Exec { once: Some("preStop".to_owned()), ..exec(&["sh", "-c", &text], PATIENCE) };
    let both = futures::join!(bench.driver.exec(&own, hook.clone()), bench.driver.exec(&own, hook.clone()));
    let later = bench.driver.exec(&own, hook).await.unwrap();
    assert!(both.0.unwrap() == later && both.1.unwrap() == later && later.code == Some(4));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
}

/// What `python3` needs to speak as a systemd service does.
const SAY: &str = r#"
import os, socket, sys, time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
    s.send(text.encode())
"#;

fn speaker(key: &StartKey, text: &str, watchdog: Option<Duration>) -> Start {
    let mut start = command(key, &["python3", "-c", &format!("{SAY}\n{text}")]);
    start.notify = Some(Notify { watchdog });
    start
}

impl Bench {
    async fn said(&mut self, key: &StartKey, wanted: impl Fn(&Notified) -> bool) -> Notified {
        let wait = async {
            loop {
                match self.events.recv().await.expect("the driver lives") {
                    DriverEvent::Notified(from, said) if from == *key && wanted(&said) => return said,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it is said")
    }
}

#[tokio::test]
async fn what_an_attempt_says_is_told_and_kept_whoever_dies() {
    let mut bench = Bench::new().await;
    let own = key("speaks", 1);
    let text = "say('READY=1\\nSTATUS=open for business'); time.sleep(1000)";
    bench.run(speaker(&own, text, None)).await;
    let said = bench.said(&own, |said| said.ready).await;
    assert_eq!(said.status, "open for business");
    let asked = bench.driver.notified(&own).await.unwrap().unwrap();
    assert!(asked.ready && asked.silent < PATIENCE);
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    assert!(bench.driver.notified(&own).await.unwrap().unwrap().ready, "a successor knows");
    say(&bench, &own, "true").await;
    let mute = key("mute", 1);
    bench.run(command(&mute, &["sleep", "1000"])).await;
    assert_eq!(bench.driver.notified(&mute).await.unwrap(), None);
}

#[tokio::test]
async fn strangers_are_not_heard_and_members_are() {
    let mut bench = Bench::new().await;
    let (own, other) = (key("own", 1), key("other", 1));
    let listen = Start { notify: Some(Notify::default()), ..command(&own, &["sleep", "1000"]) };
    bench.run(listen).await;
    let mut stranger = speaker(&other, "", None);
    stranger.notify = None;
    process(&mut stranger).argv[2] = format!("{SAY}\nsay('STATUS=forged'); time.sleep(1000)");
    stranger.env.push(("NOTIFY_SOCKET".to_owned(), format!("@appm/{}/1/notify", own.uid)));
    bench.run(stranger).await;
    let wait = "systemd-notify --status=told; sleep 0.2";
    let told = match std::process::Command::new("systemd-notify").arg("--version").output() {
        Ok(_) => wait.to_owned(),
        Err(_) => format!("python3 -c '{}'", format!("{SAY}\nsay(\"STATUS=told\"); time.sleep(0.2)").replace('\'', "")),
    };
    let environment = format!("NOTIFY_SOCKET=@appm/{}/1/notify; export NOTIFY_SOCKET; {told}", own.uid);
    assert_eq!(say(&bench, &own, &environment).await.code, Some(0));
    bench.said(&own, |said| said.status == "told").await;
    assert_ne!(bench.driver.notified(&own).await.unwrap().unwrap().status, "forged");
}

#[tokio::test]
async fn the_watchdog_is_announced_to_the_main_process_and_silence_is_measured() {
    let bench = Bench::new().await;
    let own = key("watchdog", 1);
    let text = "ok = os.environ['WATCHDOG_PID'] == str(os.getpid()) and os.environ['WATCHDOG_USEC'] == '30000000'
say('READY=1\\nSTATUS=' + ('right' if ok else 'wrong') + '\\nWATCHDOG=1')
time.sleep(0.3); say('WATCHDOG=trigger'); time.sleep(1000)";
    bench.run(speaker(&own, text, Some(Duration::from_secs(30)))).await;
    let mut bench = bench;
    assert_eq!(bench.said(&own, |said| said.ready).await.status, "right");
    let said = bench.said(&own, |said| said.trigger).await;
    assert!(said.silent >= Duration::from_millis(250), "{said:?}");
}

#[tokio::test]
async fn a_daemon_that_names_its_main_process_is_followed_and_its_exit_code_known() {
    let mut bench = Bench::new().await;
    let own = key("daemon", 1);
    let text = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        say('MAINPID=%d\\nREADY=1' % os.getpid())
        open('go', 'w').close()
        time.sleep(0.5)
        os._exit(7)
    os._exit(0)
while not os.path.exists('go'): time.sleep(0.01)
";
    let started = bench.run(speaker(&own, text, None)).await;
    bench.said(&own, |said| said.ready).await;
    let ended = bench.end_of(&own).await;
    assert_eq!(code(&ended), 7);
    assert_eq!(ended.start_time, started.start_time);
}

#[tokio::test]
async fn a_daemon_that_names_nobody_has_ended_and_what_it_left_is_killed_and_told() {
    let mut bench = Bench::new().await;
    let own = key("forks", 1);
    let pid_file = bench.path().join("pid");
    let text = format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & sleep 0.2", pid_file.display());
    bench.run(script(&own, &text)).await;
    assert_eq!(bench.end_of(&own).await.end, End::Code(0));
    let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(runs(pid));
    bench.driver.acknowledge(&own).await.unwrap();
    wait_for("it to end", || if runs(pid) { Err("runs".to_owned()) } else { Ok(()) });
    let told = async {
        loop {
            if let DriverEvent::LeftBehind(key, count) = bench.events.recv().await.expect("the driver lives") {
                return (key, count);
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, told).await.expect("it is told"), (own, 1));
}
