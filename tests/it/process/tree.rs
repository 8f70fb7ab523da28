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
    let script = "setsid -f sleep 1000\nsh -c 'sleep 98765 & echo up; wait'\n";
    apply(&world, &app("tree", script, json!({})));
    printed(&world, "tree", "up\n");
    let one = instance(&world, "tree", "the process", |one| one["status"]["state"]["running"].is_object());
    let name = one["metadata"]["name"].as_str().unwrap();
    let sh = || Some("\"sh\"".to_owned());
    let wanted = [("sh", None), ("sh", sh()), ("sleep", sh()), ("sleep", None)];
    let wanted = wanted.map(|(name, parent)| (format!("\"{name}\""), parent)).to_vec();
    wait_for("the tree", || {
        let mut told = tree(&world, name);
        told[1..].sort_by_key(|(name, parent)| (name.clone(), parent.is_none()));
        if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    });
    for words in [["top", "tree", "--tree"].as_slice(), &["describe", "instance", name]] {
        let said = String::from_utf8(world.command(words).stdout).unwrap();
        assert!(said.contains("└─ sleep") && !said.contains("98765"), "{said}");
    }
    let told = world.api().get(&format!("{INSTANCES}/{name}/processes")).unwrap().unwrap();
    assert!(!told.to_string().contains("98765"), "{told}");
}
