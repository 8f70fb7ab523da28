//! Objects as they were: without a status, and so without the columns that tell of it.

use serde_json::Value;

use crate::{
    api::{Served, at},
    cli::{
        ages,
        context::{Context, name_of, namespace_of},
        error::{CliError, Exit},
        resources::qualified,
        screen,
        table::Table,
    },
};

use super::{GetArgs, Wanted, fetch, labels, told};

/// What does not go together with the past.
///
/// # Errors
/// When it is asked for.
pub(super) fn check(args: &GetArgs) -> Result<(), CliError> {
    let wrong = [
        (args.watch, "-w: nothing becomes of what was"),
        (args.subresource.is_some(), "--subresource: the history keeps spec and metadata"),
    ];
    match wrong.into_iter().find(|(is, _)| *is) {
        Some((_, why)) => Err(CliError::usage(format!("--at and --revision do not go with {why}"))),
        None => Ok(()),
    }
}

/// The error for an object that was not there.
pub(super) fn absent(served: Served, name: &str) -> CliError {
    let error = CliError::new(Exit::NotFound, format!("{} was not there then", qualified(served, name)));
    error.help(format!("`appm history {}/{name}` tells when it was", served.singular()))
}

/// A table of each resource.
pub(super) async fn tables(args: &GetArgs, context: &Context, wanted: Vec<Wanted>) -> Result<(), CliError> {
    let (mut missing, mut printed) = (Vec::new(), false);
    for one in &wanted {
        let (found, absent) = fetch(args, context, one, "application/json").await?;
        missing.extend(absent);
        let objects: Vec<Value> = found.into_iter().flat_map(objects_of).collect();
        let table = table(args, context, one.served, &objects, wanted.len() > 1 || args.show_kind);
        if !table.is_empty() {
            if std::mem::replace(&mut printed, true) {
                screen::line("")?;
            }
            screen::print(table.render(&context.screen, !args.no_headers))?;
        }
    }
    told(context, missing)?;
    if !printed && !args.ignore_not_found {
        screen::remark("nothing was there then");
    }
    Ok(())
}

fn objects_of(mut answer: Value) -> Vec<Value> {
    match answer["items"].take() {
        Value::Array(items) => items,
        _ => {
            if let Some(map) = answer.as_object_mut() {
                map.shift_remove("items");
            }
            vec![answer]
        }
    }
}

fn table(args: &GetArgs, context: &Context, served: Served, objects: &[Value], with_kind: bool) -> Table {
    let text = |object: &Value, path: &[&str]| at(object, path).as_str().unwrap_or_default().to_owned();
    let namespaced = args.all_namespaces && served.kind.is_namespaced();
    let mut headings: Vec<String> = namespaced.then(|| "NAMESPACE".to_owned()).into_iter().collect();
    headings.extend(["NAME", "REVISION", "GENERATION", "CREATED"].map(str::to_owned));
    headings.extend(args.show_labels.then(|| "LABELS".to_owned()));
    headings.extend(args.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or(label).to_uppercase()));
    let mut table = Table::new(headings);
    for object in objects {
        let name = if with_kind { qualified(served, &name_of(object)) } else { name_of(object) };
        let mut row: Vec<String> = namespaced.then(|| namespace_of(object)).into_iter().collect();
        let generation = &object["metadata"]["generation"];
        let created = text(object, &["metadata", "creationTimestamp"]);
        row.push(name);
        row.push(text(object, &["metadata", "resourceVersion"]));
        row.push(if generation.is_null() { "-".to_owned() } else { generation.to_string() });
        row.push(created.parse().map_or(created, |at| format!("{} ago", ages::age(at, context.now()))));
        row.extend(args.show_labels.then(|| labels(&object["metadata"]["labels"])));
        row.extend(args.label_columns.iter().map(|label| text(object, &["metadata", "labels", label])));
        table.add(row);
    }
    table
}
