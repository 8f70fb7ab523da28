//! What a process is given beside its program: files, a terminal, a login; and what is said when it cannot be given.

use std::{fs, os::unix::fs::PermissionsExt};

use appm::{
    api::{RlimitName, SecretValue},
    drivers::{Driver, Start, StartError, StartFile},
    logger::Stream,
};
use nix::sys::signal::Signal;

use super::{Bench, command, key, process, runs, script, signal};
use crate::harness::wait_for;

fn file(path: &str, mode: u32, content: &[u8]) -> StartFile {
    StartFile { path: path.to_owned(), mode, content: SecretValue::of(content), secret: false }
}

async fn refused(bench: &Bench, start: Start) -> String {
    match bench.driver.start(start).await {
        Err(StartError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_are_there_before_the_program_with_their_modes_and_nothing_beside_them() {
    let mut bench = Bench::new().await;
    let own = key("files", 1);
    let mut start = script(
        &own,
        "stat -c '%a %n' conf conf/a.ini deep/er/b; cat conf/a.ini; od -An -tx1 deep/er/b; find . -name '.appm*'",
    );
    // The umask is no obstacle to a mode that was asked for.
    process(&mut start).umask = 0o077;
    process(&mut start).files = vec![file("conf/a.ini", 0o644, b"x = 1\n"), file("./deep/er/b", 0o600, &[0, 255])];
    let expected = "700 conf\n644 conf/a.ini\n600 deep/er/b\nx = 1\n 00 ff\n";
    assert_eq!(bench.say(start.clone()).await, expected);
    // The next attempt finds the newer content, whoever still reads the older one.
    start.key = key("files", 2);
    process(&mut start).files[0] = file("conf/a.ini", 0o640, b"x = 2\n");
    assert_eq!(bench.say(start).await, expected.replace("x = 1", "x = 2").replace("644", "640"));
}

#[tokio::test]
async fn files_belong_to_the_processs_user_who_needs_the_right_to_write_them() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut bench = Bench::new().await;
    let mut start = script(&key("owned", 1), "stat -c '%U %a' a; cat a");
    process(&mut start).user = Some("nobody".to_owned());
    process(&mut start).files = vec![file("a", 0o600, b"secret\n")];
    assert_eq!(bench.say(start.clone()).await, "nobody 600\nsecret\n");
    start.key = key("owned", 2);
    process(&mut start).files = vec![file("/etc/appm-test", 0o600, b"")];
    assert_eq!(
        refused(&bench, start).await,
        "spec.files: `/etc/appm-test` cannot be written: permission denied by user `nobody`"
    );
}

#[tokio::test]
async fn no_link_on_the_way_to_a_file_is_followed() {
    let bench = Bench::new().await;
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let mut start = script(&key("links", 1), "true");
    let place = tempfile::tempdir().unwrap();
    process(&mut start).working_dir = Some(place.path().canonicalize().unwrap().display().to_string());
    std::os::unix::fs::symlink(outside.path(), place.path().join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("kept"), place.path().join("link")).unwrap();
    process(&mut start).files = vec![file("dir/kept", 0o600, b"changed")];
    let why = "spec.files: `dir/kept` cannot be written: a part of the way is not a directory (links are not followed)";
    assert_eq!(refused(&bench, start.clone()).await, why);
    // A link in the place itself is replaced, not followed.
    start.key = key("links", 2);
    process(&mut start).files = vec![file("link", 0o600, b"changed")];
    bench.run(start.clone()).await;
    assert_eq!(fs::read_to_string(place.path().join("link")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(outside.path().join("kept")).unwrap(), "kept");
    start.key = key("links", 3);
    process(&mut start).files = vec![file("a/../../b", 0o600, b"")];
    assert_eq!(refused(&bench, start).await, "spec.files: `a/../../b` leads out of its directory by `..`");
}

#[tokio::test]
async fn a_login_reads_the_users_profile_and_begins_at_home() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut bench = Bench::new().await;
    let mut start =
        command(&key("login", 1), &["sh", "-c", "shopt -q login_shell 2>/dev/null; pwd; echo \"$1\"; id -un"]);
    process(&mut start).argv.extend(["sh".to_owned(), "a  $b".to_owned()]);
    process(&mut start).login = true;
    process(&mut start).user = Some("root".to_owned());
    assert_eq!(bench.say(start.clone()).await, format!("{}\na  $b\nroot\n", home("root")));
    start.key = key("login", 2);
    process(&mut start).working_dir = Some("/tmp".to_owned());
    assert!(bench.say(start.clone()).await.starts_with("/tmp\n"));
    start.key = key("login", 3);
    process(&mut start).user = Some("www-data".to_owned());
    assert_eq!(
        refused(&bench, start).await,
        "spec.process.login: user `www-data` may not log in: its shell is `/usr/sbin/nologin`"
    );
    // A script goes the same way; the profile's own variables are seen.
    let mut start = script(&key("login", 4), "echo \"${LOGGED_IN-nobody}\"");
    process(&mut start).login = true;
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".profile"), "LOGGED_IN=somebody; export LOGGED_IN\n").unwrap();
    start.env.push(("HOME".to_owned(), home.path().display().to_string()));
    assert_eq!(bench.say(start).await, "somebody\n");
}

