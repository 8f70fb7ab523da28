//! Which commit a Source takes: ranges of versions, and repositories that are rewritten under its hands.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Repository, config, configs, pairs, sync, until_said};
use crate::{harness::World, manifests::appm};

#[test]
fn the_highest_tag_in_a_range_is_applied_and_what_is_ambiguous_is_nobodys_choice() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    let tag = |name: &str| {
        repository.commit(&[("a.yaml", Some(&config("a", name)))]);
        repository.git(&["tag", "-a", name, "-m", name]);
    };
    ["v1.9.0", "v1.10.0", "v2.0.0-rc.1", "nightly"].into_iter().for_each(tag);
    let url = format!("file://{}", repository.0.display());
    let refused = world.command(&["source", "add", "fleet", "--git", &url, "--semver", "1.10"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("spec.git.ref.semver") && said.contains("`~1.10`"), "{said}");
    let follow = |range: &str| {
        appm(&world, &["source", "add", "fleet", "--git", &url, "--semver", range, "--interval", "1h"]);
        sync(&world, "fleet")
    };
    let told = follow("1.x").unwrap();
    assert!(told.contains("v1.10.0@sha1:"), "{told}");
    assert_eq!(configs(&world), pairs(&[("a", "v1.10.0")]));
    // A branch of the same name is something else; a new tag is taken, and one outside of the range is not.
    repository.git(&["branch", "v1.11.0"]);
    tag("v3.0.0");
    let told = sync(&world, "fleet").unwrap();
    assert!(told.contains("v1.10.0@sha1:"), "{told}");
    repository.git(&["branch", "-D", "v1.11.0"]);
    tag("v1.11.0");
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "v1.11.0")]));
    // One version, two commits.
    tag("1.11.0");
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("AmbiguousReference") && told.contains("`1.11.0`") && told.contains("`v1.11.0`"), "{told}");
    repository.git(&["tag", "-d", "1.11.0"]);
    // The tag was moved: it is what it is now.
    repository.commit(&[("a.yaml", Some(&config("a", "moved")))]);
    repository.git(&["tag", "-f", "-a", "v1.11.0", "-m", "moved"]);
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "moved")]));
    // Before their release only for who asks; and nothing in range changes nothing.
    let told = follow(">=2.0.0-0, <2.0.0").unwrap();
    assert!(told.contains("v2.0.0-rc.1@sha1:"), "{told}");
    let told = follow(">=7").unwrap_err();
    assert!(told.contains("NoReference") && told.contains("no tag with a version in `>=7`"), "{told}");
    assert_eq!(configs(&world), pairs(&[("a", "v2.0.0-rc.1")]));
}

#[test]
fn a_repository_that_is_rewritten_while_it_is_read_is_never_read_in_half() {
    let mut world = World::new();
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    let write = |repository: &Repository, value: &str| {
        // Everything that was is gone: another root, and the old objects deleted.
        repository.git(&["checkout", "--quiet", "--orphan", "next"]);
        let files: Vec<String> = (0..20).map(|i| format!("{i}.yaml")).collect();
        let texts: Vec<String> = (0..20).map(|i| config(&format!("c{i}"), value)).collect();
        let files: Vec<(&str, Option<&str>)> =
            files.iter().zip(&texts).map(|(file, text)| (file.as_str(), Some(text.as_str()))).collect();
        repository.commit(&files);
        repository.git(&["branch", "--quiet", "-M", "next", "main"]);
        repository.git(&["reflog", "expire", "--expire=now", "--all"]);
        repository.git(&["gc", "--quiet", "--prune=now"]);
    };
    write(&repository, "0");
    let url = format!("file://{}", repository.0.display());
    appm(&world, &["source", "add", "fleet", "--git", &url, "--branch", "main", "--interval", "1h"]);
    until_said(&world, "fleet", "Ready", "Applied");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, repository) = (stop.clone(), Repository(repository.0.clone()));
        move || {
            let mut value = 0;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                write(&repository, &value.to_string());
            }
            value
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        if let Err(told) = sync(&world, "fleet") {
            // It was caught between two histories, and said so.
            assert!(["FetchFailed", "NoReference", "NotFound"].iter().any(|word| told.contains(word)), "{told}");
        }
        let all = configs(&world);
        let mut values: Vec<&String> = all.values().collect();
        values.dedup();
        assert!(all.len() == 20 && values.len() == 1, "{all:?}");
        seen.insert(values[0].clone());
    }
    stop.store(true, Ordering::Relaxed);
    let last = writer.join().unwrap().to_string();
    sync(&world, "fleet").unwrap();
    assert!(configs(&world).values().all(|value| *value == last) && seen.len() > 1, "{seen:?}");
}
