//! A plan in a file: what was planned, and the transaction that does it. It holds what the manifests held, values of Secrets included, so
//! nobody else can read it.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::super::{
    apply::outcome_word,
    context::Context,
    error::{CliError, Exit},
    output::{self, Format, OutputArgs, without_managed_fields},
    screen,
};
use crate::api::{Cause, FieldChange, Plan, PlannedObject, Reason, Status, Transaction};

/// What a file says that it is.
const KIND: &str = "SavedPlan";
const API_VERSION: &str = "appm.dev/v1";
/// The largest file that is read.
const LARGEST: u64 = 64 << 20;

/// What is in the file.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    api_version: String,
    kind: String,
    plan: Plan,
    transaction: Transaction,
}

/// Keeps a plan. A file that is there is replaced.
pub(super) fn write(file: &Path, plan: &Plan, transaction: &Transaction) -> Result<(), CliError> {
    let saved = Saved {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        plan: plan.clone(),
        transaction: transaction.clone(),
    };
    let text = serde_json::to_vec_pretty(&saved).expect("a plan is plain data");
    let failed = |e: std::io::Error| CliError::io(&format!("cannot write {}", file.display()), &e);
    // Beside it first: whoever could read the old one must not read the new one, and half a plan is none.
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let mut open = OpenOptions::new();
    let mut to = open.write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    let written = to.write_all(&text).and_then(|()| to.sync_all()).and_then(|()| std::fs::rename(&beside, file));
    written.map_err(|e| {
        // What cannot be removed is half a file that nobody reads.
        let _ = std::fs::remove_file(&beside);
        failed(e)
    })
}

fn read(file: &Path) -> Result<Saved, CliError> {
    let failed = |e: std::io::Error| CliError::io(&format!("cannot read {}", file.display()), &e);
    let mut text = String::new();
    std::fs::File::open(file).map_err(failed)?.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    let wrong = |why: String| {
        let error = CliError::new(Exit::InvalidInput, format!("{} is no plan: {why}", file.display()));
        error.help("`appm plan -f … --out FILE` writes one; manifests are applied by -f")
    };
    let saved: Saved = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    match (saved.api_version.as_str(), saved.kind.as_str()) {
        (API_VERSION, KIND) if !saved.plan.hash.is_empty() => Ok(saved),
        (version, kind) => Err(wrong(format!("it is a {kind} of {version}"))),
    }
}

/// Does what was planned, if it still is that.
///
/// # Errors
/// Names what is not as it was.
pub(in crate::cli) async fn apply_saved(file: &Path, output: &OutputArgs, context: &Context) -> Result<(), CliError> {
    let Saved { plan, mut transaction, .. } = read(file)?;
    transaction.plan_hash.clone_from(&plan.hash);
    let results = match context.transact(&transaction).await? {
        Ok(result) => result.results,
        Err(status) if is_other(&status) => return Err(other(&plan, transaction, context).await),
        Err(status) => return Err(status.into()),
    };
    match &output.output {
        Format::Table | Format::Wide => {
            for result in &results {
                let word = outcome_word(result.outcome);
                let word = context.screen.paint(screen::judge(word), word);
                screen::line(format_args!("{} {word}", output::name_line(&result.object)))?;
            }
            Ok(())
        }
        format => {
            let objects = results.into_iter().map(|result| without_managed_fields(result.object)).collect();
            output::objects(format, objects, false)
        }
    }
}

/// True if the server refused because it is not what was planned.
pub(in crate::cli) fn is_other(status: &Status) -> bool {
    status.is(Reason::Conflict) && status.details.causes.iter().any(|cause| cause.field == "planHash")
}

/// The error for a plan that does not hold any more: names what is not as it was.
pub(in crate::cli) async fn other(planned: &Plan, transaction: Transaction, context: &Context) -> CliError {
    let mut error =
        CliError::new(Exit::Conflict, "the world is not as it was when this was planned; nothing was applied");
    let transaction = Transaction { plan_hash: String::new(), ..transaction };
    match context.plan(&transaction).await {
        Ok(Ok(now)) => error.details = differences(planned, &now),
        Ok(Err(status)) => error.details.extend(refusals(&status)),
        Err(cannot) => return cannot,
    }
    error.help("plan anew, and look at it")
}

/// Why the same changes would be refused now, a line for each field.
fn refusals(status: &Status) -> Vec<String> {
    let line = |cause: &Cause| match cause.field.as_str() {
        "" => format!("  {}", cause.message),
        field => format!("  {field}: {}", cause.message),
    };
    match status.details.causes.as_slice() {
        [] => vec![format!("  {}", status.message)],
        causes => causes.iter().map(line).collect(),
    }
}

/// What is not as it was planned, in words.
fn differences(planned: &Plan, now: &Plan) -> Vec<String> {
    let by_name = |plan: &Plan| -> BTreeMap<String, PlannedObject> {
        let name = |o: &PlannedObject| match o.namespace.as_str() {
            "" => format!("{}/{}", o.kind.to_lowercase(), o.name),
            namespace => format!("{}/{} in {namespace}", o.kind.to_lowercase(), o.name),
        };
        plan.objects.iter().map(|object| (name(object), object.clone())).collect()
    };
    let (before, after) = (by_name(planned), by_name(now));
    let mut all = Vec::new();
    for (name, old) in &before {
        let Some(new) = after.get(name) else { continue };
        if old.change != new.change {
            all.push(format!("  {name}: it was to be {}, and would now be {}", word(old), word(new)));
            continue;
        }
        let paths: Vec<&str> = old.fields.iter().chain(&new.fields).map(|field| field.path.as_str()).collect();
        let mut seen = std::collections::BTreeSet::new();
        for path in paths.into_iter().filter(|path| seen.insert(*path)) {
            let of = |fields: &[FieldChange]| fields.iter().find(|field| field.path == path).cloned();
            let (was, is) = (of(&old.fields), of(&new.fields));
            if was != is {
                all.push(format!("  {name}: {path}: was {}, is now {}", told(was.as_ref()), told(is.as_ref())));
            }
        }
    }
    if all.is_empty() {
        all.push(
            "  an object was made anew, or has other values in fields that this does not touch or that are secret"
                .to_owned(),
        );
    }
    all
}

fn word(object: &PlannedObject) -> String {
    format!("{:?}", object.change).to_lowercase()
}

fn told(change: Option<&FieldChange>) -> String {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    match change {
        None => "not to be changed".to_owned(),
        Some(change) if change.secret => "a secret value".to_owned(),
        Some(change) => format!("{} → {}", text(&change.old), text(&change.new)),
    }
}
