//! What git is given to run in: an environment that is made here, and files that only the server can read.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::Engine as _;

use super::{Credentials, Wanted};
use crate::{api::SecretValue, drivers::sources::ReadError};

/// What git itself is told. `safe.directory`: a repository of another user may be read, since nothing of it is run.
const CONFIG: &str = "\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
[safe]
\tdirectory = *
[protocol \"ext\"]
\tallow = never
[submodule]
\trecurse = false
[gc]
\tautoDetach = false
[advice]
\tdetachedHead = false
";
/// How ssh is called, but for its files. Nothing of the account that the server runs as is used: neither its keys, nor its agent, nor its settings.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityAgent=none -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
    -o UpdateHostKeys=no -o GlobalKnownHostsFile=/dev/null";

/// Variables of the environment.
pub(super) type Variables = Vec<(OsString, OsString)>;

/// What has to be in the Secret before it is any use to ask.
///
/// # Errors
/// What is missing, in words.
pub(super) fn complete(wanted: &Wanted, credentials: &Credentials) -> Result<(), ReadError> {
    let url = &wanted.url;
    let by_ssh = url.starts_with("ssh://") || !url.contains("://");
    if by_ssh && credentials.known_hosts.is_none() {
        let message = format!(
            "{url} cannot be fetched: no secret that `git.secretRef` names has `known_hosts`, so nobody can tell its host from \
             another; `ssh-keyscan HOST` prints what belongs there: compare it with what its operator says"
        );
        return Err(ReadError::new("HostKeyRefused", message));
    }
    let (there, missing) = match (&credentials.username, &credentials.password) {
        (Some(_), None) => ("username", "password"),
        (None, Some(_)) => ("password", "username"),
        _ => return Ok(()),
    };
    let message = format!("{url} cannot be fetched: the secret has `{there}`, but no `{missing}`");
    Err(ReadError::new("AuthenticationFailed", message))
}

/// Writes the files that git needs below `dir`; the environment in which it runs.
pub(super) fn prepare(dir: &Path, wanted: &Wanted, credentials: &Credentials) -> io::Result<Variables> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("keys"))?;
    let write = |name: &str, bytes: &[u8]| -> io::Result<PathBuf> {
        let path = dir.join(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        Ok(path)
    };
    let mut env: Variables = Vec::new();
    let mut set = |name: &str, value: OsString| env.push((name.into(), value));
    set("GIT_CONFIG_GLOBAL", write("config", CONFIG.as_bytes())?.into());
    set("HOME", dir.into());
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("GIT_ALLOW_PROTOCOL", "https:http:ssh:file"),
        ("GIT_SSH_VARIANT", "ssh"),
        ("LC_ALL", "C"),
    ] {
        set(name, value.into());
    }
    let bytes = |value: &Option<SecretValue>| value.as_ref().and_then(SecretValue::bytes);
    let mut ssh = SSH.to_owned();
    let known = write("keys/known_hosts", &bytes(&credentials.known_hosts).unwrap_or_default())?;
    let _ = write!(ssh, " -o UserKnownHostsFile={}", quoted(&known));
    match bytes(&credentials.ssh_key) {
        Some(mut key) => {
            if !key.ends_with(b"\n") {
                key.push(b'\n');
            }
            let _ = write!(ssh, " -i {}", quoted(&write("keys/identity", &key)?));
        }
        None => ssh.push_str(" -o IdentityFile=none"),
    }
    set("GIT_SSH_COMMAND", ssh.into());
    let mut config: Vec<(String, OsString)> = Vec::new();
    if let Some(ca) = bytes(&credentials.ca) {
        config.push(("http.sslCAInfo".to_owned(), write("keys/ca.pem", &ca)?.into()));
    }
    if let (Some(name), Some(password)) = (bytes(&credentials.username), bytes(&credentials.password))
        && wanted.url.starts_with("https://")
    {
        let both = [name.as_slice(), b":", &password].concat();
        let header = format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(both));
        // Nobody else is shown them.
        config.push(("http.followRedirects".to_owned(), "false".into()));
        config.push((format!("http.{}.extraHeader", wanted.url), header.into()));
    }
    env.push(("GIT_CONFIG_COUNT".into(), config.len().to_string().into()));
    for (i, (name, value)) in config.into_iter().enumerate() {
        env.push((format!("GIT_CONFIG_KEY_{i}").into(), name.into()));
        env.push((format!("GIT_CONFIG_VALUE_{i}").into(), value));
    }
    Ok(env)
}

/// A path, for the shell that git starts ssh by.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
