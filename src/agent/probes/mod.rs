//! Asks running instances how they are doing: all probes of this node, on one timer heap.
//!
//! ```text
//!   pump ── Watch, Forget, Heard ──► Prober ── exec, notified ──► driver
//!        ◄── Turn, Failed, Words ───        ── HTTP, TCP ───────► the instance
//! ```
//! A task of its own, so that asking never stands in the way of a restart. What answers mean is judged in
//! [`crate::policy::probe`]; here they are timed and bounded. At most so many questions *younger than a second* are under way
//! ([`Room`]): a burst is spread, and those that hang to their timeout delay nobody. Answers that come after their attempt has
//! ended, or that nobody could get, change nothing.
//!
//! Time is the clock's uptime, which nobody sets.

pub(super) mod ask;
mod room;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::mpsc;

use self::{
    ask::{Answer, Place},
    room::Room,
};
use crate::{
    agent::forms::{Drivers, Form},
    api::{Probe, Uid},
    clock::SharedClock,
    drivers::{Notified, SharedDriver, StartKey},
    policy::probe::{Checks, Outcome, Probes, Purpose, Rhythm, Turn},
};

/// The same failure is told again after this long, another one after that long.
const TELL_SAME: Duration = Duration::from_secs(60);
const TELL_OTHER: Duration = Duration::from_secs(5);
/// What an instance says of itself is passed on at most so often.
const WORDS_EVERY: Duration = Duration::from_secs(2);
/// How much longer than its own timeout a command may take before the driver is given up.
const DRIVER_PATIENCE: Duration = Duration::from_secs(5);

/// What the pump says.
#[derive(Debug)]
pub(super) enum Command {
    /// Ask about this attempt, or with other probes than before.
    Watch(Box<Subject>),
    /// It does not run any more.
    Forget(Uid),
    /// It has said something by sd_notify.
    Heard(StartKey, Notified),
    /// Something that was said may have been missed.
    Resync,
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct Subject {
    pub place: Place,
    pub probes: Probes,
    /// How long it has been running.
    pub age: Duration,
    /// It was started a moment ago; otherwise it was found running.
    pub fresh: bool,
    /// What is known of it already.
    pub started: bool,
    pub ready: bool,
}

/// What the prober says.
#[derive(Debug)]
pub(super) enum Report {
    /// A verdict turned.
    Turn { key: StartKey, turn: Turn, message: String, grace_seconds: Option<i64> },
    /// A question was answered with no.
    Failed { key: StartKey, message: String },
    /// What it says of itself.
    Words { key: StartKey, words: String },
}

/// One attempt and its probes.
struct Watched {
    /// Tells answers to earlier questions from those to later ones.
    id: u64,
    place: Place,
    probes: Probes,
    checks: Checks,
    fresh: bool,
    /// When it was started.
    began: Duration,
    asked: [Asked; 3],
    /// `EXTEND_TIMEOUT_USEC`: until then it is not late with its start, and not silent.
    extended: Duration,
    /// How often it has been heard. An answer may be overtaken by what was said after it.
    heard: u64,
    words: String,
    words_told: Duration,
}

/// One probe of it.
#[derive(Default)]
struct Asked {
    rhythm: Option<Rhythm>,
    /// When the next question is due, and whether it counts.
    due: Option<(Duration, bool)>,
    /// A question is under way.
    waits: bool,
    /// No question is due before something is heard.
    parked: bool,
    /// Since when it has been asked.
    since: Duration,
    told: Option<(String, Duration)>,
}

impl Asked {
    /// The next question is not to be asked.
    fn withdraw(&mut self, due: &mut BTreeSet<(Duration, Uid, Purpose)>, uid: &Uid, purpose: Purpose) {
        if let Some((at, _)) = self.due.take() {
            due.remove(&(at, uid.clone(), purpose));
        }
    }
}

/// A question is over.
struct Done {
    uid: Uid,
    id: u64,
    purpose: Purpose,
    counts: bool,
    lane: Lane,
    asked_at: Duration,
    /// How often it had been heard when it was asked.
    heard: u64,
    what: What,
}

enum What {
    Answer(Answer),
    Said(Option<Notified>),
}

/// Questions that stand in line together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Each is a process.
    Exec,
    /// Each is a connection.
    Net,
}

impl Lane {
    fn of(probe: &Probe) -> Self {
        if probe.exec.is_some() { Lane::Exec } else { Lane::Net }
    }
}

/// See the module.
pub(super) struct Prober {
    drivers: Drivers,
    clock: SharedClock,
    commands: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::UnboundedSender<Report>,
    watched: BTreeMap<Uid, Watched>,
    due: [BTreeSet<(Duration, Uid, Purpose)>; 2],
    rooms: [Room; 2],
    words_due: BTreeSet<(Duration, Uid)>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    last_id: u64,
}

