//! `appm export systemd`, `quadlet`, `compose`, `kubernetes`, `procfile`: what is declared, as another program takes it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use serde_json::Value;

use super::super::{
    context::{Context, Selection, Where},
    error::{CliError, Exit},
    fates, manifests, screen,
    screen::Screen,
};
use crate::{
    api::{App, ConfigMap, Kind, Namespace, Schedule, Secret, Served},
    exchange::{
        export::{self, File},
        report::{Part, Report},
    },
};

/// Manifests to files.
type Writer = fn(&[Value]) -> Report<File>;

/// Words for where one may go.
pub(super) const FORMS: [&str; 5] = ["systemd", "quadlet", "compose", "kubernetes", "procfile"];

/// Where one may go.
#[derive(Subcommand, Debug)]
pub(super) enum Elsewhere {
    /// Units of systemd, for Apps and Schedules that run processes
    #[command(after_help = "\
Examples:
  appm export systemd -l tier=web --dir units/
  appm export systemd -f web.yaml            of manifests, without a server")]
    Systemd(ElsewhereArgs),
    /// Quadlets, for Podman's generator (4.4 and later): Apps with containers
    #[command(after_help = "Example:\n  appm export quadlet --dir ~/.config/containers/systemd")]
    Quadlet(ElsewhereArgs),
    /// A compose.yaml: Apps with containers
    #[command(after_help = "Example:\n  appm export compose -n shop > compose.yaml")]
    Compose(ElsewhereArgs),
    /// Deployments with their Services, CronJobs, Jobs, ConfigMaps: what runs containers
    #[command(visible_alias = "k8s", after_help = "Example:\n  appm export kubernetes -n shop | kubectl apply -f -")]
    Kubernetes(ElsewhereArgs),
    /// A Procfile, with what all have in common in .env: Apps that run processes
    #[command(after_help = "Example:\n  appm export procfile --dir .")]
    Procfile(ElsewhereArgs),
}

/// What is written, and where to.
#[derive(Args, Debug)]
pub(super) struct ElsewhereArgs {
    #[command(flatten)]
    selection: Selection,
    /// Of manifests, in place of what the server has; may be given several times
    #[arg(short, long = "filename", value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with_all = ["selector", "field_selector"])]
    filename: Vec<PathBuf>,
    /// Files in this directory, in place of the standard output
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    /// Secrets too, with their values in clear (kubernetes)
    #[arg(long)]
    secrets: bool,
    /// Do nothing, and end with 1, if anything is approximated or dropped
    #[arg(long)]
    strict: bool,
    /// Tell of what is carried over, too
    #[arg(short, long)]
    verbose: bool,
}

/// Writes it.
pub(super) async fn run(elsewhere: &Elsewhere, context: &Context) -> Result<(), CliError> {
    let (args, write): (_, Writer) = match elsewhere {
        Elsewhere::Systemd(args) => (args, export::systemd::write),
        Elsewhere::Quadlet(args) => (args, export::quadlet::write),
        Elsewhere::Compose(args) => (args, export::compose::write),
        Elsewhere::Kubernetes(args) => (args, export::kubernetes::write),
        Elsewhere::Procfile(args) => (args, export::procfile::write),
    };
    let with_data = matches!(elsewhere, Elsewhere::Kubernetes(_));
    let objects = objects(args, with_data, context).await?;
    if objects.is_empty() {
        return Err(CliError::new(Exit::NotFound, "there is nothing to export"));
    }
    let report = write(&objects);
    fates::tell(&report, "file", args.verbose, &Screen::of_stderr(context.global.color));
    fates::strictly(&report, args.strict)?;
    if report.parts.iter().all(|part| part.made.text.is_empty()) {
        return Err(CliError::failed("nothing of it can be written there"));
    }
    let text = |part: &Part<File>| fates::comments(&part.notes) + &part.made.text;
    match &args.dir {
        Some(dir) => fates::save(dir, report.parts.iter().map(|part| (part.made.name.clone(), text(part)))),
        None => {
            let several = report.parts.len() > 1;
            for (at, part) in report.parts.iter().enumerate() {
                // Manifests follow one another, other files are told apart.
                let head = match (with_data, several) {
                    (true, _) if at > 0 => "---\n".to_owned(),
                    (false, true) => format!("# {}\n", part.made.name),
                    _ => String::new(),
                };
                screen::print(head + &text(part))?;
            }
            Ok(())
        }
    }
}

/// What is declared, in the order in which it is written.
async fn objects(args: &ElsewhereArgs, with_data: bool, context: &Context) -> Result<Vec<Value>, CliError> {
    if !args.filename.is_empty() {
        let manifests = manifests::read(&args.filename, false, context.global.namespace.as_deref())?;
        let manifests = manifests.sound(context, "nothing was exported")?;
        return Ok(manifests.objects.into_iter().map(|object| super::as_written(object.value)).collect());
    }
    let mut kinds = vec![App::INFO, Schedule::INFO];
    if with_data {
        kinds.splice(0..0, [Namespace::INFO, ConfigMap::INFO]);
    }
    if with_data && args.secrets {
        kinds.insert(2, Secret::INFO);
    }
    let mut all = Vec::new();
    for kind in kinds {
        let place = if kind.is_namespaced() { Where::Namespace(context.namespace()) } else { Where::Everywhere };
        let found = context.list(Served { kind, view: None }, place, &args.selection).await?.1;
        let made_by_another =
            |object: &Value| object["metadata"]["ownerReferences"].as_array().is_some_and(|all| !all.is_empty());
        let found = found.into_iter().filter(|object| !made_by_another(object));
        all.extend(found.filter_map(|object| super::declared(kind, object)));
    }
    // A Namespace of nobody's is everybody's.
    all.retain(|object| object["kind"] != "Namespace" || object["metadata"]["name"] == *context.namespace());
    Ok(all)
}
