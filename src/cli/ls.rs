//! `appm ls`: one line for each process, in App Mesh's columns. What runs by time is a line, too: there it is an application like another.

mod by_time;

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::{APP_LABEL, App, Condition, Container, Instance, Kind, Object, ObjectMeta, Process, last_exit_word},
    client::http::Endpoint,
    policy::words,
};

use super::{
    ages, complete,
    context::{Context, Selection, Where, served},
    error::{CliError, Exit},
    habits,
    logs::{self, LogOptions, LogsArgs},
    output, processes, screen,
    table::Table,
};

/// Show processes, in App Mesh's columns
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm ls
  appm ls -a myapp          one App
  appm ls -a myapp -o       what it prints
  appm ls -a myapp -o -i 1  what it printed before its last start
  appm ls -a myapp -f       and what it goes on to print
  appm ls -a myapp -P       its processes
  appm ls -o json

STATUS is `disabled` for what is stopped; HEALTH is `OK` when the instance is ready; RETURN is
how the run before this one ended; DURATION is how long this run has lasted; STARTS counts the
runs of the instance. Of a Schedule, which starts its program by time, the last Run is shown,
and STARTS counts those that are kept.")]
pub(super) struct LsArgs {
    /// Only this App or Schedule; may be given several times
    #[arg(short, long = "app", value_name = "APP", add = complete::applications())]
    app: Vec<String>,
    /// Alone: what the processes print; with a value: json, yaml, wide or table
    #[arg(short, long, value_name = "FORM", num_args = 0..=1, default_missing_value = "output",
          value_parser = ["output", "table", "wide", "json", "yaml"], hide_possible_values = true)]
    output: Option<String>,
    /// With -o: of so many starts ago
    #[arg(short = 'i', long, value_name = "STARTS", requires = "app", requires = "output")]
    log_index: Option<usize>,
    /// What the processes of these print from now on too, as `appm logs -f`
    #[arg(short, long, requires = "app")]
    follow: bool,
    /// The processes of each as a tree
    #[arg(short = 'P', long, conflicts_with_all = ["output", "follow", "json"])]
    pstree: bool,
    /// The same as -o json
    #[arg(short, long, conflicts_with_all = ["output", "follow"])]
    json: bool,
    /// Only those with these labels; alone the same as --long
    #[arg(short = 'l', long, value_name = "LABELS", num_args = 0..=1, default_value = "", default_missing_value = LONG, hide_default_value = true)]
    selector: String,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Do not cut long commands
    #[arg(long)]
    long: bool,
}

/// What `-l` is without a value. No selector reads so.
const LONG: &str = "-";

