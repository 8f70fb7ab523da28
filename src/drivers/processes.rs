//! Who an attempt consists of, process by process, for whoever asks.
//!
//! All who ask within a second share one look at /proc, so that no number of dashboards makes the machine busy: a look costs some
//! 15 µs for each process there is. An attempt's are those of its control group where it has one, else those that the keeper
//! would end with it: its session, its group, their descendants, and orphans that carry its tag.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use procfs::{Current, Uptime, process::Process};

use crate::{
    api::{InstanceProcesses, MicroTime, ProcessFigures},
    clock::{Clock, System},
    drivers::StartKey,
    keeper,
};

/// A look that is younger than this is as good as a new one.
const FRESH: Duration = Duration::from_secs(1);
/// What was used is averaged since the look before, if that is younger.
const RECENT: Duration = Duration::from_secs(60);
/// So many processes of one attempt are listed; more are counted only.
const MOST: usize = 256;
/// Groups inside groups are followed so deep.
const DEEPEST: usize = 16;

/// Looks at the machine, and remembers the look.
#[derive(Debug, Default)]
pub(in crate::drivers) struct Scanner {
    last: Mutex<Option<Arc<Scan>>>,
}

/// The machine at one moment.
#[derive(Debug)]
struct Scan {
    at: Duration,
    time: Timestamp,
    seen: BTreeMap<i32, Seen>,
}

/// One process.
#[derive(Debug, Clone)]
struct Seen {
    group: i32,
    session: i32,
    /// When it was started, in ticks since boot: with the number, who it is.
    began: u64,
    figures: ProcessFigures,
}

/// Where an attempt is to be found.
#[derive(Debug)]
pub(in crate::drivers) struct Root<'a> {
    pub key: &'a StartKey,
    /// Its main process.
    pub pid: i32,
    /// Its control groups; the first is read.
    pub groups: Vec<PathBuf>,
    /// The main processes of other attempts: what is theirs is not its own.
    pub others: BTreeSet<i32>,
}

impl Scanner {
    /// The processes of an attempt that runs.
    pub(in crate::drivers) fn processes(&self, root: &Root<'_>) -> InstanceProcesses {
        let scan = self.look();
        let members = match root.groups.first() {
            Some(dir) => members_of_group(dir, 0).into_iter().filter(|pid| scan.seen.contains_key(pid)).collect(),
            None => scan.members(root, |pid| keeper::tag_of(pid).is_some_and(|key| key == *root.key)),
        };
        let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let items = scan.in_order(&members).into_iter().take(MOST).collect();
        let (attempt, time) = (root.key.attempt, Some(MicroTime(scan.time)));
        InstanceProcesses { attempt, time, total, items, ..InstanceProcesses::default() }
    }

    fn look(&self) -> Arc<Scan> {
        let mut last = self.last.lock().expect("no holder panics");
        let now = System.uptime();
        if let Some(scan) = last.as_ref().filter(|scan| now.saturating_sub(scan.at) < FRESH) {
            return scan.clone();
        }
        let before = last.take().filter(|scan| now.saturating_sub(scan.at) < RECENT);
        let scan = Arc::new(Scan::new(before.as_deref()));
        *last = Some(scan.clone());
        scan
    }
}

impl Scan {
    fn new(before: Option<&Scan>) -> Self {
        let (at, time) = (System.uptime(), System.now());
        // As the starts of processes are counted.
        let since_boot = Uptime::current().map_or(0.0, |uptime| uptime.uptime);
        let pids = fs::read_dir("/proc").into_iter().flatten();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        // Gone meanwhile: it is not there.
        let seen = pids.filter_map(|pid| Some((pid, Seen::read(pid, since_boot, time)?)));
        let mut scan = Self { at, time, seen: seen.collect() };
        let Some(before) = before else { return scan };
        let window = at.saturating_sub(before.at).as_secs_f64();
        for (pid, now) in &mut scan.seen {
            let known = before.seen.get(pid).filter(|then| then.began == now.began && window > 0.0);
            if let Some(then) = known {
                now.figures.cpu_cores = (now.figures.cpu_seconds - then.figures.cpu_seconds).max(0.0) / window;
            }
        }
        scan
    }

    /// The process, its session and group, and all their descendants; of orphans those that `is_tagged` knows.
    fn members(&self, root: &Root<'_>, is_tagged: impl Fn(i32) -> bool) -> BTreeSet<i32> {
        let Some(main) = self.seen.get(&root.pid) else { return BTreeSet::new() };
        let keeper = main.figures.ppid;
        let of_others = |pid: i32, seen: &Seen| {
            root.others.contains(&pid) || root.others.contains(&seen.session) || root.others.contains(&seen.group)
        };
        let mut members = BTreeSet::from([root.pid]);
        let mut rest = Vec::new();
        for (pid, seen) in self.seen.iter().filter(|(pid, seen)| **pid != root.pid && !of_others(**pid, seen)) {
            let is_orphan = seen.figures.ppid == 1 || seen.figures.ppid == keeper;
            let is_near = seen.session == root.pid || seen.group == root.pid;
            // Its environment is read of those only that nothing else places.
            if is_near || (is_orphan && seen.began >= main.began && is_tagged(*pid)) {
                members.insert(*pid);
            } else {
                rest.push((*pid, seen.figures.ppid));
            }
        }
        loop {
            let before = rest.len();
            rest.retain(|(pid, parent)| !(members.contains(parent) && members.insert(*pid)));
            if rest.len() == before {
                return members;
            }
        }
    }

