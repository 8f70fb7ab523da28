//! What becomes of processes if something is committed: found out by doing it, in a world that is thrown away afterwards.
//!
//! ```text
//!   store ──fork──► store ─► admission ─► controllers, agent ─► machine on which all goes well ─► record
//!                     ▲                        ▲
//!                   commit              clock that jumps to whatever is due next
//! ```
//! The controllers and the agent are the real ones, so nothing of what they decide is written down a second time. The machine begins with what runs
//! by now. The same is done without the commit: what happens then, too, happens anyway.
//!
//! A forecast has a thread and a runtime of its own, and is bounded in virtual time, in steps and in real time; a few are made at once.

mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::record::Record;
use super::simulated::{Cast, Stillness};
use crate::{
    admission::{Admission, Forecast, ForecastError, Forecaster, Quotas},
    agent::{self, Drivers, node::NodeFacts},
    api::{App, Condition, Instance, Kind, Object, PlannedAction, Uid},
    clock::{Clock, SharedClock, System, Virtual},
    controllers::{Turns, app::Ports},
    drivers::{
        StartKey, Started,
        sim::{Machine, WarmUp},
    },
    policy::powers::Host,
    runtime::EventRecorder,
    store::{Commit, CommitError, Limits, Store},
};

/// As many are made at once; each takes a core.
const AT_ONCE: usize = 2;
/// More Instances than this are not played through.
const MOST_INSTANCES: usize = 5_000;
/// How far it looks.
const HORIZON: SignedDuration = SignedDuration::from_hours(1);
/// How often time moves.
const MOST_STEPS: usize = 20_000;
/// When nothing has happened for so long, and for as long as the Apps say that they wait, nothing more is expected.
const QUIET: SignedDuration = SignedDuration::from_secs(30);
/// As long as Apps may say.
const LONGEST_WAIT: i64 = 1200;
/// Chance is the same each time, so that the same plan comes out.
const SEED: u64 = 0x706c_616e;

/// What a forecast takes for granted.
const GRANTED: [&str; 3] = [
    "what is started goes on until it is told to end, and ends at once",
    "it is ready when it runs, or is asked after as long as its App took last time",
    "nobody changes anything else, and no schedule, workflow or source makes anything",
];

/// Where forecasts are made.
#[derive(Clone)]
pub struct Observatory {
    /// What is forked.
    pub store: Arc<Store>,
    /// What time it is there.
    pub clock: SharedClock,
    /// Who runs this process.
    pub host: Host,
    /// What namespaces and users may have where nobody has said anything else.
    pub quotas: Quotas,
    /// The machine. Its boot is the one that the store knows of: nothing was lost.
    pub node: NodeFacts,
    /// The ports that Apps get if they leave it to appm.
    pub ports: fn() -> Ports,
    /// When what is started is ready.
    pub readiness: Readiness,
    /// How long a forecast may take.
    pub patience: Duration,
}

/// When what is started is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as it is asked, or runs, if nobody asks.
    AtOnce,
    /// After as long as the instances of its App took that are ready now.
    AsLastTime,
}

/// Who took longer than this was ready before, and is so again: nobody knows how long it took.
const LONGEST_WARM_UP: Duration = Duration::from_secs(300);

/// The forecaster of a daemon.
pub fn forecaster(on: Observatory) -> Forecaster {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    Arc::new(move |commit| {
        let (on, room) = (on.clone(), room.clone());
        async move {
            let Ok(seat) = room.try_acquire_owned() else { return Err(ForecastError::Busy) };
            let played = tokio::task::spawn_blocking(move || {
                let _seat = seat;
                on.forecast(&commit)
            });
            played.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a forecast ended badly");
                Err(ForecastError::Failed)
            })
        }
        .boxed()
    })
}

/// One world, when it was over.
struct Played {
    record: Record,
    incomplete: String,
    /// How much time passed in it.
    lasted: SignedDuration,
}

