//! A file of Docker Compose: each service becomes an App with a container.
//!
//! Variables (`${NAME:-default}`) come from the files that are named and from `.env` beside the file, never from the environment of whoever
//! imports. What a service means to others (networks, volumes, dependencies) is written so that it runs; what an engine must have beforehand is said.

mod interpolate;
mod life;
mod mounts;
mod reach;
mod resources;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::super::{
    env_file,
    files::Files,
    names::Names,
    report::{Fate, Note, Outcome, Refusal, Report, Spot},
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
    tree: &'a Tree,
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

/// Reads a Compose file.
///
/// # Errors
/// Everything that cannot be read, variables that must be set, and services that depend on what is not there.
pub fn read(path: &Path, asked: &Asked, files: &Files) -> Outcome<Value> {
    let mut report = Report::default();
    let trees = Tree::all(path, files)?;
    let [tree] = &trees[..] else {
        return Err(vec![Refusal::new(&Spot::new(path, 0), "a Compose file is one mapping with `services:`")]);
    };
    let variables = variables(asked, files, &mut report)?;
    let mut value = tree.value();
    let count = entries(&value["services"]).count();
    super::too_many(count, "services", &tree.spot("services"))?;
    interpolate::all(&mut value, tree, &variables, &mut report)?;
    let mut refusals = Vec::new();
    if count == 0 {
        refusals.push(Refusal::new(&tree.spot("services"), "there are no `services:`"));
    }
    let dir_name = asked.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = value["name"].as_str().map_or(dir_name, str::to_owned);
    let mut project = Project { asked, files, tree, name, apps: BTreeMap::new(), top: value.clone(), is_shared: false };
    top_level(&value, tree, &mut report, &mut refusals);
    let mut names = Names::default();
    let wanted = wanted(&value, asked, tree, &mut report);
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
        report.note(&tree.spot("services"), "networks.default", Fate::Approximated, &remark);
    }
    for service in &wanted {
        match extended(service, &value, tree) {
            Ok(body) => match service::app(service, &body, &project) {
                Ok(mut part) => {
                    if !value["services"][service.as_str()]["extends"].is_null() {
                        let spot = tree.spot(&step(&step("services", service), "extends"));
                        part.notes.push(Note::new(&spot, "extends", Fate::Carried, ""));
                    }
                    report.parts.push(part);
                }
                Err(more) => refusals.extend(more),
            },
            Err(refusal) => refusals.push(refusal),
        }
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

fn variables(
    asked: &Asked,
    files: &Files,
    report: &mut Report<Value>,
) -> Result<BTreeMap<String, String>, Vec<Refusal>> {
    let beside = asked.dir.join(".env");
    let usual = if files.is_file(&beside) { vec![beside] } else { Vec::new() };
    let mut all = BTreeMap::new();
    for path in if asked.env_files.is_empty() { &usual } else { &asked.env_files } {
        for variable in env_file::read(&super::text(path, files)?, &Spot::new(path, 0))? {
            report.note(&variable.spot, &variable.name, Fate::Carried, "");
            all.insert(variable.name, variable.value);
        }
    }
    Ok(all)
}

/// The services that are on: those without profiles, those of the profiles that were asked for, and whatever these depend on.
fn wanted(value: &Value, asked: &Asked, tree: &Tree, report: &mut Report<Value>) -> Vec<String> {
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
        let spot = tree.spot(&step("services", name));
        report.note(&spot, &format!("services.{name}"), Fate::Dropped, "its profiles are not on: `--profile`");
    }
    entries(services).filter(|(name, _)| on.contains(name)).map(|(name, _)| name.clone()).collect()
}

fn top_level(value: &Value, tree: &Tree, report: &mut Report<Value>, refusals: &mut Vec<Refusal>) {
    for (key, body) in entries(value) {
        let spot = tree.spot(key);
        match key.as_str() {
            "services" | "version" | "name" => report.note(&spot, key, Fate::Carried, ""),
            "include" => refusals
                .push(Refusal::new(&spot, "`include` is not followed: give `docker compose config` as the file")),
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

/// A service with what it `extends` in the same file.
fn extended(name: &str, value: &Value, tree: &Tree) -> Result<Value, Refusal> {
    let mut chain = vec![name.to_owned()];
    let mut body = value["services"][name].clone();
    loop {
        let extends = body["extends"].clone();
        let spot = tree.spot(&step(&step("services", chain.last().expect("one is there")), "extends"));
        let Some(base) = extends.as_str().or(extends["service"].as_str()) else { break };
        if extends["file"].is_string() {
            return Err(Refusal::new(
                &spot,
                "`extends` of another file is not followed: give `docker compose config` as the file",
            ));
        }
        if chain.iter().any(|seen| seen == base) {
            return Err(Refusal::new(&spot, format!("`extends` goes in a circle: {} → {base}", chain.join(" → "))));
        }
        let Some(base_body) = value["services"].get(base) else {
            return Err(Refusal::new(&spot, format!("it extends `{base}`, which is no service of this file")));
        };
        chain.push(base.to_owned());
        body.as_object_mut().map(|map| map.shift_remove("extends"));
        body = merged(base_body, &body);
    }
    Ok(body)
}

/// Mappings come together, lists follow one another, anything else is the second's.
fn merged(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            let mut all = base.clone();
            for (key, value) in over {
                let replaced = matches!(key.as_str(), "command" | "entrypoint" | "test");
                let value = match all.get(key).filter(|_| !replaced) {
                    Some(there) => merged(there, value),
                    None => value.clone(),
                };
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        (Value::Array(base), Value::Array(over)) => Value::Array(base.iter().chain(over).cloned().collect()),
        (base, Value::Null) => base.clone(),
        (_, over) => over.clone(),
    }
}
