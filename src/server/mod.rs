//! The REST API in Kubernetes' shape, over TLS and the Unix socket.
//!
//! ```text
//!  TLS, token ─┐                         ┌─ documents: discovery, OpenAPI, health, figures
//!              ├─► listen ─► handle ─────┼─ read, watch: bytes that the store keeps ready
//!  socket, uid ┘    (id, auth, routing)  ├─ write, transactions ─► admission
//!                                        └─ reviews, logs
//! ```
//! It translates a protocol and holds no rules: what may be done and what comes of it is admission's. Everything is generic over
//! [`crate::api::kinds::served`]; nothing here knows a kind, except that instances have logs.
//!
//! Only the daemon starts it.

mod accept;
mod appmesh;
mod artifacts;
mod audit;
mod backup;
mod bell;
mod body;
mod bounds;
mod call;
mod changes;
mod connection;
mod console;
mod delete;
mod discovery;
mod documents;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod grants;
mod handle;
mod health;
mod hosts;
mod issuer;
mod kubeconfig;
mod lane;
mod lines;
mod listen;
mod login;
mod logs;
mod metrics;
pub mod openapi;
mod pages;
mod parts;
mod past;
mod path;
mod peers;
mod pki;
mod processes;
mod protobuf;
mod provided;
mod query;
mod read;
mod renewal;
mod respond;
mod reviews;
mod run_log;
mod sealing;
mod state;
mod stdin;
mod table;
mod tasks;
mod tls;
mod transactions;
mod turn;
mod verbosity;
mod wait;
mod watch;
mod webhook;
mod write;

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::BoxFuture;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use bounds::Bounds;
pub use health::Readiness;
pub use logs::{LogEnd, LogPieces, LogQuery, LogSource, LogStream};
pub use peers::PeerServer;
pub use pki::PkiError;
pub use tls::TlsSettings;

use crate::{
    admission::Admission,
    api::{Instance, InstanceProcesses, Object},
    appmesh::{Here, NoticeSource, OutputSource, Sdk, Verbosity},
    audit::Audit,
    auth::{Authenticator, OidcIssuer, Peers},
    clock::SharedClock,
    drivers::{FeedError, Pieces},
};

/// Where the server listens, and what it keeps where.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The data directory: the socket, the kubeconfig, `pki/` and `auth/` lie in it. It must exist.
    pub data_dir: PathBuf,
    /// Where HTTPS is served; port 0 picks one.
    pub listen: SocketAddr,
    /// Where App Mesh's frames are served, if anywhere; port 0 picks one.
    pub frames: Option<SocketAddr>,
    /// Where App Mesh's WebSocket is, with HTTPS beside it, if anywhere; port 0 picks one.
    pub wss: Option<SocketAddr>,
    /// The directory for files that App Mesh's clients send and fetch; made when the first one comes.
    pub files: PathBuf,
    /// The machine's name, for the certificate.
    pub hostname: String,
    /// How much is logged.
    pub verbosity: Verbosity,
    /// Certificates that somebody else has made, and names.
    pub tls: TlsSettings,
    /// Whose tokens are believed beside our own.
    pub oidc: Vec<OidcIssuer>,
    /// To whom App Mesh's calls are passed on.
    pub peers: Vec<PeerServer>,
    /// How much clients can take of memory and patience.
    pub bounds: Bounds,
}

/// What the server stands on.
#[derive(Clone)]
pub struct Foundation {
    /// The way to all objects.
    pub admission: Admission,
    /// Time and chance.
    pub clock: SharedClock,
    /// The output of instances.
    pub logs: LogSource,
    /// The same, from a place on.
    pub output: OutputSource,
    /// Whose output has grown.
    pub notices: NoticeSource,
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// Who is told that a client wants the daemon to end.
    pub stop: StopSink,
    /// Makes agents look at what is used.
    pub look: LookSink,
    /// The processes of instances.
    pub processes: ProcessSource,
    /// The standard input of instances.
    pub feed: FeedSink,
    /// Where it is recorded who does what; a server without it records nothing.
    pub audit: Option<Arc<Audit>>,
}

/// Makes agents look at what is used, and resolves when that can be read, or after a moment.
pub type LookSink = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The processes of an instance that runs; none if nothing of it can be seen. Given by the daemon.
pub type ProcessSource =
    Arc<dyn Fn(Arc<Object<Instance>>) -> BoxFuture<'static, Option<InstanceProcesses>> + Send + Sync>;

/// Gives the process of an instance that runs its standard input; see [`crate::drivers::Driver::feed`]. Given by the daemon.
pub type FeedSink =
    Arc<dyn Fn(Arc<Object<Instance>>, Pieces) -> BoxFuture<'static, Result<u64, FeedError>> + Send + Sync>;

