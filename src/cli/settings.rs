//! Which server a command talks to: `--kubeconfig` or `--context`, else the socket of `--data-dir`, else the current context if it is one of
//! `appm context`, else the socket of the usual data directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use hyper::Uri;
use serde_json::Value;

use crate::client::http::{Acting, ClientKey, Endpoint, HttpClient, HttpsEndpoint, TokenSource};

use super::{
    contexts::file::{Config, usual},
    error::{CliError, Exit, did_you_mean},
    plugin::Plugin,
    screen::ColorChoice,
};

/// What every command understands.
#[derive(Args, Clone, Debug)]
pub(super) struct Global {
    /// The server's data directory, whose socket is used [default: $XDG_DATA_HOME/appm; root: /var/lib/appm]
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        env = "APPM_DATA_DIR",
        hide_env_values = true
    )]
    pub(super) data_dir: Option<PathBuf>,
    /// A kubeconfig file, for a server that is reached over HTTPS
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FILE",
        env = "APPM_KUBECONFIG",
        hide_env_values = true
    )]
    pub(super) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig (`appm context`) [default: the current one, if appm made it; else this machine's server]
    #[arg(long, global = true, help_heading = "Global options", value_name = "NAME", add = super::complete::contexts())]
    pub(super) context: Option<String>,
    /// The namespace [default: default]
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        value_name = "NAME",
        add = super::complete::namespaces(),
        env = "APPM_NAMESPACE",
        hide_env_values = true
    )]
    pub(super) namespace: Option<String>,
    /// Ask in this user's name, for who may impersonate them
    #[arg(
        long = "as",
        global = true,
        help_heading = "Global options",
        value_name = "USER",
        add = super::complete::users()
    )]
    pub(super) acting_as: Option<String>,
    /// A group of the user of --as; may be repeated
    #[arg(long = "as-group", global = true, help_heading = "Global options", value_name = "GROUP")]
    pub(super) acting_groups: Vec<String>,
    /// Colour: auto, always or never
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(super) color: ColorChoice,
}

/// A variable of the environment; the command line is one of the two places that may look.
#[allow(clippy::disallowed_methods, reason = "settings come in here")]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Global {
    /// What is meant where no flag is given.
    pub(super) fn from_environment() -> Self {
        Self {
            data_dir: environment("APPM_DATA_DIR").map(Into::into),
            kubeconfig: environment("APPM_KUBECONFIG").map(Into::into),
            context: None,
            namespace: environment("APPM_NAMESPACE"),
            acting_as: None,
            acting_groups: Vec::new(),
            color: ColorChoice::Auto,
        }
    }

    /// In whose name to ask, if not one's own.
    ///
    /// # Errors
    /// When groups are named and no user.
    pub(super) fn acting(&self) -> Result<Option<Acting>, CliError> {
        let groups = self.acting_groups.clone();
        match &self.acting_as {
            Some(user) => Ok(Some(Acting { user: user.clone(), groups })),
            None if groups.is_empty() => Ok(None),
            None => Err(CliError::usage("--as-group goes with --as, which names the user")),
        }
    }

    /// The data directory that is meant.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(usual_data_dir)
    }

    /// A client of the server that is meant, and the namespace that is meant there.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(super) fn client(&self) -> Result<(HttpClient, Option<String>), CliError> {
        self.client_with(Plugin::tokens)
    }

    /// The same, if it can be had without asking anybody.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(super) fn client_at_hand(&self) -> Result<HttpClient, CliError> {
        self.client_with(Plugin::at_hand).map(|(client, _)| client)
    }

    fn client_with(&self, tokens: fn(Plugin) -> TokenSource) -> Result<(HttpClient, Option<String>), CliError> {
        let Target { endpoint, plugin, namespace } = self.target()?;
        let client = HttpClient::new(endpoint)?;
        Ok((if let Some(plugin) = plugin { client.bearing(tokens(plugin)) } else { client }, namespace))
    }

    fn target(&self) -> Result<Target, CliError> {
        let https = |found: Found| Target {
            endpoint: Endpoint::Https(found.endpoint),
            plugin: found.plugin,
            namespace: found.namespace,
        };
        let named = self.context.as_deref();
        if self.kubeconfig.is_some() || named.is_some() {
            let file = self.kubeconfig.clone().map_or_else(usual, Ok)?;
            return from_config(&Config::load(&file)?, named, &file).map(https);
        }
        if self.data_dir.is_none()
            && let Some((config, file)) = usual().ok().and_then(|file| Some((Config::load(&file).ok()?, file)))
            && config.current().is_some_and(|current| config.is_ours(current))
        {
            return from_config(&config, None, &file).map(https);
        }
        let folder = self.data_dir();
        let socket = folder.join("appm.sock");
        let kubeconfig = folder.join("kubeconfig");
        if !socket.exists() && kubeconfig.exists() {
            return from_config(&Config::load(&kubeconfig)?, None, &kubeconfig).map(https);
        }
        Ok(Target { endpoint: Endpoint::Unix(socket), plugin: None, namespace: None })
    }

    /// The same for a command that is about this machine: only what is said in so many words leads elsewhere.
    pub(super) fn here(&self) -> Self {
        Self { data_dir: Some(self.data_dir()), ..self.clone() }
    }
}

