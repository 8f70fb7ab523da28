//! Units of systemd: services become Apps, timers become Schedules of what their services run.
//!
//! ```text
//! UNIT…|DIR ── find: unit files, drop-ins, instances of templates ──► Unit { entries that count }
//!          service ──► App        timer + service ──► Schedule { run }        other types ──► said to be left out
//! ```

mod calendar;
mod confine;
mod environment;
mod exec;
mod find;
mod service;
mod start;
mod timer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value;

pub use self::calendar::{from_cron, to_cron};
use self::find::{Found, Unit};
use super::{
    super::{
        files::Files,
        ini::Entry,
        names::Names,
        report::{Fate, Outcome, Refusal, Report, Spot},
    },
    words::SYSTEMD,
};

/// Where systemd looks for units, the first one first.
pub const USUAL: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Reads units: files, directories of them, or names that are looked for in `search`.
///
/// # Errors
/// Everything that cannot be read or run.
pub fn read(units: &[PathBuf], search: &[PathBuf], files: &Files) -> Outcome<Value> {
    let mut report = Report::default();
    let Found { units, refusals } = find::all(units, search, files, &mut report);
    let mut refusals = refusals;
    let services: BTreeMap<&str, &Unit> =
        units.iter().filter(|unit| unit.kind == "service").map(|unit| (unit.name.as_str(), unit)).collect();
    let by_time: BTreeSet<String> = units.iter().filter(|unit| unit.kind == "timer").map(timer::starts).collect();
    let mut names = Names::default();
    // What units wait for is named by the names that Apps get.
    let mut apps = BTreeMap::new();
    let runs = |unit: &&&Unit| !by_time.contains(&unit.name) && unit.all("Service", "ExecStart").next().is_some();
    for unit in services.values().filter(runs) {
        let wanted = unit.name.trim_end_matches(".service").replace('@', "-");
        apps.insert(unit.name.clone(), names.take(&wanted, super::LONGEST_NAME));
    }
    for unit in &units {
        let made = match unit.kind.as_str() {
            "service" if by_time.contains(&unit.name) => continue,
            "service" if unit.all("Service", "ExecStart").next().is_none() => {
                report.note(&unit.spot, &unit.name, Fate::Dropped, "it has no `ExecStart`: there is nothing to run");
                // It may be misspelt.
                for entry in unit.entries.iter().filter(|entry| entry.section == "Service" && is_strange(entry)) {
                    let remark = SYSTEMD.stranger("Service", &entry.key);
                    report.note(&entry.spot, &entry.key, Fate::Dropped, &remark);
                }
                continue;
            }
            "service" => service::app(unit, &apps, &services, files).map(|draft| vec![draft.done()]),
            "timer" => timer::schedules(unit, &services, &mut names, files),
            kind => {
                report.note(&unit.spot, &unit.name, Fate::Dropped, other(kind));
                continue;
            }
        };
        match made {
            Ok(parts) => report.parts.extend(parts),
            Err(more) => refusals.extend(more),
        }
    }
    if report.parts.is_empty() && report.notes.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(&Spot::named("systemd"), "there is no service and no timer in what was named"));
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

/// True of a setting that is neither systemd's nor somebody's own.
fn is_strange(entry: &Entry) -> bool {
    !entry.key.starts_with("X-") && !SYSTEMD.knows(&entry.section, &entry.key)
}

/// Why a unit of another type is left out.
fn other(kind: &str) -> &'static str {
    match kind {
        "socket" => "sockets are not opened for processes; let it listen itself, and declare its `ports`",
        "path" => "nothing is started because a file changes",
        "target" => "there are no targets: an App runs when it is declared; `dependsOn` says which waits for which",
        "mount" | "automount" | "swap" | "device" => "of the machine, not of its processes",
        "slice" | "scope" => "limits are those of each App: `resources`",
        _ => "no type of unit that is known",
    }
}
