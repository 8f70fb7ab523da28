//! What the agent knows of one Instance, and how it learns: every transition that the outside world causes.
//!
//! | learned | from | to |
//! |---|---|---|
//! | the start was answered | `Starting` | `Running` |
//! | the start was refused | `Starting` | as an exit |
//! | the attempt ended by itself | `Starting`, `Running`, `Doubtful` | `Waiting` or `Exited`, by exit rules, policy, backoff, `maxRestarts` |
//! | it ended after we asked | `Stopping` | `Waiting` (restart), `Exited` (suspended, outside its window, deleted) |
//!
//! A Memory can be made again from the Instance's status and what the driver observes, so a restart of the daemon
//! forgets nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    Health, Resizing,
    fetch::{Fetch, PULLING},
};
use crate::{
    api::{
        Condition, Exit, Exited, Instance, InstanceSpec, InstanceState, InstanceStatus, MicroTime, Object, Running,
        StepResult, Stopping, Time, Usage, Waiting, signal_name,
    },
    drivers::{Attempt, End, Ended, Started},
    policy::{
        backoff,
        depends::NOT_READY,
        restart::{CRASH_LOOPING, SUSPENDED, Verdict, judge, judge_taken_over, judge_unhealthy},
        window::OUTSIDE,
    },
    runtime::EventType,
};

/// Nothing runs because the start was refused, for a reason that the manifest's author can mend.
pub(super) const START_FAILED: &str = "StartFailed";
/// Nothing runs because the machine cannot enforce the limits.
pub(super) const RESOURCES_UNAVAILABLE: &str = "ResourcesUnavailable";
/// What a process gets between the stop signal and SIGKILL even if its preStop hook used up all the grace, as a kubelet has it.
pub(super) const AFTER_HOOK: SignedDuration = SignedDuration::from_secs(2);
/// Nothing runs because a ConfigMap or a Secret, or an entry of one, is not there.
pub(super) const CONFIG_ERROR: &str = "ConfigError";
/// After which it is looked for again, if nobody says that it came.
pub(super) const CONFIG_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// Everything that matters of one Instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The highest attempt that was used.
    pub attempt: u32,
    /// The highest attempt that the store durably holds.
    pub durable_attempt: u32,
    /// The highest attempt whose exit the store durably holds.
    pub durable_exit: u32,
    /// What it is doing.
    pub phase: Phase,
    /// How the last attempt that ended did end.
    pub last_exit: Option<Exit>,
    /// What a step of a workflow left behind.
    pub result: Option<StepResult>,
    /// Exits since the last status that was shown. The next statuses tell of each, one after another.
    pub untold: Vec<Exit>,
    /// Attempts whose end the driver keeps until it is acknowledged.
    pub unacknowledged: BTreeSet<u32>,
    /// Restarts by policy, ever. Counted when they happen.
    pub restarts: u32,
    /// True if the next start is a restart by policy.
    pub restart_due: bool,
    /// True if the next start is a first one: it waits for what the Instance depends on. A restart does not.
    pub first: bool,
    /// Restarts by policy since the last stable run.
    pub consecutive: u32,
    /// Whether what the next start needs is there.
    pub fetch: Fetch,
    /// How often that could not be had since it was had last.
    pub fetch_failures: u32,
    /// The `restartedAt` under which the last attempt was started.
    pub restarted_at: String,
    /// What the running attempt uses.
    pub usage: Option<Usage>,
    /// The name of a port that somebody else held when the last attempt had failed.
    pub taken_port: Option<String>,
    /// How the running attempt is doing.
    pub health: Health,
    /// The resources of the running attempt, or of the last.
    pub resizing: Resizing,
}

