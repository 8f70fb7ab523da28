//! `appm workflow`: pipelines. Each verb is a file beside this one.

mod artifacts;
mod declare;
mod eval;
mod graph;
mod import;
mod live;
mod logs;
mod manifest;
mod runs;
mod tree;

use clap::{Args, Subcommand};

use super::{context::Context, error::CliError, of_kind, screen::Screen, settings::Global};
use crate::api::Workflow;

/// Work with Workflows
#[derive(Args, Debug)]
pub(super) struct WorkflowArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Run(runs::RunArgs),
    Runs(runs::RunsArgs),
    Detail(runs::DetailArgs),
    Logs(logs::LogsArgs),
    Output(logs::OutputOfArgs),
    Artifacts(artifacts::ArtifactsArgs),
    Cancel(runs::CancelArgs),
    Rerun(runs::RerunArgs),
    Lint(declare::LintArgs),
    Add(declare::AddArgs),
    /// List Workflows, with their newest runs
    #[command(visible_alias = "list")]
    Ls(of_kind::ListArgs),
    /// Print one Workflow as a manifest
    Get(declare::NamedArgs),
    /// Delete Workflows, and their runs
    #[command(visible_alias = "remove")]
    Rm(of_kind::Names<Workflow>),
    /// Say what a run of a Workflow is told
    Inputs(declare::NamedArgs),
    Graph(graph::GraphArgs),
    Eval(eval::EvalArgs),
    Import(import::ImportArgs),
}

impl WorkflowArgs {
    /// Whether no server is asked: then [`run_here`] does it.
    pub(super) fn is_offline(&self) -> bool {
        match &self.verb {
            Verb::Lint(_) | Verb::Eval(_) | Verb::Import(_) => true,
            Verb::Graph(args) => args.is_of_a_file(),
            _ => false,
        }
    }
}

/// Verbs that need no server.
pub(super) fn run_here(args: &WorkflowArgs, global: &Global) -> Result<(), CliError> {
    match &args.verb {
        Verb::Eval(args) => eval::run(args),
        Verb::Import(args) => import::run(args, global),
        Verb::Graph(args) => graph::of_file(args),
        Verb::Lint(args) => declare::lint(args, &Screen::of_stdout(global.color)),
        _ => unreachable!("verbs that ask a server are done by `run`"),
    }
}

/// Verbs that ask a server.
pub(super) async fn run(args: WorkflowArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    match args.verb {
        Verb::Run(args) => runs::run(&args, context, screen).await,
        Verb::Runs(args) => runs::runs(&args, context).await,
        Verb::Detail(args) => runs::detail(&args, context, screen).await,
        Verb::Logs(args) => logs::logs(&args, context).await,
        Verb::Output(args) => logs::output_of(&args, context).await,
        Verb::Artifacts(args) => artifacts::run(&args, context).await,
        Verb::Cancel(args) => runs::cancel(&args, context).await,
        Verb::Rerun(args) => runs::rerun(&args, context, screen).await,
        Verb::Graph(args) => graph::run(args, context).await,
        Verb::Add(args) => declare::add(&args, context).await,
        Verb::Ls(args) => declare::list(&args, context).await,
        Verb::Get(args) => declare::get(&args, context).await,
        Verb::Rm(args) => of_kind::rm(&args, context).await,
        Verb::Inputs(args) => declare::told(&args, context).await,
        Verb::Lint(_) | Verb::Eval(_) | Verb::Import(_) => {
            unreachable!("verbs that need no server are done by `run_here`")
        }
    }
}
