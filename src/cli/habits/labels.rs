//! `appm label`: of objects, as kubectl has it; with `--view`, `-a` and `-d` those of the machine, as App Mesh has it.

use clap::Args;
use serde_json::Value;

use super::call;
use crate::{
    cli::{
        add::pair,
        context::Context,
        error::CliError,
        label::{self, LabelArgs},
        screen,
    },
    client::http::{Request, percent_encode, query_string},
};

/// Set and remove labels
#[derive(Args, Debug)]
pub(in crate::cli) struct LabelsArgs {
    #[command(flatten)]
    objects: LabelArgs,
    #[command(flatten)]
    machine: Option<MachineArgs>,
}

/// What is done with the labels of the machine.
#[derive(Args, Debug)]
#[command(next_help_heading = "App Mesh's options")]
#[group(id = "machine", multiple = false, conflicts_with_all = ["filename", "all", "overwrite", "list", "resource_version", "field_selector"])]
struct MachineArgs {
    /// Show the labels of the machine
    #[arg(long)]
    view: bool,
    /// Give the machine labels: -l NAME=VALUE, several times
    #[arg(short, long)]
    add: bool,
    /// Take labels from the machine: -l NAME, several times
    #[arg(short, long)]
    delete: bool,
}

pub(in crate::cli) async fn run(args: LabelsArgs, context: &Context) -> Result<(), CliError> {
    let Some(machine) = &args.machine else { return label::run(args.objects, context, label::LABELS).await };
    let named = args.objects.named();
    if named.is_empty() != machine.view {
        let error = CliError::usage("which labels?");
        return Err(error.help("appm label -a -l zone=west, appm label -d -l zone, appm label --view"));
    }
    if machine.add {
        for (name, value) in
            named.iter().map(|text| pair(text)).collect::<Result<Vec<_>, _>>().map_err(CliError::usage)?
        {
            let path = path_of(&name) + &query_string(&[("value", value)]);
            context.call(Request::put(path, &Value::Null)).await?;
        }
    }
    if machine.delete {
        for name in named {
            let name = name.split_once('=').map_or(name, |(name, _)| name);
            context.call(Request::delete(path_of(name), &Value::Null)).await?;
        }
    }
    let labels = call(Request::get("/appmesh/labels"), context).await?;
    for (name, value) in labels.as_object().into_iter().flatten() {
        screen::line(screen::harmless(&format!("{name}={}", value.as_str().unwrap_or_default())))?;
    }
    Ok(())
}

fn path_of(label: &str) -> String {
    format!("/appmesh/label/{}", percent_encode(label))
}
