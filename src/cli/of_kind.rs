//! What every kind with a command of its own has: `ls`, `get`, `rm`, and words for the objects that are meant.

use std::marker::PhantomData;

use clap::Args;

use super::{
    complete,
    context::Context,
    delete,
    error::CliError,
    get::{self, GetArgs},
    output::OutputArgs,
    suspend,
};
use crate::api::Kind;

/// Objects of a kind, by name, and how they are shown.
#[derive(Args, Debug)]
pub(super) struct Named<K: Kind> {
    #[command(flatten)]
    pub(super) of: Names<K>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Objects of a kind, by name.
#[derive(Args, Debug)]
pub(super) struct Names<K: Kind> {
    #[arg(required = true, help = format!("The {}s", K::INFO.kind), add = complete::names_of::<K>())]
    pub(super) names: Vec<String>,
    #[arg(skip)]
    kind: PhantomData<fn() -> K>,
}

/// All objects of a kind.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Lists all there are.
pub(super) async fn ls<K: Kind>(args: ListArgs, context: &Context) -> Result<(), CliError> {
    let words = vec![K::INFO.plural.to_owned()];
    get::run(GetArgs::of(words, args.all_namespaces, args.output), context).await
}

/// Shows those that are named.
pub(super) async fn get<K: Kind>(args: Named<K>, context: &Context) -> Result<(), CliError> {
    let words = std::iter::once(K::INFO.plural.to_owned()).chain(args.of.names).collect();
    get::run(GetArgs::of(words, false, args.output), context).await
}

/// Deletes those that are named.
pub(super) async fn rm<K: Kind>(args: &Names<K>, context: &Context) -> Result<(), CliError> {
    delete::named_of::<K>(&args.names, context).await
}

/// Suspends those that are named, or resumes them, and says `word` of each.
pub(super) async fn suspend<K: Kind>(args: &Named<K>, change: (bool, &str), context: &Context) -> Result<(), CliError> {
    suspend::set::<K>((&args.of.names, &args.output), change, context).await
}
