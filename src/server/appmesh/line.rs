//! A connection on which App Mesh's messages are spoken, whatever parts them: TCP ([`super::tcp`]) or a WebSocket ([`super::ws`]).
//!
//! ```text
//!  reader ─► message ─► each request's own way ─┐
//!    │             events that were subscribed to ┼─► writer: answers in the order in which they are ready, by uuid
//!    └─ TCP: a file, its frames, here and now ──┘
//! ```
//! Requests of one connection are answered as they are done, as clients expect who wait for several at once. A connection that ends takes what it
//! waits for with it: a long poll whose client is gone gets no task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use hyper::{
    HeaderMap, Method,
    header::{self, HeaderName, HeaderValue, USER_AGENT},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{Semaphore, mpsc},
};

use super::{
    connection,
    forward::{self, Brought, Whom},
    msgpack, said, stops, tcp, ws,
};
use crate::{
    api::{Status, TASK_LIMIT},
    appmesh::{self, Call, Content, Event, Listener, Reply, Route},
    auth::{From, Identity},
    broker::Payload,
    client::http::percent_decode,
    server::{
        audit::Observed,
        bounds::{Taken, Turnstile},
        handle::Peer,
        metrics::RequestLabels,
        state::State,
        turn::{InTurn, Turns},
    },
};

/// The longest message: a task, and what stands around it.
pub(super) const LONGEST: usize = TASK_LIMIT + (1 << 20);
/// What is small goes with what is before it: one record of TLS, one packet.
const RECORD: usize = 16 * 1024 - 128;
/// How much memory a message is given at a time.
pub(in crate::server) const PIECE: usize = 64 << 10;
/// How many requests of a connection are worked on at a time; the next message is read when there is room.
const AT_ONCE: usize = 64;
/// Answers that wait for a slow client.
const WAITING: usize = 16;
/// A client that says nothing for so long, and waits for nothing, is gone.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long a client has to take in why the connection ends.
const FAREWELL: Duration = Duration::from_secs(4);

/// What parts messages.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    /// A magic number and a length.
    Tcp,
    /// A WebSocket's frames.
    WebSocket {
        /// How this server was addressed.
        host: String,
        /// What whoever opened it has shown: it holds for messages that show nothing.
        shown: Option<Arc<Shown>>,
    },
}

/// What was shown with an upgrade, and who it was.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// `None`: the connection itself proves it.
    pub credential: Option<HeaderValue>,
    pub who: Identity,
}

impl Wire {
    /// A message, of which so many bytes stand in `content` and `more` come.
    pub(super) fn frame(&self, content: &[u8], more: usize) -> Bytes {
        match self {
            Wire::Tcp => tcp::frame(content, more),
            Wire::WebSocket { .. } => ws::message(content, more),
        }
    }

    /// How this server was addressed; empty where nobody says it.
    fn host(&self) -> &str {
        match self {
            Wire::Tcp => "",
            Wire::WebSocket { host, .. } => host,
        }
    }
}

/// Why a connection ends, and the number that a WebSocket's Close has for it (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct End {
    /// `None`: nobody is there to be told.
    pub code: Option<u16>,
    pub why: &'static str,
}

impl End {
    pub(super) const fn told(code: u16, why: &'static str) -> Self {
        Self { code: Some(code), why }
    }

    pub(super) const fn silent(why: &'static str) -> Self {
        Self { code: None, why }
    }
}

