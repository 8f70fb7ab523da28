//! `appm completion`: what a shell needs to complete appm's command lines; see `complete` for what it is then told.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::env::{CompleteEnv, Shells};

use super::{
    complete,
    error::{CliError, Exit},
    screen,
};

/// The shells.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KnownShell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

/// Print completions for a shell: commands, flags, and names of objects that are there
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(appm completion bash)                                        this shell
  appm completion bash > ~/.local/share/bash-completion/completions/appm
  appm completion zsh > \"${fpath[1]}/_appm\"
  appm completion fish > ~/.config/fish/completions/appm.fish
  appm completion elvish >> ~/.config/elvish/rc.elv
  appm completion powershell >> $PROFILE

Names are asked of the server of --data-dir or --kubeconfig while you type.")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: KnownShell,
}

pub(super) fn run(args: &CompletionArgs) -> Result<(), CliError> {
    let name = match args.shell {
        KnownShell::Bash => "bash",
        KnownShell::Zsh => "zsh",
        KnownShell::Fish => "fish",
        KnownShell::Elvish => "elvish",
        KnownShell::Powershell => "powershell",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(name).expect("all of these shells are built in");
    let mut script = Vec::new();
    shell
        .write_registration(complete::VARIABLE, "appm", "appm", "appm", &mut script)
        .map_err(|e| CliError::io("cannot write the script", &e))?;
    screen::bytes(&script)?;
    Ok(())
}

/// Answers a shell that wants candidates. Gives `None` if this is no such call.
pub(super) fn answer() -> Option<Exit> {
    let asked = CompleteEnv::with_factory(super::Cli::command).var(complete::VARIABLE);
    match asked.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(Exit::Ok),
        // A word about it would end up in the line that is being written.
        Err(_) => Some(Exit::Failed),
    }
}
