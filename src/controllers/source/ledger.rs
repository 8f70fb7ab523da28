//! What is known of each object that a Source declares, or that bears its labels; kept between passes.
//!
//! An object is looked at when it changed, when what is declared of it changed, or when another Source claimed it or let it go. All that
//! a plan and a status are made of is added up as objects are looked at, so that a pass costs what changed, however many
//! objects there are. It is memory: whoever loses it looks at everything once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    claims::{Claims, News},
    decide::{Act, Facts, Owner, Rival, judge, witness},
};
use crate::{
    api::{Key, Kind, Object, Rev, Source, StoredObject, source_of},
    policy::{
        fleet::{Fleet, Origin},
        health::{Health, can_be_unwell, health},
    },
    runtime::Caches,
};

/// What is remembered of an object that was applied or compared: whoever forgets it does it again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Applied {
    /// Of what was declared.
    pub(super) digest: u64,
    /// Of what the server made of it.
    pub(super) witness: u64,
    /// The fields in which it differs all the same.
    pub(super) drift: Vec<String>,
}

#[derive(Debug, Default)]
struct Record {
    applied: Option<Applied>,
    /// It bears the labels of the Source.
    owned: bool,
    /// The revision at which it was asked how it is.
    asked: Rev,
}

/// An object that bears the labels of the Source, and is not declared.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) object: Arc<StoredObject>,
    /// Another Source declares it, and takes it over.
    pub(super) wanted: bool,
}

/// Everything that a Source is judged by.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The Source's generation when everything was looked at.
    looked: Option<i64>,
    records: HashMap<Key, Record>,
    /// How many bear the labels of the Source.
    owned: usize,
    /// What is to be done with what is declared; nothing with all else.
    pub(super) acts: BTreeMap<Key, Act>,
    /// What bears the labels of the Source, and is not declared.
    pub(super) strays: BTreeMap<Key, Stray>,
    /// What other Sources declare, too.
    pub(super) rivals: BTreeMap<Key, Rival>,
    /// Objects that were applied and are not well yet, and why.
    pub(super) waiting: BTreeMap<Key, String>,
    /// Objects that were applied and have ended badly, and how.
    pub(super) failed: BTreeMap<Key, String>,
    /// Objects that differ from what is declared, and are left so.
    pub(super) drifted: BTreeSet<Key>,
    /// What the server warned of when it took objects.
    pub(super) warned: BTreeMap<Key, Vec<String>>,
}

/// What objects are looked at with.
pub(super) struct Around<'a> {
    pub(super) source: &'a Object<Source>,
    pub(super) fleet: &'a Fleet,
    /// The name of that.
    pub(super) revision: &'a str,
    pub(super) caches: &'a Caches,
    pub(super) claims: &'a Claims,
}

impl Ledger {
    /// Looks at everything that may have changed: what `news` says, and what is `declared` otherwise than before.
    pub(super) fn catch_up(&mut self, around: &Around<'_>, news: News, declared: &BTreeSet<Key>) {
        let generation = around.source.metadata.generation;
        match news {
            News::Of(keys) if self.looked == Some(generation) => {
                // What is not declared may be deleted, so it is looked at each time.
                let strays: Vec<Key> = self.strays.keys().cloned().collect();
                keys.iter().chain(declared).chain(&strays).for_each(|key| self.look(key, around));
            }
            News::All | News::Of(_) => self.look_at_all(around),
        }
        self.looked = Some(generation);
    }

    fn look_at_all(&mut self, around: &Around<'_>) {
        let me = around.source.key();
        let mut all: BTreeSet<Key> = self.records.keys().chain(around.fleet.declared().keys()).cloned().collect();
        for kind in super::declared_kinds().chain([Source::INFO]) {
            let own = around.caches.of(kind).list().into_iter().filter(|object| belongs_to(object, &me));
            all.extend(own.map(|object| object.key.clone()));
        }
        all.iter().for_each(|key| self.look(key, around));
    }

