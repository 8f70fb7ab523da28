//! What a service runs: its commands before, at and after a start, and at a stop, as one command and two hooks.

use serde_json::json;

use super::{
    super::super::{
        draft::{Draft, literal},
        report::{Refusal, Spot},
    },
    environment::{self, Variables},
    exec::{self, Command},
    find::Unit,
    service::{self, Form},
};

/// How often a shell looks for the process of a service that forks, a second apart.
const LOOKS: usize = 10;

/// What the lines of a service's settings run, in order.
#[derive(Default)]
struct Lines {
    condition: Vec<(Spot, Command)>,
    before: Vec<(Spot, Command)>,
    main: Vec<(Spot, Command)>,
}

/// Everything that is run.
///
/// # Errors
/// For lines that cannot be read.
pub(super) fn commands(unit: &Unit, form: Form, known: &Variables, draft: &mut Draft) -> Result<(), Vec<Refusal>> {
    let mut refusals = Vec::new();
    let lookup = |name: &str| known.get(name).cloned();
    let mut read = |key: &str, draft: &mut Draft| {
        let mut all: Vec<(Spot, Command)> = Vec::new();
        for entry in unit.all("Service", key) {
            match exec::commands(&entry.value, unit, &lookup) {
                Ok(commands) => {
                    for command in commands {
                        prefixes(&command, &entry.spot, key, draft);
                        all.push((entry.spot.clone(), command));
                    }
                }
                Err(why) => refusals.push(Refusal::new(&entry.spot, format!("{key}: {why}"))),
            }
        }
        all
    };
    let lines = Lines {
        condition: read("ExecCondition", draft),
        before: read("ExecStartPre", draft),
        main: read("ExecStart", draft),
    };
    let (after, stop) = (read("ExecStartPost", draft), read("ExecStop", draft));
    let (stop_after, reload) = (read("ExecStopPost", draft), read("ExecReload", draft));
    if lines.main.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(&unit.spot, "it has no `ExecStart`: there is nothing to run"));
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    started(unit, &lines, draft);
    if form == Form::App {
        hook("lifecycle.postStart", "ExecStartPost", &after, draft);
        if !asks_by_signal(&stop, draft) {
            hook("lifecycle.preStop", "ExecStop", &stop, draft);
        }
    } else {
        for (key, all) in [("ExecStartPost", &after), ("ExecStop", &stop)] {
            let remark = "what runs to its end has no hooks; say it in the command";
            all.iter().for_each(|(spot, _)| draft.dropped(spot, key, remark));
        }
    }
    for (spot, _) in stop_after {
        draft.dropped(&spot, "ExecStopPost", "nothing is run after the end of a process");
    }
    for (spot, _) in reload {
        draft.dropped(&spot, "ExecReload", "nothing is reloaded: a changed App is rolled out");
    }
    Ok(())
}

/// One command, or a shell that does one after the other; the last one becomes the process itself.
fn started(unit: &Unit, lines: &Lines, draft: &mut Draft) {
    let kind = unit.value("Service", "Type").unwrap_or("simple");
    let directories = if environment::is_root(unit) { environment::directories(unit) } else { Vec::new() };
    let steps: Vec<&(Spot, Command)> = lines.condition.iter().chain(&lines.before).chain(&lines.main).collect();
    let daemon = if kind == "forking" { pid_file(unit) } else { None };
    if let ([(spot, command)], [], None) = (&steps[..], &directories[..], &daemon) {
        return draft.set(spot, "ExecStart", "process.command", command.words.clone());
    }
    let last = steps.len() - 1;
    let line = |(at, (_, command)): (usize, &&(Spot, Command))| {
        let words = exec::shell_line(&command.words);
        let exec = if at == last && kind != "oneshot" && daemon.is_none() { "exec " } else { "" };
        let may_fail = if command.prefix.contains('-') && exec.is_empty() { " || true" } else { "" };
        format!("{exec}{words}{may_fail}")
    };
    let made = directories.iter().map(|(_, paths, mode)| {
        let words = ["mkdir", "-p", "-m", mode].into_iter().map(str::to_owned).chain(paths.iter().cloned());
        exec::shell_line(&words.collect::<Vec<_>>())
    });
    let mut script: Vec<String> = made.chain(steps.iter().enumerate().map(line)).collect();
    script.extend(daemon.map(|file| stays(&file, &stop_signal(unit))));
    draft.put("process.command", json!(["/bin/sh", "-e", "-c", literal(&script.join("\n"))]));
    for (spot, _) in &lines.condition {
        draft.nearly(spot, "ExecCondition", "run before each start; that it fails counts as a failure");
    }
    for (spot, _) in &lines.before {
        draft.nearly(spot, "ExecStartPre", "run by a shell before each start, with the same user and limits");
    }
    for (spot, _) in &lines.main {
        draft.carried(spot, "ExecStart");
    }
}

