//! What a container uses, from its control groups, of either version; a few small files each time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use crate::{
    api::Usage,
    clock::{Clock, System},
    drivers::{
        StartKey, Started,
        process::usage::{descriptors, field, members, number},
    },
};

const ROOT: &str = "/sys/fs/cgroup";
/// Of so many processes at most the open files are counted.
const MOST: usize = 1024;

/// A sample of processor time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    pid: i32,
    nanos: u64,
    /// By the uptime.
    at: Duration,
}

/// Remembers the sample before, since cores are a difference.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Mutex<BTreeMap<StartKey, Sample>>,
}

impl Meter {
    /// What an attempt uses; forgets it if it does not run, or runs where this process cannot look.
    pub(super) fn read(&self, key: &StartKey, started: Option<&Started>) -> Option<Usage> {
        let found = started.and_then(|started| {
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", started.pid)).ok()?;
            let (usage, nanos) = measure(&groups, Path::new(ROOT))?;
            Some((usage, Sample { pid: started.pid, nanos, at: System.uptime() }))
        });
        let mut before = self.before.lock().expect("no holder panics");
        let Some((mut usage, sample)) = found else {
            before.remove(key);
            return None;
        };
        if let Some(last) = before.insert(key.clone(), sample).filter(|last| last.pid == sample.pid) {
            usage.cpu_cores = cores(last, sample);
        }
        Some(usage)
    }
}

/// Usage and processor time, from what `/proc/PID/cgroup` says.
fn measure(groups: &str, root: &Path) -> Option<(Usage, u64)> {
    let group = |controller: &str| -> Option<PathBuf> {
        let lines = groups.lines().filter_map(|line| line.split_once(':').and_then(|(_, rest)| rest.split_once(':')));
        let (mut first, mut unified) = (None, None);
        for (names, path) in lines {
            if names.split(',').any(|name| name == controller) {
                first = Some(root.join(controller).join(path.trim_start_matches('/')));
            } else if names.is_empty() {
                unified = Some(root.join(path.trim_start_matches('/')));
            }
        }
        first.or(unified)
    };
    let memory = group("memory")?;
    let used = number(memory.join("memory.current")).or_else(|| number(memory.join("memory.usage_in_bytes")))?;
    // What the kernel would give back at once is not counted, as in `docker stats`.
    let stat = memory.join("memory.stat");
    let idle = field(stat.clone(), "total_inactive_file").or_else(|| field(stat, "inactive_file")).unwrap_or(0);
    let micros = |dir: PathBuf| field(dir.join("cpu.stat"), "usage_usec").map(|micros| micros * 1000);
    let nanos = group("cpuacct").and_then(|dir| number(dir.join("cpuacct.usage")).or_else(|| micros(dir)));
    let threads = group("pids").and_then(|dir| number(dir.join("pids.current")));
    let members = members(&memory);
    let usage = Usage {
        processes: members.len().try_into().unwrap_or(u32::MAX),
        fds: members.iter().take(MOST).map(|pid| descriptors(*pid)).sum(),
        memory_bytes: used.saturating_sub(idle),
        threads: threads.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        ..Usage::default()
    };
    Some((usage, nanos.unwrap_or(0)))
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a life of centuries fit")]
fn cores(last: Sample, now: Sample) -> f64 {
    let seconds = now.at.saturating_sub(last.at).as_secs_f64();
    let used = now.nanos.saturating_sub(last.nanos) as f64 / 1e9;
    if seconds > 0.0 { used / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write(
            &one,
            &[
                ("memory/docker/x/memory.usage_in_bytes", "5000\n"),
                ("memory/docker/x/cgroup.procs", "4194401\n4194402\n"),
                ("memory/docker/x/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n"),
                ("cpuacct/docker/x/cpuacct.usage", "7000000\n"),
                ("pids/docker/x/pids.current", "3\n"),
            ],
        );
        write(
            &two,
            &[
                ("docker-x.scope/memory.current", "5000\n"),
                ("docker-x.scope/cgroup.procs", "4194401\n4194402\n"),
                ("docker-x.scope/memory.stat", "anon 4\ninactive_file 1000\n"),
                ("docker-x.scope/cpu.stat", "usage_usec 7000\nuser_usec 1\n"),
                ("docker-x.scope/pids.current", "3\n"),
            ],
        );
        let first = "9:pids:/docker/x\n4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n";
        let expected = Usage { memory_bytes: 4000, threads: 3, processes: 2, ..Usage::default() };
        assert_eq!(measure(first, &one), Some((expected.clone(), 7_000_000)));
        assert_eq!(measure("0::/docker-x.scope\n", &two), Some((expected, 7_000_000)));
        assert_eq!(measure(first, &two), None);
    }
}
