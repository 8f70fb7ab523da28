//! `appm get`: objects as tables, YAML, JSON or names; and, with `-w`, what becomes of them.

mod fetch;
mod layout;
mod then;

use std::path::PathBuf;

use clap::Args;
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::client::http::{Request, TABLE};

use super::{
    context::{Context, Selection},
    error::{CliError, did_you_mean},
    follow, jsonpath,
    jsonpath::JsonPath,
    output::{self, Format, OutputArgs, without_managed_fields},
    past::AtArgs,
    screen,
};
use fetch::{Wanted, changes, fetch};
use layout::Layout;

/// Show objects
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  appm get apps                          a table of the Apps in this namespace
  appm get apps -A -o wide               of all namespaces, with more columns
  appm get app web -o yaml               one App, whole
  appm get app/web instance/web-6f9c-0   of several kinds
  appm get all                           everything that people care for
  appm get -f manifests/                 what the manifests declare, as it is now
  appm get instances -l appm.dev/app=web -w
  appm get apps --sort-by=.metadata.creationTimestamp -L tier
  appm get app web -o jsonpath='{.status.readyReplicas}'
  appm get apps -o custom-columns=NAME:.metadata.name,COMMAND:.spec.process.command
  appm get apps --at 10m                 as they were, without their status
  appm get app web --revision 4711 -o yaml
  appm get --raw /apis/appm.dev/v1")]
pub(super) struct GetArgs {
    /// `apps`, `app web db`, `app/web node/host`, `apps,instances`, `all`
    #[arg(value_name = "RESOURCE", required_unless_present_any = ["filename", "raw"], add = super::complete::resources())]
    words: Vec<String>,
    /// What these manifests declare; may be given several times
    #[arg(short, long, value_name = "PATH", num_args = 1.., conflicts_with = "words")]
    filename: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
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
    /// Show changes only, not what is there already
    #[arg(long)]
    watch_only: bool,
    /// Say of each change whether the object was ADDED, MODIFIED or DELETED
    #[arg(long)]
    output_watch_events: bool,
    /// Order by a field: a JSONPath such as .metadata.creationTimestamp
    #[arg(long, value_name = "PATH")]
    sort_by: Option<JsonPath>,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
    /// Add a column with the labels
    #[arg(long)]
    show_labels: bool,
    /// Add a column for each of these labels
    #[arg(short = 'L', long, value_name = "LABEL", value_delimiter = ',')]
    label_columns: Vec<String>,
    /// Begin each name with its resource
    #[arg(long)]
    show_kind: bool,
    /// Do not hide metadata.managedFields
    #[arg(long)]
    show_managed_fields: bool,
    /// A part of the object: status or scale
    #[arg(long, value_name = "PART")]
    subresource: Option<String>,
    /// Fetch long lists in pieces of so many; 0: at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    chunk_size: u64,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    then: AtArgs,
    /// Print what the server answers at this path, as it is
    #[arg(long, value_name = "PATH", conflicts_with_all = ["words", "filename"])]
    raw: Option<String>,
}

impl GetArgs {
    /// What other commands show in the same way.
    pub(super) fn of(words: Vec<String>, all_namespaces: bool, output: OutputArgs) -> Self {
        Self { words, all_namespaces, output, ..Self::default() }
    }
}

pub(super) async fn run(mut args: GetArgs, context: &Context) -> Result<(), CliError> {
    if let Some(path) = &args.raw {
        return raw(context, path).await;
    }
    args.watch |= args.watch_only;
    let wanted = fetch::wanted(&args, context)?;
    let named = wanted.iter().any(|w| !w.names.is_empty());
    if !args.selection.is_empty() && named {
        return Err(CliError::usage("a selector picks objects of a list; leave out either the names or the selector"));
    }
    if args.all_namespaces && named && args.filename.is_empty() {
        return Err(CliError::usage("an object with a name is in one namespace; say which by -n instead of -A"));
    }
    if args.then.is_asked() {
        then::check(&args)?;
    }
    match args.output.output {
        Format::Table | Format::Wide if args.then.is_asked() => then::tables(&args, context, wanted).await,
        Format::Table | Format::Wide => tables(&args, context, wanted).await,
        _ => whole(&args, context, wanted).await,
    }
}

async fn raw(context: &Context, path: &str) -> Result<(), CliError> {
    if !path.starts_with('/') {
        return Err(CliError::usage(format!("a path begins with a slash: `/{path}`")));
    }
    let mut pieces = context.client.stream(Request::get(path)).await?;
    while let Some(piece) = pieces.try_next().await? {
        screen::bytes(&piece)?;
    }
    Ok(())
}

/// Ends with what was not there, if anything.
fn told(context: &Context, mut absent: Vec<CliError>) -> Result<(), CliError> {
    let Some(last) = absent.pop() else { return Ok(()) };
    for error in absent {
        screen::remark(error.render(&context.screen).trim_end());
    }
    Err(last)
}

