//! `appm workflow run`, and what can be asked of a run: how it goes, what its steps printed, that it ends, that it is done again.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        COMPLETE, CancelMode, Condition, JobStatus, Kind, Object, RUN_FAILED, StepAnnotation, StepStatus, Time,
        WORKFLOW_LABEL, WORKSPACE_KEPT, Workflow, WorkflowRun, WorkflowRunStatus, age, workflow_run_word,
    },
    client::http::{Request, path_of},
};

use super::super::{
    complete,
    context::{Context, Selection, Where, name_of, served},
    error::{CliError, Exit},
    output::{self, Format, OutputArgs, without_managed_fields},
    screen::{self, Screen},
};
use super::{graph::cells_in_order, live, tree::mark};

/// More jobs that wait are counted, not named.
const MOST_NAMED: usize = 10;

/// Start a Workflow
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow run release -e env=prod
  appm workflow run release -e env=staging -f   and follow it to its end

With -f the exit code is 0 if the run succeeded; of steps that failed the output is shown, its last
1,000 lines.")]
pub(in crate::cli) struct RunArgs {
    /// The Workflow
    #[arg(add = complete::workflows())]
    name: String,
    /// An input; may be given several times
    #[arg(short = 'e', long = "input", value_name = "NAME=VALUE", value_parser = super::super::add::pair)]
    inputs: Vec<(String, String)>,
    /// Follow it to its end
    #[arg(short, long)]
    follow: bool,
    /// The run's name [default: the Workflow's and something made up]
    #[arg(long = "name", value_name = "NAME")]
    run_name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Of what Workflow a run is: App Mesh's commands say it, here the name of a run is enough.
#[derive(Args, Debug)]
pub(super) struct OfWorkflow {
    /// The Workflow that the run has to be of
    #[arg(short, long, value_name = "WORKFLOW", add = complete::workflows())]
    workflow: Option<String>,
}

impl OfWorkflow {
    /// That run, if it is of the Workflow.
    pub(super) async fn get(&self, context: &Context, name: &str) -> Result<Object<WorkflowRun>, CliError> {
        let run = get(context, name).await?;
        match self.workflow.as_ref().filter(|workflow| **workflow != run.spec.workflow) {
            None => Ok(run),
            Some(workflow) => {
                let own = &run.spec.workflow;
                let why = format!("the run `{name}` is of the workflow `{own}`, not of `{workflow}`");
                Err(CliError::new(Exit::NotFound, why))
            }
        }
    }
}

/// List the runs of a Workflow, or of all, newest first
#[derive(Args, Debug)]
pub(in crate::cli) struct RunsArgs {
    /// The Workflow
    #[arg(add = complete::workflows())]
    name: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Tell of a run, job by job and step by step
#[derive(Args, Debug)]
pub(in crate::cli) struct DetailArgs {
    /// The run
    #[arg(add = complete::names_of::<WorkflowRun>())]
    run: String,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    output: OutputArgs,
}

/// End a run before its time
#[derive(Args, Debug)]
pub(in crate::cli) struct CancelArgs {
    /// The runs
    #[arg(required = true, value_name = "RUN", add = complete::names_of::<WorkflowRun>())]
    runs: Vec<String>,
    #[command(flatten)]
    of: OfWorkflow,
    /// What runs may end; nothing else begins but `finally`, and steps whose `if` wants it
    #[arg(long, conflicts_with = "kill")]
    drain: bool,
    /// End everything at once, without `finally`
    #[arg(long)]
    kill: bool,
}

/// Do a run again, with the Workflow as it was then and the same inputs
#[derive(Args, Debug)]
#[command(after_help = "\
All of it begins in an empty workspace. With --failed and --from it goes on in the workspace that the run left, files and all; if that
is gone, or another run works in it, it begins in an empty one, and `appm workflow detail` says why.")]
pub(in crate::cli) struct RerunArgs {
    /// The run
    #[arg(add = complete::names_of::<WorkflowRun>())]
    run: String,
    #[command(flatten)]
    of: OfWorkflow,
    /// Only the jobs that did not succeed, and those after them
    #[arg(long, conflicts_with = "from")]
    failed: bool,
    /// From this step on: what came before it stays what it was
    #[arg(long, value_name = "JOB[/STEP]")]
    from: Option<String>,
    /// Follow it to its end
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &RunArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let inputs: BTreeMap<&str, &str> =
        args.inputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let metadata = match &args.run_name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": format!("{}-", args.name)}),
    };
    let spec = json!({"workflow": args.name, "inputs": inputs});
    let done = make(context, screen, metadata, spec, args.follow, &args.output).await;
    if done.is_err() {
        // Whoever misspelt its name is told what there is.
        context.get(served::<Workflow>(), context.namespace(), &args.name).await?;
    }
    done
}

pub(super) async fn rerun(args: &RerunArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let earlier = args.of.get(context, &args.run).await?;
    let mut rerun = json!({"of": args.run});
    if args.failed {
        rerun["jobs"] = json!("Failed");
    }
    if let Some(from) = &args.from {
        rerun["from"] = match from.split_once('/') {
            Some((job, step)) => json!({"job": job, "step": step}),
            None => json!({"job": from}),
        };
    }
    let metadata = json!({"generateName": format!("{}-", earlier.spec.workflow)});
    make(context, screen, metadata, json!({"rerun": rerun}), args.follow, &args.output).await
}

async fn make(
    context: &Context,
    screen: &Screen,
    metadata: Value,
    spec: Value,
    follow: bool,
    output: &OutputArgs,
) -> Result<(), CliError> {
    let object = json!({
        "apiVersion": WorkflowRun::INFO.api_version(), "kind": WorkflowRun::INFO.kind, "metadata": metadata, "spec": spec,
    });
    let path = path_of(WorkflowRun::INFO, Some(context.namespace()), None) + "?fieldManager=appm-cli";
    let made = context.call(Request::post(path, &object)).await?.json()?;
    match &output.output {
        Format::Table | Format::Wide => screen::line(format_args!("{} created", output::name_line(&made)))?,
        format if !follow => return output::objects(format, vec![without_managed_fields(made)], false),
        _ => {}
    }
    if !follow {
        return Ok(());
    }
    let status = live::attend(context, screen, &made).await?;
    let failed = Condition::find(&status.conditions, RUN_FAILED);
    match failed.filter(|_| !Condition::holds(&status.conditions, COMPLETE)) {
        None => Ok(()),
        Some(failed) => Err(CliError::failed(format!("{}: {}", failed.reason, failed.message))),
    }
}

pub(super) async fn runs(args: &RunsArgs, context: &Context) -> Result<(), CliError> {
    let selection = match &args.name {
        Some(name) => Selection::by_labels(format!("{WORKFLOW_LABEL}={name}")),
        None => Selection::by_labels(String::new()),
    };
    let (_, mut runs) =
        context.list(served::<WorkflowRun>(), Where::Namespace(context.namespace()), &selection).await?;
    if let (true, Some(name)) = (runs.is_empty(), &args.name) {
        // Whoever misspelt it is told what there is.
        context.get(served::<Workflow>(), context.namespace(), name).await?;
    }
    runs.sort_by_key(|run| {
        let time = run["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        std::cmp::Reverse((time, name_of(run)))
    });
    match &args.output.output {
        Format::Table | Format::Wide => {
            let now = context.now();
            let rows = runs.iter().map(|run| {
                let cells = WorkflowRun::INFO.columns.iter().filter(|column| !column.wide).map(|column| {
                    let cell = (column.cell)(run, now);
                    cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)
                });
                std::iter::once(name_of(run)).chain(cells).collect::<Vec<_>>()
            });
            let heads = WorkflowRun::INFO.columns.iter().filter(|column| !column.wide).map(|c| c.name.to_uppercase());
            let heads = std::iter::once("NAME".to_owned()).chain(heads).collect();
            print_rows(std::iter::once(heads).chain(rows).collect())
        }
        format => output::objects(format, runs.into_iter().map(without_managed_fields).collect(), true),
    }
}

pub(super) fn print_rows(rows: Vec<Vec<String>>) -> Result<(), CliError> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        screen::line(screen::harmless(cells.collect::<Vec<_>>().join("   ").trim_end()))?;
    }
    Ok(())
}

