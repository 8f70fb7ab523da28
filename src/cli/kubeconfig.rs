//! `appm kubeconfig`: how kubectl gets in.

use std::fs;

use clap::Args;

use super::{
    error::{CliError, Exit},
    screen,
    settings::Global,
};

/// Show the kubeconfig that the server wrote for kubectl
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  export KUBECONFIG=$(appm kubeconfig --path)
  kubectl get apps")]
pub(super) struct KubeconfigArgs {
    /// Show where it is, not what is in it: it holds a token
    #[arg(long)]
    path: bool,
}

pub(super) fn run(args: &KubeconfigArgs, global: &Global) -> Result<(), CliError> {
    let file = global.kubeconfig.clone().unwrap_or_else(|| global.data_dir().join("kubeconfig"));
    if !file.exists() {
        let error = CliError::new(Exit::NotFound, format!("there is no kubeconfig at {}", file.display()));
        return Err(error.help("the server writes it when it starts: `appm up` or `appm server`"));
    }
    match args.path {
        true => screen::line(file.display())?,
        false => {
            let text =
                fs::read_to_string(&file).map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?;
            screen::print(text)?;
        }
    }
    Ok(())
}
