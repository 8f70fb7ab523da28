//! What is started: everything that a driver needs for one attempt. Nothing is looked up later.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{Notify, StartKey};
use crate::api::{Container, Port, Rlimit, RlimitName, RunStep, SecretValue};

/// One attempt, resolved. Its values may be secrets, so it prints as its key alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What is started.
    pub key: StartKey,
    /// The whole environment, expanded; nothing of the daemon's own leaks into it.
    pub env: Vec<(String, String)>,
    /// How much output is kept.
    pub logs: LogLimits,
    /// What it may use of the machine.
    #[serde(default)]
    pub limits: Limits,
    /// It may speak by sd_notify: it gets a socket for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// What it is given out of Secrets: what its output must not show, if that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretValue>,
    /// It is a step of a workflow: where it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RunStep>,
    /// Its form.
    pub program: Program,
}

impl Start {
    /// What a process executes; `None` for a container.
    pub fn process(&self) -> Option<&ProcessProgram> {
        match &self.program {
            Program::Process(process) => Some(process),
            Program::Container(_) => None,
        }
    }

    /// The same for another program: its words aside, a process runs as this one.
    #[must_use]
    pub fn with_argv(mut self, argv: Vec<String>) -> Self {
        self.notify = None;
        self.secrets.clear();
        if let Program::Process(process) = &mut self.program {
            process.argv = argv;
            (process.script, process.stdin, process.adopt) = (None, None, None);
            (process.tty, process.fed, process.lines, process.files) = (false, false, false, Vec::new());
        }
        self
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The forms of an attempt, each with a driver of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A process of this machine.
    Process(Box<ProcessProgram>),
    /// A container.
    Container(Box<ContainerProgram>),
}

/// What a process executes, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessProgram {
    /// Program and arguments, expanded; with `script`, the arguments of the script.
    pub argv: Vec<String>,
    /// A script instead: run by `sh -eu` or its `#!` interpreter.
    pub script: Option<String>,
    /// The working directory; default: the instance's own.
    pub working_dir: Option<String>,
    /// The OS user; default: the daemon's own.
    pub user: Option<String>,
    /// The OS group; default: the user's.
    pub group: Option<String>,
    /// The umask.
    pub umask: u32,
    /// The nice value.
    pub nice: i32,
    /// Resource limits.
    pub rlimits: BTreeMap<RlimitName, Rlimit>,
    /// A process that runs already is taken over instead; the rest is then of no account.
    pub adopt: Option<i32>,
    /// Text for standard input; none: `/dev/null`.
    pub stdin: Option<String>,
    /// Standard input is fed while it runs ([`super::Driver::feed`]), in place of `stdin`.
    #[serde(default)]
    pub fed: bool,
    /// Standard input and output are pipes for tasks ([`super::Driver::lines`]); what else it prints is its output all the same.
    #[serde(default)]
    pub lines: bool,
    /// Through a login shell of the user; the working directory is then by default the user's home.
    pub login: bool,
    /// The standard streams are a terminal.
    pub tty: bool,
    /// Files that are written before the program is executed, by the process's own user.
    pub files: Vec<StartFile>,
}

/// A file that a process finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFile {
    /// Where: relative to the working directory, or absolute.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub content: SecretValue,
    /// It is a secret's: it stays in memory if it can.
    #[serde(default)]
    pub secret: bool,
}

/// What an engine is asked to make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProgram {
    /// As declared, its words expanded.
    pub container: Container,
    /// The ports that it listens on, allocated.
    pub ports: Vec<Port>,
    /// Its host name.
    pub hostname: String,
    /// What people read on the container: whose it is.
    pub labels: BTreeMap<String, String>,
    /// The signal that the engine sends when it is itself stopped.
    pub stop_signal: String,
    /// Seconds between that and SIGKILL.
    pub stop_timeout: i64,
    /// Standard input is fed while it runs ([`super::Driver::feed`]).
    #[serde(default)]
    pub fed: bool,
}

/// What an attempt may use of the machine; `None`: as much as there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together. With a limit of memory alone there is no swap, as in Kubernetes.
    pub memory_swap: Option<u64>,
    /// Processor time, in thousandths of a core.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Its share of a busy disk, from 1 to 10000; others have 100.
    pub io_weight: Option<u64>,
    /// Its share of busy processors, in thousandths of a core. A wish: where it cannot be had the attempt runs all the same.
    pub cpu_request: Option<u64>,
}

/// How much output of an instance is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes at which a log file is rotated.
    pub max_size: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
    /// Secret values are taken out.
    #[serde(default)]
    pub redact: bool,
}
