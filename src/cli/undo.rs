//! `appm undo`: takes back what one changed last: all objects of it, in one transaction.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stdin},
};

use crate::{
    api::{
        ObjectChange, Operation, PastTransactionInfo, PastTransactionList, Reason, Rev, Transaction, VersionChange,
        kinds,
    },
    client::http::{Request, query_string},
    policy::undo::{self, Facts, Step},
};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    ages,
    context::Context,
    error::{CliError, Exit},
    output::{self, OutputArgs},
    past::{self, One, revision_of},
    prompt, screen,
    table::Table,
};

/// Where one's own transactions are.
const TRANSACTIONS: &str = "/apis/appm.dev/v1/transactions";
/// Transactions that are looked through.
const LOOKED_AT: usize = 100;
/// Questions that are under way at a time.
const AT_ONCE: usize = 16;
/// How often it is tried again when a status changed in between.
const TRIES: usize = 50;
/// Objects that a line names.
const NAMED: usize = 3;

/// Take back what you changed last: every object of it, or none
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm undo                    shows what it will do, and asks
  appm undo --yes              without asking
  appm undo --dry-run          shows what it would do
  appm undo --list             what you changed, and what of it is undone
  appm undo --revision 4711    that one; also an undo, which is how it is taken back
  appm undo                    once more: the one before it

What you made goes, what you changed becomes as it was, what you deleted is made anew. Where somebody has changed an object
since, nothing is done, and the objects are named; --force writes over what they did.")]
pub(super) struct UndoArgs {
    /// That transaction, not the last one
    #[arg(long, value_name = "NUMBER", value_parser = past::revision, conflicts_with = "list")]
    revision: Option<Rev>,
    /// Show what could be undone, newest first
    #[arg(long)]
    list: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also where somebody has changed an object since, or owns fields of it
    #[arg(long)]
    force: bool,
    /// Show what would be done, and let the server check it
    #[arg(long, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "server", default_value = "none", hide_default_value = true, value_parser = super::delete::dry_run)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: UndoArgs, context: &Context) -> Result<(), CliError> {
    if args.list {
        return list(&args, context).await;
    }
    let all = own(context).await?;
    let undone = undone(&all.items);
    let transaction = wanted(&args, context, &all, &undone).await?;
    let revision = Rev::parse(&transaction.revision).unwrap_or_default();
    if transaction.hidden > 0 {
        let what = format!("revision {revision} changed {} objects that you may not read any more", transaction.hidden);
        return Err(CliError::new(Exit::NotAllowed, what + "; nothing was changed"));
    }
    let steps = steps(&args, context, &transaction, &undone).await?;
    let mut operations = operations(&steps, revision)?;
    if operations.is_empty() {
        return nothing(revision);
    }
    show(context, &args, &transaction, &steps)?;
    if !(args.yes || args.dry_run) {
        ask()?;
    }
    let mut attempt = 1;
    let done = loop {
        let mut request = Transaction::new(&transaction.by.manager, operations);
        request.reason = undo::reason(revision);
        request.dry_run = args.dry_run;
        match context.transact(&request).await? {
            Ok(done) => break done,
            // A status has changed, or somebody was faster: then it is refused in words.
            Err(status) if status.is(Reason::Conflict) && attempt < TRIES => {
                attempt += 1;
                let steps = self::steps(&args, context, &transaction, &undone).await?;
                operations = self::operations(&steps, revision)?;
                if operations.is_empty() {
                    return nothing(revision);
                }
            }
            Err(status) => return Err(past::refused(status)),
        }
    };
    if !args.output.output.is_table() {
        let objects = done.results.into_iter().map(|one| output::without_managed_fields(one.object)).collect();
        return output::objects(&args.output.output, objects, true);
    }
    let word = if args.dry_run { "would be undone (dry run)" } else { "undone" };
    Ok(screen::line(format_args!("revision {revision} {word}"))?)
}

fn nothing(revision: Rev) -> Result<(), CliError> {
    Ok(screen::line(format_args!("nothing to undo: everything is as it was before revision {revision}"))?)
}

/// What is to be done for all of it, what was made last first.
fn operations(steps: &[(ObjectChange, Step)], revision: Rev) -> Result<Vec<Operation>, CliError> {
    refused(steps, revision)?;
    let of = |step: &Step| match step {
        Step::Delete(operation) => vec![operation.clone()],
        Step::Restore(several) | Step::Recreate(several) => several.clone(),
        Step::Nothing | Step::Refuse { .. } => Vec::new(),
    };
    Ok(steps.iter().rev().flat_map(|(_, step)| of(step)).collect())
}

