//! `appm workflow lint`, `add`, `ls`, `get`, `rm` and `inputs`: Workflows as people declare them.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::{
    super::{
        complete,
        context::{Context, Selection, name_of, served},
        diagnostics,
        error::{CliError, Exit},
        of_kind::ListArgs,
        output::{self, Format, OutputArgs, without_managed_fields},
        resources::qualified,
        screen::{self, Screen},
        table::Table,
    },
    manifest::Files,
};
use crate::{
    api::{EventName, OWNER, Object, Operation, OperationVerb, Transaction, Workflow},
    policy::workflow::inputs,
};

/// Say everything that is wrong with Workflows, with file, line and column; needs no server
#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 0 if nothing is wrong, with 4 if anything is. `appm apply` and `appm workflow add` find the same.")]
pub(super) struct LintArgs {
    /// Manifests, or bare bodies; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Apply Workflows, all of them or none
#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// Manifest, or bare body; `-` is stdin; may be given several times
    #[arg(short, long = "filename", alias = "file", value_name = "FILE", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct NamedArgs {
    /// The Workflow
    #[arg(add = complete::workflows())]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// The mistakes of files, for whoever edits them.
pub(super) fn lint(args: &LintArgs, screen: &Screen) -> Result<(), CliError> {
    let files = sound(&args.files, screen, "")?;
    Ok(screen::line(format_args!("{} {} fine", files.workflows.len(), plural(files.workflows.len())))?)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "workflow is" } else { "workflows are" }
}

/// Files in which nothing is wrong.
fn sound(paths: &[PathBuf], screen: &Screen, outcome: &str) -> Result<Files, CliError> {
    let mut files = Files::read(paths)?;
    if files.workflows.is_empty() && files.faults.is_empty() {
        return Err(CliError::new(Exit::InvalidInput, "there is no workflow in these files"));
    }
    for warning in files.workflows.iter().flat_map(|declared| &declared.warnings) {
        screen::remark(format_args!("{} {}", screen.paint(screen::WARN, "warning:"), screen::harmless(warning)));
    }
    files.judge();
    if files.faults.is_empty() {
        return Ok(files);
    }
    let details = diagnostics::render(std::mem::take(&mut files.faults), &files.files, screen);
    let count = match details.len() {
        1 => "1 mistake".to_owned(),
        many => format!("{many} mistakes"),
    };
    Err(CliError { details, ..CliError::new(Exit::InvalidInput, format!("{count}{outcome}")) })
}

/// Applies them, all or none.
pub(super) async fn add(args: &AddArgs, context: &Context) -> Result<(), CliError> {
    let files = sound(&args.filename, &context.screen, "; nothing was applied")?;
    let operations = files.workflows.into_iter().map(|declared| {
        let mut object = declared.object;
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = context.namespace().into();
        }
        Operation { force: true, ..Operation::new(OperationVerb::Apply, object) }
    });
    let transaction = Transaction::new("appm", operations.collect());
    let results = context.transact(&transaction).await?.map_err(CliError::from)?.results;
    for result in results {
        let name = qualified(served::<Workflow>(), &name_of(&result.object));
        screen::line(format_args!("{name} applied"))?;
    }
    Ok(())
}

/// Its manifest.
pub(super) async fn get(args: &NamedArgs, context: &Context) -> Result<(), CliError> {
    let object = without_managed_fields(context.get(served::<Workflow>(), context.namespace(), &args.name).await?);
    match &args.output.output {
        Format::Table | Format::Wide => output::value(&Format::Yaml, &object),
        format => output::objects(format, vec![object], false),
    }
}

/// What a run of it is told.
pub(super) async fn told(args: &NamedArgs, context: &Context) -> Result<(), CliError> {
    let object = context.get(served::<Workflow>(), context.namespace(), &args.name).await?;
    let unreadable = |e| CliError::failed(format!("workflow `{}` cannot be read: {e}", args.name));
    let workflow: Object<Workflow> = serde_json::from_value(object).map_err(unreadable)?;
    let Some(asked) = inputs::asked(&workflow.spec.on, EventName::Manual) else { return Ok(()) };
    if !args.output.output.is_table() {
        let value = serde_json::to_value(asked).map_err(|e| CliError::failed(e.to_string()))?;
        return output::value(&args.output.output, &value);
    }
    if asked.is_empty() {
        screen::remark(format_args!("workflow `{}` has no inputs", args.name));
        return Ok(());
    }
    let mut table = Table::new(["NAME", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"]);
    for (name, input) in asked {
        let kind = match input.options.as_slice() {
            [] => serde_json::to_value(input.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)),
            options => Some(options.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")),
        };
        let default = match &input.default {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let required = (input.required && input.default.is_none()).to_string();
        table.add([name.clone(), kind.unwrap_or_default(), required, default, input.description.clone()]);
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

/// All of them, with their newest runs.
pub(super) async fn list(args: &ListArgs, context: &Context) -> Result<(), CliError> {
    let place = context.place(args.all_namespaces);
    if !args.output.output.is_table() {
        let (_, all) = context.list(served::<Workflow>(), place, &Selection::default()).await?;
        return output::objects(&args.output.output, all.into_iter().map(without_managed_fields).collect(), true);
    }
    let mut table = Table::new(["NAMESPACE", "NAME", "JOBS", "OWNER", "LAST RUN", "STATUS"]).judge(&["STATUS"]);
    for workflow in context.typed::<Workflow>(place, &Selection::default()).await? {
        let last = workflow.status.last_run.as_ref();
        let meta = &workflow.metadata;
        table.add([
            meta.namespace.to_string(),
            meta.name.to_string(),
            workflow.spec.jobs.len().to_string(),
            meta.annotations.get(OWNER).unwrap_or("-").to_owned(),
            last.map_or("-", |run| &run.name).to_owned(),
            last.map_or("-", |run| run.state.word()).to_owned(),
        ]);
    }
    match table.is_empty() {
        true => screen::remark("nothing found"),
        false => screen::print(table.render(&context.screen, true))?,
    }
    Ok(())
}
