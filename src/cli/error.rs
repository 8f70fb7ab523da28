//! What a command ends with: an exit code that scripts may rely on, and one `error:` with its `help:`.

use std::{error::Error, fmt::Write as _, io, process::ExitCode};

use crate::{
    api::{Cause, Reason, Status},
    client::http::RequestError,
};

use super::screen::{self, Screen};
pub(super) use crate::policy::meant::did_you_mean;

/// The exit codes, documented by `appm exit-codes` and in docs/cli.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Ok,
    Failed,
    Usage,
    NotFound,
    InvalidInput,
    NoServer,
    NotAllowed,
    Conflict,
    Timeout,
    Interrupted,
    /// There is something to do: `appm plan --detailed-exitcode`.
    Changes,
    /// What the command of `appm run` ended with.
    Command(u8),
}

/// Code, and what it means: one line each.
pub(super) const EXIT_CODES: &[(Exit, &str)] = &[
    (Exit::Ok, "done"),
    (Exit::Failed, "failed, for another reason than those below"),
    (Exit::Usage, "the command line cannot be understood"),
    (Exit::NotFound, "an object that was named does not exist"),
    (Exit::InvalidInput, "a manifest or a value is not valid; nothing was changed"),
    (Exit::NoServer, "no server answers"),
    (Exit::NotAllowed, "the server does not allow it"),
    (Exit::Conflict, "somebody else owns a field, or changed or made the object meanwhile"),
    (Exit::Timeout, "the time of --timeout ran out"),
    (Exit::Interrupted, "interrupted by ctrl-C"),
];

impl Exit {
    pub(super) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage | Exit::Changes => 2,
            Exit::NotFound => 3,
            Exit::InvalidInput => 4,
            Exit::NoServer => 5,
            Exit::NotAllowed => 6,
            Exit::Conflict => 7,
            Exit::Timeout => 124,
            Exit::Interrupted => 130,
            Exit::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CliError {
    pub(super) exit: Exit,
    /// Empty: everything is said already.
    pub(super) message: String,
    /// Printed below the message as they are.
    pub(super) details: Vec<String>,
    /// What to do about it.
    pub(super) help: Option<String>,
}

impl CliError {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), help: None }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Ends the command with a code and without a word.
    pub(super) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// A file or another thing of the operating system that could not be used.
    pub(super) fn io(attempt: &str, error: &io::Error) -> Self {
        Self::failed(format!("{attempt}: {error}"))
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// As it is printed, with a line end unless there is nothing to say.
    pub(super) fn render(&self, screen: &Screen) -> String {
        let mut text = String::new();
        if !self.message.is_empty() {
            let _ = writeln!(text, "{} {}", screen.paint(screen::BAD, "error:"), self.message);
        }
        for detail in &self.details {
            let _ = writeln!(text, "{detail}");
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "{} {help}", screen.paint(screen::GOOD, "help:"));
        }
        text
    }
}

impl From<RequestError> for CliError {
    fn from(error: RequestError) -> Self {
        match &error {
            RequestError::Refused(status) => status.clone().into(),
            RequestError::Unreachable { endpoint, source } => {
                let message = match source.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        format!("no appm server answers at {endpoint}")
                    }
                    _ => format!("no appm server answers at {endpoint}: {source}"),
                };
                Self::new(Exit::NoServer, message).help("start one with `appm up` or `appm server`")
            }
            RequestError::Broken(source) => {
                let mut root: &dyn Error = &**source;
                while let Some(deeper) = root.source() {
                    root = deeper;
                }
                Self::failed(format!("{error}: {root}"))
            }
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        let exit = match status.reason {
            Reason::NotFound => Exit::NotFound,
            Reason::BadRequest | Reason::Invalid | Reason::RequestEntityTooLarge => Exit::InvalidInput,
            Reason::Unauthorized | Reason::Forbidden => Exit::NotAllowed,
            Reason::AlreadyExists | Reason::Conflict => Exit::Conflict,
            Reason::ServiceUnavailable => Exit::NoServer,
            Reason::Timeout => Exit::Timeout,
            _ => Exit::Failed,
        };
        // The causes say the same, one by one and with their fields.
        let several = status.details.causes.len() > 1;
        let cut = [" is invalid: ", "strict decoding error: "].into_iter().find_map(|sign| {
            let (before, _) = status.message.split_once(sign).filter(|_| several)?;
            Some(format!("{before}{}", sign.trim_end_matches(": ")))
        });
        let mut error = Self::new(exit, cut.unwrap_or_else(|| status.message.clone()));
        let said = |cause: &&Cause| several || !status.message.contains(&cause.message);
        error.details = status.details.causes.iter().filter(said).map(cause_line).collect();
        match status.reason {
            Reason::Unauthorized => error.help(
                "`appm auth login` logs in; or use the socket of --data-dir, or a --kubeconfig with a valid token",
            ),
            Reason::TooManyRequests => error.help("the server is busy; try again in a moment"),
            _ => error,
        }
    }
}

/// `  spec.replicas: Invalid value: …`
fn cause_line(cause: &Cause) -> String {
    let field = if cause.field.is_empty() { String::new() } else { format!("{}: ", cause.field) };
    screen::harmless(&format!("  {field}{}", cause.message))
}

impl From<io::Error> for CliError {
    /// Output that nobody reads any more (`appm get … | head`) is no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Ok),
            _ => Self::failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::Endpoint;

    #[test]
    fn an_absent_server_is_said_with_what_to_do() {
        let error = CliError::from(RequestError::Unreachable {
            endpoint: Endpoint::Unix("/d/appm.sock".into()),
            source: io::ErrorKind::NotFound.into(),
        });
        assert_eq!(error.exit.code(), 5);
        insta::assert_snapshot!(error.render(&Screen::plain()), @r"
        error: no appm server answers at /d/appm.sock
        help: start one with `appm up` or `appm server`
        ");
    }

    #[test]
    fn every_exit_code_is_documented_once() {
        let mut codes: Vec<u8> = EXIT_CODES.iter().map(|(exit, _)| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 124, 130]);
    }
}