async fn own(context: &Context) -> Result<PastTransactionList, CliError> {
    let path = format!("{TRANSACTIONS}{}", query_string(&[("limit", LOOKED_AT.to_string())]));
    let answer = context.call(Request::get(path)).await?.json()?;
    serde_json::from_value(answer).map_err(|e| CliError::failed(format!("the transactions cannot be read: {e}")))
}

fn undone(all: &[PastTransactionInfo]) -> BTreeMap<Rev, Rev> {
    undo::undone(all.iter().map(|one| (Rev::parse(&one.revision).unwrap_or_default(), one.by.reason.as_str())))
}

/// True for what `appm undo` would take: it changed something that can be named, and takes nothing back itself.
fn is_candidate(one: &PastTransactionInfo, undone: &BTreeMap<Rev, Rev>) -> bool {
    let revision = Rev::parse(&one.revision).unwrap_or_default();
    !undone.contains_key(&revision) && undo::undoes(&one.by.reason).is_none() && !one.changes.is_empty()
}

async fn list(args: &UndoArgs, context: &Context) -> Result<(), CliError> {
    let all = own(context).await?;
    let undone = undone(&all.items);
    if !args.output.output.is_table() {
        return output::value(&args.output.output, &serde_json::to_value(&all).expect("plain data"));
    }
    let mut table = Table::new(["REVISION", "AGE", "THROUGH", "WHAT", "STATE"]);
    let next = all.items.iter().find(|one| is_candidate(one, &undone)).map(|one| one.revision.clone());
    for one in &all.items {
        let revision = Rev::parse(&one.revision).unwrap_or_default();
        let state = match undone.get(&revision) {
            Some(by) => format!("undone by {by}"),
            None if Some(&one.revision) == next.as_ref() => "next".to_owned(),
            None => one.by.reason.clone(),
        };
        let age = one.time.map_or_else(|| "-".to_owned(), |at| ages::age(at.0, context.now()));
        table.add(
            [one.revision.clone(), age, one.by.manager.clone(), summary(one), state]
                .map(|cell| screen::harmless(&cell)),
        );
    }
    if table.is_empty() {
        screen::remark("you have changed nothing that the history remembers");
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

/// `created app/web, changed app/db and 3 more`
fn summary(one: &PastTransactionInfo) -> String {
    let named: Vec<String> =
        one.changes.iter().take(NAMED).map(|change| format!("{} {}", word(change.change), name(change))).collect();
    let untold = one.changed_objects - named.len();
    match (named.is_empty(), untold) {
        (true, n) => format!("{n} objects that you may not read"),
        (false, 0) => named.join(", "),
        (false, n) => format!("{} and {n} more", named.join(", ")),
    }
}

fn word(change: VersionChange) -> &'static str {
    match change {
        VersionChange::Created | VersionChange::Recreated => "created",
        VersionChange::Deleted | VersionChange::Deleting => "deleted",
        VersionChange::Changed | VersionChange::Kept => "changed",
    }
}

fn name(change: &ObjectChange) -> String {
    let kind =
        kinds::find_served(&change.api_version, &change.kind).map_or(change.kind.as_str(), |served| served.singular());
    match change.namespace.as_str() {
        "" | "default" => format!("{kind}/{}", change.name),
        namespace => format!("{kind}/{} in {namespace}", change.name),
    }
}

/// The transaction to take back, with all that it changed.
async fn wanted(
    args: &UndoArgs,
    context: &Context,
    all: &PastTransactionList,
    undone: &BTreeMap<Rev, Rev>,
) -> Result<PastTransactionInfo, CliError> {
    let revision = match args.revision {
        Some(revision) => revision.to_string(),
        None => {
            let found = all.items.iter().find(|one| is_candidate(one, undone));
            found.map(|one| one.revision.clone()).ok_or_else(|| {
                let error = CliError::new(Exit::NotFound, "there is nothing of yours to undo");
                error.help("`appm undo --list` shows what you changed; `--revision` takes back an undo")
            })?
        }
    };
    let answer = context.call(Request::get(format!("{TRANSACTIONS}/{revision}"))).await?.json()?;
    serde_json::from_value(answer).map_err(|e| CliError::failed(format!("the transaction cannot be read: {e}")))
}

/// What becomes of each object, in the order of the transaction.
async fn steps(
    args: &UndoArgs,
    context: &Context,
    transaction: &PastTransactionInfo,
    undone: &BTreeMap<Rev, Rev>,
) -> Result<Vec<(ObjectChange, Step)>, CliError> {
    let revision = Rev::parse(&transaction.revision).unwrap_or_default();
    let judged = transaction.changes.iter().map(async |change| {
        let facts = facts(context, change, revision, undone).await?;
        Ok::<_, CliError>((change.clone(), undo::step(&facts, &transaction.by.manager, args.force)))
    });
    stream::iter(judged).buffered(AT_ONCE).try_collect().await
}

async fn facts(
    context: &Context,
    change: &ObjectChange,
    revision: Rev,
    undone: &BTreeMap<Rev, Rev>,
) -> Result<Facts, CliError> {
    let served = kinds::find_served(&change.api_version, &change.kind);
    let served = served.ok_or_else(|| CliError::failed(format!("this appm does not know the kind {}", change.kind)))?;
    let one = One { served, namespace: change.namespace.clone(), name: change.name.clone() };
    let before = match revision.0.checked_sub(1).filter(|at| *at > 0) {
        Some(at) if change.change != VersionChange::Created => one.at(context, Rev(at)).await?,
        _ => None,
    };
    let told = one.history(context, "", 50).await?;
    // What was taken back is as if it had never been, and so is what took it back.
    let stands = |at: Rev| !undone.iter().any(|(of, by)| *of == at || *by == at);
    let later = told.items.iter().filter(|version| revision_of(version) > revision && stands(revision_of(version)));
    let deleted = change.change == VersionChange::Deleted;
    // That what was asked to go has gone is nobody's change, nor is who owns which fields.
    let counts = |version: &&crate::api::Version| match version.change {
        VersionChange::Changed => version.changed_fields > 0,
        VersionChange::Deleted | VersionChange::Deleting => !deleted,
        _ => true,
    };
    let since = later.filter(counts).map(|version| {
        let age = version.time.map_or_else(String::new, |at| format!(" {} ago", ages::age(at.0, context.now())));
        format!(
            "{}{age} through {}, revision {}: {}",
            version.by.user,
            version.by.manager,
            version.revision,
            past::told(version)
        )
    });
    let since = since.collect();
    Ok(Facts { uid: change.uid.to_string(), before, deleted, live: one.live(context).await?, since })
}

/// The error for what cannot be taken back.
fn refused(steps: &[(ObjectChange, Step)], revision: Rev) -> Result<(), CliError> {
    let mut details = Vec::new();
    let mut helps = false;
    for (change, step) in steps {
        if let Step::Refuse { why, forcible } = step {
            details.push(format!("  {} {}", name(change), screen::harmless(why)));
            helps |= forcible;
        }
    }
    if details.is_empty() {
        return Ok(());
    }
    let mut error = CliError::new(Exit::Conflict, format!("revision {revision} cannot be undone; nothing was changed"));
    error.details = details;
    Err(if helps { error.help("look at it with `appm history`; --force writes over it") } else { error })
}

fn show(
    context: &Context,
    args: &UndoArgs,
    transaction: &PastTransactionInfo,
    steps: &[(ObjectChange, Step)],
) -> Result<(), CliError> {
    if !args.output.output.is_table() {
        return Ok(());
    }
    let age = transaction.time.map_or_else(String::new, |at| format!(", {} ago", ages::age(at.0, context.now())));
    let manager = screen::harmless(&transaction.by.manager);
    screen::line(format_args!("undo of revision {}{age}, through {manager}:", transaction.revision))?;
    for (change, step) in steps {
        let word = match step {
            Step::Nothing => "is as it was",
            Step::Delete(_) => "is deleted: it was made then",
            Step::Recreate(_) => "is made anew: it was deleted then, and gets another uid",
            Step::Restore(_) => "becomes as it was before",
            Step::Refuse { .. } => continue,
        };
        screen::line(format_args!("  {} {word}", name(change)))?;
    }
    Ok(())
}

fn ask() -> Result<(), CliError> {
    if !stdin().is_terminal() {
        let error = CliError::usage("there is nobody to ask whether this is meant; nothing was changed");
        return Err(error.help("--yes does it without asking, --dry-run only shows it"));
    }
    match prompt::shown("do it? [y/N] ")?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::failed("nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_transaction_is_told_in_a_line() {
        let change = |name: &str, change| -> ObjectChange {
            let change = json!({"apiVersion": "appm.dev/v1", "kind": "App", "namespace": "default", "name": name, "uid": "u", "change": change});
            serde_json::from_value(change).expect("a change")
        };
        let of = |changes: Vec<ObjectChange>, changed_objects| PastTransactionInfo {
            changes,
            changed_objects,
            ..Default::default()
        };
        let one: Value = json!("Created");
        let first = change("web", one);
        assert_eq!(summary(&of(vec![first.clone()], 1)), "created app/web");
        let all =
            vec![first, change("b", json!("Changed")), change("c", json!("Deleted")), change("d", json!("Deleted"))];
        assert_eq!(summary(&of(all, 60)), "created app/web, changed app/b, deleted app/c and 57 more");
        assert_eq!(summary(&of(Vec::new(), 2)), "2 objects that you may not read");
    }
}
