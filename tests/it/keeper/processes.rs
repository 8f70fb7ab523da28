//! What a process gets, how it is started once, how it ends.

use appm::drivers::{Attempt, Driver, End, Reach, StartError};
use nix::sys::signal::Signal;

use super::{Bench, all_pids, code, command, key, process, runs, script, signal};
use crate::harness::wait_for;

#[tokio::test]
async fn an_attempt_is_started_once_however_often_it_is_asked_for() {
    let mut bench = Bench::new().await;
    let first = key("once", 1);
    let start = command(&first, &["sleep", "1000"]);
    let many = futures::future::join_all((0..20).map(|_| bench.driver.start(start.clone()))).await;
    let started = many[0].clone().unwrap();
    assert!(many.iter().all(|answer| answer.as_ref() == Ok(&started)), "{many:?}");
    assert!(!started.adopted);
    signal(started.pid, Signal::SIGKILL);
    assert_eq!(bench.end_of(&first).await.end, End::Signal(9));
    let already = Err(StartError::AlreadyStarted(first.clone()));
    assert_eq!(bench.driver.start(start.clone()).await, already);
    assert!(matches!(bench.driver.observe().await.unwrap()[&first], Attempt::Ended(_)));
    bench.driver.acknowledge(&first).await.unwrap();
    assert!(bench.driver.observe().await.unwrap().is_empty());
    assert_eq!(bench.driver.start(start).await, already);
    bench.driver.acknowledge(&first).await.unwrap();
}

#[tokio::test]
async fn exit_codes_and_signals_are_reported() {
    let mut bench = Bench::new().await;
    for wanted in [0, 1, 75, 255] {
        let key = key(&format!("code{wanted}"), 1);
        bench.run(script(&key, &format!("exit {wanted}"))).await;
        assert_eq!(code(&bench.end_of(&key).await), wanted);
    }
    let key = key("signal", 1);
    bench.run(command(&key, &["sleep", "1000"])).await;
    bench.driver.signal(&key, 15, Reach::Process).await.unwrap();
    assert_eq!(bench.end_of(&key).await.end, End::Signal(15));
    bench.driver.signal(&key, 15, Reach::Process).await.expect("one that ended is no error");
}

#[tokio::test]
async fn a_child_starts_clean() {
    let mut bench = Bench::new().await;
    let own = key("clean", 1);
    let mut start = script(&own, "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; pwd; env | sort; umask");
    start.env.push(("A".to_owned(), "b c".to_owned()));
    process(&mut start).umask = 0o027;
    let said = bench.say(start).await;
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("SigBlk:\t0000000000000000"));
    assert_eq!(lines.next(), Some("SigIgn:\t0000000000000000"));
    // The fourth is ls's own, of the directory that it lists.
    assert_eq!([lines.next(), lines.next(), lines.next(), lines.next()], [Some("0"), Some("1"), Some("2"), Some("3")]);
    let work = bench.path().join(format!("instances/{}/work", own.uid));
    assert_eq!(lines.next(), work.canonicalize().unwrap().to_str());
    let rest: Vec<_> = lines.collect();
    let uid = format!("APPM_INSTANCE_UID={}", own.uid);
    let wanted = ["A=b c", "APPM_ATTEMPT=1", &uid, "PATH=/usr/local/bin:/usr/bin:/bin"];
    assert_eq!(
        rest.iter().filter(|l| !l.starts_with("PWD=") && !l.starts_with("_=")).copied().collect::<Vec<_>>(),
        [&wanted[..], &["0027"]].concat()
    );
}

#[tokio::test]
async fn a_child_leads_a_session_of_its_own_and_reads_what_it_is_given() {
    let mut bench = Bench::new().await;
    let own = key("session", 1);
    let mut start = script(&own, "cut -d' ' -f1,5,6 /proc/$$/stat; cat; ulimit -n; ulimit -Hn; nice");
    process(&mut start).stdin = Some("given\n".to_owned());
    process(&mut start).nice = 5;
    process(&mut start).rlimits.insert(appm::api::RlimitName::Nofile, "123:124".parse().unwrap());
    let said = bench.say(start).await;
    let lines: Vec<_> = said.lines().collect();
    let ids: Vec<_> = lines[0].split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(&lines[1..], ["given", "123", "124", "5"]);
}

#[tokio::test]
async fn scripts_run_by_their_first_line_or_by_a_strict_shell() {
    let mut bench = Bench::new().await;
    let awk = "#!/usr/bin/awk -f\nBEGIN { print \"awk \" 1 + 1 }\n";
    assert_eq!(bench.say(script(&key("awk", 1), awk)).await, "awk 2\n");
    let strict = key("strict", 1);
    bench.run(script(&strict, "false\necho not reached")).await;
    assert_eq!(code(&bench.end_of(&strict).await), 1);
    // A file without an interpreter line is given to the shell, as execvp(3) does.
    let plain = bench.path().join("plain");
    std::fs::write(&plain, "echo plain $1\n").unwrap();
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(bench.say(command(&key("plain", 1), &[plain.to_str().unwrap(), "x"])).await, "plain x\n");
}