/// Told that the daemon shall end; the flag says whether the Apps shall end before it.
pub type StopSink = Arc<dyn Fn(bool) + Send + Sync>;

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not free, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file or the socket in the data directory cannot be made.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A peer that is declared cannot be known.
    #[error("cannot use the peer `{name}`")]
    Peer {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// There is no certificate.
    #[error("cannot make the server's certificate")]
    Pki(#[from] PkiError),
}

/// A server that answers. Dropping it leaves it running; [`RunningServer::stop`] ends it.
#[derive(Debug)]
pub struct RunningServer {
    /// Where HTTPS is served.
    pub address: SocketAddr,
    /// Where App Mesh's frames are served.
    pub frames: Option<SocketAddr>,
    /// Where App Mesh's WebSocket is.
    pub wss: Option<SocketAddr>,
    stopping: CancellationToken,
    reload: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Starts the server: makes or renews the certificate, writes the kubeconfig, listens.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub async fn start(config: ServerConfig, on: Foundation) -> Result<RunningServer, StartError> {
    let peer_servers = peers::Peers::open(&config.peers)?;
    let (tcp, address) = bind(config.listen).await?;
    let (frames, wss) = (bind_if(config.frames).await?, bind_if(config.wss).await?);
    let (node, files) = (config.hostname.clone(), config.files);
    let name = node.clone();
    let verbosity = config.verbosity;
    let here = Here { node, address, files, verbosity: verbosity.clone(), since: on.clock.now() };

    let names: Vec<String> =
        [config.hostname, address.ip().to_string()].into_iter().filter(|n| pki::is_nameable(n)).collect();
    let now = on.clock.now();
    let tls = tls::Tls::open(config.data_dir.join("pki"), names, config.tls, now)?;
    let kubeconfig = kubeconfig::Kubeconfig { data_dir: config.data_dir.clone(), url: url(address) };
    let token = kubeconfig
        .refresh(&tls.shown(), &*on.clock)
        .map_err(|source| StartError::File { path: config.data_dir.join("kubeconfig"), source })?;
    let (unix, owner) = socket(&config.data_dir.join("appm.sock"))?;

    provided::provide(on.admission.store(), address, now);
    let stopping = CancellationToken::new();
    let (authority, passwords) = (on.admission.authority().clone(), on.admission.passwords().clone());
    let store = on.admission.store().clone();
    let authenticator =
        Arc::new(Authenticator::new(authority, passwords, store, on.clock.clone()).believing(config.oidc));
    tokio::spawn(stopping.clone().run_until_cancelled_owned(authenticator.clone().run()));
    let sdk = Sdk::new(on.admission.clone(), authenticator.clone(), on.clock.clone(), on.output, on.notices, here);
    let state = Arc::new(state::State {
        authenticator,
        sdk,
        store: on.admission.store().clone(),
        admission: on.admission,
        turnstile: bounds::Turnstile::new(config.bounds, on.clock.clone()),
        clock: on.clock,
        logs: on.logs,
        readiness: on.readiness,
        stop: on.stop,
        look: on.look,
        processes: on.processes,
        feed: on.feed,
        data_dir: config.data_dir.clone(),
        node: name,
        verbosity,
        backup: Arc::new(tokio::sync::Semaphore::new(1)),
        audit: on.audit,
        token,
        tls,
        address: address.to_string(),
        port: address.port(),
        app_mesh: frames.iter().chain(&wss).map(|(_, address)| address.port()).collect(),
        peers: peer_servers,
        metrics: metrics::Metrics::default(),
        pages: pages::Pages::default(),
        lines: lines::Lines::default(),
        documents: openapi::Documents::default(),
        webhooks: webhook::Webhooks::default(),
        stopping: stopping.clone(),
    });
    let peers = Arc::new(Peers::new(state.admission.authority().clone(), owner, config.data_dir));
    tokio::spawn(state.admission.authority().clone().run(stopping.clone()));
    tokio::spawn(state.admission.clone().keep_quotas(stopping.clone()));
    let reload = Arc::new(Notify::new());
    let renewal = renewal::keep(state.clone(), kubeconfig, reload.clone());
    let ((framed, frames), (upgraded, wss)) = (frames.unzip(), wss.unzip());
    let serve = listen::serve(listen::Doors { tcp, frames: framed, wss: upgraded, unix, peers }, state);
    let task = tokio::spawn(async move {
        tokio::join!(serve, renewal);
    });
    Ok(RunningServer { address, frames, wss, stopping, reload, task })
}

async fn bind_if(wanted: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    match wanted {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The address that clients on this machine use.
fn url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => format!("https://127.0.0.1:{}", a.port()),
        SocketAddr::V6(a) if a.ip().is_unspecified() => format!("https://[::1]:{}", a.port()),
        address => format!("https://{address}"),
    }
}

/// Opens the Unix socket. One that is there is left over from a server that died: the lock on the data directory has
/// seen to it that there is no other.
fn socket(path: &Path) -> Result<(UnixListener, u32), StartError> {
    let open = || {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        // Whoever made the socket runs the server.
        let owner = std::fs::metadata(path)?.uid();
        Ok((listener, owner))
    };
    open().map_err(|source| StartError::File { path: path.to_owned(), source })
}

impl RunningServer {
    /// `https://127.0.0.1:6060`
    pub fn url(&self) -> String {
        url(self.address)
    }

    /// Makes the server look at certificates and their keys again.
    pub fn reloader(&self) -> impl Fn() + Send + use<> {
        let reload = self.reload.clone();
        move || reload.notify_one()
    }

    /// Ends watches cleanly, lets requests finish (for a few seconds), and stops.
    pub async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the listener ended badly");
        }
    }
}
