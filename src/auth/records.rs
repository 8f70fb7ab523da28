//! Reading and writing what proves who somebody is. These kinds are nobody's desired state: they are written straight to the
//! store, each write naming the revision that it was decided on, and never pass admission.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{Body, Durability, Key, Kind, Object, ObjectMeta, Reason, Rev, Status, Time, Uid},
    clock::{Clock, new_uid},
    store::{Commit, CommitError, Expect, Provenance, Store, Write},
};

/// An object as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found<K> {
    pub(super) revision: Rev,
    pub(super) object: Arc<Object<K>>,
}

impl<K: Kind> std::ops::Deref for Found<K> {
    type Target = Object<K>;

    fn deref(&self) -> &Object<K> {
        &self.object
    }
}

/// The object of that name.
pub(super) fn find<K: Kind>(store: &Store, name: &str) -> Option<Found<K>> {
    let stored = store.get(&Key::of::<K>("", name))?;
    Some(Found { revision: stored.revision, object: stored.typed::<K>()? })
}

/// All objects of a kind.
pub(super) fn all<K: Kind>(store: &Store) -> Vec<Found<K>> {
    let items = store.list(K::INFO, None).items;
    let read = items.iter().filter_map(|s| Some(Found { revision: s.revision, object: s.typed::<K>()? }));
    read.collect()
}

/// Metadata of something new.
pub(super) fn metadata(name: &str, clock: &dyn Clock) -> ObjectMeta {
    ObjectMeta {
        name: name.to_owned(),
        uid: Some(new_uid(clock)),
        creation_timestamp: Some(Time(clock.now())),
        ..ObjectMeta::default()
    }
}

/// Puts something in place that is not there yet.
pub(super) fn make<K: Kind>(metadata: ObjectMeta, body: K) -> Write {
    let key = Key::of::<K>("", &metadata.name);
    let body = Body::new(Object::new(metadata, body).to_value());
    Write { key, expect: Expect::Absent, body: Some(body), status_only: true }
}

/// Puts something in the place of what was found.
pub(super) fn replace<K: Kind>(found: &Found<K>, body: K) -> Write {
    let object = Object { body, ..(*found.object).clone() };
    let key = Key::of::<K>("", &found.metadata.name);
    Write { key, expect: Expect::At(found.revision), body: Some(Body::new(object.to_value())), status_only: true }
}

/// Takes away what was found.
pub(super) fn remove<K: Kind>(found: &Found<K>) -> Write {
    let key = Key::of::<K>("", &found.metadata.name);
    Write { key, expect: Expect::At(found.revision), body: None, status_only: true }
}

/// Changes an object that others write too, all of it kept but for what `change` does; `None` if it is not there, or nothing changes.
pub(super) fn edit(store: &Store, key: Key, uid: &Uid, change: impl FnOnce(&mut Value)) -> Option<Write> {
    let stored = store.get(&key).filter(|stored| stored.meta().uid.as_ref() == Some(uid))?;
    let before = stored.value();
    let mut after = before.clone();
    change(&mut after);
    let expect = Expect::At(stored.revision);
    (after != before).then(|| Write { key, expect, body: Some(Body::new(after)), status_only: true })
}

/// Does all of it, or nothing.
pub(super) async fn commit(
    store: &Store,
    at: Timestamp,
    writes: Vec<Write>,
    durability: Durability,
    reason: &str,
) -> Result<(), CommitError> {
    if writes.is_empty() {
        return Ok(());
    }
    let provenance = Provenance {
        actor: "system:appm:auth".to_owned(),
        manager: "appm-auth".to_owned(),
        reason: reason.to_owned(),
        ..Provenance::default()
    };
    store.commit(Commit { writes, given: Vec::new(), ceilings: Vec::new(), durability, provenance, at }).await.map(drop)
}

/// What a client is told of the store's troubles.
pub(super) fn trouble(error: &CommitError) -> Status {
    match error {
        CommitError::Overloaded | CommitError::Conflict(_) => {
            Status::busy("too many writes are waiting; try again later")
        }
        CommitError::Closed => Status::new(Reason::ServiceUnavailable, "the server is shutting down"),
        error => {
            tracing::error!(%error, "what proves who somebody is was not stored");
            Status::internal("the change could not be written to disk, and was not made")
        }
    }
}
