//! The listener: HTTPS and the Unix socket, each with its own seats, so that a crowd at one door keeps nobody from the other.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::TaskTracker;

use super::{
    appmesh,
    bounds::Source,
    connection::{self, Spoken},
    grants::Grant,
    handle::Peer,
    lane,
    state::State,
};
use crate::{
    api::{Instance, Kind},
    auth::{Identity, Known, PeerCredentials, Peers, certificate::ClientCertificate},
};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a container that is not recorded yet may wait for it.
const UNTIL_RECORDED: Duration = Duration::from_secs(2);

/// What is spoken behind TLS.
#[derive(Clone, Copy, Debug)]
enum Wire {
    /// HTTP.
    Http,
    /// App Mesh's frames.
    Frames,
    /// HTTP, and App Mesh's WebSocket.
    WebSocket,
}

/// The doors.
pub(super) struct Doors {
    pub tcp: TcpListener,
    /// For App Mesh's frames.
    pub frames: Option<TcpListener>,
    /// For App Mesh's WebSocket.
    pub wss: Option<TcpListener>,
    pub unix: UnixListener,
    /// Names who comes by the socket.
    pub peers: Arc<Peers>,
}

/// Serves until `state.stopping` is cancelled, then lets what is under way finish.
pub(super) async fn serve(doors: Doors, state: Arc<State>) {
    let Doors { tcp, frames, wss, unix, peers } = doors;
    let guests = TaskTracker::new();
    let from_afar = door(
        &state,
        &guests,
        || tcp.accept().boxed(),
        |(stream, source)| remote(stream, source, Wire::Http, state.clone()),
    );
    let from_app_mesh = async |listener: &Option<TcpListener>, wire| {
        let Some(listener) = listener else { return };
        let serve = |(stream, source)| remote(stream, source, wire, state.clone());
        door(&state, &guests, || listener.accept().boxed(), serve).await;
    };
    let track = Arc::new(lane::Track::default());
    let serve_here = |(stream, _)| local(stream, peers.clone(), track.clone(), state.clone());
    let from_here = door(&state, &guests, || unix.accept().boxed(), serve_here);
    let (framed, upgraded) = (from_app_mesh(&frames, Wire::Frames), from_app_mesh(&wss, Wire::WebSocket));
    tokio::join!(from_afar, framed, upgraded, from_here);
    drop((tcp, frames, wss, unix));
    guests.close();
    if tokio::time::timeout(FAREWELL, guests.wait()).await.is_err() {
        tracing::info!("some connections did not end in time");
    }
}

/// Lets connections in, as long as there are seats, until the server stops.
async fn door<'a, C, S>(
    state: &State,
    guests: &TaskTracker,
    accept: impl Fn() -> BoxFuture<'a, io::Result<C>>,
    serve: impl Fn(C) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(state.turnstile.bounds().connections));
    loop {
        let next = async {
            let seat = room.clone().acquire_owned().await.expect("nobody closes it");
            (seat, accept().await)
        };
        tokio::select! {
            () = state.stopping.cancelled() => return,
            (seat, accepted) = next => match accepted {
                Ok(stream) => {
                    let served = serve(stream);
                    guests.spawn(async move {
                        served.await;
                        drop(seat);
                    });
                }
                // Out of file descriptors, say: others must go first.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn remote(stream: TcpStream, source: SocketAddr, wire: Wire, state: Arc<State>) {
    // Without it every small answer waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let from = Source::from(source.ip());
    let Some(_connection) = state.turnstile.connection(from) else {
        return tracing::debug!(%source, "too many connections of one source");
    };
    let Ok(at) = stream.local_addr().map(|address| address.ip()) else { return };
    let acceptor = TlsAcceptor::from(state.tls.shown().config.clone());
    let handshake = tokio::select! {
        () = state.stopping.cancelled() => return,
        handshake = tokio::time::timeout(HANDSHAKE, async {
            let _turn = state.turnstile.handshake(from).await.ok_or_else(|| io::Error::other("too many at once"))?;
            acceptor.accept(stream).await
        }) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%source, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%source, "the TLS handshake took too long"),
    };
    let certificate = shown(&stream, source);
    let chain = stream.get_ref().1.peer_certificates().filter(|_| certificate.is_some()).map(<[_]>::to_vec);
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // The handshake has settled the protocol, so nobody waits for its first bytes without a limit.
    let spoken = if http2 { Spoken::Http2 } else { Spoken::Http1 };
    let peer = Peer::Remote { source, at, certificate };
    let served = match wire {
        Wire::Http => connection::serve(stream, spoken, None, peer, state.clone()).boxed(),
        Wire::WebSocket => connection::serve(stream, spoken, Some(Grant::default()), peer, state.clone()).boxed(),
        Wire::Frames => appmesh::frames(stream, peer, state.clone()).boxed(),
    };
    let Some(chain) = chain else { return served.await };
    tokio::select! {
        () = served => {}
        // With everything that is under way on it: what it stood on proves nobody any more.
        () = state.tls.disowned(&chain, &*state.clock) => {
            tracing::info!(%source, "a connection ends: the authority of its client certificate was taken away");
        }
    }
}

/// What the client's certificate says, if it has shown one.
fn shown(stream: &TlsStream<TcpStream>, source: SocketAddr) -> Option<Arc<ClientCertificate>> {
    let certificates = stream.get_ref().1.peer_certificates()?;
    match ClientCertificate::read(certificates.first()?) {
        Ok(certificate) => certificate.map(Arc::new),
        Err(error) => {
            tracing::info!(%source, %error, "a client certificate proves nobody");
            None
        }
    }
}

/// Who is at the other end. What a container asks in the instant before its start is recorded is answered a moment later.
async fn identified(peer: PeerCredentials, peers: &Arc<Peers>, state: &State) -> Option<Identity> {
    let look = || {
        let peers = peers.clone();
        async move { tokio::task::spawn_blocking(move || peers.identify(peer)).await.unwrap_or(Known::Nobody) }
    };
    match look().await {
        Known::As(identity) => return Some(*identity),
        Known::Nobody => return None,
        Known::NotYet => {}
    }
    let patience = state.clock.sleep(UNTIL_RECORDED);
    tokio::pin!(patience);
    // From before the next look on.
    let (_, mut changes) = state.store.list_and_watch(Instance::INFO);
    loop {
        match look().await {
            Known::As(identity) => return Some(*identity),
            Known::Nobody => return None,
            Known::NotYet => {}
        }
        tokio::select! {
            changed = changes.next() => drop(changed.ok()?),
            () = &mut patience => return None,
        }
    }
}

async fn local(stream: UnixStream, peers: Arc<Peers>, track: Arc<lane::Track>, state: Arc<State>) {
    let peer = match stream.peer_cred() {
        Ok(peer) => PeerCredentials { uid: peer.uid(), pid: peer.pid() },
        Err(error) => return tracing::warn!(%error, "a peer without credentials"),
    };
    let Some(identity) = identified(peer, &peers, &state).await else {
        return tracing::warn!(uid = peer.uid, "a stranger at the socket was turned away");
    };
    match lane::is_meant(&stream, &state).await {
        Ok(true) => track.serve(stream, identity, state).await,
        Ok(false) => connection::serve(stream, Spoken::Either, None, Peer::Local(identity), state).await,
        Err(error) => tracing::debug!(%error, "a peer at the socket said nothing"),
    }
}
