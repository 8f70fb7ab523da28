//! Words and values as units of systemd write them, and what services and quadlets have in common.

use serde_json::Value;

use super::super::{
    quantity,
    report::Fate,
    tree::{entries, text},
};
use super::Source;

/// A unit while it is being written.
#[derive(Default)]
pub(super) struct Unit {
    sections: Vec<(&'static str, Vec<String>)>,
}

impl Unit {
    pub(super) fn line(&mut self, section: &'static str, key: &str, value: impl AsRef<str>) {
        let line = format!("{key}={}", value.as_ref());
        match self.sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, lines)) => lines.push(line),
            None => self.sections.push((section, vec![line])),
        }
    }

    pub(super) fn text(&self) -> String {
        let section = |(name, lines): &(&str, Vec<String>)| format!("[{name}]\n{}\n", lines.join("\n"));
        self.sections.iter().map(section).collect::<Vec<_>>().join("\n")
    }
}

/// A word in quotes where it must be, in which nothing is expanded but what was meant to be: `$(NAME)` becomes `${NAME}`.
pub(super) fn word(text: &str, expands: bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '$' if expands && rest.starts_with('$') => {
                out.push_str("$$");
                rest = &rest[1..];
            }
            '$' if expands && rest.starts_with('(') => match rest[1..].split_once(')') {
                Some(("APPM_ORDINAL", tail)) => {
                    out.push_str("%i");
                    rest = tail;
                }
                Some((name, tail)) if super::super::env_file::is_name(name) => {
                    out.push_str(&format!("${{{name}}}"));
                    rest = tail;
                }
                _ => out.push_str("$$"),
            },
            '$' if expands => out.push_str("$$"),
            '%' => out.push_str("%%"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@+=%${}".contains(c);
    if !text.is_empty() && out.chars().all(plain) { out } else { format!("\"{out}\"") }
}

pub(super) fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(text).collect()
}

pub(super) fn join(all: &[String], expands: bool) -> String {
    all.iter().map(|each| word(each, expands)).collect::<Vec<_>>().join(" ")
}

/// A shell that gives the kernel a script as a file which is gone again before it runs: its `#!` line says the rest.
const AS_A_FILE: &str = "f=$(mktemp); printf %s \"$0\" >\"$f\"; chmod 500 \"$f\"; exec 3<\"$f\"; rm \"$f\"; shift; exec /proc/self/fd/3 \"$@\"";

/// What runs a script that is its next argument, and how: the shell's own is `sh -eu -c`, others by their `#!` line.
pub(super) fn interpreter(script: &str) -> (Vec<String>, &'static str) {
    const ARGUMENT: &str = "given to its interpreter as an argument";
    const FILE: &str = "a shell writes it into /tmp at each start, and runs that";
    let Some(line) = script.strip_prefix("#!").and_then(|rest| rest.lines().next()) else {
        return (["/bin/sh", "-eu", "-c"].map(str::to_owned).to_vec(), ARGUMENT);
    };
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    let program = words.iter().map(name).find(|name| name != "env" && name != "-S").unwrap_or_default();
    let flag = match program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "python" => "-c",
        "perl" | "ruby" | "node" => "-e",
        _ => return (vec!["/bin/sh".to_owned(), "-ec".to_owned(), AS_A_FILE.to_owned()], FILE),
    };
    (words.into_iter().chain([flag.to_owned()]).collect(), ARGUMENT)
}

/// A plain value: percent signs are doubled.
pub(super) fn value(text: &str) -> String {
    super::one_line(text).replace('%', "%%")
}

