//! What an instance may be told of itself by its environment: Kubernetes' downward API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Resources;
use crate::api::{FieldPath, LimitName, Problem, Quantity, RequestName, Violation};

/// A field of the Instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Which: `metadata.name`, `metadata.namespace`, `metadata.uid`, `metadata.labels['KEY']`, `metadata.annotations['KEY']`,
    /// `spec.nodeName`, `status.hostIP`, `status.hostIPs`, `status.podIP` or `status.podIPs`. A label or an annotation that is not
    /// there is empty; those of the App count, as they were when the instance was made.
    #[schemars(length(min = 1, max = 512))]
    pub field_path: String,
}

/// What a [`FieldRef`] may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceField<'a> {
    /// The Instance's name.
    Name,
    /// Its namespace.
    Namespace,
    /// Its uid.
    Uid,
    /// A label of it.
    Label(&'a str),
    /// An annotation of it.
    Annotation(&'a str),
    /// The node it runs on.
    NodeName,
    /// The address of that node.
    HostAddress,
    /// The address it is reached at.
    Address,
}

impl FieldRef {
    /// The field; `None` if there is no such one.
    pub fn field(&self) -> Option<InstanceField<'_>> {
        let key = |of: &str| self.field_path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']");
        let is_key = |key: &&str| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || [b'-', b'_', b'.', b'/'].contains(&b))
        };
        Some(match self.field_path.as_str() {
            "metadata.name" => InstanceField::Name,
            "metadata.namespace" => InstanceField::Namespace,
            "metadata.uid" => InstanceField::Uid,
            "spec.nodeName" => InstanceField::NodeName,
            "status.hostIP" | "status.hostIPs" => InstanceField::HostAddress,
            "status.podIP" | "status.podIPs" => InstanceField::Address,
            _ => {
                let label = key("metadata.labels").filter(is_key).map(InstanceField::Label);
                label.or_else(|| key("metadata.annotations").filter(is_key).map(InstanceField::Annotation))?
            }
        })
    }

    pub(super) fn check(&self, at: &FieldPath) -> Option<Violation> {
        if self.field().is_some() {
            return None;
        }
        let message = format!(
            "`{}` is not one of metadata.name, metadata.namespace, metadata.uid, metadata.labels['KEY'], \
             metadata.annotations['KEY'], spec.nodeName, status.hostIP, status.hostIPs, status.podIP, status.podIPs",
            self.field_path
        );
        Some(Violation::new(at.field("fieldPath"), Problem::NotSupported, message))
    }
}

/// A limit or a request of the instance, as a whole number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceFieldRef {
    /// Which. A limit that is not set is what the machine has; a request that is not set is the limit, or else 0.
    pub resource: ResourceField,
    /// What it is divided by, rounded up: `1` (default) or `1m` for `cpu`; `1`, `1k`, `1M` …, `1Ki`, `1Mi` … for `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divisor: Option<Quantity>,
}

/// What a [`ResourceFieldRef`] may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResourceField {
    /// Cores at most.
    #[serde(rename = "limits.cpu")]
    LimitsCpu,
    /// Bytes of memory at most.
    #[serde(rename = "limits.memory")]
    LimitsMemory,
    /// Cores set aside.
    #[serde(rename = "requests.cpu")]
    RequestsCpu,
    /// Bytes of memory set aside.
    #[serde(rename = "requests.memory")]
    RequestsMemory,
}

impl ResourceFieldRef {
    /// The number. `node` is what the machine has: thousandths of cores, and bytes.
    pub fn value(&self, resources: &Resources, node: NodeRoom) -> u64 {
        let limit = |name| resources.limits.get(&name);
        let request = |name| resources.requests.get(&name);
        let (cpu, memory) = (limit(LimitName::Cpu), limit(LimitName::Memory));
        let milli = match self.resource {
            ResourceField::LimitsCpu => cpu.map_or(node.cpu_milli.into(), Quantity::exact_milli),
            ResourceField::LimitsMemory => memory.map_or(u128::from(node.memory_bytes) * 1000, Quantity::exact_milli),
            ResourceField::RequestsCpu => request(RequestName::Cpu).or(cpu).map_or(0, Quantity::exact_milli),
            ResourceField::RequestsMemory => request(RequestName::Memory).or(memory).map_or(0, Quantity::exact_milli),
        };
        let divisor = self.divisor.as_ref().map(Quantity::exact_milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
        u64::try_from(milli.div_ceil(divisor)).unwrap_or(u64::MAX)
    }

    pub(super) fn check(&self, at: &FieldPath) -> Option<Violation> {
        let divisor = self.divisor.as_ref()?.to_string();
        let of_cpu = matches!(self.resource, ResourceField::LimitsCpu | ResourceField::RequestsCpu);
        let allowed: &[&str] = match of_cpu {
            true => &["1", "1m"],
            false => &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
        };
        if divisor == "0" || allowed.contains(&divisor.as_str()) {
            return None;
        }
        let message = format!("`{divisor}` is not one of {}", allowed.join(", "));
        Some(Violation::new(at.field("divisor"), Problem::NotSupported, message))
    }
}

/// What there is of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeRoom {
    /// Thousandths of cores.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_paths_are_those_of_pods() {
        let labels = "metadata.labels['app.kubernetes.io/name']";
        for (path, field) in [
            ("metadata.uid", Some(InstanceField::Uid)),
            (labels, Some(InstanceField::Label("app.kubernetes.io/name"))),
            ("metadata.annotations['a']", Some(InstanceField::Annotation("a"))),
            ("status.hostIPs", Some(InstanceField::HostAddress)),
            ("metadata.labels['']", None),
            ("metadata.labels", None),
            ("metadata.labels[a]", None),
            ("metadata.annotations['a'b']", None),
            ("spec.serviceAccountName", None),
        ] {
            assert_eq!(FieldRef { field_path: path.to_owned() }.field(), field, "{path}");
        }
    }

    #[test]
    fn amounts_are_divided_and_rounded_up_and_what_is_not_said_comes_from_elsewhere() {
        let node = NodeRoom { cpu_milli: 8000, memory_bytes: 16 << 30 };
        let some: Resources =
            serde_json::from_value(json!({"limits": {"cpu": "1.5", "memory": "100M"}, "requests": {"cpu": "100m"}}))
                .unwrap();
        for (resource, divisor, of_some, of_none) in [
            ("limits.cpu", json!(null), 2, 8),
            ("limits.cpu", json!("1m"), 1500, 8000),
            ("limits.memory", json!("1Mi"), 96, 16384),
            ("limits.memory", json!(1), 100_000_000, 16 << 30),
            ("requests.cpu", json!("1m"), 100, 0),
            ("requests.cpu", json!("0"), 1, 0),
            ("requests.memory", json!("1M"), 100, 0),
        ] {
            let of: ResourceFieldRef =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            let values = (of.value(&some, node), of.value(&Resources::default(), node));
            assert_eq!(values, (of_some, of_none), "{resource} / {divisor}");
            assert_eq!(of.check(&FieldPath::of("x")), None, "{resource} / {divisor}");
        }
    }
}
