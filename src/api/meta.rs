//! Object metadata, field for field Kubernetes' `ObjectMeta`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use serde_json::Value;

use super::{Kind, Object, TextMap, Time, Uid};

/// Kubernetes' finalizer that holds an object until its blocking dependents are gone.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Kubernetes' finalizer that holds an object until its dependents have lost their reference to it.
pub const ORPHAN_FINALIZER: &str = "orphan";

/// What every object carries beside its own fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique within kind and namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Prefix from which the server makes a name (five characters are added) when `name` is absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 248))]
    pub generate_name: String,
    /// The namespace; absent for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The identity for ever; given by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// The revision of the last change; given by the server, and a precondition when sent back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Counts changes outside metadata and status.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub generation: i64,
    /// When the server made the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// Set once by delete; the object goes when its finalizers are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
    /// The grace period that delete asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// For selecting.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub labels: TextMap,
    /// For everything else.
    #[serde(default, skip_serializing_if = "TextMap::is_empty")]
    pub annotations: TextMap,
    /// Whose dependent this object is: it is collected when its last owner is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub owner_references: Vec<OwnerReference>,
    /// Who still has to act before the object may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub finalizers: Vec<String>,
    /// Which manager owns which fields. Typed readers never see it: admission alone judges it, on the JSON, and as
    /// values it would weigh more than all the rest of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "left_out")]
    pub managed_fields: Vec<ManagedFieldsEntry>,
}

fn left_out<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ManagedFieldsEntry>, D::Error> {
    IgnoredAny::deserialize(from).map(|_| Vec::new())
}

impl ObjectMeta {
    /// The uid of a stored object.
    ///
    /// # Panics
    /// On an object that the server has not stored yet.
    pub fn uid(&self) -> &Uid {
        self.uid.as_ref().expect("every stored object has a uid")
    }

    /// True once delete was asked for.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// The owner that controls this object, if it has one.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|o| o.controller == Some(true))
    }
}

/// A reference to the owner of an object, by uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid, which alone decides.
    pub uid: Uid,
    /// True for the one owner that reconciles this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// True if foreground deletion of the owner waits for this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl OwnerReference {
    /// The reference of whatever belongs to a stored object, and goes when that does.
    pub fn to<K: Kind>(owner: &Object<K>) -> Self {
        Self {
            api_version: K::INFO.api_version(),
            kind: K::INFO.kind.to_owned(),
            name: owner.metadata.name.clone(),
            uid: owner.uid().clone(),
            controller: None,
            block_owner_deletion: None,
        }
    }

    /// The reference of what a stored object controls: it made it, and is reconciled with it.
    pub fn controller_of<K: Kind>(owner: &Object<K>) -> Self {
        Self { controller: Some(true), block_owner_deletion: Some(true), ..Self::to(owner) }
    }
}

/// The fields that one manager set, in Kubernetes' `FieldsV1` form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedFieldsEntry {
    /// Who.
    #[serde(default)]
    pub manager: String,
    /// `Apply` or `Update`.
    #[serde(default)]
    pub operation: String,
    /// The version in which the fields are written.
    #[serde(default)]
    pub api_version: String,
    /// When the set of fields last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Always `FieldsV1`.
    #[serde(default)]
    pub fields_type: String,
    /// The set: `f:name`, `k:{"key":"value"}`, `v:"value"` and `.` as keys.
    #[serde(default, rename = "fieldsV1", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    pub fields_v1: Option<Value>,
    /// `status` for entries that came through a subresource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}
