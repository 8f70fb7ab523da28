//! Supervisor's configuration: programs, groups, includes, `numprocs`.
//!
//! Defaults that mean something are written out: `autorestart` is `unexpected` there, `Always` here. Others are left to appm.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::{
    super::{
        draft::{self, Draft},
        files::Files,
        ini::{self, Dialect, Entry},
        names::Names,
        quantity,
        report::{Fate, Outcome, Part, Refusal, Report, Spot, brief},
    },
    LONGEST_NAME, MOST,
    words::SUPERVISOR,
};

/// Reads a configuration file, with what it includes.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(path: &Path, files: &Files) -> Outcome<Value> {
    let mut sections = Sections::default();
    let mut report = Report::default();
    let mut refusals = Vec::new();
    if let Err(more) = sections.add(path, files, true, &mut report) {
        refusals.extend(more);
    }
    let programs: Vec<&Section> = sections.all.iter().filter(|section| section.program().is_some()).collect();
    if programs.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(&Spot::new(path, 0), "there is no `[program:NAME]` in it"));
    }
    let common = Common::of(&sections.all, &mut report);
    let mut names = Names::default();
    for section in programs {
        match program(section, &common, &mut names) {
            Ok(parts) => report.parts.extend(parts),
            Err(refusal) => refusals.push(refusal),
        }
        super::too_many(report.parts.len(), "programs", &section.spot)?;
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

/// `[name]` with its entries; the last of each key.
#[derive(Clone, Debug)]
struct Section {
    name: String,
    spot: Spot,
    entries: BTreeMap<String, Entry>,
    /// The directory of its file, `%(here)s`.
    here: String,
}

impl Section {
    fn program(&self) -> Option<&str> {
        let name = self.name.strip_prefix("program:").or_else(|| self.name.strip_prefix("fcgi-program:"));
        name.map(str::trim)
    }
}

#[derive(Default)]
struct Sections {
    all: Vec<Section>,
}

impl Sections {
    fn add(
        &mut self,
        path: &Path,
        files: &Files,
        may_include: bool,
        report: &mut Report<Value>,
    ) -> Result<(), Vec<Refusal>> {
        let text = super::text(path, files)?;
        let ini = ini::read(&text, path, Dialect::Supervisor)?;
        super::too_many(self.all.len() + ini.sections.len(), "sections", &Spot::new(path, 0))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let first = self.all.len();
        for (name, spot) in ini.sections {
            let here = if dir.as_os_str().is_empty() { ".".to_owned() } else { dir.display().to_string() };
            // Of two sections of one name the entries come together.
            if self.all[first..].iter().all(|section| section.name != name) {
                self.all.push(Section { name, spot, entries: BTreeMap::new(), here });
            }
        }
        for entry in ini.entries {
            let mine = self.all[first..].iter_mut().find(|section| section.name == entry.section);
            mine.expect("every entry has its section").entries.insert(entry.key.to_ascii_lowercase(), entry);
        }
        let include = self.all[first..].iter().find(|section| section.name == "include").cloned();
        let Some(files_entry) = include.as_ref().and_then(|include| include.entries.get("files")) else {
            return Ok(());
        };
        if !may_include {
            let remark = "Supervisor reads no includes of an included file, and neither was this one";
            report.note(&files_entry.spot, "files", Fate::Dropped, remark);
            return Ok(());
        }
        report.note(&files_entry.spot, "files", Fate::Carried, "");
        let mut refusals = Vec::new();
        for pattern in files_entry.value.split_whitespace() {
            let pattern = pattern.replace("%(here)s", &dir.display().to_string());
            match files.matching(&dir.join(&pattern)) {
                Ok(found) if found.is_empty() => {
                    report.note(&files_entry.spot, "files", Fate::Carried, "");
                }
                Ok(found) => {
                    for file in found.iter().filter(|file| *file != path) {
                        if let Err(more) = self.add(file, files, false, report) {
                            refusals.extend(more);
                        }
                    }
                }
                Err(why) => refusals.push(Refusal::new(&files_entry.spot, format!("`{pattern}`: {why}"))),
            }
        }
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }
}

/// What stands outside of programs and counts for them.
#[derive(Default)]
struct Common {
    environment: Option<Entry>,
    umask: Option<Entry>,
    user: Option<Entry>,
    groups: BTreeMap<String, String>,
}

impl Common {
    fn of(sections: &[Section], report: &mut Report<Value>) -> Self {
        let mut common = Self::default();
        for section in sections.iter().filter(|section| section.program().is_none()) {
            if let Some(group) = section.name.strip_prefix("group:") {
                for (key, entry) in &section.entries {
                    match key.as_str() {
                        "programs" => {
                            let programs = entry.value.split(',').map(str::trim).filter(|name| !name.is_empty());
                            common.groups.extend(programs.map(|name| (name.to_owned(), group.trim().to_owned())));
                            report.note(&entry.spot, key, Fate::Carried, "");
                        }
                        "priority" => report.note(&entry.spot, key, Fate::Dropped, PRIORITY),
                        _ => report.note(&entry.spot, key, Fate::Dropped, &SUPERVISOR.stranger("group", key)),
                    }
                }
                continue;
            }
            for (key, entry) in &section.entries {
                let setting = format!("[{}] {key}", section.name);
                if let Some(stranger) = stranger(&section.name, key) {
                    report.note(&entry.spot, &setting, Fate::Dropped, &stranger);
                    continue;
                }
                let (place, remark) = match (section.name.as_str(), key.as_str()) {
                    ("include", _) => continue,
                    ("supervisord", "environment") => (Some(&mut common.environment), ""),
                    ("supervisord", "umask") => (Some(&mut common.umask), ""),
                    ("supervisord", "user") => (Some(&mut common.user), ""),
                    ("supervisord", _) => (None, of_supervisord(key)),
                    ("unix_http_server" | "inet_http_server", "username" | "password") => {
                        (None, "users are appm's own: `appm user add`")
                    }
                    ("unix_http_server" | "inet_http_server", _) => (None, "appm has its own socket and HTTPS"),
                    ("supervisorctl", _) => (None, "`appm` finds its server by itself"),
                    (name, _) if name.starts_with("rpcinterface:") => {
                        (None, "extensions of Supervisor cannot be loaded")
                    }
                    (name, _) if name.starts_with("eventlistener:") => (
                        None,
                        "an event listener speaks Supervisor's protocol; `appm events -w -o json` tells of events",
                    ),
                    (name, _) if name.starts_with("ctlplugin:") => (None, "extensions of Supervisor cannot be loaded"),
                    _ => (None, "no section of Supervisor's"),
                };
                match place {
                    Some(place) => {
                        report.note(&entry.spot, key, Fate::Carried, "");
                        *place = Some(entry.clone());
                    }
                    None => report.note(&entry.spot, &setting, Fate::Dropped, remark),
                }
            }
        }
        common
    }
}

const PRIORITY: &str = "Apps are started together; `dependsOn` says which one waits for which";

/// What is said of a setting that its section does not have; extensions have settings of their own.
fn stranger(section: &str, key: &str) -> Option<String> {
    let kind = section.split_once(':').map_or(section, |(kind, _)| kind);
    let open = ["rpcinterface", "ctlplugin"].contains(&kind) || SUPERVISOR.of(kind).next().is_none();
    let of_program = ["eventlistener", "fcgi-program"].contains(&kind) && SUPERVISOR.knows("program", key);
    (!open && !of_program && !SUPERVISOR.knows(kind, key)).then(|| SUPERVISOR.stranger(kind, key))
}

/// Why a setting of Supervisor's own process is left out.
fn of_supervisord(key: &str) -> &'static str {
    match key {
        "logfile" | "logfile_maxbytes" | "logfile_backups" | "loglevel" | "silent" | "strip_ansi" => {
            "of Supervisor's own log; `appm server --help` has appm's"
        }
        "pidfile" | "nodaemon" | "directory" | "identifier" => {
            "of Supervisor's own process; `appm server --help` has appm's"
        }
        "minfds" | "minprocs" => "say `process.rlimits` of each App",
        _ => "output is kept in appm's own directory",
    }
}

