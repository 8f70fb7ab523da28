//! `appm plan`: what `apply` would change, and what would become of processes, before anything is done.
//!
//! The server plans the very transaction that `apply` would send. `apply --confirm` and `apply --plan` do it only if it still is what was
//! shown: the transaction brings the plan's hash along.

mod saved;

use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};

pub(super) use saved::{apply_saved, is_other, other};

use super::{
    apply::{self, DeclaredArgs, Options},
    context::Context,
    error::{CliError, Exit},
    manifests::Manifests,
    output::{self, Format, OutputArgs},
    prompt,
    prune::{self, PruneArgs},
    screen::{self, Screen},
};
use crate::{
    api::{Plan, PlannedChange, Transaction},
    policy::planned::{Tone, lines},
};

/// Show what apply would change, and what would become of processes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm plan -f manifests/ -R                 every field, and what is started, stopped and replaced, when and why
  appm plan -f manifests/ --prune --all      and what would be pruned
  appm plan -f web.yaml --out web.plan       keep it: `appm apply --plan web.plan` does just that, or nothing
  appm plan -f web.yaml --detailed-exitcode  0: nothing to do, 2: changes, 1: it failed
  appm plan -f web.yaml -o json              for programs

Nothing is changed. Values of Secrets are not shown; a file of --out holds them, and only you can read it.
Rights that are missing are listed, all of them; the exit code is 6 then.")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    declared: DeclaredArgs,
    #[command(flatten)]
    prune: PruneArgs,
    /// End with 0 if there is nothing to do, with 2 if there is, with 1 if that is not known
    #[arg(long)]
    detailed_exitcode: bool,
    /// Keep the plan in this file, for `appm apply --plan`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: PlanArgs, context: &Context) -> Result<(), CliError> {
    let detailed = args.detailed_exitcode;
    match planned(args, context).await {
        Ok(plan) if detailed && !plan.changes_nothing() => Err(CliError::silent(Exit::Changes)),
        Ok(_) => Ok(()),
        Err(error) if detailed => Err(CliError { exit: Exit::Failed, ..error }),
        Err(error) => Err(error),
    }
}

async fn planned(args: PlanArgs, context: &Context) -> Result<Plan, CliError> {
    let (manifests, mut options) = args.declared.read(context)?;
    options.pruned = prune::operations(&args.prune, context, &manifests, &options.manager).await?;
    let (plan, transaction) = plan(context, &manifests, &options).await?;
    match &args.output.output {
        Format::Table | Format::Wide => show(&plan, &context.screen)?,
        Format::Name => names(&plan)?,
        format => output::objects(format, vec![json!(plan)], false)?,
    }
    allowed(&plan)?;
    if let Some(file) = &args.out {
        saved::write(file, &plan, &transaction)?;
        screen::remark(format_args!("kept: appm apply --plan {}", file.display()));
    }
    Ok(plan)
}

/// Plans what [`apply::apply`] would do.
///
/// # Errors
/// With every mistake of every manifest.
pub(super) async fn plan(
    context: &Context,
    manifests: &Manifests,
    options: &Options,
) -> Result<(Plan, Transaction), CliError> {
    if !manifests.faults.is_empty() || manifests.objects.is_empty() {
        let dry = Options { dry_run: true, ..options.clone() };
        apply::apply(context, manifests, &dry).await?;
    }
    let mut operations = manifests.operations(options.verb, options.force);
    operations.extend(options.pruned.iter().cloned());
    let transaction = Transaction::new(&options.manager, operations);
    manifests.fit(&transaction)?;
    let plan =
        context.plan(&transaction).await?.map_err(|status| apply::refused(context, manifests, options, status))?;
    Ok((plan, transaction))
}

/// Shows a plan, and asks whether it is to be done. False if there is nothing to do.
///
/// # Errors
/// If rights are missing, if the answer is no, or if there is nobody to ask.
pub(super) fn confirmed(plan: &Plan, screen: &Screen, yes: bool) -> Result<bool, CliError> {
    show(plan, screen)?;
    allowed(plan)?;
    if plan.changes_nothing() {
        return Ok(false);
    }
    if yes {
        return Ok(true);
    }
    let answer = prompt::shown("Apply this? [y/N] ").map_err(|error| {
        error.help(
            "--yes applies it without asking; `appm plan --out FILE` and `appm apply --plan FILE` do it in two steps",
        )
    })?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        _ => Err(CliError::failed("nothing was applied")),
    }
}

/// Whether whoever asked may do what was planned.
fn allowed(plan: &Plan) -> Result<(), CliError> {
    match plan.missing_rights.is_empty() {
        true => Ok(()),
        false => {
            let error = CliError::new(Exit::NotAllowed, "it would be refused; nothing was changed");
            Err(error.help("whoever may change roles can give them: appm role --help"))
        }
    }
}

/// Prints a plan for people.
pub(super) fn show(plan: &Plan, screen: &Screen) -> Result<(), CliError> {
    for line in lines(plan) {
        screen::line(screen.paint(style(line.tone), &screen::harmless(&line.text)))?;
    }
    Ok(())
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Comes => screen::GOOD,
        Tone::Changes => screen::WARN,
        Tone::Goes => screen::BAD,
        Tone::Head => screen::BOLD,
        Tone::Quiet => screen::DIM,
        Tone::Plain => Style::new(),
    }
}

/// The objects that something becomes of.
fn names(plan: &Plan) -> Result<(), CliError> {
    for object in plan.objects.iter().filter(|object| object.change != PlannedChange::Unchanged) {
        let object: Value =
            json!({"apiVersion": object.api_version, "kind": object.kind, "metadata": {"name": object.name}});
        screen::line(output::name_line(&object))?;
    }
    Ok(())
}
