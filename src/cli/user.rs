//! `appm user`: people, what proves who they are, and whether they are let in. The same can be declared as a User.

use clap::{Args, Subcommand};
use qrcode::{QrCode, render::unicode::Dense1x2};
use serde_json::{Value, json};

use crate::{
    api::{Kind, OWNER, Role, User},
    client::http::{Request, percent_encode},
};

use super::{
    ages,
    context::{Context, Selection, Where, name_of, served},
    error::CliError,
    output::{self, OutputArgs},
    prompt, screen,
    table::Table,
};

/// Add, lock and remove users; passwords and second factors
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm user add ada --group engineering --role edit     asks for a password
  appm user passwd ada --password-stdin < file
  appm user lock ada                                    thrown out, and not let in
  appm user mfa enroll                                  a second factor for yourself
  appm user list                                        roles, groups, last login")]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Subcommand, Debug)]
enum UserCommand {
    Add(AddUserArgs),
    /// List users: what they have, and when they were last here
    #[command(visible_alias = "ls")]
    List(OutputArgs),
    /// Show users
    Get {
        /// Their names
        #[arg(required = true, value_name = "NAME", add = super::complete::users())]
        names: Vec<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    Passwd(PasswdArgs),
    /// Let nobody in as these users, and throw out whoever is
    Lock(NamesArgs),
    /// Let these users in again
    Unlock(NamesArgs),
    /// Remove users, with their tokens and sessions
    #[command(visible_alias = "remove")]
    Rm(NamesArgs),
    /// A second factor: codes of an authenticator app
    #[command(subcommand)]
    Mfa(MfaCommand),
}

/// Add a user
#[derive(Args, Debug)]
struct AddUserArgs {
    /// The name
    name: String,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// An address for mail
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// A group; the first is the one that an App's sharing means
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// A role, everywhere or in one namespace
    #[arg(long = "role", value_name = "ROLE[:NAMESPACE]")]
    roles: Vec<String>,
    /// The user of the operating system as whom everything of this user runs
    #[arg(long, value_name = "USER")]
    exec_user: Option<String>,
    /// Read the password from the standard input
    #[arg(long)]
    password_stdin: bool,
    /// No password: tokens, certificates or an issuer only
    #[arg(long, conflicts_with = "password_stdin")]
    no_password: bool,
}

/// Set a user's password; without a name your own
#[derive(Args, Debug)]
struct PasswdArgs {
    /// Whose
    #[arg(add = super::complete::users())]
    name: Option<String>,
    /// Read the password from the standard input
    #[arg(long, requires = "name")]
    password_stdin: bool,
}

#[derive(Args, Debug)]
struct NamesArgs {
    /// The users
    #[arg(required = true, value_name = "NAME", add = super::complete::users())]
    names: Vec<String>,
}

#[derive(Subcommand, Debug)]
enum MfaCommand {
    /// Enrol an authenticator app for yourself: shows a QR code, asks for a first code, shows recovery codes
    Enroll(EnrollArgs),
    /// Confirm an enrolment that was begun
    Confirm(CodeArgs),
    /// Get new recovery codes
    Recovery(CodeArgs),
    /// Give a second factor up: your own with a code, another user's without
    Disable(DisableArgs),
}

#[derive(Args, Debug)]
struct EnrollArgs {
    /// Ask for no code: `appm user mfa confirm` does
    #[arg(long)]
    no_confirm: bool,
}

#[derive(Args, Debug)]
struct CodeArgs {
    /// The code [default: asked for]
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

#[derive(Args, Debug)]
struct DisableArgs {
    /// Whose; without a name your own
    name: Option<String>,
    /// The code [default: asked for]
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

pub(super) async fn run(args: UserArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        UserCommand::Add(args) => add(&args, context).await,
        UserCommand::List(output) => {
            let (_, users) = context.list(served::<User>(), Where::Everywhere, &Selection::default()).await?;
            show(users, &output, true, context).await
        }
        UserCommand::Get { names, output } => {
            let mut users = Vec::new();
            for name in &names {
                users.push(context.get(served::<User>(), "", name).await?);
            }
            show(users, &output, false, context).await
        }
        UserCommand::Passwd(args) => passwd(&args, context).await,
        UserCommand::Lock(args) => lock(&args.names, true, context).await,
        UserCommand::Unlock(args) => lock(&args.names, false, context).await,
        UserCommand::Rm(args) => {
            for name in &args.names {
                context.call(Request::delete(path(name), &json!({}))).await?;
                screen::line(format_args!("user/{name} removed"))?;
            }
            Ok(())
        }
        UserCommand::Mfa(command) => mfa(command, context).await,
    }
}

fn path(name: &str) -> String {
    format!("/apis/appm.dev/v1/users/{}", percent_encode(name))
}

async fn add(args: &AddUserArgs, context: &Context) -> Result<(), CliError> {
    let mut spec = json!({});
    let texts = [("displayName", &args.display_name), ("email", &args.email), ("execUser", &args.exec_user)];
    for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        spec[field] = json!(value);
    }
    if !args.groups.is_empty() {
        spec["groups"] = json!(args.groups);
    }
    if !args.roles.is_empty() {
        spec["roles"] = args.roles.iter().map(|role| binding(role)).collect();
    }
    if !args.no_password {
        let password = match args.password_stdin {
            true => prompt::from_stdin()?,
            false => prompt::new_password(&format!("password of {}: ", args.name))?,
        };
        spec["password"] = json!({"plain": password});
    }
    let user = json!({
        "apiVersion": User::INFO.api_version(), "kind": User::INFO.kind, "metadata": {"name": args.name}, "spec": spec,
    });
    context.call(Request::post("/apis/appm.dev/v1/users?fieldManager=appm-cli", &user)).await?;
    Ok(screen::line(format_args!("user/{} added", args.name))?)
}

/// A line for each user. Roles are those that the User names, and those whose subjects name the user or a group of theirs.
async fn show(users: Vec<Value>, args: &OutputArgs, as_list: bool, context: &Context) -> Result<(), CliError> {
    if !args.output.is_table() {
        return output::objects(&args.output, users, as_list);
    }
    // Whoever may not see roles sees what Users say of them.
    let all = context.list(served::<Role>(), Where::Everywhere, &Selection::default()).await;
    let roles = all.map(|(_, roles)| roles).unwrap_or_default();
    let mut table = Table::new(["NAME", "ROLES", "GROUPS", "LOCKED", "MFA", "LAST LOGIN", "OWNER"]);
    for user in &users {
        let time = user["status"]["lastLoginTime"].as_str().and_then(|text| text.parse().ok());
        table.add([
            name_of(user),
            roles_of(user, &roles),
            strings(&user["spec"]["groups"]).collect::<Vec<_>>().join(","),
            said(user["spec"]["locked"] == true),
            said(user["status"]["mfaEnabled"] == true),
            time.map_or_else(|| "never".to_owned(), |then| ages::age(then, context.now())),
            user["metadata"]["annotations"][OWNER].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}

fn said(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// `edit,view:team-a`
fn roles_of(user: &Value, roles: &[Value]) -> String {
    let held = |name: &str, place: &Value| {
        let places: Vec<&str> = strings(place).collect();
        if places.is_empty() { name.to_owned() } else { format!("{name}:{}", places.join("+")) }
    };
    let own = user["spec"]["roles"].as_array().into_iter().flatten();
    let mut all: Vec<String> =
        own.map(|role| held(role["name"].as_str().unwrap_or_default(), &role["namespaces"])).collect();
    for role in roles {
        let subjects = role["spec"]["subjects"].as_array().into_iter().flatten();
        all.extend(subjects.filter(|subject| is_of(subject, user)).map(|s| held(&name_of(role), &s["namespaces"])));
    }
    all.sort();
    all.dedup();
    all.join(",")
}

fn is_of(subject: &Value, user: &Value) -> bool {
    match subject["kind"].as_str() {
        Some("User") => subject["name"] == user["metadata"]["name"],
        _ => strings(&user["spec"]["groups"]).any(|group| subject["name"] == group),
    }
}

/// `edit`, or `edit:team-a`.
fn binding(role: &str) -> Value {
    match role.split_once(':') {
        Some((name, namespace)) => json!({"name": name, "namespaces": [namespace]}),
        None => json!({"name": role}),
    }
}

async fn passwd(args: &PasswdArgs, context: &Context) -> Result<(), CliError> {
    let Some(name) = &args.name else { return own_password(context).await };
    let password = match args.password_stdin {
        true => prompt::from_stdin()?,
        false => prompt::new_password(&format!("new password of {name}: "))?,
    };
    let patch = json!({"spec": {"password": {"plain": password, "hash": null}}});
    context.patch(served::<User>(), "", name, "", &patch).await?;
    Ok(screen::line(format_args!("the password of user/{name} is set; whoever was logged in with the old one is out"))?)
}

async fn own_password(context: &Context) -> Result<(), CliError> {
    let old = prompt::hidden("your password until now: ")?;
    let new = prompt::new_password("your new password: ")?;
    let code = prompt::shown("code of your second factor, if you have one: ")?;
    let ask = json!({"old": old, "new": new, "code": code});
    context.call(Request::post("/auth/v1/password", &ask)).await?;
    Ok(screen::line("your password is set; your other sessions have ended")?)
}

async fn lock(names: &[String], locked: bool, context: &Context) -> Result<(), CliError> {
    for name in names {
        context.patch(served::<User>(), "", name, "", &json!({"spec": {"locked": locked}})).await?;
        screen::line(format_args!("user/{name} {}", if locked { "locked" } else { "unlocked" }))?;
    }
    Ok(())
}

async fn mfa(command: MfaCommand, context: &Context) -> Result<(), CliError> {
    match command {
        MfaCommand::Enroll(args) => {
            let shown = context.call(Request::post("/auth/v1/totp/enroll", &json!({}))).await?.json()?;
            let uri = shown["uri"].as_str().unwrap_or_default();
            if let Ok(code) = QrCode::new(uri) {
                screen::line(code.render::<Dense1x2>().build())?;
            }
            screen::line(format_args!("or type this into the app: {}", shown["secret"].as_str().unwrap_or_default()))?;
            if args.no_confirm {
                return Ok(screen::line("then: appm user mfa confirm")?);
            }
            confirm(&prompt::shown("the code that the app shows: ")?, context).await
        }
        MfaCommand::Confirm(args) => confirm(&code(args.code)?, context).await,
        MfaCommand::Recovery(args) => codes("/auth/v1/totp/recovery", &code(args.code)?, context).await,
        MfaCommand::Disable(args) => {
            let ask = match args.name {
                Some(name) => json!({"user": name}),
                None => json!({"code": code(args.code)?}),
            };
            context.call(Request::post("/auth/v1/totp/disable", &ask)).await?;
            Ok(screen::line("the second factor is given up")?)
        }
    }
}

fn code(given: Option<String>) -> Result<String, CliError> {
    given.map_or_else(|| prompt::shown("code: "), Ok)
}

async fn confirm(code: &str, context: &Context) -> Result<(), CliError> {
    screen::remark("the second factor is asked for from now on");
    codes("/auth/v1/totp/confirm", code, context).await
}

async fn codes(path: &str, code: &str, context: &Context) -> Result<(), CliError> {
    let answer = context.call(Request::post(path, &json!({"code": code}))).await?.json()?;
    screen::remark("recovery codes, each good once, shown this once:");
    for code in answer["recoveryCodes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        screen::line(format_args!("  {code}"))?;
    }
    Ok(())
}
