//! A file of Docker Compose: each service becomes an App with a container.
//!
//! Variables (`${NAME:-default}`) come from the files that are named and from `.env` beside the file, never from the environment of whoever
//! imports. A file may go over another one, include others and extend their services ([`load`]). What a service means to others (networks, volumes, dependencies) is written so that it runs; what an engine must have beforehand is said.

mod interpolate;
mod life;
mod load;
mod merge;
mod mounts;
mod reach;
mod resources;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

use self::load::{Loader, Model, Origin};
use super::super::{
    files::Files,
    names::Names,
    report::{Fate, Outcome, Refusal, Report, Spot},
    tree::{Tree, entries, step},
};
use super::words::COMPOSE;

/// What the command line says beside the file.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Profiles that are on.
    pub profiles: Vec<String>,
    /// Files of variables, in place of `.env` beside the file.
    pub env_files: Vec<PathBuf>,
    /// The directory of the file, absolute.
    pub dir: PathBuf,
}

/// What all services share.
struct Project<'a> {
    asked: &'a Asked,
    files: &'a Files,
    name: String,
    /// Names of services and of the Apps that they become.
    apps: BTreeMap<String, String>,
    /// Volumes, networks, configs and secrets by name.
    top: Value,
    /// True if several services are in the project's own network.
    is_shared: bool,
}

impl Project<'_> {
    /// The engine's name of a network.
    fn network(&self, name: &str) -> String {
        let top = &self.top["networks"][name];
        match top["name"].as_str() {
            Some(name) => name.to_owned(),
            None if top["external"] == true => name.to_owned(),
            None => format!("{}_{name}", self.name),
        }
    }
}

/// Reads Compose files, each over those before it.
///
/// # Errors
/// Everything that cannot be read, variables that must be set, and services that depend on what is not there.
pub fn read(paths: &[PathBuf], asked: &Asked, files: &Files) -> Outcome<Value> {
    let mut report = Report::default();
    let mut loader = Loader::new(files, &mut report);
    let variables = loader.variables(&asked.env_files, &asked.dir)?;
    let Model { value, origins, start, broken } = match loader.all(paths, &asked.dir, &variables, &mut Vec::new()) {
        Ok(model) => model,
        Err(mut refusals) => {
            refusals.append(&mut loader.refusals);
            return Err(refusals);
        }
    };
    let mut refusals = std::mem::take(&mut loader.refusals);
    let start = start.unwrap_or_else(|| Spot::named(""));
    let count = entries(&value["services"]).count();
    super::too_many(count, "services", &start)?;
    if count == 0 {
        refusals.push(Refusal::new(&start, "there are no `services:`"));
    }
    let dir_name = asked.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = value["name"].as_str().map_or(dir_name, str::to_owned);
    let mut project = Project { asked, files, name, apps: BTreeMap::new(), top: value.clone(), is_shared: false };
    let mut names = Names::default();
    let wanted = wanted(&value, asked, &origins, &mut report);
    for service in &wanted {
        project.apps.insert(service.clone(), names.take(service, super::LONGEST_NAME));
    }
    let is_in_the_default = |service: &&String| {
        let body = &value["services"][service.as_str()];
        body["network_mode"].is_null() && body["networks"].is_null()
    };
    project.is_shared = wanted.iter().filter(is_in_the_default).count() > 1;
    if project.is_shared {
        let remark = format!(
            "have it there before the first start: `docker network create {}`; services find each other in it by their names",
            project.network("default")
        );
        report.note(&start, "networks.default", Fate::Approximated, &remark);
    }
    for service in wanted.iter().filter(|service| !broken.contains(*service)) {
        match service::app(service, &value["services"][service.as_str()], &origins[service], &project) {
            Ok(part) => report.parts.push(part),
            Err(more) => refusals.extend(more),
        }
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

/// The services that are on: those without profiles, those of the profiles that were asked for, and whatever these depend on.
fn wanted(value: &Value, asked: &Asked, origins: &BTreeMap<String, Origin>, report: &mut Report<Value>) -> Vec<String> {
    let services = &value["services"];
    let is_on = |service: &Value| {
        let profiles = super::super::tree::texts(&service["profiles"]);
        profiles.is_empty()
            || profiles.iter().any(|p| asked.profiles.contains(p))
            || asked.profiles.iter().any(|p| p == "*")
    };
    let mut on: BTreeSet<&String> = entries(services).filter(|(_, body)| is_on(body)).map(|(name, _)| name).collect();
    let mut todo: Vec<&String> = on.iter().copied().collect();
    while let Some(name) = todo.pop() {
        let needed = super::super::tree::texts(&services[name]["depends_on"]);
        let needed = needed.into_iter().chain(entries(&services[name]["depends_on"]).map(|(name, _)| name.clone()));
        for other in needed {
            if let Some((other, _)) = services.as_object().and_then(|all| all.get_key_value(&other))
                && on.insert(other)
            {
                todo.push(other);
            }
        }
    }
    for (name, _) in entries(services).filter(|(name, _)| !on.contains(name)) {
        let spot = origins[name].spot("");
        report.note(&spot, &format!("services.{name}"), Fate::Dropped, "its profiles are not on: `--profile`");
    }
    entries(services).filter(|(name, _)| on.contains(name)).map(|(name, _)| name.clone()).collect()
}

/// What one file says beside its services.
fn top_level(value: &Value, tree: &Tree, is_first: bool, report: &mut Report<Value>) {
    for (key, body) in entries(value) {
        let spot = tree.spot(key);
        match key.as_str() {
            "name" if !is_first => {
                report.note(&spot, key, Fate::Approximated, "the name of the file that includes it counts");
            }
            "services" | "version" | "name" => report.note(&spot, key, Fate::Carried, ""),
            // Each entry is told where it is followed.
            "include" => {}
            "volumes" | "configs" | "secrets" | "networks" => {
                for (name, body) in entries(body) {
                    of_the_engine(key, name, body, &tree.spot(&step(key, name)), report);
                }
            }
            _ if key.starts_with("x-") => report.note(&spot, key, Fate::Carried, ""),
            "models" => report.note(&spot, key, Fate::Dropped, "for Compose itself"),
            _ => report.note(&spot, key, Fate::Dropped, &COMPOSE.stranger("file", key)),
        }
    }
}

/// Volumes and networks are the engine's; configs and secrets are files.
fn of_the_engine(kind: &str, name: &str, body: &Value, spot: &Spot, report: &mut Report<Value>) {
    let setting = format!("{kind}.{name}");
    let is_plain = entries(body).all(|(key, _)| matches!(key.as_str(), "name" | "external" | "labels"));
    match kind {
        "volumes" if is_plain => report.note(spot, &setting, Fate::Carried, ""),
        "volumes" => {
            let remark =
                "an engine makes a volume without options; make it yourself (`docker volume create`) if it needs any";
            report.note(spot, &setting, Fate::Approximated, remark);
        }
        "networks" => {
            let remark = "make it yourself before the first start (`docker network create`)";
            report.note(spot, &setting, Fate::Approximated, remark);
        }
        _ => report.note(spot, &setting, Fate::Carried, ""),
    }
}
