//! The command line: one file per command, talking to the API like anyone else.
//!
//! A command is a struct of arguments and a `run` that returns `Ok` or a [`error::CliError`], which knows its exit code. Only
//! `server` and `up` build a daemon; everything else would work from another machine. Nothing may call into here but `main`.

mod add;
mod ages;
mod api_resources;
mod apply;
mod audit;
mod auth;
mod backup;
mod canvas;
mod change;
mod choice;
mod columns;
mod command;
mod complete;
mod completion;
mod configured;
mod context;
mod contexts;
mod create;
mod cron;
mod delete;
mod describe;
mod diagnostics;
mod diff;
mod doctor;
mod edit;
mod error;
mod events;
mod explain;
mod export;
mod fates;
mod file;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod get;
mod habits;
mod history;
mod import;
mod jsonpath;
mod kubeconfig;
mod label;
mod logging;
mod login;
mod logs;
mod ls;
mod manifests;
mod of_kind;
mod output;
mod past;
mod patch;
mod plan;
mod plugin;
mod processes;
mod prompt;
mod prune;
mod quotas;
mod resources;
mod restart;
mod restore;
mod retention;
mod role;
mod rollback;
mod rollout;
mod run;
mod scale;
mod schedule;
mod screen;
mod secrets;
mod server;
mod settings;
mod source;
mod steady;
mod stop;
mod suspend;
mod table;
mod task;
mod top;
mod undo;
mod up;
mod user;
mod version;
mod wait;
mod why;
mod workflow;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use context::Context;
use error::{CliError, EXIT_CODES, Exit};
use screen::{ColorChoice, Screen};
use settings::Global;

/// What a Kubernetes cluster is to containers, for one plain machine and its processes.
#[derive(Parser, Debug)]
#[command(
    name = "appm",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 120,
    after_help = "\
Begin with:
  appm up manifests/        start a server if none runs, apply, and watch
  appm add -a ping -c \"ping localhost\"
  appm get apps             appm ls             appm logs -f ping

