//! What the keeper does about attempts: start, watch, signal, acknowledge, remove.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use jiff::Timestamp;
use nix::libc;
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, wait};

use super::{
    cgroup::Group,
    exec::Origin,
    ledger::{Line, Recorded},
    prepare::{self, PrepareError},
    proc,
    protocol::{Answer, Message},
    serve::{Keeper, Source, Waiting, complain, own_pid},
    spawn::{self, Failure},
    tree::{self, Root},
};
use crate::{
    api::Uid,
    clock::{Clock, System},
    drivers::{Attempt, End, Ended, Limits, Notified, Reach, Start, StartError, StartKey, Started},
    logger::control::Order,
};

/// A child that was released and has not executed its program yet.
#[derive(Debug)]
struct Gate {
    socket: UnixStream,
    token: Option<u64>,
    start: Box<Start>,
    waiting: Vec<Waiting>,
}

/// A process that runs for an attempt.
#[derive(Debug)]
pub(super) struct Live {
    pub pid: i32,
    pub ticks: u64,
    pub at: Timestamp,
    /// Held if it is not our child.
    pub pidfd: Option<OwnedFd>,
    gate: Option<Gate>,
    /// What it was started with; unknown if somebody else started it.
    pub origin: Option<Origin>,
}

impl Live {
    /// One that executes its program already.
    pub(super) fn underway(pid: i32, ticks: u64, at: Timestamp) -> Self {
        Self { pid, ticks, at, pidfd: None, gate: None, origin: None }
    }

    /// It has executed its program.
    pub(super) fn is_underway(&self) -> bool {
        self.gate.is_none()
    }
}

impl Keeper {
    /// Takes what the ledger knows to run: as our children (after a replacement), or as processes of a keeper that died.
    /// `ears` are the sockets that were handed over.
    pub(super) fn take_over(
        &mut self,
        is_child: &dyn Fn(&StartKey) -> bool,
        mut ears: BTreeMap<StartKey, OwnedFd>,
    ) -> io::Result<()> {
        let recorded: Vec<_> = self
            .ledger
            .book()
            .attempts
            .iter()
            .filter(|(_, r)| r.ended.is_none())
            .map(|(k, r)| (k.clone(), r.clone()))
            .collect();
        for (key, attempt) in recorded {
            let child = is_child(&key);
            let Recorded { pid, ticks, at, said, .. } = attempt;
            self.by_pid.insert(pid, key.clone());
            self.live.insert(key.clone(), Live::underway(pid, ticks, at));
            if let Some(said) = said {
                let listening = match ears.remove(&key) {
                    Some(socket) => self.listen_by(&key, socket, said),
                    None => self.listen_to(&key, said),
                };
                listening.unwrap_or_else(|e| complain(&format!("`{key}` cannot be listened to: {e}")));
            }
            if !child && self.hold(&key, pid, ticks).is_none() {
                self.end(&key, End::Lost);
            }
        }
        Ok(())
    }

    /// Makes a process an attempt's main one; by a pidfd if it is not our child. `None` if it is gone.
    pub(super) fn hold(&mut self, key: &StartKey, pid: i32, ticks: u64) -> Option<()> {
        let pidfd = pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        if !proc::runs(pid, ticks) {
            return None;
        }
        let is_child = proc::stat(pid)?.ppid == own_pid();
        if !is_child {
            self.watches.add(&pidfd, Source::Adopted(key.clone())).ok()?;
        }
        let live = self.live.get_mut(key)?;
        self.by_pid.remove(&live.pid);
        self.by_pid.insert(pid, key.clone());
        (live.pid, live.ticks, live.pidfd) = (pid, ticks, (!is_child).then_some(pidfd));
        Some(())
    }

