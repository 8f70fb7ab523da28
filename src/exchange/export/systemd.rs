//! Units of systemd: Apps and Schedules that run processes. Containers are a quadlet's affair.

use serde_json::{Value, json};

use super::super::{
    draft,
    import::systemd::from_cron,
    report::{Fate, Part, Report},
    tree::{entries, text},
};
use super::{
    File, Source, left_out, part,
    unit::{self, Unit},
    variables,
};

/// The units of Apps and Schedules.
pub fn write(objects: &[Value]) -> Report<File> {
    let mut report = Report::default();
    left_out(objects, &["App", "Schedule"], &mut report);
    for object in objects {
        let source = Source::of(object);
        match (
            object["kind"].as_str(),
            object["spec"]["process"].is_object(),
            object["spec"]["run"]["process"].is_object(),
        ) {
            (Some("App"), true, _) => report.parts.extend(app(source)),
            (Some("Schedule"), _, true) => report.parts.extend(schedule(source)),
            (Some("App" | "Schedule"), ..) => {
                let remark = "only what runs a process of its own is written; `appm export quadlet` writes containers";
                report.note(&source.spot, "spec", Fate::Dropped, remark);
            }
            _ => {}
        }
    }
    report
}

const SECRET: &str = "what it comes from is known here only: put it into a file, and name that in EnvironmentFile=";

fn app(mut source: Source<'_>) -> Vec<Part<File>> {
    let spec = source.spec;
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    let mut unit = Unit::default();
    unit.line("Unit", "Description", unit::value(source.description().unwrap_or(source.name)));
    let notifies = spec["readinessProbe"]["notify"].is_object();
    unit.line("Service", "Type", if notifies { "notify" } else { "exec" });
    if notifies {
        source.carried("readinessProbe");
    }
    if let Some(silence) = spec["livenessProbe"]["notify"]["watchdog"].as_str() {
        unit.line("Service", "WatchdogSec", unit::span(silence));
        source.carried("livenessProbe");
    }
    ports(&mut source, &mut unit);
    process(&mut source, spec, &mut unit);
    unit::life(&mut source, &mut unit, &|app| format!("{app}.service"));
    unit.line("Service", "KillMode", "mixed");
    if let Some(signal) = spec["stopSignal"].as_str() {
        unit.line("Service", "KillSignal", signal);
        source.carried("stopSignal");
    }
    for (field, key) in [("postStart", "ExecStartPost"), ("preStop", "ExecStop")] {
        let hook = &spec["lifecycle"][field];
        let words = unit::words(&hook["exec"]["command"]);
        if !words.is_empty() {
            unit.line("Service", key, unit::join(&words, true));
            source.carried(&format!("lifecycle.{field}"));
        } else if !hook.is_null() {
            source.dropped(&format!("lifecycle.{field}"), "only commands are run there");
        }
    }
    source.no_metadata();
    let name = source.name.to_owned();
    let suspended = spec["suspend"] == true || replicas == 0;
    if suspended {
        source.nearly("suspend", "it is not enabled: nothing starts it");
    }
    let mut parts = Vec::new();
    let (file, target) = match replicas {
        2.. => {
            source.nearly("replicas", &format!("instances of a template: enable {name}.target"));
            let mut target = Unit::default();
            target.line("Unit", "Description", format!("All of {name}"));
            for number in 0..replicas {
                target.line("Unit", "Wants", format!("{name}@{number}.service"));
            }
            target.line("Install", "WantedBy", "multi-user.target");
            (format!("{name}@.service"), Some(target))
        }
        _ => {
            if !spec["replicas"].is_null() {
                source.carried("replicas");
            }
            if !suspended {
                unit.line("Install", "WantedBy", "multi-user.target");
            }
            (format!("{name}.service"), None)
        }
    };
    unit::rest(&mut source, &["process", "env", "envFrom", "ports", "restart", "resources", "replicas"]);
    parts.push(part(file, unit.text(), source.notes));
    parts.extend(target.map(|target| part(format!("{name}.target"), target.text(), Vec::new())));
    parts
}

/// A process hears of its ports by `PORT` and `PORT_NAME`.
fn ports(source: &mut Source<'_>, unit: &mut Unit) {
    for (at, port) in source.spec["ports"].as_array().into_iter().flatten().enumerate() {
        let name = port["name"].as_str().unwrap_or_default();
        match port["containerPort"].as_u64().unwrap_or(0) {
            0 => source.dropped(&format!("ports.{name}"), "nobody there looks for a free port: give it a number"),
            number => {
                let variable = format!("PORT_{}", name.to_ascii_uppercase().replace('-', "_"));
                if at == 0 {
                    unit.line("Service", "Environment", format!("PORT={number}"));
                }
                unit.line("Service", "Environment", format!("{variable}={number}"));
                source.carried("ports");
            }
        }
    }
}

