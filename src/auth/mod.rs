//! Who is asking, and whether they may. One place where credentials become an identity ([`Authenticator`]), and one decision
//! function for every path ([`Authority`]).

mod authenticator;
mod authority;
pub mod certificate;
mod challenge;
pub mod credentials;
mod enrol;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod issue;
pub mod jwt;
mod keys;
mod lately;
mod oidc;
pub mod password;
mod peer;
mod records;
mod roles;
mod secret;
mod sessions;
pub mod signature;
pub mod token;
mod totp;

use std::sync::Arc;

use jiff::Timestamp;

pub use authenticator::{Authenticator, CODE_REQUIRED, From, parse_basic, token_name};
pub use authority::{Authority, Viewer};
pub use challenge::Challenge;
pub use enrol::{CodeRequest, Enrolment, RecoveryCodes};
pub use issue::{TokenIssued, TokenRequest};
pub use jwt::AUDIENCE;
pub use oidc::OidcIssuer;
pub use peer::{INSTANCES, Known, PeerCredentials, Peers};
pub use roles::built_in as built_in_roles;
pub use sessions::{Granted, LoginRequest, PasswordRequest};
#[cfg(test)]
pub(crate) use totp::shown as totp_code;

use crate::api::{OidcSubject, PolicyRule, Uid};
pub use crate::policy::access::{Attributes, May};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The user's name: `admin`, or `system:…` for appm's own parts.
    pub name: String,
    /// The groups, `system:masters` for whoever may do everything.
    pub groups: Vec<String>,
    /// The User's uid, if there is a User of that name behind it: another one of the same name is somebody else.
    pub uid: Option<Uid>,
    /// How it was proved.
    pub proof: Proof,
    /// What a token narrows it to.
    pub scope: Option<Arc<[PolicyRule]>>,
    /// When what proved it ends.
    pub expires: Option<Timestamp>,
}

/// How an identity was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A part of appm, in this process.
    Part,
    /// The kernel named the peer of the Unix socket.
    Peer,
    /// The bearer token that the server writes into its own kubeconfig.
    OwnToken,
    /// A long-lived Token of this name.
    Token(String),
    /// An access token of the Session of this name.
    Session(String),
    /// A password, in every request; what tells it from another one of the same user.
    Password(String),
    /// A client certificate.
    Certificate,
    /// A token of an issuer, for this subject.
    Oidc(OidcSubject),
    /// Somebody else, of this name, who may, speaks as it.
    Impersonated(String),
}

/// The user that the owner of the data directory is.
pub const OWNER_NAME: &str = "admin";

/// Members of this group may do everything, as in Kubernetes.
pub const MASTERS: &str = "system:masters";
/// Everybody who was let in is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";

impl Identity {
    /// The built-in principal: the owner of the data directory.
    pub fn admin(proof: Proof) -> Self {
        Self { groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()], ..Self::of(OWNER_NAME, proof) }
    }

    /// A part of appm itself, `system:appm:<part>`.
    pub fn system(part: &str) -> Self {
        Self { groups: vec![MASTERS.to_owned()], ..Self::of(&format!("system:appm:{part}"), Proof::Part) }
    }

    /// Somebody in no group but that of everybody.
    pub fn of(name: &str, proof: Proof) -> Self {
        let groups = vec![AUTHENTICATED.to_owned()];
        Self { name: name.to_owned(), groups, uid: None, proof, scope: None, expires: None }
    }

    /// True for whoever may do everything.
    pub fn is_master(&self) -> bool {
        self.scope.is_none() && self.groups.iter().any(|g| g == MASTERS)
    }
}
