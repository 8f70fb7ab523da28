//! What bounds the memory and the patience that clients can take, all of them and each of them.
//!
//! ```text
//!  by source:  connections ─► handshakes ─► requests under way         too many: closed; wait; 429
//!  by user:    a connection's turn at the processors                   waits
//!              a body's bytes ──► [ in bodies ] ──► a seat for as long as the request is worked on ──► answer
//!                                  full: 429         waits its turn; too long, or too many before it: 429
//!              open watches and followed logs                          too many: 429
//!              requests in a second                                    too many: 429
//! ```
//! A request takes a seat only when its whole body is there, so whoever sends slowly keeps nobody from work. A large body takes
//! more seats than a small one: as a tree of values it weighs many times its text. Watches and followed logs, which last, take
//! none. Reading what has come, and sending answers, is work too: a connection on which something happens is gone on with when it is
//! its user's turn, so that nobody stands behind the sixty connections of another. Seats are shared out fairly ([`crate::policy::fair`]): while several users ask, each has only a few at a time, so that the
//! processors are never busy with one user's requests alone when another's comes.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    api::Status,
    clock::SharedClock,
    policy::{
        fair::{Fair, Seats, Ticket},
        rate::Meter,
    },
};

/// The numbers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Reads that are worked on at a time.
    pub reading: Seats,
    /// Writes that are worked on at a time, if they are small. Most of their time is the disk's, which takes many at once.
    pub writing: Seats,
    /// TLS handshakes at a time; a flow is a source.
    pub handshakes: Seats,
    /// Connections that are gone on with at a time: what has come is read, answered and sent, as far as nobody must be waited for.
    pub turns: Seats,
    /// How long one waits for a seat before it gets 429.
    pub turn: Duration,
    /// Bytes of bodies that are held at a time; what does not fit gets 429.
    pub in_bodies: usize,
    /// What of that messages may take on connections on which nobody has proved who they are, all of them together.
    pub of_strangers: usize,
    /// How long a client may take to send a body.
    pub body: Duration,
    /// How long it may take to send a request's head, and how long a connection may idle.
    pub idle: Duration,
    /// How long it may read nothing of what is sent to it.
    pub stalled: Duration,
    /// Connections over TLS; more wait. As many come through the Unix socket beside them.
    pub connections: usize,
    /// Connections of one source; more are closed.
    pub connections_each: usize,
    /// Requests of one source that are under way, watches included; more get 429.
    pub requests_each: usize,
    /// Watches and followed logs of one user; more get 429.
    pub watches_each: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // A read is work for a processor from beginning to end: more of them at a time only stand in the way of whoever comes next.
        let cores = std::thread::available_parallelism().map_or(2, |n| u32::try_from(n.get()).unwrap_or(2));
        Self {
            reading: Seats { all: 512, alone: cores + 1, among: cores.div_ceil(2), waiting: 4096 },
            writing: Seats { all: 512, alone: 448, among: 4, waiting: 4096 },
            handshakes: Seats { all: 1024, alone: 128, among: 4 * cores, waiting: 4096 },
            turns: Seats { all: 512, alone: cores + 1, among: cores.div_ceil(2), waiting: 8192 },
            turn: Duration::from_secs(15),
            in_bodies: 256 << 20,
            // The longest message that there is, and a little.
            of_strangers: 80 << 20,
            body: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            stalled: Duration::from_secs(120),
            connections: 4096,
            connections_each: 3072,
            requests_each: 8192,
            watches_each: 4096,
        }
    }
}

/// A body takes a seat more for every so many bytes.
const BYTES_A_SEAT: usize = 32 * 1024;

/// What a request is worked on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Processors.
    Reading,
    /// The disk.
    Writing,
}

/// The seats, and the room for bodies.
pub(super) struct Turnstile {
    bounds: Bounds,
    reading: Line<String>,
    writing: Line<String>,
    handshakes: Line<Source>,
    turns: Line<Arc<str>>,
    bodies: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    connections: Shares<Source>,
    requests: Shares<Source>,
    watches: Shares<String>,
    asked: Mutex<Meter<String>>,
    clock: SharedClock,
}

/// Room for a body. Given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Taken {
    room: Option<OwnedSemaphorePermit>,
    /// Tells when somebody has proved who they are; `None`: they have.
    known: Option<Arc<AtomicBool>>,
    /// Of the room of strangers, too.
    strange: Option<OwnedSemaphorePermit>,
}

impl Taken {
    /// By a stranger, until they are known. A login is short: what fits into one piece is let in as everybody's is.
    pub(super) fn until(known: Arc<AtomicBool>) -> Self {
        Self { known: Some(known), ..Self::default() }
    }

