//! Namespace: a tenant's room, Kubernetes' own `v1` kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Column, Condition, Kind, KindInfo, Scope, SelectableField, Subresource, at, check_label_name};

/// A room for names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Namespace {
    /// What must be gone before the namespace may go.
    #[serde(default)]
    pub spec: NamespaceSpec,
    /// Whether it is being emptied.
    #[serde(default)]
    pub status: NamespaceStatus,
}

/// Kubernetes' `NamespaceSpec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceSpec {
    /// Who still has to act before the namespace may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

/// Kubernetes' `NamespaceStatus`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// While it is emptied: what is left in it, and who still holds that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The label by which selectors can name a namespace. It is always there, as in Kubernetes.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn defaults(namespace: &mut Value) {
    let metadata = &mut namespace["metadata"];
    let name = metadata["name"].clone();
    if metadata["labels"].is_null() {
        metadata["labels"] = json!({});
    }
    if let (Value::Object(labels), false) = (&mut metadata["labels"], name == "") {
        labels.insert(NAME_LABEL.to_owned(), name);
    }
}

impl Kind for Namespace {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "",
    version: "v1",
    short_names: &["ns"],
    scope: Scope::Cluster,
    subresources: &[Subresource::Status, Subresource::Finalize],
    columns: &[Column {
        name: "Status",
        data_type: "string",
        description: "Active or Terminating",
        wide: false,
        cell: |o, _| match at(o, &["metadata", "deletionTimestamp"]).is_null() {
            true => "Active".into(),
            false => "Terminating".into(),
        },
    }],
    fields: &[SelectableField {
        label: "status.phase",
        value: |o| Some(if o.meta().is_deleting() { "Terminating" } else { "Active" }.to_owned()),
    }],
    defaults,
    check: |new, _| check_label_name(new).into_iter().collect(),
    ..KindInfo::of::<Namespace>("Namespace", "namespaces", "namespace")
};
