//! Control groups: what an attempt with limits lives in. Version 1, version 2, and machines that have both.
//!
//! ```text
//!   version 2   OWN/appm-ID/            the keeper's own group, if it is delegated (systemd: Delegate=yes); else the top
//!                  ├── keeper/          keeper and logger, once controllers are handed down: a group with children holds no process
//!                  └── UID-ATTEMPT/     memory.max, cpu.max, pids.max, io.weight, cgroup.kill
//!   version 1   OWN/appm-ID/UID-ATTEMPT in the hierarchy of each controller that the limits need
//! ```
//! Only attempts with limits get one, so that the rest pays nothing. `ID` tells keepers of different data directories apart.
//! A child joins its groups by descriptors that were opened before the fork, before it waits at the gate, so nothing of it
//! ever runs outside. What cannot be enforced is refused, never ignored.
//!
//! On a hybrid machine the attempt has a group in version 2 as well, without controllers: `cgroup.kill` is there, and the kernel's
//! own count of what was used. Directories are on record with the attempt, so a successor in another group finds them.

mod change;
mod find;
mod limits;
mod look;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::change::memory_in_use;
pub use self::look::{attempt_around, cgroup_version, groups_around, groups_of, own_memory, working_set};
use self::{
    find::{Controller, Place, Places},
    limits::{Setting, Version},
};
use super::spawn;
use crate::drivers::{Limits, StartKey};

/// The group of keeper and logger, beside those of attempts.
const KEEPER: &str = "keeper";
/// The last rounds of a kill without `cgroup.kill`: no more are needed once nothing can fork.
const ROUNDS: usize = 64;

/// Why limits cannot be enforced here; a sentence for whoever runs appm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unavailable(String);

/// Where groups can be made on this machine.
#[derive(Debug)]
pub(super) struct Groups {
    name: String,
    places: Places,
    /// The directory of all attempts in version 2, as soon as controllers have been handed down to it.
    handed_down: Option<PathBuf>,
}

/// The groups of one attempt: a directory in each hierarchy that it needs. None for an attempt without limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Group {
    dirs: Vec<PathBuf>,
}

impl Groups {
    /// Looks where groups could be made; makes nothing yet. The working directory is the data directory.
    pub(super) fn find() -> Groups {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut places = Places::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        for place in places.v2.iter_mut().chain(places.v1.values_mut()) {
            step_out(place);
        }
        Groups { name: name_of(Path::new(".")), places, handed_down: None }
    }

    /// Makes the groups of an attempt and writes its limits. The descriptors are where the child writes itself in.
    ///
    /// # Errors
    /// When a limit cannot be enforced here; nothing is left behind then.
    pub(super) fn make(&mut self, key: &StartKey, wanted: &Limits) -> Result<(Group, Vec<OwnedFd>), Unavailable> {
        let mut group = Group::default();
        if *wanted == Limits::default() {
            return Ok((group, Vec::new()));
        }
        let made = self.fill(key, wanted, &mut group).and_then(|()| group.entrances());
        match made {
            Ok(entrances) => Ok((group, entrances)),
            Err(why) => {
                group.remove();
                Err(why)
            }
        }
    }

    fn fill(&mut self, key: &StartKey, wanted: &Limits, group: &mut Group) -> Result<(), Unavailable> {
        let leaf = leaf(key);
        for (controller, required) in limits::needed(wanted) {
            let told = self.place(controller, &leaf).and_then(|(dir, version)| {
                group.add(dir.clone())?;
                let settings = limits::settings(controller, wanted, version);
                settings.iter().try_for_each(|setting| write_setting(&dir, setting))
            });
            match told {
                Err(why) if required => return Err(why),
                _ => {}
            }
        }
        // Without it processes are killed one by one, and that works too.
        if let Some(v2) = &self.places.v2 {
            let dir = v2.own.join(&self.name).join(&leaf);
            if self.handed_down.is_none() && fs::create_dir_all(&dir).is_ok() {
                group.dirs.insert(0, dir);
            }
        }
        Ok(())
    }

