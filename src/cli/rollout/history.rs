//! `appm rollout history`: which templates an App had.

use clap::Args;
use serde_json::json;

use crate::{
    api::{APP_LABEL, CHANGE_CAUSE, Instance, Object, ROLLED_BACK_AT, Revision},
    cli::{
        ages,
        choice::AppChoice,
        context::{Context, Selection, Where, name_of, namespace_of, served},
        error::CliError,
        output::{self, OutputArgs},
        resources::qualified,
        screen,
        table::Table,
    },
};

/// List the templates that Apps had, the latest last
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm rollout history web
  appm rollout history web --revision=2      that template as a whole
  appm annotate app web kubernetes.io/change-cause='newer libraries'

Going back to an old template gives it a new number. spec.revisionHistoryLimit says how many are kept.")]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    choice: AppChoice,
    /// Show the template of this number
    #[arg(long, value_name = "NUMBER")]
    revision: Option<i64>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: HistoryArgs, context: &Context) -> Result<(), CliError> {
    let apps = args.choice.apps(context).await?;
    for app in &apps {
        let name = name_of(app);
        let mut revisions = super::revisions(context, app).await?;
        if let Some(number) = args.revision {
            revisions = vec![super::numbered(&revisions, &name, number)?.clone()];
        }
        if !args.output.output.is_table() {
            output::objects(&args.output.output, revisions.iter().map(Object::to_value).collect(), true)?;
            continue;
        }
        if apps.len() > 1 {
            screen::line(qualified(served::<crate::api::App>(), &name))?;
        }
        match (args.revision, revisions.first()) {
            (Some(number), Some(revision)) => {
                screen::line(format_args!("{} with revision {number}", qualified(served::<crate::api::App>(), &name)))?;
                for line in output::yaml(&json!(revision.data)).lines() {
                    screen::line(format_args!("  {}", screen::harmless(line)))?;
                }
            }
            _ => screen::print(table(context, app, &revisions).await?.render(&context.screen, true))?,
        }
    }
    Ok(())
}

async fn table(context: &Context, app: &serde_json::Value, revisions: &[Object<Revision>]) -> Result<Table, CliError> {
    let labels = Selection::by_labels(format!("{APP_LABEL}={}", name_of(app)));
    let instances = context.typed::<Instance>(Where::Namespace(&namespace_of(app)), &labels).await?;
    let mut table = Table::new(["REVISION", "NAME", "INSTANCES", "AGE", "CHANGE-CAUSE"]);
    for revision in revisions {
        let metadata = &revision.metadata;
        let bear = instances.iter().filter(|i| i.spec.revision == metadata.name).count();
        let age = metadata.creation_timestamp.map(|at| ages::age(at.0, context.now())).unwrap_or_default();
        let mut cause = metadata.annotations.get(CHANGE_CAUSE).unwrap_or("<none>").to_owned();
        if metadata.annotations.get(ROLLED_BACK_AT).is_some() {
            cause += " (rolled back)";
        }
        table.add([revision.revision.to_string(), metadata.name.clone(), bear.to_string(), age, cause]);
    }
    Ok(table)
}
