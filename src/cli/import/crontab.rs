//! `appm import crontab`: a crontab as manifests. What could not be carried over is said in a comment, and nowhere silently left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Read as _,
    path::PathBuf,
};

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::{error::CliError, output, screen, settings::Global};
use crate::api::{LONGEST_SCHEDULE_NAME, cron::Cron, time_zone};

/// Print a Schedule for each line of a crontab
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  crontab -l | appm import crontab - > schedules.yaml
  appm import crontab /etc/crontab --system | appm apply -f -

Read what it prints before you apply it: a line that begins with `#!` says what is different, or was left out.")]
pub(super) struct CrontabArgs {
    /// The crontab; `-` is stdin
    file: PathBuf,
    /// The sixth field is a user, as in /etc/crontab and /etc/cron.d
    #[arg(long)]
    system: bool,
}

pub(super) fn run(args: &CrontabArgs, global: &Global) -> Result<(), CliError> {
    let attempt = format!("cannot read {}", args.file.display());
    let mut text = String::new();
    let text = match args.file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| text),
        false => fs::read_to_string(&args.file),
    };
    let text = text.map_err(|e| CliError::io(&attempt, &e))?;
    Ok(screen::print(import(&text, args.system, global.namespace.as_deref()))?)
}

/// What the lines so far say of those that follow.
#[derive(Default)]
struct Reader {
    env: BTreeMap<String, String>,
    shell: Option<String>,
    zone: Option<String>,
    /// Comments of the crontab, and what is to be said, before the next manifest.
    above: Vec<String>,
    names: BTreeSet<String>,
    out: String,
}

fn import(text: &str, system: bool, namespace: Option<&str>) -> String {
    let mut reader = Reader::default();
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix('#') {
            reader.above.push(format!("#{comment}"));
        } else if line.is_empty() {
            reader.speak();
        } else if let Some((name, value)) = assignment(line) {
            reader.assign(name, value);
        } else {
            reader.entry(line, system, namespace);
        }
    }
    reader.speak();
    reader.out
}

/// `NAME = value`, as crontab(5) has it.
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

impl Reader {
    /// Writes the comments that belong to nothing.
    fn speak(&mut self) {
        for line in std::mem::take(&mut self.above) {
            let _ = writeln!(self.out, "{line}");
        }
    }

    fn remark(&mut self, text: &str) {
        self.above.push(format!("#! {text}"));
    }

