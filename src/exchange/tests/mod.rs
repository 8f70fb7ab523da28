//! Files of other programs, and what is made of them.

mod compose;
mod crontab;
mod export;
mod hostile;
mod kubernetes;
mod pm2;
mod reference;
mod round;
mod supervisor;
mod systemd;

use serde_json::Value;

use super::{
    files::Files,
    report::{Fate, Outcome, Report},
};

/// Files in memory.
fn files(all: &[(&str, &str)]) -> Files {
    let mut files = Files::none();
    all.iter().for_each(|(path, text)| files.give(*path, *text));
    files
}

/// The manifest of this name.
fn made<'a>(report: &'a Report<Value>, name: &str) -> &'a Value {
    let named = |part: &&super::report::Part<Value>| part.made["metadata"]["name"] == name;
    &report.parts.iter().find(named).unwrap_or_else(|| panic!("no {name} in {report:#?}")).made
}

/// Settings with this fate.
fn with_fate(report: &Report<Value>, fate: Fate) -> Vec<String> {
    report.all().filter(|note| note.fate == fate).map(|note| format!("{} {}", note.spot, note.setting)).collect()
}

fn refusals(outcome: Outcome<Value>) -> Vec<String> {
    outcome.expect_err("refused").iter().map(ToString::to_string).collect()
}

/// Every manifest would be taken by a server.
fn assert_valid(report: &Report<Value>) {
    assert_eq!(violations(report), None);
}

/// What a server would not take.
fn violations(report: &Report<Value>) -> Option<String> {
    report.parts.iter().find_map(|part| {
        let word = |field: &str| part.made[field].as_str().unwrap_or_default();
        let served = crate::api::kinds::find_served(word("apiVersion"), word("kind")).expect("a kind that is served");
        let violations: Vec<String> = (served.kind.check)(&part.made, None).iter().map(|v| format!("{v:?}")).collect();
        (!violations.is_empty()).then(|| format!("{violations:?} of {}", part.made))
    })
}
