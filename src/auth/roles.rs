//! The roles that every server has, made of what the server serves: a new kind is in them without anybody's doing.

use crate::api::{BUILT_IN_ROLES, Object, ObjectMeta, PolicyRule, Role, RoleSpec, Served, Subresource, kinds};

const WRITES: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READS: &[&str] = &["get", "list", "watch"];
/// Of a Secret, its values too.
const REVEALS: &[&str] = &["get", "list", "reveal", "watch"];

/// All built-in roles.
pub fn built_in() -> Vec<Object<Role>> {
    let role = |name: &str| {
        let metadata = ObjectMeta { name: name.to_owned(), ..ObjectMeta::default() };
        Object::new(metadata, Role { spec: RoleSpec { subjects: Vec::new(), rules: rules(name) } })
    };
    BUILT_IN_ROLES.iter().map(|name| role(name)).collect()
}

fn rules(name: &str) -> Vec<PolicyRule> {
    match name {
        "admin" => vec![
            rule(&["*"], &["*"], &["*"]),
            PolicyRule { verbs: words(&["*"]), non_resource_urls: words(&["*"]), ..PolicyRule::default() },
        ],
        "edit" => {
            let mut rules = by_group(shown, READS);
            rules.extend(by_group(changed, WRITES));
            // Whoever deploys needs to name Secrets, not to read what is in them.
            rules.push(rule(&[""], &["secrets"], READS));
            rules.extend(instances());
            rules
        }
        // Everybody's own things, and what others share with them.
        "member" => {
            let owned = |rule: PolicyRule| PolicyRule { owned: true, ..rule };
            let mut rules: Vec<PolicyRule> = by_group(shown_in_namespaces, READS).into_iter().map(owned).collect();
            rules.extend(by_group(changed, WRITES).into_iter().map(owned));
            rules.push(owned(rule(&[""], &["secrets"], REVEALS)));
            rules.extend(instances().map(owned));
            rules.push(rule(&[""], &["namespaces", "nodes"], READS));
            rules
        }
        // Whoever keeps things running: scales, stops, restarts and rolls back, and makes nothing.
        "operator" => {
            let mut rules = by_group(shown, READS);
            rules.push(rule(&["appm.dev"], &["apps", "apps/scale"], &["patch", "update"]));
            // Of a Run nothing can be changed but that it is cancelled, and how long it is kept.
            rules.push(rule(&["appm.dev"], &["runs", "workflowruns"], &["patch", "update"]));
            rules.extend(replaced());
            rules.push(rule(&[""], &["nodes"], &["patch", "update"]));
            rules.push(PolicyRule {
                verbs: words(&["get"]),
                non_resource_urls: words(&["/metrics"]),
                ..PolicyRule::default()
            });
            rules
        }
        "view" => by_group(shown, READS),
        other => unreachable!("there is no built-in role `{other}`"),
    }
}

/// To have an instance replaced, and to look around in it.
fn instances() -> impl Iterator<Item = PolicyRule> {
    replaced().into_iter().chain([rule(&["appm.dev"], &["instances/exec"], &["create"])])
}

/// To have an instance replaced.
fn replaced() -> [PolicyRule; 2] {
    [rule(&["appm.dev"], &["instances"], &["delete"]), rule(&[""], &["pods"], &["delete"])]
}

/// What says something of what runs, and is nobody's secret.
fn shown(served: Served) -> bool {
    !is_about_people(served) && served.plural() != "secrets"
}

fn shown_in_namespaces(served: Served) -> bool {
    shown(served) && served.kind.is_namespaced()
}

/// What people make: what parts of appm make for it (Instances, Revisions, Events) is theirs to delete at most.
fn changed(served: Served) -> bool {
    served.kind.is_namespaced()
        && served.verbs().allow("create")
        && !matches!(served.plural(), "events" | "revisions" | "instances" | "resourcequotas")
}

fn is_about_people(served: Served) -> bool {
    served.kind.categories.contains(&"identity")
}

