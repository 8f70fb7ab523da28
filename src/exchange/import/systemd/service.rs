//! A service: an App, or what a timer's Schedule runs.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    super::super::{
        draft::Draft,
        files::Files,
        ini::Entry,
        quantity,
        report::{Refusal, Spot, brief},
    },
    super::words::SYSTEMD,
    confine,
    environment::{self, Variables},
    exec,
    find::Unit,
    start,
};
use crate::api::{signal_name, signal_number};

/// What a unit needs of others; the last three by names of old.
const DEPENDENCIES: [&str; 10] = [
    "After",
    "Requires",
    "Wants",
    "BindsTo",
    "Requisite",
    "PartOf",
    "Upholds",
    "BindTo",
    "RequiresOverridable",
    "RequisiteOverridable",
];

/// What becomes of a service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It runs all the time.
    App,
    /// A Schedule runs it.
    Run,
}

pub(super) fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "yes" | "y" | "true" | "t" | "on")
}

/// The App of a service.
pub(super) fn app(
    unit: &Unit,
    apps: &BTreeMap<String, String>,
    services: &BTreeMap<&str, &Unit>,
    files: &Files,
) -> Result<Draft, Vec<Refusal>> {
    let name = apps.get(&unit.name).map_or_else(|| unit.stem().to_owned(), String::clone);
    let mut draft = filled(unit, &name, Form::App, files)?;
    if name != unit.stem() {
        draft.nearly(&unit.spot, &unit.name, &format!("its name became `{name}`"));
    }
    for key in DEPENDENCIES {
        for entry in unit.all("Unit", key) {
            for other in entry.value.split_whitespace() {
                depends(&mut draft, entry, other, apps, services);
            }
        }
    }
    Ok(draft)
}

/// What a timer runs: the spec of a Run.
pub(super) fn run(unit: &Unit, files: &Files) -> Result<Draft, Vec<Refusal>> {
    let mut draft = filled(unit, unit.stem(), Form::Run, files)?;
    let only_of_apps =
        ["restart", "restartPolicy", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "minReadySeconds"];
    let spec = draft.spec.as_object_mut().expect("a spec");
    for field in only_of_apps {
        spec.shift_remove(field);
    }
    Ok(draft)
}

/// What one unit is to wait for.
fn depends(
    draft: &mut Draft,
    entry: &Entry,
    other: &str,
    apps: &BTreeMap<String, String>,
    services: &BTreeMap<&str, &Unit>,
) {
    let setting = format!("{}={other}", entry.key);
    match apps.get(other) {
        Some(app) if *app == draft.name => draft.carried(&entry.spot, &setting),
        Some(app) if entry.key == "After" => {
            let tells = services.get(other).and_then(|unit| unit.value("Service", "Type"));
            let tells = tells.is_some_and(|kind| kind.starts_with("notify"));
            let on = json!({"app": app, "condition": if tells { "Ready" } else { "Started" }});
            let known = draft.get("dependsOn").as_array().is_some_and(|all| all.contains(&on));
            if !known {
                draft.push("dependsOn", on);
            }
            draft.carried(&entry.spot, &setting);
        }
        Some(_) => draft.carried(&entry.spot, &setting),
        // The machine is up before appm is.
        None if other.ends_with(".target") || other.ends_with(".slice") || other.starts_with("systemd-") => {
            draft.carried(&entry.spot, &setting);
        }
        None if other.ends_with(".mount") || other.ends_with(".socket") => {
            draft.dropped(&entry.spot, &setting, "of the machine: have it there before appm starts");
        }
        None => draft.dropped(
            &entry.spot,
            &setting,
            "not among what is imported: import it, too, and it becomes `dependsOn`",
        ),
    }
}

