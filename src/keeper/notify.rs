//! What processes say by sd_notify(3): one socket for each attempt that was given one.
//!
//! The socket has an abstract name made of the start key: reachable whoever the process runs as, nothing to be tidied up,
//! and the next keeper binds the same name. Who speaks is told by the kernel; only members of the attempt are heard. What was
//! said is kept with the attempt, and in the state file where it matters, so that neither the server's nor the keeper's death
//! makes a ready process look as if it were not.

use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, UCred, recvmsg, sockopt};

use super::{
    ledger::Line,
    proc,
    protocol::{Answer, Message},
    serve::{Keeper, Source, Waiting},
};
use crate::{
    clock::{Clock, System},
    drivers::{Notified, StartKey, Started},
};

/// The longest message, as for systemd.
const LONGEST: usize = 4096;
/// How much of a STATUS= is kept.
const LONGEST_STATUS: usize = 512;
/// No single message buys more time.
const LONGEST_EXTENSION: Duration = Duration::from_secs(86400);
/// Clients are told of more time in such steps, however often a process asks for it.
const EXTENSION_STEP: Duration = Duration::from_millis(100);
/// Messages taken before everything else gets its turn again.
const AT_ONCE: usize = 64;

/// The name of an attempt's socket, as it stands in `NOTIFY_SOCKET` behind the `@`.
pub(super) fn socket_name(key: &StartKey) -> String {
    format!("appm/{}/{}/notify", key.uid, key.attempt)
}

/// The socket of one attempt, and what came through it.
#[derive(Debug)]
struct Ear {
    socket: OwnedFd,
    token: u64,
    said: Notified,
    /// When it said `WATCHDOG=1` last, or began to be listened to.
    pinged: Duration,
    /// `EXTEND_TIMEOUT_USEC`: before this time it is not taken for late.
    extended: Duration,
    /// The same, as clients were told last.
    told: Duration,
}

/// All sockets.
#[derive(Debug, Default)]
pub(super) struct Ears(BTreeMap<StartKey, Ear>);

impl Ears {
    /// What a successor in this process gets.
    pub(super) fn fds(&self) -> impl Iterator<Item = (&StartKey, BorrowedFd<'_>)> {
        self.0.iter().map(|(key, ear)| (key, ear.socket.as_fd()))
    }

    /// As numbers, to be named across exec.
    pub(super) fn raw(&self) -> Vec<(StartKey, RawFd)> {
        self.fds().map(|(key, fd)| (key.clone(), fd.as_raw_fd())).collect()
    }
}

/// One message, read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    ready: bool,
    reloading: bool,
    stopping: bool,
    ping: bool,
    trigger: bool,
    status: Option<String>,
    watchdog: Option<Duration>,
    main_pid: Option<i32>,
    extend: Option<Duration>,
}

impl Words {
    /// Unknown assignments are passed over, as the protocol wants.
    fn parse(message: &[u8]) -> Self {
        let mut words = Self::default();
        for line in String::from_utf8_lossy(message).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => words.ready = true,
                Some(("RELOADING", "1")) => words.reloading = true,
                Some(("STOPPING", "1")) => words.stopping = true,
                Some(("WATCHDOG", "1")) => words.ping = true,
                Some(("WATCHDOG", "trigger")) => words.trigger = true,
                Some(("STATUS", text)) => {
                    words.status = Some(text[..text.floor_char_boundary(LONGEST_STATUS)].to_owned());
                }
                Some(("WATCHDOG_USEC", number)) => words.watchdog = number.parse().ok().map(Duration::from_micros),
                Some(("EXTEND_TIMEOUT_USEC", number)) => {
                    words.extend =
                        number.parse().ok().map(Duration::from_micros).map(|time| time.min(LONGEST_EXTENSION));
                }
                Some(("MAINPID", number)) => words.main_pid = number.parse().ok().filter(|pid| *pid > 1),
                _ => {}
            }
        }
        words
    }

    /// What holds after it.
    fn turn(&self, said: &mut Notified) {
        if self.ready {
            (said.ready, said.reloading) = (true, false);
        }
        if self.reloading {
            said.reloading = true;
        }
        said.stopping |= self.stopping;
        said.trigger |= self.trigger;
        said.watchdog = self.watchdog.or(said.watchdog);
        if let Some(status) = &self.status {
            said.status.clone_from(status);
        }
    }
}

