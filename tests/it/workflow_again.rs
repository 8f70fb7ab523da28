//! Runs that are followed while they go on, that drain, and that go on where an earlier one failed.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};

use crate::{
    harness::{Api, PATIENCE, World, wait_for},
    manifests::appm,
    workflows::{WORKFLOW_RUNS, WORKFLOWS, find, make, over},
};

fn world() -> World {
    let mut world = World::new();
    world.start();
    world
}

fn condition(status: &Value, kind: &str) -> Value {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// A command of appm's that goes on, and the lines that it prints.
struct Reader {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Reader {
    fn of(world: &World, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_appm"));
        command.arg("--data-dir").arg(world.data()).args(args).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (tell, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line))));
        Self { child, lines }
    }

    /// All lines up to one.
    fn until(&self, last: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|line| line != last) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("no `{last}` ({error}) in {seen:#?}"),
            }
        }
        seen
    }

    /// The rest, when it has ended.
    fn rest(mut self) -> Vec<String> {
        let rest = self.lines.iter().collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_logs_of_a_run_are_followed_step_by_step_to_its_end_and_one_that_drains_says_so() {
    let mut world = world();
    let root = world.root().display().to_string();
    let waits = |file: &str| format!("until [ -e {root}/{file} ]; do sleep 0.02; done");
    let spec = json!({"jobs": {
        "build": {"steps": [
            {"id": "first", "run": format!("echo one; {}; printf 'two\\nthree'", waits("go"))},
            {"id": "second", "run": "echo '::warning file=a.rs,line=3::no'; echo four >&2"},
        ]},
        "other": {"steps": [{"id": "alone", "run": format!("echo five; {}", waits("stop"))}, {"id": "never", "run": "echo six"}]},
    }});
    make(&world.api(), WORKFLOWS, "Workflow", "talks", &spec);
    make(&world.api(), WORKFLOW_RUNS, "WorkflowRun", "talks-1", &json!({"workflow": "talks"}));
    let all = Reader::of(&world, &["workflow", "logs", "talks-1", "-f"]);
    let one = Reader::of(&world, &["workflow", "logs", "talks-1", "-f", "-j", "build"]);
    assert_eq!(one.until("build / first | one"), ["build / first | one"]);
    all.until("build / first | one");
    // Whoever follows waits for the next server.
    world.kill_server();
    world.start();
    fs::write(world.root().join("go"), "").unwrap();
    let build = [
        "build / first | two",
        "build / first | three",
        "build / second | warning a.rs:3: no",
        "build / second | four",
    ];
    assert_eq!(one.rest(), build, "it ends with the job");
    all.until("build / second | four");
    appm(&world, &["workflow", "cancel", "talks-1", "--drain"]);
    wait_for("it to drain", || match appm(&world, &["workflow", "runs"]) {
        said if said.contains("Draining") => Ok(()),
        said => Err(said),
    });
    assert!(appm(&world, &["workflow", "detail", "talks-1"]).contains("talks-1 of talks by admin: Draining"));
    fs::write(world.root().join("stop"), "").unwrap();
    assert!(!all.rest().iter().any(|line| line.contains("six")), "what had not begun does not begin");
    let again = appm(&world, &["workflow", "logs", "talks-1", "-f"]);
    assert_eq!(again.lines().filter(|line| line.starts_with("build / ")).count(), 5, "{again}");
    let absent = world.command(&["workflow", "logs", "talks-1", "-f", "-j", "biuld"]);
    let said = String::from_utf8_lossy(&absent.stderr);
    assert!(!absent.status.success() && said.contains("the run has no job `biuld`; did you mean `build`?"), "{said}");
}

fn again(api: &Api, name: &str, of: &str) -> Value {
    let rerun = json!({"rerun": {"of": of, "from": {"job": "j", "step": "second"}}});
    make(api, WORKFLOW_RUNS, "WorkflowRun", name, &rerun);
    over(api, name).1
}

#[test]
fn a_run_that_goes_on_with_an_earlier_one_has_its_files_or_says_that_they_are_gone() {
    let world = world();
    let (api, root) = (world.api(), world.root().display().to_string());
    let spec = json!({"jobs": {"j": {"steps": [
        {"id": "first", "run": "echo made > file"},
        {"id": "second", "run": format!("[ -e {root}/mended ] && cat file")},
    ]}}});
    make(&api, WORKFLOWS, "Workflow", "goes", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "goes-1", &json!({"workflow": "goes"}));
    let (reason, first) = over(&api, "goes-1");
    assert_eq!((reason.as_str(), condition(&first, "WorkspaceKept")), ("Failure", Value::Null));
    fs::write(world.root().join("mended"), "").unwrap();
    let second = again(&api, "goes-2", "goes-1");
    assert_eq!(condition(&second, "Complete")["status"], "True", "{second}");
    assert_eq!(condition(&second, "WorkspaceKept")["reason"], "Kept", "{second}");
    assert_eq!(second["workspace"], find(&api, "goes-1")["metadata"]["uid"]);
    assert_eq!(appm(&world, &["workflow", "output", "goes-2", "-j", "j", "-s", "second"]), "made\n");
    // It stays as long as one of them is there.
    assert!(api.ask("DELETE", &format!("{WORKFLOW_RUNS}/goes-1"), "", b"").unwrap().is_ok());
    wait_for("the steps of the first to go", || {
        match appm(&world, &["get", "runs", "-l", "appm.dev/workflow-run=goes-1", "-o", "name"]) {
            none if none.trim().is_empty() => Ok(()),
            left => Err(left),
        }
    });
    let third = again(&api, "goes-3", "goes-2");
    assert_eq!(condition(&third, "Complete")["status"], "True", "{third}");
    appm(&world, &["delete", "runs", "-l", "appm.dev/workflow-run in (goes-2, goes-3)"]);
    let instances = ["get", "instances", "-l", "appm.dev/workflow-run", "-o", "name"];
    wait_for("all steps to go", || match appm(&world, &instances) {
        none if none.trim().is_empty() => Ok(()),
        left => Err(left),
    });
    let fourth = again(&api, "goes-4", "goes-3");
    let kept = condition(&fourth, "WorkspaceKept");
    assert_eq!((&kept["status"], &kept["reason"]), (&json!("False"), &json!("Empty")), "{fourth}");
    assert_eq!(condition(&fourth, "Failed")["status"], "True", "{fourth}");
    let said = appm(&world, &["workflow", "detail", "goes-4"]);
    assert!(said.contains("it begins in an empty workspace: that of `goes-3` went with its steps"), "{said}");
}

/// Makes a run that does the second step of another one again, as somebody.
fn again_as(api: &Api, who: &str, name: &str, of: &str) {
    let spec = json!({"rerun": {"of": of, "from": {"job": "j", "step": "second"}}});
    let run = json!({"apiVersion": "appm.dev/v1", "kind": "WorkflowRun", "metadata": {"name": name}, "spec": spec});
    let head = format!("Content-Type: application/json\r\nImpersonate-User: {who}");
    let answer = api.ask_with("POST", WORKFLOW_RUNS, &head, run.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn files_of_an_earlier_run_are_not_shared_by_two_that_go_on_with_it_nor_with_another_user() {
    let world = world();
    let (api, root) = (world.api(), world.root().display().to_string());
    let waits = format!("[ -e {root}/mended ] && until [ -e {root}/go ]; do sleep 0.02; done && cat file");
    let spec =
        json!({"jobs": {"j": {"steps": [{"id": "first", "run": "echo made > file"}, {"id": "second", "run": waits}]}}});
    make(&api, WORKFLOWS, "Workflow", "goes", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "goes-1", &json!({"workflow": "goes"}));
    assert_eq!(over(&api, "goes-1").0, "Failure");
    fs::write(world.root().join("mended"), "").unwrap();
    make(&api, "/apis/appm.dev/v1/users", "User", "ada", &json!({"roles": [{"name": "admin"}]}));
    again_as(&api, "admin", "goes-2", "goes-1");
    wait_for("the second to work there", || match find(&api, "goes-2")["status"].clone() {
        status if status["jobs"]["j"]["steps"][1]["state"] == "Running" => Ok(()),
        status => Err(status.to_string()),
    });
    again_as(&api, "admin", "goes-3", "goes-1");
    again_as(&api, "ada", "goes-4", "goes-1");
    for (name, why) in [
        ("goes-3", "`goes-2` works in that of `goes-1`"),
        ("goes-4", "that of `goes-1` is `admin`'s, and this run acts as `ada`"),
    ] {
        let kept = wait_for("it to say where it works", || {
            let status = find(&api, name)["status"].clone();
            match condition(&status, "WorkspaceKept") {
                Value::Null => Err(status.to_string()),
                kept => Ok(kept),
            }
        });
        assert_eq!((&kept["status"], &kept["reason"]), (&json!("False"), &json!("Empty")), "{kept}");
        assert_eq!(kept["message"], format!("it begins in an empty workspace: {why}"));
    }
    fs::write(world.root().join("go"), "").unwrap();
    let ends = ["goes-2", "goes-3", "goes-4"].map(|name| over(&api, name).0);
    assert_eq!(ends, ["Success", "Failure", "Failure"], "who begins in an empty one finds no file");
}
