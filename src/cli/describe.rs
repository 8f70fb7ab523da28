//! `appm describe`: everything about an object on one page, its instances and events included.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use crate::api::{
    APP_LABEL, App, ConfigMap, ELIDED, Event, Instance, Kind, OWNER, ResourceQuota, Secret, Served, at, last_exit_word,
};

use super::{
    ages,
    context::{Context, Selection, Where, name_of, namespace_of, served},
    error::CliError,
    events, get,
    output::{self, without_managed_fields},
    processes,
    resources::{self, Target},
    screen,
    table::Table,
};

/// Show everything about objects: what is wanted, what is, and what happened
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm describe app web
  appm describe app/web instance/web-6f9c-0
  appm describe web                  a word that is no resource is the name of an App
  appm describe apps -l tier=front")]
pub(super) struct DescribeArgs {
    /// `app web`, `app/web`, `apps`, or the name of an App
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

pub(super) async fn run(args: DescribeArgs, context: &Context) -> Result<(), CliError> {
    let targets = match args.words.as_slice() {
        [word] if !word.contains('/') && resources::targets(&args.words).is_err() => {
            vec![resources::apps_target(vec![word.clone()])]
        }
        words => resources::targets(words)?,
    };
    let mut first = true;
    for Target { served, names } in targets {
        let mut objects = Vec::new();
        for name in &names {
            objects.push(context.get(served, context.namespace(), name).await?);
        }
        if names.is_empty() {
            objects = context.list(served, context.place(args.all_namespaces), &args.selection).await?.1;
        }
        for object in objects {
            if !std::mem::take(&mut first) {
                screen::line("")?;
            }
            describe(context, served, object).await?;
        }
    }
    Ok(())
}

async fn describe(context: &Context, served_as: Served, object: Value) -> Result<(), CliError> {
    let object = without_managed_fields(object);
    screen::print(head(context, served_as, &object))?;
    if served_as.kind == ResourceQuota::INFO {
        table(context, "Quota", &quota_table(&object))?;
    } else {
        section(context, "Spec", &object["spec"])?;
    }
    let mut status = object["status"].clone();
    let conditions = status.as_object_mut().and_then(|s| s.shift_remove("conditions")).unwrap_or_default();
    if served_as.kind != ResourceQuota::INFO {
        section(context, "Status", &status)?;
    }
    table(context, "Conditions", &conditions_table(context, &conditions))?;
    if served_as.kind == ConfigMap::INFO {
        section(context, "Data", &object["data"])?;
        table(context, "Binary data", &sizes_table(&object["binaryData"]))?;
    }
    if served_as.kind == Secret::INFO {
        let elided = !object["metadata"]["annotations"][ELIDED].is_null();
        table(context, "Data", &if elided { names_table(&object["data"]) } else { sizes_table(&object["data"]) })?;
    }
    let mut about = BTreeSet::from([text(&object, &["metadata", "uid"])]);
    let namespace = namespace_of(&object);
    if served_as.kind == Instance::INFO {
        let processes = processes::of(context, &namespace, &name_of(&object)).await?;
        table(context, "Processes", &processes::table(&processes))?;
    }
    if served_as.kind == App::INFO {
        let labels = Selection::by_labels(format!("{APP_LABEL}={}", name_of(&object)));
        let instances = context.list(served::<Instance>(), Where::Namespace(&namespace), &labels).await?.1;
        about.extend(instances.iter().map(|i| text(i, &["metadata", "uid"])));
        table(context, "Instances", &instances_table(context, &instances))?;
        for instance in &instances {
            last_words(context, instance)?;
        }
    }
    if served_as.kind != Event::INFO {
        let place = if namespace.is_empty() { Where::Everywhere } else { Where::Namespace(&namespace) };
        let all =
            events::list(context, place, |event| about.contains(&text(event, &["involvedObject", "uid"]))).await?;
        table(context, "Events", &events::table(context, &all, false))?;
    }
    Ok(())
}

fn text(object: &Value, path: &[&str]) -> String {
    at(object, path).as_str().unwrap_or_default().to_owned()
}

/// What the object is, and how it does in a line each.
fn head(context: &Context, served_as: Served, object: &Value) -> String {
    let metadata = &object["metadata"];
    let mut lines = vec![
        ("Name", name_of(object)),
        ("Namespace", namespace_of(object)),
        ("Kind", format!("{} ({})", served_as.name(), served_as.api_version())),
        ("Labels", get::labels(&metadata["labels"])),
        ("Annotations", annotations(&metadata["annotations"])),
        ("Owner", text(metadata, &["annotations", OWNER])),
        ("Controlled by", controller(metadata)),
    ];
    if let Ok(created) = text(metadata, &["creationTimestamp"]).parse() {
        lines.push(("Created", format!("{created} ({} ago)", ages::age(created, context.now()))));
    }
    if !metadata["deletionTimestamp"].is_null() {
        lines.push(("Deleting since", text(metadata, &["deletionTimestamp"])));
    }
    let mut out = String::new();
    let mut add = |name: &str, value: &str, judged: bool| {
        let value = screen::harmless(value);
        let shown = if judged { context.screen.paint(screen::judge(&value), &value) } else { value };
        out += &format!(
            "{}{}{shown}\n",
            context.screen.paint(screen::BOLD, &format!("{name}:")),
            " ".repeat(16_usize.saturating_sub(name.len() + 1))
        );
    };
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty() && value != "-") {
        add(name, value, false);
    }
    for column in served_as.columns() {
        let value = (column.cell)(object, context.now());
        if !value.is_null() && value != "" {
            add(column.name, &super::jsonpath::plain(&value), true);
        }
    }
    out
}

