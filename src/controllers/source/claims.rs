//! Who declares what, and which objects changed since each Source last looked: so that a pass looks at those, and at no others.
//!
//! It is written where changes are heard of (the watches of the controller, and Sources that were read anew) and read by the passes. What
//! is noted is only where to look; whoever never took a note yet looks at everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    api::{Key, StoredObject, source_of},
    policy::fleet::Fleet,
};

/// What all Sources declare, and what each has to look at.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fleets: BTreeMap<Key, Arc<Fleet>>,
    /// The Sources that declare an object, in order.
    declared_by: HashMap<Key, Vec<Key>>,
    /// What each Source that looks has to look at.
    news: BTreeMap<Key, News>,
    /// Sources that share objects with others, or are kept from them.
    disputing: BTreeSet<Key>,
}

/// What a Source has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything.
    All,
    /// These objects.
    Of(BTreeSet<Key>),
}

impl Claims {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a Source declares from now on, or that nobody knows any more. The others that have to look for that.
    pub(super) fn declare(&self, source: &Key, fleet: Option<Arc<Fleet>>) -> BTreeSet<Key> {
        let mut inner = self.inner();
        let before = match &fleet {
            Some(fleet) => inner.fleets.insert(source.clone(), fleet.clone()),
            None => inner.fleets.remove(source),
        };
        let nothing = Fleet::default();
        let (was, is) = (before.as_deref().unwrap_or(&nothing), fleet.as_deref().unwrap_or(&nothing));
        let mut concerned = BTreeSet::new();
        for key in was.exclusive(is) {
            let all = inner.declared_by.entry(key.clone()).or_default();
            match all.binary_search(source) {
                Ok(at) => drop(all.remove(at)),
                Err(at) => all.insert(at, source.clone()),
            }
            let others: Vec<Key> = all.iter().filter(|other| *other != source).cloned().collect();
            if all.is_empty() {
                inner.declared_by.remove(key);
            }
            others.iter().for_each(|other| inner.note(other, key));
            concerned.extend(others);
        }
        if before.is_some() != fleet.is_some() {
            concerned.extend(inner.unsettle(source));
        }
        concerned
    }

    /// A Source is suspended: it declares nothing, and looks at everything when it goes on. The others that have to look for that.
    pub(super) fn rest(&self, source: &Key) -> BTreeSet<Key> {
        let concerned = self.declare(source, None);
        let mut inner = self.inner();
        inner.disputing.remove(source);
        inner.news.insert(source.clone(), News::All);
        concerned
    }

    /// A Source is gone, and with it what it was thought to own. The others that have to look for that.
    pub(super) fn forget(&self, source: &Key) -> BTreeSet<Key> {
        let was_there = self.inner().news.contains_key(source);
        let mut concerned = self.rest(source);
        let mut inner = self.inner();
        inner.news.remove(source);
        if was_there {
            concerned.extend(inner.unsettle(source));
        }
        concerned
    }

    /// The Sources that an object concerns, by its labels and by what they declare; they have to look at it.
    pub(super) fn concerned(&self, object: &StoredObject) -> BTreeSet<Key> {
        let mut inner = self.inner();
        let mut all: BTreeSet<Key> = inner.declared_by.get(&object.key).into_iter().flatten().cloned().collect();
        all.extend(source_of(object.meta()));
        all.iter().for_each(|source| inner.note(source, &object.key));
        all
    }

    /// What a Source has to look at now; from now on, what is new is noted for it.
    pub(super) fn take(&self, source: &Key) -> News {
        self.inner().news.insert(source.clone(), News::Of(BTreeSet::new())).unwrap_or(News::All)
    }

    /// Whether a Source shares objects with others, or is kept from them.
    pub(super) fn set_disputing(&self, source: &Key, disputing: bool) {
        let mut inner = self.inner();
        match disputing {
            true => drop(inner.disputing.insert(source.clone())),
            false => drop(inner.disputing.remove(source)),
        }
    }

    /// The first other Source that declares an object.
    pub(super) fn other(&self, source: &Key, object: &Key) -> Option<Key> {
        self.inner().declared_by.get(object)?.iter().find(|other| *other != source).cloned()
    }

    /// True if it is known what a Source declares, and this is not among it.
    pub(super) fn gave_up(&self, source: &Key, object: &Key) -> bool {
        self.inner().fleets.get(source).is_some_and(|fleet| !fleet.declared().contains_key(object))
    }
}

impl Inner {
    /// Nothing is noted for who does not look: it looks at everything first.
    fn note(&mut self, source: &Key, object: &Key) {
        if let Some(News::Of(objects)) = self.news.get_mut(source) {
            objects.insert(object.clone());
        }
    }

    /// Whose an object is depends on which Sources there are and were read: whoever is in dispute looks again.
    fn unsettle(&mut self, source: &Key) -> BTreeSet<Key> {
        let all: BTreeSet<Key> = self.disputing.iter().filter(|other| *other != source).cloned().collect();
        all.iter().for_each(|other| drop(self.news.insert(other.clone(), News::All)));
        all
    }
}