/// What is written in one go.
pub(in crate::server) struct Out {
    pub head: Bytes,
    pub pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

impl Out {
    /// Bytes as they are.
    pub(super) fn of(head: Bytes) -> Self {
        Self { head, pieces: Box::new(std::iter::empty()) }
    }
}

/// A connection.
pub(super) struct Line {
    pub peer: Peer,
    pub state: Arc<State>,
    pub wire: Wire,
    /// Who is told of events on it.
    listener: Arc<Listener>,
    /// Somebody has proved on it who they are.
    known: Arc<AtomicBool>,
    turns: Turns,
}

impl Line {
    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}

/// Serves one connection, until it or the server ends.
pub(super) async fn serve<S>(stream: S, wire: Wire, peer: Peer, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut reader, writer) = split(stream);
    let (send, outs) = mpsc::channel(WAITING);
    let mut writing = Box::pin(write(writer, outs, state.turnstile.bounds().stalled));
    let listener = listener(&state, &wire, &send);
    let turns = Turns::new(state.turnstile.turns(), &peer);
    let known = peer.is_ambient() || matches!(wire, Wire::WebSocket { shown: Some(_), .. });
    let known = Arc::new(AtomicBool::new(known));
    let line = Line { peer, state: state.clone(), wire, listener, known, turns: turns.clone() };
    let revoked = async {
        match &line.wire {
            Wire::WebSocket { shown: Some(shown), .. } => drop(state.admission.authority().revoked(&shown.who).await),
            _ => std::future::pending().await,
        }
    };
    // One task for all of it: what is answered is written there and then, and no other thread is woken for it.
    let conversation = Box::pin(async {
        tokio::select! {
            biased;
            ended = read(&mut reader, &line, &send) => Ok(ended.err().unwrap_or(End::silent("the client has left"))),
            Gone = &mut writing => Err(Gone),
        }
    });
    let end = tokio::select! {
        () = state.stopping.cancelled() => Ok(End::told(1001, "the server stops")),
        () = line.listener.broken() => Ok(End::told(1008, "a subscription cannot go on: what you may see has changed, or your token has ended")),
        () = revoked => Ok(End::told(1008, "what proved who you are has ended, or what you may do has changed: connect again")),
        // What is under way on it ends with it.
        ended = InTurn::new(conversation, turns) => ended,
    };
    let why = end.as_ref().map_or("the client takes nothing in", |end| end.why);
    tracing::debug!(peer = %line.peer, why, "a connection of App Mesh's clients ends");
    // No farewell for who takes nothing in: it would wait behind what they do not take.
    let Ok(end) = end else { return };
    if let (Wire::WebSocket { .. }, Some(code)) = (&line.wire, end.code) {
        // If there is no room for it, nobody reads.
        let _ = send.try_send(Out::of(ws::close(code, end.why)));
    }
    drop((send, line));
    // Who is still sending would lose what was told, were the connection closed over it.
    let farewell = async {
        writing.await;
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// The client is gone, or has taken nothing in for as long as it may; or nothing more is to be written.
struct Gone;

type UnderWay<'a> = FuturesUnordered<BoxFuture<'a, ()>>;

/// Something that the connection itself does, while what is under way on it goes on.
async fn alongside<T>(work: &mut UnderWay<'_>, own: impl Future<Output = T>) -> T {
    let mut own = std::pin::pin!(own);
    loop {
        tokio::select! {
            biased;
            Some(()) = work.next() => {}
            done = &mut own => return done,
        }
    }
}

async fn read<S>(reader: &mut ReadHalf<S>, line: &Line, send: &mpsc::Sender<Out>) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let seats = Semaphore::new(AT_ONCE);
    let mut work = UnderWay::new();
    loop {
        let mut taken = Taken::until(line.known.clone());
        // Whoever waits for something says nothing meanwhile.
        let is_idle = || seats.available_permits() == AT_ONCE && !line.listener.is_listening();
        let message = match line.wire {
            Wire::Tcp => alongside(&mut work, tcp::next(reader, &line.state, &mut taken, is_idle)).await?,
            Wire::WebSocket { .. } => {
                alongside(&mut work, ws::next(reader, &line.state, &mut taken, is_idle, send)).await?
            }
        };
        let Some(message) = message else { return Ok(()) };
        let request = msgpack::Request::read(&message).ok_or(End::told(1007, "what came is no request"))?;
        let headers = headers(&request);
        if matches!(line.wire, Wire::Tcp) && tcp::has_file(&headers) {
            alongside(&mut work, tcp::file(reader, line, send, &request, headers)).await?;
            continue;
        }
        let seat = alongside(&mut work, seats.acquire()).await.map_err(|_| End::silent("nobody closes it"))?;
        work.push(Box::pin(async move {
            let mut strange = taken.strange();
            let body = Payload::from(request.body.clone()).holding(taken);
            let mut exchange = std::pin::pin!(exchange(line, &request, headers, body));
            let exchanged = std::future::poll_fn(|cx| {
                let polled = exchange.as_mut().poll(cx);
                if line.is_known() {
                    // From then on it counts as everybody's does.
                    strange = None;
                }
                polled
            });
            let reply = exchanged.await;
            // Whoever is gone needs none.
            let _ = send.send(framed(&line.wire, &request, reply)).await;
            drop(seat);
        }));
    }
}

fn headers(request: &msgpack::Request) -> HeaderMap {
    let pairs = request.headers.iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?))
    });
    pairs.collect()
}