/// The pump's side of it.
pub(super) struct Probing {
    commands: mpsc::UnboundedSender<Command>,
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Probing {
    /// Starts a prober, which ends when this is dropped.
    pub(super) fn start(drivers: Drivers, clock: SharedClock) -> Self {
        let (commands, commanded) = mpsc::unbounded_channel();
        let (reporter, reports) = mpsc::unbounded_channel();
        let prober = Prober {
            drivers,
            clock,
            commands: commanded,
            reports: reporter,
            watched: BTreeMap::new(),
            due: Default::default(),
            rooms: [Room::new(16, 128), Room::new(64, 2048)],
            words_due: BTreeSet::new(),
            running: FuturesUnordered::new(),
            last_id: 0,
        };
        tokio::spawn(prober.run());
        Self { commands, reports }
    }

    pub(super) fn tell(&self, command: Command) {
        // It ends after us.
        let _ = self.commands.send(command);
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }
}

impl Prober {
    async fn run(mut self) {
        loop {
            let wake = self.wake();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(done) = self.running.next() => self.done(done),
                () = wake => {}
            }
            self.ask_due();
            self.tell_words();
        }
    }

    fn wake(&self) -> BoxFuture<'static, ()> {
        let now = self.clock.uptime();
        let questions = self.due.iter().zip(&self.rooms).filter_map(|(due, room)| {
            let (at, ..) = due.first()?;
            room.free_at(now).map(|free| free.max(*at))
        });
        match questions.chain(self.words_due.first().map(|(at, _)| *at)).min() {
            Some(at) => self.clock.sleep(at.saturating_sub(now)),
            None => Box::pin(futures::future::pending()),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Watch(subject) => self.watch(*subject),
            Command::Forget(uid) => self.forget(&uid),
            Command::Heard(key, said) => {
                if self.watched.get(&key.uid).is_some_and(|watched| watched.place.key == key) {
                    self.heard(&key.uid, &said);
                }
            }
            Command::Resync => {
                for uid in self.watched.keys().cloned().collect::<Vec<_>>() {
                    self.watched
                        .get_mut(&uid)
                        .into_iter()
                        .for_each(|w| w.asked.iter_mut().for_each(|a| a.parked = false));
                    self.schedule(&uid);
                }
            }
        }
    }

    fn watch(&mut self, subject: Subject) {
        let now = self.clock.uptime();
        let uid = subject.place.key.uid.clone();
        let Subject { place, probes, age, fresh, started, ready } = subject;
        match self.watched.get_mut(&uid).filter(|watched| watched.place.key == place.key) {
            Some(watched) => {
                for purpose in Purpose::ALL.into_iter().filter(|p| probes.get(*p) != watched.probes.get(*p)) {
                    if let Some(before) = watched.probes.get(purpose) {
                        let due = &mut self.due[Lane::of(before) as usize];
                        watched.asked[purpose as usize].withdraw(due, &uid, purpose);
                    }
                    let waits = watched.asked[purpose as usize].waits;
                    watched.asked[purpose as usize] = Asked { waits, ..Asked::default() };
                    watched.checks.reset(purpose, started, ready);
                }
                (watched.place, watched.probes) = (place, probes);
            }
            None => {
                self.forget(&uid);
                self.last_id += 1;
                let watched = Watched {
                    id: self.last_id,
                    place,
                    probes,
                    checks: Checks::new(started, ready),
                    fresh,
                    began: now.saturating_sub(age),
                    asked: Default::default(),
                    extended: Duration::ZERO,
                    heard: 0,
                    words: String::new(),
                    words_told: Duration::ZERO,
                };
                self.watched.insert(uid.clone(), watched);
            }
        }
        self.schedule(&uid);
    }

    fn forget(&mut self, uid: &Uid) {
        let Some(mut watched) = self.watched.remove(uid) else { return };
        for purpose in Purpose::ALL {
            if let Some(probe) = watched.probes.get(purpose) {
                watched.asked[purpose as usize].withdraw(&mut self.due[Lane::of(probe) as usize], uid, purpose);
            }
        }
    }

    /// Puts the next question of each probe on the heap, where one makes sense and none is there or under way.
    fn schedule(&mut self, uid: &Uid) {
        let now = self.clock.uptime();
        let Some(watched) = self.watched.get_mut(uid) else { return };
        for purpose in Purpose::ALL {
            let asks = watched.checks.asks(purpose, &watched.probes);
            let Some(probe) = watched.probes.get(purpose) else { continue };
            let asked = &mut watched.asked[purpose as usize];
            let due = &mut self.due[Lane::of(probe) as usize];
            if !asks {
                asked.withdraw(due, uid, purpose);
                continue;
            }
            if asked.due.is_some() || asked.waits || asked.parked {
                continue;
            }
            let hopes = probe.notify.is_none() && watched.checks.hopes(purpose);
            let rhythm = asked.rhythm.get_or_insert_with(|| {
                let first = now.max(watched.began + seconds(probe.initial_delay_seconds));
                let spread = if watched.fresh || hopes { 0 } else { self.clock.random() % 1024 };
                asked.since = now;
                Rhythm::new(first + seconds(probe.period_seconds) * u32::try_from(spread).unwrap_or(0) / 1024)
            });
            let next = rhythm.next(now, hopes);
            asked.due = Some(next);
            due.insert((next.0, uid.clone(), purpose));
        }
    }

    fn ask_due(&mut self) {
        let now = self.clock.uptime();
        for lane in [Lane::Exec, Lane::Net] {
            while self.rooms[lane as usize].has_place(now)
                && self.due[lane as usize].first().is_some_and(|(at, ..)| *at <= now)
                && let Some((_, uid, purpose)) = self.due[lane as usize].pop_first()
            {
                self.ask(uid, purpose, lane, now);
            }
        }
    }

    fn ask(&mut self, uid: Uid, purpose: Purpose, lane: Lane, now: Duration) {
        let Some(watched) = self.watched.get_mut(&uid) else { return };
        let Some(probe) = watched.probes.get(purpose).cloned() else { return };
        let asked = &mut watched.asked[purpose as usize];
        let counts = asked.due.take().is_none_or(|(_, counts)| counts);
        if let Some(rhythm) = &mut asked.rhythm {
            let first = watched.checks.is_fresh(purpose).then(|| self.clock.random());
            rhythm.asked(counts, now, seconds(probe.period_seconds), first);
        }
        asked.waits = true;
        self.rooms[lane as usize].enter(now);
        let driver = self.drivers.of(Form::of(&watched.place.instance)).clone();
        let (clock, place) = (self.clock.clone(), watched.place.clone());
        let (id, heard) = (watched.id, watched.heard);
        self.running.push(Box::pin(async move {
            let what = question(&driver, &clock, &place, &probe).await;
            Done { uid, id, purpose, counts, lane, asked_at: now, heard, what }
        }));
    }

    fn done(&mut self, done: Done) {
        self.rooms[done.lane as usize].leave(done.asked_at);
        let Some(watched) = self.watched.get_mut(&done.uid).filter(|watched| watched.id == done.id) else { return };
        watched.asked[done.purpose as usize].waits = false;
        match done.what {
            What::Said(Some(_)) if watched.heard != done.heard => {}
            What::Said(Some(said)) => {
                self.judge_words(&done.uid, done.purpose, &said, true);
                self.words(&done.uid, &said);
            }
            What::Said(None) => {
                // It was started without a socket, before it had this probe: nothing will ever be heard of it.
                watched.asked[done.purpose as usize].parked = true;
            }
            What::Answer(Answer::Yes) => self.take(&done.uid, done.purpose, Outcome::Success, String::new()),
            What::Answer(Answer::No(why)) => {
                let outcome = if done.counts { Outcome::Failure } else { Outcome::NotYet };
                self.take(&done.uid, done.purpose, outcome, why);
            }
            What::Answer(Answer::Unknown(why)) => {
                tracing::debug!(key = %watched.place.key, why, "a probe could not ask")
            }
        }
        self.schedule(&done.uid);
    }

    /// An answer is there: what it turns, and what is told of it.
    fn take(&mut self, uid: &Uid, purpose: Purpose, outcome: Outcome, why: String) {
        let now = self.clock.uptime();
        let Some(watched) = self.watched.get_mut(uid) else { return };
        if !watched.checks.asks(purpose, &watched.probes) {
            return;
        }
        let has_time = purpose == Purpose::Startup && now < watched.extended;
        let outcome = if has_time && outcome == Outcome::Failure { Outcome::NotYet } else { outcome };
        let key = watched.place.key.clone();
        let message = match why.is_empty() {
            true => String::new(),
            false => format!("{} probe failed: {why}", purpose.word()),
        };
        let grace_seconds = watched.probes.get(purpose).and_then(|probe| probe.termination_grace_period_seconds);
        let turn = watched.checks.take(purpose, outcome, &watched.probes);
        let told = &mut watched.asked[purpose as usize].told;
        let lately = told
            .as_ref()
            .is_some_and(|(told, at)| now.saturating_sub(*at) < if *told == message { TELL_SAME } else { TELL_OTHER });
        if matches!(outcome, Outcome::Failure | Outcome::Certain(false)) && (turn.is_some() || !lately) {
            *told = Some((message.clone(), now));
            self.report(Report::Failed { key: key.clone(), message: message.clone() });
        }
        if let Some(turn) = turn {
            self.report(Report::Turn { key, turn, message, grace_seconds });
        }
    }

    /// Something was said: judged at once by every probe that listens.
    fn heard(&mut self, uid: &Uid, said: &Notified) {
        self.watched.get_mut(uid).into_iter().for_each(|watched| watched.heard += 1);
        for purpose in Purpose::ALL {
            self.judge_words(uid, purpose, said, false);
        }
        self.words(uid, said);
        self.schedule(uid);
    }

    /// What is said by sd_notify is believed at once, whatever the thresholds. `was_due`: the question was due by time.
    fn judge_words(&mut self, uid: &Uid, purpose: Purpose, said: &Notified, was_due: bool) {
        let now = self.clock.uptime();
        let Some(watched) = self.watched.get_mut(uid) else { return };
        if let Some(time) = said.extended {
            watched.extended = watched.extended.max(now + time);
        }
        let extended = watched.extended;
        let Some(probe) = watched.probes.get(purpose).cloned() else { return };
        let Some(notify) = probe.notify.filter(|_| watched.checks.asks(purpose, &watched.probes)) else { return };
        let asked = &mut watched.asked[purpose as usize];
        let (outcome, why) = match purpose {
            Purpose::Startup | Purpose::Readiness if said.stopping => {
                (Outcome::Certain(false), "it says STOPPING=1".to_owned())
            }
            Purpose::Startup | Purpose::Readiness if said.ready => (Outcome::Certain(true), String::new()),
            Purpose::Startup if was_due => (Outcome::Failure, "it has not said READY=1".to_owned()),
            Purpose::Startup | Purpose::Readiness => (Outcome::NotYet, String::new()),
            Purpose::Liveness if said.trigger => (Outcome::Certain(false), "it says WATCHDOG=trigger".to_owned()),
            Purpose::Liveness => {
                let Some(most) = said.watchdog.or(notify.watchdog.map(|watchdog| watchdog.0)) else { return };
                let silent = said.silent.min(now.saturating_sub(asked.since));
                let left = most.saturating_sub(silent).max(extended.saturating_sub(now));
                if !left.is_zero() {
                    let lane = Lane::of(&probe) as usize;
                    asked.withdraw(&mut self.due[lane], uid, purpose);
                    let at = now + left;
                    asked.due = Some((at, true));
                    self.due[lane].insert((at, uid.clone(), purpose));
                    return;
                }
                (Outcome::Certain(false), format!("it has not said WATCHDOG=1 for {:.1}s", silent.as_secs_f64()))
            }
        };
        asked.parked = purpose == Purpose::Readiness;
        self.take(uid, purpose, outcome, why);
    }

    fn words(&mut self, uid: &Uid, said: &Notified) {
        let Some(watched) = self.watched.get_mut(uid) else { return };
        let words = if said.reloading { format!("reloading {}", said.status) } else { said.status.clone() };
        let words = words.trim_end();
        if watched.words != words {
            watched.words = words.to_owned();
            let at = self.clock.uptime().max(watched.words_told + WORDS_EVERY);
            self.words_due.insert((at, uid.clone()));
        }
    }

    fn tell_words(&mut self) {
        let now = self.clock.uptime();
        while self.words_due.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, uid)) = self.words_due.pop_first()
        {
            let Some(watched) = self.watched.get_mut(&uid) else { continue };
            watched.words_told = now;
            let (key, words) = (watched.place.key.clone(), watched.words.clone());
            self.report(Report::Words { key, words });
        }
    }

    fn report(&self, report: Report) {
        // Nobody listens when the agent has ended.
        let _ = self.reports.send(report);
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.unsigned_abs().into())
}

/// Asks once. Whatever answers too late has not answered.
async fn question(driver: &SharedDriver, clock: &SharedClock, place: &Place, probe: &Probe) -> What {
    let timeout = seconds(probe.timeout_seconds);
    let (patience, late) = match (&probe.exec, &probe.notify) {
        (None, None) => (timeout, Answer::No(format!("no answer within {timeout:?}"))),
        _ => (timeout + DRIVER_PATIENCE, Answer::Unknown("the driver did not answer".to_owned())),
    };
    let asking = async {
        match probe {
            Probe { exec: Some(exec), .. } => What::Answer(ask::exec(&**driver, place, exec, timeout, None).await),
            Probe { http_get: Some(get), .. } => What::Answer(ask::http(&**driver, place, get).await),
            Probe { tcp_socket: Some(tcp), .. } => What::Answer(ask::tcp(&**driver, place, tcp).await),
            _ => match driver.notified(&place.key).await {
                Ok(said) => What::Said(said),
                Err(why) => What::Answer(Answer::Unknown(why.to_string())),
            },
        }
    };
    tokio::select! {
        biased;
        what = asking => what,
        () = clock.sleep(patience) => What::Answer(late),
    }
}
