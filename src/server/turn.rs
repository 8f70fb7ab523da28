//! A connection goes on when it is its user's turn.
//!
//! An async runtime goes on with whatever is ready, first come, first served: a client with sixty busy connections is sixty times
//! before the one who asks once. Here the connections of one user that have something to do stand in one line
//! ([`super::bounds`]), and only its head is ready; each goes on until it must wait, and the next one's turn begins.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use super::{
    bounds::{Turn, Turnstile},
    handle::Peer,
    state::State,
};

/// Whose turn a connection takes: that of the user who asked last on it, and before anybody has, of where it comes from.
pub(super) struct Whose(Mutex<Arc<str>>);

impl Whose {
    pub(super) fn new(peer: &Peer) -> Self {
        // No user's name begins so.
        Self(Mutex::new(match peer {
            Peer::Remote { source, .. } => format!("@{}", source.ip()).into(),
            Peer::Local(identity) => identity.name.as_str().into(),
        }))
    }

    /// It is known who asks.
    pub(super) fn are(&self, user: &str) {
        let mut whose = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if **whose != *user {
            *whose = user.into();
        }
    }

    fn now(&self) -> Arc<str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection that goes on only in turn.
pub(super) struct InTurn<F> {
    inner: F,
    whose: Arc<Whose>,
    state: Arc<State>,
    /// Its place in line.
    waits: Option<Turn>,
}

impl<F> InTurn<F> {
    pub(super) fn new(inner: F, whose: Arc<Whose>, state: Arc<State>) -> Self {
        Self { inner, whose, state, waits: None }
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
        let turnstile: &Turnstile = &this.state.turnstile;
        let mut turn = this.waits.take().unwrap_or_else(|| turnstile.turn(&this.whose.now()));
        if let Turn::Then(_, told) = &mut turn
            && Pin::new(told).poll(cx).is_pending()
        {
            this.waits = Some(turn);
            return Poll::Pending;
        }
        // Over when this returns, with whatever it says.
        let _turn = turn;
        Pin::new(&mut this.inner).poll(cx)
    }
}
