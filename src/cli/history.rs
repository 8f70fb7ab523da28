//! `appm history`: what an object was, who changed it and what; and versions that are kept.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    api::{HistoryPin, Rev, Version},
    client::http::Request,
};

use super::{
    ages,
    context::Context,
    error::CliError,
    output::{self, Format, OutputArgs},
    past::{self, One},
    screen,
    table::Table,
};

/// Show what an object was: who changed it, when, through what, and which fields
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  appm history app/web                      newest first
  appm history app web --diff               every field that changed, with what was and what is
  appm history app/web -o wide              with the request, as `appm audit` has it, and the uid
  appm history app/web --limit 3 -o json
  appm get app/web --revision 4711 -o yaml  a version as a whole
  appm rollback app/web --to 4711           back to it
  appm history pin app/web --name baseline  keep the version that stands, whatever its age
  appm history pins app/web
  appm history unpin app/web --name baseline

The history keeps spec and metadata, no status, as long as the server is told (--history-max-age, --history-max-size)."
)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
    /// `app/web` or `app web`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// Show every field that changed
    #[arg(long)]
    diff: bool,
    /// So many versions; 0: all
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand, Debug)]
enum HistoryCommand {
    /// Keep a version whatever its age
    Pin(PinArgs),
    /// Let go of a version that was kept
    Unpin(UnpinArgs),
    /// List the versions of an object that are kept
    Pins(PinsArgs),
}

#[derive(Args, Debug)]
struct PinArgs {
    /// `app/web` or `app web`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// The version that stood at this revision [default: the one that stands now]
    #[arg(long, value_name = "NUMBER", value_parser = past::revision)]
    revision: Option<Rev>,
    /// What it is called; a pin of that name moves
    #[arg(long, value_name = "NAME", default_value = "baseline")]
    name: String,
}

#[derive(Args, Debug)]
struct UnpinArgs {
    /// `app/web` or `app web`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// What it is called
    #[arg(long, value_name = "NAME", default_value = "baseline")]
    name: String,
}

#[derive(Args, Debug)]
struct PinsArgs {
    /// `app/web` or `app web`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: HistoryArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        Some(HistoryCommand::Pin(args)) => pin(args, context).await,
        Some(HistoryCommand::Unpin(args)) => unpin(args, context).await,
        Some(HistoryCommand::Pins(args)) => pins(args, context).await,
        None => show(args, context).await,
    }
}

async fn show(args: HistoryArgs, context: &Context) -> Result<(), CliError> {
    let one = One::of(&args.words, context)?;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut told = one.history(context, "", limit.min(500)).await?;
    while told.items.len() < limit && !told.metadata.next.is_empty() {
        let more = one.history(context, &told.metadata.next, (limit - told.items.len()).min(500)).await?;
        told.items.extend(more.items);
        told.metadata.next = more.metadata.next;
    }
    if !args.output.output.is_table() {
        let value = serde_json::to_value(&told).expect("plain data");
        return shown(&args.output.output, value);
    }
    let uids: std::collections::BTreeSet<&str> = told.items.iter().map(|version| version.uid.as_str()).collect();
    let (wide, several) = (args.output.output == Format::Wide, uids.len() > 1);
    if args.diff {
        for version in &told.items {
            diff(context, version)?;
        }
    } else {
        let mut headings = vec!["REVISION", "AGE", "USER", "THROUGH", "WHAT"];
        headings.extend(wide.then_some("REQUEST"));
        headings.extend((wide || several).then_some("UID"));
        let mut table = Table::new(headings);
        for version in &told.items {
            let mut row = line(context, version);
            row.extend(wide.then(|| dash(&version.by.request_id)));
            row.extend((wide || several).then(|| dash(version.uid.as_str())));
            table.add(row);
        }
        screen::print(table.render(&context.screen, true))?;
    }
    if !told.metadata.next.is_empty() {
        let count = told.items.len();
        screen::remark(format_args!("the newest {count}; there are more: --limit {}, or --limit 0 for all", count * 5));
    }
    Ok(())
}

