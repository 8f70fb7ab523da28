//! An App's resources, from its manifest to the kernel and back into its status, with servers and keepers killed on the way.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::harness::{World, wait_for};

fn app(name: &str, words: &[&str], resources: Value, restart_policy: &str) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name},
        "spec": {"process": {"command": words}, "resources": resources, "restartPolicy": restart_policy,
                 "restart": {"backoff": {"initial": "1h", "max": "1h"}}},
    })
}

fn apply(world: &World, apps: &[Value]) {
    let path = world.root().join("apps.json");
    fs::write(&path, json!({"apiVersion": "v1", "kind": "List", "items": apps}).to_string()).unwrap();
    said(world, &["apply", "-f", path.to_str().unwrap()]);
}

fn said(world: &World, words: &[&str]) -> String {
    let output = world.command(words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn instance(world: &World, app: &str) -> Option<Value> {
    let selector = format!("appm.dev/app={app}");
    let list: Value = serde_json::from_str(&said(world, &["get", "instances", "-l", &selector, "-o", "json"])).unwrap();
    let items = if list["kind"] == "Instance" { vec![list] } else { list["items"].as_array()?.clone() };
    items.into_iter().next()
}

/// Waits until `app`'s instance runs; none, loudly, where limits cannot be enforced; never in CI.
fn running(world: &World, app: &str) -> Option<Value> {
    wait_for("it to run", || {
        let found = instance(world, app).ok_or("there is none")?;
        let state = &found["status"]["state"];
        if state["waiting"]["reason"] == "ResourcesUnavailable" {
            assert!(std::env::var_os("CI").is_none(), "{state}");
            eprintln!("SKIPPED, limits cannot be tested here: {state}");
            return Ok(None);
        }
        if state["running"].is_object() { Ok(Some(found)) } else { Err(found["status"].to_string()) }
    })
}

/// The groups of this instance's first attempt.
fn groups(instance: &Value) -> Vec<PathBuf> {
    let leaf = format!("{}-1", instance["metadata"]["uid"].as_str().unwrap());
    let found = Command::new("find").args(["/sys/fs/cgroup", "-name", &leaf, "-type", "d"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

#[test]
fn limits_hold_and_out_of_memory_is_told_though_server_and_keeper_were_killed() {
    let mut world = World::new();
    world.start();
    let go = world.root().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; exec tail /dev/zero", go.display());
    let limits = json!({"limits": {"memory": "24Mi", "pids": "10"}, "requests": {"cpu": "100m"}});
    apply(&world, &[app("grows", &["sh", "-c", &wait], limits, "Never")]);
    let Some(before) = running(&world, "grows") else { return };
    assert!(!groups(&before).is_empty());
    world.kill_server();
    let keeper = world.own_process("keeper").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper.cast_signed()), nix::sys::signal::SIGKILL).unwrap();
    world.start();
    fs::write(&go, "").unwrap();
    let after = wait_for("it to run out of memory", || {
        let found = instance(&world, "grows").unwrap();
        if found["status"]["lastExit"].is_object() { Ok(found) } else { Err(found["status"].to_string()) }
    });
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["lastExit"]["oomKilled"], true, "{}", after["status"]);
    let message = after["status"]["state"]["exited"]["message"].as_str().unwrap();
    assert!(message.contains("ran out of memory"), "{message}");
    wait_for("its groups to go", || match groups(&before) {
        dirs if dirs.is_empty() => Ok(()),
        dirs => Err(format!("{dirs:?}")),
    });
    wait_for("the event", || {
        let events = said(&world, &["get", "events"]);
        if events.contains("OOMKilled") { Ok(()) } else { Err(events) }
    });
    said(&world, &["server", "stop", "--apps"]);
}

/// What stands in this file of the instance's groups.
fn in_group(instance: &Value, names: &[&str]) -> Option<String> {
    let files = groups(instance).into_iter().flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    files.filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned()).next()
}

#[test]
fn limits_of_what_runs_are_changed_without_a_restart() {
    let mut world = World::new();
    world.start();
    let with = |memory: &str, pids: &str| {
        // It holds some 24 MiB.
        let words =
            ["python3", "-c", "import time; held = bytearray(24 << 20); print('up', flush=True); time.sleep(1e6)"];
        app("steady", &words, json!({"limits": {"memory": memory, "pids": pids}}), "Always")
    };
    apply(&world, &[with("200Mi", "30")]);
    let Some(before) = running(&world, "steady") else { return };
    wait_for("its memory", || match said(&world, &["logs", "steady"]) {
        said if said.contains("up") => Ok(()),
        said => Err(said),
    });
    let told = |world: &World, what: &str, look: &dyn Fn(&Value) -> bool| {
        wait_for(what, || {
            let found = instance(world, "steady").ok_or("there is none")?;
            if look(&found["status"]) { Ok(found) } else { Err(found["status"].to_string()) }
        })
    };
    let limits = |status: &Value| {
        (status["resources"]["limits"]["memory"].clone(), status["resources"]["limits"]["pids"].clone())
    };
    assert_eq!(limits(&before["status"]), (json!("200Mi"), json!("30")));
    apply(&world, &[with("300Mi", "40")]);
    let after = told(&world, "more", &|status| limits(status) == (json!("300Mi"), json!("40")));
    let pid = |one: &Value| one["status"]["state"]["running"]["pid"].clone();
    let same =
        |one: &Value| assert_eq!((&one["metadata"]["uid"], pid(one)), (&before["metadata"]["uid"], pid(&before)));
    same(&after);
    let memory = ["memory.max", "memory.limit_in_bytes"];
    assert_eq!(in_group(&after, &memory).as_deref(), Some("314572800"));
    assert_eq!(in_group(&after, &["pids.max"]).as_deref(), Some("40"));

    // Less than it uses: it goes on as it was, and that is told.
    apply(&world, &[with("8Mi", "40")]);
    let refused = |status: &Value| {
        let resized = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Resized");
        resized.is_some_and(|one| one["reason"] == "InUse" && one["message"].to_string().contains("8 MiB"))
    };
    let refused = told(&world, "the refusal", &refused);
    same(&refused);
    assert_eq!(in_group(&refused, &memory).as_deref(), Some("314572800"));

    // A new server knows what is in force; what is not limited any more is lifted.
    world.kill_server();
    world.start();
    let mut free = with("1Gi", "1");
    free["spec"]["resources"] = json!({"limits": {"pids": "50"}});
    apply(&world, &[free]);
    let lifted = told(&world, "no limit of memory", &|status| limits(status) == (Value::Null, json!("50")));
    same(&lifted);
    assert!(!lifted["status"]["conditions"].to_string().contains("Resized"), "{}", lifted["status"]);
    let unlimited = in_group(&lifted, &memory).unwrap();
    assert!(unlimited == "max" || unlimited.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 50), "{unlimited}");
    assert_eq!(said(&world, &["get", "revisions", "-o", "name"]).lines().count(), 1);
    said(&world, &["server", "stop", "--apps"]);
}

