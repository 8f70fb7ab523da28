//! The table: a row for each thing that App Mesh's JSON says of an application, how it is read out of an object and written into one.

use serde_json::{Map, Value, json};

use super::{
    Definition, Of,
    normal::{Said, metadata},
    words::{escaped, join, literal, split},
};
use crate::api::{ANY_EXIT, GoDuration, Quantity};

/// What is said together, because one word of it alone says nothing.
pub(super) struct Row {
    /// The words of App Mesh.
    pub names: &'static [&'static str],
    /// Out of an object.
    pub read: fn(&Definition, &mut Said),
    /// Into an object; words that are not said are cleared.
    pub write: fn(&mut Definition, &Said) -> Result<(), String>,
}

/// In this order: what is run decides where the rest of it stands.
pub(super) const ROWS: &[Row] = &[
    Row {
        names: &["command", "shell", "session_login", "docker_image", "pid"],
        read: read_program,
        write: write_program,
    },
    Row { names: &["metadata"], read: read_metadata, write: write_metadata },
    Row { names: &["working_dir"], read: read_directory, write: write_directory },
    Row { names: &["description"], read: read_description, write: write_description },
    Row { names: &["status"], read: read_status, write: write_status },
    Row { names: &["env"], read: read_env, write: write_env },
    Row { names: &["permission"], read: read_permission, write: write_permission },
    Row { names: &["stdout_cache_num"], read: read_history, write: write_history },
    Row { names: &["health_check_cmd"], read: read_health, write: write_health },
    Row {
        names: &["start_interval_seconds", "cron", "start_time", "end_time", "daily_limitation"],
        read: read_times,
        write: write_times,
    },
    Row { names: &["retention"], read: read_retention, write: write_retention },
    Row { names: &["behavior"], read: read_behavior, write: write_behavior },
    Row { names: &["resource_limit"], read: read_resources, write: write_resources },
    Row { names: &["version"], read: read_version, write: write_version },
    Row { names: &["depends_on"], read: read_dependencies, write: write_dependencies },
];

/// Kubernetes' own annotation for it.
const DESCRIPTION: &str = "kubernetes.io/description";
const VERSION: &str = "appm.dev/app-mesh-version";
/// Of what has no `sharing`.
const PERMISSION: &str = "appm.dev/app-mesh-permission";
/// What begins the script that App Mesh would have made of a command.
const PREAMBLE: &str = "#!/bin/bash\nset -e\n";
const MEBI: u64 = 1 << 20;
/// Shares of a processor are out of so many, as of a container's.
const SHARES: u64 = 1024;

impl Definition {
    /// What is run: of an App, of a Run, of what a Schedule makes.
    fn run(&self) -> &Value {
        let spec = &self.object["spec"];
        match self.of {
            Of::App => spec,
            Of::Schedule => &spec["run"],
            Of::Run if spec["template"].is_object() => &spec["template"],
            Of::Run => spec,
        }
    }

    fn run_mut(&mut self) -> &mut Value {
        match self.of {
            Of::App | Of::Run => &mut self.object["spec"],
            Of::Schedule => &mut self.object["spec"]["run"],
        }
    }

    fn spec(&self) -> &Value {
        &self.object["spec"]
    }

    fn spec_mut(&mut self) -> &mut Value {
        &mut self.object["spec"]
    }

    /// Where process and container have the same words.
    fn form(&self) -> &'static str {
        if self.run()["container"].is_object() { "container" } else { "process" }
    }

    fn annotation(&self, name: &str) -> &Value {
        &self.object["metadata"]["annotations"][name]
    }

    fn annotate(&mut self, name: &str, value: Value) {
        put(&mut self.object["metadata"], &["annotations", name], value);
    }
}

/// Sets what stands at a path; `Null` takes it away, and what is empty then.
fn put(at: &mut Value, path: &[&str], value: Value) {
    let [name, rest @ ..] = path else { return };
    if !at.is_object() {
        if value.is_null() {
            return;
        }
        *at = json!({});
    }
    let Some(map) = at.as_object_mut() else { return };
    if rest.is_empty() {
        match value {
            Value::Null => drop(map.shift_remove(*name)),
            value => drop(map.insert((*name).to_owned(), value)),
        }
        return;
    }
    let takes = value.is_null();
    let below = map.entry(*name).or_insert(Value::Null);
    put(below, rest, value);
    let is_empty = below.is_null() || below.as_object().is_some_and(Map::is_empty);
    if takes && is_empty {
        map.shift_remove(*name);
    }
}

