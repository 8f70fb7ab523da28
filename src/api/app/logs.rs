//! How much output is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Quantity;

/// How much output of an instance is kept: so many files of that size at most, over all its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// The size at which a log file is rotated; default 10Mi.
    #[serde(default = "ten_mebi")]
    pub max_size: Quantity,
    /// How many files are kept, the current one included; default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: u32,
}

/// What is taken for the message of an exit that was a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TerminationMessagePolicy {
    /// The end of what the attempt wrote: at most 2 KiB and 80 lines. Whoever may read the Instance reads it.
    FallbackToLogsOnError,
}

fn ten_mebi() -> Quantity {
    "10Mi".parse().expect("a quantity")
}
fn five() -> u32 {
    5
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: ten_mebi(), max_files: five() }
    }
}