/// What an Instance is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Found in the store with a history that the driver has yet to confirm. Left by an observation.
    Unknown,
    /// Nothing runs; the next attempt is due at `at`.
    Waiting {
        /// `Starting`, `BackOff`, `StartFailed`, `ResourcesUnavailable`, `ConfigError`, `DependencyNotReady`, `OutsideActiveWindow`.
        reason: &'static str,
        /// One sentence.
        message: String,
        /// When the next attempt is due.
        at: Timestamp,
    },
    /// The driver was asked to start the attempt. Left by its answer.
    Starting,
    /// The driver says that the attempt was used, but not what became of it. Left by an observation.
    Doubtful,
    /// The attempt runs.
    Running(Started),
    /// The attempt runs and is to end. Left by its end.
    Stopping {
        /// What runs.
        started: Started,
        /// Why.
        reason: StopReason,
        /// From when on only SIGKILL helps.
        kill_at: Timestamp,
        /// When the next signal is due.
        signal_at: Timestamp,
    },
    /// Nothing runs, and nothing will unless somebody changes something.
    Exited {
        /// One word, as in the API.
        reason: String,
        /// One sentence.
        message: String,
        /// The generation that was judged.
        generation: i64,
    },
    /// The driver was asked to forget the Instance.
    Removing,
    /// Nothing of it is left on this machine; the store has yet to be told.
    Removed,
    /// The store is being told.
    Released,
}

/// Why a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The Instance is being deleted.
    Deleted,
    /// The App is suspended.
    Suspended,
    /// A restart in place was asked for.
    Restarted,
    /// Its active window is closed.
    Outside,
    /// Its liveness or its startup probe failed.
    Unhealthy,
    /// Its postStart hook failed.
    PostStartHookError,
}

impl StopReason {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            StopReason::Deleted => "Deleted",
            StopReason::Suspended => SUSPENDED,
            StopReason::Restarted => "Restarted",
            StopReason::Outside => OUTSIDE,
            StopReason::Unhealthy => "Unhealthy",
            StopReason::PostStartHookError => "PostStartHookError",
        }
    }

    /// The rest of the sentence "it is …".
    pub(super) fn plain(self) -> String {
        match self {
            StopReason::Outside => "outside its active window".to_owned(),
            StopReason::PostStartHookError => "without its postStart hook".to_owned(),
            _ => self.word().to_lowercase(),
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "Deleted" => StopReason::Deleted,
            "Unhealthy" => StopReason::Unhealthy,
            "PostStartHookError" => StopReason::PostStartHookError,
            "Restarted" => StopReason::Restarted,
            OUTSIDE => StopReason::Outside,
            _ => StopReason::Suspended,
        }
    }
}

/// Something that people should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is as it should be.
    pub kind: EventType,
    /// One word.
    pub reason: &'static str,
    /// One sentence, the same whenever the same happens again.
    pub message: String,
}

impl Note {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, reason, message: message.into() }
    }
}

impl Memory {
    /// An Instance that this agent sees for the first time. Its history, if it has one, must be confirmed by the driver.
    pub fn new(status: &InstanceStatus, now: Timestamp) -> Self {
        let exit = status.last_exit.as_ref().map_or(0, |e| e.attempt);
        let fresh = status.attempt == 0 && status.state == InstanceState::default();
        Self {
            attempt: status.attempt,
            durable_attempt: status.attempt,
            durable_exit: exit,
            phase: if fresh { Self::start_at(now) } else { Phase::Unknown },
            last_exit: status.last_exit.clone(),
            result: status.result.clone(),
            untold: Vec::new(),
            unacknowledged: BTreeSet::new(),
            restarts: status.restarts,
            restart_due: false,
            first: true,
            consecutive: status.consecutive_restarts,
            fetch: Fetch::Needed,
            fetch_failures: 0,
            restarted_at: status.restarted_at.clone(),
            usage: status.usage.clone(),
            taken_port: status.state.waiting.as_ref().and_then(|waiting| waiting.taken_port.clone()),
            health: Health::of(status),
            resizing: Resizing::of(status),
        }
    }