`appm COMMAND --help` has examples. Exit codes: `appm exit-codes`."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Up(up::UpArgs),
    Apply(apply::ApplyArgs),
    Run(run::RunArgs),
    Exec(run::ExecArgs),
    Shell(run::ShellArgs),
    Cancel(run::CancelArgs),
    #[command(alias = "reg")]
    Add(add::AddArgs),
    Get(get::GetArgs),
    #[command(visible_alias = "list", alias = "view")]
    Ls(ls::LsArgs),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Events(events::EventsArgs),
    Why(why::WhyArgs),
    Top(top::TopArgs),
    Scale(scale::ScaleArgs),
    Restart(restart::RestartArgs),
    Rollout(rollout::RolloutArgs),
    History(history::HistoryArgs),
    Rollback(rollback::RollbackArgs),
    Undo(undo::UndoArgs),
    /// Stop Apps, and keep their definition
    #[command(visible_alias = "disable")]
    Stop(stop::SuspendArgs),
    /// Start Apps that were stopped
    #[command(visible_alias = "enable")]
    Start(stop::SuspendArgs),
    #[command(visible_alias = "rm", aliases = ["remove", "unreg"])]
    Delete(delete::DeleteArgs),
    Diff(diff::DiffArgs),
    Plan(plan::PlanArgs),
    Create(create::CreateArgs),
    Replace(create::ReplaceArgs),
    Edit(edit::EditArgs),
    Patch(patch::PatchArgs),
    /// Set and remove labels
    Label(habits::labels::LabelsArgs),
    /// Set and remove annotations
    Annotate(label::LabelArgs),
    Wait(wait::WaitArgs),
    Explain(explain::ExplainArgs),
    Cron(cron::CronArgs),
    Import(import::ImportArgs),
    #[command(visible_alias = "sched")]
    Schedule(schedule::ScheduleArgs),
    #[command(visible_alias = "src")]
    Source(source::SourceArgs),
    Task(task::TaskArgs),
    #[command(visible_alias = "wf")]
    Workflow(workflow::WorkflowArgs),
    ApiResources(api_resources::ApiResourcesArgs),
    /// List the groups and versions of the API
    ApiVersions,
    Auth(auth::AuthArgs),
    #[command(name = "whoami")]
    WhoAmI(auth::WhoAmIArgs),
    Context(contexts::ContextArgs),
    Doctor(doctor::DoctorArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Export(export::ExportArgs),
    Kubeconfig(kubeconfig::KubeconfigArgs),
    Secrets(secrets::SecretsArgs),
    Audit(audit::AuditArgs),
    User(user::UserArgs),
    Role(role::RoleArgs),
    Server(server::ServerArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
    /// List the exit codes
    #[command(after_help = exit_codes_text())]
    ExitCodes,
    File(file::FileArgs),
    #[command(flatten)]
    Question(habits::Question),
    #[command(flatten)]
    Phrase(habits::Phrase),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    if let Some(exit) = completion::answer() {
        return exit.into();
    }
    let cli = match parse() {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => return told(&error, &Screen::of_stderr(ColorChoice::Auto)),
        Err(error) => {
            // Help that was asked for is no failure; where it cannot be printed, nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let screen = Screen::of_stderr(cli.global.color);
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => told(&error, &screen),
    }
}

fn told(error: &CliError, screen: &Screen) -> ExitCode {
    let text = error.render(screen);
    if !text.is_empty() {
        screen::remark(text.trim_end());
    }
    error.exit.into()
}

/// The command line; where it starts a server, with what `appm.yaml` says in place of defaults.
fn parse() -> Result<Result<Cli, CliError>, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let cli = Cli::from_arg_matches(&matches)?;
    match configured::completed(Cli::command(), &matches, &cli.global.data_dir()) {
        Ok(None) => Ok(Ok(cli)),
        Ok(Some(command)) => Cli::from_arg_matches(&command.try_get_matches()?).map(Ok),
        Err(error) => Ok(Err(error)),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { mut global, command } = cli;
    match command {
        Command::Phrase(phrase) => match phrase.meant() {
            Ok(command) => run(Cli { global, command }),
            Err(error) => Err(CliError::usage(error.to_string())),
        },
        Command::Completion(args) => completion::run(&args),
        Command::Auth(args) if args.is_about_a_login() => args.log_in_or_out(&global),
        Command::Explain(args) => explain::run(&args, &Screen::of_stdout(global.color)),
        Command::Cron(args) => cron::run(args, &mut global),
        Command::Import(args) => import::run(&args, &global),
        Command::Schedule(mut args) => {
            args.take_number(&mut global);
            client_command(Command::Schedule(args), &global)
        }
        Command::Workflow(args) if args.is_offline() => workflow::run_here(&args, &global),
        Command::ApiResources(args) => api_resources::run(&args, &Screen::of_stdout(global.color)),
        Command::ApiVersions => api_resources::versions(),
        Command::Context(args) => contexts::run(args, &global),
        Command::Doctor(_) => client_command(command, &global.here()),
        Command::Restore(args) => restore::run(&args, &global),
        Command::Kubeconfig(args) => kubeconfig::run(&args, &global),
        Command::Server(args) => server::run(args, &global),
        Command::Up(args) => up::run(args, &global),
        Command::ExitCodes => Ok(screen::print(exit_codes_text())?),
        command => client_command(command, &global),
    }
}

/// Commands that talk to a server.
fn client_command(command: Command, global: &Global) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::io("cannot start", &e))?;
    runtime.block_on(async {
        let context = Context::new(global)?;
        match command {
            Command::Apply(args) => apply::run(args, &context).await,
            Command::Run(args) => run::run(args, &context).await,
            Command::Exec(args) => run::exec(args, &context).await,
            Command::Shell(args) => run::shell(args, &context).await,
            Command::File(args) => file::run(args, &context).await,
            Command::Question(question) => habits::ask(question, &context).await,
            Command::Cancel(args) => run::cancel(args, &context).await,
            Command::Add(args) => add::run(args, &context).await,
            Command::Get(args) => get::run(args, &context).await,
            Command::Ls(args) => ls::run(args, &context).await,
            Command::Describe(args) => describe::run(args, &context).await,
            Command::Logs(args) => logs::run(args, &context).await,
            Command::Events(args) => events::run(args, &context).await,
            Command::Why(args) => why::run(args, &context).await,
            Command::Top(args) => top::run(args, &context).await,
            Command::Scale(args) => scale::run(args, &context).await,
            Command::Restart(args) => restart::run(args, &context).await,
            Command::Rollout(args) => rollout::run(args, &context).await,
            Command::History(args) => history::run(args, &context).await,
            Command::Rollback(args) => rollback::run(args, &context).await,
            Command::Undo(args) => undo::run(args, &context).await,
            Command::Stop(args) => stop::run(args, &context, true).await,
            Command::Start(args) => stop::run(args, &context, false).await,
            Command::Delete(args) => delete::run(args, &context).await,
            Command::Diff(args) => diff::run(args, &context).await,
            Command::Plan(args) => plan::run(args, &context).await,
            Command::Create(args) => create::run(args, &context).await,
            Command::Replace(args) => create::replace(args, &context).await,
            Command::Edit(args) => edit::run(args, &context).await,
            Command::Patch(args) => patch::run(args, &context).await,
            Command::Label(args) => habits::labels::run(args, &context).await,
            Command::Annotate(args) => label::run(args, &context, label::ANNOTATIONS).await,
            Command::Wait(args) => wait::run(args, &context).await,
            Command::Schedule(args) => schedule::run(args, &context, &Screen::of_stdout(global.color)).await,
            Command::Source(args) => source::run(args, &context, &Screen::of_stdout(global.color)).await,
            Command::Task(args) => task::run(args, &context).await,
            Command::Workflow(args) => workflow::run(args, &context, &Screen::of_stdout(global.color)).await,
            Command::Auth(args) => auth::run(args, &context).await,
            Command::WhoAmI(args) => auth::who_am_i(&args, &context).await,
            Command::Audit(args) => audit::run(args, &context).await,
            Command::Secrets(args) => secrets::run(args, &context).await,
            Command::User(args) => user::run(args, &context).await,
            Command::Role(args) => role::run(args, &context).await,
            Command::Doctor(args) => doctor::run(args, &context).await,
            Command::Backup(args) => backup::run(args, &context).await,
            Command::Export(args) => export::run(args, &context).await,
            Command::Version(args) => version::run(args, &context).await,
            Command::Completion(_)
            | Command::Explain(_)
            | Command::Cron(_)
            | Command::Import(_)
            | Command::ApiResources(_)
            | Command::ApiVersions
            | Command::Context(_)
            | Command::Kubeconfig(_)
            | Command::Restore(_)
            | Command::Server(_)
            | Command::Up(_)
            | Command::Phrase(_)
            | Command::ExitCodes => unreachable!("commands that are no clients are done by `run`"),
        }
    })
}

