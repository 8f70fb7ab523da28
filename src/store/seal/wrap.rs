//! The key file: one key a line, base64 of 32 bytes; the first wraps, the others only unwrap what they once wrapped.
//!
//! A file with several keys is the state between two steps of a rotation. appm's own file (`keys/seal.key`) is made and
//! changed here, always as a whole: a new file beside it, synced, renamed over it. A file that was named by
//! `--seal-key-file` belongs to whoever made it, and is only read.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::store::OpenError;

/// 32 random bytes that are wiped when they are dropped.
pub(super) type Raw = Zeroizing<[u8; 32]>;

/// A new key. Its randomness is the cryptographic library's own: keys are the one thing that a simulation must not foresee.
pub(super) fn random() -> Raw {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).expect("the kernel gives randomness");
    bytes
}

/// A key of the key file.
pub(in crate::store) struct WrappingKey {
    raw: Raw,
    id: String,
    key: RandomizedNonceKey,
}

/// A length of what is derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl WrappingKey {
    fn new(raw: Raw) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"appm seal").extract(&*raw);
        let derive = |label: &[u8], into: &mut [u8]| {
            let labels = [label];
            let derived = secret.expand(&labels, Length(into.len()));
            derived.and_then(|derived| derived.fill(into)).expect("HKDF gives so few bytes");
        };
        // The file's bytes themselves may be a data key (see `Seal::adopt`): no key does two things.
        let (mut key, mut id) = (Zeroizing::new([0; 32]), [0; 8]);
        derive(b"wrap", key.as_mut());
        derive(b"name", &mut id);
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).expect("32 bytes are a key");
        Self { raw, id: hex::encode(id), key }
    }

    /// A new one.
    pub(in crate::store) fn make() -> Self {
        Self::new(random())
    }

    /// Tells keys apart without telling the key: derived from it one way.
    pub(in crate::store) fn id(&self) -> &str {
        &self.id
    }

    /// The file's bytes: what older appms sealed everything with.
    pub(super) fn raw(&self) -> &Raw {
        &self.raw
    }

    /// A data key as it may lie on disk.
    pub(super) fn wrap(&self, id: i64, namespace: &str, data_key: &Raw) -> Vec<u8> {
        let mut text = Zeroizing::new(data_key.to_vec());
        // Room for the tag, so that no copy of the key stays behind.
        text.reserve_exact(16);
        let nonce = self.key.seal_in_place_append_tag(Aad::from(label(id, namespace)), &mut *text);
        [nonce.expect("AES-GCM takes 32 bytes").as_ref().as_slice(), &text].concat()
    }

    /// The data key again; `None` if it was wrapped with another key, or is damaged or another namespace's.
    pub(super) fn unwrap(&self, id: i64, namespace: &str, wrapped: &[u8]) -> Option<Raw> {
        let (nonce, text) = wrapped.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(text.to_vec());
        let key = self.key.open_in_place(nonce, Aad::from(label(id, namespace)), &mut text).ok()?;
        key.try_into().ok().map(Zeroizing::new)
    }
}

/// What binds a wrapped key to its row.
fn label(id: i64, namespace: &str) -> Vec<u8> {
    format!("data key\0{id}\0{namespace}").into_bytes()
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.id)
    }
}

/// Where the keys are.
#[derive(Clone, Debug)]
pub(in crate::store) struct KeyFile {
    pub(in crate::store) path: PathBuf,
    /// Whether appm made the file and may change it.
    pub(in crate::store) ours: bool,
}

impl KeyFile {
    /// The keys, the first first; `None` if there is no such file.
    pub(in crate::store) fn read(&self) -> Result<Option<Vec<WrappingKey>>, OpenError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.unusable(e)),
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| {
            let bytes = Zeroizing::new(BASE64_STANDARD.decode(line).map_err(|e| self.unusable(e))?);
            let raw = <[u8; 32]>::try_from(bytes.as_slice());
            let raw = raw.map_err(|_| self.unusable("a key is 32 bytes, written in base64"))?;
            Ok(WrappingKey::new(Zeroizing::new(raw)))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(self.unusable("there is no key in it")) } else { Ok(Some(keys)) }
    }

    /// Puts these keys into appm's own file; on disk when this returns.
    pub(in crate::store) fn write(&self, keys: &[&WrappingKey]) -> io::Result<()> {
        let mut text = Zeroizing::new(String::with_capacity(45 * keys.len()));
        for key in keys {
            BASE64_STANDARD.encode_string(key.raw.as_slice(), &mut text);
            text.push('\n');
        }
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let draft = self.path.with_extension("new");
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        to.write_all(text.as_bytes())?;
        to.sync_all()?;
        fs::rename(&draft, &self.path)?;
        File::open(dir)?.sync_all()?;
        if let Some(above) = dir.parent() {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }

    /// The file cannot be used.
    pub(in crate::store) fn unusable(&self, detail: impl ToString) -> OpenError {
        OpenError::Key { file: self.path.clone(), detail: detail.to_string() }
    }
}