    /// What runs without an Instance in the store: it is to be ended and forgotten.
    pub fn orphan(attempts: &BTreeMap<u32, Attempt>, now: Timestamp) -> Self {
        let mut memory = Self::new(&InstanceStatus::default(), now);
        memory.phase = Phase::Exited { reason: "Deleted".to_owned(), message: String::new(), generation: 0 };
        if let Some((attempt, Attempt::Running(started))) = attempts.last_key_value() {
            memory.attempt = *attempt;
            memory.phase = Phase::Running(started.clone());
        }
        memory
    }

    fn start_at(at: Timestamp) -> Phase {
        Phase::Waiting { reason: "Starting", message: String::new(), at }
    }

    /// Goes back to the beginning: whatever ended may start again at once, with a clean slate.
    pub fn resume(&mut self, now: Timestamp) {
        (self.consecutive, self.restart_due, self.first) = (0, false, true);
        self.fetch = Fetch::Needed;
        self.phase = Self::start_at(now);
    }

    /// Nothing runs, and nothing is to run, for this reason.
    pub fn rest(&mut self, reason: &str, message: String, generation: i64) {
        (self.restart_due, self.fetch) = (false, Fetch::Needed);
        self.phase = exited(reason, message, generation);
    }

    /// Nothing runs; a first start is due at `at`, or when what `reason` speaks of has changed.
    pub fn wait(&mut self, reason: &'static str, message: String, at: Timestamp) {
        self.resume(at);
        self.phase = Phase::Waiting { reason, message, at };
    }

    /// The driver is asked to start the next attempt, or was.
    pub fn begin(&mut self, attempt: u32) {
        self.restarts += u32::from(std::mem::take(&mut self.restart_due));
        (self.attempt, self.fetch, self.taken_port) = (attempt, Fetch::Needed, None);
        self.phase = Phase::Starting;
        self.health = Health::default();
    }

    /// Takes the phase that a stored status speaks of.
    fn recall(&mut self, status: &InstanceStatus, now: Timestamp) {
        self.phase = phase_of(status, now);
        self.first = self.consecutive == 0;
        self.restart_due = !self.first && matches!(self.phase, Phase::Waiting { .. });
    }

    /// What a reboot without this agent's knowledge leaves: what ran is lost, and the number after it may have been used
    /// for a start that was never recorded.
    pub fn after_reboot(instance: &Object<Instance>, now: Timestamp) -> (Self, Vec<Note>) {
        let mut memory = Self::new(&instance.status, now);
        memory.recall(&instance.status, now);
        let mut notes = Vec::new();
        if instance.spec.once {
            // What was intended may have been started, and is not started again.
            let began = memory.attempt > memory.exit_attempt() && !matches!(memory.phase, Phase::Exited { .. });
            if began {
                notes = memory.lost(Some(instance), now);
            }
            return (memory, notes);
        }
        if memory.started().is_some() {
            notes = memory.lost(Some(instance), now);
            // Not its fault: it starts at once, after what it depends on.
            if matches!(memory.phase, Phase::Waiting { .. }) {
                memory.resume(now);
            }
        }
        memory.attempt += 1;
        (memory, notes)
    }

    /// The highest attempt whose exit is recorded here.
    pub fn exit_attempt(&self) -> u32 {
        self.last_exit.as_ref().map_or(0, |e| e.attempt)
    }

    /// Whether this attempt is the one that ended last, as a failure of which no more is told.
    pub fn is_silent_failure(&self, attempt: u32) -> bool {
        self.last_exit.as_ref().is_some_and(|e| e.attempt == attempt && !e.is_success() && e.message.is_empty())
    }

    /// What runs, if something does.
    pub fn started(&self) -> Option<&Started> {
        match &self.phase {
            Phase::Running(started) | Phase::Stopping { started, .. } => Some(started),
            _ => None,
        }
    }

