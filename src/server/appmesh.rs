//! App Mesh's wire over HTTPS: [`crate::appmesh`] behind this server's doors.

use std::net::SocketAddr;

use bytes::Bytes;
use hyper::{StatusCode, http::request::Parts};

use super::{
    audit::Observed,
    body::{self, Lent},
    handle::{self, Peer},
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::{Reason, Status},
    appmesh::{self, Content, Door, Reply},
    auth::From,
};

const BYTES: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// A request for this wire.
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
    let reply = tokio::select! {
        reply = reply(state, peer, asked, body, observed) => reply,
        () = state.stopping.cancelled() => Err(Status::new(Reason::ServiceUnavailable, "the server stops")),
    };
    spoken(reply.unwrap_or_else(|status| Reply::refusal(&status)))
}

async fn reply(
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
    let who = match route.door() {
        Door::Open => None,
        Door::Known => Some(handle::known(state, peer, &appmesh::credentials(&head.headers), &from, observed).await?),
    };
    let connection = match peer {
        Peer::Remote { source, .. } => Some(*source),
        Peer::Local(_) => None::<SocketAddr>,
    };
    let body = body::payload(&mut body, route.longest(), &state.turnstile).await?;
    let (query, headers) = (params.into_pairs(), head.headers.clone());
    let call = appmesh::Call { query, headers, body, from, connection, request_id: request_id.to_owned() };
    match &who {
        None => state.sdk.open(&route, call).await,
        Some(who) => state.sdk.known(&route, who, call).await,
    }
}

fn spoken(reply: Reply) -> Answer {
    let Reply { code, headers, content } = reply;
    let mut answer = match content {
        Content::Nothing => respond::whole(StatusCode::OK, JSON, Bytes::new()),
        Content::Text(kind, text) => respond::whole(StatusCode::OK, kind, text),
        Content::Json(value) => respond::whole(StatusCode::OK, JSON, value.to_string()),
        Content::Bytes(bytes) => respond::pieces(BYTES, bytes.len() as u64, bytes.into_pieces()),
        Content::Task(task) => {
            let task = task.begun();
            respond::pieces(BYTES, task.left() as u64, task)
        }
    };
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers.iter().for_each(|(name, value)| respond::header(&mut answer, name, value));
    answer
}
