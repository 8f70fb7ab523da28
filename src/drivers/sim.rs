//! A simulated machine: processes that run until somebody ends them, on a clock that a test moves, with seeded faults.
//!
//! [`Machine`] outlives daemons, as a real one does; [`Machine::driver`] is what one daemon's agent is given, and takes the
//! machine away from the daemon before it. It keeps the promises of [`Driver`] and nothing more: what it may forget, it
//! forgets; what may be slow, is slow at times. It remembers every start ever, so that a test can say that no key was
//! started twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::{
    Attempt, Driver, DriverEvent, End, Ended, Exec, ExecError, Executed, LimitError, Limits, LogLimits, Notified,
    Reach, SharedDriver, Start, StartError, StartKey, Started, Unreachable,
};
use crate::{
    api::{KeptArtifact, RunStep, StepResult, Uid, Usage},
    clock::SharedClock,
};

const SIGKILL: i32 = 9;

/// How often things go wrong, in 256ths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A start is refused.
    pub refuse: u8,
    /// A process ignores every signal but SIGKILL.
    pub hang: u8,
    /// The report of an exit is lost; the driver says that something may have been.
    pub lose: u8,
    /// A call is carried out, but its answer is lost.
    pub mute: u8,
    /// A call is not carried out, and says so.
    pub unreachable: u8,
    /// A call takes up to a second.
    pub slow: u8,
}

/// A machine. Clones are the same machine.
#[derive(Clone)]
pub struct Machine {
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    records: BTreeMap<StartKey, Record>,
    /// How often each key was really started, ever.
    starts: BTreeMap<StartKey, u32>,
    /// The attempts that really ended, ever, and how.
    ends: BTreeMap<StartKey, End>,
    removed: BTreeSet<Uid>,
    /// Archives of files that steps kept.
    kept: BTreeSet<String>,
    /// Instances beside which every program fails.
    unwell: BTreeSet<Uid>,
    /// What attempts say by sd_notify.
    said: BTreeMap<StartKey, Notified>,
    broken: Vec<String>,
    next_pid: i32,
    /// Counts drivers; only the last one may use the machine.
    lease: u64,
    events: Option<mpsc::UnboundedSender<DriverEvent>>,
    witness: Option<Witness>,
    /// Of a machine on which all goes well.
    warm_up: Option<WarmUp>,
}

struct Record {
    env: BTreeMap<String, String>,
    /// It was given a socket for sd_notify.
    notifies: bool,
    attempt: Attempt,
    hangs: bool,
}

/// What was done to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// An attempt was started.
    Started(StartKey),
    /// An attempt that ran was sent a signal.
    Signalled(StartKey, i32),
    /// An attempt that runs was given other limits.
    Limited(StartKey),
}

/// Is told of every deed, when it is done.
pub type Witness = Arc<dyn Fn(Deed) + Send + Sync>;

/// How long an attempt takes until it is ready.
pub type WarmUp = Arc<dyn Fn(&StartKey) -> Duration + Send + Sync>;

/// A process that runs, for a test to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its start key.
    pub key: StartKey,
    /// Its process id.
    pub pid: i32,
    /// Its environment.
    pub env: BTreeMap<String, String>,
}