    fn is_strange(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.load(Ordering::Relaxed))
    }

    /// What it takes of the room of strangers, to be given back when it is known whose it is.
    pub(super) fn strange(&mut self) -> Option<OwnedSemaphorePermit> {
        self.strange.take()
    }
}

/// Where a connection comes from, as far as it is one party: an address, or of version 6 the network that one party is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(long) if !long.is_loopback() => {
                IpAddr::V6(Ipv6Addr::from_bits(long.to_bits() & !u128::from(u64::MAX)))
            }
            other => other,
        })
    }
}

fn busy() -> Status {
    Status::busy("too many requests, please try again later")
}

impl Turnstile {
    pub(super) fn new(bounds: Bounds, clock: SharedClock) -> Self {
        Self {
            bounds,
            reading: Line::new(bounds.reading, clock.clone()),
            writing: Line::new(bounds.writing, clock.clone()),
            handshakes: Line::new(bounds.handshakes, clock.clone()),
            turns: Line::new(bounds.turns, clock.clone()),
            bodies: Arc::new(Semaphore::new(bounds.in_bodies)),
            strangers: Arc::new(Semaphore::new(bounds.of_strangers)),
            connections: Shares::new(bounds.connections_each),
            requests: Shares::new(bounds.requests_each),
            watches: Shares::new(bounds.watches_each),
            asked: Mutex::default(),
            clock,
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// By which patience is measured.
    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// A seat for a user's request with a body of so many bytes. Cancel-safe.
    ///
    /// # Errors
    /// 429 if too many wait, or it takes too long.
    pub(super) async fn seat(&self, user: &str, work: Work, bytes: usize) -> Result<Seat<String>, Status> {
        let line = match work {
            Work::Reading => &self.reading,
            Work::Writing => &self.writing,
        };
        let seats = u32::try_from(1 + bytes / BYTES_A_SEAT).unwrap_or(u32::MAX);
        let seat = tokio::time::timeout(self.bounds.turn, line.seat(user.to_owned(), seats)).await;
        seat.ok().flatten().ok_or_else(busy)
    }

    /// A source's turn for a handshake; `None` if too many of it wait. Cancel-safe.
    pub(super) async fn handshake(&self, source: Source) -> Option<Seat<Source>> {
        self.handshakes.seat(source, 1).await
    }

    /// The line in which users' connections wait for their turn.
    pub(super) fn turns(&self) -> Line<Arc<str>> {
        self.turns.clone()
    }

    /// A source's connection; `None` if it has too many.
    pub(super) fn connection(&self, source: Source) -> Option<Share<Source>> {
        self.connections.take(source)
    }

    /// A source's request.
    ///
    /// # Errors
    /// 429 if too many are under way.
    pub(super) fn request(&self, source: Source) -> Result<Share<Source>, Status> {
        self.requests.take(source).ok_or_else(busy)
    }

    /// A user's watch, of whom so many are open at most.
    ///
    /// # Errors
    /// 429 if there are too many.
    pub(super) fn watch(&self, user: &str, most: Option<u32>) -> Result<Share<String>, Status> {
        let most = most.map_or(self.watches.most, |most| most as usize);
        self.watches.take_of(user.to_owned(), most).ok_or_else(|| Status::busy("you have too many watches open"))
    }

    /// One more request of a user who has so many a second.
    ///
    /// # Errors
    /// 429 with the time to wait, in whole seconds.
    pub(super) fn ask(&self, user: &str, per_second: u32) -> Result<(), Status> {
        let asked = lock(&self.asked).ask(user, per_second, self.clock.uptime());
        asked.map_err(|wait| {
            let mut status = Status::busy(format!("you have {per_second} requests a second, please try again later"));
            status.details.retry_after_seconds =
                Some(u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX));
            status
        })
    }

    /// Room for more bytes of a body, beside what it has taken already.
    ///
    /// # Errors
    /// 429 if there is none.
    pub(super) fn room(&self, taken: &mut Taken, bytes: usize) -> Result<(), Status> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let full = |_| Status::busy("the server is taking in too much at once, please try again later");
        let strange = match taken.is_strange() && taken.room.is_some() {
            true => Some(self.strangers.clone().try_acquire_many_owned(wanted).map_err(full)?),
            false => None,
        };
        let more = self.bodies.clone().try_acquire_many_owned(wanted).map_err(full)?;
        for (held, more) in [(&mut taken.room, Some(more)), (&mut taken.strange, strange)] {
            match (held, more) {
                (Some(held), Some(more)) => held.merge(more),
                (held, more @ Some(_)) => *held = more,
                (_, None) => {}
            }
        }
        Ok(())
    }
}

