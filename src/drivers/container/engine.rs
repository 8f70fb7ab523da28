//! One engine: how it is found, spoken to, and remembered.
//!
//! An engine counts once this data directory has *used* it: its address is written into `containers/` before the
//! first container is made there. From then on nothing is known of containers unless every used engine has answered;
//! engines that were never used are never asked, so an appm without containers opens no socket.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker, errors::Error};
use hyper::http::HeaderValue;

use crate::{
    api::ContainerRuntime,
    clock::{self, Clock},
    drivers::Unreachable,
};

/// How long an answer of an engine is waited for, in seconds; streams may take as long as they like.
const TIMEOUT: u64 = 120;
/// How often, and after what pause, an engine is asked again that has yet to clean up after a container: 5 s in all.
const LOOKS: u32 = 100;
const CLEANS_UP: Duration = Duration::from_millis(50);
/// Where Docker listens unless told otherwise.
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";
/// Where Podman's service listens for root.
const PODMAN_SOCKET: &str = "unix:///run/podman/podman.sock";

/// Where engines are looked for. What is empty is found by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineHosts {
    /// Docker's address: `unix://` or `tcp://`.
    pub docker: Option<String>,
    /// Podman's.
    pub podman: Option<String>,
}

impl EngineHosts {
    /// What the environment says where the settings do not: `DOCKER_HOST`, `CONTAINER_HOST`, `XDG_RUNTIME_DIR`.
    pub fn or_environment(self, var: impl Fn(&str) -> Option<String>) -> Self {
        let own = var("XDG_RUNTIME_DIR").map(|dir| format!("unix://{dir}/podman/podman.sock"));
        let own = own.filter(|host| socket(host).is_some_and(Path::exists));
        Self {
            docker: self.docker.or_else(|| var("DOCKER_HOST")).filter(|host| !host.is_empty()),
            podman: self.podman.or_else(|| var("CONTAINER_HOST")).filter(|host| !host.is_empty()).or(own),
        }
    }

    /// The addresses to try, the likeliest first.
    fn candidates(&self, runtime: ContainerRuntime) -> Vec<&str> {
        let docker = self.docker.as_deref().unwrap_or(DOCKER_SOCKET);
        let podman = self.podman.as_deref().unwrap_or(PODMAN_SOCKET);
        match runtime {
            ContainerRuntime::Auto => vec![docker, podman],
            ContainerRuntime::Docker => vec![docker],
            ContainerRuntime::Podman => vec![podman],
        }
    }
}

fn socket(host: &str) -> Option<&Path> {
    host.strip_prefix("unix://").map(Path::new)
}

/// Which program an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brand {
    Docker,
    Podman,
}

impl Brand {
    fn word(self) -> &'static str {
        match self {
            Brand::Docker => "docker",
            Brand::Podman => "podman",
        }
    }

    fn serves(self, runtime: ContainerRuntime) -> bool {
        match runtime {
            ContainerRuntime::Auto => true,
            ContainerRuntime::Docker => self == Brand::Docker,
            ContainerRuntime::Podman => self == Brand::Podman,
        }
    }
}

/// An engine that has answered once.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) host: Arc<str>,
    pub(super) brand: Brand,
    pub(super) version: Arc<str>,
    pub(super) docker: Docker,
}

impl Engine {
    /// Speaks to an engine for the first time.
    pub(super) async fn connect(host: &str) -> Result<Self, Unreachable> {
        let failed = |error: Error| Unreachable(format!("the engine at `{host}`: {}", sentence(&error)));
        let docker = client(host, API_DEFAULT_VERSION).map_err(failed)?.with_request_modifier(url_safe_credentials);
        let docker = docker.negotiate_version().await.map_err(failed)?;
        let said = docker.version().await.map_err(failed)?;
        let podman = said.components.iter().flatten().any(|part| part.name.starts_with("Podman"));
        let brand = if podman { Brand::Podman } else { Brand::Docker };
        let version = said.version.unwrap_or_default();
        Ok(Self { host: host.into(), brand, version: version.into(), docker })
    }

    /// Speaks to one that another process has come to know: its brand's word, and the version of its interface. Asks it nothing, because a
    /// Podman that is asked for its version looks through the packages of its machine, for a second or more.
    pub(super) fn again(host: &str, brand: &str, api: &str) -> Option<(Docker, Brand)> {
        let (major, minor) = api.split_once('.')?;
        let api = ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? };
        let brand = [Brand::Docker, Brand::Podman].into_iter().find(|known| known.word() == brand)?;
        Some((client(host, &api).ok()?, brand))
    }

    /// What [`Engine::again`] needs.
    pub(super) fn words(&self) -> [String; 3] {
        let api = self.docker.client_version();
        [self.host.to_string(), self.brand.word().to_owned(), format!("{}.{}", api.major_version, api.minor_version)]
    }

    /// Whether its containers are processes of this machine.
    pub(super) fn is_local(&self) -> bool {
        socket(&self.host).is_some()
    }

    /// Whether it is what an Instance asks for.
    pub(super) fn serves(&self, runtime: ContainerRuntime) -> bool {
        self.brand.serves(runtime)
    }

    /// `docker://20.10.24`, as a Node says it.
    pub(super) fn title(&self) -> String {
        format!("{}://{}", self.brand.word(), self.version)
    }
}

