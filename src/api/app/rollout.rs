//! How a new template replaces running instances.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::IntOrString;

/// How a new template replaces running instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Little by little, or all at once.
    #[serde(default, rename = "type")]
    pub kind: StrategyType,
    /// How many at a time.
    #[serde(default)]
    pub rolling_update: RollingUpdate,
    /// True: returns to the last good revision when `progressDeadlineSeconds` passes.
    #[serde(default)]
    pub auto_rollback: bool,
}

/// How many instances a rolling update touches at a time: numbers, or percentages of `replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// How many there may be beyond `replicas`; a percentage is rounded up.
    #[serde(default = "quarter")]
    pub max_surge: IntOrString,
    /// How many may be missing; a percentage is rounded down.
    #[serde(default = "none_at_all")]
    pub max_unavailable: IntOrString,
}

fn quarter() -> IntOrString {
    IntOrString::String("25%".to_owned())
}
fn none_at_all() -> IntOrString {
    IntOrString::Int(0)
}

impl Default for RollingUpdate {
    fn default() -> Self {
        Self { max_surge: quarter(), max_unavailable: none_at_all() }
    }
}

/// The ways of replacing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StrategyType {
    /// Little by little, as replacements become available.
    #[default]
    RollingUpdate,
    /// All old ones are stopped, then all new ones are started.
    Recreate,
}
