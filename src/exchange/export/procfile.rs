//! A Procfile: Apps that run processes, by their commands.

use serde_json::Value;

use super::super::{
    report::{Fate, Report},
    tree::entries,
};
use super::{File, Source, left_out, part, unit, variables};

/// One Procfile, and an `.env` for what all Apps have in common.
pub fn write(objects: &[Value]) -> Report<File> {
    let mut report = Report::default();
    left_out(objects, &["App"], &mut report);
    let (mut text, mut notes, mut shared) = (String::new(), Vec::new(), None);
    for object in objects.iter().filter(|object| object["kind"] == "App") {
        let mut source = Source::of(object);
        if !source.spec["process"].is_object() {
            report.note(&source.spot, "spec", Fate::Dropped, "only processes are written");
            continue;
        }
        let spec = source.spec;
        let env = variables(&mut source, spec, "what it comes from is known here only: put it into .env");
        let line = command(&mut source);
        text.push_str(&format!("{}: {line}\n", source.name));
        let all = shared.get_or_insert_with(|| env.clone());
        all.retain(|variable| env.contains(variable));
        for (name, _) in env.iter().filter(|variable| !all.contains(variable)) {
            source.dropped(&format!("env.{name}"), "all processes of a Procfile have the same variables");
        }
        for (field, _) in entries(&source.spec["process"]) {
            match field.as_str() {
                "command" | "args" | "script" => {}
                "workingDir" => source.nearly("process.workingDir", "start it in that directory"),
                _ => source.dropped(&format!("process.{field}"), "a Procfile has commands only"),
            }
        }
        if source.spec["replicas"].as_i64().unwrap_or(1) != 1 {
            let remark = format!("`foreman start -m {}={}`", source.name, source.spec["replicas"]);
            source.nearly("replicas", &remark);
        }
        source.no_metadata();
        unit::rest(&mut source, &["process", "env", "envFrom", "replicas"]);
        notes.append(&mut source.notes);
    }
    let env: String =
        shared.unwrap_or_default().iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    report.parts.push(part("Procfile".to_owned(), text, notes));
    if !env.is_empty() {
        report.parts.push(part(".env".to_owned(), env, Vec::new()));
    }
    report
}

/// The command of an App in a line for a shell.
fn command(source: &mut Source<'_>) -> String {
    let process = &source.spec["process"];
    let args = unit::words(&process["args"]);
    if let Some(script) = process["script"].as_str() {
        let (shell, _) = unit::interpreter(script);
        source.nearly("process.script", "in a line, which `printf` takes apart again");
        let quoted = |text: &str| shlex::try_quote(text).map(std::borrow::Cow::into_owned).unwrap_or_default();
        let line = script.replace('\\', "\\\\").replace('\n', "\\n");
        let script = format!("\"$(printf '%b' {})\"", quoted(&line));
        let words = shell.iter().map(|word| quoted(word)).chain([script, "script".to_owned()]);
        return words.chain(args.iter().map(|word| quoted(word))).collect::<Vec<_>>().join(" ");
    }
    source.carried("process.command");
    let words: Vec<String> = unit::words(&process["command"]).into_iter().chain(args).collect();
    // What a shell was given is a shell's again.
    if let [shell, flag, line] = &words[..]
        && (shell == "/bin/sh" || shell == "sh")
        && flag == "-c"
        && !line.contains('\n')
    {
        return line.replace("$$", "$");
    }
    let one = |word: &String| {
        let plain = shlex::try_quote(&word.replace("$$", "$")).map(std::borrow::Cow::into_owned).unwrap_or_default();
        match word.contains("$(") && !word.contains("$$(") {
            // A variable of appm's is one of the shell's.
            true => format!("\"{}\"", word.replace('"', "\\\"").replace("$(", "${").replace(')', "}")),
            false => plain,
        }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@+=".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
