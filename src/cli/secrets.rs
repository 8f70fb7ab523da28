//! `appm secrets`: the keys that Secrets are encrypted with at rest.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::http::Request;

use super::{
    context::Context,
    error::CliError,
    output::{self, OutputArgs},
    screen,
};

/// Show and change the keys that Secrets are encrypted with
#[derive(Args, Debug)]
pub(super) struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Subcommand, Debug)]
enum SecretsCommand {
    RotateKey(RotateArgs),
    Keys(KeysArgs),
}

/// Take a new key in use; nothing stops meanwhile
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm secrets rotate-key               a new key in DATA_DIR/keys/seal.key; the data keys are encrypted with it
  appm secrets rotate-key --data-keys   new data keys too; every stored Secret is encrypted anew

With a server that was given --seal-key-file, first put a new key on a line above the old one
(head -c 32 /dev/urandom | base64); when the command has succeeded, the old line can go.
A backup of the database can be read with the key of its time only.")]
struct RotateArgs {
    /// Change the data keys too, and encrypt everything anew in the background
    #[arg(long)]
    data_keys: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Show which keys are in use
#[derive(Args, Debug)]
struct KeysArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: SecretsArgs, context: &Context) -> Result<(), CliError> {
    let (request, args) = match args.command {
        SecretsCommand::RotateKey(args) => {
            let path = if args.data_keys { "/sealing/rotate?dataKeys=true" } else { "/sealing/rotate" };
            (Request::post(path, &Value::Null), args.output)
        }
        SecretsCommand::Keys(args) => (Request::get("/sealing"), args.output),
    };
    let sealing = context.call(request).await?.json()?;
    if !args.output.is_table() {
        return output::objects(&args.output, vec![sealing], false);
    }
    let text = |field: &str| sealing[field].as_str().unwrap_or_default().to_owned();
    screen::line(format_args!("key        {} in {}", text("key"), text("keyFile")))?;
    screen::line(format_args!("data keys  {}, one for each namespace with Secrets", sealing["dataKeys"]))?;
    if sealing["retired"] != 0 {
        screen::line(format_args!("retired    {}, until what they encrypt is encrypted anew", sealing["retired"]))?;
    }
    Ok(())
}
