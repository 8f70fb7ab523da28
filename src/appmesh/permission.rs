//! App Mesh's permissions, each as what it allows here.

use crate::{api::GROUP, auth::Attributes};

/// Permission, verb, resource, subresource; all of our own group.
const TABLE: [(&str, &str, &str, &str); 12] = [
    ("app-view", "get", "apps", ""),
    ("app-view-all", "list", "apps", ""),
    ("app-reg", "create", "apps", ""),
    ("app-control", "patch", "apps", ""),
    ("app-delete", "delete", "apps", ""),
    ("app-subscribe", "watch", "apps", ""),
    ("app-output-view", "get", "instances", "log"),
    ("app-run-sync", "create", "runs", ""),
    ("app-run-async", "create", "runs", ""),
    ("app-run-task", "create", "apps", "task"),
    ("user-list", "list", "users", ""),
    ("role-view", "list", "roles", ""),
];

/// What a permission allows; `None` if there is none of that name.
pub(super) fn named(permission: &str) -> Option<Attributes<'static>> {
    let (_, verb, resource, subresource) = *TABLE.iter().find(|(name, ..)| *name == permission)?;
    let namespace = if matches!(resource, "users" | "roles") { "" } else { super::NAMESPACE };
    Some(Attributes { verb, group: GROUP, resource, subresource, namespace, ..Attributes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_is_of_something_that_is_served() {
        for (name, verb, resource, subresource) in TABLE {
            let served = crate::api::find_view(GROUP, crate::api::VERSION, resource).expect(name);
            let whole = subresource.is_empty() && served.verbs().allow(verb);
            assert!(whole || ["log", "task"].contains(&subresource), "{name}");
        }
        assert_eq!(named("app-view").map(|what| what.verb), Some("get"));
        assert_eq!(named("no-such"), None);
    }
}
