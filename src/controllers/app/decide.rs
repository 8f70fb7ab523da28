//! The App controller's judgement: a pure function of the App, what was observed, some free ports and the time.
//!
//! Laws, stated as property tests: the same inputs give the same plan; at rest there is no action; in a perfect world it
//! converges in a bounded number of passes; at most one action for each Instance in a pass; a rolling change keeps to its
//! bounds.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    Action, Observed, Plan, depends,
    endpoints::{self, DRAIN, Leaving},
    instance::{self, Live, held_ports, zero_ports},
    progress::{self, ROLLED_BACK},
    quota,
    revision::{self, Change, Target},
    status::{self, Counts, Judged},
};
use crate::{
    api::{App, AppSpec, AppStatus, Condition, ConditionStatus, Instance, Object, Time},
    policy::{
        restart::{COMPLETED, REMOVED, STOPPED},
        rollout::{self, Goal, Health, Member, Step},
        template,
    },
    runtime::Requeue,
};

/// How long to wait before looking for free ports again.
const PORTS_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// How old an Instance is at least that makes room for one with another port.
const PORTS_LOST: SignedDuration = SignedDuration::from_secs(2);
/// So far apart the clocks of two machines may be.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// What to do for `app` now. `free` are ports that nobody else will get.
pub fn decide(app: &Object<App>, observed: &Observed, free: &[u16], now: Timestamp) -> Plan {
    if app.metadata.is_deleting() {
        let status = AppStatus { endpoints: Vec::new(), ..app.status.clone() };
        return Plan { actions: Vec::new(), status, requeue: Requeue::Rest, waits_for_room: false };
    }
    let (target, mut actions) = revision::target(app, observed);
    let rolling = Rolling::new(app, observed, &target, now);
    let counts = Counts::of(app, observed, &rolling.members, &target);
    let revision = target.revision.as_deref();
    let progress = progress::progress(app, revision, target.held, &counts, observed.since, now);
    let mut judged = Judged {
        target: &target,
        counts,
        progress,
        unavailable: rolling.goal.unavailable,
        clash: rolling.clash,
        leaving: Leaving::default(),
    };
    if let Some(instance) = observed.instances.iter().find(|i| is_removed(i) && revision == Some(&*i.spec.revision)) {
        let because = format!("the exit of instance {} says so", instance.metadata.name);
        let status = status::status(app, observed, &judged, now);
        return Plan {
            actions: vec![Action::DeleteApp { because }],
            status,
            requeue: Requeue::Rest,
            waits_for_room: false,
        };
    }
    if observed.leftovers > 0 {
        // Names and ports of the former App's instances are free when its last one is gone.
        let status = status::status(app, observed, &judged, now);
        return Plan { actions: Vec::new(), status, requeue: Requeue::Rest, waits_for_room: false };
    }
    if let Some(plan) = roll_back(app, observed, &judged, now) {
        return plan;
    }
    let mut doing = Doing {
        app,
        observed,
        rolling: &rolling,
        now,
        actions: Vec::new(),
        leaving: Leaving::default(),
        wake: None,
        unplaced: false,
    };
    doing.instances(free);
    actions.extend(doing.actions);
    actions.extend(revision::surplus(app, observed, &target));
    depends::apply(observed, &mut actions);
    judged.leaving = doing.leaving;
    // What is made in this commit is there after it; the next pass has nothing to add.
    let made = actions.iter().filter(|action| matches!(action, Action::CreateInstance { .. })).count();
    if made > 0 {
        judged.counts = counts.with_made(made as i32, target.base == target.revision);
        judged.progress = progress::progress(app, revision, target.held, &judged.counts, observed.since, now);
    }
    let status = status::status(app, observed, &judged, now);
    let wake = [doing.wake, judged.progress.deadline, rolling.available_at].into_iter().flatten().min();
    let requeue = wake.map_or(Requeue::Rest, Requeue::At);
    let unplaced = doing.unplaced;
    let mut plan = Plan { actions, status, requeue, waits_for_room: unplaced };
    quota::tell(app, observed, unplaced, &mut plan, now);
    plan
}

/// How many ports new Instances need now.
pub(super) fn ports_wanted(app: &Object<App>, observed: &Observed, now: Timestamp) -> usize {
    // Only one that is held may be made of another template than its own.
    if app.spec.ports.is_empty() && !app.spec.paused && !app.spec.strategy.auto_rollback {
        return 0;
    }
    let (target, _) = revision::target(app, observed);
    let rolling = Rolling::new(app, observed, &target, now);
    let zero = zero_ports(&rolling.spec);
    if zero == 0 {
        return 0;
    }
    let made = rolling.steps().into_iter().filter(|step| matches!(step, Step::Create { .. }));
    made.count() * zero
}

