//! Calls that name another server (`X-Target-Host`): passed on over HTTPS to the peers that the operator has declared, and to nobody else.
//!
//! ```text
//!  call ─► whom? ─┬─ this server ─────► answered here
//!                 ├─ a declared peer ─► its own credential ─► the peer judges ─► its reply
//!                 └─ anybody else ────► 502, before anything else is looked at
//! ```
//! What goes on is the caller's own: the credential that they sent, their parameters, and the headers of this wire. Nothing by which this server proves
//! who it is goes with it, so nobody gets further there than they would by themselves. `X-Target-Host` does not go on: a call is passed on once.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, Method, Request,
    body::{Frame, Incoming},
    header::{self, HeaderName},
    http::uri::PathAndQuery,
};

use super::{known, work};
use crate::{
    api::{Status, TASK_LIMIT},
    appmesh::{self, Call, Content, LARGEST_FILE, Reply, Route, Upload},
    auth::{From, Identity},
    client::http::{RequestError, query_string},
    server::{
        audit::Observed,
        body,
        handle::Peer as Connection,
        peers::Peer,
        respond::{self, BodyError},
        state::State,
    },
};

/// How long a peer may take to answer what it can answer at once.
const ANSWERING: Duration = Duration::from_secs(60);
/// How long for what waits for a process or a result there.
const WAITING: Duration = Duration::from_secs(60 * 60);
/// How long between two pieces of a file.
const PIECE: Duration = Duration::from_secs(60);

/// What of a call's headers means something to another server of this wire; the credential goes beside them.
const ASKED: [HeaderName; 14] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    HeaderName::from_static("x-set-cookie"),
    HeaderName::from_static("x-expire-seconds"),
    HeaderName::from_static("x-audience"),
    HeaderName::from_static("x-totp-code"),
    HeaderName::from_static("x-permission"),
    HeaderName::from_static("x-refresh-token"),
    HeaderName::from_static("x-refresh-token-request"),
    HeaderName::from_static("x-file-path"),
    HeaderName::from_static("x-file-mode"),
    HeaderName::from_static("x-file-user"),
    HeaderName::from_static("x-file-group"),
    HeaderName::from_static("x-appm-task-id"),
];
/// What of a reply's means something to a caller.
const ANSWERED: [&str; 11] = [
    "content-disposition",
    "pragma",
    "retry-after",
    "set-cookie",
    "www-authenticate",
    "x-appm-task-id",
    "x-exit-code",
    "x-file-group",
    "x-file-mode",
    "x-file-user",
    "x-output-position",
];

/// Who answers a call.
pub(super) enum Whom {
    /// This server, to whoever asks; nobody need have said who they are.
    Here(Option<Identity>),
    /// A peer.
    There(std::sync::Arc<Peer>),
    /// Nobody: it is meant for somebody who is not known.
    Nobody(Reply),
}

/// A call as its transport brought it.
pub(super) struct Asked<'a> {
    pub connection: &'a Connection,
    pub route: &'a Route,
    pub headers: &'a HeaderMap,
    pub from: &'a From,
}

/// Finds out who answers, and who asks, where it is this server and somebody must have proved it.
pub(super) async fn whom(state: &State, asked: Asked<'_>, observed: &mut Observed<'_>) -> Result<Whom, Status> {
    let Asked { connection, route, headers, from } = asked;
    let ports: Vec<u16> = state.app_mesh.iter().copied().chain([state.port]).collect();
    let is_here = |target: &str| state.tls.shown().hosts.are_meant(target, connection.at(), &ports);
    let mut targets = headers.get_all("x-target-host").iter();
    if let Some(other) = targets.find(|target| !target.to_str().is_ok_and(is_here)) {
        let peer = other.to_str().ok().and_then(|target| state.peers.meant(target, &ports));
        // A process asks the server that has started it.
        let is_a_callers = !matches!(route, Route::FetchTask(_) | Route::GiveTask(_));
        if let Some(peer) = peer.filter(|_| is_a_callers && headers.get_all("x-target-host").iter().count() == 1) {
            observed.passes_on(&peer.name);
            return Ok(Whom::There(peer));
        }
        let target = String::from_utf8_lossy(other.as_bytes());
        let message =
            format!("`{target}` is no peer of this server (`--peer`), and requests go to no other: ask it itself");
        return Ok(Whom::Nobody(Reply::message(502, &message)));
    }
    Ok(Whom::Here(known(state, connection, route, headers, from, observed).await?))
}

