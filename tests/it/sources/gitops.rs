//! `manifests/gitops` as docs/gitops.md tells it: from `git push` to Ready, through a mistake, and back.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::{Repository, appm};
use crate::harness::{World, wait_for};

const SOURCE: &str = "/apis/appm.dev/v1/namespaces/shop/sources/shop";
const APP: &str = "/apis/appm.dev/v1/namespaces/shop/apps/storefront";

fn ready(world: &World, path: &str) -> (String, String) {
    let object = world.api().get(path).ok().flatten().unwrap_or_default();
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (format!("{} {}", text("status"), text("reason")), text("message"))
}

/// What each copy of the shop says.
fn greetings(world: &World) -> Vec<String> {
    let app = world.api().get(APP).unwrap().unwrap_or_default();
    let endpoints = app["status"]["endpoints"].as_array().cloned().unwrap_or_default();
    let ask = |endpoint: &Value| {
        let port = endpoint["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().last().unwrap_or_default().to_owned()
    };
    endpoints.iter().filter(|endpoint| endpoint["ready"] == true).map(ask).collect()
}

/// Pushes what is in the work tree, and waits until the Source says so of it.
fn push(world: &World, work: &Repository, expected: &str) -> String {
    work.git(&["push", "--quiet", "origin", "main"]);
    let head = work.git(&["rev-parse", "HEAD"]);
    drop(world.command(&["source", "sync", "shop", "-n", "shop", "--timeout", "50s"]));
    wait_for(&format!("the source to be `{expected}` at {head}"), || {
        let source = world.api().get(SOURCE).map_err(|e| e.to_string())?.unwrap_or_default();
        let status = &source["status"];
        let of = if expected.starts_with("True") { "lastAppliedRevision" } else { "lastAttemptedRevision" };
        let seen = status[of].as_str().is_some_and(|revision| revision.ends_with(&head));
        match ready(world, SOURCE) {
            (found, message) if found == expected && seen => Ok(message),
            found => Err(format!("{found:?}: {status}")),
        }
    })
}

fn change(work: &Repository, file: &str, from: &str, to: &str) {
    let path = work.0.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    work.commit(&[(file, Some(&text.replace(from, to)))]);
}

#[test]
fn from_git_push_to_ready_through_a_mistake_and_back() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/gitops");
    let mut world = World::new();
    world.start();
    let work = Repository::new(world.root().join("shop"));
    let origin = world.root().join("shop.git");
    work.git(&["init", "--quiet", "--bare", "--initial-branch=main", &origin.display().to_string()]);
    work.git(&["remote", "add", "origin", &origin.display().to_string()]);
    let copied = Command::new("cp").arg("-R").arg(example.join(".")).arg(&work.0).status().unwrap();
    assert!(copied.success());
    work.commit(&[]);
    work.git(&["push", "--quiet", "origin", "main"]);
    // What the CI file does.
    appm(&world, &["workflow", "lint", &work.0.join("prod/jobs/smoke.yaml").display().to_string()]);
    // Once, by whoever may.
    let bootstrap = fs::read_to_string(work.0.join("bootstrap/shop.yaml")).unwrap();
    let bootstrap = bootstrap.replace("https://git.example.org/shop.git", &format!("file://{}", origin.display()));
    let is_root = nix::unistd::geteuid().is_root();
    let line = |line: &&str| is_root || !line.contains("execUser");
    let bootstrap: String = bootstrap.split_inclusive('\n').filter(line).collect();
    fs::write(world.root().join("bootstrap.yaml"), bootstrap).unwrap();
    appm(&world, &["apply", "-f", &world.root().join("bootstrap.yaml").display().to_string()]);
    assert_eq!(push(&world, &work, "True Applied"), "5 objects");
    assert_eq!(greetings(&world), ["hello from the shop, version 1.0"; 2]);
    let app = world.api().get(APP).unwrap().unwrap();
    assert_eq!(app["metadata"]["annotations"]["appm.dev/owner"], "shop-gitops");
    // A release.
    change(&work, "prod/storefront.yaml", "\"1.0\"", "\"1.1\"");
    push(&world, &work, "True Applied");
    assert_eq!(greetings(&world), ["hello from the shop, version 1.1"; 2]);
    // A mistake is named at its place; so is what a commit may not do. What runs, runs on.
    change(&work, "prod/storefront.yaml", "replicas: 2", "replica: 2");
    let message = push(&world, &work, "False Refused");
    assert!(message.contains("storefront.yaml:6:3: spec.replica: "), "{message}");
    work.git(&["revert", "--no-edit", "HEAD"]);
    let role = fs::read_to_string(work.0.join("bootstrap/shop.yaml")).unwrap();
    work.commit(&[("prod/role.yaml", Some(&role))]);
    let message = push(&world, &work, "False Refused");
    assert!(message.contains("role.yaml:2:1: ") && message.contains("User \"shop-gitops\" cannot"), "{message}");
    assert_eq!(greetings(&world), ["hello from the shop, version 1.1"; 2]);
    // Much that goes at once is held.
    work.commit(&[("prod/role.yaml", None), ("prod/stock.yaml", None), ("prod/jobs/nightly.yaml", None)]);
    let message = push(&world, &work, "False PruneLimit");
    assert!(message.contains("set spec.maxPrunePercent to 40"), "{message}");
    // Back to what was released first, as a commit like any other.
    let first = work.git(&["rev-list", "--max-parents=0", "HEAD"]);
    work.git(&["restore", "--source", &first, "."]);
    work.commit(&[]);
    push(&world, &work, "True Applied");
    assert_eq!(greetings(&world), ["hello from the shop, version 1.0"; 2]);
    appm(&world, &["workflow", "run", "smoke", "-n", "shop", "-f"]);
}