fn filled(unit: &Unit, name: &str, form: Form, files: &Files) -> Result<Draft, Vec<Refusal>> {
    let mut draft = Draft::new("App", name);
    let mut refusals = Vec::new();
    let variables = match environment::environment(unit, &mut draft, files) {
        Ok(variables) => variables,
        Err(more) => {
            refusals.extend(more);
            Variables::new()
        }
    };
    if let Err(more) = start::commands(unit, form, &variables, &mut draft) {
        refusals.extend(more);
    }
    if form == Form::App {
        restarts(unit, &mut draft);
    }
    for entry in &unit.entries {
        if let Err(why) = setting(unit, entry, form, &mut draft) {
            refusals.push(Refusal::new(&entry.spot, format!("{}: {why}", entry.key)));
        }
    }
    if refusals.is_empty() { Ok(draft) } else { Err(refusals) }
}

/// `Restart` and what belongs to it.
fn restarts(unit: &Unit, draft: &mut Draft) {
    let kind = unit.value("Service", "Type").unwrap_or("simple");
    let entry = unit.entry("Service", "Restart");
    let (policy, codes, remark) = match entry.map_or("no", |entry| entry.value.as_str()) {
        "always" => ("Always", json!({}), ""),
        "on-failure" => ("OnFailure", json!({}), ""),
        "on-success" => ("Never", json!({"0": "Restart"}), ""),
        "on-abnormal" | "on-abort" | "on-watchdog" => (
            "OnFailure",
            json!({"*": "Stop", "SIGABRT": "Restart", "SIGSEGV": "Restart"}),
            "restarted after SIGABRT and SIGSEGV only",
        ),
        _ => ("Never", json!({}), ""),
    };
    if policy != "Always" {
        draft.put("restartPolicy", policy);
    }
    for (code, action) in codes.as_object().into_iter().flatten() {
        draft.spec["restart"]["exitCodes"][code] = action.clone();
    }
    match entry {
        Some(entry) if !remark.is_empty() => draft.nearly(&entry.spot, "Restart", remark),
        Some(entry) => draft.carried(&entry.spot, "Restart"),
        None => {}
    }
    if kind == "oneshot" && entry.is_none() {
        let remark =
            "it runs once when the App is made or changed, and stays ended; a Schedule or `appm run` repeats it";
        let spot = unit.entry("Service", "Type").map_or(&unit.spot, |entry| &entry.spot).clone();
        draft.nearly(&spot, "Type", remark);
    }
}

/// One entry; what runs and what is waited for was seen to.
fn setting(unit: &Unit, entry: &Entry, form: Form, draft: &mut Draft) -> Result<(), String> {
    let (spot, key) = (&entry.spot, entry.key.as_str());
    match entry.section.as_str() {
        section if section.starts_with("X-") || key.starts_with("X-") => draft.carried(spot, key),
        section @ ("Unit" | "Service" | "Install") if !SYSTEMD.knows(section, key) => {
            draft.dropped(spot, key, &SYSTEMD.stranger(section, key));
        }
        "Unit" => of_unit(entry, form, draft),
        "Install" => match key {
            "WantedBy" | "RequiredBy" | "UpheldBy" | "DefaultInstance" => draft.carried(spot, key),
            "Alias" => draft.dropped(spot, key, "an App has one name"),
            _ => draft.dropped(spot, key, "import that unit, too: an App is there once it is declared"),
        },
        "Service" => return of_service(unit, entry, draft),
        section => draft.dropped(spot, key, &format!("`[{}]` is no section of a service", brief(section))),
    }
    Ok(())
}

