//! `POST /apis/appm.dev/v1/transactions`: several changes, all or nothing, in one revision.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Rev, Uid};

/// What one operation of a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperationVerb {
    /// The object must not exist.
    Create,
    /// Server-side apply: merge by field ownership.
    Apply,
    /// Replace the whole object except its status.
    Update,
    /// Replace the status only.
    Status,
    /// Replace a Namespace's `spec.finalizers` only.
    Finalize,
    /// Delete; the object may name nothing but itself.
    Delete,
}

/// What must hold for an operation to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// The object must have this uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// The object must be at this `resourceVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PropagationPolicy {
    /// The object goes first, its dependents after it.
    #[default]
    Background,
    /// The dependents go first.
    Foreground,
    /// The dependents stay and lose the reference.
    Orphan,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What to do.
    pub verb: OperationVerb,
    /// The object, in any form that the API serves. For `Delete`, apiVersion, kind and metadata.name are enough.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub object: Value,
    /// Apply: take fields that other managers own.
    #[serde(default)]
    pub force: bool,
    /// What must hold.
    #[serde(default)]
    pub preconditions: Preconditions,
    /// Delete: what becomes of the dependents.
    #[serde(default)]
    pub propagation_policy: PropagationPolicy,
    /// Delete: the grace period, in seconds, in place of the object's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// Create: the object has its status from the beginning; only parts of appm may say so.
    #[serde(skip)]
    #[schemars(skip)]
    pub with_status: bool,
}

impl Operation {
    /// An operation without options.
    pub fn new(verb: OperationVerb, object: Value) -> Self {
        Self {
            verb,
            object,
            force: false,
            preconditions: Preconditions::default(),
            propagation_policy: PropagationPolicy::default(),
            grace_period_seconds: None,
            with_status: false,
        }
    }
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Written, but not synced: for what is really observed again.
    Relaxed,
    /// Synced to disk before it is acknowledged.
    #[default]
    Durable,
}

/// The largest transaction that a server takes, in bytes of JSON.
pub const TRANSACTION_LIMIT: usize = 32 * 1024 * 1024;

/// Several operations, done in order, all or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// What to do, in order.
    pub operations: Vec<Operation>,
    /// Who owns the fields that are set.
    #[serde(default)]
    pub field_manager: String,
    /// Why, in the writer's words; kept in the history.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The revision that this answers to; only parts of appm say so.
    #[serde(skip)]
    #[schemars(skip)]
    pub cause: Option<Rev>,
    /// Check everything and answer as if it was done, but store nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Do it only if it is still what the Plan of this hash says, from the same state; else 409.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub plan_hash: String,
    /// In-process writers may relax; whoever comes over the wire is always durable.
    #[serde(skip)]
    #[schemars(skip)]
    pub durability: Durability,
    /// The User in whose name it is done, and by whose roles it is judged; only parts of appm may say so.
    #[serde(skip)]
    #[schemars(skip)]
    pub user: Option<String>,
}

impl Transaction {
    /// A durable transaction of `manager`.
    pub fn new(manager: &str, operations: Vec<Operation>) -> Self {
        Self {
            operations,
            field_manager: manager.to_owned(),
            reason: String::new(),
            cause: None,
            dry_run: false,
            plan_hash: String::new(),
            durability: Durability::Durable,
            user: None,
        }
    }
}

/// What an operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The object was made.
    Created,
    /// The object was changed.
    Configured,
    /// Nothing had to be changed; no revision was used.
    Unchanged,
    /// The object is gone, or is waiting for its finalizers.
    Deleted,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationResult {
    /// What was done.
    pub outcome: Outcome,
    /// The object as it is now; its last state if it was deleted.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub object: Value,
    /// What its writer should know, as in the `Warning` headers of a single write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransactionResult {
    /// The store's revision after it.
    pub resource_version: String,
    /// One result for each operation, in order.
    pub results: Vec<OperationResult>,
}
