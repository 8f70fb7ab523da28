//! The list of kinds: one word each.

use super::{
    App, ConfigMap, Credential, CustomResourceDefinition, Event, Instance, Kind, KindInfo, Lease, Namespace, Node,
    ResourceQuota, Revision, Role, Run, Schedule, Secret, Served, Service, Session, SigningKey, Source, Throttle,
    Token, User, Verbs, Workflow, WorkflowRun,
};

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// Every kind there is, those that are stored and never served among them.
        pub static KINDS: &[&KindInfo] = &[$($kind::INFO),*];
    };
}

kinds![
    App,
    Instance,
    Revision,
    Run,
    Schedule,
    Workflow,
    WorkflowRun,
    Source,
    Node,
    Namespace,
    ConfigMap,
    Secret,
    ResourceQuota,
    User,
    Role,
    Token,
    Lease,
    Event,
    CustomResourceDefinition,
    Service,
    Credential,
    Session,
    SigningKey,
    Throttle,
];

/// The kind of a stored form, by group and CamelCase name.
pub fn find_kind(group: &str, kind: &str) -> Option<&'static KindInfo> {
    KINDS.iter().copied().find(|k| k.group == group && k.kind == kind)
}

/// What is served under a group, a version and a plural name.
pub fn find_view(group: &str, version: &str, plural: &str) -> Option<Served> {
    served().find(|s| s.group() == group && s.version() == version && s.plural() == plural)
}

/// What is served under an `apiVersion` and a CamelCase kind, as manifests name it.
pub fn find_served(api_version: &str, kind: &str) -> Option<Served> {
    served().find(|s| s.name() == kind && s.api_version() == api_version)
}

/// Everything the API serves, kinds and views.
pub fn served() -> impl Iterator<Item = Served> {
    KINDS.iter().filter(|kind| kind.verbs != Verbs::None).flat_map(|kind| kind.served())
}

/// What a person calls a resource on the command line: plural, singular, short name or kind, in any case, with or
/// without `.group`. Stored forms win over views.
pub fn find_by_word(word: &str) -> Option<Served> {
    let word = word.to_ascii_lowercase();
    let (name, group) = word.split_once('.').map_or((word.as_str(), None), |(n, g)| (n, Some(g)));
    let called = |s: &Served| {
        [s.plural(), s.singular()].contains(&name)
            || s.short_names().contains(&name)
            || s.name().eq_ignore_ascii_case(name)
    };
    served().filter(|s| group.is_none_or(|g| s.group() == g)).filter(called).min_by_key(|s| s.view.is_some())
}
