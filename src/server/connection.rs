//! One connection: HTTP/1.1 or HTTP/2 until the client leaves, idles too long, reads nothing, or the server stops.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response, Version,
    body::{Frame, Incoming, SizeHint},
    header,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    body::Lent,
    bounds::{Share, Source},
    grants::Grant,
    handle::{self, Peer},
    respond::{self, BodyError},
    state::State,
    turn::{InTurn, Streams, Turns},
};

const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// Go clients put all their watches on one connection.
const STREAMS: u32 = 2000;
/// A head of a request: selectors can be long.
const HEAD: u32 = 64 * 1024;

/// What a client speaks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spoken {
    Http1,
    Http2,
    /// Its first bytes will tell.
    Either,
}

/// Serves a connection to its end; with a `grant` it may become something else before that.
pub(super) async fn serve<S>(stream: S, spoken: Spoken, grant: Option<Grant>, peer: Peer, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = *state.turnstile.bounds();
    let turns = Turns::new(state.turnstile.turns(), &peer);
    let builder = Builder::new(Streams(turns.clone()));
    let mut builder = match spoken {
        Spoken::Http1 => builder.http1_only(),
        Spoken::Http2 => builder.http2_only(),
        Spoken::Either => builder,
    };
    // Without `pipeline_flush`: with it hyper's buffer for a client that reads nothing has no bound.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(bounds.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE);
    let stopping = state.stopping.clone();
    let usage = Arc::new(Usage::new());
    let (counted, asks, granted) = (usage.clone(), turns.clone(), grant.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(grant) = &granted {
            request.extensions_mut().insert(grant.clone());
        }
        answer(state.clone(), peer.clone(), counted.clone(), asks.clone(), request)
    });
    let io = TokioIo::new(Impatient::new(stream, bounds.stalled));
    let connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut connection = InTurn::new(connection, turns);
    let mut farewell = pin!(async {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = usage.idle(bounds.idle) => {}
        }
    });
    let mut said = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                break;
            }
            () = farewell.as_mut(), if !said => {
                said = true;
                connection.inner().graceful_shutdown();
            }
        }
    }
    if let Some(session) = grant.and_then(|grant| grant.taken()) {
        session.await;
    }
}

/// The answer to a request; it counts as under way until its body is sent.
async fn answer(
    state: Arc<State>,
    peer: Peer,
    usage: Arc<Usage>,
    turns: Turns,
    request: Request<Incoming>,
) -> Result<Response<Counted>, Infallible> {
    let under_way = UnderWay::new(usage);
    let share = peer.source().map(|source| state.turnstile.request(source)).transpose();
    let let_in = share.as_ref().map(drop).map_err(Clone::clone);
    // `Expect: 100-continue`: the client has not begun to send, and will not.
    let http1 = request.version() <= Version::HTTP_11;
    let expects = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let (body, rest) = Lent::new(body);
    let mut answer = handle::answer(state, peer, Request::from_parts(head, body), let_in, &turns).await?;
    if !expects && !rest.swallowed().await && http1 {
        respond::header(&mut answer, "connection", "close");
    }
    Ok(answer.map(|body| Counted { body, _under_way: under_way, _share: share.ok().flatten() }))
}

/// A body that counts as under way until it is sent, or given up.
struct Counted {
    body: respond::Body,
    _under_way: UnderWay,
    _share: Option<Share<Source>>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How much a connection is used.
struct Usage {
    under_way: AtomicUsize,
    /// When the last request ended.
    since: Mutex<Instant>,
}

impl Usage {
    fn new() -> Self {
        Self { under_way: AtomicUsize::new(0), since: Mutex::new(Instant::now()) }
    }

    fn since(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing was under way for so long.
    async fn idle(&self, patience: Duration) {
        loop {
            let busy = self.under_way.load(Ordering::Acquire) > 0;
            let until = if busy { Instant::now() } else { self.since() } + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// One request that is under way.
struct UnderWay(Arc<Usage>);

impl UnderWay {
    fn new(usage: Arc<Usage>) -> Self {
        usage.under_way.fetch_add(1, Ordering::AcqRel);
        Self(usage)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that breaks off when its peer takes nothing for too long.
pub(super) struct Impatient<S> {
    inner: S,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, waiting: None }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(cx, done)
    }
}
