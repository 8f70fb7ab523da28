//! `appm delete`: deletes objects in one transaction, and waits until they are gone.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api::{
    GoDuration, Kind, Operation, OperationVerb, Preconditions, PropagationPolicy, Served, Transaction, Uid,
};

use super::{
    change::Objects,
    context::{Context, Selection, Where, name_of, namespace_of, served},
    error::{CliError, Exit},
    habits,
    manifests::{self, Manifests},
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::{self, Target, qualified},
    screen, wait,
};

/// What becomes of what belongs to a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Cascade {
    /// It goes after its owner.
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
  appm delete app web                    and wait until it and its processes are gone
  appm delete app/web --cascade=background  wait for the App alone; its processes are ended after it
  appm delete -f manifests/              what the manifests declare
  appm delete apps -l tier=front
  appm delete apps --all --wait=false")]
pub(super) struct DeleteArgs {
    /// `app web`, `app/web`, or `apps` with -l or --all
    #[arg(value_name = "RESOURCE", required_unless_present_any = ["filename", "app"], add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// An application as App Mesh names them: an App, a Schedule or a Run; one that is not there is no failure
    #[arg(short, long = "app", value_name = "NAME", conflicts_with_all = ["words", "filename", "selector", "all"])]
    app: Vec<String>,
    /// Return when the objects are gone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// The same as --wait=false
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// How long to wait; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0")]
    timeout: GoDuration,
    /// What becomes of what belongs to them: foreground (goes first; default), background (goes after; default without waiting)
    /// or orphan (stays)
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    cascade: Option<Cascade>,
    /// Seconds between the stop signal and SIGKILL, in place of the App's own
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// The same as --grace-period=0
    #[arg(long, conflicts_with_all = ["grace_period", "now"])]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// Let the server check everything, and delete nothing
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true, value_parser = dry_run)]
    dry_run: bool,
    /// An object that is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl DeleteArgs {
    fn waits(&self) -> bool {
        self.wait && !self.no_wait
    }

    /// For whoever waits, what is gone has stopped.
    fn cascade(&self) -> Cascade {
        self.cascade.unwrap_or(if self.waits() { Cascade::Foreground } else { Cascade::Background })
    }
}

/// `--dry-run`, `--dry-run=server`
pub(super) fn dry_run(text: &str) -> Result<bool, String> {
    match text {
        "none" => Ok(false),
        "server" | "client" => Ok(true),
        _ => Err("expected none, server or client".to_owned()),
    }
}

/// Deletes objects of a kind by their names, all or none, and with them what belongs to them; waits for nothing.
pub(super) async fn named_of<K: Kind>(names: &[String], context: &Context) -> Result<(), CliError> {
    let doomed = |name: &String| {
        let metadata = json!({"name": name, "namespace": context.namespace()});
        let object = json!({"apiVersion": K::INFO.api_version(), "kind": K::INFO.kind, "metadata": metadata});
        Operation::new(OperationVerb::Delete, object)
    };
    for name in names {
        context.get(served::<K>(), context.namespace(), name).await?;
    }
    let transaction = Transaction::new("appm", names.iter().map(doomed).collect());
    context.transact(&transaction).await?.map_err(CliError::from)?;
    for name in names {
        screen::line(format_args!("{} deleted", qualified(served::<K>(), name)))?;
    }
    Ok(())
}

