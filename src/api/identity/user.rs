//! User: an identity. What proves it is kept apart (`Credential`), so that no way of reading a User can show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{
    Column, Condition, FieldPath, Kind, KindInfo, Problem, Quantity, Scope, SelectableField, Subresource, Time,
    Violation, at,
};

/// Somebody who may be let in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Who it is, and what they have.
    #[serde(default)]
    pub spec: UserSpec,
    /// What was seen of it.
    #[serde(default)]
    pub status: UserStatus,
}

/// Who it is, and what they have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// A name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub display_name: String,
    /// An address for mail.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 320))]
    pub email: String,
    /// The groups; the first is the one that an App's `sharing.group` means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// The roles, beside those whose `subjects` name the user or a group of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub roles: Vec<RoleBinding>,
    /// The password; absent: none, the user has tokens, a certificate or an issuer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// The user of the operating system as whom everything runs that this user makes. Without one only users who may
    /// `use` the host power `user:*` can run anything where the server runs as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub exec_user: Option<String>,
    /// True: nobody is let in as this user, and whoever is in is thrown out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// The second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa: Option<Mfa>,
    /// Who vouches for the user: another server's word, in place of a password. A second factor is its affair, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcSubject>,
    /// How much the user may have and ask for; what is not said here is as the server's `--user-quota` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<UserLimits>,
}

/// How much a user may have and ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserLimits {
    /// Objects that the user owns, of all kinds but those that appm makes for others (Events, Revisions, Instances).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u32>,
    /// Instances of what the user owns, that have not ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Cores that these request together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory that these request together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Watches and followed logs that are open at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watches: Option<u32>,
    /// Requests in a second; twice as many may come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_second: Option<u32>,
}

impl UserLimits {
    /// The same, with what is said in `other` where nothing is said here.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            objects: self.objects.or(other.objects),
            instances: self.instances.or(other.instances),
            cpu: self.cpu.or_else(|| other.cpu.clone()),
            memory: self.memory.or_else(|| other.memory.clone()),
            watches: self.watches.or(other.watches),
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
        }
    }
}

/// A role that a user has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleBinding {
    /// The Role's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The user has the role in these namespaces only, within those of each rule. Default: wherever the rules hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub namespaces: Vec<String>,
}

/// A password, for writing only: an empty object says that there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Password {
    /// The password itself: taken once, stored as a hash, never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), extend("writeOnly" = true))]
    pub plain: Option<String>,
    /// Its argon2id hash in the PHC format, `$argon2id$v=19$…`: taken, never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), extend("writeOnly" = true))]
    pub hash: Option<String>,
}

/// The second factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mfa {
    /// Codes of an authenticator app (RFC 6238).
    #[serde(default)]
    pub totp: Requirement,
}

/// Whether a second factor is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Requirement {
    /// Never, even if one is enrolled.
    Off,
    /// If one is enrolled.
    #[default]
    Optional,
    /// Always: until one is enrolled, a password opens nothing but the enrolment.
    Required,
}

/// Who vouches for a user: a token of this issuer with this subject is the user's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct OidcSubject {
    /// The issuer's URL, as in its tokens' `iss`. The server must be told of it (`oidc` of its settings).
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The subject, as in its tokens' `sub`.
    #[schemars(length(min = 1, max = 255))]
    pub subject: String,
}

/// What was seen of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStatus {
    /// The generation of the spec that this status is of.
    #[serde(default, skip_serializing_if = "crate::api::is_zero")]
    pub observed_generation: i64,
    /// True if a second factor is enrolled.
    #[serde(default)]
    pub mfa_enabled: bool,
    /// The last login with a password or an issuer's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_time: Option<Time>,
    /// `Ready`: the user can be let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let spec = &new["spec"];
    let mut found = Vec::new();
    for (i, group) in spec["groups"].as_array().into_iter().flatten().enumerate() {
        let group = group.as_str().unwrap_or_default();
        if group.starts_with("system:") {
            let message = format!("\"{group}\": groups that begin with `system:` are appm's own");
            found.push(Violation::new(FieldPath::of("spec.groups").index(i), Problem::Forbidden, message));
        }
    }
    if let Some(hash) = at(spec, &["password", "hash"]).as_str()
        && !hash.starts_with("$argon2id$")
    {
        let message = "must be an argon2id hash in the PHC format, `$argon2id$v=19$…`";
        found.push(Violation::new(FieldPath::of("spec.password.hash"), Problem::Invalid, message));
    }
    let password = &spec["password"];
    if !password["plain"].is_null() && !password["hash"].is_null() {
        let message = "set `plain` or `hash`, not both";
        found.push(Violation::new(FieldPath::of("spec.password"), Problem::Invalid, message));
    }
    if at(new, &["metadata", "name"]).as_str().is_some_and(|name| name.starts_with("system")) {
        let message = "names that begin with `system` are appm's own";
        found.push(Violation::new(FieldPath::of("metadata.name"), Problem::Forbidden, message));
    }
    found
}

impl Kind for User {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    categories: &["identity"],
    scope: Scope::Cluster,
    subresources: &[Subresource::Status],
    columns: &[
        Column {
            name: "Roles",
            data_type: "string",
            description: "the roles that the user names",
            wide: false,
            cell: |o, _| names(at(o, &["spec", "roles"])).into(),
        },
        Column {
            name: "Groups",
            data_type: "string",
            description: "the user's groups",
            wide: false,
            cell: |o, _| words(at(o, &["spec", "groups"])).into(),
        },
        Column {
            name: "Locked",
            data_type: "boolean",
            description: "true if nobody is let in as this user",
            wide: false,
            cell: |o, _| at(o, &["spec", "locked"]).as_bool().unwrap_or(false).into(),
        },
        Column {
            name: "MFA",
            data_type: "boolean",
            description: "true if a second factor is enrolled",
            wide: false,
            cell: |o, _| at(o, &["status", "mfaEnabled"]).as_bool().unwrap_or(false).into(),
        },
        Column {
            name: "Last Login",
            data_type: "date",
            description: "the last login",
            wide: false,
            cell: |o, _| at(o, &["status", "lastLoginTime"]).clone(),
        },
        Column {
            name: "Exec User",
            data_type: "string",
            description: "the user of the operating system",
            wide: true,
            cell: |o, _| at(o, &["spec", "execUser"]).clone(),
        },
    ],
    fields: &[SelectableField {
        label: "spec.locked",
        value: |o| Some(at(&o.value(), &["spec", "locked"]).as_bool().unwrap_or(false).to_string()),
    }],
    check,
    ..KindInfo::of::<User>("User", "users", "user")
};

fn names(list: &Value) -> String {
    let names = list.as_array().into_iter().flatten().filter_map(|r| r["name"].as_str());
    names.collect::<Vec<_>>().join(",")
}

fn words(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_appms_own_cannot_be_had() {
        let user = json!({"metadata": {"name": "system-x"}, "spec": {
            "groups": ["a", "system:masters"], "password": {"plain": "12345678", "hash": "$2y$x"}}});
        let found: Vec<String> = check(&user, None).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @r#"
        spec.groups[1]: Forbidden: "system:masters": groups that begin with `system:` are appm's own
        spec.password.hash: Invalid value: must be an argon2id hash in the PHC format, `$argon2id$v=19$…`
        spec.password: Invalid value: set `plain` or `hash`, not both
        metadata.name: Forbidden: names that begin with `system` are appm's own
        "#);
    }
}
