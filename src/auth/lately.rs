//! What was read or reckoned of objects, kept as long as none of their kind changes: whoever sends thousands of small requests a second shows the
//! same token, session and User with each. A change of any of the kind forgets all of it, so that nothing outlives its reason.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use crate::{api::KindInfo, store::Store};

/// So much is kept at most; then all of it goes.
const MOST: usize = 1024;

/// Values of objects of one kind, by whatever they are asked for by.
pub(super) struct Lately<K, V> {
    kind: &'static KindInfo,
    /// As of this change.
    known: Mutex<(u64, HashMap<K, V>)>,
}

impl<K: Hash + Eq, V: Clone> Lately<K, V> {
    pub(super) fn of(kind: &'static KindInfo) -> Self {
        Self { kind, known: Mutex::default() }
    }

    /// The value that is known, or the one that is found. Nothing is remembered of what is not found.
    pub(super) fn get(&self, store: &Store, key: K, find: impl FnOnce() -> Option<V>) -> Option<V> {
        // Before it is looked for: what is found is as new as this, or newer.
        let changes = store.changes_of(self.kind);
        {
            let mut known = self.lock();
            if known.0 != changes || known.1.len() >= MOST {
                *known = (changes, HashMap::new());
            }
            if let Some(value) = known.1.get(&key) {
                return Some(value.clone());
            }
        }
        let value = find()?;
        let mut known = self.lock();
        if known.0 == changes {
            known.1.insert(key, value.clone());
        }
        Some(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<K, V>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::{Durability, Kind, SigningKey},
        auth::records,
        clock::{Clock, SharedClock, Virtual},
        store::{Limits, Memory, Store},
    };

    #[tokio::test]
    async fn what_is_known_is_forgotten_when_one_of_the_kind_changes() {
        let clock = Virtual::new("2026-11-21T08:00:00Z".parse().expect("a time"), 1);
        let shared: SharedClock = Arc::new(clock.clone());
        let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
        let lately: Lately<&str, u32> = Lately::of(SigningKey::INFO);
        assert_eq!(lately.get(&store, "a", || None), None);
        assert_eq!(lately.get(&store, "a", || Some(1)), Some(1));
        assert_eq!(lately.get(&store, "a", || Some(2)), Some(1));
        assert_eq!(lately.get(&store, "b", || Some(3)), Some(3));
        let key = SigningKey { seed: crate::api::SecretValue::of(&[1; 32]), created: clock.now().into() };
        let write = records::make(records::metadata("k", &clock), key);
        records::commit(&store, clock.now(), vec![write], Durability::Durable, "a test").await.expect("committed");
        assert_eq!(lately.get(&store, "a", || Some(2)), Some(2));
    }
}
