//! ResourceQuota: how much a namespace may have, Kubernetes' own `v1` kind; and the names of what can be counted.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Column, FieldPath, GROUP, Instance, Kind, KindInfo, Problem, Quantity, RequestName, Subresource, Violation, at,
    kinds,
};

/// How much a namespace may have of what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceQuota {
    /// The bounds.
    #[serde(default)]
    pub spec: ResourceQuotaSpec,
    /// What is used of them.
    #[serde(default)]
    pub status: ResourceQuotaStatus,
}

/// The bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotaSpec {
    /// The most of each: `count/PLURAL.GROUP` (`count/apps.appm.dev`), `pods` (Instances that have not ended for good), `configmaps`,
    /// `secrets`, `requests.cpu`, `requests.memory`, `limits.cpu`, `limits.memory`; `cpu` and `memory` are requests, too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hard: BTreeMap<String, Quantity>,
    /// Not supported: a quota is of everything in its namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_selector: Option<ScopeSelector>,
}

/// Which of a namespace's Pods a Kubernetes quota is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScopeSelector {
    /// All of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<ScopeRequirement>,
}

/// One condition of a [`ScopeSelector`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScopeRequirement {
    /// The name of a scope.
    pub scope_name: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// The values for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceQuotaStatus {
    /// The bounds that hold.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hard: BTreeMap<String, Quantity>,
    /// What is used of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Quantity>,
}

/// The reason of the cause that a refusal by a quota has.
pub const OVER_QUOTA: &str = "QuotaExceeded";

/// What can be counted and bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The objects of a kind.
    Kind(&'static KindInfo),
    /// Objects of all kinds but those that appm makes by itself for others (Events, Revisions, Instances).
    Objects,
    /// Instances that have not ended for good: Kubernetes' `pods`.
    Instances,
    /// What Instances request, in thousandths of a core or of a byte. A limit is a request where nothing is requested.
    Requests(RequestName),
    /// What Instances are limited to.
    Limits(RequestName),
    /// What Kubernetes knows and appm has none of.
    Nothing,
}

/// Names that Kubernetes counts and appm has none of.
const FOREIGN: [&str; 8] = [
    "ephemeral-storage",
    "limits.ephemeral-storage",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "requests.ephemeral-storage",
    "requests.storage",
    "services.loadbalancers",
    "services.nodeports",
];

impl Measure {
    /// What a key of `spec.hard` means; `None` if nothing.
    pub fn of(key: &str) -> Option<Self> {
        let of_kind = |group: &str, plural: &str| {
            kinds::served().find(|s| s.group() == group && s.plural() == plural).map(|s| Self::Kind(s.kind))
        };
        Some(match key {
            "cpu" | "requests.cpu" => Self::Requests(RequestName::Cpu),
            "memory" | "requests.memory" => Self::Requests(RequestName::Memory),
            "limits.cpu" => Self::Limits(RequestName::Cpu),
            "limits.memory" => Self::Limits(RequestName::Memory),
            "pods" => Self::Instances,
            "configmaps" | "secrets" | "services" | "resourcequotas" => of_kind("", key)?,
            key if FOREIGN.contains(&key) => Self::Nothing,
            key if key.starts_with("hugepages-") || key.starts_with("requests.hugepages-") => Self::Nothing,
            key => match key.strip_prefix("count/") {
                Some(named) => {
                    let (plural, group) = named.split_once('.').unwrap_or((named, ""));
                    // Of others there is none, and never will be; one of ours that is not there is misspelt.
                    of_kind(group, plural).or((group != GROUP && !plural.is_empty()).then_some(Self::Nothing))?
                }
                // Devices, and what storage classes give.
                None if key.starts_with("requests.") && key.contains('/') => Self::Nothing,
                None if key.contains(".storageclass.storage.k8s.io/") => Self::Nothing,
                None => return None,
            },
        })
    }

    /// True for what is counted in whole numbers.
    pub fn is_count(self) -> bool {
        !matches!(self, Self::Requests(_) | Self::Limits(_))
    }

    /// A bound as a number: whole, or in thousandths.
    pub fn amount(self, quantity: &Quantity) -> i128 {
        let milli = i128::try_from(quantity.exact_milli()).unwrap_or(i128::MAX);
        if self.is_count() { milli / 1000 } else { milli }
    }

    /// A number as Kubernetes would write it.
    pub fn quantity(self, amount: i128) -> Quantity {
        let text = match self {
            Self::Requests(RequestName::Memory) | Self::Limits(RequestName::Memory) => bytes(amount / 1000),
            measure if measure.is_count() => amount.to_string(),
            _ if amount % 1000 == 0 => (amount / 1000).to_string(),
            _ => format!("{amount}m"),
        };
        text.parse().unwrap_or_else(|_| "0".parse().expect("a number"))
    }
}

