//! `appm context`: which servers there are, which one is meant, and how a new one is met.
//!
//! They stand in the user's kubeconfig, so kubectl knows them too. `local` is no entry: it is the socket of the data directory.

pub(super) mod file;
mod trust;

use std::{fs, io::Read, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    error::{CliError, Exit, did_you_mean},
    login::{
        login_of,
        session::{self, Saved},
    },
    output::{self, OutputArgs},
    plugin::Plugin,
    screen::{self, Screen},
    server::runtime,
    settings::{Found, Global, address_of, from_config},
    table::Table,
};
use crate::{
    client::http::HttpsEndpoint,
    policy::certificate::{Certificate, ders, fingerprint},
};
use file::Config;
use trust::Trust;

/// This machine's server, over its socket.
const LOCAL: &str = "local";

/// List, add and choose servers
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm context add prod --server https://prod.example:6060 --token-file token
  appm auth login --server https://prod.example:6060 --name prod         with a password
  appm context add prod --server https://prod.example:6060 --ca-fingerprint sha256:6f1c…
  appm context use prod          every command that names no server goes there
  appm get apps --context prod   this one does
  appm context use local         back to this machine's own
  appm context show local        its address, and the fingerprint for others to compare

A server that is not known yet is believed when somebody says yes to the fingerprint of its authority, or names it;
nothing secret is sent before. Contexts stand in $KUBECONFIG, else ~/.kube/config, and work with kubectl.")]
pub(super) struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Subcommand, Debug)]
enum ContextCommand {
    /// List the contexts
    #[command(visible_alias = "ls")]
    List(OutputArgs),
    /// Say which context is meant where none is named
    Current,
    /// Choose the context that is meant where none is named
    Use {
        /// Its name; `local`: this machine's server
        name: String,
    },
    /// Add a server, or change how it is reached
    Add(Box<AddArgs>),
    /// Show a context, with the fingerprint of its authority and without its secrets
    Show {
        /// Its name [default: the current one]
        name: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Fetch the authorities that a server has now, over a connection that the old ones vouch for
    Refresh {
        /// Its name [default: the current one]
        name: Option<String>,
    },
    /// Give a context another name
    Rename {
        /// The old name
        from: String,
        /// The new name
        to: String,
    },
    /// Forget a server, and what one is let in with
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name
        name: String,
    },
}

/// Why a server is believed that is met for the first time.
#[derive(Args, Debug)]
pub(super) struct TrustArgs {
    /// The authority of the server's certificate, in PEM
    #[arg(long, value_name = "FILE", conflicts_with = "ca_fingerprint")]
    ca_file: Option<PathBuf>,
    /// The fingerprint of its authority, which is then fetched from it
    #[arg(long, value_name = "sha256:HEX")]
    ca_fingerprint: Option<String>,
    /// The host that its certificate is for, if that is not the server's
    #[arg(long, value_name = "HOST")]
    tls_server_name: Option<String>,
}

#[derive(Args, Debug)]
struct AddArgs {
    /// What it is called here
    name: String,
    /// Where it is
    #[arg(long, value_name = "https://HOST:PORT")]
    server: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// A file with a token; -: stdin
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A client certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// The namespace that is meant there where none is named
    #[arg(long = "default-namespace", value_name = "NAME")]
    default_namespace: Option<String>,
    /// Make it the current one
    #[arg(long)]
    current: bool,
}

pub(super) fn run(args: ContextArgs, global: &Global) -> Result<(), CliError> {
    let path = match &global.kubeconfig {
        Some(file) => file.clone(),
        None => file::usual()?,
    };
    match args.command {
        ContextCommand::List(args) => list(&args, &Config::load(&path)?, global),
        ContextCommand::Current => Ok(screen::line(current(&Config::load(&path)?))?),
        ContextCommand::Use { name } => choose(&path, &name),
        ContextCommand::Add(args) => runtime()?.block_on(add(&path, &args)),
        ContextCommand::Show { name, output } => show(&path, name.as_deref(), &output, global),
        ContextCommand::Refresh { name } => runtime()?.block_on(refresh(&path, name.as_deref())),
        ContextCommand::Rename { from, to } => rename(&path, &from, &to),
        ContextCommand::Remove { name } => remove(&path, &name),
    }
}

