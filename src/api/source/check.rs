//! The rules between a Source's fields.

use serde_json::Value;

use super::{LONGEST_SOURCE_NAME, VersionRange, approve, notifications};
use crate::api::{FieldPath, GoDuration, Problem, Violation, at, check_label, check_label_name};

/// The shortest time between two looks.
const SHORTEST_INTERVAL: GoDuration = GoDuration::secs(1);

/// Schemes of URLs that git is let near.
const SCHEMES: &[&str] = &["https", "http", "ssh", "file"];

pub(super) fn check(new: &Value, live: Option<&Value>) -> Vec<Violation> {
    let (root, spec) = (FieldPath::of("spec"), &new["spec"]);
    let mut found: Vec<Violation> = check_name(new).into_iter().chain(approve::check(new, live)).collect();
    match (spec["directory"].is_null(), spec["git"].is_null()) {
        (true, true) => {
            let message = "say where the manifests are: set `directory` or `git`";
            found.push(Violation::new(root.field("directory"), Problem::Required, message));
        }
        (false, false) => {
            let message = "set either `directory` or `git`, not both";
            found.push(Violation::new(root.field("git"), Problem::Forbidden, message));
        }
        _ => {}
    }
    found.extend(check_directory(&spec["directory"], &root.field("directory")));
    found.extend(check_git(&spec["git"], &root.field("git")));
    found.extend(notifications::check(&spec["notifications"], &root.field("notifications")));
    for field in ["interval", "timeout"] {
        found.extend(check_at_least_a_second(&spec[field], &root.field(field)));
    }
    if let Some(namespace) = spec["targetNamespace"].as_str().filter(|name| !name.is_empty())
        && let Err(wrong) = check_label(namespace)
    {
        found.push(Violation::new(root.field("targetNamespace"), Problem::Invalid, wrong.to_string()));
    }
    found
}

fn check_name(object: &Value) -> Option<Violation> {
    let too_long = |name: &str| {
        let message =
            format!("must be no more than {LONGEST_SOURCE_NAME} characters, because it names a field manager");
        (name.len() > LONGEST_SOURCE_NAME)
            .then(|| Violation::new(FieldPath::of("metadata.name"), Problem::TooLong, message))
    };
    check_label_name(object).or_else(|| too_long(object["metadata"]["name"].as_str()?))
}

fn check_at_least_a_second(value: &Value, at: &FieldPath) -> Option<Violation> {
    let given: GoDuration = value.as_str()?.parse().ok()?;
    (given < SHORTEST_INTERVAL).then(|| Violation::new(at.clone(), Problem::Invalid, "must be at least 1s"))
}

fn check_directory(directory: &Value, at: &FieldPath) -> Option<Violation> {
    let path = directory["path"].as_str()?;
    let absolute = path.starts_with('/') && !path.contains('\0');
    (!absolute).then(|| Violation::new(at.field("path"), Problem::Invalid, "must be absolute: it begins with `/`"))
}

fn check_git(git: &Value, root: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |at: FieldPath, message: &str| found.push(Violation::new(at, Problem::Invalid, message));
    if let Some(url) = git["url"].as_str() {
        if let Err(message) = check_url(url) {
            wrong(root.field("url"), message);
        }
        if url.starts_with("http://") && !git["secretRef"].is_null() {
            wrong(root.field("secretRef"), "nobody's password is sent over `http://`; use `https://`");
        }
    }
    let reference = &git["ref"];
    if reference.is_object() {
        let given =
            ["branch", "tag", "semver", "commit"].into_iter().filter(|name| !reference[*name].is_null()).count();
        if given != 1 {
            wrong(root.field("ref"), "set exactly one of `branch`, `tag`, `semver` and `commit`");
        }
        for name in ["branch", "tag"] {
            if at(reference, &[name]).as_str().is_some_and(|name| !is_reference(name)) {
                wrong(root.field("ref").field(name), "is no name that git gives");
            }
        }
        if let Some(Err(message)) = at(reference, &["semver"]).as_str().map(str::parse::<VersionRange>) {
            wrong(root.field("ref").field("semver"), &message.to_string());
        }
    }
    let strange = |path: &str| {
        path.contains(['\0', '\n'])
            || path.trim_start_matches("./").split('/').any(|part| part == ".." || part == ".git")
    };
    if git["path"].as_str().is_some_and(strange) {
        wrong(root.field("path"), "must be a path in the repository");
    }
    found
}

