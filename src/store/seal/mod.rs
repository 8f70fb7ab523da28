//! Bodies of sealed kinds (`KindInfo::sealed`) are encrypted before they reach the disk, from their first row on.
//!
//! ```text
//!   key file ──wraps──► data key of a namespace ──seals──► bodies in the tables `object`, `change`, `history`
//!   keys/seal.key       table `data_key`
//! ```
//! AES-256-GCM at both places. A copy of the database alone tells nothing; a key of one namespace tells nothing of
//! another. The object's key is authenticated with its body, the namespace with its data key: nothing can be put under
//! another name. What is sealed says which data key it needs, so that several can be in use while they are changed.
//!
//! A data key is made when a namespace seals for the first time, and its row is written in the same transaction as the
//! body that needs it. Layout of a sealed body: the format (2), the data key's id (8 bytes), a nonce of 12 bytes, the
//! cipher text with its tag. Format 1 has no id: the key of the file itself sealed it. Other kinds pass unchanged.

mod wrap;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, RwLock},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use bytes::Bytes;

pub(super) use wrap::{KeyFile, WrappingKey};

use crate::api::Key;

const OLD_FORMAT: u8 = 1;
const FORMAT: u8 = 2;

/// The data key that is the key file's key itself: format 1.
pub(super) const OLD_KEY: i64 = 0;

/// Seals and unseals.
pub(super) struct Seal {
    ring: RwLock<Ring>,
}

/// The keys at hand.
struct Ring {
    wrapping: WrappingKey,
    known: HashMap<i64, RandomizedNonceKey>,
    /// What new bodies are sealed with, by namespace.
    active: BTreeMap<Arc<str>, i64>,
    /// What nothing new is sealed with.
    retired: BTreeSet<i64>,
}

/// A data key as it lies in its table.
#[derive(Clone, Debug)]
pub(super) struct DataKeyRow {
    pub(super) id: i64,
    pub(super) namespace: Arc<str>,
    /// The name of the key that it is wrapped with.
    pub(super) wrapping: String,
    pub(super) wrapped: Vec<u8>,
    pub(super) retired: bool,
}

/// A body that was sealed with another key, or under another name, or is damaged.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be unsealed: it is damaged, or not the body of this object, or its key is gone")]
pub(super) struct UnsealError(Key);

impl Seal {
    /// With no data keys yet.
    pub(super) fn new(wrapping: WrappingKey) -> Self {
        let (known, active, retired) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { ring: RwLock::new(Ring { wrapping, known, active, retired }) }
    }

    /// Takes a data key in use; false if the wrapping key in use did not wrap it.
    pub(super) fn learn(&self, row: &DataKeyRow) -> bool {
        let mut ring = self.write();
        let Some(raw) = ring.wrapping.unwrap(row.id, &row.namespace, &row.wrapped) else { return false };
        ring.known.insert(row.id, aead(&raw));
        if row.retired {
            ring.retired.insert(row.id);
        } else {
            ring.active.insert(row.namespace.clone(), row.id);
        }
        true
    }

    /// The row for a key with which an older appm sealed everything; `None` if it is not what sealed the
    /// body of that kind, namespace and name.
    pub(super) fn adopt(old: &WrappingKey, sample: (&str, &str, &str), body: &[u8]) -> Option<DataKeyRow> {
        open(&aead(old.raw()), label(sample), body.strip_prefix(&[OLD_FORMAT])?)?;
        let wrapped = old.wrap(OLD_KEY, "", old.raw());
        Some(DataKeyRow { id: OLD_KEY, namespace: "".into(), wrapping: old.id().to_owned(), wrapped, retired: true })
    }

    /// The same data key, wrapped with another key; `None` if `old` did not wrap it.
    pub(super) fn wrap_anew(row: &DataKeyRow, old: &WrappingKey, new: &WrappingKey) -> Option<DataKeyRow> {
        let raw = old.unwrap(row.id, &row.namespace, &row.wrapped)?;
        let wrapped = new.wrap(row.id, &row.namespace, &raw);
        Some(DataKeyRow { wrapping: new.id().to_owned(), wrapped, ..row.clone() })
    }

    /// New data keys are wrapped with this one from now on.
    pub(super) fn set_wrapping(&self, key: WrappingKey) {
        self.write().wrapping = key;
    }

    /// The name of the key that new data keys are wrapped with.
    pub(super) fn wrapping_id(&self) -> String {
        self.read().wrapping.id().to_owned()
    }

