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
    io::{AsyncRead, AsyncReadExt, ReadHalf},
    sync::mpsc,
    time::Instant,
};

use super::line::{self, End, IDLE, LONGEST, Out, Shown, Wire};
use crate::{
    api::Status,
    appmesh,
    auth::From,
    server::{
        audit::Observed,
        bounds::Taken,
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
pub(super) async fn next<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    state: &State,
    taken: &mut Taken,
    is_idle: impl Fn() -> bool,
    send: &mpsc::Sender<Out>,
) -> Result<Option<Bytes>, End> {
    let begun = Instant::now();
    let mut whole: Option<BytesMut> = None;
    let patience = state.turnstile.bounds().body;
    let mut until = None;
    loop {
        let Some(first) = first(reader, (begun, until), &is_idle, send).await? else { return Ok(None) };
        // Of a message that has begun the rest comes in time, in however many frames.
        let end = *until.get_or_insert_with(|| Instant::now() + patience);
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
            line::take(reader, state, taken, into, length).await?;
            unmask(&mut into[start..], head.mask);
            Ok((head, control))
        };
        let (head, control) = tokio::time::timeout_at(end, rest)
            .await
            .map_err(|_| End::told(1008, "a message did not come in time"))??;
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

/// The first two bytes of a frame.
async fn first<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    (begun, until): (Instant, Option<Instant>),
    is_idle: &impl Fn() -> bool,
    send: &mpsc::Sender<Out>,
) -> Result<Option<[u8; 2]>, End> {
    let mut first = [0; 2];
    let mut pings = 0;
    let mut coming = std::pin::pin!(reader.read_exact(&mut first));
    loop {
        match tokio::time::timeout(PING_EVERY, &mut coming).await {
            Ok(Err(_)) => return Ok(None),
            Ok(Ok(_)) => break,
            Err(_) if until.is_some_and(|until| until <= Instant::now()) => {
                return Err(End::told(1008, "a message did not come in time"));
            }
            Err(_) if pings == PINGS => return Err(End::silent("the client answers no ping")),
            Err(_) if is_idle() && begun.elapsed() >= IDLE => return Err(End::told(1001, "nothing came for long")),
            Err(_) => {
                pings += 1;
                // Where answers stand in line nobody need be asked.
                let _ = send.try_send(Out::of(frame(PING, &[], 0)));
            }
        }
    }
    Ok(Some(first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_is_answered_as_the_rfc_has_it() {
        assert_eq!(accepted("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        for (length, head) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(&message(&[], length)[..], head, "{length}");
        }
        let long = "x".repeat(500);
        assert_eq!(close(1008, &long).len(), 127);
        assert_eq!(&close(1000, "")[..], &[0x88, 2, 0x03, 0xe8]);
    }

    #[tokio::test]
    async fn heads_are_read_or_refused() {
        let read = async |bytes: &[u8]| {
            let (first, mut rest) = ([bytes[0], bytes[1]], &bytes[2..]);
            Head::read(&mut rest, first).await
        };
        let head = |is_last, kind, length| Ok(Head { is_last, kind, length, mask: [1, 2, 3, 4] });
        for (bytes, expected) in [
            (&[0x82, 0x85, 1, 2, 3, 4][..], head(true, BINARY, 5)),
            (&[0x00, 0xfe, 1, 0, 1, 2, 3, 4], head(false, 0, 256)),
            (&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4], head(true, BINARY, 1 << 32)),
            (&[0x89, 0x80, 1, 2, 3, 4], head(true, PING, 0)),
            // Not masked; an extension's bit; a Ping in parts, and a long one; the half of a head.
            (&[0x82, 0x05, 1, 2, 3, 4], Err(MALFORMED)),
            (&[0xc2, 0x85, 1, 2, 3, 4], Err(MALFORMED)),
            (&[0x09, 0x80, 1, 2, 3, 4], Err(MALFORMED)),
            (&[0x89, 0xfe, 1, 0, 1, 2, 3, 4], Err(MALFORMED)),
            (&[0x82, 0xfe, 1], Err(BROKE_OFF)),
        ] {
            assert_eq!(read(bytes).await, expected, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_mask_comes_off_byte_by_byte(bytes in prop::collection::vec(any::<u8>(), 0..40), mask: [u8; 4]) {
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let mut found = bytes.clone();
            unmask(&mut found, mask);
            prop_assert_eq!(found, expected);
        }
    }
}
