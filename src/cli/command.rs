//! What is to be run, as flags say it: for Apps, Runs and Schedules alike.

use std::{fs, io::Read, path::Path};

use clap::Args;
use serde_json::{Map, Value, json};

use super::error::CliError;
use crate::{
    api::{GoDuration, Quantity},
    policy::words::{self, CommandLine},
};

/// A process of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessFlags<'a> {
    /// Program and arguments in one text.
    pub(super) command: Option<&'a str>,
    /// The file of a script.
    pub(super) script: Option<&'a Path>,
    /// Arguments behind those, or the command itself.
    pub(super) words: &'a [String],
    pub(super) workdir: Option<&'a Path>,
    pub(super) user: Option<&'a str>,
    pub(super) group: Option<&'a str>,
}

impl ProcessFlags<'_> {
    /// A `process`; only what the flags say, so that defaults stay the server's.
    ///
    /// # Errors
    /// For a command that cannot be split and a file that cannot be read.
    pub(super) fn process(&self) -> Result<Value, CliError> {
        let mut process = Map::new();
        let line = match (self.command, self.script) {
            (Some(command), _) => split(command)?,
            (None, Some(file)) => CommandLine::Script(script(file)?),
            (None, None) => CommandLine::Words(Vec::new()),
        };
        match line {
            CommandLine::Words(words) => {
                process.insert("command".into(), words.into_iter().chain(self.words.iter().cloned()).collect());
            }
            CommandLine::Script(script) => {
                process.insert("script".into(), json!(script));
                if !self.words.is_empty() {
                    process.insert("args".into(), json!(self.words));
                }
            }
        }
        let workdir = self.workdir.map(std::path::absolute).transpose();
        let workdir = workdir.map_err(|e| CliError::io("cannot make the working directory absolute", &e))?;
        process.extend(workdir.map(|dir| ("workingDir".to_owned(), json!(dir))));
        process.extend(self.user.map(|user| ("user".to_owned(), json!(user))));
        process.extend(self.group.map(|group| ("group".to_owned(), json!(group))));
        Ok(Value::Object(process))
    }
}

fn split(command: &str) -> Result<CommandLine, CliError> {
    words::split(command).map_err(|why| CliError::usage(format!("cannot split the command: {why}")))
}

fn script(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| text),
        false => fs::read_to_string(file),
    };
    read.map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))
}

/// Variables as a list of `env`.
pub(super) fn env(pairs: &[(String, String)]) -> Option<Value> {
    let all: Vec<Value> = pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    (!all.is_empty()).then(|| json!(all))
}

/// What is run once, and how: a command, an image, or an App's. The command has the argument `app` beside these.
#[derive(Args, Debug, Default)]
pub(super) struct OnceArgs {
    /// Program and arguments, split as a shell would; run by `sh` if it needs one
    #[arg(short, long, value_name = "COMMAND")]
    pub(super) command: Option<String>,
    /// In a container of this image
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
    /// Arguments: in place of the App's, behind those of the command, for the image; without any of these, the command itself
    #[arg(last = true, value_name = "ARGS")]
    pub(super) words: Vec<String>,
    /// A variable of the environment; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = super::add::pair)]
    pub(super) env: Vec<(String, String)>,
    /// The working directory [default: one of its own]
    #[arg(short, long, value_name = "DIR", conflicts_with_all = ["app", "image"])]
    pub(super) workdir: Option<std::path::PathBuf>,
    /// The OS user
    #[arg(short, long, value_name = "USER", conflicts_with_all = ["app", "image"])]
    pub(super) user: Option<String>,
    /// The most that it may use: memory=1Gi, cpu=500m, pids=100; may be given several times
    #[arg(long, value_name = "NAME=AMOUNT", value_parser = limit)]
    pub(super) limit: Vec<(String, Quantity)>,
    /// Stop it after this time
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<GoDuration>,
    /// How often it is tried again after a failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=1000))]
    pub(super) retries: Option<i32>,
}

fn limit(text: &str) -> Result<(String, Quantity), String> {
    let (name, amount) = super::add::pair(text)?;
    amount.parse().map(|amount| (name, amount)).map_err(|_| format!("`{amount}` is no amount"))
}

impl OnceArgs {
    /// True if it runs in a container.
    pub(super) fn is_contained(&self) -> bool {
        self.image.is_some()
    }

    /// True if nothing of it was said.
    pub(super) fn is_empty(&self) -> bool {
        self.command.is_none() && self.image.is_none() && self.words.is_empty()
    }

    /// True if how it is run was said, beside what and how long.
    pub(super) fn says_how(&self) -> bool {
        let nothing = self.env.is_empty() && self.limit.is_empty() && self.workdir.is_none() && self.user.is_none();
        !nothing || self.retries.is_some()
    }

    /// The spec of a Run; only what the flags say.
    ///
    /// # Errors
    /// For a command that cannot be split, and when nothing is to be run.
    pub(super) fn spec(&self, app: Option<&str>) -> Result<Map<String, Value>, CliError> {
        let mut spec = Map::new();
        match (app, &self.image) {
            (Some(app), _) => {
                spec.insert("app".into(), json!(app.strip_prefix("app/").unwrap_or(app)));
                if !self.words.is_empty() {
                    spec.insert("args".into(), json!(self.words));
                }
            }
            (None, Some(image)) => drop(spec.insert("container".into(), self.container(image)?)),
            (None, None) if self.is_empty() => {
                return Err(CliError::usage("run what?").help("name an App, or give a command by -c or behind --"));
            }
            (None, None) => {
                let (command, words) = (self.command.as_deref(), self.words.as_slice());
                let (workdir, user) = (self.workdir.as_deref(), self.user.as_deref());
                let flags = ProcessFlags { command, words, workdir, user, ..ProcessFlags::default() };
                spec.insert("process".into(), flags.process()?);
            }
        }
        spec.extend(env(&self.env).map(|env| ("env".to_owned(), env)));
        if !self.limit.is_empty() {
            let limits: Map<_, _> = self.limit.iter().map(|(name, amount)| (name.clone(), json!(amount))).collect();
            spec.insert("resources".into(), json!({"limits": limits}));
        }
        spec.extend(self.retries.map(|n| ("backoffLimit".to_owned(), json!(n))));
        spec.extend(self.timeout.iter().map(|d| ("activeDeadlineSeconds".to_owned(), json!(seconds(d).max(1)))));
        Ok(spec)
    }

    /// The image's own command with these arguments, or the command that was given.
    fn container(&self, image: &str) -> Result<Value, CliError> {
        let mut container = json!({"image": image});
        let mut words = self.words.clone();
        match self.command.as_deref().map(split).transpose()? {
            Some(CommandLine::Words(command)) => container["command"] = json!(command),
            Some(CommandLine::Script(script)) => {
                container["command"] = json!(["/bin/sh", "-c", script]);
                // The first one is $0.
                words.insert(0, "sh".to_owned());
            }
            None => {}
        }
        if !words.is_empty() {
            container["args"] = json!(words);
        }
        Ok(container)
    }
}

/// Whole seconds, rather more than fewer.
pub(super) fn seconds(duration: &GoDuration) -> u128 {
    duration.0.as_millis().div_ceil(1000)
}
