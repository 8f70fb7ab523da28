//! The agent's one task: takes in what happens, asks [`decide`], does it, and lets the writer keep the records.
//!
//! Everything that takes time (driver calls, the writer's transaction) is a future on the side whose answer comes back
//! as one more thing that happened; so no Instance waits for another. The branch order of the loop is the order of
//! urgency: exits first.

mod adopt;
mod brief;
mod given;
mod handing;
mod health;
mod limits;
mod lines;
mod ports;
mod result;
mod sample;
mod sight;
mod slot;
mod start;
pub(super) mod step;
mod surely;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{
    given::Preparation,
    health::Attended,
    lines::Spoken,
    ports::TakenPort,
    surely::{remove_surely, start_surely},
};
use super::{
    Account,
    decide::{Action, decide},
    fetch::{self, Fetch},
    forms::{self, Drivers, Form, Sights},
    hooks::Hook,
    launch::log_limits,
    looks::{Looks, Questions, looker},
    memory::{Memory, Note, Phase},
    node::{self, Machine, NodeFacts},
    order::Order,
    probes::{Command, Probing},
    rows,
    sources::{Found, Sources},
    usage::Samples,
    writer::{self, Entry, What, Writer, Written},
};
use crate::{
    api::{
        Durability, Instance, InstanceStatus, Key, Kind, Object, ObjectReference, Status, StepResult, StoredObject, Uid,
    },
    broker::Broker,
    client::{Done, SharedClient},
    clock::{SharedClock, Timeline},
    controllers::run::Steps,
    drivers::{
        Attempt, DriverEvent, Ended, Fetched, LimitError, LogLimits, PrepareError, StartError, StartKey, Started,
        Unreachable,
    },
    policy::backoff,
    runtime::{Cache, Caches, Delta, Next, Reporter, WorkQueue, follow},
};

/// How long to wait before the driver is asked again.
const DRIVER_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What an agent must be told.
#[derive(Clone)]
pub struct AgentConfig {
    /// Its machine.
    pub node: NodeFacts,
    /// Where the ports of its Instances are reached.
    pub address: String,
    /// Looks up OS users.
    pub account: fn(Option<&str>) -> Option<Account>,
    /// Measures its machine, whose Node is kept true by it; none: nobody looks.
    pub machine: Option<Arc<dyn Machine>>,
    /// From whom processes of Apps get tasks, and who learns how they end; none: they get none.
    pub broker: Option<Arc<Broker>>,
    /// The server's socket, for those processes; none: they are told of none.
    pub socket: Option<String>,
}

/// How an agent is watched and stopped.
#[derive(Clone)]
pub struct Signals {
    /// Turns true when everything that was there has been adopted and judged once.
    pub ready: watch::Sender<bool>,
    /// The agent stops; what runs goes on.
    pub shutdown: CancellationToken,
    /// The agent stops everything that runs, and then itself. What it stops starts again with the next daemon.
    pub drain: CancellationToken,
}

/// Makes the Instances bound to one node real.
pub struct Agent {
    config: AgentConfig,
    client: SharedClient,
    drivers: Drivers,
    clock: SharedClock,
    events: Reporter,
    questions: Questions,
    steps: Steps,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(
        config: AgentConfig,
        client: SharedClient,
        drivers: Drivers,
        clock: SharedClock,
        events: Reporter,
    ) -> Self {
        let (_, questions) = looker();
        Self { config, client, drivers, clock, events, questions, steps: Steps::default() }
    }