fn of_unit(entry: &Entry, form: Form, draft: &mut Draft) {
    let (spot, key) = (&entry.spot, entry.key.as_str());
    match key {
        "Description" => {
            if form == Form::App {
                draft.annotate("kubernetes.io/description", &entry.value);
            }
            draft.carried(spot, key);
        }
        "Documentation" | "SourcePath" => draft.carried(spot, key),
        _ if form == Form::App && DEPENDENCIES.contains(&key) => {}
        "After" | "Wants" | "Requires" if entry.value.ends_with(".target") => draft.carried(spot, key),
        "DefaultDependencies"
        | "RefuseManualStart"
        | "RefuseManualStop"
        | "CollectMode"
        | "AllowIsolate"
        | "IgnoreOnIsolate"
        | "IgnoreOnSnapshot" => draft.carried(spot, key),
        "StartLimitBurst" => match entry.value.parse::<u32>() {
            Ok(0) => draft.carried(spot, key),
            Ok(burst) => {
                draft.put("restart.maxRestarts", burst.min(1_000_000));
                draft.nearly(spot, key, "counts restarts without a stable run (`resetAfter`) between them");
            }
            Err(_) => draft.dropped(spot, key, "no number"),
        },
        "StartLimitIntervalSec" | "StartLimitInterval" => match quantity::span(&entry.value) {
            Some(0) => draft.carried(spot, key),
            Some(millis) => {
                draft.put("restart.backoff.resetAfter", quantity::go(millis));
                draft.nearly(spot, key, "a run of that length is stable, and counting begins anew");
            }
            None => draft.dropped(spot, key, "no time span"),
        },
        _ => draft.dropped(spot, key, among_units(key)),
    }
}

/// Why a unit's place among units is left out.
fn among_units(key: &str) -> &'static str {
    match key {
        "RequiresMountsFor" | "WantsMountsFor" => "of the machine: have it there before appm starts",
        "Before" => "say `dependsOn` in the App that is to wait",
        "After"
        | "Wants"
        | "Requires"
        | "Requisite"
        | "BindsTo"
        | "BindTo"
        | "Upholds"
        | "PartOf"
        | "RequiresOverridable"
        | "RequisiteOverridable" => "a Schedule waits for its times only",
        "Conflicts" | "StopWhenUnneeded" | "PropagatesStopTo" | "StopPropagatedFrom" => "no App stops another",
        "OnFailure" | "OnSuccess" | "OnFailureJobMode" | "OnSuccessJobMode" | "OnFailureIsolate" => {
            "a Workflow's `on: app_event` is started by an exit"
        }
        "PropagatesReloadTo" | "PropagateReloadTo" | "ReloadPropagatedFrom" | "PropagateReloadFrom" => {
            "nothing is reloaded: a changed App is rolled out"
        }
        "JoinsNamespaceOf" => "a process has no namespaces of its own that another could join",
        "JobTimeoutSec" | "JobRunningTimeoutSec" | "JobTimeoutAction" | "JobTimeoutRebootArgument" => {
            "a `startupProbe` says how long a start may take"
        }
        "StartLimitAction"
        | "FailureAction"
        | "SuccessAction"
        | "FailureActionExitStatus"
        | "SuccessActionExitStatus"
        | "RebootArgument" => "no App ends or reboots the machine",
        "SurviveFinalKillSignal" => "what runs when the machine goes down ends with it",
        _ => "what an App needs of the machine is not looked for before it starts",
    }
}