impl Keeper {
    /// Makes the socket of an attempt that is about to be started, or that an earlier keeper has listened to.
    pub(super) fn listen_to(&mut self, key: &StartKey, said: Notified) -> io::Result<()> {
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(socket_name(key))?)?;
        sockopt::set_socket_passcred(&socket, true)?;
        self.listen_by(key, socket.into(), said)
    }

    /// With a socket that is there already.
    pub(super) fn listen_by(&mut self, key: &StartKey, socket: OwnedFd, said: Notified) -> io::Result<()> {
        let token = self.watches.add(&socket, Source::Notify(key.clone()))?;
        let pinged = System.uptime();
        let extended = pinged + said.extended.unwrap_or_default();
        let said = Notified { extended: None, ..said };
        self.ears.0.insert(key.clone(), Ear { socket, token, said, pinged, extended, told: extended });
        Ok(())
    }

    /// Nobody is heard there any more.
    pub(super) fn stop_listening(&mut self, key: &StartKey) {
        if let Some(ear) = self.ears.0.remove(key) {
            self.watches.forget(ear.token);
        }
    }

    pub(super) fn notified(&mut self, to: Waiting, key: &StartKey) {
        // What was sent before the question was asked is part of the answer.
        self.hear(key);
        let said = self.ears.0.get(key).map(Ear::said);
        self.answer(to, Answer::Notified(said));
    }

    /// Takes what an attempt's processes have said.
    pub(super) fn hear(&mut self, key: &StartKey) {
        for _turn in 0..AT_ONCE {
            let Some(ear) = self.ears.0.get(key) else { return };
            let Some((message, sender)) = receive(ear.socket.as_fd()) else { return };
            if let Some(sender) = sender
                && let Some(standing) = self.standing(key, &sender)
            {
                self.take_words(key, Words::parse(&message), standing);
            }
        }
    }

    fn take_words(&mut self, key: &StartKey, mut words: Words, standing: Standing) {
        words.status = words.status.map(|status| {
            let shown = self.without_secrets(key, status.into_bytes(), false);
            String::from_utf8_lossy(&shown).into_owned()
        });
        if let Some(pid) = words.main_pid.filter(|_| standing == Standing::Member) {
            self.change_main(key, pid);
        }
        let Some(ear) = self.ears.0.get_mut(key) else { return };
        if words.ping || words.ready || words.watchdog.is_some() {
            ear.pinged = System.uptime();
        }
        if let Some(time) = words.extend {
            // It is never shortened.
            ear.extended = ear.extended.max(System.uptime() + time);
        }
        let more_time = ear.extended >= ear.told + EXTENSION_STEP;
        let before = ear.said.clone();
        words.turn(&mut ear.said);
        if ear.said == before && !more_time {
            return;
        }
        ear.told = ear.extended;
        let said = ear.said();
        let lasting = |said: &Notified| (said.ready, said.stopping, said.watchdog);
        if more_time || lasting(&said) != lasting(&before) {
            self.ledger.append_or_remember(Line::Notified { key: key.clone(), said: said.clone() });
        }
        self.tell_all(&Message::Notified { key: key.clone(), said });
    }

    /// Whether a sender may speak for an attempt. One that has ended already (a short-lived `systemd-notify --no-block`)
    /// cannot be placed any more: it is heard if it ran as the same user, but not in the choice of the main process.
    fn standing(&self, key: &StartKey, sender: &UCred) -> Option<Standing> {
        let live = self.live.get(key)?;
        let pid = sender.pid.as_raw_nonzero().get();
        if proc::stat(pid).is_some() {
            return self.is_member(key, live.pid, pid).then_some(Standing::Member);
        }
        let owner = std::fs::metadata(format!("/proc/{}", live.pid)).ok()?;
        (std::os::unix::fs::MetadataExt::uid(&owner) == sender.uid.as_raw()).then_some(Standing::Gone)
    }

    /// A process belongs to an attempt if it descends from its main process, is in its session, or carries its tag; and if
    /// it is not the main process of another.
    fn is_member(&self, key: &StartKey, main: i32, pid: i32) -> bool {
        /// Deeper trees of one instance have been seen by nobody.
        const DEEPEST: usize = 64;
        if self.by_pid.get(&pid).is_some_and(|owner| owner != key) {
            return false;
        }
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).map(nix::unistd::Pid::as_raw);
        if pid == main || session == Ok(main) || proc::tag(pid).is_some_and(|tag| tag == *key) {
            return true;
        }
        let parents = std::iter::successors(Some(pid), |pid| proc::stat(*pid).map(|stat| stat.ppid));
        parents.take(DEEPEST).take_while(|pid| *pid > 1).any(|pid| pid == main)
    }

    /// `MAINPID=`: from now on that process is the attempt. Its exit code is known if it is, or falls to us as, our child.
    fn change_main(&mut self, key: &StartKey, pid: i32) {
        let Some(live) = self.live.get(key) else { return };
        let Some(stat) = proc::stat(pid).filter(|_| pid != live.pid && self.is_member(key, live.pid, pid)) else {
            return;
        };
        if self.hold(key, pid, stat.ticks).is_none() {
            return;
        }
        self.ledger.append_or_remember(Line::Main { key: key.clone(), pid, ticks: stat.ticks });
        if let Some(live) = self.live.get(key) {
            let started = Started { pid, start_time: live.at, adopted: live.pidfd.is_some() };
            self.tell_all(&Message::Main { key: key.clone(), started });
        }
    }
}

