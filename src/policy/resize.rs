//! Which changes of resources an instance that runs can be given in place.
//!
//! A process is put into its control groups when it is started, and cannot be moved into more of them without losing sight of what it
//! used before: so limits of what was limited at the start may be moved and lifted, and no others added. An engine can add a limit
//! to any container, and cannot take one away.

use std::collections::BTreeSet;

use crate::api::{LimitName, RequestName, Resources};

/// What is shared out by one part of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shared {
    Memory,
    Cpu,
    Pids,
    Io,
    /// The weight of processor time, which is wished for and not enforced.
    CpuWeight,
}

/// True if what was started with `from` can be given `to` without a restart.
pub fn in_place(from: &Resources, to: &Resources, is_container: bool) -> bool {
    if is_container { said(from).is_subset(&said(to)) } else { shared(to).is_subset(&shared(from)) }
}

/// Everything that reaches an engine.
fn said(resources: &Resources) -> BTreeSet<(Option<LimitName>, bool)> {
    let limits = resources.limits.keys().map(|name| (Some(*name), false));
    limits.chain(resources.requests.contains_key(&RequestName::Cpu).then_some((None, true))).collect()
}

fn shared(resources: &Resources) -> BTreeSet<Shared> {
    let limits = resources.limits.keys().map(|name| match name {
        LimitName::Memory | LimitName::MemorySwap => Shared::Memory,
        LimitName::Cpu => Shared::Cpu,
        LimitName::Pids => Shared::Pids,
        LimitName::IoWeight => Shared::Io,
    });
    let mut all: BTreeSet<Shared> = limits.collect();
    if all.contains(&Shared::Cpu) || resources.requests.contains_key(&RequestName::Cpu) {
        all.insert(Shared::CpuWeight);
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_move_and_go_where_they_were_and_come_only_to_containers() {
        let rows = [
            // (from, to, a process, a container)
            (json!({}), json!({}), true, true),
            (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "2Gi"}}), true, true),
            (
                json!({"limits": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "1Gi", "memorySwap": "2Gi"}}),
                true,
                true,
            ),
            (json!({"limits": {"memory": "1Gi"}}), json!({}), true, false),
            (json!({}), json!({"limits": {"pids": "9"}}), false, true),
            (json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "1Gi", "cpu": "1"}}), false, true),
            (json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}), true, true),
            (json!({"requests": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}), false, true),
            (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}}), true, true),
            (json!({}), json!({"requests": {"memory": "1Gi"}}), true, true),
            (json!({"requests": {"memory": "1Gi"}}), json!({}), true, true),
            (json!({"limits": {"ioWeight": "100"}}), json!({"limits": {"ioWeight": "200"}}), true, true),
        ];
        for (from, to, process, container) in rows {
            let read =
                |value: &serde_json::Value| -> Resources { serde_json::from_value(value.clone()).expect("resources") };
            let (a, b) = (read(&from), read(&to));
            assert_eq!((in_place(&a, &b, false), in_place(&a, &b, true)), (process, container), "{from} to {to}");
        }
    }
}
