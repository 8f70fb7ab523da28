//! What becomes of the objects of a Source. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    api::{Drift, Key, Kind, Namespace, Object, PRUNE, Rev, Source, StoredObject, Uid, source_of},
    policy::{
        fleet::{Fleet, rank},
        health::Health,
    },
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
    /// How it was at a revision.
    pub(super) health: Option<(Rev, Health)>,
}

/// Changes whenever anybody changes what may be declared of an object; not with its status.
pub(super) fn witness(object: &StoredObject) -> u64 {
    let (meta, mut hasher) = (object.meta(), DefaultHasher::new());
    (meta.uid().as_str(), meta.generation, meta.is_deleting()).hash(&mut hasher);
    for (name, value) in meta.labels.iter().chain(meta.annotations.iter()) {
        (name, value).hash(&mut hasher);
    }
    for owner in &meta.owner_references {
        owner.uid.as_str().hash(&mut hasher);
    }
    meta.finalizers.hash(&mut hasher);
    hasher.finish()
}

/// What is known of the world.
pub(super) struct Observed<'a> {
    /// What it declares; nothing if it was never read.
    pub(super) fleet: Option<&'a Fleet>,
    /// The name of that.
    pub(super) revision: &'a str,
    /// Why what was read may not be all that there is; nothing is deleted then.
    pub(super) incomplete: Option<String>,
    /// Every object that it declares, or that bears its labels.
    pub(super) live: BTreeMap<Key, Arc<StoredObject>>,
    /// Every Source there is.
    pub(super) sources: BTreeSet<Key>,
    /// What other Sources declare, as far as that was read.
    pub(super) fleets: BTreeMap<Key, Arc<Fleet>>,
    /// Sources that must be ready first, and are not.
    pub(super) waits_for: Vec<String>,
    pub(super) applied: &'a HashMap<Key, Applied>,
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Somebody has to change something.
    pub(super) stalled: bool,
}

/// What is to be done, all of it or nothing.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Why nothing is.
    pub(super) held: Option<Held>,
    /// Applied, in this order.
    pub(super) apply: Vec<Key>,
    /// Compared with what is there, and left as it is.
    pub(super) compare: Vec<Key>,
    /// Deleted, in this order.
    pub(super) prune: Vec<(Key, Uid)>,
    /// Objects that others deleted, and that are left so.
    pub(super) gone: Vec<Key>,
    /// What other Sources declare, too.
    pub(super) conflicts: Vec<String>,
}

/// Whose an object is that two Sources declare.
enum Rival {
    Nobody,
    /// It is ours, and the other one is told.
    Other(Key),
    /// It is theirs.
    Owner(Key),
}

/// What is to be done for a Source.
pub(super) fn decide(source: &Object<Source>, observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let Some(fleet) = observed.fleet else { return plan };
    let me = source.key();
    let mut theirs = Vec::new();
    for key in fleet.declared().keys() {
        match rival(&me, key, observed) {
            Rival::Nobody => {}
            Rival::Other(other) => {
                plan.conflicts.push(format!("{} is declared by source {} too", named(key), short(&other)))
            }
            Rival::Owner(other) => theirs.push(format!("{} belongs to source {}", named(key), short(&other))),
        }
    }
    if !theirs.is_empty() {
        plan.held = Some(Held { reason: "Conflict", message: some(&theirs), stalled: true });
        plan.conflicts.extend(theirs);
        return plan;
    }
    if !observed.waits_for.is_empty() {
        let message = format!("waits for source {}", observed.waits_for.join(", "));
        plan.held = Some(Held { reason: "DependencyNotReady", message, stalled: false });
        return plan;
    }
    let known_revision = source.status.last_applied_revision == observed.revision;
    for (key, origin) in fleet.declared() {
        let (live, applied) = (observed.live.get(key), observed.applied.get(key));
        let ours = live.is_some_and(|live| source_of(live.meta()).as_ref() == Some(&me));
        let same = applied.is_some_and(|applied| applied.digest == origin.digest);
        let seen = applied.zip(live).is_some_and(|(applied, live)| applied.witness == witness(live));
        if ours && same && seen {
            continue;
        }
        // What the manifests say is as it was when it was applied: others have changed it, or nobody remembers.
        let drifted = same || applied.is_none() && known_revision;
        match (source.spec.drift, live) {
            (Drift::Report, Some(_)) if drifted => plan.compare.push(key.clone()),
            (Drift::Report, None) if drifted => plan.gone.push(key.clone()),
            _ => plan.apply.push(key.clone()),
        }
    }
    plan.apply.sort_by_cached_key(|key| (rank(key.kind), key.clone()));
    prune(source, observed, &mut plan);
    plan
}

