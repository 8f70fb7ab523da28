//! What a machine does to whoever reads files: rights that are missing, a queue that overflows, a disk that is full, and the end at any moment.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Repository, appm, config, configs, pairs, said, sync, synced, until, until_said};
use crate::harness::{Dice, World, setting, wait_for};

/// A Source of a directory that is looked at when the kernel says so, or when somebody asks, and at no other time.
fn watched(world: &World, dir: &Path) {
    let dir = dir.display().to_string();
    appm(world, &["source", "add", "fleet", "--directory", &dir, "--interval", "1h"]);
}

fn directory(world: &World, files: &[(&str, &str)]) -> PathBuf {
    let dir = world.root().join("manifests");
    for (name, text) in files {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), text).unwrap();
    }
    dir
}

#[test]
fn what_may_not_be_read_is_named_and_nothing_goes_for_it() {
    let mut world = World::new();
    if nix::unistd::geteuid().is_root() {
        // Root may read everything, but for the capabilities that say so.
        world.start_through(&[
            "setpriv",
            "--bounding-set",
            "-dac_override,-dac_read_search",
            "--inh-caps",
            "-dac_override,-dac_read_search",
        ]);
    } else {
        world.start();
    }
    let dir = directory(&world, &[("a.yaml", &config("a", "1")), ("sub/b.yaml", &config("b", "1"))]);
    watched(&world, &dir);
    until(&world, &[("a", "1"), ("b", "1")]);
    for (path, mode) in [("sub", 0o755), ("sub/b.yaml", 0o644)] {
        let allow = |mode: u32| fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
        allow(0);
        let message = until_said(&world, "fleet", "Ready", "PermissionDenied");
        let expected = format!("{path} cannot be read: Permission denied (os error 13); what was applied before stays");
        assert_eq!(message, expected);
        // What else changes waits: nobody knows what should go with it.
        fs::write(dir.join("a.yaml"), config("a", path)).unwrap();
        let told = sync(&world, "fleet").unwrap_err();
        assert!(told.contains("PermissionDenied"), "{told}");
        assert!(configs(&world)["a"] != path && configs(&world)["b"] == "1");
        allow(mode);
        until(&world, &[("a", path), ("b", "1")]);
        until_said(&world, "fleet", "Ready", "Applied");
    }
}

#[test]
fn a_field_that_nobody_knows_is_ignored_and_told_at_its_place() {
    let misspelt = config("a", "1") + "dta: {x: y}\n";
    let (world, dir) = synced(&[("a.yaml", &misspelt), ("b.yaml", &config("b", "1"))]);
    until(&world, &[("a", "1"), ("b", "1")]);
    let told = "a.yaml:5:1: dta: unknown field; it is ignored";
    let until_told = |expected: String| {
        wait_for(&expected, || match said(&world, "sync-dir", "Ready").1 {
            message if message == expected => Ok(()),
            message => Err(message),
        });
    };
    until_told(format!("2 objects; {told}"));
    wait_for("the event", || match appm(&world, &["events"]) {
        events if events.lines().any(|line| line.contains("Warned") && line.contains(told)) => Ok(()),
        events => Err(events),
    });
    // It stands elsewhere now; and then nowhere.
    fs::write(dir.join("a.yaml"), format!("# a\n{misspelt}")).unwrap();
    until_told(format!("2 objects; {}", told.replace(":5:", ":6:")));
    fs::write(dir.join("a.yaml"), config("a", "2")).unwrap();
    until_told("2 objects".to_owned());
}

#[test]
fn when_the_queue_of_the_kernel_overflows_what_it_could_not_tell_is_found_all_the_same() {
    let mut world = World::new();
    world.start();
    let dir = directory(&world, &[("a.yaml", &config("a", "1")), ("b.yaml", &config("b", "1"))]);
    watched(&world, &dir);
    until(&world, &[("a", "1"), ("b", "1")]);
    let room: u64 = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let server = Pid::from_raw(world.own_process("server").expect("a server runs") as i32);
    kill(server, Signal::SIGSTOP).unwrap();
    // Each is made, closed and deleted: three events, of which none is about a manifest.
    for number in 0..=room / 3 {
        let noise = dir.join(format!("noise-{number}"));
        fs::write(&noise, "").unwrap();
        fs::remove_file(noise).unwrap();
    }
    fs::write(dir.join("a.yaml"), config("a", "2")).unwrap();
    fs::remove_file(dir.join("b.yaml")).unwrap();
    fs::create_dir(dir.join("new")).unwrap();
    fs::write(dir.join("new/c.yaml"), config("c", "1")).unwrap();
    kill(server, Signal::SIGCONT).unwrap();
    until(&world, &[("a", "2"), ("c", "1")]);
    // And it is told of what comes afterwards, also where it could not be told of the directory.
    fs::write(dir.join("new/c.yaml"), config("c", "2")).unwrap();
    until(&world, &[("a", "2"), ("c", "2")]);
}