pub(super) async fn run(args: DeleteArgs, context: &Context) -> Result<(), CliError> {
    if !args.app.is_empty() {
        return habits::remove(&args.app, context).await;
    }
    if args.words.is_empty() == args.objects.filename.is_empty() {
        return Err(CliError::usage("name either objects or manifests, not both"));
    }
    let (doomed, absent) =
        if args.objects.filename.is_empty() { named(&args, context).await? } else { declared(&args, context).await? };
    if doomed.is_empty() && absent.is_empty() {
        screen::remark("nothing found");
    }
    let operations: Vec<Operation> = doomed.iter().map(|d| operation(&args, d)).collect();
    if !operations.is_empty() {
        let mut transaction = Transaction::new("appm", operations);
        transaction.dry_run = args.dry_run;
        context.transact(&transaction).await?.map_err(CliError::from)?;
    }
    for one in doomed.iter().filter(|_| matches!(args.output.output, Format::Table | Format::Wide)) {
        let word = context.screen.paint(screen::judge("deleted"), "deleted");
        let dry = if args.dry_run { " (dry run)" } else { "" };
        screen::line(format_args!("{} {word}{dry}", qualified(one.served, &name_of(&one.object))))?;
    }
    if args.waits() && !args.dry_run {
        let waiting = await_gone(context, &doomed);
        match args.timeout.0 {
            Duration::ZERO => waiting.await?,
            limit => tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
                let error = CliError::new(Exit::Timeout, format!("not gone after {}", args.timeout));
                Err(error.help("a finalizer may hold it: `appm get NAME -o jsonpath={.metadata.finalizers}`"))
            })?,
        }
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
    let targets = resources::targets(&args.words).map_err(|error| match args.words.as_slice() {
        // What `scale web` understands may mean another kind's object here, and deleting is for good.
        [word] if !word.contains('/') => {
            error.help(format!("an App of that name is `app/{word}`: appm delete app/{word}"))
        }
        _ => error,
    })?;
    for Target { served, names } in targets {
        let listed = !args.objects.selection.is_empty() || args.objects.all;
        if names.is_empty() && !listed {
            let error = CliError::usage(format!("which {}?", served.plural()));
            return Err(error.help("name them, or choose by -l, or delete every one with --all"));
        }
        if !names.is_empty() && listed {
            return Err(CliError::usage("name objects or select them, not both"));
        }
        if listed {
            let (_, items) = context.list(served, context.place(false), &args.objects.selection).await?;
            found.0.extend(items.into_iter().map(|object| Doomed { served, object }));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        look(context, served, context.namespace(), &names, &mut found).await?;
    }
    Ok(found)
}

/// Deletes what manifests declare, and returns when it is gone.
pub(super) async fn gone(manifests: &Manifests, context: &Context) -> Result<(), CliError> {
    let (doomed, absent) = there(manifests, context).await?;
    if let Some(error) = absent.into_iter().next() {
        return Err(error);
    }
    let operations = doomed.iter().map(|d| Operation::new(OperationVerb::Delete, itself(&d.object))).collect();
    context.transact(&Transaction::new("appm", operations)).await?.map_err(CliError::from)?;
    await_gone(context, &doomed).await
}

async fn declared(args: &DeleteArgs, context: &Context) -> Result<(Vec<Doomed>, Vec<CliError>), CliError> {
    let manifests =
        manifests::read(&args.objects.filename, args.objects.recursive, context.global.namespace.as_deref())?;
    there(&manifests.sound(context, "nothing was deleted")?, context).await
}

/// What of this is there.
async fn there(manifests: &Manifests, context: &Context) -> Result<(Vec<Doomed>, Vec<CliError>), CliError> {
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

/// As much of an object as names it.
pub(super) fn itself(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut named = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": metadata["name"]},
    });
    if metadata["namespace"].is_string() {
        named["metadata"]["namespace"] = metadata["namespace"].clone();
    }
    named
}

fn operation(args: &DeleteArgs, doomed: &Doomed) -> Operation {
    let grace = if args.now { Some(1) } else { args.grace_period };
    Operation {
        preconditions: Preconditions { uid: Some(uid_of(&doomed.object)), resource_version: None },
        propagation_policy: match args.cascade() {
            Cascade::Background => PropagationPolicy::Background,
            Cascade::Foreground => PropagationPolicy::Foreground,
            Cascade::Orphan => PropagationPolicy::Orphan,
        },
        grace_period_seconds: if args.force { Some(0) } else { grace },
        ..Operation::new(OperationVerb::Delete, itself(&doomed.object))
    }
}

async fn await_gone(context: &Context, doomed: &[Doomed]) -> Result<(), CliError> {
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
    for ((_, _, namespace), (served, pending)) in groups {
        wait::until_gone(context, served, &namespace, pending).await?;
    }
    Ok(())
}