pub(super) async fn run(mut args: LsArgs, context: &Context) -> Result<(), CliError> {
    if args.selector == LONG {
        args.selector.clear();
        args.long = true;
    }
    for name in &mut args.app {
        *name = habits::own_name(name, context).await?;
    }
    let place = context.place(args.all_namespaces);
    let mut scheduled = by_time::rows(context, place, &args.selector).await?;
    for name in &args.app {
        match context.get(served::<App>(), context.namespace(), name).await {
            Err(error) if error.exit == Exit::NotFound && scheduled.iter().any(|row| row.name == *name) => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    scheduled.retain(|row| args.app.is_empty() || args.app.contains(&row.name));
    if args.follow {
        return follow(args.app, &scheduled, context).await;
    }
    let mut apps = context.typed::<App>(place, &Selection::by_labels(&args.selector)).await?;
    apps.retain(|app| args.app.is_empty() || args.app.contains(&app.metadata.name));
    let instances = context.typed::<Instance>(place, &Selection::by_labels(APP_LABEL)).await?;
    let mut rows = rows(context, &apps, &instances);
    rows.extend(scheduled);
    for (index, row) in rows.iter_mut().enumerate() {
        row.id = index + 1;
    }
    if args.pstree {
        return trees(context, &rows).await;
    }
    match args.output.as_deref().or(args.json.then_some("json")) {
        Some("output") => match args.log_index {
            Some(index) => earlier(context, &args.app, index).await,
            None => outputs(context, &rows).await,
        },
        Some(_) if args.log_index.is_some() => Err(CliError::usage("-i goes with -o alone: what was printed")),
        Some("json") => output::value(&output::Format::Json, &Value::Array(rows.iter().map(Row::json).collect())),
        Some("yaml") => output::value(&output::Format::Yaml, &Value::Array(rows.iter().map(Row::json).collect())),
        form => {
            let screen = match args.long || form == Some("wide") {
                true => screen::Screen { width: None, ..context.screen.clone() },
                false => context.screen.clone(),
            };
            screen::print(table(&rows, args.all_namespaces).render(&screen, true))?;
            Ok(())
        }
    }
}

/// One process, or an App that has none.
struct Row {
    id: usize,
    kind: &'static str,
    namespace: String,
    name: String,
    instance: Option<String>,
    /// Of what runs by time: its last Run.
    run: Option<String>,
    owner: String,
    enabled: bool,
    health: String,
    pid: Option<i32>,
    user: Option<String>,
    memory: Option<u64>,
    cpu: Option<f64>,
    last_return: String,
    age: Option<i64>,
    duration: Option<i64>,
    starts: u32,
    command: String,
}

fn rows(context: &Context, apps: &[Object<App>], instances: &[Object<Instance>]) -> Vec<Row> {
    let mut of_app: BTreeMap<(&str, &str), Vec<&Object<Instance>>> = BTreeMap::new();
    for instance in instances {
        let app = instance.metadata.labels.get(APP_LABEL).unwrap_or_default();
        of_app.entry((instance.metadata.namespace.as_str(), app)).or_default().push(instance);
    }
    let mut rows = Vec::new();
    for app in apps {
        let mut own = of_app.remove(&(app.metadata.namespace.as_str(), app.metadata.name.as_str())).unwrap_or_default();
        own.sort_by_key(|i| i.spec.ordinal);
        if own.is_empty() {
            rows.push(row(context, app, None, 0));
        }
        let several = own.len();
        rows.extend(own.into_iter().map(|instance| row(context, app, Some(instance), several)));
    }
    rows
}

fn row(context: &Context, app: &Object<App>, instance: Option<&Object<Instance>>, several: usize) -> Row {
    let spec = &app.spec;
    let mut row = Row {
        kind: App::INFO.kind,
        enabled: !spec.suspend,
        user: spec.process.as_ref().and_then(|process| process.user.clone()),
        command: command(spec.process.as_ref(), spec.container.as_ref()),
        ..Row::of(context, &app.metadata)
    };
    let Some(instance) = instance else { return row };
    let status = &instance.status;
    if several > 1 {
        row.name.clone_from(&instance.metadata.name);
    }
    row.runs(context, instance);
    if let Some(exit) = &status.last_exit {
        row.last_return = last_exit_word(&serde_json::to_value(exit).unwrap_or_default());
    }
    row.starts = status.attempt;
    row.command = command(instance.spec.process.as_ref(), instance.spec.container.as_ref());
    row
}

/// `OK`, or why not.
fn health(instance: &Object<Instance>) -> String {
    let state = &instance.status.state;
    if Condition::holds(&instance.status.conditions, "Ready") {
        return "OK".to_owned();
    }
    let waiting = state.waiting.as_ref().map(|w| w.reason.clone());
    let exited = state.exited.as_ref().map(|e| e.reason.clone()).filter(|r| r != "Suspended");
    let stopping = state.stopping.as_ref().map(|_| "Stopping".to_owned());
    let unready = state.running.as_ref().map(|_| "Unready".to_owned());
    waiting.or(exited).or(stopping).or(unready).unwrap_or_else(|| "-".to_owned())
}

/// Who a process runs as, where it can be seen: on this machine.
fn local_user(context: &Context, pid: i32) -> Option<String> {
    if !matches!(context.client.endpoint(), Endpoint::Unix(_)) {
        return None;
    }
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    Some(user.map_or_else(|| uid.to_string(), |u| u.name))
}

/// What runs, in quotes, as App Mesh shows it.
fn command(process: Option<&Process>, container: Option<&Container>) -> String {
    match (process, container) {
        (Some(Process { script: Some(script), .. }), _) => {
            // Nobody knows it by what every script begins with.
            let says = |line: &&str| !line.is_empty() && !line.starts_with('#') && *line != "set -e";
            let mut lines = script.lines().map(str::trim).filter(says);
            let first = lines.next().unwrap_or_default();
            let more = if lines.next().is_some() { " …" } else { "" };
            format!("\"{first}{more}\"")
        }
        (Some(Process { adopt: Some(adopt), .. }), _) => format!("process {}", adopt.pid),
        (Some(process), _) => {
            format!("\"{}\"", words::join(&[process.command.as_slice(), process.args.as_slice()].concat()))
        }
        (None, Some(container)) => {
            let words = [container.command.as_slice(), container.args.as_slice()].concat();
            format!("\"{}\"", words::join(&[vec![container.image.clone()], words].concat()))
        }
        (None, None) => "-".to_owned(),
    }
}

fn table(rows: &[Row], with_namespace: bool) -> Table {
    let mut headings = vec![
        "ID", "NAME", "OWNER", "STATUS", "HEALTH", "PID", "USER", "MEMORY", "%CPU", "RETURN", "AGE", "DURATION",
        "STARTS", "COMMAND",
    ];
    if with_namespace {
        headings.insert(1, "NAMESPACE");
    }
    let mut table = Table::new(headings).judge(&["STATUS", "HEALTH"]);
    for row in rows {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut cells = vec![
            row.id.to_string(),
            row.name.clone(),
            row.owner.clone(),
            row.status().to_owned(),
            row.health.clone(),
            or_dash(row.pid.map(|p| p.to_string())),
            or_dash(row.user.clone().filter(|_| row.pid.is_some())),
            or_dash(row.memory.map(ages::bytes)),
            or_dash(row.cpu.map(|c| if c < 0.05 { "0".to_owned() } else { format!("{c:.1}") })),
            row.last_return.clone(),
            or_dash(row.age.map(ages::span)),
            or_dash(row.duration.map(ages::span)),
            row.starts.to_string(),
            row.command.clone(),
        ];
        if with_namespace {
            cells.insert(1, row.namespace.clone());
        }
        table.add(cells);
    }
    table
}

impl Row {
    /// An object of which nothing runs.
    fn of(context: &Context, metadata: &ObjectMeta) -> Self {
        Self {
            id: 0,
            kind: "",
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            instance: None,
            run: None,
            owner: metadata.annotations.get(crate::api::OWNER).unwrap_or("-").to_owned(),
            enabled: true,
            health: "-".to_owned(),
            pid: None,
            user: None,
            memory: None,
            cpu: None,
            last_return: "-".to_owned(),
            age: metadata.creation_timestamp.map(|t| context.now().duration_since(t.0).as_secs()),
            duration: None,
            starts: 0,
            command: "-".to_owned(),
        }
    }

    /// Its process is that of this instance.
    fn runs(&mut self, context: &Context, instance: &Object<Instance>) {
        let status = &instance.status;
        self.instance = Some(instance.metadata.name.clone());
        self.health = health(instance);
        self.pid = status.state.pid();
        self.user = self.pid.and_then(|pid| local_user(context, pid)).or(self.user.take());
        if self.pid.is_some() {
            self.memory = status.usage.as_ref().map(|u| u.memory_bytes);
            self.cpu = status.usage.as_ref().map(|u| u.cpu_cores * 100.0);
        }
        self.duration = status.state.start_time().map(|t| context.now().duration_since(t.0).as_secs());
    }

    fn status(&self) -> &'static str {
        if self.enabled { "enabled" } else { "disabled" }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id, "kind": self.kind, "namespace": self.namespace, "name": self.name, "instance": self.instance,
            "owner": self.owner, "status": self.status(), "health": self.health, "pid": self.pid, "user": self.user,
            "memoryBytes": self.memory, "cpuPercent": self.cpu, "return": self.last_return, "ageSeconds": self.age,
            "durationSeconds": self.duration, "starts": self.starts, "command": self.command,
        })
    }
}

