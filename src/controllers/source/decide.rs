//! What becomes of the objects of a Source. Pure.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::ledger::{Applied, Ledger};
use crate::{
    api::{Drift, Key, Kind, Namespace, Object, PRUNE, Source, StoredObject, Uid},
    policy::fleet::{Fleet, Origin, rank},
};

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

/// Everything that says what becomes of one object.
pub(super) struct Facts<'a> {
    /// Where it is declared, if it is.
    pub(super) origin: Option<&'a Origin>,
    /// As it is, if it is there.
    pub(super) live: Option<&'a StoredObject>,
    /// What it was when it was applied.
    pub(super) applied: Option<&'a Applied>,
    /// The first other Source that declares it.
    pub(super) other: Option<Key>,
    pub(super) owner: Owner,
    /// What is declared now is what was applied last, as the status has it.
    pub(super) known_revision: bool,
}

/// Whose labels an object bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Of no Source that there is.
    Nobody,
    /// Of the one that is judged.
    Me,
    /// Of another one.
    Other {
        /// Which.
        source: Key,
        /// It was read, and does not declare the object any more.
        gave_up: bool,
    },
}

/// What is to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    Rest,
    /// It is applied.
    Apply,
    /// It is compared with what is there, and left as it is.
    Compare,
    /// Others have deleted it, and it is left so.
    Gone,
    /// It is not declared: it is deleted, if everything else allows that.
    Stray,
}

/// Whose an object is that two Sources declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    Nobody,
    /// It is ours, and the other one is told.
    Other(Key),
    /// It is theirs.
    Owner(Key),
}

/// What is known of everything at once.
pub(super) struct Observed<'a> {
    /// What it declares.
    pub(super) fleet: &'a Fleet,
    /// What is known of each object.
    pub(super) ledger: &'a Ledger,
    /// Why what was read may not be all that there is; nothing is deleted then.
    pub(super) incomplete: Option<&'a str>,
    /// Sources that must be ready first, and are not.
    pub(super) waits_for: &'a [String],
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

/// What is to be done with one object, and who else wants it.
pub(super) fn judge(me: &Key, drift: Drift, facts: &Facts<'_>) -> (Act, Rival) {
    let Some(origin) = facts.origin else {
        let act = if facts.owner == Owner::Me { Act::Stray } else { Act::Rest };
        return (act, Rival::Nobody);
    };
    let same = facts.applied.is_some_and(|applied| applied.digest == origin.digest);
    let seen = facts.applied.zip(facts.live).is_some_and(|(applied, live)| applied.witness == witness(live));
    // What the manifests say is as it was when it was applied: others have changed it, or nobody remembers.
    let drifted = same || facts.applied.is_none() && facts.known_revision;
    let act = match (drift, facts.live) {
        _ if facts.owner == Owner::Me && same && seen => Act::Rest,
        (Drift::Report, Some(_)) if drifted => Act::Compare,
        (Drift::Report, None) if drifted => Act::Gone,
        _ => Act::Apply,
    };
    (act, rival(me, facts))
}

/// It belongs to the Source whose labels it bears, as long as that declares it or was not read; an object that is nobody's yet to the
/// first of them by name.
fn rival(me: &Key, facts: &Facts<'_>) -> Rival {
    match (&facts.owner, &facts.other) {
        (Owner::Me, None) | (Owner::Nobody, None) => Rival::Nobody,
        (Owner::Me, Some(other)) => Rival::Other(other.clone()),
        (Owner::Other { gave_up: true, .. }, _) => Rival::Nobody,
        (Owner::Other { source, .. }, _) => Rival::Owner(source.clone()),
        (Owner::Nobody, Some(other)) if other < me => Rival::Owner(other.clone()),
        (Owner::Nobody, Some(other)) => Rival::Other(other.clone()),
    }
}

/// What is to be done for a Source.
pub(super) fn decide(source: &Object<Source>, observed: &Observed<'_>) -> Plan {
    let (mut plan, mut theirs) = (Plan::default(), Vec::new());
    for (key, rival) in &observed.ledger.rivals {
        match rival {
            Rival::Nobody => {}
            Rival::Other(other) => {
                plan.conflicts.push(format!("{} is declared by source {} too", named(key), short(other)))
            }
            Rival::Owner(other) => theirs.push(format!("{} belongs to source {}", named(key), short(other))),
        }
    }
    if !theirs.is_empty() {
        plan.held =
            Some(Held { reason: "Conflict", message: some(theirs.len(), theirs.iter().cloned()), stalled: true });
        plan.conflicts.extend(theirs);
        return plan;
    }
    if !observed.waits_for.is_empty() {
        let message = format!("waits for source {}", observed.waits_for.join(", "));
        plan.held = Some(Held { reason: "DependencyNotReady", message, stalled: false });
        return plan;
    }
    for (key, act) in &observed.ledger.acts {
        match act {
            Act::Apply => plan.apply.push(key.clone()),
            Act::Compare => plan.compare.push(key.clone()),
            Act::Gone => plan.gone.push(key.clone()),
            Act::Rest | Act::Stray => {}
        }
    }
    plan.apply.sort_by_cached_key(|key| (rank(key.kind), key.clone()));
    prune(source, observed, &mut plan);
    plan
}

/// What is deleted; if that is too much at once, nothing is done at all.
fn prune(source: &Object<Source>, observed: &Observed<'_>, plan: &mut Plan) {
    let (me, ledger) = (source.key(), observed.ledger);
    if !source.spec.prune || observed.incomplete.is_some() || observed.fleet.declared().is_empty() {
        return;
    }
    let manager = crate::api::manager_of(&me);
    let gone: Vec<&Arc<StoredObject>> = ledger
        .strays
        .values()
        // That one takes it over.
        .filter(|stray| !stray.wanted)
        .map(|stray| &stray.object)
        .filter(|object| object.key.kind != Namespace::INFO && object.key != me)
        .filter(|object| object.meta().annotations.get(PRUNE) != Some("disabled"))
        .filter(|object| !object.meta().is_deleting() && object.meta().owner_references.is_empty())
        .filter(|object| was_applied_by(object, &manager))
        .collect();
    let most = usize::try_from(source.spec.max_prune_percent).unwrap_or(0);
    if gone.len() * 100 > ledger.owned() * most {
        let (count, owned) = (gone.len(), ledger.owned());
        let names = some(count, gone.iter().map(|object| named(&object.key)));
        let needed = (count * 100).div_ceil(owned.max(1));
        let message = format!(
            "it would delete {count} of {owned} objects, and maxPrunePercent is {most}: {names}; \
             bring them back, or set spec.maxPrunePercent to {needed} until they are deleted"
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

/// `app default/web`
pub(super) fn named(key: &Key) -> String {
    format!("{} {}", key.kind.singular, short(key))
}

fn short(key: &Key) -> String {
    if key.namespace.is_empty() { key.name.to_string() } else { format!("{}/{}", key.namespace, key.name) }
}

/// The first few, and how many more there are.
pub(super) fn some(count: usize, all: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 3;
    let shown = all.take(SHOWN).collect::<Vec<_>>().join("; ");
    match count.saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
