//! Secret values are taken out of what processes write before it is on disk, whoever is killed.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use appm::{
    api::SecretValue,
    drivers::{Driver, DriverEvent, Exec, Start, StartFile},
    logger::Stream,
};
use nix::sys::signal::Signal;

use super::{Bench, code, key, process, script, signal};
use crate::harness::{files_with, wait_for};

const SECRET: &str = "correct-horse-battery-7";

fn redacted(mut start: Start) -> Start {
    start.logs.redact = true;
    start.secrets = vec![SecretValue::of(SECRET.as_bytes())];
    start.env.push(("SECRET".to_owned(), SECRET.to_owned()));
    start
}

/// Where the keeper keeps what is to be on no disk.
fn memory(bench: &Bench) -> PathBuf {
    fs::read_link(bench.path().join("keeper/memory")).unwrap()
}

fn no_file_has_it(bench: &Bench) {
    let mut found = Vec::new();
    files_with(bench.path(), &[SECRET, "correct-hors"], &mut found);
    assert_eq!(found, [""; 0]);
}

#[tokio::test]
async fn values_are_taken_out_of_both_streams_however_often_keeper_and_logger_are_killed_and_no_byte_is_lost() {
    let mut bench = Bench::new().await;
    let own = key("redact", 1);
    // In pieces that are cut anywhere, also in the midst of the value.
    let text = r#"
        awk -v s="$SECRET" 'BEGIN { for (n = 1; n <= 60000; n++) printf "%d<%s>\n", n, s }' | dd bs=7 status=none &
        for n in $(seq 1 300); do printf "%s" "$n<" >&2; printf "%s" "${SECRET%-7}" >&2; echo "-7>" >&2; sleep 0.005; done
        wait
    "#;
    let start = redacted(script(&own, text));
    bench.run(start).await;
    for turn in 0..8 {
        wait_for("the logger to hold all FIFOs", || bench.fifos_without_logger());
        no_file_has_it(&bench);
        let logger = bench.logger_pid();
        if turn % 4 == 3 {
            signal(bench.keeper_pid(), Signal::SIGKILL);
            bench.resync().await;
        } else {
            signal(logger, Signal::SIGKILL);
        }
        wait_for("another logger", || if super::runs(logger) { Err("it runs".to_owned()) } else { Ok(()) });
    }
    bench.end_of(&own).await;
    let wanted = |last: usize| (1..=last).map(|n| format!("{n}<***>\n")).collect::<String>();
    for (stream, last) in [(Stream::Out, 60000), (Stream::Err, 300)] {
        let wanted = wanted(last);
        let mut found = String::from_utf8(bench.output(&own, stream, wanted.len())).unwrap();
        // On a machine that stands still for a while, the first bytes are given out: they say little.
        (1..8).for_each(|length| found = found.replace(&format!("{}***", &SECRET[..length]), "***"));
        let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
        assert!(found == wanted, "{differs:?}, {} of {} bytes", found.len(), wanted.len());
    }
    no_file_has_it(&bench);
    // What was kept for that is gone with the Instance.
    let place = memory(&bench).join(own.uid.as_str());
    assert_eq!((place.metadata().unwrap().mode() & 0o777, place.join("1").exists()), (0o711, true));
    bench.driver.acknowledge(&own).await.unwrap();
    wait_for(
        "the values to be forgotten",
        || if place.join("1").exists() { Err("not yet".to_owned()) } else { Ok(()) },
    );
    bench.driver.remove(&own.uid).await.unwrap();
    assert!(!place.exists());
}

#[tokio::test]
async fn output_is_held_back_only_while_it_may_be_the_beginning_of_a_value() {
    let mut bench = Bench::new().await;
    let own = key("prompt", 1);
    let text = r#"
        printf 'Password: corr'; until [ -e go ]; do sleep 0.02; done
        echo "ect-horse-battery-7!"; printf "${SECRET%7}"
    "#;
    bench.run(redacted(script(&own, text))).await;
    // A prompt has no newline.
    assert_eq!(bench.text(&own, 14), "Password: corr");
    fs::write(bench.path().join(format!("instances/{}/work/go", own.uid)), "").unwrap();
    bench.end_of(&own).await;
    assert_eq!(bench.text(&own, 22), "Password: corr***!\n***");
}

