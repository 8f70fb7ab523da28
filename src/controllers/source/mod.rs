//! The Source controller: keeps the store equal to what directories and git repositories declare.
//!
//! ```text
//!   Readers (a task each) ─► Tree ─► Fleet ─┐
//!                                           ├─► decide (pure) ─► one transaction, as the identity ─► status
//!   labelled objects, other Sources ────────┘
//! ```
//! A pass takes what was read last. Files that did not change are not read again, and objects of which neither the manifest nor what may be
//! declared has changed since they were applied are not sent again. That memory is only that: whoever begins without it applies
//! everything once more, which changes nothing where nothing is different. docs/design/027-sources.md has the rules.

mod decide;
mod execute;
mod readers;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;

pub use self::readers::Copies;
use self::{
    decide::{Applied, Observed, decide},
    execute::{Acting, Outcome},
    readers::{Readers, Seen},
    report::{Judged, Trouble},
};
use crate::{
    api::{
        Condition, Durability, KINDS, Key, Kind, KindInfo, Object, ObjectReference, SOURCE_LABEL, Source, SourceStatus,
        Status, StoredObject, Transaction, source_condition::READY, source_of,
    },
    client::{Query, SharedClient},
    clock::SharedClock,
    controllers::operations,
    drivers::sources::Tree,
    policy::{
        fleet::{Fleet, can_be_declared},
        health::health,
        manifest::Home,
    },
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of the status of Sources.
const MANAGER: &str = "appm-source";

/// The controller. Run it with [`crate::runtime::run`].
pub struct SourceController {
    client: SharedClient,
    events: Reporter,
    readers: Readers,
    /// What is remembered of each Source between its passes.
    memories: Mutex<BTreeMap<Key, Memory>>,
    /// What each Source declares, for the others.
    fleets: Arc<Mutex<BTreeMap<Key, Arc<Fleet>>>>,
    swept: Once,
}

/// What is remembered of a Source.
#[derive(Default)]
struct Memory {
    uid: String,
    fleet: Option<Arc<Fleet>>,
    /// What that was made of.
    tree: Option<Arc<Tree>>,
    trouble: Option<Trouble>,
    applied: HashMap<Key, Applied>,
    /// What was refused, and when that may be tried again.
    refused: Option<Refused>,
}

struct Refused {
    /// Of what: the tree and the Source's generation.
    of: (Arc<Tree>, i64),
    until: Timestamp,
    message: String,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kinds whose objects a Source may declare, but Source itself.
fn declared_kinds() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().copied().filter(|kind| can_be_declared(kind) && **kind != *Source::INFO)
}

impl SourceController {
    /// A controller that acts through `client`, and copies repositories to where `copies` says.
    pub fn new(client: SharedClient, clock: SharedClock, events: Reporter, copies: Copies) -> Self {
        let readers = Readers::new(client.clone(), clock, copies);
        Self { client, events, readers, memories: Mutex::default(), fleets: Arc::default(), swept: Once::new() }
    }

    async fn pass(&self, key: &Key, caches: &Caches, now: Timestamp) -> Result<Requeue, Status> {
        self.swept.call_once(|| {
            let known: BTreeSet<String> =
                caches.kind::<Source>().list().iter().map(|source| source.meta().uid().to_string()).collect();
            self.readers.keep_only(|name| known.contains(name));
        });
        let Some(source) = caches.kind::<Source>().typed::<Source>(key) else {
            self.readers.forget(key);
            lock(&self.memories).remove(key);
            self.declare(key, None);
            return Ok(Requeue::Rest);
        };
        if source.spec.suspend || source.metadata.is_deleting() {
            self.readers.rest(key);
            self.declare(key, None);
            lock(&self.memories).remove(key);
            self.write_status(&source, report::suspended(&source, now), caches).await?;
            return Ok(Requeue::Rest);
        }
        // Passes of one key never run at the same time.
        let mut memory = lock(&self.memories).remove(key).unwrap_or_default();
        if memory.uid != source.uid().as_str() {
            memory = Memory { uid: source.uid().to_string(), ..Memory::default() };
        }
        let result = self.judge(&source, &mut memory, caches, now).await;
        lock(&self.memories).insert(key.clone(), memory);
        result
    }

    async fn judge(
        &self,
        source: &Arc<Object<Source>>,
        memory: &mut Memory,
        caches: &Caches,
        now: Timestamp,
    ) -> Result<Requeue, Status> {
        let seen = self.readers.seen(source);
        self.take_in(source, &seen, memory);
        let fleet = memory.fleet.clone();
        let revision = memory.tree.as_ref().map_or("", |tree| &tree.revision).to_owned();
        let incomplete = memory.trouble.as_ref().map(|trouble| trouble.message.clone()).or_else(|| empty(memory));
        let observed = self.observe(source, fleet.as_deref(), &revision, incomplete, &memory.applied, caches);
        let plan = decide(source, &observed);
        let incomplete = observed.incomplete;
        let mut outcome = Outcome::Done;
        if let Some(fleet) = &fleet
            && plan.held.is_none()
        {
            let acting = Acting { client: &self.client, caches, source, fleet, revision: &revision };
            let of = memory.tree.clone().map(|tree| (tree, source.metadata.generation));
            outcome = match (&memory.refused, &of) {
                // Nothing has changed: it would be refused again.
                (Some(refused), Some((tree, generation)))
                    if Arc::ptr_eq(&refused.of.0, tree) && refused.of.1 == *generation && now < refused.until =>
                {
                    Outcome::Refused(refused.message.clone())
                }
                _ => match acting.apply(&plan, &mut memory.applied).await? {
                    Outcome::Done => acting.compare(&plan, &mut memory.applied).await?,
                    refused => refused,
                },
            };
            let interval = jiff::SignedDuration::try_from(source.spec.interval.0).unwrap_or_default();
            memory.refused = match (&outcome, of, memory.refused.take()) {
                (Outcome::Done, ..) | (_, None, _) => None,
                (Outcome::Refused(_), Some(_), Some(known)) if now < known.until => Some(known),
                (Outcome::Refused(message), Some(of), _) => {
                    let until = now.saturating_add(interval).unwrap_or(Timestamp::MAX);
                    Some(Refused { of, until, message: message.clone() })
                }
            };
            memory.applied.retain(|key, _| fleet.declared().contains_key(key));
            look_after(fleet, &mut memory.applied, caches);
        }
        let judged = Judged {
            fleet: fleet.as_deref(),
            revision: &revision,
            trouble: memory.trouble.as_ref(),
            incomplete: incomplete.as_deref(),
            plan: &plan,
            outcome: &outcome,
            applied: &memory.applied,
            heard: &seen.heard,
        };
        let (status, requeue) = report::status(source, &judged, now);
        if outcome == Outcome::Done && plan.held.is_none() && plan.apply.len() + plan.prune.len() > 0 {
            let message = format!("{revision}: {} applied, {} deleted", plan.apply.len(), plan.prune.len());
            self.events.record(ObjectReference::to(&**source), EventType::Normal, "Applied", message, now);
        }
        self.tell(source, &status, now);
        self.write_status(source, status, caches).await?;
        Ok(requeue)
    }

    /// Makes a fleet of what was read, if that is new. If it is none, the one of before stays.
    fn take_in(&self, source: &Object<Source>, seen: &Seen, memory: &mut Memory) {
        let place = &source.spec.target_namespace;
        let only = (!place.is_empty()).then_some(place.as_str());
        let home = Home { only, said_by: "the source", default: &source.metadata.namespace };
        memory.trouble = seen.trouble.as_ref().map(|error| Trouble {
            reason: error.reason.to_owned(),
            message: error.message.clone(),
            revision: String::new(),
        });
        let Some(tree) = &seen.tree else { return };
        let known = memory.tree.as_ref().is_some_and(|known| Arc::ptr_eq(known, tree));
        let placed = memory.fleet.as_ref().is_some_and(|fleet| fleet.is_at(home));
        if known && placed {
            return;
        }
        match Fleet::read(memory.fleet.as_deref(), &tree.texts, home) {
            Ok(fleet) => {
                let fleet = Arc::new(fleet);
                memory.fleet = Some(fleet.clone());
                memory.tree = Some(tree.clone());
                self.declare(&source.key(), Some(fleet));
            }
            // What is newer than what is wrong cannot be read at all: that is the matter now.
            Err(_) if memory.trouble.is_some() => {}
            Err(wrong) => {
                let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                let (reason, revision) = ("InvalidManifest".to_owned(), tree.revision.clone());
                let message = format!("nothing was applied: {}", decide::some(&all));
                memory.trouble = Some(Trouble { reason, message, revision });
            }
        }
    }

    /// Lets the others know what a Source declares; who declares the same, or did, has its turn.
    fn declare(&self, source: &Key, fleet: Option<Arc<Fleet>>) {
        let mut fleets = lock(&self.fleets);
        let before = match &fleet {
            Some(fleet) => fleets.insert(source.clone(), fleet.clone()),
            None => fleets.remove(source),
        };
        for (other, declared) in fleets.iter().filter(|(other, _)| *other != source) {
            let both = [&before, &fleet].into_iter().flatten().any(|fleet| fleet.meets(declared));
            if both {
                self.readers.call(other);
            }
        }
    }

    fn observe<'a>(
        &self,
        source: &Object<Source>,
        fleet: Option<&'a Fleet>,
        revision: &'a str,
        incomplete: Option<String>,
        applied: &'a HashMap<Key, Applied>,
        caches: &Caches,
    ) -> Observed<'a> {
        let me = source.key();
        let sources = caches.kind::<Source>().list();
        let mut live: BTreeMap<Key, Arc<StoredObject>> = BTreeMap::new();
        for kind in declared_kinds().chain([Source::INFO]) {
            let own =
                caches.of(kind).list().into_iter().filter(|object| source_of(object.meta()).as_ref() == Some(&me));
            live.extend(own.map(|object| (object.key.clone(), object)));
        }
        for key in fleet.into_iter().flat_map(|fleet| fleet.declared().keys()) {
            if !live.contains_key(key)
                && let Some(object) = caches.of(key.kind).get(key)
            {
                live.insert(key.clone(), object);
            }
        }
        let is_ready = |name: &str| {
            let other = caches.kind::<Source>().typed::<Source>(&Key::of::<Source>(&me.namespace, name));
            other.is_some_and(|other| {
                let seen = other.status.observed_generation == other.metadata.generation;
                seen && Condition::holds(&other.status.conditions, READY)
            })
        };
        let names = source.spec.depends_on.iter().map(|other| other.name.clone());
        let mut fleets = lock(&self.fleets).clone();
        fleets.remove(&me);
        Observed {
            fleet,
            revision,
            incomplete,
            live,
            sources: sources.iter().map(|source| source.key.clone()).collect(),
            fleets,
            waits_for: names.filter(|name| !is_ready(name)).collect(),
            applied,
        }
    }

    /// An event where it stops being ready, or is not for another reason.
    fn tell(&self, source: &Object<Source>, status: &SourceStatus, now: Timestamp) {
        let before = Condition::find(&source.status.conditions, READY);
        let Some(after) = Condition::find(&status.conditions, READY) else { return };
        let same = before.is_some_and(|before| (&before.reason, &before.message) == (&after.reason, &after.message));
        if same || ["Applied", "Progressing", "Reading", "DependencyNotReady"].contains(&after.reason.as_str()) {
            return;
        }
        let about = ObjectReference::to(source);
        self.events.record(about, EventType::Warning, &after.reason, after.message.clone(), now);
    }

    /// Written relaxed: all of it is made again of what is read and seen.
    async fn write_status(&self, source: &Object<Source>, status: SourceStatus, caches: &Caches) -> Result<(), Status> {
        if status == source.status {
            return Ok(());
        }
        let mut transaction = Transaction::new(MANAGER, vec![operations::status(source, &status)]);
        transaction.durability = Durability::Relaxed;
        let done = self.client.transact(transaction).await?;
        caches.written(&done);
        Ok(())
    }
}

