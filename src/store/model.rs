//! What a store is told and what it tells: commits, changes, snapshots. No SQL here, and no etcd.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    api::{Body, Durability, Key, Rev, StoredObject, Uid},
    policy::quota::Ceiling,
};

/// Who changed something, and why. Kept with every transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The authenticated user, `system:…` for appm's own parts.
    pub actor: String,
    /// The field manager.
    pub manager: String,
    /// The request, as it stands in the server's log.
    pub request_id: String,
    /// The revision that this change answers to, for controllers.
    pub cause: Option<Rev>,
    /// Why, in the writer's words.
    pub reason: String,
    /// What allowed it. For whoever witnesses the commit: the store does not keep it.
    pub rule: String,
}

/// What must hold of an object for a write to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no object of that key.
    Absent,
    /// The object is at this revision.
    At(Rev),
}

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Of which object.
    pub key: Key,
    /// What must hold; checked by the writer, so nothing comes between check and write.
    pub expect: Expect,
    /// The new body, or `None` to delete.
    pub body: Option<Body>,
    /// True if only metadata the history does not keep, or status, changes: the write stays out of the history.
    pub status_only: bool,
}

/// Writes that are done together, in one revision, or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The writes, in order; keys are distinct.
    pub writes: Vec<Write>,
    /// What must hold of objects that are not written.
    pub given: Vec<(Key, Expect)>,
    /// What no account may come to have more of by it. Judged by the writer, so that of two that reach for the last room one gets it.
    pub ceilings: Vec<Ceiling>,
    /// When the commit counts as done.
    pub durability: Durability,
    /// Who and why.
    pub provenance: Provenance,
    /// When.
    pub at: Timestamp,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its revision.
    pub revision: Rev,
    /// The new version of each written object, in order; for deletions, the last state at this revision.
    pub objects: Vec<Arc<StoredObject>>,
}

/// Why a commit was not done. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A write's expectation does not hold: read again and decide anew.
    #[error("`{0}` was changed meanwhile")]
    Conflict(Key),
    /// There is less room below a ceiling than there was: count again.
    #[error("others have taken the room meanwhile")]
    Crowded,
    /// More writes than one commit may have.
    #[error("{writes} writes are more than the {largest} that one transaction may have")]
    TooLarge {
        /// How many there were.
        writes: usize,
        /// How many there may be.
        largest: usize,
    },
    /// Too many writers are waiting: try again later.
    #[error("the store is overloaded")]
    Overloaded,
    /// The disk did not take it: the operator must act. The text is for the log.
    #[error("the store cannot write: {0}")]
    Unwritable(String),
    /// Nobody can witness it at present. It was not done.
    #[error("{0}")]
    Unwitnessed(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version before, if there was one (and if it is still known).
    pub old: Option<Arc<StoredObject>>,
    /// The version after; for a deletion, the last state at the revision of the deletion.
    pub new: Arc<StoredObject>,
    /// True for a deletion.
    pub deleted: bool,
    /// False if `old` could not be known (the change was read back from disk, and the one before it is gone from there):
    /// a watcher with a selector must then treat an object that does not match as one that has just left.
    pub old_known: bool,
}

/// All changes of one kind by one commit. Delivered together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The commit's revision.
    pub revision: Rev,
    /// Its changes of the kind that is watched, in order.
    pub changes: Vec<Change>,
}

/// Objects of one kind at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The revision.
    pub revision: Rev,
    /// Sorted by namespace and name.
    pub items: Vec<Arc<StoredObject>>,
}

/// Why a watch cannot begin or go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The history from there on is gone.
    #[error("revision {asked} is older than {oldest}, the oldest that is kept")]
    Expired {
        /// What was asked for.
        asked: Rev,
        /// The oldest revision to resume from.
        oldest: Rev,
    },
    /// The watcher did not keep up and was cut off; it may resume from its last revision.
    #[error("the watcher was too slow")]
    TooSlow,
    /// The revision lies in the future.
    #[error("revision {asked} is newer than {current}")]
    Future {
        /// What was asked for.
        asked: Rev,
        /// The newest revision.
        current: Rev,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// One entry of the history of an object.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    /// When, by whom, why.
    pub at: Timestamp,
    /// Who and why.
    pub provenance: Provenance,
    /// The revision.
    pub revision: Rev,
    /// The uid of the object then.
    pub uid: Uid,
    /// The body then; `None` for the deletion.
    pub body: Option<Body>,
}