    /// Confirms a history by what the driver observed: `attempts` is everything it knows of this Instance.
    ///
    /// Goes through the attempts in order, as if the reports came in one by one; an attempt that the store says runs and
    /// the driver does not know ended unseen.
    pub fn adopt(
        &mut self,
        instance: &Object<Instance>,
        attempts: &BTreeMap<u32, Attempt>,
        now: Timestamp,
    ) -> Vec<Note> {
        self.recall(&instance.status, now);
        let mut notes = Vec::new();
        for (attempt, seen) in attempts {
            if *attempt <= self.exit_attempt() {
                if matches!(seen, Attempt::Ended(_)) {
                    self.unacknowledged.insert(*attempt);
                }
                continue;
            }
            if *attempt > self.attempt {
                self.restarted_at = started_under(instance, seen);
                self.begin(*attempt);
            }
            match seen {
                Attempt::Running(started) => self.confirm_running(*attempt, started),
                Attempt::Ended(ended) => notes.extend(self.ended(Some(instance), *attempt, ended, now)),
            }
        }
        let runs = matches!(self.phase, Phase::Running(_) | Phase::Stopping { .. });
        if runs && !matches!(attempts.get(&self.attempt), Some(Attempt::Running(_))) {
            notes.extend(self.lost(Some(instance), now));
        }
        notes
    }

    /// The driver says that `attempt` runs. An observation may be older than the report of an end: what ended stays so.
    pub fn confirm_running(&mut self, attempt: u32, running: &Started) {
        if attempt < self.attempt || attempt <= self.exit_attempt() {
            return;
        }
        self.attempt = attempt;
        match &mut self.phase {
            Phase::Running(started) | Phase::Stopping { started, .. } => *started = running.clone(),
            Phase::Removing | Phase::Removed | Phase::Released => {}
            _ => self.phase = Phase::Running(running.clone()),
        }
    }

    /// The next attempt cannot be given what it needs, and is due again a little later. No number is used up.
    pub fn unconfigured(&mut self, message: String, now: Timestamp) -> Vec<Note> {
        let Phase::Waiting { reason, message: before, .. } = &self.phase else { return Vec::new() };
        let is_known = *reason == CONFIG_ERROR && *before == message;
        let notes = if is_known { Vec::new() } else { vec![Note::warning(CONFIG_ERROR, &message)] };
        self.phase = Phase::Waiting { reason: CONFIG_ERROR, message, at: now + CONFIG_RETRY };
        notes
    }

    /// The driver has answered the start of `attempt`.
    pub fn start_answered(&mut self, instance: Option<&Object<Instance>>, attempt: u32, started: Started) -> Vec<Note> {
        if attempt != self.attempt || self.phase != Phase::Starting {
            return Vec::new();
        }
        self.phase = Phase::Running(started);
        vec![match instance.and_then(|instance| instance.spec.adopts()) {
            Some(pid) => {
                Note::normal("Adopted", format!("Took over process {pid}; its output goes where it went before"))
            }
            None => Note::normal("Started", "Started the process"),
        }]
    }

    /// The driver will never start `attempt`: `reason` is [`START_FAILED`] or [`RESOURCES_UNAVAILABLE`]. The number is used up.
    pub fn start_refused(
        &mut self,
        instance: Option<&Object<Instance>>,
        attempt: u32,
        reason: &'static str,
        message: &str,
        now: Timestamp,
    ) -> Vec<Note> {
        if attempt != self.attempt || self.phase != Phase::Starting {
            return Vec::new();
        }
        self.unacknowledged.insert(attempt);
        let exit = Exit {
            attempt,
            message: message.to_owned(),
            start_time: Some(MicroTime(now)),
            finish_time: Some(MicroTime(now)),
            ..Exit::default()
        };
        let mut notes = vec![Note::warning("FailedStart", message)];
        notes.extend(self.take_exit(instance, exit, Some(reason), now));
        notes
    }