fn say(said: &mut Said, name: &str, value: impl Into<Option<Value>>) {
    if let Some(value) = value.into().filter(|value| !value.is_null()) {
        said.insert(name.to_owned(), value);
    }
}

fn text<'a>(said: &'a Said, name: &str) -> Option<&'a str> {
    said.get(name).and_then(Value::as_str)
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn line(words: &[&Value]) -> Option<Value> {
    let words: Vec<String> = words.iter().flat_map(|list| texts(list)).map(literal).collect();
    (!words.is_empty()).then(|| json!(join(words.iter().map(String::as_str))))
}

fn read_program(of: &Definition, said: &mut Said) {
    let (process, container) = (&of.run()["process"], &of.run()["container"]);
    if container.is_object() {
        say(said, "docker_image", container["image"].clone());
        return say(said, "command", line(&[&container["command"], &container["args"]]));
    }
    let login = process["login"] == true;
    if let Some(script) = process["script"].as_str() {
        say(said, "command", json!(script.strip_prefix(PREAMBLE).unwrap_or(script).trim()));
        return say(said, if login { "session_login" } else { "shell" }, json!(true));
    }
    say(said, "command", line(&[&process["command"], &process["args"]]));
    say(said, "session_login", login.then(|| json!(true)));
    say(said, "pid", process["adopt"]["pid"].clone());
}

fn write_program(of: &mut Definition, said: &Said) -> Result<(), String> {
    let run = of.run_mut();
    let command = text(said, "command");
    let words =
        || split(command.unwrap_or_default()).map(|words| json!(words.iter().map(|w| escaped(w)).collect::<Vec<_>>()));
    if let Some(image) = text(said, "docker_image") {
        put(run, &["process"], Value::Null);
        put(run, &["container", "image"], json!(image));
        put(run, &["container", "command"], Value::Null);
        put(run, &["container", "args"], if command.is_some() { words()? } else { Value::Null });
        return Ok(());
    }
    put(run, &["container"], Value::Null);
    for name in ["command", "args", "script", "adopt", "login"] {
        put(run, &["process", name], Value::Null);
    }
    match (command, said.get("pid")) {
        (Some(command), _) if said.contains_key("shell") || said.contains_key("session_login") => {
            put(run, &["process", "script"], json!(format!("{PREAMBLE}{command}\n")));
        }
        (Some(_), _) => put(run, &["process", "command"], words()?),
        (None, Some(pid)) => put(run, &["process", "adopt"], json!({"pid": pid})),
        (None, None) => return Err("no command line provide".to_owned()),
    }
    if said.contains_key("session_login") {
        put(run, &["process", "login"], json!(true));
    }
    Ok(())
}

/// App Mesh gives it to the process on its standard input.
fn read_metadata(of: &Definition, said: &mut Said) {
    say(said, "metadata", metadata(&of.run()["process"]["stdin"]));
}

fn write_metadata(of: &mut Definition, said: &Said) -> Result<(), String> {
    let given = match said.get("metadata") {
        Some(Value::String(text)) => json!(text),
        Some(value) => json!(value.to_string()),
        None => Value::Null,
    };
    if !given.is_null() && of.form() == "container" {
        return Err("the metadata of a container cannot be taken: make the App by its own API".to_owned());
    }
    put(of.run_mut(), &["process", "stdin"], given);
    Ok(())
}

fn read_directory(of: &Definition, said: &mut Said) {
    let directory = &of.run()[of.form()]["workingDir"];
    let shown = directory.as_str().map(|text| if of.form() == "process" { literal(text) } else { text.to_owned() });
    say(said, "working_dir", shown.map(Value::String));
}

fn write_directory(of: &mut Definition, said: &Said) -> Result<(), String> {
    let form = of.form();
    let directory =
        text(said, "working_dir").map(|text| if form == "process" { escaped(text) } else { text.to_owned() });
    if directory.as_deref().is_some_and(|path| !path.starts_with('/')) {
        return Err("`working_dir` must begin with `/`".to_owned());
    }
    put(of.run_mut(), &[form, "workingDir"], directory.map_or(Value::Null, Value::String));
    Ok(())
}

