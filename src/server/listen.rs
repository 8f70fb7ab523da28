//! The listener: HTTPS and the Unix socket, HTTP/1.1 and HTTP/2, with limits on whoever dawdles.

use std::{io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use super::{
    handle::{self, Peer},
    state::State,
};
use crate::auth::peer;

/// More connections wait.
const MOST_CONNECTIONS: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and for the next request on a connection that is kept.
const HEAD: Duration = Duration::from_secs(120);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// Go clients put all their watches on one connection.
const STREAMS: u32 = 2000;
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Both doors.
pub(super) struct Doors {
    pub tcp: TcpListener,
    pub unix: UnixListener,
    pub tls: Arc<rustls::ServerConfig>,
    /// The user who runs the server.
    pub owner: u32,
}

/// Serves until `state.stopping` is cancelled, then lets what is under way finish.
pub(super) async fn serve(doors: Doors, state: Arc<State>) {
    let graceful = GracefulShutdown::new();
    let acceptor = TlsAcceptor::from(doors.tls);
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(seat) = room.clone().acquire_owned().await else { break };
        tokio::select! {
            () = state.stopping.cancelled() => break,
            accepted = doors.tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, state, watcher) = (acceptor.clone(), state.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        remote(stream, acceptor, state, watcher).await;
                        drop(seat);
                    });
                }
                Err(e) => refused(&e).await,
            },
            accepted = doors.unix.accept() => match accepted {
                Ok((stream, _)) => {
                    let (owner, state, watcher) = (doors.owner, state.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        local(stream, owner, state, watcher).await;
                        drop(seat);
                    });
                }
                Err(e) => refused(&e).await,
            },
        }
    }
    drop((doors.tcp, doors.unix));
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::info!("some connections did not end in time");
    }
}

/// Out of file descriptors, say: others must go first.
async fn refused(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn remote(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>, watcher: Watcher) {
    // Without it every small answer waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS handshake"),
        Err(_) => return tracing::debug!("the TLS handshake took too long"),
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = Builder::new(TokioExecutor::new());
    // The handshake has settled the protocol, so nobody waits for its first bytes without a limit.
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    connection(stream, builder, Peer::Remote, state, watcher).await;
}

async fn local(stream: UnixStream, owner: u32, state: Arc<State>, watcher: Watcher) {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => return tracing::warn!(%error, "a peer without credentials"),
    };
    let Some(identity) = peer::identify(uid, owner) else {
        return tracing::warn!(uid, "a stranger at the socket was turned away");
    };
    connection(stream, Builder::new(TokioExecutor::new()), Peer::Local(identity), state, watcher).await;
}

async fn connection<S>(stream: S, mut builder: Builder<TokioExecutor>, peer: Peer, state: Arc<State>, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE);
    let service = service_fn(move |request| handle::answer(state.clone(), peer.clone(), request));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection broke off");
    }
}
