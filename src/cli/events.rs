//! `appm events`: what happened, oldest first.

use clap::Args;
use futures::TryStreamExt;
use serde_json::Value;

use crate::api::{Event, at};

use super::{
    ages,
    context::{Context, Selection, Where, namespace_of, served},
    error::CliError,
    follow,
    output::{self, Format, OutputArgs},
    resources, screen,
    table::Table,
};

/// Show what happened, oldest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm events
  appm events --for app/web -w
  appm events -A --type Warning")]
pub(super) struct EventsArgs {
    /// Only what happened to this object
    #[arg(long = "for", value_name = "RESOURCE/NAME", add = super::complete::qualified_names())]
    about: Option<String>,
    /// Normal or Warning
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on and show what happens
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: EventsArgs, context: &Context) -> Result<(), CliError> {
    let about = match &args.about {
        None => None,
        Some(word) => {
            let target = resources::targets(std::slice::from_ref(word))?.remove(0);
            let name = target.names.first().cloned();
            Some((
                target.served.name(),
                name.ok_or_else(|| CliError::usage("--for takes resource/name, `app/web` say"))?,
            ))
        }
    };
    let chosen = |event: &Value| {
        let object = &event["involvedObject"];
        about.as_ref().is_none_or(|(kind, name)| object["kind"] == *kind && object["name"] == name.as_str())
            && args
                .r#type
                .as_ref()
                .is_none_or(|wanted| event["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(wanted)))
    };
    let place = context.place(args.all_namespaces);
    let (revision, items) = context.list(served::<Event>(), place, &Selection::default()).await?;
    let start = follow::Start::of_list(revision, &items);
    let all = sorted(items, chosen);
    match &args.output.output {
        Format::Table | Format::Wide => {
            if all.is_empty() && !args.watch {
                screen::remark("no events");
            } else {
                screen::print(table(context, &all, args.all_namespaces).render(&context.screen, true))?;
            }
        }
        format => output::objects(format, all, true)?,
    }
    if !args.watch {
        return Ok(());
    }
    let changes = follow::changes(context, served::<Event>(), place, Selection::default(), start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, event)) = changes.try_next().await? {
        if change == "DELETED" || !chosen(&event) {
            continue;
        }
        match &args.output.output {
            Format::Table | Format::Wide => {
                screen::print(table(context, &[event], args.all_namespaces).render(&context.screen, false))?;
            }
            format => output::objects(format, vec![event], false)?,
        }
    }
    Ok(())
}

/// The events that are chosen, oldest first.
pub(super) async fn list(
    context: &Context,
    place: Where<'_>,
    chosen: impl Fn(&Value) -> bool,
) -> Result<Vec<Value>, CliError> {
    let (_, items) = context.list(served::<Event>(), place, &Selection::default()).await?;
    Ok(sorted(items, chosen))
}

fn sorted(mut items: Vec<Value>, chosen: impl Fn(&Value) -> bool) -> Vec<Value> {
    items.retain(chosen);
    items.sort_by_key(last_seen);
    items
}

fn last_seen(event: &Value) -> Option<jiff::Timestamp> {
    let times = [at(event, &["series", "lastObservedTime"]), &event["lastTimestamp"], &event["eventTime"]];
    times.iter().find_map(|t| t.as_str()).and_then(|t| t.parse().ok())
}

/// Events for people.
pub(super) fn table(context: &Context, events: &[Value], with_namespace: bool) -> Table {
    let mut headings = vec!["AGE", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"];
    if with_namespace {
        headings.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(headings).judge(&["TYPE"]);
    for event in events {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let object = &event["involvedObject"];
        let about = format!(
            "{}/{}",
            object["kind"].as_str().unwrap_or_default().to_lowercase(),
            object["name"].as_str().unwrap_or_default()
        );
        let count = at(event, &["series", "count"]).as_i64().or(event["count"].as_i64()).unwrap_or(1);
        let age = last_seen(event).map(|t| ages::age(t, context.now())).unwrap_or_default();
        let mut row = vec![age, text("type"), text("reason"), about, count.to_string(), text("message")];
        if with_namespace {
            row.insert(0, namespace_of(event));
        }
        table.add(row);
    }
    table
}
