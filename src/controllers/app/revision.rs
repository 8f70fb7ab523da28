//! Revisions: which template counts, which are kept, and which proved bad.
//!
//! The template of the spec is what is wanted, but for two cases in which the App is *held*: it is paused, or its template was
//! rolled back before. A held App keeps what it runs, and what is missing is made of the last revision that was fully available.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{Action, Observed, instance::restarted_at};
use crate::{
    api::{App, CHANGE_CAUSE, Object, ROLLED_BACK_AT, Revision},
    policy::template,
};

/// Why the template of the spec is not rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Its owner said so.
    Paused,
    /// It did not become available once, and was rolled back.
    RolledBack,
}

/// Which templates matter now.
pub(super) struct Target {
    /// The Revision of the spec's template, if it has one or gets one.
    pub(super) revision: Option<String>,
    /// The Revision that missing instances are made of.
    pub(super) base: Option<String>,
    /// Why nothing is exchanged, if so.
    pub(super) held: Option<Held>,
}

/// Finds the templates, and what must be done that the spec's one has a Revision with the highest number.
pub(super) fn target(app: &Object<App>, observed: &Observed) -> (Target, Vec<Action>) {
    let highest = observed.revisions.iter().map(|r| r.revision).max().unwrap_or(0);
    let revisions = observed.revisions.iter();
    let same = revisions.clone().filter(|r| template::same(&r.data, &observed.template)).max_by_key(|r| r.revision);
    // One that failed is not tried again with what it failed with; with other resources it is another one.
    let failed = |r: &Object<Revision>| r.metadata.annotations.get(ROLLED_BACK_AT).is_some();
    let fits = revisions.filter(|r| !failed(r) && template::fits(&r.data, &observed.template));
    let found = same.or_else(|| fits.max_by_key(|r| r.revision));
    let proven = last_good(app, observed);
    let held = held(app, found.map(AsRef::as_ref), proven.is_some());
    let name = |r: &Arc<Object<Revision>>| r.metadata.name.clone();
    if held.is_some() {
        let revision = found.map(name);
        let newest = || observed.revisions.iter().max_by_key(|r| r.revision).map(name);
        let base = proven.map(name).or_else(|| revision.clone()).or_else(newest);
        return (Target { revision, base, held }, Vec::new());
    }
    let (name, actions) = match found {
        Some(found) => {
            let number = if found.revision == highest { highest } else { highest + 1 };
            let cause = cause(app).filter(|cause| found.metadata.annotations.get(CHANGE_CAUSE) != Some(*cause));
            let resized = (!template::same(&found.data, &observed.template)).then(|| observed.template.clone());
            let actions = match (number != found.revision, cause, &resized) {
                (false, None, None) => Vec::new(),
                _ => vec![Action::UpdateRevision {
                    revision: found.clone(),
                    change: Change::Current { number, resized },
                }],
            };
            (name(found), actions)
        }
        None => {
            let taken: BTreeSet<&str> = observed.revisions.iter().map(|r| r.metadata.name.as_str()).collect();
            let named = |salt| format!("{}-{}", app.metadata.name, template::hash(&observed.template, salt));
            let name =
                (0..).map(named).find(|name| !taken.contains(name.as_str())).expect("some salt gives a new name");
            let data = observed.template.clone();
            let create = Action::CreateRevision { name: name.clone(), number: highest + 1, data };
            (name, vec![create])
        }
    };
    (Target { revision: Some(name.clone()), base: Some(name), held: None }, actions)
}

/// What is written into a Revision that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is the current one: this number, and the App's change cause.
    Current {
        /// The number.
        number: i64,
        /// The template whose resources it is given in place, if they are others.
        resized: Option<Value>,
    },
    /// It was rolled back at this time.
    RolledBack(Timestamp),
}

/// The words of whoever changed the App last.
pub(super) fn cause(app: &Object<App>) -> Option<&str> {
    app.metadata.annotations.get(CHANGE_CAUSE)
}

/// The last revision that was fully available, if its template is still known.
pub(super) fn last_good<'a>(app: &App, observed: &'a Observed) -> Option<&'a Arc<Object<Revision>>> {
    observed.revisions.iter().find(|r| r.metadata.name == app.status.current_revision)
}

fn held(app: &Object<App>, found: Option<&Object<Revision>>, proven: bool) -> Option<Held> {
    let failed = found.is_some_and(|r| {
        // Whoever asks for a restart after the rollback wants it to be tried again.
        let at = r.metadata.annotations.get(ROLLED_BACK_AT);
        let current = r.metadata.name == app.status.current_revision;
        let asked = restarted_at(app).parse::<Timestamp>().ok();
        let again = |at: &str| asked.zip(at.parse().ok()).is_some_and(|(asked, at)| asked > at);
        at.is_some_and(|at| !current && !again(at))
    });
    match failed && proven && app.spec.strategy.auto_rollback {
        _ if app.spec.paused => Some(Held::Paused),
        true => Some(Held::RolledBack),
        false => None,
    }
}

/// Old Revisions beyond `revisionHistoryLimit` that no Instance bears and nobody may need, oldest first.
pub(super) fn surplus(app: &Object<App>, observed: &Observed, target: &Target) -> Vec<Action> {
    let mut needed: BTreeSet<&str> = observed.instances.iter().map(|i| i.spec.revision.as_str()).collect();
    needed.extend([&target.revision, &target.base].into_iter().flatten().map(String::as_str));
    needed.insert(&app.status.current_revision);
    let is_old = |r: &&Arc<Object<Revision>>| !needed.contains(r.metadata.name.as_str());
    let mut old: Vec<_> = observed.revisions.iter().filter(is_old).cloned().collect();
    old.sort_by_key(|r| r.revision);
    let limit = app.spec.revision_history_limit.max(0) as usize;
    let surplus = old.len().saturating_sub(limit);
    old.into_iter().take(surplus).map(|revision| Action::DeleteRevision { revision }).collect()
}