/// What is deleted; if that is too much at once, nothing is done at all.
fn prune(source: &Object<Source>, observed: &Observed<'_>, plan: &mut Plan) {
    let Some(fleet) = observed.fleet else { return };
    let me = source.key();
    let owned = observed.live.values().filter(|object| source_of(object.meta()).as_ref() == Some(&me));
    let owned: Vec<&Arc<StoredObject>> = owned.collect();
    if !source.spec.prune || observed.incomplete.is_some() || fleet.declared().is_empty() {
        return;
    }
    let manager = crate::api::manager_of(&me);
    let gone: Vec<&Arc<StoredObject>> = owned
        .iter()
        .copied()
        .filter(|object| !fleet.declared().contains_key(&object.key))
        .filter(|object| object.key.kind != Namespace::INFO && object.key != me)
        .filter(|object| object.meta().annotations.get(PRUNE) != Some("disabled"))
        .filter(|object| !object.meta().is_deleting() && object.meta().owner_references.is_empty())
        // Another Source declares it: that one takes it over.
        .filter(|object| !observed.fleets.values().any(|fleet| fleet.declared().contains_key(&object.key)))
        .filter(|object| was_applied_by(object, &manager))
        .collect();
    let most = usize::try_from(source.spec.max_prune_percent).unwrap_or(0);
    if gone.len() * 100 > owned.len() * most {
        let names: Vec<String> = gone.iter().map(|object| named(&object.key)).collect();
        let message = format!(
            "it would delete {} of {} objects, and maxPrunePercent is {most}: {}",
            gone.len(),
            owned.len(),
            some(&names)
        );
        *plan = Plan { conflicts: std::mem::take(&mut plan.conflicts), ..Plan::default() };
        plan.held = Some(Held { reason: "PruneLimit", message, stalled: true });
        return;
    }
    plan.prune = gone.into_iter().map(|object| (object.key.clone(), object.meta().uid().clone())).collect();
    plan.prune.sort_by_cached_key(|(key, _)| (std::cmp::Reverse(rank(key.kind)), key.clone()));
}

/// Labels can be copied from one object to another; that somebody has applied it cannot.
fn was_applied_by(object: &StoredObject, manager: &str) -> bool {
    let value = object.value();
    let all = value["metadata"]["managedFields"].as_array();
    all.into_iter().flatten().any(|entry| entry["manager"] == manager && entry["operation"] == "Apply")
}

/// Who else declares an object. It belongs to the Source whose labels it bears, as long as that declares it or was not read; an object
/// that is nobody's yet to the first of them by name.
fn rival(me: &Key, key: &Key, observed: &Observed<'_>) -> Rival {
    let declares = |fleet: &Fleet| fleet.declared().contains_key(key);
    let other = || observed.fleets.iter().find(|(_, fleet)| declares(fleet)).map(|(other, _)| other.clone());
    let owner = observed.live.get(key).and_then(|object| source_of(object.meta()));
    match owner.filter(|owner| observed.sources.contains(owner)) {
        Some(owner) if owner == *me => other().map_or(Rival::Nobody, Rival::Other),
        Some(owner) => match observed.fleets.get(&owner) {
            Some(fleet) if !declares(fleet) => Rival::Nobody,
            _ => Rival::Owner(owner),
        },
        None => match other() {
            Some(other) if other < *me => Rival::Owner(other),
            Some(other) => Rival::Other(other),
            None => Rival::Nobody,
        },
    }
}

/// `app default/web`
pub(super) fn named(key: &Key) -> String {
    format!("{} {}", key.kind.singular, short(key))
}

fn short(key: &Key) -> String {
    if key.namespace.is_empty() { key.name.to_string() } else { format!("{}/{}", key.namespace, key.name) }
}

/// The first few, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
