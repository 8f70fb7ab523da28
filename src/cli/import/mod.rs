//! `appm import`: what other programs are told to run, as manifests. What cannot be carried over is said, and nowhere silently left out.

mod appmesh;
mod deliver;
mod node;

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf, absolute},
};

use clap::{Args, Subcommand, ValueHint};
use serde_json::Value;

use self::deliver::Delivery;
use super::{error::CliError, fates, settings::Global};
use crate::exchange::{
    files::Files,
    import::{appmesh as app_mesh, compose, crontab, kubernetes, pm2, procfile, supervisor, systemd},
    report::Outcome,
};

/// Where an object was imported from: as long as that is the same, another import may change it.
pub(super) const ORIGIN: &str = "appm.dev/imported-from";

/// Write manifests for what other programs are told to do
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import systemd nginx.service backup.timer > web.yaml
  appm import supervisor /etc/supervisor/supervisord.conf -o manifests/
  appm import compose compose.yaml --profile dev --apply
  appm import procfile Procfile --strict && echo nothing is lost
  appm import procfile Procfile --apply --take-over       also over what came from elsewhere by the same names

The manifests go to stdout; a line that begins with `#!` above one says what was approximated or dropped, and why. A table of that goes to stderr.
--apply refuses to change what this file did not bring: objects that somebody else made, or another import.
docs/import.md has every setting of every program.")]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Crontab(CrontabArgs),
    Systemd(SystemdArgs),
    Supervisor(SupervisorArgs),
    Pm2(Pm2Args),
    Compose(ComposeArgs),
    Procfile(ProcfileArgs),
    #[command(visible_alias = "k8s")]
    Kubernetes(KubernetesArgs),
    #[command(visible_alias = "app-mesh")]
    Appmesh(AppmeshArgs),
}

/// A Schedule for each line of a crontab
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  crontab -l | appm import crontab - --apply
  appm import crontab /etc/crontab --system -o manifests/")]
struct CrontabArgs {
    /// The crontab; `-` is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The sixth field is a user, as in /etc/crontab and /etc/cron.d
    #[arg(long)]
    system: bool,
    #[command(flatten)]
    delivery: Delivery,
}

/// Services become Apps, timers Schedules; drop-ins and templates are understood
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import systemd redis.service              looked for where systemd looks
  appm import systemd worker@1.service worker@2.service
  appm import systemd ./units/ -o manifests/     every service and timer of a directory
  appm import systemd /etc/systemd/system/web.service --apply

A service that a timer starts becomes what the timer's Schedule runs.")]
struct SystemdArgs {
    /// Units by name, unit files, or directories of them
    #[arg(value_name = "UNIT|DIR", required = true, value_hint = ValueHint::AnyPath)]
    units: Vec<PathBuf>,
    /// Where names are looked for, in place of /etc/systemd/system and its like; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    search: Vec<PathBuf>,
    #[command(flatten)]
    delivery: Delivery,
}

/// Programs and groups of a supervisord.conf, with what it includes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import supervisor /etc/supervisor/supervisord.conf
  appm import supervisor conf.d/web.conf --apply")]
struct SupervisorArgs {
    /// The configuration; `-` is stdin
    #[arg(value_name = "CONF", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    delivery: Delivery,
}

/// Processes of a Procfile, with the variables of `.env` beside it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import procfile Procfile
  appm import procfile Procfile --env-file prod.env --apply")]
struct ProcfileArgs {
    /// The Procfile; `-` is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// A file of variables, in place of `.env` beside the Procfile; may be given several times
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,
    /// The directory in which the processes run [default: the Procfile's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    workdir: Option<PathBuf>,
    #[command(flatten)]
    delivery: Delivery,
}

/// Apps of an ecosystem file: .json, .yaml, or .config.js by way of node
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import pm2 ecosystem.config.js --env production --apply
  appm import pm2 process.json")]
struct Pm2Args {
    /// The ecosystem file; what ends in .js, .cjs or .mjs is run by node, which must be there; `-` is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// `env_NAME` of each app counts, too
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    #[command(flatten)]
    delivery: Delivery,
}

/// Services of a Compose file become Apps with containers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import compose compose.yaml
  appm import compose docker-compose.yml --profile dev --env-file prod.env --apply
  appm import compose compose.yaml compose.prod.yaml      as `docker compose -f … -f …`
  docker compose config | appm import compose -

Variables (${NAME}) come from `.env` beside the file or from --env-file, never from your own environment.")]
struct ComposeArgs {
    /// The Compose file; of several each goes over those before it; `-` is stdin
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// A profile that is on; `*` is every one; may be given several times
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// A file of variables, in place of `.env` beside the file; may be given several times
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    delivery: Delivery,
}

/// Deployments, StatefulSets, DaemonSets, Pods, Jobs, CronJobs, ConfigMaps, Secrets, and the ports of Services
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import kubernetes deployment.yaml service.yaml
  kubectl get deploy,svc,cm -o yaml | appm import kubernetes - -o manifests/
  helm template chart | appm import kubernetes - --strict")]
struct KubernetesArgs {
    /// Manifests; `-` is stdin
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    delivery: Delivery,
}

/// Applications, users, roles, labels and workflows of App Mesh
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import appmesh /opt/appmesh -o manifests/
  appm import appmesh apps/ping.yaml --apply