/// The context that is meant where nothing is said.
fn current(config: &Config) -> &str {
    config.current().filter(|name| config.is_ours(name)).unwrap_or(LOCAL)
}

fn unknown(config: &Config, name: &str) -> CliError {
    let names = config.names("contexts").into_iter().chain([LOCAL]);
    CliError::new(Exit::NotFound, format!("there is no context `{name}`")).maybe_help(did_you_mean(name, names))
}

fn list(args: &OutputArgs, config: &Config, global: &Global) -> Result<(), CliError> {
    let meant = current(config);
    let server = |name: &str| {
        let cluster = config.parts(name).and_then(|(cluster, _)| config.entry("clusters", cluster));
        cluster.and_then(|c| c["server"].as_str()).unwrap_or_default().to_owned()
    };
    let mut all = vec![(LOCAL, global.data_dir().join("appm.sock").display().to_string(), "", "default")];
    for name in config.names("contexts") {
        let context = config.entry("contexts", name).unwrap_or(&Value::Null);
        let text = |field: &str, default| context[field].as_str().unwrap_or(default);
        all.push((name, server(name), text("user", ""), text("namespace", "default")));
    }
    if !args.output.is_table() {
        let of = |(name, server, user, namespace): &(&str, String, &str, &str)| json!({"name": name, "server": server, "user": user, "namespace": namespace, "current": *name == meant});
        return output::value(&args.output, &all.iter().map(of).collect::<Value>());
    }
    let mut table = Table::new(["CURRENT", "NAME", "SERVER", "USER", "NAMESPACE"]);
    for (name, server, user, namespace) in &all {
        table.add([if *name == meant { "*" } else { "" }, name, server, user, namespace]);
    }
    Ok(screen::print(table.render(&Screen::of_stdout(global.color), true))?)
}

fn choose(path: &std::path::Path, name: &str) -> Result<(), CliError> {
    Config::edit(path, |config| {
        if name == LOCAL {
            // A Kubernetes cluster that is the current one is not meant by appm anyway.
            if current(config) != LOCAL {
                config.set_current(None);
            }
            return Ok(());
        }
        if config.entry("contexts", name).is_none() {
            return Err(unknown(config, name));
        }
        if !config.is_ours(name) {
            let error = CliError::usage(format!("`{name}` was not made by `appm context add`"));
            return Err(error.help(format!("`--context {name}` goes there once, if it is a server of appm")));
        }
        config.set_current(Some(name));
        Ok(())
    })?;
    Ok(screen::line(format_args!("using `{name}`"))?)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|e| CliError::io(&format!("cannot read {}", path.display()), &e))
}

/// Meets a server: its entry among the clusters, and how it is reached.
///
/// # Errors
/// When it is not believed, or cannot prove what it is.
pub(super) async fn met(server: &str, args: &TrustArgs) -> Result<(Value, HttpsEndpoint), CliError> {
    let (host, port) = address_of(server).map_err(CliError::usage)?;
    let trust = match (&args.ca_file, &args.ca_fingerprint) {
        (Some(file), _) => Trust::Authority(read(file)?),
        (None, Some(fingerprint)) => Trust::Fingerprint(fingerprint),
        (None, None) => Trust::Asked,
    };
    let stranger = HttpsEndpoint {
        host,
        port,
        ca_pem: Vec::new(),
        token: None,
        server_name: args.tls_server_name.clone(),
        client: None,
    };
    let met = trust::meet(stranger, trust).await?;
    let mut cluster = json!({
        "server": server.trim_end_matches('/'), "certificate-authority-data": BASE64_STANDARD.encode(&met.ca_pem),
        "extensions": file::mark(),
    });
    if let Some(name) = &met.server_name {
        cluster["tls-server-name"] = name.as_str().into();
    }
    Ok((cluster, met))
}