impl Observatory {
    /// What becomes of processes if something is committed now. Blocks.
    ///
    /// # Errors
    /// See [`ForecastError`].
    pub fn forecast(&self, commit: &Commit) -> Result<Forecast, ForecastError> {
        let now = self.clock.now();
        if self.store.list(Instance::INFO, None).items.len() > MOST_INSTANCES {
            let incomplete = format!("there are more than {MOST_INSTANCES} instances, which are not played through");
            return Ok(Forecast { incomplete, ..Forecast::default() });
        }
        let with = self.play(Some(commit), now, None)?;
        let (mut actions, apps) = with.record.told();
        if !actions.is_empty() {
            let without = self.play(None, now, Some(with.lasted))?;
            mark_what_happens_anyway(&mut actions, &without.record.told().0);
        }
        let mut assumptions = Vec::new();
        if !actions.is_empty() {
            assumptions.extend(GRANTED.map(str::to_owned));
        }
        Ok(Forecast { actions, apps, assumptions, incomplete: with.incomplete })
    }

    /// Plays it through with a commit or without, until nothing more is expected or for as long as is said.
    fn play(
        &self,
        commit: Option<&Commit>,
        now: Timestamp,
        last: Option<SignedDuration>,
    ) -> Result<Played, ForecastError> {
        let failed = |error: std::io::Error| {
            tracing::error!(%error, "no room for a forecast");
            ForecastError::Failed
        };
        let (runtime, stillness) = Stillness::runtime().map_err(failed)?;
        runtime.block_on(async {
            let clock = Virtual::new(now, SEED);
            let shared: SharedClock = Arc::new(clock.clone());
            let store = self.store.fork(shared.clone(), Limits::default());
            let record = Record::new(store.clone(), now);
            let admission =
                Admission::with_quotas(store.clone(), shared.clone(), self.host.clone(), self.quotas.clone());
            let recorder = EventRecorder::new(super::local(&admission, "events"), shared.clone());
            let drivers = machines(&store, &shared, &record, (&clock, self.readiness));
            let cast =
                Cast { admission, clock: shared, node: self.node.clone(), drivers, account: agent::system_account };
            // Never told: they end with their runtime.
            let shutdown = CancellationToken::new();
            let _parts = cast.play((self.ports)(), &Turns::default(), recorder, &shutdown);
            stillness.wait().await;
            record.begin(&clock);
            if let Some(commit) = commit {
                let commit = Commit { ceilings: Vec::new(), ..commit.clone() };
                store.commit(commit).await.map_err(|error| match error {
                    CommitError::Conflict(_) | CommitError::Crowded => ForecastError::Stale,
                    error => {
                        tracing::error!(%error, "a fork does not take what is planned");
                        ForecastError::Failed
                    }
                })?;
            }
            let incomplete = self.pass_time(&clock, &stillness, &record, &store, last).await;
            let lasted = clock.now().duration_since(now);
            Ok(Played { record, incomplete, lasted })
        })
    }

    /// Lets time pass, from one thing that is due to the next. Says why it stopped before its time.
    async fn pass_time(
        &self,
        clock: &Virtual,
        stillness: &Stillness,
        record: &Record,
        store: &Store,
        last: Option<SignedDuration>,
    ) -> String {
        let began = clock.now();
        let deadline = System.uptime() + self.patience;
        for _ in 0..MOST_STEPS {
            stillness.wait().await;
            record.look(clock.now());
            let due = clock.next_due().unwrap_or(Timestamp::MAX);
            let over = match last {
                Some(lasted) => due > began + lasted,
                None => due > record.last() + QUIET && due > record.last() + QUIET + waits(store),
            };
            if over || due > began + HORIZON {
                return if over { String::new() } else { "it is not over within an hour".to_owned() };
            }
            if System.uptime() > deadline {
                return format!(
                    "it takes too long to play it through; this is what happens in the first {:#}",
                    clock.now().duration_since(began)
                );
            }
            clock.advance(due.duration_since(clock.now()));
        }
        "more happens than is played through".to_owned()
    }
}

