//! Runs of containers that are sent what they read.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    engine::{Engine, IMAGE},
    world,
};
use crate::harness::{PATIENCE, World, signal, wait_for};

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";

#[test]
fn a_container_reads_what_is_sent_and_never_takes_a_part_for_all_of_it() {
    if let Some(engine) = Engine::start(&[]) {
        let mut world = world(&engine);
        reads(&world);
        let cut = half(&world, "cut");
        world.kill_server();
        world.start();
        is_cut(&world, "cut", cut);
    }
}

#[test]
fn a_container_reads_what_is_sent_and_never_takes_a_part_for_all_of_it_on_podman() {
    if let Some(engine) = Engine::start_podman() {
        reads(&world(&engine));
    }
}

/// `appm run -i` of a script in a container without a network.
fn fed(world: &World, name: &str, script: &str) -> Child {
    let declared = json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name},
        "spec": {
            "replicas": 0, "terminationGracePeriodSeconds": 1,
            "container": {"image": IMAGE, "command": ["/bin/busybox", "sh", "-c", script], "network": "none"},
        },
    });
    let answer = world.api().apply(&declared).unwrap();
    assert!(answer.is_ok(), "{}", answer.json());
    let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
    command.arg("--data-dir").arg(world.data()).args(["run", "-i", "--name", name, name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn over(world: &World, name: &str) -> Value {
    wait_for(&format!("{name} to be over"), || {
        let run = world.api().get(&format!("{RUNS}/{name}")).map_err(|e| e.to_string())?.unwrap_or_default();
        let status = run["status"].clone();
        if status["completionTime"].is_string() { Ok(status) } else { Err(status.to_string()) }
    })
}

fn log(world: &World, name: &str) -> String {
    let answer = world.api().ask("GET", &format!("{RUNS}/{name}/log"), "", b"");
    answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default()
}

/// Ends a client that takes too long, so that whoever waits for it or reads what it prints sees its end; until the answer is dropped.
#[must_use]
fn in_time(child: &Child) -> mpsc::Sender<()> {
    let (done, told) = mpsc::channel();
    let pid = child.id();
    thread::spawn(move || {
        if told.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, Signal::SIGKILL);
        }
    });
    done
}

/// A Run that has read a part of what it is to be sent. What it prints is complete when its container has ended: `whole` would be seen.
fn half(world: &World, name: &str) -> Child {
    let mut child = fed(world, name, "busybox cat; echo whole");
    let _in_time = in_time(&child);
    child.stdin.as_mut().unwrap().write_all(b"a part\n").unwrap();
    let mut part = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut part).unwrap();
    assert_eq!(&part, b"a part\n");
    child
}

/// Its container was killed before it could take the part for all.
fn is_cut(world: &World, name: &str, mut child: Child) {
    let _in_time = in_time(&child);
    let status = over(world, name);
    assert_eq!(status["exit"], json!({"signal": "SIGKILL"}), "{name}");
    assert_eq!((&status["attempts"], log(world, name)), (&json!(1), "a part\n".to_owned()), "{name}");
    child.wait().unwrap();
}

fn reads(world: &World) {
    // More than any pipe holds.
    let long: Vec<u8> = (0..400_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    reads_all(world, &long);
    talks(world);
    closes_its_input(world, long);
    let mut orphan = half(world, "orphan");
    orphan.kill().unwrap();
    is_cut(world, "orphan", orphan);
}

fn reads_all(world: &World, long: &[u8]) {
    let mut child = fed(world, "all", "exec busybox md5sum");
    let _in_time = in_time(&child);
    let mut input = child.stdin.take().unwrap();
    let sent = long.to_vec();
    let writer = thread::spawn(move || input.write_all(&sent).unwrap());
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let mut md5sum = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    md5sum.stdin.take().unwrap().write_all(long).unwrap();
    let expected = md5sum.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&expected));
}

/// An answer to each line before the next one is written; by one client, once; and it ends when nobody reads any more.
fn talks(world: &World) {
    let mut child = fed(world, "talk", r#"for i in 1 2; do read -r line; echo "<$line>"; done; exit 3"#);
    let _in_time = in_time(&child);
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    input.write_all(b"one\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "<one>");
    let again = world.api().ask("POST", &format!("{RUNS}/talk/stdin"), "application/octet-stream", b"three\n").unwrap();
    assert_eq!(again.code, 409, "{}", String::from_utf8_lossy(&again.body));
    input.write_all(b"two\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "<two>");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    drop(input);
}

/// Who closes its input and goes on is left alone, whatever is sent.
fn closes_its_input(world: &World, long: Vec<u8>) {
    let mut child = fed(world, "closed", "exec <&-; busybox sleep 3; exit 5");
    let _in_time = in_time(&child);
    let mut input = child.stdin.take().unwrap();
    // It may well be that nobody takes it.
    let writer = thread::spawn(move || input.write_all(&long).is_ok());
    assert_eq!(child.wait().unwrap().code(), Some(5));
    writer.join().unwrap();
}