fn is_removed(instance: &Instance) -> bool {
    instance.status.state.exited.as_ref().is_some_and(|e| e.reason == REMOVED)
}

/// Back to the last revision that was fully available, if the one on its way is late and the App asks for that.
///
/// The template is written into the spec, as its author would do it, so that whoever reads the App sees what runs. The fields
/// that it changes become this controller's: a later apply of the failed template by anybody who does not force it is a conflict that
/// says so. Whoever forces it (a GitOps loop does) is not fought: the failed Revision is marked, and is not rolled out again.
fn roll_back(app: &Object<App>, observed: &Observed, judged: &Judged<'_>, now: Timestamp) -> Option<Plan> {
    let target = judged.target;
    if !judged.progress.is_late() || !app.spec.strategy.auto_rollback || target.held.is_some() {
        return None;
    }
    let to = revision::last_good(app, observed).filter(|r| Some(&r.metadata.name) != target.revision.as_ref())?;
    let failed = observed.revisions.iter().find(|r| Some(&r.metadata.name) == target.revision.as_ref())?;
    let seconds = app.spec.progress_deadline_seconds;
    let because = format!("revision {} did not come nearer for {seconds} s", failed.metadata.name);
    let mut status = status::status(app, observed, judged, now);
    status.update_revision = to.metadata.name.clone();
    status.progress_time = Some(Time(now));
    status.progress_count = 0;
    let message = format!("{} runs again, because {because}", to.metadata.name);
    let told = status::condition(app, ROLLED_BACK, ConditionStatus::True, progress::DEADLINE, message, now);
    Condition::set(&mut status.conditions, told);
    let actions = vec![
        Action::RollBack { to: to.clone(), because },
        Action::UpdateRevision { revision: failed.clone(), change: Change::RolledBack(now) },
    ];
    Some(Plan { actions, status, requeue: Requeue::Rest, waits_for_room: false })
}

/// Everything that the policy of rollouts asks for.
struct Rolling<'a> {
    /// The spec with the template that missing instances are made of.
    spec: Cow<'a, AppSpec>,
    /// The Revision of that template.
    base: Option<String>,
    members: Vec<Member>,
    goal: Goal,
    clash: Option<u16>,
    /// When the next instance that is ready has been so for long enough.
    available_at: Option<Timestamp>,
}

impl<'a> Rolling<'a> {
    fn new(app: &'a Object<App>, observed: &Observed, target: &Target, now: Timestamp) -> Self {
        let replicas = u32::try_from(app.spec.replicas).unwrap_or(0);
        let spec = spec_of(app, observed, target);
        let strategy = &spec.strategy;
        let rolling = &strategy.rolling_update;
        let (surge, unavailable) = rollout::bounds(replicas, &rolling.max_surge, &rolling.max_unavailable);
        let goal = Goal { replicas, strategy: strategy.kind, surge, unavailable, frozen: target.held.is_some() };
        let clash = clash(&spec, target.base.as_deref(), observed);
        let goal = if clash.is_some() { goal.one_after_another() } else { goal };
        let base = target.base.clone();
        let rolls = observed.instances.iter().any(|i| Some(&i.spec.revision) != base.as_ref());
        let proof = Proof::of(app, rolls, observed.since, now);
        let members: Vec<Member> = observed.instances.iter().map(|i| member(app, i, base.as_deref(), proof)).collect();
        let waiting = observed.instances.iter().zip(&members).filter(|(_, m)| m.health == Health::Ready && !m.deleting);
        let available_at = waiting.filter_map(|(i, _)| proof.at(i)).min();
        Self { spec, base, members, goal, clash, available_at }
    }

    fn steps(&self) -> Vec<Step> {
        rollout::steps(self.goal, &self.members)
    }
}

/// The App's spec; of one that is held with the template that is kept.
fn spec_of<'a>(app: &'a Object<App>, observed: &Observed, target: &Target) -> Cow<'a, AppSpec> {
    let kept = target.base.as_ref().filter(|base| Some(*base) != target.revision.as_ref());
    let kept = kept.and_then(|base| observed.revisions.iter().find(|r| r.metadata.name == *base));
    let spec = kept.and_then(|revision| {
        let mut spec = serde_json::to_value(&app.spec).ok()?;
        template::put(&mut spec, &revision.data);
        AppSpec::deserialize(&spec).ok()
    });
    spec.map_or(Cow::Borrowed(&app.spec), Cow::Owned)
}

