//! Who an instance consists of, as people and programs are told.

use serde_json::{Value, json};

use super::{app, apply, instance, printed};
use crate::harness::{INSTANCES, World, wait_for};

/// The instance's processes, as `(name, name of its parent if that is one of them)`.
fn tree(world: &World, name: &str) -> Vec<(String, Option<String>)> {
    let told = world.api().get(&format!("{INSTANCES}/{name}/processes")).unwrap().unwrap();
    let items = told["items"].as_array().unwrap();
    let named = |pid: &Value| items.iter().find(|item| item["pid"] == *pid).map(|item| item["name"].to_string());
    items.iter().map(|item| (item["name"].to_string(), named(&item["ppid"]))).collect()
}

#[test]
fn the_processes_of_an_instance_are_told_each_below_its_parent_and_without_their_words() {
    let mut world = World::new();
    world.start();
    // A child, a grandchild that is told a secret, and a daemon that has left its session and its parent.
    let script = "setsid -f sleep 1000\nsh -c 'sleep 98765.25 & echo up; wait'\n";
    apply(&world, &app("tree", script, json!({})));
    printed(&world, "tree", "up\n");
    let one = instance(&world, "tree", "the process", |one| one["status"]["state"]["running"].is_object());
    let name = one["metadata"]["name"].as_str().unwrap();
    let sh = || Some("\"sh\"".to_owned());
    let wanted = [("sh", None), ("sh", sh()), ("sleep", sh()), ("sleep", None)];
    let wanted = wanted.map(|(name, parent)| (format!("\"{name}\""), parent)).to_vec();
    wait_for("the tree", || {
        let mut told = tree(&world, name);
        if let Some(rest) = told.get_mut(1..) {
            rest.sort_by_key(|(name, parent)| (name.clone(), parent.is_none()));
        }
        if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    });
    for words in [["top", "apps", "tree", "--tree"].as_slice(), &["describe", "instance", name]] {
        let said = String::from_utf8(world.command(words).stdout).unwrap();
        // What is declared is shown before it.
        let told = &said[said.find("Processes:").unwrap_or(0)..];
        assert!(told.contains("└─ sleep") && !told.contains("98765.25"), "{said}");
    }
    let told = world.api().get(&format!("{INSTANCES}/{name}/processes")).unwrap().unwrap();
    assert!(!told.to_string().contains("98765.25"), "{told}");
}

/// Leaves its children unburied: one of its own, and one of a child that has gone before.
const CARELESS: &str = "#!/usr/bin/env python3
import os, signal
if os.fork() == 0:
    os._exit(0)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os._exit(0)
    os._exit(0)
print('up', flush=True)
signal.pause()
";

#[test]
fn children_that_nobody_waits_for_are_told_of_and_go_with_their_parent() {
    let mut world = World::new();
    world.start();
    apply(&world, &app("careless", CARELESS, json!({})));
    printed(&world, "careless", "up\n");
    let one = instance(&world, "careless", "the process", |one| one["status"]["state"]["running"].is_object());
    let path = format!("{INSTANCES}/{}/processes", one["metadata"]["name"].as_str().unwrap());
    let (parent, zombies) = wait_for("its children", || {
        let told = world.api().get(&path).unwrap().unwrap();
        let items = told["items"].as_array().unwrap();
        let zombies: Vec<i64> = items.iter().filter(|i| i["state"] == "Z").filter_map(|i| i["pid"].as_i64()).collect();
        // The grandchild fell to the keeper, which buried it.
        if (items.len(), zombies.len()) == (3, 2) {
            Ok((items[0]["pid"].as_i64().unwrap(), zombies))
        } else {
            Err(told.to_string())
        }
    });
    assert!(world.command(&["stop", "careless"]).status.success());
    wait_for("all of them to go", || {
        let left = [&zombies[..], &[parent]].concat();
        let left: Vec<_> =
            left.into_iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
