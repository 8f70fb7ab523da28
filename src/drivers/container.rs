//! The driver of containers: a client of Docker's or Podman's engine.
//!
//! An engine is itself the keeper of its containers: they outlive this daemon, keep their exit codes and their output. So
//! this driver remembers nothing that matters. The start key is in the container's name, which an engine gives to one
//! container only, and a container is started only if it says that it was never started; an attempt is acknowledged by
//! removing its container, after its output was read to the end ([`output`]).
//!
//! Only engines that this data directory has used are looked at ([`engine`]), and all of them must answer before it is
//! said what runs. Each is listened to ([`events`]); when one breaks off, [`DriverEvent::Resync`] makes the agent look.

mod body;
mod engine;
mod events;
mod exec;
pub mod feeder;
mod image;
mod names;
mod once;
mod output;
mod run;
mod state;
mod stdin;
mod veil;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use bollard::{
    models::ContainerInspectResponse,
    query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::engine::EngineHosts;
use self::{
    engine::{Engine, Register, sentence, settled, verdict},
    image::Pulls,
    once::Begun,
    output::Output,
};
use super::{
    Attempt, CheckState, Driver, DriverEvent, Exec, ExecError, Executed, FeedError, Fetched, ImageCheck, LimitError,
    Limits, LogLimits, Need, Notified, Pieces, PrepareError, Reach, Start, StartError, StartKey, Started, Unreachable,
    processes::{Root, Scanner},
    usage::Meter,
};
use crate::{
    api::{ContainerRuntime, InstanceProcesses, Uid, Usage},
    clock::{Clock, System},
    keeper,
};

/// An attempt that runs, as far as this driver was told.
#[derive(Clone, Debug)]
struct Place {
    engine: Engine,
    started: Started,
}

/// What was seen of an attempt that runs, beside the fact that it does.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// Its address on a network of its engine.
    address: Option<String>,
    /// What the check of its image says.
    check: Option<ImageCheck>,
}

/// What bears the name of an attempt.
enum Bearer {
    /// Nothing.
    Nobody,
    /// A container of ours.
    Ours(Box<ContainerInspectResponse>),
    /// A container that somebody else made: it is neither looked into nor touched.
    Stranger,
}

/// What the parts of the driver share.
#[derive(Debug)]
struct Shared {
    register: Register,
    events: mpsc::UnboundedSender<DriverEvent>,
    /// Engines that answered and are listened to, by address.
    engines: Mutex<BTreeMap<String, Engine>>,
    /// Addresses of the engines that are listened to.
    listened: Mutex<BTreeSet<String>>,
    running: Mutex<BTreeMap<StartKey, Place>>,
    seen: Mutex<BTreeMap<StartKey, Seen>>,
    begun: Begun,
    output: Output,
    pulls: Pulls,
    meter: Meter,
    scanner: Scanner,
    /// Ends with the driver, and with it whatever it does by itself.
    life: CancellationToken,
}

/// Makes attempts real as containers.
#[derive(Debug)]
pub struct ContainerDriver {
    shared: Arc<Shared>,
    events: Mutex<Option<mpsc::UnboundedReceiver<DriverEvent>>>,
}

impl Drop for ContainerDriver {
    fn drop(&mut self) {
        self.shared.life.cancel();
    }
}

impl ContainerDriver {
    /// A driver for a data directory, which must exist. Speaks to nobody yet.
    ///
    /// # Errors
    /// When its own directory there cannot be made or read.
    pub fn open(data_dir: &Path, hosts: EngineHosts) -> io::Result<Self> {
        let register = Register::open(data_dir, hosts)?;
        let (events, listen) = mpsc::unbounded_channel();
        let life = CancellationToken::new();
        let shared = Shared {
            register,
            events,
            engines: Mutex::default(),
            listened: Mutex::default(),
            running: Mutex::default(),
            seen: Mutex::default(),
            begun: Begun::new(data_dir),
            output: Output::new(data_dir.to_owned(), life.clone()),
            pulls: Pulls::default(),
            meter: Meter::default(),
            scanner: Scanner::default(),
            life,
        };
        Ok(Self { shared: Arc::new(shared), events: Mutex::new(Some(listen)) })
    }
}

