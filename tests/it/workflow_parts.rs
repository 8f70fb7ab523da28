//! What a job of a workflow may do beside running commands: give tasks to Apps that run, and have Apps of its own run beside it.

use serde_json::{Value, json};

use crate::{
    harness::{APPS, Api, World, wait_for},
    tasks::{one, until_states, world as world_with_web},
    workflows::{WORKFLOW_RUNS, WORKFLOWS, ask, find, make, over, states},
};

fn begin(api: &Api, name: &str, spec: &Value) {
    make(api, WORKFLOWS, "Workflow", name, spec);
    make(api, WORKFLOW_RUNS, "WorkflowRun", &format!("{name}-1"), &json!({"workflow": name}));
}

fn message(id: &str, payload: &str, more: Value) -> Value {
    let mut step = json!({"id": id, "message": {"app": "web", "payload": payload}});
    for (field, value) in more.as_object().into_iter().flatten() {
        step[field] = value.clone();
    }
    step
}

#[test]
fn a_step_gives_a_task_to_an_app_that_runs_and_the_next_reads_its_answer() {
    let world = world_with_web(1, &json!({}));
    let (api, worker) = (world.api(), one(&world));
    let spec = json!({"env": {"WHO": "ada"}, "jobs": {
        "asks": {
            "outputs": {"said": "${{ steps.says.outputs.said }}", "whole": "${{ steps.ask.response }}"},
            "steps": [
                message("ask", "hello ${{ env.WHO }}", json!({})),
                {"id": "says", "env": {"ANSWER": "${{ steps.ask.response }}"}, "run": "echo \"said=$ANSWER!\" >> $GITHUB_OUTPUT"},
                message("bad", "wrong", json!({"continue-on-error": true})),
                {"id": "absent", "message": {"app": "absent", "payload": "x"}},
            ],
        },
        "waits": {
            "needs": "asks", "if": "always()",
            "steps": [message("late", "x", json!({"timeout": 1, "continue-on-error": true})), message("held", "x", json!({}))],
            "finally": [{"id": "f", "run": "true"}],
        },
    }});
    begin(&api, "talks", &spec);
    worker.work(|task| task.to_ascii_uppercase());
    worker.work(|task| {
        assert_eq!(task, b"wrong");
        br#"{"status": "error", "message": "no such thing"}"#.to_vec()
    });
    until_states(&world, &["Waiting"]);
    wait_for("the first to be late", || {
        let job = find(&api, "talks-1")["status"]["jobs"]["waits"].clone();
        if job["steps"][1]["state"] == "Running" { Ok(()) } else { Err(job.to_string()) }
    });
    until_states(&world, &["Waiting"]);
    ask(&api, "talks-1", &json!({"cancel": "Stop"}));
    let (reason, status) = over(&api, "talks-1");
    assert_eq!(reason, "Canceled", "{status}");
    let expected = [
        ("asks", "Failure ask:Success says:Success bad:Failure absent:Failure"),
        ("waits", "Cancelled late:Failure held:Cancelled f:Success"),
    ];
    assert_eq!(states(&status), expected.map(|(job, word)| (job.to_owned(), word.to_owned())).into(), "{status}");
    let asks = &status["jobs"]["asks"];
    assert_eq!(asks["outputs"], json!({"said": "HELLO ADA!", "whole": "HELLO ADA"}), "{status}");
    assert_eq!(
        (&asks["steps"][2]["reason"], &asks["steps"][2]["message"]),
        (&json!("Answer"), &json!("no such thing"))
    );
    assert_eq!(status["jobs"]["waits"]["steps"][0]["reason"], "TimedOut", "{status}");
    until_states(&world, &[]);
}

