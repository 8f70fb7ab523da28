//! The thread of all lanes.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use tokio::{
    net::UnixStream,
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::{
    auth::Identity,
    policy::fair::Seats,
    server::{bounds::Line, state::State},
};

/// Connections of one user that are gone on with before others are. A turn is a task or two, which is less than any request of HTTP.
const TURNS: Seats = Seats { all: 512, alone: 64, among: 8, waiting: 8192 };

/// A runtime of one thread, which is there from the first lane on.
#[derive(Default)]
pub(in crate::server) struct Track(OnceLock<Option<Thread>>);

struct Thread {
    handle: Handle,
    turns: Line<Arc<str>>,
    /// Dropped, the thread ends.
    _ends: oneshot::Sender<()>,
}

impl Track {
    /// Serves a connection to its end.
    pub(in crate::server) async fn serve(&self, stream: UnixStream, identity: Identity, state: Arc<State>) {
        let started = self.0.get_or_init(|| match start(&state) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::error!(%error, "the fast lane cannot be served");
                None
            }
        });
        let Some(Thread { handle, turns, .. }) = started else { return };
        let (Ok(stream), turns) = (stream.into_std(), turns.clone()) else { return };
        let served = handle.spawn(async move {
            // It belongs to the runtime in which it is made.
            match UnixStream::from_std(stream) {
                Ok(stream) => super::serve(stream, identity, turns, state).await,
                Err(error) => tracing::warn!(%error, "a connection was lost on its way"),
            }
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "a lane broke off");
        }
    }
}

fn start(state: &State) -> io::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (ends, ended) = oneshot::channel::<()>();
    let run = move || {
        // Either way it is over.
        let _ = runtime.block_on(ended);
    };
    std::thread::Builder::new().name("lane".to_owned()).spawn(run)?;
    Ok(Thread { handle, turns: Line::new(TURNS, state.clock.clone()), _ends: ends })
}
