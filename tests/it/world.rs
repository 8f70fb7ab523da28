//! The whole daemon in a simulated world: store, admission, controllers and agent are the real ones; the disk, the machine
//! and the clock are simulated. Seeded schedules of edits, crashes, daemon restarts, power losses and clocks that are set end
//! with an audit.
//!
//! One seed is one schedule, exactly: `WORLD_SEED=7 cargo test --test it world` repeats a failure. Nothing here sleeps or
//! measures time, so schedules are cheap: `WORLD_SCHEDULES=5000 cargo test --release --test it world` runs thousands.

mod forecast;
mod timetable;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use appm::{
    admission::{Admission, LocalClient},
    agent::{Drivers, node::NodeFacts},
    api::{
        App, Instance, Key, Kind, KindInfo, Namespace, NodeInfo, Object, Operation, OperationVerb, Reason, Rev,
        Revision, Status, Transaction, Uid,
    },
    auth::{Identity, Proof},
    client::{Query, SharedClient, WatchEvent},
    clock::{Clock, SharedClock, Virtual},
    controllers::{Turns, app::Ports},
    daemon::simulated::Cast,
    drivers::{
        End, StartKey,
        sim::{Faults, Machine},
    },
    policy::powers::Host,
    runtime::EventRecorder,
    store::{Limits, Memory, Retention, Store},
};
use futures::StreamExt;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NODE: &str = "sim";
/// Turns that everybody gets after something happened. Enough for a chain of passes, not always for all of it.
const TURNS: usize = 60;

/// What a client wants of one App.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    replicas: u64,
    command: u64,
    suspend: bool,
    restarted: u64,
    recreate: bool,
    policy: &'static str,
    /// 0: none, 1: one of appm's choice, 2: always the same.
    port: u64,
    surge: u64,
    unavailable: u64,
    min_ready: u64,
    paused: bool,
    /// It is restarted without any pause.
    eager: bool,
    /// It is asked how it is doing, and is always well: nobody who merely could not ask may take it for ill.
    probed: bool,
}

impl Wanted {
    fn manifest(&self, name: &str) -> Value {
        let mut annotations = json!({});
        if self.restarted > 0 {
            annotations["appm.dev/restartedAt"] = json!(format!("restart-{}", self.restarted));
        }
        let backoff = if self.eager { json!({"initial": "0s", "max": "0s"}) } else { json!({}) };
        let ports = match self.port {
            0 => json!([]),
            1 => json!([{"name": "http"}]),
            _ => json!([{"name": "http", "containerPort": 9000 + u64::from(name.as_bytes()[0])}]),
        };
        let rolling = json!({"maxSurge": self.surge, "maxUnavailable": self.unavailable});
        json!({
            "apiVersion": "appm.dev/v1", "kind": "App",
            "metadata": {"namespace": "default", "name": name, "annotations": annotations},
            "spec": {
                "replicas": self.replicas, "suspend": self.suspend, "restartPolicy": self.policy, "ports": ports,
                "strategy": {"type": if self.recreate { "Recreate" } else { "RollingUpdate" }, "rollingUpdate": rolling},
                "minReadySeconds": self.min_ready, "paused": self.paused,
                "restart": {"backoff": backoff},
                "process": {"command": ["run", format!("v{}", self.command)]},
                "terminationGracePeriodSeconds": 5,
                "startupProbe": self.probe(), "readinessProbe": self.probe(), "livenessProbe": self.probe(),
            },
        })
    }

    fn probe(&self) -> Value {
        let probe = json!({"exec": {"command": ["ask"]}, "periodSeconds": 45, "failureThreshold": 1});
        if self.probed { probe } else { Value::Null }
    }
}

