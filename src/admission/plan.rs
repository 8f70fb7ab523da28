//! The overlay: the store's state as the operations of one transaction see it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, value::RawValue};

use super::managers::Managers;
use crate::{
    api::{Body, Key, Rev, StoredObject},
    store::{Expect, Store, Write},
};

/// What one transaction has made of the store so far.
pub(super) struct Plan<'a> {
    store: &'a Store,
    drafts: HashMap<Key, Draft>,
    order: Vec<Key>,
    /// Objects that nothing is done to, and that were looked at.
    stands_on: BTreeSet<Key>,
}

/// One object in a plan.
struct Draft {
    base: Option<Arc<StoredObject>>,
    /// Without `managedFields`.
    value: Option<Arc<Value>>,
    managers: Option<Box<RawValue>>,
    /// The last state of what is to be deleted.
    last: Option<Value>,
    changed: bool,
    status_only: bool,
}

impl<'a> Plan<'a> {
    /// Nothing changed yet.
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, drafts: HashMap::new(), order: Vec::new(), stands_on: BTreeSet::new() }
    }

    fn draft(&mut self, key: &Key) -> &mut Draft {
        let store = self.store;
        if !self.drafts.contains_key(key) {
            let base = store.get(key);
            let (value, managers) = base.as_ref().map(|base| base.split()).unzip();
            let (value, managers) = (value.map(Arc::new), managers.flatten());
            let draft = Draft { base, value, managers, last: None, changed: false, status_only: true };
            self.drafts.insert(key.clone(), draft);
        }
        self.drafts.get_mut(key).expect("put in just above")
    }

    /// The object as it is now, with the `resourceVersion` that the store has, without `managedFields`.
    pub(super) fn live(&mut self, key: &Key) -> Option<&Arc<Value>> {
        self.draft(key).value.as_ref()
    }

    /// Who owns which of its fields; `None` if that cannot be read.
    pub(super) fn managers(&mut self, key: &Key) -> Option<Managers> {
        Managers::read(self.draft(key).managers.as_deref())
    }

    /// The object as it is now, `managedFields` included.
    pub(super) fn whole(&mut self, key: &Key) -> Option<Value> {
        let draft = self.draft(key);
        let mut whole = (**draft.value.as_ref()?).clone();
        if let Some(managers) = &draft.managers {
            whole["metadata"]["managedFields"] =
                serde_json::from_str(managers.get()).expect("the store holds valid JSON");
        }
        Some(whole)
    }

    /// The object as the store has it.
    pub(super) fn base(&mut self, key: &Key) -> Option<Arc<Value>> {
        let draft = self.draft(key);
        match draft.changed {
            false => draft.value.clone(),
            true => draft.base.as_ref().map(|base| Arc::new(base.split().0)),
        }
    }

    /// The object as the store has it, and as the plan leaves it, of an object that an operation was about.
    pub(super) fn both(&self, key: &Key) -> (Option<&StoredObject>, Option<&Value>) {
        let draft = self.drafts.get(key);
        (draft.and_then(|draft| draft.base.as_deref()), draft.and_then(|draft| draft.value.as_deref()))
    }

    /// The plan holds only as long as this object stays as it is, or stays away.
    pub(super) fn stand_on(&mut self, key: &Key) {
        self.stands_on.insert(key.clone());
    }

    /// True if an earlier operation deletes the object.
    pub(super) fn is_going(&mut self, key: &Key) -> bool {
        self.draft(key).last.is_some()
    }

    /// Puts a new state in place. `status_only` keeps it out of the history.
    pub(super) fn put(&mut self, key: &Key, value: Value, status_only: bool) {
        self.note(key);
        let draft = self.draft(key);
        draft.value = Some(Arc::new(value));
        draft.status_only &= status_only;
    }

    /// Says who owns which fields of an object that was put in place.
    pub(super) fn own(&mut self, key: &Key, managers: &Managers) {
        self.draft(key).managers = Some(managers.to_json());
    }

    /// Takes the object out; `last` is its last state.
    pub(super) fn delete(&mut self, key: &Key, last: Value) {
        self.note(key);
        let draft = self.draft(key);
        draft.value = None;
        draft.last = Some(last);
        draft.status_only = false;
    }

    fn note(&mut self, key: &Key) {
        if !std::mem::replace(&mut self.draft(key).changed, true) {
            self.order.push(key.clone());
        }
    }

    /// Every object that was changed, in order: as the store has it, and as the plan leaves it.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&Key, Option<&Arc<StoredObject>>, Option<&Value>)> {
        self.order.iter().map(|key| {
            let draft = &self.drafts[key];
            (key, draft.base.as_ref(), draft.value.as_deref())
        })
    }

    /// What to commit: one write for each object that changed.
    pub(super) fn writes(&self) -> Vec<Write> {
        let write = |key: &Key| {
            let draft = &self.drafts[key];
            let expect = match (&draft.base, &draft.value) {
                // Made and deleted again: nothing happened.
                (None, None) => return None,
                (None, Some(_)) => Expect::Absent,
                (Some(base), _) => Expect::At(base.revision),
            };
            let body = draft.value.as_deref().map(|value| Body::with_managers(value, draft.managers.as_deref()));
            Some(Write { key: key.clone(), expect, body, status_only: draft.status_only })
        };
        self.order.iter().filter_map(write).collect()
    }

    /// What the plan stands on beside what it writes: objects that are to stay as they were found.
    pub(super) fn given<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Vec<(Key, Expect)> {
        let unchanged = keys.filter(|key| !self.drafts[*key].changed);
        let found =
            unchanged.filter_map(|key| Some((key.clone(), Expect::At(self.drafts[key].base.as_ref()?.revision))));
        let seen = self.stands_on.iter().filter_map(|key| match self.drafts.get(key) {
            Some(draft) if draft.changed => None,
            Some(Draft { base: Some(base), .. }) => Some((key.clone(), Expect::At(base.revision))),
            _ => Some((key.clone(), Expect::Absent)),
        });
        found.chain(seen).collect()
    }

    /// The object as the plan leaves it, where the store has not written it: unchanged, or a dry run.
    pub(super) fn object(&self, key: &Key, revision: Rev) -> Arc<StoredObject> {
        let draft = &self.drafts[key];
        let at = draft.base.as_ref().map_or(revision, |base| base.revision);
        match (draft.value.as_deref().or(draft.last.as_ref()), &draft.base) {
            (_, Some(base)) if !draft.changed => base.clone(),
            (Some(value), _) => {
                let body = Body::with_managers(value, draft.managers.as_deref());
                Arc::new(StoredObject::new(key.clone(), at, &body).expect("validated metadata can be read"))
            }
            (None, _) => unreachable!("an operation succeeds only on an object that is or was there"),
        }
    }
}
