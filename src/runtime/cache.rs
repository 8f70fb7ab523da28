//! What a controller knows of one kind: every object its query selects, as the watch told it or as it wrote it itself.
//!
//! Objects are the store's own shared ones where both live in one process, so a cache costs its keys only.
//! Own writes are put in as soon as they are answered ([`Caches::written`]): a pass reads what the pass before wrote.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock, RwLockReadGuard},
};

use super::Delta;
use crate::{
    api::{Key, Kind, KindInfo, Object, Rev, StoredObject},
    client::{ChangeType, Done},
};

/// Objects of one kind. Cheap to read; written by the pump that owns it.
#[derive(Debug)]
pub struct Cache {
    inner: RwLock<Inner>,
}

/// Namespace, kind and name of the owner that controls an object.
type Controller = (Arc<str>, Box<str>, Box<str>);

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Arc<StoredObject>>,
    /// (owner, object); `None` sorts before every object, so a range begins there. Most owners have one or two: a set for each
    /// would be mostly room for more.
    controlled: BTreeSet<(Controller, Option<Key>)>,
    /// Everything up to here is known, and perhaps some of what came after.
    revision: Rev,
    synced: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner::default()) }
    }
}

impl Cache {
    /// The object of that key.
    pub fn get(&self, key: &Key) -> Option<Arc<StoredObject>> {
        self.read().objects.get(key).cloned()
    }

    /// The object of that key, typed. `None` also if it cannot be read as a `K`.
    pub fn typed<K: Kind>(&self, key: &Key) -> Option<Arc<Object<K>>> {
        self.get(key)?.typed()
    }

    /// Every object, by namespace and name.
    pub fn list(&self) -> Vec<Arc<StoredObject>> {
        self.read().objects.values().cloned().collect()
    }

    /// Every object that names `kind` `name` of `namespace` as its controller, whatever the uid: what belongs to a former
    /// object of that name is among them.
    pub fn controlled_by(&self, namespace: &str, kind: &str, name: &str) -> Vec<Arc<StoredObject>> {
        let inner = self.read();
        let from = ((namespace.into(), kind.into(), name.into()), None);
        let of_owner = inner.controlled.range(&from..).take_while(|(owner, _)| *owner == from.0);
        of_owner.filter_map(|(_, key)| inner.objects.get(key.as_ref()?).cloned()).collect()
    }

    /// True once a whole list has been seen. Before that, absent means unknown.
    pub fn is_synced(&self) -> bool {
        self.read().synced
    }

    /// Takes in what the informer reports; returns every object that this touched (for one that went, its last state).
    pub fn apply(&self, delta: &Delta) -> Vec<Arc<StoredObject>> {
        let mut inner = self.inner.write().expect("no holder of the cache panics");
        match delta {
            Delta::Replace(listing) => inner.replace(&listing.items, listing.revision),
            Delta::Change(change, object) => {
                inner.revision = inner.revision.max(object.revision);
                let known = inner.objects.get(&object.key).is_some_and(|o| o.revision > object.revision);
                match change {
                    _ if known => return Vec::new(),
                    ChangeType::Deleted => inner.remove(&object.key),
                    ChangeType::Added | ChangeType::Modified => inner.insert(object.clone()),
                }
                vec![object.clone()]
            }
            Delta::Bookmark(revision) => {
                inner.revision = inner.revision.max(*revision);
                Vec::new()
            }
        }
    }

    /// Hears what the informer reports, and keeps none of it; returns every object that it speaks of.
    pub(super) fn hear(&self, delta: &Delta) -> Vec<Arc<StoredObject>> {
        match delta {
            Delta::Replace(listing) => {
                self.inner.write().expect("no holder of the cache panics").synced = true;
                listing.items.clone()
            }
            Delta::Change(_, object) => vec![object.clone()],
            Delta::Bookmark(_) => Vec::new(),
        }
    }

    /// Takes in an own write that was answered, unless the watch has told something newer meanwhile.
    fn written(&self, object: &Arc<StoredObject>, gone: bool) {
        let mut inner = self.inner.write().expect("no holder of the cache panics");
        let older = inner.objects.get(&object.key).is_none_or(|known| known.revision <= object.revision);
        if object.revision < inner.revision || !older {
            return;
        }
        if gone {
            inner.remove(&object.key);
        } else {
            inner.insert(object.clone());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().expect("no holder of the cache panics")
    }
}

impl Inner {
    /// What was written here after the list was made stays: the watch from the list's revision will speak of it.
    fn replace(&mut self, items: &[Arc<StoredObject>], revision: Rev) -> Vec<Arc<StoredObject>> {
        let listed: BTreeSet<&Key> = items.iter().map(|o| &o.key).collect();
        let vanished =
            self.objects.values().filter(|o| !listed.contains(&o.key) && o.revision <= revision).cloned().collect();
        let mut touched: Vec<Arc<StoredObject>> = vanished;
        for object in &touched {
            self.remove(&object.key);
        }
        for object in items {
            if self.objects.get(&object.key).is_none_or(|known| known.revision <= object.revision) {
                self.insert(object.clone());
                touched.push(object.clone());
            }
        }
        self.revision = self.revision.max(revision);
        self.synced = true;
        touched
    }

