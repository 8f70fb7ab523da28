//! `appm rollback`: an object as it was.

use clap::Args;
use serde_json::Value;

use crate::{
    api::{History, Reason, Rev, Transaction, VersionChange},
    policy::restore,
};

use super::{
    apply::DryRun,
    context::Context,
    diff,
    error::{CliError, Exit},
    output::{self, Format, OutputArgs, without_managed_fields},
    past::{self, One, revision_of, short},
    screen,
};

/// Make an object as it was: spec, labels and annotations
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm rollback app/web                     as it was before its last change
  appm rollback app/web --to 4711           as it was at a revision of `appm history app/web`
  appm rollback app/web --to baseline       as it was when it was pinned
  appm rollback app/web --at 2h             as it was two hours ago
  appm rollback app/web --at 2h --diff      show what would change, and change nothing
  appm rollback app/web --at 2h --dry-run=server

It is a change like any other: the server may refuse it, and the history tells of it. What was deleted is made anew, with
another uid. Fields that another manager has applied, a Source say, are a conflict; --force-conflicts takes them.")]
pub(super) struct RollbackArgs {
    /// `app/web` or `app web`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// To the version that stood at this revision, or that is pinned under this name [default: the one before the last change]
    #[arg(long, value_name = "REVISION|PIN", conflicts_with = "at")]
    to: Option<String>,
    /// To what it was then: how long ago, 10m or 2d, or a point in time, 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = past::moment)]
    at: Option<String>,
    /// Show what would change, and change nothing
    #[arg(long)]
    diff: bool,
    /// server: check everything, store nothing; client: do not even ask
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "server", hide_default_value = true, hide_possible_values = true)]
    dry_run: DryRun,
    /// Whose fields these are then
    #[arg(long, value_name = "NAME", default_value = "appm", hide_default_value = true)]
    field_manager: String,
    /// Take fields that other managers own
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: RollbackArgs, context: &Context) -> Result<(), CliError> {
    let one = One::of(&args.words, context)?;
    let live = one.live(context).await?;
    let then = target(&args, context, &one, live.as_ref()).await?;
    let revision = then["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let name = one.qualified();
    if live.as_ref().is_some_and(|live| !live["metadata"]["deletionTimestamp"].is_null()) {
        let error = CliError::new(Exit::Conflict, format!("{name} is going"));
        return Err(error.help("roll it back when it is gone: it is made anew then"));
    }
    if args.diff {
        let titles = [format!("{} (live)", short(&one)), format!("{} (revision {revision})", short(&one))];
        let (before, after) = (live.as_ref().map(restore::wishes), restore::wishes(&then));
        return Ok(screen::print(diff::between([&titles[0], &titles[1]], before, after, &context.screen))?);
    }
    let dry = if args.dry_run == DryRun::None { "" } else { " (dry run)" };
    let (word, object) = restored(&args, context, &one, live, &then).await?;
    let word = match word {
        Word::Unchanged => format!("unchanged: it is as it was at revision {revision}"),
        Word::RolledBack => format!("rolled back to revision {revision}"),
        Word::MadeAnew => format!("made anew as it was at revision {revision}; its uid is another one"),
    };
    match &args.output.output {
        Format::Table | Format::Wide => Ok(screen::line(format_args!("{name} {word}{dry}"))?),
        format => output::objects(format, vec![without_managed_fields(object)], false),
    }
}

/// What became of the object.
enum Word {
    Unchanged,
    RolledBack,
    MadeAnew,
}

/// How often it is tried again when the object's status changed in between.
const TRIES: usize = 50;

/// Makes the object what it was `then`; and the object.
async fn restored(
    args: &RollbackArgs,
    context: &Context,
    one: &One,
    mut live: Option<Value>,
    then: &Value,
) -> Result<(Word, Value), CliError> {
    let revision = then["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    for attempt in 1.. {
        let restored = restore::restore(live.as_ref(), then, &args.field_manager, args.force_conflicts);
        let operations = restored.map_err(|owned| conflict(&one.qualified(), &owned))?;
        let word = if live.is_some() { Word::RolledBack } else { Word::MadeAnew };
        let Some(last) = operations.last() else { return Ok((Word::Unchanged, live.unwrap_or_default())) };
        if args.dry_run == DryRun::Client {
            return Ok((word, last.object.clone()));
        }
        let mut transaction = Transaction::new(&args.field_manager, operations);
        transaction.reason = format!("rollback to revision {revision}");
        transaction.dry_run = args.dry_run == DryRun::Server;
        match context.transact(&transaction).await? {
            Ok(mut done) => return Ok((word, done.results.pop().map(|one| one.object).unwrap_or_default())),
            Err(status) if status.is(Reason::Conflict) && attempt < TRIES => live = one.live(context).await?,
            Err(status) => return Err(past::refused(status)),
        }
    }
    Err(CliError::new(Exit::Conflict, format!("{} is changed by somebody all the time", one.qualified())))
}

fn conflict(name: &str, owned: &[restore::Owned]) -> CliError {
    let mut error = CliError::new(Exit::Conflict, format!("other managers own fields of {name}; nothing was changed"));
    let fields =
        owned.iter().flat_map(|one| one.paths.iter().map(move |path| format!("  {path} is {}'s", one.manager)));
    error.details = fields.map(|line| screen::harmless(&line)).collect();
    error.help("change them where that manager takes them from, or take them with --force-conflicts")
}

/// The object as it should be again.
async fn target(args: &RollbackArgs, context: &Context, one: &One, live: Option<&Value>) -> Result<Value, CliError> {
    let absent = |when: &str| {
        let error = CliError::new(Exit::NotFound, format!("{} was not there {when}", one.qualified()));
        error.help(format!("`appm history {}` tells when it was", short(one)))
    };
    if let Some(at) = &args.at {
        let query = crate::client::http::query_string(&[("at", at.clone())]);
        return one.asked(context, &query).await?.ok_or_else(|| absent("then"));
    }
    let revision = match &args.to {
        Some(word) => one.named(context, word).await?,
        None => before_last(one, &one.history(context, "", 100).await?, live)?,
    };
    one.at(context, revision).await?.ok_or_else(|| absent(&format!("at revision {revision}")))
}

/// The version before the last change that changed any field; of what is deleted, the last one.
fn before_last(one: &One, told: &History, live: Option<&Value>) -> Result<Rev, CliError> {
    let is_change = |change| matches!(change, VersionChange::Changed);
    let found = match live {
        None => told.items.iter().find(|v| !matches!(v.change, VersionChange::Deleted | VersionChange::Deleting)),
        Some(_) => {
            let last = told.items.iter().position(|v| is_change(v.change) && v.changed_fields > 0);
            last.and_then(|last| told.items.get(last + 1))
        }
    };
    found.map(revision_of).ok_or_else(|| {
        let error =
            CliError::new(Exit::NotFound, format!("{} has no earlier version that is remembered", one.qualified()));
        error.help(format!("`appm history {}` lists them", short(one)))
    })
}
