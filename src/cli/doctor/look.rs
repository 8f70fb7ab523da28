//! Reads the world into facts. Nothing here judges, and nothing is changed.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::Value;
use sqlx::{Connection, sqlite::SqliteConnectOptions};

use super::super::{
    context::Context,
    settings::{environment, read_kubeconfig},
};
use crate::{
    client::http::{Endpoint, HttpClient, Request, RequestError},
    daemon::{
        DataDir, Settings,
        examine::{Found, examine},
    },
};

/// Whoever does not answer by then is not there.
const DEADLINE: Duration = Duration::from_secs(3);

/// A directory, and what it lies on.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// None: it is not there.
    pub(super) there: Option<Inode>,
    pub(super) uid: u32,
    /// Of the directory, or of the nearest one above it.
    pub(super) free: Option<u64>,
    pub(super) filesystem: String,
}

/// Owner and mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inode {
    pub(super) owner: u32,
    pub(super) mode: u32,
    pub(super) is_directory: bool,
}

pub(super) fn directory(path: &Path) -> Directory {
    let there = fs::metadata(path).ok().map(|m| Inode {
        owner: m.uid(),
        mode: m.permissions().mode() & 0o777,
        is_directory: m.is_dir(),
    });
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let nearest = absolute.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let space = nix::sys::statvfs::statvfs(nearest).ok();
    Directory {
        path: path.to_owned(),
        there,
        uid: nix::unistd::geteuid().as_raw(),
        free: space.map(|s| s.blocks_available().saturating_mul(s.fragment_size())),
        filesystem: filesystem_of(nearest),
    }
}

/// The type of the filesystem that holds a path, by the longest mount point above it.
fn filesystem_of(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?.replace("\\040", " ")), fields.next()?.to_owned()))
    };
    let above = mounts.lines().filter_map(entry).filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.as_os_str().len()).map(|(_, kind)| kind).unwrap_or_default()
}

/// Who has the data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Lock {
    /// What the lock file says.
    pub(super) pid: String,
    /// Whether somebody really holds it.
    pub(super) is_held: bool,
}

pub(super) fn lock(folder: &Path) -> Lock {
    let path = DataDir::new(folder).lock();
    let Ok(metadata) = fs::metadata(&path) else { return Lock::default() };
    // Asking the kernel's list takes no lock, which a server that starts right now might stumble over.
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = format!(":{}", metadata.ino());
    let is_held = locks.lines().any(|l| l.contains("FLOCK") && l.split_whitespace().any(|word| word.ends_with(&inode)));
    Lock { pid: fs::read_to_string(&path).unwrap_or_default().trim().to_owned(), is_held }
}

/// The server, as it answers.
#[derive(Clone, Debug)]
pub(super) enum Server {
    /// Nobody answers there.
    Away {
        endpoint: String,
    },
    /// Somebody answers, and not as a server should.
    Odd {
        why: String,
    },
    There {
        version: String,
        not_ready: Option<String>,
    },
}

impl Server {
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Server::There { .. })
    }
}

pub(super) async fn server(context: &Context) -> Server {
    let ask = |path: &'static str| async move {
        match tokio::time::timeout(DEADLINE, context.client.call(Request::get(path))).await {
            Ok(answer) => answer.map_err(|e| (matches!(e, RequestError::Unreachable { .. }), e.to_string())),
            Err(_) => Err((false, format!("no answer to {path} within {} s", DEADLINE.as_secs()))),
        }
    };
    let version = match ask("/version").await {
        Ok(answer) => answer.json().unwrap_or(Value::Null),
        Err((true, _)) => return Server::Away { endpoint: context.client.endpoint().to_string() },
        Err((false, why)) => return Server::Odd { why },
    };
    let version = version["gitVersion"].as_str().unwrap_or_default().to_owned();
    Server::There { version, not_ready: ask("/readyz").await.err().map(|(_, why)| why) }
}

/// The keeper's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    Absent,
    Answers,
    Refuses,
}

pub(super) fn keeper(folder: &Path) -> Keeper {
    let socket = DataDir::new(folder).keeper().join(crate::keeper::SOCKET);
    match UnixStream::connect(&socket) {
        Ok(_) => Keeper::Answers,
        Err(error) if error.kind() == ErrorKind::NotFound => Keeper::Absent,
        Err(_) => Keeper::Refuses,
    }
}

/// What SQLite says of its file.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Absent,
    /// The server has it.
    InUse,
    Sound,
    Broken(String),
    Unreadable(String),
}

pub(super) async fn database(folder: &Path, in_use: bool) -> Database {
    let path = DataDir::new(folder).database();
    if !path.exists() {
        return Database::Absent;
    }
    if in_use {
        return Database::InUse;
    }
    let checked = async {
        let options = SqliteConnectOptions::new().filename(&path).read_only(true);
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
        let said: Vec<String> = sqlx::query_scalar("PRAGMA quick_check").fetch_all(&mut connection).await?;
        Ok::<_, sqlx::Error>(said)
    };
    match checked.await {
        Ok(said) if said == ["ok"] => Database::Sound,
        Ok(said) => Database::Broken(said.join("; ")),
        Err(error) => Database::Unreadable(error.to_string()),
    }
}

/// Everything that is stored.
///
/// # Errors
/// Why it cannot be read.
pub(super) async fn depth(folder: &Path, key_file: Option<&Path>) -> Result<Found, String> {
    examine(folder, key_file).await.map_err(|error| error.to_string())
}