fn annotations(annotations: &Value) -> String {
    let mut shown = annotations.clone();
    if let Some(map) = shown.as_object_mut() {
        map.shift_remove(OWNER);
        map.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    get::labels(&shown)
}

fn controller(metadata: &Value) -> String {
    let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    match owners.iter().find(|o| o["controller"] == true) {
        Some(owner) => format!("{}/{}", text(owner, &["kind"]), text(owner, &["name"])),
        None => String::new(),
    }
}

fn section(context: &Context, name: &str, value: &Value) -> Result<(), CliError> {
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    if empty {
        return Ok(());
    }
    screen::line(context.screen.paint(screen::BOLD, &format!("{name}:")))?;
    for line in output::yaml(value).lines() {
        screen::line(format_args!("  {}", screen::harmless(line)))?;
    }
    Ok(())
}

/// What an instance's last attempt said before it failed, if its status tells of that.
fn last_words(context: &Context, instance: &Value) -> Result<(), CliError> {
    let exit = &instance["status"]["lastExit"];
    let words = text(exit, &["message"]);
    if words.is_empty() {
        return Ok(());
    }
    let how = Some(last_exit_word(exit)).filter(|how| !how.is_empty()).unwrap_or_else(|| "not started".to_owned());
    let title = format!("Last exit of {} ({how}):", name_of(instance));
    screen::line(context.screen.paint(screen::BOLD, &title))?;
    for line in words.lines() {
        screen::line(format_args!("  {}", screen::harmless(line)))?;
    }
    Ok(())
}

fn table(context: &Context, name: &str, table: &Table) -> Result<(), CliError> {
    if table.is_empty() {
        return Ok(());
    }
    screen::line(context.screen.paint(screen::BOLD, &format!("{name}:")))?;
    let narrower =
        screen::Screen { width: context.screen.width.map(|w| w.saturating_sub(2)), ..context.screen.clone() };
    for line in table.render(&narrower, true).lines() {
        screen::line(format_args!("  {line}"))?;
    }
    Ok(())
}

/// What is used of each bound, as kubectl shows it.
fn quota_table(quota: &Value) -> Table {
    let mut table = Table::new(["RESOURCE", "USED", "HARD"]);
    for (name, hard) in quota["spec"]["hard"].as_object().into_iter().flatten() {
        let used = text(quota, &["status", "used", name]);
        table.add([name.clone(), if used.is_empty() { "-".to_owned() } else { used }, super::jsonpath::plain(hard)]);
    }
    table
}

/// How long the values of a map of base64 texts are: whoever looks over one's shoulder learns no more.
fn sizes_table(map: &Value) -> Table {
    let mut table = Table::new(["NAME", "SIZE"]);
    for (name, value) in map.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
        table.add([name.clone(), format!("{} bytes", (text.len() / 4 * 3).saturating_sub(padding))]);
    }
    table
}

/// Of what may not be seen.
fn names_table(map: &Value) -> Table {
    let mut table = Table::new(["NAME", "SIZE"]);
    map.as_object().into_iter().flatten().for_each(|(name, _)| table.add([name.clone(), "not shown".to_owned()]));
    table
}

fn conditions_table(context: &Context, conditions: &Value) -> Table {
    let mut table = Table::new(["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"]).judge(&["STATUS", "REASON"]);
    for one in conditions.as_array().into_iter().flatten() {
        let since = text(one, &["lastTransitionTime"]).parse().map(|t| ages::age(t, context.now())).unwrap_or_default();
        table.add([
            text(one, &["type"]),
            text(one, &["status"]),
            since,
            text(one, &["reason"]),
            text(one, &["message"]),
        ]);
    }
    table
}

fn instances_table(context: &Context, instances: &[Value]) -> Table {
    let columns: Vec<_> = Instance::INFO.columns.iter().filter(|c| !matches!(c.name, "Node" | "Revision")).collect();
    let headings = columns.iter().map(|c| c.name.to_uppercase());
    let mut table = Table::new(std::iter::once("NAME".to_owned()).chain(headings)).judge(&["STATUS", "READY"]);
    for instance in instances {
        let cell = |c: &&&crate::api::Column| match (c.cell)(instance, context.now()) {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            value => super::jsonpath::plain(&value),
        };
        table.add(std::iter::once(name_of(instance)).chain(columns.iter().map(|c| cell(&c))));
    }
    table
}
