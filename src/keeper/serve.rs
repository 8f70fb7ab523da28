//! The keeper's loop: one thread, one epoll, nothing that blocks.
//!
//! Each turn: take what is ready, act, sweep what acknowledged attempts left behind, write the answers. A start is
//! answered when its child has executed its program, so many may be on their way at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    os::unix::net::UnixListener,
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};
use nix::{libc, sys::signalfd::SignalFd};
use rustix::{event::epoll::EventFlags, fs::Timespec, net::sockopt::socket_peercred};

use super::{
    attempts::Live,
    cgroup::{Group, Groups},
    channel::{Channel, Over, Watches},
    exec::Execs,
    input::Inputs,
    ledger::{Ledger, Line},
    memory::Memory,
    notify::Ears,
    prepare::Inherited,
    proc,
    protocol::{Answer, Call, Message, Request, VERSION},
    pump::Pump,
    tree::{self, Root},
    users::Users,
};
use crate::{
    api::Uid,
    clock::{Clock, System},
    drivers::StartKey,
    logger::control::{Order, Report},
};

/// How long sweeps wait for more of them, since each looks at every process of the machine.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_millis(20);
/// How often an emptying group is looked at: a minute. What is left then is left to the next keeper.
const MOST_LOOKS: u32 = 3000;
/// A client that lets this much wait is cut off; it comes back and looks.
const MOST_UNSENT: usize = 64 << 20;

/// What an epoll event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Listener,
    Logger,
    Client,
    Gate(StartKey),
    Adopted(StartKey),
    /// What a program beside an attempt says.
    Exec,
    /// What an attempt says by sd_notify.
    Notify(StartKey),
}

/// Somebody who waits for an answer: a client's token, and the id of its request.
pub(super) type Waiting = (u64, u64);

#[derive(Debug)]
struct Client {
    channel: Channel,
    greeted: bool,
}

/// What the loop leaves to its caller.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing runs, or a signal asked for it.
    Quit,
    /// Become this executable.
    Replace { exe: PathBuf, asked_by: Waiting },
}

/// Everything that the keeper has.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) ledger: Ledger,
    pub(super) pump: Pump,
    pub(super) listener: UnixListener,
    pub(super) inherited: Inherited,
    pub(super) live: BTreeMap<StartKey, Live>,
    pub(super) by_pid: HashMap<i32, StartKey>,
    pub(super) watches: Watches<Source>,
    pub(super) users: Users,
    pub(super) execs: Execs,
    pub(super) ears: Ears,
    pub(super) groups: Groups,
    pub(super) memory: Memory,
    pub(super) inputs: Inputs,
    /// Groups whose processes are being killed: removed when they are empty, or given up after so many looks.
    pub(super) leaving: Vec<(Group, u32)>,
    /// Ends that are forgotten; what they left behind is not killed yet.
    pub(super) acknowledged: Vec<(Root, Waiting)>,
    /// Attempts that ended when all our children were known: nobody has to be sought whom they left behind.
    pub(super) left_nobody: BTreeSet<StartKey>,
    /// Instances that the logger has not let go of yet.
    pub(super) removing: Vec<(Uid, Waiting)>,
    signals: SignalFd,
    build: String,
    clients: HashMap<u64, Client>,
    swept: Timestamp,
    outcome: Option<Outcome>,
}

impl Keeper {
    pub(super) fn new(
        ledger: Ledger,
        listener: UnixListener,
        signals: SignalFd,
        build: String,
        inherited: Inherited,
    ) -> io::Result<Self> {
        let mut watches = Watches::new()?;
        listener.set_nonblocking(true)?;
        watches.add(&listener, Source::Listener)?;
        watches.add(&signals, Source::Signals)?;
        Ok(Self {
            ledger,
            pump: Pump::default(),
            listener,
            inherited,
            live: BTreeMap::new(),
            by_pid: HashMap::new(),
            watches,
            users: Users::default(),
            execs: Execs::default(),
            ears: Ears::default(),
            groups: Groups::find(),
            memory: Memory::recorded(),
            inputs: Inputs::default(),
            leaving: Vec::new(),
            acknowledged: Vec::new(),
            left_nobody: BTreeSet::new(),
            removing: Vec::new(),
            signals,
            build,
            clients: HashMap::new(),
            swept: Timestamp::UNIX_EPOCH,
            outcome: None,
        })
    }

