//! App Mesh's frames over TLS: eight bytes of head (a magic number and a length, highest byte first) and a message in MessagePack.
//!
//! ```text
//!  reader ─► frame ─► task for each request ─┐
//!    │          events that were subscribed to ┼─► writer: answers in the order in which they are ready, by uuid
//!    └─ a file: its frames, here and now ────┘
//! ```
//! Requests of one connection are answered as they are done, as clients expect who wait for several at once. A connection that ends takes what it
//! waits for with it: a long poll whose client is gone gets no task. A file goes up or down between the others, on the connection itself.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream};
use hyper::{
    HeaderMap, Method,
    header::{HeaderName, HeaderValue, USER_AGENT},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    connection,
    forward::{self, Brought, Whom},
    msgpack, said, stops,
};
use crate::{
    api::{Status, TASK_LIMIT},
    appmesh::{self, Call, Content, Event, Listener, Reply, Route, Upload},
    auth::From,
    broker::Payload,
    server::{audit::Observed, bounds::Taken, handle::Peer, metrics::RequestLabels, state::State},
};

const MAGIC: u32 = 0x07c7_07f8;
/// The longest frame: a task, and what stands around it.
const LONGEST: usize = TASK_LIMIT + (1 << 20);
/// How much of a file is in a frame.
const BLOCK: usize = 16 * 1024 - 128;
/// How many requests of a connection are worked on at a time; the next frame is read when there is room.
const AT_ONCE: usize = 64;
/// Answers that wait for a slow client.
const WAITING: usize = 16;
/// A client that says nothing for so long, and waits for nothing, is gone.
const IDLE: Duration = Duration::from_secs(30 * 60);
const DOWN: &str = "x-recv-file-socket";
const UP: &str = "x-send-file-socket";

/// What is written in one go.
struct Out {
    head: Bytes,
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

/// A connection.
struct Line {
    peer: Peer,
    state: Arc<State>,
    /// Who is told of events on it.
    listener: Arc<Listener>,
}

/// Serves one connection, until it or the server ends.
pub(in crate::server) async fn serve<S>(stream: S, peer: Peer, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = split(stream);
    let (send, outs) = mpsc::channel(WAITING);
    let mut work = JoinSet::new();
    let gone = CancellationToken::new();
    work.spawn(write(writer, outs, state.turnstile.bounds().stalled, gone.clone()));
    let line = Arc::new(Line { peer, state: state.clone(), listener: listener(&state, &send) });
    let read = read(reader, &line, &send, &mut work);
    let peer = &line.peer;
    tokio::select! {
        () = state.stopping.cancelled() => {}
        () = gone.cancelled() => tracing::debug!(%peer, "a client of App Mesh's frames takes nothing in"),
        () = line.listener.broken() => tracing::debug!(%peer, "a connection of App Mesh's frames ends with a subscription"),
        ended = read => if let Err(why) = ended {
            tracing::debug!(%peer, why, "a connection of App Mesh's frames ends");
        }
    }
    // What is under way on it ends with it.
    drop(send);
    work.shutdown().await;
}

async fn read<S>(
    mut reader: ReadHalf<S>,
    line: &Arc<Line>,
    send: &mpsc::Sender<Out>,
    work: &mut JoinSet<()>,
) -> Result<(), &'static str>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let mut taken = Taken::default();
        let is_idle = || seats.available_permits() == AT_ONCE && !line.listener.is_listening();
        let Some(frame) = next(&mut reader, &line.state, &mut taken, is_idle).await? else { return Ok(()) };
        while work.try_join_next().is_some() {}
        if send.is_closed() {
            return Err("the client takes nothing in");
        }
        let request = msgpack::Request::read(&frame).ok_or("what came is no request")?;
        let headers = headers(&request);
        if headers.contains_key(UP) {
            upload(&mut reader, line, send, &request, headers).await?;
            continue;
        }
        if headers.contains_key(DOWN) {
            download(line, send, &request, headers).await?;
            continue;
        }
        let seat = seats.clone().acquire_owned().await.map_err(|_| "nobody closes it")?;
        let (line, send) = (line.clone(), send.clone());
        work.spawn(async move {
            let body = Payload::from(request.body.clone()).holding(taken);
            let reply = exchange(&line, &request, headers, body).await;
            let _ = send.send(framed(&request, reply)).await;
            drop(seat);
        });
    }
}

