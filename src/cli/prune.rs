//! `apply --prune`: deletes what an earlier apply declared and this one does not, in the very transaction that applies.
//!
//! Nothing goes that nobody declared: only objects that this field manager has **applied** are looked at, in the namespaces of the
//! manifests, chosen by `-l` or `--all`, and never one that belongs to another object.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::Value;

use crate::api::{Operation, OperationVerb, Preconditions, Served, Verbs, kinds};

use super::{
    context::{Context, Selection, Where, name_of, namespace_of},
    delete::itself,
    error::CliError,
    manifests::Manifests,
    resources,
};

/// What is pruned.
#[derive(Args, Debug)]
pub(super) struct PruneArgs {
    /// Delete what was applied before and is declared no more; with -l or --all
    #[arg(long)]
    prune: bool,
    /// Prune objects with these labels only
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true, requires = "prune")]
    selector: String,
    /// Prune whatever this field manager has applied to the namespaces of the manifests
    #[arg(long, requires = "prune", conflicts_with = "selector")]
    all: bool,
    /// Prune objects of this resource only; may be given several times
    #[arg(long, value_name = "RESOURCE", requires = "prune", alias = "prune-whitelist")]
    prune_allowlist: Vec<String>,
}

/// The deletions, each of the very object that was seen.
pub(super) async fn operations(
    args: &PruneArgs,
    context: &Context,
    manifests: &Manifests,
    manager: &str,
) -> Result<Vec<Operation>, CliError> {
    if !args.prune {
        return Ok(Vec::new());
    }
    if args.selector.is_empty() && !args.all {
        let error = CliError::usage("which objects may be pruned?");
        return Err(error.help("choose them by -l, or say --all; --dry-run=server shows what would go"));
    }
    let resources = allowed(args)?;
    let kept: BTreeSet<(&str, &str, &str, &str)> = manifests
        .objects
        .iter()
        .map(|o| (o.served.kind.group, o.served.kind.kind, o.namespace.as_str(), o.name.as_str()))
        .collect();
    let namespaces: BTreeSet<&str> =
        manifests.objects.iter().map(|o| o.namespace.as_str()).filter(|n| !n.is_empty()).collect();
    let mut operations = Vec::new();
    for served in resources {
        for namespace in &namespaces {
            let place = Where::Namespace(namespace);
            let (_, items) = context.list(served, place, &Selection::by_labels(&args.selector)).await?;
            for mut object in items {
                object["apiVersion"] = served.api_version().into();
                object["kind"] = served.name().into();
                let (namespace, name) = (namespace_of(&object), name_of(&object));
                let declared = kept.contains(&(served.kind.group, served.kind.kind, &namespace, &name));
                if !declared && is_ours(&object, manager) {
                    operations.push(deletion(&object));
                }
            }
        }
    }
    Ok(operations)
}

/// Resources that are looked at: those that are named, or all that people write into namespaces.
fn allowed(args: &PruneArgs) -> Result<Vec<Served>, CliError> {
    if args.prune_allowlist.is_empty() {
        let usual = kinds::served().filter(|s| s.view.is_none() && s.verbs() == Verbs::All && s.kind.is_namespaced());
        return Ok(usual.collect());
    }
    // `App`, `apps`, and kubectl's `group/version/Kind`.
    let named = |word: &String| resources::resource(word.rsplit('/').next().unwrap_or(word));
    let all: Vec<Served> = args.prune_allowlist.iter().map(named).collect::<Result<_, _>>()?;
    match all.iter().find(|served| !served.kind.is_namespaced()) {
        Some(served) => Err(CliError::usage(format!("{} are never pruned", served.plural()))
            .help("they are in no namespace; delete them by name")),
        None => Ok(all),
    }
}

/// Whether this manager has applied it, and nobody else's object keeps it.
fn is_ours(object: &Value, manager: &str) -> bool {
    let metadata = &object["metadata"];
    let applied = |entry: &Value| entry["operation"] == "Apply" && entry["manager"] == manager;
    metadata["managedFields"].as_array().is_some_and(|all| all.iter().any(applied))
        && metadata["ownerReferences"].as_array().is_none_or(Vec::is_empty)
        && metadata["deletionTimestamp"].is_null()
}

fn deletion(object: &Value) -> Operation {
    let uid = object["metadata"]["uid"].as_str().map(Into::into);
    Operation {
        preconditions: Preconditions { uid, resource_version: None },
        ..Operation::new(OperationVerb::Delete, itself(object))
    }
}