    /// The driver says that `attempt` ended. A report of an exit that is recorded already changes nothing.
    pub fn ended(
        &mut self,
        instance: Option<&Object<Instance>>,
        attempt: u32,
        ended: &Ended,
        now: Timestamp,
    ) -> Vec<Note> {
        self.unacknowledged.insert(attempt);
        if attempt <= self.exit_attempt() || attempt != self.attempt {
            return Vec::new();
        }
        let exit = exit_of(attempt, ended);
        let note = match &exit {
            Exit { oom_killed: true, .. } => Note::warning("OOMKilled", format!("Out of memory: {}", ending(&exit))),
            Exit { code: Some(0), .. } => Note::normal("Exited", "Exited with code 0"),
            Exit { code: Some(code), .. } => Note::warning("Exited", format!("Exited with code {code}")),
            Exit { signal: Some(signal), .. } if matches!(self.phase, Phase::Stopping { .. }) => {
                Note::normal("Exited", format!("Ended by {signal}"))
            }
            Exit { signal: Some(signal), .. } => Note::warning("Exited", format!("Ended by {signal}")),
            _ => Note::warning("Exited", "Ended, and nobody could see how"),
        };
        let mut notes = vec![note];
        notes.extend(self.take_exit(instance, exit, None, now));
        notes
    }

    /// An attempt that ended left processes running, which were killed. Worth a word if it ended as a daemon's parent does.
    pub fn left_behind(&self, attempt: u32, count: usize) -> Option<Note> {
        self.last_exit.as_ref().filter(|exit| exit.attempt == attempt && exit.is_success())?;
        let message = format!(
            "Exited with code 0 and left {count} running, which ended with it: run it in the foreground (not as a daemon), \
             or let it name its main process by sd_notify MAINPID="
        );
        Some(Note::warning("LeftBehind", message))
    }

    /// It is about to be stopped: its preStop hook comes first, if it has one and there is time for it.
    pub fn begin_pre_stop(&mut self, instance: Option<&Object<Instance>>, kill_at: Timestamp, now: Timestamp) {
        let hook = instance.is_some_and(|instance| instance.spec.lifecycle.pre_stop.is_some());
        let first = matches!(self.phase, Phase::Running(_));
        self.health.pre_stop = hook && kill_at > now && (first || self.health.pre_stop);
    }

    /// Its preStop hook is over, or took too long: now the stop signal, and a moment for it however late it is.
    pub fn pre_stop_ended(&mut self, now: Timestamp) {
        self.health.pre_stop = false;
        if let Phase::Stopping { kill_at, signal_at, .. } = &mut self.phase {
            (*signal_at, *kill_at) = (now, (*kill_at).max(now + AFTER_HOOK));
        }
    }

    /// While it stops it needs so much more time. Its stop signal is not sent again for that.
    pub fn extend_stop(&mut self, time: SignedDuration, now: Timestamp) {
        let Phase::Stopping { kill_at, signal_at, .. } = &mut self.phase else { return };
        let until = now.saturating_add(time).unwrap_or(now);
        if until > *kill_at {
            if *signal_at == *kill_at {
                *signal_at = until;
            }
            *kill_at = until;
            self.health.extended = Some(until);
        }
    }

    /// The present attempt ended, and nobody can say how.
    pub fn lost(&mut self, instance: Option<&Object<Instance>>, now: Timestamp) -> Vec<Note> {
        let start_time = self.started().map_or(now, |s| s.start_time);
        let attempt = self.attempt;
        let notes = self.ended(
            instance,
            attempt,
            &Ended { end: End::Lost, oom_killed: false, start_time, finish_time: now },
            now,
        );
        // The driver does not know it, so there is nothing to acknowledge.
        self.unacknowledged.remove(&attempt);
        notes
    }

