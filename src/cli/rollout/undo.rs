//! `appm rollout undo`: an earlier template again.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    api::{App, CHANGE_CAUSE, Object, Operation, OperationVerb, Revision, Transaction},
    cli::{
        choice::{self, AppChoice},
        context::{Context, name_of, served},
        error::CliError,
        output::{Format, OutputArgs},
        resources::qualified,
        screen,
    },
    policy::template,
};

/// Put an earlier template into Apps
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm rollout undo web                      the template before the present one
  appm rollout undo web --to-revision=2
  appm rollout undo web --dry-run -o yaml    show what the App would be

Only the fields that make up the template change (`appm rollout history web --revision=2`); replicas, probes, restart and the
like stay as they are.")]
pub(super) struct UndoArgs {
    #[command(flatten)]
    choice: AppChoice,
    /// The number of the template in `appm rollout history`; 0: the one before the present one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    to_revision: i64,
    /// Let the server check everything, and change nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true, value_parser = crate::cli::delete::dry_run)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: UndoArgs, context: &Context) -> Result<(), CliError> {
    for app in args.choice.apps(context).await? {
        undo(&args, context, app).await?;
    }
    Ok(())
}

async fn undo(args: &UndoArgs, context: &Context, mut app: Value) -> Result<(), CliError> {
    let name = name_of(&app);
    if app["spec"]["paused"] == true {
        let error = CliError::failed(format!("app `{name}` is paused, so that no template is rolled out"));
        return Err(error.help(format!("`appm rollout resume {name}` first")));
    }
    let revisions = super::revisions(context, &app).await?;
    let present = template::of(&app["spec"]);
    let is_present = |r: &&Object<Revision>| template::same(&r.data, &present);
    let to = match args.to_revision {
        0 => revisions.iter().rev().find(|r| !is_present(r)).ok_or_else(|| {
            CliError::failed(format!("app `{name}` has no earlier template")).help("`appm rollout history` lists them")
        })?,
        number => super::numbered(&revisions, &name, number)?,
    };
    let number = to.revision;
    if is_present(&to) {
        let message =
            format!("{} unchanged: it has the template of revision {number}", qualified(served::<App>(), &name));
        return match &args.output.output {
            Format::Table | Format::Wide => Ok(screen::line(message)?),
            format => crate::cli::output::objects(format, vec![app], false),
        };
    }
    template::put(&mut app["spec"], &to.data);
    if let Some(annotations) = app["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(CHANGE_CAUSE);
    }
    if let Some(cause) = to.metadata.annotations.get(CHANGE_CAUSE) {
        app["metadata"]["annotations"][CHANGE_CAUSE] = json!(cause);
    }
    let mut transaction = Transaction::new("appm-cli", vec![Operation::new(OperationVerb::Update, app)]);
    transaction.reason = format!("undo to revision {number}");
    transaction.dry_run = args.dry_run;
    let mut result = context.transact(&transaction).await?.map_err(CliError::from)?;
    let dry = if args.dry_run { " (dry run)" } else { "" };
    let changed = result.results.pop().map(|one| one.object).unwrap_or_default();
    choice::done(&args.output.output, &name, &format!("rolled back to revision {number}{dry}"), changed)
}
