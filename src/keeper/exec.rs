//! Programs that are run beside an attempt: exec probes and hooks.
//!
//! Such a program is a child of the keeper with the attempt's user, environment, directory and tag, and a session of its
//! own. It is never restarted and never on record: if the keeper dies, nobody knows how it went. Its output goes through
//! one pipe, of which the end is kept; when it takes too long, its session and its descendants are killed.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use nix::libc;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::{
    prepare::{self, PrepareError},
    proc,
    protocol::Answer,
    pump,
    serve::{Keeper, Source, Waiting},
    spawn::{self, Failure},
    tree::{self, Root},
};
use crate::{
    clock::{Clock, System},
    drivers::{EXEC_OUTPUT, Exec, ExecError, Executed, Limits, ProcessProgram, Program, Start, StartKey},
    policy::redact::LONGEST,
};

/// What an attempt was started with, its words, files and input aside: as JSON, which takes less than half of the memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin(Box<str>);

impl Origin {
    pub(super) fn of(start: Start) -> Self {
        Self(serde_json::to_string(&start.with_argv(Vec::new())).expect("it came as JSON").into())
    }

    /// As far as the process itself tells, if the keeper that started it is gone.
    fn of_process(key: &StartKey, pid: i32) -> io::Result<Start> {
        let environ = std::fs::read(format!("/proc/{pid}/environ"))?;
        let pairs = environ.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.and_then(|line| line.split('\t').next())
        };
        let process = ProcessProgram {
            working_dir: std::fs::read_link(format!("/proc/{pid}/cwd"))?.into_os_string().into_string().ok(),
            user: field("Uid").map(str::to_owned),
            group: field("Gid").map(str::to_owned),
            umask: field("Umask").and_then(|umask| u32::from_str_radix(umask, 8).ok()).unwrap_or(0o022),
            ..ProcessProgram::default()
        };
        Ok(Start {
            key: key.clone(),
            env: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            logs: pump::DEFAULT_LIMITS,
            limits: Limits::default(),
            notify: None,
            secrets: Vec::new(),
            step: None,
            program: Program::Process(Box::new(process)),
        })
    }

    fn start(&self) -> Start {
        serde_json::from_str(&self.0).expect("it was written here")
    }
}

/// A program that runs.
#[derive(Debug)]
struct Beside {
    once: Option<String>,
    start: Start,
    ticks: u64,
    gate: UnixStream,
    output: OwnedFd,
    token: u64,
    tail: Vec<u8>,
    /// When it has taken too long; none if it never does, or was killed for it.
    deadline: Option<Duration>,
    timed_out: bool,
    waiting: Vec<Waiting>,
}

/// All programs that run beside attempts, by process id, and the outcomes that are kept.
#[derive(Debug, Default)]
pub(super) struct Execs {
    running: BTreeMap<i32, Beside>,
    done: BTreeMap<(StartKey, String), Executed>,
}

impl Execs {
    /// When the next one has taken too long.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.running.values().filter_map(|beside| beside.deadline).min()
    }

    /// Nobody will ask about these attempts any more.
    pub(super) fn forget(&mut self, gone: impl Fn(&StartKey) -> bool) {
        self.done.retain(|(key, _), _| !gone(key));
    }
}

impl Keeper {
    pub(super) fn exec(&mut self, to: Waiting, key: StartKey, exec: Exec) {
        if let Some(name) = &exec.once {
            if let Some(done) = self.execs.done.get(&(key.clone(), name.clone())) {
                let done = done.clone();
                return self.answer(to, Answer::Executed(Ok(done)));
            }
            let same = |beside: &&mut Beside| beside.start.key == key && beside.once == exec.once;
            if let Some(beside) = self.execs.running.values_mut().find(same) {
                return beside.waiting.push(to);
            }
        }
        if let Err(e) = self.run_beside(to, &key, exec) {
            self.answer(to, Answer::Executed(e));
        }
    }