    fn take_exit(
        &mut self,
        instance: Option<&Object<Instance>>,
        exit: Exit,
        refused: Option<&'static str>,
        now: Timestamp,
    ) -> Vec<Note> {
        self.usage = None;
        let mut notes = Vec::new();
        let message = sentence(&exit);
        let health = std::mem::take(&mut self.health);
        self.phase = match (&self.phase, instance) {
            (Phase::Removing | Phase::Removed | Phase::Released, _) => self.phase.clone(),
            (phase, Some(i)) if i.spec.adopts().is_some() => {
                use StopReason::{Deleted, Outside, Suspended};
                let reason = match phase {
                    Phase::Stopping { reason: reason @ (Deleted | Outside | Suspended), .. } => reason.word(),
                    _ => judge_taken_over(&exit, &i.spec.restart),
                };
                let message = health.dead.map_or(message.clone(), |death| format!("{}; {message}", death.message));
                exited(reason, message, i.metadata.generation)
            }
            (Phase::Stopping { reason: StopReason::Restarted, .. }, Some(_)) => {
                (self.consecutive, self.first) = (0, false);
                Self::start_at(now)
            }
            (
                Phase::Stopping { reason: reason @ (StopReason::Unhealthy | StopReason::PostStartHookError), .. },
                Some(i),
            ) => {
                if is_stable(&exit, &i.spec) {
                    self.consecutive = 0;
                }
                let message = health.dead.map_or(message.clone(), |death| format!("{}; {message}", death.message));
                let failed_start = (*reason == StopReason::PostStartHookError).then_some(START_FAILED);
                self.follow(i, judge_unhealthy(i.spec.restart_policy), failed_start, message, now, &mut notes)
            }
            (Phase::Stopping { reason, .. }, Some(instance)) => {
                exited(reason.word(), message, instance.metadata.generation)
            }
            (_, None) => exited("Deleted", message, 0),
            (_, Some(instance)) => {
                if is_stable(&exit, &instance.spec) {
                    self.consecutive = 0;
                }
                let verdict = judge(&exit, instance.spec.restart_policy, &instance.spec.restart);
                self.follow(instance, verdict, refused, message, now, &mut notes)
            }
        };
        self.untold.push(exit.clone());
        self.last_exit = Some(exit);
        notes
    }

    /// The statuses to show now, in order: one for each exit that a later one has overtaken, and how things stand.
    /// None while there is nothing new that is certain.
    pub fn tell(
        &mut self,
        instance: &Object<Instance>,
        before: &InstanceStatus,
        address: &str,
        now: Timestamp,
    ) -> Vec<InstanceStatus> {
        let Some(status) = self.status(instance, before, address, now) else { return Vec::new() };
        let last = self.exit_attempt();
        let overtaken = std::mem::take(&mut self.untold).into_iter().filter(|exit| exit.attempt != last);
        let waiting = Waiting { reason: "Starting".to_owned(), ..Waiting::default() };
        let between = overtaken.map(|exit| InstanceStatus {
            attempt: exit.attempt,
            state: InstanceState { waiting: Some(waiting.clone()), ..InstanceState::default() },
            last_exit: Some(exit),
            next_start_time: None,
            usage: None,
            ..status.clone()
        });
        let mut told: Vec<InstanceStatus> = between.collect();
        told.push(status);
        told
    }