/// Why not everything can be known to be there, though it could be read.
fn empty(memory: &Memory) -> Option<String> {
    let first = memory.tree.as_ref()?.empty.first()?;
    Some(format!("{first} is empty; delete it, if nothing should be in it"))
}

/// Looks how objects are that have changed since they were looked at.
fn look_after(fleet: &Fleet, all: &mut HashMap<Key, Applied>, caches: &Caches) {
    for key in fleet.declared().keys() {
        let (Some(applied), Some(object)) = (all.get_mut(key), caches.of(key.kind).get(key)) else { continue };
        if applied.health.as_ref().is_none_or(|(revision, _)| *revision != object.revision) {
            applied.health = Some((object.revision, health(key.kind, &object.value())));
        }
    }
}

impl Controller for SourceController {
    fn name(&self) -> &'static str {
        "source"
    }

    fn watches(&self) -> Vec<Watched> {
        let fleets = self.fleets.clone();
        // Whose an object is by its labels, and who declares it.
        let concerned = move |object: &StoredObject| {
            let fleets = lock(&fleets);
            let declared = fleets.iter().filter(|(_, fleet)| fleet.declared().contains_key(&object.key));
            let mut all: BTreeSet<Key> = declared.map(|(source, _)| source.clone()).collect();
            all.extend(source_of(object.meta()));
            all
        };
        let of_sources = concerned.clone();
        let sources = Watched {
            kind: Source::INFO,
            query: Query::default(),
            map: Box::new(move |object, caches| {
                let mut all = of_sources(object);
                all.insert(object.key.clone());
                let (namespace, name) = (&object.key.namespace, &object.key.name);
                for other in caches.kind::<Source>().list().iter().filter(|other| other.key.namespace == *namespace) {
                    let waits = other
                        .typed::<Source>()
                        .is_some_and(|other| other.spec.depends_on.iter().any(|dependency| *dependency.name == **name));
                    if waits {
                        all.insert(other.key.clone());
                    }
                }
                all.into_iter().collect()
            }),
            kept: true,
        };
        let labelled = declared_kinds().map(|kind| {
            let concerned = concerned.clone();
            let query = Query { label_selector: SOURCE_LABEL.to_owned(), ..Query::default() };
            Watched { kind, query, map: Box::new(move |object, _| concerned(object).into_iter().collect()), kept: true }
        });
        std::iter::once(sources).chain(labelled).collect()
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        self.pass(key, caches, now).boxed()
    }

    fn calls(&self) -> BoxStream<'static, Key> {
        self.readers.calls()
    }
}
