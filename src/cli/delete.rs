//! `appm delete`: deletes objects in one transaction, and waits until they are gone.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api::{GoDuration, Operation, OperationVerb, Preconditions, PropagationPolicy, Served, Transaction, Uid};

use super::{
    context::{Context, Selection, Where, name_of, namespace_of},
    error::{CliError, Exit},
    manifests,
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::{self, Target, qualified},
    screen, wait,
};

/// What becomes of what belongs to a deleted object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Cascade {
    /// It goes after its owner.
    #[default]
    Background,
    /// It goes before its owner.
    Foreground,
    /// It stays.
    Orphan,
}

/// Delete objects
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm delete app web                    and wait until it is gone
  appm delete app/web --cascade=foreground  wait for its processes, too
  appm delete -f manifests/              what the manifests declare
  appm delete apps -l tier=front
  appm delete apps --all --wait=false")]
pub(super) struct DeleteArgs {
    /// `app web`, `app/web`, or `apps` with -l or --all
    #[arg(value_name = "RESOURCE", required_unless_present = "filename")]
    words: Vec<String>,
    /// What these manifests declare; may be given several times
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    selection: Selection,
    /// Every object of the resource in the namespace
    #[arg(long)]
    all: bool,
    /// Return when the objects are gone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0")]
    timeout: GoDuration,
    /// What becomes of what belongs to them: background, foreground (goes first) or orphan (stays)
    #[arg(long, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    cascade: Cascade,
    /// Seconds between the stop signal and SIGKILL, in place of the App's own
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// The same as --grace-period=0
    #[arg(long, conflicts_with = "grace_period")]
    force: bool,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: DeleteArgs, context: &Context) -> Result<(), CliError> {
    if args.words.is_empty() == args.filename.is_empty() {
        return Err(CliError::usage("name either objects or manifests, not both"));
    }
    let (doomed, absent) =
        if args.filename.is_empty() { named(&args, context).await? } else { declared(&args, context).await? };
    if doomed.is_empty() && absent.is_empty() {
        screen::remark("nothing found");
    }
    let operations: Vec<Operation> = doomed.iter().map(|d| operation(&args, d)).collect();
    if !operations.is_empty() {
        let transaction = Transaction::new("appm", operations);
        context.transact(&transaction).await?.map_err(CliError::from)?;
    }
    for one in doomed.iter().filter(|_| matches!(args.output.output, Format::Table | Format::Wide)) {
        let word = context.screen.paint(screen::judge("deleted"), "deleted");
        screen::line(format_args!("{} {word}", qualified(one.served, &name_of(&one.object))))?;
    }
    if args.wait {
        await_gone(&args, context, &doomed).await?;
    }
    if !matches!(args.output.output, Format::Table | Format::Wide) {
        let objects = doomed.into_iter().map(|d| without_managed_fields(d.object)).collect();
        output::objects(&args.output.output, objects, false)?;
    }
    match absent.into_iter().next_back() {
        Some(error) if !args.ignore_not_found => Err(error),
        _ => Ok(()),
    }
}

/// An object that is there and shall go.
struct Doomed {
    served: Served,
    object: Value,
}

