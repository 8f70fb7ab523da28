//! `appm api-resources` and `appm api-versions`: what there is to get, as this binary knows it; no server is asked.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::api::{Served, kinds};

use super::{
    error::CliError,
    output::{self, Format, OutputArgs},
    screen::{self, Screen},
    table::Table,
};

/// What is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Name,
    Kind,
}

/// List the resources
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm api-resources
  appm api-resources --namespaced=false --verbs=list,watch -o name")]
pub(super) struct ApiResourcesArgs {
    /// Only those in namespaces, or only those that are not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Only those that know all of these verbs
    #[arg(long, value_name = "VERB", value_delimiter = ',')]
    verbs: Vec<String>,
    /// Only those of this group; empty for Kubernetes' core
    #[arg(long, value_name = "GROUP")]
    api_group: Option<String>,
    /// Order by name or kind
    #[arg(long, value_enum, value_name = "FIELD")]
    sort_by: Option<By>,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl ApiResourcesArgs {
    fn chosen(&self) -> Vec<Served> {
        let wanted = |s: &Served| {
            self.namespaced.is_none_or(|wanted| s.kind.is_namespaced() == wanted)
                && self.verbs.iter().all(|verb| s.verbs().words().contains(&verb.as_str()))
                && self.api_group.as_ref().is_none_or(|group| s.group() == group)
        };
        let mut all: Vec<Served> = kinds::served().filter(wanted).collect();
        match self.sort_by {
            Some(By::Name) => all.sort_by_key(Served::plural),
            Some(By::Kind) => all.sort_by_key(Served::name),
            None => {}
        }
        all
    }
}

pub(super) fn run(args: &ApiResourcesArgs, screen: &Screen) -> Result<(), CliError> {
    let chosen = args.chosen();
    let group = |s: &Served| if s.group().is_empty() { String::new() } else { format!(".{}", s.group()) };
    match &args.output.output {
        Format::Name => {
            Ok(screen::print(chosen.iter().map(|s| format!("{}{}\n", s.plural(), group(s))).collect::<String>())?)
        }
        Format::Table | Format::Wide => {
            Ok(screen::print(table(&chosen, args.output.output == Format::Wide).render(screen, !args.no_headers))?)
        }
        format => output::value(format, &chosen.iter().map(described).collect::<Value>()),
    }
}

fn table(chosen: &[Served], wide: bool) -> Table {
    let headings = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"];
    let shown = if wide { headings.len() } else { 5 };
    let mut table = Table::new(headings[..shown].iter().copied());
    for served in chosen {
        let row = [
            served.plural().to_owned(),
            served.short_names().join(","),
            served.api_version(),
            served.kind.is_namespaced().to_string(),
            served.name().to_owned(),
            served.verbs().words().join(","),
            categories(served).join(","),
        ];
        table.add(&row[..shown]);
    }
    table
}

fn categories(served: &Served) -> &'static [&'static str] {
    if served.view.is_none() { served.kind.categories } else { &[] }
}

fn described(served: &Served) -> Value {
    json!({
        "name": served.plural(), "singularName": served.singular(), "shortNames": served.short_names(),
        "apiVersion": served.api_version(), "namespaced": served.kind.is_namespaced(), "kind": served.name(),
        "verbs": served.verbs().words(), "categories": categories(served),
    })
}

/// `appm api-versions`
pub(super) fn versions() -> Result<(), CliError> {
    let all: BTreeSet<String> = kinds::served().map(|s| s.api_version()).collect();
    Ok(screen::print(all.into_iter().map(|version| version + "\n").collect::<String>())?)
}
