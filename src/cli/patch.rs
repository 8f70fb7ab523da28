//! `appm patch`: changes fields of objects.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::client::http::Request;

use super::{
    change::{Objects, WriteArgs},
    context::Context,
    error::{CliError, Exit},
};

/// The dialects of patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PatchType {
    /// Named fields are set, null removes one, lists are replaced.
    #[default]
    Merge,
    /// A list of operations.
    Json,
    /// As merge, but lists are merged by their keys; for Kubernetes' own kinds.
    Strategic,
    /// Server-side apply: the fields that are named, and no others, belong to --field-manager.
    Apply,
}

impl PatchType {
    fn content_type(self) -> &'static str {
        match self {
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Json => "application/json-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::Apply => "application/apply-patch+yaml",
        }
    }
}

/// Change fields of objects
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm patch app web -p '{\"spec\": {\"replicas\": 3}}'
  appm patch app web -p 'spec: {suspend: null}'        YAML will do; null removes a field
  appm patch app/web --type=json -p '[{\"op\": \"remove\", \"path\": \"/spec/env/0\"}]'
  appm patch app web --subresource=status --patch-file=status.yaml
  appm patch apps -l tier=front -p 'spec: {replicas: 1}' --dry-run=server -o yaml")]
pub(super) struct PatchArgs {
    /// `app web`, `app/web`, or `apps` with -l or --all
    #[arg(value_name = "RESOURCE", add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// merge (lists are replaced), json (a list of operations), strategic (Kubernetes' own kinds), apply
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t, hide_possible_values = true)]
    dialect: PatchType,
    /// The patch, as JSON or YAML
    #[arg(short, long, value_name = "PATCH", required_unless_present = "patch_file", conflicts_with = "patch_file")]
    patch: Option<String>,
    /// A file with the patch; - for stdin
    #[arg(long, value_name = "FILE")]
    patch_file: Option<PathBuf>,
    /// A part of the object: status or scale
    #[arg(long, value_name = "PART")]
    subresource: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(args: PatchArgs, context: &Context) -> Result<(), CliError> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => std::io::read_to_string(std::io::stdin())?,
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?
        }
        (None, None) => return Err(CliError::usage("what shall be changed?").help("say it by -p or --patch-file")),
    };
    let patch = read(&text, args.dialect)?;
    let part = args.subresource.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
    for found in args.objects.find(&args.words, context).await? {
        let path = found.path() + &part + &args.write.query();
        let now = context.call(Request::patch(path, args.dialect.content_type(), &patch)).await?.json()?;
        let same = part.is_empty() && now["metadata"]["resourceVersion"] == found.object["metadata"]["resourceVersion"];
        args.write.told(&found, if same { "patched (no change)" } else { "patched" }, now)?;
    }
    Ok(())
}

/// A patch is written as JSON, or as YAML for the quotes' sake.
fn read(text: &str, dialect: PatchType) -> Result<Value, CliError> {
    let wrong = |why: String| CliError::new(Exit::InvalidInput, format!("the patch cannot be understood: {why}"));
    let patch: Value = match serde_json::from_str(text) {
        Ok(patch) => patch,
        Err(_) => serde_saphyr::from_str(text).map_err(|e| wrong(e.to_string()))?,
    };
    match (&patch, dialect) {
        (Value::Array(_), PatchType::Json) => Ok(patch),
        (_, PatchType::Json) => Err(wrong("with --type=json it is a list of operations".to_owned())
            .help("for example '[{\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 3}]'")),
        (Value::Object(_), _) => Ok(patch),
        (Value::Array(_), _) => Err(wrong("it is a list".to_owned()).help("a list of operations is --type=json")),
        _ => Err(wrong("it is not a mapping".to_owned()).help("for example '{\"spec\": {\"replicas\": 3}}'")),
    }
}
