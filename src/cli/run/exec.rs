//! `appm exec` and `appm shell`: commands in this directory, each a Run that is forgotten when it is over.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    super::{
        add::variable,
        command::OnceArgs,
        context::Context,
        error::{CliError, Exit},
        screen,
    },
    RunArgs,
    typed::Lines,
};
use crate::{api::GoDuration, client::http::Endpoint};

/// Run a command in this directory, and forget it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm exec make -j2 test
  appm exec 'df -h | head -3'      one word: for a shell, if it needs one
  appm exec -e CI=1 -t 60 ./check

It is a Run, deleted when it has ended; `appm run` keeps it. It has this directory where the server is on this machine, and of your variables
those alone that -e names: -e PATH takes the value that PATH has here.")]
pub(in crate::cli) struct ExecArgs {
    #[command(flatten)]
    how: HowArgs,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// Run commands in this directory, one after the other, as they are typed
#[derive(Args, Debug)]
#[command(after_help = "\
Each line is a command for sh, run as `appm exec` does; `cd` is remembered, `exit` and ctrl-D
end it, ctrl-C cancels what runs. The exit code is that of the last command.

At a terminal lines are edited as in bash: the arrows, ctrl-A, ctrl-R, Tab for names of files.
What was typed is in $XDG_STATE_HOME/appm/shell_history, for you alone, but for lines that begin
with a blank.")]
pub(in crate::cli) struct ShellArgs {
    #[command(flatten)]
    how: HowArgs,
}

/// How commands are run.
#[derive(Args, Clone, Debug)]
struct HowArgs {
    /// A variable of the environment, or the name of one of yours; may be given several times
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Stop a command after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
}

impl HowArgs {
    fn run(&self, command: Option<String>, words: Vec<String>, directory: Option<&Path>) -> RunArgs {
        let timeout = self.timeout.map(|seconds| GoDuration(Duration::from_secs(seconds.into())));
        let env = self.env.clone();
        let what =
            OnceArgs { command, words, env, workdir: directory.map(Path::to_owned), timeout, ..OnceArgs::default() };
        RunArgs { what, rm: true, ..RunArgs::default() }
    }
}

/// Where commands begin: here, if here is where the server is.
fn directory(context: &Context) -> Result<Option<PathBuf>, CliError> {
    match context.client.endpoint() {
        Endpoint::Unix(_) => {
            std::env::current_dir().map(Some).map_err(|e| CliError::io("cannot tell the working directory", &e))
        }
        Endpoint::Https(_) => Ok(None),
    }
}

pub(in crate::cli) async fn exec(args: ExecArgs, context: &Context) -> Result<(), CliError> {
    let mut words = args.words;
    if words.get(1).is_some_and(|word| word == "--") {
        let error = CliError::usage(format!("nothing is run inside of what `{}` runs", words[0]));
        return Err(error.help(format!("beside it: appm run {} -- ARGS, and alone: appm exec COMMAND", words[0])));
    }
    let command = if words.len() == 1 { words.pop() } else { None };
    super::run(args.how.run(command, words, directory(context)?.as_deref()), context).await
}

pub(in crate::cli) async fn shell(args: ShellArgs, context: &Context) -> Result<(), CliError> {
    let mut at = directory(context)?;
    let here = at.is_some();
    let mut lines = Lines::begin(here)?;
    let mut last = Ok(());
    while let Some(line) = lines.next().await? {
        match line.trim() {
            "" => {}
            "exit" | "quit" => break,
            command => {
                last = match moved(command, at.as_deref()) {
                    Some(there) => there.map(|there| {
                        if here {
                            // Names are completed there from now on; a command is told its directory anyway.
                            let _ = std::env::set_current_dir(&there);
                        }
                        at = Some(there);
                    }),
                    None => one(&args.how, command, at.as_deref(), context).await,
                };
                if let Err(error) = &last {
                    let text = error.render(&context.screen);
                    if !text.is_empty() {
                        screen::remark(text.trim_end());
                    }
                }
            }
        }
    }
    // What went wrong has been said.
    last.map_err(|error| CliError::silent(error.exit))
}

async fn one(how: &HowArgs, command: &str, at: Option<&Path>, context: &Context) -> Result<(), CliError> {
    super::run(how.run(Some(command.to_owned()), Vec::new(), at), context).await
}

/// Where `cd` leads; `None` if it is another command, which may well go elsewhere for itself.
fn moved(command: &str, at: Option<&Path>) -> Option<Result<PathBuf, CliError>> {
    let to = command.strip_prefix("cd ")?.trim();
    if to.contains(['&', ';', '|', '$', '`', '\'', '"', '~']) {
        return None;
    }
    let Some(at) = at else {
        let there = Path::new(to);
        let error = || CliError::usage("the server is on another machine: cd to a whole path");
        return Some(if there.is_absolute() { Ok(there.to_owned()) } else { Err(error()) });
    };
    let there = at.join(to);
    let found = there.canonicalize().map_err(|e| CliError::io(&format!("cannot go to {}", there.display()), &e));
    Some(found.and_then(|found| match found.is_dir() {
        true => Ok(found),
        false => Err(CliError::new(Exit::Failed, format!("{} is no directory", found.display()))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_changed_by_cd_alone() {
        let at = Path::new("/usr");
        let to = |command| moved(command, Some(at)).map(|moved| moved.ok());
        assert_eq!(to("cd /"), Some(Some("/".into())));
        assert_eq!(to("cd .."), Some(Some("/".into())));
        assert_eq!(to("cd nowhere"), Some(None));
        assert_eq!(to("cd / && ls"), None);
        assert_eq!(to("ls"), None);
        assert!(moved("cd /srv", None).is_some_and(|moved| moved.is_ok_and(|to| to == Path::new("/srv"))));
        assert!(moved("cd srv", None).is_some_and(|moved| moved.is_err()));
    }
}