/// One daemon: everything that dies with it.
struct Daemon {
    admission: Admission,
    store: Arc<Store>,
    client: SharedClient,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

struct World {
    seed: u64,
    /// Chance of the schedule itself, apart from the daemon's.
    dice: Virtual,
    clock: Virtual,
    disk: Memory,
    machine: Machine,
    daemon: Option<Daemon>,
    boot: u32,
    /// There are Schedules and Runs in it.
    timetable: bool,
    /// What was acknowledged last, and whether a later request got no clear answer.
    wanted: BTreeMap<String, Option<Wanted>>,
    doubtful: BTreeSet<String>,
    log: String,
}

impl World {
    fn new(seed: u64) -> Self {
        let start = "2026-11-21T08:00:00Z".parse().unwrap();
        let dice = Virtual::new(start, seed);
        let clock = Virtual::new(start, seed ^ 0xabcd);
        let rate = || if dice.random().is_multiple_of(2) { (dice.random() % 40) as u8 } else { 0 };
        let faults =
            Faults { refuse: rate(), hang: rate(), lose: rate(), mute: rate(), unreachable: rate(), slow: rate() };
        let machine = Machine::new(Arc::new(clock.clone()), faults);
        Self {
            seed,
            dice,
            clock,
            disk: Memory::new(),
            machine,
            daemon: None,
            boot: 0,
            timetable: false,
            wanted: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            log: format!("{faults:?}\n"),
        }
    }

    fn roll(&self, sides: u64) -> u64 {
        self.dice.random() % sides
    }

    fn note(&mut self, text: impl AsRef<str>) {
        let at = self.clock.now();
        writeln!(self.log, "{at} {}", text.as_ref()).unwrap();
        if std::env::var("WORLD_LOUD").is_ok() {
            eprintln!("{at} {}", text.as_ref());
        }
    }

    fn fail(&self, why: impl AsRef<str>) -> ! {
        panic!("seed {}: {}\n{}", self.seed, why.as_ref(), self.log)
    }

    async fn turn(&self, times: usize) {
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    fn client(&self) -> SharedClient {
        self.daemon.as_ref().expect("a daemon runs").client.clone()
    }

    fn store(&self) -> Arc<Store> {
        self.daemon.as_ref().expect("a daemon runs").store.clone()
    }

    fn node(&self) -> NodeFacts {
        let info = NodeInfo { boot_id: format!("boot-{}", self.boot), ..NodeInfo::default() };
        NodeFacts { name: NODE.to_owned(), info, capacity: BTreeMap::new() }
    }

    // The life of daemons.

    async fn start_daemon(&mut self) {
        let clock: SharedClock = Arc::new(self.clock.clone());
        let store = loop {
            // What the log keeps goes by the time of day, and the audit reads all of it.
            let changes = Retention { age: SignedDuration::from_hours(24 * 365), ..Limits::default().changes };
            let limits = Limits { changes, ..Limits::default() };
            match Store::open(self.disk.engine(), clock.clone(), limits).await {
                Ok(store) => break store,
                Err(why) => self.note(format!("the daemon does not start: {why}")),
            }
        };
        let admission = Admission::new(store.clone(), clock.clone(), Host::default());
        let local = |part: &str| -> SharedClient {
            Arc::new(LocalClient::new(admission.clone(), Identity::system(part), &format!("appm-{part}")))
        };
        let client: SharedClient = Arc::new(LocalClient::new(admission.clone(), Identity::admin(Proof::Peer), "appm"));
        let default = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        let apply = Transaction::new("appm", vec![Operation::new(OperationVerb::Apply, default)]);
        while client.transact(apply.clone()).await.is_err() {}

        let shutdown = CancellationToken::new();
        let recorder = EventRecorder::new(local("events"), clock.clone());
        let turns = Turns::default();
        let more = match self.timetable {
            true => timetable::parts(local, &clock, &recorder, &shutdown),
            false => Vec::new(),
        };
        let containers = Machine::new(Arc::new(self.clock.clone()), Faults::default()).driver();
        let drivers = Drivers { process: self.machine.driver(), container: containers };
        let cast = Cast { admission: admission.clone(), clock, node: self.node(), drivers, account: |_| None };
        let mut tasks = cast.play(Ports::new(20000..=20999, |_| true), &turns, recorder, &shutdown);
        tasks.extend(more);
        self.daemon = Some(Daemon { admission, store, client, shutdown, tasks });
    }

    async fn kill_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.tasks.iter().for_each(JoinHandle::abort);
            drop(daemon);
        }
        self.turn(5).await;
    }