#[test]
fn kubectl_and_appm_show_what_is_used_now() {
    let mut world = World::new();
    world.start();
    let busy = "while :; do :; done & exec sleep 100000";
    let none = json!({});
    apply(
        &world,
        &[app("busy", &["sh", "-c", busy], none.clone(), "Always"), app("quiet", &["sleep", "100000"], none, "Always")],
    );
    running(&world, "busy");
    running(&world, "quiet");
    let rows = wait_for("figures of both", || {
        let shown = said(&world, &["top", "apps", "--no-headers", "--sort-by=cpu"]);
        let rows: Vec<Vec<String>> =
            shown.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        // The processor time of a child counts.
        match rows.as_slice() {
            [first, _] if first[0] == "busy" && first[1] != "0m" => Ok(rows),
            _ => Err(shown),
        }
    });
    // NAME CPU MEMORY INSTANCES PROCESSES THREADS FDS
    assert_eq!((&*rows[0][3], &*rows[0][4], &*rows[1][4]), ("1", "2", "1"), "{rows:?}");
    let nodes = said(&world, &["top", "nodes", "--no-headers"]);
    assert!(nodes.contains('%'), "{nodes}");

    let kubectl = |words: &[&str]| {
        let output =
            Command::new("kubectl").arg("--kubeconfig").arg(world.data().join("kubeconfig")).args(words).output();
        output.ok().map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    match kubectl(&["top", "pods", "--no-headers"]) {
        None => assert!(std::env::var_os("CI").is_none(), "there must be a kubectl"),
        Some(pods) => {
            assert!(pods.lines().count() == 2 && pods.contains("busy-") && pods.contains("Mi"), "{pods}");
            let nodes = kubectl(&["top", "nodes"]).unwrap();
            assert!(nodes.contains("MEMORY") && nodes.contains('%'), "{nodes}");
            let described = kubectl(&["describe", "nodes"]).unwrap();
            for word in ["MemoryPressure", "DiskPressure", "ephemeral-storage", "Non-terminated Pods"] {
                assert!(described.contains(word), "{word}: {described}");
            }
        }
    }
    said(&world, &["server", "stop", "--apps"]);
}
