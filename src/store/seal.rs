//! Bodies of sealed kinds (`KindInfo::sealed`) are encrypted before they reach the disk, from their first row on.
//!
//! AES-256-GCM with a key that lies beside the database (0600), so that a copy of the database alone tells nothing.
//! The object's key is authenticated with it: a sealed body cannot be put under another name. Layout on disk: the
//! format (1), a nonce of 12 bytes, the cipher text with its tag. Other kinds pass unchanged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;

use super::OpenError;
use crate::api::Key;

const FORMAT: u8 = 1;

/// Seals and unseals.
pub(super) struct Seal {
    key: RandomizedNonceKey,
    file: PathBuf,
}

/// A body that was sealed with another key, or under another name, or is damaged.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` cannot be unsealed with the key `{}`", file.display())]
pub(super) struct UnsealError {
    key: Key,
    file: PathBuf,
}

impl Seal {
    /// Reads the key, or makes one if there is none.
    pub(super) fn open(file: &Path) -> Result<Self, OpenError> {
        let unusable = |detail: String| OpenError::Key { file: file.to_owned(), detail };
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(file).map_err(|e| unusable(e.to_string()))?,
            Err(e) => return Err(unusable(e.to_string())),
        };
        let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|e| unusable(e.to_string()))?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| unusable("it has not 32 bytes".into()))?;
        Ok(Self { key, file: file.to_owned() })
    }

    /// What goes to disk.
    pub(super) fn seal(&self, key: &Key, body: &Bytes) -> Vec<u8> {
        if !key.kind.sealed {
            return body.to_vec();
        }
        let mut text = body.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(label(key)), &mut text);
        let nonce = nonce.expect("AES-GCM takes every body that fits into memory");
        [&[FORMAT], nonce.as_ref().as_slice(), &text].concat()
    }

    /// What came from disk.
    pub(super) fn unseal(&self, key: &Key, stored: &[u8]) -> Result<Bytes, UnsealError> {
        if !key.kind.sealed {
            return Ok(Bytes::copy_from_slice(stored));
        }
        self.open_sealed(key, stored).ok_or_else(|| UnsealError { key: key.clone(), file: self.file.clone() })
    }

    fn open_sealed(&self, key: &Key, stored: &[u8]) -> Option<Bytes> {
        let sealed = stored.strip_prefix(&[FORMAT])?;
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let body = self.key.open_in_place(nonce, Aad::from(label(key)), &mut text).ok()?;
        Some(Bytes::copy_from_slice(body))
    }
}

/// What binds a sealed body to its object. Names contain no NUL.
fn label(key: &Key) -> Vec<u8> {
    format!("{}\0{}\0{}", key.kind.qualified(), key.namespace, key.name).into_bytes()
}

/// Makes a key that is on disk before anything is sealed with it. Its randomness is the cryptographic library's own:
/// keys are the one thing that a simulation must not foresee.
fn make(file: &Path) -> io::Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    let text = BASE64_STANDARD.encode(bytes) + "\n";
    let dir = file.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = file.with_extension("new");
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    to.write_all(text.as_bytes())?;
    to.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(dir)?.sync_all()?;
    if let Some(above) = dir.parent() {
        File::open(above)?.sync_all()?;
    }
    Ok(text)
}
