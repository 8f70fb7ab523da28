//! The port to what makes commits last. It speaks of objects, revisions and commits, not of SQL.
//!
//! Two forms: [`super::Sqlite`], and [`super::Memory`] for the simulated world. The store alone calls it: one writer
//! calls `commit`, `reserve`, `compact`, `tidy` and `close` one after another; `changes` and all of [`Archive`] may run beside.

use std::path::PathBuf;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    Anchor, Archive, Limits, Provenance,
    backup::{Snapshot, SnapshotError},
};
use crate::api::{Body, ChangeLog, Durability, Key, KindInfo, Rev, Uid};

/// Makes commits last, and gives them back.
pub trait Engine: Archive {
    /// Everything that is needed at start. Called once, first.
    fn load(&self) -> BoxFuture<'_, Result<Loaded, OpenError>>;

    /// Records, synced, that revisions up to and including `end` may be handed out, that changes up to `oldest` cannot
    /// be resumed from, and that the store is in use in this boot.
    fn reserve(&self, end: Rev, oldest: Oldest) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Writes all of the group or nothing; synced, with everything before it, if the group is durable.
    /// After an error the group's revisions are never used again.
    fn commit(&self, group: Group) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Up to `limit` changes of `kind` after the revision `after` and up to `until`, in order.
    fn changes(
        &self,
        kind: &'static KindInfo,
        after: Rev,
        until: Rev,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ChangeRow>, EngineError>>;

    /// Up to which revisions the logs are beyond `limits`. Removes nothing.
    fn beyond<'a>(&'a self, limits: &'a Limits, now: Timestamp) -> BoxFuture<'a, Result<Bounds, EngineError>>;

    /// Removes about `rows` rows up to the bounds; true if there are more. The store has stopped serving them.
    fn compact(&self, bounds: Bounds, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>>;

    /// How what it holds is sealed; `None` if it keeps nothing where anybody could read it.
    fn sealing(&self) -> Option<Sealing>;

    /// Takes a new wrapping key in use, and with `data_keys` new data keys too: bodies that are sealed with the old ones
    /// are then [`Engine::reseal`]'s work. A crash at any moment leaves everything readable.
    fn rotate(&self, data_keys: bool) -> BoxFuture<'_, Result<Sealing, RotateError>>;

    /// Looks at about `rows` bodies, and seals those anew whose data key is retired; true if there are more. Costs nothing
    /// where no key is retired.
    fn reseal(&self, rows: usize) -> BoxFuture<'_, Result<bool, EngineError>>;

    /// Remembers where the audit log stands; synced with the next durable group at the latest.
    fn anchor(&self, anchor: Anchor) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Copies all that is on disk, as it is at one moment, beside the writer. One call at a time.
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, SnapshotError>>;

    /// Called between groups, after their answers: the time for housekeeping that may sync.
    fn tidy(&self) -> BoxFuture<'_, ()>;

    /// How many writes one commit may have.
    fn largest(&self) -> usize;

    /// Marks the shutdown as clean, syncs, and lets go of files and locks.
    fn close(&self) -> BoxFuture<'_, Result<(), EngineError>>;
}

/// The oldest revisions to resume from, by log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    /// Of the main change log.
    pub main: Rev,
    /// Of the short one.
    pub short: Rev,
}

impl Oldest {
    /// Of that log.
    pub fn of(self, log: ChangeLog) -> Rev {
        match log {
            ChangeLog::Main => self.main,
            ChangeLog::Short => self.short,
        }
    }
}

/// Rows at or below these revisions may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Of the two change logs.
    pub oldest: Oldest,
    /// Of the history.
    pub history: Rev,
}

/// Whether what was loaded is all that was ever acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// It is: the store was closed, or only the process died.
    Whole,
    /// The machine went down with the store open: relaxed commits may be lost, and revisions that somebody saw with them.
    Doubtful,
}

/// What an engine holds at start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All live objects.
    pub objects: Vec<LoadedObject>,
    /// The newest revision that is there; 0 in a new store.
    pub last: Rev,
    /// The end of the block of revisions that was reserved last.
    pub reserved: Rev,
    /// The oldest revisions to resume from.
    pub oldest: Oldest,
    /// Whether something may be missing.
    pub tail: Tail,
    /// Where the audit log stood.
    pub anchor: Option<Anchor>,
    /// Where all this was read from, for messages.
    pub place: PathBuf,
}

/// One live object.
#[derive(Clone, Debug)]
pub struct LoadedObject {
    /// Its key.
    pub key: Key,
    /// The revision of its last change.
    pub revision: Rev,
    /// Its body.
    pub body: Body,
}