/// One line for each exit code.
fn exit_codes_text() -> String {
    EXIT_CODES.iter().map(|(exit, meaning)| format!("{:>4}  {meaning}\n", exit.code())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn misspelt_commands_and_flags_are_answered_with_what_was_meant() {
        let answer = |words: &[&str]| Cli::try_parse_from(words).expect_err("misspelt").to_string();
        assert!(answer(&["appm", "aply"]).contains("'apply'"));
        assert!(answer(&["appm", "get", "apps", "--slector", "x"]).contains("'--selector'"));
    }

    #[test]
    fn flags_of_kubectl_users_are_understood() {
        for line in [
            "appm apply -f a.yaml -f b.yaml -R --server-side --force-conflicts --field-manager me --dry-run=server -o yaml",
            "appm get apps,instances -A -o wide -w -l a=b --field-selector metadata.name=x",
            "appm get app web -n prod -o json",
            "appm delete app web --wait=false --cascade=foreground --grace-period=5",
            "appm delete -f a.yaml --force",
            "appm wait app/web --for=condition=Ready --timeout 30s",
            "appm logs -f web --tail 5 --since 10m --timestamps -p",
            "appm ls -a web -o",
            "appm ls -a web -f",
            "appm view -j",
            "appm reg -a web -c ls -i 60 -z TOKEN=x",
            "appm unreg -a web -a db",
            "appm disable -a web",
            "appm enable -A",
            "appm label -a -l a=b -l c=d",
            "appm exec -e A=b ls -l",
            "appm shell -t 5",
            "appm file put -l a -r b -a",
            "appm logon -U ada",
            "appm log -L debug",
            "appm scale app/web --replicas=3",
            "appm stop web",
            "appm get apps --sort-by=.metadata.name -L tier --chunk-size=500 -o custom-columns=N:.metadata.name",
            "appm patch app web --type=json -p []",
            "appm label app web a=b c- --overwrite",
            "appm annotate apps --all a=b",
            "appm diff -R -f dir",
            "appm plan -R -f dir --prune --all --detailed-exitcode --out x.plan -o json",
            "appm apply -f dir --confirm --yes",
            "appm apply --plan x.plan",
            "appm edit app/web -o json",
            "appm create secret generic s --from-literal=a=b --dry-run=client -o yaml",
            "appm replace --force -f a.yaml",
            "appm apply -f dir --prune -l a=b --prune-allowlist=appm.dev/v1/App",
            "appm delete app web --now --no-wait",
            "appm auth can-i create apps",
            "appm rollout status app/web --watch=false --timeout 1m",
            "appm rollout history web --revision=2",
            "appm rollout undo app web --to-revision=2 --dry-run=server -o yaml",
            "appm rollout restart -l a=b",
            "appm get apps --context prod",
            "appm run web -e A=b -- --full",
            "appm run -d -c ls -o json",
            "appm cancel run/a",
            "appm task send web @file --timeout 10s --json",
            "appm task send web -x --async --idempotent",
            "appm task ls web -o json",
            "appm task cancel web a-1 a-2",
            "appm context add a --server https://h:1 --ca-fingerprint sha256:00 --token-file - --current",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
