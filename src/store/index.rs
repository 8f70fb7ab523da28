//! All live objects in memory, and the ways to find them: by key, by uid, by owner.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use imbl::OrdMap;

use super::{Change, LoadedObject, OpenError};
use crate::{
    api::{Body, Key, Kind, KindInfo, ResourceQuota, Rev, StoredObject, Uid},
    policy::quota::{Counted, Sums},
};

/// The objects of one kind by namespace and name. Cloning it is taking a snapshot.
pub(super) type Objects = OrdMap<(Arc<str>, Arc<str>), Arc<StoredObject>>;

/// Objects for which another thread is not worth its start.
const FEW: usize = 1000;

/// The state at one revision. A clone goes its own way.
#[derive(Clone)]
pub(super) struct Index {
    revision: Rev,
    kinds: BTreeMap<&'static KindInfo, Objects>,
    uids: HashMap<Uid, Key>,
    /// (owner, dependent); `None` sorts before every dependent, so a range begins there.
    owners: BTreeSet<(Uid, Option<Key>)>,
    /// Kinds whose objects are made at each start, and since which revision they are here.
    provided: BTreeMap<&'static KindInfo, Rev>,
    /// How often an object of a kind was put in or taken out.
    changes: BTreeMap<&'static KindInfo, u64>,
    /// What there is of everything, by namespace and by owner.
    sums: Sums,
    /// Namespaces with quotas in which the sums, or the quotas, have changed since somebody asked.
    stirred: BTreeSet<Arc<str>>,
}

impl Index {
    pub(super) fn load(revision: Rev, place: &Path, objects: Vec<LoadedObject>) -> Result<Self, OpenError> {
        let mut index = Self {
            revision,
            kinds: BTreeMap::new(),
            uids: HashMap::new(),
            owners: BTreeSet::new(),
            provided: BTreeMap::new(),
            changes: BTreeMap::new(),
            sums: Sums::default(),
            stirred: BTreeSet::new(),
        };
        for stored in read_all(place, objects) {
            index.put(&Arc::new(stored?));
        }
        Ok(index)
    }

    pub(super) fn revision(&self) -> Rev {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<StoredObject>> {
        self.kinds.get(key.kind)?.get(&(key.namespace.clone(), key.name.clone()))
    }

    pub(super) fn objects(&self, kind: &'static KindInfo) -> (Rev, Objects) {
        (self.revision, self.kinds.get(kind).cloned().unwrap_or_default())
    }

    pub(super) fn count_of(&self, kind: &'static KindInfo) -> usize {
        self.kinds.get(kind).map_or(0, imbl::OrdMap::len)
    }

    /// A snapshot of the objects of every kind.
    pub(super) fn everything(&self) -> Vec<Objects> {
        self.kinds.values().cloned().collect()
    }

    pub(super) fn find_uid(&self, uid: &Uid) -> Option<&Key> {
        self.uids.get(uid)
    }

    pub(super) fn dependents(&self, owner: &Uid) -> Vec<Key> {
        let from = (owner.clone(), None);
        let of_owner = self.owners.range(from..).take_while(|(uid, _)| uid == owner);
        of_owner.filter_map(|(_, key)| key.clone()).collect()
    }

    pub(super) fn counts(&self) -> Vec<(String, usize)> {
        self.kinds.iter().map(|(kind, objects)| (kind.qualified().into_owned(), objects.len())).collect()
    }

    /// Goes on to a newer revision.
    pub(super) fn advance(&mut self, revision: Rev) {
        self.revision = self.revision.max(revision);
    }

    /// Takes in all objects of a kind that is not stored, at the present revision.
    pub(super) fn provide(&mut self, kind: &'static KindInfo, objects: Vec<(Key, Body)>) {
        self.provided.insert(kind, self.revision);
        for (key, body) in objects {
            let object = StoredObject::new(key, self.revision, &body).expect("its maker wrote its metadata");
            self.put(&Arc::new(object));
        }
    }

    /// Since when a kind's objects are here, if they were not stored before.
    pub(super) fn provided_at(&self, kind: &'static KindInfo) -> Rev {
        self.provided.get(kind).copied().unwrap_or_default()
    }

    /// A number that is another one whenever an object of the kind has changed.
    pub(super) fn changes_of(&self, kind: &'static KindInfo) -> u64 {
        self.changes.get(kind).copied().unwrap_or_default()
    }

    /// What there is of everything.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Whether a namespace has quotas of which something has changed since they were taken.
    pub(super) fn is_stirred(&self) -> bool {
        !self.stirred.is_empty()
    }

    /// The namespaces with quotas in which something has changed since this was asked last.
    pub(super) fn take_stirred(&mut self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.stirred)
    }