pub(super) async fn get(context: &Context, name: &str) -> Result<Object<WorkflowRun>, CliError> {
    read(name, context.get(served::<WorkflowRun>(), context.namespace(), name).await?)
}

/// What the server told of a run.
pub(super) fn read(name: &str, object: Value) -> Result<Object<WorkflowRun>, CliError> {
    serde_json::from_value(object).map_err(|e| CliError::failed(format!("the run `{name}` cannot be read: {e}")))
}

pub(super) async fn detail(args: &DetailArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let run = args.of.get(context, &args.run).await?;
    if !args.output.output.is_table() {
        let object = context.get(served::<WorkflowRun>(), context.namespace(), &args.run).await?;
        return output::objects(&args.output.output, vec![without_managed_fields(object)], false);
    }
    let now = context.now();
    let word = workflow_run_word(&json!(run));
    let by = &run.spec.identity;
    screen::line(format_args!(
        "{} of {} by {by}: {}",
        args.run,
        run.spec.workflow,
        screen.paint(screen::judge(&word), &word)
    ))?;
    for (name, value) in &run.spec.inputs {
        screen::line(screen::harmless(&format!(
            "  input {name}={}",
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        )))?;
    }
    let anew = Condition::find(&run.status.conditions, WORKSPACE_KEPT).filter(|kept| !kept.message.is_empty());
    if let Some(anew) = anew {
        screen::line(screen::harmless(&format!("  {}", anew.message)))?;
    }
    let mut waiting = Vec::new();
    for (name, cell) in cells_in_order(run.spec.template.as_deref(), &run.status) {
        let Some(cell) = cell else {
            waiting.push(name);
            continue;
        };
        screen::line(job_line(screen, name, cell, now))?;
        for step in &cell.steps {
            screen::line(format_args!("  {}", step_line(screen, "", step, now)))?;
        }
        for annotation in cell.steps.iter().flat_map(|step| &step.annotations) {
            screen::line(format_args!("    {}", screen::harmless(&pointed_out(annotation))))?;
        }
        for (name, text) in &cell.outputs {
            screen::line(screen::harmless(&format!("    output {name}={text}")))?;
        }
    }
    match waiting.as_slice() {
        [] => {}
        all if all.len() > MOST_NAMED => screen::line(format_args!("{} jobs wait", all.len()))?,
        all => screen::line(format_args!("waiting: {}", all.join(", ")))?,
    }
    Ok(())
}

