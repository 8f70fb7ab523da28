//! The past on the disk in memory: by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, ready};
use jiff::Timestamp;

use super::{Image, MemoryEngine};
use crate::{
    api::{Key, Rev},
    store::{
        EngineError, HistoryEntry, Provenance,
        past::{Archive, AsOf, Horizon, PastTouch, PastTransaction, Pin, Stood, Transactions},
    },
};

impl Archive for MemoryEngine {
    fn horizon(&self) -> BoxFuture<'_, Result<Horizon, EngineError>> {
        let told = self.disk().map(|disk| {
            let (txns, oldest) = (&disk.written.txns, disk.written.horizon);
            Horizon { oldest, since: txns.range(oldest.next()..).next().map(|(_, (at, _))| *at) }
        });
        Box::pin(ready(told))
    }

    fn revision_at(&self, at: Timestamp) -> BoxFuture<'_, Result<Rev, EngineError>> {
        let newest = self.disk().map(|disk| {
            let before = disk.written.txns.iter().rev().find(|(_, (made, _))| *made <= at);
            before.map(|(revision, _)| *revision).unwrap_or_default()
        });
        Box::pin(ready(newest))
    }

    fn versions<'a>(
        &'a self,
        key: &'a Key,
        below: Option<Rev>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, EngineError>> {
        Box::pin(ready(self.disk().map(|disk| {
            let versions = disk.written.versions(key).rev();
            versions.filter(|one| below.is_none_or(|below| one.revision < below)).take(limit).collect()
        })))
    }

    fn as_of<'a>(&'a self, of: &'a AsOf, limit: usize) -> BoxFuture<'a, Result<Stood, EngineError>> {
        Box::pin(ready(self.disk().map(|disk| disk.written.as_of(of, limit))))
    }

    fn transactions<'a>(
        &'a self,
        of: &'a Transactions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PastTransaction>, EngineError>> {
        Box::pin(ready(self.disk().map(|disk| disk.written.transactions(of, limit))))
    }

    fn pin(&self, pin: Pin) -> BoxFuture<'_, Result<bool, EngineError>> {
        let done = self.writable().map(|mut disk| {
            let is_there = disk.written.versions(&pin.key).any(|v| v.revision == pin.revision && v.body.is_some());
            if is_there {
                disk.written.pins.insert((pin.key.clone(), pin.name.clone()), pin);
                disk.sync();
            }
            is_there
        });
        Box::pin(ready(done))
    }

    fn unpin<'a>(&'a self, key: &'a Key, name: &'a str) -> BoxFuture<'a, Result<bool, EngineError>> {
        let done = self.writable().map(|mut disk| {
            let gone = disk.written.pins.remove(&(key.clone(), name.to_owned())).is_some();
            disk.sync();
            gone
        });
        Box::pin(ready(done))
    }

    fn pins<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Vec<Pin>, EngineError>> {
        Box::pin(ready(self.disk().map(|disk| {
            let of_object = disk.written.pins.iter().filter(|((of, _), _)| of == key);
            of_object.map(|(_, pin)| pin.clone()).collect()
        })))
    }
}

impl Image {
    /// The versions of an object, oldest first.
    fn versions<'a>(&'a self, key: &'a Key) -> impl DoubleEndedIterator<Item = HistoryEntry> + 'a {
        let of_object = self.history.iter().filter(move |(_, (of, ..))| of == key);
        of_object.filter_map(|(place, _)| self.version(*place))
    }

    fn version(&self, place: (Rev, usize)) -> Option<HistoryEntry> {
        let (_, uid, body) = self.history.get(&place)?;
        let (at, provenance) = self.txns.get(&place.0)?.clone();
        Some(HistoryEntry { at, provenance, revision: place.0, uid: uid.clone(), body: body.clone() })
    }

