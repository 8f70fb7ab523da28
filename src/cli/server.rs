//! `appm server`: the server in the foreground; `appm server stop`: ends the one that runs; `log-level`: how much it says.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{BufRead, BufReader, IsTerminal, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde_json::Value;
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use crate::{
    api::GoDuration,
    client::http::{Endpoint, Request, RequestError},
    daemon::{
        self, Apps, AuditSettings, DataDir, EngineHosts, OidcIssuer, PeerServer, Running, Settings, TlsSettings,
        Verbosity,
    },
};

use super::{
    configured,
    context::Context,
    error::{CliError, Exit},
    logging::{self, LevelArgs, LogFormat},
    quotas::{self, QuotaWord},
    retention::HistoryOptions,
    screen,
    settings::{self, Global},
};

/// Run the server, or stop it
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  appm server                                         data and port where they usually are
  appm server --data-dir /srv/appm --listen 127.0.0.1:0   port 0: any that is free
  appm server stop                                    Apps go on
  appm server stop --apps                             everything ends
  appm server log-level debug                         more in the log of the one that runs

When everything is loaded and looked at once, `ready https://HOST:PORT` is printed, and systemd
is notified. SIGTERM and ctrl-C end the server; Apps go on without it and are found again by the
next one. The server's log goes to stderr; APPM_LOG says how much of it (`info`, `debug`,
`appm=trace`)."
)]
pub(super) struct ServerArgs {
    #[command(subcommand)]
    command: Option<ServerCommand>,
    #[command(flatten)]
    options: ServerOptions,
    /// Form of the log on stderr: text or json
    #[arg(long, value_enum, value_name = "FORM", default_value_t, hide_possible_values = true)]
    log_format: LogFormat,
    /// Leave the terminal's session: what `up --detach` starts
    #[arg(long, hide = true)]
    detached: bool,
}

/// What of reads the audit log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum AuditLevel {
    /// Those of Secrets.
    #[default]
    Changes,
    /// All.
    Reads,
}