    /// Judges one object.
    pub(super) fn look(&mut self, key: &Key, around: &Around<'_>) {
        let me = around.source.key();
        let live = around.caches.of(key.kind).get(key);
        let origin = around.fleet.declared().get(key);
        let owner = owner(&me, key, live.as_deref(), around);
        self.count(key, owner == Owner::Me, origin.is_some());
        let record = self.records.get(key);
        let facts = Facts {
            origin,
            live: live.as_deref(),
            applied: record.and_then(|record| record.applied.as_ref()),
            other: around.claims.other(&me, key),
            owner,
            known_revision: around.source.status.last_applied_revision == around.revision,
        };
        let (act, rival) = judge(&me, around.source.spec.drift, &facts);
        let wanted = facts.other.is_some();
        let stray = live.clone().filter(|_| act == Act::Stray).map(|object| Stray { object, wanted });
        put(&mut self.strays, key, stray);
        put(&mut self.acts, key, Some(act).filter(|act| !matches!(act, Act::Rest | Act::Stray)));
        put(&mut self.rivals, key, Some(rival).filter(|rival| *rival != Rival::Nobody));
        self.ask(key, live.as_deref().filter(|_| origin.is_some()));
    }

    /// Counts what bears the labels of the Source, and forgets what neither does nor is declared.
    fn count(&mut self, key: &Key, owned: bool, declared: bool) {
        let record = self.records.entry(key.clone()).or_default();
        self.owned = self.owned + usize::from(owned) - usize::from(record.owned);
        record.owned = owned;
        if !declared {
            record.applied = None;
            self.drifted.remove(key);
            self.warned.remove(key);
        }
        if !declared && !owned {
            self.records.remove(key);
            self.is(key, Health::Well);
        }
    }

    /// Asks an object that was applied how it is, unless that was asked already.
    fn ask(&mut self, key: &Key, live: Option<&StoredObject>) {
        let Some(record) = self.records.get_mut(key).filter(|_| can_be_unwell(key.kind)) else { return };
        let live = live.filter(|_| record.applied.is_some());
        let revision = live.map_or(Rev::default(), |live| live.revision);
        if record.asked == revision && live.is_some() {
            return;
        }
        record.asked = revision;
        let how = live.map_or(Health::Well, |live| health(key.kind, &live.value()));
        self.is(key, how);
    }

    fn is(&mut self, key: &Key, how: Health) {
        let (waiting, failed) = match how {
            Health::Well => (None, None),
            Health::Waiting(why) => (Some(why), None),
            Health::Failed(why) => (None, Some(why)),
        };
        put(&mut self.waiting, key, waiting);
        put(&mut self.failed, key, failed);
    }

    /// Remembers what became of an object that was applied or compared, and in which fields it is another one all the same.
    pub(super) fn remember(&mut self, key: &Key, origin: &Origin, object: &StoredObject, drift: Vec<String>) {
        match drift.is_empty() {
            true => drop(self.drifted.remove(key)),
            false => drop(self.drifted.insert(key.clone())),
        }
        let record = self.records.entry(key.clone()).or_default();
        record.applied = Some(Applied { digest: origin.digest, witness: witness(object), drift });
    }

    /// Remembers what the server warned of when it took an object.
    pub(super) fn warn(&mut self, key: &Key, warnings: &[String]) {
        put(&mut self.warned, key, Some(warnings.to_vec()).filter(|warnings| !warnings.is_empty()));
    }

    /// How many objects bear the labels of the Source.
    pub(super) fn owned(&self) -> usize {
        self.owned
    }

    /// The fields in which an object differs from what is declared.
    pub(super) fn drift(&self, key: &Key) -> &[String] {
        self.records.get(key).and_then(|record| record.applied.as_ref()).map_or(&[], |applied| &applied.drift)
    }
}

fn put<V>(map: &mut BTreeMap<Key, V>, key: &Key, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

/// True if an object bears the labels of a Source.
fn belongs_to(object: &StoredObject, source: &Key) -> bool {
    source_of(object.meta()).as_ref() == Some(source)
}

/// Whose an object is by its labels, as long as there is that Source.
fn owner(me: &Key, key: &Key, live: Option<&StoredObject>, around: &Around<'_>) -> Owner {
    match live.and_then(|live| source_of(live.meta())) {
        Some(owner) if owner == *me => Owner::Me,
        Some(source) if around.caches.kind::<Source>().get(&source).is_some() => {
            let gave_up = around.claims.gave_up(&source, key);
            Owner::Other { source, gave_up }
        }
        _ => Owner::Nobody,
    }
}
