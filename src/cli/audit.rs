//! `appm audit`: who did what, and whether the log of that is whole.

use clap::{Args, Subcommand};
use futures::TryStreamExt;

use crate::{
    api::GoDuration,
    audit::{Decision, Record, Verdict},
    client::http::{Request, query_string},
};

use super::{
    context::Context,
    error::{CliError, Exit},
    output::{Format, OutputArgs},
    screen,
    table::Table,
};

/// Show who did what
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  appm audit                                what was changed, refused, and read of Secrets; the last 100 records
  appm audit --user ann --since 24h
  appm audit --resource secrets --verb get
  appm audit --denied -f
  appm audit --denied -o wide               and by which role, or why not
  appm audit -o json --tail 0 > audit.jsonl
  appm audit verify                         whether anything was changed, taken out or cut off"
)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    wanted: Wanted,
    /// Go on and show what is recorded
    #[arg(short, long)]
    follow: bool,
    /// So many of the newest records; 0: all
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    tail: u32,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand, Debug)]
enum AuditCommand {
    /// Check that the log is what was written: 0, or 1 and the first record that is not
    Verify,
}

/// Which records.
#[derive(Args, Debug)]
struct Wanted {
    /// Of this user
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    user: String,
    /// With this verb: create, update, patch, delete, get, …
    #[arg(long, value_name = "VERB", default_value = "", hide_default_value = true)]
    verb: String,
    /// Of these resources: apps, secrets, instances/log, …
    #[arg(long, value_name = "PLURAL", default_value = "", hide_default_value = true)]
    resource: String,
    /// In this namespace
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    r#in: String,
    /// Of objects of this name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    object: String,
    /// Of this request: the Audit-ID of an answer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    /// Not older than this: 10m, 24h
    #[arg(long, value_name = "DURATION")]
    since: Option<GoDuration>,
    /// Only what was refused
    #[arg(long)]
    denied: bool,
}

pub(super) async fn run(args: AuditArgs, context: &Context) -> Result<(), CliError> {
    if args.command.is_some() {
        return verify(context).await;
    }
    let Wanted { user, verb, resource, r#in, object, request_id, since, denied } = args.wanted;
    let mut query = vec![
        ("user", user),
        ("verb", verb),
        ("resource", resource),
        ("inNamespace", r#in),
        ("object", object),
        ("requestId", request_id),
    ];
    query.extend(since.map(|since| ("sinceSeconds", since.0.as_secs().max(1).to_string())));
    query.extend(denied.then(|| ("denied", "true".to_owned())));
    query.extend(args.follow.then(|| ("follow", "true".to_owned())));
    query.extend((args.tail > 0).then(|| ("tailLines", args.tail.to_string())));
    query.retain(|(_, value)| !value.is_empty());
    let request = Request::get(format!("/audit{}", query_string(&query)));
    let (mut lines, warnings) = context.client.lines_and_warnings(request).await?;
    context.warn(&warnings);
    let wide = args.output.output == Format::Wide;
    let headings: Vec<&str> = HEADINGS.into_iter().chain(wide.then_some("WHY")).collect();
    let mut table = (!args.follow).then(|| Table::new(headings));
    while let Some(line) = lines.try_next().await? {
        if !matches!(args.output.output, Format::Table | Format::Wide) {
            screen::line(String::from_utf8_lossy(&line))?;
            continue;
        }
        let record: Record =
            serde_json::from_slice(&line).map_err(|e| CliError::failed(format!("a record cannot be read: {e}")))?;
        let cells = row(&record, wide);
        match &mut table {
            Some(table) => table.add(cells),
            None => screen::line(cells.iter().map(|cell| screen::harmless(cell)).collect::<Vec<_>>().join("  "))?,
        }
    }
    if let Some(table) = table {
        screen::print(table.render(&context.screen, true))?;
    }
    Ok(())
}

const HEADINGS: [&str; 6] = ["TIME", "USER", "FROM", "VERB", "WHAT", "OUTCOME"];

/// One record for people.
fn row(record: &Record, wide: bool) -> Vec<String> {
    let part = if record.subresource.is_empty() { String::new() } else { format!("/{}", record.subresource) };
    let mut what = match (record.resource.as_str(), record.changes.as_slice()) {
        ("transactions", changes) => {
            let named = changes.iter().map(|c| format!("{}/{}", c.kind.split('.').next().unwrap_or_default(), c.name));
            named.collect::<Vec<_>>().join(" ")
        }
        ("", _) if record.path.is_empty() => record.note.clone(),
        ("", _) => record.path.clone(),
        (resource, [only]) if record.name.is_empty() => format!("{resource}{part}/{}", only.name),
        (resource, _) if record.name.is_empty() => format!("{resource}{part}"),
        (resource, _) => format!("{resource}{part}/{}", record.name),
    };
    if !record.namespace.is_empty() {
        what = format!("{what} in {}", record.namespace);
    }
    let outcome = match (record.decision, record.code) {
        (Decision::Deny, code) => format!("denied {code}"),
        (Decision::Allow, 0) => format!("revision {}", record.revision),
        (Decision::Allow, code) => code.to_string(),
    };
    let time = record.time.chars().take(19).collect();
    let mut cells = vec![time, record.user.clone(), record.source.clone(), record.verb.clone(), what, outcome];
    if wide {
        let why = [&record.rule, &record.note].into_iter().filter(|text| !text.is_empty());
        cells.push(why.map(String::as_str).collect::<Vec<_>>().join(": "));
    }
    cells
}

async fn verify(context: &Context) -> Result<(), CliError> {
    let verdict = context.call(Request::get("/audit/verify")).await?.json()?;
    let verdict: Verdict = serde_json::from_value(verdict).map_err(|e| CliError::failed(e.to_string()))?;
    match verdict.fault {
        None if verdict.records == 0 => screen::line("the log is whole: nothing is recorded yet")?,
        None => screen::line(format_args!(
            "the log is whole: {} records, from {} to {}",
            verdict.records, verdict.first, verdict.last
        ))?,
        Some(fault) => {
            let place = format!("{} line {}", fault.file, fault.line);
            return Err(CliError::new(Exit::Failed, format!("record {}: {} ({place})", fault.seq, fault.what)));
        }
    }
    Ok(())
}