    /// Runs until there is nothing more to do here. May be called again if the replacement failed.
    pub(super) fn run(&mut self) -> io::Result<Outcome> {
        let mut ready = Vec::with_capacity(256);
        // Exits may have come while nobody looked.
        self.reap();
        loop {
            let now = System.now();
            self.housekeep(now);
            self.pump.tidy_up(self.ledger.book());
            self.flush();
            if self.live.values().all(Live::is_underway)
                && self.leaving.is_empty()
                && let Some(outcome) = self.outcome.take()
            {
                if matches!(outcome, Outcome::Quit) {
                    self.groups.leave();
                    // What a logger still reads it by is left to the next keeper.
                    if self.live.is_empty() && self.pump.taps.is_empty() {
                        self.memory.leave();
                    }
                }
                return Ok(outcome);
            }
            self.watches.wait(&mut ready, self.timeout(now).as_ref())?;
            for event in ready.drain(..) {
                let token = event.data.u64();
                match self.watches.source(token) {
                    Some(Source::Signals) => self.signalled(),
                    Some(Source::Listener) => self.accept(),
                    Some(Source::Logger) => self.logger_says(token),
                    Some(Source::Client) => self.client_says(token, event.flags),
                    Some(Source::Gate(key)) => self.close_gate(&key),
                    Some(Source::Adopted(key)) => self.adopted_ended(token, &key),
                    Some(Source::Exec) => self.exec_says(token),
                    Some(Source::Notify(key)) => self.hear(&key),
                    None => {}
                }
            }
        }
    }

    /// What is due by time: the logger's start, sweeps, programs that take too long.
    fn housekeep(&mut self, now: Timestamp) {
        if self.pump.is_due(now) {
            self.start_logger(now);
        }
        if self.execs.next_deadline().is_some() {
            self.end_slow_execs(System.uptime());
        }
        let sweeps = !self.acknowledged.is_empty() || !self.leaving.is_empty();
        if sweeps && now.duration_since(self.swept).abs() >= SWEEP_EVERY {
            self.swept = now;
            self.leaving.retain_mut(|(group, looks)| {
                *looks += 1;
                !group.remove() && *looks < MOST_LOOKS
            });
        }
        if !self.acknowledged.is_empty() && self.swept == now {
            let (roots, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.acknowledged).into_iter().unzip();
            let left = tree::sweep(&roots, &self.spared());
            for (key, count) in left {
                self.tell_all(&Message::LeftBehind { key, count });
            }
            waiting.into_iter().for_each(|to| self.answer(to, Answer::Done));
        }
    }

    fn timeout(&self, now: Timestamp) -> Option<Timespec> {
        let sweeps = !self.acknowledged.is_empty() || !self.leaving.is_empty();
        let sweep = sweeps.then(|| self.swept + SWEEP_EVERY);
        let due = self.pump.due().into_iter().chain(sweep).min();
        let exec = self.execs.next_deadline().map(|at| at.saturating_sub(System.uptime()));
        let exec = exec.and_then(|left| SignedDuration::try_from(left).ok());
        let left = due.map(|due| due.duration_since(now).max(SignedDuration::ZERO)).into_iter().chain(exec).min()?;
        let left = left + SignedDuration::from_micros(500);
        Some(Timespec { tv_sec: left.as_secs(), tv_nsec: i64::from(left.subsec_nanos()) })
    }

    fn start_logger(&mut self, now: Timestamp) {
        match self.pump.start(self.ledger.book(), &mut self.watches, now) {
            Ok(pid) => {
                let ticks = proc::stat(pid).map_or(0, |stat| stat.ticks);
                self.ledger.append_or_remember(Line::Logger { pid, ticks });
            }
            Err(e) => {
                complain(&format!("the logger cannot be started: {e}"));
                self.pump.retry_at(now + SignedDuration::from_secs(1));
            }
        }
    }

    fn logger_says(&mut self, token: u64) {
        let received = self.pump.receive();
        for report in received.frames {
            match report {
                Report::Drained { key } => self.pump.drained(&key, self.ledger.book()),
                Report::Withheld { key } => self.tell_all(&Message::Withheld { key }),
                Report::Dropped { uid } => {
                    let done = self.removing.extract_if(.., |(removed, _)| *removed == uid).collect::<Vec<_>>();
                    done.into_iter().for_each(|(_, to)| self.answer(to, Answer::Done));
                }
            }
        }
        if received.over.is_some() {
            // It is dying; the rest follows when it is reaped.
            self.watches.forget(token);
            self.pump.hang_up();
        }
    }

