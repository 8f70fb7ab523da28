//! What App Mesh's people type. Where it means the same as a command of ours, it is that command; what only App Mesh has a word for is
//! asked by App Mesh's own calls, so that an application that became a Schedule or a Run here is found by its name too.

pub(super) mod application;
pub(super) mod labels;

use clap::{Args, Parser, Subcommand};
use futures::TryStreamExt;
use serde_json::Value;

use super::{
    Cli, Command,
    context::{Context, Selection, name_of, served},
    error::{CliError, Exit},
    output::{self, Format},
    screen,
};
use crate::{
    api::{App, Reason, Schedule, check_label},
    appmesh::APP_MESH_NAME,
    client::http::{Request, RequestError, percent_encode, query_string},
};

/// Commands that have another name here.
#[derive(Subcommand, Debug)]
pub(super) enum Phrase {
    /// `appm auth login`
    #[command(hide = true)]
    Logon {
        /// Who you are
        #[arg(short = 'U', long, value_name = "NAME")]
        user: Option<String>,
    },
    /// `appm auth logout`
    #[command(hide = true, alias = "logout")]
    Logoff,
    /// `appm whoami`
    #[command(hide = true)]
    Loginfo,
    /// `appm user passwd`
    #[command(hide = true)]
    Passwd {
        /// Whose password
        #[arg(short, long, value_name = "USER", add = super::complete::users())]
        target: Option<String>,
    },
    /// `appm user lock`, `appm user unlock`
    #[command(hide = true)]
    Lock {
        /// Whom
        #[arg(short, long, value_name = "USER", add = super::complete::users())]
        target: String,
        /// false: let them in again
        #[arg(short = 'k', long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
        lock: bool,
    },
    /// `appm user mfa enroll`, `appm user mfa disable`
    #[command(hide = true)]
    Mfa(MfaArgs),
    /// `appm server log-level`
    #[command(hide = true)]
    Log {
        /// error, warn, info, debug or trace
        #[arg(short = 'L', long, value_name = "LEVEL")]
        level: Option<String>,
    },
}

/// A second factor is wanted, or given up.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct MfaArgs {
    /// Enrol an authenticator app
    #[arg(short, long)]
    add: bool,
    /// Give it up
    #[arg(short, long)]
    delete: bool,
}

impl Phrase {
    /// The command that it is here.
    ///
    /// # Errors
    /// As for that command: a level that begins with a hyphen, say.
    pub(super) fn meant(self) -> Result<Command, clap::Error> {
        let words = std::iter::once("appm".to_owned()).chain(self.words());
        Ok(Cli::try_parse_from(words)?.command)
    }

    fn words(self) -> Vec<String> {
        let (command, last): (&[&str], Option<String>) = match self {
            Phrase::Logon { user: Some(user) } => (&["auth", "login", "--username"], Some(user)),
            Phrase::Logon { user: None } => (&["auth", "login"], None),
            Phrase::Logoff => (&["auth", "logout"], None),
            Phrase::Loginfo => (&["whoami"], None),
            Phrase::Passwd { target } => (&["user", "passwd"], target),
            Phrase::Lock { target, lock: true } => (&["user", "lock"], Some(target)),
            Phrase::Lock { target, lock: false } => (&["user", "unlock"], Some(target)),
            Phrase::Mfa(MfaArgs { add: true, .. }) => (&["user", "mfa", "enroll"], None),
            Phrase::Mfa(_) => (&["user", "mfa", "disable"], None),
            Phrase::Log { level } => (&["server", "log-level"], level),
        };
        command.iter().map(|word| (*word).to_owned()).chain(last).collect()
    }
}

/// Questions that App Mesh answers and nobody else.
#[derive(Subcommand, Debug)]
pub(super) enum Question {
    /// Show the settings of the server, as App Mesh names them
    Config,
    /// Show the machine: processors, memory, file systems, networks
    Resource,
    /// Print the server's figures for Prometheus
    Metric,
}

