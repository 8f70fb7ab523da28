//! Control groups as anybody may read them: what the agent needs for its figures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    KEEPER,
    find::{Controller, Place, Places},
    leaf, name_of,
};
use crate::drivers::StartKey;

/// How limits are enforced on this machine: `v1`, `v2`, `hybrid`, or empty.
pub fn cgroup_version() -> &'static str {
    let places = places("self");
    let v2 = places.v2.map(|place| fs::read_to_string(place.mount.join("cgroup.controllers")).unwrap_or_default());
    match (places.v1.is_empty(), v2) {
        (true, Some(_)) => "v2",
        (false, Some(_)) => "hybrid",
        (false, None) => "v1",
        (true, None) => "",
    }
}

/// The directories of the groups that were made for an attempt, by one of its processes; none if it has no limits.
pub fn groups_of(key: &StartKey, pid: i32) -> Vec<PathBuf> {
    let (places, leaf) = (places(&pid.to_string()), leaf(key));
    let mut dirs: Vec<PathBuf> = places.v1.into_values().chain(places.v2).map(|place| place.own).collect();
    // It may have made groups of its own inside.
    dirs.iter_mut().for_each(|dir| {
        let ours = dir.ancestors().find(|dir| dir.ends_with(&leaf)).map(Path::to_owned);
        *dir = ours.unwrap_or_default();
    });
    dirs.retain(|dir| !dir.as_os_str().is_empty());
    dirs.sort();
    dirs.dedup();
    dirs
}

/// The attempt, `UID-ATTEMPT`, whose group a process is in; `None` if it is in none that the keeper of that data directory made. It
/// may have left the keeper's tree: whoever starts it for an App's process does not take it out of the group.
pub fn attempt_around(pid: i32, data_dir: &Path) -> Option<String> {
    attempt_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, &name_of(data_dir))
}

fn attempt_in(groups: &str, keeper: &str) -> Option<String> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .filter_map(|path| path.split('/').skip_while(|name| *name != keeper).nth(1))
        .find(|name| *name != KEEPER)
        .map(str::to_owned)
}

/// The directories of the groups that somebody else, an engine, made for one of its containers, by a process in it: all
/// that bear the name of the one that has its memory. None if it has no group of its own.
pub fn groups_around(pid: i32) -> Vec<PathBuf> {
    around(places(&pid.to_string()))
}

fn around(places: Places) -> Vec<PathBuf> {
    let name = |place: &Place| place.own.strip_prefix(&place.mount).ok().map(Path::to_owned);
    let named = places.v1.get(&Controller::Memory).or(places.v2.as_ref()).and_then(name);
    let Some(own) = named.filter(|named| !named.as_os_str().is_empty()) else { return Vec::new() };
    let all = places.v1.into_values().chain(places.cpuacct).chain(places.v2);
    let mut dirs: Vec<PathBuf> =
        all.filter(|place| name(place).as_ref() == Some(&own)).map(|place| place.own).collect();
    dirs.sort();
    dirs.dedup();
    dirs
}

/// How much memory this process's own group may have, and has: a container is a smaller machine. None without a limit.
pub fn own_memory() -> Option<(u64, u64)> {
    let places = places("self");
    let place = places.v1.get(&Controller::Memory).cloned().or(places.v2)?;
    let Place { mount, own } = place;
    let groups = own.ancestors().take_while(|dir| dir.starts_with(&mount));
    let limited = groups.filter_map(|dir| {
        let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
        // Version 1 has no word for "all there is".
        (limit < 1 << 60).then(|| (limit, working_set(dir).unwrap_or(0)))
    });
    limited.min_by_key(|(limit, _)| *limit)
}

/// Memory of a group that could not be taken from it without harm: as the kubelet counts it, without files that were read
/// once. None where the group's memory is not counted.
pub fn working_set(dir: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let used = read("memory.current").or_else(|| read("memory.usage_in_bytes"))?.trim().parse::<u64>().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let value =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
    let inactive = value("total_inactive_file").or_else(|| value("inactive_file")).unwrap_or(0);
    Some(used.saturating_sub(inactive))
}

fn places(pid: &str) -> Places {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    Places::read(&read("/proc/self/mountinfo".to_owned()), &read(format!("/proc/{pid}/cgroup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_known_by_its_group_in_any_hierarchy() {
        let attempt = |groups: &str| attempt_in(groups, "appm-0123");
        let nested = "7:memory:/appm-0123/5f-2/inner\n1:name=systemd:/x\n0::/\n";
        assert_eq!(attempt(nested).as_deref(), Some("5f-2"));
        assert_eq!(attempt("0::/system.slice/appm.service/appm-0123/5f-2\n").as_deref(), Some("5f-2"));
        for other in ["0::/appm-0123/keeper\n", "0::/appm-9999/5f-2\n", "0::/appm-0123\n", "0::/x/5f-2\n", ""] {
            assert_eq!(attempt(other), None, "{other}");
        }
    }

    #[test]
    fn a_containers_groups_are_those_that_bear_its_name() {
        let mounts = "\
33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let said = |groups: &str| -> Vec<String> {
            around(Places::read(mounts, groups)).iter().map(|dir| dir.display().to_string()).collect()
        };
        let groups = "6:pids:/docker.service\n4:memory:/docker/ab\n2:cpuacct:/docker/ab\n0::/\n";
        assert_eq!(said(groups), ["/sys/fs/cgroup/cpuacct/docker/ab", "/sys/fs/cgroup/memory/docker/ab"]);
        assert_eq!(said("6:pids:/docker/ab\n4:memory:/\n0::/\n"), [""; 0], "all memory is not its own");
        let mounts = "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let unified = around(Places::read(mounts, "0::/system.slice/docker-ab.scope\n"));
        assert_eq!(unified, [Path::new("/sys/fs/cgroup/system.slice/docker-ab.scope")]);
    }
}