    async fn stop_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown.cancel();
            self.turn(40).await;
            daemon.tasks.iter().for_each(JoinHandle::abort);
            daemon.store.close().await;
        }
        self.turn(5).await;
    }

    fn power_loss(&mut self) {
        self.disk.crash();
        self.machine.reboot(self.dice.random().is_multiple_of(2));
        self.boot += 1;
    }

    // What clients and fate do.

    async fn step(&mut self) {
        if self.daemon.is_none() {
            self.start_daemon().await;
            self.check_acknowledged();
        }
        match self.roll(22) {
            0..=7 => self.edit().await,
            8..=11 => self.crash(),
            12..=15 => {
                let by = SignedDuration::from_millis(self.roll(12_000) as i64);
                self.note(format!("{by:?} pass"));
                self.clock.advance(by);
            }
            16 => {
                self.note("the daemon is killed");
                self.kill_daemon().await;
            }
            17 => {
                self.note("the daemon is stopped");
                self.stop_daemon().await;
            }
            18 => {
                self.note("the power fails");
                self.kill_daemon().await;
                self.power_loss();
            }
            19 => self.storm().await,
            20 => {
                let by = [-3600, -40, -1, 1, 40, 86_400][self.roll(6) as usize];
                self.note(format!("the clock is set by {by} s"));
                self.clock.step(SignedDuration::from_secs(by));
            }
            _ => {
                self.note("the disk fails");
                self.disk.fail_next(1 + self.roll(3) as u32);
            }
        }
        let turns = self.roll(TURNS as u64) as usize;
        self.turn(turns).await;
        self.audit_always();
    }

    /// Everything that runs ends, and ends again as soon as it is back, while the disk takes little; then the power fails.
    /// Between what happened and what is recorded there is never more than now.
    async fn storm(&mut self) {
        self.note("a storm");
        self.disk.fail_next([0, 3, 1000][self.roll(3) as usize]);
        for _ in 0..3 {
            for process in self.machine.running() {
                self.machine.end(&process.key, End::Code(1));
            }
            let turns = self.roll(12) as usize;
            self.turn(turns).await;
            self.clock.advance(SignedDuration::from_millis(self.roll(1500) as i64));
            self.turn(turns).await;
        }
        self.kill_daemon().await;
        self.disk.fail_next(0);
        self.power_loss();
    }

    async fn edit(&mut self) {
        let name = ["a", "b", "c"][self.roll(3) as usize].to_owned();
        let known = self.wanted.get(&name).cloned().flatten();
        let port = self.roll(3);
        let wanted = match known {
            Some(_) if self.roll(6) == 0 => None,
            Some(mut wanted) => {
                match self.roll(9) {
                    // Who shares a fixed port among several wants it shared.
                    0 | 1 => wanted.replicas = self.roll(if wanted.port == 2 { 2 } else { 4 }),
                    2 | 3 => wanted.command += 1,
                    6 => wanted.paused = !wanted.paused,
                    7 => (wanted.surge, wanted.unavailable) = (self.roll(3), self.roll(3)),
                    8 => wanted.min_ready = self.roll(2) * self.roll(20),
                    5 => wanted.suspend = !wanted.suspend,
                    4 => wanted.restarted += 1,
                    _ => wanted.recreate = !wanted.recreate,
                }
                Some(wanted)
            }
            None => Some(Wanted {
                replicas: if port == 2 { 1 } else { 1 + self.roll(3) },
                command: self.roll(3),
                suspend: false,
                restarted: 0,
                recreate: self.roll(4) == 0,
                policy: ["Always", "Always", "OnFailure", "Never"][self.roll(4) as usize],
                port,
                surge: self.roll(2),
                unavailable: self.roll(2),
                min_ready: self.roll(2) * self.roll(20),
                paused: false,
                eager: self.roll(2) == 0,
                probed: self.roll(3) == 0,
            }),
        };
        self.request(&name, wanted).await;
    }

    async fn request(&mut self, name: &str, wanted: Option<Wanted>) {
        let operation = match &wanted {
            Some(wanted) => Operation::new(OperationVerb::Apply, wanted.manifest(name)),
            None => Operation::new(
                OperationVerb::Delete,
                json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"namespace": "default", "name": name}}),
            ),
        };
        let answer = self.client().transact(Transaction::new("appm", vec![operation])).await;
        self.note(format!(
            "{name}: {wanted:?}: {}",
            match &answer {
                Ok(_) => "acknowledged".to_owned(),
                Err(status) => status.to_string(),
            }
        ));
        let gone = |status: &Status| status.is(Reason::NotFound) && wanted.is_none();
        match answer {
            Ok(_) => {
                self.doubtful.remove(name);
                self.wanted.insert(name.to_owned(), wanted);
            }
            Err(status) if gone(&status) => {
                self.doubtful.remove(name);
                self.wanted.insert(name.to_owned(), None);
            }
            Err(_) => {
                self.doubtful.insert(name.to_owned());
                self.wanted.insert(name.to_owned(), wanted);
            }
        }
    }

    fn crash(&mut self) {
        let running = self.machine.running();
        if running.is_empty() {
            return;
        }
        let victim = &running[self.roll(running.len() as u64) as usize];
        let end = match self.roll(4) {
            0 => End::Code(0),
            1 => End::Signal(9),
            2 => End::Lost,
            _ => End::Code(1),
        };
        self.note(format!("{} ends: {end:?}", victim.key));
        self.machine.end(&victim.key, end);
    }

    // What must hold.

    /// What an acknowledged change says is in the store, whatever happened since.
    fn check_acknowledged(&self) {
        let store = self.store();
        for (name, wanted) in self.wanted.iter().filter(|(name, _)| !self.doubtful.contains(*name)) {
            let found = store.get(&Key::of::<App>("default", name)).filter(|o| !o.meta().is_deleting());
            let found = found.and_then(|object| object.typed::<App>());
            let as_wanted = match (&found, wanted) {
                (None, None) => true,
                (Some(app), Some(wanted)) => {
                    app.spec.replicas as u64 == wanted.replicas
                        && app.spec.suspend == wanted.suspend
                        && app
                            .spec
                            .process
                            .as_ref()
                            .is_some_and(|process| process.command[1] == format!("v{}", wanted.command))
                }
                _ => false,
            };
            if !as_wanted {
                self.fail(format!("{name} was acknowledged as {wanted:?} and is {found:?}"));
            }
        }
    }

    /// At every moment: no key twice, never two processes in one place, nor of two revisions on one port.
    fn audit_always(&self) {
        if let Some(broken) = self.machine.broken().first() {
            self.fail(broken);
        }
        let mut places: BTreeMap<String, StartKey> = BTreeMap::new();
        let mut ports: BTreeMap<String, String> = BTreeMap::new();
        for process in self.machine.running() {
            let place = process.env["APPM_INSTANCE"].clone();
            if let Some(other) = places.insert(place.clone(), process.key.clone()) {
                self.fail(format!("{other} and {} both run as {place}", process.key));
            }
            let revision = place.rsplit_once('-').expect("REVISION-ORDINAL").0.to_owned();
            let Some(port) = process.env.get("PORT") else { continue };
            if let Some(other) = ports.insert(port.clone(), revision.clone()).filter(|other| *other != revision) {
                self.fail(format!("{other} and {revision} both hold port {port}"));
            }
        }
    }

    fn of_kind<K: Kind>(&self) -> Vec<Arc<Object<K>>> {
        self.store().list(K::INFO, None).items.iter().map(|o| o.typed().expect("readable")).collect()
    }

    /// What is not yet as it should be.
    fn unsettled(&self) -> Option<String> {
        let apps = self.of_kind::<App>();
        let instances = self.of_kind::<Instance>();
        let mut should_run: BTreeSet<StartKey> = BTreeSet::new();
        for instance in &instances {
            let name = &instance.metadata.name;
            if instance.status.state.stopping.as_ref().is_some_and(|stopping| stopping.reason == "Unhealthy") {
                self.fail(format!("instance {name} is taken for ill"));
            }
            if instance.metadata.is_deleting() {
                return Some(format!("instance {name} is being deleted"));
            }
            let Some(app) = apps.iter().find(|app| Some(app.uid()) == instance.metadata.controller().map(|o| &o.uid))
            else {
                return Some(format!("instance {name} has no app"));
            };
            let state = &instance.status.state;
            if instance.spec.revision != app.status.update_revision {
                return Some(format!("instance {name} is of an old revision"));
            }
            let asked = app.metadata.annotations.get("appm.dev/restartedAt").unwrap_or_default();
            if !asked.is_empty() && instance.spec.restarted_at != asked {
                return Some(format!("instance {name} has yet to be told to restart"));
            }
            if instance.spec.drain_until.is_some() {
                return Some(format!("instance {name} is drained"));
            }
            if instance.status.restarted_at != instance.spec.restarted_at && !app.spec.suspend {
                return Some(format!("instance {name} is not restarted"));
            }
            match (&state.running, &state.exited) {
                (Some(_), _) if !app.spec.suspend => {
                    if !appm::api::Condition::holds(&instance.status.conditions, "Ready") {
                        return Some(format!("instance {name} is not ready"));
                    }
                    should_run.insert(StartKey { uid: instance.uid().clone(), attempt: instance.status.attempt });
                }
                (_, Some(exited)) if app.spec.suspend && exited.reason == "Suspended" => {}
                (_, Some(exited)) if !app.spec.suspend && exited.reason != "Suspended" => {}
                _ => return Some(format!("instance {name} is {state:?}")),
            }
        }
        for app in &apps {
            let own = instances.iter().filter(|i| i.metadata.controller().is_some_and(|o| o.uid == *app.uid())).count();
            if own as i32 != app.spec.replicas || app.status.replicas != app.spec.replicas {
                return Some(format!("{} has {own} of {} instances", app.metadata.name, app.spec.replicas));
            }
            if app.status.observed_generation != app.metadata.generation {
                return Some(format!("{} is not observed", app.metadata.name));
            }
        }
        let runs: BTreeSet<StartKey> = self.machine.running().into_iter().map(|process| process.key).collect();
        if runs != should_run {
            return Some(format!("{runs:?} run, {should_run:?} should"));
        }
        let kept = self.machine.unacknowledged();
        (!kept.is_empty()).then(|| format!("{kept:?} are not acknowledged"))
    }

    async fn settle(&mut self) {
        for _ in 0..400 {
            self.turn(TURNS).await;
            self.audit_always();
            if self.unsettled().is_none() {
                return;
            }
            let now = self.clock.now();
            let due = self.clock.next_due().unwrap_or(now);
            self.clock.advance(due.duration_since(now).max(SignedDuration::from_millis(1)));
        }
        let why = self.unsettled().unwrap_or_default();
        self.fail(format!("it does not settle: {why}"));
    }

    fn newest(&self) -> Rev {
        let newest = |kind: &'static KindInfo| self.store().list(kind, None).items.iter().map(|o| o.revision).max();
        [App::INFO, Instance::INFO, Revision::INFO].into_iter().filter_map(newest).max().unwrap_or_default()
    }

    /// In the end: everything is as it was asked for, every exit is accounted for, and at rest nothing is written.
    async fn audit(&mut self) {
        self.machine.set_faults(Faults::default());
        self.disk.fail_next(0);
        if self.daemon.is_none() {
            self.start_daemon().await;
            self.check_acknowledged();
        }
        self.note("the end");
        let paused = |wanted: &Option<Wanted>| wanted.as_ref().is_some_and(|w| w.paused);
        let mut last = std::mem::take(&mut self.doubtful);
        last.extend(self.wanted.iter().filter(|(_, wanted)| paused(wanted)).map(|(name, _)| name.clone()));
        for name in last {
            let wanted = self.wanted[&name].clone().map(|wanted| Wanted { paused: false, ..wanted });
            self.request(&name, wanted).await;
        }
        self.settle().await;
        self.check_acknowledged();
        self.exits_are_accounted_for().await;
        // The first look at what a process uses is still to come, and that somebody was ready for long enough.
        self.pass(SignedDuration::from_secs(25)).await;
        let at_rest = self.newest();
        self.pass(SignedDuration::from_secs(70)).await;
        if self.newest() != at_rest {
            self.fail(format!("something was written at rest: {at_rest} became {}", self.newest()));
        }
    }

    async fn pass(&mut self, by: SignedDuration) {
        for _ in 0..10 {
            self.clock.advance(by / 10);
            self.turn(TURNS).await;
        }
    }

    async fn exits_are_accounted_for(&self) {
        let starts = self.machine.starts();
        let ends = self.machine.ends();
        for instance in self.of_kind::<Instance>() {
            let uid = instance.uid();
            let of = |key: &&StartKey| key.uid == *uid;
            let used: Vec<u32> = starts.keys().filter(of).map(|key| key.attempt).collect();
            let highest = used.last().copied().unwrap_or(0);
            if self.boot == 0 && used != (1..=instance.status.attempt).collect::<Vec<_>>() {
                self.fail(format!("instance {uid} used {used:?} and says {}", instance.status.attempt));
            }
            let ended = ends.keys().filter(of).map(|key| key.attempt).max().unwrap_or(0);
            let known = instance.status.last_exit.as_ref().map_or(0, |exit| exit.attempt);
            if highest > instance.status.attempt || ended > known {
                self.fail(format!("instance {uid}: started {highest}, ended {ended}, {:?}", instance.status));
            }
        }
        if self.boot == 0 {
            let told = self.told_exits().await;
            if let Some(key) = ends.keys().find(|key| !told.contains(*key)) {
                self.fail(format!("nobody was told how {key} ended"));
            }
        }
    }

    /// Every exit that any version of any Instance told of, from the change log.
    async fn told_exits(&self) -> BTreeSet<StartKey> {
        let (client, store) = (self.client(), self.store());
        let query = Query::default();
        let mut changes = client.watch(Instance::INFO, &query, store.oldest_of(Instance::INFO)).await.unwrap();
        let mut told = BTreeSet::new();
        for _ in 0..TURNS {
            while let Some(Some(step)) = futures::FutureExt::now_or_never(changes.next()) {
                let WatchEvent::Change(_, object) = step.unwrap() else { continue };
                let instance = object.typed::<Instance>().unwrap();
                let uid: Uid = instance.uid().clone();
                told.extend(instance.status.last_exit.as_ref().map(|exit| StartKey { uid, attempt: exit.attempt }));
            }
            self.turn(1).await;
        }
        told
    }
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed);
        let steps = 10 + world.roll(50);
        for _ in 0..steps {
            world.step().await;
        }
        world.audit().await;
        world.kill_daemon().await;
    });
}