    /// The error is the answer.
    fn run_beside(&mut self, to: Waiting, key: &StartKey, exec: Exec) -> Result<(), Result<Executed, ExecError>> {
        let unknown = |what: &str, e: &dyn std::fmt::Display| Err(ExecError::Unknown(format!("{what}: {e}")));
        let Some(live) = self.live.get(key).filter(|live| live.is_underway()) else {
            return Err(Err(ExecError::NotRunning));
        };
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| unknown("cannot make a pipe", &e))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|e| unknown("cannot make a pipe", &e))?;
        let start = match &live.origin {
            Some(origin) => origin.start(),
            None => Origin::of_process(key, live.pid).map_err(|e| unknown("cannot see what it was given", &e))?,
        };
        let start = start.with_argv(exec.argv.clone());
        let groups = self.group_of(key).entrances().map_err(|e| unknown("cannot share its limits", &e))?;
        let child = match prepare::beside(&start, theirs, groups, &mut self.users, self.inherited, System.now()) {
            Ok(child) => child,
            Err(PrepareError::Refused(why) | PrepareError::Unavailable(why)) => {
                return Err(Ok(Executed { code: Some(126), output: why.into_bytes(), timed_out: false }));
            }
            Err(e @ PrepareError::Short(..)) => return Err(unknown("cannot run it", &e)),
        };
        let token = self.watches.add(&ours, Source::Exec).map_err(|e| unknown("cannot watch its output", &e))?;
        let (pid, gate) = spawn::fork(&child).map_err(|e| unknown("cannot fork", &e))?;
        let ticks = proc::stat(pid).map_or(0, |stat| stat.ticks);
        let deadline = System.uptime().checked_add(exec.timeout);
        // If this fails it sees end of file, ends, and is reaped as one that could not be run.
        let _ = io::Write::write(&mut &gate, &[1]);
        let waiting = vec![to];
        let (tail, timed_out) = (Vec::new(), false);
        let beside =
            Beside { start, once: exec.once, ticks, gate, output: ours, token, tail, deadline, timed_out, waiting };
        self.execs.running.insert(pid, beside);
        Ok(())
    }

    /// One of them says something.
    pub(super) fn exec_says(&mut self, token: u64) {
        let Some(beside) = self.execs.running.values_mut().find(|beside| beside.token == token) else { return };
        if !beside.take_output() {
            // Its output is closed; what else becomes of it is seen when it is reaped.
            self.watches.forget(token);
            self.watches.remove(&beside.output);
        }
    }

    /// False if that process is none of them.
    pub(super) fn exec_ended(&mut self, pid: i32, code: Option<i32>) -> bool {
        let Some(mut beside) = self.execs.running.remove(&pid) else { return false };
        self.watches.forget(beside.token);
        beside.take_output();
        let timed_out = beside.timed_out && code.is_none();
        let done = match beside.refused() {
            Some((code, why)) => Executed { code: Some(code), output: why.into_bytes(), timed_out: false },
            None => Executed { code, output: std::mem::take(&mut beside.tail), timed_out },
        };
        let is_cut = done.output.len() == EXEC_OUTPUT + LONGEST;
        let mut output = self.without_secrets(&beside.start.key, done.output, is_cut);
        output.drain(..output.len().saturating_sub(EXEC_OUTPUT));
        let done = Executed { output, ..done };
        if let Some(name) = beside.once {
            self.execs.done.insert((beside.start.key, name), done.clone());
        }
        beside.waiting.into_iter().for_each(|to| self.answer(to, Answer::Executed(Ok(done.clone()))));
        true
    }

    /// Kills those that have taken too long, with what they started.
    pub(super) fn end_slow_execs(&mut self, uptime: Duration) {
        if self.execs.next_deadline().is_none_or(|at| at > uptime) {
            return;
        }
        let slow = self.execs.running.iter_mut().filter(|(_, beside)| beside.deadline.is_some_and(|at| at <= uptime));
        let roots: Vec<Root> = slow
            .map(|(pid, beside)| {
                (beside.deadline, beside.timed_out) = (None, true);
                // A key that nobody has: the tag says to which attempt it belongs, and that one is to live.
                let key = StartKey { uid: "".into(), attempt: 0 };
                Root { key, pid: *pid, ticks: beside.ticks, alive: true }
            })
            .collect();
        let spared = self.spared();
        let members = tree::members(&roots, &spared);
        // The program itself first: one that waits for what it started would end by itself, and seem to have succeeded.
        for root in roots {
            // It is our child and not reaped yet, so the number is its own. It may have become somebody whom we may not
            // signal; then it is waited for.
            let _ = spawn::kill(root.pid, libc::SIGKILL);
        }
        members.into_iter().for_each(|member| tree::signal(member, libc::SIGKILL));
    }
}

impl Beside {
    /// Takes what it said; false if nothing more can come. Bounded, so that one that never stops is not the only one heard.
    fn take_output(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        for _turn in 0..8 {
            match rustix::io::read(&self.output, &mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.tail.extend_from_slice(&chunk[..length]),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return e == rustix::io::Errno::AGAIN,
            }
            let surplus = self.tail.len().saturating_sub(EXEC_OUTPUT + LONGEST);
            self.tail.drain(..surplus);
        }
        true
    }

    /// Why it could not be executed at all, with the code that a shell would end with.
    fn refused(&mut self) -> Option<(i32, String)> {
        let mut said = [0; Failure::LENGTH];
        let length = self.gate.read(&mut said).unwrap_or(0);
        let failure = Failure::from_bytes(&said[..length])?;
        let code = if failure.errno == libc::ENOENT { 127 } else { 126 };
        Some((code, prepare::explain(&self.start, failure, "exec.command")))
    }
}