/// What a server can be told.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerOptions {
    /// File with settings, named as these flags are: `tlsCertFile` [default: DATA_DIR/appm.yaml, if it is there]
    #[arg(long, value_name = "FILE", env = "APPM_CONFIG", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Where HTTPS is served; port 0: any that is free
    #[arg(long, value_name = "ADDRESS:PORT", env = "APPM_LISTEN", hide_env_values = true, default_value_t = Settings::DEFAULT_LISTEN)]
    pub(super) listen: SocketAddr,
    /// Where App Mesh's clients find its TCP, 127.0.0.1:6059 say; port 0: any that is free [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", env = "APPM_TCP_LISTEN", hide_env_values = true)]
    pub(super) tcp_listen: Option<SocketAddr>,
    /// Where App Mesh's clients find its WebSocket, 127.0.0.1:6058 say, and HTTPS beside it; port 0: any that is free [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", env = "APPM_WSS_LISTEN", hide_env_values = true)]
    pub(super) wss_listen: Option<SocketAddr>,
    /// Directory for files that App Mesh's clients send and fetch [default: DATA_DIR/files]
    #[arg(long, value_name = "DIR", env = "APPM_FILES_DIR", hide_env_values = true)]
    pub(super) files_dir: Option<PathBuf>,
    /// Directory whose manifests are kept applied, as `admin`: a Source `sync-dir`, there as long as the server is told so [default: none]
    #[arg(long, value_name = "DIR", env = "APPM_SYNC_DIR", hide_env_values = true)]
    pub(super) sync_dir: Option<PathBuf>,
    /// The name of this machine as a Node [default: the host's]
    #[arg(long, value_name = "NAME", env = "APPM_NODE_NAME", hide_env_values = true)]
    pub(super) node_name: Option<String>,
    /// File with the key that secrets are sealed with [default: DATA_DIR/keys/seal.key, made at first]
    #[arg(long, value_name = "FILE", env = "APPM_SEAL_KEY_FILE", hide_env_values = true)]
    pub(super) seal_key_file: Option<PathBuf>,
    /// File with the first password of the user `admin` [default: one is made, and told once]
    #[arg(long, value_name = "FILE", env = "APPM_ADMIN_PASSWORD_FILE", hide_env_values = true)]
    pub(super) admin_password_file: Option<PathBuf>,
    /// What the audit log has beside changes, refusals and reads of Secrets: nothing (changes), or every read (reads)
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        env = "APPM_AUDIT_LEVEL",
        hide_env_values = true,
        default_value_t,
        hide_possible_values = true
    )]
    pub(super) audit_level: AuditLevel,
    /// MiB after which the audit log goes on in a new file; each day begins one, too
    #[arg(long, value_name = "MIB", env = "APPM_AUDIT_MAX_SIZE", hide_env_values = true, default_value_t = 64)]
    pub(super) audit_max_size: u32,
    /// How many files of the audit log are kept; 0: all
    #[arg(long, value_name = "COUNT", env = "APPM_AUDIT_MAX_FILES", hide_env_values = true, default_value_t = 100)]
    pub(super) audit_max_files: u32,
    /// Docker's engine, unix://PATH or tcp://HOST:PORT [default: $DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS", env = "APPM_DOCKER_HOST", hide_env_values = true)]
    pub(super) docker_host: Option<String>,
    /// Podman's service [default: $CONTAINER_HOST, else the user's own or unix:///run/podman/podman.sock]
    #[arg(long, value_name = "ADDRESS", env = "APPM_PODMAN_HOST", hide_env_values = true)]
    pub(super) podman_host: Option<String>,
    /// The most of each namespace, over what is usual: objects, instances, cpu, memory; `none` for no bounds
    #[arg(
        long,
        value_name = "NAME=AMOUNT",
        env = "APPM_NAMESPACE_QUOTA",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(super) namespace_quota: Vec<QuotaWord>,
    /// The most of each user, over what is usual: those, watches, requests-per-second; a User's `limits` come first
    #[arg(long, value_name = "NAME=AMOUNT", env = "APPM_USER_QUOTA", hide_env_values = true, value_delimiter = ',')]
    pub(super) user_quota: Vec<QuotaWord>,
    /// An issuer of OpenID Connect whose tokens are believed, as YAML: {issuer: https://…, audiences: [appm]}; a list of them in APPM_OIDC
    #[arg(long, value_name = "ISSUER", env = "APPM_OIDC", hide_env_values = true, value_parser = issuers)]
    pub(super) oidc: Vec<Issuers>,
    /// Another server that App Mesh's calls with X-Target-Host are passed on to, as YAML: {name: HOST, address: HOST:PORT, caFile: FILE}; a list of them in APPM_PEER
    #[arg(long, value_name = "PEER", env = "APPM_PEER", hide_env_values = true, value_parser = peers)]
    pub(super) peer: Vec<Peers>,
    #[command(flatten)]
    pub(super) tls: TlsOptions,
    #[command(flatten)]
    pub(super) history: HistoryOptions,
}

/// One issuer, or a list of them, as they are written in a flag or a variable.
#[derive(Clone, Debug)]
pub(super) struct Issuers(Vec<OidcIssuer>);

fn issuers(text: &str) -> Result<Issuers, String> {
    let read: Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let all = match read {
        Value::Array(all) => all,
        one => vec![one],
    };
    let all = all.into_iter().map(|one| serde_path_to_error::deserialize(one).map_err(|e| e.to_string()));
    let mut all: Vec<OidcIssuer> = all.collect::<Result<_, String>>()?;
    OidcIssuer::check(&all)?;
    for file in all.iter_mut().filter_map(|issuer| issuer.ca_file.as_mut()) {
        *file = std::path::absolute(&*file).unwrap_or_else(|_| file.clone());
    }
    Ok(Issuers(all))
}