#[test]
fn whatever_happens_the_world_ends_as_it_was_asked_for() {
    if let Ok(seed) = std::env::var("WORLD_SEED") {
        return run(seed.parse().expect("a number"));
    }
    // An unoptimised build is twenty times slower.
    let usual = if cfg!(debug_assertions) { 60 } else { 2000 };
    let count: u64 = std::env::var("WORLD_SCHEDULES").map_or(usual, |n| n.parse().expect("a number"));
    for seed in 0..count {
        run(seed);
    }
}

/// A world without faults, with one App of one instance that runs.
async fn quiet_world(wanted: impl FnOnce(&mut Wanted)) -> World {
    let mut world = World::new(1);
    world.machine.set_faults(Faults::default());
    world.start_daemon().await;
    let mut one = Wanted {
        replicas: 1,
        command: 0,
        suspend: false,
        restarted: 0,
        recreate: false,
        policy: "Always",
        port: 0,
        surge: 1,
        unavailable: 0,
        min_ready: 0,
        paused: false,
        eager: false,
        probed: false,
    };
    wanted(&mut one);
    world.request("a", Some(one)).await;
    world.settle().await;
    world
}

impl World {
    async fn change(&mut self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.wanted["a"].clone().expect("wanted");
        change(&mut wanted);
        self.request("a", Some(wanted)).await;
        self.turn(TURNS * 4).await;
    }

