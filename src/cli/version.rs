//! `appm version`: of this binary, and of the server if one answers.

use clap::Args;
use serde_json::{Value, json};

use crate::client::http::Request;

use super::{
    context::Context,
    error::CliError,
    output::{self, Format, OutputArgs},
    screen,
};

/// Show the versions of this binary and of the server
#[derive(Args, Debug)]
pub(super) struct VersionArgs {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: VersionArgs, context: &Context) -> Result<(), CliError> {
    let own = env!("CARGO_PKG_VERSION");
    let server = match args.client {
        true => None,
        false => context.client.call(Request::get("/version")).await.ok().and_then(|a| a.json().ok()),
    };
    match &args.output.output {
        Format::Json | Format::Yaml => {
            let mut all = json!({"clientVersion": {"version": own}});
            if let Some(server) = server {
                all["serverVersion"] = server;
            }
            output::value(&args.output.output, &all)?;
        }
        _ => {
            screen::line(format_args!("client: {own}"))?;
            match server.as_ref().and_then(|s: &Value| s["gitVersion"].as_str()) {
                Some(version) => screen::line(format_args!("server: {version}"))?,
                None if args.client => {}
                None => screen::remark(format_args!("server: none answers at {}", context.client.endpoint())),
            }
        }
    }
    Ok(())
}
