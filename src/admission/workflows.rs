//! Workflows: their several spellings, and everything that is wrong with one beyond its schema.

use serde_json::Value;

use crate::{
    api::{Kind, KindInfo, Served, Violation, Workflow},
    policy::workflow,
};

/// Brings the body of a Workflow into the spelling in which it is stored; what its author should know.
pub(super) fn spelled(served: Served, body: &mut Value) -> Vec<String> {
    if served.kind == Workflow::INFO { workflow::canonical(body) } else { Vec::new() }
}

/// What is wrong with a Workflow beyond its form, as `appm workflow lint` says it. `broken` is what is wrong with its form, and `rest` is it
/// without that. What is as it was is not judged anew: an older appm let it in.
pub(super) fn violations(
    kind: &KindInfo,
    new: &Value,
    live: Option<&Value>,
    rest: &Value,
    broken: &[Violation],
) -> Vec<Violation> {
    if *kind != *Workflow::INFO || live.is_some_and(|live| live["spec"] == new["spec"]) {
        return Vec::new();
    }
    workflow::beyond(rest, broken).into_iter().map(|found| found.violation).collect()
}
