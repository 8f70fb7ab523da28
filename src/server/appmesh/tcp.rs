//! App Mesh's frames over TLS: eight bytes of head (a magic number and a length, highest byte first) and a message in MessagePack. A file goes up or
//! down between the others, on the connection itself.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, StreamExt, stream};
use hyper::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf},
    sync::mpsc,
};

use super::{
    forward::{self, Brought, Whom},
    line::{End, IDLE, LONGEST, Line, Out, framed, recorded},
    msgpack,
};
use crate::{
    api::Status,
    appmesh::{Content, Reply, Route, Upload},
    broker::Payload,
    server::{bounds::Taken, state::State},
};

const MAGIC: u32 = 0x07c7_07f8;
/// How much of a file is in a frame.
const BLOCK: usize = 16 * 1024 - 128;
const DOWN: &str = "x-recv-file-socket";
const UP: &str = "x-send-file-socket";
const GONE: End = End::silent("nobody writes");

/// True for a request behind which a file comes, or goes.
pub(super) fn has_file(headers: &HeaderMap) -> bool {
    headers.contains_key(UP) || headers.contains_key(DOWN)
}

/// Takes it, or sends it.
pub(super) async fn file<S>(
    reader: &mut ReadHalf<S>,
    line: &Line,
    send: &mpsc::Sender<Out>,
    request: &msgpack::Request,
    headers: HeaderMap,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    match headers.contains_key(UP) {
        true => upload(reader, line, send, request, headers).await,
        false => download(line, send, request, headers).await,
    }
}

/// The next frame; `None` at the end.
pub(super) async fn next<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    state: &State,
    taken: &mut Taken,
    is_idle: impl Fn() -> bool,
) -> Result<Option<Bytes>, End> {
    let mut head = [0; 8];
    let mut first = std::pin::pin!(reader.read_exact(&mut head));
    loop {
        match tokio::time::timeout(IDLE, &mut first).await {
            Err(_) if !is_idle() => {}
            Err(_) => return Err(End::silent("nothing came for long")),
            Ok(Err(_)) => return Ok(None),
            Ok(Ok(_)) => break,
        }
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(0) != MAGIC {
        return Err(End::silent("a frame begins otherwise"));
    }
    let length = usize::try_from(word(4)).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or(End::silent("a frame is too long"))?;
    let mut frame = BytesMut::new();
    let whole = super::line::take(reader, &state.turnstile, taken, &mut frame, length);
    let patience = state.turnstile.bounds().body;
    tokio::time::timeout(patience, whole).await.map_err(|_| End::silent("a frame did not come in time"))??;
    Ok(Some(frame.freeze()))
}

/// The beginning of a frame, of which so much more comes.
pub(super) fn frame(content: &[u8], more: usize) -> Bytes {
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
) -> Result<(), End>
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
        reply = &mut done => return send.send(framed(&line.wire, request, reply)).await.map_err(|_| GONE),
        began = begun => began.map_err(|_| End::silent("the file was given up"))?,
    }
    let ready = Reply::empty(200).with(UP, base64(&path));
    send.send(framed(&line.wire, request, ready)).await.map_err(|_| GONE)?;
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
    if reply.code == 200 { Ok(()) } else { Err(End::silent("a file cannot be kept")) }
}

/// The frames of a file, up to the empty one.
async fn blocks<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    state: &State,
    pieces: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), End> {
    loop {
        let mut taken = Taken::default();
        let block = next(reader, state, &mut taken, || true).await?.ok_or(End::silent("a file broke off"))?;
        if block.is_empty() {
            return Ok(());
        }
        pieces.send(Ok(block)).await.map_err(|_| End::silent("a file cannot be kept"))?;
    }
}

/// A file that goes down: the answer, its frames, and one that is empty.
async fn download(
    line: &Line,
    send: &mpsc::Sender<Out>,
    request: &msgpack::Request,
    headers: HeaderMap,
) -> Result<(), End> {
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
        return send.send(framed(&line.wire, request, reply)).await.map_err(|_| GONE);
    };
    let reply = reply.with(DOWN, base64(&path));
    send.send(framed(&line.wire, request, reply)).await.map_err(|_| GONE)?;
    while let Some(piece) = pieces.next().await {
        let mut piece = piece.map_err(|_| End::silent("a file cannot be read"))?;
        while !piece.is_empty() {
            let block = piece.split_to(piece.len().min(BLOCK));
            let out = Out { head: frame(&[], block.len()), pieces: Box::new(std::iter::once(block)) };
            send.send(out).await.map_err(|_| GONE)?;
        }
    }
    let end = Out { head: frame(&[], 0), pieces: Box::new(std::iter::empty()) };
    send.send(end).await.map_err(|_| GONE)
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}
