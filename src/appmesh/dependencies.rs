//! Whom an application waits for: by the names that App Mesh's clients know, and who of them is not there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{NAMESPACE, Sdk, find::Found, names};
use crate::{
    api::{APP_LABEL, App, Condition, Instance, Kind},
    policy::depends::{Progress, unmet_names},
};

/// Names of others in what a client says, as they are here. What is no name stays, to be refused with the rest.
pub(super) fn stored(said: &mut Map<String, Value>) {
    for name in said.get_mut("depends_on").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(stored) = name.as_str().and_then(|name| names::stored(name).ok()) {
            *name = json!(stored);
        }
    }
}

impl Sdk {
    /// Names of others as clients know them, and in `waiting_for` those who do not run, or are not well, at this moment.
    pub(super) fn show_dependencies(&self, found: &Found, shown: &mut Map<String, Value>) {
        let Some(app) = found.object.typed::<App>().filter(|app| !app.spec.depends_on.is_empty()) else { return };
        let said = |name: &str| {
            let other = self.admission.store().get(&found.of.key(name));
            json!(other.map_or_else(|| name.to_owned(), |other| names::shown(&other.value())))
        };
        let instances = self.admission.store().list(Instance::INFO, Some(NAMESPACE)).items;
        let mut of: BTreeMap<String, Progress> = BTreeMap::new();
        for instance in instances.iter().filter_map(|instance| instance.typed::<Instance>()) {
            let Some(app) = instance.metadata.labels.get(APP_LABEL) else { continue };
            let progress = of.entry(app.to_owned()).or_default();
            let state = &instance.status.state;
            let has_ended_well = instance.status.last_exit.as_ref().is_some_and(crate::api::Exit::is_success);
            progress.running += usize::from(state.running.is_some());
            progress.ready += usize::from(Condition::holds(&instance.status.conditions, "Ready"));
            progress.complete += usize::from(state.exited.is_some() && has_ended_well);
        }
        let look = |name: &str| {
            let other = self.admission.store().get(&found.of.key(name))?.typed::<App>()?;
            let wanted = usize::try_from(other.spec.replicas).unwrap_or(0);
            Some(Progress { wanted, ..of.get(name).copied().unwrap_or_default() })
        };
        let waiting: Vec<Value> = unmet_names(&app.spec.depends_on, look).map(said).collect();
        let all: Vec<Value> = app.spec.depends_on.iter().map(|on| said(&on.app)).collect();
        shown.insert("depends_on".to_owned(), json!(all));
        if !waiting.is_empty() {
            shown.insert("waiting_for".to_owned(), json!(waiting));
        }
    }
}
