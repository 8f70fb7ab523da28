//! Runs: once, here and now, with their output and their exit; and never twice, whoever is killed when.

use std::{
    fs,
    process::{Command, Output, Stdio},
    thread,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Api, Dice, INSTANCES, World, app, app_path, signal, wait_for};

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";

fn world() -> World {
    let mut world = World::new();
    world.start();
    world
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output, standard error and the exit code.
fn said(output: &Output) -> (String, String, Option<i32>) {
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn run(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "appm.dev/v1", "kind": "Run", "metadata": {"name": name}, "spec": spec})
}

fn make(api: &Api, run: &Value) -> Value {
    let answer = api.ask("POST", RUNS, "application/json", run.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", text(&answer.body));
    answer.json()
}

fn find(api: &Api, name: &str) -> Value {
    api.get(&format!("{RUNS}/{name}")).unwrap().unwrap_or_default()
}

/// Waits until the condition `kind` holds; the Run as it is then.
fn until(api: &Api, name: &str, kind: &str) -> Value {
    wait_for(&format!("{name} to be {kind}"), || {
        let run = find(api, name);
        let conditions = run["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let holds = conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");
        if holds { Ok(run.clone()) } else { Err(run["status"].to_string()) }
    })
}

fn reason(run: &Value) -> &str {
    let conditions = run["status"]["conditions"].as_array().expect("conditions");
    conditions.iter().find(|c| c["type"] != "Running").and_then(|c| c["reason"].as_str()).expect("a reason")
}

fn log(world: &World, name: &str) -> String {
    world.api().ask("GET", &format!("{RUNS}/{name}/log"), "", b"").map(|answer| text(&answer.body)).unwrap_or_default()
}

#[test]
fn a_command_gives_both_streams_and_its_exit_code_and_stays_readable() {
    let world = world();
    let done = world.command(&["run", "--name", "job", "-c", "echo out; echo \"err $1\" >&2; exit 7", "--", "one"]);
    assert_eq!(said(&done), ("out\n".to_owned(), "err one\n".to_owned(), Some(7)));
    let job = until(&world.api(), "job", "Failed");
    assert_eq!((reason(&job), &job["status"]["exit"]), ("BackoffLimitExceeded", &json!({"code": 7})));
    assert_eq!(text(&world.command(&["logs", "job", "--stream", "stdout"]).stdout), "out\n");
    assert_eq!(world.command(&["run", "-c", "kill -KILL $$; sleep 9"]).status.code(), Some(137));
    let (_, error, code) = said(&world.command(&["run", "--", "/no/such/program"]));
    assert!(code == Some(127) && error.contains("/no/such/program"), "{code:?} {error}");
    assert_eq!(said(&world.command(&["run", "--rm", "-c", "true", "-o", "name"])).2, Some(0));
    let long = world.command(&["run", "--", "seq", "1", "100000"]);
    let lines = text(&long.stdout);
    assert_eq!((lines.lines().count(), lines.lines().last()), (100_000, Some("100000")));
}

#[test]
fn what_comes_in_is_given_to_the_command() {
    let world = world();
    let mut child = Command::new(env!("CARGO_BIN_EXE_appm"))
        .arg("--data-dir")
        .arg(world.data())
        .args(["run", "-i", "-c", "wc -c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &[b'x'; 100_000]).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!((text(&done.stdout).trim(), done.status.code()), ("100000", Some(0)));
}

#[test]
fn a_run_of_an_app_is_what_the_app_was_with_other_words() {
    let world = world();
    let mut backup = app(&world, "backup", 0, "echo \"$1 $TARGET $KEPT ${APPM_RUN}\"");
    let env = json!([{"name": "TARGET", "value": "disk"}, {"name": "KEPT", "value": "kept"}]);
    backup["spec"]["env"] = env;
    assert!(world.api().apply(&backup).unwrap().is_ok());
    let done = world.command(&["run", "backup", "--name", "night", "-e", "TARGET=s3", "--", "--full"]);
    assert_eq!(said(&done), ("--full s3 kept night\n".to_owned(), String::new(), Some(0)));
    let night = until(&world.api(), "night", "Complete");
    assert_eq!((reason(&night), &night["status"]["exit"]), ("ExitZero", &json!({"code": 0})));
    assert_eq!(night["spec"]["template"]["process"]["args"], json!(["--full"]));
    // The App goes, the Run stays.
    assert!(world.api().ask("DELETE", &app_path("backup"), "", b"").unwrap().is_ok());
    wait_for("the App to be gone", || match world.api().get(&app_path("backup")).unwrap() {
        None => Ok(()),
        Some(app) => Err(app.to_string()),
    });
    assert_eq!(log(&world, "night"), "--full s3 kept night\n");
    let (_, error, code) = said(&world.command(&["run", "backup"]));
    assert!(code == Some(4) && error.contains("there is no app `backup`"), "{code:?} {error}");
}

#[test]
fn what_is_cancelled_or_late_is_stopped_and_keeps_its_output_and_its_exit() {
    let world = world();
    let polite = "trap 'echo bye; exit 3' TERM; echo hi; while :; do sleep 0.05; done";
    let (_, _, code) = said(&world.command(&["run", "-d", "--name", "long", "-c", polite]));
    assert_eq!(code, Some(0));
    wait_for("it to begin", || Some(log(&world, "long")).filter(|l| l == "hi\n").ok_or_else(|| "not yet".to_owned()));
    assert_eq!(world.command(&["cancel", "run/long"]).status.code(), Some(0));
    let long = until(&world.api(), "long", "Failed");
    assert_eq!((reason(&long), &long["status"]["exit"]), ("Canceled", &json!({"code": 3})));
    wait_for("its last words", || match log(&world, "long") {
        words if words == "hi\nbye\n" => Ok(()),
        words => Err(words),
    });
    let (out, _, code) = said(&world.command(&["run", "--timeout", "1s", "--name", "late", "-c", polite]));
    assert_eq!((out.as_str(), code), ("hi\nbye\n", Some(124)));
    let late = until(&world.api(), "late", "Failed");
    assert_eq!((reason(&late), &late["status"]["exit"]), ("DeadlineExceeded", &json!({"code": 3})));
}

#[test]
fn a_run_goes_with_its_output_when_it_has_been_kept_long_enough() {
    let world = world();
    make(&world.api(), &run("brief", &json!({"process": {"command": ["true"]}, "ttlSecondsAfterFinished": 0})));
    wait_for("the run and its instance to be gone", || {
        let left = [world.api().list(RUNS).unwrap(), world.api().list(INSTANCES).unwrap()].concat();
        if left.is_empty() { Ok(()) } else { Err(json!(left).to_string()) }
    });
}

#[test]
fn kubectl_makes_runs_waits_for_them_and_reads_their_output() {
    let kubectl = std::env::var("APPM_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    if Command::new(&kubectl).args(["version", "--client"]).output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no kubectl: install kubernetes-client");
        eprintln!("skipped: there is no kubectl");
        return;
    }
    let world = world();
    let home = tempfile::tempdir().unwrap();
    let call = |args: &[&str]| {
        let mut command = Command::new(&kubectl);
        command.args(args).env("HOME", home.path()).env("KUBECONFIG", world.data().join("kubeconfig"));
        let done = command.stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "kubectl {args:?}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    let mut made = run("", &json!({"process": {"command": ["echo", "done"]}}));
    made["metadata"] = json!({"generateName": "made-"});
    let file = world.root().join("run.json");
    fs::write(&file, made.to_string()).unwrap();
    let name = call(&["create", "-f", file.to_str().unwrap(), "-o", "jsonpath={.metadata.name}"]);
    assert!(name.starts_with("made-"), "{name}");
    call(&["wait", "--for=condition=Complete", &format!("run/{name}"), "--timeout=60s"]);
    assert_eq!(call(&["logs", "-l", &format!("appm.dev/run={name}")]), "done\n");
    let table = call(&["get", "runs"]);
    assert!(table.contains("Complete") && table.contains("ATTEMPTS"), "{table}");
}

/// Says that it was started, works a little, and ends with a code that nothing else ends with.
const ONCE: &str = "echo $APPM_INSTANCE >> $PROOF_ROOT/begun; sleep 0.2; echo end; exit 5";

/// Makes a Run, however often the server has to be asked.
fn make_surely(api: &Api, world_root: &str, name: &str) {
    let env = json!([{"name": "PROOF_ROOT", "value": world_root}]);
    let body = run(name, &json!({"process": {"script": ONCE}, "env": env})).to_string();
    wait_for(&format!("{name} to be made"), || match api.ask("POST", RUNS, "application/json", body.as_bytes()) {
        Ok(answer) if answer.is_ok() || answer.code == 409 => Ok(()),
        Ok(answer) => Err(text(&answer.body)),
        Err(error) => Err(error.to_string()),
    });
}

/// How often each attempt was begun.
fn begun(world: &World, name: &str) -> usize {
    let lines = fs::read_to_string(world.root().join("begun")).unwrap_or_default();
    lines.lines().filter(|line| *line == format!("{name}-a1")).count()
}

/// Kills something again and again while Runs are made; each is over in the end. Their names.
fn storm(world: &mut World, seed: u64, kills: u64, mut kill: impl FnMut(&mut World, &mut Dice)) -> Vec<String> {
    let names: Vec<String> = (0..25).map(|n| format!("job-{n}")).collect();
    let (api, root) = (world.api(), world.root().to_str().unwrap().to_owned());
    let making = thread::spawn({
        let names = names.clone();
        move || {
            let mut dice = Dice::new(seed);
            for name in &names {
                make_surely(&api, &root, name);
                dice.pause(60);
            }
        }
    });
    let mut dice = Dice::new(seed ^ 1);
    for _ in 0..kills {
        dice.pause(250);
        kill(world, &mut dice);
    }
    making.join().unwrap();
    for name in &names {
        until(&world.api(), name, "Failed");
    }
    names
}

#[test]
fn killing_server_and_logger_at_any_moment_neither_loses_nor_repeats_a_run() {
    let mut world = world();
    let names = storm(&mut world, 6, 5, |world, dice| match (dice.below(4), world.own_process("logger")) {
        (0, Some(logger)) => signal(logger, Signal::SIGKILL),
        _ => {
            world.kill_server();
            world.start();
        }
    });
    for name in names {
        let status = find(&world.api(), &name)["status"].clone();
        assert_eq!((&status["exit"], &status["attempts"]), (&json!({"code": 5}), &json!(1)), "{name}: {status}");
        assert_eq!(begun(&world, &name), 1, "{name}");
        wait_for("its output to be on disk", || Some(log(&world, &name)).filter(|l| l == "end\n").ok_or(name.clone()));
    }
}

#[test]
fn killing_the_keeper_starts_nothing_twice_and_what_nobody_saw_is_lost() {
    let mut world = world();
    let names = storm(&mut world, 7, 5, |world, _| {
        if let Some(keeper) = world.own_process("keeper") {
            signal(keeper, Signal::SIGKILL);
        }
    });
    for name in names {
        let run = find(&world.api(), &name);
        let (status, times) = (&run["status"], begun(&world, &name));
        assert!(times <= 1, "{name} was begun {times} times");
        match status["exit"]["lost"] == true {
            true => assert_eq!(reason(&run), "Lost", "{status}"),
            false => assert_eq!((&status["exit"], times), (&json!({"code": 5}), 1), "{name}: {status}"),
        }
    }
}

#[test]
fn whoever_waits_for_a_run_does_not_notice_that_the_server_was_killed() {
    let mut world = world();
    let (data, go) = (world.data(), world.root().join("go"));
    let signal = go.clone();
    let waiting = thread::spawn(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
        command.arg("--data-dir").arg(data);
        command.args(["run", "--name", "job", "-c", "echo begun; until [ -e \"$GO\" ]; do sleep 0.05; done; exit 4"]);
        command.arg("-e").arg(format!("GO={}", signal.display())).output().unwrap()
    });
    wait_for("it to begin", || Some(log(&world, "job")).filter(|l| l == "begun\n").ok_or_else(|| "not yet".to_owned()));
    world.kill_server();
    world.start();
    fs::write(go, "").unwrap();
    let done = waiting.join().unwrap();
    assert_eq!(said(&done), ("begun\n".to_owned(), String::new(), Some(4)));
}

/// `appm run -i ARGS`, to be spoken with.
fn fed(world: &World, args: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
    command.arg("--data-dir").arg(world.data()).args(["run", "-i"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn input_is_given_as_it_comes_byte_for_byte_and_its_end_is_the_end() {
    let world = world();
    // More than any pipe holds, and no text.
    let mut dice = Dice::new(9);
    let long: Vec<u8> = (0..3_000_000).map(|_| u8::try_from(dice.below(256)).unwrap()).collect();
    let mut child = fed(&world, &["--", "cat"]);
    let mut input = child.stdin.take().unwrap();
    let sent = long.clone();
    let writer = thread::spawn(move || std::io::Write::write_all(&mut input, &sent).unwrap());
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(done.stdout == long, "{} bytes of {}", done.stdout.len(), long.len());
    // An answer to each line before the next one is written.
    let mut child = fed(&world, &["--name", "talk", "-c", "while read -r line; do echo \"<$line>\"; done; echo over"]);
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    for word in ["one", "two"] {
        std::io::Write::write_all(&mut input, format!("{word}\n").as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("<{word}>"));
    }
    // It is sent once, by one client.
    let again = world.api().ask("POST", &format!("{RUNS}/talk/stdin"), "application/octet-stream", b"three\n").unwrap();
    assert_eq!(again.code, 409, "{}", text(&again.body));
    drop(input);
    assert_eq!(lines.next().unwrap().unwrap(), "over");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Who does not want to hear it to the end does not wait for it.
    let mut child = fed(&world, &["--", "head", "-c", "1"]);
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"ab").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(input);
}

#[test]
fn input_that_breaks_off_is_never_taken_for_all_of_it() {
    let mut world = world();
    for (name, kills_server) in [("orphan", false), ("cut", true)] {
        let mut child = fed(&world, &["--name", name, "-c", "cat; echo whole"]);
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"a part\n").unwrap();
        wait_for("the part to be read", || match log(&world, name) {
            all if all == "a part\n" => Ok(()),
            other => Err(other),
        });
        if kills_server {
            world.kill_server();
            world.start();
        } else {
            child.kill().unwrap();
        }
        let run = until(&world.api(), name, "Failed");
        assert_eq!(run["status"]["exit"], json!({"signal": "SIGHUP"}), "{name}");
        assert_eq!(log(&world, name), "a part\n", "{name}");
        drop(input);
        child.wait().unwrap();
    }
}