/// One peer, or a list of them, as they are written in a flag or a variable.
#[derive(Clone, Debug)]
pub(super) struct Peers(Vec<PeerServer>);

fn peers(text: &str) -> Result<Peers, String> {
    PeerServer::read(text).map(Peers)
}

/// What a server can be told of TLS.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsOptions {
    /// A certificate of your own, with its chain, in PEM; taken anew when the file changes
    #[arg(
        long,
        value_name = "FILE",
        env = "APPM_TLS_CERT_FILE",
        hide_env_values = true,
        requires = "tls_private_key_file"
    )]
    tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(
        long,
        value_name = "FILE",
        env = "APPM_TLS_PRIVATE_KEY_FILE",
        hide_env_values = true,
        requires = "tls_cert_file"
    )]
    tls_private_key_file: Option<PathBuf>,
    /// Authorities of client certificates: the common name is the user, the organizations are groups
    #[arg(long, value_name = "FILE", env = "APPM_CLIENT_CA_FILE", hide_env_values = true)]
    client_ca_file: Option<PathBuf>,
    /// Another host name or address for the certificate that appm makes
    #[arg(long, value_name = "NAME", env = "APPM_TLS_SAN", hide_env_values = true, value_delimiter = ',')]
    tls_san: Vec<String>,
    /// Another name that requests may be addressed to; `*.` stands for one label
    #[arg(long, value_name = "NAME", env = "APPM_ALLOWED_HOST", hide_env_values = true, value_delimiter = ',')]
    allowed_host: Vec<String>,
}

impl TlsOptions {
    /// What the flags require of each other, the file of settings must say, too.
    fn check(&self) -> Result<(), CliError> {
        match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(_), None) | (None, Some(_)) => Err(CliError::usage("a certificate goes with its key")
                .help("tlsCertFile and tlsPrivateKeyFile, or --tls-cert-file and --tls-private-key-file")),
            _ => Ok(()),
        }
    }

    fn settings(&self) -> TlsSettings {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let brought = self.tls_cert_file.as_ref().zip(self.tls_private_key_file.as_ref());
        TlsSettings {
            brought: brought.map(|(certificate, key)| (absolute(certificate), absolute(key))),
            client_ca: self.client_ca_file.as_ref().map(absolute),
            names: self.tls_san.clone(),
            allowed_hosts: self.allowed_host.clone(),
        }
    }

    /// The same as flags.
    fn flags(&self) -> Vec<OsString> {
        let files = [
            ("--tls-cert-file", &self.tls_cert_file),
            ("--tls-private-key-file", &self.tls_private_key_file),
            ("--client-ca-file", &self.client_ca_file),
        ];
        let files = files.into_iter().filter_map(|(flag, path)| Some([flag.into(), path.as_ref()?.into()]));
        let named = self.tls_san.iter().map(|name| ["--tls-san".into(), name.into()]);
        let allowed = self.allowed_host.iter().map(|name| ["--allowed-host".into(), name.into()]);
        files.chain(named).chain(allowed).flatten().collect()
    }
}

#[derive(Subcommand, Debug)]
enum ServerCommand {
    /// Stop the server; Apps go on
    Stop(StopArgs),
    LogLevel(LevelArgs),
}

#[derive(Args, Debug)]
struct StopArgs {
    /// Stop every App, too; the next server starts them again
    #[arg(long)]
    apps: bool,
    /// How long to wait for the end; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0")]
    timeout: GoDuration,
}

impl ServerArgs {
    /// What a server is told that is started so.
    #[cfg(test)]
    pub(super) fn into_options(self) -> ServerOptions {
        self.options
    }
}

pub(super) fn run(args: ServerArgs, global: &Global) -> Result<(), CliError> {
    match args.command {
        Some(ServerCommand::Stop(stop)) => runtime()?.block_on(stop_server(&stop, global)),
        Some(ServerCommand::LogLevel(args)) => runtime()?.block_on(logging::level(&args, global)),
        None => {
            if args.detached {
                // Fails only for the leader of a group, which what `up` starts is not.
                let _ = nix::unistd::setsid();
            }
            let verbosity = logging::to_stderr(args.log_format);
            server_runtime()?.block_on(serve(&args.options, global, verbosity))
        }
    }
}