    /// The directory in which a controller holds an attempt.
    fn place(&mut self, controller: Controller, leaf: &str) -> Result<(PathBuf, Version), Unavailable> {
        if let Some(place) = self.places.v1.get(&controller) {
            return Ok((place.own.join(&self.name).join(leaf), Version::V1));
        }
        let Some(place) = self.places.v2.clone() else {
            let why = format!("this machine mounts no control groups for {}", controller.name());
            return Err(Unavailable(why));
        };
        if self.handed_down.is_none() {
            self.handed_down = Some(self.hand_down(&place)?);
        }
        let base = self.handed_down.clone().unwrap_or(place.own);
        let offered = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
        if !offered.split_whitespace().any(|name| name == controller.name()) {
            let (name, base) = (controller.name(), base.display());
            return Err(Unavailable(format!("the kernel does not offer the controller `{name}` in `{base}`")));
        }
        Ok((base.join(leaf), Version::V2))
    }

    /// Hands the controllers of version 2 down to the attempts: first from our own group, and if others live there too,
    /// from the top of the machine.
    fn hand_down(&self, place: &Place) -> Result<PathBuf, Unavailable> {
        let from_own = self.hand_down_from(&place.own);
        match from_own {
            Err(_) if place.own != place.mount && is_root(&place.mount) => {
                self.hand_down_from(&place.mount).or(from_own)
            }
            other => other,
        }
    }

    fn hand_down_from(&self, parent: &Path) -> Result<PathBuf, Unavailable> {
        let base = parent.join(&self.name);
        make_dir(&base)?;
        let offered = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        for controller in Controller::ALL.into_iter().filter(|c| offered.split_whitespace().any(|o| o == c.name())) {
            enable(parent, controller, || move_ourselves(parent, &base.join(KEEPER)))?;
            enable(&base, controller, || Ok(()))?;
        }
        Ok(base)
    }

    /// Every directory in which this keeper has groups of attempts.
    fn bases(&self) -> impl Iterator<Item = PathBuf> {
        let v1 = self.places.v1.values().map(|place| place.own.join(&self.name));
        let v2 = self.places.v2.iter().flat_map(|place| [&place.own, &place.mount]).map(|dir| dir.join(&self.name));
        v1.chain(v2)
    }

    /// Ends and removes what a keeper that died left behind: groups of this data directory that are not among `kept`.
    pub(super) fn clean(&self, kept: &[&Group]) {
        for base in self.bases() {
            for dir in children(&base).filter(|dir| !dir.ends_with(KEEPER)) {
                if !kept.iter().any(|group| group.dirs.contains(&dir)) {
                    let left = Group { dirs: vec![dir] };
                    left.kill();
                    left.remove();
                }
            }
        }
        self.leave();
    }

    /// Removes the directories above the attempts' if nothing is in them.
    pub(super) fn leave(&self) {
        for base in self.bases() {
            // Not there, or in use: both are well.
            let _ = fs::remove_dir(base);
        }
    }
}

impl Group {
    /// True for an attempt that has none.
    pub(super) fn is_none(&self) -> bool {
        self.dirs.is_empty()
    }

    fn add(&mut self, dir: PathBuf) -> Result<(), Unavailable> {
        if !self.dirs.contains(&dir) {
            dir.parent().map_or(Ok(()), make_dir)?;
            make_dir(&dir)?;
            self.dirs.push(dir);
        }
        Ok(())
    }

