//! App Mesh's wire behind this server's doors: [`crate::appmesh`] over HTTPS, and in messages ([`line`]) over TLS ([`tcp`]) or a WebSocket ([`ws`]).

mod figures;
mod forward;
pub(super) mod line;
pub(super) mod msgpack;
mod tcp;
pub(super) mod ws;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, StatusCode, Uri,
    body::Body as _,
    header,
    http::{HeaderValue, request::Parts},
};
use tokio::io::{AsyncRead, AsyncWrite};

use self::forward::{Brought, Whom};
use super::{
    audit::Observed,
    body::{self, Lent},
    bounds::Work,
    handle::{self, Peer},
    issuer, metrics,
    query::Params,
    respond::{self, Answer, BodyError},
    state::State,
};
use crate::{
    api::{Reason, Status},
    appmesh::{self, Call, Content, Door, LARGEST_FILE, Reply, Route, Upload},
    auth::{Attributes, From, Identity},
    broker::Payload,
};

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";
/// So much of what a process sends is taken in before its key is looked at: to look twice costs more.
const LET_IN: u64 = 64 << 10;

/// Serves a connection of frames, until it or the server ends.
pub(super) async fn frames<S>(stream: S, peer: Peer, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    line::serve(stream, line::Wire::Tcp, peer, state).await;
}

/// A request for this wire over HTTP.
pub(super) struct Asked<'a> {
    pub path: &'a str,
    pub params: Params,
    pub head: &'a Parts,
    pub from: From,
    pub request_id: &'a str,
}

/// True for a path of this wire.
pub(super) fn serves(path: &str) -> bool {
    path == "appmesh" || path.starts_with("appmesh/")
}

/// Answers in this wire's words, refusals too.
pub(super) async fn answer(
    state: &State,
    peer: &Peer,
    asked: Asked<'_>,
    body: Lent,
    observed: &mut Observed<'_>,
) -> Answer {
    let host = addressed(asked.head);
    let reply = tokio::select! {
        reply = over_http(state, peer, asked, body, observed) => reply,
        () = state.stopping.cancelled() => Err(stops()),
    };
    spoken(challenged(reply.unwrap_or_else(|status| Reply::refusal(&status)), &host))
}

/// Whoever is nobody is told where they learn whose tokens are believed.
fn challenged(reply: Reply, host: &str) -> Reply {
    let is_told = reply.headers.iter().any(|(name, _)| *name == "www-authenticate");
    if reply.code == 401 && !is_told { reply.with("www-authenticate", issuer::challenge(host)) } else { reply }
}

fn stops() -> Status {
    Status::new(Reason::ServiceUnavailable, "the server stops")
}

async fn over_http(
    state: &State,
    peer: &Peer,
    asked: Asked<'_>,
    mut body: Lent,
    observed: &mut Observed<'_>,
) -> Result<Reply, Status> {
    let Asked { path, params, head, from, request_id } = asked;
    let Some(route) = appmesh::route(head.method.as_str(), path) else {
        return Ok(Reply::message(404, &format!("Path not found {}:/{path}", head.method)));
    };
    let asked = forward::Asked { connection: peer, route: &route, headers: &head.headers, from: &from };
    let whom = forward::whom(state, asked, observed).await?;
    if let Whom::Nobody(reply) = whom {
        return Ok(reply);
    }
    if matches!(whom, Whom::Here(Some(_))) {
        // They are told, however much they have sent by then.
        body.is_of_somebody();
    }
    let mut call = Call {
        query: params.into_pairs(),
        headers: head.headers.clone(),
        body: Payload::default(),
        host: addressed(head),
        from,
        connection: connection(peer),
        listener: None,
        request_id: request_id.to_owned(),
    };
    if body.size_hint().upper().is_none_or(|most| most > LET_IN)
        && let Some(reply) = state.sdk.turned_away(&route, &call)
    {
        return Ok(reply);
    }
    if route != Route::Upload && !matches!(whom, Whom::There(_)) {
        call.body = body::payload(&mut body, route.longest(), &state.turnstile).await?;
    }
    let patience = state.turnstile.bounds().body;
    match &whom {
        Whom::Nobody(_) => unreachable!("they were told above"),
        Whom::There(there) => {
            // Nobody here knows who sends it: it is passed on as it comes, and takes no room.
            let limit = if route == Route::Upload { LARGEST_FILE } else { route.longest() as u64 };
            let hint = body.size_hint();
            if hint.lower() > limit {
                return Err(too_large(limit));
            }
            let brought = Brought::Coming(at_most(limit, pieces(body, patience)), hint.exact());
            let asked = (&route, head.method.as_str(), head.uri.path());
            Ok(forward::pass_on(state, there, asked, (call, brought), || ()).await)
        }
        Whom::Here(Some(who)) if route == Route::Upload => {
            state.sdk.upload(who, &call, pieces(body, patience), || ()).await
        }
        Whom::Here(who) => said(state, &route, who.as_ref(), call).await,
    }
}

/// Who asks, where somebody must have proved it.
async fn known(
    state: &State,
    peer: &Peer,
    route: &Route,
    headers: &HeaderMap,
    from: &From,
    observed: &mut Observed<'_>,
) -> Result<Option<Identity>, Status> {
    Ok(match route.door(headers) {
        Door::Open => None,
        Door::Known => Some(handle::known(state, peer, &appmesh::credentials(headers), from, observed).await?),
    })
}