fn shown(format: &Format, value: Value) -> Result<(), CliError> {
    match format {
        Format::Yaml | Format::Json => output::value(format, &value),
        format => output::objects(format, vec![value], false),
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { screen::harmless(text) }
}

fn age(context: &Context, version: &Version) -> String {
    version.time.map_or_else(|| "-".to_owned(), |at| ages::age(at.0, context.now()))
}

fn line(context: &Context, version: &Version) -> Vec<String> {
    let mut what = past::told(version);
    if !version.by.reason.is_empty() {
        what = format!("{what} ({})", version.by.reason);
    }
    if !version.pins.is_empty() {
        what = format!("{what} [{}]", version.pins.join(", "));
    }
    let who = [&version.by.user, &version.by.manager].map(|text| dash(text));
    let [user, manager] = who;
    vec![version.revision.clone(), age(context, version), user, manager, screen::harmless(&what)]
}

fn diff(context: &Context, version: &Version) -> Result<(), CliError> {
    let [revision, age, user, manager, what] = &line(context, version)[..] else { return Ok(()) };
    let what = if version.fields.is_empty() {
        what.clone()
    } else {
        match version.changed_fields {
            1 => "changed 1 field".to_owned(),
            n => format!("changed {n} fields"),
        }
    };
    let head = format!("revision {revision}, {age} ago, {user} through {manager}: {what}");
    screen::line(context.screen.paint(screen::BOLD, &head))?;
    for field in &version.fields {
        screen::line(format_args!("  {}", past::field_text(field)))?;
    }
    let untold = version.changed_fields.saturating_sub(version.fields.len());
    if untold > 0 {
        screen::line(format_args!("  and {untold} more"))?;
    }
    Ok(())
}

fn pin_path(one: &One, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let name: String =
        name.bytes().map(|b| if plain(b.into()) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    format!("{}/history/{name}", one.path())
}

async fn pin(args: PinArgs, context: &Context) -> Result<(), CliError> {
    let one = One::of(&args.words, context)?;
    let mut body = json!({});
    if let Some(revision) = args.revision {
        body["revision"] = revision.to_string().into();
    }
    if args.name.is_empty() {
        return Err(CliError::usage("a pin needs a name: `--name baseline`"));
    }
    let answer = context.call(Request::put(pin_path(&one, &args.name), &body)).await?.json()?;
    let pin: HistoryPin = serde_json::from_value(answer).map_err(|e| CliError::failed(e.to_string()))?;
    let what = format!("{} is kept at revision {} as `{}`", one.qualified(), pin.revision, screen::harmless(&pin.name));
    Ok(screen::line(what)?)
}

async fn unpin(args: UnpinArgs, context: &Context) -> Result<(), CliError> {
    let one = One::of(&args.words, context)?;
    let answer = context.call(Request::delete(pin_path(&one, &args.name), &json!({}))).await?.json()?;
    let revision = answer["revision"].as_str().unwrap_or_default();
    let what =
        format!("{} is no longer kept at revision {revision} as `{}`", one.qualified(), screen::harmless(&args.name));
    Ok(screen::line(what)?)
}

async fn pins(args: PinsArgs, context: &Context) -> Result<(), CliError> {
    let one = One::of(&args.words, context)?;
    let (mut below, mut kept) = (String::new(), Vec::new());
    loop {
        let page = one.history(context, &below, 500).await?;
        kept.extend(page.items.into_iter().filter(|version| !version.pins.is_empty()));
        below = page.metadata.next;
        if below.is_empty() {
            break;
        }
    }
    if !args.output.output.is_table() {
        return shown(&args.output.output, json!({"items": kept}));
    }
    let mut table = Table::new(["PIN", "REVISION", "AGE", "USER", "WHAT"]);
    for version in &kept {
        for pin in &version.pins {
            table.add([
                pin.clone(),
                version.revision.clone(),
                age(context, version),
                dash(&version.by.user),
                past::told(version),
            ]);
        }
    }
    if table.is_empty() {
        screen::remark(format_args!("no version of {} is kept", one.qualified()));
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}
