//! `appm stop` and `appm start`: an App keeps its definition and its output, and runs nothing, until it is started again.

use clap::Args;
use serde_json::json;

use crate::api::App;

use super::{
    choice::AppChoice,
    context::{Context, served},
    error::CliError,
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::qualified,
    screen,
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
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: SuspendArgs, context: &Context, suspend: bool) -> Result<(), CliError> {
    let word = if suspend { "stopped" } else { "started" };
    for name in args.choice.names(context).await? {
        let patch = json!({"spec": {"suspend": suspend}});
        let app = context.patch(served::<App>(), context.namespace(), &name, "", &patch).await?;
        match &args.output.output {
            Format::Table | Format::Wide => screen::line(format_args!("{} {word}", qualified(served::<App>(), &name)))?,
            format => output::objects(format, vec![without_managed_fields(app)], false)?,
        }
    }
    Ok(())
}
