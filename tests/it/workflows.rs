//! Workflows with real processes: what a run does, what its steps tell each other, and that it does all that once, whoever is killed when.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::harness::{Api, Dice, World, wait_for};

pub(crate) const WORKFLOWS: &str = "/apis/appm.dev/v1/namespaces/default/workflows";
pub(crate) const WORKFLOW_RUNS: &str = "/apis/appm.dev/v1/namespaces/default/workflowruns";

fn world() -> World {
    let mut world = World::new();
    world.start();
    world
}

pub(crate) fn make(api: &Api, path: &str, kind: &str, name: &str, spec: &Value) {
    let object = json!({"apiVersion": "appm.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let answer = api.ask("POST", path, "application/json", object.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

pub(crate) fn find(api: &Api, name: &str) -> Value {
    api.get(&format!("{WORKFLOW_RUNS}/{name}")).ok().flatten().unwrap_or_default()
}

pub(crate) fn ask(api: &Api, name: &str, spec: &Value) {
    let patch = json!({"spec": spec}).to_string();
    let path = format!("{WORKFLOW_RUNS}/{name}");
    let answer = api.ask("PATCH", &path, "application/merge-patch+json", patch.as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

/// Waits until it is over, as long as it goes on; the reason of its end, and its status.
pub(crate) fn over(api: &Api, name: &str) -> (String, Value) {
    let mut seen = Value::Null;
    loop {
        let ended = wait_for(&format!("{name} to be over, or to go on"), || {
            let run = find(api, name);
            let conditions = run["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_end =
                |c: &&Value| ["Complete", "Failed"].iter().any(|kind| c["type"] == *kind) && c["status"] == "True";
            let end = conditions.iter().find(is_end);
            match end {
                Some(end) => Ok(Some((end["reason"].as_str().unwrap_or_default().to_owned(), run["status"].clone()))),
                None if run["status"] == seen => Err(seen.to_string()),
                None => {
                    seen = run["status"].clone();
                    Ok(None)
                }
            }
        });
        if let Some(ended) = ended {
            return ended;
        }
    }
}

pub(crate) fn states(status: &Value) -> BTreeMap<String, String> {
    let jobs = status["jobs"].as_object().cloned().unwrap_or_default();
    let word = |job: &Value| {
        let steps = job["steps"].as_array().cloned().unwrap_or_default();
        let steps: Vec<String> =
            steps.iter().map(|s| format!("{}:{}", s["id"].as_str().unwrap(), s["state"].as_str().unwrap())).collect();
        format!("{} {}", job["state"].as_str().unwrap(), steps.join(" "))
    };
    jobs.iter().map(|(name, job)| (name.clone(), word(job).trim().to_owned())).collect()
}

#[test]
fn steps_tell_each_other_what_they_found_and_jobs_begin_when_those_before_have_ended() {
    let world = world();
    let api = world.api();
    let spec = json!({
        "on": {"manual": {"inputs": {"who": {"type": "string", "default": "nobody"}}}},
        "env": {"GREETING": "hello ${{ inputs.who }}", "DOLLAR": "$(HOME)"},
        "jobs": {
            "build": {
                "outputs": {"digest": "${{ steps.pack.outputs.digest }}", "said": "${{ steps.compile.stdout }}"},
                "steps": [
                    {"name": "compile", "run": "printf '%s %s' \"$GREETING\" \"$DOLLAR\"; echo N=7 >> $GITHUB_ENV; echo a > file"},
                    {"id": "pack", "run": "echo \"digest=$N-$(cat file)\" >> \"$GITHUB_OUTPUT\""},
                    {"id": "bad", "run": "exit 3", "continue-on-error": true},
                    {"id": "last", "if": "steps.bad.outcome == 'failure' && steps.bad.conclusion == 'success'", "run": "true"},
                ],
            },
            "test": {
                "needs": "build",
                "steps": [
                    {"id": "fails", "env": {"DIGEST": "${{ needs.build.outputs.digest }}"}, "run": "[ $DIGEST != 7-a ]"},
                    {"id": "not", "run": "true"},
                    {"id": "rescue", "if": "failure()", "run": "true"},
                ],
                "finally": [{"id": "tell", "run": "[ \"${{ job.status }}\" = failure ]"}],
            },
            "after": {"needs": ["test"], "steps": [{"run": "true"}]},
            "always": {"needs": ["test"], "if": "always() && needs.test.result == 'failure'", "steps": [{"run": "true"}]},
        },
    });
    make(&api, WORKFLOWS, "Workflow", "demo", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "demo-1", &json!({"workflow": "demo", "inputs": {"who": "ada"}}));
    let (reason, status) = over(&api, "demo-1");
    assert_eq!(reason, "Failure", "{status}");
    assert_eq!(status["jobs"]["build"]["outputs"], json!({"digest": "7-a", "said": "hello ada $(HOME)"}), "{status}");
    let expected = [
        ("after", "Skipped"),
        ("always", "Success step-1:Success"),
        ("build", "Success compile:Success pack:Success bad:Failure last:Success"),
        ("test", "Failure fails:Failure not:Skipped rescue:Success tell:Success"),
    ];
    assert_eq!(states(&status), expected.map(|(job, word)| (job.to_owned(), word.to_owned())).into(), "{status}");
    assert_eq!(status["jobs"]["after"]["message"], "job `test` failed");
}

#[test]
fn jobs_of_one_group_are_done_one_at_a_time_whatever_run_they_are_of_and_whoever_is_killed() {
    let mut world = world();
    let lock = world.root().join("held").display().to_string();
    // Whoever comes while another is there fails.
    let held = format!("mkdir {lock}; sleep 0.1; rmdir {lock}");
    let job = json!({"concurrency": {"group": "deploy"}, "steps": [{"run": held}]});
    let spec = json!({"jobs": {"a": job, "b": job, "free": {"steps": [{"run": "true"}]}}});
    make(&world.api(), WORKFLOWS, "Workflow", "held", &spec);
    let names = ["held-1", "held-2", "held-3"];
    for name in names {
        make(&world.api(), WORKFLOW_RUNS, "WorkflowRun", name, &json!({"workflow": "held"}));
    }
    wait_for("the first job to be done", || {
        let done = names.iter().any(|name| find(&world.api(), name).to_string().contains("\"state\":\"Success\""));
        if done { Ok(()) } else { Err("none".to_owned()) }
    });
    world.kill_server();
    world.start();
    for name in names {
        let (reason, status) = over(&world.api(), name);
        assert_eq!(reason, "Success", "{status}");
        assert!(status["jobs"]["a"]["turn"]["group"] == "deploy", "{status}");
    }
}

#[test]
fn what_failed_is_tried_again_what_is_late_is_stopped_and_finally_is_done_in_any_case() {
    let world = world();
    let (api, root) = (world.api(), world.root().display().to_string());
    let retried = format!("echo x >> {root}/tries; [ $(wc -l < {root}/tries) = 3 ]");
    let waits = format!("touch {root}/begun; sleep 600");
    let spec = json!({"jobs": {
        "retries": {"steps": [{"id": "r", "run": retried, "retry": {"max": 4, "interval": 0, "exit_codes": [1]}}]},
        "fails": {"steps": [{"id": "e", "run": "exit 7", "retry": {"max": 2, "interval": 0}}]},
        "late": {"steps": [{"id": "slow", "run": "sleep 600", "timeout": 1}], "finally": [{"id": "f", "run": "true"}]},
        "stopped": {
            "needs": ["retries", "late", "fails"], "if": "always()",
            "steps": [{"id": "waits", "run": waits}, {"id": "not", "run": "true"}, {"id": "wants", "if": "cancelled()", "run": "true"}],
            "finally": [{"id": "f", "run": "true"}],
        },
        "never": {"needs": "stopped", "steps": [{"run": "true"}]},
    }});
    make(&api, WORKFLOWS, "Workflow", "ends", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "ends-1", &json!({"workflow": "ends"}));
    wait_for("the last job to begin", || match fs::exists(world.root().join("begun")).unwrap() {
        true => Ok(()),
        false => Err(find(&api, "ends-1")["status"].to_string()),
    });
    ask(&api, "ends-1", &json!({"cancel": "Stop"}));
    let (reason, status) = over(&api, "ends-1");
    assert_eq!(reason, "Canceled", "{status}");
    let expected = [
        ("fails", "Failure e:Failure"),
        ("late", "Failure slow:Failure f:Success"),
        ("never", "Cancelled"),
        ("retries", "Success r:Success"),
        ("stopped", "Cancelled waits:Cancelled not:Cancelled wants:Success f:Success"),
    ];
    assert_eq!(states(&status), expected.map(|(job, word)| (job.to_owned(), word.to_owned())).into(), "{status}");
    let tries = &status["jobs"]["retries"]["steps"][0]["attempts"];
    assert_eq!((tries, &status["jobs"]["late"]["steps"][0]["reason"]), (&json!(3), &json!("TimedOut")));
    assert_eq!(status["jobs"]["fails"]["steps"][0]["message"], "attempt 3 ended with code 7");
}

#[test]
fn workflows_call_workflows_take_turns_and_are_done_again_from_where_they_failed() {
    let world = world();
    let (api, root) = (world.api(), world.root().display().to_string());
    let called = json!({
        "on": {"workflow_call": {
            "inputs": {"n": {"type": "number", "required": true}},
            "outputs": {"twice": {"value": "${{ jobs.double.outputs.twice }}"}},
        }},
        "jobs": {"double": {
            "outputs": {"twice": "${{ steps.d.outputs.twice }}"},
            "steps": [{"id": "d", "env": {"N": "${{ inputs.n }}"}, "run": "echo twice=$((N * 2)) >> $APPM_OUTPUT"}],
        }},
    });
    make(&api, WORKFLOWS, "Workflow", "called", &called);
    let mended = format!("echo $APPM_WORKFLOW_RUN >> {root}/order; sleep 0.2; [ -e {root}/mended ]");
    let spec = json!({
        "concurrency": {"group": "one"},
        "jobs": {
            "calls": {
                "outputs": {"twice": "${{ steps.c.outputs.twice }}"},
                "steps": [{"id": "c", "workflow": "called", "with": {"n": "${{ fromJSON('21') }}"}}],
            },
            "fails": {"needs": "calls", "steps": [{"id": "m", "env": {"T": "${{ needs.calls.outputs.twice }}"}, "run": mended}]},
        },
    });
    make(&api, WORKFLOWS, "Workflow", "caller", &spec);
    for name in ["caller-1", "caller-2"] {
        make(&api, WORKFLOW_RUNS, "WorkflowRun", name, &json!({"workflow": "caller"}));
    }
    for name in ["caller-1", "caller-2"] {
        let (reason, status) = over(&api, name);
        assert_eq!(
            (reason.as_str(), &status["jobs"]["calls"]["outputs"]["twice"]),
            ("Failure", &json!("42")),
            "{status}"
        );
    }
    let [first, second] = ["caller-1", "caller-2"].map(|name| find(&api, name)["status"].clone());
    let time = |status: &Value, field: &str| status[field].as_str().unwrap().to_owned();
    assert!(time(&first, "completionTime") <= time(&second, "startTime"), "one at a time");
    fs::write(world.root().join("mended"), "").unwrap();
    let again = json!({"rerun": {"of": "caller-1", "jobs": "Failed"}});
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "caller-3", &again);
    let (reason, status) = over(&api, "caller-3");
    assert_eq!(reason, "Success", "{status}");
    assert_eq!(status["jobs"]["calls"], first["jobs"]["calls"], "what succeeded stays what it was");
}

/// Thirty jobs in five rows, each needing two of the row before, each of two steps that say that they were begun.
fn many(proof: &str) -> Value {
    let step = |id: &str| json!({"id": id, "run": format!("echo $APPM_JOB/$APPM_STEP >> {proof}; sleep 0.03")});
    let mut jobs = serde_json::Map::new();
    for row in 0..5 {
        for at in 0..6 {
            let needs: Vec<String> = if row == 0 {
                vec![]
            } else {
                vec![format!("j{}{at}", row - 1), format!("j{}{}", row - 1, (at + 1) % 6)]
            };
            let outputs = json!({"n": "${{ steps.a.outcome }}"});
            let job = json!({"needs": needs, "outputs": outputs, "steps": [step("a"), step("b")]});
            jobs.insert(format!("j{row}{at}"), job);
        }
    }
    json!({"jobs": jobs})
}

#[test]
fn killing_the_server_at_any_moment_changes_nothing_about_a_run_and_begins_no_step_twice() {
    let mut world = world();
    let proof = world.root().join("proof");
    let api = world.api();
    make(&api, WORKFLOWS, "Workflow", "many", &many(&proof.display().to_string()));
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "many-1", &json!({"workflow": "many"}));
    let mut dice = Dice::new(7);
    for _ in 0..8 {
        dice.pause(150);
        world.kill_server();
        world.start();
    }
    let (reason, status) = over(&world.api(), "many-1");
    assert_eq!(reason, "Success", "{status}");
    let begun = fs::read_to_string(proof).unwrap();
    let mut begun: Vec<&str> = begun.lines().collect();
    begun.sort_unstable();
    let all: Vec<String> =
        (0..5).flat_map(|row| (0..6).flat_map(move |at| ["a", "b"].map(|step| format!("j{row}{at}/{step}")))).collect();
    assert_eq!(begun, all);
    let bad: Vec<_> = states(&status).into_iter().filter(|(_, word)| word != "Success a:Success b:Success").collect();
    assert!(bad.is_empty(), "{bad:?}");
}
