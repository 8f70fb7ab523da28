//! A home of App Mesh: applications, users, roles, labels, workflows; or a single file of it.
//!
//! What the words mean is known to whoever serves App Mesh's clients; it is given here ([`Words`]), so that both say the same.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::{
    files::Files,
    report::{Fate, Note, Outcome, Part, Refusal, Report, Spot},
    tree::{Tree, entries, step},
};

/// A setting, and why it is not the same here.
pub type Remark = (String, String);
/// What one thing becomes: objects, what something close stands for, and what is left out.
pub type Made = (Vec<Value>, Vec<Remark>, Vec<Remark>);

/// What App Mesh's words mean.
#[derive(Clone, Copy)]
pub struct Words {
    /// An application.
    pub application: fn(&Map<String, Value>) -> Result<Made, String>,
    /// A role, by its name and permissions.
    pub role: fn(&str, &Value) -> Result<Made, String>,
    /// A user.
    pub user: fn(&str, &Value) -> Made,
}

/// Reads a home, or one file.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(path: &Path, words: Words, files: &Files) -> Outcome<Value> {
    let mut reader = Reader { words, files, report: Report::default(), refusals: Vec::new() };
    if files.is_dir(path) {
        reader.home(path);
    } else {
        reader.file(path);
    }
    let Reader { report, mut refusals, .. } = reader;
    if report.parts.is_empty() && report.notes.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(
            &Spot::new(path, 0),
            "there is nothing of App Mesh's in it: apps/, security/security.yaml, config.yaml",
        ));
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

