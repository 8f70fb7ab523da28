//! A WebSocket (RFC 6455) that carries App Mesh's messages: one binary message is one request, an answer or an event.
//!
//! Only what a server needs: frames from clients are masked, ours are not; a message may come in several frames, with pings between them; text,
//! extensions and what is against the rules end the connection with a Close that says why. Library code for it gives memory to what a
//! frame says that it is long; here it comes out of the pool for bodies, as the bytes come.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::{
    HeaderMap, Method, Response, StatusCode, header,
    http::{HeaderValue, request::Parts},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};

use super::line::{self, End, IDLE, LONGEST, Out, Shown, Wire};
use crate::{
    api::Status,
    appmesh,
    auth::From,
    clock::SharedClock,
    server::{
        audit::Observed,
        bounds::{Taken, Turnstile},
        grants::Grant,
        handle::{self, Peer},
        respond::{self, Answer},
        state::State,
    },
};

/// The protocol that clients name.
const PROTOCOL: &str = "appmesh-ws";
/// What the key is hashed with (section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// After so long without a word the client is asked whether it is there. Its own patience is a minute.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Who has not answered so many is gone.
const PINGS: u32 = 3;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The longest content of Close, Ping and Pong.
const SHORT: u64 = 125;

/// True for a request that wants a connection to become a WebSocket.
pub(in crate::server) fn is_wanted(head: &Parts) -> bool {
    head.method == Method::GET && has(&head.headers, &header::UPGRADE, "websocket")
}

/// Grants it: what comes on the connection from then on is messages.
///
/// # Errors
/// 400 for what is no handshake or names another protocol; 401 for what proves nobody.
pub(in crate::server) async fn accept(
    state: &Arc<State>,
    peer: &Peer,
    (head, grant): (&mut Parts, &Grant),
    from: &From,
    observed: &mut Observed<'_>,
) -> Result<Answer, Status> {
    if head.uri.path() != "/" {
        return Err(Status::bad_request("a WebSocket is at `/`, and nowhere else"));
    }
    if text(&head.headers, "sec-websocket-version") != "13" {
        let mut answer = respond::whole(StatusCode::UPGRADE_REQUIRED, "text/plain", "version 13 is spoken here");
        respond::header(&mut answer, "sec-websocket-version", "13");
        return Ok(answer);
    }
    let key = text(&head.headers, "sec-websocket-key");
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) || !has(&head.headers, &header::CONNECTION, "upgrade") {
        return Err(Status::bad_request("this is no handshake of a WebSocket"));
    }
    let protocols = header::SEC_WEBSOCKET_PROTOCOL;
    let named = head.headers.contains_key(&protocols);
    if named && !has(&head.headers, &protocols, PROTOCOL) {
        return Err(Status::bad_request(format!("the protocol of this WebSocket is `{PROTOCOL}`")));
    }
    let own = appmesh::credentials(&head.headers);
    let credential = own.get(header::AUTHORIZATION).cloned();
    let shown = match credential.is_some() || peer.is_ambient() {
        true => Some(Arc::new(Shown { who: handle::known(state, peer, &own, from, observed).await?, credential })),
        // Messages may have one of their own, and a worker needs none.
        false => None,
    };
    let mut answer = Response::new(http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
        http_body_util::Empty::new(),
        |never| match never {},
    )));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if named {
        headers.insert(protocols, HeaderValue::from_static(PROTOCOL));
    }
    respond::header(&mut answer, "sec-websocket-accept", &accepted(key));
    let upgrade = grant.upgrade(head).ok_or_else(|| Status::bad_request("this connection cannot become another"))?;
    let (state, peer) = (state.clone(), peer.clone());
    let wire = Wire::WebSocket { host: super::addressed(head), shown };
    grant.becomes(async move {
        match upgrade.await {
            Ok(stream) => line::serve(TokioIo::new(stream), wire, peer, state).await,
            Err(error) => tracing::debug!(%peer, %error, "a connection did not become a WebSocket"),
        }
    });
    Ok(answer)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// True if a word is in one of the lists of a header.
fn has(headers: &HeaderMap, name: &header::HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|entry| entry.trim().eq_ignore_ascii_case(word))
}

