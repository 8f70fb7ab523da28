//! Who a client certificate says that somebody is. The TLS handshake has verified that the authority of `--client-ca-file` signed
//! it and that the client holds its key.
//!
//! As in Kubernetes, the common name is the user and the organizations are the groups.

use jiff::Timestamp;

use super::{Authority, Identity, Proof};
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

    /// Who it proves somebody to be, while it lasts: a User that is there and is not locked, in the User's groups and the
    /// certificate's. Names and groups that appm keeps for its own parts are nobody's.
    pub fn identity(&self, authority: &Authority, now: Timestamp) -> Option<Identity> {
        if self.expires < now {
            return None;
        }
        let user = authority.user(&self.user, Proof::Certificate)?;
        let more = self.groups.iter().filter(|group| !group.starts_with("system:") && !user.groups.contains(group));
        let groups = user.groups.iter().chain(more).cloned().collect();
        Some(Identity { groups, expires: Some(self.expires), ..user })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        admission::{Caller, WriteOptions},
        api::{Kind, User},
        clock::System,
        policy::powers::Host,
        store::{Limits, Memory, Store},
    };

    #[tokio::test]
    async fn a_certificate_proves_a_user_that_is_there_until_it_ends() {
        let world = crate::admission::Admission::new(
            Store::open(Memory::new().engine(), Arc::new(System), Limits::default()).await.expect("empty"),
            Arc::new(System),
            Host::default(),
        );
        let part = Caller::new(Identity::system("test"), "test");
        let spec = serde_json::json!({"metadata": {"name": "alice"}, "spec": {"groups": ["staff"]}});
        let users = User::INFO.stored_form();
        world.create(&part, users, "", spec, &WriteOptions::default()).await.expect("made");
        let expires = Timestamp::UNIX_EPOCH;
        let second = jiff::SignedDuration::from_secs(1);
        let groups = ["builders", "system:masters"].map(str::to_owned).to_vec();
        let alice = ClientCertificate { user: "alice".to_owned(), groups, expires };
        let identity = alice.identity(world.authority(), expires - second).expect("in time");
        assert_eq!((identity.name.as_str(), identity.is_master()), ("alice", false));
        assert_eq!(identity.groups.join(" "), "staff system:authenticated builders");
        assert_eq!(alice.identity(world.authority(), expires + second), None);
        let bob = ClientCertificate { user: "bob".to_owned(), ..alice };
        assert_eq!(bob.identity(world.authority(), expires - second), None, "there is no such User");
    }
}
