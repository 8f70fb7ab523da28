//! `appm rollout`: how a change of an App's template goes, went, and can be taken back; as `kubectl rollout` does for Deployments.

mod history;
mod status;
mod undo;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::{App, Object, Revision};

use super::{
    choice::{self, AppChoice},
    context::{Context, Selection, Where, name_of, namespace_of, served},
    error::CliError,
    output::OutputArgs,
    restart,
};

/// Follow, pause and take back changes of Apps
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm rollout status web                 wait until the change has arrived; exit code 1 if it fails
  appm rollout history web
  appm rollout history web --revision=2
  appm rollout undo web                   back to the template before
  appm rollout undo web --to-revision=2
  appm rollout pause web                  several edits, then one rollout
  appm rollout resume web
  appm rollout restart web")]
pub(super) struct RolloutArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Status(status::StatusArgs),
    History(history::HistoryArgs),
    Undo(undo::UndoArgs),
    /// Let changes of the template wait
    Pause(PauseArgs),
    /// Roll out what has waited
    Resume(PauseArgs),
    Restart(restart::RestartArgs),
}

#[derive(Args, Debug)]
struct PauseArgs {
    #[command(flatten)]
    choice: AppChoice,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: RolloutArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        Command::Status(args) => status::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Undo(args) => undo::run(args, context).await,
        Command::Pause(args) => pause(args, context, true).await,
        Command::Resume(args) => pause(args, context, false).await,
        Command::Restart(args) => restart::run(args, context).await,
    }
}

async fn pause(args: PauseArgs, context: &Context, paused: bool) -> Result<(), CliError> {
    for app in args.choice.apps(context).await? {
        let name = name_of(&app);
        let word = match (paused, app["spec"]["paused"] == true) {
            (true, true) => "already paused",
            (true, false) => "paused",
            (false, true) => "resumed",
            (false, false) => "is not paused",
        };
        let patch = json!({"spec": {"paused": paused}});
        let changed = context.patch(served::<App>(), context.namespace(), &name, "", &patch).await?;
        choice::done(&args.output.output, &name, word, changed)?;
    }
    Ok(())
}

/// The App as this binary reads it.
fn typed(app: &Value) -> Result<Object<App>, CliError> {
    serde_json::from_value(app.clone()).map_err(|e| CliError::failed(format!("the server's App cannot be read: {e}")))
}

/// An App's Revisions, oldest first.
async fn revisions(context: &Context, app: &Value) -> Result<Vec<Object<Revision>>, CliError> {
    let namespace = namespace_of(app);
    let all = context.typed::<Revision>(Where::Namespace(&namespace), &Selection::default()).await?;
    let uid = &app["metadata"]["uid"];
    let own = |r: &Object<Revision>| r.metadata.controller().is_some_and(|owner| *uid == owner.uid.as_str());
    let mut own: Vec<_> = all.into_iter().filter(own).collect();
    own.sort_by_key(|r| r.revision);
    Ok(own)
}

/// The revision of a number that was asked for.
fn numbered<'a>(revisions: &'a [Object<Revision>], name: &str, number: i64) -> Result<&'a Object<Revision>, CliError> {
    revisions.iter().find(|r| r.revision == number).ok_or_else(|| {
        let numbers: Vec<String> = revisions.iter().map(|r| r.revision.to_string()).collect();
        let error = CliError::new(super::error::Exit::NotFound, format!("app `{name}` has no revision {number}"));
        error.help(format!("there are {}", numbers.join(", ")))
    })
}
