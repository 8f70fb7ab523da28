//! `appm top`: what Apps, their instances and nodes use.
//!
//! The figures are those of `metrics.k8s.io`, which `kubectl top` shows too; asking for them makes the agents look.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::api::{APP_LABEL, Node, Quantity, find_view};

use super::{
    context::{Context, Selection, Where, name_of, namespace_of},
    error::{CliError, Exit},
    processes, screen,
    table::Table,
};

/// Between two looks with `--watch`.
const PAUSE: Duration = Duration::from_secs(2);

/// Show what Apps, instances or nodes use
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm top                     the Apps of this namespace, all instances of each added up
  appm top instances -A        each instance of every namespace
  appm top nodes               the machines, with everything that runs on them
  appm top instances -l appm.dev/app=web --sort-by=memory
  appm top -w                  again every two seconds, until interrupted
  appm top apps web --tree     the processes of each instance of App web

CPU is in thousandths of a core, averaged since the look before. MEMORY is what could not be taken from a process without harm;
PEAK is known of instances with a limit of memory.")]
pub(super) struct TopArgs {
    /// apps, instances or nodes
    #[arg(value_enum, default_value = "apps", hide_possible_values = true)]
    what: What,
    /// Only those of these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only those with these labels; an App's own labels are on its instances too
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    selector: String,
    /// The largest first: cpu or memory
    #[arg(long, value_enum, value_name = "FIGURE", hide_possible_values = true)]
    sort_by: Option<Figure>,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
    /// The processes of each instance, as a tree; their names only, since words of command lines may be secret
    #[arg(long)]
    tree: bool,
    /// Show it again every two seconds
    #[arg(short, long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    #[value(alias = "app")]
    Apps,
    #[value(aliases = ["instance", "inst", "pods", "pod", "po"])]
    Instances,
    #[value(aliases = ["node", "no"])]
    Nodes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    Cpu,
    Memory,
}

/// What something uses.
#[derive(Clone, Debug, Default)]
struct Used {
    instances: u32,
    millicores: u64,
    memory: u64,
    peak: Option<u64>,
    processes: u64,
    threads: u64,
    fds: u64,
}

impl Used {
    fn read(usage: &Value) -> Self {
        let quantity = |name: &str| usage[name].as_str().and_then(parse);
        let units = |name: &str| quantity(name).map(|q| q.units());
        Self {
            instances: 1,
            millicores: nanocores(&usage["cpu"]).div_ceil(1_000_000),
            memory: units("memory").unwrap_or(0),
            peak: units("appm.dev/peak-memory"),
            processes: units("appm.dev/processes").unwrap_or(0),
            threads: units("appm.dev/threads").unwrap_or(0),
            fds: units("appm.dev/fds").unwrap_or(0),
        }
    }

    fn add(&mut self, other: &Self) {
        self.instances += other.instances;
        self.millicores += other.millicores;
        self.memory += other.memory;
        self.peak = None;
        self.processes += other.processes;
        self.threads += other.threads;
        self.fds += other.fds;
    }
}

fn parse(text: &str) -> Option<Quantity> {
    text.parse().ok()
}

/// `250000000n`, as metrics have it.
fn nanocores(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    match text.strip_suffix('n') {
        Some(number) => number.parse().unwrap_or(0),
        None => parse(text).map_or(0, |q| q.milli().saturating_mul(1_000_000)),
    }
}

