//! Where imported manifests go: standard output, a directory, or the server.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::super::{
    apply, context::Context, error::CliError, fates, manifests, output, screen, screen::Screen, settings::Global,
};
use crate::{
    api::Scope,
    api::kinds,
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
    /// Do nothing, and end with 1, if anything is approximated or dropped
    #[arg(long)]
    strict: bool,
    /// Tell of what is carried over, too
    #[arg(short, long)]
    verbose: bool,
}

impl Delivery {
    /// Tells what became of every setting, and hands the manifests over.
    pub(super) fn hand_over(&self, mut report: Report<Value>, global: &Global) -> Result<(), CliError> {
        let screen = Screen::of_stderr(global.color);
        if let Some(namespace) = &global.namespace {
            report.parts.iter_mut().for_each(|part| put_into(&mut part.made, namespace));
        }
        fates::tell(&report, "object", self.verbose, &screen);
        fates::strictly(&report, self.strict)?;
        match &self.output_dir {
            Some(dir) => write(dir, &report),
            None if self.apply => declare(&report, global),
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

fn declare(report: &Report<Value>, global: &Global) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::io("cannot start", &e))?;
    runtime.block_on(async {
        let context = Context::new(global)?;
        let manifests = manifests::of_text("<imported>", text(report), global.namespace.as_deref());
        let manifests = manifests.sound(&context, "nothing was applied")?;
        let options = apply::Options::default();
        let results = apply::apply(&context, &manifests, &options).await?;
        apply::report(&context, &manifests, &results, &options)
    })
}