/// What the processes printed.
async fn outputs(context: &Context, rows: &[Row]) -> Result<(), CliError> {
    let shown: Vec<&Row> = rows.iter().filter(|r| r.instance.is_some()).collect();
    for row in &shown {
        let Some(instance) = &row.instance else { continue };
        if shown.len() > 1 {
            screen::line(context.screen.paint(screen::BOLD, &format!("==> {} <==", row.name)))?;
        }
        logs::copy(context, Where::Namespace(&row.namespace), instance, &LogOptions::default()).await?;
    }
    Ok(())
}

/// What was printed so many starts ago, by App Mesh's own call, which counts them.
async fn earlier(context: &Context, names: &[String], index: usize) -> Result<(), CliError> {
    if context.namespace() != "default" {
        let error = CliError::usage(format!(
            "-i asks App Mesh's wire, which knows one namespace, not `{}`",
            context.namespace()
        ));
        return Err(error.help("the start before this one: appm logs NAME --previous"));
    }
    for name in names {
        if names.len() > 1 {
            screen::line(context.screen.paint(screen::BOLD, &format!("==> {name} <==")))?;
        }
        habits::output(name, index, context).await?;
    }
    Ok(())
}

/// What is printed from now on. Of what runs by time: what its last Run prints.
async fn follow(names: Vec<String>, scheduled: &[Row], context: &Context) -> Result<(), CliError> {
    let Some(row) = scheduled.first() else { return logs::run(LogsArgs::following(names), context).await };
    match (&names[..], &row.run) {
        ([_], Some(run)) => logs::run(LogsArgs::following(vec![format!("run/{run}")]), context).await,
        ([name], None) => Err(CliError::failed(format!("schedule `{name}` has started nothing yet"))
            .help(format!("when it does: appm schedule next {name}"))),
        _ => Err(CliError::usage("of Schedules one is followed at a time")),
    }
}

/// The processes of each row.
async fn trees(context: &Context, rows: &[Row]) -> Result<(), CliError> {
    for row in rows {
        let Some(instance) = row.instance.as_ref().filter(|_| row.pid.is_some()) else { continue };
        screen::line(context.screen.paint(screen::BOLD, &row.name))?;
        let all = processes::of(context, &row.namespace, instance).await?;
        screen::print(processes::table(&all).render(&context.screen, true))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_on_one_line() {
        let process = |command: &[&str], script: Option<&str>| Process {
            command: command.iter().map(|w| (*w).to_owned()).collect(),
            script: script.map(str::to_owned),
            ..Process::default()
        };
        for (process, shown) in [
            (process(&["ping", "cloudflare.com"], None), "\"ping cloudflare.com\""),
            (process(&["sh", "-c", "a b"], None), "\"sh -c 'a b'\""),
            (process(&[], Some("#!/bin/sh\n\necho hi\nexit 1\n")), "\"echo hi …\""),
            (process(&[], Some("echo hi")), "\"echo hi\""),
            (process(&[], Some("#!/bin/bash\nset -e\ndate; sleep 2\n")), "\"date; sleep 2\""),
        ] {
            assert_eq!(command(Some(&process), None), shown);
        }
    }
}
