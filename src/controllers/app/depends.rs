//! What an App waits for, written into the `hold` of its Instances that do not run yet.
//!
//! A pass looks at the Apps that its App depends on and at their Instances. Who waits for whom is kept from the passes
//! before, so that a change of the one brings the turn of the other; where nobody waits for anybody, nothing is looked up.

use std::sync::{Arc, Mutex};

use super::{Action, Observed};
use crate::{
    api::{App, Condition, Instance, Key, Kind, Object, StoredObject},
    policy::{
        depends::{Dependents, NOT_READY, Progress, unmet},
        restart::{COMPLETED, STOPPED, SUSPENDED},
        window::OUTSIDE,
    },
    runtime::{Caches, Watched},
};

/// Which Apps wait for which.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Dependents<Key, Key>>>);

impl Waiting {
    /// An App has its turn, or is gone.
    pub(super) fn note(&self, key: &Key, app: Option<&App>) {
        let on = app.map(|app| app.spec.depends_on.iter().map(|on| Key::of::<App>(&key.namespace, &on.app)).collect());
        self.lock().set(key, on.unwrap_or_default());
    }

    /// An App, and those that wait for it.
    fn concerned(&self, app: Key) -> Vec<Key> {
        let waiting: Vec<Key> = self.lock().of(&app).cloned().collect();
        std::iter::once(app).chain(waiting).collect()
    }

    /// Every App, with those that wait for it.
    pub(super) fn apps(&self) -> Watched {
        let waiting = self.clone();
        let map = move |object: &StoredObject, _: &Caches| waiting.concerned(object.key.clone());
        Watched { map: Box::new(map), ..Watched::primary(App::INFO) }
    }