fn read_description(of: &Definition, said: &mut Said) {
    say(said, "description", of.annotation(DESCRIPTION).clone());
}

fn write_description(of: &mut Definition, said: &Said) -> Result<(), String> {
    of.annotate(DESCRIPTION, said.get("description").cloned().unwrap_or_default());
    Ok(())
}

fn read_status(of: &Definition, said: &mut Said) {
    let spec = of.spec();
    let is_off = spec["suspend"] == true || (of.of == Of::App && spec["replicas"] == 0);
    say(said, "status", json!(i64::from(!is_off)));
}

fn write_status(of: &mut Definition, said: &Said) -> Result<(), String> {
    let is_off = said.get("status").is_some_and(|status| *status == 0);
    let spec = of.spec_mut();
    put(spec, &["suspend"], if is_off { json!(true) } else { Value::Null });
    if !is_off && spec["replicas"] == 0 {
        put(spec, &["replicas"], Value::Null);
    }
    Ok(())
}

/// Those that stand there; what comes from elsewhere App Mesh has no words for.
fn read_env(of: &Definition, said: &mut Said) {
    let mut shown = Map::new();
    for var in of.run()["env"].as_array().into_iter().flatten().filter(|var| var["valueFrom"].is_null()) {
        let Some(name) = var["name"].as_str() else { continue };
        shown.insert(name.to_owned(), json!(literal(var["value"].as_str().unwrap_or_default())));
    }
    say(said, "env", (!shown.is_empty()).then_some(Value::Object(shown)));
}

fn write_env(of: &mut Definition, said: &Said) -> Result<(), String> {
    let wanted = said.get("env").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut vars = of.run()["env"].as_array().cloned().unwrap_or_default();
    vars.retain_mut(|var| {
        let value = var["name"].as_str().and_then(|name| wanted.get(name)).and_then(Value::as_str);
        match value {
            Some(value) => *var = json!({"name": var["name"], "value": escaped(value)}),
            None => return !var["valueFrom"].is_null(),
        }
        true
    });
    for (name, value) in &wanted {
        if !vars.iter().any(|var| var["name"] == **name) {
            vars.push(json!({"name": name, "value": escaped(value.as_str().unwrap_or_default())}));
        }
    }
    put(of.run_mut(), &["env"], if vars.is_empty() { Value::Null } else { json!(vars) });
    Ok(())
}

const ACCESS: [(u64, &str); 3] = [(1, "None"), (2, "Read"), (3, "ReadWrite")];

fn read_permission(of: &Definition, said: &mut Said) {
    if of.of == Of::Schedule {
        return say(
            said,
            "permission",
            of.annotation(PERMISSION).as_str().and_then(|text| text.parse::<u64>().ok()).map(Value::from),
        );
    }
    let digit = |who: &str| {
        let word = of.spec()["sharing"][who].as_str().unwrap_or("None");
        ACCESS.iter().find(|(_, access)| *access == word).map_or(1, |(digit, _)| *digit)
    };
    let (group, others) = (digit("group"), digit("others"));
    say(said, "permission", ((group, others) != (1, 1)).then(|| json!(others * 10 + group)));
}

fn write_permission(of: &mut Definition, said: &Said) -> Result<(), String> {
    let digits = said.get("permission").and_then(Value::as_u64);
    let word = |digit: u64| ACCESS.iter().find(|(d, _)| *d == digit).map_or(Value::Null, |(_, word)| json!(word));
    match (of.of, digits) {
        // Nobody shares a Schedule: it stays its owner's alone, which is less than was asked for, never more.
        (Of::Schedule, digits) => of.annotate(PERMISSION, digits.map_or(Value::Null, |d| json!(d.to_string()))),
        (Of::App, Some(digits)) => {
            put(of.spec_mut(), &["sharing", "group"], word(digits % 10));
            put(of.spec_mut(), &["sharing", "others"], word(digits / 10));
        }
        (Of::App, None) => put(of.spec_mut(), &["sharing"], Value::Null),
        (Of::Run, _) => {}
    }
    Ok(())
}

/// App Mesh keeps so many files beside the one that is written.
fn read_history(of: &Definition, said: &mut Said) {
    let files = of.run()["logs"]["maxFiles"].as_u64().filter(|files| *files > 1);
    say(said, "stdout_cache_num", files.map(|files| json!(files - 1)));
}