/// Root: `/var/lib/appm`; else `$XDG_DATA_HOME/appm`, else `~/.local/share/appm`.
fn usual_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/appm");
    }
    base_directory("XDG_DATA_HOME", ".local/share").unwrap_or_else(|| PathBuf::from(".")).join("appm")
}

/// One of the XDG base directories: what the variable says, if that is absolute, else its place in the home.
pub(super) fn base_directory(variable: &str, in_home: &str) -> Option<PathBuf> {
    let home = || environment("HOME").map(|home| Path::new(&home).join(in_home));
    environment(variable).map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home)
}

/// The server of a kubeconfig's current context.
///
/// # Errors
/// When the file cannot be used.
pub(super) fn read_kubeconfig(file: &Path) -> Result<HttpsEndpoint, CliError> {
    if !file.exists() {
        return Err(CliError::new(Exit::NotFound, format!("there is no kubeconfig at {}", file.display())));
    }
    from_config(&Config::load(file)?, None, file).map(|found| found.endpoint)
}

/// Where a command goes, and what lets it in there.
struct Target {
    endpoint: Endpoint,
    plugin: Option<Plugin>,
    namespace: Option<String>,
}

/// What a context of a kubeconfig says.
pub(super) struct Found {
    /// The server with its trust, and what lets one in if that is in the file.
    pub(super) endpoint: HttpsEndpoint,
    /// Who gives tokens, if the file has none.
    pub(super) plugin: Option<Plugin>,
    /// The namespace that is meant there.
    pub(super) namespace: Option<String>,
}

/// A context's server, or the current one's, with trust and credentials; and its namespace. `file` is where the kubeconfig lies.
///
/// # Errors
/// When something of it is not there or cannot be used.
pub(super) fn from_config(config: &Config, context: Option<&str>, file: &Path) -> Result<Found, CliError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let unusable =
        |why: String| CliError::new(Exit::InvalidInput, format!("{} is no usable kubeconfig: {why}", file.display()));
    if let Some(name) = context.filter(|name| config.entry("contexts", name).is_none()) {
        let error = CliError::new(Exit::NotFound, format!("there is no context `{name}` in {}", file.display()));
        return Err(error.maybe_help(did_you_mean(name, config.names("contexts"))));
    }
    let name = context.or(config.current()).ok_or_else(|| unusable("it has no current context".to_owned()))?;
    endpoint(config, name, folder).map_err(unusable)
}

