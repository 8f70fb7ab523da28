//! Who may do what: rules against a request, and rules against rules. Pure; everything that is not allowed is denied.
//!
//! A request is judged twice. Before anything is looked up, [`Subject::may`] says whether it is allowed whatever the object
//! is ([`May::Always`]), never, or for some objects only: those in certain namespaces, of certain names, of certain owners. Then
//! [`Subject::sees`] judges the object itself; lists and watches show what it says yes to, and nothing else.

use std::{collections::HashMap, sync::Arc};

use crate::api::{Access, PolicyRule, Role, RoleBinding, Sharing, SubjectKind, User, UserLimits};

/// What is asked for, in the terms of Kubernetes' authorization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; of a few resources others.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural name; empty if `path` is asked for.
    pub resource: &'a str,
    /// `status`, `scale`, `log`; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped kinds and for all namespaces.
    pub namespace: &'a str,
    /// The object's name; empty for lists.
    pub name: &'a str,
    /// A path that is no resource, `/metrics`.
    pub path: &'a str,
}

/// The answer before the object is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// Whatever the object is: no.
    Never,
    /// It depends on the object.
    Partly,
    /// Whatever the object is: yes.
    Always,
}

/// What an object says of who may do what with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The user who made it.
    pub owner: &'a str,
    /// The first group of that user; empty if there is none.
    pub owner_group: &'a str,
    /// What others may do.
    pub sharing: Sharing,
}

/// Somebody, and everything they may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    name: String,
    groups: Vec<String>,
    grants: Vec<Grant>,
    /// What a token narrows it to.
    scope: Option<Arc<[PolicyRule]>>,
}

/// A role that somebody has.
#[derive(Clone, Debug, PartialEq)]
struct Grant {
    role: Arc<str>,
    rules: Arc<[PolicyRule]>,
    /// Where they have it; empty: wherever its rules hold.
    namespaces: Arc<[String]>,
}

/// A rule where it holds for somebody.
#[derive(Clone, Copy, Debug)]
struct Held<'a> {
    rule: &'a PolicyRule,
    /// Beside the rule's own; empty: no bound.
    namespaces: &'a [String],
}

fn any(words: &[String], word: &str) -> bool {
    words.iter().any(|w| w == word || w == "*")
}

/// `apps`, `apps/scale`, `*/scale`, `apps/*`, `*`
fn covers_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (pattern == resource && subresource.is_empty()),
        Some((of, part)) => {
            (of == "*" || of == resource) && !subresource.is_empty() && (part == "*" || part == subresource)
        }
    }
}

fn covers_path(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == path, |prefix| path.starts_with(prefix))
}

/// True for what shows an object and changes nothing.
fn only_reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// True for what makes the object: making a part of it (`instances/exec`) is done to one that is there.
fn makes(what: &Attributes<'_>) -> bool {
    what.verb == "create" && what.subresource.is_empty()
}

/// True for what is done to all objects that are selected.
fn is_of_many(verb: &str) -> bool {
    matches!(verb, "list" | "watch" | "deletecollection")
}

impl<'a> Held<'a> {
    fn is_about(&self, what: &Attributes<'_>) -> bool {
        let rule = self.rule;
        any(&rule.verbs, what.verb)
            && match what.path {
                "" => {
                    any(&rule.api_groups, what.group)
                        && rule.resources.iter().any(|r| covers_resource(r, what.resource, what.subresource))
                }
                path => rule.non_resource_urls.iter().any(|pattern| covers_path(pattern, path)),
            }
    }

