//! What is written down of a world while time passes in it: what was done to its machine, and how many instances of each App were ready when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        App, Condition, Instance, Key, Kind, Object, OwnerReference, PlannedAction, PlannedApp, PlannedVerb, Rev, Uid,
    },
    clock::{Clock, Virtual},
    drivers::{
        StartKey,
        sim::{Deed, Witness},
    },
    store::Store,
};

/// A record. Clones are the same one.
#[derive(Clone)]
pub struct Record(Arc<Mutex<Log>>);

struct Log {
    store: Arc<Store>,
    /// What was done before is not written down.
    began: Option<Timestamp>,
    /// When something happened last.
    last: Timestamp,
    actions: Vec<PlannedAction>,
    /// What ran in the beginning, and what was started since.
    ran: BTreeSet<Uid>,
    /// By owner, in the beginning: the revisions of its instances that ran, how many of which are still to be replaced.
    before: BTreeMap<Uid, Before>,
    /// Who was told to end, and why; each attempt once.
    stopped: BTreeMap<StartKey, String>,
    /// Apps, by uid.
    charts: BTreeMap<Uid, Chart>,
    /// Instances as they were seen last.
    seen: BTreeMap<Key, Seen>,
    looked: u64,
}

/// An owner in the beginning.
#[derive(Default)]
struct Before {
    instances: usize,
    /// Of instances that ran.
    revisions: BTreeMap<String, usize>,
    replaced: usize,
}

struct Seen {
    revision: Rev,
    owner: Option<Uid>,
    ready: bool,
}

/// How many instances of an App were ready, since when.
struct Chart {
    namespace: String,
    name: String,
    before: usize,
    least: usize,
    now: usize,
    since: Timestamp,
    /// How long none was, up to the last time that one was again.
    none: SignedDuration,
    none_yet: SignedDuration,
    below: SignedDuration,
    last: Timestamp,
    touched: bool,
}

