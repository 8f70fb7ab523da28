//! `appm import`: what other programs are told to run, as manifests. What cannot be carried over is said, and nowhere silently left out.

mod appmesh;
mod deliver;
mod node;

use std::{
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

/// Write manifests for what other programs are told to do
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm import systemd nginx.service backup.timer > web.yaml
  appm import supervisor /etc/supervisor/supervisord.conf -o manifests/
  appm import compose compose.yaml --profile dev --apply
  appm import procfile Procfile --strict && echo nothing is lost

The manifests go to stdout; a line that begins with `#!` above one says what was approximated or dropped, and why. A table of that goes to stderr.
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
  docker compose config | appm import compose -

Variables (${NAME}) come from `.env` beside the file or from --env-file, never from your own environment.")]
struct ComposeArgs {
    /// The Compose file; `-` is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
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
            args.delivery.hand_over(made(crontab::read(&file, args.system, &files))?, global)
        }
        What::Systemd(args) => {
            let usual = || systemd::USUAL.iter().map(PathBuf::from).collect();
            let search = if args.search.is_empty() { usual() } else { args.search.clone() };
            args.delivery.hand_over(made(systemd::read(&args.units, &search, &Files::of_disk()))?, global)
        }
        What::Supervisor(args) => {
            let (file, files) = named(&args.file)?;
            args.delivery.hand_over(made(supervisor::read(&file, &files))?, global)
        }
        What::Pm2(args) => {
            let (file, mut files) = named(&args.file)?;
            if file.extension().is_some_and(|e| e == "js" || e == "cjs" || e == "mjs") {
                files.give(&file, node::exported(&file)?);
            }
            let asked = pm2::Asked { environment: args.env.clone(), dir: whole(beside(&file))? };
            args.delivery.hand_over(made(pm2::read(&file, &asked, &files))?, global)
        }
        What::Compose(args) => {
            let (file, files) = named(&args.file)?;
            let (profiles, env_files) = (args.profile.clone(), args.env_file.clone());
            let asked = compose::Asked { profiles, env_files, dir: whole(beside(&file))? };
            args.delivery.hand_over(made(compose::read(&file, &asked, &files))?, global)
        }
        What::Appmesh(args) => {
            let (path, files) = named(&args.path)?;
            args.delivery.hand_over(made(app_mesh::read(&path, appmesh::WORDS, &files))?, global)
        }
        What::Kubernetes(args) => {
            let (_, files) = args
                .files
                .iter()
                .find(|file| file.as_os_str() == "-")
                .map_or_else(|| named(Path::new("")), |file| named(file))?;
            args.delivery.hand_over(made(kubernetes::read(&args.files, &files))?, global)
        }
        What::Procfile(args) => {
            let (file, files) = named(&args.file)?;
            let dir = args.workdir.as_deref().unwrap_or_else(|| beside(&file));
            let asked = procfile::Asked { dir: whole(dir)?, env_files: args.env_file.clone() };
            args.delivery.hand_over(made(procfile::read(&file, &asked, &files))?, global)
        }
    }
}

type Made = crate::exchange::report::Report<Value>;

fn made(outcome: Outcome<Value>) -> Result<Made, CliError> {
    outcome.map_err(|refusals| fates::refused(refusals, "this cannot be imported"))
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