/// One rule for each API group.
fn by_group(wanted: fn(Served) -> bool, verbs: &[&str]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for served in kinds::served().filter(|served| wanted(*served)) {
        let shown = [
            Subresource::Status,
            Subresource::Scale,
            Subresource::Log,
            Subresource::Processes,
            Subresource::Task,
            Subresource::Artifacts,
        ];
        let written = [Subresource::Scale, Subresource::Task, Subresource::Stdin];
        let parts = if verbs == READS { &shown[..] } else { &written };
        let parts = parts.iter().filter(|part| served.has(**part));
        let names = parts.map(|part| format!("{}/{}", served.plural(), part.word()));
        let names: Vec<String> = std::iter::once(served.plural().to_owned()).chain(names).collect();
        let place = match rules.iter().position(|rule| rule.api_groups == [served.group()]) {
            Some(place) => place,
            None => {
                rules.push(rule(&[served.group()], &[], verbs));
                rules.len() - 1
            }
        };
        let resources = &mut rules[place].resources;
        resources.extend(names.into_iter().filter(|name| !resources.contains(name)).collect::<Vec<_>>());
    }
    rules
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule { api_groups: words(groups), resources: words(resources), verbs: words(verbs), ..PolicyRule::default() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::access::{Attributes, Book, May};

    #[test]
    fn each_role_is_what_its_name_says() {
        let roles = built_in();
        let book = Book::new(std::iter::empty(), roles.iter().map(|r| (r.metadata.name.as_str(), &r.body)));
        let mut table = Vec::new();
        for (verb, resource, subresource) in [
            ("get", "apps", ""),
            ("create", "apps", ""),
            ("patch", "apps", ""),
            ("patch", "apps", "scale"),
            ("update", "apps", "status"),
            ("get", "apps", "task"),
            ("create", "apps", "task"),
            ("delete", "apps", "task"),
            ("get", "instances", "log"),
            ("create", "instances", "exec"),
            ("create", "instances", ""),
            ("delete", "instances", ""),
            ("create", "runs", ""),
            ("patch", "runs", ""),
            ("get", "runs", "log"),
            ("get", "secrets", ""),
            ("reveal", "secrets", ""),
            ("create", "secrets", ""),
            ("get", "nodes", ""),
            ("get", "users", ""),
            ("update", "roles", ""),
            ("create", "namespaces", ""),
        ] {
            let group = if matches!(resource, "secrets" | "nodes" | "namespaces") { "" } else { "appm.dev" };
            let what = Attributes { verb, group, resource, subresource, namespace: "default", name: "x", path: "" };
            let may: Vec<String> = BUILT_IN_ROLES
                .iter()
                .map(|name| {
                    let may = book.grant(name).may(&what);
                    format!(
                        "{name}:{}",
                        match may {
                            May::Always => "yes",
                            May::Partly => "own",
                            May::Never => "-",
                        }
                    )
                })
                .collect();
            table.push(format!("{verb} {resource}/{subresource} {}", may.join(" ")));
        }
        insta::assert_snapshot!(table.join("\n"), @"
        get apps/ admin:yes edit:yes member:own operator:yes view:yes
        create apps/ admin:yes edit:yes member:yes operator:- view:-
        patch apps/ admin:yes edit:yes member:own operator:yes view:-
        patch apps/scale admin:yes edit:yes member:own operator:yes view:-
        update apps/status admin:yes edit:- member:- operator:- view:-
        get apps/task admin:yes edit:yes member:own operator:yes view:yes
        create apps/task admin:yes edit:yes member:own operator:- view:-
        delete apps/task admin:yes edit:yes member:own operator:- view:-
        get instances/log admin:yes edit:yes member:own operator:yes view:yes
        create instances/exec admin:yes edit:yes member:own operator:- view:-
        create instances/ admin:yes edit:- member:- operator:- view:-
        delete instances/ admin:yes edit:yes member:own operator:yes view:-
        create runs/ admin:yes edit:yes member:yes operator:- view:-
        patch runs/ admin:yes edit:yes member:own operator:yes view:-
        get runs/log admin:yes edit:yes member:own operator:yes view:yes
        get secrets/ admin:yes edit:yes member:own operator:- view:-
        reveal secrets/ admin:yes edit:- member:own operator:- view:-
        create secrets/ admin:yes edit:yes member:yes operator:- view:-
        get nodes/ admin:yes edit:yes member:yes operator:yes view:yes
        get users/ admin:yes edit:- member:- operator:- view:-
        update roles/ admin:yes edit:- member:- operator:- view:-
        create namespaces/ admin:yes edit:- member:- operator:- view:-
        ");
    }
}
