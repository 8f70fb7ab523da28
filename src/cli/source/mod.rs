//! `appm source`: declares Sources, says how they are, has them looked at now, and stops them for a while.

mod add;
mod approve;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    complete,
    context::{Context, Selection, Where, name_of, namespace_of, served},
    error::{CliError, Exit},
    of_kind::{self, ListArgs, Named, Names},
    output::{self, Format, without_managed_fields},
    resources::qualified,
    screen::{self, Screen},
    table::Table,
    wait,
};
use crate::{
    api::{
        Condition, ConditionStatus, GoDuration, Object, SOURCE_LABEL, SOURCE_NAMESPACE_LABEL, SYNC_REQUESTED, Source,
        Time, kinds, source_condition::READY,
    },
    policy::{
        fleet::can_be_declared,
        health::{Health, health},
    },
};

/// Keep a directory or a git repository applied; see how it goes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm source add fleet --git https://git.example.org/fleet.git --path prod
  appm source status fleet               why it is, or is not, ready; and everything that it has applied
  appm source sync fleet                 look now, and wait until that is applied
  appm source diff fleet                 what waits for approval, of one with --approve
  appm source approve fleet HASH         agree to just that
  appm source suspend fleet              appm source resume fleet")]
pub(super) struct SourceArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Add(Box<add::AddArgs>),
    /// List Sources
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show one Source, or several
    Get(Named<Source>),
    /// Delete Sources; what they have applied stays
    #[command(visible_alias = "delete")]
    Rm(Names<Source>),
    /// Say why it is, or is not, ready, and how everything is that it has applied
    Status(Named<Source>),
    Sync(SyncArgs),
    Diff(approve::DiffArgs),
    Approve(approve::ApproveArgs),
    /// Read nothing and change nothing until it is resumed
    #[command(visible_alias = "pause")]
    Suspend(Named<Source>),
    /// Go on
    Resume(Named<Source>),
}

/// Look now, and wait until what is there is applied
#[derive(Args, Debug)]
struct SyncArgs {
    /// The Sources
    #[arg(required = true, add = complete::names_of::<Source>())]
    names: Vec<String>,
    /// How long to wait; 0: do not
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: GoDuration,
}

pub(super) async fn run(args: SourceArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    match args.verb {
        Verb::Add(args) => add::run(&args, context).await,
        Verb::Ls(args) => of_kind::ls::<Source>(args, context).await,
        Verb::Get(args) => of_kind::get(args, context).await,
        Verb::Rm(args) => of_kind::rm(&args, context).await,
        Verb::Status(args) => status(&args, context, screen).await,
        Verb::Sync(args) => sync(&args, context).await,
        Verb::Diff(args) => approve::diff(&args, context, screen).await,
        Verb::Approve(args) => approve::approve(&args, context).await,
        Verb::Suspend(args) => of_kind::suspend(&args, (true, "suspended"), context).await,
        Verb::Resume(args) => of_kind::suspend(&args, (false, "resumed"), context).await,
    }
}

async fn typed(name: &str, context: &Context) -> Result<Object<Source>, CliError> {
    let object = context.get(served::<Source>(), context.namespace(), name).await?;
    serde_json::from_value(object).map_err(|e| CliError::failed(format!("source `{name}` cannot be read: {e}")))
}

async fn status(args: &Named<Source>, context: &Context, screen: &Screen) -> Result<(), CliError> {
    for name in &args.of.names {
        match &args.output.output {
            Format::Table | Format::Wide => told(&typed(name, context).await?, context, screen).await?,
            format => {
                let object = context.get(served::<Source>(), context.namespace(), name).await?;
                output::objects(format, vec![without_managed_fields(object)], false)?;
            }
        }
    }
    Ok(())
}

/// How a Source is, and how everything is that it has applied.
async fn told(source: &Object<Source>, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let status = &source.status;
    let name = &source.metadata.name;
    let revision = if status.last_applied_revision.is_empty() { "nothing" } else { &status.last_applied_revision };
    screen::line(format_args!("{} has applied {revision}", qualified(served::<Source>(), name)))?;
    if !status.last_attempted_revision.is_empty() {
        screen::line(format_args!("not applied: {}", status.last_attempted_revision))?;
    }
    for pending in &status.notifications {
        let (event, whom) = (pending.event, pending.receivers.join(", "));
        screen::line(format_args!("not told yet to {whom}: {event:?}: {}", pending.message))?;
    }
    let mut conditions = Table::new(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
    for condition in &status.conditions {
        let holds = format!("{:?}", condition.status);
        conditions.add([&condition.kind, &holds, &condition.reason, &condition.message]);
    }
    screen::print(conditions.render(screen, true))?;
    let selector = format!("{SOURCE_LABEL}={name},{SOURCE_NAMESPACE_LABEL}={}", source.metadata.namespace);
    let mut objects = Table::new(["NAMESPACE", "OBJECT", "STATUS"]);
    for kind in kinds::KINDS.iter().copied().filter(|kind| can_be_declared(kind)) {
        // What somebody may not see is not theirs to look after.
        let listed = context.list(kind.stored_form(), Where::Everywhere, &Selection::by_labels(&*selector)).await;
        for object in listed.map(|(_, items)| items).unwrap_or_default() {
            let how = match health(kind, &object) {
                Health::Well => "Well".to_owned(),
                Health::Waiting(why) | Health::Failed(why) => why,
            };
            objects.add([namespace_of(&object), format!("{}/{}", kind.singular, name_of(&object)), how]);
        }
    }
    if !objects.is_empty() {
        screen::line(format_args!(""))?;
        screen::print(objects.render(screen, true))?;
    }
    Ok(())
}

async fn sync(args: &SyncArgs, context: &Context) -> Result<(), CliError> {
    let asked = Time(context.now()).to_string();
    for name in &args.names {
        let before = typed(name, context).await?;
        if before.spec.suspend {
            let error = CliError::failed(format!("source `{name}` is suspended"));
            return Err(error.help(format!("appm source resume {name}")));
        }
        // Two requests within one second are two.
        let asked = format!("{asked}#{}", before.metadata.resource_version);
        let patch = json!({"metadata": {"annotations": {SYNC_REQUESTED: &asked}}});
        context.patch(served::<Source>(), context.namespace(), name, "", &patch).await?;
        if args.timeout.0.is_zero() {
            screen::line(format_args!("{} is looked at", qualified(served::<Source>(), name)))?;
            continue;
        }
        match tokio::time::timeout(args.timeout.0, arrived(name, &asked, context)).await {
            Ok(done) => done?,
            Err(_) => return Err(CliError::new(Exit::Timeout, format!("not applied after {}", args.timeout))),
        }
    }
    Ok(())
}

/// Waits until what was asked for is applied; what was not, and why, is an error.
async fn arrived(name: &str, asked: &str, context: &Context) -> Result<(), CliError> {
    wait::see(context, served::<Source>(), name, |object| {
        let source: Object<Source> = serde_json::from_value(object.clone()).ok()?;
        let ready = Condition::find(&source.status.conditions, READY)?;
        if source.status.last_handled_sync != asked {
            return None;
        }
        if ready.status == ConditionStatus::True || ready.reason == "Progressing" {
            let revision = &source.status.last_applied_revision;
            let name = qualified(served::<Source>(), name);
            return Some(
                screen::line(format_args!("{name} has applied {revision}: {}", ready.message)).map_err(CliError::from),
            );
        }
        let failed = ready.status == ConditionStatus::False && ready.reason != "DependencyNotReady";
        failed.then(|| Err(CliError::failed(format!("source `{name}`: {}: {}", ready.reason, ready.message))))
    })
    .await?
}