    fn insert(&mut self, object: Arc<StoredObject>) {
        let same =
            self.objects.get(&object.key).is_some_and(|old| old.meta().controller() == object.meta().controller());
        if !same {
            self.remove(&object.key);
            self.controlled.extend(controller(&object).map(|controller| (controller, Some(object.key.clone()))));
        }
        self.objects.insert(object.key.clone(), object);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(controller) = self.objects.remove(key).as_deref().and_then(controller) {
            self.controlled.remove(&(controller, Some(key.clone())));
        }
    }
}

fn controller(object: &StoredObject) -> Option<Controller> {
    let owner = object.meta().controller()?;
    Some((object.key.namespace.clone(), owner.kind.as_str().into(), owner.name.as_str().into()))
}

/// The caches of one controller, by kind.
#[derive(Debug)]
pub struct Caches(BTreeMap<&'static KindInfo, Cache>);

impl Caches {
    /// Empty caches of these kinds.
    pub fn new(kinds: impl IntoIterator<Item = &'static KindInfo>) -> Self {
        Self(kinds.into_iter().map(|kind| (kind, Cache::default())).collect())
    }

    /// The cache of a kind.
    ///
    /// # Panics
    /// If the controller does not watch that kind.
    pub fn of(&self, kind: &'static KindInfo) -> &Cache {
        self.0.get(kind).unwrap_or_else(|| panic!("{} is not watched", kind.kind))
    }

    /// The cache of kind `K`.
    ///
    /// # Panics
    /// If the controller does not watch that kind.
    pub fn kind<K: Kind>(&self) -> &Cache {
        self.of(K::INFO)
    }

    /// True once every cache has seen a whole list.
    pub fn are_synced(&self) -> bool {
        self.0.values().all(Cache::is_synced)
    }

    /// Takes in the answers to an own transaction.
    pub fn written(&self, done: &[Done]) {
        for Done { outcome, object, .. } in done {
            let Some(cache) = self.0.get(object.key.kind) else { continue };
            // Deleting waits for finalizers; taking the last one off deletes, whatever the operation was called.
            let (deleting, bare) = (object.meta().is_deleting(), object.meta().finalizers.is_empty());
            let gone = bare && (deleting || *outcome == crate::api::Outcome::Deleted);
            cache.written(object, gone);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{Body, Namespace, Outcome},
        client::Listing,
    };

    pub(crate) fn object(name: &str, revision: u64, owner: &str) -> Arc<StoredObject> {
        let owners = json!([{"apiVersion": "v1", "kind": "App", "name": owner, "uid": "u", "controller": true}]);
        let body = Body::new(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name, "ownerReferences": owners},
        }));
        let key = Key::of::<Namespace>("", name);
        Arc::new(StoredObject::new(key, Rev(revision), &body).expect("valid"))
    }

    fn names(objects: &[Arc<StoredObject>]) -> Vec<String> {
        objects.iter().map(|o| format!("{}@{}", o.key.name, o.revision)).collect()
    }

    fn change(cache: &Cache, change: ChangeType, object: Arc<StoredObject>) {
        cache.apply(&Delta::Change(change, object));
    }

    #[test]
    fn an_own_write_is_seen_at_once_and_never_undoes_something_newer() {
        let caches = Caches::new([Namespace::INFO]);
        let cache = caches.kind::<Namespace>();
        cache.apply(&Delta::Replace(Listing { revision: Rev(4), items: vec![] }));
        let done = |object, outcome| [Done { outcome, object, warnings: Vec::new() }];
        caches.written(&done(object("a", 5, "x"), Outcome::Created));
        assert_eq!(names(&cache.list()), ["a@5"]);
        change(cache, ChangeType::Deleted, object("a", 7, "x"));
        caches.written(&done(object("a", 6, "x"), Outcome::Configured));
        assert!(cache.list().is_empty());
        // A list that is older than an own write does not take it away.
        caches.written(&done(object("b", 9, "x"), Outcome::Created));
        cache.apply(&Delta::Replace(Listing { revision: Rev(8), items: vec![] }));
        assert_eq!(names(&cache.list()), ["b@9"]);
    }

    #[test]
    fn objects_are_found_by_the_name_of_their_controller() {
        let cache = Cache::default();
        change(&cache, ChangeType::Added, object("a", 1, "web"));
        change(&cache, ChangeType::Added, object("b", 2, "web"));
        change(&cache, ChangeType::Modified, object("b", 3, "db"));
        assert_eq!(names(&cache.controlled_by("", "App", "web")), ["a@1"]);
        change(&cache, ChangeType::Deleted, object("a", 4, "web"));
        assert!(cache.controlled_by("", "App", "web").is_empty());
        assert_eq!(names(&cache.controlled_by("", "App", "db")), ["b@3"]);
    }

    #[test]
    fn a_new_list_reports_what_vanished() {
        let cache = Cache::default();
        change(&cache, ChangeType::Added, object("a", 1, "web"));
        let touched = cache.apply(&Delta::Replace(Listing { revision: Rev(3), items: vec![object("b", 2, "web")] }));
        assert_eq!(names(&touched), ["a@1", "b@2"]);
        assert!(cache.is_synced());
    }
}
