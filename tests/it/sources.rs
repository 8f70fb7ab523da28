//! Sources: what is in a directory or a repository is in the store, whatever editors, pushes and `kill -9` do to it; and nothing goes that should not.

mod approve;
mod faults;
mod gitops;
mod model;
mod notifications;
mod references;
mod sealed;
mod transports;
mod webhook;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    harness::{World, wait_for},
    manifests::appm,
};

const SOURCES: &str = "/apis/appm.dev/v1/namespaces/default/sources";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: \"{value}\"}}\n")
}

/// A server that keeps a directory applied, which has `files` in it.
fn synced(files: &[(&str, &str)]) -> (World, PathBuf) {
    let mut world = World::new();
    let dir = world.root().join("manifests");
    fs::create_dir(&dir).unwrap();
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
    world.set_env("APPM_SYNC_DIR", dir.display().to_string());
    world.start();
    (world, dir)
}

/// The ConfigMaps that are there, by what their one entry says.
fn configs(world: &World) -> BTreeMap<String, String> {
    let all = world.api().list(CONFIG_MAPS).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|config| (text(&config["metadata"]["name"]), text(&config["data"]["value"]))).collect()
}

fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn until(world: &World, expected: &[(&str, &str)]) {
    wait_for(&format!("{expected:?}"), || match configs(world) {
        found if found == pairs(expected) => Ok(()),
        found => Err(format!("{found:?}; {}", said(world, "sync-dir", "Ready").1)),
    });
}

