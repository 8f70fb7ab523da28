//! Lease: who holds something and until when, Kubernetes' own `coordination.k8s.io/v1` kind.
//!
//! This is the lock of clients that elect a leader (client-go, kube-rs, Python). The server adds nothing to it but what
//! every object has: a write that names a stale `resourceVersion` is refused, so of two that reach for the lease only one gets
//! it, and its times come back as they were written, to the microsecond. Renewals go to the short change log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChangeLog, Column, FieldPath, Kind, KindInfo, MicroTime, Problem, Violation, at};

/// Who holds something, and until when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// The holder and its times.
    #[serde(default)]
    pub spec: LeaseSpec,
}

/// Kubernetes' `LeaseSpec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseSpec {
    /// Who holds it; empty or absent if nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// How long others wait after `renewTime` before they take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    /// When the holder got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<MicroTime>,
    /// When the holder last said that it is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
    /// How often it went from one holder to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
    /// How the holder is chosen, where somebody else chooses it: `OldestEmulationVersion`, or a name with a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// To whom the holder should give it. Needs a strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_holder: Option<String>,
}

fn normalize(object: &mut Value) {
    for name in ["acquireTime", "renewTime"] {
        if let Some(time) = object.get_mut("spec").and_then(|spec| spec.get_mut(name)) {
            MicroTime::rewrite(time);
        }
    }
}

fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let spec = &new["spec"];
    let at_field = |name: &str| FieldPath::of("spec").field(name);
    let mut found = Vec::new();
    let mut least = |name: &str, least: i64, message: &str| {
        if let Some(number) = spec[name].as_i64().filter(|number| *number < least) {
            found.push(Violation::new(at_field(name), Problem::Invalid, format!("{number}: {message}")));
        }
    };
    least("leaseDurationSeconds", 1, "must be greater than 0");
    least("leaseTransitions", 0, "must be greater than or equal to 0");
    let strategy = spec["strategy"].as_str();
    if strategy == Some("") {
        found.push(Violation::new(at_field("strategy"), Problem::Invalid, "\"\": must not be empty"));
    }
    let preferred = spec["preferredHolder"].as_str().is_some_and(|holder| !holder.is_empty());
    if preferred && strategy.is_none_or(str::is_empty) {
        let message = "may only be specified if `strategy` is defined";
        found.push(Violation::new(at_field("preferredHolder"), Problem::Forbidden, message));
    }
    found
}

impl Kind for Lease {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "coordination.k8s.io",
    version: "v1",
    log: ChangeLog::Short,
    columns: &[Column {
        name: "Holder",
        data_type: "string",
        description: "who holds it",
        wide: false,
        cell: |o, _| at(o, &["spec", "holderIdentity"]).clone(),
    }],
    normalize,
    check,
    ..KindInfo::of::<Lease>("Lease", "leases", "lease")
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_the_preferred_holder_are_checked() {
        let spec = json!({"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "b"});
        let found: Vec<String> = check(&json!({"spec": spec}), None).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @"
        spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
        spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
        spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined
        ");
    }
}
