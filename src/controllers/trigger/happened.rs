//! What happened to an App since somebody looked last: a comparison of what is with what was told.
//!
//! What was told stands in the Workflow's status, written with the runs that it led to; so each is told once, whoever is killed when. While
//! the server runs every state of an instance is looked at. Of what happened while it did not, the last start and the last exit of each
//! instance are told afterwards. What was so before anybody could look is not told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::api::{
    App, AppEvent, AppEventTrigger, Condition, Exit, Instance, Object, SeenApp, SeenInstance, Uid, signal_number,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Happened {
    pub(super) event: AppEvent,
    /// What makes it itself, and no other one.
    pub(super) identity: String,
    /// What is to be known of it: `github.event` in expressions.
    pub(super) facts: BTreeMap<String, Value>,
    /// What is known from then on.
    pub(super) mark: Mark,
    /// The place of the state that tells it among those that were heard of.
    pub(super) at: usize,
}

/// Behind everything that was heard of.
const LATER: usize = usize::MAX;

/// What is known once a thing was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    Started(String, SeenInstance),
    Exited(String, SeenInstance),
    Ready(String, SeenInstance),
    Gone(String),
    Suspended(bool),
    Removed,
}

impl Mark {
    /// Puts it into what is known.
    pub(super) fn put(&self, seen: &mut SeenApp) {
        match self {
            Mark::Started(uid, now) => of(seen, uid, now).started = now.started,
            Mark::Exited(uid, now) => of(seen, uid, now).exited = now.exited,
            Mark::Ready(uid, now) => of(seen, uid, now).ready = now.ready,
            Mark::Gone(uid) => drop(seen.instances.remove(uid)),
            Mark::Suspended(suspended) => seen.suspended = *suspended,
            Mark::Removed => seen.uid = None,
        }
    }
}

fn of<'s>(seen: &'s mut SeenApp, uid: &str, now: &SeenInstance) -> &'s mut SeenInstance {
    let blank = || SeenInstance { name: now.name.clone(), ..SeenInstance::default() };
    seen.instances.entry(uid.to_owned()).or_insert_with(blank)
}

/// An App as it is.
pub(super) struct Present {
    pub(super) app: Option<Arc<Object<App>>>,
    pub(super) instances: Vec<Arc<Object<Instance>>>,
    /// States of instances that were heard of since, in their order; those of instances that are gone, too.
    pub(super) earlier: Vec<Arc<Object<Instance>>>,
}

/// All of it as known, so that nothing of it is told.
pub(super) fn everything(trigger: &AppEventTrigger, present: &Present) -> SeenApp {
    let mut seen = nothing(trigger);
    if let Some(app) = &present.app {
        (seen.uid, seen.suspended) = (app.metadata.uid.clone(), app.spec.suspend);
    }
    if of_instances(trigger) {
        let known = |instance: &Arc<Object<Instance>>| (instance.uid().to_string(), look(trigger, instance));
        seen.instances = present.instances.iter().map(known).collect();
    }
    seen
}

fn nothing(trigger: &AppEventTrigger) -> SeenApp {
    SeenApp { app: trigger.app.clone(), events: events(trigger), ..SeenApp::default() }
}

/// The events of a trigger, each once.
fn events(trigger: &AppEventTrigger) -> Vec<AppEvent> {
    let mut events = trigger.events.clone();
    events.sort_unstable();
    events.dedup();
    events
}

/// True if what is known is of this trigger.
pub(super) fn is_of(seen: &SeenApp, trigger: &AppEventTrigger) -> bool {
    seen.app == trigger.app && seen.events == events(trigger)
}

fn of_instances(trigger: &AppEventTrigger) -> bool {
    [AppEvent::Start, AppEvent::Exit, AppEvent::Health].iter().any(|event| trigger.events.contains(event))
}

/// What a look at an instance tells, of that which is asked for.
fn look(trigger: &AppEventTrigger, instance: &Object<Instance>) -> SeenInstance {
    let (status, asked) = (&instance.status, |event| trigger.events.contains(&event));
    let exited = status.last_exit.as_ref().map_or(0, |exit| exit.attempt);
    let runs = status.state.running.is_some() || status.state.stopping.is_some();
    let started = if runs { status.attempt } else { exited };
    SeenInstance {
        name: instance.metadata.name.to_string(),
        started: if asked(AppEvent::Start) || asked(AppEvent::Exit) { started } else { 0 },
        exited: if asked(AppEvent::Exit) { exited } else { 0 },
        ready: asked(AppEvent::Health) && Condition::holds(&status.conditions, "Ready"),
    }
}

/// Everything that happened, in an order that is always the same.
pub(super) fn since(trigger: &AppEventTrigger, seen: &SeenApp, present: &Present) -> Vec<Happened> {
    let mut all = Vec::new();
    if of_instances(trigger) {
        let (mut now, mut known) = (seen.clone(), BTreeSet::new());
        let there: BTreeSet<&str> = present.instances.iter().map(|instance| instance.uid().as_str()).collect();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let states: Vec<_> = present.earlier.iter().chain(&present.instances).collect();
        last.extend(states.iter().enumerate().map(|(at, state)| (state.uid().as_str(), at)));
        for (at, state) in states.iter().enumerate() {
            let uid = state.uid().as_str();
            let first = all.len();
            of_one(trigger, &now, state, !there.contains(uid) && last.get(uid) == Some(&at), &mut all);
            all[first..].iter_mut().for_each(|one| {
                one.at = at;
                one.mark.put(&mut now);
            });
            known.insert(uid);
        }
        let lost = seen.instances.iter().filter(|(uid, _)| !known.contains(uid.as_str()));
        lost.for_each(|(uid, before)| of_lost(trigger, uid, before, &mut all));
    }
    of_app(trigger, seen, present.app.as_deref(), &mut all);
    all
}

