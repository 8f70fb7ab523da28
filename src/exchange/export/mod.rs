//! Writers of other engines' files, one for each. All take manifests and give a [`Report`] of files.

pub mod compose;
pub mod kubernetes;
pub mod procfile;
pub mod quadlet;
pub mod systemd;

mod container;
mod unit;

use serde_json::Value;

use super::{
    report::{Fate, Note, Part, Report, Spot},
    tree::entries,
};

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// One object that is being written, and what became of its settings.
struct Source<'a> {
    object: &'a Value,
    spec: &'a Value,
    name: &'a str,
    spot: Spot,
    notes: Vec<Note>,
}

impl<'a> Source<'a> {
    fn of(object: &'a Value) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap_or("app");
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        Self { object, spec: &object["spec"], name, spot: Spot::named(&format!("{kind}/{name}")), notes: Vec::new() }
    }

    fn carried(&mut self, field: &str) {
        self.notes.push(Note::new(&self.spot, field, Fate::Carried, ""));
    }

    fn nearly(&mut self, field: &str, remark: &str) {
        self.notes.push(Note::new(&self.spot, field, Fate::Approximated, remark));
    }

    fn dropped(&mut self, field: &str, remark: &str) {
        self.notes.push(Note::new(&self.spot, field, Fate::Dropped, remark));
    }

    fn description(&self) -> Option<&'a str> {
        self.object["metadata"]["annotations"]["kubernetes.io/description"].as_str()
    }

    /// Labels and annotations, where there is no place for them.
    fn no_metadata(&mut self) {
        for field in ["labels", "annotations"] {
            for (key, _) in entries(&self.object["metadata"][field]) {
                match key.as_str() {
                    "kubernetes.io/description" => self.carried("metadata.annotations"),
                    _ => self.dropped(&format!("metadata.{field}.{key}"), "there are no labels there"),
                }
            }
        }
    }
}

/// Objects of kinds that are not written.
fn left_out(objects: &[Value], written: &[&str], report: &mut Report<File>) {
    for object in objects {
        let source = Source::of(object);
        let kind = object["kind"].as_str().unwrap_or_default();
        if !written.contains(&kind) {
            report.note(&source.spot, kind, Fate::Dropped, "there is nothing like it there");
        }
    }
}

/// A text with a line for each of its own, without anything that would end it.
fn one_line(text: &str) -> String {
    super::report::harmless(text)
}

fn part(name: String, text: String, notes: Vec<Note>) -> Part<File> {
    Part { made: File { name, text }, notes }
}

/// `(NAME, value)` of variables whose value is known; what others come from is told.
fn variables(source: &mut Source<'_>, spec: &Value, secret: &str) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::new();
    for entry in spec["env"].as_array().into_iter().flatten() {
        let name = entry["name"].as_str().unwrap_or_default();
        let lookup = |wanted: &str| known.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        match entry["value"].as_str() {
            Some(value) => {
                let value = crate::policy::expand::expand(value, lookup);
                known.push((name.to_owned(), value));
            }
            None if entry["valueFrom"].is_object() => source.dropped(&format!("env.{name}"), secret),
            None => known.push((name.to_owned(), String::new())),
        }
    }
    if !known.is_empty() {
        source.carried("env");
    }
    for _ in spec["envFrom"].as_array().into_iter().flatten() {
        source.dropped("envFrom", secret);
    }
    known
}

/// Why fields of an App have no counterpart outside.
fn why_not(field: &str) -> &'static str {
    match field {
        "sharing" | "task" => "of appm's own users and tasks",
        "strategy" | "minReadySeconds" | "progressDeadlineSeconds" | "revisionHistoryLimit" | "paused" => {
            "there are no rollouts"
        }
        "logs" | "terminationMessagePolicy" => "output is kept as that engine does",
        "activeWindow" => "nothing is stopped by the time of the day",
        "nodeSelector" => "there is one machine",
        "files" => "no files are written before a start",
        "startupProbe" | "readinessProbe" | "livenessProbe" => "nothing is probed there",
        "lifecycle" => "there are no hooks of this kind",
        "suspend" => "what is written is meant to run",
        "dependsOn" => "nothing waits for another",
        _ => "there is nothing like it there",
    }
}