/// One request to its reply, with what is recorded and counted of every request.
async fn exchange(line: &Line, request: &msgpack::Request, headers: HeaderMap, body: Payload) -> Reply {
    let state = &line.state;
    recorded(line, request, headers, body, |route, whom, call| {
        async move {
            let is_file = matches!(route, Route::Upload | Route::Download);
            if is_file && matches!(line.wire, Wire::Tcp) {
                let message =
                    "a file goes between the frames: the header X-Send-File-Socket or X-Recv-File-Socket is missing";
                return Err(Status::bad_request(message));
            }
            match whom {
                Whom::Nobody(reply) => Ok(reply),
                // It goes over HTTPS, and whoever is meant judges there.
                Whom::There(_) if is_file => Ok(shown_again(Reply::empty(200), &call.headers)),
                Whom::Here(Some(who)) if is_file => {
                    let found = state.sdk.would_send(&route, &who, &call).await?;
                    Ok(shown_again(found, &call.headers))
                }
                Whom::There(there) => {
                    let asked = (&route, request.method.as_str(), request.uri.as_str());
                    Ok(forward::pass_on(state, &there, asked, (call, Brought::Body), || ()).await)
                }
                Whom::Here(who) => said(state, &route, who.as_ref(), call).await,
            }
        }
        .boxed()
    })
    .await
}

/// Clients of the second generation take a token from the answer to show it over HTTPS. It is the one that they have.
fn shown_again(reply: Reply, headers: &HeaderMap) -> Reply {
    let own = appmesh::credentials(headers);
    let shown = own.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    reply.with("authorization", shown.unwrap_or("Bearer"))
}

type Answering<'a> = BoxFuture<'a, Result<Reply, Status>>;

/// A request to its reply by `answer`, with what is recorded and counted of every request.
pub(super) async fn recorded<'a>(
    line: &'a Line,
    request: &msgpack::Request,
    mut headers: HeaderMap,
    body: Payload,
    answer: impl FnOnce(Route, Whom, Call) -> Answering<'a> + Send,
) -> Reply {
    let Line { peer, state, wire, listener, turns, .. } = line;
    if let Wire::WebSocket { shown: Some(shown), .. } = wire
        && let Some(credential) = &shown.credential
        && !headers.contains_key(header::AUTHORIZATION)
        && !headers.contains_key("x-target-host")
    {
        headers.insert(header::AUTHORIZATION, credential.clone());
    }
    let started = state.clock.now();
    let request_id = crate::clock::new_uid(&*state.clock).to_string();
    let method = Method::try_from(request.method.as_str()).unwrap_or(Method::OPTIONS);
    let mut observed = Observed::new(state, peer, &request_id, &method, &request.uri);
    let labels = RequestLabels { verb: method.as_str().to_lowercase(), resource: String::new(), code: 0 };
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let address = connection(peer).map(|source| source.ip());
    let from = From { address, owner: false, agent };
    let share = peer.source().map(|source| state.turnstile.request(source)).transpose();
    let attempt = async {
        let _share = share?;
        let Some(route) = appmesh::route(&request.method, &percent_decode(&request.uri, false)) else {
            let message = format!("Path not found {}:{}", request.method, request.uri);
            return Ok(Reply::message(404, &message));
        };
        if body.len() > route.longest() {
            return Err(Status::too_large(format!("Request entity too large: limit is {}", route.longest())));
        }
        let asked = forward::Asked { connection: peer, route: &route, headers: &headers, from: &from };
        let whom = forward::whom(state, asked, &mut observed).await?;
        if observed.who().is_some() {
            line.known.store(true, Ordering::Relaxed);
        }
        let (query, connection) = (request.query.clone(), connection(peer));
        let (listener, request_id) = (Some(listener.clone()), request_id.clone());
        let host = wire.host().to_owned();
        let call = Call { query, headers, body, host, from: from.clone(), connection, listener, request_id };
        // What proves something though nobody need have proved who they are: a process has a key and no name.
        let shows_a_key = matches!(route, Route::FetchTask(_) | Route::GiveTask(_));
        let logs_in = matches!(route, Route::Login | Route::ValidateTotp | Route::Renew);
        let reply = tokio::select! {
            reply = answer(route, whom, call) => reply,
            () = state.stopping.cancelled() => Err(stops()),
        };
        if reply.as_ref().is_ok_and(|reply| logs_in && reply.code == 200 || shows_a_key && reply.code != 412) {
            line.known.store(true, Ordering::Relaxed);
        }
        reply
    };
    let outcome = std::panic::AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request_id, "a request panicked");
        Err(Status::internal(format!("an internal error occurred; the log knows it as {request_id}")))
    });
    let reply = outcome.as_ref().map_or_else(|status| Reply::refusal(status).code, |reply| reply.code);
    if let Some(who) = observed.who() {
        turns.are(&who.name);
    }
    observed.end(&labels, reply, outcome.as_ref().err()).await;
    let took = state.clock.now().duration_since(started).try_into().unwrap_or_default();
    state.metrics.answered(RequestLabels { code: reply, ..labels }, took);
    super::challenged(outcome.unwrap_or_else(|status| Reply::refusal(&status)), wire.host())
}

