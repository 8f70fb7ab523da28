//! The keeper, the logger and the driver of processes, on real processes.

mod beside;
mod given;
mod groups;
mod logs;
mod processes;
mod redact;
mod survival;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use appm::{
    drivers::{
        Attempt, Driver, DriverEvent, End, Ended, Limits, LogLimits, ProcessProgram, Program, Start, StartKey, Started,
        process::ProcessDriver,
    },
    logger::{
        Stream,
        read::{Attempts, Line, Query, Reader, logs_dir},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::mpsc;

use crate::harness::{PATIENCE, forget_memory, wait_for};

pub(super) const EXE: &str = env!("CARGO_BIN_EXE_appm");

/// A data directory with a keeper, and a client of it. All that was started ends with it.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub driver: ProcessDriver,
    events: mpsc::UnboundedReceiver<DriverEvent>,
    seen: BTreeMap<StartKey, Ended>,
}

/// As soon as the keeper answers.
async fn connect(dir: &Path) -> (ProcessDriver, mpsc::UnboundedReceiver<DriverEvent>) {
    let driver = ProcessDriver::connect(dir, PathBuf::from(EXE)).await.unwrap();
    let events = driver.events();
    (driver, events)
}

impl Bench {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (driver, events) = connect(dir.path()).await;
        Self { dir, driver, events, seen: BTreeMap::new() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The keeper's process, by the lock that it holds and the socket that it listens on.
    pub(super) fn keeper_pid(&self) -> i32 {
        self.processes("keeper").into_iter().next().expect("a keeper runs")
    }

    pub(super) fn logger_pid(&self) -> i32 {
        wait_for("a logger", || self.processes("logger").into_iter().next().ok_or("none".to_owned()))
    }

    /// How many terminals of this data directory are still served.
    pub(super) fn relays(&self) -> usize {
        self.processes("relay").len()
    }

    /// An error names the FIFOs that the logger has not open (yet).
    pub(super) fn fifos_without_logger(&self) -> Result<(), String> {
        let root = fs::canonicalize(self.path()).unwrap();
        let fds = fs::read_dir(format!("/proc/{}/fd", self.logger_pid())).map_err(|e| e.to_string())?;
        let open: Vec<_> = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
        let attempts = fs::read_dir(root.join("instances")).unwrap().map(|uid| uid.unwrap().path().join("1"));
        let fifos = attempts.flat_map(|dir| ["out.fifo", "err.fifo"].map(|name| dir.join(name)));
        let lacking: Vec<_> = fifos.filter(|fifo| fifo.exists() && !open.contains(fifo)).collect();
        if lacking.is_empty() { Ok(()) } else { Err(format!("{lacking:?}")) }
    }

    /// Processes of this data directory by role: their working directory is the data directory.
    fn processes(&self, role: &str) -> Vec<i32> {
        let here = fs::canonicalize(self.path()).unwrap();
        let of_role = |pid: &i32| {
            let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            cmdline.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
                && fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == here)
        };
        all_pids().into_iter().filter(of_role).collect()
    }

    pub(super) async fn run(&self, start: Start) -> Started {
        self.driver.start(start).await.unwrap()
    }

    /// Waits for an attempt's end.
    pub(super) async fn end_of(&mut self, key: &StartKey) -> Ended {
        let wait = async {
            while !self.seen.contains_key(key) {
                match self.events.recv().await.expect("the driver lives") {
                    DriverEvent::Ended(key, ended) => drop(self.seen.insert(key, ended)),
                    DriverEvent::Resync => self.look().await,
                    _ => {}
                }
            }
            self.seen[key].clone()
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("`{key}` does not end"))
    }

    async fn look(&mut self) {
        for (key, attempt) in self.driver.observe().await.unwrap() {
            if let Attempt::Ended(ended) = attempt {
                self.seen.insert(key, ended);
            }
        }
    }

