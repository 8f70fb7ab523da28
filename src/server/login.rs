//! `/auth/v1/…`: logging in and out, tokens, one's own password and second factor; `/openid/v1/jwks` for whoever verifies access tokens.
//!
//! Small JSON in, small JSON out, no objects: what is proved here is nobody's desired state.

use std::sync::Arc;

use hyper::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    audit::Observed,
    body::{self, Lent, Syntax},
    documents::not_allowed,
    handle::Peer,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::Status,
    auth::{CodeRequest, From, Identity, LoginRequest, PasswordRequest, TokenRequest},
};

/// The longest body: a token with a hundred rules.
const LIMIT: usize = 64 * 1024;
const PREFIX: &str = "auth/v1/";

/// The routes, for `GET /`.
pub(super) const PATHS: &[&str] = &[
    "/auth/v1/login",
    "/auth/v1/logout",
    "/auth/v1/password",
    "/auth/v1/refresh",
    "/auth/v1/tokens",
    "/auth/v1/totp/confirm",
    "/auth/v1/totp/disable",
    "/auth/v1/totp/enroll",
    "/auth/v1/totp/recovery",
    "/openid/v1/jwks",
];

/// True for a path that is answered here.
pub(super) fn serves(path: &str) -> bool {
    PATHS.iter().any(|known| known.trim_start_matches('/') == path)
}

/// True for what is answered before anybody has said who they are.
pub(super) fn is_open(path: &str) -> bool {
    matches!(path, "auth/v1/login" | "auth/v1/refresh" | "openid/v1/jwks")
}

/// Where a request comes from.
pub(super) fn from(peer: &Peer, headers: &HeaderMap) -> From {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (address, owner) = match peer {
        Peer::Remote { source, .. } => (Some(source.ip()), false),
        Peer::Local(identity) => (None, identity.is_master()),
    };
    From { address, owner, agent: agent.to_owned() }
}

/// Answers what anybody may ask.
pub(super) async fn open(
    state: &Arc<State>,
    path: &str,
    method: &Method,
    from: &From,
    body: Lent,
    observed: &mut Observed<'_>,
) -> Result<Answer, Status> {
    let door = &state.authenticator;
    if path == "openid/v1/jwks" {
        return match *method {
            Method::GET | Method::HEAD => Ok(respond::ok(&door.published_keys())),
            _ => Err(not_allowed()),
        };
    }
    only_post(method)?;
    match path {
        "auth/v1/login" => {
            let ask: LoginRequest = read(state, body).await?;
            observed.claims(&ask.username, "password");
            told(StatusCode::OK, &door.login(&ask, from).await?)
        }
        _ => {
            let ask: Refresh = read(state, body).await?;
            let granted = door.refresh(&ask.refresh_token).await?;
            observed.claims(&granted.username, "refresh token");
            told(StatusCode::OK, &granted)
        }
    }
}

/// Answers what only somebody may ask.
pub(super) async fn answer(
    state: &Arc<State>,
    path: &str,
    method: &Method,
    who: &Identity,
    from: &From,
    body: Lent,
) -> Result<Answer, Status> {
    only_post(method)?;
    let door = &state.authenticator;
    match path.strip_prefix(PREFIX).unwrap_or_default() {
        "logout" => {
            let ask: Logout = read(state, body).await?;
            told(StatusCode::OK, &json!({"ended": door.logout(who, ask.all).await?}))
        }
        "password" => {
            let ask: PasswordRequest = read(state, body).await?;
            door.change_password(who, &ask, from).await?;
            told(StatusCode::OK, &json!({}))
        }
        "tokens" => {
            let ask: TokenRequest = read(state, body).await?;
            told(StatusCode::CREATED, &door.issue(who, &ask).await?)
        }
        "totp/enroll" => {
            let _: Nothing = read(state, body).await?;
            told(StatusCode::CREATED, &door.enrol(who).await?)
        }
        "totp/confirm" => {
            let ask: CodeRequest = read(state, body).await?;
            told(StatusCode::OK, &door.confirm(who, &ask.code).await?)
        }
        "totp/recovery" => {
            let ask: CodeRequest = read(state, body).await?;
            told(StatusCode::OK, &door.recovery(who, &ask.code).await?)
        }
        "totp/disable" => {
            let ask: CodeRequest = read(state, body).await?;
            door.disable(who, &ask).await?;
            told(StatusCode::OK, &json!({}))
        }
        _ => Err(Status::no_route()),
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Logout {
    #[serde(default)]
    all: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn only_post(method: &Method) -> Result<(), Status> {
    if method == Method::POST { Ok(()) } else { Err(not_allowed()) }
}

/// The body; none is an empty object. What is wrong with it is told without a word of it.
async fn read<T: DeserializeOwned>(state: &State, body: Lent) -> Result<T, Status> {
    let (bytes, _room) = body::read(body, LIMIT, &state.turnstile).await?;
    let value = match bytes.iter().all(u8::is_ascii_whitespace) {
        true => json!({}),
        false => {
            let parsed = body::parse(&bytes, Syntax::Json, LIMIT);
            parsed.map_err(|_| Status::bad_request("the body is not valid JSON"))?.value
        }
    };
    if !value.is_object() {
        return Err(Status::bad_request("the body must be an object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.inner().to_string());
        // serde says which value it met: it may be a password in the wrong place.
        let why = if why.starts_with("missing field") || why.starts_with("unknown field") {
            why
        } else {
            "has the wrong type".to_owned()
        };
        Status::bad_request(format!("the body is not what is asked for: {path}: {why}"))
    })
}

fn told(code: StatusCode, value: &impl serde::Serialize) -> Result<Answer, Status> {
    let value: Value = serde_json::to_value(value).map_err(|_| Status::internal("the answer cannot be written"))?;
    let mut answer = respond::whole(code, "application/json", value.to_string());
    respond::header(&mut answer, "pragma", "no-cache");
    Ok(answer)
}
