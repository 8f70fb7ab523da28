//! Everything under a path that is not about objects: discovery, OpenAPI, health, version, figures.

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    accept, audit, console,
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
        "readyz" => Some(health::ready(&state.readiness, audit::trouble(state), verbose)),
        "version" => Some(respond::ok(&health::version())),
        // Whoever asks has been shown it in the handshake.
        "ca.pem" => {
            let trusted = state.tls.shown().ca_pem().to_owned();
            Some(respond::whole(StatusCode::OK, "application/x-pem-file", trusted))
        }
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
        "" => Some(respond::ok(
            &json!({"paths": PATHS.iter().chain(super::login::PATHS).chain(super::issuer::PATHS).collect::<std::collections::BTreeSet<_>>()}),
        )),
        "api" => Some(match discovery::aggregated_version(accept) {
            Some(version) => aggregated(Half::Core, version, headers),
            None => tagged(JSON, discovery::core_versions(&state.address).to_string(), headers),
        }),
        "apis" => Some(match discovery::aggregated_version(accept) {
            Some(version) => aggregated(Half::Named, version, headers),
            None => tagged(JSON, discovery::group_list().to_string(), headers),
        }),
        "openapi/v2" => Some(swagger(state, accept, headers)),
        "openapi/v3" => Some(tagged(JSON, state.documents.index().to_string(), headers)),
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
    "/audit",
    "/backup",
    "/ca.pem",
    "/docs",
    "/healthz",
    "/livez",
    "/log-level",
    "/metrics",
    "/openapi-3.0.json",
    "/openapi.json",
    "/openapi/v2",
    "/openapi/v3",
    "/readyz",
    "/sealing",
    "/version",
];

/// 405
pub(super) fn not_allowed() -> Status {
    Status::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

const JSON: &str = "application/json";

fn aggregated(half: Half, version: &str, headers: &hyper::HeaderMap) -> Answer {
    tagged(discovery::aggregated_type(version), discovery::aggregated(half, version).to_string(), headers)
}

fn swagger(state: &State, accept: &str, headers: &hyper::HeaderMap) -> Answer {
    let protobuf = accept::entries(accept).any(|e| e.name.starts_with("application/com.github.proto-openapi.spec.v2"));
    match protobuf {
        true => tagged(PROTOBUF, state.documents.v2_protobuf(), headers),
        false => tagged(JSON, state.documents.v2().to_string(), headers),
    }
}

fn figures(state: &State) -> Result<Answer, Status> {
    let text = state.metrics.render(state.census()).map_err(|_| Status::internal("the figures cannot be written"))?;
    Ok(respond::whole(StatusCode::OK, metrics::CONTENT_TYPE, text))
}

fn below(state: &State, path: &str, headers: &hyper::HeaderMap) -> Result<Option<Answer>, Status> {
    if let Some(group) = path.strip_prefix("openapi/v3/") {
        return Ok(state.documents.group(group).map(|(text, hash)| unless_known(JSON, text, &hash, headers)));
    }
    let steps: Vec<&str> = path.split('/').collect();
    Ok(match steps.as_slice() {
        ["api", version] => discovery::resource_list("", version),
        ["apis", group] => discovery::group(group),
        ["apis", group, version] => discovery::resource_list(group, version),
        _ => None,
    }
    .map(|found| tagged(JSON, found.to_string(), headers)))
}

/// What clients keep and ask for again at every start, with its ETag.
fn tagged(content_type: &'static str, text: impl Into<Bytes>, headers: &hyper::HeaderMap) -> Answer {
    let text = text.into();
    let hash: String = Sha256::digest(&text).iter().take(16).map(|b| format!("{b:02X}")).collect();
    unless_known(content_type, text, &hash, headers)
}

/// A document with its ETag; 304 if the client has it. Which of several forms it is depends on `Accept`.
fn unless_known(content_type: &'static str, text: Bytes, hash: &str, headers: &hyper::HeaderMap) -> Answer {
    let tag = format!("\"{hash}\"");
    let given = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let known = given.split(',').any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut answer = match known {
        true => respond::whole(StatusCode::NOT_MODIFIED, content_type, ""),
        false => respond::whole(StatusCode::OK, content_type, text),
    };
    respond::header(&mut answer, "etag", &tag);
    respond::header(&mut answer, "vary", "Accept");
    answer
}
