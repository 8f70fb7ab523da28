//! What runs beside a job: Apps of the run's own, from before its first step until after its last.
//!
//! They are made in the transaction that begins the job, under names that are a function of run and job, and the first step waits until
//! all are ready. Each pass suspends those that no job has any more that goes on; so whatever ended the job, and whoever was
//! killed meanwhile, they end with it. What they printed can be read as long as the run is there, whose dependents they are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Action,
    make::{self, Making},
    names,
    pass::{Cell, Pass},
    scope::{Here, In, NOTHING_YET},
};
use crate::api::{App, Condition, ConditionStatus, JobService, JobServiceStatus, JobStatus, Object, Port, WorkState};

/// Seconds between the stop signal and SIGKILL.
const GRACE: i64 = 10;
/// Restarts in a row after which one counts as broken: some three seconds.
const RESTARTS: i32 = 5;
/// Seconds without coming nearer to being ready after which it counts as broken.
const PATIENCE: i32 = 300;
/// Reasons of `Ready: False` that do not pass by themselves.
const BROKEN: &[&str] = &["CrashLooping", "Completed", "Failed", "Lost", "Stopped"];

impl Pass<'_> {
    /// Whether what runs beside the job is ready; what is not there yet is made.
    ///
    /// # Errors
    /// If it never will be.
    pub(super) fn serve(&mut self, of: Cell<'_>, cell: &mut JobStatus) -> Result<bool, String> {
        let mut all = true;
        for (name, said) in &of.job.services {
            let fault = |why: String| format!("service `{name}`: {why}");
            match cell.services.get_mut(name) {
                Some(service) if service.ready => {}
                Some(service) => {
                    let app = self.observed.services.get(&service.app);
                    let app = app.ok_or_else(|| fault("its app was deleted".to_owned()))?;
                    all &= look(app, service).map_err(fault)?;
                }
                None => {
                    all = false;
                    if !self.has_room() {
                        continue;
                    }
                    let app = names::child(self.run, of.name, &format!("service-{name}"), 0);
                    if let Some(why) = self.observed.refused.get(&app) {
                        return Err(fault(why.clone()));
                    }
                    let spec = self.service(of, cell, said).map_err(fault)?;
                    let object = make::object::<App>(self.run, of.key, None, &app, spec);
                    self.actions.push(Action::Start { object: Box::new(object) });
                    cell.services.insert(name.clone(), JobServiceStatus { app, ..JobServiceStatus::default() });
                }
            }
        }
        Ok(all)
    }

    fn service(&self, of: Cell<'_>, cell: &JobStatus, said: &JobService) -> Result<Value, String> {
        let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
        let env = make::environment(self, of, cell)?.texts();
        let here = Here { job: Some(In { env: Some(&env), ..place }), told: NOTHING_YET, ..self.here() };
        let variables = said.env.iter().map(|(name, text)| {
            let text = here.text(text.as_str()).map_err(|why| format!("env `{name}`: {why}"))?;
            Ok(json!({"name": name, "value": make::escaped(&text)}))
        });
        let mut spec = json!({
            "env": variables.collect::<Result<Vec<_>, String>>()?,
            "terminationGracePeriodSeconds": GRACE,
            "restart": {"maxRestarts": RESTARTS, "backoff": {"initial": "100ms", "max": "2s"}},
            "progressDeadlineSeconds": PATIENCE,
            "revisionHistoryLimit": 0,
        });
        let mut ports = said.ports.clone();
        match (&said.process, &said.image) {
            (Some(process), _) => spec["process"] = json!(process),
            (None, image) => {
                let image = image.as_deref().map(|image| here.text(image)).transpose();
                spec["container"] = json!({"image": image.map_err(|why| format!("image: {why}"))?});
                // Whoever does not say where it is reached is given a free port.
                ports.iter_mut().for_each(|port| port.host_port = port.host_port.or(Some(0)));
            }
        }
        if !ports.is_empty() {
            spec["ports"] = json!(ports);
        }
        if let Some(probe) = &said.readiness_probe {
            spec["readinessProbe"] = json!(probe);
        }
        let selector = make::selector(&here, &of).map_err(|why| format!("runs-on: {why}"))?;
        if !selector.is_empty() {
            spec["nodeSelector"] = json!(selector);
        }
        Ok(spec)
    }

    /// Stops what no job has any more.
    pub(super) fn clear_services(&mut self) {
        let going = self.status.jobs.values().filter(|cell| cell.state == WorkState::Running);
        let wanted: BTreeSet<&str> =
            going.flat_map(|cell| cell.services.values()).map(|service| service.app.as_str()).collect();
        let left = self.observed.services.values();
        let goes = |app: &Object<App>| !app.metadata.is_deleting() && !app.spec.suspend;
        let left = left.filter(|app| goes(app) && !wanted.contains(app.metadata.name.as_str()));
        self.actions.extend(left.cloned().map(Action::StopService));
    }
}

/// Whether it is ready; and if so, where it is reached.
fn look(app: &Object<App>, service: &mut JobServiceStatus) -> Result<bool, String> {
    let status = &app.status;
    let condition = |kind: &str| Condition::find(&status.conditions, kind);
    if status.observed_generation < app.metadata.generation {
        return Ok(false);
    }
    let Some(ready) = condition("Ready") else { return Ok(false) };
    if ready.status == ConditionStatus::True {
        let Some(endpoint) = status.endpoints.iter().find(|endpoint| endpoint.ready) else {
            service.ready = app.spec.ports.is_empty();
            return Ok(service.ready);
        };
        service.host.clone_from(&endpoint.address);
        let numbers: BTreeMap<&str, u16> = endpoint.ports.iter().map(|port| (port.name.as_str(), port.port)).collect();
        service.ports = app.spec.ports.iter().flat_map(|port| reached(port, &numbers)).collect();
        service.ready = true;
        return Ok(true);
    }
    let late = condition("Progressing").is_some_and(|c| c.reason == "ProgressDeadlineExceeded");
    match late || BROKEN.contains(&ready.reason.as_str()) {
        true => Err(format!("{}: {}", ready.reason, ready.message)),
        false => Ok(false),
    }
}

/// The number of a port, under its name, and as GitHub has it under the number that the service itself knows.
fn reached(port: &Port, numbers: &BTreeMap<&str, u16>) -> Vec<(String, u16)> {
    let Some(number) = numbers.get(port.name.as_str()) else { return Vec::new() };
    let own = (port.container_port > 0).then(|| (port.container_port.to_string(), *number));
    own.into_iter().chain([(port.name.clone(), *number)]).collect()
}

/// Where the services of a job are reached, as variables in Kubernetes' words: `DB_SERVICE_HOST`, `DB_SERVICE_PORT`, `DB_SERVICE_PORT_SQL`.
pub(super) fn variables(making: &Making<'_>) -> Vec<(String, String)> {
    let word = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let mut variables = Vec::new();
    for (name, said) in &making.of.job.services {
        let Some(service) = making.cell.services.get(name).filter(|service| service.ready) else { continue };
        let name = word(name);
        variables.push((format!("{name}_SERVICE_HOST"), service.host.clone()));
        for (at, port) in said.ports.iter().enumerate() {
            let Some(number) = service.ports.get(&port.name) else { continue };
            if at == 0 {
                variables.push((format!("{name}_SERVICE_PORT"), number.to_string()));
            }
            variables.push((format!("{name}_SERVICE_PORT_{}", word(&port.name)), number.to_string()));
        }
    }
    variables
}
