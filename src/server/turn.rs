//! A connection goes on when it is its user's turn.
//!
//! An async runtime goes on with whatever is ready, first come, first served: a client with sixty busy connections is sixty times
//! before the one who asks once. Here the connections of one user that have something to do stand in one line
//! ([`super::bounds`]), and only its head is ready; it goes on until it must wait. While others are about, the next one's turn begins only
//! when the runtime has gone round: then whoever else was ready has been served, and who asks little waits for one request, not for sixty.
//! Whoever has only a few connections crowds nobody, and the runtime is not sent round for them: that costs more than a short request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use super::{
    bell::Rings,
    bounds::{Line, Share, Turn},
    handle::Peer,
};

/// The turns of one connection: those of the user who asked last on it, and before anybody has, of where it comes from.
#[derive(Clone)]
pub(super) struct Turns {
    line: Line<Arc<str>>,
    whose: Arc<Mutex<Arc<str>>>,
}

impl Turns {
    pub(super) fn new(line: Line<Arc<str>>, peer: &Peer) -> Self {
        // No user's name begins so.
        let whose = match peer {
            Peer::Remote { source, .. } => format!("@{}", source.ip()).into(),
            Peer::Local(identity) => identity.name.as_str().into(),
        };
        Self { line, whose: Arc::new(Mutex::new(whose)) }
    }

    /// It is known who asks.
    pub(super) fn are(&self, user: &str) {
        let mut whose = self.whose.lock().unwrap_or_else(PoisonError::into_inner);
        if **whose != *user {
            *whose = user.into();
        }
    }

    fn whose(&self) -> Arc<str> {
        self.whose.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection, or a stream of one, that goes on only in turn.
pub(super) struct InTurn<F> {
    inner: F,
    rings: Rings,
    turns: Turns,
    /// Its place in line.
    waits: Option<Turn<Arc<str>>>,
    place: Option<Place>,
}

/// A connection, or a stream of one, counted among those of a user.
struct Place {
    of: Arc<str>,
    _counted: Option<Share<Arc<str>>>,
}

impl<F> InTurn<F> {
    pub(super) fn new(inner: F, turns: Turns) -> Self {
        Self { inner, rings: Rings::new(), turns, waits: None, place: None }
    }

    /// Whose turns these are by now.
    fn whose(&mut self) -> Arc<str> {
        let whose = self.turns.whose();
        if self.place.as_ref().is_none_or(|place| !Arc::ptr_eq(&place.of, &whose)) {
            self.place = Some(Place { of: whose.clone(), _counted: self.turns.line.place(whose.clone()) });
        }
        whose
    }
}

impl<T> InTurn<Pin<&mut T>> {
    pub(super) fn inner(&mut self) -> Pin<&mut T> {
        self.inner.as_mut()
    }
}

impl<F: Future + Unpin> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let whose = this.whose();
        let mut turn = this.waits.take().unwrap_or_else(|| this.turns.line.turn(&whose));
        if let Turn::Then(_, told) = &mut turn
            && Pin::new(told).poll(cx).is_pending()
        {
            this.waits = Some(turn);
            return Poll::Pending;
        }
        let polled = this.rings.poll(&mut this.inner, cx);
        if let Turn::Then(seat, _) | Turn::Now { seat: Some(seat), among_others: true } = turn
            && this.turns.line.is_crowded_by(&whose)
        {
            // Until the runtime has looked for what came in, and gone round with it.
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                drop(seat);
            });
        }
        polled
    }
}

/// Runs what a connection of HTTP/2 does at the same time, each of it in turn.
#[derive(Clone)]
pub(super) struct Streams(pub(super) Turns);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(InTurn::new(Box::pin(stream), self.0.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::task::LocalSet;

    use super::*;
    use crate::{clock::System, policy::fair::Seats};

    /// A connection on which something happens `times` times, and always at once; it writes down when it went on.
    async fn busy(who: &'static str, times: usize, turns: Turns, seen: Rc<RefCell<Vec<&'static str>>>) {
        let inner = std::pin::pin!(async {
            for _ in 0..times {
                seen.borrow_mut().push(who);
                tokio::task::yield_now().await;
            }
        });
        InTurn::new(inner, turns).await;
    }

    fn of(line: &Line<Arc<str>>, user: &str) -> Turns {
        Turns { line: line.clone(), whose: Arc::new(Mutex::new(user.into())) }
    }

    #[tokio::test]
    async fn who_asks_little_waits_for_one_request_of_a_flood_and_not_for_all() {
        let line = Line::new(Seats { all: 512, alone: 3, among: 1, waiting: 4096 }, Arc::new(System));
        let seen = Rc::new(RefCell::new(Vec::new()));
        LocalSet::new()
            .run_until(async {
                let noisy: Vec<_> = (0..60)
                    .map(|_| tokio::task::spawn_local(busy("noisy", 20, of(&line, "noisy"), seen.clone())))
                    .collect();
                let quiet = tokio::task::spawn_local(busy("quiet", 20, of(&line, "quiet"), seen.clone()));
                quiet.await.expect("it ends");
                let before = seen.borrow().len();
                // The first ones came before anybody knew that there would be another.
                assert!(before <= 60 + 3 * 20, "{before} turns, 20 of them the quiet one's");
                for each in noisy {
                    each.await.expect("it ends");
                }
            })
            .await;
        assert_eq!(seen.borrow().len(), 61 * 20);
    }
}