fn of_one(trigger: &AppEventTrigger, seen: &SeenApp, instance: &Object<Instance>, gone: bool, all: &mut Vec<Happened>) {
    let uid = instance.uid().to_string();
    let now = look(trigger, instance);
    let before = seen.instances.get(&uid).cloned().unwrap_or_default();
    let mut facts = base(trigger, &now.name);
    facts.insert("attempt".to_owned(), json!(instance.status.attempt));
    if now.started > before.started {
        let identity = format!("{uid}/start/{}", now.started);
        let mark = Mark::Started(uid.clone(), now.clone());
        all.push(Happened { event: AppEvent::Start, identity, facts: facts.clone(), mark, at: LATER });
    }
    let ready = now.ready && !gone;
    if ready != before.ready {
        let since = Condition::find(&instance.status.conditions, "Ready").map(|c| c.last_transition_time.to_string());
        let mut facts = facts.clone();
        facts.insert("ready".to_owned(), json!(ready));
        let identity = format!("{uid}/ready/{}/{ready}", since.unwrap_or_default());
        let mark = Mark::Ready(uid.clone(), SeenInstance { ready, ..now.clone() });
        all.push(Happened { event: AppEvent::Health, identity, facts, mark, at: LATER });
    }
    if now.exited > before.exited
        && let Some(exit) = &instance.status.last_exit
    {
        facts.insert("attempt".to_owned(), json!(exit.attempt));
        facts.extend(of_exit(exit));
        let (identity, mark) = (format!("{uid}/exit/{}", now.exited), Mark::Exited(uid.clone(), now));
        all.push(Happened { event: AppEvent::Exit, identity, facts, mark, at: LATER });
    }
    // Told last, so that it is forgotten when the rest is known.
    if gone {
        silent(uid, all);
    }
}

/// An instance that went while nobody looked: it has ended, and nobody can say how.
fn of_lost(trigger: &AppEventTrigger, uid: &str, before: &SeenInstance, all: &mut Vec<Happened>) {
    let asked = |event| trigger.events.contains(&event);
    let mark = Mark::Gone(uid.to_owned());
    let mut facts = base(trigger, &before.name);
    facts.insert("lost".to_owned(), json!(true));
    let identity = format!("{uid}/gone");
    match () {
        () if asked(AppEvent::Exit) && before.started > before.exited => {
            all.push(Happened { event: AppEvent::Exit, identity, facts, mark, at: LATER })
        }
        () if asked(AppEvent::Health) && before.ready => {
            facts.insert("ready".to_owned(), json!(false));
            all.push(Happened { event: AppEvent::Health, identity, facts, mark, at: LATER });
        }
        () => silent(uid.to_owned(), all),
    }
}

/// Nothing that anybody asked for, and yet something to be known.
fn silent(uid: String, all: &mut Vec<Happened>) {
    let mark = Mark::Gone(uid);
    all.push(Happened { event: AppEvent::Removed, identity: String::new(), facts: BTreeMap::new(), mark, at: LATER });
}

fn of_app(trigger: &AppEventTrigger, seen: &SeenApp, app: Option<&Object<App>>, all: &mut Vec<Happened>) {
    let facts = || BTreeMap::from([("app".to_owned(), json!(trigger.app))]);
    let uid: Option<Uid> = app.and_then(|app| app.metadata.uid.clone());
    if let Some(before) = seen.uid.as_ref().filter(|before| Some(*before) != uid.as_ref()) {
        let (event, identity) = (AppEvent::Removed, format!("{before}/removed"));
        all.push(Happened { event, identity, facts: facts(), mark: Mark::Removed, at: LATER });
    }
    let same = |app: &&Object<App>| app.metadata.uid == seen.uid;
    if let Some(app) = app.filter(same).filter(|app| app.spec.suspend != seen.suspended) {
        let suspended = app.spec.suspend;
        let identity = format!("{}/status/{}", app.uid(), app.metadata.generation);
        let mut facts = facts();
        facts.insert("suspended".to_owned(), json!(suspended));
        all.push(Happened { event: AppEvent::Status, identity, facts, mark: Mark::Suspended(suspended), at: LATER });
    }
}

fn base(trigger: &AppEventTrigger, instance: &str) -> BTreeMap<String, Value> {
    BTreeMap::from([("app".to_owned(), json!(trigger.app)), ("instance".to_owned(), json!(instance))])
}

fn of_exit(exit: &Exit) -> BTreeMap<String, Value> {
    let signal = exit.signal.as_deref();
    let code = exit.code.or(signal.and_then(signal_number).map(|number| 128 + number));
    let facts = [
        ("exit_code", code.map(|code| json!(code))),
        ("signal", signal.map(|signal| json!(signal))),
        ("lost", exit.lost.then(|| json!(true))),
        ("oom_killed", exit.oom_killed.then(|| json!(true))),
        ("start_time", exit.start_time.map(|at| json!(at))),
        ("finish_time", exit.finish_time.map(|at| json!(at))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
