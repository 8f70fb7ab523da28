//! `appm run`: runs a command, or an App's, once, here and now: its output as it comes, its exit code at the end.
//!
//! A Run is made by one request; three more follow its standard output, its standard error and its status. Each goes on where it was
//! when the server was away for a while, so `appm run` outlives a restart of the server as the command itself does.

mod exec;
mod manifest;
mod stdin;
mod typed;

use std::{io::Write, time::Duration};

use clap::Args;
use futures::{StreamExt, TryStreamExt, future::try_join};
use serde_json::{Value, json};

use crate::{
    api::{
        App, CANCELED, COMPLETE, Condition, GoDuration, Kind, RUN_DEADLINE, RUN_FAILED, Run, RunExit, RunStatus,
        signal_number,
    },
    client::http::{Request, path_of},
};

pub(super) use exec::{ExecArgs, ShellArgs, exec, shell};

use super::{
    command::OnceArgs,
    context::{Context, Selection, Where, name_of, served},
    error::{CliError, Exit},
    follow,
    logs::LogOptions,
    output::{self, Format, OutputArgs, without_managed_fields},
    screen, steady,
};

/// How long a Run is waited for that ctrl-C has cancelled, once its process was told.
const LAST_PATIENCE: Duration = Duration::from_secs(300);

/// Run a command once, or an App's: its output, and its exit code
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  appm run -c 'make test'                 a command, split as a shell would; by sh if it needs one
  appm run -c 'echo $1' -- hello          with arguments
  appm run backup                         what the App backup runs, once more beside it
  appm run backup -e TARGET=s3 -- --full  with other arguments and variables
  appm run --image alpine -- uname -a     in a container; -c 'COMMAND' in place of the image's
  tar c . | appm run -i -c 'tar x -C /srv'
  appm run -i --image postgres -- psql -h db < dump.sql
  appm run -d -c ./long-job --name job    do not wait; appm logs -f run/job, appm cancel job
  appm run -c 'wc -w' -m 'some words'     with a text on stdin

The exit code is the command's; 128 and the signal's number if a signal ended it; 124 if --timeout did. Ctrl-C cancels.")]
pub(super) struct RunArgs {
    /// The App
    #[arg(value_name = "APP", add = super::complete::apps(), conflicts_with_all = ["command", "image"])]
    app: Option<String>,
    #[command(flatten)]
    what: OnceArgs,
    /// Give it what comes in on stdin, as it comes; with --detach or --retries beforehand, up to 256 KiB of text (not in a container)
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The App, as App Mesh has it; with -c the Run's name
    #[arg(short = 'a', long = "app", value_name = "NAME", add = super::complete::apps(), conflicts_with = "app")]
    named: Option<String>,
    /// A text, or @FILE, for its standard input
    #[arg(short, long, value_name = "TEXT", conflicts_with = "stdin")]
    metadata: Option<String>,
    /// Stop it after so many seconds
    #[arg(short = 'T', long, value_name = "SECONDS", conflicts_with = "timeout", value_parser = clap::value_parser!(u64).range(1..))]
    lifetime: Option<u64>,
    /// Not possible; understood so that it can be said
    #[arg(short = 't', long, hide = true)]
    tty: bool,
    /// Do not wait for its end
    #[arg(short, long, conflicts_with = "rm")]
    detach: bool,
    /// Delete the Run, and what is kept of its output, when it has ended
    #[arg(long)]
    rm: bool,
    /// The Run's name [default: one that is made up]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long the Run and its output are kept after its end [default: 24h]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<GoDuration>,
    /// A label; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::add::pair)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    output: OutputArgs,
}

impl RunArgs {
    /// What App Mesh's words mean here.
    fn meant(mut self) -> Self {
        if let Some(named) = self.named.take() {
            let place = if self.what.is_empty() { &mut self.app } else { &mut self.name };
            place.get_or_insert(named);
        }
        let lifetime = self.lifetime.take().map(|seconds| GoDuration(Duration::from_secs(seconds)));
        self.what.timeout = lifetime.or(self.what.timeout);
        self
    }

    /// True if it is sent what it reads while it runs.
    fn feeds(&self) -> bool {
        self.stdin && !self.detach && self.what.retries.unwrap_or(0) == 0
    }
}

/// Cancel Runs: what runs is stopped, and what it printed stays
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm cancel backup-x7k2p
  appm cancel run/backup-x7k2p run/other")]