/// The next frame; `None` at the end.
async fn next<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    state: &State,
    taken: &mut Taken,
    is_idle: impl Fn() -> bool,
) -> Result<Option<Bytes>, &'static str> {
    let mut head = [0; 8];
    let mut first = std::pin::pin!(reader.read_exact(&mut head));
    loop {
        match tokio::time::timeout(IDLE, &mut first).await {
            // Whoever waits for something says nothing meanwhile.
            Err(_) if !is_idle() => {}
            Err(_) => return Err("nothing came for long"),
            Ok(Err(_)) => return Ok(None),
            Ok(Ok(_)) => break,
        }
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(0) != MAGIC {
        return Err("a frame begins otherwise");
    }
    let length = usize::try_from(word(4)).map_err(|_| "a frame is too long")?;
    if length > LONGEST {
        return Err("a frame is too long");
    }
    // As it comes: nobody gets memory for what they only say.
    let mut frame = BytesMut::new();
    let whole = async {
        while frame.len() < length {
            let room = (length - frame.len()).min(64 << 10);
            state.turnstile.room(taken, room).map_err(|_| "there is no room for more")?;
            frame.reserve(room);
            let read = (&mut *reader).take(room as u64).read_buf(&mut frame).await.map_err(|_| "a frame broke off")?;
            if read == 0 {
                return Err("a frame broke off");
            }
        }
        Ok(())
    };
    tokio::time::timeout(state.turnstile.bounds().body, whole).await.map_err(|_| "a frame did not come in time")??;
    Ok(Some(frame.freeze()))
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
            if matches!(route, Route::Upload | Route::Download) {
                let message =
                    "a file goes between the frames: the header X-Send-File-Socket or X-Recv-File-Socket is missing";
                return Err(Status::bad_request(message));
            }
            match whom {
                Whom::Nobody(reply) => Ok(reply),
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

type Answering<'a> = futures::future::BoxFuture<'a, Result<Reply, Status>>;

async fn recorded<'a>(
    line: &'a Line,
    request: &msgpack::Request,
    headers: HeaderMap,
    body: Payload,
    answer: impl FnOnce(Route, Whom, Call) -> Answering<'a> + Send,
) -> Reply {
    let Line { peer, state, listener } = line;
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
        let Some(route) = appmesh::route(&request.method, &request.uri) else {
            let message = format!("Path not found {}:{}", request.method, request.uri);
            return Ok(Reply::message(404, &message));
        };
        if body.len() > route.longest() {
            return Err(Status::too_large(format!("Request entity too large: limit is {}", route.longest())));
        }
        let asked = forward::Asked { connection: peer, route: &route, headers: &headers, from: &from };
        let whom = forward::whom(state, asked, &mut observed).await?;
        let (query, connection) = (request.query.clone(), connection(peer));
        let (listener, request_id) = (Some(listener.clone()), request_id.clone());
        let call = Call { query, headers, body, from: from.clone(), connection, listener, request_id };
        tokio::select! {
            reply = answer(route, whom, call) => reply,
            () = state.stopping.cancelled() => Err(stops()),
        }
    };
    let outcome = std::panic::AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request_id, "a request panicked");
        Err(Status::internal(format!("an internal error occurred; the log knows it as {request_id}")))
    });
    let reply = outcome.as_ref().map_or_else(|status| Reply::refusal(status).code, |reply| reply.code);
    observed.end(&labels, reply, outcome.as_ref().err()).await;
    let took = state.clock.now().duration_since(started).try_into().unwrap_or_default();
    state.metrics.answered(RequestLabels { code: reply, ..labels }, took);
    outcome.unwrap_or_else(|status| Reply::refusal(&status))
}

/// Events go as answers do that nobody asked for; whoever listens has a seat among those who watch.
fn listener(state: &Arc<State>, send: &mpsc::Sender<Out>) -> Arc<Listener> {
    let send = send.clone();
    let push: appmesh::Push = Arc::new(move |event| {
        let send = send.clone();
        async move { send.send(pushed(event)).await.is_ok() }.boxed()
    });
    let state = Arc::downgrade(state);
    let seat = move |who: &crate::auth::Identity| -> Result<appmesh::Seat, Status> {
        let state = state.upgrade().ok_or_else(stops)?;
        Ok(Box::new(state.watch_of(who)?))
    };
    Arc::new(Listener::new(push, seat))
}

/// An event as a frame.
fn pushed(event: Event) -> Out {
    let Event { uuid, headers, body } = event;
    let headers: Vec<(String, String)> = headers.into_iter().map(|(name, value)| (titled(name), value)).collect();
    let head = msgpack::head(&uuid, appmesh::EVENT_PATH, 200, "application/json", &headers, body.len());
    Out { head: frame(&head, body.len()), pieces: Box::new(std::iter::once(body.into())) }
}

/// A reply as a frame. What comes in pieces goes so.
fn framed(request: &msgpack::Request, reply: Reply) -> Out {
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
    Out { head: frame(&head, length), pieces }
}

/// As App Mesh writes a header: older clients look for it so.
fn titled(name: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

fn one(kind: &'static str, whole: Bytes) -> (&'static str, usize, Box<dyn Iterator<Item = Bytes> + Send>) {
    (kind, whole.len(), Box::new(std::iter::once(whole)))
}

/// The beginning of a frame, of which so much more comes.
fn frame(content: &[u8], more: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + content.len());
    out.put_u32(MAGIC);
    out.put_u32(u32::try_from(content.len() + more).unwrap_or(u32::MAX));
    out.put_slice(content);
    out.freeze()
}

