//! A timer: a Schedule of what its service runs, one for each of its calendar events.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::Draft,
        files::Files,
        names::Names,
        quantity,
        report::{Part, Refusal, brief},
    },
    super::words::SYSTEMD,
    calendar,
    find::Unit,
    service,
};
use crate::api::LONGEST_SCHEDULE_NAME;

/// The unit that a timer starts.
pub(super) fn starts(unit: &Unit) -> String {
    unit.value("Timer", "Unit").map_or_else(|| format!("{}.service", unit.stem()), str::to_owned)
}

/// The Schedules of a timer.
pub(super) fn schedules(
    unit: &Unit,
    services: &BTreeMap<&str, &Unit>,
    names: &mut Names,
    files: &Files,
) -> Result<Vec<Part<Value>>, Vec<Refusal>> {
    let service = starts(unit);
    let Some(started) = services.get(service.as_str()) else {
        let message = format!(
            "it starts `{service}`, which is not among the units and lies beside none of them: name its file, too"
        );
        return Err(vec![Refusal::new(&unit.spot, message)]);
    };
    let run = service::run(started, files)?;
    let mut whens = Vec::new();
    let mut refusals = Vec::new();
    for entry in unit.all("Timer", "OnCalendar") {
        match calendar::to_cron(&entry.value) {
            Ok((cron, zone)) => whens.push((entry, json!(cron), "cron", zone)),
            Err(why) => refusals.push(Refusal::new(&entry.spot, format!("OnCalendar: {why}"))),
        }
    }
    for key in ["OnUnitActiveSec", "OnUnitInactiveSec"] {
        for entry in unit.all("Timer", key) {
            match quantity::span(&entry.value).map(quantity::seconds).filter(|seconds| *seconds > 0) {
                Some(seconds) => {
                    whens.push((entry, json!({"interval": quantity::go(seconds * 1000)}), "every", None));
                }
                None => refusals
                    .push(Refusal::new(&entry.spot, format!("{key}: `{}` is no time span", brief(&entry.value)))),
            }
        }
    }
    if whens.is_empty() && refusals.is_empty() {
        let message = "it has no `OnCalendar` and no `OnUnitActiveSec`: a moment after the start of the machine is no time of a Schedule";
        refusals.push(Refusal::new(&unit.spot, message));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut parts = Vec::new();
    for (at, (entry, when, field, zone)) in whens.into_iter().enumerate() {
        let wanted = unit.stem().replace('@', "-");
        let mut draft = Draft::new("Schedule", &names.take(&wanted, LONGEST_SCHEDULE_NAME - 2));
        draft.put(field, when);
        if entry.key == "OnCalendar" {
            draft.carried(&entry.spot, &entry.key);
        } else {
            draft.nearly(
                &entry.spot,
                &entry.key,
                "a fixed grid of times; systemd counts from the unit's last start or end",
            );
        }
        if let Some(zone) = zone {
            draft.put("timeZone", zone);
        }
        // systemd starts no unit that runs.
        draft.put("concurrencyPolicy", "Forbid");
        if unit.value("Timer", "Persistent").is_none_or(|value| !service::is_true(value)) {
            draft.put("startingDeadlineSeconds", 60);
        }
        draft.put("run", run.spec.clone());
        if at == 0 {
            draft.notes.extend(run.notes.iter().cloned());
            rest(unit, &mut draft);
        }
        if let Some(jitter) = unit.value("Timer", "RandomizedDelaySec").and_then(quantity::span).filter(|ms| *ms > 0) {
            draft.put("jitter", quantity::go(quantity::seconds(jitter) * 1000));
        }
        parts.push(draft.done());
    }
    Ok(parts)
}

/// What else the timer says.
fn rest(unit: &Unit, draft: &mut Draft) {
    for entry in &unit.entries {
        let (spot, key) = (&entry.spot, entry.key.as_str());
        match (entry.section.as_str(), key) {
            ("Timer", "OnCalendar" | "OnUnitActiveSec" | "OnUnitInactiveSec") => {}
            ("Timer", "Unit" | "Persistent" | "AccuracySec" | "FixedRandomDelay") => draft.carried(spot, key),
            ("Timer", "RandomizedDelaySec") => {
                draft.nearly(
                    spot,
                    key,
                    "a Schedule's `jitter` is always the same for it, as with FixedRandomDelay=true",
                );
            }
            ("Timer", "OnBootSec" | "OnStartupSec" | "OnActiveSec") => {
                draft.dropped(spot, key, "a moment after the start of the machine is no time of a Schedule");
            }
            ("Timer", "WakeSystem") => draft.dropped(spot, key, "nothing wakes the machine"),
            ("Timer", key) if !SYSTEMD.knows("Timer", key) => draft.dropped(spot, key, &SYSTEMD.stranger("Timer", key)),
            ("Timer", "RemainAfterElapse") => draft.carried(spot, key),
            ("Timer", "RandomizedOffsetSec") => draft.dropped(spot, key, "`jitter` is all that moves a time"),
            ("Timer", "DeferReactivation") => draft.carried(spot, key),
            ("Timer", _) => draft.dropped(spot, key, "nothing is run because the clock or its zone was changed"),
            ("Unit", "Description") => {
                draft.annotate("kubernetes.io/description", &entry.value);
                draft.carried(spot, key);
            }
            (section, _) if section.starts_with("X-") || key.starts_with("X-") => draft.carried(spot, key),
            (section @ ("Unit" | "Install"), _) if !SYSTEMD.knows(section, key) => {
                draft.dropped(spot, key, &SYSTEMD.stranger(section, key));
            }
            ("Install", _) => draft.carried(spot, key),
            ("Unit", "Documentation" | "SourcePath" | "DefaultDependencies" | "CollectMode") => {
                draft.carried(spot, key)
            }
            ("Unit", _) => draft.dropped(spot, key, "a Schedule waits for its times only"),
            (section, _) => draft.dropped(spot, key, &format!("`[{}]` is no section of a timer", brief(section))),
        }
    }
}
