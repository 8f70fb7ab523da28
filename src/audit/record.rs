//! One record of the audit log, and the chain that records make.
//!
//! A record is one line of JSON. Its last field, `prev`, is the SHA-256 of the line before it, so that nothing can be
//! changed, taken out or put in without every later line telling.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// What `prev` says in the first record of all.
pub(super) const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Whether it was allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Yes. What became of it, `code` says.
    #[default]
    Allow,
    /// No: not by roles, or not proved who it is.
    Deny,
}

/// Who did what, from where, and what came of it. Holds names and hashes, never content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub time: String,
    /// As it stands in the server's log and in the answer's `Audit-ID`.
    pub request_id: String,
    /// Who.
    pub user: String,
    /// The user's groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// How they proved it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proof: String,
    /// From where: an address, or `socket`.
    pub source: String,
    /// `create`, `get`, …; of paths the method.
    pub verb: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Plural name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// `status`, `log`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is no resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Allowed or not.
    pub decision: Decision,
    /// What allowed it, or why nothing did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The answer's code; 0 for a change, which is recorded before its answer is known, and was made.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
    /// The revision of a change.
    #[serde(skip_serializing_if = "is_none")]
    pub revision: u64,
    /// What was changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changed>,
    /// Anything else.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// SHA-256 of the record before this one.
    pub prev: String,
}

/// One object that was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Changed {
    /// `apps.appm.dev`
    pub kind: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The revision before; 0: there was none.
    pub before: u64,
    /// SHA-256 of the object before. Not of what is sealed at rest: a short secret could be guessed from it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub old: String,
    /// SHA-256 of the object after; empty for what is sealed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub new: String,
    /// Whether the object is gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn is_none(revision: &u64) -> bool {
    *revision == 0
}

impl Record {
    /// The line, without its end.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}
