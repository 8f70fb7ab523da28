//! The Source controller: keeps the store equal to what directories and git repositories declare.
//!
//! ```text
//!   Readers (a task each) ─► Tree ─► Fleet ─┐
//!                                           ├─► decide (pure) ─► one transaction, as the identity ─► status
//!   labelled objects, other Sources ────────┘
//! ```
//! A pass takes what was read last, and costs what changed: files that did not change are not read again ([`Files`]), objects of which
//! nothing changed are not looked at ([`Claims`] says which did, [`Ledger`] what is known of them), and those of which neither the manifest
//! nor what may be declared has changed since they were applied are not sent again. All that is memory: whoever begins without it looks
//! at everything and applies it once more, which changes nothing where nothing is different. docs/design/027-sources.md has the rules.

mod approve;
mod claims;
mod couriers;
mod decide;
mod execute;
mod ledger;
mod readers;
mod report;
#[cfg(test)]
mod tests;
mod withheld;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use jiff::{SignedDuration, Timestamp};

pub use self::readers::Copies;
use self::{
    approve::{AWAITING_APPROVAL, Consent},
    claims::Claims,
    couriers::Couriers,
    decide::{Observed, Plan, decide},
    execute::{Acting, Outcome},
    ledger::{Around, Ledger},
    readers::{Readers, Seen},
    report::{Judged, Trouble},
};
use crate::{
    api::{
        Condition, Durability, KINDS, Key, Kind, KindInfo, Object, ObjectReference, SOURCE_LABEL, Source, SourceStatus,
        Status, StoredObject, Time, Transaction, source_condition::READY,
    },
    client::{Query, SharedClient},
    clock::SharedClock,
    controllers::operations,
    drivers::sources::Tree,
    policy::{
        fleet::{Files, Fleet, can_be_declared},
        manifest::Home,
        notices::note,
    },
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of the status of Sources.
const MANAGER: &str = "appm-source";

/// How often it is said how far the objects have come.
const COUNTED: SignedDuration = SignedDuration::from_millis(500);

/// The controller. Run it with [`crate::runtime::run`].
pub struct SourceController {
    client: SharedClient,
    events: Reporter,
    readers: Readers,
    couriers: Couriers,
    /// What is remembered of each Source between its passes.
    memories: Mutex<BTreeMap<Key, Memory>>,
    /// What each Source declares, and has to look at.
    claims: Arc<Claims>,
    swept: Once,
}

/// What is remembered of a Source.
#[derive(Default)]
struct Memory {
    uid: String,
    /// What was read of its files last, good or not.
    files: Files,
    /// What that was made of.
    read: Option<Arc<Tree>>,
    /// Why that is no fleet.
    broken: Option<Trouble>,
    /// What it declares: the last that could be read whole.
    fleet: Option<Arc<Fleet>>,
    /// What that was made of.
    tree: Option<Arc<Tree>>,
    /// Why that is not the newest.
    trouble: Option<Trouble>,
    /// What is declared otherwise than when the ledger was written.
    declared: BTreeSet<Key>,
    ledger: Ledger,
    /// What was warned of when this was applied.
    warnings: Option<(Arc<Fleet>, String)>,
    /// What was refused, and when that may be tried again.
    refused: Option<Refused>,
    /// When the status was written last.
    said: Timestamp,
}

impl Memory {
    /// What the server warned of when it took what these manifests declare.
    fn warnings(&mut self, fleet: &Arc<Fleet>) -> String {
        let known = self.warnings.take().filter(|(of, _)| Arc::ptr_eq(of, fleet));
        let anew = || (fleet.clone(), execute::warnings(fleet, self.tree.as_deref(), &self.ledger));
        let (_, told) = self.warnings.insert(known.unwrap_or_else(anew));
        told.clone()
    }
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
        let readers = Readers::new(client.clone(), clock.clone(), copies);
        let couriers = Couriers::new(client.clone(), clock, events.clone(), readers.caller());
        let (memories, claims) = (Mutex::default(), Arc::default());
        Self { client, events, readers, couriers, memories, claims, swept: Once::new() }
    }

    async fn pass(&self, key: &Key, caches: &Caches, now: Timestamp) -> Result<Requeue, Status> {
        self.swept.call_once(|| {
            let known: BTreeSet<String> =
                caches.kind::<Source>().list().iter().map(|source| source.meta().uid().to_string()).collect();
            self.readers.keep_only(|name| known.contains(name));
        });
        let Some(source) = caches.kind::<Source>().typed::<Source>(key) else {
            self.readers.forget(key);
            self.couriers.forget(key);
            lock(&self.memories).remove(key);
            self.call(self.claims.forget(key));
            return Ok(Requeue::Rest);
        };
        if source.spec.suspend || source.metadata.is_deleting() {
            self.readers.rest(key);
            self.call(self.claims.rest(key));
            lock(&self.memories).remove(key);
            self.write_status(&source, report::suspended(&source, now), caches, now).await?;
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
        let news = self.claims.take(&source.key());
        let fleet = memory.fleet.clone();
        let revision = memory.tree.as_ref().map_or("", |tree| &tree.revision).to_owned();
        let incomplete = memory.trouble.as_ref().map(|trouble| trouble.message.clone()).or_else(|| empty(memory));
        let (mut plan, mut outcome, mut consent) = (Plan::default(), Outcome::Done, Consent::Free);
        if let Some(fleet) = &fleet {
            let around = Around { source, fleet, revision: &revision, caches, claims: &self.claims };
            memory.ledger.catch_up(&around, news, &std::mem::take(&mut memory.declared));
            self.claims.set_disputing(&source.key(), !memory.ledger.rivals.is_empty());
            let (incomplete, waits_for) = (incomplete.as_deref(), waits_for(source, caches));
            plan = decide(source, &Observed { fleet, ledger: &memory.ledger, incomplete, waits_for: &waits_for });
            if plan.held.is_none() {
                let (client, tree) = (&self.client, memory.tree.as_deref());
                let acting = Acting { client, caches, source, fleet, tree, revision: &revision, only: "" };
                match acting.consent(&plan).await? {
                    Ok(found) => consent = found,
                    Err(why) => outcome = Outcome::Refused(why),
                }
                plan.held = consent.held(&source.metadata.name);
            }
            if plan.held.is_none() && outcome == Outcome::Done {
                outcome = self.act(&around, &plan, consent.only(), memory, now).await?;
            }
        }
        let warnings = fleet.as_ref().map_or_else(String::new, |fleet| memory.warnings(fleet));
        let judged = Judged {
            warnings: &warnings,
            fleet: fleet.as_deref(),
            revision: &revision,
            trouble: memory.trouble.as_ref(),
            incomplete: incomplete.as_deref(),
            plan: &plan,
            outcome: &outcome,
            ledger: &memory.ledger,
            heard: &seen.heard,
        };
        let (mut status, requeue) = report::status(source, &judged, now);
        consent.tell(outcome == Outcome::Done && plan.held.is_none(), &mut status);
        if outcome == Outcome::Done && plan.held.is_none() && plan.apply.len() + plan.prune.len() > 0 {
            let message = format!("{revision}: {} applied, {} deleted", plan.apply.len(), plan.prune.len());
            self.events.record(ObjectReference::to(&**source), EventType::Normal, "Applied", message, now);
            if !warnings.is_empty() {
                self.events.record(ObjectReference::to(&**source), EventType::Warning, "Warned", warnings.clone(), now);
            }
        }
        // While much becomes ready, its count is not worth a write each time.
        let next = memory.said.saturating_add(COUNTED).unwrap_or(Timestamp::MAX);
        if now < next && report::only_counts(&source.status, &status) {
            return Ok(match requeue {
                Requeue::At(time) if time < next => Requeue::At(time),
                _ => Requeue::At(next),
            });
        }
        memory.said = now;
        self.tell(source, &status, now);
        self.write_status(source, status, caches, now).await?;
        Ok(requeue)
    }

    /// Does what is planned, unless it was refused and nothing has changed since.
    async fn act(
        &self,
        around: &Around<'_>,
        plan: &Plan,
        only: &str,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Outcome, Status> {
        let Around { source, fleet, revision, caches, .. } = *around;
        let tree = memory.tree.clone();
        let acting = Acting { client: &self.client, caches, source, fleet, tree: tree.as_deref(), revision, only };
        let of = memory.tree.clone().map(|tree| (tree, source.metadata.generation));
        let outcome = match (&memory.refused, &of) {
            // It would be refused again.
            (Some(refused), Some((tree, generation)))
                if refused.of.0.texts == tree.texts && refused.of.1 == *generation && now < refused.until =>
            {
                Outcome::Refused(refused.message.clone())
            }
            _ => match acting.apply(plan, &mut memory.ledger).await? {
                Outcome::Done => acting.compare(plan, &mut memory.ledger).await?,
                refused => refused,
            },
        };
        if !plan.apply.is_empty() {
            memory.warnings = None;
        }
        let interval = SignedDuration::try_from(source.spec.interval.0).unwrap_or_default();
        memory.refused = match (&outcome, of, memory.refused.take()) {
            (Outcome::Done, ..) | (_, None, _) => None,
            (Outcome::Refused(_), Some(_), Some(known)) if now < known.until => Some(known),
            (Outcome::Refused(message), Some(of), _) => {
                let until = now.saturating_add(interval).unwrap_or(Timestamp::MAX);
                Some(Refused { of, until, message: message.clone() })
            }
        };
        let pruned = plan.prune.iter().map(|(key, _)| key);
        plan.apply.iter().chain(&plan.compare).chain(pruned).for_each(|key| memory.ledger.look(key, around));
        Ok(outcome)
    }

    /// Makes a fleet of what was read, if that is new. If it is none, the one of before stays.
    fn take_in(&self, source: &Object<Source>, seen: &Seen, memory: &mut Memory) {
        let place = &source.spec.target_namespace;
        let only = (!place.is_empty()).then_some(place.as_str());
        let home = Home { only, said_by: "the source", default: &source.metadata.namespace };
        if let Some(tree) = &seen.tree {
            match &memory.read {
                Some(known) if Arc::ptr_eq(known, tree) && memory.files.is_at(home) => {}
                // Another name of the same, or looked at once more.
                Some(known) if memory.broken.is_none() && known.texts == tree.texts && memory.files.is_at(home) => {
                    memory.read = Some(tree.clone());
                    memory.tree = Some(tree.clone());
                }
                _ => self.read(source, tree, home, memory),
            }
        }
        // What is newer than what is wrong cannot be read at all: that is the matter now.
        let unread = seen.trouble.as_ref().map(|error| Trouble {
            reason: error.reason.to_owned(),
            message: error.message.clone(),
            revision: String::new(),
        });
        memory.trouble = unread.or_else(|| memory.broken.clone());
    }

    fn read(&self, source: &Object<Source>, tree: &Arc<Tree>, home: Home<'_>, memory: &mut Memory) {
        memory.files = Files::read(Some(&memory.files), &tree.texts, home);
        memory.read = Some(tree.clone());
        memory.broken = None;
        match Fleet::of(&memory.files, memory.fleet.as_deref()) {
            Ok(fleet) => {
                let fleet = Arc::new(fleet);
                let before = memory.fleet.replace(fleet.clone()).unwrap_or_default();
                memory.declared.extend(before.differing(&fleet).cloned());
                memory.tree = Some(tree.clone());
                self.call(self.claims.declare(&source.key(), Some(fleet)));
            }
            Err(wrong) => {
                let all = wrong.iter().map(|wrong| withheld::told(wrong, Some(tree)));
                let (reason, revision) = ("InvalidManifest".to_owned(), tree.revision.clone());
                let message = format!("nothing was applied: {}", decide::some(wrong.len(), all));
                memory.broken = Some(Trouble { reason, message, revision });
            }
        }
    }

    /// Gives other Sources their turn.
    fn call(&self, others: BTreeSet<Key>) {
        others.iter().for_each(|other| self.readers.call(other));
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
        let kind = if after.reason == AWAITING_APPROVAL { EventType::Normal } else { EventType::Warning };
        self.events.record(about, kind, &after.reason, after.message.clone(), now);
    }

    /// Written relaxed: all of it is made again of what is read and seen.
    /// What somebody is to be told of it is written with it, and told when it is.
    async fn write_status(
        &self,
        source: &Object<Source>,
        mut status: SourceStatus,
        caches: &Caches,
        now: Timestamp,
    ) -> Result<(), Status> {
        self.couriers.cross_out(&source.key(), &mut status);
        note(&mut status, &source.spec.notifications, source.uid().as_str(), Time(now));
        if status == source.status {
            self.couriers.go(source, &status);
            return Ok(());
        }
        let mut transaction = Transaction::new(MANAGER, vec![operations::status(source, &status)]);
        transaction.durability = Durability::Relaxed;
        let done = self.client.transact(transaction).await?;
        caches.written(&done);
        self.couriers.go(source, &status);
        Ok(())
    }
}

/// Why not everything can be known to be there, though it could be read.
fn empty(memory: &Memory) -> Option<String> {
    let first = memory.tree.as_ref()?.empty.first()?;
    Some(format!("{first} is empty; delete it, if nothing should be in it"))
}

/// The Sources that must be ready first, and are not.
fn waits_for(source: &Object<Source>, caches: &Caches) -> Vec<String> {
    let is_ready = |name: &str| {
        let other = Key::of::<Source>(&source.metadata.namespace, name);
        caches.kind::<Source>().typed::<Source>(&other).is_some_and(|other| {
            let seen = other.status.observed_generation == other.metadata.generation;
            seen && Condition::holds(&other.status.conditions, READY)
        })
    };
    let names = source.spec.depends_on.iter().map(|other| other.name.clone());
    names.filter(|name| !is_ready(name)).collect()
}

impl Controller for SourceController {
    fn name(&self) -> &'static str {
        "source"
    }

    fn watches(&self) -> Vec<Watched> {
        let claims = self.claims.clone();
        let concerned = move |object: &StoredObject| claims.concerned(object);
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