/// A port of this machine that a new Instance would hold and an old one holds.
fn clash(spec: &AppSpec, base: Option<&str>, observed: &Observed) -> Option<u16> {
    let wanted: BTreeSet<_> = held_ports(&spec.ports, spec.container.as_ref()).collect();
    if wanted.is_empty() {
        return None;
    }
    let old = observed.instances.iter().filter(|i| Some(i.spec.revision.as_str()) != base);
    let mut held = old.flat_map(|i| held_ports(&i.spec.ports, i.spec.container.as_ref()));
    held.find(|port| wanted.contains(port)).map(|(number, _)| number)
}

fn member(app: &Object<App>, instance: &Object<Instance>, base: Option<&str>, proof: Proof) -> Member {
    let asked = instance::restarted_at(app);
    Member {
        ordinal: instance.spec.ordinal,
        current: Some(instance.spec.revision.as_str()) == base,
        health: health(instance, proof),
        restart_due: !asked.is_empty() && instance.spec.restarted_at != asked,
        deleting: instance.metadata.is_deleting(),
    }
}

/// An Instance that is about to go counts as out of service: the next one must wait.
fn health(instance: &Instance, proof: Proof) -> Health {
    let ended = |e: &crate::api::Exited| [COMPLETED, STOPPED].contains(&e.reason.as_str());
    if instance.status.state.exited.as_ref().is_some_and(ended) {
        Health::Finished
    } else if !instance::is_ready(instance) || instance.spec.drain_until.is_some() {
        Health::Unready
    } else if proof.at(instance).is_none_or(|at| at <= proof.now) {
        Health::Available
    } else {
        Health::Ready
    }
}

/// What makes a ready Instance an available one.
#[derive(Clone, Copy)]
struct Proof {
    /// It is ready for so long.
    ready: SignedDuration,
    /// It runs for so long.
    runs: SignedDuration,
    /// Since when what is ready now was ready at least, if it says that it will only be ready later.
    since: Timestamp,
    now: Timestamp,
}

impl Proof {
    /// Without any probe a process is ready as soon as it runs. While others are to go because of it, it must run for a moment at
    /// least: one that ends at once, as a misspelt command does, takes nobody's place.
    fn of(app: &App, rolls: bool, since: Timestamp, now: Timestamp) -> Self {
        let probed = app.spec.readiness_probe.is_some() || app.spec.startup_probe.is_some();
        let runs = if rolls && !probed { SignedDuration::from_secs(1) } else { SignedDuration::ZERO };
        // While others are to go because of it, nothing is believed that nobody saw.
        let since = if rolls { since } else { Timestamp::UNIX_EPOCH };
        Self { ready: SignedDuration::from_secs(i64::from(app.spec.min_ready_seconds)), runs, since, now }
    }

    /// When a ready Instance is available; `None` if it is at once.
    fn at(self, instance: &Instance) -> Option<Timestamp> {
        let ready = Condition::find(&instance.status.conditions, "Ready").filter(|_| !self.ready.is_zero());
        let running = instance.status.state.running.as_ref().filter(|_| !self.runs.is_zero());
        let ready = ready.map(|c| self.seen(c.last_transition_time.0) + self.ready);
        ready.max(running.map(|r| self.seen(r.start_time.0) + self.runs))
    }

    /// What is yet to come was written by another clock, or before this one was set back.
    fn seen(self, at: Timestamp) -> Timestamp {
        if at.duration_since(self.now) > SLACK { self.since } else { at }
    }
}

/// The actions of a pass, in the making.
struct Doing<'a> {
    app: &'a Object<App>,
    observed: &'a Observed,
    rolling: &'a Rolling<'a>,
    now: Timestamp,
    actions: Vec<Action>,
    leaving: Leaving,
    wake: Option<Timestamp>,
    /// An Instance is wanted that no node has room for.
    unplaced: bool,
}

