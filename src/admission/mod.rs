//! Admission: the only way in for desired and observed state.
//!
//! Every write is one machine: ordered operations are authorized, then planned one after another against the store's
//! state overlaid with what the earlier ones did (decode → merge → validate), and committed together. Nothing is
//! locked meanwhile: each write names the revision it was planned against, and if the store meets another one, the plan
//! is made anew. A precondition that the caller named then fails by itself, with the caller's own error.
//!
//! ```text
//! create update patch apply delete transact      verbs: the API's words
//!          └──────────┬───────────────┘
//!             operation: one step on one object     ← decode, form (schema, shape), metadata, managers, namespace, scale
//!                plan: overlay of the store
//!               Store::commit                       again on conflict
//! ```

mod circles;
mod decode;
mod effective;
mod foresee;
mod local;
mod managers;
mod metadata;
mod namespace;
mod operation;
mod password;
mod past;
mod plan;
mod quota;
mod read;
mod reveal;
mod runs;
pub mod scale;
mod targets;
mod tasks;
mod transaction;
mod verbs;
mod workflow_runs;
mod workflows;

use std::sync::{Arc, OnceLock};

use tokio::sync::RwLock;

pub use foresee::{Forecast, ForecastError, Forecaster};
pub use local::LocalClient;
pub use past::{PastPage, When};
pub use quota::{Bound, Quotas, bounds};
pub use read::{Seen, Watching};
pub use reveal::Eyes;
pub use tasks::{TaskOrder, task_failure};

use crate::{
    api::{Durability, FieldPath, Outcome, Preconditions, PropagationPolicy, Rev, Served, StoredObject, Subresource},
    auth::{Authority, Identity, password::Passwords},
    broker::Broker,
    clock::SharedClock,
    policy::powers::Host,
    store::Store,
};

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    clock: SharedClock,
    authority: Arc<Authority>,
    passwords: Arc<Passwords>,
    quotas: Quotas,
    broker: Arc<Broker>,
    /// Who tells what becomes of processes.
    forecaster: OnceLock<Forecaster>,
    /// Held for reading while something is made in a namespace, and for writing while a namespace changes: nothing can
    /// be made in a namespace that goes at the same time.
    namespaces: RwLock<()>,
}

/// Who asks, and why.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The authenticated identity.
    pub who: Identity,
    /// The field manager.
    pub manager: String,
    /// The request, as it stands in the server's log.
    pub request_id: String,
    /// The revision that this request answers to, for controllers.
    pub cause: Option<Rev>,
    /// Why, in the caller's words.
    pub reason: String,
}

impl Caller {
    /// A caller with nothing more to say than who it is.
    pub fn new(who: Identity, manager: &str) -> Self {
        Self { who, manager: manager.to_owned(), request_id: String::new(), cause: None, reason: String::new() }
    }
}

/// What is done about fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are violations.
    Strict,
    /// They are dropped, with a warning.
    Warn,
    /// They are dropped.
    Ignore,
}

/// How a write is done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Check everything and answer as if it was done, but store nothing.
    pub dry_run: bool,
    /// Default: strict for `appm.dev`, a warning for Kubernetes' own kinds and for a status.
    pub field_validation: Option<FieldValidation>,
    /// The fields that the body's text has twice: the reader has taken the last, and what is said of it is a matter of
    /// field validation.
    pub repeated: Vec<FieldPath>,
    /// When the write counts as done.
    pub durability: Durability,
    /// Only if it is what the Plan of this hash says; empty: in any case.
    pub plan_hash: String,
}

/// Which object, as what.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind and its view.
    pub served: Served,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// A part of it.
    pub subresource: Option<Subresource>,
}

/// A patch.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(serde_json::Value),
    /// RFC 7386.
    Merge(serde_json::Value),
    /// Kubernetes' strategic merge patch; for Kubernetes' own kinds only.
    Strategic(serde_json::Value),
    /// Server-side apply.
    Apply {
        /// The fields that the caller wants.
        object: serde_json::Value,
        /// Take fields that others own.
        force: bool,
    },
}

/// Kubernetes' `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// What must hold.
    pub preconditions: Preconditions,
    /// What becomes of the dependents; default: what an earlier delete asked for, else background.
    pub propagation_policy: Option<PropagationPolicy>,
    /// The grace period, in place of the object's own.
    pub grace_period_seconds: Option<i64>,
}

/// What a write did.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as it is now; its last state if it is gone.
    pub object: Arc<StoredObject>,
    /// What was done.
    pub outcome: Outcome,
    /// For the client's eyes: fields that were dropped.
    pub warnings: Vec<String>,
}

impl Admission {
    /// Admission to a store, by a server that `host` runs.
    pub fn new(store: Arc<Store>, clock: SharedClock, host: Host) -> Self {
        Self::with_quotas(store, clock, host, Quotas::default())
    }

    /// The same, with other quotas where nobody has said anything else.
    pub fn with_quotas(store: Arc<Store>, clock: SharedClock, host: Host, quotas: Quotas) -> Self {
        let authority = Arc::new(Authority::new(store.clone(), clock.clone(), host));
        let (passwords, namespaces) = (Arc::default(), RwLock::new(()));
        let broker = Arc::new(Broker::new(store.clone(), clock.clone()));
        let forecaster = OnceLock::new();
        let inner = Inner { store, clock, authority, passwords, quotas, broker, forecaster, namespaces };
        Self { inner: Arc::new(inner) }
    }

    /// Who decides what may be done.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.inner.authority
    }

    /// Where passwords are hashed, a few at a time.
    pub fn passwords(&self) -> &Arc<Passwords> {
        &self.inner.passwords
    }

    /// The store, for readers that authorize by themselves (metrics, health).
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// From now on a Plan tells what becomes of processes, too. The first forecaster stays.
    pub fn use_forecaster(&self, forecaster: Forecaster) {
        // Whoever comes second has come too late: plans of the first may be out already.
        let _ = self.inner.forecaster.set(forecaster);
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod foresee_tests;
#[cfg(test)]
mod login_tests;
#[cfg(test)]
mod quota_tests;
#[cfg(test)]
mod tests;