/// Reason and message of a condition.
fn said(world: &World, source: &str, kind: &str) -> (String, String) {
    let source = world.api().get(&format!("{SOURCES}/{source}")).ok().flatten().unwrap_or_default();
    let conditions = source["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Waits until a source says so; what it says.
fn until_said(world: &World, source: &str, kind: &str, reason: &str) -> String {
    wait_for(&format!("{source} to say {reason}"), || match said(world, source, kind) {
        (found, message) if found == reason => Ok(message),
        found => Err(format!("{found:?}")),
    })
}

#[test]
fn a_directory_is_applied_as_editors_and_kubernetes_write_it_and_nothing_is_pruned_by_mistake() {
    let (mut world, dir) = synced(&[("a.yaml", &config("a", "1")), ("b.yaml", &config("b", "1"))]);
    until(&world, &[("a", "1"), ("b", "1")]);
    // An editor writes beside it and renames.
    fs::write(dir.join(".a.yaml.swp"), "half").unwrap();
    fs::write(dir.join("a.yaml~"), config("a", "2")).unwrap();
    fs::rename(dir.join("a.yaml~"), dir.join("a.yaml")).unwrap();
    until(&world, &[("a", "2"), ("b", "1")]);
    // As ConfigMaps are mounted: all at once, by one link.
    for (version, value) in [("..1", "1"), ("..2", "2")] {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("c.yaml"), config("c", value)).unwrap();
        symlink(version, dir.join("..new")).unwrap();
        fs::rename(dir.join("..new"), dir.join("..data")).unwrap();
        if value == "1" {
            symlink("..data/c.yaml", dir.join("c.yaml")).unwrap();
        }
        until(&world, &[("a", "2"), ("b", "1"), ("c", value)]);
    }
    // Broken anywhere: nothing is applied, and the place is named.
    fs::write(dir.join("b.yaml"), config("b", "2")).unwrap();
    until(&world, &[("a", "2"), ("b", "2"), ("c", "2")]);
    fs::write(dir.join("x.yaml"), config("x", "1") + "spec: [\n").unwrap();
    fs::write(dir.join("a.yaml"), config("a", "3")).unwrap();
    let message = until_said(&world, "sync-dir", "Ready", "InvalidManifest");
    assert!(message.contains("x.yaml:5:7: not valid YAML"), "{message}");
    fs::write(dir.join("x.yaml"), config("x", "1").replace("\"1\"", "1")).unwrap();
    let message = until_said(&world, "sync-dir", "Ready", "Refused");
    assert!(message.contains("x.yaml:4:15: data.value: Invalid value: 1"), "{message}");
    assert_eq!(configs(&world), pairs(&[("a", "2"), ("b", "2"), ("c", "2")]));
    fs::remove_file(dir.join("x.yaml")).unwrap();
    until(&world, &[("a", "3"), ("b", "2"), ("c", "2")]);
    // What others change is repaired; what left is pruned, unless it says that it stays.
    appm(&world, &["delete", "configmap", "a"]);
    appm(&world, &["patch", "configmap", "b", "-p", r#"{"data": {"value": "mine"}}"#]);
    until(&world, &[("a", "3"), ("b", "2"), ("c", "2")]);
    appm(&world, &["annotate", "configmap", "b", "appm.dev/prune=disabled"]);
    fs::remove_file(dir.join("c.yaml")).unwrap();
    until(&world, &[("a", "3"), ("b", "2")]);
    fs::remove_file(dir.join("b.yaml")).unwrap();
    wait_for("one object", || match world.api().get(&format!("{SOURCES}/sync-dir")).unwrap().unwrap() {
        source if source["status"]["objects"] == 1 => Ok(()),
        source => Err(source["status"].to_string()),
    });
    assert_eq!(configs(&world), pairs(&[("a", "3"), ("b", "2")]));
    // An empty file, an empty directory, one that cannot be read, none: nothing goes.
    fs::write(dir.join("b.yaml"), config("b", "2")).unwrap();
    until_said(&world, "sync-dir", "Ready", "Applied");
    fs::write(dir.join("a.yaml"), "").unwrap();
    let empty = "1 object; nothing is pruned: a.yaml is empty; delete it, if nothing should be in it";
    wait_for("the empty file to be told", || match said(&world, "sync-dir", "Ready").1 {
        message if message == empty => Ok(()),
        message => Err(message),
    });
    fs::rename(&dir, world.root().join("away")).unwrap();
    until_said(&world, "sync-dir", "Ready", "NotFound");
    fs::create_dir(&dir).unwrap();
    until_said(&world, "sync-dir", "Ready", "Applied");
    assert_eq!(configs(&world), pairs(&[("a", "3"), ("b", "2")]));
    fs::remove_dir(&dir).unwrap();
    fs::rename(world.root().join("away"), &dir).unwrap();
    fs::write(dir.join("a.yaml"), config("a", "4")).unwrap();
    until(&world, &[("a", "4"), ("b", "2")]);
    // What is changed while the server is dead is found; without the flag the Source goes, and its objects stay.
    world.kill_server();
    fs::write(dir.join("a.yaml"), config("a", "5")).unwrap();
    world.start();
    until(&world, &[("a", "5"), ("b", "2")]);
    world.kill_server();
    world.unset_env("APPM_SYNC_DIR");
    world.start();
    wait_for("the source to go", || match world.api().list(SOURCES) {
        Ok(all) if all.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(configs(&world), pairs(&[("a", "5"), ("b", "2")]));
}

/// A repository with a work tree, and what git says in it.
struct Repository(PathBuf);

impl Repository {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        let repository = Self(dir);
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn git(&self, args: &[&str]) -> String {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git")
            .current_dir(&self.0)
            .args(who)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self, files: &[(&str, Option<&str>)]) -> String {
        for (name, text) in files {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text {
                Some(text) => fs::write(path, text).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "change"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn sync(world: &World, source: &str) -> Result<String, String> {
    let output = world.command(&["source", "sync", source, "--timeout", "50s"]);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

#[test]
fn a_repository_is_applied_at_its_commit_and_what_is_wrong_with_it_leaves_everything_as_it_was() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    let (a, b) = (config("a", "1"), config("b", "1"));
    let first = repository.commit(&[
        ("prod/a.yaml", Some(&a)),
        ("prod/sub/b.yaml", Some(&b)),
        ("x.yaml", Some("no manifest: [")),
    ]);
    repository.git(&["tag", "-a", "v1", "-m", "v1"]);
    // Nothing of a repository leads out of it, and nothing of it is run.
    symlink("/etc/passwd", repository.0.join("prod/out.yaml")).unwrap();
    fs::write(
        repository.0.join(".git/hooks/post-checkout"),
        format!("#!/bin/sh\ntouch {}/hooked\n", world.root().display()),
    )
    .unwrap();
    fs::set_permissions(repository.0.join(".git/hooks/post-checkout"), fs::Permissions::from_mode(0o755)).unwrap();
    repository.commit(&[]);
    let url = format!("file://{}", repository.0.display());
    appm(
        &world,
        &["source", "add", "fleet", "--git", &url, "--branch", "main", "--path", "./prod/", "--interval", "1h"],
    );
    until(&world, &[("a", "1"), ("b", "1")]);
    let told = sync(&world, "fleet").unwrap();
    let head = repository.git(&["rev-parse", "HEAD"]);
    assert!(told.contains(&format!("main@sha1:{head}")), "{told}");
    // A force-push; the repository is packed anew.
    repository.git(&["reset", "--quiet", "--hard", &first]);
    repository.commit(&[
        ("prod/a.yaml", Some(&config("a", "2"))),
        ("prod/sub/b.yaml", None),
        ("prod/c.yaml", Some(&config("c", "1"))),
    ]);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "--quiet", "--prune=now"]);
    sync(&world, "fleet").unwrap();
    let expected = pairs(&[("a", "2"), ("c", "1")]);
    assert_eq!(configs(&world), expected);
    // Broken at HEAD.
    let broken = repository.commit(&[("prod/a.yaml", Some("kind: [")), ("prod/c.yaml", None)]);
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("InvalidManifest") && told.contains("a.yaml:1:7"), "{told}");
    let status = world.api().get(&format!("{SOURCES}/fleet")).unwrap().unwrap()["status"].clone();
    assert_eq!(status["lastAttemptedRevision"], format!("main@sha1:{broken}"));
    // The branch is gone, the path is gone, the repository is gone.
    repository.git(&["branch", "--quiet", "-m", "main", "trunk"]);
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("there is no branch `main`"), "{told}");
    repository.git(&["branch", "--quiet", "-m", "trunk", "main"]);
    repository.git(&["mv", "prod", "test"]);
    repository.commit(&[]);
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("there is no directory `prod`"), "{told}");
    fs::rename(&repository.0, world.root().join("away")).unwrap();
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("NotFound"), "{told}");
    assert_eq!(configs(&world), expected);
    fs::rename(world.root().join("away"), &repository.0).unwrap();
    // Our own copy is damaged, and the server dies: it is made anew.
    world.kill_server();
    let copies: Vec<PathBuf> = fs::read_dir(world.data().join("sources")).unwrap().map(|e| e.unwrap().path()).collect();
    let [copy] = &copies[..] else { panic!("{copies:?}") };
    fs::remove_dir_all(copy.join("repository/objects")).unwrap();
    world.start();
    repository.git(&["mv", "test", "prod"]);
    repository.commit(&[("prod/a.yaml", Some(&config("a", "3")))]);
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "3")]));
    // A tag, and a commit; when the Source goes, so does the copy, and its objects stay.
    appm(&world, &["source", "add", "fleet", "--git", &url, "--tag", "v1", "--path", "prod", "--interval", "1h"]);
    until(&world, &[("a", "1"), ("b", "1")]);
    appm(
        &world,
        &["source", "add", "fleet", "--git", &url, "--commit", &first, "--path", "prod/sub", "--interval", "1h"],
    );
    until_said(&world, "fleet", "Ready", "Applied");
    until(&world, &[("b", "1")]);
    appm(&world, &["source", "rm", "fleet"]);
    wait_for("the copy to go", || if copy.exists() { Err("it is there".to_owned()) } else { Ok(()) });
    assert_eq!(configs(&world), pairs(&[("b", "1")]));
    assert!(!world.root().join("hooked").exists());
}

