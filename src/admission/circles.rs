//! Objects that wait for each other: no transaction closes a circle of them.
//!
//! Looked at when all operations are planned, so that one transaction may bring both ends. Everything that was looked at
//! on the way must still be so when the plan is committed; of two transactions that close a circle together, one is refused.

use std::sync::Arc;

use serde_json::Value;

use super::{
    operation::{Planned, Refusal},
    plan::Plan,
};
use crate::{
    api::{Key, Problem, Violation},
    policy::depends::circle,
};

/// The operations that would close a circle.
pub(super) fn check(plan: &mut Plan<'_>, planned: &[Planned]) -> Vec<(usize, Refusal)> {
    let refused = planned.iter().enumerate().filter_map(|(i, done)| {
        let key = &done.key;
        let new = plan.live(key)?.clone();
        let wanted = waits_for(key, &new);
        if wanted.is_empty() || plan.base(key).is_some_and(|old| waits_for(key, &old) == wanted) {
            return None;
        }
        let path = circle(key, |key| {
            plan.stand_on(key);
            let value = plan.live(key).cloned();
            value.map_or_else(Vec::new, |value| waits_for(key, &value))
        })?;
        let names: Vec<&str> = path.iter().map(|key| &*key.name).collect();
        let message = format!("waits for itself: `{}`", names.join(" → "));
        let said = (key.kind.waits_for)(&new).into_iter().find(|(_, name)| path.iter().any(|on| *on.name == **name));
        let (at, _) = said?;
        let violation = Violation::new(at, Problem::Invalid, message);
        Some((i, Refusal::Invalid(key.kind, key.name.to_string(), vec![violation])))
    });
    refused.collect()
}

fn waits_for(key: &Key, value: &Arc<Value>) -> Vec<Key> {
    let named = (key.kind.waits_for)(value);
    named.into_iter().map(|(_, name)| Key::new(key.kind, &key.namespace, &name)).collect()
}
