//! What a driver fetches before a start: images, with credentials that nobody sees.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::api::{ContainerRuntime, ImagePullPolicy, Uid};

/// What must be there before a start.
#[derive(Clone, Debug)]
pub struct Need {
    /// For which Instance.
    pub uid: Uid,
    /// The image.
    pub image: String,
    /// When it is fetched.
    pub policy: ImagePullPolicy,
    /// To which engine.
    pub runtime: ContainerRuntime,
    /// Credentials, by the registry or repository that they are for.
    pub logins: BTreeMap<String, Login>,
}

/// Credentials for a registry. They do not print.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Instead of both: a token.
    pub identity_token: String,
}

impl Login {
    /// User and password in the form `base64(user:password)`.
    pub fn pair(auth: &str) -> Option<(String, String)> {
        let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.to_owned()))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Something was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How long it took.
    pub took: Duration,
    /// Its size in bytes.
    pub size: u64,
}

/// Why what a start needs is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No engine answers: time or the operator mends it.
    #[error("{0}")]
    NoEngine(String),
    /// The image cannot be fetched.
    #[error("{0}")]
    Image(String),
    /// It is not there, and must not be fetched.
    #[error("{0}")]
    Absent(String),
}