fn write_history(of: &mut Definition, said: &Said) -> Result<(), String> {
    let files = said.get("stdout_cache_num").and_then(Value::as_u64).map_or(Value::Null, |number| json!(number + 1));
    put(of.run_mut(), &["logs", "maxFiles"], files);
    Ok(())
}

const SHELL: [&str; 2] = ["/bin/sh", "-c"];

fn read_health(of: &Definition, said: &mut Said) {
    let command = &of.spec()["readinessProbe"]["exec"]["command"];
    let words: Vec<&str> = texts(command).collect();
    match words.as_slice() {
        [shell, flag, command] if [*shell, *flag] == SHELL => say(said, "health_check_cmd", json!(literal(command))),
        _ => say(said, "health_check_cmd", line(&[command])),
    }
}

fn write_health(of: &mut Definition, said: &Said) -> Result<(), String> {
    let probe = match (text(said, "health_check_cmd"), of.of) {
        (Some(_), Of::Schedule) => {
            return Err(
                "what runs by time has no health: `health_check_cmd` goes with what runs all the time".to_owned()
            );
        }
        (Some(command), Of::App) => json!({
            "exec": {"command": [SHELL[0], SHELL[1], escaped(command)]},
            "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 1,
        }),
        _ => Value::Null,
    };
    put(of.spec_mut(), &["readinessProbe"], probe);
    Ok(())
}

fn epoch(time: &Value) -> Option<Value> {
    let time: jiff::Timestamp = time.as_str()?.parse().ok()?;
    u64::try_from(time.as_second()).ok().filter(|second| *second > 0).map(Value::from)
}

fn time(said: &Said, name: &str) -> Result<Value, String> {
    let Some(second) = said.get(name).and_then(Value::as_i64) else { return Ok(Value::Null) };
    let time = jiff::Timestamp::from_second(second).map_err(|_| format!("`{name}` is no point in time"))?;
    Ok(json!(time.to_string()))
}

fn duration(value: &Value) -> Option<u64> {
    let duration: GoDuration = value.as_str()?.parse().ok()?;
    Some(duration.0.as_secs()).filter(|seconds| *seconds > 0)
}