impl Record {
    /// Nothing has happened yet.
    pub fn new(store: Arc<Store>, now: Timestamp) -> Self {
        let log = Log {
            store,
            began: None,
            last: now,
            actions: Vec::new(),
            ran: BTreeSet::new(),
            before: BTreeMap::new(),
            stopped: BTreeMap::new(),
            charts: BTreeMap::new(),
            seen: BTreeMap::new(),
            looked: u64::MAX,
        };
        Self(Arc::new(Mutex::new(log)))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a machine: writes down what is done to it.
    pub fn witness(&self, clock: Virtual) -> Witness {
        let record = self.clone();
        Arc::new(move |deed| record.log().done(deed, clock.now()))
    }

    /// From now on it counts.
    pub fn begin(&self, clock: &Virtual) {
        let now = clock.now();
        let mut log = self.log();
        log.remember_what_is_there();
        (log.began, log.last) = (Some(now), now);
        log.look(now);
        for chart in log.charts.values_mut() {
            (chart.before, chart.least, chart.touched) = (chart.now, chart.now, false);
        }
    }

    /// Looks who is ready, when nothing more happens at this moment.
    pub fn look(&self, now: Timestamp) {
        self.log().look(now);
    }

    /// When something happened last.
    pub fn last(&self) -> Timestamp {
        self.log().last
    }

    /// What was done, in order, and how the Apps fared that something became of.
    pub fn told(&self) -> (Vec<PlannedAction>, Vec<PlannedApp>) {
        let log = self.log();
        let began = log.began.unwrap_or(log.last);
        let acted: BTreeSet<(&str, &str)> = log
            .actions
            .iter()
            .filter(|action| action.owner_kind == App::INFO.kind)
            .map(|action| (action.namespace.as_str(), action.owner.as_str()))
            .collect();
        let told = |chart: &&Chart| chart.touched || acted.contains(&(chart.namespace.as_str(), chart.name.as_str()));
        let mut apps: Vec<PlannedApp> =
            log.charts.values().filter(told).map(|chart| chart.told(began, &log.actions)).collect();
        apps.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        (log.actions.clone(), apps)
    }
}

fn seconds(duration: SignedDuration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

impl Chart {
    fn told(&self, began: Timestamp, actions: &[PlannedAction]) -> PlannedApp {
        let own = actions.iter().filter(|action| action.namespace == self.namespace && action.owner == self.name);
        let acted = own.map(|action| action.after_seconds).fold(0.0, f64::max);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        PlannedApp {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ready_before: count(self.before),
            ready_at_least: count(self.least),
            ready_after: count(self.now),
            unavailable_seconds: seconds(self.none),
            below_seconds: seconds(self.below),
            settled_after_seconds: acted.max(seconds(self.last.duration_since(began))),
        }
    }

    /// Until now so many were ready; from now on it is another number.
    fn change(&mut self, ready: usize, wanted: usize, now: Timestamp) {
        let lasted = now.duration_since(self.since);
        self.since = now;
        if self.now < self.before.min(wanted) {
            self.below += lasted;
        }
        if self.now == 0 && self.before > 0 {
            self.none_yet += lasted;
        }
        if ready > 0 {
            self.none += std::mem::take(&mut self.none_yet);
        }
        if ready != self.now {
            (self.now, self.last, self.touched) = (ready, now, true);
            self.least = self.least.min(ready);
        }
    }
}

impl Log {
    fn instance(&self, uid: &Uid) -> Option<Arc<Object<Instance>>> {
        self.store.get(&self.store.find_uid(uid)?)?.typed::<Instance>()
    }

    fn app(&self, owner: &OwnerReference) -> Option<Arc<Object<App>>> {
        self.store.get(&self.store.find_uid(&owner.uid)?)?.typed::<App>()
    }

    fn remember_what_is_there(&mut self) {
        for object in self.store.list(Instance::INFO, None).items {
            let Some(instance) = object.typed::<Instance>() else { continue };
            let Some(owner) = instance.metadata.controller() else { continue };
            let before = self.before.entry(owner.uid.clone()).or_default();
            before.instances += 1;
            let state = &instance.status.state;
            if state.running.is_some() || state.stopping.is_some() {
                *before.revisions.entry(instance.spec.revision.clone()).or_default() += 1;
                self.ran.insert(instance.uid().clone());
            }
        }
    }

    fn done(&mut self, deed: Deed, now: Timestamp) {
        let Some(began) = self.began else { return };
        let (Deed::Started(key) | Deed::Signalled(key, _) | Deed::Limited(key)) = &deed;
        let Some(instance) = self.instance(&key.uid) else { return };
        let Some(owner) = instance.metadata.controller().cloned() else { return };
        let (verb, because) = match deed {
            Deed::Started(_) => self.start(&instance, &owner),
            Deed::Signalled(ref key, _) => {
                if self.stopped.contains_key(key) {
                    return;
                }
                let because = self.stop(&instance, &owner);
                self.stopped.insert(key.clone(), because.clone());
                // It is away from now on, whenever that is written down; and what is ready by now counts.
                self.seen.remove(&instance.key());
                self.looked = u64::MAX;
                self.look(now);
                (PlannedVerb::Stop, because)
            }
            Deed::Limited(_) => (PlannedVerb::Resize, "its resources change".to_owned()),
        };
        self.last = now;
        self.actions.push(PlannedAction {
            after_seconds: seconds(now.duration_since(began)),
            verb,
            owner_kind: owner.kind.clone(),
            namespace: instance.metadata.namespace.clone(),
            owner: owner.name.clone(),
            instance: instance.metadata.name.clone(),
            attempt: i64::from(key.attempt),
            because,
            anyway: false,
        });
    }

    fn start(&mut self, instance: &Object<Instance>, owner: &OwnerReference) -> (PlannedVerb, String) {
        let uid = instance.uid();
        if !self.ran.insert(uid.clone()) {
            let last = self.stopped.iter().rev().find(|(key, _)| key.uid == *uid).map(|(_, because)| because.clone());
            return (PlannedVerb::Restart, last.unwrap_or_else(|| "it had ended".to_owned()));
        }
        if instance.status.last_exit.is_some() || instance.status.attempt > 1 {
            return (PlannedVerb::Start, "it may run again".to_owned());
        }
        if owner.kind != App::INFO.kind {
            return (PlannedVerb::Start, format!("its {} begins", owner.kind.to_lowercase()));
        }
        let replicas = self.app(owner).map_or(0, |app| usize::try_from(app.spec.replicas).unwrap_or(0));
        let Some(before) = self.before.get_mut(&owner.uid) else {
            return (PlannedVerb::Start, "the app is new".to_owned());
        };
        let others = before.revisions.iter().filter(|(revision, _)| **revision != instance.spec.revision);
        let (old, count) = others.fold((None, 0), |(_, sum), (name, count)| (Some(name.clone()), sum + count));
        match old {
            Some(old) if before.replaced < count => {
                before.replaced += 1;
                (PlannedVerb::Replace, format!("it takes the place of one of revision {old}"))
            }
            _ if replicas > before.instances => (PlannedVerb::Start, "more replicas are wanted".to_owned()),
            _ => (PlannedVerb::Start, "an instance is missing".to_owned()),
        }
    }

    fn stop(&self, instance: &Object<Instance>, owner: &OwnerReference) -> String {
        if instance.metadata.is_deleting() {
            let Some(app) = self.app(owner).filter(|app| !app.metadata.is_deleting()) else {
                return format!("its {} is deleted", owner.kind.to_lowercase());
            };
            let newest = &app.status.update_revision;
            return match *newest == instance.spec.revision {
                true => "fewer replicas are wanted".to_owned(),
                false => format!("revision {newest} takes its place"),
            };
        }
        if instance.spec.suspend {
            return "it is suspended".to_owned();
        }
        if instance.spec.restarted_at != instance.status.restarted_at {
            return "a restart was asked for".to_owned();
        }
        "its active window is over".to_owned()
    }

    fn look(&mut self, now: Timestamp) {
        let changes = self.store.changes_of(Instance::INFO);
        if std::mem::replace(&mut self.looked, changes) == changes {
            return;
        }
        let all = self.store.list(Instance::INFO, None).items;
        let mut ready: BTreeMap<Uid, usize> = BTreeMap::new();
        let mut seen = std::mem::take(&mut self.seen);
        for object in all {
            let fresh = || {
                let instance = object.typed::<Instance>()?;
                let status = &instance.status;
                let ready = Condition::holds(&status.conditions, "Ready") && status.state.running.is_some();
                let attempt = StartKey { uid: instance.uid().clone(), attempt: status.attempt };
                let ready = ready && !self.stopped.contains_key(&attempt);
                let owner = instance.metadata.controller().map(|owner| owner.uid.clone());
                Some(Seen { revision: object.revision, owner, ready })
            };
            let known = seen.remove(&object.key).filter(|known| known.revision == object.revision);
            let Some(known) = known.or_else(fresh) else { continue };
            if let Some(owner) = known.owner.as_ref().filter(|_| known.ready) {
                *ready.entry(owner.clone()).or_default() += 1;
            }
            self.seen.insert(object.key.clone(), known);
        }
        let mut wanted: BTreeMap<Uid, usize> = BTreeMap::new();
        for object in self.store.list(App::INFO, None).items {
            let Some(app) = object.typed::<App>() else { continue };
            let stays = !app.spec.suspend && !app.metadata.is_deleting();
            let replicas = if stays { usize::try_from(app.spec.replicas).unwrap_or(0) } else { 0 };
            wanted.insert(app.uid().clone(), replicas);
            self.charts.entry(app.uid().clone()).or_insert_with(|| Chart {
                namespace: app.metadata.namespace.clone(),
                name: app.metadata.name.clone(),
                before: 0,
                least: 0,
                now: 0,
                since: now,
                none: SignedDuration::ZERO,
                none_yet: SignedDuration::ZERO,
                below: SignedDuration::ZERO,
                last: now,
                touched: false,
            });
        }
        for (uid, chart) in &mut self.charts {
            let was = chart.now;
            chart.change(ready.get(uid).copied().unwrap_or(0), wanted.get(uid).copied().unwrap_or(0), now);
            if chart.now != was {
                self.last = now;
            }
        }
    }
}