    /// The logger died: it writes nothing any more, and its successor will not be told of what was removed.
    pub(super) fn logger_died(&mut self) {
        self.pump.died(System.now());
        for (_, to) in std::mem::take(&mut self.removing) {
            self.answer(to, Answer::Done);
        }
    }

    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGTERM) => self.outcome = Some(Outcome::Quit),
                Ok(libc::SIGCHLD) => self.reap(),
                _ => {}
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // Out of descriptors: the caller stays in line. A short pause, or this loop would run hot.
                Err(_) => return std::thread::sleep(std::time::Duration::from_millis(5)),
            };
            let me = rustix::process::geteuid();
            let peer = socket_peercred(&socket).map(|peer| peer.uid);
            if !peer.is_ok_and(|uid| uid == me || uid.is_root()) {
                continue;
            }
            let Ok(channel) = Channel::new(socket) else { continue };
            if let Ok(token) = self.watches.add(channel.socket(), Source::Client) {
                self.clients.insert(token, Client { channel, greeted: false });
            }
        }
    }

    fn client_says(&mut self, token: u64, flags: EventFlags) {
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        let received = client.channel.receive::<Call>();
        for call in received.frames {
            self.handle((token, call.id), call.request);
        }
        match received.over {
            None => {}
            Some(Over::Closed) => self.part_with(token),
            Some(why) => {
                complain(&format!("a client is cut off: {why}"));
                self.part_with(token);
            }
        }
    }

    /// The processes of appm: this one, the logger, and whoever is connected.
    pub(super) fn own_processes(&self) -> impl Iterator<Item = i32> {
        let peers = self.clients.values().filter_map(|client| socket_peercred(client.channel.socket()).ok());
        let peers = peers.map(|peer| peer.pid.as_raw_nonzero().get());
        peers.chain(self.pump.pid()).chain([own_pid()])
    }

    fn part_with(&mut self, token: u64) {
        self.clients.remove(&token);
        self.client_feeds_no_more(token);
        self.watches.forget(token);
    }

    fn handle(&mut self, to: Waiting, request: Request) {
        let greeted = self.clients.get(&to.0).is_some_and(|client| client.greeted);
        match request {
            Request::Hello { version } => self.hello(to, version),
            // Asked for by clients of other versions above all.
            Request::Replace { exe } => self.outcome = Some(Outcome::Replace { exe, asked_by: to }),
            _ if !greeted => self.answer(to, Answer::Failed("say hello first".to_owned())),
            Request::List => self.list(to),
            Request::Start(start) => self.start(to, start),
            Request::Signal { key, signal, reach } => self.signal(to, &key, signal, reach),
            Request::Exec { key, exec } => self.exec(to, key, exec),
            Request::Notified { key } => self.notified(to, &key),
            Request::OpenInput { key } => self.open_input(to, &key),
            Request::CloseInput { key, whole } => self.close_input(to, &key, whole),
            Request::Acknowledge { key } => self.acknowledge(to, key),
            Request::Remove { uid } => self.remove(to, uid),
            Request::SetLogs { uid, limits } => {
                self.ledger.append_or_remember(Line::Logs { uid: uid.clone(), limits });
                self.pump.order(&Order::Limits { uid, limits });
                self.answer(to, Answer::Done);
            }
            Request::SetLimits { key, limits } => self.set_limits(to, &key, &limits),
            Request::Quit => self.quit(to),
        }
    }

    fn hello(&mut self, to: Waiting, version: u32) {
        if let Some(client) = self.clients.get_mut(&to.0) {
            client.greeted = version == VERSION;
        }
        let pid = own_pid();
        self.answer(to, Answer::Hello { version: VERSION, build: self.build.clone(), pid });
    }

    fn quit(&mut self, to: Waiting) {
        if !self.ledger.book().attempts.is_empty() {
            return self.answer(to, Answer::Failed("attempts run or wait to be acknowledged".to_owned()));
        }
        self.groups.leave();
        self.outcome = Some(Outcome::Quit);
        self.answer(to, Answer::Done);
    }

    pub(super) fn answer(&mut self, to: Waiting, answer: Answer) {
        if let Some(client) = self.clients.get_mut(&to.0) {
            client.channel.put(&Message::Answer { id: to.1, answer });
        }
    }

    pub(super) fn tell_all(&mut self, message: &Message) {
        for client in self.clients.values_mut().filter(|client| client.greeted) {
            client.channel.put(message);
        }
    }

    /// Writes what waits for clients and for the logger, as far as they take it.
    fn flush(&mut self) {
        self.pump.flush(&self.watches);
        let mut gone = Vec::new();
        for (token, client) in &mut self.clients {
            let written = client.channel.flush(&self.watches, *token);
            if written.is_err() || client.channel.unsent() > MOST_UNSENT {
                gone.push(*token);
            }
        }
        gone.into_iter().for_each(|token| self.part_with(token));
    }
}

/// This process.
pub(super) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("process ids are small")
}

/// Says something to whoever reads the keeper's standard error.
#[allow(clippy::print_stderr, reason = "the keeper's standard error is its log file")]
pub(super) fn complain(what: &str) {
    eprintln!("{} appm keeper: {what}", System.now());
}