    /// Where a process writes itself in.
    pub(super) fn entrances(&self) -> Result<Vec<OwnedFd>, Unavailable> {
        let open = |dir: &PathBuf| {
            let path = dir.join("cgroup.procs");
            let file = OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|e| denied("open", &path, &e))
        };
        self.dirs.iter().map(open).collect()
    }

    /// Everybody in it, groups that were made inside it included.
    pub(super) fn pids(&self) -> Vec<i32> {
        let within = self.dirs.iter().flat_map(|dir| with_descendants(dir));
        let mut pids: Vec<i32> = within.flat_map(|dir| pids_of(&dir)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends a signal to everybody in it.
    pub(super) fn signal(&self, signal: i32) {
        match signal {
            nix::libc::SIGKILL => self.kill(),
            _ => self.pids().into_iter().for_each(|pid| drop(spawn::kill(pid, signal))),
        }
    }

    /// Kills everybody in it, at once where the kernel can do that. A fork bomb cannot outrun it: forking is forbidden
    /// first, where that can be forbidden.
    pub(super) fn kill(&self) {
        if self.dirs.iter().any(|dir| write(&dir.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        for dir in &self.dirs {
            // Only the controller of processes has this file.
            let _ = write(&dir.join("pids.max"), "0");
        }
        let mut killed = Vec::new();
        for _round in 0..ROUNDS {
            let left: Vec<i32> = self.pids().into_iter().filter(|pid| !killed.contains(pid)).collect();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|pid| drop(spawn::kill(*pid, nix::libc::SIGKILL)));
            killed.extend(left);
        }
    }

    /// How many processes in it the kernel has ended for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let count = |file: PathBuf| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        };
        let files = self.dirs.iter().flat_map(|dir| ["memory.events", "memory.oom_control"].map(|name| dir.join(name)));
        files.filter_map(count).max().unwrap_or(0)
    }

    /// Removes its directories; false if somebody is in it still.
    pub(super) fn remove(&self) -> bool {
        let within = self.dirs.iter().flat_map(|dir| with_descendants(dir));
        within.fold(true, |all, dir| match fs::remove_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => false,
            _ => all,
        })
    }
}

/// The name of the group above all attempts of a data directory.
fn name_of(data_dir: &Path) -> String {
    let path = fs::canonicalize(data_dir).unwrap_or_default();
    let inode = fs::metadata(data_dir).map(|meta| (meta.dev(), meta.ino())).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(path.as_os_str().as_bytes());
    hash.update(format!("{inode:?}"));
    format!("appm-{}", hex::encode(&hash.finalize()[..6]))
}

fn leaf(key: &StartKey) -> String {
    format!("{}-{}", key.uid, key.attempt)
}

/// A keeper that moved itself, or whose server did, is in a group below the one that was given to it.
fn step_out(place: &mut Place) {
    let parent = place.own.parent().filter(|_| place.own.ends_with(KEEPER));
    let is_ours = |dir: &Path| dir.file_name().is_some_and(|name| name.as_bytes().starts_with(b"appm-"));
    if let Some(given) = parent.filter(|dir| is_ours(dir)).and_then(Path::parent) {
        place.own = given.to_owned();
    }
}

/// The top of the machine, not of a container: only that has no type.
fn is_root(dir: &Path) -> bool {
    dir.join("cgroup.procs").exists() && !dir.join("cgroup.type").exists()
}

/// Offers a controller to the groups below `dir`. A group with processes of its own cannot (EBUSY): `make_way` moves them.
fn enable(
    dir: &Path,
    controller: Controller,
    make_way: impl FnOnce() -> Result<(), Unavailable>,
) -> Result<(), Unavailable> {
    let path = dir.join("cgroup.subtree_control");
    let word = format!("+{}", controller.name());
    match write(&path, &word) {
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
            make_way()?;
            write(&path, &word).map_err(|e| denied("write", &path, &e))
        }
        other => other.map_err(|e| denied("write", &path, &e)),
    }
}

/// Moves keeper, logger and server out of the way: processes of this executable, which are ours to move.
fn move_ourselves(from: &Path, to: &Path) -> Result<(), Unavailable> {
    make_dir(to)?;
    let exe = |pid: i32| fs::metadata(format!("/proc/{pid}/exe")).map(|meta| (meta.dev(), meta.ino())).ok();
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let own = super::serve::own_pid();
    // Our processes show their executable to root alone (see `main`); their name they show to all.
    let is_ours = |pid: i32| match exe(pid) {
        Some(exe_of) => Some(exe_of) == exe(own),
        None => name(pid) == name(own),
    };
    let (mine, others): (Vec<i32>, Vec<i32>) = pids_of(from).into_iter().partition(|pid| is_ours(*pid));
    let procs = to.join("cgroup.procs");
    for pid in mine {
        write(&procs, &pid.to_string()).map_err(|e| denied("write", &procs, &e))?;
    }
    match others.first() {
        None => Ok(()),
        Some(pid) => Err(Unavailable(format!(
            "the control group `{}` holds other processes too (pid {pid}), so its controllers cannot be used for apps; \
             give appm a group of its own (a systemd unit with Delegate=yes)",
            from.display()
        ))),
    }
}