/// Asks, and shows the answer.
pub(super) async fn ask(question: Question, context: &Context) -> Result<(), CliError> {
    match question {
        Question::Config => shown(&call(Request::get("/appmesh/config"), context).await?),
        Question::Resource => shown(&call(Request::get("/appmesh/resources"), context).await?),
        Question::Metric => {
            let figures = context.call(Request::get("/appmesh/metrics").accept("*/*")).await?;
            Ok(screen::bytes(&figures.body)?)
        }
    }
}

fn shown(value: &Value) -> Result<(), CliError> {
    output::value(&Format::Json, value)
}

async fn call(request: Request, context: &Context) -> Result<Value, CliError> {
    Ok(context.call(request).await?.json()?)
}

/// What an application is called here that App Mesh's people call so: `My_App` is an App of another name.
pub(super) async fn own_name(application: &str, context: &Context) -> Result<String, CliError> {
    if check_label(application).is_ok() {
        return Ok(application.to_owned());
    }
    for served in [served::<App>(), served::<Schedule>()] {
        let there = context.list(served, context.place(false), &Selection::default()).await?.1;
        if let Some(named) = there.iter().find(|one| one["metadata"]["annotations"][APP_MESH_NAME] == application) {
            return Ok(name_of(named));
        }
    }
    Ok(application.to_owned())
}

fn path_of(application: &str) -> String {
    format!("/appmesh/app/{}", percent_encode(application))
}

/// Prints what an application has written so many starts ago.
pub(super) async fn output(application: &str, starts: usize, context: &Context) -> Result<(), CliError> {
    let told = |error| match error {
        // App Mesh says it with a code and no word.
        RequestError::Refused(status) if status.is(Reason::Unknown) => {
            let message = format!("nothing is kept of what `{application}` wrote {starts} starts ago");
            CliError::new(Exit::NotFound, message)
        }
        error => CliError::from(error),
    };
    let mut place = 0_u64;
    loop {
        let query = [("stdout_index", starts.to_string()), ("stdout_position", place.to_string())];
        let path = format!("{}/output{}", path_of(application), query_string(&query));
        let (headers, mut pieces) = context.client.pieces(Request::get(path).accept("*/*")).await.map_err(told)?;
        while let Some(piece) = pieces.try_next().await? {
            screen::bytes(&piece)?;
        }
        let next = headers.get("x-output-position").and_then(|next| next.to_str().ok()?.parse().ok()).unwrap_or(0);
        if next <= place {
            return Ok(());
        }
        place = next;
    }
}

/// Removes applications: Apps, Schedules, or Runs. One that is not there is no failure, as there.
pub(super) async fn remove(applications: &[String], context: &Context) -> Result<(), CliError> {
    for name in applications {
        match context.call(Request::delete(path_of(name), &Value::Null)).await {
            Ok(_) => screen::line(format_args!("application {name} removed"))?,
            Err(error) if error.exit == Exit::NotFound => {
                screen::remark(format_args!("there is no application {name}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Turns applications on or off.
pub(super) async fn turn(applications: &[String], on: bool, context: &Context) -> Result<(), CliError> {
    let word = if on { "enable" } else { "disable" };
    for name in applications {
        context.call(Request::post(format!("{}/{word}", path_of(name)), &Value::Null)).await?;
        screen::line(format_args!("application {name} {word}d"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        phrase: Phrase,
    }

    #[test]
    fn what_app_mesh_calls_otherwise_is_a_command_of_ours() {
        for (typed, meant) in [
            ("logon -U ada", "auth login --username ada"),
            ("logout", "auth logout"),
            ("loginfo", "whoami"),
            ("passwd", "user passwd"),
            ("passwd -t ada", "user passwd ada"),
            ("lock -t ada -k true", "user lock ada"),
            ("lock -t ada -k false", "user unlock ada"),
            ("mfa -a", "user mfa enroll"),
            ("mfa -d", "user mfa disable"),
            ("log -L debug", "server log-level debug"),
        ] {
            let read = || Line::try_parse_from(std::iter::once("appm").chain(typed.split(' '))).expect(typed).phrase;
            assert_eq!(read().words().join(" "), meant);
            assert!(read().meant().is_ok(), "{meant} is no command");
        }
        assert!(Line::try_parse_from(["appm", "mfa"]).is_err());
    }
}
