//! Schedules on a real server: Runs at their times, each once, through kill -9; paused, resumed and triggered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Dice, World, app, look_away, wait_for};

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";
const WORKFLOW_RUNS: &str = "/apis/appm.dev/v1/namespaces/default/workflowruns";
const TICK: &str = "/apis/appm.dev/v1/namespaces/default/schedules/tick";

fn tick() -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "Schedule", "metadata": {"name": "tick", "namespace": "default"},
        "spec": {
            "every": {"interval": "1s"}, "successfulRunsHistoryLimit": 10000, "failedRunsHistoryLimit": 10000,
            "run": {"process": {"command": ["true"]}},
        },
    })
}

fn make(world: &World, plural: &str, object: &Value) {
    let path = format!("/apis/appm.dev/v1/namespaces/default/{plural}");
    let answer = world.api().ask("POST", &path, "application/json", object.to_string().as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

fn seconds(time: &Value) -> Option<i64> {
    Some(time.as_str()?.parse::<Timestamp>().ok()?.as_second())
}

/// The Runs that time made, by the seconds of their time, each with its uid; what is wrong with one fails the test.
fn made(world: &World) -> Result<BTreeMap<i64, String>, String> {
    let runs = world.api().list(RUNS).map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for run in &runs {
        let meta = &run["metadata"];
        let Some(at) = seconds(&meta["annotations"]["appm.dev/scheduledAt"]) else { continue };
        assert_eq!(meta["name"], format!("tick-{at}"));
        assert_eq!(meta["ownerReferences"][0]["name"], "tick");
        let earlier = found.insert(at, meta["uid"].as_str().unwrap().to_owned());
        assert_eq!(earlier, None, "the time {at} was started twice");
    }
    Ok(found)
}

fn status(world: &World) -> Result<Value, String> {
    Ok(world.api().get(TICK).map_err(|e| e.to_string())?.ok_or("no schedule")?["status"].clone())
}

#[test]
fn each_time_has_one_run_through_kill_9() {
    let mut world = World::new();
    world.start();
    make(&world, "schedules", &tick());
    let mut dice = Dice::new(6);
    let mut before = BTreeMap::new();
    for _ in 0..4 {
        let least = before.len() + 1;
        wait_for("another run", || {
            made(&world).and_then(|m| if m.len() >= least { Ok(()) } else { Err(format!("{m:?}")) })
        });
        // At any moment around a time.
        dice.pause(1000);
        let acknowledged = made(&world).unwrap();
        world.kill_server();
        world.start();
        let now = made(&world).unwrap();
        for (at, uid) in acknowledged {
            assert_eq!(now.get(&at), Some(&uid), "the run of {at} is there, and is the same");
        }
        before = now;
    }
    wait_for("the status to tell of the last run", || {
        let (last, made) = (seconds(&status(&world)?["lastScheduleTime"]), made(&world)?);
        if made.len() > before.len() && last >= made.keys().next_back().copied() {
            Ok(())
        } else {
            Err(format!("{last:?} {made:?}"))
        }
    });

    let said = world.command(&["schedule", "pause", "tick"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    wait_for("it to be paused", || {
        let status = status(&world)?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let paused = conditions.iter().any(|c| c["type"] == "Suspended" && c["status"] == "True");
        if paused && status["nextScheduleTimes"].is_null() { Ok(()) } else { Err(status.to_string()) }
    });
    let paused = made(&world).unwrap();
    let said = world.command(&["schedule", "trigger", "tick", "-o", "name"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("run.appm.dev/tick-manual-"), "{said:?}");
    let said = world.command(&["schedule", "next", "tick", "-n", "3", "-o", "json"]);
    let next: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(next["next"].as_array().map(Vec::len), Some(3), "{next}");
    // Time goes by, and is not made up for.
    let resumed_after = paused.keys().next_back().copied().unwrap_or_default() + 2;
    while seconds(&json!(Timestamp::now().to_string())).unwrap() <= resumed_after {
        look_away();
    }
    assert_eq!(made(&world).unwrap(), paused);
    let said = world.command(&["schedule", "resume", "tick"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    wait_for("it to go on", || {
        made(&world).and_then(|m| if m.len() > paused.len() { Ok(()) } else { Err(format!("{m:?}")) })
    });
    let after = made(&world).unwrap();
    let first = after.keys().find(|at| !paused.contains_key(at)).copied().unwrap();
    assert!(first > resumed_after, "{first} was missed while it was paused until {resumed_after}");
}

/// A Schedule `tick` of each second that does this.
fn ticking(target: &Value) -> Value {
    let mut schedule = tick();
    let spec = schedule["spec"].as_object_mut().unwrap();
    spec.shift_remove("run");
    spec.extend(target.as_object().unwrap().clone());
    schedule
}

#[test]
fn each_time_has_one_run_of_a_workflow_through_kill_9() {
    let mut world = World::new();
    world.start();
    let workflow = json!({
        "apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "etl", "namespace": "default"},
        "spec": {
            "on": {"manual": {"inputs": {"day": {"type": "string", "required": true}}}},
            "jobs": {"load": {"steps": [{"run": "test $DAY = monday", "env": {"DAY": "${{ inputs.day }}"}}]}},
        },
    });
    // The Workflow comes later: until then its absence is told, and nothing is forgotten.
    let schedule = ticking(&json!({"workflow": {"name": "etl", "inputs": {"day": "monday"}}}));
    make(&world, "schedules", &schedule);
    wait_for("the refusal to be told", || {
        let conditions = status(&world)?["conditions"].to_string();
        if conditions.contains("there is no workflow `etl`") { Ok(()) } else { Err(conditions) }
    });
    make(&world, "workflows", &workflow);
    let said = world.command(&["schedule", "trigger", "tick", "-o", "name"]);
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("workflowrun.appm.dev/tick-manual-"), "{said:?}");
    // What was refused is tried again after a while; a change does not wait for that.
    let tried = json!({"metadata": {"annotations": {"tried": "again"}}}).to_string();
    let answer = world.api().ask("PATCH", TICK, "application/merge-patch+json", tried.as_bytes()).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
    let made = |world: &World| -> Result<BTreeMap<i64, String>, String> {
        let runs = world.api().list(WORKFLOW_RUNS).map_err(|e| e.to_string())?;
        let mut found = BTreeMap::new();
        for run in runs {
            let Some(at) = seconds(&run["metadata"]["annotations"]["appm.dev/scheduledAt"]) else { continue };
            assert_eq!(run["metadata"]["name"], format!("tick-{at}"));
            assert_eq!(
                (&run["spec"]["identity"], &run["spec"]["event"]["name"]),
                (&json!("admin"), &json!("schedule"))
            );
            found.insert(at, run["metadata"]["uid"].as_str().unwrap().to_owned());
        }
        Ok(found)
    };
    let mut dice = Dice::new(61);
    let mut before = BTreeMap::new();
    for _ in 0..2 {
        let least = before.len() + 1;
        wait_for("another run", || {
            made(&world).and_then(|m| if m.len() >= least { Ok(()) } else { Err(format!("{m:?}")) })
        });
        dice.pause(1000);
        let acknowledged = made(&world).unwrap();
        world.kill_server();
        world.start();
        before = made(&world).unwrap();
        assert!(acknowledged.iter().all(|(at, uid)| before.get(at) == Some(uid)), "{acknowledged:?} {before:?}");
    }
    wait_for("runs to succeed", || {
        let status = status(&world)?;
        if status["lastSuccessfulTime"].is_string() { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn each_time_sends_one_task_at_most_through_kill_9() {
    let mut world = World::new();
    world.start();
    assert!(world.api().apply(&app(&world, "worker", 1, "exec sleep 1000")).unwrap().is_ok());
    let key = wait_for("the worker to run", || {
        let all = world.processes();
        let key =
            all.iter().filter(|process| process.words[0] == "sleep").find_map(|p| p.variable("APP_MESH_PROCESS_KEY"));
        key.map(str::to_owned).ok_or_else(|| format!("{all:?}"))
    });
    let (api, path) = (world.api(), format!("/appmesh/app/worker/task?process_key={key}"));
    let (fetched, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, ended) = (fetched.clone(), over.clone());
    let working = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            match api.ask("GET", &path, "", b"") {
                Ok(task) if task.code == 200 => {
                    assert_eq!(task.body, b"tock");
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = api.ask("PUT", &path, "", b"done");
                }
                _ => look_away(),
            }
        }
    });
    let schedule = ticking(&json!({"task": {"app": "worker", "payload": "tock", "timeout": "30s"}}));
    make(&world, "schedules", &schedule);
    let sent = |world: &World| -> Result<Vec<Value>, String> {
        let tasks = status(world)?["tasks"].as_array().cloned().unwrap_or_default();
        let times: BTreeSet<Option<i64>> = tasks.iter().map(|task| seconds(&task["scheduledTime"])).collect();
        assert_eq!(times.len(), tasks.len(), "a time was sent twice: {tasks:?}");
        Ok(tasks)
    };
    let mut dice = Dice::new(62);
    for _ in 0..3 {
        let least = sent(&world).unwrap().len() + 1;
        wait_for("another task", || {
            sent(&world).and_then(|t| if t.len() >= least { Ok(()) } else { Err(format!("{t:?}")) })
        });
        dice.pause(1000);
        world.kill_server();
        world.start();
    }
    let ok = |task: &&Value| task["state"] == "Succeeded" && task["result"] == "done";
    wait_for("a result after the last start", || {
        let tasks = sent(&world)?;
        if tasks.last().as_ref().is_some_and(ok) { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
    let said = world.command(&["schedule", "pause", "tick"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let tasks = wait_for("all to be over", || {
        let (tasks, paused) = (sent(&world)?, status(&world)?["nextScheduleTimes"].is_null());
        if paused && tasks.iter().all(|task| task["state"] != "Sent") { Ok(tasks) } else { Err(format!("{tasks:?}")) }
    });
    // Not one more than there are times, whatever was lost.
    let fetched_by_time = fetched.load(Ordering::Relaxed);
    assert!(fetched_by_time <= tasks.len(), "{fetched_by_time} were fetched: {tasks:?}");
    assert!(tasks.iter().filter(ok).count() <= fetched_by_time);
    let said = world.command(&["schedule", "trigger", "tick"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "done", "{said:?}");
    over.store(true, Ordering::Relaxed);
    drop(world);
    working.join().unwrap();
}
