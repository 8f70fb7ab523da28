//! `appm auth login`, `logout` and `credential`: how somebody is let in for a while with a password, by appm and by kubectl.
//!
//! ```text
//!  kubeconfig: users[].user.exec ──► appm auth credential --session ID ──► sessions/ID.json (0600) ──► /auth/v1/refresh
//!                                    appm itself takes the same way, without the process
//! ```
//! The kubeconfig holds no secret, and is not written again when tokens change.

pub(super) mod session;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    api::{Reason, Time},
    client::http::{Endpoint, HttpClient, HttpsEndpoint, Request, RequestError},
};

use super::{
    contexts::{
        self,
        file::{self, Config},
    },
    error::{CliError, Exit},
    plugin::Plugin,
    prompt, screen,
    server::runtime,
    settings::{Global, environment, from_config},
};
use session::Saved;

/// The variable that says what a plugin is asked for.
pub(super) const INFO: &str = "KUBERNETES_EXEC_INFO";
/// The forms in which plugins are asked and answer, the newest first. They differ in nothing that matters here.
pub(super) const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
/// The cause of a refusal that a code mends.
const CODE_REQUIRED: &str = "TOTPRequired";
/// A token is told to end so much earlier than it does: it is on its way for a while.
const MARGIN: SignedDuration = SignedDuration::from_secs(30);

/// Log in with a password; kubectl is logged in, too
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm auth login --server https://prod.example:6060 --username ada     asks for what else is needed
  appm auth login --context prod                                        again
  appm auth login --username ada                                        at this machine's server
  appm auth login --context prod --username ci --password-file -  < file

The login stands in $KUBECONFIG, else ~/.kube/config, as a context with a credential plugin; its tokens are kept elsewhere (0600) and
renewed as long as they are used at least once in 30 days. A server that is not known yet is met as by `appm context add`.")]
pub(super) struct LoginArgs {
    /// Where the server is [default: that of --context, of the current context, or this machine's]
    #[arg(long, value_name = "https://HOST:PORT", conflicts_with = "context")]
    server: Option<String>,
    /// What the context of a new server is called [default: its host]
    #[arg(long, value_name = "NAME", requires = "server")]
    name: Option<String>,
    /// Who you are [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// A file with the password; -: stdin [default: asked for]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The code of your second factor [default: asked for, if you have one]
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Make the context the current one
    #[arg(long)]
    current: bool,
    #[command(flatten)]
    trust: contexts::TrustArgs,
}

/// Log out: the session ends at the server, and is forgotten here; the context stays for the next login
#[derive(Args, Debug)]
pub(super) struct LogoutArgs {
    /// End all sessions that you have there
    #[arg(long)]
    all: bool,
}

/// Print a token of a login, for kubectl: a credential plugin
#[derive(Args, Debug)]
pub(super) struct CredentialArgs {
    /// The login
    #[arg(long, value_name = "ID")]
    session: String,
}

/// Where somebody logs in.
struct Door {
    /// The context that has, or gets, the login.
    context: String,
    /// A new context's cluster.
    cluster: Option<Value>,
    endpoint: HttpsEndpoint,
}

fn config_path(global: &Global) -> Result<PathBuf, CliError> {
    global.kubeconfig.clone().map_or_else(file::usual, Ok)
}

