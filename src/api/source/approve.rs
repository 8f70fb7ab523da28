//! A Source that somebody must agree to: what it would do waits until the very plan of it is approved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{FieldPath, Problem, Violation, at};

/// The annotation by which a plan of a Source is approved: its hash, and whatever tells this approval from others behind a blank. Each is good for
/// once. To set it needs the verb `approve` on the Source.
pub const APPROVED_PLAN: &str = "appm.dev/approvedPlan";

/// The hash of the plan that an approval is of.
pub fn approved_hash(approval: &str) -> &str {
    approval.split(' ').next().unwrap_or_default()
}

/// Whether somebody must agree before something is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approve {
    /// What is read is applied.
    #[default]
    Automatic,
    /// What would be changed stands in `status.pending` until that very plan is approved.
    Manual,
}

/// What waits for approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingPlan {
    /// The name of what would be changed, and of the state that it stands on.
    pub hash: String,
    /// Of what was read.
    pub revision: String,
    /// Objects that would be made.
    pub created: i64,
    /// Objects that would become different.
    pub changed: i64,
    /// Objects that would be deleted.
    pub deleted: i64,
    /// The plan as `appm plan` would show it: its first lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub lines: Vec<String>,
    /// How many lines more it has.
    #[serde(default)]
    pub more_lines: i64,
}

/// Only the plan that waits can be approved: whoever approves another one has seen something else.
pub(super) fn check(new: &Value, live: Option<&Value>) -> Option<Violation> {
    let approved = |object: &Value| object["metadata"]["annotations"][APPROVED_PLAN].as_str().map(str::to_owned);
    let given = approved(new).filter(|given| live.and_then(approved).as_ref() != Some(given))?;
    let waits = live.and_then(|live| at(live, &["status", "pending", "hash"]).as_str());
    let message = match waits {
        Some(waits) if waits == approved_hash(&given) => return None,
        Some(waits) => format!("this is not the plan that waits for approval, which is {waits}: look at it again"),
        None => "no plan waits for approval".to_owned(),
    };
    Some(Violation::new(FieldPath::of("metadata.annotations").key(APPROVED_PLAN), Problem::Invalid, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_plan_that_waits_can_be_approved() {
        let source = |approved: Option<&str>, waits: Option<&str>| {
            let mut all = json!({"metadata": {"annotations": {}}, "status": {}});
            if let Some(approved) = approved {
                all["metadata"]["annotations"][APPROVED_PLAN] = json!(approved);
            }
            if let Some(waits) = waits {
                all["status"]["pending"] = json!({"hash": waits});
            }
            all
        };
        let wrong = |new: &Value, live: &Value| check(new, Some(live)).map(|found| found.to_string());
        assert_eq!(wrong(&source(Some("a"), Some("a")), &source(None, Some("a"))), None);
        assert_eq!(wrong(&source(Some("a 2"), Some("a")), &source(Some("a 1"), Some("a"))), None, "once more");
        assert_eq!(wrong(&source(Some("a"), Some("b")), &source(Some("a"), Some("b"))), None, "it was approved before");
        let old = wrong(&source(Some("a"), Some("b")), &source(None, Some("b"))).expect("an older one");
        assert!(old.contains("which is b"), "{old}");
        assert!(wrong(&source(Some("a"), None), &source(None, None)).is_some());
        assert!(check(&source(Some("a"), None), None).is_some());
    }
}
