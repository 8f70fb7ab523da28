//! A Procfile: `name: command` lines, as Foreman, Heroku and their like read them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{
    draft::{self, Draft},
    env_file,
    files::Files,
    names::Names,
    report::{Fate, Outcome, Refusal, Report, Spot},
};

/// What the command line says beside the file.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The directory of the processes, absolute: the Procfile's.
    pub dir: PathBuf,
    /// Files of variables, in place of `.env` beside the Procfile.
    pub env_files: Vec<PathBuf>,
}

/// Reads a Procfile.
///
/// # Errors
/// Every line that is none, and files that cannot be read.
pub fn read(path: &Path, asked: &Asked, files: &Files) -> Outcome<Value> {
    let text = super::text(path, files)?;
    let file = Spot::new(path, 0);
    let mut report = Report::default();
    let env = variables(asked, files, &mut report)?;
    let (mut refusals, mut names) = (Vec::new(), Names::default());
    let lines = text.lines().enumerate().map(|(at, line)| (file.at(at + 1), line.trim()));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
    super::too_many(lines.len(), "processes", &file)?;
    for (spot, line) in lines {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let named = line.split_once(':').filter(|(name, _)| !name.is_empty() && name.chars().all(plain));
        let Some((name, command)) = named.map(|(name, command)| (name, command.trim())) else {
            refusals.push(Refusal::new(&spot, "no process: `name: command` is one"));
            continue;
        };
        let words = match draft::command(command) {
            Ok(words) => words,
            Err(why) => {
                refusals.push(Refusal::new(&spot, format!("`{name}`: {why}")));
                continue;
            }
        };
        report.parts.push(process(name, command, words, &spot, asked, &env, &mut names).done());
    }
    if report.parts.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(&file, "there is no `name: command` line in it"));
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

fn process(
    name: &str,
    command: &str,
    words: Vec<String>,
    spot: &Spot,
    asked: &Asked,
    env: &[env_file::Variable],
    names: &mut Names,
) -> Draft {
    let mut draft = Draft::new("App", &names.take(name, super::LONGEST_NAME));
    if draft.name != name {
        draft.nearly(spot, name, &format!("its name became `{}`", draft.name));
    }
    draft.set(spot, name, "process.command", words);
    draft.put("process.workingDir", json!(asked.dir));
    for variable in env {
        draft.env(&variable.name, &variable.value);
    }
    let has_port = env.iter().any(|variable| variable.name == "PORT");
    if !has_port && (name == "web" || command.contains("$PORT") || command.contains("${PORT")) {
        draft.push("ports", json!({"name": "http", "containerPort": 0}));
        draft.nearly(
            spot,
            "PORT",
            "a free port of each instance; Foreman counts from 5000 on. `containerPort: 5000` fixes it",
        );
    }
    if name == "release" {
        draft.put("restartPolicy", "Never");
        draft.nearly(spot, "release", "started once with the others; Heroku runs it before each release");
    }
    draft
}

/// What `.env`, or the files that were named, say.
fn variables(
    asked: &Asked,
    files: &Files,
    report: &mut Report<Value>,
) -> Result<Vec<env_file::Variable>, Vec<Refusal>> {
    let beside = asked.dir.join(".env");
    let usual = if files.is_file(&beside) { vec![beside] } else { Vec::new() };
    let paths = if asked.env_files.is_empty() { &usual } else { &asked.env_files };
    let mut all: Vec<env_file::Variable> = Vec::new();
    for path in paths {
        let text = super::text(path, files)?;
        for variable in env_file::read(&text, &Spot::new(path, 0))? {
            report.note(&variable.spot, &variable.name, Fate::Carried, "");
            all.retain(|earlier| earlier.name != variable.name);
            all.push(variable);
        }
    }
    Ok(all)
}
