//! What every request needs, shared by all connections.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    FeedSink, LookSink, ProcessSource, Readiness, StopSink,
    bounds::{Share, Turnstile},
    lines::Lines,
    logs::LogSource,
    metrics::{Census, Metrics},
    openapi::Documents,
    pages::Pages,
    peers::Peers,
    tls::Tls,
    webhook::Webhooks,
};
use crate::{
    admission::Admission,
    api::{Instance, KINDS, Kind, Status},
    appmesh::{Sdk, Verbosity},
    audit::Audit,
    auth::{Authenticator, Identity, token::TokenHash},
    clock::SharedClock,
    store::Store,
};

/// Shared by `Arc`.
pub(super) struct State {
    pub admission: Admission,
    /// For revisions and figures only: objects are read through admission, which knows who may see what.
    pub store: Arc<Store>,
    pub clock: SharedClock,
    pub logs: LogSource,
    pub readiness: Arc<Readiness>,
    pub stop: StopSink,
    pub look: LookSink,
    pub processes: ProcessSource,
    pub feed: FeedSink,
    /// Where artifacts are.
    pub data_dir: PathBuf,
    /// The name of this node.
    pub node: String,
    /// How much is logged.
    pub verbosity: Verbosity,
    /// Whoever makes a backup: one at a time.
    pub backup: Arc<tokio::sync::Semaphore>,
    pub audit: Option<Arc<Audit>>,
    pub token: TokenHash,
    pub tls: Tls,
    pub authenticator: Arc<Authenticator>,
    /// App Mesh's calls.
    pub sdk: Sdk,
    /// `127.0.0.1:6060`, for discovery.
    pub address: String,
    pub port: u16,
    /// Those of App Mesh's TCP and WebSocket, where they are served.
    pub app_mesh: Vec<u16>,
    /// To whom App Mesh's calls are passed on.
    pub peers: Peers,
    pub metrics: Metrics,
    pub pages: Pages,
    pub lines: Lines,
    pub documents: Documents,
    pub turnstile: Turnstile,
    /// Which Sources were asked to look a moment ago.
    pub webhooks: Webhooks,
    /// Cancelled when the server stops: watches end.
    pub stopping: CancellationToken,
}

impl State {
    /// A place among the open watches of somebody, for whatever lasts as one does.
    ///
    /// # Errors
    /// 429 if they have as many as they may.
    pub(super) fn watch_of(&self, who: &Identity) -> Result<Share<String>, Status> {
        let most = self.admission.limit_of(who, |limits| limits.watches);
        self.turnstile.watch(&who.name, most)
    }

    /// Counts what the store holds.
    pub(super) fn census(&self) -> Census {
        let objects = KINDS.iter().map(|kind| (kind.kind, self.store.count(kind))).collect();
        let mut instances: BTreeMap<&str, usize> = BTreeMap::new();
        for object in self.store.list(Instance::INFO, None).items {
            // Decoded already: the agent holds each that it sees to.
            let instance = object.typed::<Instance>();
            let word = instance.as_ref().map_or("unknown", |instance| instance.status.state.word());
            *instances.entry(word).or_default() += 1;
        }
        Census {
            revision: self.store.revision().0,
            objects,
            instances: instances.into_iter().map(|(word, count)| (word.to_owned(), count)).collect(),
        }
    }
}
