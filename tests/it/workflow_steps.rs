//! What steps of workflows say and leave behind: commands in their output, and secrets, which are shown nowhere.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{Api, World, files_with, signal, wait_for},
    workflows::over,
};

const BASE: &str = "/apis/appm.dev/v1/namespaces/default";

fn make(api: &Api, path: &str, object: &Value) {
    let answer = api.ask("POST", path, "application/json", object.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

#[test]
fn what_a_step_was_given_as_a_secret_or_masks_itself_stands_in_no_status_and_what_it_points_out_does() {
    const TOKEN: &str = "tok-5f0c2a9e71";
    const MASKED: &str = "made-up-3b8d";
    let mut world = World::new();
    world.start();
    let api = world.api();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "deploy"}, "stringData": {"token": TOKEN}});
    make(&api, "/api/v1/namespaces/default/secrets", &secret);
    let leaks = "echo token=$TOKEN >> $GITHUB_OUTPUT; echo digest=7 >> $GITHUB_OUTPUT; echo T=$TOKEN >> $GITHUB_ENV
echo used $TOKEN >> $GITHUB_STEP_SUMMARY; echo ::error file=a.rs,line=3::it says $TOKEN; echo plain $TOKEN";
    let masks =
        format!("echo ::add-mask::{MASKED}; echo made={MASKED} >> $GITHUB_OUTPUT; echo ::warning::saw {MASKED}");
    let prints = format!("{leaks}; echo ok");
    let secrets = json!({"TOKEN": {"secret": "deploy", "key": "token"}});
    let spec = json!({"jobs": {"a": {
        "outputs": {"seen": "${{ steps.leaks.outputs.token }}-${{ steps.leaks.outputs.digest }}-${{ steps.prints.stdout != '' }}"},
        "steps": [
            {"id": "leaks", "run": leaks, "sec_env": secrets},
            {"id": "prints", "run": prints, "sec_env": secrets},
            {"id": "masks", "run": masks},
            {"id": "env", "run": "[ -z \"$T\" ]"},
        ],
    }}});
    make(
        &api,
        &format!("{BASE}/workflows"),
        &json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec}),
    );
    let run = json!({"apiVersion": "appm.dev/v1", "kind": "WorkflowRun", "metadata": {"name": "w-1"}, "spec": {"workflow": "w"}});
    make(&api, &format!("{BASE}/workflowruns"), &run);
    let status = wait_for("the run to be over", || {
        let run = api.get(&format!("{BASE}/workflowruns/w-1")).ok().flatten().unwrap_or_default();
        let over = run["status"]["completionTime"].is_string();
        if over { Ok(run["status"].clone()) } else { Err(run["status"].to_string()) }
    });
    let job = &status["jobs"]["a"];
    assert_eq!((&job["state"], &job["outputs"]["seen"]), (&json!("Success"), &json!("-7-true")), "{status}");
    let told = |step: usize, level: &str| -> Vec<Value> {
        let all = job["steps"][step]["annotations"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|annotation| annotation["level"] == level).collect()
    };
    let error = json!([{"level": "Error", "message": "it says ***", "file": "a.rs", "line": 3}]);
    assert_eq!(json!(told(0, "Error")), error, "{status}");
    assert!(json!(told(0, "Warning")).to_string().contains("the output `token` is left out"), "{status}");
    assert_eq!(told(2, "Warning")[0]["message"], "saw ***", "{status}");
    let masking = job["steps"][2]["run"].as_str().unwrap();
    let log = api.ask("GET", &format!("{BASE}/runs/{masking}/log"), "", b"").unwrap();
    let log = String::from_utf8_lossy(&log.body).into_owned();
    assert!(log.contains("::add-mask::***\n::warning::saw ***\n") && !log.contains(MASKED), "{log}");
    for kind in ["workflowruns", "runs", "instances"] {
        let all = api.get(&format!("{BASE}/{kind}")).unwrap().unwrap();
        let statuses: Vec<&Value> = all["items"].as_array().unwrap().iter().map(|object| &object["status"]).collect();
        let text = json!(statuses).to_string();
        assert!(!text.contains(TOKEN) && !text.contains(MASKED), "{kind}: {text}");
    }
}