/// In the largest unit that needs no fraction.
fn bytes(amount: i128) -> String {
    let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let fits = units.into_iter().find(|(bits, _)| amount != 0 && amount % (1 << bits) == 0);
    fits.map_or_else(|| amount.to_string(), |(bits, unit)| format!("{}{unit}", amount >> bits))
}

/// What an Instance asks of the machine, as far as quotas care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// It has ended, and nothing will start it again.
    pub over: bool,
    /// What it requests, in thousandths.
    pub requests: BTreeMap<RequestName, i128>,
    /// What it is limited to, in thousandths.
    pub limits: BTreeMap<RequestName, i128>,
}

impl Claim {
    /// The claim of an Instance; `None` of anything else.
    pub fn of(kind: &KindInfo, json: &[u8]) -> Option<Self> {
        if kind != Instance::INFO {
            return None;
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Read {
            spec: Spec,
            status: Status,
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Spec {
            resources: Resources,
            suspend: bool,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Resources {
            requests: BTreeMap<String, Quantity>,
            limits: BTreeMap<String, Quantity>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            state: State,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct State {
            exited: Option<serde::de::IgnoredAny>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Metadata {
            owner_references: Vec<super::OwnerReference>,
            labels: BTreeMap<String, String>,
        }
        let Read { spec, status, metadata } = serde_json::from_slice(json).unwrap_or_default();
        let names = [("cpu", RequestName::Cpu), ("memory", RequestName::Memory)];
        let amounts = |of: &BTreeMap<String, Quantity>| -> BTreeMap<RequestName, i128> {
            let there = names.iter().filter_map(|(word, name)| Some((*name, of.get(*word)?)));
            there.map(|(name, quantity)| (name, Self::milli(quantity))).collect()
        };
        let limits = amounts(&spec.resources.limits);
        // As in Kubernetes: who names a limit only requests as much.
        let mut requests = limits.clone();
        requests.extend(amounts(&spec.resources.requests));
        // What an App has started can be started again, but for what ran beside a job that is over. (Whoever resumes that nevertheless
        // asks for more again, and is held against the quota.)
        let controller = metadata.owner_references.iter().find(|owner| owner.controller == Some(true));
        let once = controller.is_some_and(|owner| owner.kind != super::App::INFO.kind);
        let beside_a_job = spec.suspend && metadata.labels.contains_key(super::WORKFLOW_RUN_LABEL);
        Some(Self { over: (once || beside_a_job) && status.state.exited.is_some(), requests, limits })
    }

    fn milli(quantity: &Quantity) -> i128 {
        i128::try_from(quantity.exact_milli()).unwrap_or(i128::MAX)
    }
}

/// A number is written as the text that it stands for.
fn normalize(object: &mut Value) {
    for place in ["spec", "status"] {
        for list in ["hard", "used"] {
            let amounts = object.get_mut(place).and_then(|part| part.get_mut(list)).and_then(Value::as_object_mut);
            for amount in amounts.into_iter().flat_map(|map| map.values_mut()).filter(|amount| amount.is_number()) {
                *amount = amount.to_string().into();
            }
        }
    }
}

fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    let bounds = at(new, &["spec", "hard"]).as_object().into_iter().flatten();
    for (key, bound) in bounds {
        let path = FieldPath::of("spec.hard").key(key);
        let quantity = bound.as_str().and_then(|text| text.parse::<Quantity>().ok());
        match Measure::of(key) {
            None => {
                let message = "must be `count/PLURAL.GROUP`, pods, configmaps, secrets, cpu, memory, or requests. or limits. \
                               before cpu or memory";
                found.push(Violation::new(path, Problem::Invalid, format!("\"{key}\": {message}")));
            }
            Some(measure) if measure.is_count() && quantity.is_some_and(|q| q.exact_milli() % 1000 != 0) => {
                found.push(Violation::new(path, Problem::Invalid, "must be an integer"));
            }
            Some(_) => {}
        }
    }
    if at(new, &["spec", "scopes"]).as_array().is_some_and(|scopes| !scopes.is_empty()) {
        let message = "a quota is of everything in its namespace";
        found.push(Violation::new(FieldPath::of("spec.scopes"), Problem::Forbidden, message));
    }
    if at(new, &["spec", "scopeSelector"]).is_object() {
        let message = "a quota is of everything in its namespace";
        found.push(Violation::new(FieldPath::of("spec.scopeSelector"), Problem::Forbidden, message));
    }
    found
}

/// `pods: 2/3, requests.cpu: 1/2`, of limits or of the others.
fn shares(object: &Value, limits: bool) -> Value {
    let status = &object["status"];
    let words = status["hard"].as_object().into_iter().flatten();
    let words = words.filter(|(key, _)| key.contains("limits") == limits).map(|(key, hard)| {
        let used = status["used"][key].as_str().unwrap_or("0");
        format!("{key}: {used}/{}", hard.as_str().unwrap_or_default())
    });
    words.collect::<Vec<_>>().join(", ").into()
}

impl Kind for ResourceQuota {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["quota"],
    subresources: &[Subresource::Status],
    columns: &[
        Column {
            name: "Request",
            data_type: "string",
            description: "what is used and what there is of counts and requests",
            wide: false,
            cell: |o, _| shares(o, false),
        },
        Column {
            name: "Limit",
            data_type: "string",
            description: "what is used and what there is of limits",
            wide: false,
            cell: |o, _| shares(o, true),
        },
    ],
    normalize,
    check,
    ..KindInfo::of::<ResourceQuota>("ResourceQuota", "resourcequotas", "resourcequota")
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{App, Secret};

    #[test]
    fn names_mean_what_kubernetes_means() {
        for (key, expected) in [
            ("count/apps.appm.dev", Some(Measure::Kind(App::INFO))),
            ("count/pods", Some(Measure::Kind(Instance::INFO))),
            ("pods", Some(Measure::Instances)),
            ("secrets", Some(Measure::Kind(Secret::INFO))),
            ("count/secrets", Some(Measure::Kind(Secret::INFO))),
            ("cpu", Some(Measure::Requests(RequestName::Cpu))),
            ("requests.memory", Some(Measure::Requests(RequestName::Memory))),
            ("limits.cpu", Some(Measure::Limits(RequestName::Cpu))),
            ("count/deployments.apps", Some(Measure::Nothing)),
            ("persistentvolumeclaims", Some(Measure::Nothing)),
            ("requests.nvidia.com/gpu", Some(Measure::Nothing)),
            ("count/app.appm.dev", None),
            ("count/", None),
            ("disk", None),
        ] {
            assert_eq!(Measure::of(key), expected, "{key}");
        }
    }

    #[test]
    fn amounts_are_written_as_people_write_them() {
        let (cpu, memory) = (Measure::Requests(RequestName::Cpu), Measure::Limits(RequestName::Memory));
        for (measure, amount, text) in [
            (cpu, 1500, "1500m"),
            (cpu, 2000, "2"),
            (memory, 1000 << 30, "1Gi"),
            (memory, 1_536_000 << 20, "1536Mi"),
            (memory, 1_000_000, "1000"),
            (memory, 0, "0"),
            (Measure::Instances, 7, "7"),
        ] {
            assert_eq!(measure.quantity(amount).to_string(), text);
            assert_eq!(measure.amount(&text.parse().expect("a quantity")), amount, "{text}");
        }
    }

    #[test]
    fn a_misspelt_name_a_fraction_and_scopes_are_refused() {
        let new = json!({"spec": {
            "hard": {"pod": "1", "pods": "1.5", "cpu": "1.5"}, "scopes": ["BestEffort"], "scopeSelector": {}}});
        let found: Vec<String> = check(&new, None).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @r#"
        spec.hard[pod]: Invalid value: "pod": must be `count/PLURAL.GROUP`, pods, configmaps, secrets, cpu, memory, or requests. or limits. before cpu or memory
        spec.hard[pods]: Invalid value: must be an integer
        spec.scopes: Forbidden: a quota is of everything in its namespace
        spec.scopeSelector: Forbidden: a quota is of everything in its namespace
        "#);
    }

    #[test]
    fn an_instance_that_can_start_again_still_counts() {
        let claim = |owner: &str, state: Value| {
            let owners =
                json!([{"apiVersion": "appm.dev/v1", "kind": owner, "name": "x", "uid": "u", "controller": true}]);
            let resources = json!({"limits": {"cpu": "2", "memory": "1Ki", "pids": 5}, "requests": {"cpu": "500m"}});
            let object = json!({
                "metadata": {"ownerReferences": owners}, "spec": {"resources": resources}, "status": {"state": state}});
            Claim::of(Instance::INFO, object.to_string().as_bytes()).expect("a claim")
        };
        let (running, exited) = (json!({"running": {}}), json!({"exited": {"reason": "Completed"}}));
        let over = |owner: &str, state: &Value| claim(owner, state.clone()).over;
        assert!(over("Run", &exited) && !over("Run", &running) && !over("App", &exited));
        let service = |suspend: bool, state: &Value| {
            let object = json!({
                "metadata": {
                    "labels": {"appm.dev/workflow-run": "ci-1"},
                    "ownerReferences": [{"apiVersion": "appm.dev/v1", "kind": "App", "name": "a", "uid": "u", "controller": true}],
                },
                "spec": {"suspend": suspend}, "status": {"state": state},
            });
            Claim::of(Instance::INFO, object.to_string().as_bytes()).expect("a claim").over
        };
        assert!(service(true, &exited) && !service(true, &running) && !service(false, &exited));
        let read = claim("App", running);
        assert_eq!(read.limits, [(RequestName::Memory, 1_024_000), (RequestName::Cpu, 2000)].into());
        assert_eq!(read.requests, [(RequestName::Memory, 1_024_000), (RequestName::Cpu, 500)].into());
        assert_eq!(Claim::of(App::INFO, b"{}"), None);
    }
}