#[test]
fn a_message_is_sent_once_when_the_server_dies_unless_its_step_says_that_it_may_be_sent_again() {
    let mut world = world_with_web(1, &json!({}));
    let worker = one(&world);
    let mut again = message("m", "again", json!({}));
    again["message"]["idempotent"] = json!(true);
    let spec = json!({"jobs": {
        "once": {"steps": [message("m", "once", json!({}))]},
        "again": {"steps": [again]},
        "tried": {"steps": [message("m", "tried", json!({"retry": {"max": 1, "interval": 0}}))]},
    }});
    begin(&world.api(), "sends", &spec);
    until_states(&world, &["Waiting", "Waiting", "Waiting"]);
    world.kill_server();
    world.start();
    let mut done = Vec::new();
    for _ in 0..2 {
        worker.work(|task| {
            done.push(String::from_utf8(task.clone()).unwrap());
            task
        });
    }
    done.sort();
    assert_eq!(done, ["again", "tried"]);
    let (_, status) = over(&world.api(), "sends-1");
    let expected = [("again", "Success m:Success"), ("once", "Failure m:Failure"), ("tried", "Success m:Success")];
    assert_eq!(states(&status), expected.map(|(job, word)| (job.to_owned(), word.to_owned())).into(), "{status}");
    let attempts = |job: &str| status["jobs"][job]["steps"][0]["attempts"].clone();
    assert_eq!([attempts("again"), attempts("once"), attempts("tried")], [json!(1), json!(1), json!(2)]);
    assert_eq!(status["jobs"]["once"]["steps"][0]["reason"], "Lost", "{status}");
}

#[test]
fn a_chain_of_messages_that_may_be_sent_twice_goes_on_before_it_is_written_down_and_ends_the_same_when_the_server_dies()
{
    const STEPS: usize = 60;
    let mut world = world_with_web(1, &json!({}));
    let worker = one(&world);
    let steps: Vec<Value> = (0..STEPS)
        .map(|n| {
            let before = if n == 0 { "0".to_owned() } else { format!("${{{{ steps.s{}.response }}}}", n - 1) };
            let mut step = message(&format!("s{n}"), &before, json!({}));
            step["message"]["idempotent"] = json!(true);
            step
        })
        .collect();
    let last = format!("${{{{ steps.s{}.response }}}}", STEPS - 1);
    begin(&world.api(), "counts", &json!({"jobs": {"a": {"outputs": {"last": last}, "steps": steps}}}));
    let add = |task: Vec<u8>| (String::from_utf8(task).unwrap().parse::<usize>().unwrap() + 1).to_string().into_bytes();
    (0..STEPS / 2).for_each(|_| worker.work(add));
    world.kill_server();
    world.start();
    let mut answered = 0;
    while answered < STEPS {
        worker.work(|task| {
            let answer = add(task);
            answered = String::from_utf8(answer.clone()).unwrap().parse().unwrap();
            answer
        });
    }
    let (reason, status) = over(&world.api(), "counts-1");
    let job = &status["jobs"]["a"];
    assert_eq!((&*reason, &job["outputs"]["last"]), ("Success", &json!(STEPS.to_string())), "{status}");
    let steps = job["steps"].as_array().unwrap();
    assert!(steps.len() == STEPS && steps.iter().all(|step| step["attempts"] == 1), "{status}");
}

