//! A manifest while it is being made.

use serde_json::{Map, Value, json};

use super::report::{Fate, Note, Part, Spot};
use crate::policy::words::{self, CommandLine};

/// One object, and what became of the settings that went into it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    kind: &'static str,
    version: &'static str,
    pub(super) name: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) spec: Value,
    /// What stands beside the spec, of kinds that have none.
    pub(super) body: Map<String, Value>,
    pub(super) notes: Vec<Note>,
}

impl Draft {
    pub(super) fn new(kind: &'static str, name: &str) -> Self {
        let version = if matches!(kind, "ConfigMap" | "Secret" | "Namespace") { "v1" } else { "appm.dev/v1" };
        Self {
            kind,
            version,
            name: name.to_owned(),
            metadata: Map::new(),
            spec: json!({}),
            body: Map::new(),
            notes: Vec::new(),
        }
    }

    /// Writes a field, `restart.backoff.initial` say.
    pub(super) fn put(&mut self, path: &str, value: impl Into<Value>) {
        let mut here = &mut self.spec;
        for step in path.split('.') {
            here = &mut here[step];
        }
        *here = value.into();
    }

    /// What a field says.
    pub(super) fn get(&self, path: &str) -> &Value {
        path.split('.').fold(&self.spec, |here, step| &here[step])
    }

    /// Adds to a list.
    pub(super) fn push(&mut self, path: &str, value: Value) {
        let mut here = &mut self.spec;
        for step in path.split('.') {
            here = &mut here[step];
        }
        match here {
            Value::Array(list) => list.push(value),
            other => *other = json!([value]),
        }
    }

    /// A variable, in place of an earlier one of this name. `$(NAME)` in its value stands for itself.
    pub(super) fn env(&mut self, name: &str, value: &str) {
        self.env_raw(json!({"name": name, "value": literal(value)}));
    }

    /// An entry of `env` as it is.
    pub(super) fn env_raw(&mut self, entry: Value) {
        let same = |other: &&mut Value| other["name"] == entry["name"];
        match self.spec["env"].as_array_mut().and_then(|list| list.iter_mut().find(same)) {
            Some(there) => *there = entry,
            None => self.push("env", entry),
        }
    }

    pub(super) fn label(&mut self, key: &str, value: &str) {
        self.tag("labels", key, value);
    }

    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        self.tag("annotations", key, value);
    }

    fn tag(&mut self, field: &str, key: &str, value: &str) {
        let tags = self.metadata.entry(field).or_insert_with(|| json!({}));
        tags[key] = json!(value);
    }

    pub(super) fn carried(&mut self, spot: &Spot, setting: &str) {
        self.notes.push(Note::new(spot, setting, Fate::Carried, ""));
    }

    pub(super) fn nearly(&mut self, spot: &Spot, setting: &str, remark: &str) {
        self.notes.push(Note::new(spot, setting, Fate::Approximated, remark));
    }

    pub(super) fn dropped(&mut self, spot: &Spot, setting: &str, remark: &str) {
        self.notes.push(Note::new(spot, setting, Fate::Dropped, remark));
    }

    /// A field that is carried over as it is.
    pub(super) fn set(&mut self, spot: &Spot, setting: &str, path: &str, value: impl Into<Value>) {
        self.put(path, value);
        self.carried(spot, setting);
    }

    /// The manifest.
    pub(super) fn done(self) -> Part<Value> {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(self.name));
        metadata.extend(self.metadata);
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), json!(self.version));
        object.insert("kind".to_owned(), json!(self.kind));
        object.insert("metadata".to_owned(), Value::Object(metadata));
        object.extend(self.body);
        if self.version != "v1" {
            object.insert("spec".to_owned(), self.spec);
        }
        Part { made: Value::Object(object), notes: self.notes }
    }
}

/// A text in which nothing is expanded: dollar signs count in pairs, and before a parenthesis all of them.
pub(super) fn literal(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = rest[at..].trim_start_matches('$');
        let run = rest.len() - at - tail.len();
        let alone = if tail.starts_with('(') { 0 } else { run % 2 };
        out.push_str(&"$".repeat(2 * run - alone));
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The words of a command that a shell would be given: itself where it is plain, else for a shell.
///
/// # Errors
/// When a quote is not closed, or there is nothing to run.
pub(super) fn command(text: &str) -> Result<Vec<String>, String> {
    // `$(NAME)` of a shell runs a command.
    let shell = || vec!["/bin/sh".to_owned(), "-c".to_owned(), literal(text)];
    match words::split(text)? {
        CommandLine::Words(_) if text.contains("$(") => Ok(shell()),
        CommandLine::Words(words) => Ok(words.iter().map(|word| literal(word)).collect()),
        CommandLine::Script(_) => Ok(shell()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::expand::expand;

    #[test]
    fn what_is_literal_is_itself_when_it_is_expanded() {
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = texts.iter().flat_map(|text| ["$", "(", ")", "A"].map(|more| format!("{text}{more}")));
            texts = longer.chain([String::new()]).collect();
            for text in &texts {
                assert_eq!(expand(&literal(text), |_| Some("no")), *text, "{}", literal(text));
            }
        }
    }
}