pub(super) struct CancelArgs {
    /// Names of Runs: `job`, `run/job`
    #[arg(value_name = "RUN", required = true, add = super::complete::runs())]
    words: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn cancel(args: CancelArgs, context: &Context) -> Result<(), CliError> {
    for word in &args.words {
        let name = match word.split_once('/') {
            None => word.as_str(),
            Some((kind, name)) if *super::resources::resource(kind)?.kind == *Run::INFO => name,
            Some((kind, _)) => return Err(CliError::usage(format!("a {kind} cannot be cancelled"))),
        };
        let run = ask_to_cancel(context, name).await?;
        match &args.output.output {
            Format::Table | Format::Wide if status_of(&run).is_over() => {
                screen::line(format_args!("{} is over already", output::name_line(&run)))?;
            }
            Format::Table | Format::Wide => screen::line(format_args!("{} cancelled", output::name_line(&run)))?,
            format => output::objects(format, vec![without_managed_fields(run)], false)?,
        }
    }
    Ok(())
}

async fn ask_to_cancel(context: &Context, name: &str) -> Result<Value, CliError> {
    context.patch(served::<Run>(), context.namespace(), name, "", &json!({"spec": {"cancel": true}})).await
}

pub(super) async fn run(args: RunArgs, context: &Context) -> Result<(), CliError> {
    let args = args.meant();
    let manifest = manifest::of(&args)?;
    let path = path_of(Run::INFO, Some(context.namespace()), None) + "?fieldManager=appm-cli";
    let made = match context.call(Request::post(path, &manifest)).await {
        Ok(made) => made.json()?,
        Err(error) => return Err(perhaps_no_app(error, args.app.as_deref(), context).await),
    };
    let name = name_of(&made);
    if args.detach {
        return match &args.output.output {
            Format::Table | Format::Wide => Ok(screen::line(format_args!("{} created", output::name_line(&made)))?),
            format => output::objects(format, vec![without_managed_fields(made)], false),
        };
    }
    let (over, interrupted) = attend(context, &made, args.output.output.is_table(), args.feeds()).await?;
    if !args.output.output.is_table() {
        output::objects(&args.output.output, vec![without_managed_fields(over.clone())], false)?;
    }
    if args.rm {
        let path = path_of(Run::INFO, Some(context.namespace()), Some(&name));
        context.call(Request::delete(path, &json!({"propagationPolicy": "Background"}))).await?;
    }
    judge(&name, &status_of(&over), interrupted)
}

/// Of an App that is not there: which one may be meant, or that a command is run in another way.
async fn perhaps_no_app(error: CliError, app: Option<&str>, context: &Context) -> CliError {
    let Some(app) = app.filter(|_| error.exit == Exit::InvalidInput) else { return error };
    let app = app.strip_prefix("app/").unwrap_or(app);
    match context.get(served::<App>(), context.namespace(), app).await {
        Err(absent) if absent.exit == Exit::NotFound => {
            let near = absent.help.as_ref().map(|near| format!("{near} ")).unwrap_or_default();
            let help = format!(
                "{near}a command is run by `appm run -c '{app}'`, or here and without a trace by `appm exec {app}`"
            );
            CliError::new(error.exit, absent.message).help(help)
        }
        _ => error,
    }
}

fn status_of(run: &Value) -> RunStatus {
    serde_json::from_value(run["status"].clone()).unwrap_or_default()
}

/// Shows what it prints until it is over, and then how it is; and whether ctrl-C ended it.
async fn attend(context: &Context, made: &Value, shown: bool, feeds: bool) -> Result<(Value, bool), CliError> {
    let name = name_of(made);
    let streams = async {
        match shown {
            true => {
                try_join(copy(context, &name, Stream::Stdout), copy(context, &name, Stream::Stderr)).await.map(drop)
            }
            false => Ok(()),
        }
    };
    let done = async {
        let (over, streamed) = futures::join!(until_over(context, made), streams);
        streamed.and(over)
    };
    let mut feeding = feeds;
    let fed = async { if feeds { stdin::send(context, &name).await } else { Ok(()) } };
    futures::pin_mut!(done, fed);
    let mut interrupted = false;
    loop {
        let result = tokio::select! {
            result = &mut done => result,
            fed = &mut fed, if feeding => {
                feeding = false;
                if let Err(error) = fed {
                    // What reads only a part is not to take it for the whole. If nobody can be told, it was hung up.
                    screen::remark(format_args!("its input broke off: {}", error.message));
                    let _ = ask_to_cancel(context, &name).await;
                }
                continue;
            }
            _ = tokio::signal::ctrl_c(), if !interrupted => {
                interrupted = true;
                ask_to_cancel(context, &name).await?;
                continue;
            }
            _ = tokio::signal::ctrl_c(), if interrupted => return Err(CliError::silent(Exit::Interrupted)),
            () = tokio::time::sleep(LAST_PATIENCE), if interrupted => return Err(CliError::silent(Exit::Interrupted)),
        };
        if result.is_err() {
            // Nobody listens any more: as with `command | head`, it ends.
            let _ = ask_to_cancel(context, &name).await;
        }
        return result.map(|over| (over, interrupted));
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// One of its streams to ours, untouched.
async fn copy(context: &Context, name: &str, stream: Stream) -> Result<(), CliError> {
    let word = if matches!(stream, Stream::Stdout) { "stdout" } else { "stderr" };
    let options = LogOptions::of_stream(word);
    let mut pieces = steady::follow(context, Run::INFO, context.namespace(), name, &options).await?;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        match stream {
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&piece)?;
                out.flush()?;
            }
            Stream::Stderr => std::io::stderr().lock().write_all(&piece)?,
        }
    }
    Ok(())
}

