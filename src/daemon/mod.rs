//! The composition root: the only place that builds real things and joins them.
//!
//! ```text
//!   Sqlite ─► Store ─► Admission ─┬─► LocalClient ─► controllers, agent ◄┬─ ProcessDriver ─► keeper ─► logger
//!                                 │                                                  └─ ContainerDriver ─► engines
//!                                 └─► Server (TLS, Unix socket)
//! ```
//! Everything starts in this order and stops in the reverse one: first nobody new gets in, then judgement ends, then the
//! store closes. The processes are the keeper's children and notice nothing.

pub mod backup;
pub mod examine;
mod first;
pub mod forecast;
mod logs;
mod processes;
pub mod rest;
mod settings;
pub mod simulated;
mod sources;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use settings::{DataDir, HistorySettings, Settings};

pub use crate::{
    admission::{Quotas, bounds as quota_bounds},
    appmesh::Verbosity,
    audit::{Level as AuditLevel, Settings as AuditSettings},
    auth::OidcIssuer,
    drivers::container::EngineHosts,
    server::{PeerServer, TlsSettings},
};

use crate::{
    admission::{Admission, LocalClient},
    agent::{
        self, Agent, AgentConfig, Drivers, Signals,
        node::{NodeFacts, ThisMachine},
    },
    api::{Key, Namespace, Object, Operation, OperationVerb, Reason, Role, Status, Transaction},
    audit::{self, Audit},
    auth::{self, Identity},
    broker::Keys,
    client::SharedClient,
    clock::{self, SharedClock},
    controllers::{
        self, namespace::NamespaceController, schedule::ScheduleController, source::SourceController,
        trigger::TriggerController, workflow::WorkflowRunController,
    },
    drivers::{
        container::ContainerDriver,
        process::{ConnectError, ProcessDriver},
    },
    policy::powers::Host,
    runtime::{self, EventRecorder},
    server::{self, Bounds, Foundation, Readiness, RunningServer, ServerConfig},
    store::{OpenError, Sqlite, Store},
};