#[test]
fn what_a_step_masks_is_hidden_while_it_runs_wherever_its_output_is_cut_and_before_it_is_on_disk() {
    const MASKED: &str = "made-up-3b8d";
    let mut world = World::new();
    world.start();
    let api = world.api();
    let waits = |file: &str| format!("while [ ! -e '{}/{file}' ]; do sleep 0.02; done", world.root().display());
    let script = [
        "echo too early: made-up-3b8d",
        "printf '::add-ma'; printf 'sk::made-'",
        &waits("cut"),
        "echo up-3b8d; printf 'then made-up'",
        &waits("half"),
        "echo -3b8d; echo bWFkZS11cC0zYjhk made-up-3b8d >&2",
        "echo '::set-output name=older::made-up-3b8d'; echo '::add-mask::one%0Atwo of three%0Athree'; echo two of three",
        &waits("end"),
        "echo at last: made-up-3b8d",
    ]
    .join("\n");
    let spec = json!({"jobs": {"a": {"steps": [{"id": "masks", "run": script}]}}});
    let workflow = json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec});
    make(&api, &format!("{BASE}/workflows"), &workflow);
    let run = json!({"apiVersion": "appm.dev/v1", "kind": "WorkflowRun", "metadata": {"name": "w-1"}, "spec": {"workflow": "w"}});
    make(&api, &format!("{BASE}/workflowruns"), &run);
    let log = || {
        let run = api.get(&format!("{BASE}/workflowruns/w-1")).ok().flatten().unwrap_or_default();
        let step = run["status"]["jobs"]["a"]["steps"][0]["run"].as_str().unwrap_or_default().to_owned();
        let answer = api.ask("GET", &format!("{BASE}/runs/{step}/log"), "", b"").map_err(|e| e.to_string())?;
        Ok::<_, String>(String::from_utf8_lossy(&answer.body).into_owned())
    };
    let until =
        |text: &str| wait_for(text, || log().and_then(|log| if log.contains(text) { Ok(log) } else { Err(log) }));
    let go = |file: &str| std::fs::write(world.root().join(file), "").unwrap();
    let early = "too early: made-up-3b8d\n";
    assert_eq!(until("early"), early, "half a request is not shown");
    go("cut");
    // Longer than what follows is waited for: half of a value is no more shown than all of it.
    assert_eq!(until("then ***"), format!("{early}::add-mask::***\nthen ***"));
    world.own_process("logger").into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
    go("half");
    let shown = until("*** ***");
    assert_eq!(shown.matches(MASKED).count(), 1, "what it printed before it asked: {shown}");
    let shown = until("::add-mask::***\n***\n");
    assert!(!shown.contains("bWFkZS11cC0zYjhk") && !shown.contains("two of three"), "{shown}");
    let mut files = Vec::new();
    files_with(&world.data().join("instances"), &["two of three"], &mut files);
    assert!(files.iter().all(|file| file.ends_with("script")), "{files:?}");
    go("end");
    let (reason, status) = over(&api, "w-1");
    assert_eq!(reason, "Success", "{status}");
    let told = status["jobs"]["a"]["steps"][0]["annotations"].to_string();
    assert!(told.contains("the output `older` is left out") && !told.contains(MASKED), "{status}");
    let log = wait_for("all of it", || log().and_then(|log| if log.contains("at last") { Ok(log) } else { Err(log) }));
    assert!(
        log.contains("too early: ************\n") && log.ends_with("at last: ***\n") && !log.contains(MASKED),
        "{log}"
    );
}

#[test]
fn a_step_knows_where_it_works_on_what_machine_and_how_often_that_was_tried() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let asks = "[ \"${{ github.workspace }}\" = \"$GITHUB_WORKSPACE\" ] && [ \"$FILE\" = \"$GITHUB_WORKSPACE/a b\" ]
[ \"${{ runner.temp }}\" = \"$RUNNER_TEMP\" ] && echo x > \"$RUNNER_TEMP/x\"
[ \"${{ runner.name }}\" = \"$(cat /proc/sys/kernel/hostname)\" ] && [ \"$RUNNER_NAME\" = \"${{ runner.name }}\" ]
[ \"${{ github.run_attempt }}\" = \"$GITHUB_RUN_ATTEMPT\" ]
mkdir sub; echo \"attempt=$GITHUB_RUN_ATTEMPT\" >> $GITHUB_OUTPUT";
    let spec = json!({"env": {"FILE": "${{ github.workspace }}/a b"}, "jobs": {"a": {
        "outputs": {"attempt": "${{ steps.asks.outputs.attempt }}"},
        "steps": [
            {"id": "asks", "run": asks},
            {"id": "within", "working-directory": "${{ github.workspace }}/sub", "run": "[ \"$PWD\" = \"$GITHUB_WORKSPACE/sub\" ]"},
            {"id": "later", "run": "[ \"$(cat \"$RUNNER_TEMP/x\")\" = x ]"},
        ],
    }}});
    let workflow = json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec});
    make(&api, &format!("{BASE}/workflows"), &workflow);
    for (name, spec, attempt) in [
        ("w-1", json!({"workflow": "w"}), "1"),
        ("w-2", json!({"rerun": {"of": "w-1"}}), "2"),
        ("w-3", json!({"rerun": {"of": "w-2"}}), "3"),
    ] {
        let run = json!({"apiVersion": "appm.dev/v1", "kind": "WorkflowRun", "metadata": {"name": name}, "spec": spec});
        make(&api, &format!("{BASE}/workflowruns"), &run);
        let (reason, status) = over(&api, name);
        assert_eq!((&*reason, &status["jobs"]["a"]["outputs"]["attempt"]), ("Success", &json!(attempt)), "{status}");
    }
}
