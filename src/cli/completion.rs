//! `appm completion`: what a shell needs to complete appm's command lines.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{error::CliError, screen};

/// The shells.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  source <(appm completion bash)                                        this shell
  appm completion bash > ~/.local/share/bash-completion/completions/appm
  appm completion zsh > \"${fpath[1]}/_appm\"
  appm completion fish > ~/.config/fish/completions/appm.fish")]
pub(super) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: KnownShell,
}

pub(super) fn run(args: &CompletionArgs) -> Result<(), CliError> {
    let shell = match args.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    generate(shell, &mut super::Cli::command(), "appm", &mut text);
    screen::print(String::from_utf8_lossy(&text))?;
    Ok(())
}