    /// Takes every exit there is. Those of orphans that fell to us are taken silently.
    pub(super) fn reap(&mut self) {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            let end = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => End::Code(code),
                (None, Some(signal)) => End::Signal(signal),
                (None, None) => continue,
            };
            if let Some(key) = self.by_pid.get(&pid).cloned() {
                self.close_gate(&key);
                // It may have named its successor with its last breath.
                self.hear(&key);
                if self.by_pid.contains_key(&pid) {
                    let ours = self.live.get(&key).is_some_and(|live| live.pidfd.is_none());
                    self.end(&key, end);
                    ended.extend(ours.then_some(key));
                }
            } else if self.exec_ended(pid, status.exit_status()) {
            } else if self.pump.pid() == Some(pid) {
                self.logger_died();
            }
        }
        if !ended.is_empty() && self.knows_its_children() {
            self.left_nobody.extend(ended);
        }
    }

    /// True if there is nobody among our children whom an attempt of ours may have left behind: all that it ever started were our
    /// descendants, and those whose parents are gone are our children.
    fn knows_its_children(&self) -> bool {
        let known = self.spared();
        proc::children().is_some_and(|children| children.into_iter().all(known))
    }

    /// An attempt's process is gone.
    pub(super) fn end(&mut self, key: &StartKey, end: End) {
        let Some(live) = self.live.remove(key) else { return };
        self.by_pid.remove(&live.pid);
        self.stop_listening(key);
        self.inputs.forget(key);
        let oom_killed = end != End::Code(0) && self.group_of(key).oom_kills() > 0;
        let ended = Ended { end, oom_killed, start_time: live.at, finish_time: System.now() };
        self.ledger.append_or_remember(Line::End { key: key.clone(), ended: ended.clone() });
        let refused = live.gate.is_some();
        if !refused {
            self.tell_all(&Message::Ended { key: key.clone(), ended });
        }
    }

    /// A process that was not our child is gone. It may have fallen to us meanwhile: then its exit is there to be taken.
    pub(super) fn adopted_ended(&mut self, token: u64, key: &StartKey) {
        self.watches.forget(token);
        self.reap();
        let Some(live) = self.live.get(key) else { return };
        if !proc::runs(live.pid, live.ticks) {
            self.end(key, End::Lost);
        }
    }

    /// The child has executed its program, or has said why it cannot. In the latter case it stays behind its gate, so
    /// that its exit is taken for no more than the end of a refused start.
    pub(super) fn close_gate(&mut self, key: &StartKey) {
        let Some(live) = self.live.get_mut(key) else { return };
        let Some(mut gate) = live.gate.take() else { return };
        gate.token.into_iter().for_each(|token| self.watches.forget(token));
        let started = Started { pid: live.pid, start_time: live.at, adopted: false };
        let mut said = [0; Failure::LENGTH];
        let length = gate.socket.read(&mut said).unwrap_or(0);
        let waiting = std::mem::take(&mut gate.waiting);
        let answer = match Failure::from_bytes(&said[..length]) {
            Some(failure) => {
                let why = prepare::explain(&gate.start, failure, prepare::COMMAND);
                if let Some(live) = self.live.get_mut(key) {
                    live.gate = Some(gate);
                }
                // The exit that follows is the refusal's.
                self.end(key, End::Code(if failure.errno == libc::ENOENT { 127 } else { 126 }));
                Answer::NotStarted(StartError::Refused(why))
            }
            None => {
                if let Some(live) = self.live.get_mut(key) {
                    live.origin = Some(Origin::of(*gate.start));
                }
                Answer::Started(started)
            }
        };
        waiting.into_iter().for_each(|to| self.answer(to, answer.clone()));
    }

    pub(super) fn list(&mut self, to: Waiting) {
        let attempts = &self.ledger.book().attempts;
        let listed = attempts.iter().map(|(key, recorded)| {
            let attempt = match &recorded.ended {
                Some(ended) => Attempt::Ended(ended.clone()),
                None => Attempt::Running(Started {
                    pid: recorded.pid,
                    start_time: recorded.at,
                    adopted: self.live.get(key).is_some_and(|live| live.pidfd.is_some()),
                }),
            };
            (key.clone(), attempt)
        });
        let listed = Answer::List(listed.collect());
        self.answer(to, listed);
    }

    pub(super) fn start(&mut self, to: Waiting, start: Box<Start>) {
        let key = start.key.clone();
        if let Some(live) = self.live.get_mut(&key) {
            if let Some(gate) = &mut live.gate {
                return gate.waiting.push(to);
            }
            let started = Started { pid: live.pid, start_time: live.at, adopted: live.pidfd.is_some() };
            return self.answer(to, Answer::Started(started));
        }
        if self.ledger.book().used.get(&key.uid).is_some_and(|used| key.attempt <= *used) {
            return self.answer(to, Answer::NotStarted(StartError::AlreadyStarted(key)));
        }
        let taken_over = start.process().and_then(|process| process.adopt);
        let begun = match taken_over {
            Some(pid) => self.take_over_running(to, &start, pid),
            None => self.fork(to, start),
        };
        if let Err(e) = begun {
            self.stop_listening(&key);
            self.answer(to, Answer::NotStarted(e));
        }
    }

    /// Fork, record, release: in this order.
    fn fork(&mut self, to: Waiting, start: Box<Start>) -> Result<(), StartError> {
        let unknown = |what: &str, e: &dyn std::fmt::Display| StartError::Unknown(format!("{what}: {e}"));
        let now = System.now();
        let key = start.key.clone();
        if start.notify.is_some() {
            self.listen_to(&key, Notified::default()).map_err(|e| unknown("cannot listen to it", &e))?;
        }
        let ready =
            match prepare::prepare(&start, &mut self.users, &mut self.groups, &mut self.memory, self.inherited, now) {
                Ok(ready) => ready,
                Err(PrepareError::Refused(why)) => return Err(self.refuse(key, StartError::Refused(why), now)),
                Err(PrepareError::Unavailable(why)) => {
                    return Err(self.refuse(key, StartError::ResourcesUnavailable(why), now));
                }
                Err(e @ PrepareError::Short(..)) => return Err(StartError::Unknown(e.to_string())),
            };
        let (pid, mut socket) = spawn::fork(&ready.child).map_err(|e| {
            ready.group.remove();
            unknown("cannot fork", &e)
        })?;
        let ticks = proc::stat(pid).map_or(0, |stat| stat.ticks);
        let group = ready.group.clone();
        let line = Line::Start { key: key.clone(), pid, ticks, at: now, logs: start.logs, group };
        // If it cannot be recorded, the gate is dropped here, and the child ends without having executed anything.
        if let Err(e) = self.ledger.append(line) {
            self.let_go(ready.group);
            return Err(unknown("cannot write the state file", &e));
        }
        if start.notify.is_some() {
            // So that a successor listens, too.
            self.ledger.append_or_remember(Line::Notified { key: key.clone(), said: Notified::default() });
        }
        self.pump.taps.insert(key.clone(), ready.tap);
        ready.input.into_iter().for_each(|end| self.inputs.hold(key.clone(), end));
        self.pump.order(&Order::Open { key: key.clone(), limits: start.logs });
        self.by_pid.insert(pid, key.clone());
        let watched = self.watches.add(&socket, Source::Gate(key.clone()));
        let released = socket.write(&[1]);
        let gate = Gate { socket, token: watched.as_ref().ok().copied(), start, waiting: vec![to] };
        self.live.insert(key.clone(), Live { pid, ticks, at: now, pidfd: None, gate: Some(gate), origin: None });
        if watched.is_err() || released.is_err() {
            // It runs, or ends by itself; either is seen when it is reaped, and the client may ask.
            self.close_gate(&key);
        }
        Ok(())
    }

    /// A start that never comes to a fork. Its number is used up.
    pub(super) fn refuse(&mut self, key: StartKey, why: StartError, now: Timestamp) -> StartError {
        let ended = Ended { end: End::Code(126), oom_killed: false, start_time: now, finish_time: now };
        match self.ledger.append(Line::End { key, ended }) {
            Ok(()) => why,
            Err(e) => StartError::Unknown(format!("cannot write the state file: {e}")),
        }
    }

    /// Kills what is left in a group and removes it as soon as it is empty.
    /// Answers with how many were left.
    fn let_go(&mut self, group: Group) -> usize {
        if group.is_none() || group.remove() {
            return 0;
        }
        let left = group.pids().len();
        group.kill();
        self.leaving.push((group, 0));
        left
    }

    /// Removes the groups of attempts that nobody knows any more.
    pub(super) fn clean_groups(&self) {
        let kept: Vec<&Group> = self.ledger.book().attempts.values().map(|recorded| &recorded.group).collect();
        self.groups.clean(&kept);
    }

    pub(super) fn signal(&mut self, to: Waiting, key: &StartKey, signal: i32, reach: Reach) {
        let Some(live) = self.live.get(key) else {
            if reach == Reach::Tree {
                self.signal_left_behind(key, signal);
            }
            return self.answer(to, Answer::Done);
        };
        let sent = match &live.pidfd {
            Some(pidfd) => spawn::kill_fd(pidfd, signal),
            None => spawn::kill(live.pid, signal),
        };
        match self.group_of(key) {
            group if reach == Reach::Tree && !group.is_none() => group.signal(signal),
            _ if reach == Reach::Tree => {
                let root = Root { key: key.clone(), pid: live.pid, ticks: live.ticks, alive: true };
                let spared = self.spared();
                tree::members(&[root], &spared).into_iter().for_each(|member| tree::signal(member, signal));
            }
            _ => {}
        }
        let answer =
            sent.map_or_else(|e| Answer::Failed(format!("signal {signal} to `{key}`: {e}")), |()| Answer::Done);
        self.answer(to, answer);
    }

    fn signal_left_behind(&self, key: &StartKey, signal: i32) {
        let Some(root) = self.root_of_ended(key) else { return };
        let group = self.group_of(key);
        if !group.is_none() {
            return group.signal(signal);
        }
        tree::members(&[root], &self.spared()).into_iter().for_each(|member| tree::signal(member, signal));
    }

    /// Changes what an attempt may use. Of one that has ended nothing is left to be limited.
    pub(super) fn set_limits(&mut self, to: Waiting, key: &StartKey, limits: &Limits) {
        let runs = self.live.contains_key(key);
        let changed = if runs { self.group_of(key).change(limits) } else { Ok(()) };
        self.answer(to, changed.map_or_else(Answer::NotLimited, |()| Answer::Done));
    }

    /// The control groups of an attempt on record.
    pub(super) fn group_of(&self, key: &StartKey) -> Group {
        self.ledger.book().attempts.get(key).map(|recorded| recorded.group.clone()).unwrap_or_default()
    }

    fn root_of_ended(&self, key: &StartKey) -> Option<Root> {
        let recorded = self.ledger.book().attempts.get(key).filter(|recorded| recorded.ended.is_some())?;
        Some(Root { key: key.clone(), pid: recorded.pid, ticks: recorded.ticks, alive: false })
    }

    /// Processes that no attempt but their own has a claim on.
    pub(super) fn spared(&self) -> impl Fn(i32) -> bool {
        let (me, logger) = (own_pid(), self.pump.pid());
        move |pid| pid == me || Some(pid) == logger || self.by_pid.contains_key(&pid)
    }

    pub(super) fn acknowledge(&mut self, to: Waiting, key: StartKey) {
        if self.live.contains_key(&key) {
            return self.answer(to, Answer::Failed(format!("`{key}` runs")));
        }
        let Some(root) = self.root_of_ended(&key) else { return self.answer(to, Answer::Done) };
        let group = self.group_of(&key);
        if let Err(e) = self.ledger.append(Line::Forget { key: key.clone() }) {
            return self.answer(to, Answer::Failed(format!("cannot write the state file: {e}")));
        }
        self.pump.leave(key.clone());
        self.execs.forget(|known| *known == key);
        let left_nobody = self.left_nobody.remove(&key);
        if !group.is_none() {
            // Everybody whom it left behind is in there.
            let count = self.let_go(group);
            if count > 0 {
                self.tell_all(&Message::LeftBehind { key, count });
            }
            self.answer(to, Answer::Done);
        } else if root.pid > 0 && !left_nobody {
            self.acknowledged.push((root, to));
        } else {
            self.answer(to, Answer::Done);
        }
    }

    pub(super) fn remove(&mut self, to: Waiting, uid: Uid) {
        if !prepare::is_plain(&uid) {
            return self.answer(to, Answer::Failed(format!("`{uid}` is no uid")));
        }
        let of_uid = |key: &StartKey| key.uid == uid;
        if let Some(key) = self.live.keys().find(|key| of_uid(key)) {
            let why = format!("`{key}` runs");
            return self.answer(to, Answer::Failed(why));
        }
        let keys: Vec<_> = self.ledger.book().attempts.keys().filter(|key| of_uid(key)).cloned().collect();
        let doubtful: Vec<_> = keys.iter().filter(|key| !self.left_nobody.remove(key)).collect();
        let roots: Vec<_> = doubtful.into_iter().filter_map(|key| self.root_of_ended(key)).collect();
        let groups: Vec<_> = keys.iter().map(|key| self.group_of(key)).collect();
        if let Err(e) = self.ledger.append(Line::Remove { uid: uid.clone() }) {
            return self.answer(to, Answer::Failed(format!("cannot write the state file: {e}")));
        }
        if !roots.is_empty() {
            tree::sweep(&roots, &self.spared());
        }
        for group in groups {
            self.let_go(group);
        }
        self.pump.taps.retain(|key, _| key.uid != uid);
        self.memory.remove(&uid);
        self.execs.forget(|known| known.uid == uid);
        if self.pump.pid().is_none() {
            return self.answer(to, Answer::Done);
        }
        self.pump.order(&Order::Drop { uid: uid.clone() });
        self.removing.push((uid, to));
    }
}
