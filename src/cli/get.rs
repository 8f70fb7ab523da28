//! `appm get`: objects as tables, YAML, JSON or names; and, with `-w`, what becomes of them.

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{Rev, Served},
    client::http::{Request, RequestError, TABLE, served_path},
};

use super::{
    ages,
    context::{Context, Selection, Where, namespace_of},
    error::{CliError, Exit},
    follow,
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::{self, Target, qualified},
    screen,
    table::Table,
};

/// Show objects
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm get apps                          a table of the Apps in this namespace
  appm get apps -A -o wide               of all namespaces, with more columns
  appm get app web -o yaml               one App, whole
  appm get app/web instance/web-6f9c-0   of several kinds
  appm get all                           everything that people care for
  appm get instances -l appm.dev/app=web -w
  appm get app web -o jsonpath='{.status.readyReplicas}'")]
pub(super) struct GetArgs {
    /// `apps`, `app web db`, `app/web node/host`, `apps,instances`, `all`
    #[arg(value_name = "RESOURCE", required = true)]
    words: Vec<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    output: OutputArgs,
    /// Go on and show changes
    #[arg(short, long)]
    watch: bool,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
    /// Add a column with the labels
    #[arg(long)]
    show_labels: bool,
    /// Do not hide metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
}

pub(super) async fn run(args: GetArgs, context: &Context) -> Result<(), CliError> {
    let targets = resources::targets(&args.words)?;
    if !args.selection.is_empty() && targets.iter().any(|t| !t.names.is_empty()) {
        return Err(CliError::usage("a selector picks objects of a list; leave out either the names or the selector"));
    }
    match args.output.output {
        Format::Table | Format::Wide => tables(&args, context, targets).await,
        _ => whole(&args, context, targets).await,
    }
}

/// What a target is, as the server's paths say it: the list, or each name.
fn paths(args: &GetArgs, context: &Context, target: &Target) -> Vec<String> {
    let place = context.place(args.all_namespaces);
    if target.names.is_empty() {
        return vec![context.list_path(target.served, place, &args.selection, &[])];
    }
    let path = |name: &String| served_path(target.served, Some(context.namespace()), Some(name));
    target.names.iter().map(path).collect()
}