/// How long Apps may be quiet and still have something before them.
fn waits(store: &Store) -> SignedDuration {
    let of = |app: Arc<Object<App>>| {
        let spec = &app.spec;
        let probes = [&spec.startup_probe, &spec.readiness_probe].into_iter().flatten();
        let probes = probes.map(|probe| i64::from(probe.initial_delay_seconds) + i64::from(probe.period_seconds));
        let hooks = [&spec.lifecycle.post_start, &spec.lifecycle.pre_stop].into_iter().flatten();
        let hooks = hooks.filter_map(|hook| Some(hook.sleep.as_ref()?.seconds));
        i64::from(spec.min_ready_seconds) + probes.chain(hooks).max().unwrap_or(0)
    };
    let all = store.list(App::INFO, None).items;
    let longest = all.iter().filter_map(|app| app.typed::<App>()).map(of).max().unwrap_or(0);
    SignedDuration::from_secs(longest.clamp(0, LONGEST_WAIT))
}

/// Machines on which runs what the store says that it runs.
fn machines(
    store: &Arc<Store>,
    clock: &SharedClock,
    record: &Record,
    (time, readiness): (&Virtual, Readiness),
) -> Drivers {
    let all: Vec<Arc<Object<Instance>>> =
        store.list(Instance::INFO, None).items.iter().filter_map(|object| object.typed::<Instance>()).collect();
    let warm_up = match readiness {
        Readiness::AtOnce => warm_up(store.clone(), &[]),
        Readiness::AsLastTime => warm_up(store.clone(), &all),
    };
    let machine = |containers: bool| {
        let machine = Machine::obliging(clock.clone(), warm_up.clone());
        for instance in all.iter().filter(|instance| instance.spec.container.is_some() == containers) {
            if let Some(started) = running(instance) {
                let key = StartKey { uid: instance.uid().clone(), attempt: instance.status.attempt };
                machine.put(key, started, speaks(instance));
            }
        }
        machine.watched_by(record.witness(time.clone()));
        machine.driver()
    };
    Drivers { process: machine(false), container: machine(true) }
}

fn running(instance: &Instance) -> Option<Started> {
    let state = &instance.status.state;
    match (&state.running, &state.stopping) {
        (Some(running), _) => {
            Some(Started { pid: running.pid, start_time: running.start_time.0, adopted: running.adopted })
        }
        (None, Some(stopping)) => {
            Some(Started { pid: stopping.pid, start_time: stopping.start_time.0, adopted: stopping.adopted })
        }
        (None, None) => None,
    }
}

/// Whether it may speak by sd_notify.
fn speaks(instance: &Instance) -> bool {
    let spec = &instance.spec;
    let probes = [&spec.startup_probe, &spec.readiness_probe, &spec.liveness_probe].into_iter().flatten();
    probes.into_iter().any(|probe| probe.notify.is_some())
}

/// How long the instances of each App took to become ready: of those that are, the shortest time, because one that was ready before
/// counts from there.
fn warm_up(store: Arc<Store>, all: &[Arc<Object<Instance>>]) -> WarmUp {
    let mut took: BTreeMap<Uid, Duration> = BTreeMap::new();
    for instance in all {
        let ready = Condition::find(&instance.status.conditions, "Ready");
        let ready = ready.filter(|_| Condition::holds(&instance.status.conditions, "Ready"));
        let (Some(owner), Some(running), Some(ready)) =
            (instance.metadata.controller(), &instance.status.state.running, ready)
        else {
            continue;
        };
        let since = ready.last_transition_time.0;
        let needed = Duration::try_from(since.duration_since(running.start_time.0)).unwrap_or_default();
        if needed <= LONGEST_WARM_UP {
            let shortest = took.entry(owner.uid.clone()).or_insert(needed);
            *shortest = needed.min(*shortest);
        }
    }
    Arc::new(move |key: &StartKey| {
        let owner = store.find_uid(&key.uid).and_then(|key| store.get(&key));
        let owner = owner.and_then(|instance| instance.meta().controller().map(|owner| owner.uid.clone()));
        owner.and_then(|owner| took.get(&owner).copied()).unwrap_or_default()
    })
}

/// Says of each action whether it happens at the same moment without the change, too.
fn mark_what_happens_anyway(actions: &mut [PlannedAction], without: &[PlannedAction]) {
    let name = |action: &PlannedAction| {
        let PlannedAction { verb, namespace, instance, attempt, after_seconds, .. } = action;
        (*verb, namespace.clone(), instance.clone(), *attempt, after_seconds.to_bits())
    };
    let known: BTreeSet<_> = without.iter().map(name).collect();
    for action in actions {
        action.anyway = known.contains(&name(action));
    }
}