    /// What the verdict on an exit leads to. `refused`: it was none of a process that had been started.
    fn follow(
        &mut self,
        instance: &Object<Instance>,
        verdict: Verdict,
        refused: Option<&'static str>,
        message: String,
        now: Timestamp,
        notes: &mut Vec<Note>,
    ) -> Phase {
        let (spec, generation) = (&instance.spec, instance.metadata.generation);
        match verdict {
            Verdict::End(reason) => exited(reason, message, generation),
            Verdict::Restart if spec.restart.max_restarts > 0 && self.consecutive >= spec.restart.max_restarts => {
                let message = format!("{message}, after {} restarts in a row", self.consecutive);
                notes.push(Note::warning(
                    CRASH_LOOPING,
                    "It keeps ending and is not started again until the app changes",
                ));
                exited(CRASH_LOOPING, message, generation)
            }
            Verdict::Restart => {
                // What could not be started at all does not get a first restart for free.
                let spread = backoff::spread(instance.uid().as_str(), self.attempt);
                let tries = self.consecutive.max(u32::from(refused.is_some()));
                let pause = backoff::restart(&spec.restart.backoff, tries, spread);
                (self.restart_due, self.first) = (true, false);
                self.consecutive += 1;
                let reason = match (refused, pause.is_zero()) {
                    (Some(refused), _) => refused,
                    (None, false) => "BackOff",
                    (None, true) => "Starting",
                };
                if reason == "BackOff" {
                    notes.push(Note::warning("BackOff", "Waiting before the next start"));
                }
                Phase::Waiting { reason, message, at: now + pause }
            }
        }
    }

    /// The status to show. `None` while there is nothing new that is certain.
    ///
    /// `before` is what was shown last: conditions keep their times unless they flip.
    pub fn status(
        &self,
        instance: &Object<Instance>,
        before: &InstanceStatus,
        address: &str,
        now: Timestamp,
    ) -> Option<InstanceStatus> {
        let (state, runs) = self.state()?;
        let (ready, started) = (runs && self.health.is_ready(&instance.spec), self.health.is_started(&instance.spec));
        let mut conditions = before.conditions.clone();
        let (reason, message) = match (&state.running, &state.waiting, &state.exited) {
            (Some(_), ..) => {
                let (reason, message) = self.health.condition(&instance.spec);
                (reason.to_owned(), message)
            }
            (_, Some(waiting), _) => (waiting.reason.clone(), waiting.message.clone()),
            (.., Some(exited)) => (exited.reason.clone(), exited.message.clone()),
            _ => ("Stopping".to_owned(), String::new()),
        };
        let generation = instance.metadata.generation;
        let condition = Condition::new("Ready", ready, reason, message, Time(now));
        Condition::set(&mut conditions, condition.of(generation));
        self.resizing.tell(&mut conditions, runs, generation, now);
        let next_start_time = match &self.phase {
            Phase::Waiting { at, reason, .. } if !["Starting", NOT_READY, PULLING, CONFIG_ERROR].contains(reason) => {
                Some(MicroTime(*at))
            }
            _ => None,
        };
        Some(InstanceStatus {
            observed_generation: generation,
            attempt: self.attempt,
            state,
            last_exit: self.last_exit.clone(),
            result: self.result.clone(),
            restarts: self.restarts,
            consecutive_restarts: self.consecutive,
            next_start_time,
            started: runs.then_some(started),
            restarted_at: self.restarted_at.clone(),
            address: address.to_owned(),
            usage: self.usage.clone(),
            resources: self.resizing.in_force().clone(),
            conditions,
        })
    }

    /// The state for the API, and whether a process runs that nobody stops.
    fn state(&self) -> Option<(InstanceState, bool)> {
        let mut state = InstanceState::default();
        match &self.phase {
            Phase::Unknown | Phase::Starting | Phase::Doubtful | Phase::Removing | Phase::Removed | Phase::Released => {
                return None;
            }
            Phase::Waiting { reason, message, .. } => {
                let taken_port = self.taken_port.clone();
                state.waiting = Some(Waiting { reason: (*reason).to_owned(), message: message.clone(), taken_port });
            }
            Phase::Running(Started { pid, start_time, adopted }) => {
                let start_time = MicroTime(*start_time);
                state.running = Some(Running { pid: *pid, start_time, adopted: *adopted });
                return Some((state, true));
            }
            Phase::Stopping { started, reason, kill_at, .. } => {
                state.stopping = Some(Stopping {
                    pid: started.pid,
                    start_time: MicroTime(started.start_time),
                    reason: reason.word().to_owned(),
                    kill_time: MicroTime(*kill_at),
                    adopted: started.adopted,
                    pre_stop: self.health.pre_stop,
                });
            }
            Phase::Exited { reason, message, .. } => {
                state.exited = Some(Exited { reason: reason.clone(), message: message.clone() });
            }
        }
        Some((state, false))
    }
}

