//! CustomResourceDefinition: our kinds as Kubernetes describes kinds that are not its own.
//!
//! Made anew at each start from the list of kinds and never stored or written: Terraform, Flux and k9s take schemas,
//! columns and scopes from here. Only the fields that say something about our kinds are served.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Condition, Kind, KindInfo, Scope, Verbs};

/// A kind, described.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CustomResourceDefinition {
    /// What the kind is.
    pub spec: CrdSpec,
    /// That it is served.
    pub status: CrdStatus,
}

/// What a kind is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CustomResourceDefinitionSpec")]
pub struct CrdSpec {
    /// Its API group.
    pub group: String,
    /// What it is called.
    pub names: CrdNames,
    /// `Namespaced` or `Cluster`.
    pub scope: String,
    /// The versions in which it is served.
    pub versions: Vec<CrdVersion>,
    /// How versions are made from each other.
    pub conversion: CrdConversion,
}

/// What a kind is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CustomResourceDefinitionNames")]
pub struct CrdNames {
    /// CamelCase.
    pub kind: String,
    /// Of a list of them.
    pub list_kind: String,
    /// In URLs.
    pub plural: String,
    /// On the command line.
    pub singular: String,
    /// On the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    /// `all` is what `get all` lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

/// How versions are made from each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CustomResourceConversion")]
pub struct CrdConversion {
    /// `None`: there is one version.
    pub strategy: String,
}

/// One version of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CustomResourceDefinitionVersion")]
pub struct CrdVersion {
    /// `v1`.
    pub name: String,
    /// True: it is served.
    pub served: bool,
    /// True: it is the stored form.
    pub storage: bool,
    /// What objects look like.
    pub schema: CrdSchema,
    /// The parts that have URLs of their own.
    #[serde(default)]
    pub subresources: CrdSubresources,
    /// Columns of tables that are plain fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_printer_columns: Vec<CrdColumn>,
}

/// What objects look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CustomResourceValidation")]
pub struct CrdSchema {
    /// A structural schema: OpenAPI 3.0 without references.
    #[serde(rename = "openAPIV3Schema")]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub open_api_v3_schema: Value,
}

/// The parts that have URLs of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CustomResourceSubresources")]
pub struct CrdSubresources {
    /// There, and empty, if the status is written apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<BTreeMap<String, String>>,
    /// There if it can be scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<CrdScale>,
}

/// Where `scale` finds its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CustomResourceSubresourceScale")]
pub struct CrdScale {
    /// How many are wanted.
    pub spec_replicas_path: String,
    /// How many there are.
    pub status_replicas_path: String,
    /// What selects them.
    pub label_selector_path: String,
}

/// A column that is a plain field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CustomResourceColumnDefinition")]
pub struct CrdColumn {
    /// The heading.
    pub name: String,
    /// `string`, `integer` or `date`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Where the value stands.
    pub json_path: String,
}

/// That a kind is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CustomResourceDefinitionStatus")]
pub struct CrdStatus {
    /// The names under which it is served.
    pub accepted_names: CrdNames,
    /// `NamesAccepted` and `Established`, always true.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The versions that may be found in the store.
    pub stored_versions: Vec<String>,
}

impl Kind for CustomResourceDefinition {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    group: "apiextensions.k8s.io",
    version: "v1",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    verbs: Verbs::ReadOnly,
    ..KindInfo::of::<CustomResourceDefinition>(
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
    )
};