/// An async runtime of this thread alone, for a client.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|e| CliError::io("cannot start", &e))
}

/// An async runtime with a thread for each processor: two on one stand in each other's way for as long as a tick of the kernel.
pub(super) fn server_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Looked for what came in after so many steps: while one client floods, another's request is seen soon.
    builder.event_interval(8).enable_all().on_thread_park(crate::daemon::rest::parked);
    builder.worker_threads(std::thread::available_parallelism().map_or(1, usize::from));
    builder.build().map_err(|e| CliError::io("cannot start", &e))
}

/// Starts the server in this process.
pub(super) async fn start(options: &ServerOptions, global: &Global, verbosity: Verbosity) -> Result<Running, CliError> {
    let exe = daemon::this_binary().map_err(|e| CliError::io("cannot find the running program", &e))?;
    options.tls.check()?;
    let settings = Settings {
        verbosity,
        data_dir: DataDir::new(std::path::absolute(global.data_dir()).unwrap_or_else(|_| global.data_dir())),
        listen: options.listen,
        tcp_listen: options.tcp_listen,
        wss_listen: options.wss_listen,
        files_dir: options.files_dir.clone(),
        sync_dir: options.sync_dir.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone())),
        tls: options.tls.settings(),
        oidc: options.oidc.iter().flat_map(|issuers| issuers.0.clone()).collect(),
        peers: options.peer.iter().flat_map(|peers| peers.0.clone()).collect(),
        node_name: options.node_name.clone(),
        seal_key_file: options.seal_key_file.clone(),
        admin_password_file: options.admin_password_file.clone(),
        audit: audit_settings(options),
        history: options.history.settings(),
        engines: engines(options),
        quotas: quotas::of(&options.namespace_quota, &options.user_quota)?,
        exe,
    };
    let file = settings.data_dir.admin_password();
    let mut running = daemon::start(settings).await.map_err(|error| {
        let failed = CliError::failed(format!("cannot start the server: {}", chain(&error)));
        if error.is_address_taken() {
            return failed.help("choose another port with --listen 127.0.0.1:PORT; port 0 takes any that is free");
        }
        failed
    })?;
    if let Some(password) = running.first_password() {
        tell(&password, &file)?;
    }
    Ok(running)
}

/// Tells the first password of the user `admin`: at the terminal, or in a file that only the owner can read.
fn tell(password: &str, file: &Path) -> Result<(), CliError> {
    if std::io::stderr().is_terminal() {
        screen::remark(format_args!("the user `admin` has the password {password}   (shown this once)"));
        return Ok(());
    }
    // One of an earlier first start is worth nothing any more.
    let _ = std::fs::remove_file(file);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = written.and_then(|mut to| writeln!(to, "{password}").and_then(|()| to.sync_all()));
    written.map_err(|e| CliError::io(&format!("cannot write {}", file.display()), &e))
}

fn audit_settings(options: &ServerOptions) -> AuditSettings {
    let level = match options.audit_level {
        AuditLevel::Changes => daemon::AuditLevel::Changes,
        AuditLevel::Reads => daemon::AuditLevel::Reads,
    };
    let (max_size, max_files) = (u64::from(options.audit_max_size.max(1)) << 20, options.audit_max_files as usize);
    AuditSettings { dir: PathBuf::new(), level, max_size, max_files }
}

