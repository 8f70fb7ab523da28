//! What bounds the memory and the patience that clients can take.
//!
//! ```text
//!  a body's bytes ──► [ in bodies ] ──► a seat for as long as the request is worked on ──► answer
//!                      full: 429         waits its turn; too long, or too many before it: 429
//! ```
//! A request takes a seat only when its whole body is there, so whoever sends slowly keeps nobody from work. A large body takes
//! more seats than a small one: as a tree of values it weighs many times its text. Watches and followed logs, which last, take
//! none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Status;

/// The numbers.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Requests that are worked on at a time, if they are small.
    pub seats: u32,
    /// Requests that wait for a seat; more get 429.
    pub waiting: usize,
    /// How long one waits before it gets 429.
    pub turn: Duration,
    /// Bytes of bodies that are held at a time; what does not fit gets 429.
    pub in_bodies: usize,
    /// How long a client may take to send a body.
    pub body: Duration,
    /// How long it may take to send a request's head, and how long a connection may idle.
    pub idle: Duration,
    /// How long it may read nothing of what is sent to it.
    pub stalled: Duration,
    /// Connections over TLS; more wait. As many come through the Unix socket beside them.
    pub connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            seats: 512,
            waiting: 8192,
            turn: Duration::from_secs(15),
            in_bodies: 256 << 20,
            body: Duration::from_secs(60),
            idle: Duration::from_secs(120),
            stalled: Duration::from_secs(120),
            connections: 4096,
        }
    }
}

/// A body takes a seat more for every so many bytes.
const BYTES_A_SEAT: usize = 32 * 1024;

/// The seats, and the room for bodies.
pub(super) struct Turnstile {
    bounds: Bounds,
    seats: Arc<Semaphore>,
    waiting: AtomicUsize,
    bodies: Arc<Semaphore>,
}

/// Given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Taken(Option<OwnedSemaphorePermit>);

impl Turnstile {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            seats: Arc::new(Semaphore::new(bounds.seats as usize)),
            waiting: AtomicUsize::new(0),
            bodies: Arc::new(Semaphore::new(bounds.in_bodies)),
        }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// A seat for a request with a body of so many bytes. Cancel-safe.
    ///
    /// # Errors
    /// 429 if too many wait, or it takes too long.
    pub(super) async fn seat(&self, bytes: usize) -> Result<Taken, Status> {
        let seats = u32::try_from(1 + bytes / BYTES_A_SEAT).unwrap_or(u32::MAX).min(self.bounds.seats);
        if let Ok(taken) = self.seats.clone().try_acquire_many_owned(seats) {
            return Ok(Taken(Some(taken)));
        }
        let busy = || Status::busy("too many requests, please try again later");
        let _in_line = InLine::enter(&self.waiting, self.bounds.waiting).ok_or_else(busy)?;
        let turn = tokio::time::timeout(self.bounds.turn, self.seats.clone().acquire_many_owned(seats));
        Ok(Taken(Some(turn.await.ok().and_then(Result::ok).ok_or_else(busy)?)))
    }

    /// Room for more bytes of a body, beside what it has taken already.
    ///
    /// # Errors
    /// 429 if there is none.
    pub(super) fn room(&self, taken: &mut Taken, bytes: usize) -> Result<(), Status> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = self.bodies.clone().try_acquire_many_owned(wanted) else {
            return Err(Status::busy("the server is taking in too much at once, please try again later"));
        };
        match &mut taken.0 {
            Some(there) => there.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// A place among those who wait.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn enter(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        // Counted first, so that no two take the last place.
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    fn tight() -> Turnstile {
        let turn = Duration::from_millis(1);
        Turnstile::new(Bounds { seats: 2, waiting: 1, turn, in_bodies: 10, ..Bounds::default() })
    }

    #[tokio::test]
    async fn whoever_finds_no_seat_in_time_is_told_to_come_again() {
        let turnstile = tight();
        let (one, _two) = (turnstile.seat(0).await.expect("a seat"), turnstile.seat(0).await.expect("a seat"));
        let refused = turnstile.seat(0).await.expect_err("full");
        assert_eq!((refused.reason, refused.details.retry_after_seconds), (Reason::TooManyRequests, Some(1)));
        assert_eq!(turnstile.waiting.load(Ordering::Acquire), 0);
        drop(one);
        turnstile.seat(0).await.expect("a seat again");
    }

    #[tokio::test]
    async fn a_large_body_takes_all_seats_and_no_more() {
        let turnstile = tight();
        let all = turnstile.seat(100 << 20).await.expect("all seats");
        assert!(turnstile.seat(0).await.is_err());
        drop(all);
        turnstile.seat(0).await.expect("a seat");
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