/// What a service has, whatever it runs: restarts, stops, limits, dependencies.
pub(super) fn life(source: &mut Source<'_>, unit: &mut Unit, apps: &dyn Fn(&str) -> String) {
    let spec = source.spec;
    let policy = match spec["restartPolicy"].as_str() {
        Some("OnFailure") => "on-failure",
        Some("Never") => "no",
        _ => "always",
    };
    unit.line("Service", "Restart", policy);
    if !spec["restartPolicy"].is_null() {
        source.carried("restartPolicy");
    }
    let backoff = &spec["restart"]["backoff"];
    if let Some(initial) = backoff["initial"].as_str() {
        unit.line("Service", "RestartSec", initial);
        match backoff["max"] == backoff["initial"] {
            true => source.carried("restart.backoff"),
            false => source.nearly("restart.backoff", "each pause is the first one"),
        }
    }
    if let Some(most) = spec["restart"]["maxRestarts"].as_u64().filter(|most| *most > 0) {
        unit.line("Unit", "StartLimitBurst", most.to_string());
        unit.line("Unit", "StartLimitIntervalSec", backoff["resetAfter"].as_str().unwrap_or("60s"));
        source.nearly("restart.maxRestarts", "so many starts within the interval");
    }
    let mut codes: [Vec<String>; 2] = Default::default();
    for (code, action) in entries(&spec["restart"]["exitCodes"]) {
        match (code.as_str(), action.as_str()) {
            ("*", _) | (_, Some("Remove")) => source.dropped(&format!("restart.exitCodes.{code}"), "no such rule"),
            (_, Some("Stop")) => codes[0].push(code.clone()),
            _ => codes[1].push(code.clone()),
        }
    }
    for (key, all) in [("RestartPreventExitStatus", &codes[0]), ("RestartForceExitStatus", &codes[1])] {
        if !all.is_empty() {
            unit.line("Service", key, all.join(" "));
            source.carried("restart.exitCodes");
        }
    }
    if let Some(seconds) = spec["terminationGracePeriodSeconds"].as_i64() {
        unit.line("Service", "TimeoutStopSec", grace(seconds));
        source.carried("terminationGracePeriodSeconds");
    }
    for on in spec["dependsOn"].as_array().into_iter().flatten() {
        let other = apps(on["app"].as_str().unwrap_or_default());
        unit.line("Unit", "After", &other);
        unit.line("Unit", "Wants", &other);
        match on["condition"].as_str().unwrap_or("Ready") {
            "Started" => source.carried("dependsOn"),
            _ => source.nearly(
                "dependsOn",
                "it is started after the other has started, ready or not, unless that one is Type=notify",
            ),
        }
    }
    limits(source, unit);
}

fn limits(source: &mut Source<'_>, unit: &mut Unit) {
    let limits = source.spec["resources"]["limits"].clone();
    let amount = |name: &str| text(&limits[name]).and_then(|text| text.parse::<crate::api::Quantity>().ok());
    if let Some(memory) = amount("memory") {
        unit.line("Service", "MemoryMax", memory.units().to_string());
        source.carried("resources.limits.memory");
        if let Some(both) = amount("memorySwap") {
            unit.line("Service", "MemorySwapMax", both.units().saturating_sub(memory.units()).to_string());
            source.carried("resources.limits.memorySwap");
        }
    }
    if let Some(cpu) = amount("cpu") {
        unit.line("Service", "CPUQuota", format!("{}%", cpu.milli().div_ceil(10).max(1)));
        source.carried("resources.limits.cpu");
    }
    for (name, key) in [("pids", "TasksMax"), ("ioWeight", "IOWeight")] {
        if let Some(amount) = amount(name) {
            unit.line("Service", key, amount.units().to_string());
            source.carried(&format!("resources.limits.{name}"));
        }
    }
    for (name, _) in entries(&source.spec["resources"]["requests"]) {
        source.dropped(&format!("resources.requests.{name}"), "nothing is set aside there");
    }
}

/// A grace period; 0 is for ever there, so none is a millisecond.
pub(super) fn grace(seconds: i64) -> String {
    if seconds == 0 { "1ms".to_owned() } else { seconds.to_string() }
}

/// A duration of Go's in seconds, as systemd writes it.
pub(super) fn span(text: &str) -> String {
    quantity::duration(text).map_or_else(|| text.to_owned(), |millis| format!("{millis}ms"))
}

/// Fields that a writer has not taken.
pub(super) fn rest(source: &mut Source<'_>, taken: &[&str]) {
    let spec = source.spec;
    for (field, value) in entries(spec).filter(|(field, _)| !taken.contains(&field.as_str())) {
        let told =
            source.notes.iter().any(|note| note.setting == *field || note.setting.starts_with(&format!("{field}.")));
        let says_nothing = value.is_null()
            || *value == Value::Bool(false)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if !told && !says_nothing {
            source.notes.push(super::Note::new(&source.spot, field, Fate::Dropped, super::why_not(field)));
        }
    }
}