/// A context is not taken from another program.
///
/// # Errors
/// When it is there and not ours.
pub(super) fn may_be_ours(config: &Config, name: &str) -> Result<(), CliError> {
    if name == LOCAL {
        return Err(CliError::usage("`local` is this machine's server; give it another name"));
    }
    if config.entry("contexts", name).is_some() && !config.is_ours(name) {
        return Err(CliError::new(Exit::Conflict, format!("`{name}` is there already, and not made by appm")));
    }
    Ok(())
}

async fn add(path: &std::path::Path, args: &AddArgs) -> Result<(), CliError> {
    may_be_ours(&Config::load(path)?, &args.name)?;
    let (cluster, _) = met(&args.server, &args.trust).await?;
    let user = credentials(args)?;
    let mut context = json!({"cluster": args.name, "user": args.name});
    if let Some(namespace) = &args.default_namespace {
        context["namespace"] = namespace.as_str().into();
    }
    Config::edit(path, |config| {
        may_be_ours(config, &args.name)?;
        config.put("clusters", &args.name, cluster);
        // What one is let in with stays, unless something new is given.
        if let Some(user) = user.or_else(|| config.entry("users", &args.name).is_none().then(|| json!({}))) {
            config.put("users", &args.name, user);
        }
        config.put("contexts", &args.name, context);
        if args.current {
            config.set_current(Some(&args.name));
        }
        Ok(())
    })?;
    let hint = if args.current {
        String::new()
    } else {
        format!("; `appm context use {}` makes it the current one", args.name)
    };
    Ok(screen::line(format_args!("context `{}` added{hint}", args.name))?)
}

/// What one is let in with, as far as it was given.
fn credentials(args: &AddArgs) -> Result<Option<Value>, CliError> {
    let mut user = serde_json::Map::new();
    if let Some(file) = &args.token_file {
        let token = match file.as_os_str() == "-" {
            false => String::from_utf8_lossy(&read(file)?).into_owned(),
            true => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|e| CliError::io("cannot read stdin", &e))?;
                text
            }
        };
        user.insert("token".to_owned(), token.trim().into());
    }
    if let (Some(certificate), Some(key)) = (&args.client_certificate, &args.client_key) {
        user.insert("client-certificate-data".to_owned(), BASE64_STANDARD.encode(read(certificate)?).into());
        user.insert("client-key-data".to_owned(), BASE64_STANDARD.encode(read(key)?).into());
    }
    Ok((!user.is_empty()).then(|| user.into()))
}

fn show(path: &std::path::Path, name: Option<&str>, args: &OutputArgs, global: &Global) -> Result<(), CliError> {
    let mine = Config::load(path)?;
    let name = name.unwrap_or_else(|| current(&mine)).to_owned();
    // What the server of this machine wrote for kubectl.
    let own = global.data_dir().join("kubeconfig");
    let (path, config) = match name.as_str() {
        LOCAL if !own.exists() => {
            let message = format!("there is no server in {}", global.data_dir().display());
            return Err(CliError::new(Exit::NotFound, message).help("`appm up` starts one"));
        }
        LOCAL => (own.as_path(), Config::load(&own)?),
        _ => (path, mine),
    };
    let inside = if name == LOCAL { config.current().unwrap_or_default() } else { &name };
    if config.entry("contexts", inside).is_none() {
        return Err(unknown(&config, &name));
    }
    let Found { endpoint, plugin, namespace } = from_config(&config, Some(inside), path)?;
    let authorities: Vec<Value> = ders(&endpoint.ca_pem)
        .iter()
        .map(|der| {
            let expires = Certificate::read(der).map(|facts| facts.expires.to_string()).unwrap_or_default();
            json!({"fingerprint": fingerprint(der), "expires": expires})
        })
        .collect();
    let proof = match (&endpoint.token, &endpoint.client, &plugin) {
        (_, Some(_), _) => "client certificate".to_owned(),
        (Some(_), None, _) => "token".to_owned(),
        (None, None, Some(Plugin::Login(id))) => match Saved::load(id) {
            Ok(saved) => format!("login of {}", saved.username),
            Err(_) => "login that has ended".to_owned(),
        },
        (None, None, Some(Plugin::Program(_))) => "credential plugin".to_owned(),
        (None, None, None) => "none".to_owned(),
    };
    let shown = json!({
        "name": name, "server": format!("{endpoint:?}"), "serverName": endpoint.server_name, "credential": proof,
        "namespace": namespace.unwrap_or_else(|| "default".to_owned()), "authorities": authorities,
    });
    if !args.output.is_table() {
        return output::value(&args.output, &shown);
    }
    let mut lines = vec![
        ("Name", name),
        ("Server", format!("{endpoint:?}")),
        ("Credential", proof),
        ("Namespace", shown["namespace"].as_str().unwrap_or_default().to_owned()),
    ];
    for authority in &authorities {
        let text = |field: &str| authority[field].as_str().unwrap_or_default().to_owned();
        lines.push(("Authority", format!("{} until {}", text("fingerprint"), text("expires"))));
    }
    let text: String =
        lines.iter().map(|(name, value)| format!("{:<12}{}\n", format!("{name}:"), screen::harmless(value))).collect();
    Ok(screen::print(text)?)
}