impl Shared {
    fn engines(&self) -> MutexGuard<'_, BTreeMap<String, Engine>> {
        self.engines.lock().expect("no holder panics")
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<StartKey, Place>> {
        self.running.lock().expect("no holder panics")
    }

    fn listened(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.listened.lock().expect("no holder panics")
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<StartKey, Seen>> {
        self.seen.lock().expect("no holder panics")
    }

    fn report(&self, event: DriverEvent) {
        // Nobody listens when the agent has ended.
        let _ = self.events.send(event);
    }

    /// An engine that answers at this address.
    async fn connected(self: &Arc<Self>, host: &str) -> Result<Engine, Unreachable> {
        if let Some(engine) = self.engines().get(host).cloned() {
            return Ok(engine);
        }
        let engine = Engine::connect(host).await?;
        Ok(self.engines().entry(host.to_owned()).or_insert(engine).clone())
    }

    /// An engine for a start: one that was used before, else the first that answers.
    async fn engine_for(self: &Arc<Self>, runtime: ContainerRuntime) -> Result<Engine, Unreachable> {
        let mut why = Vec::new();
        for host in self.register.candidates(runtime) {
            match self.connected(&host).await {
                Ok(engine) if engine.serves(runtime) => return Ok(engine),
                Ok(engine) => why.push(format!("the engine at `{host}` is {}", engine.title())),
                Err(Unreachable(reason)) => why.push(reason),
            }
        }
        Err(Unreachable(why.join("; ")))
    }

    /// All engines that may have containers of ours.
    async fn used(self: &Arc<Self>) -> Result<Vec<Engine>, Unreachable> {
        let mut engines = Vec::new();
        for host in self.register.used() {
            let engine = self.connected(&host).await?;
            events::listen(self, &engine);
            engines.push(engine);
        }
        Ok(engines)
    }

    /// An engine did not answer, or broke off: what is known of it is asked anew next time.
    fn forget(&self, host: &str) {
        self.engines().remove(host);
    }

    fn unreachable(&self, engine: &Engine, error: &bollard::errors::Error) -> Unreachable {
        if verdict(error).is_none() {
            self.forget(&engine.host);
        }
        Unreachable(format!("the engine at `{}`: {}", engine.host, sentence(error)))
    }

    /// Everything of ours on one engine, by key, with what its state means.
    async fn look(self: &Arc<Self>, engine: &Engine, uid: Option<&Uid>) -> Result<Vec<StartKey>, Unreachable> {
        let filters = names::filters(&self.register.node, uid);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = settled(|| engine.docker.list_containers(Some(options.clone()))).await;
        let listed = listed.map_err(|error| self.unreachable(engine, &error))?;
        let names = |all: &Vec<String>| all.iter().map(|name| name.trim_start_matches('/').to_owned()).collect();
        let keys = listed.into_iter().filter_map(|one| {
            let names: Vec<String> = one.names.as_ref().map(names)?;
            let key = names::key_of(&one.labels?, &self.register.node)?;
            names.contains(&names::container_name(&key)).then_some(key)
        });
        Ok(keys.collect())
    }

    /// What bears the name of an attempt.
    async fn find(&self, engine: &Engine, key: &StartKey) -> Result<Bearer, Unreachable> {
        let name = names::container_name(key);
        match settled(|| engine.docker.inspect_container(&name, None)).await {
            Ok(found) => {
                let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
                let of = labels.and_then(|labels| names::key_of(labels, &self.register.node));
                Ok(if of.as_ref() == Some(key) { Bearer::Ours(Box::new(found)) } else { Bearer::Stranger })
            }
            Err(error) if verdict(&error).is_some_and(|(status, _)| status == 404) => Ok(Bearer::Nobody),
            Err(error) => Err(self.unreachable(engine, &error)),
        }
    }

    /// What became of one attempt; `None`: there is no container of it, or one that was never started.
    async fn inspect(&self, engine: &Engine, key: &StartKey) -> Result<Option<Attempt>, Unreachable> {
        match self.find(engine, key).await? {
            Bearer::Ours(found) => Ok(self.note(key, &found)),
            Bearer::Nobody | Bearer::Stranger => Ok(None),
        }
    }

    /// What an engine says of an attempt. Tells of its image's check if that says something else than before.
    fn note(&self, key: &StartKey, found: &ContainerInspectResponse) -> Option<Attempt> {
        let attempt = found.state.as_ref().and_then(|state| state::attempt(state, System.now()));
        if let Some(Attempt::Running(_)) = attempt {
            let now = Seen { address: state::address(found), check: state::check(found) };
            let check = now.check.clone();
            let before = self.seen().insert(key.clone(), now);
            if before.is_some_and(|before| before.check != check) {
                self.report(DriverEvent::Checked(key.clone()));
            }
        }
        attempt
    }

    /// True while the check of its image has yet to succeed or to fail for the first time.
    fn awaits_check(&self, key: &StartKey) -> bool {
        let check = self.seen().get(key).and_then(|seen| seen.check.as_ref().map(|check| check.state));
        check == Some(CheckState::Starting)
    }

    async fn observe(self: &Arc<Self>) -> Result<BTreeMap<StartKey, Attempt>, Unreachable> {
        let mut all = BTreeMap::new();
        for engine in self.used().await? {
            for key in self.look(&engine, None).await? {
                let Some(attempt) = self.inspect(&engine, &key).await? else { continue };
                self.output.follow(&engine, &key);
                match &attempt {
                    Attempt::Running(started) => {
                        let place = Place { engine: engine.clone(), started: started.clone() };
                        self.running().insert(key.clone(), place);
                    }
                    Attempt::Ended(_) => drop(self.running().remove(&key)),
                }
                all.insert(key, attempt);
            }
        }
        self.running().retain(|key, _| all.contains_key(key));
        Ok(all)
    }

    /// The engines on which an attempt may be: the one that is known to have it, or all.
    async fn places(self: &Arc<Self>, key: &StartKey) -> Result<Vec<Engine>, Unreachable> {
        let known = self.running().get(key).map(|place| place.engine.clone());
        match known {
            Some(engine) => Ok(vec![engine]),
            None => self.used().await,
        }
    }

    async fn delete(&self, engine: &Engine, key: &StartKey, force: bool) -> Result<(), Unreachable> {
        let Bearer::Ours(found) = self.find(engine, key).await? else { return Ok(()) };
        let Some(id) = found.id else { return Ok(()) };
        // Volumes that have a name stay; those that the image made for this one container go with it.
        let options = RemoveContainerOptionsBuilder::default().force(force).v(true).build();
        match engine.docker.remove_container(&id, Some(options)).await {
            Err(error) if verdict(&error).is_none_or(|(status, _)| status != 404) => {
                Err(self.unreachable(engine, &error))
            }
            _ => Ok(()),
        }
    }

    async fn acknowledge(self: &Arc<Self>, key: &StartKey) -> Result<(), Unreachable> {
        for engine in self.places(key).await? {
            if let Some(Attempt::Ended(_)) = self.inspect(&engine, key).await? {
                self.output.drained(&engine, key).await?;
            }
            self.output.forget(key);
            self.delete(&engine, key, false).await?;
        }
        self.running().remove(key);
        self.seen().remove(key);
        self.begun.forget(key);
        Ok(())
    }

    async fn remove(self: &Arc<Self>, uid: &Uid) -> Result<(), Unreachable> {
        self.output.forget_all(uid);
        for engine in self.used().await? {
            for key in self.look(&engine, Some(uid)).await? {
                self.delete(&engine, &key, true).await?;
            }
        }
        self.running().retain(|key, _| key.uid != *uid);
        self.seen().retain(|key, _| key.uid != *uid);
        self.begun.forget_all(uid);
        self.output.remove(uid).await
    }
}

impl Driver for ContainerDriver {
    fn feed<'a>(&'a self, key: &'a StartKey, pieces: Pieces) -> BoxFuture<'a, Result<u64, FeedError>> {
        Box::pin(stdin::feed(&self.shared, key, pieces))
    }

