//! `appm up`, `server stop`: real servers, real processes.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{pty::openpty, sys::signal::Signal};

use crate::harness::{PATIENCE, World, signal, wait_for};

const SLEEPER: &str = "\
apiVersion: appm.dev/v1
kind: App
metadata: {name: sleeper}
spec: {process: {command: [sleep, '100000']}}
";

fn manifest(world: &World) -> String {
    let path = world.root().join("app.yaml");
    fs::write(&path, SLEEPER).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn ok(world: &World, args: &[&str]) -> String {
    let output = world.command(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "appm {args:?}: {out}{err}");
    out.into_owned()
}

/// The processes that Apps of this world run.
fn sleepers(world: &World) -> Vec<u32> {
    world.processes().iter().filter(|p| p.words.first().is_some_and(|w| w == "sleep")).map(|p| p.pid).collect()
}

/// Apps, keeper, logger: nothing stays.
fn everything_ends(world: &World) {
    wait_for("everything to end", || match world.processes() {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

/// `up` in the foreground, with the lines that it prints.
fn foreground(world: &World, stdin: Stdio, stdout: Stdio, args: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
    command.arg("--data-dir").arg(world.data()).args(["up", "--listen", "127.0.0.1:0"]).args(args);
    command.env("PROOF_ROOT", world.root()).env("TERM", "xterm");
    command.stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for a line that contains `part`.
fn await_line(lines: &mpsc::Receiver<String>, part: &str) {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) if line.contains(part) => return,
            Ok(line) => seen.push(line),
            Err(error) => panic!("no `{part}` ({error}) in {seen:#?}"),
        }
    }
}

fn lines_of(reader: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    let lines = BufReader::new(reader).lines();
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(tell.send(line))));
    told
}

#[test]
fn up_in_the_background_returns_when_all_is_ready_and_can_be_repeated() {
    let world = World::new();
    let file = manifest(&world);
    ok(&world, &["up", "--wait", "--listen", "127.0.0.1:0", &file]);
    assert!(ok(&world, &["get", "app", "sleeper"]).contains("1/1"));
    let pids = sleepers(&world);
    assert_eq!(pids.len(), 1);
    ok(&world, &["up", "--wait", &file]);
    ok(&world, &["server", "stop"]);
    assert_eq!(sleepers(&world), pids, "Apps go on without the server");
    assert_eq!(world.command(&["get", "apps"]).status.code(), Some(5));
    ok(&world, &["up", "-d", "--listen", "127.0.0.1:0"]);
    ok(&world, &["wait", "app/sleeper", "--for=condition=Ready"]);
    assert_eq!(sleepers(&world), pids, "and the next server finds them");
    ok(&world, &["server", "stop", "--apps"]);
    everything_ends(&world);
}

#[test]
fn up_in_a_pipe_says_what_happens_in_lines_and_leaves_the_apps_running() {
    let world = World::new();
    let mut up = foreground(&world, Stdio::null(), Stdio::piped(), &[&manifest(&world)]);
    let lines = lines_of(up.stdout.take().unwrap());
    await_line(&lines, "Running (pid");
    signal(up.id(), Signal::SIGINT);
    assert!(up.wait().unwrap().success());
    assert_eq!(sleepers(&world).len(), 1);
    ok(&world, &["server", "stop", "--apps"]);
    everything_ends(&world);
}

#[test]
fn ctrl_c_on_a_terminal_asks_what_becomes_of_the_apps() {
    let world = World::new();
    let pty = openpty(None, None).unwrap();
    let side = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut up = foreground(&world, side(&pty.slave), side(&pty.slave), &[&manifest(&world)]);
    drop(pty.slave);
    let mut keys = fs::File::from(pty.master.try_clone().unwrap());
    let lines = lines_of(fs::File::from(pty.master));
    await_line(&lines, "1 of 1 Apps ready");
    signal(up.id(), Signal::SIGINT);
    keys.write_all(b"what?\nstop\n").unwrap();
    assert!(up.wait().unwrap().success());
    everything_ends(&world);
}
