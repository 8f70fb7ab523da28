//! The process form of an App: a process of the operating system.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Rlimit, RlimitName};

/// A process of the operating system. Exactly one of `command`, `script` and `adopt`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Program and arguments, no shell; `$(NAME)` expands from the environment, `$$(NAME)` is literal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub command: Vec<String>,
    /// More arguments, appended to `command`, expanded alike; of a `script` its arguments, `$1` and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub args: Vec<String>,
    /// A script instead of a command: run by `sh -eu`, or by the interpreter of its `#!` line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262144))]
    pub script: Option<String>,
    /// The working directory, absolute; default: a directory of the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/"))]
    pub working_dir: Option<String>,
    /// The OS user; default: the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// The OS group; default: the user's primary group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group: Option<String>,
    /// File mode creation mask, octal; default "022".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^0?[0-7]{3}$"))]
    pub umask: Option<String>,
    /// Scheduling priority; default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -20, max = 19))]
    pub nice: Option<i32>,
    /// Resource limits by name (`nofile`, `core`, `as`, …): a number for soft and hard alike, `soft:hard`, `unlimited`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<RlimitName, Rlimit>,
    /// Text given to the process on its standard input, which is then closed; default: nothing to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub stdin: Option<String>,
    /// True: through a login shell of the user, with the environment that it makes; the working directory is then by
    /// default the user's home.
    #[serde(default, skip_serializing_if = "is_false")]
    pub login: bool,
    /// True: its standard streams are a terminal. What it prints is kept as its standard output.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Instead of `command` and `script`: takes over a process that runs already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Adopt>,
}

/// A process that runs already, as it is. Its output goes where it went before, its exit code cannot be known, and when it
/// has ended nothing is started again: its number may be another's by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Adopt {
    /// Its process id.
    #[schemars(range(min = 2, max = 4194304))]
    pub pid: i32,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