fn make_dir(dir: &Path) -> Result<(), Unavailable> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(denied("make", dir, &e)),
        _ => Ok(()),
    }
}

fn write_setting(dir: &Path, setting: &Setting) -> Result<(), Unavailable> {
    let path = setting.files.iter().map(|name| dir.join(name)).find(|path| path.exists());
    let Some(path) = path else {
        let why = format!("this kernel has no `{}` in `{}`", setting.files[0], dir.display());
        return if setting.required { Err(Unavailable(why)) } else { Ok(()) };
    };
    match write(&path, &setting.value) {
        Err(e) if setting.required => Err(denied(&format!("write {} to", setting.value), &path, &e)),
        _ => Ok(()),
    }
}

fn denied(what: &str, path: &Path, e: &io::Error) -> Unavailable {
    let mend = match e.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run appm as root, or as a systemd unit with Delegate=yes, so that it may make control groups"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount the control groups writable into this container",
        _ => "",
    };
    Unavailable(format!("cannot {what} `{}`: {e}{mend}", path.display()))
}

/// One write, as the kernel wants it; the file is never made.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn pids_of(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// A group and all groups that its processes made inside it, the innermost first.
fn with_descendants(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = children(dir).flat_map(|child| with_descendants(&child)).collect();
    all.push(dir.to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(own: &str) -> Place {
        Place { mount: "/sys/fs/cgroup".into(), own: own.into() }
    }

    #[test]
    fn a_keeper_that_moved_itself_uses_the_group_it_was_given() {
        for (own, given) in [
            ("/sys/fs/cgroup/appm.service/appm-0a1b/keeper", "/sys/fs/cgroup/appm.service"),
            ("/sys/fs/cgroup/appm.service", "/sys/fs/cgroup/appm.service"),
            ("/sys/fs/cgroup/other/keeper", "/sys/fs/cgroup/other/keeper"),
        ] {
            let mut found = place(own);
            step_out(&mut found);
            assert_eq!(found.own, Path::new(given), "{own}");
        }
    }

    #[test]
    fn without_control_groups_limits_are_refused_and_their_absence_is_not() {
        let mut groups = Groups { name: "appm-test".into(), places: Places::default(), handed_down: None };
        let key = StartKey { uid: "u".into(), attempt: 1 };
        let (group, entrances) = groups.make(&key, &Limits::default()).unwrap();
        assert!(group.is_none() && entrances.is_empty());
        let wanted = Limits { memory: Some(1 << 20), ..Limits::default() };
        let why = groups.make(&key, &wanted).unwrap_err();
        assert_eq!(why.to_string(), "this machine mounts no control groups for memory");
        let wish = Limits { cpu_request: Some(100), ..Limits::default() };
        assert!(groups.make(&key, &wish).unwrap().0.is_none());
    }

    /// A version 2 machine of plain files: what is written where, without a kernel that obeys.
    #[test]
    fn controllers_are_handed_down_from_the_own_group() {
        let machine = tempfile::tempdir().unwrap();
        let own = machine.path().join("appm.service");
        let base = own.join("appm-test");
        for dir in [&own, &base] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        fs::write(own.join("cgroup.controllers"), "cpuset cpu memory pids").unwrap();
        let place = Place { mount: machine.path().into(), own: own.clone() };
        let places = Places { v2: Some(place), ..Places::default() };
        let mut groups = Groups { name: "appm-test".into(), places, handed_down: None };
        assert_eq!(groups.hand_down(&groups.places.v2.clone().unwrap()), Ok(base.clone()));
        // Plain files keep the first word of each write only where it is as long; the kernel adds them up.
        fs::write(base.join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        groups.handed_down = Some(base.clone());
        assert_eq!(groups.place(Controller::Memory, "u-1"), Ok((base.join("u-1"), Version::V2)));
        let why = groups.place(Controller::Io, "u-1").unwrap_err().to_string();
        assert!(why.starts_with("the kernel does not offer the controller `io`"), "{why}");
    }
}
