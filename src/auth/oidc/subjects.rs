//! Which User an issuer's subject is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Vouched;
use crate::{
    api::{Key, Kind, OidcSubject, User},
    auth::{Authority, Identity, Proof},
    store::Store,
};

/// The names of the Users of each subject.
type Names = HashMap<OidcSubject, Vec<String>>;

/// Every User with `spec.oidc`, as of the store's present state. Read when it is first asked for.
#[derive(Default)]
pub(in crate::auth) struct Subjects(Mutex<(u64, Arc<Names>)>);

impl Subjects {
    /// The Users who name this subject: more than one is none that could be meant.
    pub(in crate::auth) fn of(&self, store: &Store, subject: &OidcSubject) -> Vec<String> {
        let changes = store.changes_of(User::INFO);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The counts begin at zero, where there is nothing to read.
        if known.0 != changes {
            let mut all = Names::new();
            for user in store.list(User::INFO, None).items.iter().filter_map(|object| object.typed::<User>()) {
                if let Some(subject) = &user.spec.oidc {
                    all.entry(subject.clone()).or_default().push(user.metadata.name.clone());
                }
            }
            *known = (changes, Arc::new(all));
        }
        known.1.get(subject).cloned().unwrap_or_default()
    }
}

impl Authority {
    /// Whom an issuer vouches for: the User who names its subject, in the User's groups and the token's; else somebody who is no
    /// User, in the token's. `None` if the User is locked, or it is not clear who is meant: the name that the settings make of a
    /// token must not be that of a User, who would be somebody else.
    pub(in crate::auth) fn vouched(&self, vouched: &Vouched) -> Option<Identity> {
        let proof = Proof::Oidc(vouched.subject.clone());
        let named = self.subjects.of(self.store(), &vouched.subject);
        let identity = match named.as_slice() {
            [name] => self.user(name, proof)?,
            [] if !self.is_a_user(&vouched.name) => Identity::of(&vouched.name, proof),
            _ => {
                tracing::warn!(subject = ?vouched.subject, name = vouched.name, "several may be meant by a token, so nobody is");
                return None;
            }
        };
        let more = vouched.groups.iter().filter(|group| !identity.groups.contains(group));
        let groups = identity.groups.iter().chain(more).cloned().collect();
        Some(Identity { groups, expires: Some(vouched.expires), ..identity })
    }

    /// Whether a subject still is whom it was taken for.
    pub(in crate::auth) fn is_still(&self, who: &Identity, subject: &OidcSubject) -> bool {
        match (self.subjects.of(self.store(), subject).as_slice(), &who.uid) {
            ([name], Some(_)) => *name == who.name,
            ([], None) => !self.is_a_user(&who.name),
            _ => false,
        }
    }

    fn is_a_user(&self, name: &str) -> bool {
        self.store().get(&Key::of::<User>("", name)).is_some()
    }
}