#[test]
fn a_full_disk_takes_no_new_revision_and_loses_none() {
    let mut world = World::new();
    let copies = world.data().join("sources");
    fs::create_dir_all(&copies).unwrap();
    let Some(disk) = SmallDisk::mount(&copies, "2m") else { return };
    world.start();
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "1")))]);
    let url = format!("file://{}", repository.0.display());
    appm(&world, &["source", "add", "fleet", "--git", &url, "--interval", "1h"]);
    until(&world, &[("a", "1")]);
    let mut dice = Dice::new(1);
    let noise: Vec<u8> = (0..4 << 20).map(|_| b'!' + dice.below(90) as u8).collect();
    fs::write(repository.0.join("noise.txt"), noise).unwrap();
    repository.commit(&[("a.yaml", Some(&config("a", "2")))]);
    let told = sync(&world, "fleet").unwrap_err();
    assert!(told.contains("No space left on device"), "{told}");
    let (reason, message) = said(&world, "fleet", "Ready");
    assert!(message.ends_with("; what was applied before stays"), "{reason}: {message}");
    assert_eq!(configs(&world), pairs(&[("a", "1")]));
    // So it is after a restart, with a disk that is as full as before.
    world.kill_server();
    world.start();
    until_said(&world, "fleet", "Ready", &reason);
    assert_eq!(configs(&world), pairs(&[("a", "1")]));
    disk.grow("64m");
    sync(&world, "fleet").unwrap();
    assert_eq!(configs(&world), pairs(&[("a", "2")]));
    world.kill_everything();
}

#[test]
fn kill_9_in_the_middle_of_an_apply_leaves_all_of_it_or_nothing() {
    let seed = setting("SOURCES_SEED", 1);
    let mut dice = Dice::new(seed);
    let mut world = World::new();
    let (count, mut value) = (200, 0);
    let [dir, new, old] = ["manifests", "new", "old"].map(|name| world.root().join(name));
    fs::create_dir(&dir).unwrap();
    // All files at once: whoever looks while some are written and others are not yet applies what is there.
    let write = |value: u64| {
        fs::create_dir(&new).unwrap();
        for number in 0..count {
            fs::write(new.join(format!("{number}.yaml")), config(&format!("c{number}"), &value.to_string())).unwrap();
        }
        fs::rename(&dir, &old).unwrap();
        fs::rename(&new, &dir).unwrap();
        fs::remove_dir_all(&old).unwrap();
    };
    write(value);
    world.start();
    watched(&world, &dir);
    let same = |world: &World| -> Result<u64, String> {
        let found = configs(world);
        let mut values: Vec<&String> = found.values().collect();
        values.dedup();
        match values[..] {
            [value] if found.len() == count => Ok(value.parse().unwrap()),
            _ => Err(format!("{} objects, with {values:?}", found.len())),
        }
    };
    wait_for("the first apply", || same(&world));
    for round in 0..setting("SOURCES_KILLS", 4) {
        value += 1;
        write(value);
        dice.pause(400);
        world.kill_server();
        // Nothing can be read for now: what is there is what the dead one left.
        let away = world.root().join("away");
        fs::rename(&dir, &away).unwrap();
        world.start();
        let left = same(&world).unwrap_or_else(|torn| panic!("round {round} of seed {seed}: {torn}"));
        assert!([value - 1, value].contains(&left), "round {round} of seed {seed}: {left} and not {value}");
        until_said(&world, "fleet", "Ready", "NotFound");
        fs::rename(&away, &dir).unwrap();
        wait_for("the rest", || same(&world).and_then(|now| if now == value { Ok(()) } else { Err(now.to_string()) }));
    }
}

/// The disk of the server's copies of repositories. Unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where nobody may mount: a file system needs root.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output()
            .unwrap();
        if mount.status.success() {
            return Some(Self(at.to_owned()));
        }
        let why = String::from_utf8_lossy(&mount.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "this test needs to mount a tmpfs: {why}");
        eprintln!("SKIPPED: this test needs to mount a tmpfs: {why}");
        None
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
