//! Token: a long-lived API token of a user. Its secret is shown once, when it is made, and kept as a hash elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PolicyRule, role::check_rule};
use crate::api::{Column, FieldPath, Kind, KindInfo, Problem, Scope, SelectableField, Time, Verbs, Violation, at};

/// A long-lived API token. Deleting it revokes it at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Whose it is, and what it is good for.
    pub spec: TokenSpec,
    /// What was seen of it.
    #[serde(default)]
    pub status: TokenStatus,
}

/// Whose it is, and what it is good for. Immutable, but for the description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// The User's name.
    #[schemars(length(min = 1, max = 253))]
    pub user: String,
    /// What it is for, in the user's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// When it ends; absent: when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// Its scope: whoever bears it may do what the user may do, and what these rules allow besides nothing. None: everything that
    /// the user may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub rules: Vec<PolicyRule>,
}

/// What was seen of a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// When it was last used, to about an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_time: Option<Time>,
    /// From where it was last used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_used_from: String,
}

fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, rule) in at(new, &["spec", "rules"]).as_array().into_iter().flatten().enumerate() {
        check_rule(rule, &FieldPath::of("spec.rules").index(i), &mut found);
    }
    for name in ["user", "expirationTime", "rules"] {
        if old.is_some_and(|old| old["spec"][name] != new["spec"][name]) {
            let message = "a token's user, end and scope are immutable: make another token";
            found.push(Violation::new(FieldPath::of("spec").field(name), Problem::Forbidden, message));
        }
    }
    found
}

impl Kind for Token {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["tok"],
    categories: &["identity"],
    scope: Scope::Cluster,
    verbs: Verbs::ReadDelete,
    columns: &[
        Column {
            name: "User",
            data_type: "string",
            description: "whose it is",
            wide: false,
            cell: |o, _| at(o, &["spec", "user"]).clone(),
        },
        Column {
            name: "Expires",
            data_type: "date",
            description: "when it ends",
            wide: false,
            cell: |o, _| at(o, &["spec", "expirationTime"]).clone(),
        },
        Column {
            name: "Last Used",
            data_type: "date",
            description: "when it was last used",
            wide: false,
            cell: |o, _| at(o, &["status", "lastUsedTime"]).clone(),
        },
        Column {
            name: "Description",
            data_type: "string",
            description: "what it is for",
            wide: true,
            cell: |o, _| at(o, &["spec", "description"]).clone(),
        },
    ],
    fields: &[SelectableField {
        label: "spec.user",
        value: |o| at(&o.value(), &["spec", "user"]).as_str().map(str::to_owned),
    }],
    check,
    ..KindInfo::of::<Token>("Token", "tokens", "token")
};
