//! Whoever must have seen a commit before it counts as done: the audit log.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::Provenance;
use crate::api::{Body, Key, Rev, StoredObject};

/// One object of a commit.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Which.
    pub key: Key,
    /// The revision at which it stood before; 0 if there was none.
    pub before: Rev,
    /// It before, if it is known still.
    pub old: Option<Arc<StoredObject>>,
    /// It after; `None` if it is gone.
    pub new: Option<Body>,
}

/// What a commit does, and for whom.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// Who and why.
    pub provenance: Provenance,
    /// Its revision.
    pub revision: Rev,
    /// What it writes.
    pub changes: Vec<Touched>,
}

/// Resolves when it is on disk, or says why it is not.
pub(super) type Seen = BoxFuture<'static, Result<(), String>>;

/// Sees the commits that were asked for from outside, those with a request id.
pub struct Witness {
    /// Why nothing can be witnessed at present; asked before a commit is written.
    pub refuses: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Told while the group is being written; its commits count as done when it has answered, too.
    pub tell: Box<dyn Fn(Vec<Testimony>) -> Seen + Send + Sync>,
}

/// Where the audit log stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// The number of the oldest record that is kept; 0: not said.
    pub first: u64,
    /// The number of the newest.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}
