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
    Attempt, Driver, DriverEvent, End, Ended, Exec, ExecError, Executed, LogLimits, Notified, Reach, SharedDriver,
    Start, StartError, StartKey, Started, Unreachable,
};
use crate::{
    api::{Uid, Usage},
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
    /// Instances beside which every program fails.
    unwell: BTreeSet<Uid>,
    /// What attempts say by sd_notify.
    said: BTreeMap<StartKey, Notified>,
    broken: Vec<String>,
    next_pid: i32,
    /// Counts drivers; only the last one may use the machine.
    lease: u64,
    events: Option<mpsc::UnboundedSender<DriverEvent>>,
}

struct Record {
    start: Start,
    attempt: Attempt,
    hangs: bool,
}

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
            Attempt::Running(started) => {
                Some(Process { key: key.clone(), pid: started.pid, env: record.start.env.iter().cloned().collect() })
            }
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
        *state.starts.entry(key.clone()).or_default() += 1;
        if state.starts[&key] > 1 {
            state.broken.push(format!("{key} was started twice"));
        }
        if state.removed.contains(&key.uid) {
            state.broken.push(format!("{key} was started after its instance was removed"));
        }
        if refuse {
            let ended = Ended { end: End::Lost, oom_killed: false, start_time: now, finish_time: now };
            state.records.insert(key, Record { start, attempt: Attempt::Ended(ended), hangs });
            return Err(StartError::Refused("simulated: no such program".to_owned()));
        }
        state.next_pid += 1;
        let started = Started { pid: state.next_pid, start_time: now, adopted: false };
        state.records.insert(key, Record { start, attempt: Attempt::Running(started.clone()), hangs });
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
                i32::from(state.unwell.contains(&key.uid))
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
                let may = state.records.get(key).is_some_and(|record| record.start.notify.is_some());
                may.then(|| state.said.get(key).cloned().unwrap_or_default())
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