struct Reader<'a> {
    words: Words,
    files: &'a Files,
    report: Report<Value>,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn home(&mut self, home: &Path) {
        // What was changed while it ran lies below `work`, and goes before what came with it.
        let first = |names: &[&str]| names.iter().map(|name| home.join(name)).find(|path| self.files.is_file(path));
        let security = first(&[
            "work/config/security.yaml",
            "work/security/security.yaml",
            "security/security.yaml",
            "security.yaml",
        ]);
        let config = first(&["work/config/config.yaml", "config.yaml"]);
        let mut apps: Vec<PathBuf> = Vec::new();
        let mut dirs = Vec::new();
        for dir in ["work/apps", "apps", "work/workflow"] {
            match self.files.list(&home.join(dir)) {
                Ok(found) => dirs.push((dir, found)),
                Err(why) => self.refusals.push(Refusal::new(&Spot::new(&home.join(dir), 0), why)),
            }
        }
        for (dir, found) in dirs {
            for path in found {
                if dir == "work/workflow" {
                    let file = path.join("workflow.yaml");
                    apps.extend(Some(file).filter(|file| self.files.is_file(file)));
                    continue;
                }
                let name = path.file_stem().map(ToOwned::to_owned);
                let is_known = apps.iter().any(|known| known.file_stem().map(ToOwned::to_owned) == name);
                let is_app = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
                if is_app && !is_known && self.files.is_file(&path) {
                    apps.push(path);
                }
            }
        }
        for path in security.into_iter().chain(config).chain(apps) {
            self.file(&path);
        }
    }

    /// One file, by what is in it.
    fn file(&mut self, path: &Path) {
        let trees = match Tree::all(path, self.files) {
            Ok(trees) => trees,
            Err(more) => return self.refusals.extend(more),
        };
        if let Err(more) = super::too_many(trees.len() + self.report.parts.len(), "objects", &Spot::new(path, 0)) {
            return self.refusals.extend(more);
        }
        for tree in trees {
            let value = tree.value();
            let has = |key: &str| value.get(key).is_some();
            if has("jobs") {
                self.workflow(&tree, &value, path);
            } else if has("Users") || has("Roles") {
                self.security(&tree, &value);
            } else if has("BaseConfig") || has("REST") || has("Labels") {
                self.config(&tree, &value);
            } else if has("name") {
                self.application(&tree, &value);
            } else {
                self.refusals.push(Refusal::new(
                    &tree.spot(""),
                    "no application (`name`), no workflow (`jobs`), no users and no settings of App Mesh",
                ));
            }
        }
    }

    fn application(&mut self, tree: &Tree, value: &Value) {
        let name = value["name"].as_str().unwrap_or_default();
        if name == "workflow" || name.starts_with("workflow-") {
            let remark = "App Mesh's workflow engine: appm runs Workflows itself";
            return self.report.note(&tree.spot("name"), name, Fate::Dropped, remark);
        }
        match value.as_object().map_or(Err("no mapping".to_owned()), |json| (self.words.application)(json)) {
            Ok(made) => {
                let settings: Vec<String> = entries(value).map(|(key, _)| key.clone()).collect();
                self.take(made, tree, "", &settings);
            }
            Err(why) => self.refusals.push(Refusal::new(&tree.spot("name"), format!("`{name}`: {why}"))),
        }
    }

    fn security(&mut self, tree: &Tree, value: &Value) {
        for (key, body) in entries(value) {
            match key.as_str() {
                "Roles" => {
                    for (name, permissions) in entries(body) {
                        match (self.words.role)(name, permissions) {
                            Ok(made) => self.take(made, tree, "Roles", std::slice::from_ref(name)),
                            Err(why) => self.refusals.push(Refusal::new(&tree.spot(&step("Roles", name)), why)),
                        }
                    }
                }
                "Users" => {
                    for (name, user) in entries(body) {
                        let settings: Vec<String> = entries(user).map(|(key, _)| format!("{name}.{key}")).collect();
                        let made = (self.words.user)(name, user);
                        self.take(made, tree, "Users", &settings);
                    }
                }
                _ => self.report.note(
                    &tree.spot(key),
                    key,
                    Fate::Dropped,
                    "secrets are sealed with the server's own keys",
                ),
            }
        }
    }

    fn config(&mut self, tree: &Tree, value: &Value) {
        for (key, body) in entries(value) {
            if key == "Labels" {
                for (name, label) in entries(body) {
                    let label = super::super::tree::text(label).unwrap_or_default();
                    let remark = format!("of a machine: `appm label node NODE {name}={label}`");
                    self.report.note(
                        &tree.spot(&step(key, name)),
                        &format!("Labels.{name}"),
                        Fate::Approximated,
                        &remark,
                    );
                }
                continue;
            }
            for (name, _) in entries(body) {
                let remark = "a server's settings are its flags and appm.yaml: docs/cli.md";
                self.report.note(&tree.spot(&step(key, name)), &format!("{key}.{name}"), Fate::Dropped, remark);
            }
        }
    }

    fn workflow(&mut self, tree: &Tree, value: &Value, path: &Path) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let said = value["name"].as_str().map_or(stem, str::to_owned);
        let name = super::super::names::label(&said, super::LONGEST_NAME);
        let mut body = value.as_object().cloned().unwrap_or_default();
        let mut notes = Vec::new();
        for key in body.keys() {
            let spot = tree.spot(key);
            notes.push(match key.as_str() {
                "owner" | "permission" => Note::new(&spot, key, Fate::Dropped, "its owner is who applies it"),
                "name" if name != said => Note::new(&spot, key, Fate::Approximated, &format!("it became `{name}`")),
                _ => Note::new(&spot, key, Fate::Carried, ""),
            });
        }
        body.retain(|key, _| !["name", "owner", "permission"].contains(&key.as_str()));
        let made = json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": name}, "spec": body});
        self.report.parts.push(Part { made, notes });
    }

    /// The notes go with the last object that was made.
    fn take(&mut self, (objects, near, gone): Made, tree: &Tree, at: &str, settings: &[String]) {
        let note = |(setting, remark): &Remark, fate| Note::new(&tree.spot(&join(at, setting)), setting, fate, remark);
        let told = |setting: &str| {
            near.iter().chain(&gone).any(|(told, _)| told.split('.').next() == Some(setting) || told == setting)
        };
        let carried = settings.iter().filter(|setting| !told(setting));
        let mut notes: Vec<Note> =
            carried.map(|setting| Note::new(&tree.spot(&join(at, setting)), setting, Fate::Carried, "")).collect();
        notes.extend(near.iter().map(|remark| note(remark, Fate::Approximated)));
        notes.extend(gone.iter().map(|remark| note(remark, Fate::Dropped)));
        let count = objects.len();
        if count == 0 {
            self.report.notes.append(&mut notes);
        }
        for (index, made) in objects.into_iter().enumerate() {
            let notes = if index + 1 == count { std::mem::take(&mut notes) } else { Vec::new() };
            self.report.parts.push(Part { made, notes });
        }
    }
}

fn join(at: &str, setting: &str) -> String {
    if at.is_empty() { setting.to_owned() } else { format!("{at}.{setting}") }
}
