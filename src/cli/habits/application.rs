//! `appm add` with App Mesh's options: the application is declared by App Mesh's own call, whose table says what each of them means.

use std::{fs, io::Read as _, path::PathBuf};

use clap::Args;
use jiff::{Timestamp, civil, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::{call, path_of};
use crate::{
    cli::{
        add::variable,
        context::Context,
        error::{CliError, Exit},
        output::{self, Format},
    },
    client::http::Request,
    policy::words::{self, CommandLine},
};

/// The longest definition: as long as App Mesh's call takes it.
const LONGEST: u64 = 3 << 20;
const DAY: i64 = 24 * 60 * 60;

/// What only App Mesh's `add` has.
#[derive(Args, Debug)]
#[command(next_help_heading = "App Mesh's options")]
#[group(id = "application", multiple = true, conflicts_with_all = ["script", "user", "group", "replicas", "port", "restart", "max_restarts", "backoff", "grace_period", "stop_signal", "label", "suspend", "dry_run"])]
pub(in crate::cli) struct ApplicationArgs {
    /// What it is for
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    /// false: declare it turned off
    #[arg(short, long, value_name = "BOOL")]
    status: Option<bool>,
    /// Run it by bash, as its user would log in
    #[arg(short = 'G', long)]
    session_login: bool,
    /// A command that ends with 0 while it is well
    #[arg(short = 'K', long, value_name = "COMMAND")]
    health_check: Option<String>,
    /// In a container of this image
    #[arg(short = 'I', long, value_name = "IMAGE")]
    docker_image: Option<String>,
    /// A process that runs already
    #[arg(short = 'P', long, value_name = "PID")]
    pid: Option<i32>,
    /// Not before: 2026-12-01T08:00:00+08
    #[arg(short, long, value_name = "TIME", value_parser = Moment::read)]
    begin_time: Option<Moment>,
    /// Not after
    #[arg(short = 'x', long, value_name = "TIME", value_parser = Moment::read)]
    end_time: Option<Moment>,
    /// Each day from here on: 09:00:00+08
    #[arg(short = 'S', long, value_name = "TIME", value_parser = Moment::of_a_day, requires = "daily_end")]
    daily_begin: Option<Moment>,
    /// Each day until here
    #[arg(short = 'E', long, value_name = "TIME", value_parser = Moment::of_a_day, requires = "daily_begin")]
    daily_end: Option<Moment>,
    /// Started again and again: seconds, or as PT1H30M
    #[arg(short, long, value_name = "TIME")]
    interval: Option<String>,
    /// Started when a cron expression says so; six fields, of which the first are seconds
    #[arg(short = 'Y', long, value_name = "EXPRESSION", conflicts_with = "interval")]
    cron: Option<String>,
    /// The most memory, in MiB
    #[arg(short = 'M', long, value_name = "MIB")]
    memory_limit: Option<u64>,
    /// The most memory and swap together, in MiB
    #[arg(short = 'V', long, value_name = "MIB", requires = "memory_limit")]
    virtual_memory: Option<u64>,
    /// Shares of the processors: 1024 are one
    #[arg(short = 'C', long, value_name = "SHARES")]
    cpu_shares: Option<u64>,
    /// How many former outputs are kept
    #[arg(short = 'N', long, value_name = "COUNT")]
    log_cache_size: Option<u32>,
    /// What the group, and others, may: two digits of 1 (nothing), 2 (read), 3 (write)
    #[arg(short, long, value_name = "DIGITS")]
    permission: Option<u32>,
    /// What it reads on its standard input: text, JSON, or @FILE
    #[arg(short, long, value_name = "TEXT")]
    metadata: Option<String>,
    /// A variable that nobody is shown; a name alone takes the value that it has here, which no other process sees
    #[arg(short = 'z', long, value_name = "NAME[=VALUE]")]
    security_env: Vec<String>,
    /// How long it may take to end: seconds, or as PT1M
    #[arg(short = 'R', long, value_name = "TIME")]
    stop_timeout: Option<String>,
    /// When it ends: standby, restart, keepalive or remove
    #[arg(short = 'Q', long, value_name = "ACTION")]
    exit: Option<String>,
    /// When it ends with this code
    #[arg(short = 'T', long, value_name = "CODE:ACTION", value_parser = control)]
    control: Vec<(String, String)>,
    /// A file with the whole of it in App Mesh's words, JSON or YAML; `std` or -: stdin. What other options say comes over it
    #[arg(short = 'D', long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// Ask nothing: nothing is asked here
    #[arg(short, long, hide = true)]
    force: bool,
}

/// A moment of all time or of each day, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment(i64);

impl Moment {
    fn read(text: &str) -> Result<Self, String> {
        let local = |text: &str| text.parse::<civil::DateTime>()?.to_zoned(TimeZone::system()).map(|at| at.timestamp());
        let found = text.parse::<Timestamp>().or_else(|_| local(text));
        let expected = |_| "expected a time such as 2026-12-01T08:00:00+08".to_owned();
        found.map(|at| Self(at.as_second())).map_err(expected)
    }

    /// App Mesh counts the seconds of a day in UTC.
    fn of_a_day(text: &str) -> Result<Self, String> {
        let told = Self::read(&format!("2000-01-01T{text}"));
        told.map(|Self(second)| Self(second.rem_euclid(DAY)))
            .map_err(|_| "expected a time such as 09:00:00+08".to_owned())
    }
}

fn control(text: &str) -> Result<(String, String), String> {
    let (code, action) = text.split_once(':').ok_or("expected CODE:ACTION")?;
    code.parse::<i32>().map_err(|_| format!("`{code}` is no exit code"))?;
    Ok((code.to_owned(), action.to_owned()))
}

/// What of an application other flags of `add` say.
pub(in crate::cli) struct Said<'a> {
    pub(in crate::cli) name: &'a str,
    pub(in crate::cli) command: Option<&'a str>,
    pub(in crate::cli) words: &'a [String],
    pub(in crate::cli) env: &'a [(String, String)],
    pub(in crate::cli) workdir: Option<&'a std::path::Path>,
}

