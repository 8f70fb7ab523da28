//! `appm workflow`: pipelines. Each verb is a file beside this one.

mod eval;
mod import;

use clap::{Args, Subcommand};

use super::{error::CliError, settings::Global};

/// Work with Workflows
#[derive(Args, Debug)]
pub(super) struct WorkflowArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Eval(eval::EvalArgs),
    Import(import::ImportArgs),
}

pub(super) fn run(args: &WorkflowArgs, global: &Global) -> Result<(), CliError> {
    match &args.verb {
        Verb::Eval(args) => eval::run(args),
        Verb::Import(args) => import::run(args, global),
    }
}