fn of_service(unit: &Unit, entry: &Entry, draft: &mut Draft) -> Result<(), String> {
    let (spot, key) = (&entry.spot, entry.key.as_str());
    let value = exec::specifiers(&entry.value, unit);
    let value = match key {
        "ExecCondition" | "ExecStart" | "ExecStartPre" | "ExecStartPost" | "ExecStop" | "ExecStopPost"
        | "ExecReload" | "Environment" | "EnvironmentFile" => return Ok(()),
        _ => value?,
    };
    let span = || quantity::span(&value).ok_or(format!("`{}` is no time span", brief(&value)));
    let forever = value == "infinity" || value == "0";
    match key {
        "Restart" => {}
        "Type" => service_type(unit, &value, spot, draft),
        "User" | "Group" => draft.set(spot, key, &format!("process.{}", key.to_lowercase()), value),
        "WorkingDirectory" => match value.trim_start_matches('-') {
            "~" => {
                draft.put("process.login", true);
                draft.nearly(spot, key, "the home directory, through a login shell");
            }
            path if path.starts_with('/') => draft.set(spot, key, "process.workingDir", path),
            path => return Err(format!("`{}` is no absolute path", brief(path))),
        },
        "UMask" => {
            let digits = value.trim_start_matches('0');
            if digits.len() > 3 || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
                return Err(format!("`{}` is no octal mask", brief(&value)));
            }
            draft.set(spot, key, "process.umask", format!("{digits:0>3}"));
        }
        "Nice" => match value.parse::<i32>() {
            Ok(nice) if (-20..=19).contains(&nice) => draft.set(spot, key, "process.nice", nice),
            _ => return Err(format!("`{}` is not from -20 to 19", brief(&value))),
        },
        "RestartSec" => {
            let pause = quantity::go(span()?);
            draft.put("restart.backoff.initial", pause.clone());
            draft.put("restart.backoff.max", pause);
            draft.nearly(spot, key, "the first restart after a stable run (`resetAfter`) is immediate");
        }
        "RestartMaxDelaySec" => draft.set(spot, key, "restart.backoff.max", quantity::go(span()?)),
        "RestartSteps" => draft.nearly(spot, key, "the pause doubles up to `max`"),
        "TimeoutStopSec" | "TimeoutSec" if !forever => {
            // 0 is for ever there: what says none says a millisecond.
            let seconds = if span()? <= 1 { 0 } else { quantity::seconds(span()?).min(86400) };
            draft.set(spot, key, "terminationGracePeriodSeconds", seconds);
        }
        "TimeoutStopSec" | "TimeoutSec" => {
            draft.put("terminationGracePeriodSeconds", 86400);
            draft.nearly(spot, key, "a day is the longest");
        }
        "TimeoutStartSec" | "TimeoutAbortSec" | "TimeoutStartFailureMode" | "TimeoutStopFailureMode" => {
            draft.dropped(spot, key, "a `startupProbe` says how long a start may take");
        }
        "TimeoutCleanSec" => draft.dropped(spot, key, "`appm` clears no directories of an App"),
        "RestartMode" if value == "normal" => draft.carried(spot, key),
        "RestartMode" => draft.dropped(spot, key, "what waits for an App is not told of its restarts"),
        "StartLimitInterval" | "StartLimitBurst" => of_unit(entry, Form::App, draft),
        "StartLimitAction" | "FailureAction" | "RebootArgument" => draft.dropped(spot, key, among_units(key)),
        "RuntimeMaxSec" | "RuntimeRandomizedExtraSec" => {
            draft.dropped(spot, key, "an App runs on; a Run has `activeDeadlineSeconds`")
        }
        "WatchdogSec" if !forever => {
            let silence = quantity::go(span()?);
            draft.set(spot, key, "livenessProbe.notify.watchdog", silence);
        }
        "KillSignal" => match signal(&value) {
            Some(name) => draft.set(spot, key, "stopSignal", name),
            None => return Err(format!("`{}` is no signal", brief(&value))),
        },
        "KillMode" => match value.as_str() {
            "mixed" => draft.carried(spot, key),
            "control-group" => draft.nearly(
                spot,
                key,
                "the signal goes to the process itself; what is left is killed when it has ended",
            ),
            _ => draft.nearly(spot, key, "whatever an instance leaves behind is killed with it"),
        },
        "SendSIGKILL" | "SendSIGHUP" | "FinalKillSignal" | "WatchdogSignal" | "RestartKillSignal" | "ReloadSignal" => {
            draft.dropped(spot, key, "SIGKILL follows `stopSignal` after the grace period");
        }
        "SuccessExitStatus" => exits(&value, "Stop", draft, spot, key, true),
        "RestartPreventExitStatus" => exits(&value, "Stop", draft, spot, key, false),
        "RestartForceExitStatus" => exits(&value, "Restart", draft, spot, key, false),
        "RemainAfterExit" | "GuessMainPID" | "NonBlocking" | "ExitType" => {
            draft.dropped(spot, key, "an App is what runs")
        }
        "PIDFile" if unit.value("Service", "Type") == Some("forking") => draft.carried(spot, key),
        "PIDFile" | "BusName" | "NotifyAccess" => draft.nearly(spot, key, "the process that is started is the one"),
        "FileDescriptorStoreMax"
        | "FileDescriptorStorePreserve"
        | "Sockets"
        | "USBFunctionDescriptors"
        | "USBFunctionStrings"
        | "OpenFile" => draft.dropped(spot, key, "no file descriptors are handed over"),
        "RootDirectoryStartOnly" | "PermissionsStartOnly" | "RateLimitIntervalSec" | "RateLimitBurst" => {
            draft.dropped(spot, key, "an App has no such setting");
        }
        "PassEnvironment" => draft.dropped(spot, key, "a process has the variables of its App, none of the server's"),
        "UnsetEnvironment" => {
            for name in value.split_whitespace() {
                if let Some(all) = draft.spec.get_mut("env").and_then(serde_json::Value::as_array_mut) {
                    all.retain(|entry| entry["name"] != *name);
                }
            }
            draft.carried(spot, key);
        }
        "StandardInput" if value == "null" => draft.carried(spot, key),
        "StandardInput" if value.starts_with("tty") => {
            draft.put("process.tty", true);
            draft.nearly(spot, key, "a terminal of its own");
        }
        "StandardInput" => draft.dropped(spot, key, "`process.stdin` gives a text"),
        "StandardInputText" => {
            let there = draft.get("process.stdin").as_str().unwrap_or_default().to_owned();
            draft.set(spot, key, "process.stdin", format!("{there}{value}\n"));
        }
        "StandardOutput" | "StandardError" => match value.as_str() {
            "journal" | "inherit" | "syslog" | "journal+console" => draft.carried(spot, key),
            "null" => draft.nearly(spot, key, "output is kept all the same, within `logs`"),
            _ => draft.nearly(spot, key, &format!("`appm logs {}` has the output", draft.name.clone())),
        },
        _ => return confine::setting(unit, key, &value, spot, draft),
    }
    Ok(())
}