/// Declares it, and shows what became of it.
pub(in crate::cli) async fn add(
    said: &Said<'_>,
    args: &ApplicationArgs,
    format: &Format,
    context: &Context,
) -> Result<(), CliError> {
    if context.namespace() != "default" {
        let error =
            CliError::usage(format!("App Mesh knows one namespace, `default`, and not `{}`", context.namespace()));
        return Err(error.help("leave -n out, or App Mesh's options: `appm add --help` has both kinds"));
    }
    let definition = definition(said, args)?;
    let made = call(Request::put(path_of(said.name), &definition), context).await?;
    output::value(if format.is_table() { &Format::Yaml } else { format }, &made)
}

fn definition(said: &Said<'_>, args: &ApplicationArgs) -> Result<Value, CliError> {
    let mut app = args.stdin.as_deref().map(whole).transpose()?.unwrap_or_default();
    let mut set = |name: &str, value: Option<Value>| app.extend(value.map(|value| (name.to_owned(), value)));
    set("name", Some(json!(said.name)));
    if let Some(command) = said.command {
        let line = words::split(command).map_err(|why| CliError::usage(format!("cannot split the command: {why}")))?;
        set("command", Some(json!(command)));
        set("shell", matches!(line, CommandLine::Script(_)).then(|| json!(true)));
    }
    set("command", (!said.words.is_empty()).then(|| json!(words::join(said.words))));
    let workdir = said.workdir.map(std::path::absolute).transpose();
    set(
        "working_dir",
        workdir.map_err(|e| CliError::io("cannot make the working directory absolute", &e))?.map(|d| json!(d)),
    );
    set("env", map(said.env.iter().cloned()));
    // Not read by the command line's own parser, which repeats what it refuses.
    let hidden: Result<Vec<_>, _> = args.security_env.iter().map(|text| variable(text)).collect();
    set("sec_env", map(hidden.map_err(CliError::usage)?));
    set("description", args.description.as_ref().map(|text| json!(text)));
    set("status", args.status.map(|on| json!(i64::from(on))));
    set("session_login", args.session_login.then(|| json!(true)));
    set("health_check_cmd", args.health_check.as_ref().map(|text| json!(text)));
    set("docker_image", args.docker_image.as_ref().map(|text| json!(text)));
    set("pid", args.pid.map(|pid| json!(pid)));
    set("start_time", args.begin_time.map(|at| json!(at.0)));
    set("end_time", args.end_time.map(|at| json!(at.0)));
    let day = args.daily_begin.zip(args.daily_end);
    set("daily_limitation", day.map(|(from, to)| json!({"daily_start": from.0, "daily_end": to.0})));
    set("start_interval_seconds", args.interval.as_ref().or(args.cron.as_ref()).map(|text| json!(text)));
    set("cron", args.cron.is_some().then(|| json!(true)));
    let limits =
        [("memory_mb", args.memory_limit), ("memory_virt_mb", args.virtual_memory), ("cpu_shares", args.cpu_shares)];
    let limits: Map<String, Value> =
        limits.into_iter().filter_map(|(name, most)| Some((name.to_owned(), json!(most?)))).collect();
    set("resource_limit", (!limits.is_empty()).then_some(Value::Object(limits)));
    set("stdout_cache_num", args.log_cache_size.map(|count| json!(count)));
    set("permission", args.permission.map(|digits| json!(digits)));
    set("metadata", args.metadata.as_deref().map(metadata).transpose()?);
    set("retention", args.stop_timeout.as_ref().map(|text| json!(text)));
    let mut behavior = Map::new();
    behavior.extend(args.exit.as_ref().map(|action| ("exit".to_owned(), json!(action))));
    behavior.extend(map(args.control.iter().cloned()).map(|codes| ("control".to_owned(), codes)));
    set("behavior", (!behavior.is_empty()).then_some(Value::Object(behavior)));
    Ok(Value::Object(app))
}