async fn refresh(path: &std::path::Path, name: Option<&str>) -> Result<(), CliError> {
    let config = Config::load(path)?;
    let name = name.unwrap_or_else(|| current(&config)).to_owned();
    if name == LOCAL {
        return Ok(screen::line("nothing to fetch: a socket has no authority")?);
    }
    let Some((cluster, _)) = config.parts(&name) else { return Err(unknown(&config, &name)) };
    let Found { endpoint, .. } = from_config(&config, Some(&name), path)?;
    let pem = trust::refreshed(&endpoint).await?;
    if pem == endpoint.ca_pem {
        return Ok(screen::line(format_args!("`{name}` has the server's authorities already"))?);
    }
    // They must vouch for the server, too, before they take the place of those that did.
    trust::meet(endpoint, Trust::Authority(pem.clone())).await?;
    Config::edit(path, |config| {
        let mut entry = config.entry("clusters", cluster).cloned().ok_or_else(|| unknown(config, &name))?;
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("certificate-authority");
        }
        entry["certificate-authority-data"] = BASE64_STANDARD.encode(&pem).into();
        config.put("clusters", cluster, entry);
        Ok(())
    })?;
    Ok(screen::line(format_args!("`{name}` has the server's authorities of now"))?)
}

fn rename(path: &std::path::Path, from: &str, to: &str) -> Result<(), CliError> {
    Config::edit(path, |config| {
        if to == LOCAL || config.entry("contexts", to).is_some() {
            return Err(CliError::new(Exit::Conflict, format!("there is a context `{to}` already")));
        }
        let is_current = config.current() == Some(from);
        let context = config.take("contexts", from).ok_or_else(|| unknown(config, from))?;
        config.put("contexts", to, context);
        if is_current {
            config.set_current(Some(to));
        }
        Ok(())
    })?;
    Ok(screen::line(format_args!("context `{from}` is `{to}` now"))?)
}

fn remove(path: &std::path::Path, name: &str) -> Result<(), CliError> {
    let login = Config::edit(path, |config| {
        let Some((cluster, user)) = config.parts(name) else { return Err(unknown(config, name)) };
        let (cluster, user) = (cluster.to_owned(), user.to_owned());
        if config.current() == Some(name) {
            config.set_current(None);
        }
        config.take("contexts", name);
        // What no other context uses goes with it: a token that nobody knows of is one that nobody revokes.
        let others: Vec<_> = config.names("contexts").into_iter().filter_map(|other| config.parts(other)).collect();
        let (keep_cluster, keep_user) =
            (others.iter().any(|(c, _)| *c == cluster), others.iter().any(|(_, u)| *u == user));
        if !keep_cluster {
            config.take("clusters", &cluster);
        }
        let mut login = None;
        if !keep_user {
            login = login_of(config, &user);
            config.take("users", &user);
        }
        Ok(login)
    })?;
    if let Some(login) = login {
        session::forget(&login);
    }
    Ok(screen::line(format_args!("context `{name}` removed"))?)
}
