//! `appm stop` and `appm start`: an App keeps its definition and its output, and runs nothing, until it is started again.

use clap::Args;
use serde_json::json;

use crate::api::App;

use super::{
    choice::{self, AppChoice},
    context::{Context, served},
    error::CliError,
    habits,
    output::OutputArgs,
};

/// What `stop` and `start` are given.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm stop web
  appm start web
  appm stop --all

`stop` sets spec.suspend: the instances stay, with their logs, and run nothing. `start` takes it back.")]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    choice: AppChoice,
    /// An application as App Mesh names them: an App, a Schedule or a Run; may be given several times
    #[arg(short, long = "app", value_name = "NAME", conflicts_with_all = ["words", "selector", "field_selector", "all"])]
    app: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: SuspendArgs, context: &Context, suspend: bool) -> Result<(), CliError> {
    if !args.app.is_empty() {
        return habits::turn(&args.app, !suspend, context).await;
    }
    let word = if suspend { "stopped" } else { "started" };
    for name in args.choice.names(context).await? {
        let patch = json!({"spec": {"suspend": suspend}});
        let app = context.patch(served::<App>(), context.namespace(), &name, "", &patch).await?;
        choice::done(&args.output.output, &name, word, app)?;
    }
    Ok(())
}