    async fn seconds(&mut self, seconds: i64) {
        self.pass(SignedDuration::from_secs(seconds)).await;
    }

    async fn set_clock(&mut self, hours: i64) {
        self.clock.step(SignedDuration::from_hours(hours));
        self.turn(TURNS * 4).await;
    }
}

#[test]
fn whoever_sets_the_clock_neither_shortens_a_grace_period_nor_prolongs_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for hours in [-1, 24] {
        runtime.block_on(async {
            let mut world = quiet_world(|_| {}).await;
            world.change(|wanted| wanted.suspend = true).await;
            assert!(world.machine.running().is_empty(), "it obeys");
            world.change(|wanted| wanted.suspend = false).await;
            world.settle().await;
            // The next one does not.
            world.machine.set_faults(Faults { hang: u8::MAX, ..Faults::default() });
            world.change(|wanted| wanted.restarted = 1).await;
            world.settle().await;
            world.change(|wanted| wanted.suspend = true).await;
            world.seconds(2).await;
            world.set_clock(hours).await;
            world.seconds(2).await;
            assert_eq!(world.machine.running().len(), 1, "a second of its grace is left, {hours} h");
            world.seconds(2).await;
            assert!(world.machine.running().is_empty(), "its grace is over, {hours} h");
            world.kill_daemon().await;
        });
    }
}

