//! App Mesh's permissions, each as what it allows here.

use crate::{
    api::{GROUP, PolicyRule, Role},
    auth::Attributes,
};

/// What is allowed: a verb on a resource, or a part of one (`apps/task`), or on a path.
type Allowed = (&'static str, &'static str);

/// Every permission. Those that allow nothing by themselves are everybody's who is logged in.
const TABLE: [(&str, &[Allowed]); 33] = [
    ("app-control", &[("patch", "apps"), ("patch", "schedules")]),
    ("app-delete", &[("delete", "apps"), ("delete", "schedules"), ("delete", "runs")]),
    ("app-output-view", &[("get", "instances/log"), ("get", "runs/log")]),
    ("app-reg", &[("create", "apps"), ("update", "apps"), ("create", "schedules"), ("update", "schedules")]),
    ("app-run-async", &[("create", "runs")]),
    ("app-run-async-output", &[("get", "runs/log")]),
    ("app-run-sync", &[("create", "runs")]),
    ("app-run-task", &[("create", "apps/task"), ("delete", "apps/task")]),
    ("app-subscribe", &[("watch", "apps"), ("watch", "schedules"), ("watch", "runs")]),
    ("app-view", &[("get", "apps"), ("get", "schedules"), ("get", "runs")]),
    ("app-view-all", &[("list", "apps"), ("list", "schedules"), ("list", "runs")]),
    ("config-set", &[("post", "/appmesh/config")]),
    ("config-view", &[("get", "/appmesh/config")]),
    ("file-download", &[("get", "/appmesh/file")]),
    ("file-upload", &[("post", "/appmesh/file")]),
    ("host-resource-view", &[("get", "nodes")]),
    ("label-delete", &[("patch", "nodes")]),
    ("label-set", &[("patch", "nodes")]),
    ("label-view", &[("get", "nodes")]),
    ("passwd-change-self", &[]),
    ("passwd-change-user", &[("patch", "users")]),
    ("permission-list", &[]),
    ("role-delete", &[("delete", "roles")]),
    ("role-set", &[("create", "roles"), ("update", "roles")]),
    ("role-view", &[("list", "roles")]),
    ("user-add", &[("create", "users"), ("update", "users")]),
    ("user-delete", &[("delete", "users")]),
    ("user-list", &[("list", "users")]),
    ("user-lock", &[("patch", "users")]),
    ("user-token-renew", &[]),
    ("user-totp-active", &[]),
    ("user-totp-disable", &[("update", "users")]),
    ("user-unlock", &[("patch", "users")]),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// What a permission asks for; `None` if there is none of that name.
pub(super) fn named(permission: &str) -> Option<Vec<Attributes<'static>>> {
    let (_, allowed) = TABLE.iter().find(|(name, _)| *name == permission)?;
    Some(allowed.iter().map(|(verb, what)| attributes(verb, what)).collect())
}

/// A verb on what the table says.
pub(super) fn attributes(verb: &'static str, what: &'static str) -> Attributes<'static> {
    if what.starts_with('/') {
        return Attributes { verb, path: what, ..Attributes::default() };
    }
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let namespace = if is_of_the_cluster(resource) { "" } else { super::NAMESPACE };
    let group = if resource == "nodes" { "" } else { GROUP };
    Attributes { verb, group, resource, subresource, namespace, ..Attributes::default() }
}

fn is_of_the_cluster(resource: &str) -> bool {
    matches!(resource, "users" | "roles" | "nodes")
}

/// The rules of a role that has these permissions.
///
/// # Errors
/// The one that is none.
pub(super) fn rules(permissions: &[String]) -> Result<Vec<PolicyRule>, &str> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for permission in permissions {
        for what in named(permission).ok_or(permission.as_str())? {
            let texts = |text: &str| vec![text.to_owned()];
            let rule = match what.path {
                "" => PolicyRule {
                    api_groups: texts(what.group),
                    resources: texts([what.resource, what.subresource].join("/").trim_end_matches('/')),
                    verbs: texts(what.verb),
                    namespaces: if what.namespace.is_empty() { Vec::new() } else { texts(what.namespace) },
                    ..PolicyRule::default()
                },
                path => PolicyRule { non_resource_urls: texts(path), verbs: texts(what.verb), ..PolicyRule::default() },
            };
            let same = |known: &&mut PolicyRule| {
                (&known.api_groups, &known.resources, &known.non_resource_urls)
                    == (&rule.api_groups, &rule.resources, &rule.non_resource_urls)
            };
            match rules.iter_mut().find(same) {
                Some(known) if known.verbs.contains(&rule.verbs[0]) => {}
                Some(known) => known.verbs.extend(rule.verbs),
                None => rules.push(rule),
            }
        }
    }
    Ok(rules)
}

/// The role as it is, with the rules of these permissions.
pub(super) fn role(rules: Vec<PolicyRule>, before: Option<&Role>) -> Role {
    let mut role = before.cloned().unwrap_or_default();
    role.spec.rules = rules;
    role
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::access::{Book, May};

    #[test]
    fn every_permission_is_of_something_that_is_served() {
        for (name, allowed) in TABLE {
            for (verb, what) in allowed.iter().filter(|(_, what)| !what.starts_with('/')) {
                let what = attributes(verb, what);
                let version = if what.group.is_empty() { "v1" } else { crate::api::VERSION };
                let served = crate::api::find_view(what.group, version, what.resource).expect(name);
                let whole = what.subresource.is_empty() && served.verbs().allow(verb);
                assert!(whole || ["log", "task"].contains(&what.subresource), "{name}");
            }
        }
        assert_eq!(named("app-view").map(|what| what[0].verb), Some("get"));
        assert_eq!(named("no-such"), None);
    }

    #[test]
    fn a_role_of_a_permission_has_it_and_no_other_that_asks_for_more() {
        for (name, allowed) in TABLE {
            let rules = rules(&[name.to_owned()]).expect(name);
            let role = role(rules, None);
            let book = Book::new(std::iter::empty(), [("r", &role)].into_iter());
            let has =
                |other: &str| named(other).expect(other).iter().all(|what| book.grant("r").may(what) != May::Never);
            assert!(has(name), "{name}");
            for (other, more) in TABLE.iter().filter(|(_, more)| more.iter().any(|what| !allowed.contains(what))) {
                assert!(!has(other), "{name} allows {other}: {more:?}");
            }
        }
    }
}
