//! An application in App Mesh's JSON, and the object here that says the same: one table ([`fields`]), read in both directions.
//!
//! What App Mesh runs all the time is an App; what it runs by time, with `start_interval_seconds`, is a Schedule; what its run API makes is
//! a Run. A client replaces an application as a whole, and knows less than an object can say. So a row of the table is written only if
//! the client says something else than the object did: what it sends back unchanged changes nothing, and what it cannot say stays.
//!
//! Pure: objects are JSON here, so that no default is written into one, and what a newer appm knows stays.

mod fields;
mod normal;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod types;
mod words;

use serde_json::{Map, Value, json};

use self::{
    fields::ROWS,
    normal::{RENAMED, Said},
};
use crate::api::{App, Kind, Run, Schedule};

/// Which of our kinds says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// It runs all the time.
    App,
    /// It runs by time.
    Schedule,
    /// It runs once.
    Run,
}

impl Of {
    /// Which kind says what a client says.
    pub(super) fn said(json: &Map<String, Value>) -> Self {
        let there = |name: &str| json.get(name).is_some_and(|value| !value.is_null() && *value != "" && *value != 0);
        let timed = ["start_interval_seconds", "interval", "cron_schedule"].into_iter().any(there);
        if timed { Self::Schedule } else { Self::App }
    }
}

/// An object as one that App Mesh's JSON speaks of.
pub(super) struct Definition {
    of: Of,
    object: Value,
}

impl Definition {
    /// What is there.
    pub(super) fn of(of: Of, object: Value) -> Self {
        Self { of, object }
    }

    /// Nothing yet, of this name.
    pub(super) fn new(of: Of, name: &str) -> Self {
        let info = match of {
            Of::App => App::INFO,
            Of::Schedule => Schedule::INFO,
            Of::Run => Run::INFO,
        };
        let metadata = json!({"name": name, "namespace": super::NAMESPACE});
        let object = json!({"apiVersion": info.api_version(), "kind": info.kind, "metadata": metadata, "spec": {}});
        Self { of, object }
    }

    /// False for a Schedule that App Mesh's JSON cannot speak of: its times are single ones, or it runs an App.
    pub(super) fn can_be_said(&self) -> bool {
        let spec = &self.object["spec"];
        let timed = !spec["cron"].is_null() || !spec["every"].is_null();
        self.of != Of::Schedule || (timed && spec["run"]["app"].is_null() && spec["run"].is_object())
    }

    /// The object.
    pub(super) fn into_object(self) -> Value {
        self.object
    }

    /// What it says in App Mesh's JSON, by the names of both generations.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let mut shown = self.said();
        for (old, new) in RENAMED {
            let is_cron = new == "interval" && shown.contains_key("cron");
            let new = if is_cron { "cron_schedule" } else { new };
            let Some(value) = shown.get(old) else { continue };
            let value = if old == "status" { json!(*value == 1) } else { value.clone() };
            shown.insert(new.to_owned(), value);
        }
        let control =
            shown.get("behavior").map(|behavior| behavior["control"].clone()).filter(|codes| !codes.is_null());
        if let (Some(codes), Some(behavior)) = (control, shown.get_mut("behavior")) {
            behavior["exit_code_actions"] = codes;
        }
        shown
    }

    /// The same, each thing once.
    fn said(&self) -> Said {
        let mut said = Said::new();
        ROWS.iter().for_each(|row| (row.read)(self, &mut said));
        said
    }

    /// The object as a client wants it. `is_new`: nobody has it yet, and everything is written.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub(super) fn update(&mut self, json: &Map<String, Value>, is_new: bool) -> Result<(), String> {
        let was = if is_new { Said::new() } else { self.said() };
        let said = normal::said(json, &was)?;
        for row in ROWS {
            let stays = row.names.iter().all(|name| was.get(*name) == said.get(*name));
            if is_new || !stays {
                (row.write)(self, &said)?;
            }
        }
        Ok(())
    }
}

/// Variables that nobody is to read, if a client gives some.
///
/// # Errors
/// A sentence for whoever wrote it.
pub(super) fn secrets(json: &Map<String, Value>) -> Result<Option<Map<String, Value>>, String> {
    let said = normal::said(json, &Said::new())?;
    Ok(said.get("sec_env").and_then(Value::as_object).cloned())
}

/// What may be expanded: `$(NAME)` in it stands for itself.
pub(super) fn escaped(text: &str) -> String {
    words::escaped(text)
}

/// A number of seconds, or a duration of ISO 8601.
///
/// # Errors
/// A sentence for whoever wrote it.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    words::seconds(text)
}