/// Where engines are, as Docker's and Podman's own commands are told.
#[allow(clippy::disallowed_methods, reason = "a setting")]
fn engines(options: &ServerOptions) -> EngineHosts {
    let told = EngineHosts { docker: options.docker_host.clone(), podman: options.podman_host.clone() };
    told.or_environment(|name| std::env::var(name).ok())
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How a server is asked to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// Of a server without a terminal. With one it means that the terminal is gone, and the server goes with it.
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let has_terminal = std::io::stdin().is_terminal();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: if has_terminal { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for the end; `reload` is called where only that is asked for.
    async fn next(&mut self, reload: impl Fn()) -> Apps {
        loop {
            let hung_up = async {
                match &mut self.hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => return Apps::Leave,
                _ = self.interrupt.recv() => return Apps::Leave,
                _ = hung_up => reload(),
            }
        }
    }
}

async fn serve(options: &ServerOptions, global: &Global, verbosity: Verbosity) -> Result<(), CliError> {
    let mut signals = Signals::new().map_err(|e| CliError::io("cannot listen for signals", &e))?;
    let mut running = start(options, global, verbosity).await?;
    let reload = running.reloader();
    let early = tokio::select! {
        () = running.ready() => None,
        apps = signals.next(&reload) => Some(apps),
    };
    let apps = match early {
        Some(apps) => apps,
        None => {
            // Whoever started the server may have closed its stdout; that is no reason to end.
            if let Some(address) = running.frames() {
                let _ = screen::line(format_args!("tcp {address}"));
            }
            if let Some(address) = running.wss() {
                let _ = screen::line(format_args!("wss {address}"));
            }
            let _ = screen::line(format_args!("ready {}", running.url()));
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            tokio::select! {
                apps = signals.next(&reload) => apps,
                apps = running.stop_requested() => apps,
            }
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    running.stop(apps).await;
    Ok(())
}

/// The process behind the socket of a data directory, if one answers.
async fn server_process(data_dir: &Path) -> Option<Pid> {
    let stream = UnixStream::connect(data_dir.join("appm.sock")).await.ok()?;
    stream.peer_cred().ok()?.pid().and_then(Pid::from_raw)
}

async fn stop_server(args: &StopArgs, global: &Global) -> Result<(), CliError> {
    let global = &global.here();
    let context = Context::new(global)?;
    let process = match context.client.endpoint() {
        Endpoint::Unix(_) => {
            server_process(&global.data_dir()).await.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        }
        Endpoint::Https(_) => None,
    };
    let path = if args.apps { "/stop?apps=true" } else { "/stop" };
    match context.client.call(Request::post(path, &serde_json::Value::Null)).await {
        Err(RequestError::Unreachable { .. })
            if args.apps && global.kubeconfig.is_none() && global.context.is_none() =>
        {
            return stop_orphans(&global.data_dir(), global).await;
        }
        answer => answer?,
    };
    // From afar nobody can see when it has ended.
    let Some(process) = process else { return Ok(screen::line("the server was asked to stop")?) };
    let limit = Some(args.timeout.0).filter(|t| !t.is_zero());
    let ended = tokio::task::spawn_blocking(move || ends_within(&process, limit)).await;
    match ended.map_err(|e| CliError::failed(e.to_string()))? {
        true if args.apps => screen::line("server and Apps stopped")?,
        true => screen::line("server stopped; its Apps go on")?,
        false => return Err(CliError::new(Exit::Timeout, format!("the server has not ended after {}", args.timeout))),
    }
    Ok(())
}

/// Apps that go on without a server: a server is needed once more, to end them as they want to be ended.
async fn stop_orphans(data_dir: &Path, global: &Global) -> Result<(), CliError> {
    if !data_dir.join("keeper/keeper.sock").exists() {
        let message = format!("nothing of appm runs in {}", data_dir.display());
        return Err(CliError::new(Exit::NoServer, message));
    }
    let (_, verbosity) = logging::to_file(data_dir)?;
    let listen = SocketAddr::new(Settings::DEFAULT_LISTEN.ip(), 0);
    let seal_key_file = settings::environment("APPM_SEAL_KEY_FILE").map(PathBuf::from);
    let seal_key_file = seal_key_file.or_else(|| configured::path_of("sealKeyFile", data_dir));
    let options = ServerOptions {
        config: None,
        listen,
        tcp_listen: None,
        wss_listen: None,
        sync_dir: None,
        files_dir: None,
        node_name: None,
        seal_key_file,
        admin_password_file: None,
        audit_level: AuditLevel::default(),
        audit_max_size: 64,
        audit_max_files: 0,
        history: HistoryOptions::default(),
        docker_host: None,
        podman_host: None,
        namespace_quota: Vec::new(),
        user_quota: Vec::new(),
        oidc: Vec::new(),
        peer: Vec::new(),
        tls: TlsOptions::default(),
    };
    let mut running = start(&options, global, verbosity).await?;
    running.ready().await;
    running.stop(Apps::Stop).await;
    screen::line("Apps stopped")?;
    Ok(())
}

/// Whether a process ends in time.
fn ends_within(process: &OwnedFd, limit: Option<Duration>) -> bool {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], limit.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Starts a server of its own in the background, and returns when it is ready.
pub(super) fn start_detached(options: &ServerOptions, global: &Global) -> Result<String, CliError> {
    let data_dir = global.data_dir();
    let log = data_dir.join("server.log");
    let opened =
        std::fs::create_dir_all(&data_dir).and_then(|()| OpenOptions::new().create(true).append(true).open(&log));
    let log_file = opened.map_err(|e| CliError::io(&format!("cannot write {}", log.display()), &e))?;
    let exe = daemon::this_binary().map_err(|e| CliError::io("cannot find the running program", &e))?;
    let mut command = Command::new(exe);
    command.arg("server").arg("--detached").arg("--data-dir").arg(&data_dir);
    command.arg("--listen").arg(options.listen.to_string());
    let named = [
        ("--node-name", &options.node_name),
        ("--docker-host", &options.docker_host),
        ("--podman-host", &options.podman_host),
    ];
    for (flag, value) in named.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?))) {
        command.arg(flag).arg(value);
    }
    if let Some(file) = &options.config {
        command.arg("--config").arg(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    }
    if options.audit_level == AuditLevel::Reads {
        command.args(["--audit-level", "reads"]);
    }
    command.args(["--audit-max-size", &options.audit_max_size.to_string()]);
    command.args(["--audit-max-files", &options.audit_max_files.to_string()]);
    command.args(options.history.flags());
    if let Some(address) = &options.tcp_listen {
        command.arg("--tcp-listen").arg(address.to_string());
    }
    if let Some(address) = &options.wss_listen {
        command.arg("--wss-listen").arg(address.to_string());
    }
    if let Some(dir) = &options.files_dir {
        command.arg("--files-dir").arg(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    }
    if let Some(dir) = &options.sync_dir {
        command.arg("--sync-dir").arg(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    }
    if let Some(file) = &options.seal_key_file {
        command.arg("--seal-key-file").arg(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    }
    if let Some(file) = &options.admin_password_file {
        command.arg("--admin-password-file").arg(std::path::absolute(file).unwrap_or_else(|_| file.clone()));
    }
    for (flag, words) in [("--namespace-quota", &options.namespace_quota), ("--user-quota", &options.user_quota)] {
        for word in words {
            command.arg(flag).arg(&word.text);
        }
    }
    for issuer in options.oidc.iter().flat_map(|issuers| &issuers.0) {
        command.arg("--oidc").arg(serde_json::to_string(issuer).expect("plain data"));
    }
    for peer in options.peer.iter().flat_map(|peers| &peers.0) {
        command.arg("--peer").arg(peer.written());
    }
    command.args(options.tls.flags());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
    let mut child = command.spawn().map_err(|e| CliError::io("cannot start a server", &e))?;
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("ready ") {
            return Ok(address.to_owned());
        }
    }
    let _ = child.wait();
    let last = std::fs::read_to_string(&log).unwrap_or_default();
    let last = last.lines().next_back().unwrap_or("it said nothing").to_owned();
    Err(CliError::failed(format!("the server did not become ready: {last}"))
        .help(format!("its log is {}", log.display())))
}