    /// Each after its parent, the eldest first.
    fn in_order(&self, members: &BTreeSet<i32>) -> Vec<ProcessFigures> {
        let mut children: BTreeMap<Option<i32>, Vec<&Seen>> = BTreeMap::new();
        for seen in members.iter().filter_map(|pid| self.seen.get(pid)) {
            let parent = Some(seen.figures.ppid).filter(|parent| members.contains(parent));
            children.entry(parent).or_default().push(seen);
        }
        for siblings in children.values_mut() {
            siblings.sort_by_key(|seen| std::cmp::Reverse((seen.began, seen.figures.pid)));
        }
        let mut next = children.remove(&None).unwrap_or_default();
        let mut order = Vec::new();
        while let Some(seen) = next.pop() {
            next.extend(children.remove(&Some(seen.figures.pid)).unwrap_or_default());
            order.push(seen.figures.clone());
        }
        order
    }
}

impl Seen {
    #[allow(clippy::cast_precision_loss, reason = "the time of a life of centuries fits")]
    fn read(pid: i32, since_boot: f64, time: Timestamp) -> Option<Self> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        let per_second = procfs::ticks_per_second() as f64;
        let cpu_seconds = (stat.utime + stat.stime) as f64 / per_second;
        let age = (since_boot - stat.starttime as f64 / per_second).max(0.0);
        let start_time = SignedDuration::try_from_secs_f64(age).ok().and_then(|age| time.checked_sub(age).ok());
        let figures = ProcessFigures {
            pid,
            ppid: stat.ppid,
            name: stat.comm,
            state: stat.state.to_string(),
            cpu_cores: if age > 0.0 { cpu_seconds / age } else { 0.0 },
            cpu_seconds,
            memory_bytes: stat.rss * procfs::page_size(),
            threads: u32::try_from(stat.num_threads).unwrap_or(0),
            start_time: start_time.map(MicroTime),
        };
        Some(Self { group: stat.pgrp, session: stat.session, began: stat.starttime, figures })
    }
}

/// The processes of a control group, and of those that were made inside it.
fn members_of_group(dir: &Path, depth: usize) -> BTreeSet<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut members: BTreeSet<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if depth < DEEPEST {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        groups.for_each(|group| members.extend(members_of_group(&group.path(), depth + 1)));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(pid, parent, session)`; the group is the session, and each began a tick after the one before.
    fn machine(rows: &[(i32, i32, i32)]) -> Scan {
        let seen = rows.iter().zip(1..).map(|(&(pid, ppid, session), began)| {
            let figures = ProcessFigures { pid, ppid, name: format!("p{pid}"), ..ProcessFigures::default() };
            (pid, Seen { group: session, session, began, figures })
        });
        Scan { at: Duration::ZERO, time: Timestamp::UNIX_EPOCH, seen: seen.collect() }
    }

    fn found(scan: &Scan, pid: i32, others: &[i32], tagged: &[i32]) -> Vec<i32> {
        let key = StartKey { uid: "u".into(), attempt: 1 };
        let root = Root { key: &key, pid, groups: Vec::new(), others: others.iter().copied().collect() };
        let members = scan.members(&root, |pid| tagged.contains(&pid));
        scan.in_order(&members).iter().map(|figures| figures.pid).collect()
    }

    #[test]
    fn an_attempt_is_its_session_its_descendants_and_its_orphans_each_after_its_parent() {
        let scan = machine(&[
            (1, 0, 1),
            (10, 1, 10),  // the keeper
            (30, 10, 30), // another attempt
            (31, 30, 31), // a daemon of that one
            (20, 10, 20), // the attempt
            (24, 20, 20), // its younger child
            (22, 20, 20),
            (23, 22, 23), // a grandchild with a session of its own
            (25, 10, 20), // left behind in its session
            (26, 10, 26), // a daemon: session left, reparented, tagged
            (27, 26, 26),
            (40, 1, 40), // nobody's
        ]);
        assert_eq!(found(&scan, 20, &[30], &[26, 31]), [20, 24, 22, 23, 25, 26, 27]);
        assert_eq!(found(&scan, 30, &[20], &[]), [30, 31]);
        assert_eq!(found(&scan, 99, &[], &[]), [0; 0], "one that is not there has no processes");
    }

    #[test]
    fn this_process_and_its_child_are_seen_with_their_figures() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (me, child_pid) = (i32::try_from(std::process::id()).unwrap(), i32::try_from(child.id()).unwrap());
        let key = StartKey { uid: "u".into(), attempt: 3 };
        let scanner = Scanner::default();
        let root = Root { key: &key, pid: me, groups: Vec::new(), others: BTreeSet::new() };
        let told = scanner.processes(&root);
        assert_eq!((told.attempt, told.total as usize), (3, told.items.len()));
        let of = |pid| told.items.iter().find(|figures| figures.pid == pid).unwrap();
        assert!(of(me).memory_bytes > 0 && of(me).threads > 0 && of(child_pid).ppid == me);
        assert!(Arc::ptr_eq(&scanner.look(), &scanner.look()), "who asks within a second shares a look");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn groups_inside_a_group_belong_to_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for (group, pids) in [("", "1\n2\n"), ("a", ""), ("a/b", "3\n")] {
            fs::write(dir.path().join(group).join("cgroup.procs"), pids).unwrap();
        }
        assert_eq!(members_of_group(dir.path(), 0), BTreeSet::from([1, 2, 3]));
    }
}