    /// The same agent, which hands the ends of steps to the controllers that share `steps`.
    pub fn handing_over(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    /// The same agent, which can be asked.
    pub fn answering(self, questions: Questions) -> Self {
        Self { questions, ..self }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self, signals: Signals) {
        let [processes, containers] = Form::ALL.map(|form| {
            let mut events = self.drivers.of(form).events();
            futures::stream::poll_fn(move |cx| events.poll_recv(cx)).map(move |event| (form, event))
        });
        let driver_events = futures::stream::select(processes, containers).boxed();
        if !self.register(&signals.shutdown).await {
            return;
        }
        let query = node::bound_to(&self.config.node.name);
        let deltas = follow(self.client.clone(), self.clock.clone(), Instance::INFO, query);
        let Questions { of_instances, of_node } = std::mem::replace(&mut self.questions, looker().1);
        let keeping = node::keep(self.client.clone(), self.clock.clone(), self.config.clone(), of_node);
        let pump = Pump::new(self, of_instances).run(signals, driver_events, deltas);
        tokio::select! { () = pump => {}, () = keeping => {} }
    }

    /// False if it was told to stop before the store knew of this boot.
    async fn register(&self, shutdown: &CancellationToken) -> bool {
        for failures in 0.. {
            let now = self.clock.now();
            match node::register(&self.client, &self.config.node, &self.config.address, now).await {
                Ok(notes) => {
                    for (instance, note) in notes {
                        tell(&self.events, &instance, note, now);
                    }
                    return true;
                }
                Err(status) => tracing::warn!(%status, "the node cannot be registered yet"),
            }
            let wake = self.clock.sleep(backoff::retry(failures, self.clock.random()));
            tokio::select! { () = shutdown.cancelled() => return false, () = wake => {} }
        }
        false
    }
}

fn tell(events: &Reporter, instance: &Object<Instance>, note: Note, now: Timestamp) {
    events.record(ObjectReference::to(instance), note.kind, note.reason, note.message, now);
}

/// One Instance, or what is left of one.
#[derive(Debug)]
pub(super) struct Slot {
    key: Key,
    form: Form,
    pub(super) instance: Option<Arc<Object<Instance>>>,
    pub(super) memory: Memory,
    /// The status that was handed to the writer last.
    pub(super) shown: InstanceStatus,
    /// When the driver was last asked or heard of, in steps of the pump.
    touched: u64,
    limits: Option<LogLimits>,
    /// The attempt whose start the driver has yet to answer. Until then its end is not judged: an end that is judged is
    /// acknowledged, and a driver that has forgotten a key would start it again if the call came late.
    calling: Option<u32>,
    early_end: Option<Ended>,
    /// Its end is with somebody else, who has yet to write it down.
    pub(super) handed: bool,
    /// The hooks and probes that were begun.
    attended: Attended,
    given: Preparation,
    /// What the step left behind.
    left: result::Left,
}

/// Something that took time is over.
enum Finished {
    Start(StartKey, Result<Started, StartError>),
    Signal(Uid, Result<(), Unreachable>),
    Acknowledge(StartKey, Result<(), Unreachable>),
    Remove(Uid),
    Read(Uid, Result<Found, Status>),
    Changed(Key),
    Observe(Form, u64, Result<BTreeMap<StartKey, Attempt>, Unreachable>),
    Fetch(Uid, Result<Option<Fetched>, PrepareError>),
    Write(Vec<(Entry, Written)>),
    HandedOver(Entry, Option<Vec<Done>>),
    Hook(StartKey, Hook, Result<(), String>),
    LastWords(StartKey, String),
    Result(Uid, Box<StepResult>),
    LookedForPorts(StartKey, Option<TakenPort>),
    Limits(StartKey, Result<(), LimitError>),
    Other,
}

struct Pump {
    agent: Agent,
    time: Timeline,
    caches: Caches,
    slots: BTreeMap<Uid, Slot>,
    sources: Sources,
    /// Who waits for what object to change.
    awaited: BTreeMap<Key, BTreeSet<Uid>>,
    due: WorkQueue<Uid>,
    samples: Samples,
    order: Order,
    ports_looked: Option<Timestamp>,
    probing: Probing,
    looks: Looks,
    writer: Writer,
    write_again: Option<Timestamp>,
    write_failures: u32,
    work: FuturesUnordered<BoxFuture<'static, Finished>>,
    /// Counts what happened.
    step: u64,
    sights: Sights,
    /// Those that do tasks by lines.
    lines: Spoken,
    /// Whether the Node says that the engine of containers is there.
    engine_shown: Option<bool>,
    draining: bool,
}

impl Pump {
    fn new(agent: Agent, looks: Looks) -> Self {
        let probing = Probing::start(agent.drivers.clone(), agent.clock.clone());
        Self {
            sources: Sources::new(agent.client.clone(), agent.clock.clone()),
            awaited: BTreeMap::new(),
            time: Timeline::new(agent.clock.clone()),
            agent,
            probing,
            caches: Caches::new([Instance::INFO]),
            slots: BTreeMap::new(),
            due: WorkQueue::default(),
            samples: Samples::default(),
            order: Order::default(),
            ports_looked: None,
            looks,
            writer: Writer::default(),
            write_again: None,
            write_failures: 0,
            work: FuturesUnordered::new(),
            step: 0,
            sights: Sights::default(),
            lines: Spoken::default(),
            engine_shown: None,
            draining: false,
        }
    }