/// The kubeconfig, and whether it lets anybody in.
#[derive(Clone, Debug)]
pub(super) enum Kubeconfig {
    Absent,
    Unusable(String),
    /// Its mode, and why HTTPS does not work by it, if it does not.
    Usable {
        path: PathBuf,
        mode: u32,
        refused: Option<String>,
    },
}

pub(super) async fn kubeconfig(folder: &Path) -> Kubeconfig {
    let path = DataDir::new(folder).kubeconfig();
    let Ok(metadata) = fs::metadata(&path) else { return Kubeconfig::Absent };
    let asked = async {
        let endpoint = read_kubeconfig(&path).map_err(|e| e.message)?;
        let client = HttpClient::new(Endpoint::Https(endpoint)).map_err(|e| e.to_string())?;
        let called = tokio::time::timeout(DEADLINE, client.call(Request::get("/api"))).await;
        Ok::<_, String>(match called {
            Ok(Ok(_)) => None,
            Ok(Err(RequestError::Unreachable { source, .. })) => Some(source.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        })
    };
    match asked.await {
        Ok(refused) => Kubeconfig::Usable { mode: metadata.permissions().mode() & 0o777, path, refused },
        Err(why) => Kubeconfig::Unusable(why),
    }
}

/// What the server's certificate was made for.
#[derive(Clone, Debug)]
pub(super) enum Certificate {
    Absent,
    Unreadable,
    /// What it was made for, and when the server makes a new one.
    Made {
        purpose: String,
        renew: Timestamp,
    },
}

pub(super) fn certificate(folder: &Path) -> Certificate {
    let Ok(text) = fs::read_to_string(DataDir::new(folder).pki().join("server.pem")) else {
        return Certificate::Absent;
    };
    let mut lines = text.lines();
    let purpose = lines.next().unwrap_or_default().to_owned();
    let renew = lines.next().and_then(|line| line.strip_prefix("renewed after ")?.parse().ok());
    renew.map_or(Certificate::Unreadable, |renew| Certificate::Made { purpose, renew })
}

/// What is known of the clock.
#[derive(Clone, Debug)]
pub(super) struct ClockFacts {
    /// When the database was written last.
    pub(super) last_write: Option<Timestamp>,
    /// Whether something keeps the clock right; none: nobody can tell.
    pub(super) is_synchronized: Option<bool>,
}

pub(super) fn clock(folder: &Path) -> ClockFacts {
    let written = fs::metadata(DataDir::new(folder).database()).and_then(|m| m.modified()).ok();
    let told = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output().ok();
    let told = told.filter(|output| output.status.success()).map(|output| output.stdout);
    ClockFacts {
        last_write: written.and_then(|time| Timestamp::try_from(time).ok()),
        is_synchronized: match told.as_deref() {
            Some(b"yes\n") => Some(true),
            Some(b"no\n") => Some(false),
            _ => None,
        },
    }
}

/// Where a server would listen.
pub(super) fn listen_address() -> SocketAddr {
    environment("APPM_LISTEN").and_then(|text| text.parse().ok()).unwrap_or(Settings::DEFAULT_LISTEN)
}

/// Why nobody can listen there, if so.
pub(super) fn port(address: SocketAddr) -> Option<String> {
    TcpListener::bind(address).err().map(|error| error.to_string())
}

/// How many files may be open: now, and at most.
pub(super) fn files() -> Option<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).ok()
}

/// How many processes there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processes {
    pub(super) pid_max: Option<u64>,
    /// Of this user.
    pub(super) per_user: Option<u64>,
}

pub(super) fn processes() -> Processes {
    let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse().ok());
    Processes { pid_max, per_user: getrlimit(Resource::RLIMIT_NPROC).ok().map(|(soft, _)| soft) }
}

/// Control groups.
#[derive(Clone, Debug)]
pub(super) enum Cgroups {
    Absent,
    V1,
    V2 { controllers: String, is_writable: bool },
}

pub(super) fn cgroups() -> Cgroups {
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.controllers").exists() {
        return if root.join("memory").exists() { Cgroups::V1 } else { Cgroups::Absent };
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folder = root.join(own);
    Cgroups::V2 {
        controllers: fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default().trim().to_owned(),
        is_writable: nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK).is_ok(),
    }
}

/// A container engine that has a socket: its name, and its version or why it does not say.
pub(super) type Engine = (&'static str, Result<String, String>);

pub(super) async fn engines() -> Vec<Engine> {
    let own = environment("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
    let sockets = [
        ("docker", PathBuf::from("/run/docker.sock")),
        ("podman", PathBuf::from("/run/podman/podman.sock")),
        ("podman", own.join("podman/podman.sock")),
    ];
    let mut engines = Vec::new();
    for (name, socket) in sockets.into_iter().filter(|(_, socket)| socket.is_absolute() && socket.exists()) {
        engines.push((name, engine_version(socket).await));
    }
    engines
}

async fn engine_version(socket: PathBuf) -> Result<String, String> {
    let client = HttpClient::new(Endpoint::Unix(socket)).map_err(|e| e.to_string())?;
    let called = tokio::time::timeout(DEADLINE, client.call(Request::get("/version"))).await;
    let answer = called.map_err(|_| "no answer in time".to_owned())?.map_err(|error| match error {
        RequestError::Unreachable { source, .. } => source.to_string(),
        other => other.to_string(),
    })?;
    let version = answer.json().map_err(|e| e.to_string())?;
    Ok(version["Version"].as_str().unwrap_or("of unknown version").to_owned())
}
