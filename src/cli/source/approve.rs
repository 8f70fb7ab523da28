//! `appm source diff` and `appm source approve`: what a Source would do that waits for somebody's consent, and that consent.

use clap::Args;
use serde_json::json;

use super::{
    super::{
        complete,
        context::{Context, served},
        error::{CliError, Exit},
        output::{self, OutputArgs},
        resources::qualified,
        screen::{self, Screen},
    },
    typed,
};
use crate::api::{APPROVED_PLAN, Approve, MicroTime, Source};

/// A shorter beginning of a hash could be another one's.
const SHORTEST: usize = 8;

/// Show what would be changed when it is approved
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The Source
    #[arg(add = complete::names_of::<Source>())]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Agree to the very plan that waits
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm source diff fleet                  what waits, and its hash
  appm source approve fleet 3f9c2a51d0    that and nothing else; if it has changed since, nothing is approved

Without HASH what waits now is approved, unseen. It needs the verb `approve` on the Source.")]
pub(super) struct ApproveArgs {
    /// The Source
    #[arg(add = complete::names_of::<Source>())]
    name: String,
    /// The hash of the plan, or its beginning
    hash: Option<String>,
}

pub(super) async fn diff(args: &DiffArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let source = typed(&args.name, context).await?;
    let Some(pending) = &source.status.pending else {
        let why = match source.spec.approve {
            Approve::Automatic => "what it reads is applied without approval",
            Approve::Manual => "everything is as it was read",
        };
        screen::remark(format_args!("nothing waits for approval: {why}"));
        return Ok(());
    };
    if !args.output.output.is_table() {
        return output::objects(&args.output.output, vec![json!(pending)], false);
    }
    screen::line(screen.paint(screen::DIM, &format!("of {}, plan {}", pending.revision, pending.hash)))?;
    for line in &pending.lines {
        let style = match line.trim_start().chars().next() {
            Some('+') => screen::GOOD,
            Some('-') => screen::BAD,
            Some('~') => screen::WARN,
            _ => anstyle::Style::new(),
        };
        screen::line(screen.paint(style, &screen::harmless(line)))?;
    }
    if pending.more_lines > 0 {
        screen::line(format_args!("and {} more lines", pending.more_lines))?;
    }
    Ok(())
}

pub(super) async fn approve(args: &ApproveArgs, context: &Context) -> Result<(), CliError> {
    let source = typed(&args.name, context).await?;
    let name = &args.name;
    let Some(pending) = &source.status.pending else {
        return Err(CliError::failed(format!("nothing of source `{name}` waits for approval")));
    };
    if let Some(hash) = &args.hash {
        if hash.len() < SHORTEST {
            return Err(CliError::usage(format!("`{hash}` is too short to name a plan; give {SHORTEST} characters")));
        }
        if !pending.hash.starts_with(hash.as_str()) {
            let error = CliError::new(
                Exit::Conflict,
                format!("the plan that waits is {:.12} now; nothing was approved", pending.hash),
            );
            return Err(error.help(format!("look at it: appm source diff {name}")));
        }
    }
    // The same plan may come up a second time: this is another approval.
    let approval = format!("{} {}", pending.hash, MicroTime(context.now()));
    let patch = json!({"metadata": {"annotations": {APPROVED_PLAN: approval}}});
    context.patch(served::<Source>(), context.namespace(), name, "", &patch).await?;
    Ok(screen::line(format_args!("{} approved {:.12}", qualified(served::<Source>(), name), pending.hash))?)
}
