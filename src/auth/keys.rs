//! The keys that sign access tokens. They are objects, sealed in the store: two servers over one store share them.
//!
//! A key signs for a month; then the next login makes another one, and the old one verifies until its last token has ended.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::SignedDuration;
use serde_json::Value;

use super::{
    jwt::{self, Claims},
    lately::Lately,
    records, secret,
};
use crate::{
    api::{Durability, Kind, SecretValue, SigningKey, Status},
    clock::SharedClock,
    store::{CommitError, Store},
};

/// How long a key signs.
const SIGNS: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long it verifies after that: longer than any token lives.
const VERIFIES: SignedDuration = SignedDuration::from_secs(jwt::LONGEST_LIFE + 60 * 60);

/// All keys, as of the store's present state.
pub(super) struct Keys {
    store: Arc<Store>,
    clock: SharedClock,
    known: Mutex<(u64, Arc<[jwt::Key]>)>,
    /// What tokens say whose signature was found right, by their digest.
    verified: Lately<[u8; 32], Claims>,
}

impl Keys {
    pub(super) fn new(store: Arc<Store>, clock: SharedClock) -> Self {
        Self { store, clock, known: Mutex::new((0, Arc::new([]))), verified: Lately::of(SigningKey::INFO) }
    }

    /// Newest first.
    fn all(&self) -> Arc<[jwt::Key]> {
        let changes = self.store.changes_of(SigningKey::INFO);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != changes || known.1.is_empty() {
            let keys = self.found().into_iter().filter_map(|found| jwt::Key::of(&found.seed.bytes()?));
            *known = (changes, keys.collect());
        }
        known.1.clone()
    }

    fn found(&self) -> Vec<records::Found<SigningKey>> {
        let mut all = records::all::<SigningKey>(&self.store);
        all.sort_by_key(|found| std::cmp::Reverse(found.created));
        all
    }

    /// Signs claims.
    ///
    /// # Errors
    /// When a new key is needed, and the store does not take it.
    pub(super) async fn sign(&self, claims: &Claims) -> Result<String, Status> {
        let now = self.clock.now();
        let newest = self.found().into_iter().next();
        if newest.is_none_or(|newest| now.duration_since(newest.created.0) >= SIGNS) {
            let seed = secret::random::<32>();
            let key = jwt::Key::of(&seed).expect("a seed has 32 bytes");
            // Names are lower case; the key's own is not.
            let metadata = records::metadata(&secret::digest(&[&key.kid]), &*self.clock);
            let body = SigningKey { seed: SecretValue::of(&seed), created: now.into() };
            let write = records::make(metadata, body);
            let reason = "a new key signs access tokens";
            match records::commit(&self.store, now, vec![write], Durability::Durable, reason).await {
                Ok(()) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(records::trouble(&error)),
            }
        }
        let keys = self.all();
        keys.first().map(|key| key.sign(claims)).ok_or_else(|| Status::internal("there is no key to sign with"))
    }

    /// What an access token says; `None` if it is none of ours, not good now, or for somebody else.
    pub(super) fn read(&self, token: &str, audience: &str) -> Option<Claims> {
        let now = self.clock.now();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let claims = self.verified.get(&self.store, digest, || jwt::read(token, self.all().iter(), now, audience))?;
        claims.are_good(now.as_second(), audience).then_some(claims)
    }

    /// For whoever wants to verify tokens by themselves.
    pub(super) fn published(&self) -> Value {
        jwt::jwks(self.all().iter())
    }

    /// The keys whose last token has ended.
    pub(super) fn spent(&self) -> Vec<crate::store::Write> {
        let now = self.clock.now();
        let old = |found: &records::Found<SigningKey>| now.duration_since(found.created.0) >= SIGNS + VERIFIES;
        self.found().iter().filter(|found| old(found)).map(records::remove).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Uid,
        clock::{Clock, Virtual},
        store::{Limits, Memory},
    };

    #[tokio::test]
    async fn a_new_key_signs_and_the_old_one_verifies_until_its_tokens_have_ended() {
        let clock = Virtual::new("2026-11-21T08:00:00Z".parse().expect("a time"), 1);
        let shared: SharedClock = Arc::new(clock.clone());
        let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
        let keys = Keys::new(store.clone(), shared);
        let token = async || {
            let claims = Claims::new("ada", &Uid::from("u"), "s", clock.now());
            keys.sign(&claims).await.expect("signed")
        };
        assert!(token().await.split('.').next() == token().await.split('.').next(), "one key signs");
        clock.advance(SIGNS - SignedDuration::from_secs(1));
        let old = token().await;
        clock.advance(SignedDuration::from_secs(1));
        let new = token().await;
        assert_ne!(old.split('.').next(), new.split('.').next(), "another key signs");
        assert!(keys.read(&old, jwt::AUDIENCE).is_some() && keys.read(&new, jwt::AUDIENCE).is_some());
        assert_eq!(keys.published()["keys"].as_array().map(Vec::len), Some(2));
        assert!(keys.spent().is_empty());
        clock.advance(VERIFIES);
        assert!(keys.read(&old, jwt::AUDIENCE).is_none());
        records::commit(&store, clock.now(), keys.spent(), Durability::Durable, "").await.expect("removed");
        assert_eq!(keys.published()["keys"].as_array().map(Vec::len), Some(1));
    }
}
