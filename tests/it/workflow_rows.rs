//! Rows of quick steps, which are made ahead, with real processes: each is done once and in its order, whoever is killed, and what one of them
//! sets, how it ends and who cancels it decides about those behind it.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{Dice, World, wait_for},
    workflows::{WORKFLOW_RUNS, WORKFLOWS, ask, find, make, over},
};

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";
const INSTANCES: &str = "/apis/appm.dev/v1/namespaces/default/instances";

fn world() -> World {
    let mut world = World::new();
    world.start();
    world
}

/// That many steps, each of which says that it was done.
fn steps(count: usize, proof: &str) -> Vec<Value> {
    (0..count).map(|n| json!({"id": format!("s{n}"), "run": format!("echo {n} >> {proof}"), "shell": "sh"})).collect()
}

/// Nothing is left of what was made ahead and not done: so many Runs and Instances are there, each of one attempt.
fn nothing_is_left(world: &World, begun: usize) {
    let api = world.api();
    let all = |path: &str| api.get(path).ok().flatten().unwrap_or_default()["items"].as_array().cloned();
    wait_for("as many runs and instances as steps that were begun", || {
        let (runs, instances) = (all(RUNS).unwrap_or_default(), all(INSTANCES).unwrap_or_default());
        let once = runs.iter().all(|run| run["status"]["attempts"] == 1);
        let same = runs.len() == begun && instances.len() == begun && once;
        if same { Ok(()) } else { Err(format!("{} runs, {} instances", runs.len(), instances.len())) }
    });
}

#[test]
fn what_a_step_of_a_row_sets_reaches_those_behind_it_and_a_failure_ends_the_row() {
    let world = world();
    let proof = world.root().join("proof").display().to_string();
    let api = world.api();
    let mut row = steps(40, &proof);
    row[9]["run"] =
        json!(format!("echo 9 >> {proof}; echo COLOUR=blue >> $GITHUB_ENV; echo {proof}.d >> $GITHUB_PATH"));
    row[10]["run"] = json!(format!("echo $COLOUR >> {proof}; echo $PATH | grep -q ^{proof}.d:"));
    row[20]["run"] = json!(format!("echo 20 >> {proof}; exit 3"));
    row[20]["continue-on-error"] = json!(true);
    row[25]["run"] = json!(format!("echo ${{{{ steps.s20.outcome }}}} >> {proof}"));
    row[30]["run"] = json!(format!("echo 30 >> {proof}; exit 4"));
    row[35]["if"] = json!("failure()");
    make(&api, WORKFLOWS, "Workflow", "row", &json!({"jobs": {"row": {"steps": row}}}));
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "row-1", &json!({"workflow": "row"}));
    let (reason, status) = over(&api, "row-1");
    assert_eq!(reason, "Failure", "{status}");
    let done = |n: usize| match n {
        10 => "blue".to_owned(),
        25 => "failure".to_owned(),
        n => n.to_string(),
    };
    let expected: Vec<String> = (0..=30).chain([35]).map(done).collect();
    let proof = fs::read_to_string(&proof).unwrap();
    assert_eq!(proof.lines().collect::<Vec<_>>(), expected);
    let state = |n: usize| status["jobs"]["row"]["steps"][n]["state"].clone();
    assert_eq!([state(20), state(30), state(31), state(35)], ["Failure", "Failure", "Skipped", "Success"]);
    nothing_is_left(&world, 32);
}

#[test]
fn a_row_is_done_once_and_in_its_order_whenever_the_server_is_killed() {
    let mut world = world();
    let proof = world.root().join("proof");
    let api = world.api();
    let row = json!({"jobs": {"row": {"steps": steps(120, &proof.display().to_string())}}});
    make(&api, WORKFLOWS, "Workflow", "row", &row);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "row-1", &json!({"workflow": "row"}));
    let mut dice = Dice::new(11);
    for _ in 0..6 {
        dice.pause(200);
        world.kill_server();
        world.start();
    }
    let (reason, status) = over(&world.api(), "row-1");
    assert_eq!(reason, "Success", "{status}");
    let done = fs::read_to_string(proof).unwrap();
    let expected: Vec<String> = (0..120).map(|n| n.to_string()).collect();
    assert_eq!(done.lines().collect::<Vec<_>>(), expected);
    nothing_is_left(&world, 120);
}

#[test]
fn a_row_that_is_cancelled_begins_nothing_more() {
    let world = world();
    let proof = world.root().join("proof");
    let api = world.api();
    let mut row = steps(40, &proof.display().to_string());
    row[12]["run"] = json!("sleep 600");
    make(&api, WORKFLOWS, "Workflow", "row", &json!({"jobs": {"row": {"steps": row}}}));
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "row-1", &json!({"workflow": "row"}));
    wait_for("the step that takes long", || {
        let run = find(&api, "row-1");
        let state = &run["status"]["jobs"]["row"]["steps"][12]["state"];
        if state == "Running" { Ok(()) } else { Err(run["status"].to_string()) }
    });
    ask(&api, "row-1", &json!({"cancel": "Stop"}));
    let (reason, status) = over(&api, "row-1");
    assert_eq!(reason, "Canceled", "{status}");
    assert_eq!(fs::read_to_string(proof).unwrap().lines().count(), 12);
    nothing_is_left(&world, 13);
}