#[test]
fn whoever_sets_the_clock_neither_hastens_a_restart_nor_delays_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for hours in [-1, 24] {
        runtime.block_on(async {
            let mut world = quiet_world(|_| {}).await;
            // The first restart is immediate, the second is not.
            for _ in 0..2 {
                let key = world.machine.running()[0].key.clone();
                world.machine.end(&key, End::Code(1));
                world.turn(TURNS * 4).await;
            }
            let instance = world.of_kind::<Instance>().remove(0);
            let next = instance.status.next_start_time.expect("it waits").0;
            let left = next.duration_since(world.clock.now());
            assert!(left > SignedDuration::from_millis(200), "{left:?}");
            world.set_clock(hours).await;
            assert!(world.machine.running().is_empty(), "not at once, {hours} h");
            let told = world.of_kind::<Instance>().remove(0).status.next_start_time.expect("it waits").0;
            assert_eq!(told, next + SignedDuration::from_hours(hours), "in the words of the new clock");
            world.pass(left + SignedDuration::from_millis(100)).await;
            assert_eq!(world.machine.running().len(), 1, "when its pause is over, {hours} h");
            world.kill_daemon().await;
        });
    }
}

#[test]
fn a_rollout_that_waits_goes_on_in_its_time_when_the_clock_is_set_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = quiet_world(|wanted| wanted.min_ready = 20).await;
        world.change(|wanted| wanted.command = 1).await;
        world.seconds(2).await;
        assert_eq!(world.machine.running().len(), 2, "the new one proves itself");
        world.set_clock(-1).await;
        world.seconds(30).await;
        assert_eq!(world.machine.running().len(), 1);
        assert_eq!(world.unsettled(), None);
        world.kill_daemon().await;
    });
}

#[test]
fn a_namespace_is_there_from_the_start() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(1);
        world.start_daemon().await;
        assert!(world.store().get(&Key::of::<Namespace>("", "default")).is_some());
    });
}
