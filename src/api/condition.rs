//! Conditions: what is true of an object, since when, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody could look.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One condition, exactly Kubernetes' `metav1.Condition`. Lists of them are maps keyed by `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// An adjective: `Ready`, `Available`, `Progressing`, `Complete`, `Failed`, `Suspended`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word for programs.
    #[serde(default)]
    pub reason: String,
    /// One sentence for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last flipped.
    pub last_transition_time: Time,
    /// The generation that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// One as it is judged at this moment. [`Condition::set`] gives it the time at which it flipped.
    pub fn new(
        kind: &str,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
        at: Time,
    ) -> Self {
        Self {
            kind: kind.to_owned(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: at,
            observed_generation: None,
        }
    }

    /// The same, judged of this generation.
    #[must_use]
    pub fn of(mut self, generation: i64) -> Self {
        self.observed_generation = Some(generation);
        self
    }

    /// Puts `next` in place of the condition of its type, keeping the old transition time unless the status flips.
    /// The list stays sorted by type, so that equal conditions make equal bytes.
    pub fn set(conditions: &mut Vec<Condition>, mut next: Condition) {
        match conditions.iter_mut().find(|c| c.kind == next.kind) {
            Some(old) => {
                if old.status == next.status {
                    next.last_transition_time = old.last_transition_time;
                }
                *old = next;
            }
            None => {
                conditions.push(next);
                conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
            }
        }
    }

    /// The condition of a type, if it was judged yet.
    pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
        conditions.iter().find(|c| c.kind == kind)
    }

    /// True if the condition of a type is there and holds.
    pub fn holds(conditions: &[Condition], kind: &str) -> bool {
        Self::find(conditions, kind).is_some_and(|c| c.status == ConditionStatus::True)
    }
}