pub(super) fn login(args: &LoginArgs, global: &Global) -> Result<(), CliError> {
    let path = config_path(global)?;
    runtime()?.block_on(async {
        let config = Config::load(&path)?;
        let username = match &args.username {
            Some(name) => name.clone(),
            None => prompt::shown("user name: ")?,
        };
        let door = door(args, global, &config, &path, &username).await?;
        let granted = knock(args, &door.endpoint, &username).await?;
        let mut saved = Saved {
            server: format!("{:?}", door.endpoint),
            certificate_authority: String::from_utf8_lossy(&door.endpoint.ca_pem).into_owned(),
            tls_server_name: door.endpoint.server_name.clone(),
            username: username.clone(),
            access_token: String::new(),
            expiration_time: Time(jiff::Timestamp::UNIX_EPOCH),
            refresh_token: None,
        };
        saved.take(&granted).ok_or_else(|| CliError::failed("the server's answer is not understood"))?;
        let id = session::new_id();
        saved.save(&id)?;
        let (before, is_current) = Config::edit(&path, |config| Ok(enter(config, &door, &id, args.current)))?;
        if let Some(before) = before {
            session::forget(&before);
        }
        let hint = if is_current { String::new() } else { format!("; `--context {}` goes there", door.context) };
        screen::line(format_args!("logged in to {:?} as {username}{hint}", door.endpoint))?;
        if granted["mustEnroll"] == true {
            screen::remark("a second factor is required of you: `appm user mfa enroll`, then log in again");
        }
        Ok(())
    })
}

/// Which server is meant.
async fn door(
    args: &LoginArgs,
    global: &Global,
    config: &Config,
    path: &Path,
    username: &str,
) -> Result<Door, CliError> {
    if let Some(server) = &args.server {
        let (cluster, endpoint) = contexts::met(server, &args.trust).await?;
        let context = args.name.clone().unwrap_or_else(|| endpoint.host.clone());
        contexts::may_be_ours(config, &context)?;
        return Ok(Door { context, cluster: Some(cluster), endpoint });
    }
    if let Some(context) = meant(config, global) {
        let endpoint = from_config(config, Some(context), path)?.endpoint;
        return Ok(Door { context: context.to_owned(), cluster: None, endpoint });
    }
    // What the server of this machine wrote for kubectl says where it is, and what vouches for it.
    let own = global.data_dir().join("kubeconfig");
    let config = Config::load(&own)?;
    let Some(current) = config.current() else {
        let error = CliError::new(Exit::NoServer, format!("there is no server in {}", global.data_dir().display()));
        return Err(error.help("--server=https://HOST:PORT says where it is"));
    };
    let endpoint = from_config(&config, Some(current), &own)?.endpoint;
    let mut cluster = config.parts(current).and_then(|(name, _)| config.entry("clusters", name)).cloned();
    if let Some(cluster) = &mut cluster {
        cluster["extensions"] = file::mark();
    }
    Ok(Door { context: format!("{username}@local"), cluster, endpoint })
}

/// The context that is meant; none: this machine's server.
fn meant<'a>(config: &'a Config, global: &'a Global) -> Option<&'a str> {
    let current = || config.current().filter(|current| global.data_dir.is_none() && config.is_ours(current));
    global.context.as_deref().or_else(current)
}

