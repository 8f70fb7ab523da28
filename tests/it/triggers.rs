//! What starts a workflow by itself: each thing that happens once, through kill -9, and nothing where nobody is there as whom it could act.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{Dice, INSTANCES, World, app, wait_for},
    workflows::{WORKFLOW_RUNS, WORKFLOWS, make},
};

fn exits(world: &World) -> Result<u64, String> {
    let all = world.api().list(INSTANCES).map_err(|e| e.to_string())?;
    let web = all.iter().find(|i| i["metadata"]["labels"]["appm.dev/app"] == "web");
    Ok(web.and_then(|i| i["status"]["lastExit"]["attempt"].as_u64()).unwrap_or(0))
}

fn runs(world: &World) -> Vec<Value> {
    world.api().list(WORKFLOW_RUNS).unwrap()
}

fn ready(world: &World, name: &str) -> Value {
    let workflow = world.api().get(&format!("{WORKFLOWS}/{name}")).unwrap().unwrap();
    let conditions = workflow["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == "Ready").unwrap_or_default()
}

/// Waits until the steps of all runs together have written these lines, and one run is left.
fn until_proof(world: &World, expected: &[&str]) {
    let proof = || fs::read_to_string(world.root().join("proof")).unwrap_or_default();
    wait_for(&format!("{expected:?}"), || match (proof(), runs(world).len()) {
        (proof, 1) if proof.lines().eq(expected.iter().copied()) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn each_exit_that_fits_starts_one_run_through_kill_9_and_its_step_reads_what_happened() {
    let mut world = World::new();
    world.start();
    let root = world.root().display().to_string();
    let script =
        format!("while ! [ -s {root}/go ]; do sleep 0.02; done; read -r code < {root}/go; rm {root}/go; exit $code");
    let mut web = app(&world, "web", 1, &script);
    web["spec"]["restart"] = json!({"backoff": {"initial": "10ms", "max": "10ms"}});
    assert!(world.api().apply(&web).unwrap().is_ok());
    let note = format!("echo \"$FACTS\" >> {root}/proof");
    let facts = "${{ github.event.event }} ${{ github.event.attempt }} ${{ github.event.exit_code }}";
    let spec = json!({
        "on": {"app_event": {"app": "web", "events": ["EXIT", "REMOVED"], "condition": "event == 'REMOVED' || exit_code == 3"}},
        "execution_identity": "admin", "runs_history_limit": 1,
        "jobs": {"j": {"steps": [{"env": {"FACTS": facts}, "run": note}]}},
    });
    make(&world.api(), WORKFLOWS, "Workflow", "look", &spec);
    wait_for("the trigger to be ready", || match ready(&world, "look")["status"] == "True" {
        true => Ok(()),
        false => Err(ready(&world, "look").to_string()),
    });
    let mut dice = Dice::new(3);
    let mut told = Vec::new();
    for (attempt, code) in [(1, 3), (2, 0), (3, 3), (4, 3)] {
        if attempt == 3 {
            world.kill_server();
        }
        fs::write(world.root().join("next"), format!("{code}\n")).unwrap();
        fs::rename(world.root().join("next"), world.root().join("go")).unwrap();
        if attempt >= 3 {
            dice.pause(100);
            if attempt > 3 {
                world.kill_server();
            }
            world.start();
        }
        wait_for("the exit to be seen", || match exits(&world)? {
            seen if seen >= attempt => Ok(()),
            seen => Err(format!("{seen} of {attempt}")),
        });
        if code == 3 {
            told.push(format!("EXIT {attempt} 3"));
        }
        until_proof(&world, &told.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(world.api().ask("DELETE", &format!("{}/web", crate::harness::APPS), "", b"").unwrap().is_ok());
    until_proof(&world, &["EXIT 1 3", "EXIT 3 3", "EXIT 4 3", "REMOVED  "]);
}

#[test]
fn nothing_is_started_by_itself_in_the_name_of_nobody_and_the_workflow_says_so() {
    let mut world = World::new();
    world.start();
    let web = app(&world, "web", 1, "exec sleep 1000");
    assert!(world.api().apply(&web).unwrap().is_ok());
    let spec = json!({
        "on": {"app_event": {"app": "web", "events": ["STATUS"]}}, "execution_identity": "gone",
        "jobs": {"j": {"steps": [{"run": "true"}]}},
    });
    make(&world.api(), WORKFLOWS, "Workflow", "look", &spec);
    wait_for("the trigger to be ready", || match ready(&world, "look")["status"] == "True" {
        true => Ok(()),
        false => Err(ready(&world, "look").to_string()),
    });
    assert!(world.command(&["stop", "web"]).status.success());
    wait_for("the refusal", || {
        let told = ready(&world, "look");
        if told["reason"] == "RunRefused" { Ok(()) } else { Err(told.to_string()) }
    });
    let told = ready(&world, "look")["message"].as_str().unwrap().to_owned();
    assert!(told.contains("no user `gone`"), "{told}");
    assert_eq!(runs(&world), Vec::<Value>::new());
}

#[test]
fn a_schedule_that_is_refused_holds_back_no_event() {
    const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
    let mut world = World::new();
    world.start();
    let web = app(&world, "web", 1, "exec sleep 1000");
    assert!(world.api().apply(&web).unwrap().is_ok());
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"count/schedules.appm.dev": "0"}},
    });
    assert!(world.api().ask("POST", QUOTAS, "application/json", quota.to_string().as_bytes()).unwrap().is_ok());
    let spec = json!({
        "on": {"schedule": [{"cron": "@yearly"}], "app_event": {"app": "web", "events": ["STATUS"]}}, "execution_identity": "admin",
        "jobs": {"j": {"steps": [{"run": "true"}]}},
    });
    make(&world.api(), WORKFLOWS, "Workflow", "both", &spec);
    wait_for("the refusal", || {
        let told = ready(&world, "both");
        let message = told["message"].as_str().unwrap_or_default();
        if message.starts_with("its schedules could not be made") { Ok(()) } else { Err(told.to_string()) }
    });
    assert!(world.command(&["stop", "web"]).status.success());
    wait_for("the run of the event", || match runs(&world).as_slice() {
        [run] if run["spec"]["event"]["name"] == "app_event" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn times_start_runs_and_the_schedules_for_them_come_and_go_with_what_the_workflow_says() {
    const SCHEDULES: &str = "/apis/appm.dev/v1/namespaces/default/schedules";
    let mut world = World::new();
    world.start();
    let api = world.api();
    let with = |on: Value| {
        let spec = json!({"on": on, "execution_identity": "admin", "jobs": {"j": {"steps": [{"run": "true"}]}}});
        json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "tick", "namespace": "default"}, "spec": spec})
    };
    let apply = |on: Value| {
        let path = format!("{WORKFLOWS}/tick?fieldManager=proof&force=true");
        let answer = api.ask("PATCH", &path, "application/apply-patch+yaml", with(on).to_string().as_bytes()).unwrap();
        assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
    };
    let schedules = || {
        let all = api.list(SCHEDULES).unwrap();
        all.iter().map(|schedule| schedule["spec"]["cron"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let until = |expected: &[&str]| {
        wait_for(&format!("the schedules {expected:?}"), || match schedules() {
            found if found == expected => Ok(()),
            found => Err(format!("{found:?}")),
        });
    };
    apply(json!({"schedule": [{"cron": "* * * * * *"}]}));
    until(&["* * * * * *"]);
    wait_for("two runs to succeed", || {
        let all = runs(&world);
        let of_time =
            all.iter().filter(|run| run["spec"]["event"]["name"] == "schedule" && run["spec"]["identity"] == "admin");
        let done = of_time.filter(|run| run["status"]["conditions"].to_string().contains("\"Complete\"")).count();
        if done >= 2 { Ok(()) } else { Err(format!("{all:?}")) }
    });
    apply(json!({"schedule": [{"cron": "@yearly", "timeZone": "Europe/Berlin"}]}));
    until(&["@yearly"]);
    apply(json!({"manual": {}}));
    until(&[]);
}