type Queue<K> = Mutex<Fair<K, oneshot::Sender<()>>>;

/// A line before some seats.
#[derive(Clone)]
pub(super) struct Line<K> {
    queue: Arc<Queue<K>>,
    /// How many of each flow may come to stand in it.
    places: Shares<K>,
    /// As many of a flow as may be seated at a time among others, and at least two: they crowd nobody.
    few: usize,
    clock: SharedClock,
}

impl<K: Hash + Eq + Clone> Line<K> {
    pub(super) fn new(seats: Seats, clock: SharedClock) -> Self {
        let few = seats.among.max(2) as usize;
        Self { queue: Arc::new(Mutex::new(Fair::new(seats))), places: Shares::new(usize::MAX), few, clock }
    }

    /// One more of a flow that may come to stand here.
    pub(super) fn place(&self, key: K) -> Option<Share<K>> {
        self.places.take(key)
    }

    /// Whether so many of a flow may stand here that others would wait for all of them.
    pub(super) fn is_crowded_by(&self, key: &K) -> bool {
        self.places.count(key) > self.few
    }

    /// So many seats; `None` if too many of its flow wait. Cancel-safe.
    async fn seat(&self, key: K, seats: u32) -> Option<Seat<K>> {
        let (seat, told) = self.stand(key, seats)?;
        // Whoever stops waiting drops the seat, whether it has it or only waits for it.
        told.await.ok().map(|()| seat)
    }

    /// A place in line, which is a seat when that is told; `None` if too many of its flow stand there.
    fn stand(&self, key: K, seats: u32) -> Option<(Seat<K>, oneshot::Receiver<()>)> {
        let (tell, told) = oneshot::channel();
        let mut queue = lock(&self.queue);
        let ticket = queue.enter(&key, seats, tell, self.clock.uptime()).ok()?;
        tell_all(&mut queue);
        drop(queue);
        Some((self.seated(key, seats, Some(ticket)), told))
    }

    /// One seat, now or when it is told.
    pub(super) fn turn(&self, key: &K) -> Turn<K> {
        let mut queue = lock(&self.queue);
        if queue.take(key, self.clock.uptime()) {
            return Turn::Now { seat: Some(self.seated(key.clone(), 1, None)), among_others: queue.is_shared() };
        }
        drop(queue);
        // Beyond all bounds it is better to do something at once than to remember it.
        let at_once = Turn::Now { seat: None, among_others: true };
        self.stand(key.clone(), 1).map_or(at_once, |(seat, told)| Turn::Then(seat, told))
    }

    fn seated(&self, key: K, seats: u32, ticket: Option<Ticket>) -> Seat<K> {
        Seat { queue: self.queue.clone(), clock: self.clock.clone(), key, seats, ticket }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell_all<K: Hash + Eq + Clone>(queue: &mut Fair<K, oneshot::Sender<()>>) {
    for told in queue.grant() {
        // Whoever does not listen any more is about to give its seat back.
        let _ = told.send(());
    }
}

/// A seat, or a place in the line before it. Given back when it is dropped.
pub(super) struct Seat<K: Hash + Eq + Clone> {
    queue: Arc<Queue<K>>,
    clock: SharedClock,
    key: K,
    seats: u32,
    /// `None`: it never stood in line.
    ticket: Option<Ticket>,
}

/// A turn, which is over when it is dropped.
pub(super) enum Turn<K: Hash + Eq + Clone> {
    /// It is one's turn.
    Now {
        /// None in the greatest crowd.
        seat: Option<Seat<K>>,
        /// Whether other flows are about.
        among_others: bool,
    },
    /// It will be, when that is told.
    Then(Seat<K>, oneshot::Receiver<()>),
}

impl<K: Hash + Eq + Clone> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        if !self.ticket.is_some_and(|ticket| queue.give_up(&self.key, ticket)) {
            queue.leave(&self.key, self.seats, self.clock.uptime());
        }
        tell_all(&mut queue);
    }
}

/// So many of something for each.
#[derive(Clone)]
struct Shares<K> {
    most: usize,
    counts: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    fn take(&self, key: K) -> Option<Share<K>> {
        self.take_of(key, self.most)
    }

    fn count(&self, key: &K) -> usize {
        lock(&self.counts).get(key).copied().unwrap_or_default()
    }

    fn take_of(&self, key: K, most: usize) -> Option<Share<K>> {
        let mut counts = lock(&self.counts);
        let count = counts.get(&key).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        Some(Share { counts: self.counts.clone(), key })
    }
}

