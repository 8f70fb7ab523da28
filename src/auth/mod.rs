//! Who is asking, and whether they may. One decision function for every path.

pub mod certificate;
pub mod peer;
pub mod token;

use crate::api::{Reason, Status};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name: `admin`, or `system:…` for appm's own parts.
    pub name: String,
    /// The groups, `system:masters` for whoever may do everything.
    pub groups: Vec<String>,
}

/// Members of this group may do everything, as in Kubernetes.
pub const MASTERS: &str = "system:masters";

impl Identity {
    /// The built-in principal: the owner of the data directory.
    pub fn admin() -> Self {
        Self { name: "admin".to_owned(), groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()] }
    }

    /// A part of appm itself, `system:appm:<part>`.
    pub fn system(part: &str) -> Self {
        Self { name: format!("system:appm:{part}"), groups: vec![MASTERS.to_owned()] }
    }
}

/// What is asked for, in the terms of Kubernetes' authorization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// `status`, `scale`, `log`; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped kinds and for all namespaces.
    pub namespace: &'a str,
    /// The object's name; empty for lists.
    pub name: &'a str,
}

/// The decision. Until roles exist, only the owner gets in, and the owner may do everything.
///
/// # Errors
/// `Forbidden`, in Kubernetes' words.
pub fn authorize(who: &Identity, what: &Attributes<'_>) -> Result<(), Status> {
    if who.groups.iter().any(|g| g == MASTERS) {
        return Ok(());
    }
    let Attributes { verb, group, resource, subresource, namespace, name } = what;
    let slash = if subresource.is_empty() { "" } else { "/" };
    let scope = match *namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let full = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    Err(Status::new(
        Reason::Forbidden,
        format!(
            "{full} \"{name}\" is forbidden: User \"{}\" cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \"{group}\" {scope}",
            who.name
        ),
    ))
}