pub(super) async fn run(args: TopArgs, context: &Context) -> Result<(), CliError> {
    if args.what == What::Nodes && args.tree {
        return Err(CliError::usage("processes belong to instances: leave `nodes` or --tree out"));
    }
    if args.what == What::Nodes && args.all_namespaces {
        return Err(CliError::usage("nodes are in no namespace: leave -A out"));
    }
    loop {
        let table = match args.what {
            What::Nodes => nodes(&args, context).await?,
            _ if args.tree => trees(&args, context).await?,
            _ => instances(&args, context).await?,
        };
        if table.is_empty() && !args.watch {
            screen::remark("nothing runs here, or nothing was measured yet");
        } else {
            if args.watch && context.screen.width.is_some() {
                // Home, and nothing below.
                screen::print("\x1b[H\x1b[2J")?;
            }
            screen::print(table.render(&context.screen, !args.no_headers))?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn measured(plural: &str, args: &TopArgs, place: Where<'_>, context: &Context) -> Result<Vec<Value>, CliError> {
    let view = find_view("metrics.k8s.io", "v1beta1", plural).expect("metrics are served");
    Ok(context.list(view, place, &Selection::by_labels(&*args.selector)).await?.1)
}

async fn instances(args: &TopArgs, context: &Context) -> Result<Table, CliError> {
    let by_app = args.what == What::Apps;
    let mut rows: BTreeMap<(String, String), Used> = BTreeMap::new();
    for object in measured("pods", args, context.place(args.all_namespaces), context).await? {
        let name = match object["metadata"]["labels"][APP_LABEL].as_str().filter(|_| by_app) {
            Some(app) => app.to_owned(),
            None => name_of(&object),
        };
        if args.names.is_empty() || args.names.contains(&name) {
            let used = Used::read(&object["containers"][0]["usage"]);
            let row = rows.entry((namespace_of(&object), name));
            row.and_modify(|sum| sum.add(&used)).or_insert(used);
        }
    }
    all_there(&args.names, rows.keys().map(|(_, name)| name))?;
    let fifth = if by_app { "INSTANCES" } else { "PEAK" };
    let headings = ["NAMESPACE", "NAME", "CPU", "MEMORY", fifth, "PROCESSES", "THREADS", "FDS"];
    let from = usize::from(!args.all_namespaces);
    let mut table = Table::new(headings.into_iter().skip(from));
    for ((namespace, name), used) in sorted(rows, args.sort_by) {
        let last = match (by_app, used.peak) {
            (true, _) => used.instances.to_string(),
            (false, peak) => peak.map_or("-".to_owned(), mebibytes),
        };
        let figures = [used.processes, used.threads, used.fds].map(|n| n.to_string());
        let row = [namespace, name, format!("{}m", used.millicores), mebibytes(used.memory), last];
        table.add(row.into_iter().chain(figures).skip(from));
    }
    Ok(table)
}

/// Each instance with its processes below it.
async fn trees(args: &TopArgs, context: &Context) -> Result<Table, CliError> {
    let mut rows = BTreeMap::new();
    let mut found = Vec::new();
    for object in measured("pods", args, context.place(args.all_namespaces), context).await? {
        let app = object["metadata"]["labels"][APP_LABEL].as_str().unwrap_or_default().to_owned();
        let name = name_of(&object);
        let called = if args.what == What::Apps { app } else { name.clone() };
        if args.names.is_empty() || args.names.contains(&called) {
            rows.insert((namespace_of(&object), name), Used::read(&object["containers"][0]["usage"]));
            found.push(called);
        }
    }
    all_there(&args.names, found.iter())?;
    let headings = ["NAMESPACE", "NAME", "PID", "CPU", "MEMORY", "THREADS", "TIME"];
    let from = usize::from(!args.all_namespaces);
    let mut table = Table::new(headings.into_iter().skip(from));
    for ((namespace, name), used) in sorted(rows, args.sort_by) {
        let processes = processes::of(context, &namespace, &name).await?;
        let (cpu, memory, threads) =
            (format!("{}m", used.millicores), mebibytes(used.memory), used.threads.to_string());
        let whole = [namespace, name, String::new(), cpu, memory, threads, String::new()];
        table.add(whole.into_iter().skip(from));
        for row in processes::rows(&processes) {
            table.add(std::iter::once(String::new()).chain(row).skip(from));
        }
    }
    Ok(table)
}

async fn nodes(args: &TopArgs, context: &Context) -> Result<Table, CliError> {
    let there = context.typed::<Node>(Where::Everywhere, &Selection::by_labels(&*args.selector)).await?;
    let mut rows = BTreeMap::new();
    for object in measured("nodes", args, Where::Everywhere, context).await? {
        let name = name_of(&object);
        if args.names.is_empty() || args.names.contains(&name) {
            rows.insert((String::new(), name), Used::read(&object["usage"]));
        }
    }
    all_there(&args.names, rows.keys().map(|(_, name)| name))?;
    let mut table = Table::new(["NAME", "CPU", "CPU%", "MEMORY", "MEMORY%", "LOAD"]);
    for ((_, name), used) in sorted(rows, args.sort_by) {
        let node = there.iter().find(|node| node.metadata.name == name);
        let whole = |what: &str| node.and_then(|node| parse(node.status.allocatable.get(what)?));
        let load = node.and_then(|node| Some(node.status.host.as_ref()?.load));
        table.add([
            name,
            format!("{}m", used.millicores),
            percent(used.millicores, whole("cpu").map(|q| q.milli())),
            mebibytes(used.memory),
            percent(used.memory, whole("memory").map(|q| q.units())),
            load.map_or("-".to_owned(), |l| {
                format!("{:.2} {:.2} {:.2}", l.one_minute, l.five_minutes, l.fifteen_minutes)
            }),
        ]);
    }
    Ok(table)
}

fn all_there<'a>(wanted: &[String], found: impl Iterator<Item = &'a String> + Clone) -> Result<(), CliError> {
    let missing = wanted.iter().find(|name| !found.clone().any(|there| there == *name));
    match missing {
        None => Ok(()),
        Some(name) => Err(CliError::new(Exit::NotFound, format!("nothing that runs is called `{name}`"))),
    }
}

fn sorted(rows: BTreeMap<(String, String), Used>, by: Option<Figure>) -> Vec<((String, String), Used)> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    match by {
        Some(Figure::Cpu) => rows.sort_by_key(|(_, used)| std::cmp::Reverse(used.millicores)),
        Some(Figure::Memory) => rows.sort_by_key(|(_, used)| std::cmp::Reverse(used.memory)),
        None => {}
    }
    rows
}

fn percent(part: u64, whole: Option<u64>) -> String {
    match whole.filter(|whole| *whole > 0) {
        Some(whole) => format!("{}%", u128::from(part) * 100 / u128::from(whole)),
        None => "-".to_owned(),
    }
}

/// Rounded up: what uses something does not use nothing.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_read_and_added_up() {
        let usage =
            json!({"cpu": "1500000n", "memory": "1025Ki", "appm.dev/fds": "3", "appm.dev/peak-memory": "2048Ki"});
        let mut used = Used::read(&usage);
        assert_eq!((used.millicores, used.memory, used.fds, used.peak), (2, 1025 << 10, 3, Some(2 << 20)));
        used.add(&Used::read(&json!({"cpu": "0.1", "memory": "1Ki"})));
        assert_eq!((used.instances, used.millicores, used.peak), (2, 102, None));
        assert_eq!(mebibytes(used.memory), "2Mi");
        assert_eq!((percent(500, Some(2000)), percent(1, None)), ("25%".to_owned(), "-".to_owned()));
    }
}
