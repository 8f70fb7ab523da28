//! Which server a command talks to: `--kubeconfig`, else the socket of `--data-dir`, else that of the usual data directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use serde_json::Value;

use crate::{
    client::http::{Endpoint, HttpsEndpoint},
    policy::manifest,
};

use super::{
    error::{CliError, Exit},
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
            namespace: environment("APPM_NAMESPACE"),
            color: ColorChoice::Auto,
        }
    }

    /// The data directory that is meant.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(usual_data_dir)
    }

    /// Where the server is.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(super) fn endpoint(&self) -> Result<Endpoint, CliError> {
        if let Some(file) = &self.kubeconfig {
            return read_kubeconfig(file).map(Endpoint::Https);
        }
        let folder = self.data_dir();
        let socket = folder.join("appm.sock");
        let kubeconfig = folder.join("kubeconfig");
        if !socket.exists() && kubeconfig.exists() {
            return read_kubeconfig(&kubeconfig).map(Endpoint::Https);
        }
        Ok(Endpoint::Unix(socket))
    }
}

/// Root: `/var/lib/appm`; else `$XDG_DATA_HOME/appm`, else `~/.local/share/appm`.
fn usual_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/appm");
    }
    let home = || environment("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = environment("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    base.unwrap_or_else(|| PathBuf::from(".")).join("appm")
}

pub(super) fn read_kubeconfig(file: &Path) -> Result<HttpsEndpoint, CliError> {
    let text = fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    from_kubeconfig(&text, folder)
        .map_err(|why| CliError::new(Exit::InvalidInput, format!("{} is no usable kubeconfig: {why}", file.display())))
}

/// The current context's server, trust and token.
fn from_kubeconfig(text: &str, folder: &Path) -> Result<HttpsEndpoint, String> {
    let read = manifest::read(text);
    if let Some(fault) = read.faults.first() {
        return Err(format!("line {}: {}", fault.place.line, fault.message));
    }
    let config = read.documents.first().map(|d| d.value()).ok_or("it is empty")?;
    let named = |list: &str, name: &Value| {
        config[list].as_array().into_iter().flatten().find(|entry| entry["name"] == *name).cloned()
    };
    let context = named("contexts", &config["current-context"]).ok_or("it has no current context")?;
    let cluster = named("clusters", &context["context"]["cluster"]).ok_or("its context names no cluster")?;
    let user = named("users", &context["context"]["user"]).unwrap_or_default();
    let (cluster, user) = (&cluster["cluster"], &user["user"]);

    let server = cluster["server"].as_str().unwrap_or_default();
    let address = server.strip_prefix("https://").ok_or_else(|| format!("its server `{server}` is not https://…"))?;
    let address = address.trim_end_matches('/');
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && port.parse::<u16>().is_ok() => {
            (host, port.parse().unwrap_or(443))
        }
        _ => (address, 443),
    };
    let in_file = |value: &Value| {
        let path = folder.join(value.as_str().unwrap_or_default());
        fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let ca_pem = match cluster["certificate-authority-data"].as_str() {
        Some(data) => {
            BASE64_STANDARD.decode(data.trim()).map_err(|_| "its certificate-authority-data is not base64")?
        }
        None => in_file(&cluster["certificate-authority"])?,
    };
    let token = match user["token"].as_str() {
        Some(token) => Some(token.to_owned()),
        None if user["tokenFile"].is_string() => {
            Some(String::from_utf8_lossy(&in_file(&user["tokenFile"])?).trim().to_owned())
        }
        None => None,
    };
    Ok(HttpsEndpoint { host: host.trim_matches(['[', ']']).to_owned(), port, ca_pem, token })
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
- {name: appm, context: {cluster: appm, user: admin}}
users:
- {name: admin, user: {token: secret}}
";
        let endpoint = from_kubeconfig(text, Path::new(".")).expect("usable");
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("127.0.0.1", 6060));
        assert_eq!((endpoint.ca_pem.as_slice(), endpoint.token.as_deref()), (&b"x"[..], Some("secret")));
        assert!(!format!("{endpoint:?}").contains("secret"));
        let ipv6 = text.replace("127.0.0.1:6060", "[::1]:7");
        assert_eq!(from_kubeconfig(&ipv6, Path::new(".")).expect("usable").host, "::1");
        assert!(from_kubeconfig("a: 1", Path::new(".")).is_err());
        assert!(from_kubeconfig(&text.replace("https", "http"), Path::new(".")).is_err());
    }
}
