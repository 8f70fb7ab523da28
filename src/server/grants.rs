//! What a connection may become: at App Mesh's WebSocket door a request can turn it into one, elsewhere never.
//!
//! The connection itself goes on with what it became, so that the bounds of a connection (its seat, its source's share, the authority of its client
//! certificate, the server's end) hold for that as well.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt, future::BoxFuture};
use hyper::{http::request::Parts, upgrade::OnUpgrade};

/// The leave of a connection to become another. Requests on it bear it among their extensions.
#[derive(Clone, Default)]
pub(super) struct Grant(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Grant {
    /// The connection's bytes, when the answer to this request is sent.
    pub(super) fn upgrade(&self, head: &mut Parts) -> Option<OnUpgrade> {
        head.extensions.remove::<OnUpgrade>()
    }

    /// What goes on in place of the connection.
    pub(super) fn becomes(&self, session: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.boxed());
    }

    /// That, once the connection has ended.
    pub(super) fn taken(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
