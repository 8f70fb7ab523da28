//! When an ended instance is started again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::GoDuration;

/// When an ended instance is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// After every exit.
    #[default]
    Always,
    /// After a failure only.
    OnFailure,
    /// Never.
    Never,
}

/// The exits that no other rule of `exitCodes` speaks of.
pub const ANY_EXIT: &str = "*";

/// How soon, how often, and what a given exit means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// The growing pause before a restart.
    #[serde(default)]
    pub backoff: Backoff,
    /// How many restarts in a row, without a stable run between them, are allowed; 0: no limit.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000000))]
    pub max_restarts: u32,
    /// What an exit code (`"0"`) or signal (`SIGKILL`) means, before `restartPolicy` is asked; `"*"` is any other one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exit_codes: BTreeMap<String, ExitAction>,
}

/// The pause before a restart: none after a stable run, then `initial`, doubling up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first pause.
    #[serde(default = "backoff_initial")]
    pub initial: GoDuration,
    /// The longest pause.
    #[serde(default = "backoff_max")]
    pub max: GoDuration,
    /// A run of at least this long is stable: the restart after it is immediate, and counting begins anew.
    #[serde(default = "backoff_reset")]
    pub reset_after: GoDuration,
}

fn backoff_initial() -> GoDuration {
    GoDuration::secs(1)
}
fn backoff_max() -> GoDuration {
    GoDuration::secs(300)
}
fn backoff_reset() -> GoDuration {
    GoDuration::secs(60)
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: backoff_initial(), max: backoff_max(), reset_after: backoff_reset() }
    }
}

/// What an exit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExitAction {
    /// Start again, by backoff.
    Restart,
    /// Stay ended.
    Stop,
    /// Stay ended, and delete the App.
    Remove,
}