/// One program: one App, or one for each process if they are not alike.
fn program(section: &Section, common: &Common, names: &mut Names) -> Result<Vec<Part<Value>>, Refusal> {
    let name = section.program().unwrap_or_default();
    let get = |key: &str| section.entries.get(key);
    let number = |key: &str, default: usize| match get(key) {
        None => Ok(default),
        Some(entry) => entry.value.parse().map_err(|_| {
            Refusal::new(&entry.spot, format!("`{key}` of `{name}` is a number, not `{}`", brief(&entry.value)))
        }),
    };
    let Some(command) = get("command") else {
        return Err(Refusal::new(&section.spot, format!("`{name}` has no `command`")));
    };
    let (count, first) = (number("numprocs", 1)?, number("numprocs_start", 0)?);
    if count > MOST {
        let message = format!("`{name}`: {count} processes; at most {MOST} are imported");
        return Err(Refusal::new(&get("numprocs").map_or(&section.spot, |e| &e.spot).clone(), message));
    }
    let numbered = |entry: &Entry| entry.value.contains("%(process_num)") || entry.value.contains("%(numprocs)");
    // The order of an instance is `$(APPM_ORDINAL)`: they can be alike.
    let apart = |entry: &Entry| {
        numbered(entry) && (first != 0 || entry.value.replace("%(process_num)d", "").contains("%(process_num)"))
    };
    let told = ["command", "environment", "directory", "user"];
    let unlike = count > 1
        && section.entries.iter().any(|(key, e)| {
            told.contains(&key.as_str()) && (apart(e) || (numbered(e) && matches!(key.as_str(), "directory" | "user")))
        });
    let each = |number: Option<usize>, wanted: &str, names: &mut Names| {
        let mut draft = Draft::new("App", &names.take(wanted, LONGEST_NAME));
        if draft.name != wanted {
            draft.nearly(&section.spot, name, &format!("its name became `{}`", draft.name));
        }
        let program = Program { name, section, number, group: common.groups.get(name).map(String::as_str), count };
        program.fill(&mut draft, command, common)?;
        Ok(draft.done())
    };
    if unlike {
        return (first..first + count).map(|n| each(Some(n), &format!("{name}-{n}"), names)).collect();
    }
    each(None, name, names).map(|part| vec![part])
}