fn client(host: &str, api: &ClientVersion) -> Result<Docker, Error> {
    match host.starts_with("unix://") {
        true => Docker::connect_with_unix(host, TIMEOUT, api),
        false => Docker::connect_with_http(host, TIMEOUT, api),
    }
}

/// The engines read credentials as URL-safe base64; bollard 0.21 writes the other alphabet.
fn url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    const HEADER: &str = "X-Registry-Auth";
    let safe = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
    if let Some(Ok(safe)) = safe.map(|text| HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))) {
        request.headers_mut().insert(HEADER, safe);
    }
    request
}

/// Asks again while the answer has Podman's state between running and exited, which the Engine API, and so its client, does
/// not know. It lasts until Podman has cleaned up.
pub(super) async fn settled<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _look in 0..LOOKS {
        match ask().await {
            Err(Error::JsonDataError { message, .. }) if message.contains("`stopped`") => {
                tokio::time::sleep(CLEANS_UP).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// What an engine said, or why it said nothing, as a fragment of a sentence.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::SocketNotFoundError(path) => format!("there is no socket `{path}`"),
        Error::RequestTimeoutError => format!("no answer within {TIMEOUT} s"),
        other => {
            // The innermost cause says what happened; those around it say where in the client.
            let mut cause: &dyn std::error::Error = other;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            cause.to_string()
        }
    }
}

/// The engine has judged, and says this with this status.
pub(super) fn verdict(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

/// What this data directory knows of engines: `containers/node` (its own id), `containers/engine-<brand>` (its address).
#[derive(Debug)]
pub(super) struct Register {
    dir: PathBuf,
    hosts: EngineHosts,
    /// What the labels of our containers say: which data directory made them.
    pub(super) node: String,
}

impl Register {
    /// Reads it, or begins it.
    pub(super) fn open(data_dir: &Path, hosts: EngineHosts) -> io::Result<Self> {
        let dir = data_dir.join("containers");
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let node = match fs::read_to_string(dir.join("node")) {
            Ok(node) if !node.trim().is_empty() => node.trim().to_owned(),
            _ => {
                let node = format!("{:016x}", clock::System.random());
                write(&dir, "node", &node)?;
                node
            }
        };
        Ok(Self { dir, hosts, node })
    }

    /// The addresses of all engines that were used.
    pub(super) fn used(&self) -> Vec<String> {
        [Brand::Docker, Brand::Podman].into_iter().filter_map(|brand| self.address(brand)).collect()
    }

    fn address(&self, brand: Brand) -> Option<String> {
        let host = fs::read_to_string(self.dir.join(format!("engine-{}", brand.word()))).ok()?;
        Some(host.trim().to_owned()).filter(|host| !host.is_empty())
    }

    /// Where to try a `runtime`, in this order: what was used before, then what is found.
    pub(super) fn candidates(&self, runtime: ContainerRuntime) -> Vec<String> {
        let used = [Brand::Docker, Brand::Podman].into_iter().filter(|brand| brand.serves(runtime));
        let used: Vec<String> = used.filter_map(|brand| self.address(brand)).collect();
        match used.is_empty() {
            // What runs must be found again, so an engine that was used stays the one that is used.
            false => used,
            true => self.hosts.candidates(runtime).into_iter().map(str::to_owned).collect(),
        }
    }

    /// Writes down that an engine is used, durably.
    pub(super) fn use_engine(&self, engine: &Engine) -> io::Result<()> {
        match self.address(engine.brand) {
            Some(host) if *host == *engine.host => Ok(()),
            _ => write(&self.dir, &format!("engine-{}", engine.brand.word()), &engine.host),
        }
    }
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let next = dir.join(format!("{name}.new"));
    let mut file = File::create(&next)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&next, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_before_the_environment_and_both_before_what_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let var = |name: &str| (name == "DOCKER_HOST").then(|| "unix:///env.sock".to_owned());
        let told = EngineHosts { docker: Some("unix:///told.sock".to_owned()), podman: None };
        let candidates = |hosts: EngineHosts, runtime| {
            Register::open(dir.path(), hosts.or_environment(var)).unwrap().candidates(runtime)
        };
        assert_eq!(candidates(told, ContainerRuntime::Auto), ["unix:///told.sock", PODMAN_SOCKET]);
        assert_eq!(candidates(EngineHosts::default(), ContainerRuntime::Docker), ["unix:///env.sock"]);
        assert_eq!(candidates(EngineHosts::default(), ContainerRuntime::Podman), [PODMAN_SOCKET]);
    }

    #[test]
    fn an_engine_that_was_used_stays_the_one_and_the_node_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::open(dir.path(), EngineHosts::default()).unwrap();
        assert_eq!(register.used(), Vec::<String>::new());
        write(&register.dir, "engine-podman", "unix:///p.sock").unwrap();
        let again = Register::open(dir.path(), EngineHosts::default()).unwrap();
        assert_eq!((again.node.as_str(), again.node.len()), (register.node.as_str(), 16));
        assert_eq!(again.used(), ["unix:///p.sock"]);
        assert_eq!(again.candidates(ContainerRuntime::Auto), ["unix:///p.sock"]);
        assert_eq!(again.candidates(ContainerRuntime::Docker), [DOCKER_SOCKET]);
    }
}