/// How sure it is that somebody belongs to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    Gone,
}

impl Ear {
    fn said(&self) -> Notified {
        let now = System.uptime();
        let extended = self.extended.checked_sub(now).filter(|time| !time.is_zero());
        Notified { silent: now.saturating_sub(self.pinged), extended, ..self.said.clone() }
    }
}

/// The next message and who sent it. Descriptors that come along (`BARRIER=1`, `FDSTORE=1`) are closed at once, which is
/// what the former waits for.
fn receive(socket: BorrowedFd<'_>) -> Option<(Vec<u8>, Option<UCred>)> {
    let mut message = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [io::IoSliceMut::new(&mut message)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => break outcome.ok()?,
        }
    };
    let mut sender = None;
    for part in control.drain() {
        match part {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            RecvAncillaryMessage::ScmRights(fds) => fds.for_each(drop),
            _ => {}
        }
    }
    message.truncate(received.bytes);
    Some((message, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_adds_up_to_what_holds() {
        let mut said = Notified::default();
        for (message, holds) in [
            ("STATUS=warming up", Notified { status: "warming up".into(), ..Notified::default() }),
            ("X_UNKNOWN=1\nREADY=1\nSTATUS=", Notified { ready: true, ..Notified::default() }),
            ("READY=0", Notified { ready: true, ..Notified::default() }),
            ("RELOADING=1\nMONOTONIC_USEC=5", Notified { ready: true, reloading: true, ..Notified::default() }),
            ("WATCHDOG=1", Notified { ready: true, reloading: true, ..Notified::default() }),
            (
                "READY=1\nWATCHDOG_USEC=1500000",
                Notified { ready: true, watchdog: Some(Duration::from_millis(1500)), ..Notified::default() },
            ),
        ] {
            Words::parse(message.as_bytes()).turn(&mut said);
            assert_eq!(said, holds, "{message}");
        }
        Words::parse(b"STOPPING=1\nWATCHDOG=trigger").turn(&mut said);
        assert!(said.stopping && said.trigger);
    }

    #[test]
    fn odd_messages_are_harmless() {
        assert_eq!(Words::parse(b""), Words::default());
        assert_eq!(Words::parse(b"\xff\xfe=\n==\nMAINPID=-1\nMAINPID=1\nWATCHDOG_USEC=x"), Words::default());
        let long = format!("STATUS={}", "ä".repeat(3000));
        assert!(Words::parse(long.as_bytes()).status.is_some_and(|status| status.len() <= LONGEST_STATUS));
        assert_eq!(Words::parse(b"MAINPID=4711").main_pid, Some(4711));
        assert_eq!(Words::parse(b"EXTEND_TIMEOUT_USEC=1500000").extend, Some(Duration::from_millis(1500)));
        assert_eq!(Words::parse(b"EXTEND_TIMEOUT_USEC=18446744073709551615").extend, Some(LONGEST_EXTENSION));
    }
}