#[tokio::test]
async fn a_start_that_cannot_be_counts_and_the_next_one_goes_on() {
    let mut bench = Bench::new().await;
    let used = key("program", 1);
    let refused = bench.driver.start(command(&used, &["no-such-program"])).await;
    assert!(matches!(refused, Err(StartError::Refused(_))), "{refused:?}");
    assert_eq!(bench.driver.start(command(&used, &["true"])).await, Err(StartError::AlreadyStarted(used.clone())));
    let Attempt::Ended(ended) = bench.driver.observe().await.unwrap()[&used].clone() else { panic!() };
    assert_eq!(code(&ended), 127);
    bench.driver.acknowledge(&used).await.unwrap();
    let next = key("program", 2);
    bench.run(command(&next, &["true"])).await;
    assert_eq!(code(&bench.end_of(&next).await), 0);
}

#[tokio::test]
async fn another_user_is_become_with_groups_and_all_when_root() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut bench = Bench::new().await;
    let own = key("user", 1);
    let mut start = script(&own, "id -u; id -g; id -G; stat -c %U:%a .; echo said > /dev/stderr; touch own");
    process(&mut start).user = Some("nobody".to_owned());
    assert_eq!(bench.say(start).await, "65534\n65534\n65534\nnobody:700\n");
    assert_eq!(bench.lines(&own, Some(appm::logger::Stream::Err))[0].bytes, b"said\n");
    let mut start = command(&key("group", 1), &["id", "-gn"]);
    process(&mut start).group = Some("daemon".to_owned());
    assert_eq!(bench.say(start).await, "daemon\n");
}

#[tokio::test]
async fn what_an_attempt_leaves_behind_is_killed_when_it_is_acknowledged() {
    let mut bench = Bench::new().await;
    let own = key("stragglers", 1);
    // One in the background, one in a session of its own, one that gave away its streams, and its child.
    let text =
        "sleep 1000 & setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 </dev/null & exit 3";
    bench.run(script(&own, text)).await;
    assert_eq!(code(&bench.end_of(&own).await), 3);
    let tagged = || {
        let tag = format!("APPM_INSTANCE_UID={}", own.uid);
        let is_tagged = |pid: &i32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            runs(*pid) && environ.split(|byte| *byte == 0).any(|var| var == tag.as_bytes())
        };
        all_pids().into_iter().filter(is_tagged).count()
    };
    wait_for("the stragglers", || if tagged() == 5 { Ok(()) } else { Err(format!("{}", tagged())) });
    let bystander = key("bystander", 1);
    let other = bench.run(script(&bystander, "setsid sleep 1000 & sleep 1000")).await;
    bench.driver.acknowledge(&own).await.unwrap();
    wait_for("the end of the stragglers", || if tagged() == 0 { Ok(()) } else { Err(format!("{}", tagged())) });
    assert!(runs(other.pid));
}

#[tokio::test]
async fn a_signal_reaches_the_tree_or_only_the_process() {
    let mut bench = Bench::new().await;
    let own = key("tree", 1);
    let text = "trap 'echo main' TERM; sh -c 'trap \"echo child; exit\" TERM; echo up; while :; do sleep 0.02; done' & wait $!; wait $!";
    bench.run(script(&own, &text.replace("; wait $!; wait", " || :; wait").replace("& || :", "& wait $! || :"))).await;
    bench.text(&own, 3);
    bench.driver.signal(&own, 15, Reach::Tree).await.unwrap();
    bench.end_of(&own).await;
    let said = bench.text(&own, "up\nmain\nchild\n".len());
    assert!(said.contains("main\n") && said.contains("child\n"), "{said}");
}

#[tokio::test]
async fn a_removed_instance_leaves_nothing() {
    let mut bench = Bench::new().await;
    let own = key("gone", 1);
    let started = bench.run(script(&own, "echo hello; sleep 1000")).await;
    bench.text(&own, 6);
    assert!(bench.driver.remove(&own.uid).await.is_err(), "it runs");
    assert!(bench.driver.usage(&own).is_some_and(|usage| usage.memory_bytes > 0));
    signal(started.pid, Signal::SIGKILL);
    bench.end_of(&own).await;
    assert_eq!(bench.driver.usage(&own), None);
    bench.driver.acknowledge(&own).await.unwrap();
    bench.driver.remove(&own.uid).await.unwrap();
    assert!(!bench.path().join(format!("instances/{}", own.uid)).exists());
    let keeper = bench.keeper_pid();
    bench.driver.quit().await.unwrap();
    wait_for("the keeper's end", || if runs(keeper) { Err("it runs".to_owned()) } else { Ok(()) });
    assert!(bench.driver.observe().await.is_err(), "it is not started again");
}

/// Printed, not judged: `cargo test -- --nocapture a_thousand`.
#[tokio::test]
async fn a_thousand_starts_are_one_pipeline() {
    let bench = Bench::new().await;
    let before = std::time::Instant::now();
    let starts: Vec<_> = (0..1000).map(|n| command(&key(&format!("many{n}"), 1), &["sleep", "1000"])).collect();
    let all = futures::future::join_all(starts.into_iter().map(|start| bench.driver.start(start))).await;
    let took = before.elapsed();
    assert!(all.iter().all(Result::is_ok), "{:?}", all.iter().find(|answer| answer.is_err()));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bench.keeper_pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
    eprintln!("1,000 starts: {took:?}; keeper: utime {} stime {} ticks", fields[12], fields[13]);
}