    /// Makes data keys for the namespaces among `keys` that have none. They count from now on; their rows must be
    /// written together with what is sealed with them, or be withdrawn.
    pub(super) fn prepare<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> Vec<DataKeyRow> {
        let mut wanted: BTreeSet<&Arc<str>> = keys.filter(|key| key.kind.sealed).map(|key| &key.namespace).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        wanted.retain(|namespace| !self.read().active.contains_key(*namespace));
        let mut ring = self.write();
        let made = wanted.into_iter().map(|namespace| {
            let (id, raw) = (new_id(), wrap::random());
            let wrapped = ring.wrapping.wrap(id, namespace, &raw);
            ring.known.insert(id, aead(&raw));
            ring.active.insert(namespace.clone(), id);
            let wrapping = ring.wrapping.id().to_owned();
            DataKeyRow { id, namespace: namespace.clone(), wrapping, wrapped, retired: false }
        });
        made.collect()
    }

    /// The rows could not be written: nothing more may be sealed with these keys. They can still be read with, because
    /// the disk may have them all the same.
    pub(super) fn withdraw(&self, rows: &[DataKeyRow]) {
        let mut ring = self.write();
        ring.active.retain(|_, id| !rows.iter().any(|row| row.id == *id));
    }

    /// Nothing new is sealed with the present data keys.
    pub(super) fn retire(&self) {
        let mut ring = self.write();
        let active = std::mem::take(&mut ring.active);
        ring.retired.extend(active.into_values());
    }

    /// No body needs the retired keys any more. A reader may still hold a row from before, so they stay at hand.
    pub(super) fn forget_retired(&self) {
        self.write().retired.clear();
    }

    /// How many data keys there are for new bodies, and how many are retired.
    pub(super) fn count(&self) -> (usize, usize) {
        let ring = self.read();
        (ring.active.len(), ring.retired.len())
    }

    /// Whether a stored body needs a key that is to go.
    pub(super) fn is_outdated(&self, stored: &[u8]) -> bool {
        key_of(stored).is_none_or(|(id, _)| self.read().retired.contains(&id))
    }

    /// What goes to disk. The namespace's data key was prepared.
    pub(super) fn seal(&self, key: &Key, body: &Bytes) -> Vec<u8> {
        if !key.kind.sealed {
            return body.to_vec();
        }
        let ring = self.read();
        let id = ring.active.get(&key.namespace).copied().expect("the data key was prepared");
        let mut text = body.to_vec();
        let nonce = ring.known[&id].seal_in_place_append_tag(Aad::from(label_of(key)), &mut text);
        let nonce = nonce.expect("AES-GCM takes every body that fits into memory");
        [&[FORMAT], id.to_be_bytes().as_slice(), nonce.as_ref(), &text].concat()
    }

    /// What came from disk.
    pub(super) fn unseal(&self, key: &Key, stored: &[u8]) -> Result<Bytes, UnsealError> {
        if !key.kind.sealed {
            return Ok(Bytes::copy_from_slice(stored));
        }
        let ring = self.read();
        let opened = key_of(stored).and_then(|(id, sealed)| open(ring.known.get(&id)?, label_of(key), sealed));
        opened.ok_or_else(|| UnsealError(key.clone()))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Ring> {
        self.ring.read().expect("nobody panics while holding the keys")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Ring> {
        self.ring.write().expect("nobody panics while holding the keys")
    }
}

/// Which data key a stored body needs, and what it seals.
fn key_of(stored: &[u8]) -> Option<(i64, &[u8])> {
    match stored.split_first()? {
        (&OLD_FORMAT, sealed) => Some((OLD_KEY, sealed)),
        (&FORMAT, rest) => rest.split_first_chunk().map(|(id, sealed)| (i64::from_be_bytes(*id), sealed)),
        _ => None,
    }
}

fn open(with: &RandomizedNonceKey, label: Vec<u8>, sealed: &[u8]) -> Option<Bytes> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let length = with.open_in_place(nonce, Aad::from(label), &mut text).ok()?.len();
    text.truncate(length);
    Some(text.into())
}

fn aead(raw: &[u8; 32]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, raw).expect("32 bytes are a key")
}

/// Positive, and not 0: that is the old key's.
fn new_id() -> i64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel gives randomness");
    (i64::from_be_bytes(bytes) & i64::MAX).max(1)
}

/// What binds a sealed body to its object. Names contain no NUL.
fn label((kind, namespace, name): (&str, &str, &str)) -> Vec<u8> {
    format!("{kind}\0{namespace}\0{name}").into_bytes()
}

fn label_of(key: &Key) -> Vec<u8> {
    label((&key.kind.qualified(), &key.namespace, &key.name))
}