/// Events go as answers do that nobody asked for; whoever listens has a seat among those who watch.
fn listener(state: &Arc<State>, wire: &Wire, send: &mpsc::Sender<Out>) -> Arc<Listener> {
    let (send, wire) = (send.clone(), wire.clone());
    let push: appmesh::Push = Arc::new(move |event| {
        let (send, out) = (send.clone(), pushed(&wire, event));
        async move { send.send(out).await.is_ok() }.boxed()
    });
    let state = Arc::downgrade(state);
    let seat = move |who: &Identity| -> Result<appmesh::Seat, Status> {
        let state = state.upgrade().ok_or_else(stops)?;
        Ok(Box::new(state.watch_of(who)?))
    };
    Arc::new(Listener::new(push, seat))
}

/// An event as a message.
fn pushed(wire: &Wire, event: Event) -> Out {
    let Event { uuid, headers, body } = event;
    let headers: Vec<(String, String)> = headers.into_iter().map(|(name, value)| (titled(name), value)).collect();
    let head = msgpack::head(&uuid, appmesh::EVENT_PATH, 200, "application/json", &headers, body.len());
    Out { head: wire.frame(&head, body.len()), pieces: Box::new(std::iter::once(body.into())) }
}

/// A reply as a message. What comes in pieces goes so.
pub(super) fn framed(wire: &Wire, request: &msgpack::Request, reply: Reply) -> Out {
    let Reply { code, headers, content } = reply;
    let passed;
    let (kind, length, pieces): (&str, usize, Box<dyn Iterator<Item = Bytes> + Send>) = match content {
        Content::Nothing | Content::Stream { .. } => ("application/json", 0, Box::new(std::iter::empty())),
        Content::Json(value) => one("application/json", value.to_string().into()),
        Content::Text(kind, text) => one(kind, text),
        Content::Bytes(bytes) => ("application/octet-stream", bytes.len(), Box::new(bytes.into_pieces())),
        Content::Passed { kind, bytes } => {
            passed = kind;
            (&passed, bytes.len(), Box::new(bytes.into_pieces()))
        }
        Content::Task(task) => {
            let task = task.begun();
            ("application/octet-stream", task.left(), Box::new(task))
        }
    };
    let headers: Vec<(String, String)> = headers.into_iter().map(|(name, value)| (titled(name), value)).collect();
    let head = msgpack::head(&request.uuid, &request.uri, code, kind, &headers, length);
    Out { head: wire.frame(&head, length), pieces }
}

/// As App Mesh writes a header: older clients look for it so.
fn titled(name: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn one(kind: &'static str, whole: Bytes) -> (&'static str, usize, Box<dyn Iterator<Item = Bytes> + Send>) {
    (kind, whole.len(), Box::new(std::iter::once(whole)))
}

/// Writes what is ready, until nobody has anything to say any more, or nobody listens.
async fn write<S: AsyncRead + AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut outs: mpsc::Receiver<Out>,
    patience: Duration,
) -> Gone {
    while let Some(Out { head, pieces }) = outs.recv().await {
        let mut out = BytesMut::from(&head[..]);
        let written = async {
            for piece in pieces {
                if out.len() + piece.len() <= RECORD {
                    out.put_slice(&piece);
                    continue;
                }
                tokio::time::timeout(patience, writer.write_all(&out)).await??;
                out.clear();
                tokio::time::timeout(patience, writer.write_all(&piece)).await??;
            }
            tokio::time::timeout(patience, writer.write_all(&out)).await??;
            tokio::time::timeout(patience, writer.flush()).await??;
            Ok::<_, std::io::Error>(())
        };
        if written.await.is_err() {
            return Gone;
        }
    }
    // The other end learns it from the end of the stream.
    let _ = writer.shutdown().await;
    Gone
}

/// So many bytes more, as they come: nobody gets memory for what they only say.
pub(super) async fn take<R: AsyncRead + Unpin>(
    reader: &mut R,
    turnstile: &Turnstile,
    taken: &mut Taken,
    into: &mut BytesMut,
    length: usize,
) -> Result<(), End> {
    let end = into.len() + length;
    // What was taken and nothing came for yet: in however small pieces it comes, it counts once.
    let mut spare = 0;
    while into.len() < end {
        let room = (end - into.len()).min(PIECE);
        if spare < room {
            let full = |_| End::told(1013, "there is no room for more, try again later");
            turnstile.room(taken, room - spare).map_err(full)?;
            spare = room;
        }
        into.reserve(room);
        // Not more than was asked for: what comes then is of the next one.
        let read = (&mut *reader).take(room as u64).read_buf(into).await.unwrap_or(0);
        if read == 0 {
            return Err(End::silent("a message broke off"));
        }
        spare -= read;
    }
    Ok(())
}
