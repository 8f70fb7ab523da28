//! Where imported manifests go: standard output, a directory, or the server.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::{
    super::{
        apply,
        context::{Context, Selection, Where, name_of},
        error::{CliError, Exit},
        fates,
        manifests::{self, Manifests},
        output,
        resources::qualified,
        screen,
        screen::Screen,
        settings::Global,
    },
    ORIGIN,
};
use crate::{
    api::{Kind, Namespace, Scope, kinds},
    exchange::report::{Part, Report},
};

/// What every importer can do with what it has made.
#[derive(Args, Debug)]
pub(super) struct Delivery {
    /// A file for each object in this directory, in place of the standard output
    #[arg(short, long = "output-dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    output_dir: Option<PathBuf>,
    /// Declare them at once, all or none
    #[arg(long, conflicts_with = "output_dir")]
    apply: bool,
    /// With --apply: replace what is there by these names, though it came from elsewhere
    #[arg(long, requires = "apply")]
    take_over: bool,
    /// Do nothing, and end with 1, if anything is approximated or dropped
    #[arg(long)]
    strict: bool,
    /// Give every setting a row of its own, what is carried over, too
    #[arg(short, long)]
    verbose: bool,
}

impl Delivery {
    /// Tells what became of every setting, and hands the manifests over. `origin` says where they come from: `compose /srv/shop/compose.yaml`.
    pub(super) fn hand_over(&self, mut report: Report<Value>, origin: &str, global: &Global) -> Result<(), CliError> {
        let screen = Screen::of_stderr(global.color);
        if let Some(namespace) = &global.namespace {
            report.parts.iter_mut().for_each(|part| put_into(&mut part.made, namespace));
        }
        fates::tell(&report, "object", self.verbose, &screen);
        fates::strictly(&report, self.strict)?;
        if report.parts.is_empty() {
            return Err(CliError::new(Exit::InvalidInput, "nothing in it can be imported; nothing was done"));
        }
        match &self.output_dir {
            Some(dir) => write(dir, &report),
            None if self.apply => declare(report, origin, self.take_over, global),
            None => Ok(screen::print(text(&report))?),
        }
    }
}

/// Into the namespace of the command line, if it lives in one.
fn put_into(object: &mut Value, namespace: &str) {
    let word = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let served = kinds::find_served(&word("apiVersion"), &word("kind"));
    if served.is_some_and(|served| served.kind.scope == Scope::Namespaced) {
        object["metadata"]["namespace"] = json!(namespace);
    }
}

fn text(report: &Report<Value>) -> String {
    let mut text = fates::comments(&report.notes);
    for (at, part) in report.parts.iter().enumerate() {
        if at > 0 || !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&one(part));
    }
    text
}

fn one(part: &Part<Value>) -> String {
    fates::comments(&part.notes) + &output::yaml(&part.made)
}

/// A file for each object.
fn write(dir: &Path, report: &Report<Value>) -> Result<(), CliError> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
    let name = |object: &Value| {
        format!("{}-{}.yaml", word(&object["kind"]), word(&object["metadata"]["name"]).replace(':', "_"))
    };
    fates::save(dir, report.parts.iter().map(|part| (name(&part.made), one(part))))
}

fn declare(mut report: Report<Value>, origin: &str, take_over: bool, global: &Global) -> Result<(), CliError> {
    for part in &mut report.parts {
        let annotations = &mut part.made["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[ORIGIN] = json!(origin);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::io("cannot start", &e))?;
    runtime.block_on(async {
        let context = Context::new(global)?;
        let manifests = manifests::of_text("<imported>", text(&report), global.namespace.as_deref());
        let manifests = manifests.sound(&context, "nothing was applied")?;
        if !take_over {
            let others = of_others(&manifests, origin, &context).await?;
            if !others.is_empty() {
                let error = CliError::new(Exit::Conflict, "there are objects of these names already; nothing was applied");
                let help = "to replace them, add --take-over; without --apply the manifests are printed, and `appm diff -f -` shows what would change";
                return Err(CliError { details: others, ..error }.help(help));
            }
        }
        let options = apply::Options { force: take_over, ..apply::Options::default() };
        let results = apply::apply(&context, &manifests, &options).await?;
        apply::report(&context, &manifests, &results, &options)
    })
}

/// What is there by these names and came from elsewhere. A Namespace is a place, which many may name.
async fn of_others(manifests: &Manifests, origin: &str, context: &Context) -> Result<Vec<String>, CliError> {
    let mut there: BTreeMap<(&str, &str), BTreeMap<String, String>> = BTreeMap::new();
    let mut others = Vec::new();
    for object in manifests.objects.iter().filter(|object| object.served.kind != Namespace::INFO) {
        let place = (object.served.name(), object.namespace.as_str());
        if let Entry::Vacant(vacant) = there.entry(place) {
            let (_, items) =
                context.list(object.served, Where::Namespace(&object.namespace), &Selection::default()).await?;
            let from = |item: &Value| item["metadata"]["annotations"][ORIGIN].as_str().unwrap_or_default().to_owned();
            vacant.insert(items.iter().map(|item| (name_of(item), from(item))).collect());
        }
        match there[&place].get(&object.name).map(String::as_str) {
            None => {}
            Some(from) if from == origin => {}
            Some("") => others.push(format!("  {}: nobody imported it", qualified(object.served, &object.name))),
            Some(from) => {
                others.push(format!("  {}: it was imported from {from}", qualified(object.served, &object.name)))
            }
        }
    }
    Ok(others)
}