/// Nothing that git or ssh could take for an option or a program.
fn check_url(url: &str) -> Result<(), &'static str> {
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("must have no blanks in it");
    }
    let host = match url.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) => {
            let host = rest.split('/').next().unwrap_or_default();
            if scheme.starts_with("http") && host.contains('@') {
                return Err(
                    "must have no user and no password in it; put them into a Secret and name it in `secretRef`",
                );
            }
            if scheme == "file" && !rest.starts_with('/') {
                return Err("must be absolute: `file:///srv/fleet.git`");
            }
            host
        }
        Some(_) => return Err("must begin with https://, ssh:// or file://"),
        // git@example.org:fleet.git
        None => match url.split_once(':') {
            Some((host, path)) if !path.is_empty() && !path.starts_with(':') && host.contains('@') => host,
            _ => return Err("must begin with https://, ssh:// or file://, or be of the form git@host:path"),
        },
    };
    let name = host.rsplit_once('@').map_or(host, |(_, name)| name);
    match host.starts_with('-') || name.starts_with('-') {
        true => Err("must not begin with `-`"),
        false => Ok(()),
    }
}

/// The rules of git-check-ref-format, but for those that no attack needs.
fn is_reference(name: &str) -> bool {
    let strange = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains(strange)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains("//")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(spec: Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "fleet"}, "spec": spec});
        check(&object, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_source_says_where_its_manifests_are_in_one_way() {
        assert_eq!(wrong(json!({"directory": {"path": "/etc/appm"}})), [""; 0]);
        let none = wrong(json!({}));
        assert!(none[0].contains("set `directory` or `git`"), "{none:?}");
        let both = wrong(json!({"directory": {"path": "/x"}, "git": {"url": "https://example.org/x"}}));
        assert!(both[0].contains("not both"), "{both:?}");
        let relative = wrong(json!({"directory": {"path": "x"}, "interval": "10ms"}));
        assert_eq!(relative.len(), 2, "{relative:?}");
    }

    #[test]
    fn urls_that_git_would_take_for_something_else_are_refused() {
        for url in ["https://example.org/a.git", "ssh://git@example.org:22/a", "git@example.org:a.git", "file:///srv/a"]
        {
            assert_eq!(wrong(json!({"git": {"url": url}})), [""; 0], "{url}");
        }
        for url in [
            "ext::sh -c id",
            "ext::id",
            "-oProxyCommand=id",
            "ssh://-oProxyCommand=id/x",
            "git@-oProxyCommand=id:x",
            "https://me:secret@example.org/a",
            "/srv/a",
            "file://srv/a",
            "git://example.org/a",
            "a b",
            "https://x/\ny",
        ] {
            assert_eq!(wrong(json!({"git": {"url": url}})).len(), 1, "{url}");
        }
        for reference in [
            json!({}),
            json!({"branch": "a", "tag": "b"}),
            json!({"branch": "-x"}),
            json!({"tag": "a..b"}),
            json!({"semver": "1.2"}),
            json!({"semver": "1.x", "tag": "v1"}),
        ] {
            assert_eq!(wrong(json!({"git": {"url": "file:///a", "ref": reference}})).len(), 1, "{reference}");
        }
        assert_eq!(wrong(json!({"git": {"url": "file:///a", "path": "../etc"}})).len(), 1);
    }
}