#[test]
fn a_source_can_do_no_more_than_its_identity_and_two_that_claim_one_object_name_each_other() {
    let (world, dir) = synced(&[("a.yaml", &config("a", "1"))]);
    until(&world, &[("a", "1")]);
    let other = world.root().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("b.yaml"), config("b", "1")).unwrap();
    // Nobody is there as whom it could be applied; then somebody who may do nothing.
    appm(&world, &["source", "add", "other", "--directory", &other.display().to_string(), "--identity", "gitops"]);
    let told = until_said(&world, "other", "Ready", "Refused");
    assert!(told.contains("no user `gitops`"), "{told}");
    let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "gitops"}, "spec": {}});
    let write = |object: &Value| {
        fs::write(world.root().join("object.json"), object.to_string()).unwrap();
        appm(&world, &["apply", "-f", &world.root().join("object.json").display().to_string()]);
    };
    write(&user);
    assert!(sync(&world, "other").unwrap_err().contains("Refused"));
    assert_eq!(configs(&world), pairs(&[("a", "1")]));
    let may = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "gitops"},
        "spec": {"roles": [{"name": "edit"}]}});
    write(&may);
    fs::write(other.join("b.yaml"), config("b", "2")).unwrap();
    until(&world, &[("a", "1"), ("b", "2")]);
    let object = world.api().get(&format!("{CONFIG_MAPS}/b")).unwrap().unwrap();
    assert_eq!(object["metadata"]["annotations"]["appm.dev/owner"], "gitops");
    // Both declare it: the owner goes on, the other one waits, and both say so.
    fs::write(other.join("a.yaml"), config("a", "theirs")).unwrap();
    let told = until_said(&world, "other", "Ready", "Conflict");
    assert_eq!(told, "configmap default/a belongs to source default/sync-dir");
    let told = until_said(&world, "sync-dir", "Conflicted", "DeclaredTwice");
    assert_eq!(told, "configmap default/a is declared by source default/other too");
    fs::write(dir.join("c.yaml"), config("c", "1")).unwrap();
    until(&world, &[("a", "1"), ("b", "2"), ("c", "1")]);
    // The owner gives it up: nobody deletes it, and the other one takes it over.
    fs::remove_file(dir.join("a.yaml")).unwrap();
    until(&world, &[("a", "theirs"), ("b", "2"), ("c", "1")]);
    until_said(&world, "other", "Ready", "Applied");
    // Suspended, it does nothing; what was missed is done when it goes on.
    appm(&world, &["source", "suspend", "other"]);
    until_said(&world, "other", "Ready", "Suspended");
    fs::write(other.join("b.yaml"), config("b", "3")).unwrap();
    fs::write(dir.join("c.yaml"), config("c", "2")).unwrap();
    until(&world, &[("a", "theirs"), ("b", "2"), ("c", "2")]);
    appm(&world, &["source", "resume", "other"]);
    until(&world, &[("a", "theirs"), ("b", "3"), ("c", "2")]);
    // What others change is told, and left.
    appm(&world, &["patch", "source", "other", "-p", r#"{"spec": {"drift": "Report"}}"#]);
    appm(&world, &["patch", "configmap", "b", "-p", r#"{"data": {"value": "mine"}}"#]);
    let told = until_said(&world, "other", "Drifted", "ChangedByOthers");
    assert_eq!(told, "configmap default/b: data.value");
    assert_eq!(configs(&world)["b"], "mine");
}
