//! What a URL's path means. Parsed by hand: Kubernetes' paths are regular over all kinds, and trailing slashes are
//! tolerated, which routers are not.

use crate::api::{Key, Served, find_view};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Something about the server itself: `/version`, `/apis/appm.dev`, `/openapi/v3/…`. The path without slashes at its ends.
    Document(&'a str),
    /// Objects.
    Resource(Resource<'a>),
}

/// Objects, or one object, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Namespace; empty for cluster-scoped kinds and for all namespaces.
    pub namespace: &'a str,
    /// Plural name.
    pub plural: &'a str,
    /// Name; empty for a collection.
    pub name: &'a str,
    /// Subresource; empty for the object itself.
    pub subresource: &'a str,
    /// What of the subresource: the name of a task or of a pin; empty for all of it.
    pub below: &'a str,
    /// True for the older paths that ask for a watch: `/apis/GROUP/VERSION/watch/…`.
    pub watched: bool,
}

impl Resource<'_> {
    /// What is served there, if anything: the kind must be known and its scope must fit the path.
    pub(super) fn served(&self) -> Option<Served> {
        let served = find_view(self.group, self.version, self.plural)?;
        let namespaced = served.kind.is_namespaced();
        let fits =
            if namespaced { self.name.is_empty() || !self.namespace.is_empty() } else { self.namespace.is_empty() };
        fits.then_some(served)
    }

    /// The key of the object.
    pub(super) fn key(&self, served: Served) -> Key {
        Key::new(served.kind, self.namespace, self.name)
    }
}

/// Parts of a namespace, as against objects in it.
const NAMESPACE_PARTS: &[&str] = &["status", "finalize", "history"];

/// Parses a path; `None` if it cannot be anything.
pub(super) fn parse(path: &str) -> Option<Target<'_>> {
    let path = path.trim_matches('/');
    let steps: Vec<&str> = path.split('/').collect();
    let (group, version, rest) = match steps.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Some(Target::Document(path)),
    };
    if rest.iter().any(|step| step.is_empty()) {
        return None;
    }
    let (watched, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        rest => (false, rest),
    };
    let (rest, below) = match rest {
        [of @ .., below] if of.len() == 5 && ["task", "history"].contains(&of[4]) => (of, *below),
        // Of what is in no namespace.
        [of @ .., below] if of.len() == 3 && of[2] == "history" => (of, *below),
        rest => (rest, ""),
    };
    let (namespace, plural, name, subresource) = match *rest {
        ["namespaces", name, part] if group.is_empty() && NAMESPACE_PARTS.contains(&part) => {
            ("", "namespaces", name, part)
        }
        ["namespaces", name] if group.is_empty() => ("", "namespaces", name, ""),
        ["namespaces", namespace, plural] => (namespace, plural, "", ""),
        ["namespaces", namespace, plural, name] => (namespace, plural, name, ""),
        ["namespaces", namespace, plural, name, part] => (namespace, plural, name, part),
        [plural] => ("", plural, "", ""),
        [plural, name] => ("", plural, name, ""),
        [plural, name, part] => ("", plural, name, part),
        _ => return None,
    };
    Some(Target::Resource(Resource { group, version, namespace, plural, name, subresource, below, watched }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_in_paths() {
        for (path, expected) in [
            ("/apis/appm.dev/v1/apps", ("appm.dev", "v1", "", "apps", "", "")),
            ("/apis/appm.dev/v1/namespaces/a/apps/", ("appm.dev", "v1", "a", "apps", "", "")),
            ("/apis/appm.dev/v1/namespaces/a/apps/web", ("appm.dev", "v1", "a", "apps", "web", "")),
            ("/apis/appm.dev/v1/namespaces/a/apps/web/scale", ("appm.dev", "v1", "a", "apps", "web", "scale")),
            ("/apis/appm.dev/v1/namespaces/a/apps/web/task", ("appm.dev", "v1", "a", "apps", "web", "task")),
            ("/apis/appm.dev/v1/namespaces/a/apps/web/task/x-1", ("appm.dev", "v1", "a", "apps", "web", "task")),
            ("/apis/appm.dev/v1/namespaces/a/apps/web/history/x", ("appm.dev", "v1", "a", "apps", "web", "history")),
            ("/apis/appm.dev/v1/roles/r/history/x", ("appm.dev", "v1", "", "roles", "r", "history")),
            ("/api/v1/namespaces/a/history", ("", "v1", "", "namespaces", "a", "history")),
            ("/api/v1/namespaces/a/history/x", ("", "v1", "", "namespaces", "a", "history")),
            ("/api/v1/namespaces", ("", "v1", "", "namespaces", "", "")),
            ("/api/v1/namespaces/a", ("", "v1", "", "namespaces", "a", "")),
            ("/api/v1/namespaces/a/status", ("", "v1", "", "namespaces", "a", "status")),
            ("/api/v1/namespaces/a/events", ("", "v1", "a", "events", "", "")),
            ("/api/v1/nodes/n1/status", ("", "v1", "", "nodes", "n1", "status")),
        ] {
            let Some(Target::Resource(r)) = parse(path) else { panic!("{path} is a resource") };
            assert_eq!((r.group, r.version, r.namespace, r.plural, r.name, r.subresource), expected, "{path}");
        }
    }

    #[test]
    fn everything_else_is_a_document_or_nothing() {
        for (path, expected) in [("/version/", "version"), ("/", ""), ("/apis/appm.dev/v1/", "apis/appm.dev/v1")] {
            assert_eq!(parse(path), Some(Target::Document(expected)), "{path}");
        }
        assert_eq!(parse("/apis/appm.dev/v1/namespaces//apps"), None);
        for nothing in ["b/c/d", "b/task/d/e", "b/status/d"] {
            assert_eq!(parse(&format!("/apis/appm.dev/v1/namespaces/a/apps/{nothing}")), None, "{nothing}");
        }
    }

    #[test]
    fn the_scope_must_fit() {
        let served = |path| match parse(path) {
            Some(Target::Resource(r)) => r.served().is_some(),
            _ => false,
        };
        assert!(served("/apis/appm.dev/v1/apps"));
        assert!(!served("/apis/appm.dev/v1/apps/web"));
        assert!(!served("/api/v1/namespaces/a/nodes/n"));
        assert!(!served("/apis/appm.dev/v2/apps"));
    }
}