fn service_type(unit: &Unit, kind: &str, spot: &Spot, draft: &mut Draft) {
    match kind {
        "simple" | "exec" | "idle" => draft.carried(spot, "Type"),
        "notify" | "notify-reload" => {
            draft.put("readinessProbe.notify", json!({}));
            draft.carried(spot, "Type");
        }
        // Said with its restart policy.
        "oneshot" => {}
        "forking" if start::pid_file(unit).is_some() => draft.nearly(
            spot,
            "Type",
            "a shell waits for the process that PIDFile names and hands the stop signal on; its exit code is not known. Better: let it stay in the foreground (`--nodaemon`, `-f`), as `Type=exec`",
        ),
        "forking" => draft.dropped(
            spot,
            "Type",
            "without PIDFile nobody knows its process: let it stay in the foreground (`--nodaemon`, `-f`), as `Type=exec`",
        ),
        "dbus" => draft.nearly(spot, "Type", "nobody waits for its name on the bus; a `readinessProbe` can"),
        _ => draft.dropped(spot, "Type", "no type of service that is known"),
    }
}

/// A signal by its name or number, as `SIGTERM`.
pub(super) fn signal(text: &str) -> Option<String> {
    let name = text.parse::<i32>().map_or_else(|_| text.to_ascii_uppercase(), signal_name);
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    signal_number(&name).map(|_| name)
}

/// What a list of codes and signals leads to.
fn exits(value: &str, action: &str, draft: &mut Draft, spot: &Spot, key: &str, is_success: bool) {
    let mut left = Vec::new();
    for word in value.split_whitespace() {
        let signal = if word.starts_with("SIG") { word.to_owned() } else { format!("SIG{word}") };
        let code = match word {
            _ if word.parse::<u8>().is_ok() => word.to_owned(),
            _ if signal_number(&signal).is_some() => signal,
            _ => {
                left.push(word);
                continue;
            }
        };
        // A success is restarted where every exit is.
        if !(is_success && draft.get("restartPolicy").is_null()) {
            draft.spec["restart"]["exitCodes"][code] = json!(action);
        }
    }
    match left.is_empty() {
        true => draft.carried(spot, key),
        false => draft.dropped(spot, key, &format!("{}: write the number", left.join(", "))),
    }
}