fn map(pairs: impl IntoIterator<Item = (String, String)>) -> Option<Value> {
    let map: Map<String, Value> = pairs.into_iter().map(|(name, value)| (name, json!(value))).collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

fn metadata(text: &str) -> Result<Value, CliError> {
    let text = match text.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {file}"), &e))?,
        None => text.to_owned(),
    };
    Ok(serde_json::from_str(&text).ok().filter(|value: &Value| value.is_object()).unwrap_or(Value::String(text)))
}

/// A definition in App Mesh's words.
fn whole(file: &std::path::Path) -> Result<Map<String, Value>, CliError> {
    let name = file.display();
    let cannot = |e: std::io::Error| CliError::io(&format!("cannot read {name}"), &e);
    let mut text = String::new();
    match ["std", "-"].iter().any(|word| file.as_os_str() == *word) {
        true => std::io::stdin().take(LONGEST).read_to_string(&mut text).map_err(cannot)?,
        false => fs::File::open(file).map_err(cannot)?.take(LONGEST).read_to_string(&mut text).map_err(cannot)?,
    };
    let unreadable = |why: String| CliError::new(Exit::InvalidInput, format!("{name}: {why}"));
    match serde_saphyr::from_str(&text).map_err(|e| unreadable(e.to_string()))? {
        Value::Object(map) => Ok(map),
        _ => Err(unreadable("expected an application: name, command and so on".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::add::AddArgs;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AddArgs,
    }

    fn declared(line: &str) -> Value {
        let words = words::split(line).expect("words");
        let CommandLine::Words(words) = words else { panic!("{line} is for a shell") };
        let Line { args } = Line::try_parse_from(std::iter::once("add".to_owned()).chain(words)).expect(line);
        definition(&args.said(), args.application.as_ref().expect("App Mesh's options")).expect(line)
    }

    #[test]
    fn app_mesh_s_options_are_its_own_words() {
        assert_eq!(
            declared(
                "-a nightly -c 'date | tee x' -Y '0 30 2 * * *' -e A=b -z K=v -M 64 -V 128 -C 512 -N 3 -p 22 -s false -R PT5S"
            ),
            json!({"name": "nightly", "command": "date | tee x", "shell": true, "env": {"A": "b"}, "sec_env": {"K": "v"}, "status": 0,
                "start_interval_seconds": "0 30 2 * * *", "cron": true, "stdout_cache_num": 3, "permission": 22, "retention": "PT5S",
                "resource_limit": {"memory_mb": 64, "memory_virt_mb": 128, "cpu_shares": 512}})
        );
        assert_eq!(
            declared(
                "-a day -S 09:00:00+08 -E 17:30:00+08 -b 2026-12-01T08:00:00+08 -Q restart -T 1:standby -T 9:remove -- sleep 'a b'"
            ),
            json!({"name": "day", "command": "sleep 'a b'", "daily_limitation": {"daily_start": 3600, "daily_end": 34200},
                "start_time": 1_796_083_200, "behavior": {"exit": "restart", "control": {"1": "standby", "9": "remove"}}})
        );
        assert_eq!(declared("-a in -c cat -m '{\"a\": 1}'")["metadata"], json!({"a": 1}));
        assert_eq!(declared("-a in -c cat -m 'a text'")["metadata"], "a text");
        assert_eq!(declared("-a pg -I postgres")["docker_image"], "postgres");
    }

    #[test]
    fn both_kinds_of_options_are_not_mixed() {
        for line in [
            "-a x -c y -i 5 --replicas 2",
            "-a x -c y -i 5 -Y '* * * * * *'",
            "-a x -c y -S 09:00:00",
            "-a x -c y -T one:restart",
        ] {
            let CommandLine::Words(words) = words::split(line).expect("words") else { panic!("{line}") };
            assert!(Line::try_parse_from(std::iter::once("add".to_owned()).chain(words)).is_err(), "{line}");
        }
    }
}
