//! What an attempt uses, process or container: of its control groups where it has some, of either version, else of its
//! process and their descendants, from /proc.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use procfs::process::Process;

use crate::{
    api::{MicroTime, Usage},
    clock::{Clock, System},
    drivers::{StartKey, Started},
    keeper,
};

/// So many processes of one attempt are looked at; more are counted only.
const MOST: usize = 256;
/// So many threads of a process are asked for children.
const MOST_THREADS: usize = 64;

/// What is remembered of an attempt, since cores are a difference.
#[derive(Debug, Clone)]
struct Sample {
    pid: i32,
    groups: Vec<PathBuf>,
    /// Processor time so far, in seconds.
    seconds: f64,
    /// By the uptime.
    at: Duration,
}

/// Remembers the sample before.
#[derive(Debug, Default)]
pub(in crate::drivers) struct Meter {
    before: Mutex<BTreeMap<StartKey, Sample>>,
}

impl Meter {
    /// What an attempt uses; forgets it if it does not run, or where this process cannot look. `groups` finds the control
    /// groups of an attempt by a process of it; it is asked once.
    pub(in crate::drivers) fn read(
        &self,
        key: &StartKey,
        started: Option<&Started>,
        groups: impl FnOnce(i32) -> Vec<PathBuf>,
    ) -> Option<Usage> {
        let mut before = self.before.lock().expect("no holder panics");
        let last = before.remove(key).filter(|last| started.is_some_and(|started| started.pid == last.pid));
        let pid = started?.pid;
        let groups = last.as_ref().map_or_else(|| groups(pid), |last| last.groups.clone());
        let (now, uptime) = (System.now(), System.uptime());
        let (mut usage, seconds) = measure(pid, &groups)?;
        usage.time = Some(MicroTime(now));
        if let Some(last) = last {
            let window = uptime.saturating_sub(last.at);
            let whole = window.as_secs();
            let window = window.as_secs_f64();
            usage.cpu_cores = if window > 0.0 { (seconds - last.seconds).max(0.0) / window } else { 0.0 };
            usage.window_seconds = whole.try_into().unwrap_or(0);
        }
        before.insert(key.clone(), Sample { pid, groups, seconds, at: uptime });
        Some(usage)
    }
}

/// And the processor time so far, in seconds.
fn measure(pid: i32, groups: &[PathBuf]) -> Option<(Usage, f64)> {
    let members = match groups.first() {
        Some(dir) => members(dir),
        None => with_descendants(pid),
    };
    let mut usage = Usage { processes: members.len().try_into().unwrap_or(u32::MAX), ..Usage::default() };
    let (mut resident, mut ticks, mut alive) = (0, 0, false);
    for member in members.iter().take(MOST) {
        // Gone meanwhile: it uses nothing.
        let Ok(process) = Process::new(*member) else { continue };
        let Ok(stat) = process.stat() else { continue };
        alive = true;
        resident += stat.rss * procfs::page_size();
        // With that of its children that have ended.
        ticks += stat.utime + stat.stime + u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        usage.threads += u32::try_from(stat.num_threads).unwrap_or(0);
        usage.fds += descriptors(*member);
    }
    if !alive {
        return None;
    }
    let of_groups = |read: fn(&Path) -> Option<u64>| groups.iter().find_map(|dir| read(dir));
    usage.memory_bytes = of_groups(keeper::working_set).unwrap_or(resident);
    usage.peak_memory_bytes = of_groups(peak);
    usage.oom_kills = of_groups(oom_kills).and_then(|count| count.try_into().ok()).unwrap_or(0);
    usage.threads = of_groups(tasks).and_then(|count| count.try_into().ok()).unwrap_or(usage.threads);
    let seconds = match of_groups(nanoseconds) {
        Some(nanoseconds) => fraction(nanoseconds, 1_000_000_000),
        None => fraction(ticks, procfs::ticks_per_second()),
    };
    Some((usage, seconds))
}

