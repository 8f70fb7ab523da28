//! `appm restart`: restarts the instances of an App, one after another.

use clap::Args;
use serde_json::json;

use crate::api::{App, MicroTime, RESTARTED_AT};

use super::{
    choice::{self, AppChoice},
    context::{Context, name_of, served},
    error::CliError,
    output::OutputArgs,
};

/// Restart Apps: in place, one instance after another
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm restart web
  appm restart -l tier=front
  appm restart --all

The next instance is restarted when the one before it is ready again.")]
pub(super) struct RestartArgs {
    #[command(flatten)]
    choice: AppChoice,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: RestartArgs, context: &Context) -> Result<(), CliError> {
    let now = MicroTime(context.now()).to_string();
    for app in args.choice.apps(context).await? {
        let name = name_of(&app);
        if app["spec"]["paused"] == true {
            let error = CliError::failed(format!("app `{name}` is paused, and is not restarted until it is resumed"));
            return Err(error.help(format!("`appm rollout resume {name}` first")));
        }
        let patch = json!({"metadata": {"annotations": {RESTARTED_AT: now}}});
        let app = context.patch(served::<App>(), context.namespace(), &name, "", &patch).await?;
        choice::done(&args.output.output, &name, "restarted", app)?;
    }
    Ok(())
}