    /// Waits until the driver says that reports may have been missed.
    pub(super) async fn resync(&mut self) {
        let wait = async {
            while let Some(event) = self.events.recv().await {
                match event {
                    DriverEvent::Ended(key, ended) => drop(self.seen.insert(key, ended)),
                    DriverEvent::Resync => return self.look().await,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a resync comes");
    }

    /// Everything that an attempt wrote to one stream, as soon as it is `length` bytes long.
    pub(super) fn output(&self, key: &StartKey, stream: Stream, length: usize) -> Vec<u8> {
        wait_for("the output", || {
            let bytes: Vec<u8> = self.lines(key, Some(stream)).into_iter().flat_map(|line| line.bytes).collect();
            if bytes.len() >= length { Ok(bytes) } else { Err(format!("{} of {length} bytes", bytes.len())) }
        })
    }

    pub(super) fn lines(&self, key: &StartKey, stream: Option<Stream>) -> Vec<Line> {
        let query = Query { stream, ..Query::of(Attempts::Only(key.attempt)) };
        let mut reader = Reader::open(&logs_dir(self.path(), &key.uid), query).unwrap();
        let mut lines: Vec<Line> = std::iter::from_fn(|| reader.next_line().unwrap()).collect();
        lines.extend(reader.rest());
        lines
    }

    pub(super) fn text(&self, key: &StartKey, length: usize) -> String {
        String::from_utf8(self.output(key, Stream::Out, length)).unwrap()
    }

    /// Runs a script to its end and answers with what it said.
    pub(super) async fn say(&mut self, start: Start) -> String {
        let key = start.key.clone();
        self.run(start).await;
        self.end_of(&key).await;
        self.driver.acknowledge(&key).await.unwrap();
        wait_for("the FIFOs to be drained", || {
            let fifo = self.path().join(format!("instances/{}/{}/out.fifo", key.uid, key.attempt));
            if fifo.exists() { Err("not yet".to_owned()) } else { Ok(()) }
        });
        self.lines(&key, Some(Stream::Out)).into_iter().map(|l| String::from_utf8(l.bytes).unwrap()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let here = self.path().to_owned();
        for role in ["keeper", "logger", "relay"] {
            self.processes(role).into_iter().for_each(|pid| signal(pid, Signal::SIGKILL));
        }
        let uids: Vec<String> = fs::read_dir(here.join("instances"))
            .map(|entries| entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        for pid in all_pids() {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let tagged = |uid: &String| {
                let tag = format!("APPM_INSTANCE_UID={uid}");
                environ.split(|byte| *byte == 0).any(|var| var == tag.as_bytes())
            };
            if uids.iter().any(tagged) {
                signal(pid, Signal::SIGKILL);
            }
        }
        forget_memory(&here);
    }
}

pub(super) fn all_pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

pub(super) fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

pub(super) fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// A key that no other test uses: its uid ends up in environments, by which leftovers are found.
pub(super) fn key(name: &str, attempt: u32) -> StartKey {
    StartKey { uid: format!("{name}-{}", std::process::id()).into(), attempt }
}

pub(super) fn command(key: &StartKey, words: &[&str]) -> Start {
    Start {
        key: key.clone(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        secrets: Vec::new(),
        logs: LogLimits { max_size: 10 << 20, max_files: 5, redact: false },
        limits: Limits::default(),
        notify: None,
        step: None,
        program: Program::Process(Box::new(ProcessProgram {
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            umask: 0o022,
            ..ProcessProgram::default()
        })),
    }
}

pub(super) fn script(key: &StartKey, text: &str) -> Start {
    let mut start = command(key, &[]);
    process(&mut start).script = Some(text.to_owned());
    start
}

/// What is special to a process in a start.
pub(super) fn process(start: &mut Start) -> &mut ProcessProgram {
    match &mut start.program {
        Program::Process(process) => process,
        Program::Container(_) => panic!("a process"),
    }
}

pub(super) fn code(ended: &Ended) -> i32 {
    match ended.end {
        End::Code(code) => code,
        ref other => panic!("{other:?}"),
    }
}
