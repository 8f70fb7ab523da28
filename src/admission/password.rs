//! What a write of a User does to what proves who the User is: the password goes into the Credential, in the same transaction, and
//! whoever was logged in with the old one is not any more.
//!
//! Hashing takes a core for some time, and planning is done on a thread of the runtime. So a plan that meets a new password
//! only notes it; it is hashed elsewhere, and planned again ([`super::transaction`]).

use serde_json::Value;

use super::{
    metadata,
    operation::{Context, Refusal},
    plan::Plan,
};
use crate::{
    api::{Credential, Key, Kind, Object, ObjectMeta, Session, Time, Uid, User, user_credential},
    auth::credentials::{self, Untaken},
    clock::new_uid,
};

impl Context<'_> {
    /// Takes the password out of an object that is to be stored, if it is a User; the next state of the Credential, if that changes.
    pub(super) fn take_password(
        &self,
        key: &Key,
        user: &mut Value,
        plan: &mut Plan<'_>,
    ) -> Result<Option<Credential>, Refusal> {
        if key.kind != User::INFO {
            return Ok(None);
        }
        let live = plan.live(&credential_key(key)).and_then(|live| read::<Credential>(live));
        let uid = Uid::from(metadata::text(user, "uid"));
        let (live, now) = (live.as_ref().map(|live| &live.body), Time(self.clock.now()));
        match credentials::take(user, &uid, now, live, self.settled) {
            Ok(taken) => Ok(taken),
            Err(Untaken::Wrong(violation)) => Err(Refusal::Invalid(key.kind, key.name.to_string(), vec![violation])),
            // Planned on, so that whatever else is to be hashed is found in the same pass.
            Err(Untaken::Unsettled(asked)) => {
                self.unsettled.borrow_mut().push(asked);
                Ok(Some(Credential { of: Some(uid), ..Credential::default() }))
            }
        }
    }

    /// Puts the next state of a User's Credential into the plan, and ends the sessions that the old one opened.
    pub(super) fn put_credential(&self, user: &Key, body: Credential, plan: &mut Plan<'_>) {
        let key = credential_key(user);
        let made = || ObjectMeta {
            name: key.name.to_string(),
            uid: Some(new_uid(self.clock)),
            creation_timestamp: Some(Time(self.clock.now())),
            ..ObjectMeta::default()
        };
        let live = plan.live(&key).and_then(|live| read::<Credential>(live));
        let uid = body.of.clone();
        let object = Object::new(live.map_or_else(made, |live| live.metadata), body);
        plan.put(&key, object.to_value(), true);
        self.end_sessions(uid.as_ref(), plan);
    }

    /// Takes away what proves who somebody is who is not any more.
    pub(super) fn forget_user(&self, user: &Key, plan: &mut Plan<'_>) {
        if user.kind != User::INFO {
            return;
        }
        let key = credential_key(user);
        let Some(live) = plan.live(&key).cloned() else { return };
        let of = read::<Credential>(&live).and_then(|live| live.body.of);
        plan.delete(&key, (*live).clone());
        self.end_sessions(of.as_ref(), plan);
    }

    fn end_sessions(&self, uid: Option<&Uid>, plan: &mut Plan<'_>) {
        for stored in self.store.list(Session::INFO, None).items {
            if stored.typed::<Session>().is_some_and(|session| Some(&session.uid) == uid)
                && let Some(live) = plan.live(&stored.key).cloned()
            {
                plan.delete(&stored.key, (*live).clone());
            }
        }
    }
}

fn credential_key(user: &Key) -> Key {
    Key::of::<Credential>("", &user_credential(&user.name))
}

fn read<K: Kind>(value: &Value) -> Option<Object<K>> {
    serde_json::from_value(value.clone()).ok()
}