/// What a call brings beside its head.
pub(super) enum Brought {
    /// All of it, in [`Call::body`].
    Body,
    /// So much, if that is known, as it comes.
    Coming(Upload, Option<u64>),
}

/// Passes a call on, and its reply back. `ready` is called when the peer is there.
pub(super) async fn pass_on(
    state: &State,
    peer: &Peer,
    (route, method, path): (&Route, &str, &str),
    (call, brought): (Call, Brought),
    ready: impl FnOnce() + Send,
) -> Reply {
    if appmesh::are_events_wanted(route, &call) {
        return Reply::refusal(&appmesh::events_of_a_peer(&peer.name));
    }
    let unusable = |why: &str| Reply::message(502, &format!("`{}` {why}", peer.name));
    let Ok(seat) = peer.seats.clone().try_acquire_owned() else {
        return Reply::message(503, &format!("too many calls are with `{}` already", peer.name))
            .with("retry-after", "1");
    };
    let Some(request) = request(peer, method, path, call, brought) else {
        return Reply::message(400, "the request cannot be passed on as it is");
    };
    let mut sender = match peer.dial.open().await {
        Ok(sender) => sender,
        Err(error) => {
            let why = match &error {
                RequestError::Unreachable { source, .. } => source.to_string(),
                error => error.to_string(),
            };
            tracing::warn!(peer = peer.name, why, "a peer cannot be reached, or is another");
            return unusable("cannot be reached, or did not prove who it is");
        }
    };
    ready();
    let patience = if work(route).is_some() { ANSWERING } else { WAITING };
    let answer = match tokio::time::timeout(patience, sender.send_request(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => return unusable("broke off before it answered: what was asked may have been done"),
        Err(_) => return unusable("did not answer in time: what was asked may have been done"),
    };
    let (head, incoming) = answer.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let length = text("content-length").and_then(|length| length.parse::<u64>().ok());
    let content = match (route, head.status.as_u16(), length) {
        (Route::Download, 200, Some(length)) if length <= LARGEST_FILE => {
            let pieces = file(incoming).map(move |piece| {
                let _until_the_end = &seat;
                piece
            });
            Content::Stream { length, pieces: pieces.boxed() }
        }
        (Route::Download, 200, _) => return unusable("does not say how long the file is, or it is too long"),
        _ => match body::payload(incoming, TASK_LIMIT, &state.turnstile).await {
            Ok(bytes) => Content::Passed { kind: text("content-type").unwrap_or("application/json").to_owned(), bytes },
            Err(_) => {
                return unusable(
                    "answers with more than can be taken in, or broke off: what was asked may have been done",
                );
            }
        },
    };
    let headers = ANSWERED.iter().filter_map(|name| Some((*name, text(name)?.to_owned()))).collect();
    Reply { code: head.status.as_u16(), headers, content }
}

fn request(peer: &Peer, method: &str, path: &str, call: Call, brought: Brought) -> Option<Request<respond::Body>> {
    let query: Vec<(&str, String)> = call.query.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let path: PathAndQuery = format!("{path}{}", query_string(&query)).parse().ok()?;
    let method: Method = method.parse().ok()?;
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, &peer.authority);
    request = request.header("x-request-id", &call.request_id);
    let own = appmesh::credentials(&call.headers);
    for name in ASKED.iter().filter(|name| own.contains_key(*name)).chain([&header::AUTHORIZATION]) {
        for value in own.get_all(name) {
            request = request.header(name, value);
        }
    }
    let body = match brought {
        Brought::Body => {
            let length = call.body.len() as u64;
            request = request.header(header::CONTENT_LENGTH, length);
            respond::sized(length, call.body.into_pieces())
        }
        Brought::Coming(pieces, length) => {
            if let Some(length) = length {
                request = request.header(header::CONTENT_LENGTH, length);
            }
            let frames = pieces.map(|piece| match piece {
                Ok(piece) => Ok(Frame::data(piece)),
                Err(status) => Err(BodyError::from(status.message)),
            });
            StreamBody::new(frames).boxed_unsync()
        }
    };
    request.body(body).ok()
}

/// A file as it comes down.
fn file(incoming: Incoming) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(incoming), |incoming| async move {
        let mut incoming = incoming?;
        match tokio::time::timeout(PIECE, incoming.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame.into_data().unwrap_or_default()), Some(incoming))),
            Ok(Some(Err(_))) | Err(_) => Some((Err(std::io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}
