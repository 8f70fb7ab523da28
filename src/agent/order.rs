//! Instances of this node in the order of their dependencies: who waits for whom before it starts, and who ends first.
//!
//! The App controller says across nodes what an Instance waits for (`spec.hold`). It is one look behind the world: after a
//! reboot, say, nobody has told it yet that nothing runs any more. So the agent also looks at what runs here, now.
//!
//! Ending is the reverse. Deletions that belong together reach the agent one after another, so an Instance that others
//! here depend on waits a moment for theirs; those that are ending are waited for, at most as long as they may take.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    decide::{Around, Wanted, grace, wanted},
    memory::Phase,
    pump::{Slot, step::moved},
    rows::Rows,
};
use crate::{
    api::{APP_LABEL, Condition, Instance, Object, Uid},
    policy::{
        depends::{Dependents, Progress, unmet},
        restart::{COMPLETED, STOPPED},
    },
};

/// How long an end waits to hear whether those who depend on it are to end too.
const SETTLING: SignedDuration = SignedDuration::from_millis(300);
/// How long after SIGKILL somebody is waited for.
const AFTER_KILL: SignedDuration = SignedDuration::from_secs(5);
/// Longest chain of dependents that is followed.
const DEEPEST: u32 = 64;

/// Namespace and name of an App.
type AppName = (String, String);
type Slots = BTreeMap<Uid, Slot>;

/// Who belongs to which App, and which Apps they depend on.
#[derive(Debug, Default)]
pub(super) struct Order {
    members: BTreeMap<AppName, BTreeSet<Uid>>,
    dependents: Dependents<AppName, Uid>,
    /// Since when those that others depend on are to end.
    ending: BTreeMap<Uid, Timestamp>,
    rows: Rows,
}

fn app_of(instance: &Object<Instance>) -> Option<AppName> {
    let meta = &instance.metadata;
    Some((meta.namespace.clone(), meta.labels.get(APP_LABEL)?.to_owned()))
}

fn awaited_by(instance: &Object<Instance>) -> Vec<AppName> {
    let namespace = &instance.metadata.namespace;
    instance.spec.depends_on.iter().map(|dependency| (namespace.clone(), dependency.app.clone())).collect()
}

impl Order {
    /// An Instance came or changed.
    pub(super) fn learn(&mut self, uid: &Uid, instance: &Object<Instance>) {
        if let Some(app) = app_of(instance) {
            self.members.entry(app).or_default().insert(uid.clone());
        }
        self.dependents.set(uid, awaited_by(instance));
        self.rows.learn(uid, instance);
    }

    /// It is gone.
    pub(super) fn forget(&mut self, uid: &Uid, instance: &Object<Instance>) {
        self.dependents.set(uid, Vec::new());
        self.ending.remove(uid);
        self.rows.forget(uid, instance);
        if let Some(app) = app_of(instance)
            && let Some(members) = self.members.get_mut(&app)
        {
            members.remove(uid);
            if members.is_empty() {
                self.members.remove(&app);
            }
        }
    }

    /// The time of day is another, by `by`.
    pub(super) fn stepped(&mut self, by: SignedDuration) {
        self.ending.values_mut().for_each(|since| *since = moved(*since, by));
    }

    /// What decides about an Instance beside itself.
    pub(super) fn around(&mut self, uid: &Uid, slots: &Slots, draining: bool, now: Timestamp) -> Around {
        let mut around = Around { draining, ..Around::default() };
        let Some((slot, instance)) = slots.get(uid).and_then(|slot| Some((slot, slot.instance.as_deref()?))) else {
            return around;
        };
        if matches!(slot.memory.phase, Phase::Waiting { .. }) && slot.memory.first {
            around.needs = self.needs(instance, slots, draining, now);
            around.stands_in_row = self.rows.keep_waiting(slot, instance, slots);
        }
        if !self.dependents.is_empty() {
            match is_ending(slot, draining, now) && slot.is_alive() {
                true => around.needed_until = self.needed_until(uid, instance, slots, draining, now),
                false => drop(self.ending.remove(uid)),
            }
        }
        around
    }

    /// What must be there before it starts and is not; empty if it may.
    fn needs(&self, instance: &Object<Instance>, slots: &Slots, draining: bool, now: Timestamp) -> String {
        if !instance.spec.hold.is_empty() {
            return instance.spec.hold.clone();
        }
        let namespace = &instance.metadata.namespace;
        // Of an App that has nothing here, the controller alone knows.
        unmet(&instance.spec.depends_on, |app| {
            let members = self.members.get(&(namespace.clone(), app.to_owned()));
            Some(progress(members.into_iter().flatten().filter_map(|uid| slots.get(uid)), draining, now))
        })
    }

    fn needed_until(
        &mut self,
        uid: &Uid,
        instance: &Object<Instance>,
        slots: &Slots,
        draining: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let since = *self.ending.entry(uid.clone()).or_insert(now);
        self.until(instance, since, slots, draining, now, 0)
    }

    /// Until when the end of an Instance waits for those who depend on it; none if nobody is there.
    fn until(
        &self,
        instance: &Object<Instance>,
        since: Timestamp,
        slots: &Slots,
        draining: bool,
        now: Timestamp,
        depth: u32,
    ) -> Option<Timestamp> {
        let app = app_of(instance)?;
        let alive = self.dependents.of(&app).filter_map(|uid| slots.get(uid)).filter(|slot| slot.is_alive());
        let each = alive.filter_map(|slot| {
            let of = slot.instance.as_deref()?;
            if !is_ending(slot, draining, now) {
                return Some(since + SETTLING);
            }
            let killed = match (&slot.memory.phase, depth) {
                (Phase::Stopping { kill_at, .. }, _) => *kill_at,
                (_, DEEPEST..) => return None,
                _ => {
                    self.until(of, since, slots, draining, now, depth + 1).unwrap_or(since).max(since) + grace(Some(of))
                }
            };
            Some(killed + AFTER_KILL)
        });
        each.max()
    }

    /// The step that is to be started when this one has succeeded, if one was written down ahead.
    pub(super) fn next_in_row(&self, instance: &Object<Instance>) -> Option<&Uid> {
        self.rows.next(instance)
    }

    /// Whose turn may have come because something has changed with this Instance.
    pub(super) fn concerned(&self, instance: &Object<Instance>) -> Vec<Uid> {
        if self.dependents.is_empty() {
            return Vec::new();
        }
        let (own, below) = (app_of(instance), awaited_by(instance));
        let above = own.iter().flat_map(|app| self.dependents.of(app));
        let below = below.iter().filter_map(|app| self.members.get(app)).flatten();
        above.chain(below).cloned().collect()
    }
}

fn is_ending(slot: &Slot, draining: bool, now: Timestamp) -> bool {
    matches!(wanted(slot.instance.as_deref(), draining, now), Wanted::Gone | Wanted::Suspended)
}

fn progress<'a>(slots: impl Iterator<Item = &'a Slot>, draining: bool, now: Timestamp) -> Progress {
    let mut progress = Progress::default();
    for slot in slots.filter(|slot| !is_ending(slot, draining, now)) {
        progress.wanted += 1;
        match &slot.memory.phase {
            Phase::Running(_) => {
                progress.running += 1;
                progress.ready += usize::from(Condition::holds(&slot.shown.conditions, "Ready"));
            }
            Phase::Exited { reason, .. } if [COMPLETED, STOPPED].contains(&reason.as_str()) => progress.complete += 1,
            _ => {}
        }
    }
    progress
}
