//! The App controller's judgement: a pure function of the App, what was observed, some free ports and the time.
//!
//! Laws, stated as property tests: the same inputs give the same plan; at rest there is no action; in a perfect world it
//! converges in a bounded number of passes; at most one action for each Instance in a pass; a rolling change never takes
//! a second serving Instance out of service.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{
    Action, Observed, Plan,
    instance::{self, Live, zero_ports},
    status,
};
use crate::{
    api::{App, Condition, Instance, Object, Revision},
    policy::{
        restart::{COMPLETED, REMOVED, STOPPED},
        rollout::{self, Health, Member, Step},
        template,
    },
    runtime::Requeue,
};

/// How long to wait before looking for free ports again.
const PORTS_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What to do for `app` now. `free` are ports that nobody else will get.
pub fn decide(app: &Object<App>, observed: &Observed, free: &[u16], now: Timestamp) -> Plan {
    if app.metadata.is_deleting() {
        return Plan { actions: Vec::new(), status: app.status.clone(), requeue: Requeue::Rest };
    }
    let (revision, mut actions) = current_revision(app, observed);
    let status = status::status(app, observed, &revision, now);
    if let Some(instance) = observed.instances.iter().find(|i| i.spec.revision == revision && is_removed(i)) {
        let because = format!("the exit of instance {} says so", instance.metadata.name);
        return Plan { actions: vec![Action::DeleteApp { because }], status, requeue: Requeue::Rest };
    }
    if observed.leftovers > 0 {
        // Names and ports of the former App's instances are free when its last one is gone.
        return Plan { actions: Vec::new(), status, requeue: Requeue::Rest };
    }
    let (instances, requeue) = instances(app, observed, &revision, free, now);
    actions.extend(instances);
    actions.extend(old_revisions(app, observed, &revision));
    Plan { actions, status, requeue }
}

fn is_removed(instance: &Instance) -> bool {
    instance.status.state.exited.as_ref().is_some_and(|e| e.reason == REMOVED)
}

/// The name of the current template's Revision, and what must be done that it is there with the highest number.
fn current_revision(app: &Object<App>, observed: &Observed) -> (String, Vec<Action>) {
    let highest = observed.revisions.iter().map(|r| r.revision).max().unwrap_or(0);
    let same = observed.revisions.iter().filter(|r| template::same(&r.data, &observed.template));
    match same.max_by_key(|r| r.revision) {
        Some(found) if found.revision == highest => (found.metadata.name.clone(), Vec::new()),
        Some(found) => {
            let raise = Action::RaiseRevision { revision: found.clone(), number: highest + 1 };
            (found.metadata.name.clone(), vec![raise])
        }
        None => {
            let taken: BTreeSet<&str> = observed.revisions.iter().map(|r| r.metadata.name.as_str()).collect();
            let named = |salt| format!("{}-{}", app.metadata.name, template::hash(&observed.template, salt));
            let name =
                (0..).map(named).find(|name| !taken.contains(name.as_str())).expect("some salt gives a new name");
            let data = observed.template.clone();
            (name.clone(), vec![Action::CreateRevision { name, number: highest + 1, data }])
        }
    }
}

/// Old Revisions beyond `revisionHistoryLimit` that no Instance bears, oldest first.
fn old_revisions(app: &Object<App>, observed: &Observed, current: &str) -> Vec<Action> {
    let borne: BTreeSet<&str> = observed.instances.iter().map(|i| i.spec.revision.as_str()).collect();
    let is_old = |r: &&Arc<Object<Revision>>| r.metadata.name != current && !borne.contains(r.metadata.name.as_str());
    let mut old: Vec<_> = observed.revisions.iter().filter(is_old).cloned().collect();
    old.sort_by_key(|r| r.revision);
    let limit = app.spec.revision_history_limit.max(0) as usize;
    let surplus = old.len().saturating_sub(limit);
    old.into_iter().take(surplus).map(|revision| Action::DeleteRevision { revision }).collect()
}

/// One action at most for each Instance: those that the rollout asks for, and live fields kept in step for the others.
fn instances(
    app: &Object<App>,
    observed: &Observed,
    revision: &str,
    free: &[u16],
    now: Timestamp,
) -> (Vec<Action>, Requeue) {
    let members: Vec<Member> = observed.instances.iter().map(|i| member(app, i, revision)).collect();
    let replicas = u32::try_from(app.spec.replicas).unwrap_or(0);
    let mut ports = free.chunks_exact(zero_ports(&app.spec).max(1));
    let mut actions = Vec::new();
    let mut requeue = Requeue::Rest;
    let mut untouched: BTreeSet<usize> = (0..members.len()).filter(|i| !members[*i].deleting).collect();
    for step in rollout::steps(replicas, app.spec.strategy.kind, &members) {
        match step {
            Step::Delete { member, because } => {
                untouched.remove(&member);
                actions.push(Action::DeleteInstance { instance: observed.instances[member].clone(), because });
            }
            Step::Restart { member, because } => {
                untouched.remove(&member);
                actions.push(update(app, &observed.instances[member], instance::restarted_at(app), because));
            }
            Step::Create { ordinal, because } => {
                let Some(node) = &observed.node else { continue };
                let chosen = if zero_ports(&app.spec) == 0 { Some(&[][..]) } else { ports.next() };
                let Some(chosen) = chosen else {
                    requeue = Requeue::At(now + PORTS_RETRY);
                    continue;
                };
                let instance = Box::new(instance::new(app, revision, ordinal, node, chosen));
                actions.push(Action::CreateInstance { instance, because });
            }
        }
    }
    for i in untouched {
        let instance = &observed.instances[i];
        let live = Live::wanted(&app.spec, &instance.spec.restarted_at, &instance.spec.hold);
        if live != Live::of(&instance.spec) || instance::labels(app) != instance.metadata.labels {
            let because = "the app's live fields or labels changed";
            actions.push(update(app, instance, &instance.spec.restarted_at, because));
        }
    }
    (actions, requeue)
}

fn update(app: &Object<App>, instance: &Arc<Object<Instance>>, restarted_at: &str, because: &'static str) -> Action {
    let live = Box::new(Live::wanted(&app.spec, restarted_at, &instance.spec.hold));
    Action::UpdateInstance { instance: instance.clone(), live, labels: instance::labels(app), because }
}

fn member(app: &Object<App>, instance: &Object<Instance>, revision: &str) -> Member {
    let asked = instance::restarted_at(app);
    Member {
        ordinal: instance.spec.ordinal,
        current: instance.spec.revision == revision,
        health: health(instance),
        restart_due: !asked.is_empty() && instance.spec.restarted_at != asked,
        deleting: instance.metadata.is_deleting(),
    }
}

/// An Instance whose restart is asked for but not done counts as out of service: the next one must wait.
fn health(instance: &Instance) -> Health {
    let state = &instance.status.state;
    let restarted = instance.status.restarted_at == instance.spec.restarted_at;
    let ended = |e: &crate::api::Exited| [COMPLETED, STOPPED].contains(&e.reason.as_str());
    if state.exited.as_ref().is_some_and(ended) {
        Health::Finished
    } else if restarted && Condition::holds(&instance.status.conditions, "Ready") {
        Health::Ready
    } else {
        Health::Unready
    }
}
