//! What can be set from outside, and where things lie in the data directory.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::SignedDuration;

use crate::{
    admission::Quotas,
    appmesh::Verbosity,
    audit,
    auth::OidcIssuer,
    drivers::container::EngineHosts,
    server::{PeerServer, TlsSettings},
    store::{Limits, Retention},
};

/// Everything that the server can be told. Flags, environment (`APPM_…`) and defaults all end here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything lies.
    pub data_dir: DataDir,
    /// Where HTTPS is served; port 0 picks one.
    pub listen: SocketAddr,
    /// Where App Mesh's frames are served, if anywhere; port 0 picks one.
    pub tcp_listen: Option<SocketAddr>,
    /// Where App Mesh's WebSocket is, with HTTPS beside it, if anywhere; port 0 picks one.
    pub wss_listen: Option<SocketAddr>,
    /// The directory for files that App Mesh's clients send and fetch; none: [`DataDir::files`].
    pub files_dir: Option<PathBuf>,
    /// The absolute path of a directory whose manifests are kept applied.
    pub sync_dir: Option<PathBuf>,
    /// Certificates that somebody else has made, and names by which the server is known.
    pub tls: TlsSettings,
    /// Whose tokens are believed beside our own.
    pub oidc: Vec<OidcIssuer>,
    /// To whom App Mesh's calls are passed on.
    pub peers: Vec<PeerServer>,
    /// How much is logged.
    pub verbosity: Verbosity,
    /// The name of this node; default: the host's.
    pub node_name: Option<String>,
    /// Where engines of containers are; what is not said is found.
    pub engines: EngineHosts,
    /// The file with the key that secrets are sealed with, if it is not [`DataDir::seal_key`].
    pub seal_key_file: Option<PathBuf>,
    /// How the audit log is kept; it always lies in [`DataDir::audit`].
    pub audit: audit::Settings,
    /// What the history keeps.
    pub history: HistorySettings,
    /// How much namespaces and users may have where nobody says anything else.
    pub quotas: Quotas,
    /// The file with the first password of the user `admin`; without one it is made.
    pub admin_password_file: Option<PathBuf>,
    /// The binary that keeper and logger run from: normally the running one.
    pub exe: PathBuf,
}

impl Settings {
    /// HTTPS on 127.0.0.1:6060.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6060);
}

/// What the history keeps, beside what still stood at its begin and what is pinned: whatever is beyond any of these goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// For how long.
    pub max_age: Duration,
    /// How many bytes.
    pub max_bytes: u64,
    /// How many versions.
    pub max_versions: u64,
}

impl Default for HistorySettings {
    fn default() -> Self {
        let Limits { history, history_bytes, .. } = Limits::default();
        Self { max_age: history.age.unsigned_abs(), max_bytes: history_bytes, max_versions: history.rows }
    }
}

impl HistorySettings {
    /// The store's limits with these.
    pub(super) fn limits(self) -> Limits {
        let age = SignedDuration::try_from(self.max_age).unwrap_or(SignedDuration::MAX);
        let history = Retention { age, rows: self.max_versions };
        Limits { history, history_bytes: self.max_bytes, ..Limits::default() }
    }
}

/// The layout of the data directory. Nothing else is ever written by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The data directory at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.0.join("appm.db")
    }

    /// The Unix socket of the API.
    pub fn socket(&self) -> PathBuf {
        self.0.join("appm.sock")
    }

    /// The kubeconfig that the server writes.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The first password of the user `admin`, where nobody was there to be told. The server does not read it.
    pub fn admin_password(&self) -> PathBuf {
        self.0.join("admin-password")
    }

    /// Certificates and their keys.
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// The key that seals secrets at rest.
    pub fn seal_key(&self) -> PathBuf {
        self.0.join("keys/seal.key")
    }

    /// What the keys of processes that get tasks are made of.
    pub fn worker_key(&self) -> PathBuf {
        self.0.join("worker.key")
    }

    /// Who did what.
    pub fn audit(&self) -> PathBuf {
        self.0.join("audit")
    }

    /// The files that App Mesh's clients send and fetch.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// Copies of the repositories of Sources.
    pub fn sources(&self) -> PathBuf {
        self.0.join("sources")
    }

    /// The keeper's directory.
    pub fn keeper(&self) -> PathBuf {
        self.0.join("keeper")
    }

    /// What is known of the engines of containers.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// The directories of the instances.
    pub fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    /// The pid of the running server.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}