/// What shows a client that its key was read. RFC 6455 has SHA-1 for it; nothing is kept safe by it.
fn accepted(key: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// A frame of ours that is a whole message: `content`, and so many bytes more.
pub(super) fn message(content: &[u8], more: usize) -> Bytes {
    frame(BINARY, content, more)
}

/// A Close with its reason.
pub(super) fn close(code: u16, why: &str) -> Bytes {
    let why = &why.as_bytes()[..why.len().min(SHORT as usize - 2)];
    frame(CLOSE, &[&code.to_be_bytes(), why].concat(), 0)
}

fn frame(kind: u8, content: &[u8], more: usize) -> Bytes {
    let length = content.len() + more;
    let mut out = BytesMut::with_capacity(10 + content.len());
    out.put_u8(0x80 | kind);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.put_u8(short),
        (_, Ok(middle)) => {
            out.put_u8(126);
            out.put_u16(middle);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(content);
    out.freeze()
}

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    is_last: bool,
    kind: u8,
    length: u64,
    mask: [u8; 4],
}

const MALFORMED: End = End::told(1002, "a frame is against the rules (RFC 6455)");
const TOO_LONG: End = End::told(1009, "a message is too long");
const LATE: End = End::told(1008, "a message did not come in time");
const BROKE_OFF: End = End::silent("a frame broke off");

impl Head {
    /// The rest of a head that begins so.
    async fn read<R: AsyncRead + Unpin>(reader: &mut R, first: [u8; 2]) -> Result<Self, End> {
        let (is_last, kind) = (first[0] & 0x80 != 0, first[0] & 0x0f);
        let (is_masked, short) = (first[1] & 0x80 != 0, first[1] & 0x7f);
        let is_control = kind & 8 != 0;
        // The bits between are of extensions, and none was agreed on.
        if first[0] & 0x70 != 0 || !is_masked || (is_control && (!is_last || u64::from(short) > SHORT)) {
            return Err(MALFORMED);
        }
        let broke_off = |_| BROKE_OFF;
        let length = match short {
            126 => u64::from(reader.read_u16().await.map_err(broke_off)?),
            127 => reader.read_u64().await.map_err(broke_off)?,
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        reader.read_exact(&mut mask).await.map_err(broke_off)?;
        Ok(Self { is_last, kind, length, mask })
    }
}

/// Takes the mask off again (section 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let key = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// The next message; `None` when the client says goodbye, or has gone. Who is silent is asked now and then whether it is there.
pub(super) async fn next<R: AsyncRead + Unpin>(
    reader: &mut R,
    state: &State,
    taken: &mut Taken,
    is_idle: impl Fn() -> bool,
    send: &mpsc::Sender<Out>,
) -> Result<Option<Bytes>, End> {
    message_within(reader, &state.turnstile, taken, is_idle, send).await
}

/// The same, by the bounds and the clock of a turnstile.
pub(in crate::server) async fn message_within<R: AsyncRead + Unpin>(
    reader: &mut R,
    turnstile: &Turnstile,
    taken: &mut Taken,
    is_idle: impl Fn() -> bool,
    send: &mpsc::Sender<Out>,
) -> Result<Option<Bytes>, End> {
    let clock = turnstile.clock();
    let begun = clock.uptime();
    let mut whole: Option<BytesMut> = None;
    let mut until = None;
    loop {
        let Some(first) = first(reader, clock, (begun, until), &is_idle, send).await? else { return Ok(None) };
        // Of a message that has begun the rest comes in time, in however many frames.
        let end = *until.get_or_insert_with(|| clock.uptime() + turnstile.bounds().body);
        let rest = async {
            let head = Head::read(reader, first).await?;
            let is_control = head.kind & 8 != 0;
            let before = whole.as_ref().map_or(0, |whole| if is_control { 0 } else { whole.len() });
            let length = usize::try_from(head.length).ok().filter(|length| *length <= LONGEST - before);
            let length = length.ok_or(TOO_LONG)?;
            let mut control = BytesMut::new();
            let into = match (head.kind, &mut whole) {
                (CLOSE | PING | PONG, _) => &mut control,
                (BINARY, none @ None) => none.insert(BytesMut::new()),
                (0, Some(begun)) => begun,
                (TEXT, None) => return Err(End::told(1003, "messages are binary here")),
                _ => return Err(MALFORMED),
            };
            let start = into.len();
            line::take(reader, turnstile, taken, into, length).await?;
            unmask(&mut into[start..], head.mask);
            Ok((head, control))
        };
        let (head, control) = within(clock, end.saturating_sub(clock.uptime()), rest).await.ok_or(LATE)??;
        match head.kind {
            CLOSE => {
                // The same number back, or a normal end.
                let code = control.first_chunk().map_or(1000, |code| u16::from_be_bytes(*code));
                let _ = send.try_send(Out::of(close(code, "")));
                return Ok(None);
            }
            PING => drop(send.try_send(Out::of(frame(PONG, &control, 0)))),
            PONG => {}
            _ if head.is_last => return Ok(whole.map(BytesMut::freeze)),
            _ => continue,
        }
        if whole.is_none() {
            until = None;
        }
    }
}

/// The first two bytes of a frame. `begun` and `until` are times of the clock: since when a message is waited for, and, of one that has begun, when it
/// is to be whole.
async fn first<R: AsyncRead + Unpin>(
    reader: &mut R,
    clock: &SharedClock,
    (begun, until): (Duration, Option<Duration>),
    is_idle: &impl Fn() -> bool,
    send: &mpsc::Sender<Out>,
) -> Result<Option<[u8; 2]>, End> {
    let mut first = [0; 2];
    let mut pings = 0;
    let mut coming = std::pin::pin!(reader.read_exact(&mut first));
    loop {
        let left = until.map_or(PING_EVERY, |until| until.saturating_sub(clock.uptime()));
        match within(clock, left.min(PING_EVERY), &mut coming).await {
            Some(Err(_)) => return Ok(None),
            Some(Ok(_)) => break,
            None if until.is_some_and(|until| until <= clock.uptime()) => return Err(LATE),
            None if pings == PINGS => return Err(End::silent("the client answers no ping")),
            None if is_idle() && clock.uptime() - begun >= IDLE => {
                return Err(End::told(1001, "nothing came for long"));
            }
            None => {
                pings += 1;
                // Where answers stand in line nobody need be asked.
                let _ = send.try_send(Out::of(frame(PING, &[], 0)));
            }
        }
    }
    Ok(Some(first))
}

/// What comes of it, unless it takes so long. Cancel-safe if the work is.
async fn within<T>(clock: &SharedClock, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep(patience) => None,
    }
}

#[cfg(test)]
mod tests;