/// How long a forecast of what becomes of processes may take.
const FORECAST: Duration = Duration::from_secs(10);
/// The namespace that is always there.
const DEFAULT_NAMESPACE: &str = "default";

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory or its database.
    #[error("cannot open the store")]
    Store(#[from] OpenError),
    /// The audit log.
    #[error("cannot record who does what")]
    Audit(#[from] audit::OpenError),
    /// The keeper cannot be reached or started.
    #[error("cannot reach the keeper")]
    Keeper(#[from] ConnectError),
    /// The directory of the driver of containers.
    #[error("cannot open `containers` in the data directory")]
    Containers(#[source] std::io::Error),
    /// The address, the certificate or the socket.
    #[error("cannot serve the API")]
    Server(#[from] server::StartError),
    /// What must always be there cannot be written.
    #[error("cannot write the first objects: {0}")]
    Bootstrap(Status),
    /// What is told of issuers cannot be believed.
    #[error("cannot use the setting `oidc`: {0}")]
    Issuers(String),
    /// The key of the processes that get tasks.
    #[error("cannot open `worker.key` in the data directory")]
    WorkerKey(#[source] std::io::Error),
    /// This boot has no name.
    #[error("cannot tell this boot of the machine from others")]
    Boot(#[source] std::io::Error),
}

impl StartError {
    /// Whether somebody else listens where the API was to be served.
    pub fn is_address_taken(&self) -> bool {
        let Self::Server(server::StartError::Listen { source, .. }) = self else { return false };
        source.kind() == std::io::ErrorKind::AddrInUse
    }
}

/// What a stop does with the Apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apps {
    /// They keep running.
    Leave,
    /// They are stopped first, each with its grace period; the next start of the daemon starts them again.
    Stop,
}

/// A daemon that runs.
pub struct Running {
    server: RunningServer,
    store: Arc<Store>,
    audit: Arc<Audit>,
    driver: Arc<ProcessDriver>,
    tasks: JoinSet<()>,
    /// Ends everything; the processes go on.
    shutdown: CancellationToken,
    /// Makes the agent end every process, and then itself.
    drain: CancellationToken,
    ready: Vec<watch::Receiver<bool>>,
    readiness: Arc<Readiness>,
    stop_requests: mpsc::Receiver<Apps>,
    agent_done: watch::Receiver<bool>,
    /// Of the user `admin`, if both were made just now.
    first_password: Option<String>,
}

/// Opens the store, starts everything and serves the API. Not yet ready then: see [`Running::ready`].
///
/// # Errors
/// See [`StartError`]; nothing of it is left running then, not even a keeper that was not there before.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    // A second call finds the provider installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    OidcIssuer::check(&settings.oidc).map_err(StartError::Issuers)?;
    let clock: SharedClock = Arc::new(clock::System);
    let data_dir = settings.data_dir.path().to_owned();
    let boot_id = clock::boot_id().map_err(StartError::Boot)?;
    let engine = Sqlite::open(&data_dir, settings.seal_key_file.as_deref()).await?;
    let store = Store::open(Box::new(engine), clock.clone(), settings.history.limits()).await?;
    let audit = audit::Settings { dir: settings.data_dir.audit(), ..settings.audit };
    let audit = Audit::open(audit, clock.clone(), store.anchored())?;
    store.set_witness(audit.witness());
    let admission = Admission::with_quotas(store.clone(), clock.clone(), host(), settings.quotas.clone());
    let quotas = settings.quotas;
    let keys = Keys::open(&settings.data_dir.worker_key()).map_err(StartError::WorkerKey)?;
    admission.broker().use_keys(keys);
    let bootstrap = local(&admission, "bootstrap");
    make_default_namespace(&bootstrap).await.map_err(StartError::Bootstrap)?;
    write_built_in_roles(&bootstrap).await.map_err(StartError::Bootstrap)?;
    let file = settings.admin_password_file.as_deref();
    let first_password = first::make_first_user(&bootstrap, file).await.map_err(StartError::Bootstrap)?;

    sources::keep(&bootstrap, settings.sync_dir.as_deref()).await.map_err(StartError::Bootstrap)?;

    let mut facts = NodeFacts::of_this_machine(boot_id);
    if let Some(name) = settings.node_name {
        facts.name = agent::node::node_name(&name);
    }
    let observatory = forecast::Observatory {
        store: store.clone(),
        clock: clock.clone(),
        host: host(),
        quotas,
        node: facts.clone(),
        ports: imagined_ports,
        readiness: forecast::Readiness::AsLastTime,
        patience: FORECAST,
    };
    admission.use_forecaster(forecast::forecaster(observatory));
    let readiness = Arc::new(Readiness::new());
    let (stop, stop_requests) = mpsc::channel(1);
    let (looker, questions) = agent::looker();
    let seen_by = Arc::new(OnceLock::new());
    let foundation = Foundation {
        admission: admission.clone(),
        clock: clock.clone(),
        logs: logs::source(data_dir.clone()),
        output: logs::output(data_dir.clone()),
        notices: logs::notices(data_dir.clone()),
        processes: processes::source(seen_by.clone()),
        feed: processes::feed(seen_by.clone()),
        readiness: readiness.clone(),
        stop: stopper(stop),
        audit: Some(audit.clone()),
        look: Arc::new(move || {
            let looker = looker.clone();
            Box::pin(async move { looker.look().await })
        }),
    };
    let config = ServerConfig {
        data_dir: data_dir.clone(),
        listen: settings.listen,
        frames: settings.tcp_listen,
        wss: settings.wss_listen,
        files: settings.files_dir.unwrap_or_else(|| settings.data_dir.files()),
        hostname: facts.name.clone(),
        verbosity: settings.verbosity,
        tls: settings.tls,
        oidc: settings.oidc,
        peers: settings.peers,
        bounds: Bounds::default(),
    };
    let containers = ContainerDriver::open(&data_dir, settings.engines).map_err(StartError::Containers)?;
    // Before the keeper: a port that is taken leaves no keeper behind.
    let server = server::start(config, foundation).await?;
    let driver = match ProcessDriver::connect(&data_dir, settings.exe).await {
        Ok(driver) => Arc::new(driver),
        Err(error) => {
            server.stop().await;
            return Err(error.into());
        }
    };
    let mut parts = Parts {
        admission,
        clock,
        shutdown: CancellationToken::new(),
        drain: CancellationToken::new(),
        tasks: JoinSet::new(),
        rested: watch::channel(0).0,
        ready: Vec::new(),
    };
    let drivers = Drivers { process: driver.clone(), container: Arc::new(containers) };
    // The first and only time.
    let _ = seen_by.set(drivers.clone());
    let (anchored, kept, until) = (audit.clone(), store.clone(), parts.shutdown.clone());
    parts.tasks.spawn(async move { until.run_until_cancelled(anchored.anchor(&kept)).await.unwrap_or_default() });
    let (client, clock) = (local(&parts.admission, "agent"), parts.clock.clone());
    let shown = agent::node::show_audit(client, clock, facts.name.clone(), audit.troubles());
    let until = parts.shutdown.clone();
    parts.tasks.spawn(async move { until.run_until_cancelled(shown).await.unwrap_or_default() });
    let rested = parts.rested.clone();
    parts.tasks.spawn(rest::rest(store.clone(), parts.clock.clone(), rested, parts.shutdown.clone()));
    let agent_done = parts.start(facts, &data_dir, drivers, questions);
    let Parts { shutdown, drain, tasks, ready, .. } = parts;
    Ok(Running {
        server,
        store,
        audit,
        driver,
        tasks,
        shutdown,
        drain,
        ready,
        readiness,
        stop_requests,
        agent_done,
        first_password,
    })
}

/// How the API asks for the daemon's end.
fn stopper(stop: mpsc::Sender<Apps>) -> server::StopSink {
    Arc::new(move |apps| {
        let apps = if apps { Apps::Stop } else { Apps::Leave };
        // A second request while the first is being served changes nothing.
        let _ = stop.try_send(apps);
    })
}

/// Without it a clock that is set goes unnoticed: what means a time of day is late by as much.
async fn notice_steps(shutdown: CancellationToken) {
    if let Some(Err(error)) = shutdown.run_until_cancelled(clock::notice_steps()).await {
        tracing::warn!(%error, "nobody will notice if the time of day is set");
    }
}

/// Which number it is makes no difference to a forecast.
fn imagined_ports() -> controllers::app::Ports {
    controllers::app::Ports::new(20000..=29999, |_| true)
}

fn local(admission: &Admission, part: &str) -> SharedClient {
    Arc::new(LocalClient::new(admission.clone(), Identity::system(part), &format!("appm-{part}")))
}

/// Who runs this process.
fn host() -> Host {
    let uid = nix::unistd::geteuid();
    let account = nix::unistd::User::from_uid(uid).ok().flatten();
    Host { root: uid.is_root(), names: account.map(|a| a.name).into_iter().chain([uid.to_string()]).collect() }
}

/// The roles of this binary, in place of those of another one.
async fn write_built_in_roles(client: &SharedClient) -> Result<(), Status> {
    let apply = |role: Object<Role>| Operation { force: true, ..Operation::new(OperationVerb::Apply, role.to_value()) };
    let operations = auth::built_in_roles().into_iter().map(apply).collect();
    client.transact(Transaction::new("appm-bootstrap", operations)).await.map(drop)
}

async fn make_default_namespace(client: &SharedClient) -> Result<(), Status> {
    if client.get(&Key::of::<Namespace>("", DEFAULT_NAMESPACE)).await?.is_some() {
        return Ok(());
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEFAULT_NAMESPACE}});
    let create = Operation::new(OperationVerb::Create, namespace);
    match client.transact(Transaction::new("appm-bootstrap", vec![create])).await {
        Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
        _ => Ok(()),
    }
}

/// The parts that judge and act, while they are being started.
struct Parts {
    admission: Admission,
    clock: SharedClock,
    shutdown: CancellationToken,
    drain: CancellationToken,
    tasks: JoinSet<()>,
    /// Counts how often the server came to rest.
    rested: watch::Sender<u64>,
    ready: Vec<watch::Receiver<bool>>,
}

impl Parts {
    /// Starts controllers and agent; the answer turns true when the agent has ended.
    fn start(
        &mut self,
        facts: NodeFacts,
        data_dir: &std::path::Path,
        drivers: Drivers,
        questions: agent::Questions,
    ) -> watch::Receiver<bool> {
        self.tasks.spawn(notice_steps(self.shutdown.clone()));
        let recorder = EventRecorder::new(local(&self.admission, "events"), self.clock.clone());
        let host = facts.name.clone();
        let of_apps = recorder.reporter("appm.dev/app", &host);
        let of_runs = recorder.reporter("appm.dev/run", &host);
        let of_agent = recorder.reporter("appm.dev/agent", &host);
        let of_workflows = recorder.reporter("appm.dev/workflow", &host);
        let of_triggers = recorder.reporter("appm.dev/trigger", &host);
        let of_schedules = recorder.reporter("appm.dev/schedule", &host);
        let of_sources = recorder.reporter("appm.dev/source", &host);
        self.tasks.spawn(recorder.run(self.shutdown.clone()));

        let ports = controllers::app::Ports::system();
        let turns = controllers::Turns::default();
        let of_all = turns.clone();
        let steps = controllers::run::Steps::default();
        let shared = (turns, steps.clone());
        let of_steps = steps.clone();
        self.run("app", |client, clock, ready, shutdown| {
            Box::pin(controllers::app::run(client, clock, ports, of_all, of_apps, ready, shutdown))
        });
        self.run("run", |client, clock, ready, shutdown| {
            Box::pin(controllers::run::run(client, clock, shared, of_runs, ready, shutdown))
        });
        self.run("gc", |client, clock, ready, shutdown| Box::pin(controllers::gc::run(client, clock, ready, shutdown)));
        self.run("namespace", |client, clock, ready, shutdown| {
            let controller = Arc::new(NamespaceController::new(client.clone(), clock.clone()));
            Box::pin(runtime::run(controller, client, clock, ready, shutdown))
        });

        self.run("schedule", |client, clock, ready, shutdown| {
            let zone = jiff::tz::TimeZone::system();
            let controller = Arc::new(ScheduleController::new(client.clone(), clock.clone(), of_schedules, zone));
            Box::pin(runtime::run(controller, client, clock, ready, shutdown))
        });

        let copies = sources::copies(&DataDir::new(data_dir));
        self.run("source", |client, clock, ready, shutdown| {
            let controller = Arc::new(SourceController::new(client.clone(), clock.clone(), of_sources, copies));
            Box::pin(runtime::run(controller, client, clock, ready, shutdown))
        });

        let rests = self.rested.subscribe();
        self.run("workflow", |client, clock, ready, shutdown| {
            let controller = Arc::new(WorkflowRunController::new(client.clone(), of_workflows, steps));
            let gives = controller.give_back(rests);
            let runs = runtime::run(controller, client, clock, ready, shutdown);
            Box::pin(async move { tokio::join!(runs, gives).0 })
        });

        self.run("trigger", |client, clock, ready, shutdown| {
            let controller = Arc::new(TriggerController::new(client.clone(), of_triggers));
            Box::pin(runtime::run(controller, client, clock, ready, shutdown))
        });

        let config = AgentConfig {
            node: facts,
            address: "127.0.0.1".to_owned(),
            account: agent::system_account,
            machine: Some(Arc::new(ThisMachine::new(data_dir.to_owned()))),
            broker: Some(self.admission.broker().clone()),
            socket: std::path::absolute(data_dir.join("appm.sock"))
                .ok()
                .and_then(|path| path.to_str().map(str::to_owned)),
        };
        let agent = Agent::new(config, local(&self.admission, "agent"), drivers, self.clock.clone(), of_agent)
            .answering(questions)
            .handing_over(of_steps);
        let (ready, is_ready) = watch::channel(false);
        self.ready.push(is_ready);
        let (done, is_done) = watch::channel(false);
        let signals = Signals { ready, shutdown: self.shutdown.clone(), drain: self.drain.clone() };
        self.tasks.spawn(async move {
            agent.run(signals).await;
            let _ = done.send(true);
        });
        is_done
    }

    fn run(
        &mut self,
        name: &'static str,
        controller: impl FnOnce(SharedClient, SharedClock, watch::Sender<bool>, CancellationToken) -> BoxFuture<'static, ()>,
    ) {
        let (ready, is_ready) = watch::channel(false);
        self.ready.push(is_ready);
        let client = local(&self.admission, name);
        self.tasks.spawn(controller(client, self.clock.clone(), ready, self.shutdown.clone()));
    }
}

impl Running {
    /// `https://127.0.0.1:6060`
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where App Mesh's frames are served.
    pub fn frames(&self) -> Option<SocketAddr> {
        self.server.frames
    }

    /// Where App Mesh's WebSocket is.
    pub fn wss(&self) -> Option<SocketAddr> {
        self.server.wss
    }

    /// Makes the server look at certificates and their keys again.
    pub fn reloader(&self) -> impl Fn() + Send + use<> {
        self.server.reloader()
    }

    /// The password of the user `admin`, if both were made just now; it is told once.
    pub fn first_password(&mut self) -> Option<String> {
        self.first_password.take()
    }

    /// Resolves when everything was loaded, adopted and reconciled once; `/readyz` says so from then on.
    pub async fn ready(&mut self) {
        for part in &mut self.ready {
            // An error means that the part has ended, which shutdown alone does.
            let _ = part.wait_for(|ready| *ready).await;
        }
        self.readiness.set(true);
    }

    /// Resolves when the API was asked to stop the daemon.
    pub async fn stop_requested(&mut self) -> Apps {
        match self.stop_requests.recv().await {
            Some(apps) => apps,
            None => std::future::pending().await,
        }
    }

    /// Stops everything, the Apps too if asked.
    pub async fn stop(mut self, apps: Apps) {
        self.readiness.set(false);
        if apps == Apps::Stop {
            self.drain.cancel();
            let _ = self.agent_done.wait_for(|done| *done).await;
        }
        self.server.stop().await;
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the daemon ended badly");
            }
        }
        self.audit.flush().await;
        self.audit.anchor_now(&self.store).await;
        self.store.close().await;
        if apps == Apps::Stop
            && let Err(error) = self.driver.quit().await
        {
            tracing::warn!(%error, "the keeper stays");
        }
    }
}

/// The binary that runs, for keeper and logger.
///
/// # Errors
/// When the kernel does not tell.
pub fn this_binary() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}
