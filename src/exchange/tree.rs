//! A file of YAML or JSON whose values know where they stand.

use std::path::Path;

use serde_json::Value;

use super::{
    files::Files,
    report::{Refusal, Spot},
};
use crate::policy::manifest::{self, Aim, Document};

/// One document of a file.
pub(super) struct Tree {
    document: Document,
    file: Spot,
}

impl Tree {
    /// Every document of a file.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub(super) fn all(path: &Path, files: &Files) -> Result<Vec<Self>, Vec<Refusal>> {
        let file = Spot::new(path, 0);
        let text = files.read(path).map_err(|why| vec![Refusal::new(&file, why)])?;
        Self::of_text(&text, &file)
    }

    /// Every document of a text.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn of_text(text: &str, file: &Spot) -> Result<Vec<Self>, Vec<Refusal>> {
        let read = manifest::read_octal(text);
        if read.faults.is_empty() {
            return Ok(read.documents.into_iter().map(|document| Self { document, file: file.clone() }).collect());
        }
        let refusal = |fault: manifest::Fault| {
            let path = fault.path.to_string();
            let path = if path.is_empty() { path } else { format!("{path}: ") };
            Refusal::new(&file.at(fault.place.line), format!("{path}{}", fault.message))
        };
        Err(read.faults.into_iter().map(refusal).collect())
    }

    pub(super) fn value(&self) -> Value {
        self.document.value()
    }

    /// The line of a field.
    pub(super) fn spot(&self, path: &str) -> Spot {
        self.file.at(self.document.place(path, Aim::Key).line)
    }
}

/// The entries of a mapping; none of anything else.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A scalar as text.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A list of scalars, or a single one.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(text).collect(),
        other => text(other).into_iter().collect(),
    }
}

/// A step of a path: names with dots stand in brackets.
pub(super) fn step(path: &str, key: &str) -> String {
    let key = if key.contains(['.', '[', ']']) { format!("[{key}]") } else { key.to_owned() };
    match (path.is_empty(), key.starts_with('[')) {
        (true, _) => key,
        (false, true) => format!("{path}{key}"),
        (false, false) => format!("{path}.{key}"),
    }
}
