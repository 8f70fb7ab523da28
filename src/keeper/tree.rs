//! What an attempt leaves behind: the members of its session and group, its descendants, and whoever carries its tag.
//!
//! The kernel keeps no list of these, so they are sought in /proc. To make that cheap beside a thousand running
//! attempts, their main processes and everything in their sessions are passed over by getsid(2) alone; only processes
//! of foreign sessions (system daemons, and children that called setsid) are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nix::unistd::{Pid, getsid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{proc, spawn};
use crate::drivers::StartKey;

/// The process that an attempt was, or is.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub key: StartKey,
    pub pid: i32,
    pub ticks: u64,
    /// It still runs, so its number is surely its own.
    pub alive: bool,
}

/// Somebody who belongs to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub root: usize,
    pub pid: i32,
    pub ticks: u64,
}

/// Finds everybody who belongs to `roots`, the roots themselves excepted. `spared` are processes that belong to others:
/// the main processes of running attempts, the logger, the keeper.
pub(super) fn members(roots: &[Root], spared: &dyn Fn(i32) -> bool) -> Vec<Member> {
    let by_pid: BTreeMap<i32, usize> = roots
        .iter()
        .enumerate()
        .filter(|(_, root)| root.pid > 0 && (root.alive || proc::stat(root.pid).is_none()))
        .map(|(index, root)| (root.pid, index))
        .collect();
    let by_key: BTreeMap<_, _> = roots.iter().enumerate().map(|(index, root)| (root.key.clone(), index)).collect();
    let oldest = roots.iter().map(|root| root.ticks).min().unwrap_or(0);
    // One that was taken over.
    let from_outside = by_pid.keys().any(|pid| getsid(Some(Pid::from_raw(*pid))).is_ok_and(|s| s.as_raw() == 0));
    let Ok(pids) = proc::pids() else { return Vec::new() };
    let mut found = HashMap::new();
    let mut foreign = Vec::new();
    for pid in pids.filter(|pid| !spared(*pid) && !by_pid.contains_key(pid)) {
        let Ok(session) = getsid(Some(Pid::from_raw(pid))).map(Pid::as_raw) else { continue };
        // A thread of the kernel (half of all there are on a small machine), or one whose session began outside of this pid
        // namespace. What was started here is in a session of its own, and so is everything that came of it.
        if session == 0 && !from_outside {
            continue;
        }
        if !by_pid.contains_key(&session) && spared(session) {
            continue;
        }
        let Some(stat) = proc::stat(pid).filter(|stat| stat.ticks >= oldest) else { continue };
        let root = by_pid.get(&session).or_else(|| by_pid.get(&stat.pgrp)).or_else(|| by_pid.get(&stat.ppid));
        match root.copied().or_else(|| by_key.get(&proc::tag(pid)?).copied()) {
            Some(root) => {
                found.insert(pid, Member { root, pid, ticks: stat.ticks });
            }
            None => foreign.push((pid, stat)),
        }
    }
    descend(&mut found, foreign);
    found.into_values().filter(|member| member.ticks >= roots[member.root].ticks).collect()
}

/// Children of members are members.
fn descend(found: &mut HashMap<i32, Member>, mut foreign: Vec<(i32, proc::Stat)>) {
    loop {
        let before = foreign.len();
        foreign.retain(|(pid, stat)| match found.get(&stat.ppid).copied() {
            Some(parent) => {
                found.insert(*pid, Member { root: parent.root, pid: *pid, ticks: stat.ticks });
                false
            }
            None => true,
        });
        if foreign.len() == before {
            return;
        }
    }
}

/// Sends a signal to a member, if its number is still its own.
pub(super) fn signal(member: Member, signal: i32) {
    let Some(pid) = rustix::process::Pid::from_raw(member.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if proc::stat(member.pid).is_some_and(|stat| stat.ticks == member.ticks) {
        // Not permitted (a setuid program, say): nothing that could be done about it.
        let _ = spawn::kill_fd(&pidfd, signal);
    }
}

/// Kills everybody whom `roots` left behind; repeated, because they may fork meanwhile, but bounded. Answers with how many
/// each left.
pub(super) fn sweep(roots: &[Root], spared: &dyn Fn(i32) -> bool) -> BTreeMap<StartKey, usize> {
    let mut killed: BTreeMap<StartKey, BTreeSet<i32>> = BTreeMap::new();
    for _round in 0..8 {
        let left: Vec<Member> = members(roots, spared);
        let running: Vec<_> = left.into_iter().filter(|member| proc::runs(member.pid, member.ticks)).collect();
        if running.is_empty() {
            break;
        }
        for member in running {
            killed.entry(roots[member.root].key.clone()).or_default().insert(member.pid);
            signal(member, nix::libc::SIGKILL);
        }
    }
    killed.into_iter().map(|(key, pids)| (key, pids.len())).collect()
}