/// Commits that are written together.
#[derive(Clone, Debug)]
pub struct Group {
    /// In the order of their revisions.
    pub txns: Vec<Txn>,
    /// The strictest of theirs.
    pub durability: Durability,
}

/// One commit with its revision.
#[derive(Clone, Debug)]
pub struct Txn {
    /// Its revision.
    pub revision: Rev,
    /// When.
    pub at: Timestamp,
    /// Who and why.
    pub provenance: Provenance,
    /// What it does.
    pub rows: Vec<Row>,
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of which object.
    pub key: Key,
    /// The object's uid.
    pub uid: Uid,
    /// The revision at which the object stood before; 0 if there was none.
    pub before: Rev,
    /// True if the object is gone; `body` is its last state then.
    pub deleted: bool,
    /// The body.
    pub body: Body,
    /// What the history gets.
    pub remembered: Remembered,
}

/// What the history gets of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing: only status changed, or the kind has no history.
    Nothing,
    /// A version of the object.
    Version(Body),
    /// That it was deleted.
    Deletion,
}

impl Remembered {
    /// How much room it takes; `None` if nothing is remembered.
    pub(super) fn size(&self) -> Option<usize> {
        /// Of a row beside its body, roughly.
        const ROW: usize = 128;
        match self {
            Remembered::Nothing => None,
            Remembered::Version(body) => Some(ROW + body.json().len()),
            Remembered::Deletion => Some(ROW),
        }
    }
}

/// One change, read back.
#[derive(Clone, Debug)]
pub struct ChangeRow {
    /// The commit's revision.
    pub revision: Rev,
    /// Of which object.
    pub key: Key,
    /// What was there before.
    pub before: Before,
    /// True for a deletion; `body` is the last state then.
    pub deleted: bool,
    /// The body after.
    pub body: Body,
}

/// What was there before a change.
#[derive(Clone, Debug)]
pub enum Before {
    /// Nothing: the object is new.
    Nothing,
    /// The object, at that revision.
    Object(Rev, Body),
    /// The object, or nothing: the log reaches back too little.
    Unknown,
}

/// The engine failed. The text is for the log and the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(pub String);

/// How what is stored is sealed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealing {
    /// The wrapping key's name: derived from it, and of no use without it.
    pub key: String,
    /// Where it is read from.
    pub key_file: String,
    /// Data keys that new bodies are sealed with: one for each namespace that holds something sealed.
    pub data_keys: usize,
    /// Data keys that some bodies may still need, until these are sealed anew.
    pub retired: usize,
}

/// Why keys cannot be changed. Everything is as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RotateError {
    /// The key file is not appm's own, and its first key is the one in use.
    #[error(
        "the first key in `{}` is in use already. Put a new one on a line above it (`head -c 32 /dev/urandom | base64`),          and keep the old one below until this has succeeded",
        file.display()
    )]
    NoNewKey {
        /// The key file.
        file: PathBuf,
    },
    /// The key in use is no longer in the key file.
    #[error("the key {id} is in use and no longer in `{}`. Put it back, below the new one", file.display())]
    Gone {
        /// The key file.
        file: PathBuf,
        /// The key's name.
        id: String,
    },
    /// The key file cannot be read or written.
    #[error("{0}")]
    KeyFile(String),
    /// The database cannot be written.
    #[error("{0}")]
    Engine(EngineError),
    /// Nothing is sealed here.
    #[error("nothing is sealed here")]
    Unsealed,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server uses the data directory.
    #[error("the data directory `{}` is in use by process {pid}", dir.display())]
    Locked {
        /// Which directory.
        dir: PathBuf,
        /// Who has it, if it says so.
        pid: String,
    },
    /// The file is damaged. It is left as it is.
    #[error(
        "the database `{}` is damaged ({detail}). Nothing was changed. Move it away together with its -wal file to start \
         empty, or put a backup in its place",
        file.display()
    )]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer appm wrote it.
    #[error("the database `{}` was written by a newer appm (schema {version})", file.display())]
    Newer {
        /// Which file.
        file: PathBuf,
        /// The first migration that this binary does not know.
        version: i64,
    },
    /// The key that secrets are sealed with is missing or unusable.
    #[error("the sealing key `{}` is unusable: {detail}", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// Why.
        detail: String,
    },
    /// A restore that was cut off cannot be finished.
    #[error("a restore was begun and cannot be finished: {0}")]
    Restore(Box<super::backup::RestoreError>),
    /// A file cannot be made or read.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Anything else that the engine says.
    #[error("cannot open the store: {0}")]
    Engine(EngineError),
}
