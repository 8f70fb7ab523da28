//! Who depends on whom, by uid: what the informers have told, in one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    api::{FOREGROUND_FINALIZER, Key, KindInfo, ORPHAN_FINALIZER, StoredObject, Uid},
    client::ChangeType,
    runtime::Delta,
};

/// Every object of the kinds that are followed, and the references between them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    objects: BTreeMap<Key, Arc<StoredObject>>,
    uids: BTreeMap<Uid, Key>,
    /// (owner, dependent); `None` sorts before every dependent, so a range begins there.
    dependents: BTreeSet<(Uid, Option<Key>)>,
    unsynced: BTreeSet<&'static KindInfo>,
}

/// True if a deleted object waits for its dependents in the way that `finalizer` says.
pub(super) fn waits(object: &StoredObject, finalizer: &str) -> bool {
    object.meta().is_deleting() && object.meta().finalizers.iter().any(|f| f == finalizer)
}

fn waits_at_all(object: &StoredObject) -> bool {
    waits(object, FOREGROUND_FINALIZER) || waits(object, ORPHAN_FINALIZER)
}

impl Graph {
    /// A graph that knows nothing of any of these kinds yet.
    pub(super) fn new(kinds: impl IntoIterator<Item = &'static KindInfo>) -> Self {
        Self { unsynced: kinds.into_iter().collect(), ..Self::default() }
    }

    /// True once every kind was listed. Before that, absent means unknown.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// The object of a key.
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<StoredObject>> {
        self.objects.get(key)
    }

    /// The object of a uid.
    pub(super) fn find(&self, uid: &Uid) -> Option<&Arc<StoredObject>> {
        self.objects.get(self.uids.get(uid)?)
    }

    /// The objects that name a uid as an owner.
    pub(super) fn dependents(&self, uid: &Uid) -> impl Iterator<Item = &Arc<StoredObject>> {
        self.keys_of(uid).filter_map(|key| self.objects.get(key))
    }

    fn keys_of(&self, uid: &Uid) -> impl Iterator<Item = &Key> {
        let of_owner = self.dependents.range((uid.clone(), None)..).take_while({
            let uid = uid.clone();
            move |(owner, _)| *owner == uid
        });
        of_owner.filter_map(|(_, key)| key.as_ref())
    }

    /// Takes in what an informer reports; returns the keys that have to be judged.
    pub(super) fn apply(&mut self, kind: &'static KindInfo, delta: &Delta) -> BTreeSet<Key> {
        let mut judge = BTreeSet::new();
        match delta {
            Delta::Replace(listing) => {
                let listed: BTreeSet<&Key> = listing.items.iter().map(|object| &object.key).collect();
                let of_kind = self.objects.keys().filter(|key| key.kind == kind && !listed.contains(key));
                for key in of_kind.cloned().collect::<Vec<_>>() {
                    self.remove(&key, &mut judge);
                }
                listing.items.iter().for_each(|object| self.insert(object, &mut judge));
                self.unsynced.remove(kind);
            }
            Delta::Change(ChangeType::Deleted, object) => self.remove(&object.key, &mut judge),
            Delta::Change(_, object) => self.insert(object, &mut judge),
            Delta::Bookmark(_) => {}
        }
        judge
    }

    fn insert(&mut self, object: &Arc<StoredObject>, judge: &mut BTreeSet<Key>) {
        let meta = object.meta();
        let former = self.objects.get(&object.key).is_some_and(|old| old.meta().uid() != meta.uid());
        if former {
            self.remove(&object.key, judge);
        }
        let old = self.objects.insert(object.key.clone(), object.clone());
        // Most changes are of status, and mean nothing here: what becomes of the owners is told by the owners.
        let same = old.as_ref().is_some_and(|old| old.meta().owner_references == meta.owner_references);
        if !same {
            old.iter().for_each(|old| {
                self.unlink(old);
                self.waiting_owners(old, judge);
            });
            self.uids.insert(meta.uid().clone(), object.key.clone());
            for owner in &meta.owner_references {
                self.dependents.insert((owner.uid.clone(), Some(object.key.clone())));
            }
            self.waiting_owners(object, judge);
        }
        if waits_at_all(object) {
            judge.extend(self.keys_of(meta.uid()).cloned());
            judge.insert(object.key.clone());
        } else if !same && !meta.owner_references.is_empty() && !meta.is_deleting() {
            judge.insert(object.key.clone());
        }
    }

    fn remove(&mut self, key: &Key, judge: &mut BTreeSet<Key>) {
        let Some(object) = self.objects.remove(key) else { return };
        self.unlink(&object);
        self.uids.remove(object.meta().uid());
        judge.extend(self.keys_of(object.meta().uid()).cloned());
        self.waiting_owners(&object, judge);
    }

    fn unlink(&mut self, object: &StoredObject) {
        for owner in &object.meta().owner_references {
            self.dependents.remove(&(owner.uid.clone(), Some(object.key.clone())));
        }
    }

    /// Owners that wait for their dependents have to look again.
    fn waiting_owners(&self, object: &StoredObject, judge: &mut BTreeSet<Key>) {
        let owners = object.meta().owner_references.iter().filter_map(|owner| self.find(&owner.uid));
        judge.extend(owners.filter(|owner| waits_at_all(owner)).map(|owner| owner.key.clone()));
    }
}