/// What runs: the same for an App and for a Run.
fn process(source: &mut Source<'_>, spec: &Value, unit: &mut Unit) {
    let process = &spec["process"];
    let mut words = unit::words(&process["command"]);
    words.extend(unit::words(&process["args"]));
    if let Some(script) = process["script"].as_str() {
        let (shell, how) = unit::interpreter(script);
        let args = std::mem::take(&mut words);
        let shell = shell.iter().map(|word| draft::literal(word));
        words = shell.chain([draft::literal(script), "script".to_owned()]).chain(args).collect();
        source.nearly("process.script", how);
    } else {
        source.carried("process.command");
    }
    for (name, value) in variables(source, spec, SECRET) {
        unit.line("Service", "Environment", unit::word(&format!("{name}={value}"), false));
    }
    for (field, value) in entries(process) {
        let key = match field.as_str() {
            "command" | "args" | "script" => continue,
            "user" => "User",
            "group" => "Group",
            "workingDir" => "WorkingDirectory",
            "umask" => "UMask",
            "nice" => "Nice",
            "rlimits" => {
                for (name, limit) in entries(value) {
                    let limit = text(limit).unwrap_or_default().replace("unlimited", "infinity");
                    unit.line("Service", &format!("Limit{}", name.to_ascii_uppercase()), limit);
                }
                source.carried("process.rlimits");
                continue;
            }
            "stdin" => {
                for line in value.as_str().unwrap_or_default().lines() {
                    unit.line("Service", "StandardInputText", unit::value(line));
                }
                unit.line("Service", "StandardInput", "data");
                source.carried("process.stdin");
                continue;
            }
            "login" if *value == json!(true) => {
                let mut login =
                    vec!["/bin/sh".to_owned(), "-lc".to_owned(), "exec \"$$@\"".to_owned(), "sh".to_owned()];
                login.append(&mut words);
                words = login;
                source.nearly("process.login", "a login shell of sh");
                continue;
            }
            "tty" | "login" if *value == json!(false) => continue,
            _ => {
                source.dropped(&format!("process.{field}"), "there is nothing like it there");
                continue;
            }
        };
        unit.line("Service", key, unit::value(&text(value).unwrap_or_default()));
        source.carried(&format!("process.{field}"));
    }
    unit.line("Service", "ExecStart", unit::join(&words, true));
}

fn schedule(mut source: Source<'_>) -> Vec<Part<File>> {
    let spec = source.spec;
    let mut timer = Unit::default();
    timer.line("Unit", "Description", format!("Times of {}", source.name));
    let zone = spec["timeZone"].as_str();
    if let Some(cron) = spec["cron"].as_str() {
        match from_cron(cron) {
            Ok(events) => {
                for event in events {
                    timer.line("Timer", "OnCalendar", zone.map_or(event.clone(), |zone| format!("{event} {zone}")));
                }
                source.carried("cron");
            }
            Err(why) => source.dropped("cron", &why),
        }
    }
    if let Some(interval) = spec["every"]["interval"].as_str() {
        timer.line("Timer", "OnActiveSec", "0");
        timer.line("Timer", "OnUnitActiveSec", unit::span(interval));
        source.nearly("every", "counted from the last start, not on a grid");
    }
    for at in spec["at"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let event = at.trim_end_matches('Z').replace('T', " ");
        let own = if at.ends_with('Z') { Some("UTC") } else { zone };
        timer.line("Timer", "OnCalendar", own.map_or(event.clone(), |zone| format!("{event} {zone}")));
        source.carried("at");
    }
    if zone.is_some() {
        source.carried("timeZone");
    }
    match spec["startingDeadlineSeconds"].as_i64() {
        Some(_) => source.nearly("startingDeadlineSeconds", "what was missed is not made up for"),
        None => timer.line("Timer", "Persistent", "true"),
    }
    if let Some(jitter) = spec["jitter"].as_str().filter(|jitter| *jitter != "0s") {
        timer.line("Timer", "RandomizedDelaySec", unit::span(jitter));
        timer.line("Timer", "FixedRandomDelay", "true");
        source.carried("jitter");
    }
    match spec["concurrencyPolicy"].as_str() {
        Some("Forbid") => source.carried("concurrencyPolicy"),
        other => source.nearly(
            other.map_or("concurrencyPolicy", |_| "concurrencyPolicy"),
            "a unit that runs is not started again",
        ),
    }
    timer.line("Timer", "AccuracySec", "1s");
    if spec["suspend"] == true {
        source.nearly("suspend", "it is not enabled: nothing starts it");
    } else {
        timer.line("Install", "WantedBy", "timers.target");
    }
    let mut unit = Unit::default();
    unit.line("Unit", "Description", unit::value(source.description().unwrap_or(source.name)));
    unit.line("Service", "Type", "oneshot");
    let run = &spec["run"];
    process(&mut source, run, &mut unit);
    for (field, value) in entries(run).filter(|(field, _)| !["process", "env", "envFrom"].contains(&field.as_str())) {
        match field.as_str() {
            "terminationGracePeriodSeconds" => {
                unit.line("Service", "TimeoutStopSec", unit::grace(value.as_i64().unwrap_or_default()));
            }
            "stopSignal" => unit.line("Service", "KillSignal", text(value).unwrap_or_default()),
            "activeDeadlineSeconds" => unit.line("Service", "TimeoutStartSec", text(value).unwrap_or_default()),
            _ => {
                source.dropped(&format!("run.{field}"), "a unit that is started by time has no such setting");
                continue;
            }
        }
        source.carried(&format!("run.{field}"));
    }
    source.no_metadata();
    let taken =
        ["cron", "every", "at", "timeZone", "startingDeadlineSeconds", "jitter", "concurrencyPolicy", "suspend", "run"];
    unit::rest(&mut source, &taken);
    let name = source.name.to_owned();
    vec![
        part(format!("{name}.service"), unit.text(), source.notes),
        part(format!("{name}.timer"), timer.text(), Vec::new()),
    ]
}