    /// The bounds that must all admit a namespace.
    fn bounds(&self) -> impl Iterator<Item = &'a [String]> {
        [self.rule.namespaces.as_slice(), self.namespaces].into_iter().filter(|bound| !bound.is_empty())
    }

    fn holds_in(&self, namespace: &str) -> bool {
        self.bounds().all(|bound| bound.iter().any(|n| n == namespace))
    }

    fn may(&self, what: &Attributes<'_>) -> May {
        if !self.is_about(what) {
            return May::Never;
        }
        let mut may = May::Always;
        if !self.holds_in(what.namespace) {
            if !what.namespace.is_empty() || !is_of_many(what.verb) {
                return May::Never;
            }
            may = May::Partly;
        }
        let names = &self.rule.resource_names;
        if !names.is_empty() && !names.iter().any(|n| n == what.name) {
            if !what.name.is_empty() || !is_of_many(what.verb) {
                return May::Never;
            }
            may = May::Partly;
        }
        // Whoever creates it owns it.
        if self.rule.owned && !makes(what) {
            may = May::Partly;
        }
        may
    }

    fn sees(&self, who: &Subject, what: &Attributes<'_>, object: &Facts<'_>) -> bool {
        let names = &self.rule.resource_names;
        self.is_about(what)
            && self.holds_in(object.namespace)
            && (names.is_empty() || names.iter().any(|n| n == object.name))
            && (!self.rule.owned || makes(what) || who.shares(object) >= needed(what.verb))
    }

    /// True if whoever holds this may do everything that one combination of another rule allows.
    fn contains(&self, atom: &Atom<'_>) -> bool {
        let (rule, inner) = (self.rule, atom.of);
        any(&rule.verbs, atom.verb)
            && match atom.what {
                What::Path(path) => rule.non_resource_urls.iter().any(|pattern| covers_path(pattern, path)),
                What::Resource(group, pattern) => {
                    let (resource, part) = pattern.split_once('/').unwrap_or((pattern, ""));
                    any(&rule.api_groups, group) && rule.resources.iter().any(|r| covers_resource(r, resource, part))
                }
            }
            && self.bounds().all(|bound| atom.namespace.is_some_and(|n| bound.iter().any(|b| b == n)))
            && (rule.resource_names.is_empty() || atom.name.is_some_and(|n| rule.resource_names.iter().any(|m| m == n)))
            && (!rule.owned || inner.owned)
    }
}

fn needed(verb: &str) -> Access {
    if only_reads(verb) { Access::Read } else { Access::ReadWrite }
}

/// One combination of what a rule allows.
struct Atom<'a> {
    of: &'a PolicyRule,
    verb: &'a str,
    what: What<'a>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

#[derive(Clone, Copy)]
enum What<'a> {
    Resource(&'a str, &'a str),
    Path(&'a str),
}

/// Nothing, for what has no bound.
fn each(words: &[String]) -> Vec<Option<&str>> {
    if words.is_empty() { vec![None] } else { words.iter().map(|word| Some(word.as_str())).collect() }
}

impl Subject {
    /// Somebody who may do nothing.
    pub fn nobody(name: &str) -> Self {
        Self { name: name.to_owned(), groups: Vec::new(), grants: Vec::new(), scope: None }
    }

    /// The same, who may do no more than what these rules allow.
    pub fn within(self, scope: Option<Arc<[PolicyRule]>>) -> Self {
        Self { scope, ..self }
    }

    /// The groups that count for it.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The names of the roles that it has, each once.
    pub fn roles(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.grants.iter().map(|grant| &*grant.role).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn held(&self) -> impl Iterator<Item = (&str, Held<'_>)> {
        self.grants.iter().flat_map(|grant| {
            grant.rules.iter().map(|rule| (&*grant.role, Held { rule, namespaces: &grant.namespaces }))
        })
    }

    fn scope(&self) -> Option<impl Iterator<Item = Held<'_>>> {
        self.scope.as_ref().map(|rules| rules.iter().map(|rule| Held { rule, namespaces: &[] }))
    }

    /// Whether a request is allowed, before its object is known.
    pub fn may(&self, what: &Attributes<'_>) -> May {
        let granted = self.held().map(|(_, held)| held.may(what)).max().unwrap_or(May::Never);
        let scoped = self
            .scope()
            .map_or(May::Always, |mut all| all.by_ref().map(|held| held.may(what)).max().unwrap_or(May::Never));
        granted.min(scoped)
    }

