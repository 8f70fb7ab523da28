//! Manifests that only who has a key can read: whole files of `age`, and files of SOPS, for the keys of a Secret.
//!
//! They are opened where they are read, so that all else sees text. What came out of one is known by its path
//! ([`Tree::is_sealed`](super::Tree::is_sealed)): nobody is shown what is written there, not even when it is wrong.

mod age;
mod sops;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use self::age::{Closed, Identity};
use super::{ReadError, has_manifest_ending};
use crate::policy::manifest;

/// The ending of a file that `age` has encrypted.
pub(super) const ENDING: &str = ".age";
/// What every key begins with.
const KEY: &str = "AGE-SECRET-KEY-";

/// The keys that open what a Source declares. Without any, what is encrypted is refused.
#[derive(Default)]
pub struct Keys {
    identities: Vec<Identity>,
    /// Tells them from others.
    name: Option<[u8; 32]>,
}

/// The text of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) text: Arc<str>,
    /// If it was encrypted: what tells its file from others.
    pub(super) sealed: Option<[u8; 32]>,
}

impl Keys {
    /// The keys in the entries of the Secret `name`: `AGE-SECRET-KEY-1…`, each on a line of its own.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn read<'a>(name: &str, entries: impl Iterator<Item = (&'a str, Vec<u8>)>) -> Result<Self, ReadError> {
        let wrong = |message: String| ReadError::new("DecryptionFailed", message);
        let (mut keys, mut hasher) = (Self::default(), Sha256::new());
        for (entry, bytes) in entries {
            let text = String::from_utf8_lossy(&bytes);
            for (number, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| line.starts_with(KEY)) {
                let identity = Identity::parse(line).ok_or_else(|| {
                    wrong(format!(
                        "line {} of `{entry}` in the secret `{name}` is no key that age-keygen has made",
                        number + 1
                    ))
                })?;
                hasher.update(line);
                keys.identities.push(identity);
            }
        }
        if keys.identities.is_empty() {
            return Err(wrong(format!("there is no line `{KEY}1…` in the secret `{name}`; `age-keygen` makes one")));
        }
        keys.name = Some(hasher.finalize().into());
        Ok(keys)
    }

    /// What tells these keys from others.
    pub(super) fn name(&self) -> Option<[u8; 32]> {
        self.name
    }

    /// True for a file that may be a manifest by its name: others that `age` has encrypted only where there are keys for them.
    pub(super) fn takes(&self, name: &str) -> bool {
        if name.starts_with('.') {
            return false;
        }
        match name.strip_suffix(ENDING) {
            Some(inner) => self.name.is_some() || has_manifest_ending(inner),
            None => has_manifest_ending(name),
        }
    }

    /// The text of a file, opened if it is closed.
    pub(super) fn open(&self, path: &str, bytes: Vec<u8>) -> Result<Content, ReadError> {
        let is_age = path.ends_with(ENDING) || age::is_age(&bytes);
        if is_age {
            let opened = self.needed(path)?.opened(path, |keys| age::read(&bytes, keys))?;
            return Ok(Content { text: text_of(path, opened)?, sealed: Some(Sha256::digest(&bytes).into()) });
        }
        let text = text_of(path, bytes)?;
        if !sops::is_sops(&text) {
            return Ok(Content { text, sealed: None });
        }
        let keys = self.needed(path)?;
        let documents = manifest::values(&text).ok_or_else(|| failed(path, "it is neither YAML nor JSON"))?;
        let opened = keys.opened(path, |keys| sops::read(&text, documents, keys))?;
        Ok(Content { text: opened.into(), sealed: Some(Sha256::digest(text.as_bytes()).into()) })
    }

    fn needed(&self, path: &str) -> Result<&Self, ReadError> {
        match self.name {
            Some(_) => Ok(self),
            None => Err(failed(path, "it is encrypted, and `spec.secrets.age.keySecret` names no secret with a key")),
        }
    }

    fn opened<T>(&self, path: &str, read: impl FnOnce(&[Identity]) -> Result<T, Closed>) -> Result<T, ReadError> {
        read(&self.identities).map_err(|closed| match closed {
            Closed::NotForUs => {
                failed(path, "it is encrypted for none of the keys in the secret of `spec.secrets.age.keySecret`")
            }
            Closed::Damaged(why) => failed(path, why),
        })
    }
}

fn failed(path: &str, why: &str) -> ReadError {
    ReadError::new("DecryptionFailed", format!("{path} cannot be decrypted: {why}"))
}

/// A file's text.
fn text_of(path: &str, bytes: Vec<u8>) -> Result<Arc<str>, ReadError> {
    let text = String::from_utf8(bytes);
    text.map(Arc::from).map_err(|_| ReadError::new("NotText", format!("{path} is no UTF-8 text")))
}
