//! Role: which verbs on which resources, Kubernetes' PolicyRule with two fields more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{Column, FieldPath, Kind, KindInfo, Problem, Scope, Violation, at};

/// The roles that every server has. What they allow is the binary's own: nobody changes that, or deletes them.
pub const BUILT_IN_ROLES: &[&str] = &["admin", "edit", "member", "operator", "view"];

/// Rules, and who has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Role {
    /// What may be done, and by whom.
    #[serde(default)]
    pub spec: RoleSpec,
}

/// What may be done, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleSpec {
    /// Who has the role, beside the users that name it in their own `spec.roles`; the union counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub subjects: Vec<RoleSubject>,
    /// Each rule adds to what may be done; none takes anything away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub rules: Vec<PolicyRule>,
}

/// Somebody who has a role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoleSubject {
    /// Whether the name is a user's or a group's.
    pub kind: SubjectKind,
    /// The name of the User or group. Groups of appm itself begin with `system:`; `system:authenticated` has everybody.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The subject has the role in these namespaces only, within those of each rule. Default: wherever the rules hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub namespaces: Vec<String>,
}

/// What a subject's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// One User.
    User,
    /// Everybody in a group.
    Group,
}

/// What may be done: every verb on every resource of the rule. Kubernetes' PolicyRule, and `namespaces` and `owned`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// API groups; the empty text is the core group, `*` all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub api_groups: Vec<String>,
    /// Plural names: `apps`; parts of them: `instances/log`; `*` is everything, `*/status` that part of everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub resources: Vec<String>,
    /// Names of single objects; none: all of them. A list is allowed only with a field selector for one of the names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub resource_names: Vec<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; `*` is every verb there is, those of a
    /// few resources (`escalate`, `impersonate`, `use`) among them.
    #[schemars(length(min = 1, max = 100))]
    pub verbs: Vec<String>,
    /// Where the rule holds; none: everywhere, and beside the namespaces too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub namespaces: Vec<String>,
    /// True: only for objects that the user owns, and those whose `sharing` lets the user do it. Whoever creates an object
    /// owns it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owned: bool,
    /// Paths that are no resources: `/metrics`; `/logs/*` with everything below.
    #[serde(default, rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub non_resource_urls: Vec<String>,
}

fn check(new: &Value, _: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, rule) in at(new, &["spec", "rules"]).as_array().into_iter().flatten().enumerate() {
        check_rule(rule, &FieldPath::of("spec.rules").index(i), &mut found);
    }
    found
}

/// What is wrong with one rule: as in Kubernetes it is about resources, or about paths.
pub(super) fn check_rule(rule: &Value, at: &FieldPath, found: &mut Vec<Violation>) {
    let empty = |name: &str| rule[name].as_array().is_none_or(Vec::is_empty);
    let mut refuse = |name: &str, problem, message: &str| {
        found.push(Violation::new(at.field(name), problem, message));
    };
    if empty("nonResourceURLs") {
        for name in ["apiGroups", "resources"] {
            if empty(name) {
                refuse(name, Problem::Required, "a rule needs `apiGroups` and `resources`, or `nonResourceURLs`");
            }
        }
        return;
    }
    for name in ["apiGroups", "resources", "resourceNames", "namespaces"] {
        if !empty(name) {
            refuse(name, Problem::Forbidden, "a rule about `nonResourceURLs` is about nothing else");
        }
    }
    for (i, path) in rule["nonResourceURLs"].as_array().into_iter().flatten().enumerate() {
        let text = path.as_str().unwrap_or_default();
        let inner = text.strip_suffix('*').unwrap_or(text);
        if text != "*" && (!text.starts_with('/') || inner.contains('*')) {
            let message = format!("\"{text}\": must begin with `/`, and may have one `*` at its end");
            found.push(Violation::new(at.field("nonResourceURLs").index(i), Problem::Invalid, message));
        }
    }
}

impl Kind for Role {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    categories: &["identity"],
    scope: Scope::Cluster,
    columns: &[
        Column {
            name: "Rules",
            data_type: "integer",
            description: "how many rules it has",
            wide: false,
            cell: |o, _| at(o, &["spec", "rules"]).as_array().map_or(0, Vec::len).into(),
        },
        Column {
            name: "Subjects",
            data_type: "string",
            description: "who has it, beside the users that name it",
            wide: false,
            cell: |o, _| subjects(o).into(),
        },
    ],
    check,
    ..KindInfo::of::<Role>("Role", "roles", "role")
};

fn subjects(role: &Value) -> String {
    let subjects = at(role, &["spec", "subjects"]).as_array().into_iter().flatten();
    let named = |s: &Value| {
        let text = |name: &str| s[name].as_str().unwrap_or_default().to_owned();
        format!("{}:{}", text("kind").to_lowercase(), text("name"))
    };
    subjects.map(named).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_about_resources_or_about_paths() {
        let role = json!({"spec": {"rules": [
            {"verbs": ["get"]},
            {"verbs": ["get"], "nonResourceURLs": ["metrics", "/a*b", "/logs/*", "*"], "resources": ["apps"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        ]}});
        let found: Vec<String> = check(&role, None).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(found.join("\n"), @"
        spec.rules[0].apiGroups: Required value: a rule needs `apiGroups` and `resources`, or `nonResourceURLs`
        spec.rules[0].resources: Required value: a rule needs `apiGroups` and `resources`, or `nonResourceURLs`
        spec.rules[1].resources: Forbidden: a rule about `nonResourceURLs` is about nothing else
        spec.rules[1].nonResourceURLs[0]: Invalid value: \"metrics\": must begin with `/`, and may have one `*` at its end
        spec.rules[1].nonResourceURLs[1]: Invalid value: \"/a*b\": must begin with `/`, and may have one `*` at its end
        ");
    }
}
