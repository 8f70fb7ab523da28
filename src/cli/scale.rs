//! `appm scale`: how many instances an App has.

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

/// Set how many instances Apps have
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm scale web --replicas=5
  appm scale app/web app/db --replicas=0")]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    choice: AppChoice,
    /// How many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=10_000))]
    replicas: i32,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: ScaleArgs, context: &Context) -> Result<(), CliError> {
    for name in args.choice.names(context).await? {
        let patch = json!({"spec": {"replicas": args.replicas}});
        context.patch(served::<App>(), context.namespace(), &name, "/scale", &patch).await?;
        match &args.output.output {
            Format::Table | Format::Wide => screen::line(format_args!("{} scaled", qualified(served::<App>(), &name)))?,
            format => {
                let app = context.get(served::<App>(), context.namespace(), &name).await?;
                output::objects(format, vec![without_managed_fields(app)], false)?;
            }
        }
    }
    Ok(())
}