/// What a call is work for from here to its reply; `None` for those that mostly wait for a process, or send a file.
fn work(route: &Route) -> Option<Work> {
    match route {
        Route::PutApp(_) | Route::EnableApp(_) | Route::DisableApp(_) | Route::AppOutput(_) => None,
        Route::RunSync | Route::RunTask(_) | Route::Upload | Route::Download => None,
        Route::ListApps | Route::GetApp(_) | Route::AppHealth(_) | Route::Labels | Route::Config => Some(Work::Reading),
        Route::Resources | Route::Metrics | Route::OwnUser | Route::OwnPermissions => Some(Work::Reading),
        Route::AuthConfig | Route::OwnPrincipal | Route::Principals => Some(Work::Reading),
        Route::Users | Route::Groups | Route::Permissions | Route::Roles | Route::Auth => Some(Work::Reading),
        _ => Some(Work::Writing),
    }
}

/// The reply to anything but a file that comes up.
async fn said(state: &State, route: &Route, who: Option<&Identity>, call: Call) -> Result<Reply, Status> {
    let _seat = match who.zip(work(route)) {
        Some((who, work)) => Some(state.turnstile.seat(&who.name, work, call.body.len()).await?),
        None => None,
    };
    match who {
        None => state.sdk.open(route, call).await,
        Some(who) if *route == Route::Metrics => {
            let what = Attributes { verb: "get", path: "/metrics", ..Attributes::default() };
            state.admission.authority().must(who, &what)?;
            let apps = state.sdk.applications(who, &call)?;
            let own = state.metrics.render(state.census());
            let both = own.and_then(|own| {
                let theirs = figures::render(&state.node, &state.metrics.app_mesh_scrapes, &apps)?;
                Ok([own.trim_end_matches("# EOF\n"), &theirs].concat())
            });
            let text = both.map_err(|_| Status::internal("the figures cannot be written"))?;
            let content = Content::Text(metrics::CONTENT_TYPE, text.into());
            Ok(Reply { content, ..Reply::empty(200) })
        }
        Some(who) => state.sdk.known(route, who, call).await,
    }
}

/// How this server was addressed.
pub(super) fn addressed(head: &Parts) -> String {
    addressed_by(&head.uri, head.headers.get(header::HOST)).to_owned()
}

/// The same, of what says it; empty where nothing does.
pub(super) fn addressed_by<'a>(uri: &'a Uri, host: Option<&'a HeaderValue>) -> &'a str {
    let written = || host.and_then(|host| host.to_str().ok());
    uri.authority().map(|authority| authority.as_str()).or_else(written).unwrap_or_default()
}

/// The connection, where it can be told from others.
fn connection(peer: &Peer) -> Option<SocketAddr> {
    match peer {
        Peer::Remote { source, .. } => Some(*source),
        Peer::Local(_) => None,
    }
}

fn too_large(limit: u64) -> Status {
    Status::too_large(format!("Request entity too large: limit is {limit}"))
}

/// No more of a body than that.
fn at_most(limit: u64, pieces: Upload) -> Upload {
    let mut length = 0;
    let bounded = pieces.map(move |piece| {
        let piece = piece?;
        length += piece.len() as u64;
        if length > limit { Err(too_large(limit)) } else { Ok(piece) }
    });
    bounded.boxed()
}

/// A body as it comes. Whoever dawdles is cut off.
fn pieces(body: Lent, patience: std::time::Duration) -> Upload {
    stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(patience, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame.into_data().unwrap_or_default()), Some(body))),
            Ok(Some(Err(_))) => Some((Err(Status::bad_request("the request's body broke off")), None)),
            Err(_) => Some((Err(Status::new(Reason::Timeout, "the request's body did not come in time")), None)),
        }
    })
    .boxed()
}

fn spoken(reply: Reply) -> Answer {
    let Reply { code, headers, content } = reply;
    let mut answer = match content {
        Content::Nothing => respond::whole(StatusCode::OK, JSON, Bytes::new()),
        Content::Text(kind, text) => respond::whole(StatusCode::OK, kind, text),
        Content::Json(value) => respond::whole(StatusCode::OK, JSON, value.to_string()),
        Content::Bytes(bytes) => respond::pieces(BYTES, bytes.len() as u64, bytes.into_pieces()),
        Content::Passed { kind, bytes } => {
            let mut answer = respond::pieces(BYTES, bytes.len() as u64, bytes.into_pieces());
            respond::header(&mut answer, "content-type", &kind);
            answer
        }
        Content::Stream { length, pieces } => {
            let pieces = pieces.map(|piece| piece.map_err(BodyError::from));
            let mut answer = respond::streamed(BYTES, pieces.boxed());
            respond::header(&mut answer, "content-length", &length.to_string());
            answer
        }
        Content::Task(task) => {
            let task = task.begun();
            respond::pieces(BYTES, task.left() as u64, task)
        }
    };
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers.iter().for_each(|(name, value)| respond::header(&mut answer, name, value));
    answer
}