fn exited(reason: &str, message: String, generation: i64) -> Phase {
    Phase::Exited { reason: reason.to_owned(), message, generation }
}

/// The phase that a stored status speaks of.
fn phase_of(status: &InstanceStatus, now: Timestamp) -> Phase {
    let started = |pid, start_time: MicroTime, adopted| Started { pid, start_time: start_time.0, adopted };
    let state = &status.state;
    if let Some(Running { pid, start_time, adopted }) = state.running {
        Phase::Running(started(pid, start_time, adopted))
    } else if let Some(stopping) = &state.stopping {
        Phase::Stopping {
            started: started(stopping.pid, stopping.start_time, stopping.adopted),
            reason: StopReason::parse(&stopping.reason),
            kill_at: stopping.kill_time.0,
            signal_at: now,
        }
    } else if let Some(Exited { reason, message }) = &state.exited {
        exited(reason, message.clone(), status.observed_generation)
    } else {
        let message = state.waiting.as_ref().map(|w| w.message.clone()).unwrap_or_default();
        let reason = match state.waiting.as_ref().map(|w| w.reason.as_str()) {
            Some("BackOff") => "BackOff",
            Some(START_FAILED) => START_FAILED,
            Some(RESOURCES_UNAVAILABLE) => RESOURCES_UNAVAILABLE,
            Some(CONFIG_ERROR) => CONFIG_ERROR,
            Some(NOT_READY) => NOT_READY,
            Some(OUTSIDE) => OUTSIDE,
            _ => "Starting",
        };
        Phase::Waiting { reason, message, at: status.next_start_time.map_or(now, |at| at.0) }
    }
}

/// Under which `restartedAt` an attempt was started that the store does not know of: the present one, unless that is later.
fn started_under(instance: &Object<Instance>, seen: &Attempt) -> String {
    let started = match seen {
        Attempt::Running(started) => started.start_time,
        Attempt::Ended(ended) => ended.start_time,
    };
    match instance.spec.restarted_at.parse::<Timestamp>() {
        Ok(asked) if asked > started => instance.status.restarted_at.clone(),
        _ => instance.spec.restarted_at.clone(),
    }
}

fn exit_of(attempt: u32, ended: &Ended) -> Exit {
    let mut exit = Exit {
        attempt,
        oom_killed: ended.oom_killed,
        start_time: Some(MicroTime(ended.start_time)),
        finish_time: Some(MicroTime(ended.finish_time)),
        ..Exit::default()
    };
    match ended.end {
        End::Code(code) => exit.code = Some(code),
        End::Signal(signal) => exit.signal = Some(signal_name(signal)),
        End::Lost => exit.lost = true,
    }
    exit
}

fn is_stable(exit: &Exit, spec: &InstanceSpec) -> bool {
    let ran = exit.finish_time.zip(exit.start_time).map(|(finish, start)| finish.0.duration_since(start.0));
    ran.is_some_and(|ran| ran.as_nanos() >= spec.restart.backoff.reset_after.0.as_nanos() as i128)
}

fn sentence(exit: &Exit) -> String {
    match exit {
        Exit { code: None, signal: None, lost: false, message, .. } => message.clone(),
        Exit { oom_killed: true, .. } => format!("attempt {} ran out of memory and {}", exit.attempt, ending(exit)),
        _ => format!("attempt {} {}", exit.attempt, ending(exit)),
    }
}

fn ending(exit: &Exit) -> String {
    match exit {
        Exit { code: Some(code), .. } => format!("exited with code {code}"),
        Exit { signal: Some(signal), .. } => format!("was ended by {signal}"),
        _ => "ended, and nobody could see how".to_owned(),
    }
}
