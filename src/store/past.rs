//! What was: versions of objects, whole collections as they stood, transactions, and pins. Answered by the engine beside the writer.
//!
//! What stood at any revision that is not older than the [`Horizon`] can be told exactly: of each object the last version before the
//! horizon is kept until another one has come, however old it is. A pinned version is kept until its last pin goes.

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{EngineError, HistoryEntry, Provenance, Store};
use crate::api::{Key, KindInfo, Rev, Uid};

/// One answer holds no more bytes of bodies than this, and at least one body.
pub const PAGE_BYTES: usize = 8 << 20;

/// Pins that one object may have.
pub const MOST_PINS: usize = 100;

/// What an engine tells of the past, and the pins that it keeps.
pub trait Archive: Send + Sync + 'static {
    /// From where on the past is known.
    fn horizon(&self) -> BoxFuture<'_, Result<Horizon, EngineError>>;

    /// The newest revision that was there at a moment.
    fn revision_at(&self, at: Timestamp) -> BoxFuture<'_, Result<Rev, EngineError>>;

    /// Remembered versions of an object before a revision (`None`: all), newest first, at most `limit`.
    fn versions<'a>(
        &'a self,
        key: &'a Key,
        below: Option<Rev>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<HistoryEntry>, EngineError>>;

    /// Objects as they stood, sorted by namespace and name.
    fn as_of<'a>(&'a self, of: &'a AsOf, limit: usize) -> BoxFuture<'a, Result<Stood, EngineError>>;

    /// Transactions that changed anything that the history remembers, newest first.
    fn transactions<'a>(
        &'a self,
        of: &'a Transactions,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PastTransaction>, EngineError>>;

    /// Keeps a version, durably; a pin of that name that the object has moves. False if there is no such version.
    fn pin(&self, pin: Pin) -> BoxFuture<'_, Result<bool, EngineError>>;

    /// Lets go of a version, durably. False if the object has no such pin.
    fn unpin<'a>(&'a self, key: &'a Key, name: &'a str) -> BoxFuture<'a, Result<bool, EngineError>>;

    /// The pins of an object, by name.
    fn pins<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Vec<Pin>, EngineError>>;
}

/// From where on the past is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    /// The oldest revision of which it is known what stood then.
    pub oldest: Rev,
    /// When the oldest change after that was made; `None` if there is none yet.
    pub since: Option<Timestamp>,
}

/// Objects of a kind at a revision.
#[derive(Clone, Debug)]
pub struct AsOf {
    /// Of which kind.
    pub kind: &'static KindInfo,
    /// In one namespace, or in all.
    pub namespace: Option<String>,
    /// At which revision.
    pub at: Rev,
    /// Those after this namespace and name.
    pub after: Option<(String, String)>,
}

/// A part of the objects that stood.
#[derive(Clone, Debug, Default)]
pub struct Stood {
    /// Each with the version that stood, which has a body.
    pub objects: Vec<(Key, HistoryEntry)>,
    /// Where to go on; `None` at the end.
    pub next: Option<(String, String)>,
}

/// Which transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// Those that somebody asked for from outside, before a revision.
    Of {
        /// Who.
        actor: String,
        /// Before which revision; `None`: all.
        below: Option<Rev>,
        /// So many of what each changed are named.
        touched: usize,
    },
    /// That one, with all that it changed.
    At(Rev),
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct PastTransaction {
    /// Its revision.
    pub revision: Rev,
    /// When.
    pub at: Timestamp,
    /// Who and why.
    pub provenance: Provenance,
    /// What it changed.
    pub touched: Vec<PastTouch>,
    /// How much it changed.
    pub count: usize,
}

/// What a transaction did to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTouch {
    /// To which object.
    pub key: Key,
    /// Its uid.
    pub uid: Uid,
    /// True if there was one before.
    pub was: bool,
    /// True if it was deleted, or asked to go.
    pub deleted: bool,
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Of which object.
    pub key: Key,
    /// What it is called.
    pub name: String,
    /// The version's revision.
    pub revision: Rev,
    /// When it was pinned.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
}

/// The past.
impl Store {
    /// From where on the past is known.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn horizon(&self) -> Result<Horizon, EngineError> {
        self.core.engine.horizon().await
    }

    /// The newest revision that was there at a moment.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn revision_at(&self, at: Timestamp) -> Result<Rev, EngineError> {
        self.core.engine.revision_at(at).await
    }

    /// The remembered versions of an object before a revision, newest first: spec and metadata, no status. Deleted and re-created
    /// objects of the same key have different uids.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn versions(
        &self,
        key: &Key,
        below: Option<Rev>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, EngineError> {
        self.core.engine.versions(key, below, limit).await
    }

    /// Objects as they stood.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn as_of(&self, of: &AsOf, limit: usize) -> Result<Stood, EngineError> {
        self.core.engine.as_of(of, limit).await
    }

    /// Transactions that changed anything that the history remembers, newest first.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn transactions(&self, of: &Transactions, limit: usize) -> Result<Vec<PastTransaction>, EngineError> {
        self.core.engine.transactions(of, limit).await
    }

    /// Keeps a version whatever its age. False if there is no such version.
    ///
    /// # Errors
    /// When the engine cannot write it.
    pub async fn pin(&self, pin: Pin) -> Result<bool, EngineError> {
        self.core.engine.pin(pin).await
    }

    /// Lets go of a version. False if the object has no such pin.
    ///
    /// # Errors
    /// When the engine cannot write it.
    pub async fn unpin(&self, key: &Key, name: &str) -> Result<bool, EngineError> {
        self.core.engine.unpin(key, name).await
    }

    /// The pins of an object, by name.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn pins(&self, key: &Key) -> Result<Vec<Pin>, EngineError> {
        self.core.engine.pins(key).await
    }
}