/// Shows the password, and the code of a second factor if one is asked for.
async fn knock(args: &LoginArgs, endpoint: &HttpsEndpoint, username: &str) -> Result<Value, CliError> {
    let password = match &args.password_file {
        Some(file) if file.as_os_str() == "-" => prompt::from_stdin()?,
        Some(file) => {
            let text = fs::read_to_string(file);
            let text = text.map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => prompt::hidden(&format!("password of {username}: "))?,
    };
    // What is shown in place of a password would decide who one is.
    let endpoint = HttpsEndpoint { token: None, client: None, ..endpoint.clone() };
    let client = HttpClient::new(Endpoint::Https(endpoint))?;
    let mut ask = json!({"username": username, "password": password, "code": args.code});
    loop {
        match client.call(Request::post("/auth/v1/login", &ask)).await {
            Ok(answer) => return Ok(answer.json()?),
            Err(RequestError::Refused(status)) if status.is(Reason::Unauthorized) => {
                let wants_code = status.details.causes.iter().any(|cause| cause.reason == CODE_REQUIRED);
                if !wants_code || ask["code"].is_string() {
                    return Err(CliError::new(Exit::NotAllowed, "user name, password or code are wrong"));
                }
                let code = prompt::shown("code of your second factor: ");
                let code = code.map_err(|error| error.help("--code=CODE says the code of the second factor"))?;
                ask["code"] = code.trim().into();
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Enters the login: the login that was there before, and whether the context is the current one.
fn enter(config: &mut Config, door: &Door, id: &str, make_current: bool) -> (Option<String>, bool) {
    let name = door.context.as_str();
    let mut context = config.entry("contexts", name).cloned().unwrap_or_else(|| json!({"cluster": name}));
    let before = context["user"].as_str().and_then(|user| login_of(config, user));
    if let Some(cluster) = &door.cluster {
        config.put("clusters", name, cluster.clone());
        context["cluster"] = name.into();
    }
    context["user"] = name.into();
    config.put("contexts", name, context);
    let exec = json!({
        "apiVersion": VERSIONS[0], "command": command(), "args": session::arguments(id), "env": null,
        "interactiveMode": "Never", "provideClusterInfo": false,
    });
    config.put("users", name, json!({"exec": exec}));
    if make_current || config.current().is_none() {
        config.set_current(Some(name));
    }
    (before, config.current() == Some(name))
}

/// The login that a user of a kubeconfig stands for.
pub(super) fn login_of(config: &Config, user: &str) -> Option<String> {
    let exec = &config.entry("users", user)?["exec"];
    match Plugin::read(exec, Path::new("")) {
        Ok(Some(Plugin::Login(id))) => Some(id),
        _ => None,
    }
}

/// How others run this binary: by its name if PATH leads to it, so that an upgrade elsewhere is found, too.
fn command() -> String {
    let own = crate::daemon::this_binary().ok();
    let folders = environment("PATH").unwrap_or_default();
    let found = folders.split(':').map(|folder| Path::new(folder).join("appm")).find(|file| file.is_file());
    let same = found
        .and_then(|file| fs::canonicalize(file).ok())
        .is_some_and(|found| own.as_ref().and_then(|own| fs::canonicalize(own).ok()).is_some_and(|own| own == found));
    match own {
        Some(own) if !same => own.display().to_string(),
        _ => "appm".to_owned(),
    }
}

pub(super) fn logout(args: &LogoutArgs, global: &Global) -> Result<(), CliError> {
    let path = config_path(global)?;
    let config = Config::load(&path)?;
    let user = meant(&config, global).and_then(|context| config.parts(context)).map(|(_, user)| user);
    let Some(id) = user.and_then(|user| login_of(&config, user)) else {
        return Err(CliError::new(Exit::NotFound, "you are not logged in").help("`--context NAME` says where you are"));
    };
    let told = runtime()?.block_on(session::end(&id, args.all));
    match told {
        Ok(Some(ended)) if ended > 1 => screen::line(format_args!("logged out; {ended} sessions have ended"))?,
        Ok(_) => screen::line("logged out")?,
        Err(error) => {
            return Err(error.help("you are logged out here; the session ends by itself when nobody uses it"));
        }
    }
    Ok(())
}

pub(super) fn credential(args: &CredentialArgs) -> Result<(), CliError> {
    let asked = environment(INFO).and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
    let version = match asked["apiVersion"].as_str() {
        None => VERSIONS[0],
        Some(version) => VERSIONS.into_iter().find(|known| *known == version).ok_or_else(|| {
            CliError::usage(format!("credentials are given as {}, not as {version}", VERSIONS.join(" and ")))
        })?,
    };
    let saved = runtime()?.block_on(session::fresh(&args.session, None))?;
    let until = saved.expiration_time.0 - MARGIN;
    let seconds = jiff::Timestamp::from_second(until.as_second()).unwrap_or(until);
    let answer = json!({
        "apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": false},
        "status": {"token": saved.access_token, "expirationTimestamp": seconds.to_string()},
    });
    Ok(screen::line(answer)?)
}