struct Program<'a> {
    name: &'a str,
    section: &'a Section,
    /// Of several Apps, which one.
    number: Option<usize>,
    group: Option<&'a str>,
    count: usize,
}

impl Program<'_> {
    fn fill(&self, draft: &mut Draft, command: &Entry, common: &Common) -> Result<(), Refusal> {
        let text = self.expanded(&draft::literal(&command.value), command, draft)?;
        let words = shlex::split(&text).filter(|words| !words.is_empty());
        let Some(words) = words else {
            let message = format!(
                "`{}`: the command `{}` is empty, or a quote of it is not closed",
                self.name,
                brief(&command.value)
            );
            return Err(Refusal::new(&command.spot, message));
        };
        draft.set(&command.spot, "command", "process.command", words);
        if self.count > 1 && self.number.is_none() {
            draft.put("replicas", self.count);
        }
        if let Some(group) = self.group {
            draft.label("group", &super::super::names::label(group, 63));
        }
        for entry in [&common.environment].into_iter().flatten() {
            self.environment(entry, draft)?;
        }
        for (path, entry) in [("umask", &common.umask), ("user", &common.user)] {
            if let Some(entry) = entry {
                self.place(path, entry, draft)?;
            }
        }
        // What Supervisor does if nothing is said.
        draft.put("restartPolicy", "OnFailure");
        for (key, entry) in self.section.entries.iter().filter(|(key, _)| *key != "command") {
            self.setting(key, entry, draft)?;
        }
        if draft.get("restartPolicy") == "Always" {
            draft.spec.as_object_mut().expect("a spec").shift_remove("restartPolicy");
        }
        Ok(())
    }

    fn setting(&self, key: &str, entry: &Entry, draft: &mut Draft) -> Result<(), Refusal> {
        let (spot, value) = (&entry.spot, entry.value.as_str());
        let wrong = |what: &str| {
            Err(Refusal::new(spot, format!("`{key}` of `{}` is {what}, not `{}`", self.name, brief(value))))
        };
        let number = value.parse::<u64>();
        let flag = flag(value);
        match key {
            "environment" => {
                self.environment(entry, draft)?;
                draft.carried(spot, key);
            }
            "user" | "directory" | "umask" => {
                self.place(key, entry, draft)?;
                draft.carried(spot, key);
            }
            "numprocs" | "numprocs_start" => draft.carried(spot, key),
            "process_name" if value == "%(program_name)s" && self.count == 1 => draft.carried(spot, key),
            "process_name" => draft.nearly(spot, key, "instances are called after their App and their number"),
            "autostart" => match flag {
                Some(true) => draft.carried(spot, key),
                Some(false) => draft.set(spot, key, "suspend", true),
                None => return wrong("true or false"),
            },
            "autorestart" => match (flag, value) {
                (Some(true), _) => draft.set(spot, key, "restartPolicy", "Always"),
                (Some(false), _) => draft.set(spot, key, "restartPolicy", "Never"),
                (None, "unexpected") => draft.carried(spot, key),
                _ => return wrong("true, false or unexpected"),
            },
            "exitcodes" => {
                let codes: Vec<&str> = value.split(',').map(str::trim).filter(|code| !code.is_empty()).collect();
                if codes.iter().any(|code| code.parse::<u8>().is_err()) {
                    return wrong("a list of exit codes");
                }
                for code in codes.iter().filter(|code| **code != "0") {
                    draft.spec["restart"]["exitCodes"][*code] = json!("Stop");
                }
                if !codes.contains(&"0") {
                    draft.spec["restart"]["exitCodes"]["0"] = json!("Restart");
                }
                draft.carried(spot, key);
            }
            "startretries" => match number {
                Ok(0) => {
                    draft.put("restart.maxRestarts", 1);
                    draft.nearly(spot, key, "0 is no limit here; 1 is the least");
                }
                Ok(n) => {
                    draft.put("restart.maxRestarts", n.min(1_000_000));
                    draft.nearly(spot, key, "counts restarts without a stable run (`resetAfter`) between them");
                }
                Err(_) => return wrong("a number"),
            },
            "startsecs" => match number {
                Ok(n) => {
                    draft.put("minReadySeconds", n.min(86400));
                    draft.nearly(
                        spot,
                        key,
                        "it counts as available after that time; an earlier exit is judged as any other",
                    );
                }
                Err(_) => return wrong("a number of seconds"),
            },
            "stopsignal" => {
                let name = signal(value);
                match crate::api::signal_number(&name) {
                    Some(_) => draft.set(spot, key, "stopSignal", name),
                    None => return wrong("a signal"),
                }
            }
            "stopwaitsecs" => match number {
                Ok(n) => draft.set(spot, key, "terminationGracePeriodSeconds", n.min(86400)),
                Err(_) => return wrong("a number of seconds"),
            },
            "stopasgroup" => match flag {
                Some(true) => {
                    draft.nearly(spot, key, "the signal goes to the process itself; `exec` in a script hands it on")
                }
                Some(false) => draft.carried(spot, key),
                None => return wrong("true or false"),
            },
            "killasgroup" => match flag {
                Some(true) => draft.carried(spot, key),
                Some(false) => draft.nearly(spot, key, "whatever an instance leaves behind is killed with it"),
                None => return wrong("true or false"),
            },
            "redirect_stderr" => {
                draft.nearly(spot, key, "both streams are kept in one log, and each line knows its stream")
            }
            "stdout_logfile" | "stderr_logfile" => match value {
                "AUTO" | "/dev/stdout" | "/dev/stderr" | "/dev/fd/1" | "/dev/fd/2" => draft.carried(spot, key),
                "NONE" | "/dev/null" => draft.nearly(spot, key, "output is kept all the same, within `logs`"),
                _ => draft.nearly(spot, key, &format!("`appm logs {}` has the output", draft.name.clone())),
            },
            "stdout_logfile_maxbytes" | "stderr_logfile_maxbytes" => match quantity::bytes(value) {
                Some(size) if size != "0" => self.at_most(draft, spot, key, size),
                Some(_) => draft.nearly(spot, key, "there is always a limit: `logs`"),
                None => return wrong("a size such as 50MB"),
            },
            "stdout_logfile_backups" | "stderr_logfile_backups" => match number {
                Ok(n) => {
                    let there = draft.get("logs.maxFiles").as_u64().unwrap_or(0);
                    draft.set(spot, key, "logs.maxFiles", there.max(n.min(999) + 1));
                }
                Err(_) => return wrong("a number"),
            },
            "priority" => draft.dropped(spot, key, PRIORITY),
            "stdout_events_enabled"
            | "stderr_events_enabled"
            | "stdout_capture_maxbytes"
            | "stderr_capture_maxbytes" => {
                draft.dropped(spot, key, "there are no event listeners; `appm logs -f` follows the output");
            }
            "stdout_syslog" | "stderr_syslog" => draft.dropped(spot, key, "output goes into appm's logs only"),
            "serverurl" => draft.dropped(spot, key, "no process is told of Supervisor's server"),
            "socket" | "socket_backlog" | "socket_owner" | "socket_mode"
                if self.section.name.starts_with("fcgi-program") =>
            {
                draft.dropped(spot, key, "no socket is opened for a process; let it listen itself");
            }
            _ => draft.dropped(spot, key, &stranger(&self.section.name, key).unwrap_or_default()),
        }
        Ok(())
    }

    /// The larger one of both streams.
    fn at_most(&self, draft: &mut Draft, spot: &Spot, key: &str, size: String) {
        let units = |text: &str| text.parse::<crate::api::Quantity>().map_or(0, |q| q.units());
        let there = draft.get("logs.maxSize").as_str().map_or(0, units);
        if units(&size) < 4096 {
            draft.put("logs.maxSize", "4Ki");
            draft.nearly(spot, key, "4Ki is the least");
        } else {
            if units(&size) > there {
                draft.put("logs.maxSize", size);
            }
            draft.carried(spot, key);
        }
    }

    fn place(&self, key: &str, entry: &Entry, draft: &mut Draft) -> Result<(), Refusal> {
        let value = self.expanded(&entry.value, entry, draft)?;
        match key {
            "user" => draft.put("process.user", value),
            "umask" => {
                let digits = value.trim_start_matches('0');
                let good = digits.len() <= 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
                if !good {
                    return Err(Refusal::new(&entry.spot, format!("`umask` is octal, not `{}`", brief(&value))));
                }
                draft.put("process.umask", format!("{digits:0>3}"));
            }
            _ if value.starts_with('/') => draft.put("process.workingDir", value),
            _ => {
                let message = format!(
                    "`directory` of `{}` is `{}`: only absolute paths mean the same here",
                    self.name,
                    brief(&value)
                );
                return Err(Refusal::new(&entry.spot, message));
            }
        }
        Ok(())
    }

    /// `A="1",B=2`.
    fn environment(&self, entry: &Entry, draft: &mut Draft) -> Result<(), Refusal> {
        let wrong = || {
            let message = format!("`environment` is a list such as A=\"1\",B=\"2\", not `{}`", brief(&entry.value));
            Refusal::new(&entry.spot, message)
        };
        for pair in pairs(&entry.value).ok_or_else(wrong)? {
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            let (name, value) = (name.trim(), value.trim());
            if !super::super::env_file::is_name(name) {
                return Err(wrong());
            }
            let value = self.expanded(&draft::literal(&unquoted(value).ok_or_else(wrong)?), entry, draft)?;
            draft.env_raw(json!({"name": name, "value": value}));
        }
        Ok(())
    }

    /// `%(…)s` as Supervisor expands it.
    fn expanded(&self, text: &str, entry: &Entry, draft: &mut Draft) -> Result<String, Refusal> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('%') {
                out.push('%');
                rest = tail;
                continue;
            }
            let wrong = || {
                let message = format!(
                    "`{}` of `{}`: `%{}` is no expansion; `%%` is a percent sign",
                    entry.key,
                    self.name,
                    brief(after)
                );
                Refusal::new(&entry.spot, message)
            };
            let (name, tail) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')).ok_or_else(wrong)?;
            let end = tail.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
            let (format, tail) = tail.split_at(end + 1);
            let width: usize = format[..format.len() - 1].trim_start_matches('0').parse().unwrap_or(0);
            match name {
                "program_name" => out.push_str(self.name),
                "group_name" => out.push_str(self.group.unwrap_or(self.name)),
                "here" => out.push_str(&self.section.here),
                "numprocs" => out.push_str(&self.count.to_string()),
                "process_num" => match self.number {
                    Some(number) => out.push_str(&format!("{number:0>width$}", width = width.min(9))),
                    None if self.count > 1 => out.push_str("$(APPM_ORDINAL)"),
                    None => out.push_str(&format!("{:0>width$}", 0, width = width.min(9))),
                },
                _ if name.starts_with("ENV_") => {
                    let variable = &name[4..];
                    out.push_str(&format!("$({variable})"));
                    let known =
                        draft.get("env").as_array().is_some_and(|all| all.iter().any(|e| e["name"] == variable));
                    if !known {
                        let remark = format!(
                            "`$({variable})`: what Supervisor's own environment has is not known here; give it in `env`"
                        );
                        draft.nearly(&entry.spot, &entry.key, &remark);
                    }
                }
                _ => return Err(wrong()),
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A signal by its name or number, as `SIGTERM`.
fn signal(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    match text.parse::<i32>() {
        Ok(number) => crate::api::signal_name(number),
        Err(_) if upper.starts_with("SIG") => upper,
        Err(_) => format!("SIG{upper}"),
    }
}

/// What stands between commas that are in no quotes.
fn pairs(text: &str) -> Option<Vec<String>> {
    let (mut all, mut quote) = (vec![String::new()], None);
    for c in text.chars() {
        match (quote, c) {
            (None, ',') => all.push(String::new()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        if c != ',' || quote.is_some() {
            all.last_mut()?.push(c);
        }
    }
    all.retain(|pair| !pair.trim().is_empty());
    quote.is_none().then_some(all)
}

/// A value without its quotes; nothing in them is an escape.
fn unquoted(text: &str) -> Option<String> {
    match text.chars().next().filter(|first| ['"', '\''].contains(first)) {
        Some(quote) => text[1..].strip_suffix(quote).map(str::to_owned),
        None => Some(text.to_owned()),
    }
}
