//! Every manifest that we show to people is accepted, and the quickstart runs.

use crate::harness::{APPS, World, wait_for};

/// Runs `appm ARGS` against the world's server; panics with what it said if it fails.
pub(crate) fn appm(world: &World, args: &[&str]) -> String {
    let output = world.command(args);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "appm {args:?}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

#[test]
fn every_manifest_is_accepted() {
    let mut world = World::new();
    world.start();
    let said = appm(&world, &["apply", "-R", "-f", "manifests", "--dry-run=server"]);
    assert!(said.lines().count() >= 3, "{said}");
    assert_eq!(world.api().list(APPS).unwrap().len(), 0, "a dry run stores nothing");
}

#[test]
fn the_quickstart_runs_and_applies_a_second_time_without_a_change() {
    let mut world = World::new();
    world.start();
    appm(&world, &["apply", "-f", "manifests/quickstart"]);
    wait_for("the quickstart's Apps to have run", || {
        let apps = world.api().list(APPS).map_err(|e| e.to_string())?;
        let began = apps.iter().all(|a| a["status"]["replicas"].as_i64() > Some(0));
        if began && apps.len() >= 3 { Ok(()) } else { Err(format!("{apps:?}")) }
    });
    let said = appm(&world, &["apply", "-f", "manifests/quickstart"]);
    assert!(said.lines().all(|line| line.contains("unchanged")), "{said}");
}