    /// Takes one version of an object for another in the sums.
    fn count(&mut self, key: &Key, old: Option<&StoredObject>, new: Option<&StoredObject>) {
        let (old, new) = (old.map(Counted::of), new.map(Counted::of));
        let differs = old != new;
        self.sums.replace(old.as_ref(), new.as_ref());
        if differs && self.has_quota(&key.namespace) || key.kind == ResourceQuota::INFO {
            self.stirred.insert(key.namespace.clone());
        }
    }

    fn has_quota(&self, namespace: &Arc<str>) -> bool {
        let Some(quotas) = self.kinds.get(ResourceQuota::INFO).filter(|quotas| !quotas.is_empty()) else {
            return false;
        };
        quotas.range((namespace.clone(), "".into())..).next().is_some_and(|((found, _), _)| found == namespace)
    }

    /// Adds or replaces an object; gives the version before.
    pub(super) fn put(&mut self, object: &Arc<StoredObject>) -> Option<Arc<StoredObject>> {
        let key = &object.key;
        *self.changes.entry(key.kind).or_default() += 1;
        let place = (key.namespace.clone(), key.name.clone());
        let old = self.kinds.entry(key.kind).or_default().insert(place, object.clone());
        if let Some(old) = &old {
            self.forget(old);
        }
        if let Some(uid) = &object.meta().uid {
            self.uids.insert(uid.clone(), key.clone());
        }
        for owner in &object.meta().owner_references {
            self.owners.insert((owner.uid.clone(), Some(key.clone())));
        }
        self.count(key, old.as_deref(), Some(object));
        old
    }

    /// Takes an object out; gives the version before.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<StoredObject>> {
        *self.changes.entry(key.kind).or_default() += 1;
        let objects = self.kinds.get_mut(key.kind)?;
        let old = objects.remove(&(key.namespace.clone(), key.name.clone()))?;
        self.forget(&old);
        self.count(key, Some(&old), None);
        Some(old)
    }

    fn forget(&mut self, old: &StoredObject) {
        if let Some(uid) = &old.meta().uid {
            self.uids.remove(uid);
        }
        for owner in &old.meta().owner_references {
            self.owners.remove(&(owner.uid.clone(), Some(old.key.clone())));
        }
    }
}

/// Reads objects, on all cores: at start nobody else needs them.
fn read_all(place: &Path, objects: Vec<LoadedObject>) -> Vec<Result<StoredObject, OpenError>> {
    let read = |LoadedObject { key, revision, body }: &LoadedObject| {
        StoredObject::new(key.clone(), *revision, body)
            .map_err(|e| OpenError::Corrupt { file: place.to_owned(), detail: format!("`{key}` cannot be read: {e}") })
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = objects.len().div_ceil(threads).max(FEW);
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            objects.chunks(chunk).map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>())).collect();
        parts.into_iter().flat_map(|part| part.join().expect("reading an object does not panic")).collect()
    })
}

/// Takes a change back.
pub(super) fn undo(objects: &mut Objects, change: &Change) {
    let key = &change.new.key;
    let place = (key.namespace.clone(), key.name.clone());
    match &change.old {
        Some(old) => objects.insert(place, old.clone()),
        None => objects.remove(&place),
    };
}

/// The objects of a snapshot in one namespace, or all of them; sorted by namespace and name.
pub(super) fn select(objects: &Objects, namespace: Option<&str>) -> Vec<Arc<StoredObject>> {
    match namespace {
        None => objects.values().cloned().collect(),
        Some(namespace) => {
            let from: (Arc<str>, Arc<str>) = (namespace.into(), "".into());
            let there = objects.range(from..).take_while(|((found, _), _)| &**found == namespace);
            there.map(|(_, object)| object.clone()).collect()
        }
    }
}