#[allow(clippy::cast_precision_loss, reason = "the time of a life of centuries fits")]
fn fraction(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// The processes of a control group.
fn members(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The process and its descendants. Those whose parent has ended are the keeper's, and not found here.
fn with_descendants(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied().filter(|_| all.len() < MOST) {
        all.extend(children(parent));
        next += 1;
    }
    all
}

fn children(pid: i32) -> Vec<i32> {
    let of_thread = |thread: PathBuf| fs::read_to_string(thread.join("children")).unwrap_or_default();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let texts = threads.take(MOST_THREADS).filter_map(|thread| Some(of_thread(thread.ok()?.path())));
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

/// Open descriptors: the directory's size since Linux 6.2, else its entries.
fn descriptors(pid: i32) -> u32 {
    let path = format!("/proc/{pid}/fd");
    let size = fs::metadata(&path).map_or(0, |meta| meta.len());
    let count = if size > 0 { size } else { fs::read_dir(&path).map_or(0, |entries| entries.count() as u64) };
    count.try_into().unwrap_or(u32::MAX)
}

/// The one number in a file.
fn number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number beside a name in a file of such lines.
fn field(path: PathBuf, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn peak(dir: &Path) -> Option<u64> {
    number(dir.join("memory.peak")).or_else(|| number(dir.join("memory.max_usage_in_bytes")))
}

fn oom_kills(dir: &Path) -> Option<u64> {
    field(dir.join("memory.events"), "oom_kill").or_else(|| field(dir.join("memory.oom_control"), "oom_kill"))
}

fn tasks(dir: &Path) -> Option<u64> {
    number(dir.join("pids.current"))
}

fn nanoseconds(dir: &Path) -> Option<u64> {
    let microseconds = || field(dir.join("cpu.stat"), "usage_usec")?.checked_mul(1000);
    number(dir.join("cpuacct.usage")).or_else(microseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_a_dead_one_nothing() {
        let meter = Meter::default();
        let key = StartKey { uid: "u".into(), attempt: 1 };
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = Started { pid, start_time: jiff::Timestamp::UNIX_EPOCH, adopted: false };
        let read = |started| meter.read(&key, started, |_| Vec::new());
        let usage = read(Some(&started)).unwrap();
        assert!(usage.memory_bytes > 0 && usage.threads > 0 && usage.fds > 0 && usage.processes > 0);
        assert!(read(Some(&started)).unwrap().cpu_cores >= 0.0);
        assert_eq!(read(None), None);
    }

    #[test]
    fn children_count() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(with_descendants(me).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(measure(pid, &[]), None);
    }

    #[test]
    fn groups_of_both_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id().to_string();
        let written = |group: &str, files: &[(&str, &str)]| {
            let group = dir.path().join(group);
            fs::create_dir_all(&group).unwrap();
            files.iter().for_each(|(name, text)| fs::write(group.join(name), text).unwrap());
            fs::write(group.join("cgroup.procs"), &me).unwrap();
            group
        };
        let one = [
            written(
                "memory/x",
                &[
                    ("memory.usage_in_bytes", "5000\n"),
                    ("memory.max_usage_in_bytes", "6000\n"),
                    ("memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n"),
                    ("memory.oom_control", "oom_kill 2\n"),
                ],
            ),
            written("cpuacct/x", &[("cpuacct.usage", "7000000\n")]),
            written("pids/x", &[("pids.current", "3\n")]),
        ];
        let two = [written(
            "x.scope",
            &[
                ("memory.current", "5000\n"),
                ("memory.peak", "6000\n"),
                ("memory.stat", "anon 4\ninactive_file 1000\n"),
                ("memory.events", "oom 2\noom_kill 2\n"),
                ("cpu.stat", "usage_usec 7000\nuser_usec 1\n"),
                ("pids.current", "3\n"),
            ],
        )];
        let pid = i32::try_from(std::process::id()).unwrap();
        for groups in [&one[..], &two] {
            let (usage, seconds) = measure(pid, groups).unwrap();
            let of = (usage.memory_bytes, usage.peak_memory_bytes, usage.oom_kills, usage.threads, usage.processes);
            assert_eq!((of, seconds), ((4000, Some(6000), 2, 3, 1), 0.007));
        }
    }
}