/// The Apps that a run has made.
fn services(world: &World) -> Vec<String> {
    let all = world.api().list(APPS).unwrap();
    let own = all.iter().filter(|app| !app["metadata"]["labels"]["appm.dev/workflow-run"].is_null());
    own.map(|app| app["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn until_none_runs(world: &World) {
    wait_for("the services to end", || {
        let all = world.api().list(APPS).unwrap();
        let own = all.iter().filter(|app| !app["metadata"]["labels"]["appm.dev/workflow-run"].is_null());
        let left: Vec<_> =
            own.filter(|app| app["spec"]["suspend"] != true).map(|app| &app["metadata"]["name"]).collect();
        let running = world.processes().iter().any(|process| process.variable("SERVED").is_some());
        if left.is_empty() && !running { Ok(()) } else { Err(format!("{left:?} {running}")) }
    });
}

/// What listens on its port, and answers whoever asks.
const SERVER: &str = "import os, socketserver\n\
    print('serving', flush=True)\n\
    class Answer(socketserver.BaseRequestHandler):\n\
    \x20   def handle(self): self.request.sendall(os.environ['SERVED'].encode())\n\
    socketserver.TCPServer(('127.0.0.1', int(os.environ['PORT_TCP'])), Answer).serve_forever()";

fn service() -> Value {
    json!({
        "process": {"command": ["python3", "-c", SERVER]},
        "env": {"SERVED": "${{ inputs.word }} of ${{ matrix.n }}"},
        "ports": [{"name": "tcp", "containerPort": 0}],
        "readinessProbe": {"tcpSocket": {"port": "tcp"}, "periodSeconds": 1},
    })
}

#[test]
fn what_a_job_needs_beside_it_is_ready_before_its_first_step_and_goes_with_it_whatever_ends_it() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let read = "exec 3<>/dev/tcp/$ECHO_SERVICE_HOST/$PORT; echo \"said=$(cat <&3)\" >> $GITHUB_OUTPUT; \
                [ $PORT = $ECHO_SERVICE_PORT_TCP ]";
    let spec = json!({
        "on": {"manual": {"inputs": {"word": {"type": "string", "default": "word"}}}},
        "jobs": {"talks": {
            "strategy": {"matrix": {"n": [1, 2]}, "fail-fast": false},
            "services": {"echo": service()},
            "steps": [{"id": "r", "env": {"PORT": "${{ job.services.echo.ports.tcp }}"}, "run": read}, {"id": "end", "run": "exit $((${{ matrix.n }} - 1))"}],
        }},
    });
    begin(&api, "served", &spec);
    let (reason, status) = over(&api, "served-1");
    assert_eq!(reason, "Failure", "{status}");
    let expected = [("talks (1)", "Success r:Success end:Success"), ("talks (2)", "Failure r:Success end:Failure")];
    assert_eq!(states(&status), expected.map(|(job, word)| (job.to_owned(), word.to_owned())).into(), "{status}");
    let said = |cell: &str| status["jobs"][cell]["steps"][0]["outputs"]["said"].clone();
    assert_eq!([said("talks (1)"), said("talks (2)")], [json!("word of 1"), json!("word of 2")]);
    until_none_runs(&world);
    // What they printed can be read as long as the run is there.
    let echo = services(&world).swap_remove(0);
    let log = world.command(&["logs", &echo]);
    assert!(String::from_utf8_lossy(&log.stdout).contains("serving"), "{log:?}");
    assert!(api.ask("DELETE", &format!("{WORKFLOW_RUNS}/served-1"), "", b"").unwrap().is_ok());
    wait_for("the services to go with the run", || match services(&world) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });

    // One that never is ready fails its job; what goes on while the server dies goes when the run is cancelled.
    let broken = json!({"jobs": {"j": {
        "services": {"broken": {
            "process": {"command": ["false"]}, "env": {"SERVED": "x"},
            "readinessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 600},
        }},
        "steps": [{"run": "true"}],
    }}});
    begin(&api, "broken", &broken);
    let (_, status) = over(&api, "broken-1");
    assert_eq!(states(&status)["j"], "Failure", "{status}");
    let why = status["jobs"]["j"]["message"].as_str().unwrap();
    assert!(why.starts_with("service `broken`: CrashLooping"), "{why}");
    let waits = json!({"jobs": {"j": {
        "services": {"echo": {"process": {"command": ["sleep", "1000"]}, "env": {"SERVED": "x"}}},
        "steps": [{"id": "s", "run": "sleep 1000"}],
    }}});
    begin(&api, "waits", &waits);
    let name = "waits-1";
    wait_for("the step to begin", || {
        let step = find(&api, name)["status"]["jobs"]["j"]["steps"][0].clone();
        if step["state"] == "Running" { Ok(()) } else { Err(step.to_string()) }
    });
    let pid = |world: &World| world.processes().iter().find(|p| p.variable("SERVED").is_some()).map(|p| p.pid);
    let before = pid(&world).expect("it runs");
    world.kill_server();
    world.start();
    assert_eq!(pid(&world), Some(before));
    ask(&world.api(), name, &json!({"cancel": "Kill"}));
    assert_eq!(over(&world.api(), name).0, "Canceled");
    until_none_runs(&world);
}
