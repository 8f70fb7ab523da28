//! What a name of App Mesh's stands for: an App, a Schedule or a Run, with what runs of it.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{
    NAMESPACE, Sdk,
    definition::{Definition, Of},
    names,
};
use crate::{
    admission::Caller,
    api::{
        APP_LABEL, App, Instance, Key, Kind, KindInfo, Object, RUN_LABEL, Reason, Run, SCHEDULE_LABEL, Schedule,
        Status, StoredObject,
    },
    client::Query,
};

/// The label of Runs that were made by App Mesh's run API: they are applications there while they are kept.
pub(super) const MADE_HERE: &str = "appm.dev/app-mesh-run";

/// An application.
pub(super) struct Found {
    /// Which kind it is of.
    pub of: Of,
    /// The object.
    pub object: Arc<StoredObject>,
    /// Of a Schedule its last Run.
    pub run: Option<Arc<Object<Run>>>,
    /// What runs of it, or ran last.
    pub instance: Option<Arc<Object<Instance>>>,
    /// How many starts there were, as far as is known.
    pub starts: u32,
}

impl Sdk {
    /// What a name stands for, for whoever may read it.
    pub(super) fn find(&self, caller: &Caller, name: &str) -> Result<Found, Status> {
        let name = names::stored(name)?;
        let mut refused = None;
        for of in [Of::App, Of::Schedule, Of::Run] {
            match self.admission.get(caller, of.info().stored_form(), &of.key(&name)) {
                Ok(object) if is_shown(of, &object) => return Ok(self.with_what_runs(of, object)),
                Ok(_) => {}
                Err(status) if status.is(Reason::NotFound) => {}
                // Whether there is one is not told to whoever may not know.
                Err(status) => refused = refused.or(Some(status)),
            }
        }
        Err(refused.unwrap_or_else(|| Status::not_found(&Of::App.key(&name))))
    }

    /// All that a caller sees, sorted by kind and name.
    pub(super) fn all(&self, caller: &Caller) -> Result<Vec<Found>, Status> {
        let query = Query { namespace: Some(NAMESPACE.to_owned()), ..Query::default() };
        let listed = |of: Of| match self.admission.list(caller, of.info().stored_form(), &query) {
            Err(status) if status.is(Reason::Forbidden) && of != Of::App => Ok(Vec::new()),
            listed => Ok::<_, Status>(listed?.items),
        };
        let (apps, schedules, runs) = (listed(Of::App)?, listed(Of::Schedule)?, listed(Of::Run)?);
        let mut of_apps: HashMap<&str, Vec<Arc<StoredObject>>> = HashMap::new();
        let instances = self.admission.store().list(Instance::INFO, Some(NAMESPACE)).items;
        for instance in &instances {
            if let Some(app) = instance.meta().labels.get(APP_LABEL) {
                of_apps.entry(app).or_default().push(instance.clone());
            }
        }
        let mut of_schedules: HashMap<String, Vec<Arc<StoredObject>>> = HashMap::new();
        for run in &runs {
            if let Some(schedule) = run.meta().labels.get(SCHEDULE_LABEL) {
                of_schedules.entry(schedule.to_owned()).or_default().push(run.clone());
            }
        }
        let mut found = Vec::with_capacity(apps.len());
        for app in apps {
            let own = of_apps.remove(&*app.key.name).unwrap_or_default();
            found.push(of_app(app, &own));
        }
        for schedule in schedules.into_iter().filter(|schedule| is_shown(Of::Schedule, schedule)) {
            let own = of_schedules.remove(&*schedule.key.name).unwrap_or_default();
            found.push(self.of_schedule(schedule, &own));
        }
        let made_here = runs.into_iter().filter(|run| is_shown(Of::Run, run));
        found.extend(made_here.map(|run| self.of_run(run)));
        Ok(found)
    }

    fn with_what_runs(&self, of: Of, object: Arc<StoredObject>) -> Found {
        match of {
            Of::App => {
                let own = self.owned(&object, Instance::INFO, APP_LABEL);
                of_app(object, &own)
            }
            Of::Schedule => {
                let own = self.owned(&object, Run::INFO, SCHEDULE_LABEL);
                self.of_schedule(object, &own)
            }
            Of::Run => self.of_run(object),
        }
    }

    /// What belongs to an object and says so by a label.
    fn owned(&self, object: &StoredObject, kind: &KindInfo, label: &str) -> Vec<Arc<StoredObject>> {
        let store = self.admission.store();
        let Some(uid) = &object.meta().uid else { return Vec::new() };
        let own = store.dependents(uid).into_iter().filter(|key| key.kind == kind);
        let own = own.filter_map(|key| store.get(&key));
        own.filter(|own| own.meta().labels.get(label) == Some(&*object.key.name)).collect()
    }

    fn of_schedule(&self, object: Arc<StoredObject>, runs: &[Arc<StoredObject>]) -> Found {
        let last = runs.iter().max_by_key(|run| (run.meta().creation_timestamp, run.key.name.clone()));
        let run = last.and_then(|run| run.typed::<Run>());
        let instance = run.as_ref().and_then(|run| self.instance_of(run));
        Found { of: Of::Schedule, object, run, instance, starts: u32::try_from(runs.len()).unwrap_or(u32::MAX) }
    }

    fn of_run(&self, object: Arc<StoredObject>) -> Found {
        let run = object.typed::<Run>();
        let instance = run.as_ref().and_then(|run| self.instance_of(run));
        let starts = run.as_ref().map_or(0, |run| run.status.attempts);
        Found { of: Of::Run, object, run, instance, starts }
    }

    fn instance_of(&self, run: &Object<Run>) -> Option<Arc<Object<Instance>>> {
        let key = Key::of::<Instance>(NAMESPACE, &run.status.instance);
        let found = self.admission.store().get(&key)?;
        (found.meta().labels.get(RUN_LABEL) == Some(run.metadata.name.as_str())).then(|| found.typed()).flatten()
    }
}

pub(super) fn is_shown(of: Of, object: &StoredObject) -> bool {
    match of {
        Of::App => true,
        Of::Schedule => Definition::of(of, object.value()).can_be_said(),
        Of::Run => object.meta().labels.get(MADE_HERE).is_some(),
    }
}

/// Of several instances the one that runs, and of those the first.
fn of_app(object: Arc<StoredObject>, instances: &[Arc<StoredObject>]) -> Found {
    let typed = instances.iter().filter_map(|instance| instance.typed::<Instance>());
    let instance = typed.min_by_key(|instance| {
        let runs = instance.status.state.running.is_some();
        let newest = std::cmp::Reverse(instance.metadata.creation_timestamp);
        (!runs, newest, instance.metadata.name.clone())
    });
    let starts = instance.as_ref().map_or(0, |instance| instance.status.attempt);
    Found { of: Of::App, object, run: None, instance, starts }
}

impl Of {
    pub(super) fn info(self) -> &'static crate::api::KindInfo {
        match self {
            Of::App => App::INFO,
            Of::Schedule => Schedule::INFO,
            Of::Run => Run::INFO,
        }
    }

    pub(super) fn key(self, name: &str) -> Key {
        Key::new(self.info(), NAMESPACE, name)
    }
}

impl Found {
    /// What App Mesh calls it.
    pub(super) fn name(&self) -> String {
        names::shown(&self.object.value())
    }

    /// The object as JSON.
    pub(super) fn value(&self) -> Value {
        self.object.value()
    }
}