fn of_seconds(text: &str) -> Value {
    text.parse().map_or(Value::Null, |seconds| json!(GoDuration::secs(seconds).to_string()))
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

fn of_clock(text: &Value) -> Option<u64> {
    let (hours, minutes) = text.as_str()?.split_once(':')?;
    Some(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60)
}

fn read_times(of: &Definition, said: &mut Said) {
    let spec = of.spec();
    let window = &spec["activeWindow"];
    say(said, "start_time", epoch(&window["notBefore"]));
    say(said, "end_time", epoch(&window["notAfter"]));
    let daily = &window["daily"];
    let zone = daily["timeZone"].as_str().unwrap_or("UTC");
    if let (Some(start), Some(end), "UTC") = (of_clock(&daily["from"]), of_clock(&daily["to"]), zone) {
        say(said, "daily_limitation", json!({"daily_start": start, "daily_end": end}));
    }
    if let Some(cron) = spec["cron"].as_str() {
        say(said, "start_interval_seconds", json!(cron));
        say(said, "cron", json!(true));
    }
    if spec["every"].is_object() {
        say(said, "start_interval_seconds", duration(&spec["every"]["interval"]).map(|n| json!(n.to_string())));
        say(said, "start_time", epoch(&spec["every"]["anchor"]));
    }
}

fn write_times(of: &mut Definition, said: &Said) -> Result<(), String> {
    let (start, end) = (time(said, "start_time")?, time(said, "end_time")?);
    if let (Some(start), Some(end)) =
        (said.get("start_time").and_then(Value::as_i64), said.get("end_time").and_then(Value::as_i64))
        && start > end
    {
        return Err("`end_time` is before `start_time`".to_owned());
    }
    let daily = match said.get("daily_limitation") {
        Some(daily) => {
            let at = |name: &str| clock(daily[name].as_u64().unwrap_or_default());
            json!({"from": at("daily_start"), "to": at("daily_end")})
        }
        // One by other clocks than UTC's was not shown, and is not taken away.
        None => match of.spec()["activeWindow"]["daily"]["timeZone"].as_str() {
            Some(zone) if zone != "UTC" => of.spec()["activeWindow"]["daily"].clone(),
            _ => Value::Null,
        },
    };
    let (by_schedule, is_cron) = (of.of == Of::Schedule, said.contains_key("cron"));
    let spec = of.spec_mut();
    put(spec, &["activeWindow", "notAfter"], end);
    put(spec, &["activeWindow", "daily"], daily);
    let interval = text(said, "start_interval_seconds");
    match (by_schedule, is_cron, interval) {
        (true, true, Some(cron)) => {
            put(spec, &["every"], Value::Null);
            put(spec, &["cron"], json!(cron));
            put(spec, &["activeWindow", "notBefore"], start);
        }
        (true, false, Some(seconds)) => {
            put(spec, &["cron"], Value::Null);
            put(spec, &["activeWindow", "notBefore"], Value::Null);
            put(spec, &["every", "interval"], of_seconds(seconds));
            put(spec, &["every", "anchor"], start);
        }
        (true, ..) => return Err("`start_interval_seconds` is missing".to_owned()),
        (false, ..) => put(spec, &["activeWindow", "notBefore"], start),
    }
    if by_schedule && spec["concurrencyPolicy"].is_null() {
        // An earlier run makes room.
        put(spec, &["concurrencyPolicy"], json!("Replace"));
    }
    Ok(())
}

/// By time: how long an earlier run goes on beside the next one. All the time: how long it has to end, as the third generation calls it.
fn read_retention(of: &Definition, said: &mut Said) {
    let seconds = match of.of {
        Of::Schedule => duration(&of.spec()["replaceGrace"]),
        Of::App | Of::Run => of.spec()["terminationGracePeriodSeconds"].as_u64().filter(|seconds| *seconds > 0),
    };
    say(said, "retention", seconds.map(|seconds| json!(seconds.to_string())));
}

fn write_retention(of: &mut Definition, said: &Said) -> Result<(), String> {
    let seconds = text(said, "retention");
    match of.of {
        Of::Schedule => put(of.spec_mut(), &["replaceGrace"], seconds.map_or(Value::Null, of_seconds)),
        Of::App | Of::Run => {
            let number = seconds.and_then(|text| text.parse::<u64>().ok()).map_or(Value::Null, Value::from);
            put(of.spec_mut(), &["terminationGracePeriodSeconds"], number);
        }
    }
    Ok(())
}

const ACTIONS: [(&str, &str); 3] = [("restart", "Restart"), ("standby", "Stop"), ("remove", "Remove")];

fn read_behavior(of: &Definition, said: &mut Said) {
    let spec = of.spec();
    let codes = spec["restart"]["exitCodes"].as_object();
    let word = |action: &Value| ACTIONS.iter().find(|(_, ours)| action == *ours).map_or("standby", |(word, _)| word);
    let policy = spec["restartPolicy"].as_str().unwrap_or("Always");
    let exit = match codes.and_then(|codes| codes.get(ANY_EXIT)) {
        Some(action) => word(action),
        None if of.of != Of::App || policy == "Never" => "standby",
        None => "restart",
    };
    let mut control: Map<String, Value> = codes
        .into_iter()
        .flatten()
        .filter(|(code, _)| code.parse::<u64>().is_ok())
        .map(|(code, action)| (code.clone(), json!(word(action))))
        .collect();
    if of.of == Of::App && policy == "OnFailure" {
        control.entry("0").or_insert(json!("standby"));
    }
    let mut behavior = json!({"exit": exit});
    if !control.is_empty() {
        control.sort_keys();
        behavior["control"] = Value::Object(control);
    }
    say(said, "behavior", behavior);
}

fn write_behavior(of: &mut Definition, said: &Said) -> Result<(), String> {
    let behavior = said.get("behavior").cloned().unwrap_or_default();
    let exit = behavior["exit"].as_str().unwrap_or("standby");
    let control = behavior["control"].as_object();
    match of.of {
        Of::App => {}
        Of::Schedule if exit != "standby" || control.is_some() => {
            return Err("what runs by time is not started again when it ends: `behavior` must be standby".to_owned());
        }
        // Its end is the end of it.
        Of::Schedule | Of::Run => return Ok(()),
    }
    let spec = of.spec_mut();
    put(spec, &["restartPolicy"], json!(if exit == "restart" { "Always" } else { "Never" }));
    let mut codes = spec["restart"]["exitCodes"].as_object().cloned().unwrap_or_default();
    // Rules for signals App Mesh has no words for.
    codes.retain(|code, _| code.parse::<u64>().is_err() && code != ANY_EXIT);
    let ours = |word: &Value| ACTIONS.iter().find(|(known, _)| word == *known).map_or("Stop", |(_, ours)| ours);
    codes.extend(control.into_iter().flatten().map(|(code, word)| (code.clone(), json!(ours(word)))));
    if exit == "remove" {
        codes.insert(ANY_EXIT.to_owned(), json!("Remove"));
    }
    put(spec, &["restart", "exitCodes"], if codes.is_empty() { Value::Null } else { Value::Object(codes) });
    Ok(())
}

fn amount(value: &Value) -> Option<Quantity> {
    value.as_str().map(str::to_owned).or_else(|| Some(value.as_number()?.to_string()))?.parse().ok()
}

fn read_resources(of: &Definition, said: &mut Said) {
    let resources = &of.run()["resources"];
    let mebis = |name: &str| amount(&resources["limits"][name]).map(|amount| amount.units() / MEBI);
    let shares = amount(&resources["requests"]["cpu"]).map(|cores| (cores.milli() * SHARES + 500) / 1000);
    let all = [("memory_mb", mebis("memory")), ("memory_virt_mb", mebis("memorySwap")), ("cpu_shares", shares)];
    let shown: Map<String, Value> = all
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), json!(amount.filter(|amount| *amount > 0)?))))
        .collect();
    say(said, "resource_limit", (!shown.is_empty()).then_some(Value::Object(shown)));
}