    fn observe(&self) -> BoxFuture<'_, Result<BTreeMap<StartKey, Attempt>, Unreachable>> {
        Box::pin(self.shared.observe())
    }

    fn prepare(&self, need: Need) -> BoxFuture<'_, Result<Option<Fetched>, PrepareError>> {
        Box::pin(image::ensure(&self.shared, need))
    }

    fn start(&self, start: Start) -> BoxFuture<'_, Result<Started, StartError>> {
        Box::pin(run::start(&self.shared, start))
    }

    fn signal<'a>(&'a self, key: &'a StartKey, signal: i32, _: Reach) -> BoxFuture<'a, Result<(), Unreachable>> {
        // Nothing leaves a container: SIGKILL to its first process ends all of it.
        Box::pin(run::signal(&self.shared, key, signal))
    }

    fn exec<'a>(&'a self, key: &'a StartKey, exec: Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        Box::pin(exec::exec(&self.shared, key, exec))
    }

    fn notified<'a>(&'a self, _: &'a StartKey) -> BoxFuture<'a, Result<Option<Notified>, Unreachable>> {
        // A container has no socket of ours.
        Box::pin(std::future::ready(Ok(None)))
    }

    fn acknowledge<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(self.shared.acknowledge(key))
    }

    fn remove<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<(), Unreachable>> {
        Box::pin(self.shared.remove(uid))
    }

    fn set_limits<'a>(&'a self, key: &'a StartKey, limits: Limits) -> BoxFuture<'a, Result<(), LimitError>> {
        Box::pin(run::set_limits(&self.shared, key, limits))
    }

    fn set_log_limits<'a>(&'a self, uid: &'a Uid, limits: LogLimits) -> BoxFuture<'a, Result<(), Unreachable>> {
        self.shared.output.set_limits(uid, limits);
        Box::pin(std::future::ready(Ok(())))
    }

    fn address(&self, key: &StartKey) -> Option<String> {
        self.shared.seen().get(key).and_then(|seen| seen.address.clone())
    }

    fn check(&self, key: &StartKey) -> Option<ImageCheck> {
        self.shared.seen().get(key).and_then(|seen| seen.check.clone())
    }

    fn last_words<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, String> {
        // An attempt is acknowledged when its output is here.
        Box::pin(self.shared.output.last_words(key))
    }

    fn usage(&self, key: &StartKey) -> Option<Usage> {
        let place = self.shared.running().get(key).cloned();
        // Of a process of another machine nothing can be seen here.
        let started = place.as_ref().filter(|place| place.engine.is_local()).map(|place| &place.started);
        self.shared.meter.read(key, started, keeper::groups_around)
    }

    fn processes(&self, key: &StartKey) -> Option<InstanceProcesses> {
        let place = self.shared.running().get(key).cloned().filter(|place| place.engine.is_local())?;
        let pid = place.started.pid;
        let root = Root { key, pid, groups: keeper::groups_around(pid), others: BTreeSet::new() };
        Some(self.shared.scanner.processes(&root))
    }

    fn events(&self) -> mpsc::UnboundedReceiver<DriverEvent> {
        self.events.lock().expect("no holder panics").take().expect("the events are taken once")
    }
}