impl Doing<'_> {
    /// One action at most for each Instance: those that the rollout asks for, and live fields kept in step for the others.
    fn instances(&mut self, free: &[u16]) {
        let Some(base) = &self.rolling.base else { return };
        let zero = zero_ports(&self.rolling.spec);
        let mut ports = free.chunks_exact(zero.max(1));
        let steps = self.rolling.steps();
        let going: BTreeMap<usize, Step> = steps.iter().filter_map(|step| Some((member_of(step)?, *step))).collect();
        let stays = |(i, m): (usize, &Member)| !m.deleting && !going.contains_key(&i) && serves(m);
        let mut made = 0;
        let others_serve = self.rolling.members.iter().enumerate().any(stays);
        for step in steps {
            match step {
                Step::Delete { member, because } if self.may_go(member, others_serve) => {
                    let instance = self.observed.instances[member].clone();
                    self.actions.push(Action::DeleteInstance { instance, because });
                }
                Step::Restart { member, because } if self.may_go(member, others_serve) => {
                    let instance = &self.observed.instances[member];
                    let live = self.live(instance, instance::restarted_at(self.app));
                    self.update(instance, live, because);
                }
                Step::Delete { .. } | Step::Restart { .. } => {}
                Step::Create { ordinal, because } => {
                    let Ok(place) = self.observed.place.as_ref().map_err(|_| self.unplaced = true) else { continue };
                    if made >= place.room {
                        self.unplaced = true;
                        continue;
                    }
                    let chosen = if zero == 0 { Some(&[][..]) } else { ports.next() };
                    let Some(chosen) = chosen else {
                        self.look_again(self.now + PORTS_RETRY);
                        continue;
                    };
                    let instance = instance::new(self.app, &self.rolling.spec, base, ordinal, &place.node, chosen);
                    self.actions.push(Action::CreateInstance { instance: Box::new(instance), because });
                    made += 1;
                }
            }
        }
        for (i, instance) in self.observed.instances.iter().enumerate() {
            if self.rolling.members[i].deleting || going.contains_key(&i) {
                continue;
            }
            match self.gives_way(instance) {
                Some(at) if at <= self.now => {
                    let because = "somebody else holds a port that was chosen for it";
                    self.actions.push(Action::DeleteInstance { instance: instance.clone(), because });
                    continue;
                }
                Some(at) => self.look_again(at),
                None => {}
            }
            let live = self.live(instance, &instance.spec.restarted_at);
            if live != Live::of(&instance.spec) || instance::labels(self.app) != instance.metadata.labels {
                self.update(instance, live, "the app's live fields or labels changed");
            }
        }
    }

    fn live(&self, instance: &Object<Instance>, restarted_at: &str) -> Live {
        let is_base = self.rolling.base.as_ref() == Some(&instance.spec.revision);
        // What is of another template keeps what that one says.
        let resources = if is_base { &self.rolling.spec.resources } else { &instance.spec.resources };
        Live::wanted(&self.app.spec, resources, restarted_at, &instance.spec.hold)
    }

    /// When an Instance makes room for one with another port, because somebody has taken the one that was chosen for it before it
    /// could. Not at once: whoever loses every port is no busier than one that crashes.
    fn gives_way(&self, instance: &Object<Instance>) -> Option<Timestamp> {
        let taken = instance.status.state.waiting.as_ref()?.taken_port.as_ref()?;
        let is_base = self.rolling.base.as_ref() == Some(&instance.spec.revision);
        let chosen = self.rolling.spec.ports.iter().any(|port| port.name == *taken && port.reached_at() == 0);
        let made = instance.metadata.creation_timestamp?.0.min(self.now);
        (is_base && chosen).then(|| made + PORTS_LOST)
    }

    fn update(&mut self, instance: &Arc<Object<Instance>>, live: Live, because: &'static str) {
        let labels = instance::labels(self.app);
        self.actions.push(Action::UpdateInstance { instance: instance.clone(), live: Box::new(live), labels, because });
    }

    fn look_again(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// True if what a step asks for may be done now. Otherwise the Instance is drained first, or is being drained: others
    /// take over what comes anew, and it goes on serving until they do.
    fn may_go(&mut self, member: usize, others_serve: bool) -> bool {
        let instance = &self.observed.instances[member];
        let name = instance.metadata.name.clone();
        let until = match instance.spec.drain_until {
            // A clock that was set back meanwhile makes it no longer than it would have been.
            Some(until) if until.0 > self.now && until.0 <= self.now + DRAIN => until.0,
            None if others_serve && self.is_drained_first(instance) => {
                let until = self.now + DRAIN;
                let live = self.live(instance, &instance.spec.restarted_at).drained(until);
                self.update(instance, live, "it is taken off the endpoints first");
                until
            }
            _ => {
                self.leaving.now.insert(name);
                return true;
            }
        };
        self.leaving.soon.insert(name);
        self.look_again(until);
        false
    }

    /// Whoever has a `preStop` hook chooses by it how long followers have.
    fn is_drained_first(&self, instance: &Object<Instance>) -> bool {
        let spec = &self.app.spec;
        endpoints::serves(instance) && spec.lifecycle.pre_stop.is_none() && !spec.suspend
    }
}

fn member_of(step: &Step) -> Option<usize> {
    match step {
        Step::Delete { member, .. } | Step::Restart { member, .. } => Some(*member),
        Step::Create { .. } => None,
    }
}

fn serves(member: &Member) -> bool {
    matches!(member.health, Health::Available | Health::Ready)
}