/// The file in which a service that forks leaves its number.
pub(super) fn pid_file(unit: &Unit) -> Option<String> {
    let file = exec::specifiers(unit.value("Service", "PIDFile")?, unit).ok()?;
    Some(if file.starts_with('/') { file } else { format!("/run/{file}") })
}

fn stop_signal(unit: &Unit) -> String {
    let said = unit.value("Service", "KillSignal").and_then(service::signal).unwrap_or_else(|| "SIGTERM".to_owned());
    said.trim_start_matches("SIG").to_owned()
}

/// Lines of a shell that stays as long as the process does which a file names, and hands it the signal to stop.
fn stays(file: &str, signal: &str) -> String {
    let file = exec::shell_line(&[literal(file)]);
    let times: Vec<String> = (1..=LOOKS).map(|n| n.to_string()).collect();
    format!(
        "for i in {}; do pid=$(cat {file} 2>/dev/null) && break; sleep 1; done\n\
         end=1\n\
         trap 'end=0; kill -{signal} $pid || :' {signal}\n\
         while kill -0 $pid 2>/dev/null; do sleep 1 & wait $! || :; done\n\
         exit $end",
        times.join(" ")
    )
}

/// A command that only sends a signal to the process says which one stops it.
fn asks_by_signal(stop: &[(Spot, Command)], draft: &mut Draft) -> bool {
    let [(spot, command)] = stop else { return false };
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let is_kill = words.first().is_some_and(|program| program.rsplit('/').next() == Some("kill"));
    let name = match words.get(1..) {
        Some(["$(MAINPID)"]) => "TERM",
        Some([sign, "$(MAINPID)"]) => sign.trim_start_matches('-'),
        Some(["-s" | "--signal", name, "$(MAINPID)"]) => name,
        _ => return false,
    };
    let Some(signal) = service::signal(name).filter(|_| is_kill) else { return false };
    draft.put("stopSignal", signal);
    draft.carried(spot, "ExecStop");
    true
}

/// What is run after a start, or before a stop.
fn hook(field: &str, key: &str, all: &[(Spot, Command)], draft: &mut Draft) {
    if all.iter().any(|(_, command)| command.words.iter().any(|word| word.contains("$(MAINPID)"))) {
        let remark = "`$MAINPID` is not known to a hook; an instance is asked by `stopSignal`, and ended after `terminationGracePeriodSeconds`";
        return all.iter().for_each(|(spot, _)| draft.dropped(spot, key, remark));
    }
    let command = match all {
        [] => return,
        [(_, command)] => json!(command.words),
        several => {
            let lines: Vec<String> = several.iter().map(|(_, command)| exec::shell_line(&command.words)).collect();
            json!(["/bin/sh", "-e", "-c", literal(&lines.join("\n"))])
        }
    };
    draft.put(field, json!({"exec": {"command": command}}));
    all.iter().for_each(|(spot, _)| draft.carried(spot, key));
}

/// What stands before a program.
fn prefixes(command: &Command, spot: &Spot, key: &str, draft: &mut Draft) {
    for sign in command.prefix.chars() {
        match sign {
            '+' | '!' => {
                draft.dropped(spot, &format!("{key} {sign}"), "it runs as the App's user, with no more rights")
            }
            '@' => draft.nearly(spot, &format!("{key} @"), "the program is called by its own name"),
            '-' if key == "ExecStart" => draft.dropped(spot, "ExecStart -", "a failure of it is a failure"),
            '|' => draft.dropped(spot, &format!("{key} |"), "`process.login: true` runs it through a login shell"),
            _ => {}
        }
    }
    // What is left out, or said otherwise, needs no variables.
    let is_left_out =
        matches!(key, "ExecReload" | "ExecStopPost") || (key == "ExecStop" && command.unknown == ["MAINPID"]);
    for name in command.unknown.iter().filter(|_| !is_left_out) {
        let remark = match exec::is_set_by_systemd(name) {
            true => format!("`$({name})` is set by systemd and not here: give it in `env`"),
            false => format!("`${name}` is set nowhere in the unit: nothing stands in its place, as there"),
        };
        draft.nearly(spot, key, &remark);
    }
}