    fn assign(&mut self, name: &str, value: &str) {
        match name {
            "MAILTO" | "MAILFROM" if value.is_empty() => {}
            "MAILTO" | "MAILFROM" => {
                self.remark(&format!("{name}={value}: output is kept, not mailed (`appm logs`)"));
            }
            "SHELL" => self.shell = Some(value.to_owned()),
            "CRON_TZ" | "TZ" if time_zone(value).is_ok() => {
                self.zone = Some(value.to_owned());
                if name == "TZ" {
                    self.env.insert(name.to_owned(), value.to_owned());
                }
            }
            "CRON_TZ" => self.remark(&format!("CRON_TZ={value}: no such time zone; the server's is meant below")),
            "RANDOM_DELAY" => self.remark(&format!("RANDOM_DELAY={value}: use `jitter`")),
            name => {
                self.env.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn entry(&mut self, line: &str, system: bool, namespace: Option<&str>) {
        let Some(entry) = Entry::read(line, system) else {
            self.remark(&format!("left out, because it is no line of a crontab: {line}"));
            return;
        };
        if entry.when.eq_ignore_ascii_case("@reboot") {
            self.remark(&format!("left out, because a start is no time; an App runs from the start on: {line}"));
            return;
        }
        if let Err(why) = entry.when.parse::<Cron>() {
            self.remark(&format!("left out, because {why}: {line}"));
            return;
        }
        let manifest = self.manifest(&entry, namespace);
        if !self.out.is_empty() && !self.out.ends_with("---\n") {
            self.out.push_str("---\n");
        }
        self.speak();
        self.out.push_str(&output::yaml(&manifest));
    }

    fn manifest(&mut self, entry: &Entry<'_>, namespace: Option<&str>) -> Value {
        let name = self.name(&entry.command);
        let mut process = Map::new();
        let shell = self.shell.as_deref().unwrap_or("/bin/sh");
        // What appm itself would take for a variable is left to the shell.
        let command = entry.command.replace("$$", "$$$$").replace("$(", "$$(");
        process.insert("command".into(), json!([shell, "-c", command]));
        process.extend(entry.user.map(|user| ("user".to_owned(), json!(user))));
        let mut env = self.env.clone();
        if let Some(home) = env.remove("HOME") {
            process.insert("workingDir".into(), json!(home));
            env.insert("HOME".to_owned(), home);
        }
        let mut run = Map::new();
        run.insert("process".into(), Value::Object(process));
        if !env.is_empty() {
            let env: Vec<Value> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            run.insert("env".into(), json!(env));
        }
        run.extend(entry.stdin.as_ref().map(|text| ("stdin".to_owned(), json!(text))));
        let mut spec = Map::new();
        spec.insert("cron".into(), json!(entry.when));
        spec.extend(self.zone.as_ref().map(|zone| ("timeZone".to_owned(), json!(zone))));
        // cron does not make up for what it missed.
        spec.insert("startingDeadlineSeconds".into(), json!(60));
        spec.insert("run".into(), Value::Object(run));
        let mut metadata = Map::new();
        metadata.insert("name".into(), json!(name));
        metadata.extend(namespace.map(|n| ("namespace".to_owned(), json!(n))));
        json!({"apiVersion": "appm.dev/v1", "kind": "Schedule", "metadata": metadata, "spec": spec})
    }

    /// A name made of the program's, that no other entry has.
    fn name(&mut self, command: &str) -> String {
        // Where it goes first says little of what it does.
        let mut command = command;
        while let Some((_, after)) = command.strip_prefix("cd ").and_then(|rest| rest.split_once(['&', ';'])) {
            command = after.trim_start_matches(['&', ' ']);
        }
        let mut words = command.split(|c: char| c.is_whitespace() || ";|&()<>".contains(c)).filter(|w| !w.is_empty());
        let program = words.find(|word| !word.contains('=') && !["test", "[", "exec", "nice", "sudo"].contains(word));
        let base = program.unwrap_or("job").rsplit('/').next().unwrap_or("job").to_ascii_lowercase();
        let base: String = base.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let base: String = base.trim_matches('-').chars().take(LONGEST_SCHEDULE_NAME - 6).collect();
        let base = if base.trim_matches('-').is_empty() { "job" } else { base.trim_matches('-') };
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        let name = std::iter::once(base.to_owned()).chain(numbered).find(|name| !self.names.contains(name));
        let name = name.expect("there is always another number");
        self.names.insert(name.clone());
        name
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crontab_becomes_manifests_and_says_what_it_could_not_carry_over() {
        let text = "\
# Edit this file
MAILTO=ops@example.com
PATH=/usr/local/bin:/usr/bin

# every night
30 2 * * 1-5 /opt/backup.sh --full
CRON_TZ=Europe/Berlin
SHELL=/bin/bash
*/5 * * * * cd /srv && ./poll $(date)
0 0 1 * * mail -s \"100\\% done\" me%first%second
@reboot /opt/start
0 0 31 2 * never
what is this
@daily /opt/backup.sh
";
        insta::assert_snapshot!(import(text, false, None), @r##"
        # Edit this file
        #! MAILTO=ops@example.com: output is kept, not mailed (`appm logs`)
        ---
        # every night
        apiVersion: appm.dev/v1
        kind: Schedule
        metadata:
          name: backup-sh
        spec:
          cron: 30 2 * * 1-5
          startingDeadlineSeconds: 60
          run:
            process:
              command:
              - /bin/sh
              - -c
              - /opt/backup.sh --full
            env:
            - name: PATH
              value: /usr/local/bin:/usr/bin
        ---
        apiVersion: appm.dev/v1
        kind: Schedule
        metadata:
          name: poll
        spec:
          cron: "*/5 * * * *"
          timeZone: Europe/Berlin
          startingDeadlineSeconds: 60
          run:
            process:
              command:
              - /bin/bash
              - -c
              - cd /srv && ./poll $$(date)
            env:
            - name: PATH
              value: /usr/local/bin:/usr/bin
        ---
        apiVersion: appm.dev/v1
        kind: Schedule
        metadata:
          name: mail
        spec:
          cron: 0 0 1 * *
          timeZone: Europe/Berlin
          startingDeadlineSeconds: 60
          run:
            process:
              command:
              - /bin/bash
              - -c
              - mail -s "100% done" me
            env:
            - name: PATH
              value: /usr/local/bin:/usr/bin
            stdin: |
              first
              second
        ---
        #! left out, because a start is no time; an App runs from the start on: @reboot /opt/start
        #! left out, because no day of any year is meant by it: 0 0 31 2 * never
        #! left out, because it is no line of a crontab: what is this
        apiVersion: appm.dev/v1
        kind: Schedule
        metadata:
          name: backup-sh-2
        spec:
          cron: "@daily"
          timeZone: Europe/Berlin
          startingDeadlineSeconds: 60
          run:
            process:
              command:
              - /bin/bash
              - -c
              - /opt/backup.sh
            env:
            - name: PATH
              value: /usr/local/bin:/usr/bin
        "##);
    }

    #[test]
    fn a_system_crontab_names_the_user() {
        let text = "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n";
        insta::assert_snapshot!(import(text, true, Some("ops")), @r##"
        apiVersion: appm.dev/v1
        kind: Schedule
        metadata:
          name: run-parts
          namespace: ops
        spec:
          cron: 17 * * * *
          startingDeadlineSeconds: 60
          run:
            process:
              command:
              - /bin/sh
              - -c
              - cd / && run-parts --report /etc/cron.hourly
              user: root
        "##);
    }
}
