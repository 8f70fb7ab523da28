//! Taking over a process that somebody else has started: `process.adopt`.
//!
//! It becomes an attempt as if an earlier keeper had started it: on record with its start time, which tells it from a later
//! process with the same number, held by a pidfd, its exit code out of reach. Its output stays where it goes.

use std::{io, iter::successors};

use nix::libc;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    attempts::Live,
    cgroup::Group,
    ledger::Line,
    prepare, proc,
    protocol::Answer,
    serve::{Keeper, Waiting, own_pid},
    spawn,
    tree::{self, Root},
};
use crate::{
    clock::{Clock, System},
    drivers::{End, Start, StartError, Started},
};

/// No process has so many ancestors.
const MOST_ANCESTORS: usize = 1024;

impl Keeper {
    /// Makes a process that runs already this attempt.
    pub(super) fn take_over_running(&mut self, to: Waiting, start: &Start, pid: i32) -> Result<(), StartError> {
        let (key, now) = (&start.key, System.now());
        let unknown = |what: &str, e: io::Error| StartError::Unknown(format!("{what}: {e}"));
        let ticks = match self.may_take_over(pid) {
            Ok(_) if !prepare::is_plain(&key.uid) => {
                return Err(StartError::Refused(format!("`{}` is no uid", key.uid)));
            }
            Ok(ticks) => ticks,
            Err(StartError::Refused(why)) => {
                let why = StartError::Refused(format!("spec.process.adopt.pid: {why}"));
                return Err(self.refuse(key.clone(), why, now));
            }
            Err(other) => return Err(other),
        };
        // Programs that are run beside it begin there.
        prepare::directories(key, &prepare::instance_dir(&key.uid).join("work"), None)
            .map_err(|e| unknown("cannot make its directories", e))?;
        let line = Line::Start { key: key.clone(), pid, ticks, at: now, logs: start.logs, group: Group::default() };
        self.ledger.append(line).map_err(|e| unknown("cannot write the state file", e))?;
        self.by_pid.insert(pid, key.clone());
        self.live.insert(key.clone(), Live::underway(pid, ticks, now));
        self.answer(to, Answer::Started(Started { pid, start_time: now, adopted: true }));
        if self.hold(key, pid, ticks).is_none() {
            self.end(key, End::Lost);
        }
        Ok(())
    }

    /// When it was started, if it is nobody's yet.
    fn may_take_over(&self, pid: i32) -> Result<u64, StartError> {
        let refused = |why: String| Err(StartError::Refused(why));
        let no_process = || refused(format!("no process {pid}"));
        let Some(number) = Pid::from_raw(pid).filter(|_| pid > 0) else { return no_process() };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // The latter two: it is a thread of another process.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return no_process(),
            Err(e) => return Err(StartError::Unknown(format!("cannot hold process {pid}: {e}"))),
        };
        let Some(stat) = proc::stat(pid).filter(|stat| proc::runs(pid, stat.ticks)) else { return no_process() };
        if stat.is_kernel {
            return refused(format!("process {pid} is a thread of the kernel"));
        }
        let is_own = |own: i32| {
            let mut line = successors(Some(own), |pid| Some(proc::stat(*pid)?.ppid)).take(MOST_ANCESTORS);
            line.any(|ancestor| ancestor == pid)
        };
        if stat.ppid == own_pid() || self.own_processes().any(is_own) {
            return refused(format!("process {pid} is one of appm's own, or one that appm was started by"));
        }
        if self.belongs_to_an_attempt(pid) {
            return refused(format!("process {pid} belongs to an instance already"));
        }
        match spawn::kill_fd(&pidfd, 0) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                refused(format!("process {pid} is another user's, and appm may not signal it"))
            }
            _ => Ok(stat.ticks),
        }
    }

    fn belongs_to_an_attempt(&self, pid: i32) -> bool {
        let attempts = &self.ledger.book().attempts;
        let roots = self.live.iter().map(|(key, live)| Root {
            key: key.clone(),
            pid: live.pid,
            ticks: live.ticks,
            alive: true,
        });
        let roots: Vec<Root> = roots.collect();
        self.by_pid.contains_key(&pid)
            || proc::tag(pid).is_some_and(|key| attempts.contains_key(&key))
            || attempts.values().any(|known| !known.group.is_none() && known.group.pids().contains(&pid))
            || tree::members(&roots, &self.spared()).iter().any(|member| member.pid == pid)
    }
}
