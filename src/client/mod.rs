//! The one way to desired and observed state for everybody who is not the API itself: controllers, agents, the CLI.
//!
//! Two forms: over HTTP (`http`), and in-process over admission (built by `daemon`). A controller that is written against this trait
//! can move to another process or another machine without a change.

pub mod http;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};

use crate::api::{
    Key, Kind, KindInfo, Object, Operation, OperationVerb, Outcome, Plan, Rev, Status, StoredObject, Transaction,
};

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// A label selector in Kubernetes' grammar; empty selects all.
    pub label_selector: String,
    /// A field selector; empty selects all.
    pub field_selector: String,
}

/// A consistent list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The revision of the snapshot; watch from here.
    pub revision: Rev,
    /// The objects, sorted by namespace and name.
    pub items: Vec<Arc<StoredObject>>,
}

/// What happened to an object, as a watch with a query sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// It came into sight.
    Added,
    /// It changed.
    Modified,
    /// It went out of sight: deleted, or no longer selected.
    Deleted,
}

/// One step of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A change. `Deleted` carries the last state, at the revision of the deletion.
    Change(ChangeType, Arc<StoredObject>),
    /// Nothing more up to this revision; resume from here.
    Bookmark(Rev),
}

/// Ends with an error if the watch was cut off (`Expired`: list again), or without one if the server closed it.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Status>>;

/// What one operation of a committed transaction did.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was done.
    pub outcome: Outcome,
    /// The object as it is now; its last state if it is gone.
    pub object: Arc<StoredObject>,
    /// What its writer should know.
    pub warnings: Vec<String>,
}

/// Work that is sent into an App's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The App's namespace.
    pub namespace: String,
    /// The App.
    pub app: String,
    /// What is sent.
    pub payload: Bytes,
    /// How long to wait for the result; none: as long as the App says.
    pub timeout: Option<Duration>,
    /// It may be done again when an instance ends in the middle of it.
    pub idempotent: bool,
    /// The User in whose name it is sent, and by whose roles it is judged; only parts of appm may say so.
    pub user: Option<String>,
}

/// Reads and writes of the API, without its transport.
pub trait Client: Send + Sync + 'static {
    /// The object, or `None` if there is none.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<StoredObject>>, Status>>;

    /// Every object that the query selects, from one snapshot.
    fn list<'a>(&'a self, kind: &'static KindInfo, query: &'a Query) -> BoxFuture<'a, Result<Listing, Status>>;

    /// Every change after `from`, in order, once; bookmarks from time to time.
    fn watch<'a>(
        &'a self,
        kind: &'static KindInfo,
        query: &'a Query,
        from: Rev,
    ) -> BoxFuture<'a, Result<WatchStream, Status>>;

    /// Does every operation or none. The answer has one entry for each operation. Not cancel-safe: a dropped call may
    /// or may not have been done.
    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Vec<Done>, Status>>;

    /// What every operation would do; does nothing.
    fn plan(&self, transaction: Transaction) -> BoxFuture<'_, Result<Plan, Status>>;

    /// Sends a task into an App and waits for its result. A dropped call cancels it. An error says whether the work may have begun; one
    /// that says nothing of it leaves that open.
    fn send_task(&self, message: Message) -> BoxFuture<'_, Result<Bytes, Status>>;
}

/// The client that everybody shares.
pub type SharedClient = Arc<dyn Client>;

/// One change of one object as an operation.
pub fn operation<K: Kind>(verb: OperationVerb, object: &Object<K>) -> Operation {
    Operation::new(verb, object.to_value())
}