/// One of them. Given back when it is dropped.
pub(super) struct Share<K: Hash + Eq + Clone> {
    counts: Arc<Mutex<HashMap<K, usize>>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Reason, clock::System};

    const READ: Work = Work::Reading;

    fn tight() -> Turnstile {
        let turn = Duration::from_millis(1);
        let seats = Seats { all: 3, alone: 2, among: 1, waiting: 1 };
        let bounds = Bounds { reading: seats, turn, in_bodies: 10, watches_each: 1, ..Bounds::default() };
        Turnstile::new(bounds, Arc::new(System))
    }

    #[tokio::test]
    async fn whoever_finds_no_seat_in_time_is_told_to_come_again() {
        let turnstile = tight();
        let one = turnstile.seat("a", READ, 0).await.expect("a seat");
        let _two = turnstile.seat("a", READ, 0).await.expect("a seat");
        let refused = turnstile.seat("a", READ, 0).await.err().expect("full");
        assert_eq!((refused.reason, refused.details.retry_after_seconds), (Reason::TooManyRequests, Some(1)));
        drop(one);
        turnstile.seat("a", READ, 0).await.expect("a seat again");
        turnstile.seat("a", Work::Writing, 0).await.expect("writes have seats of their own");
    }

    #[tokio::test]
    async fn a_flood_keeps_nobody_else_from_a_seat() {
        let turnstile = tight();
        let _noisy = [turnstile.seat("a", READ, 0).await, turnstile.seat("a", READ, 0).await];
        assert!(turnstile.seat("a", READ, 0).await.is_err());
        turnstile.seat("b", READ, 0).await.expect("a seat that was kept");
    }

    #[tokio::test]
    async fn a_large_body_takes_all_seats_that_one_may_have_and_no_more() {
        let turnstile = tight();
        let all = turnstile.seat("a", READ, 100 << 20).await.expect("all seats");
        assert!(turnstile.seat("a", READ, 0).await.is_err());
        drop(all);
        turnstile.seat("a", READ, 0).await.expect("a seat");
    }

    #[test]
    fn strangers_have_a_little_of_the_room_until_they_are_known() {
        let turnstile =
            Turnstile::new(Bounds { in_bodies: 100, of_strangers: 10, ..Bounds::default() }, Arc::new(System));
        let is_known = Arc::new(AtomicBool::new(false));
        let (mut stranger, mut other) = (Taken::until(is_known.clone()), Taken::until(is_known.clone()));
        turnstile.room(&mut stranger, 20).expect("a first piece is everybody's: a login");
        turnstile.room(&mut stranger, 10).expect("of the room of strangers");
        turnstile.room(&mut other, 20).expect("a login");
        turnstile.room(&mut other, 1).expect_err("no room for strangers");
        turnstile.room(&mut Taken::default(), 40).expect("room for who is known");
        drop(stranger.strange());
        turnstile.room(&mut other, 1).expect("the first is known, and takes of the room for all");
        turnstile.room(&mut Taken::default(), 50).expect_err("no room");
        drop(stranger);
        turnstile.room(&mut Taken::default(), 50).expect("room again");
    }

    #[test]
    fn each_user_has_so_many_watches() {
        let turnstile = tight();
        let one = turnstile.watch("a", None).expect("the first");
        assert!(turnstile.watch("a", None).is_err());
        turnstile.watch("a", Some(2)).expect("one who may have more");
        turnstile.watch("b", None).expect("another user's");
        assert!(turnstile.watch("c", Some(0)).is_err());
        drop(one);
        turnstile.watch("a", None).expect("another one");
        assert!(lock(&turnstile.watches.counts).is_empty());
    }

    #[test]
    fn whoever_asks_too_often_is_told_when_to_come_again() {
        let turnstile = Turnstile::new(Bounds::default(), Arc::new(crate::clock::Virtual::new(Default::default(), 1)));
        assert!((0..20).all(|_| turnstile.ask("a", 10).is_ok()));
        let refused = turnstile.ask("a", 10).expect_err("too often");
        assert_eq!((refused.reason, refused.details.retry_after_seconds), (Reason::TooManyRequests, Some(1)));
        turnstile.ask("b", 10).expect("another one");
    }

    #[test]
    fn a_network_of_version_six_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::1"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.2"), source("10.0.0.1"));
    }

    #[test]
    fn bodies_have_room_until_it_is_full() {
        let turnstile = tight();
        let (mut one, mut other) = (Taken::default(), Taken::default());
        turnstile.room(&mut one, 4).expect("room");
        turnstile.room(&mut one, 5).expect("room");
        assert!(turnstile.room(&mut other, 2).is_err());
        drop(one);
        turnstile.room(&mut other, 10).expect("room");
    }
}
