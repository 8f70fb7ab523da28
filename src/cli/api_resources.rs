//! `appm api-resources`: what there is to get.

use clap::Args;
use serde_json::{Value, json};

use crate::api::kinds;

use super::{
    error::CliError,
    output::{self, Format, OutputArgs},
    screen::{self, Screen},
    table::Table,
};

/// List the resources
#[derive(Args, Debug)]
pub(super) struct ApiResourcesArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ApiResourcesArgs, screen: &Screen) -> Result<(), CliError> {
    let mut table = Table::new(["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS"]);
    let mut all = Vec::new();
    for served in kinds::served() {
        let namespaced = served.kind.is_namespaced();
        table.add([
            served.plural().to_owned(),
            served.short_names().join(","),
            served.api_version(),
            namespaced.to_string(),
            served.name().to_owned(),
            served.verbs().words().join(","),
        ]);
        all.push(json!({
            "name": served.plural(), "singularName": served.singular(), "shortNames": served.short_names(),
            "apiVersion": served.api_version(), "namespaced": namespaced, "kind": served.name(),
            "verbs": served.verbs().words(),
        }));
    }
    match &args.output.output {
        Format::Json | Format::Yaml => output::value(&args.output.output, &Value::Array(all)),
        Format::Name => Ok(screen::print(kinds::served().map(|s| format!("{}\n", s.plural())).collect::<String>())?),
        _ => Ok(screen::print(table.render(screen, true))?),
    }
}
