//! The fast lane: tasks in frames over the Unix socket, and by lines (docs/design/031), with real processes.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{World, app, app_path, signal, wait_for},
    tasks::{one, until_states, world},
};

const SEND: u8 = 1;
const CANCEL: u8 = 2;
const WORK: u8 = 3;
const GIVE: u8 = 4;
const PART: u8 = 5;
const FAIL: u8 = 6;
const RESULT: u8 = 129;
const TOLD_PART: u8 = 130;
const REFUSED: u8 = 131;
const TASK: u8 = 132;
const GONE: u8 = 133;

/// A connection that speaks in frames.
struct Lane(UnixStream);

/// Kind, number, head, body.
type Frame = (u8, u32, Value, Vec<u8>);

impl Lane {
    fn open(world: &World) -> Lane {
        let mut stream = UnixStream::connect(world.data().join("appm.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"\0appm/1\n").unwrap();
        Lane(stream)
    }

    fn say(&mut self, kind: u8, number: u32, head: &Value, body: &[u8]) {
        let head = if head.is_null() { String::new() } else { head.to_string() };
        let length = u32::try_from(7 + head.len() + body.len()).unwrap();
        let head_length = u16::try_from(head.len()).unwrap();
        let fixed = [&length.to_be_bytes()[..], &[kind], &number.to_be_bytes(), &head_length.to_be_bytes()].concat();
        self.0.write_all(&[&fixed, head.as_bytes(), body].concat()).unwrap();
    }

    fn hear(&mut self) -> Frame {
        let mut fixed = [0; 11];
        self.0.read_exact(&mut fixed).unwrap();
        let word = |at: usize| u32::from_be_bytes(fixed[at..at + 4].try_into().unwrap());
        let mut rest = vec![0; word(0) as usize - 7];
        self.0.read_exact(&mut rest).unwrap();
        let body = rest.split_off(usize::from(u16::from_be_bytes([fixed[9], fixed[10]])));
        (fixed[4], word(5), serde_json::from_slice(&rest).unwrap(), body)
    }

    fn is_over(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

/// The key of the process of `web`, which only sleeps: the tests work in its place.
fn key(world: &World) -> String {
    let pid = one(world).pid();
    let processes = world.processes();
    let process = processes.iter().find(|process| process.pid == pid).unwrap();
    process.variable("APP_MESH_PROCESS_KEY").unwrap().to_owned()
}

fn causes(status: &Value) -> Vec<&str> {
    status["details"]["causes"].as_array().unwrap().iter().filter_map(|cause| cause["reason"].as_str()).collect()
}

#[test]
fn frames_carry_tasks_of_any_size_there_and_results_back() {
    let world = world(1, &json!({"concurrency": 4}));
    let (mut process, mut caller) = (Lane::open(&world), Lane::open(&world));
    process.say(WORK, 0, &json!({"app": "web", "key": key(&world), "slots": 2}), b"");
    for (number, size) in [(1, 0), (2, 3), (3, 9_000_000)] {
        let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        caller.say(SEND, number, &json!({"app": "web", "timeout": "30s"}), &payload);
        let (kind, task, head, body) = process.hear();
        assert_eq!((kind, body == payload), (TASK, true));
        process.say(GIVE, task, &Value::Null, &body.into_iter().rev().collect::<Vec<_>>());
        let (kind, answered, told, result) = caller.hear();
        assert_eq!((kind, answered, &told["task"]), (RESULT, number, &head["task"]));
        assert!(told["instance"].as_str().unwrap().starts_with("web-"));
        assert!(result.into_iter().rev().eq(payload));
    }
    // Two at a time, parts, and a handler that could not do it.
    caller.say(SEND, 4, &json!({"app": "web", "stream": true}), b"four");
    caller.say(SEND, 5, &json!({"app": "web"}), b"five");
    let (four, five) = (process.hear(), process.hear());
    assert_eq!((four.3.as_slice(), five.3.as_slice()), (&b"four"[..], &b"five"[..]));
    process.say(PART, four.1, &Value::Null, b"so ");
    process.say(PART, five.1, &Value::Null, b"all ");
    assert_eq!((caller.hear().0, 4), (TOLD_PART, 4));
    process.say(GIVE, five.1, &Value::Null, b"of it");
    let (kind, number, _, result) = caller.hear();
    assert_eq!((kind, number, result), (RESULT, 5, b"all of it".to_vec()));
    process.say(FAIL, four.1, &json!({"message": "ValueError: 4"}), b"");
    let (kind, number, status, _) = caller.hear();
    assert_eq!((kind, number, &status["code"]), (REFUSED, 4, &json!(500)));
    assert_eq!(causes(&status), ["TaskFailed", "MayHaveBegun"]);
    assert!(status["message"].as_str().unwrap().contains("ValueError: 4"), "{status}");
    // What is given up is for nobody any more, of which the process is told at once.
    caller.say(SEND, 6, &json!({"app": "web"}), b"six");
    let six = process.hear();
    caller.say(CANCEL, 6, &Value::Null, b"");
    let (kind, number, why, _) = process.hear();
    assert_eq!((kind, number, six.3), (GONE, six.1, b"six".to_vec()));
    assert!(why["message"].as_str().unwrap().starts_with("it was cancelled by its caller"), "{why}");
    process.say(GIVE, number, &Value::Null, b"late");
    assert_eq!((process.hear().0, number), (GONE, six.1));
    caller.say(SEND, 7, &json!({"app": "web", "timeout": "50ms"}), b"seven");
    let seven = process.hear();
    let (kind, number, why, _) = process.hear();
    assert_eq!((kind, number), (GONE, seven.1), "{why}");
    assert_eq!(caller.hear().2["code"], json!(504));
    // As everything else it is in the audit log.
    let log = world.command(&["audit", "-o", "json"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let records =
        log.lines().filter(|line| line.contains("\"subresource\":\"task\"") && line.contains("\"verb\":\"create\""));
    assert_eq!(records.count(), 6, "{log}");
}

#[test]
fn what_cannot_be_done_on_a_lane_is_refused_in_the_words_of_the_api() {
    let mut world = world(1, &json!({}));
    let key = key(&world);
    let mut lane = Lane::open(&world);
    for (number, (kind, head, code, word)) in (1..).zip([
        (SEND, json!({"app": "nobody"}), 404, "nobody"),
        (SEND, json!({"app": "web", "namespace": "none"}), 404, "web"),
        (SEND, json!({"app": "web", "timeut": "3s"}), 400, "timeut"),
        (SEND, json!({"app": "web", "timeout": "soon"}), 400, "duration"),
        (SEND, json!({"app": "web", "timeout": "20ms"}), 504, "no instance of the App asks"),
        (WORK, json!({"app": "web", "key": "a.1.b"}), 410, "process key"),
        (WORK, json!({"app": "other", "key": key}), 410, "process key"),
        (WORK, json!({"app": "web", "key": key, "slots": 0}), 400, "slots"),
    ]) {
        lane.say(kind, number, &head, b"x");
        let (kind, answered, status, _) = lane.hear();
        assert_eq!((kind, answered, &status["code"]), (REFUSED, number, &json!(code)), "{head} {status}");
        assert!(status["message"].as_str().unwrap().contains(word), "{head} {status}");
    }
    lane.say(GIVE, 1, &json!({"task": "x-1"}), b"");
    assert_eq!(lane.hear().0, GONE);
    // A process that dies in the middle of it.
    let (mut process, pid) = (Lane::open(&world), one(&world).pid());
    process.say(WORK, 0, &json!({"app": "web", "key": key}), b"");
    lane.say(SEND, 20, &json!({"app": "web"}), b"doomed");
    let doomed = process.hear();
    signal(pid, Signal::SIGKILL);
    let (_, number, status, _) = lane.hear();
    assert_eq!((number, causes(&status)), (20, vec!["InstanceEnded", "MayHaveBegun", "Signal"]));
    process.say(GIVE, doomed.1, &Value::Null, b"too late");
    assert_eq!((process.hear().0, doomed.3.as_slice()), (GONE, &b"doomed"[..]));
    let (kind, number, status, _) = process.hear();
    assert_eq!((kind, number, &status["code"]), (REFUSED, 0, &json!(410)), "{status}");
    // What is no frame ends the connection, and nothing else.
    let mut odd = Lane::open(&world);
    odd.0.write_all(&[0, 0, 0, 7, 99, 0, 0, 0, 1, 0, 0]).unwrap();
    assert_eq!((odd.hear().1, odd.is_over()), (0, true));
    // A server that stops says so of everything.
    lane.say(SEND, 21, &json!({"app": "web"}), b"waits");
    until_states(&world, &["Waiting"]);
    world.terminate_server();
    let (kind, number, status, _) = lane.hear();
    assert_eq!((kind, number, &status["code"]), (REFUSED, 21, &json!(503)));
    assert_eq!((lane.hear().1, lane.is_over()), (0, true));
}

/// Reads a task a line and answers by what it is; what it says first is output.
const BY_LINES: &str = r#"
echo "mode $APPM_TASK_MODE"
while read -r line; do
  id=${line#*'"id":'}; id=${id%%[,\}]*}
  case $line in
    *'"exit"'*) printf '{"id":%s,"data":"bye"}\n' "$id"; exit 0 ;;
    *'"half"'*) printf '{"id":%s,"data":"ha' "$id"; exit 3 ;;
    *'"fail"'*) printf '{"id":%s,"error":"cannot"}\n' "$id" ;;
    *'"parts"'*) printf '{"id":%s,"part":"a"}\nno answer\n{"id":"x"}\n{"id":%s,"part":"b"}\n{"id":%s,"data":"c"}\n' "$id" "$id" "$id" ;;
    *'"slow"'*) : ;;
    *) printf '{"id":%s,"base64":"AP8="}\n' "$id" ;;
  esac
done
"#;

fn by_lines() -> World {
    let mut world = World::new();
    world.start();
    let mut web = app(&world, "web", 1, BY_LINES);
    web["spec"]["task"] = json!({"mode": "Lines", "timeout": "30s"});
    let applied = world.api().apply(&web).unwrap();
    assert!(applied.is_ok(), "{}", String::from_utf8_lossy(&applied.body));
    world
}

fn send(world: &World, data: &str) -> (u16, Vec<u8>) {
    let answer = world.api().ask("POST", &format!("{}/task", app_path("web")), "", data.as_bytes()).unwrap();
    (answer.code, answer.body)
}

#[test]
fn a_process_does_tasks_by_lines_and_whatever_else_it_prints_is_its_output() {
    let mut world = by_lines();
    assert_eq!(send(&world, "hello"), (200, vec![0, 255]));
    assert_eq!(send(&world, "parts"), (200, b"abc".to_vec()));
    let (code, body) = send(&world, "fail");
    assert_eq!((code, causes(&serde_json::from_slice(&body).unwrap())), (500, vec!["TaskFailed", "MayHaveBegun"]));
    wait_for("its output", || {
        let log = String::from_utf8_lossy(&world.command(&["logs", "web"]).stdout).into_owned();
        let said = ["mode Lines\n", "no answer\n", "{\"id\":\"x\"}\n"];
        if said.iter().all(|line| log.contains(line)) { Ok(()) } else { Err(log) }
    });
    // The server dies while it has a task; what it says then is for nobody, and it goes on.
    let pid = one_shell(&world);
    let caller = std::thread::spawn({
        let (api, path) = (world.api(), format!("{}/task", app_path("web")));
        move || api.ask("POST", &path, "", b"slow").is_err()
    });
    until_states(&world, &["Working"]);
    world.kill_server();
    assert!(caller.join().unwrap());
    world.start();
    assert_eq!(send(&world, "hello"), (200, vec![0, 255]));
    assert_eq!(one_shell(&world), pid);
    // Answered and ended is answered; half an answer is none.
    assert_eq!(send(&world, "exit"), (200, b"bye".to_vec()));
    let (code, body) = send(&world, "half");
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code, causes(&status)), (500, vec!["InstanceEnded", "MayHaveBegun", "ExitCode"]), "{status}");
    assert!(status["message"].as_str().unwrap().contains("exit code 3"), "{status}");
    assert_eq!(send(&world, "hello"), (200, vec![0, 255]), "another one has its place");
}

/// The process of `web`.
fn one_shell(world: &World) -> u32 {
    wait_for("the process", || {
        let processes = world.processes();
        let found = processes.iter().find(|process| process.variable("APPM_TASK_MODE") == Some("Lines"));
        found.map(|process| process.pid).ok_or_else(|| "it does not run".to_owned())
    })
}

#[test]
fn lines_need_standard_streams_that_are_free() {
    let mut world = World::new();
    world.start();
    for (field, value) in [("tty", json!(true)), ("stdin", json!("text"))] {
        let mut web = app(&world, "web", 1, "cat");
        web["spec"]["task"] = json!({"mode": "Lines"});
        web["spec"]["process"][field] = value;
        let refused = world.api().apply(&web).unwrap();
        let status = refused.json();
        assert_eq!(
            (refused.code, &status["details"]["causes"][0]["field"]),
            (422, &json!("spec.task.mode")),
            "{status}"
        );
    }
}