    fn as_of(&self, of: &AsOf, limit: usize) -> Stood {
        let mut last: BTreeMap<&Key, (Rev, usize)> = BTreeMap::new();
        for (place, (key, ..)) in self.history.range(..(of.at.next(), 0)) {
            let name = (key.namespace.to_string(), key.name.to_string());
            let wanted = key.kind == of.kind
                && of.namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
                && of.after.as_ref().is_none_or(|after| name > *after);
            if wanted {
                last.insert(key, *place);
            }
        }
        let next = last.keys().nth(limit.saturating_sub(1)).filter(|_| last.len() > limit);
        let next = next.map(|key| (key.namespace.to_string(), key.name.to_string()));
        let page = last.iter().take(limit).filter_map(|(key, place)| Some(((*key).clone(), self.version(*place)?)));
        Stood { objects: page.filter(|(_, version)| version.body.is_some()).collect(), next }
    }

    fn transactions(&self, of: &Transactions, limit: usize) -> Vec<PastTransaction> {
        let touched = match of {
            Transactions::At(_) => usize::MAX,
            Transactions::Of { touched, .. } => *touched,
        };
        let wanted = |revision: &Rev, by: &Provenance| match of {
            Transactions::At(at) => revision == at,
            Transactions::Of { actor, below, .. } => {
                below.is_none_or(|below| *revision < below) && by.actor == *actor && !by.request_id.is_empty()
            }
        };
        let newest = self.txns.iter().rev().filter(|(revision, (_, by))| wanted(revision, by));
        let told = newest.filter_map(|(revision, (at, provenance))| {
            let rows: Vec<_> = self.history.range((*revision, 0)..(revision.next(), 0)).collect();
            let (revision, at, provenance) = (*revision, *at, provenance.clone());
            let named = rows.iter().take(touched).map(|(place, version)| self.touch(**place, version)).collect();
            (!rows.is_empty()).then_some(PastTransaction {
                revision,
                at,
                provenance,
                touched: named,
                count: rows.len(),
            })
        });
        told.take(limit).collect()
    }

    fn touch(&self, place: (Rev, usize), (key, uid, body): &super::Version) -> PastTouch {
        let before = self.history.range(..place).rev().find(|(_, (of, ..))| of == key);
        let asked_to_go = |body: &crate::api::Body| {
            let object: serde_json::Value = serde_json::from_slice(body.json()).unwrap_or_default();
            !object["metadata"]["deletionTimestamp"].is_null()
        };
        PastTouch {
            key: key.clone(),
            uid: uid.clone(),
            was: before.is_some_and(|(_, (.., body))| body.is_some()),
            deleted: body.as_ref().is_none_or(asked_to_go),
        }
    }

    /// The newest revision that there is no room for.
    pub(super) fn too_large(&self, bytes: u64) -> Rev {
        let mut room = bytes;
        let mut newest = self.history.iter().rev();
        let first = newest.find(|(_, (.., body))| {
            let size = 128 + body.as_ref().map_or(0, |body| body.json().len() as u64);
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => return true,
            }
            false
        });
        first.map(|((revision, _), _)| *revision).unwrap_or_default()
    }

    /// Drops versions up to the bound that stand no more and that no pin keeps; true if there are more than `rows` of them.
    pub(super) fn drop_versions(&mut self, bound: Rev, rows: usize) -> bool {
        let pinned: BTreeSet<(&Key, Rev)> = self.pins.values().map(|pin| (&pin.key, pin.revision)).collect();
        let mut later: BTreeSet<&Key> = BTreeSet::new();
        let mut doomed = Vec::new();
        for (place, (key, _, body)) in self.history.range(..(bound.next(), 0)).rev() {
            let superseded = !later.insert(key);
            let gone = body.is_none() && !pinned.iter().any(|(of, _)| *of == key);
            if (superseded || gone) && !pinned.contains(&(key, place.0)) {
                doomed.push(*place);
            }
        }
        // The oldest first: a version goes before the deletion that ended it.
        doomed.reverse();
        for place in doomed.iter().take(rows) {
            self.history.remove(place);
        }
        doomed.len() > rows
    }
}
