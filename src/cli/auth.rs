//! `appm whoami` and `appm auth can-i`: who the server takes one for, and what one may do.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::http::Request;

use super::{
    context::Context,
    error::{CliError, Exit},
    output::{self, OutputArgs},
    resources, screen,
};

/// Show who the server takes you for
#[derive(Args, Debug)]
pub(super) struct WhoAmIArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Ask what you may do
#[derive(Args, Debug)]
pub(super) struct AuthArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand, Debug)]
enum Question {
    CanI(CanIArgs),
    /// The same as `appm whoami`
    Whoami(WhoAmIArgs),
}

/// Ask whether you may do something: `yes` and 0, or `no` and exit code 1
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm auth can-i create apps
  appm auth can-i delete app/web -n prod
  appm auth can-i '*' '*'")]
struct CanIArgs {
    /// get, list, watch, create, update, patch, delete, or *
    verb: String,
    /// `apps`, `app/web`, or *
    #[arg(value_name = "RESOURCE", add = super::complete::resources())]
    resource: String,
    /// A part of the object: status, scale or log
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    subresource: String,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Say nothing, only give the exit code
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(args: AuthArgs, context: &Context) -> Result<(), CliError> {
    match args.question {
        Question::CanI(args) => can_i(&args, context).await,
        Question::Whoami(args) => who_am_i(&args, context).await,
    }
}

pub(super) async fn who_am_i(args: &WhoAmIArgs, context: &Context) -> Result<(), CliError> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = context.call(Request::post(path, &review)).await?.json()?;
    if !args.output.output.is_table() {
        return output::objects(&args.output.output, vec![answer], false);
    }
    let who = &answer["status"]["userInfo"];
    screen::line(who["username"].as_str().unwrap_or_default())?;
    for group in who["groups"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        screen::line(format_args!("  member of {group}"))?;
    }
    Ok(())
}

async fn can_i(args: &CanIArgs, context: &Context) -> Result<(), CliError> {
    let (word, name) = args.resource.split_once('/').unwrap_or((&args.resource, ""));
    let (group, plural) = match word {
        "*" => ("*", "*"),
        word => {
            let served = resources::resource(word)?;
            (served.group(), served.plural())
        }
    };
    let namespace = if args.all_namespaces { "" } else { context.namespace() };
    let attributes = json!({
        "verb": args.verb, "group": group, "resource": plural, "subresource": args.subresource, "name": name,
        "namespace": namespace,
    });
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = context.call(Request::post(path, &review)).await?.json()?;
    let allowed = answer["status"]["allowed"] == true;
    if !args.quiet {
        screen::line(if allowed { "yes" } else { "no" })?;
    }
    if allowed { Ok(()) } else { Err(CliError::silent(Exit::Failed)) }
}