/// A file that goes up: the answer says that it may come, then it comes. That it could not be kept is told by the end of the connection.
async fn upload<S>(
    reader: &mut ReadHalf<S>,
    line: &Line,
    send: &mpsc::Sender<Out>,
    request: &msgpack::Request,
    headers: HeaderMap,
) -> Result<(), &'static str>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let state = &line.state;
    let (pieces, coming) = mpsc::channel::<Result<Bytes, Status>>(1);
    let coming: Upload =
        stream::unfold(coming, |mut coming| async move { Some((coming.recv().await?, coming)) }).boxed();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let path = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-file-path"));
    let path = path.map(|(_, path)| path.clone()).unwrap_or_default();
    let done = recorded(line, request, headers, Payload::default(), |route, whom, call| {
        async move {
            let ready = || begin.send(()).unwrap_or_default();
            match whom {
                Whom::Nobody(reply) => Ok(reply),
                _ if route != Route::Upload => Err(Status::no_route()),
                Whom::Here(None) => Err(Status::no_route()),
                Whom::Here(Some(who)) => state.sdk.upload(&who, &call, coming, ready).await,
                Whom::There(there) => {
                    let asked = (&route, request.method.as_str(), request.uri.as_str());
                    Ok(forward::pass_on(state, &there, asked, (call, Brought::Coming(coming, None)), ready).await)
                }
            }
        }
        .boxed()
    });
    tokio::pin!(done);
    tokio::select! {
        // Refused before anything came.
        reply = &mut done => return send.send(framed(request, reply)).await.map_err(|_| "nobody writes"),
        began = begun => began.map_err(|_| "the file was given up")?,
    }
    let ready = Reply::empty(200).with(UP, base64(&path));
    send.send(framed(request, ready)).await.map_err(|_| "nobody writes")?;
    let blocks = async move {
        let came = blocks(reader, state, &pieces).await;
        if came.is_err() {
            // Or it would be taken for the end of the file.
            let _ = pieces.send(Err(Status::bad_request("the file broke off"))).await;
        }
        came
    };
    let (came, reply) = tokio::join!(blocks, done);
    came?;
    if reply.code == 200 { Ok(()) } else { Err("a file cannot be kept") }
}

/// The frames of a file, up to the empty one.
async fn blocks<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    state: &State,
    pieces: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), &'static str> {
    loop {
        let mut taken = Taken::default();
        let block = next(reader, state, &mut taken, || true).await?.ok_or("a file broke off")?;
        if block.is_empty() {
            return Ok(());
        }
        pieces.send(Ok(block)).await.map_err(|_| "a file cannot be kept")?;
    }
}

/// A file that goes down: the answer, its frames, and one that is empty.
async fn download(
    line: &Line,
    send: &mpsc::Sender<Out>,
    request: &msgpack::Request,
    headers: HeaderMap,
) -> Result<(), &'static str> {
    let state = &line.state;
    let path = headers.get("x-file-path").and_then(|path| path.to_str().ok()).unwrap_or_default().to_owned();
    let reply = recorded(line, request, headers, Payload::default(), |route, whom, call| {
        async move {
            match whom {
                Whom::Nobody(reply) => Ok(reply),
                _ if route != Route::Download => Err(Status::no_route()),
                Whom::Here(None) => Err(Status::no_route()),
                Whom::Here(Some(who)) => state.sdk.known(&route, &who, call).await,
                Whom::There(there) => {
                    let asked = (&route, request.method.as_str(), request.uri.as_str());
                    Ok(forward::pass_on(state, &there, asked, (call, Brought::Body), || ()).await)
                }
            }
        }
        .boxed()
    });
    let mut reply = reply.await;
    let Content::Stream { mut pieces, .. } = std::mem::replace(&mut reply.content, Content::Nothing) else {
        return send.send(framed(request, reply)).await.map_err(|_| "nobody writes");
    };
    let reply = reply.with(DOWN, base64(&path));
    send.send(framed(request, reply)).await.map_err(|_| "nobody writes")?;
    while let Some(piece) = pieces.next().await {
        let mut piece = piece.map_err(|_| "a file cannot be read")?;
        while !piece.is_empty() {
            let block = piece.split_to(piece.len().min(BLOCK));
            let out = Out { head: frame(&[], block.len()), pieces: Box::new(std::iter::once(block)) };
            send.send(out).await.map_err(|_| "nobody writes")?;
        }
    }
    let end = Out { head: frame(&[], 0), pieces: Box::new(std::iter::empty()) };
    send.send(end).await.map_err(|_| "nobody writes")
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

/// Writes what is ready. `gone`: the client is, or has taken nothing in for as long as it may.
async fn write<S: AsyncRead + AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut outs: mpsc::Receiver<Out>,
    patience: Duration,
    gone: CancellationToken,
) {
    while let Some(Out { head, pieces }) = outs.recv().await {
        let mut out = BytesMut::from(&head[..]);
        let written = async {
            for piece in pieces {
                // What is small goes with what is before it: one record of TLS, one packet.
                if out.len() + piece.len() <= BLOCK {
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
            // No farewell: it would wait behind what the client does not take.
            gone.cancel();
            return;
        }
    }
    // The other end learns it from the end of the stream.
    let _ = writer.shutdown().await;
}
