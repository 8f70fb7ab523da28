//! `appm whoami` and `appm auth`: who the server takes one for, what one may do, and tokens.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    api::GoDuration,
    client::http::{Request, percent_encode},
};

use super::{
    context::Context,
    error::{CliError, Exit},
    login::{self, CredentialArgs, LoginArgs, LogoutArgs},
    output::{self, OutputArgs},
    resources, role, screen,
    settings::Global,
    table::Table,
};

/// Show who the server takes you for
#[derive(Args, Debug)]
pub(super) struct WhoAmIArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Log in and out; who you are, what you may do, and tokens
#[derive(Args, Debug)]
pub(super) struct AuthArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand, Debug)]
enum Question {
    Login(Box<LoginArgs>),
    Logout(LogoutArgs),
    #[command(hide = true)]
    Credential(CredentialArgs),
    CanI(CanIArgs),
    /// The same as `appm whoami`
    Whoami(WhoAmIArgs),
    /// Long-lived API tokens; `appm get tokens` lists them
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Subcommand, Debug)]
enum TokenCommand {
    Create(CreateTokenArgs),
    /// Revoke tokens: whoever bears one is out at once
    Revoke {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Make a token; its secret is printed this once, alone, so that it can be piped
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm auth token create --description ci --expires 720h > token
  appm auth token create --verb get,list,watch --resource apps,instances   good for nothing else
  kubectl --server https://127.0.0.1:6060 --token \"$(cat token)\" get apps")]
struct CreateTokenArgs {
    /// Whose; for whoever may impersonate that user [default: your own]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// How long it is good [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    expires: Option<GoDuration>,
    /// What it may do, with --resource: verbs with commas between them
    #[arg(long = "verb", value_name = "VERBS", value_delimiter = ',', requires = "resources")]
    verbs: Vec<String>,
    /// With what: resources with commas between them
    #[arg(long = "resource", value_name = "RESOURCES", value_delimiter = ',', requires = "verbs")]
    resources: Vec<String>,
    /// Where, with --resource [default: wherever the user may]
    #[arg(long = "in", value_name = "NAMESPACES", value_delimiter = ',', requires = "resources")]
    namespaces: Vec<String>,
}

/// Ask whether you may do something: `yes` and 0, or `no` and exit code 1
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm auth can-i create apps
  appm auth can-i delete app/web -n prod
  appm auth can-i '*' '*'
  appm auth can-i --list --as ada
  appm auth can-i get secrets --as ada --as-group devs")]
struct CanIArgs {
    /// get, list, watch, create, update, patch, delete, or *
    #[arg(required_unless_present = "list")]
    verb: Option<String>,
    /// `apps`, `app/web`, or *
    #[arg(value_name = "RESOURCE", required_unless_present = "list", add = super::complete::resources())]
    resource: Option<String>,
    /// Everything that you may do in the namespace
    #[arg(long, conflicts_with_all = ["verb", "resource", "subresource", "all_namespaces", "quiet"])]
    list: bool,
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

impl AuthArgs {
    /// True for what is about this machine's kubeconfig as much as about a server.
    pub(super) fn is_about_a_login(&self) -> bool {
        matches!(self.question, Question::Login(_) | Question::Logout(_) | Question::Credential(_))
    }

    /// Does what [`Self::is_about_a_login`].
    pub(super) fn log_in_or_out(&self, global: &Global) -> Result<(), CliError> {
        match &self.question {
            Question::Login(args) => login::login(args, global),
            Question::Logout(args) => login::logout(args, global),
            Question::Credential(args) => login::credential(args),
            Question::CanI(_) | Question::Whoami(_) | Question::Token(_) => {
                unreachable!("what is asked of a server is asked by `run`")
            }
        }
    }
}

pub(super) async fn run(args: AuthArgs, context: &Context) -> Result<(), CliError> {
    match args.question {
        Question::Login(_) | Question::Logout(_) | Question::Credential(_) => {
            unreachable!("logging in and out is done before a server is looked for")
        }
        Question::CanI(args) => can_i(&args, context).await,
        Question::Whoami(args) => who_am_i(&args, context).await,
        Question::Token(TokenCommand::Create(args)) => create_token(&args, context).await,
        Question::Token(TokenCommand::Revoke { names }) => {
            for name in names {
                let path = format!("/apis/appm.dev/v1/tokens/{}", percent_encode(&name));
                context.call(Request::delete(path, &json!({}))).await?;
                screen::line(format_args!("token/{name} revoked"))?;
            }
            Ok(())
        }
    }
}

async fn create_token(args: &CreateTokenArgs, context: &Context) -> Result<(), CliError> {
    let mut ask = json!({"description": args.description});
    if let Some(user) = &args.user {
        ask["user"] = json!(user);
    }
    if let Some(expires) = args.expires {
        ask["expirationSeconds"] = json!(expires.0.as_secs());
    }
    if !args.resources.is_empty() {
        let rules = args.resources.iter().map(|word| rule(word, args)).collect::<Result<Vec<_>, _>>()?;
        ask["rules"] = json!(rules);
    }
    let issued = context.call(Request::post("/auth/v1/tokens", &ask)).await?.json()?;
    screen::remark(format_args!(
        "token/{} made; this is its secret, shown this once:",
        issued["name"].as_str().unwrap_or_default()
    ));
    Ok(screen::line(issued["token"].as_str().unwrap_or_default())?)
}

fn rule(word: &str, args: &CreateTokenArgs) -> Result<Value, CliError> {
    let (group, plural) = role::pattern(word)?;
    let mut rule = json!({"apiGroups": [group], "resources": [plural], "verbs": args.verbs});
    if !args.namespaces.is_empty() {
        rule["namespaces"] = json!(args.namespaces);
    }
    Ok(rule)
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

/// All that the rules say of the namespace, a line each.
async fn rules(context: &Context) -> Result<(), CliError> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": context.namespace()},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = context.call(Request::post(path, &review)).await?.json()?;
    let words = |rule: &Value, field: &str| {
        let words = rule[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut table = Table::new(["RESOURCES", "NAMES", "VERBS"]);
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        let groups = words(rule, "apiGroups");
        let of = |resource: &String| match groups.as_slice() {
            [group] if !group.is_empty() => format!("{resource}.{group}"),
            _ => resource.clone(),
        };
        let names = words(rule, "resourceNames").join(",");
        let resources: Vec<String> = words(rule, "resources").iter().map(of).collect();
        table.add([
            resources.join(","),
            if names.is_empty() { "*".to_owned() } else { names },
            words(rule, "verbs").join(","),
        ]);
    }
    for rule in answer["status"]["nonResourceRules"].as_array().into_iter().flatten() {
        table.add([words(rule, "nonResourceURLs").join(","), "-".to_owned(), words(rule, "verbs").join(",")]);
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

async fn can_i(args: &CanIArgs, context: &Context) -> Result<(), CliError> {
    let (Some(verb), Some(resource)) = (&args.verb, &args.resource) else { return rules(context).await };
    let (word, name) = resource.split_once('/').unwrap_or((resource, ""));
    let (group, plural) = match word {
        "*" => ("*", "*"),
        word => {
            let served = resources::resource(word)?;
            (served.group(), served.plural())
        }
    };
    let namespace = if args.all_namespaces { "" } else { context.namespace() };
    let attributes = json!({
        "verb": verb, "group": group, "resource": plural, "subresource": args.subresource, "name": name,
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
