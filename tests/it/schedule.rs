//! Schedules on a real server: Runs at their times, each once, through kill -9; paused, resumed and triggered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::{Dice, World, look_away, wait_for};

const RUNS: &str = "/apis/appm.dev/v1/namespaces/default/runs";
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
    let answer = world.api().ask(
        "POST",
        "/apis/appm.dev/v1/namespaces/default/schedules",
        "application/json",
        tick().to_string().as_bytes(),
    );
    let answer = answer.unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
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
