//! What the keeper reads from /proc: who a process is, and which boot this is.

use std::{
    fs,
    io::{self, Read},
};

use crate::drivers::StartKey;

/// `PF_KTHREAD`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// The fields of `/proc/PID/stat` that tell one process from a later one with the same number, and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z`, …
    pub state: char,
    /// Its parent's id.
    pub ppid: i32,
    /// The id of its process group.
    pub pgrp: i32,
    /// When it was started, in clock ticks since boot.
    pub ticks: u64,
    /// A thread of the kernel.
    pub is_kernel: bool,
}

/// Reads a process's stat; `None` if there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    // In one piece: the kernel says no size, so that a vector would be grown and read into step by step.
    let mut text = [0; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    parse_stat(&String::from_utf8_lossy(&text[..length]))
}

/// The command in parentheses may hold anything, parentheses included: the fields begin after the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ');
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let pgrp = fields.next()?.parse().ok()?;
    let flags: u32 = fields.nth(3)?.parse().ok()?;
    let ticks = fields.nth(12)?.parse().ok()?;
    Some(Stat { state, ppid, pgrp, ticks, is_kernel: flags & KERNEL_THREAD != 0 })
}

/// True if this very process still runs (a zombie does not).
pub(super) fn runs(pid: i32, ticks: u64) -> bool {
    pid > 0 && stat(pid).is_some_and(|stat| stat.ticks == ticks && !matches!(stat.state, 'Z' | 'X'))
}

/// All process ids there are.
pub(super) fn pids() -> io::Result<impl Iterator<Item = i32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// The children of this process, which has one thread. What a descendant of it leaves behind falls to it, so is among them; and none goes
/// while they are read, because nobody else takes their exits. `None` if the kernel keeps no such list.
pub(super) fn children() -> Option<Vec<i32>> {
    let text = fs::read_to_string("/proc/thread-self/children").ok()?;
    text.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// The Instance and attempt in whose environment a process was started.
pub fn tag(pid: i32) -> Option<StartKey> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &[u8]| {
        let found = environ.split(|byte| *byte == 0).find_map(|var| var.strip_prefix(name))?;
        std::str::from_utf8(found).ok()
    };
    let attempt = value(b"APPM_ATTEMPT=")?.parse().ok()?;
    Some(StartKey { uid: value(b"APPM_INSTANCE_UID=")?.into(), attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_and_spaces_is_no_obstacle() {
        let text = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2 3";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', ppid: 7, pgrp: 42, ticks: 9876, is_kernel: false }));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn a_child_is_among_the_children_until_its_exit_is_taken() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children().unwrap().contains(&pid));
        child.wait().unwrap();
        assert!(!children().unwrap().contains(&pid));
    }

    #[test]
    fn this_process_runs_and_an_impostor_does_not() {
        let me = i32::try_from(std::process::id()).unwrap();
        let ticks = stat(me).unwrap().ticks;
        assert!(runs(me, ticks));
        assert!(!runs(me, ticks + 1));
    }
}