Passwords and sealed variables cannot be carried over: it says whose and which.")]
struct AppmeshArgs {
    /// A home (/opt/appmesh), or a file: an application, security.yaml, config.yaml, a workflow
    #[arg(value_name = "HOME|FILE", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    #[command(flatten)]
    delivery: Delivery,
}

pub(super) fn run(args: &ImportArgs, global: &Global) -> Result<(), CliError> {
    match &args.what {
        What::Crontab(args) => {
            let (file, files) = named(&args.file)?;
            let report = made(crontab::read(&file, args.system, &files))?;
            args.delivery.hand_over(report, &origin("crontab", &args.file)?, global)
        }
        What::Systemd(args) => {
            let usual = || systemd::USUAL.iter().map(PathBuf::from).collect();
            let search = if args.search.is_empty() { usual() } else { args.search.clone() };
            let report = made(systemd::read(&args.units, &search, &Files::of_disk()))?;
            args.delivery.hand_over(report, &of_units(&args.units)?, global)
        }
        What::Supervisor(args) => {
            let (file, files) = named(&args.file)?;
            let report = made(supervisor::read(&file, &files))?;
            args.delivery.hand_over(report, &origin("supervisor", &args.file)?, global)
        }
        What::Pm2(args) => {
            let (file, mut files) = named(&args.file)?;
            if file.extension().is_some_and(|e| e == "js" || e == "cjs" || e == "mjs") {
                files.give(&file, node::exported(&file)?);
            }
            let asked = pm2::Asked { environment: args.env.clone(), dir: whole(beside(&file))? };
            let report = made(pm2::read(&file, &asked, &files))?;
            args.delivery.hand_over(report, &origin("pm2", &args.file)?, global)
        }
        What::Compose(args) => {
            let mut paths = args.files.clone();
            let dir = whole(beside(&paths[0]))?;
            // Paths in all of them begin at the directory of the first.
            for path in paths.iter_mut().skip(1).filter(|path| path.as_os_str() != "-") {
                *path = whole(path)?;
            }
            let (_, files) = named(stdin_of(&args.files))?;
            let (profiles, env_files) = (args.profile.clone(), args.env_file.clone());
            let asked = compose::Asked { profiles, env_files, dir };
            let report = made(compose::read(&paths, &asked, &files))?;
            args.delivery.hand_over(report, &origin("compose", &args.files[0])?, global)
        }
        What::Appmesh(args) => {
            let (path, files) = named(&args.path)?;
            let report = made(app_mesh::read(&path, appmesh::WORDS, &files))?;
            args.delivery.hand_over(report, &origin("appmesh", &args.path)?, global)
        }
        What::Kubernetes(args) => {
            let (_, files) = named(stdin_of(&args.files))?;
            let report = made(kubernetes::read(&args.files, &files))?;
            // Objects of Kubernetes are who they are by kind and name, in whatever file of a directory.
            let from = if args.files[0].as_os_str() == "-" { &args.files[0] } else { beside(&args.files[0]) };
            args.delivery.hand_over(report, &origin("kubernetes", from)?, global)
        }
        What::Procfile(args) => {
            let (file, files) = named(&args.file)?;
            let dir = args.workdir.as_deref().unwrap_or_else(|| beside(&file));
            let asked = procfile::Asked { dir: whole(dir)?, env_files: args.env_file.clone() };
            let report = made(procfile::read(&file, &asked, &files))?;
            args.delivery.hand_over(report, &origin("procfile", &args.file)?, global)
        }
    }
}

/// Where an import comes from, for the next one: the program, and what it was read of.
fn origin(program: &str, path: &Path) -> Result<String, CliError> {
    let place = if path.as_os_str() == "-" { path.to_path_buf() } else { whole(path)? };
    Ok(format!("{program} {}", place.display()))
}

/// Where units come from: `systemd`, which has one of each name, or directories of files.
fn of_units(units: &[PathBuf]) -> Result<String, CliError> {
    let mut places = BTreeSet::new();
    for unit in units.iter().filter(|unit| unit.is_dir() || unit.components().count() > 1) {
        places.insert(whole(if unit.is_dir() { unit } else { beside(unit) })?.display().to_string());
    }
    Ok(["systemd".to_owned()].into_iter().chain(places).collect::<Vec<_>>().join(" "))
}

type Made = crate::exchange::report::Report<Value>;

fn made(outcome: Outcome<Value>) -> Result<Made, CliError> {
    outcome.map_err(|refusals| fates::refused(refusals, "this cannot be imported"))
}

/// `-` if it is among them.
fn stdin_of(paths: &[PathBuf]) -> &Path {
    if paths.iter().any(|path| path.as_os_str() == "-") { Path::new("-") } else { Path::new("") }
}

/// A file, and the files that may be looked at with it; `-` is stdin.
fn named(path: &Path) -> Result<(PathBuf, Files), CliError> {
    let mut files = Files::of_disk();
    if path.as_os_str() == "-" {
        let mut text = String::new();
        let read = std::io::stdin().take(8 << 20).read_to_string(&mut text);
        read.map_err(|e| CliError::io("cannot read stdin", &e))?;
        files.give("-", text);
    }
    Ok((path.to_path_buf(), files))
}

/// The directory of a file.
fn beside(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn whole(path: &Path) -> Result<PathBuf, CliError> {
    let path = absolute(path).map_err(|e| CliError::io("cannot make a path absolute", &e))?;
    // `./` of a path says nothing.
    Ok(path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect())
}