fn write_resources(of: &mut Definition, said: &Said) -> Result<(), String> {
    let mut was = Said::new();
    read_resources(of, &mut was);
    let limits = said.get("resource_limit").cloned().unwrap_or_default();
    let was = was.get("resource_limit").cloned().unwrap_or_default();
    let run = of.run_mut();
    for (name, path) in
        [("memory_mb", ["resources", "limits", "memory"]), ("memory_virt_mb", ["resources", "limits", "memorySwap"])]
    {
        if limits[name] != was[name] {
            put(run, &path, limits[name].as_u64().map_or(Value::Null, |amount| json!(format!("{amount}Mi"))));
        }
    }
    if limits["cpu_shares"] != was["cpu_shares"] {
        let shares = limits["cpu_shares"].as_u64().map(|shares| (shares * 1000 + SHARES / 2) / SHARES);
        put(run, &["resources", "requests", "cpu"], shares.map_or(Value::Null, |milli| json!(format!("{milli}m"))));
    }
    Ok(())
}

fn read_version(of: &Definition, said: &mut Said) {
    say(said, "version", of.annotation(VERSION).as_str().and_then(|text| text.parse::<u64>().ok()).map(Value::from));
}

fn write_version(of: &mut Definition, said: &Said) -> Result<(), String> {
    of.annotate(VERSION, said.get("version").map_or(Value::Null, |number| json!(number.to_string())));
    Ok(())
}

fn read_dependencies(of: &Definition, said: &mut Said) {
    let names: Vec<&Value> = of.spec()["dependsOn"].as_array().into_iter().flatten().map(|on| &on["app"]).collect();
    say(said, "depends_on", (!names.is_empty()).then(|| json!(names)));
}

fn write_dependencies(of: &mut Definition, said: &Said) -> Result<(), String> {
    let wanted: Vec<&str> = said.get("depends_on").map(|names| texts(names).collect()).unwrap_or_default();
    if of.of != Of::App {
        return if wanted.is_empty() { Ok(()) } else { Err("only what runs all the time has `depends_on`".to_owned()) };
    }
    let known = of.spec()["dependsOn"].as_array().cloned().unwrap_or_default();
    let kept = |name: &&str| known.iter().find(|on| on["app"] == **name).cloned();
    let all: Vec<Value> = wanted.iter().map(|name| kept(name).unwrap_or_else(|| json!({"app": name}))).collect();
    put(of.spec_mut(), &["dependsOn"], if all.is_empty() { Value::Null } else { json!(all) });
    Ok(())
}