    async fn run(
        mut self,
        signals: Signals,
        mut events: BoxStream<'static, (Form, DriverEvent)>,
        mut deltas: BoxStream<'static, Delta>,
    ) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                () = signals.shutdown.cancelled() => break,
                by = self.time.stepped() => self.stepped(by),
                Some((form, event)) = events.next() => self.driver_event(form, event),
                Some(finished) = self.work.next() => self.finished(finished),
                Some(report) = self.probing.next() => self.probe_reported(report),
                () = signals.drain.cancelled(), if !self.draining => self.drain(),
                Some(delta) = deltas.next() => self.learn(&delta),
                asker = self.looks.asked() => self.look(asker),
                () = wake => {}
            }
            self.step += 1;
            self.timers();
            self.write();
            self.answer_looks();
            if self.sights.are_settled() {
                signals.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            }
            if self.draining && self.is_drained() {
                break;
            }
        }
        self.last_words().await;
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn cache(&self) -> &Cache {
        self.caches.kind::<Instance>()
    }

    // What happens by itself.

    fn learn(&mut self, delta: &Delta) {
        for object in self.cache().apply(delta) {
            self.changed(&object);
        }
        for form in Form::ALL {
            if self.sights.at(form).is_fresh() {
                self.observe(form);
            }
        }
    }

    /// An object of the cache was touched: take its present state, or note that it is gone.
    fn changed(&mut self, touched: &StoredObject) {
        let uid = touched.meta().uid().clone();
        let present = self.cache().get(&touched.key).filter(|o| o.meta().uid() == &uid);
        let instance = present.and_then(|object| object.typed::<Instance>());
        match (&instance, self.slots.get(&uid).and_then(|slot| slot.instance.as_deref())) {
            (Some(instance), _) => self.order.learn(&uid, instance),
            (None, Some(last)) => self.order.forget(&uid, last),
            (None, None) => {}
        }
        match (self.slots.get_mut(&uid), instance) {
            (Some(slot), instance) => slot.instance = instance,
            (None, Some(instance)) => self.adopt_later(uid.clone(), touched.key.clone(), instance),
            (None, None) => return,
        }
        self.settle(&uid);
    }

    fn driver_event(&mut self, form: Form, event: DriverEvent) {
        match event {
            DriverEvent::Resync => {
                self.observe(form);
                self.probing.tell(Command::Resync);
            }
            DriverEvent::Fetching(uid, said) => self.with(&uid, |slot, _| {
                let image = slot.image().to_owned();
                slot.memory.fetching(said, &image)
            }),
            DriverEvent::Main(key, started) => self.with(&key.uid, |slot, _| {
                slot.memory.confirm_running(key.attempt, &started);
                Vec::new()
            }),
            DriverEvent::LeftBehind(key, count) => {
                self.with(&key.uid, |slot, _| slot.memory.left_behind(key.attempt, count).into_iter().collect());
            }
            DriverEvent::Withheld(key) => self.with(&key.uid, |_, _| vec![words::withheld()]),
            DriverEvent::Checked(key) => self.settle(&key.uid),
            DriverEvent::Notified(key, said) => {
                self.extend_stop(&key, &said);
                self.probing.tell(Command::Heard(key, said));
            }
            DriverEvent::Ended(key, ended) => {
                self.tell_broker(&key, &ended);
                self.with(&key.uid, |slot, now| slot.reported(key.attempt, ended, now));
                // An attempt that this agent has not heard of yet: the observation that tells of it may be on its way,
                // and older than this report.
                let unheard =
                    |slot: &Slot| slot.memory.exit_attempt() < key.attempt && slot.calling != Some(key.attempt);
                if self.slots.get(&key.uid).is_some_and(unheard) {
                    self.observe(form);
                }
                self.look_for_taken_ports(&key);
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.settle_all();
    }

    fn timers(&mut self) {
        let now = self.now();
        while let Some(uid) = self.due.pop_due(now) {
            self.due.done(&uid, Next::Rest);
            self.settle(&uid);
            self.acknowledge(&uid);
        }
        self.sample(now);
        for form in Form::ALL {
            if self.sights.at(form).again.is_some_and(|at| at <= now) {
                self.observe(form);
            }
        }
    }

    fn next_wake(&self) -> BoxFuture<'static, ()> {
        let writes = self.write_again.filter(|_| self.writer.in_flight.is_empty());
        let times = [self.due.next_due(), self.samples.next(), self.sights.next(), writes];
        match times.into_iter().flatten().min() {
            Some(at) => self.time.sleep_until(at),
            None => futures::future::pending().boxed(),
        }
    }

    // What was asked for and is answered.

    fn finished(&mut self, finished: Finished) {
        match finished {
            Finished::Start(key, result) => self.start_answered(&key, result),
            Finished::Signal(uid, result) => {
                self.with(&uid, |slot, now| {
                    if let (Err(_), Phase::Stopping { signal_at, .. }) = (&result, &mut slot.memory.phase) {
                        *signal_at = now + DRIVER_RETRY;
                    }
                    Vec::new()
                });
            }
            Finished::Acknowledge(key, result) => {
                let again = self.now() + DRIVER_RETRY;
                match (result, self.slots.get_mut(&key.uid)) {
                    (Ok(()), Some(slot)) => {
                        slot.memory.unacknowledged.remove(&key.attempt);
                        self.awaits_result(&key.uid);
                        self.ask_for_last_words(key);
                    }
                    (Err(_), Some(_)) => self.due.add(key.uid, again),
                    (_, None) => {}
                }
            }
            Finished::Remove(uid) => {
                self.leave_workspace(&uid);
                self.with(&uid, |slot, _| {
                    slot.memory.phase = Phase::Removed;
                    Vec::new()
                });
            }
            Finished::Read(uid, result) => self.read(&uid, result),
            Finished::Changed(key) => self.source_changed(&key),
            Finished::Observe(form, step, result) => self.observation(form, step, result),
            Finished::Fetch(uid, result) => self.fetched(&uid, result),
            Finished::Write(results) => self.written(results),
            Finished::HandedOver(entry, done) => self.handed_over(entry, done),
            Finished::Hook(key, hook, outcome) => self.hook_ended(&key, hook, outcome),
            Finished::LookedForPorts(key, taken) => self.looked_for_ports(&key, taken),
            Finished::Limits(key, result) => self.limits_answered(&key, result),
            Finished::LastWords(key, words) => self.take_last_words(&key, words),
            Finished::Result(uid, result) => self.take_result(&uid, *result),
            Finished::Other => {}
        }
    }

    /// Lets something happen to a slot, then does what follows from it.
    fn with(&mut self, uid: &Uid, happen: impl FnOnce(&mut Slot, Timestamp) -> Vec<Note>) {
        let (now, step) = (self.now(), self.step);
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let before = slot.memory.attempt;
        let running = slot.memory.started().map(|s| s.pid);
        for note in happen(slot, now) {
            if let Some(instance) = &slot.instance {
                tell(&self.agent.events, instance, note, now);
            }
        }
        if slot.memory.attempt != before || slot.memory.started().map(|s| s.pid) != running {
            slot.touched = step;
        }
        self.settle(uid);
    }

    // Judging and doing.

    fn settle_all(&mut self) {
        let uids: Vec<Uid> = self.slots.keys().cloned().collect();
        for uid in uids {
            self.settle(&uid);
        }
    }

    /// Decides and does until there is nothing to do now, then shows how things stand.
    fn settle(&mut self, uid: &Uid) {
        let now = self.now();
        while let Some(slot) = self.slots.get(uid) {
            let around = self.order.around(uid, &self.slots, self.draining, now);
            let plan = decide(slot.instance.as_deref(), &slot.memory, &around, now);
            if let Some(at) = plan.look_again {
                self.due.add(uid.clone(), at);
            }
            let Some(action) = plan.action else { break };
            if matches!(action, Action::Start { .. } | Action::Intend { .. }) && !self.is_prepared(uid) {
                break;
            }
            self.act(uid, action, now);
        }
        self.speak(uid);
        self.show(uid, now);
        self.let_go(uid, now);
    }

    fn act(&mut self, uid: &Uid, action: Action, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let (driver, clock) = (self.agent.drivers.of(slot.form).clone(), self.agent.clock.clone());
        let instance = slot.instance.clone();
        let memory = &mut slot.memory;
        match (action, instance) {
            (Action::Start { attempt }, Some(instance)) => {
                let launch = slot.begin(attempt, &instance, &self.agent.config, self.step);
                self.work.push(Box::pin(start_surely(driver, clock, launch)));
            }
            (Action::Intend { attempt }, _) => memory.attempt = attempt,
            (Action::Fetch, Some(instance)) => {
                memory.fetch = Fetch::UnderWay;
                let (client, uid) = (self.agent.client.clone(), uid.clone());
                let namespace = instance.metadata.namespace.clone();
                let container = instance.spec.container.clone().unwrap_or_default();
                self.work.push(Box::pin(async move {
                    let fetched = fetch::fetch(client, driver, uid.clone(), namespace, container).await;
                    Finished::Fetch(uid, fetched)
                }));
            }
            (Action::Stop { reason, kill_at }, instance) => {
                if let Some(started) = memory.started().cloned() {
                    memory.begin_pre_stop(instance.as_deref(), kill_at, now);
                    memory.phase = Phase::Stopping { started, reason, kill_at, signal_at: now };
                }
                if let Some(instance) = instance {
                    let note = Note::normal("Killing", format!("Stopping the process: {}", reason.plain()));
                    tell(&self.agent.events, &instance, note, now);
                }
            }
            (Action::Signal { signal, reach, next }, _) => {
                if let Phase::Stopping { signal_at, .. } = &mut memory.phase {
                    *signal_at = next;
                }
                let key = StartKey { uid: uid.clone(), attempt: memory.attempt };
                self.work.push(Box::pin(async move {
                    let result = driver.signal(&key, signal, reach).await;
                    Finished::Signal(key.uid, result)
                }));
            }
            (Action::Rest { reason, message }, instance) => {
                memory.rest(reason, message, instance.map_or(0, |i| i.metadata.generation));
            }
            (Action::Wait { reason, message, at }, instance) => {
                if let Some(instance) = instance {
                    tell(&self.agent.events, &instance, Note::normal("Waiting", message.clone()), now);
                }
                memory.wait(reason, message, at);
            }
            (Action::Resume { .. }, _) => memory.resume(now),
            (Action::Remove, _) => {
                memory.phase = Phase::Removing;
                self.work.push(Box::pin(remove_surely(driver, clock, uid.clone())));
            }
            (Action::Release, Some(_)) => {
                memory.phase = Phase::Released;
                if let Some(object) = self.caches.kind::<Instance>().get(&slot.key) {
                    let what = What::Release(Box::new(writer::released(object.value())));
                    let entry =
                        Entry { key: slot.key.clone(), uid: uid.clone(), what, durability: Durability::Durable };
                    self.writer.push(entry);
                }
            }
            (Action::Start { .. } | Action::Fetch | Action::Release, None) => {
                self.slots.remove(uid);
            }
        }
    }

    /// Hands the status to the writer if it says something new, and forgets what both sides have forgotten.
    fn show(&mut self, uid: &Uid, now: Timestamp) {
        self.attend(uid, now);
        self.keep_limits(uid, now);
        if self.awaits_result(uid) || self.may_be_brief(uid, now) {
            return;
        }
        let Some(slot) = self.slots.get_mut(uid) else { return };
        let Some(instance) = &slot.instance else {
            if slot.memory.phase == Phase::Released {
                self.slots.remove(uid);
            }
            self.writer.forget(uid);
            return;
        };
        let limits = log_limits(&instance.spec);
        // The keeper remembers what a process was started with; a container that was found again is told, and so is the keeper
        // of what must not be missed.
        if slot.form == Form::Process && !limits.redact {
            slot.limits.get_or_insert(limits);
        }
        let known = slot.limits;
        if known != Some(limits) && slot.memory.started().is_some() {
            slot.limits = Some(limits);
            let (driver, uid) = (self.agent.drivers.of(slot.form).clone(), uid.clone());
            self.work.push(Box::pin(async move {
                // A driver that cannot be reached gets the limits with the next start.
                let _ = driver.set_log_limits(&uid, limits).await;
                Finished::Other
            }));
        }
        let own = health::own_address(&self.agent.drivers, slot, uid, instance);
        let address = own.as_deref().unwrap_or(&self.agent.config.address);
        let mut told = slot.memory.tell(instance, &slot.shown, address, now);
        if let Some(why) = self.sights.doubt(slot.form) {
            told = forms::doubted(told, &slot.shown, why, instance.metadata.generation, now);
        }
        let next = self.order.next_in_row(instance).filter(|_| rows::leads_on(&slot.memory)).cloned();
        for status in told {
            if status == slot.shown {
                continue;
            }
            self.order.concerned(instance).into_iter().for_each(|other| self.due.add(other, now));
            let durability = match writer::records(&status) == writer::records(&slot.shown) {
                true => Durability::Relaxed,
                false => Durability::Durable,
            };
            slot.shown = status.clone();
            let what = What::Status(Box::new(status));
            let entry = Entry { key: slot.key.clone(), uid: uid.clone(), what, durability };
            // What the next step of a row waits for is written down at once, with the intent to start that one.
            match next {
                Some(_) => self.writer.push(entry),
                None => {
                    slot.handed = handing::record(entry, instance, &mut self.writer, &self.agent.steps, &mut self.work);
                }
            }
        }
        // Whether or not that was news: after a restart the next one may have been judged first.
        if let Some(next) = next.filter(|next| self.slots.get(next).is_some_and(Slot::stands_in_row)) {
            self.settle(&next);
        }
    }

    // Keeping the records.

    fn write(&mut self) {
        if self.write_again.is_some_and(|at| at > self.now()) {
            return;
        }
        self.write_again = None;
        let batch = self.writer.take();
        if !batch.is_empty() {
            let client = self.agent.client.clone();
            self.work.push(Box::pin(async move { Finished::Write(writer::write(client, batch).await) }));
        }
    }

    fn written(&mut self, results: Vec<(Entry, Written)>) {
        self.writer.in_flight.clear();
        let mut later = false;
        for (entry, written) in results {
            match written {
                Written::Stored(done, durability) => {
                    self.caches.written(&done);
                    self.stored(&entry, durability);
                }
                Written::Refused => self.settle(&entry.uid),
                Written::Later => {
                    later = true;
                    self.writer.put_back(entry);
                }
            }
        }
        if later {
            let pause: Duration = backoff::retry(self.write_failures, self.agent.clock.random());
            self.write_failures += 1;
            self.write_again = Some(self.now() + pause);
        } else {
            self.write_failures = 0;
        }
    }

    /// What is durable now may be acknowledged, and may be what the next start waits for.
    fn stored(&mut self, entry: &Entry, durability: Durability) {
        let What::Status(status) = &entry.what else { return };
        let present = self.cache().get(&entry.key).filter(|o| *o.meta().uid() == entry.uid);
        let Some(slot) = self.slots.get_mut(&entry.uid) else { return };
        if let Some(instance) = present.and_then(|object| object.typed::<Instance>()) {
            slot.instance = Some(instance);
        }
        if durability == Durability::Durable {
            let memory = &mut slot.memory;
            memory.durable_attempt = memory.durable_attempt.max(status.attempt);
            memory.durable_exit = memory.durable_exit.max(status.last_exit.as_ref().map_or(0, |e| e.attempt));
            self.acknowledge(&entry.uid);
        }
        self.settle(&entry.uid);
    }

    fn acknowledge(&mut self, uid: &Uid) {
        let Some(slot) = self.slots.get(uid) else { return };
        for attempt in slot.memory.unacknowledged.range(..=slot.memory.durable_exit) {
            let key = StartKey { uid: uid.clone(), attempt: *attempt };
            let driver = self.agent.drivers.of(slot.form).clone();
            self.work.push(Box::pin(async move {
                let result = driver.acknowledge(&key).await;
                Finished::Acknowledge(key, result)
            }));
        }
    }

    // The end.

    fn is_drained(&self) -> bool {
        let busy = |slot: &Slot| {
            // What cannot be reached cannot be stopped either.
            if self.sights.doubt(slot.form).is_some() {
                return false;
            }
            // While an end waits to be acknowledged, the keeper does not end.
            slot.memory.unacknowledged.range(..=slot.memory.durable_exit).next().is_some()
                || slot.lacks_result().is_some()
                || slot.memory.started().is_some()
                || matches!(slot.memory.phase, Phase::Unknown | Phase::Starting | Phase::Doubtful | Phase::Removing)
        };
        self.sights.are_settled() && self.writer.is_idle() && !self.slots.values().any(busy)
    }

    /// Writes what is still in line. What cannot be written now, the next agent will learn from the driver.
    async fn last_words(mut self) {
        while !self.writer.in_flight.is_empty() {
            match self.work.next().await {
                Some(Finished::Write(results)) => self.written(results),
                Some(_) => {}
                None => break,
            }
        }
        let batch = self.writer.take();
        if !batch.is_empty() {
            writer::write(self.agent.client.clone(), batch).await;
        }
    }
}