#[tokio::test]
async fn what_cannot_be_redacted_any_more_is_not_written_and_that_is_said() {
    let mut bench = Bench::new().await;
    let own = key("withheld", 1);
    let text = r#"echo "one $SECRET"; until [ -e go ]; do sleep 0.02; done; echo "two $SECRET"; exit 3"#;
    bench.run(redacted(script(&own, text))).await;
    assert_eq!(bench.text(&own, 8), "one ***\n");
    fs::remove_dir_all(memory(&bench)).unwrap();
    let logger = bench.logger_pid();
    signal(logger, Signal::SIGKILL);
    wait_for("another logger", || if super::runs(logger) { Err("it runs".to_owned()) } else { Ok(()) });
    fs::write(bench.path().join(format!("instances/{}/work/go", own.uid)), "").unwrap();
    let told = async {
        while let Some(event) = bench.events.recv().await {
            if matches!(event, DriverEvent::Withheld(_)) {
                return;
            }
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, told).await.expect("it is said");
    let said = String::from_utf8(bench.output(&own, Stream::Err, 60)).unwrap();
    assert!(said.starts_with("[appm: output is withheld"), "{said}");
    assert_eq!(bench.text(&own, 8), "one ***\n");
    no_file_has_it(&bench);
    // The next attempt is given its values anew.
    let next = key("withheld", 2);
    bench.run(redacted(script(&next, r#"echo "three $SECRET""#))).await;
    assert_eq!(bench.text(&next, 10), "three ***\n");
}

#[tokio::test]
async fn redaction_can_be_asked_for_and_given_up_while_a_process_runs_and_holds_for_probes_too() {
    let mut bench = Bench::new().await;
    let own = key("live", 1);
    let text = r#"
        step() { echo "$1 $SECRET"; until [ -e "$1" ]; do sleep 0.02; done; }
        step a; step b; step c; echo end
    "#;
    let mut start = redacted(script(&own, text));
    start.logs.redact = false;
    let mut limits = start.logs;
    bench.run(start).await;
    let go = |name: &str| fs::write(bench.path().join(format!("instances/{}/work/{name}", own.uid)), "").unwrap();
    let probe = || Exec {
        argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), "printf %4300s; echo; echo \"<$SECRET>\"".to_owned()],
        timeout: Duration::from_secs(20),
        once: None,
    };
    let one = format!("a {SECRET}\n");
    assert_eq!(bench.text(&own, one.len()), one);
    let seen = bench.driver.exec(&own, probe()).await.unwrap();
    assert!(String::from_utf8(seen.output).unwrap().ends_with(&format!("<{SECRET}>\n")));
    limits.redact = true;
    bench.driver.set_log_limits(&own.uid, limits).await.unwrap();
    let seen = bench.driver.exec(&own, probe()).await.unwrap();
    assert!(String::from_utf8(seen.output).unwrap().ends_with(" \n<***>\n"));
    go("a");
    let two = format!("{one}b ***\n");
    assert_eq!(bench.text(&own, two.len()), two);
    limits.redact = false;
    bench.driver.set_log_limits(&own.uid, limits).await.unwrap();
    // An answer to something later: the logger has heard of it.
    bench.driver.exec(&own, probe()).await.unwrap();
    go("b");
    go("c");
    let three = format!("{two}c ");
    assert!(bench.text(&own, three.len() + 9).starts_with(&three));
    bench.end_of(&own).await;
}

#[tokio::test]
async fn secret_files_are_in_memory_and_gone_with_the_instance() {
    let mut bench = Bench::new().await;
    let own = key("files", 1);
    let mut start = redacted(script(&own, r#"cat etc/key; [ -L etc/key ]; stat -Lc %a etc/key; readlink etc/key >&2"#));
    start.logs.redact = false;
    let file = |path: &str, secret| StartFile {
        path: path.to_owned(),
        mode: 0o400,
        content: SecretValue::of(SECRET.as_bytes()),
        secret,
    };
    process(&mut start).files = vec![file("etc/key", true)];
    bench.run(start).await;
    let wanted = format!("{SECRET}400\n");
    assert_eq!(bench.text(&own, wanted.len()), wanted);
    assert_eq!(code(&bench.end_of(&own).await), 0);
    let mut found = Vec::new();
    files_with(&bench.path().join(format!("instances/{}/work", own.uid)), &[SECRET], &mut found);
    let place = memory(&bench).join(own.uid.as_str()).join("files");
    assert_eq!(fs::read_to_string(place.join("0")).unwrap(), SECRET);
    let link = String::from_utf8(bench.output(&own, Stream::Err, 1)).unwrap();
    assert_eq!(link.trim_end(), place.join("0").display().to_string());
    // A keeper that comes later knows where it is, and clears away what is nobody's.
    let stale = memory(&bench).join("nobody");
    fs::create_dir_all(stale.join("files")).unwrap();
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    assert!(place.join("0").exists() && !stale.exists());
    bench.driver.acknowledge(&own).await.unwrap();
    bench.driver.remove(&own.uid).await.unwrap();
    assert!(!place.exists());
    let memory = memory(&bench);
    bench.driver.quit().await.unwrap();
    wait_for("nothing to be left", || if memory.exists() { Err("it is there".to_owned()) } else { Ok(()) });
}
