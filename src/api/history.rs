//! What was, on the wire: the versions of an object, and one's own transactions. Made for each answer; nothing of it is stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{API_VERSION, FieldChange, MicroTime, Uid};

/// `GET …/NAME/history`: the versions of an object that are remembered, newest first. They hold no status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// `appm.dev/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `History`.
    #[serde(default)]
    pub kind: String,
    /// Whose it is, and where it goes on.
    #[serde(default)]
    pub metadata: HistoryMetadata,
    /// The versions.
    #[serde(default)]
    pub items: Vec<Version>,
}

impl History {
    /// Its `kind`.
    pub const KIND: &'static str = "History";

    /// These versions.
    pub fn of(metadata: HistoryMetadata, items: Vec<Version>) -> Self {
        Self { api_version: API_VERSION.to_owned(), kind: Self::KIND.to_owned(), metadata, items }
    }
}

/// Whose history it is, and how far it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryMetadata {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Give this as `continue` to go on.
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// The oldest revision of which it is known what stood then.
    #[serde(default)]
    pub oldest_revision: String,
    /// When the history begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_time: Option<MicroTime>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VersionChange {
    /// It was made.
    Created,
    /// It was made anew after one of that name was deleted: another object.
    Recreated,
    /// It was changed.
    #[default]
    Changed,
    /// It was asked to go, and waits for its finalizers.
    Deleting,
    /// It was deleted.
    Deleted,
    /// It stood so when the history begins; what was before is forgotten.
    Kept,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// `Version` is the server's.
#[schemars(rename = "PastVersion")]
pub struct Version {
    /// The revision that brought it.
    pub revision: String,
    /// When; absent where that is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// The object's uid: another one is another object.
    pub uid: Uid,
    /// What became of the object.
    pub change: VersionChange,
    /// Who, through what, and why.
    #[serde(flatten)]
    pub by: Authorship,
    /// The names of the pins that keep this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// The fields that differ from the version before; the first hundred, long values cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// How many fields differ.
    #[serde(default)]
    pub changed_fields: usize,
}

/// Who did something, through what, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorship {
    /// The authenticated user; `system:…` for appm's own parts.
    #[serde(default)]
    pub user: String,
    /// The field manager: `appm`, `kubectl-client-side-apply`, `source:NAME`.
    #[serde(default)]
    pub manager: String,
    /// The request, as the audit log has it; absent for what appm did by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Why, in the writer's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The revision that this answered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// `PUT …/NAME/history/PIN`: a version that is kept whatever its age.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryPin {
    /// `appm.dev/v1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `HistoryPin`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What the version is called.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The revision of the version that stood then; absent in a request: the one that stands now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// When it was pinned. Not heard in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// By whom. Not heard in a request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
}

impl HistoryPin {
    /// Its `kind`.
    pub const KIND: &'static str = "HistoryPin";
}

/// `GET …/transactions`: one's own transactions, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastTransactionList {
    /// `appm.dev/v1`.
    #[serde(default)]
    pub api_version: String,
    /// `PastTransactionList`.
    #[serde(default)]
    pub kind: String,
    /// Where it goes on.
    #[serde(default)]
    pub metadata: HistoryMetadata,
    /// The transactions.
    #[serde(default)]
    pub items: Vec<PastTransactionInfo>,
}

impl PastTransactionList {
    /// Its `kind`.
    pub const KIND: &'static str = "PastTransactionList";

    /// These transactions.
    pub fn of(metadata: HistoryMetadata, items: Vec<PastTransactionInfo>) -> Self {
        Self { api_version: API_VERSION.to_owned(), kind: Self::KIND.to_owned(), metadata, items }
    }
}

/// A transaction that was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastTransactionInfo {
    /// Its revision.
    pub revision: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<MicroTime>,
    /// Who, through what, and why.
    #[serde(flatten)]
    pub by: Authorship,
    /// What it changed; in a list the first fifty.
    #[serde(default)]
    pub changes: Vec<ObjectChange>,
    /// How many objects it changed.
    #[serde(default)]
    pub changed_objects: usize,
    /// How many of those that would stand here may not be read by who asks.
    #[serde(default)]
    pub hidden: usize,
}

/// What a transaction did to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// The object's group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// What became of it.
    pub change: VersionChange,
}