async fn whole(args: &GetArgs, context: &Context, wanted: Vec<Wanted>) -> Result<(), CliError> {
    let tidy = |object: Value| if args.show_managed_fields { object } else { without_managed_fields(object) };
    let mut all = Vec::new();
    let mut missing = Vec::new();
    let mut from = Vec::new();
    for one in &wanted {
        let (found, absent) = fetch(args, context, one, "application/json").await?;
        missing.extend(absent);
        for mut answer in found {
            from.push(follow::Start::of(&answer));
            match answer["items"].take() {
                Value::Array(items) => all.extend(items.into_iter().map(tidy)),
                _ => all.push(tidy(without_items(answer))),
            }
        }
    }
    if let Some(path) = &args.sort_by {
        sort(&mut all, path, |object| object)?;
    }
    let single = wanted.len() == 1 && wanted[0].names.len() == 1;
    if !args.watch_only && (!all.is_empty() || !(args.watch || single)) {
        match &args.output.output {
            Format::Columns(columns) => {
                screen::print(columns.table(&all).render(&context.screen, !args.no_headers))?;
            }
            format => output::objects(format, all, !single && !matches!(format, Format::Name))?,
        }
    }
    told(context, missing)?;
    if args.watch {
        let mut changes = changes(args, context, &wanted, from, "application/json").await?;
        while let Some((_, change, object)) = changes.try_next().await? {
            match &args.output.output {
                Format::Columns(columns) => {
                    screen::print(columns.table(&[object]).render(&context.screen, false))?;
                }
                format @ (Format::Json | Format::Yaml) if args.output_watch_events => {
                    output::value(format, &json!({"type": change, "object": tidy(object)}))?;
                }
                format => output::objects(format, vec![tidy(object)], false)?,
            }
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

/// Orders by what a path finds; whoever has nothing there comes first.
///
/// # Errors
/// When nobody has anything there: then the path is surely misspelt.
fn sort<T>(all: &mut [T], path: &JsonPath, object: impl Fn(&T) -> &Value) -> Result<(), CliError> {
    let key = |one: &T| path.find(object(one)).first().map_or(Value::Null, |found| (*found).clone());
    if !all.is_empty() && all.iter().all(|one| key(one).is_null()) {
        let hint = object(&all[0]).as_object().and_then(|map| {
            let top: Vec<String> = map.keys().cloned().collect();
            let written = path.first_field()?.to_owned();
            did_you_mean(&written, top.iter().map(String::as_str).filter(|known| *known != written))
        });
        let error = CliError::usage("no object has anything at the path of --sort-by");
        return Err(error.help("the path is that of a field, `.metadata.name` say").maybe_help(hint));
    }
    all.sort_by(|a, b| jsonpath::compare(&key(a), &key(b)));
    Ok(())
}

async fn tables(args: &GetArgs, context: &Context, wanted: Vec<Wanted>) -> Result<(), CliError> {
    let mut missing = Vec::new();
    let mut printed = 0;
    let mut from = Vec::new();
    let mut layouts = Vec::new();
    let with_kind = args.show_kind || wanted.len() > 1;
    for one in &wanted {
        let (found, absent) = fetch(args, context, one, TABLE).await?;
        missing.extend(absent);
        from.extend(found.iter().map(follow::Start::of));
        let layout = Layout::new(args, one.served, with_kind, found.first());
        let mut rows: Vec<Value> = found.into_iter().flat_map(rows_of).collect();
        if let Some(path) = &args.sort_by {
            sort(&mut rows, path, |row| &row["object"])?;
        }
        let mut table = layout.table();
        for row in &rows {
            layout.add(&mut table, row, context.now());
        }
        if !table.is_empty() && !args.watch_only {
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
        let namespaced = wanted.iter().any(|w| w.served.kind.is_namespaced());
        screen::remark(format_args!("nothing found{}", if namespaced { place.as_str() } else { "" }));
    }
    if args.watch {
        watch(args, context, &wanted, from, layouts, printed == 0).await?;
    }
    Ok(())
}

fn rows_of(mut table: Value) -> Vec<Value> {
    match table["rows"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    }
}

async fn watch(
    args: &GetArgs,
    context: &Context,
    wanted: &[Wanted],
    from: Vec<follow::Start>,
    mut layouts: Vec<(Layout, Vec<usize>)>,
    mut headings: bool,
) -> Result<(), CliError> {
    let mut changes = changes(args, context, wanted, from, TABLE).await?;
    while let Some((index, change, answer)) = changes.try_next().await? {
        let (layout, widths) = &mut layouts[index];
        if layout.is_blank() {
            let with_kind = args.show_kind || wanted.len() > 1;
            *layout = Layout::new(args, wanted[index].served, with_kind, Some(&answer));
        }
        let mut table = layout.table();
        for row in rows_of(answer) {
            layout.add_change(&mut table, &change, &row, context.now());
        }
        *widths = table.widths(widths, headings && !args.no_headers);
        screen::print(table.render_with(widths, &context.screen, headings && !args.no_headers))?;
        headings = false;
    }
    Ok(())
}

pub(super) use layout::labels;
