//! A crontab: a Schedule for each of its lines, as crontab(5) reads them.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::super::{
    draft::{Draft, literal},
    files::Files,
    names::Names,
    report::{Fate, Outcome, Refusal, Report, Spot},
};
use crate::api::{LONGEST_SCHEDULE_NAME, cron::Cron, time_zone};

/// Longer comments are no description.
const LONGEST_COMMENT: usize = 200;

/// Reads a crontab; in one of the `system` the sixth field is a user, as in /etc/crontab and /etc/cron.d.
///
/// # Errors
/// Every line that is none of a crontab.
pub fn read(path: &Path, system: bool, files: &Files) -> Outcome<Value> {
    let text = super::text(path, files)?;
    let file = Spot::new(path, 0);
    let mut reader = Reader { system, ..Reader::default() };
    let mut refusals = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let (spot, line) = (file.at(at + 1), line.trim());
        if let Some(comment) = line.strip_prefix('#') {
            reader.comment = Some(comment.trim().to_owned());
        } else if line.is_empty() {
            reader.comment = None;
        } else if let Some((name, value)) = assignment(line) {
            reader.assign(name, value, &spot);
        } else if let Err(refusal) = reader.entry(line, &spot) {
            refusals.push(refusal);
        }
        super::too_many(reader.report.parts.len(), "entries", &file)?;
    }
    if reader.report.parts.is_empty() && reader.report.notes.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(&file, "there is no line in it that runs something"));
    }
    if refusals.is_empty() { Ok(reader.report) } else { Err(refusals) }
}

/// `NAME = value`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    let value = value.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|v: &str| v.strip_suffix(quote));
    is_name.then(|| (name, quoted('"').or_else(|| quoted('\'')).unwrap_or(value)))
}

/// What the lines so far say of those that follow.
#[derive(Default)]
struct Reader {
    system: bool,
    env: BTreeMap<String, String>,
    shell: Option<String>,
    zone: Option<String>,
    jitter: Option<u32>,
    /// The comment right above.
    comment: Option<String>,
    names: Names,
    report: Report<Value>,
}

