//! A login as it is kept between commands: one file, 0600, with the access token and the refresh token that follows it.
//!
//! A refresh token is good once. Two commands that found the access token ended would both show it, and the server would take the
//! second for a thief and end the login. So whoever refreshes holds a lock beside the file, looks at the file again, and has
//! written the next token before the lock goes.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    api::{Reason, Time},
    client::http::{Endpoint, HttpClient, HttpsEndpoint, Request, RequestError},
    clock::{Clock, System},
};

use super::super::{
    contexts::file,
    error::{CliError, Exit},
    settings::{address_of, base_directory},
};

/// A token that ends within this time is followed by another.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// A login.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Saved {
    /// `https://HOST:PORT`: nothing of it is sent anywhere else from here.
    pub(in crate::cli) server: String,
    /// What vouches for the server.
    pub(super) certificate_authority: String,
    /// The name that its certificate is for, if that is not the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tls_server_name: Option<String>,
    /// Who logged in.
    pub(in crate::cli) username: String,
    /// Shown with requests.
    pub(in crate::cli) access_token: String,
    /// When that ends.
    pub(in crate::cli) expiration_time: Time,
    /// Gives the next one; a login that may only enrol a second factor has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
}

/// The session that a credential plugin's command line names, if it is our own.
pub(in crate::cli) fn named_by(command: &str, args: &[String]) -> Option<String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match (Path::new(command).file_name()?.to_str()?, words.as_slice()) {
        ("appm", ["auth", "credential", "--session", id]) if is_id(id) => Some((*id).to_owned()),
        _ => None,
    }
}

/// The command line for [`named_by`].
pub(super) fn arguments(id: &str) -> Value {
    json!(["auth", "credential", "--session", id])
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A new name.
pub(super) fn new_id() -> String {
    format!("{:016x}", System.random())
}

/// Root: `/root/.local/state` is no exception: it is the user's own.
fn folder() -> Result<PathBuf, CliError> {
    let base = base_directory("XDG_STATE_HOME", ".local/state")
        .ok_or_else(|| CliError::usage("where is your home?").help("HOME=DIR or XDG_STATE_HOME=DIR says it"))?;
    Ok(base.join("appm/sessions"))
}

fn path(id: &str) -> Result<PathBuf, CliError> {
    if is_id(id) { Ok(folder()?.join(format!("{id}.json"))) } else { Err(CliError::usage("that is no session")) }
}

fn over() -> CliError {
    CliError::new(Exit::NotAllowed, "you are not logged in any more").help("`appm auth login` logs in")
}

impl Saved {
    /// Reads a login.
    ///
    /// # Errors
    /// When it is not there, or cannot be read.
    pub(in crate::cli) fn load(id: &str) -> Result<Self, CliError> {
        let path = path(id)?;
        let failed = |e: io::Error| CliError::io(&format!("cannot read {}", path.display()), &e);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(over()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps a login, in place of an earlier one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, id: &str) -> Result<(), CliError> {
        let path = path(id)?;
        let folder = path.parent().expect("it lies in a folder");
        let failed = |e: io::Error| CliError::io(&format!("cannot write {}", path.display()), &e);
        make(folder).map_err(failed)?;
        let text = serde_json::to_string(self).expect("plain data");
        file::replace(&path, folder, &path.with_extension("new"), &text).map_err(failed)
    }

    /// A client that shows this token, or none.
    fn client(&self, token: Option<String>) -> Result<HttpClient, CliError> {
        let (host, port) = address_of(&self.server).map_err(CliError::failed)?;
        Ok(HttpClient::new(Endpoint::Https(HttpsEndpoint {
            host,
            port,
            ca_pem: self.certificate_authority.clone().into_bytes(),
            token,
            server_name: self.tls_server_name.clone(),
            client: None,
        }))?)
    }

    fn lasts(&self, refused: Option<&str>) -> bool {
        self.expiration_time.0 > System.now() + MARGIN && refused != Some(&self.access_token)
    }

    /// Takes over what the server has granted.
    pub(super) fn take(&mut self, granted: &Value) -> Option<()> {
        self.access_token = granted["accessToken"].as_str()?.to_owned();
        self.expiration_time = Time(granted["expirationTime"].as_str()?.parse().ok()?);
        self.refresh_token = granted["refreshToken"].as_str().map(str::to_owned);
        Some(())
    }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A login whose access token is good for a minute more at least, and is not the one that was refused.
///
/// # Errors
/// When one must log in again, or the server does not answer.
pub(in crate::cli) async fn fresh(id: &str, refused: Option<&str>) -> Result<Saved, CliError> {
    let saved = Saved::load(id)?;
    if saved.lasts(refused) {
        return Ok(saved);
    }
    let _lock = lock(id).await?;
    // Whoever held it before has it done already.
    let mut saved = Saved::load(id)?;
    if saved.lasts(refused) {
        return Ok(saved);
    }
    let Some(token) = &saved.refresh_token else {
        // It is good to its end and not renewed.
        return if refused.is_none() && saved.expiration_time.0 > System.now() { Ok(saved) } else { Err(over()) };
    };
    let ask = Request::post("/auth/v1/refresh", &json!({"refreshToken": token}));
    let granted = match saved.client(None)?.call(ask).await {
        Ok(answer) => answer.json()?,
        Err(RequestError::Refused(status)) if status.is(Reason::Unauthorized) => return Err(over()),
        Err(error) => return Err(error.into()),
    };
    saved.take(&granted).ok_or_else(|| CliError::failed("the server's answer is not understood"))?;
    saved.save(id)?;
    Ok(saved)
}

/// Ends a login, at the server if that can be told, and here.
///
/// # Errors
/// When the server could not be told; it is forgotten here all the same.
pub(super) async fn end(id: &str, all: bool) -> Result<Option<u64>, CliError> {
    let told = async {
        let saved = match fresh(id, None).await {
            Err(error) if error.exit == Exit::NotAllowed => return Ok(None),
            saved => saved?,
        };
        let client = saved.client(Some(saved.access_token.clone()))?;
        match client.call(Request::post("/auth/v1/logout", &json!({"all": all}))).await {
            Err(RequestError::Refused(status)) if status.is(Reason::Unauthorized) => Ok(None),
            answer => Ok(answer?.json()?["ended"].as_u64()),
        }
    };
    let told = told.await;
    forget(id);
    told
}

/// Takes away what is kept of a login.
pub(in crate::cli) fn forget(id: &str) {
    for suffix in ["json", "new", "lock"] {
        // What is not there is forgotten already.
        let _ = path(id).map(|path| fs::remove_file(path.with_extension(suffix)));
    }
}

/// Waits until nobody else refreshes this login. What is returned holds the lock.
async fn lock(id: &str) -> Result<fs::File, CliError> {
    let path = path(id)?.with_extension("lock");
    let locked = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            make(path.parent().expect("it lies in a folder"))?;
            let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        }
    });
    let locked: io::Result<fs::File> = locked.await.map_err(|e| CliError::failed(e.to_string()))?;
    locked.map_err(|e| CliError::io(&format!("cannot lock {}", path.display()), &e))
}