impl Machine {
    /// A machine on which nothing runs.
    pub fn new(clock: SharedClock, faults: Faults) -> Self {
        let state = State { faults, next_pid: 100, ..State::default() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// A machine on which all goes well: what runs goes on until it is told to end, and ends at once; it has an answer to whatever it is asked, and
    /// is ready as soon as it has warmed up.
    pub fn obliging(clock: SharedClock, warm_up: WarmUp) -> Self {
        let state = State { next_pid: 100, warm_up: Some(warm_up), ..State::default() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on somebody is told of what is done. It must not ask the machine meanwhile.
    pub fn watched_by(&self, witness: Witness) {
        self.lock().witness = Some(witness);
    }

    /// Something runs already, since before there was anybody to see its start.
    pub fn put(&self, key: StartKey, started: Started, notifies: bool) {
        let record = Record { env: BTreeMap::new(), notifies, attempt: Attempt::Running(started), hangs: false };
        self.lock().records.insert(key, record);
    }

    /// The driver for a new daemon. Drivers that were made before cannot reach the machine any more.
    pub fn driver(&self) -> SharedDriver {
        let mut state = self.lock();
        state.lease += 1;
        state.events = None;
        Arc::new(SimDriver { machine: self.clone(), lease: state.lease })
    }

    /// From now on this goes wrong so often.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Everything that runs.
    pub fn running(&self) -> Vec<Process> {
        let state = self.lock();
        let process = |(key, record): (&StartKey, &Record)| match &record.attempt {
            Attempt::Running(started) => Some(Process { key: key.clone(), pid: started.pid, env: record.env.clone() }),
            Attempt::Ended(_) => None,
        };
        state.records.iter().filter_map(process).collect()
    }

    /// Attempts that ended and are not acknowledged.
    pub fn unacknowledged(&self) -> Vec<StartKey> {
        let state = self.lock();
        let ended = state.records.iter().filter(|(_, record)| matches!(record.attempt, Attempt::Ended(_)));
        ended.map(|(key, _)| key.clone()).collect()
    }

    /// What steps kept of their files, and nobody has removed.
    pub fn kept(&self) -> BTreeSet<String> {
        self.lock().kept.clone()
    }

    /// Promises that somebody broke to this machine.
    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// How often each key was started, since the machine was made.
    pub fn starts(&self) -> BTreeMap<StartKey, u32> {
        self.lock().starts.clone()
    }

    /// How each attempt that ended did end, since the machine was made; what ended with the power, or was forgotten with it,
    /// is not among them.
    pub fn ends(&self) -> BTreeMap<StartKey, End> {
        self.lock().ends.clone()
    }

    /// A process ends by itself.
    pub fn end(&self, key: &StartKey, end: End) {
        let lose = self.chance(|faults| faults.lose);
        self.lock().end(key, end, self.clock.now(), lose);
    }

    /// From now on programs that are run beside an Instance succeed or fail.
    pub fn set_well(&self, uid: &Uid, well: bool) {
        let mut state = self.lock();
        if well {
            state.unwell.remove(uid)
        } else {
            state.unwell.insert(uid.clone())
        };
    }

    /// An attempt speaks by sd_notify.
    pub fn notify(&self, key: &StartKey, said: Notified) {
        let mut state = self.lock();
        state.said.insert(key.clone(), said.clone());
        if let Some(events) = &state.events {
            // Nobody listens between two daemons: the next one will ask.
            let _ = events.send(DriverEvent::Notified(key.clone(), said));
        }
    }

    /// The power fails and comes back: nothing runs, and if `forgotten`, the driver knows nothing of what ran; otherwise it
    /// says that it was lost.
    pub fn reboot(&self, forgotten: bool) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.lease += 1;
        state.events = None;
        // A deletion that was not durable is forgotten by the store: the instance may live again, with new numbers.
        state.removed.clear();
        if forgotten {
            let records = std::mem::take(&mut state.records);
            state.ends.retain(|key, _| !records.contains_key(key));
        }
        for record in state.records.values_mut() {
            if let Attempt::Running(Started { start_time, .. }) = record.attempt {
                record.attempt =
                    Attempt::Ended(Ended { end: End::Lost, oom_killed: false, start_time, finish_time: now });
            }
        }
    }

    fn chance(&self, of: fn(&Faults) -> u8) -> bool {
        let limit = of(&self.lock().faults);
        limit > 0 && self.clock.random() % 256 < u64::from(limit)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the machine panics")
    }
}

impl State {
    fn tell(&self, deed: Deed) {
        if let Some(witness) = &self.witness {
            witness(deed);
        }
    }

    /// Whether an attempt has warmed up, on a machine on which all goes well.
    fn is_warm(&self, key: &StartKey, now: jiff::Timestamp) -> Option<bool> {
        let warm_up = self.warm_up.as_ref()?;
        let Attempt::Running(Started { start_time, .. }) = self.records.get(key)?.attempt else { return Some(false) };
        let needed = jiff::SignedDuration::try_from(warm_up(key)).unwrap_or_default();
        Some(now.duration_since(start_time) >= needed)
    }

    fn end(&mut self, key: &StartKey, end: End, now: jiff::Timestamp, lose: bool) {
        let Some(record) = self.records.get_mut(key) else { return };
        let Attempt::Running(Started { start_time, .. }) = record.attempt else { return };
        let ended = Ended { end: end.clone(), oom_killed: false, start_time, finish_time: now };
        record.attempt = Attempt::Ended(ended.clone());
        self.ends.insert(key.clone(), end);
        let event = if lose { DriverEvent::Resync } else { DriverEvent::Ended(key.clone(), ended) };
        if let Some(events) = &self.events {
            // Nobody listens between two daemons: the next one will observe.
            let _ = events.send(event);
        }
    }
}

struct SimDriver {
    machine: Machine,
    lease: u64,
}

impl SimDriver {
    /// What happens before a call reaches the machine.
    async fn reach(&self) -> Result<(), Unreachable> {
        if self.machine.chance(|faults| faults.slow) {
            let clock = &self.machine.clock;
            let pause = Duration::from_millis(clock.random() % 1000);
            clock.sleep(pause).await;
        }
        if self.machine.lock().lease != self.lease {
            // This daemon is dead: whatever it still does has no effect.
            return futures::future::pending().await;
        }
        match self.machine.chance(|faults| faults.unreachable) {
            true => Err(Unreachable("simulated".to_owned())),
            false => Ok(()),
        }
    }

    /// What happens after a call was carried out.
    fn answer<T>(&self, answer: T) -> Result<T, Unreachable> {
        match self.machine.chance(|faults| faults.mute) {
            true => Err(Unreachable("simulated: the answer was lost".to_owned())),
            false => Ok(answer),
        }
    }

    fn start_now(&self, start: Start) -> Result<Started, StartError> {
        let refuse = self.machine.chance(|faults| faults.refuse);
        let hangs = self.machine.chance(|faults| faults.hang);
        let now = self.machine.clock.now();
        let mut state = self.machine.lock();
        let key = start.key.clone();
        match state.records.get(&key).map(|record| &record.attempt) {
            Some(Attempt::Running(started)) => return Ok(started.clone()),
            Some(Attempt::Ended(_)) => return Err(StartError::AlreadyStarted(key)),
            None => {}
        }
        let (env, notifies) = (start.env.into_iter().collect(), start.notify.is_some());
        *state.starts.entry(key.clone()).or_default() += 1;
        if state.starts[&key] > 1 {
            state.broken.push(format!("{key} was started twice"));
        }
        if state.removed.contains(&key.uid) {
            state.broken.push(format!("{key} was started after its instance was removed"));
        }
        if refuse {
            let ended = Ended { end: End::Lost, oom_killed: false, start_time: now, finish_time: now };
            state.records.insert(key, Record { env, notifies, attempt: Attempt::Ended(ended), hangs });
            return Err(StartError::Refused("simulated: no such program".to_owned()));
        }
        state.next_pid += 1;
        let started = Started { pid: state.next_pid, start_time: now, adopted: false };
        state.records.insert(key.clone(), Record { env, notifies, attempt: Attempt::Running(started.clone()), hangs });
        state.tell(Deed::Started(key));
        Ok(started)
    }
}

impl Driver for SimDriver {
    fn observe(&self) -> BoxFuture<'_, Result<BTreeMap<StartKey, Attempt>, Unreachable>> {
        async move {
            self.reach().await?;
            let seen = self.machine.lock().records.iter().map(|(k, r)| (k.clone(), r.attempt.clone())).collect();
            self.answer(seen)
        }
        .boxed()
    }

    fn start(&self, start: Start) -> BoxFuture<'_, Result<Started, StartError>> {
        async move {
            let unknown = |Unreachable(why)| StartError::Unknown(why);
            self.reach().await.map_err(unknown)?;
            let started = self.start_now(start);
            self.answer(()).map_err(unknown)?;
            started
        }
        .boxed()
    }

    fn signal<'a>(&'a self, key: &'a StartKey, signal: i32, reach: Reach) -> BoxFuture<'a, Result<(), Unreachable>> {
        async move {
            self.reach().await?;
            let now = self.machine.clock.now();
            let lose = self.machine.chance(|faults| faults.lose);
            {
                let mut state = self.machine.lock();
                if state.records.get(key).is_some_and(|record| matches!(record.attempt, Attempt::Running(_))) {
                    state.tell(Deed::Signalled(key.clone(), signal));
                }
                let deaf = state.records.get(key).is_some_and(|record| record.hangs);
                if !deaf || (signal == SIGKILL && reach == Reach::Tree) {
                    state.end(key, End::Signal(signal), now, lose);
                }
            }
            self.answer(())
        }
        .boxed()
    }

    fn exec<'a>(&'a self, key: &'a StartKey, _: Exec) -> BoxFuture<'a, Result<Executed, ExecError>> {
        async move {
            let unknown = |Unreachable(why)| ExecError::Unknown(why);
            self.reach().await.map_err(unknown)?;
            let code = {
                let state = self.machine.lock();
                let runs = |record: &Record| matches!(record.attempt, Attempt::Running(_));
                state.records.get(key).filter(|record| runs(record)).ok_or(ExecError::NotRunning)?;
                let cold = state.is_warm(key, self.machine.clock.now()) == Some(false);
                i32::from(cold || state.unwell.contains(&key.uid))
            };
            self.answer(Executed { code: Some(code), ..Executed::default() }).map_err(unknown)
        }
        .boxed()
    }

    fn notified<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<Option<Notified>, Unreachable>> {
        async move {
            self.reach().await?;
            let said = {
                let state = self.machine.lock();
                let may = state.records.get(key).is_some_and(|record| record.notifies);
                // Of what nobody says here, nobody would hear later.
                let ready = Notified { ready: state.warm_up.is_some(), ..Notified::default() };
                may.then(|| state.said.get(key).cloned().unwrap_or(ready))
            };
            self.answer(said)
        }
        .boxed()
    }

    fn acknowledge<'a>(&'a self, key: &'a StartKey) -> BoxFuture<'a, Result<(), Unreachable>> {
        async move {
            self.reach().await?;
            {
                let mut state = self.machine.lock();
                match state.records.get(key).map(|record| &record.attempt) {
                    Some(Attempt::Ended(_)) => drop(state.records.remove(key)),
                    Some(Attempt::Running(_)) => state.broken.push(format!("{key} was acknowledged while it ran")),
                    None => {}
                }
            }
            self.answer(())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<(), Unreachable>> {
        async move {
            self.reach().await?;
            {
                let mut state = self.machine.lock();
                state.records.retain(|key, _| key.uid != *uid);
                state.removed.insert(uid.clone());
            }
            self.answer(())
        }
        .boxed()
    }

    fn set_log_limits<'a>(&'a self, _: &'a Uid, _: LogLimits) -> BoxFuture<'a, Result<(), Unreachable>> {
        async move {
            self.reach().await?;
            self.answer(())
        }
        .boxed()
    }

    fn set_limits<'a>(&'a self, key: &'a StartKey, _: Limits) -> BoxFuture<'a, Result<(), LimitError>> {
        async move {
            let unknown = |Unreachable(why)| LimitError::Unknown(why);
            self.reach().await.map_err(unknown)?;
            self.machine.lock().tell(Deed::Limited(key.clone()));
            self.answer(()).map_err(unknown)
        }
        .boxed()
    }

    fn step_files<'a>(&'a self, key: &'a StartKey, step: &'a RunStep, _guarded: bool) -> BoxFuture<'a, StepResult> {
        let keep = |_| {
            let file = format!("{}/{}", step.workspace, key.uid);
            self.machine.lock().kept.insert(file.clone());
            KeptArtifact { files: 1, size: 1, digest: format!("sha256:{:064}", 0), file }
        };
        let artifact = step.keep.as_ref().map(keep);
        std::future::ready(StepResult { artifact, ..StepResult::default() }).boxed()
    }

    fn remove_workspace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        self.machine.lock().kept.retain(|file| file.split_once('/').is_none_or(|(workspace, _)| workspace != name));
        std::future::ready(Ok(())).boxed()
    }

    fn remove_artifact<'a>(&'a self, file: &'a str) -> BoxFuture<'a, Result<(), Unreachable>> {
        self.machine.lock().kept.remove(file);
        std::future::ready(Ok(())).boxed()
    }

    fn answers(&self, key: &StartKey) -> Option<bool> {
        self.machine.lock().is_warm(key, self.machine.clock.now())
    }

    fn usage(&self, key: &StartKey) -> Option<Usage> {
        let state = self.machine.lock();
        matches!(state.records.get(key)?.attempt, Attempt::Running(_)).then(|| Usage {
            cpu_cores: 0.01,
            memory_bytes: 1 << 20,
            fds: 3,
            threads: 1,
            processes: 1,
            ..Usage::default()
        })
    }

    fn events(&self) -> mpsc::UnboundedReceiver<DriverEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.machine.lock();
        if state.lease == self.lease {
            state.events = Some(sender);
        }
        receiver
    }
}