impl Reader {
    fn assign(&mut self, name: &str, value: &str, spot: &Spot) {
        let mut note = |fate: Fate, remark: &str| self.report.note(spot, name, fate, remark);
        match name {
            "MAILTO" | "MAILFROM" if value.is_empty() => note(Fate::Carried, ""),
            "MAILTO" | "MAILFROM" => note(Fate::Dropped, "output is kept, not mailed: `appm logs`"),
            "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => note(Fate::Dropped, "nothing is mailed"),
            "CRON_TZ" if time_zone(value).is_err() => {
                note(Fate::Dropped, "there is no such time zone; the server's is meant in what follows");
            }
            "RANDOM_DELAY" => match value.parse::<u32>() {
                Ok(minutes) if minutes <= 1440 => {
                    note(Fate::Approximated, "a Schedule's `jitter` is always the same for it");
                    self.jitter = Some(minutes).filter(|minutes| *minutes > 0);
                }
                _ => note(Fate::Dropped, "no number of minutes up to a day"),
            },
            _ => {
                note(Fate::Carried, "");
                match name {
                    "SHELL" => self.shell = Some(value.to_owned()),
                    "CRON_TZ" => self.zone = Some(value.to_owned()),
                    _ => {
                        if name == "TZ" && time_zone(value).is_ok() {
                            self.zone = Some(value.to_owned());
                        }
                        self.env.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
        }
    }

    fn entry(&mut self, line: &str, spot: &Spot) -> Result<(), Refusal> {
        let Some(entry) = Entry::read(line, self.system) else {
            let user = if self.system { " USER" } else { "" };
            let message = format!(
                "no line of a crontab: `MINUTE HOUR DAY MONTH WEEKDAY{user} COMMAND` or `@daily{user} COMMAND` is one"
            );
            return Err(Refusal::new(spot, message));
        };
        if entry.when.eq_ignore_ascii_case("@reboot") {
            let remark = "a start is no time: an App runs from the start on, and with `restartPolicy: Never` once";
            self.report.note(spot, &entry.when, Fate::Dropped, remark);
            return Ok(());
        }
        if let Err(why) = entry.when.parse::<Cron>() {
            // What no day is meant by is a good line that never does anything.
            let Some(never) = why.to_string().strip_prefix("no day").map(|rest| format!("no day{rest}")) else {
                return Err(Refusal::new(spot, format!("`{}`: {why}", entry.when)));
            };
            self.report.note(spot, &entry.when, Fate::Dropped, &never);
            return Ok(());
        }
        let draft = self.schedule(&entry, spot);
        self.report.parts.push(draft.done());
        Ok(())
    }

    fn schedule(&mut self, entry: &Entry<'_>, spot: &Spot) -> Draft {
        let mut draft = Draft::new("Schedule", &self.names.take(program(&entry.command), LONGEST_SCHEDULE_NAME));
        let shell = self.shell.as_deref().unwrap_or("/bin/sh");
        draft.put("cron", entry.when.clone());
        if let Some(zone) = &self.zone {
            draft.put("timeZone", zone.clone());
        }
        // cron does not make up for what it missed.
        draft.put("startingDeadlineSeconds", 60);
        if let Some(minutes) = self.jitter {
            draft.put("jitter", format!("{minutes}m"));
        }
        // What appm itself would take for a variable is left to the shell.
        draft.put("run.process.command", json!([shell, "-c", literal(&entry.command)]));
        if let Some(user) = entry.user {
            draft.put("run.process.user", user);
        }
        if let Some(home) = self.env.get("HOME") {
            draft.put("run.process.workingDir", home.clone());
        }
        for (name, value) in &self.env {
            draft.push("run.env", json!({"name": name, "value": literal(value)}));
        }
        if let Some(text) = &entry.stdin {
            draft.put("run.stdin", text.clone());
        }
        // Drawings of the five fields are no words.
        let says = |text: &String| text.starts_with(char::is_alphabetic) && text.len() <= LONGEST_COMMENT;
        if let Some(text) = self.comment.take().filter(says) {
            draft.annotate("kubernetes.io/description", &text);
        }
        draft.carried(spot, &entry.when);
        draft
    }
}

/// What a command is called: its program, without what goes before it.
fn program(command: &str) -> &str {
    let mut command = command;
    loop {
        command = command.trim_start_matches([' ', '\t', '{', '(', '&', '|', ';']);
        // Where it goes first, and on what condition, says little of what it does.
        let goes = command.strip_prefix("cd ").and_then(|rest| rest.split_once(['&', ';']));
        let asks = || command.strip_prefix("test ").or_else(|| command.strip_prefix("[ "));
        let after = goes.or_else(|| asks().and_then(|rest| rest.split_once("||").or_else(|| rest.split_once("&&"))));
        let Some((_, after)) = after else { break };
        command = after;
    }
    let mut words = command.split(|c: char| c.is_whitespace() || ";|&()<>".contains(c)).filter(|w| !w.is_empty());
    let before = ["exec", "nice", "sudo", "env"];
    let program = words.find(|word| !word.contains('=') && !word.starts_with('-') && !before.contains(word));
    program.and_then(|program| program.rsplit('/').next()).filter(|name| !name.is_empty()).unwrap_or("job")
}

/// One line that runs something.
struct Entry<'a> {
    when: String,
    user: Option<&'a str>,
    command: String,
    stdin: Option<String>,
}

impl<'a> Entry<'a> {
    fn read(line: &'a str, system: bool) -> Option<Self> {
        let fields = if line.starts_with('@') { 1 } else { 5 };
        let (mut when, mut rest) = (Vec::new(), line);
        for _ in 0..fields {
            when.push(word(&mut rest)?);
        }
        let user = if system { Some(word(&mut rest)?) } else { None };
        let (command, stdin) = split_at_percent(rest.trim());
        (!command.is_empty()).then(|| Self { when: when.join(" "), user, command, stdin })
    }
}

/// The next word, which is taken off.
fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace)?;
    let (word, after) = text.split_at(end);
    *rest = after;
    Some(word)
}

/// What stands before the first `%` is run, what stands after it is read: each further `%` is a new line, `\%` is a percent sign.
fn split_at_percent(text: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'%') => {
                chars.next();
                parts.last_mut().expect("never empty").push('%');
            }
            '%' => parts.push(String::new()),
            c => parts.last_mut().expect("never empty").push(c),
        }
    }
    let command = parts.remove(0).trim_end().to_owned();
    (command, (!parts.is_empty()).then(|| parts.join("\n") + "\n"))
}