/// `https://HOST:PORT`, taken apart; the port may be left out.
///
/// # Errors
/// When it is anything else.
pub(super) fn address_of(server: &str) -> Result<(String, u16), String> {
    let wrong = || format!("its server `{server}` is not https://HOST:PORT");
    let uri: Uri = server.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host).ok_or_else(wrong)? {
        "" => 443,
        // What is no port is none to the library.
        _ => authority.port_u16().ok_or_else(wrong)?,
    };
    let plain = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = host.trim_matches(['[', ']']);
    if plain && !host.is_empty() { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

fn endpoint(config: &Config, context: &str, folder: &Path) -> Result<Found, String> {
    let (cluster, user) = config.parts(context).ok_or("its context names no cluster")?;
    let cluster = config.entry("clusters", cluster).ok_or("its context names no cluster")?;
    let none = Value::Null;
    let user = config.entry("users", user).unwrap_or(&none);
    let text = |of: &Value, field: &str| of[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (host, port) = address_of(cluster["server"].as_str().unwrap_or_default())?;
    let data = |of: &Value, field: &str| match (text(of, &format!("{field}-data")), text(of, field)) {
        (Some(data), _) => {
            BASE64_STANDARD.decode(data.trim()).map(Some).map_err(|_| format!("its {field}-data is not base64"))
        }
        (None, Some(file)) => {
            let path = folder.join(file);
            fs::read(&path).map(Some).map_err(|e| format!("{}: {e}", path.display()))
        }
        (None, None) => Ok(None),
    };
    let ca_pem = data(cluster, "certificate-authority")?.ok_or("its cluster has no certificate-authority")?;
    let token = match (text(user, "token"), text(user, "tokenFile")) {
        (Some(token), _) => Some(token),
        (None, Some(file)) => {
            let path = folder.join(file);
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Some(text.trim().to_owned())
        }
        (None, None) => None,
    };
    let client = data(user, "client-certificate")?.zip(data(user, "client-key")?);
    let client = client.map(|(certificates_pem, key_pem)| Box::new(ClientKey { certificates_pem, key_pem }));
    let server_name = text(cluster, "tls-server-name");
    let namespace = config.entry("contexts", context).and_then(|context| text(context, "namespace"));
    // As in Kubernetes, what stands in the file comes before what is run.
    let plugin = (token.is_none() && client.is_none()).then(|| Plugin::read(&user["exec"], folder)).transpose()?;
    let endpoint = HttpsEndpoint { host, port, ca_pem, token, server_name, client };
    Ok(Found { endpoint, plugin: plugin.flatten(), namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_gives_server_trust_and_token() {
        let text = "\
apiVersion: v1
kind: Config
current-context: appm
clusters:
- {name: appm, cluster: {server: 'https://127.0.0.1:6060', certificate-authority-data: eA==}}
contexts:
- {name: appm, context: {cluster: appm, user: admin, namespace: prod}}
users:
- {name: admin, user: {token: secret}}
";
        let from_kubeconfig = |text: &str| {
            let path = Path::new("config");
            let config = Config::parse(path, text)?;
            from_config(&config, None, path).map(|found| {
                assert_eq!(found.namespace.as_deref(), Some("prod"));
                found.endpoint
            })
        };
        let endpoint = from_kubeconfig(text).expect("usable");
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 6060));
        assert_eq!((endpoint.ca_pem.as_slice(), endpoint.token.as_deref()), (&b"x"[..], Some("secret")));
        assert!(!format!("{endpoint:?}").contains("secret"));
        let ipv6 = text.replace("127.0.0.1:6060", "[::1]:7");
        assert_eq!(from_kubeconfig(&ipv6).expect("usable").host, "::1");
        assert!(from_kubeconfig("a: 1").is_err());
        assert!(from_kubeconfig(&text.replace("https", "http")).is_err());
        for bad in ["", "https://", "https://a/b", "a:1", "ftp://a", "https://a:99999", "https://u@a"] {
            assert!(address_of(bad).is_err(), "{bad}");
        }
        assert_eq!(address_of("https://a.example/"), Ok(("a.example".to_owned(), 443)));
    }
}
