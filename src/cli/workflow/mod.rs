//! `appm workflow`: pipelines. Each verb is a file beside this one.

mod eval;
mod graph;
mod import;

use clap::{Args, Subcommand};

use super::{context::Context, error::CliError, settings::Global};

/// Work with Workflows
#[derive(Args, Debug)]
pub(super) struct WorkflowArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Graph(graph::GraphArgs),
    Eval(eval::EvalArgs),
    Import(import::ImportArgs),
}

impl WorkflowArgs {
    /// Whether no server is asked: then [`run_here`] does it.
    pub(super) fn is_offline(&self) -> bool {
        match &self.verb {
            Verb::Eval(_) | Verb::Import(_) => true,
            Verb::Graph(args) => args.is_of_a_file(),
        }
    }
}

/// Verbs that need no server.
pub(super) fn run_here(args: &WorkflowArgs, global: &Global) -> Result<(), CliError> {
    match &args.verb {
        Verb::Eval(args) => eval::run(args),
        Verb::Import(args) => import::run(args, global),
        Verb::Graph(args) => graph::of_file(args),
    }
}

/// Verbs that ask a server.
pub(super) async fn run(args: WorkflowArgs, context: &Context) -> Result<(), CliError> {
    match args.verb {
        Verb::Graph(args) => graph::run(args, context).await,
        Verb::Eval(_) | Verb::Import(_) => unreachable!("verbs that need no server are done by `run_here`"),
    }
}
