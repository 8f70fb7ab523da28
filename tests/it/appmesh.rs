//! Tasks by App Mesh's wire, with real processes: what its callers are told when a process ends, the line is full, or somebody is slow.
//!
//! As in `tasks.rs` the processes only wait, and the test works in their place.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, World, app, app_path, signal, wait_for};

/// A server with an App `web`, and where its one process asks for tasks.
fn world(script: &str, spec: &Value) -> Option<(World, u32, String)> {
    let mut world = World::new();
    world.start();
    let mut web = app(&world, "web", 1, script);
    for (name, value) in spec.as_object().unwrap() {
        web["spec"][name] = value.clone();
    }
    assert!(world.api().apply(&web).unwrap().is_ok());
    let found = wait_for("its process to run", || {
        let instances = world.api().list("/apis/appm.dev/v1/namespaces/default/instances").unwrap();
        let waiting = &instances.first().ok_or("there is none")?["status"]["state"]["waiting"];
        if waiting["reason"] == "ResourcesUnavailable" {
            assert!(std::env::var_os("CI").is_none(), "{waiting}");
            eprintln!("SKIPPED, limits cannot be tested here: {waiting}");
            return Ok(None);
        }
        let running = &instances[0]["status"]["state"]["running"]["pid"];
        let processes = world.processes();
        let own = processes.iter().find(|process| running.as_u64() == Some(process.pid.into()));
        let key = own.and_then(|own| own.variable("APP_MESH_PROCESS_KEY")).ok_or("it does not run")?;
        Ok(Some((own.unwrap().pid, format!("/appmesh/app/web/task?process_key={key}"))))
    });
    found.map(|(pid, path)| (world, pid, path))
}

fn ask(world: &World, method: &str, path: &str, body: &[u8]) -> Answer {
    world.api().ask(method, path, "", body).unwrap()
}

/// Sends a task by App Mesh's wire; its answer is waited for elsewhere.
fn send(world: &World, body: &'static [u8]) -> thread::JoinHandle<Answer> {
    let api = world.api();
    thread::spawn(move || api.ask("POST", "/appmesh/app/web/task?timeout=60", "", body).unwrap())
}

/// The same; nobody reads the answer yet.
fn begun(world: &World, body: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(world.data().join("appm.sock")).unwrap();
    let head = "POST /appmesh/app/web/task?timeout=60 HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// What the process is told to do by a signal, once it has the task.
fn ends(script: &str, spec: &Value, expected: &str, cause: (&str, &str)) {
    let Some((world, pid, path)) = world(script, spec) else { return };
    // App Mesh's callers read a sentence; ours the cause beside it.
    let (theirs, native) = (send(&world, b"theirs"), world.api());
    assert_eq!(text(&ask(&world, "GET", &path, b"")), "theirs");
    let native = thread::spawn(move || native.ask("POST", &format!("{}/task", app_path("web")), "", b"ours").unwrap());
    wait_for("both to be there", || {
        let tasks = world.api().list(&format!("{}/task", app_path("web"))).unwrap();
        if tasks.len() == 2 { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    assert_eq!(text(&ask(&world, "GET", &path, b"")), "ours");
    signal(pid, Signal::SIGUSR1);
    let theirs = theirs.join().unwrap();
    assert_eq!(theirs.code, 417, "{}", text(&theirs));
    assert!(text(&theirs).contains(expected), "{}", text(&theirs));
    let native = native.join().unwrap().json();
    let causes = native["details"]["causes"].as_array().unwrap();
    let has = |reason: &str, message: &str| causes.iter().any(|c| c["reason"] == reason && c["message"] == message);
    assert_eq!(causes[0]["reason"], "InstanceEnded");
    assert!(has(cause.0, cause.1) && has("MayHaveBegun", "true"), "{native}");
    world.command(&["server", "stop", "--apps"]);
}

#[test]
fn a_process_that_exits_in_the_middle_of_a_task_is_named_with_its_code() {
    let script = "trap 'exit 3' USR1; while :; do sleep 0.05; done";
    ends(script, &json!({"task": {"concurrency": 2}}), "exit code 3", ("ExitCode", "3"));
}

#[test]
fn a_process_that_runs_out_of_memory_in_the_middle_of_a_task_is_said_to_have_done_so() {
    let script = "trap 'exec tail /dev/zero' USR1; while :; do sleep 0.05; done";
    let spec = json!({
        "task": {"concurrency": 2}, "restartPolicy": "Never",
        "resources": {"limits": {"memory": "24Mi", "pids": "10"}},
    });
    ends(script, &spec, "for want of memory", ("OOMKilled", "it used more memory than it may"));
}

#[test]
fn the_line_holds_512_and_whoever_comes_then_is_told_to_come_again() {
    let (world, _, path) = world("exec sleep 1000", &json!({})).unwrap();
    let send_later = format!("{}/task?async=true", app_path("web"));
    for n in 0..512 {
        let sent = ask(&world, "POST", &send_later, b"x");
        assert_eq!(sent.code, 202, "{n}: {}", text(&sent));
    }
    let (mut stream, mut full) = (begun(&world, b"one more"), String::new());
    stream.read_to_string(&mut full).unwrap();
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("\r\nretry-after: 1\r\n"), "{full}");
    // As soon as one is taken there is room for one.
    assert_eq!(text(&ask(&world, "GET", &path, b"")), "x");
    assert_eq!(ask(&world, "POST", &send_later, b"x").code, 202);
    assert_eq!(ask(&world, "POST", &send_later, b"x").code, 503);
    world.command(&["server", "stop", "--apps"]);
}

/// The process has given its result and goes on, whatever its caller does with it.
#[test]
fn a_caller_that_reads_slowly_holds_up_nobody_and_gets_all_of_it() {
    let (world, _, path) = world("exec sleep 1000", &json!({})).unwrap();
    let mut slow = begun(&world, b"slow");
    assert_eq!(text(&ask(&world, "GET", &path, b"")), "slow");
    let result: Vec<u8> = (0..16_000_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(ask(&world, "PUT", &path, &result).code, 200);
    for _ in 0..3 {
        let quick = send(&world, b"quick");
        assert_eq!(text(&ask(&world, "GET", &path, b"")), "quick");
        assert_eq!(ask(&world, "PUT", &path, b"done").code, 200);
        assert_eq!(text(&quick.join().unwrap()), "done");
    }
    let mut whole = Vec::new();
    slow.read_to_end(&mut whole).unwrap();
    assert!(whole.starts_with(b"HTTP/1.1 200") && whole.ends_with(&result), "{} bytes", whole.len());
    world.command(&["server", "stop", "--apps"]);
}
