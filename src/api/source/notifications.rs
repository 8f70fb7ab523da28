//! Who is told what becomes of a Source, and what somebody is still to be told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{FieldPath, LocalObjectReference, Problem, Time, Violation};

/// Somebody who is told what becomes of a Source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceNotification {
    /// Tells it from others of the Source.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Where it is sent: `https://…`, or `http://…`. The server itself asks there, so it needs the host power `host-network`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Of what; default: of everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<SourceEvent>,
    /// A Secret of the Source's namespace. What is sent is signed with its entry `token` (`X-Appm-Signature-256: sha256=…`, HMAC-SHA256 of the
    /// body); `ca.crt` is the authority of the receiver, if the machine does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
}

/// What becomes of a Source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceEvent {
    /// Another revision is applied.
    Applied,
    /// What is there cannot be read, or is not taken.
    Failed,
    /// It waits, and waiting alone does not help.
    Stalled,
    /// Objects are not as they were declared.
    Drifted,
    /// All that it has applied is well.
    Healthy,
    /// It is not.
    Unhealthy,
    /// What it would change waits for somebody's leave.
    ApprovalNeeded,
}

/// Something that somebody is still to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingNotification {
    /// The same whenever it is sent, which may be twice.
    pub id: String,
    /// What has happened.
    pub event: SourceEvent,
    /// When.
    pub time: Time,
    /// One CamelCase word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// At which revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Who was not told yet.
    pub receivers: Vec<String>,
}

/// Of what somebody was last told, or would have been: what is so still is not told again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// The revision that is applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub applied: String,
    /// How it is: `Healthy`, or what is wrong, with which revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ready: String,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stalled: String,
    /// That objects are not as they were declared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub drifted: String,
    /// How much there was to tell.
    #[serde(default)]
    pub count: i64,
}

/// The rules of the field.
pub(super) fn check(notifications: &Value, root: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for (i, one) in notifications.as_array().into_iter().flatten().enumerate() {
        let at = root.index(i);
        if one["name"].as_str().is_some_and(|name| !names.insert(name)) {
            found.push(Violation::new(at.field("name"), Problem::Duplicate, "is the name of another one"));
        }
        if let Some(Err(message)) = one["url"].as_str().map(check_url) {
            found.push(Violation::new(at.field("url"), Problem::Invalid, message));
        }
    }
    found
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        _ if url.contains(|c: char| c.is_whitespace() || c.is_control()) => Err("must have no blanks in it"),
        None => Err("must begin with https:// or http://"),
        Some(host) if host.contains('@') => Err("must have no user and no password in it"),
        Some("") => Err("must name a host"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_receiver_has_a_name_of_its_own_and_a_url() {
        let wrong = |all: Value| check(&all, &FieldPath::of("spec.notifications")).len();
        let one = |name: &str, url: &str| json!({"name": name, "url": url});
        assert_eq!(wrong(json!([one("a", "https://example.org/hook"), one("b", "http://127.0.0.1:8080")])), 0);
        assert_eq!(wrong(json!([one("a", "https://example.org"), one("a", "https://example.org")])), 1);
        for url in ["ftp://x", "https://", "https://me:pw@example.org/", "https://a b", "example.org", "https:///x"] {
            assert_eq!(wrong(json!([one("a", url)])), 1, "{url}");
        }
    }
}
