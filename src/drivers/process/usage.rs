//! What a process uses, from /proc.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use procfs::process::Process;

use crate::{
    api::Usage,
    clock::{Clock, System},
    drivers::{StartKey, Started},
};

/// A sample of processor time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    pid: i32,
    ticks: u64,
    at: Timestamp,
}

/// Remembers the sample before, since cores are a difference.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Mutex<BTreeMap<StartKey, Sample>>,
}

impl Meter {
    /// What an attempt uses; forgets it if it does not run.
    pub(super) fn read(&self, key: &StartKey, started: Option<&Started>) -> Option<Usage> {
        let found = started.and_then(|started| measure(started.pid));
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

fn measure(pid: i32) -> Option<(Usage, Sample)> {
    let process = Process::new(pid).ok()?;
    let stat = process.stat().ok()?;
    let usage = Usage {
        cpu_cores: 0.0,
        memory_bytes: stat.rss * procfs::page_size(),
        fds: process.fd_count().ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        threads: u32::try_from(stat.num_threads).unwrap_or(0),
    };
    Some((usage, Sample { pid, ticks: stat.utime + stat.stime, at: System.now() }))
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a life of centuries fit")]
fn cores(last: Sample, now: Sample) -> f64 {
    let seconds = now.at.duration_since(last.at).as_secs_f64();
    let used = now.ticks.saturating_sub(last.ticks) as f64 / procfs::ticks_per_second() as f64;
    if seconds > 0.0 { used / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_a_dead_one_nothing() {
        let meter = Meter::default();
        let key = StartKey { uid: "u".into(), attempt: 1 };
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = Started { pid, start_time: Timestamp::UNIX_EPOCH, adopted: false };
        let usage = meter.read(&key, Some(&started)).unwrap();
        assert!(usage.memory_bytes > 0 && usage.threads > 0 && usage.fds > 0);
        assert!(meter.read(&key, Some(&started)).unwrap().cpu_cores >= 0.0);
        assert_eq!(meter.read(&key, None), None);
    }
}