    /// Every Instance: its App, with those that wait for it.
    pub(super) fn instances(&self) -> Watched {
        let waiting = self.clone();
        let controlled = Watched::controlled(Instance::INFO, App::INFO);
        let owner = controlled.map;
        let map = move |object: &StoredObject, caches: &Caches| {
            owner(object, caches).into_iter().flat_map(|app| waiting.concerned(app)).collect()
        };
        Watched { map: Box::new(map), ..controlled }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Dependents<Key, Key>> {
        self.0.lock().expect("no holder of the dependents panics")
    }
}

/// What an App waits for, in one sentence; empty if nothing.
pub(super) fn hold(app: &StoredObject, caches: &Caches) -> String {
    let Some(typed) = app.typed::<App>() else { return String::new() };
    unmet(&typed.spec.depends_on, |name| progress(&app.key.namespace, name, caches))
}

fn progress(namespace: &str, name: &str, caches: &Caches) -> Option<Progress> {
    let object = caches.kind::<App>().get(&Key::of::<App>(namespace, name))?;
    let app = object.typed::<App>().filter(|app| !app.metadata.is_deleting())?;
    let mut progress = Progress { wanted: usize::try_from(app.spec.replicas).unwrap_or(0), ..Progress::default() };
    let owned = |o: &Arc<StoredObject>| o.meta().controller().is_some_and(|owner| owner.uid == *app.uid());
    let instances = caches.kind::<Instance>().controlled_by(namespace, App::INFO.kind, name);
    for instance in instances.iter().filter(|o| owned(o)).filter_map(|o| o.typed::<Instance>()) {
        if instance.metadata.is_deleting() {
            continue;
        }
        let state = &instance.status.state;
        let ended = state.exited.as_ref().is_some_and(|e| [COMPLETED, STOPPED].contains(&e.reason.as_str()));
        progress.running += usize::from(state.running.is_some());
        progress.ready += usize::from(Condition::holds(&instance.status.conditions, "Ready"));
        progress.complete += usize::from(ended);
    }
    Some(progress)
}

/// Brings `hold` in step, in what is done to an Instance anyway and for those to which nothing else is done.
pub(super) fn apply(observed: &Observed, actions: &mut Vec<Action>) {
    let mut others: Vec<&Arc<Object<Instance>>> =
        observed.instances.iter().filter(|i| !i.metadata.is_deleting() && i.spec.hold != wanted(i, observed)).collect();
    let mut leave = |instance: &Object<Instance>| others.retain(|other| other.uid() != instance.uid());
    for action in actions.iter_mut() {
        match action {
            Action::CreateInstance { instance, .. } => instance.body.spec.hold.clone_from(&observed.hold),
            Action::UpdateInstance { instance, live, .. } => {
                leave(instance);
                live.hold_for(wanted(instance, observed));
            }
            Action::DeleteInstance { instance, .. } => leave(instance),
            _ => {}
        }
    }
    actions.extend(others.into_iter().map(|instance| {
        let mut live = super::Live::of(&instance.spec);
        live.hold_for(wanted(instance, observed));
        let because = "what it waits for has changed";
        Action::UpdateInstance {
            instance: instance.clone(),
            live: Box::new(live),
            labels: instance.metadata.labels.clone(),
            because,
        }
    }));
}

/// Only a first start waits: what runs, and what is restarted, goes on though others are in trouble.
fn wanted<'a>(instance: &Instance, observed: &'a Observed) -> &'a str {
    let state = &instance.status.state;
    let is_first = match (&state.waiting, &state.exited) {
        (Some(waiting), _) => ["Starting", NOT_READY, OUTSIDE].contains(&waiting.reason.as_str()),
        (None, Some(exited)) => [SUSPENDED, OUTSIDE].contains(&exited.reason.as_str()),
        (None, None) => state.running.is_none() && state.stopping.is_none(),
    };
    if is_first && instance.status.consecutive_restarts == 0 { &observed.hold } else { "" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tests::World, *};
    use crate::api::{Exited, InstanceState, Waiting as WaitingState};

    #[test]
    fn what_does_not_run_yet_is_held_and_what_runs_is_not() {
        let mut world = World::new(json!({"replicas": 2, "process": {"command": ["sleep", "1"]}}));
        world.observed.hold = "waits for app db to be Ready (0 of 1)".to_owned();
        world.pass();
        let held = |world: &World| world.observed.instances.iter().filter(|i| !i.spec.hold.is_empty()).count();
        assert_eq!(held(&world), 2, "from the first moment on");
        assert_eq!(world.shown(), [""; 0]);

        let hold = std::mem::take(&mut world.observed.hold);
        assert_eq!(
            world.shown(),
            [
                "update instance 36772c-0 because what it waits for has changed",
                "update instance 36772c-1 because what it waits for has changed"
            ]
        );
        world.settle();
        assert_eq!(held(&world), 0);

        // They run: whatever becomes of the other App now is no reason to wait, not even after a crash.
        world.observed.hold = hold;
        assert_eq!(world.shown(), [""; 0]);
        let waiting = |reason: &str| InstanceState {
            waiting: Some(WaitingState { reason: reason.to_owned(), ..WaitingState::default() }),
            ..InstanceState::default()
        };
        let exited = |reason: &str| InstanceState {
            exited: Some(Exited { reason: reason.to_owned(), message: String::new() }),
            ..InstanceState::default()
        };
        for (state, restarts, is_held) in [
            (waiting("BackOff"), 1, false),
            (waiting("Starting"), 1, false),
            (waiting("Starting"), 0, true),
            (waiting(NOT_READY), 0, true),
            (waiting(OUTSIDE), 0, true),
            (exited(SUSPENDED), 0, true),
            (exited(COMPLETED), 0, false),
            (exited("CrashLooping"), 3, false),
            (InstanceState::default(), 0, true),
        ] {
            let instance = world.instance(0);
            (instance.status.state, instance.status.consecutive_restarts) = (state.clone(), restarts);
            let instance = instance.clone();
            assert_eq!(!wanted(&instance, &world.observed).is_empty(), is_held, "{state:?}");
        }
    }
}