/// `error src/a.rs:3: it does not compile`.
fn pointed_out(annotation: &StepAnnotation) -> String {
    let StepAnnotation { level, message, title, file, line, .. } = annotation;
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    let place = if file.is_empty() { String::new() } else { format!(" {file}{line}") };
    let title = if title.is_empty() { String::new() } else { format!(" {title}:") };
    format!("{}{place}:{title} {message}", level.word())
}

fn lasted(start: Option<Time>, end: Option<Time>, now: Timestamp) -> String {
    start.map_or_else(String::new, |start| format!(" ({})", age(end.map_or(now, |end| end.0), start.0)))
}

pub(super) fn job_line(screen: &Screen, name: &str, cell: &JobStatus, now: Timestamp) -> String {
    let why = if cell.message.is_empty() { String::new() } else { format!(": {}", cell.message) };
    let lasted = lasted(cell.start_time, cell.completion_time, now);
    format!("{} {}{lasted}{}", mark(cell.state, screen), screen::harmless(name), screen::harmless(&why))
}

pub(super) fn step_line(screen: &Screen, job: &str, step: &StepStatus, now: Timestamp) -> String {
    let place = if job.is_empty() { String::new() } else { format!("{job} / ") };
    let tries = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
    let why = if step.message.is_empty() { String::new() } else { format!(": {}", step.message) };
    let lasted = lasted(step.start_time, step.completion_time, now);
    let name = screen::harmless(&format!("{place}{}", step.id));
    format!("{} {name}{lasted}{tries}{}", mark(step.state, screen), screen::harmless(&why))
}

pub(super) async fn cancel(args: &CancelArgs, context: &Context) -> Result<(), CliError> {
    let mode = match (args.drain, args.kill) {
        (true, _) => CancelMode::Drain,
        (_, true) => CancelMode::Kill,
        _ => CancelMode::Stop,
    };
    for name in args.runs.iter().filter(|_| args.of.workflow.is_some()) {
        args.of.get(context, name).await?;
    }
    for name in &args.runs {
        let patch = json!({"spec": {"cancel": mode}});
        let run = context.patch(served::<WorkflowRun>(), context.namespace(), name, "", &patch).await?;
        let over = serde_json::from_value::<WorkflowRunStatus>(run["status"].clone()).is_ok_and(|s| s.is_over());
        let word = if over { "is over already" } else { "cancelled" };
        screen::line(format_args!("{} {word}", output::name_line(&run)))?;
    }
    Ok(())
}