/// Fetches by path; an absent object is told at the end, not at once.
async fn fetch(
    args: &GetArgs,
    context: &Context,
    target: &Target,
    accept: &'static str,
) -> Result<(Vec<Value>, Vec<CliError>), CliError> {
    let mut found = Vec::new();
    let mut absent = Vec::new();
    for (index, path) in paths(args, context, target).into_iter().enumerate() {
        match context.client.call(Request::get(path).accept(accept)).await {
            Ok(answer) => found.push(answer.json()?),
            Err(RequestError::Refused(status))
                if status.is(crate::api::Reason::NotFound) && !target.names.is_empty() =>
            {
                if !args.ignore_not_found {
                    absent.push(context.absent(target.served, context.namespace(), &target.names[index]).await);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((found, absent))
}

/// Ends with what was not there, if anything.
fn told(context: &Context, mut absent: Vec<CliError>) -> Result<(), CliError> {
    let Some(last) = absent.pop() else { return Ok(()) };
    for error in absent {
        screen::remark(error.render(&context.screen).trim_end());
    }
    Err(last)
}

async fn whole(args: &GetArgs, context: &Context, targets: Vec<Target>) -> Result<(), CliError> {
    let tidy = |object: Value| if args.show_managed_fields { object } else { without_managed_fields(object) };
    let mut all = Vec::new();
    let mut missing = Vec::new();
    let mut from = Vec::new();
    for target in &targets {
        let (found, absent) = fetch(args, context, target, "application/json").await?;
        missing.extend(absent);
        for mut one in found {
            from.push(follow::revision(&one));
            match one["items"].take() {
                Value::Array(items) => all.extend(items.into_iter().map(tidy)),
                _ => all.push(tidy(without_items(one))),
            }
        }
    }
    let single = targets.len() == 1 && targets[0].names.len() == 1;
    if !all.is_empty() || !(args.watch || single) {
        output::objects(&args.output.output, all, !single && !matches!(args.output.output, Format::Name))?;
    }
    told(context, missing)?;
    if args.watch {
        let mut changes = changes(args, context, &targets, &from, "application/json").await?;
        while let Some((_, _, object)) = changes.try_next().await? {
            output::objects(&args.output.output, vec![tidy(object)], false)?;
        }
    }
    Ok(())
}

/// Indexing for `items` must not leave a null behind.
fn without_items(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("items");
    }
    object
}

/// Changes of every target since it was listed: index of the target, kind of change, object.
async fn changes<'a>(
    args: &'a GetArgs,
    context: &'a Context,
    targets: &'a [Target],
    from: &[Rev],
    accept: &'static str,
) -> Result<stream::BoxStream<'a, Result<(usize, String, Value), CliError>>, CliError> {
    let mut streams = Vec::new();
    let mut revisions = from.iter();
    for (index, target) in targets.iter().enumerate() {
        let mut watches = Vec::new();
        if target.names.is_empty() {
            watches.push((args.selection.clone(), context.place(args.all_namespaces)));
        }
        for name in &target.names {
            watches
                .push((Selection::by_fields(format!("metadata.name={name}")), Where::Namespace(context.namespace())));
        }
        for (selection, place) in watches {
            let since = revisions.next().copied().unwrap_or_default();
            let stream = follow::changes(context, target.served, place, selection, since, accept);
            streams.push(stream.map_ok(move |(change, object)| (index, change, object)).boxed());
        }
    }
    Ok(stream::select_all(streams).boxed())
}

async fn tables(args: &GetArgs, context: &Context, targets: Vec<Target>) -> Result<(), CliError> {
    let several = targets.len() > 1;
    let mut missing = Vec::new();
    let mut printed = 0;
    let mut from = Vec::new();
    let mut layouts = Vec::new();
    for target in &targets {
        let (found, absent) = fetch(args, context, target, TABLE).await?;
        missing.extend(absent);
        from.extend(found.iter().map(follow::revision));
        let layout = Layout::new(args, target.served, several, found.first());
        let mut table = layout.table();
        for one in &found {
            layout.add(&mut table, one, context.now());
        }
        if !table.is_empty() {
            if printed > 0 {
                screen::line("")?;
            }
            printed += 1;
            screen::print(table.render(&context.screen, !args.no_headers))?;
        }
        let widths = table.widths(&[], !args.no_headers);
        layouts.push((layout, widths));
    }
    told(context, missing)?;
    if printed == 0 && !args.watch && !args.ignore_not_found {
        let place =
            if args.all_namespaces { String::new() } else { format!(" in namespace `{}`", context.namespace()) };
        let namespaced = targets.iter().any(|t| t.served.kind.is_namespaced());
        screen::remark(format_args!("nothing found{}", if namespaced { place.as_str() } else { "" }));
    }
    if args.watch {
        watch(args, context, &targets, &from, layouts, printed == 0).await?;
    }
    Ok(())
}

async fn watch(
    args: &GetArgs,
    context: &Context,
    targets: &[Target],
    from: &[Rev],
    mut layouts: Vec<(Layout, Vec<usize>)>,
    mut headings: bool,
) -> Result<(), CliError> {
    let mut changes = changes(args, context, targets, from, TABLE).await?;
    while let Some((index, change, object)) = changes.try_next().await? {
        if change == "BOOKMARK" {
            continue;
        }
        let (layout, widths) = &mut layouts[index];
        if layout.columns.is_empty() {
            *layout = Layout::new(args, targets[index].served, targets.len() > 1, Some(&object));
        }
        let mut table = layout.table();
        layout.add(&mut table, &object, context.now());
        *widths = table.widths(widths, headings && !args.no_headers);
        screen::print(table.render_with(widths, &context.screen, headings && !args.no_headers))?;
        headings = false;
    }
    Err(CliError::new(Exit::Failed, "the server ended the watch"))
}

/// Which of the server's columns are shown, and what stands beside them.
struct Layout {
    served: Served,
    columns: Vec<(usize, String, bool)>,
    with_namespace: bool,
    with_kind: bool,
    with_labels: bool,
}

impl Layout {
    fn new(args: &GetArgs, served: Served, with_kind: bool, answer: Option<&Value>) -> Self {
        let wide = args.output.output == Format::Wide;
        let definitions = answer.and_then(|a| a["columnDefinitions"].as_array()).map_or(&[][..], Vec::as_slice);
        let shown = definitions.iter().enumerate().filter(|(_, d)| wide || d["priority"].as_i64().unwrap_or(0) == 0);
        let column = |(index, d): (usize, &Value)| {
            (index, d["name"].as_str().unwrap_or_default().to_uppercase(), d["type"] == "date")
        };
        Self {
            served,
            columns: shown.map(column).collect(),
            with_namespace: args.all_namespaces && served.kind.is_namespaced(),
            with_kind,
            with_labels: args.show_labels,
        }
    }

    fn table(&self) -> Table {
        let mut headings = Vec::new();
        headings.extend(self.with_namespace.then(|| "NAMESPACE".to_owned()));
        headings.extend(self.columns.iter().map(|(_, name, _)| name.clone()));
        headings.extend(self.with_labels.then(|| "LABELS".to_owned()));
        Table::new(headings).judge(&["STATUS", "TYPE"])
    }

    /// Adds the rows of a `Table` from the server.
    fn add(&self, table: &mut Table, answer: &Value, now: Timestamp) {
        for row in answer["rows"].as_array().into_iter().flatten() {
            let mut cells = Vec::new();
            cells.extend(self.with_namespace.then(|| namespace_of(&row["object"])));
            for (position, (index, _, is_date)) in self.columns.iter().enumerate() {
                let text = cell(&row["cells"][*index], *is_date, now);
                let first = position == 0 && self.with_kind;
                cells.push(if first { qualified(self.served, &text) } else { text });
            }
            cells.extend(self.with_labels.then(|| labels(&row["object"]["metadata"]["labels"])));
            table.add(cells);
        }
    }
}

fn cell(value: &Value, is_date: bool, now: Timestamp) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(then) if is_date => ages::age(then, now),
            _ => text.clone(),
        },
        other => other.to_string(),
    }
}

/// `a=b,c=d`.
pub(super) fn labels(labels: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    let all: Vec<String> = labels.as_object().into_iter().flatten().map(pair).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}