    /// Whether a request is allowed on an object.
    pub fn sees(&self, what: &Attributes<'_>, object: &Facts<'_>) -> bool {
        self.held().any(|(_, held)| held.sees(self, what, object))
            && self.scope().is_none_or(|mut all| all.any(|held| held.sees(self, what, object)))
    }

    /// The role that allows a request on an object.
    pub fn by(&self, what: &Attributes<'_>) -> Option<&str> {
        self.held()
            .filter(|(_, held)| held.may(what) > May::Never)
            .max_by_key(|(_, held)| held.may(what))
            .map(|(by, _)| by)
    }

    /// What the object's owner lets this subject do.
    fn shares(&self, object: &Facts<'_>) -> Access {
        if object.owner == self.name {
            return Access::ReadWrite;
        }
        let grouped = !object.owner_group.is_empty() && self.groups.iter().any(|g| g == object.owner_group);
        if grouped { object.sharing.group.max(object.sharing.others) } else { object.sharing.others }
    }

    /// The first thing that `rules`, where somebody has them, allow and this subject may not do: nobody gives what they
    /// do not have. `namespaces`: where the rules are to hold; empty: wherever they say.
    pub fn lacks(&self, rules: &[PolicyRule], namespaces: &[String]) -> Option<String> {
        rules.iter().find_map(|rule| {
            let narrowed: Vec<String> = match (rule.namespaces.is_empty(), namespaces.is_empty()) {
                (true, _) => namespaces.to_vec(),
                (false, true) => rule.namespaces.clone(),
                (false, false) => rule.namespaces.iter().filter(|n| namespaces.contains(n)).cloned().collect(),
            };
            if narrowed.is_empty() && !(rule.namespaces.is_empty() && namespaces.is_empty()) {
                return None;
            }
            self.lacks_rule(rule, &narrowed)
        })
    }

    /// The first thing that `other` may do and this subject may not.
    pub fn lacks_of(&self, other: &Subject) -> Option<String> {
        other.grants.iter().find_map(|grant| self.lacks(&grant.rules, &grant.namespaces))
    }

    fn lacks_rule(&self, rule: &PolicyRule, namespaces: &[String]) -> Option<String> {
        let resources = rule.api_groups.iter().flat_map(|g| rule.resources.iter().map(move |r| What::Resource(g, r)));
        let all: Vec<What<'_>> = resources.chain(rule.non_resource_urls.iter().map(|p| What::Path(p))).collect();
        let (places, names) = (each(namespaces), each(&rule.resource_names));
        for what in all {
            for verb in &rule.verbs {
                for (place, name) in places.iter().flat_map(|place| names.iter().map(move |name| (place, name))) {
                    let atom = Atom { of: rule, verb, what, namespace: *place, name: *name };
                    let held = self.held().any(|(_, held)| held.contains(&atom));
                    if !held || !self.scope().is_none_or(|mut all| all.any(|held| held.contains(&atom))) {
                        return Some(atom.to_string());
                    }
                }
            }
        }
        None
    }

    /// Every rule that the subject has, where it holds for them.
    pub fn rules(&self) -> Vec<PolicyRule> {
        let rule = |held: Held<'_>| {
            let mut rule = held.rule.clone();
            if !held.namespaces.is_empty() {
                let own = std::mem::take(&mut rule.namespaces);
                rule.namespaces =
                    held.namespaces.iter().filter(|n| own.is_empty() || own.contains(n)).cloned().collect();
                // Nowhere: neither here nor there.
                if rule.namespaces.is_empty() {
                    return None;
                }
            }
            Some(rule)
        };
        self.held().filter_map(|(_, held)| rule(held)).collect()
    }
}

impl std::fmt::Display for Atom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.what {
            What::Path(path) => write!(f, "{} {path}", self.verb)?,
            What::Resource("", resource) => write!(f, "{} {resource}", self.verb)?,
            What::Resource(group, resource) => write!(f, "{} {resource}.{group}", self.verb)?,
        }
        if let Some(name) = self.name {
            write!(f, " \"{name}\"")?;
        }
        match self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// All users and roles, ready for questions.
