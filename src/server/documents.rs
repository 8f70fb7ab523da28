//! Everything under a path that is not about objects: discovery, OpenAPI, health, version, figures.

use hyper::{Method, StatusCode, header};
use serde_json::json;

use super::{
    accept, console,
    discovery::{self, Half},
    health, metrics,
    openapi::PROTOBUF,
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::api::{Reason, Status};

/// What anybody may see.
pub(super) fn open(state: &State, path: &str, params: &Params) -> Option<Answer> {
    let verbose = params.has("verbose");
    match path {
        "healthz" | "livez" => Some(health::live(path, verbose)),
        "readyz" => Some(health::ready(&state.readiness, verbose)),
        "version" => Some(respond::ok(&health::version())),
        "openapi.json" => Some(document(state.documents.whole())),
        "openapi-3.0.json" => Some(document(state.documents.whole_3_0())),
        _ => console::file(path),
    }
}

/// What the program can do is no secret: anybody can read it in its source.
fn document(text: bytes::Bytes) -> Answer {
    respond::whole(StatusCode::OK, "application/json", text)
}

/// What only an authenticated client sees.
pub(super) fn answer(state: &State, path: &str, method: &Method, headers: &hyper::HeaderMap) -> Result<Answer, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let known = match path {
        "" => Some(respond::ok(&json!({"paths": PATHS}))),
        "api" => Some(match discovery::aggregated_version(accept) {
            Some(version) => aggregated(Half::Core, version),
            None => respond::ok(&discovery::core_versions(&state.address)),
        }),
        "apis" => Some(match discovery::aggregated_version(accept) {
            Some(version) => aggregated(Half::Named, version),
            None => respond::ok(&discovery::group_list()),
        }),
        "openapi/v2" => Some(swagger(state, accept)),
        "openapi/v3" => Some(respond::ok(&state.documents.index())),
        "metrics" => Some(figures(state)?),
        _ => below(state, path, headers)?,
    };
    match known {
        Some(_) if method != Method::GET && method != Method::HEAD => Err(not_allowed()),
        Some(answer) => Ok(answer),
        None => Err(Status::no_route()),
    }
}

const PATHS: &[&str] = &[
    "/api",
    "/api/v1",
    "/apis",
    "/apis/appm.dev",
    "/apis/appm.dev/v1",
    "/docs",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi-3.0.json",
    "/openapi.json",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/version",
];

/// 405
pub(super) fn not_allowed() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

fn aggregated(half: Half, version: &str) -> Answer {
    let text = discovery::aggregated(half, version).to_string();
    respond::whole(StatusCode::OK, discovery::aggregated_type(version), text)
}

fn swagger(state: &State, accept: &str) -> Answer {
    let protobuf = accept::entries(accept).any(|e| e.name.starts_with("application/com.github.proto-openapi.spec.v2"));
    match protobuf {
        true => respond::whole(StatusCode::OK, PROTOBUF, state.documents.v2_protobuf()),
        false => respond::ok(state.documents.v2()),
    }
}

fn figures(state: &State) -> Result<Answer, Status> {
    let text = state.metrics.render(state.census()).map_err(|_| Status::internal("the figures cannot be written"))?;
    Ok(respond::whole(StatusCode::OK, metrics::CONTENT_TYPE, text))
}

fn below(state: &State, path: &str, headers: &hyper::HeaderMap) -> Result<Option<Answer>, Status> {
    if let Some(group) = path.strip_prefix("openapi/v3/") {
        return Ok(state.documents.group(group).map(|(text, hash)| described(text, &hash, headers)));
    }
    let steps: Vec<&str> = path.split('/').collect();
    Ok(match steps.as_slice() {
        ["api", version] => discovery::resource_list("", version).map(|list| respond::ok(&list)),
        ["apis", group] => discovery::group(group).map(|group| respond::ok(&group)),
        ["apis", group, version] => discovery::resource_list(group, version).map(|list| respond::ok(&list)),
        _ => None,
    })
}

/// One group's document with its ETag; 304 if the client has it.
fn described(text: bytes::Bytes, hash: &str, headers: &hyper::HeaderMap) -> Answer {
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()) == Some(tag.as_str());
    let mut answer = match known {
        true => respond::whole(StatusCode::NOT_MODIFIED, "application/json", ""),
        false => respond::whole(StatusCode::OK, "application/json", text),
    };
    respond::header(&mut answer, "etag", &tag);
    answer
}