fn home(user: &str) -> String {
    nix::unistd::User::from_name(user).unwrap().unwrap().dir.canonicalize().unwrap().display().to_string()
}

#[tokio::test]
async fn a_process_at_a_terminal_sees_one_and_loses_no_byte_of_output() {
    let mut bench = Bench::new().await;
    let own = key("tty", 1);
    let mut start =
        script(&own, "tty; test -t 0; test -t 1; test -t 2; stty size; echo $TERM; seq 20000; echo end >&2");
    process(&mut start).tty = true;
    let said = bench.say(start).await;
    let lines: Vec<&str> = said.split("\r\n").collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{:?}", &lines[..3]);
    assert_eq!(lines[1..3], ["24 80", "xterm"]);
    let counted = lines[3..20_003].iter().zip(1..).all(|(line, n)| *line == n.to_string());
    assert!(counted, "{} lines", lines.len());
    assert_eq!(lines[20_003..], ["end", ""]);
    assert!(bench.lines(&own, Some(Stream::Err)).is_empty());
}

#[tokio::test]
async fn a_terminal_outlives_keeper_and_logger() {
    let mut bench = Bench::new().await;
    let own = key("tty-survives", 1);
    let go = bench.path().join("go");
    let text =
        format!("trap 'echo hung up' HUP; echo one; while ! test -e {}; do sleep 0.02; done; echo two", go.display());
    let mut start = script(&own, &text);
    process(&mut start).tty = true;
    let started = bench.run(start).await;
    bench.text(&own, 5);
    signal(bench.logger_pid(), Signal::SIGKILL);
    signal(bench.keeper_pid(), Signal::SIGKILL);
    bench.resync().await;
    assert!(runs(started.pid));
    fs::write(go, "").unwrap();
    bench.end_of(&own).await;
    assert_eq!(bench.text(&own, 10), "one\r\ntwo\r\n");
    wait_for("the relay's end", || match bench.relays() {
        0 => Ok(()),
        n => Err(format!("{n} relays")),
    });
}

#[tokio::test]
async fn what_a_process_cannot_be_given_is_said_with_the_field_to_mend_and_no_secret() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text"), "no program").unwrap();
    fs::write(dir.path().join("locked"), "").unwrap();
    fs::set_permissions(dir.path().join("locked"), fs::Permissions::from_mode(0o644)).unwrap();
    let locked = dir.path().join("locked").display().to_string();
    type Change<'a> = &'a dyn Fn(&mut Start);
    let table: [(&str, Change<'_>); 14] = [
        ("empty", &|start| process(start).argv.clear()),
        ("program", &|start| process(start).argv = vec!["no-such-program".to_owned()]),
        ("path", &|start| process(start).argv = vec!["/no/such/program".to_owned()]),
        ("denied", &|start| process(start).argv = vec![locked.clone()]),
        ("user", &|start| process(start).user = Some("no-such-user".to_owned())),
        ("group", &|start| process(start).group = Some("no-such-group".to_owned())),
        ("dir", &|start| process(start).working_dir = Some("/no/such/dir".to_owned())),
        ("file", &|start| process(start).working_dir = Some("/etc/passwd".to_owned())),
        ("script", &|start| process(start).script = Some("#!/no/such/interpreter\n".to_owned())),
        ("limit", &|start| process(start).rlimits.extend([(RlimitName::Nofile, u64::MAX.into())])),
        ("nul", &|start| start.env.push(("TOKEN".to_owned(), "hunter\0two".to_owned()))),
        ("word", &|start| process(start).argv.push("x\0y".to_owned())),
        ("long", &|start| start.env.push(("TOKEN".to_owned(), "hunter".repeat(1 << 15)))),
        ("many", &|start| process(start).argv.extend((0..100).map(|_| "x".repeat(100_000)))),
    ];
    let mut said = Vec::new();
    for (name, change) in table {
        let mut start = command(&key(name, 1), &["true"]);
        change(&mut start);
        said.push(refused(&bench, start).await.replace(&locked, "LOCKED"));
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    spec.process.command: it is empty
    spec.process.command: no such program `no-such-program` in PATH `/usr/local/bin:/usr/bin:/bin`
    spec.process.command: no such program `/no/such/program` (or the interpreter it names)
    spec.process.command: `LOCKED` cannot be run: permission denied
    spec.process.user: no such user `no-such-user`
    spec.process.group: no such group `no-such-group`
    spec.process.workingDir: no such directory `/no/such/dir`
    spec.process.workingDir: `/etc/passwd` cannot be entered: not a directory
    spec.process.script: the interpreter that its first line names does not exist
    spec.process.rlimits: nofile=unlimited is more than the system allows: only root raises a hard limit, and `nofile` ends at /proc/sys/fs/nr_open
    spec.env: the value of `TOKEN` holds a NUL character
    spec.process.command: a word holds a NUL character
    spec.env: the value of `TOKEN` has 196608 bytes, and the system takes less than 131072
    spec.process.command, spec.env: 10000105 and 34 bytes are more than the system takes
    ");
}