async fn named(args: &DeleteArgs, context: &Context) -> Result<(Vec<Doomed>, Vec<CliError>), CliError> {
    let mut found = (Vec::new(), Vec::new());
    for Target { served, names } in resources::targets(&args.words)? {
        let listed = !args.selection.is_empty() || args.all;
        if names.is_empty() && !listed {
            let error = CliError::usage(format!("which {}?", served.plural()));
            return Err(error.help("name them, or choose by -l, or delete every one with --all"));
        }
        if !names.is_empty() && listed {
            return Err(CliError::usage("name objects or select them, not both"));
        }
        if listed {
            let (_, items) = context.list(served, context.place(false), &args.selection).await?;
            found.0.extend(items.into_iter().map(|object| Doomed { served, object }));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        look(context, served, context.namespace(), &names, &mut found).await?;
    }
    Ok(found)
}

async fn declared(args: &DeleteArgs, context: &Context) -> Result<(Vec<Doomed>, Vec<CliError>), CliError> {
    let manifests = manifests::read(&args.filename, args.recursive, context.global.namespace.as_deref())?;
    if !manifests.faults.is_empty() {
        let mut error = CliError::new(Exit::InvalidInput, "the manifests cannot be understood; nothing was deleted");
        error.details = super::diagnostics::render(manifests.faults, &manifests.files, &context.screen);
        return Err(error);
    }
    let mut found = (Vec::new(), Vec::new());
    // Backwards: a namespace after what is in it.
    let backwards: Vec<_> = manifests.objects.iter().rev().collect();
    for same in backwards.chunk_by(|a, b| a.served.kind == b.served.kind && a.namespace == b.namespace) {
        let names: Vec<&str> = same.iter().map(|o| o.name.as_str()).collect();
        look(context, same[0].served, &same[0].namespace, &names, &mut found).await?;
    }
    Ok(found)
}

/// Above so many names of one kind, one list is cheaper than a question for each.
const FEW: usize = 5;

/// Looks which of these names are there, in the order given.
async fn look(
    context: &Context,
    served: Served,
    namespace: &str,
    names: &[&str],
    found: &mut (Vec<Doomed>, Vec<CliError>),
) -> Result<(), CliError> {
    let mut listed = BTreeMap::new();
    if names.len() > FEW {
        let place = if namespace.is_empty() { Where::Everywhere } else { Where::Namespace(namespace) };
        let (_, items) = context.list(served, place, &Selection::default()).await?;
        listed.extend(items.into_iter().map(|object| (name_of(&object), object)));
    }
    for name in names {
        if let Some(object) = listed.remove(*name) {
            found.0.push(Doomed { served, object });
            continue;
        }
        match context.get(served, namespace, name).await {
            Ok(object) => found.0.push(Doomed { served, object }),
            Err(error) if error.exit == Exit::NotFound => found.1.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn uid_of(object: &Value) -> Uid {
    object["metadata"]["uid"].as_str().unwrap_or_default().into()
}

fn operation(args: &DeleteArgs, doomed: &Doomed) -> Operation {
    let metadata = &doomed.object["metadata"];
    let mut named = json!({
        "apiVersion": doomed.object["apiVersion"], "kind": doomed.object["kind"], "metadata": {"name": metadata["name"]},
    });
    if metadata["namespace"].is_string() {
        named["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    Operation {
        preconditions: Preconditions { uid: Some(uid_of(&doomed.object)), resource_version: None },
        propagation_policy: match args.cascade {
            Cascade::Background => PropagationPolicy::Background,
            Cascade::Foreground => PropagationPolicy::Foreground,
            Cascade::Orphan => PropagationPolicy::Orphan,
        },
        grace_period_seconds: if args.force { Some(0) } else { args.grace_period },
        ..Operation::new(OperationVerb::Delete, named)
    }
}

async fn await_gone(args: &DeleteArgs, context: &Context, doomed: &[Doomed]) -> Result<(), CliError> {
    /// Group, plural name, namespace.
    type Place<'a> = (&'a str, &'a str, String);
    let mut groups: BTreeMap<Place, (Served, BTreeMap<String, Uid>)> = BTreeMap::new();
    for one in doomed {
        let key = (one.served.group(), one.served.plural(), namespace_of(&one.object));
        let group = match groups.entry(key) {
            Entry::Occupied(group) => group.into_mut(),
            Entry::Vacant(place) => place.insert((one.served, BTreeMap::new())),
        };
        group.1.insert(name_of(&one.object), uid_of(&one.object));
    }
    let waiting = async {
        for ((_, _, namespace), (served, pending)) in groups {
            wait::until_gone(context, served, &namespace, pending).await?;
        }
        Ok(())
    };
    match args.timeout.0 {
        Duration::ZERO => waiting.await,
        limit => tokio::time::timeout(limit, waiting)
            .await
            .unwrap_or_else(|_| Err(CliError::new(Exit::Timeout, format!("not gone after {}", args.timeout)))),
    }
}
