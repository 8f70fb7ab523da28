//! Who a client certificate says that somebody is. The TLS handshake has verified that the authority of `--client-ca-file` signed
//! it and that the client holds its key.
//!
//! As in Kubernetes, the common name is the user and the organizations are the groups.

use jiff::Timestamp;

use super::Identity;
use crate::policy::certificate::{Certificate, CertificateError};

/// A client certificate that was shown in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The user.
    pub user: String,
    /// The groups.
    pub groups: Vec<String>,
    /// From then on it proves nothing, on connections that are open, too.
    pub expires: Timestamp,
}

impl ClientCertificate {
    /// What a verified certificate in DER says; `None` if it names no user.
    ///
    /// # Errors
    /// When it cannot be read, or has odd names.
    pub fn read(der: &[u8]) -> Result<Option<Self>, CertificateError> {
        let read = Certificate::read(der)?;
        Ok(read.common_name.map(|user| Self { user, groups: read.organizations, expires: read.expires }))
    }

    /// Who it proves somebody to be, while it lasts. Names that appm keeps for its own parts are nobody's.
    pub fn identity(&self, now: Timestamp) -> Option<Identity> {
        if self.expires < now || self.user.starts_with("system:") {
            return None;
        }
        let groups = self.groups.iter().cloned().chain(["system:authenticated".to_owned()]).collect();
        Some(Identity { name: self.user.clone(), groups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_proves_a_user_until_it_ends() {
        let expires = Timestamp::UNIX_EPOCH;
        let (before, after) =
            (expires - jiff::SignedDuration::from_secs(1), expires + jiff::SignedDuration::from_secs(1));
        let alice = ClientCertificate { user: "alice".to_owned(), groups: vec!["builders".to_owned()], expires };
        let identity = alice.identity(before).expect("in time");
        assert_eq!(
            (identity.name.as_str(), identity.groups.join(" ")),
            ("alice", "builders system:authenticated".to_owned())
        );
        assert_eq!(alice.identity(after), None);
        let own = ClientCertificate { user: "system:appm:agent".to_owned(), ..alice };
        assert_eq!(own.identity(before), None);
    }
}