/// The Run as it is when it is over.
async fn until_over(context: &Context, made: &Value) -> Result<Value, CliError> {
    let name = name_of(made);
    let place = Where::Namespace(context.namespace());
    let only = Selection::by_fields(format!("metadata.name={name}"));
    let start = follow::Start::of(made);
    let changes = follow::changes(context, served::<Run>(), place, only, start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, run)) = changes.try_next().await? {
        if change == "DELETED" {
            return Err(CliError::new(Exit::NotFound, format!("{} was deleted meanwhile", output::name_line(made))));
        }
        if status_of(&run).is_over() {
            return Ok(run);
        }
    }
    Err(CliError::failed("the server ended the watch"))
}

/// The exit code of the command, and a word where it says nothing by itself.
fn judge(name: &str, status: &RunStatus, interrupted: bool) -> Result<(), CliError> {
    let exit = status.exit.clone().unwrap_or_default();
    if Condition::holds(&status.conditions, COMPLETE) {
        return Ok(());
    }
    let failed = Condition::find(&status.conditions, RUN_FAILED);
    let (reason, message) = failed.map(|c| (c.reason.as_str(), c.message.as_str())).unwrap_or_default();
    match (reason, &exit) {
        (CANCELED, _) if interrupted => Err(CliError::silent(Exit::Interrupted)),
        (RUN_DEADLINE, _) => Err(CliError::new(Exit::Timeout, format!("run/{name}: {message}"))),
        (CANCELED, exit) => Err(CliError::new(of_command(exit), format!("run/{name} was cancelled"))),
        (_, RunExit { lost: true, .. }) => Err(CliError::failed(format!("run/{name}: {message}"))),
        // It could not be started, or ran out of memory, of which it could not speak itself.
        (_, RunExit { message, .. }) if !message.is_empty() => Err(CliError::new(of_command(&exit), message.clone())),
        (_, RunExit { oom_killed: true, .. }) => {
            Err(CliError::new(of_command(&exit), format!("run/{name} ran out of memory")))
        }
        _ => Err(CliError::silent(of_command(&exit))),
    }
}

/// As a shell says it.
fn of_command(exit: &RunExit) -> Exit {
    let code = match exit {
        RunExit { code: Some(code), .. } => *code,
        RunExit { signal: Some(signal), .. } => 128 + signal_number(signal).unwrap_or(0),
        _ => 1,
    };
    Exit::Command(u8::try_from(code).unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: Value, interrupted: bool) -> u8 {
        let status = serde_json::from_value(status).expect("a status");
        judge("job", &status, interrupted).map_or_else(|error| error.exit.code(), |()| 0)
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        let failed = |reason: &str, exit: Value| {
            let time = "2026-11-21T08:00:00Z";
            json!({"exit": exit, "conditions": [
                {"type": "Failed", "status": "True", "reason": reason, "message": "m", "lastTransitionTime": time},
            ]})
        };
        for (status, interrupted, expected) in [
            (failed("BackoffLimitExceeded", json!({"code": 7})), false, 7),
            (failed("BackoffLimitExceeded", json!({"signal": "SIGKILL"})), false, 137),
            (failed("BackoffLimitExceeded", json!({"code": 127, "message": "no such program"})), false, 127),
            (failed("Lost", json!({"lost": true})), false, 1),
            (failed("DeadlineExceeded", json!({"signal": "SIGTERM"})), false, 124),
            (failed("Canceled", json!({"signal": "SIGTERM"})), true, 130),
            (failed("Canceled", json!({"signal": "SIGTERM"})), false, 143),
            (failed("Canceled", json!({"code": 0})), false, 1),
        ] {
            assert_eq!(code(status.clone(), interrupted), expected, "{status}");
        }
    }
}
