//! Where control groups are mounted, and where in them this process is. Pure: from the text of two files in /proc.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use procfs::{FromBufRead, ProcessCGroups, process::MountInfos};

/// What shares a machine out. Both versions have them under other names; these are version 2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
    Io,
}

impl Controller {
    pub(super) const ALL: [Controller; 4] = [Self::Memory, Self::Cpu, Self::Pids, Self::Io];

    /// Its name in `cgroup.controllers`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }

    fn of_v1(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|controller| match controller {
            Self::Io => name == "blkio",
            other => name == other.name(),
        })
    }
}

/// A hierarchy: where it is mounted, and the directory of this process's own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub mount: PathBuf,
    pub own: PathBuf,
}

/// All hierarchies of this machine. A hybrid machine has both versions, a controller in one of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub v1: BTreeMap<Controller, Place>,
    pub v2: Option<Place>,
    /// What counts processor time in version 1. It limits nothing.
    pub cpuacct: Option<Place>,
}

impl Places {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn read(mountinfo: &str, own: &str) -> Places {
        let mut places = Places::default();
        let mounts = MountInfos::from_buf_read(mountinfo.as_bytes()).map(|infos| infos.0).unwrap_or_default();
        let groups = ProcessCGroups::from_buf_read(own.as_bytes()).map(|groups| groups.0).unwrap_or_default();
        for group in &groups {
            let controllers: Vec<_> = group.controllers.iter().filter_map(|name| Controller::of_v1(name)).collect();
            let found = mounts.iter().find(|mount| match group.hierarchy {
                0 => mount.fs_type == "cgroup2",
                _ => {
                    let serves = |name: &String| mount.super_options.contains_key(name.as_str());
                    mount.fs_type == "cgroup" && !group.controllers.is_empty() && group.controllers.iter().all(serves)
                }
            });
            let Some(mount) = found else { continue };
            let place = Place {
                own: own_directory(&mount.mount_point, &mount.root, &group.pathname),
                mount: mount.mount_point.clone(),
            };
            if group.controllers.iter().any(|name| name == "cpuacct") {
                places.cpuacct = Some(place.clone());
            }
            if group.hierarchy == 0 {
                places.v2 = Some(place);
            } else {
                places.v1.extend(controllers.into_iter().map(|controller| (controller, place.clone())));
            }
        }
        places
    }
}

/// A mount may show a part of the hierarchy only (in a container without a namespace of its own); a group outside of what
/// it shows (`/../…`) is taken for the top of what is shown.
fn own_directory(mount: &Path, root: &str, group: &str) -> PathBuf {
    let below = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
    if below.components().any(|part| part.as_os_str() == "..") { mount.to_owned() } else { mount.join(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(mount: &str, own: &str) -> Place {
        Place { mount: mount.into(), own: own.into() }
    }

    #[test]
    fn a_unified_machine_has_one_place() {
        let mounts = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let places = Places::read(mounts, "0::/system.slice/appm-keeper.service\n");
        let own = "/sys/fs/cgroup/system.slice/appm-keeper.service";
        assert_eq!(places, Places { v2: Some(place("/sys/fs/cgroup", own)), ..Places::default() });
    }

    #[test]
    fn a_hybrid_machine_has_a_place_for_each_controller() {
        let mounts = "\
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let own = "9:name=systemd:/\n7:blkio:/\n4:memory:/jobs/7\n2:cpu,cpuacct:/\n0::/\n";
        let places = Places::read(mounts, own);
        assert_eq!(places.v1[&Controller::Memory], place("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/jobs/7"));
        assert_eq!(places.v1[&Controller::Cpu].own, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(places.v1[&Controller::Io].own, Path::new("/sys/fs/cgroup/blkio"));
        assert!(!places.v1.contains_key(&Controller::Pids));
        assert_eq!(places.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mounts = "32 31 0:29 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let inside = Places::read(mounts, "4:memory:/docker/ab/x\n0::/../else\n");
        assert_eq!(inside.v1[&Controller::Memory].own, Path::new("/sys/fs/cgroup/memory/x"));
        let outside = Places::read(mounts, "4:memory:/../cd\n");
        assert_eq!(outside.v1[&Controller::Memory].own, Path::new("/sys/fs/cgroup/memory"));
    }
}