#[derive(Clone, Debug, Default)]
pub struct Book {
    roles: HashMap<String, Arc<[PolicyRule]>>,
    /// What users name themselves.
    named: HashMap<String, Vec<Had>>,
    /// What roles name users for.
    of_users: HashMap<String, Vec<Had>>,
    of_groups: HashMap<String, Vec<Had>>,
    /// The groups of each user.
    groups: HashMap<String, Vec<String>>,
    /// Of users who have any of their own.
    limits: HashMap<String, UserLimits>,
}

/// That somebody has a role.
#[derive(Clone, Debug)]
struct Had {
    role: String,
    namespaces: Arc<[String]>,
}

impl Book {
    /// The book of these users and roles, each with its name.
    pub fn new<'a>(
        users: impl Iterator<Item = (&'a str, &'a User)>,
        roles: impl Iterator<Item = (&'a str, &'a Role)>,
    ) -> Self {
        let mut book = Self::default();
        for (name, user) in users {
            book.groups.insert(name.to_owned(), user.spec.groups.clone());
            book.limits.extend(user.spec.limits.clone().map(|limits| (name.to_owned(), limits)));
            let had = user.spec.roles.iter().map(|r| Had { role: r.name.clone(), namespaces: r.namespaces[..].into() });
            book.named.insert(name.to_owned(), had.collect());
        }
        for (name, role) in roles {
            book.roles.insert(name.to_owned(), role.spec.rules[..].into());
            for subject in &role.spec.subjects {
                let place = match subject.kind {
                    SubjectKind::User => &mut book.of_users,
                    SubjectKind::Group => &mut book.of_groups,
                };
                let had = Had { role: name.to_owned(), namespaces: subject.namespaces[..].into() };
                place.entry(subject.name.clone()).or_default().push(had);
            }
        }
        book
    }

    /// Somebody of this name and these groups. A role that is not there gives nothing.
    pub fn subject(&self, name: &str, groups: &[String]) -> Subject {
        let of_groups = groups.iter().filter_map(|group| self.of_groups.get(group));
        let had = self.named.get(name).into_iter().chain(self.of_users.get(name)).chain(of_groups).flatten();
        Subject {
            name: name.to_owned(),
            groups: groups.to_vec(),
            grants: had.filter_map(|had| self.granted(had)).collect(),
            scope: None,
        }
    }

    /// Somebody who has just this role.
    pub fn grant(&self, role: &str) -> Subject {
        let had = Had { role: role.to_owned(), namespaces: [].into() };
        Subject { grants: self.granted(&had).into_iter().collect(), ..Subject::nobody("") }
    }

    /// A user of this name as they would be with these groups and roles.
    pub fn given(&self, name: &str, groups: &[String], roles: &[RoleBinding]) -> Subject {
        let of_groups = groups.iter().filter_map(|group| self.of_groups.get(group)).flatten();
        let of_user = self.of_users.get(name).into_iter().flatten();
        let named = roles.iter().map(|r| Had { role: r.name.clone(), namespaces: r.namespaces[..].into() });
        let had = of_user.chain(of_groups).cloned().chain(named);
        let grants = had.filter_map(|had| self.granted(&had)).collect();
        Subject { groups: groups.to_vec(), grants, ..Subject::nobody(name) }
    }

    fn granted(&self, had: &Had) -> Option<Grant> {
        let rules = self.roles.get(&had.role)?.clone();
        Some(Grant { role: had.role.as_str().into(), rules, namespaces: had.namespaces.clone() })
    }

    /// How much a user may have and ask for, as far as their User says.
    pub fn limits(&self, user: &str) -> Option<&UserLimits> {
        self.limits.get(user)
    }

    /// The group that `sharing.group` means of a user's objects; empty if there is none.
    pub fn first_group(&self, user: &str) -> &str {
        self.groups.get(user).and_then(|groups| groups.first()).map_or("", String::as_str)
    }

    /// The rules of a role; `None` if there is no such role.
    pub fn role(&self, name: &str) -> Option<&Arc<[PolicyRule]>> {
        self.roles.get(name)
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
