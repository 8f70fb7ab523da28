//! This server in OAuth's words: as a resource that tokens are for (RFC 9728), and, for whoever has no single sign-on, as the one who issues them
//! (RFC 6749: the grants `password` and `refresh_token`). Behind the token endpoint stands the same login as behind `/auth/v1/login`.

use std::{collections::BTreeMap, sync::Arc};

use hyper::{HeaderMap, Method, StatusCode, header, http::request::Parts};
use serde_json::{Value, json};

use super::{
    appmesh::addressed,
    audit::Observed,
    body::{self, Lent},
    documents::not_allowed,
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::{Reason, Status},
    auth::{CODE_REQUIRED, From, Granted, LoginRequest},
};

const RESOURCE: &str = ".well-known/oauth-protected-resource";
const DESCRIPTION: &str = ".well-known/openid-configuration";
const TOKEN: &str = "auth/v1/token";
/// The longest request for a token.
const LIMIT: usize = 64 << 10;
/// How long a token is good that nobody can exchange for the next one, in seconds.
const LIFE: i64 = 60 * 60;

/// The routes, for `GET /`.
pub(super) const PATHS: &[&str] =
    &["/.well-known/oauth-protected-resource", "/.well-known/openid-configuration", "/auth/v1/token"];

/// True for a path that is answered here, to anybody.
pub(super) fn serves(path: &str) -> bool {
    matches!(path, RESOURCE | DESCRIPTION | TOKEN)
}

/// What tells a client that was refused where it learns whose tokens are believed.
pub(super) fn challenge(host: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-[]_".contains(&byte);
    match !host.is_empty() && host.bytes().all(plain) {
        true => format!("Bearer realm=\"appm\", resource_metadata=\"https://{host}/{RESOURCE}\""),
        false => "Bearer realm=\"appm\"".to_owned(),
    }
}

/// Answers anybody.
pub(super) async fn answer(
    state: &Arc<State>,
    path: &str,
    head: &Parts,
    from: &From,
    body: Lent,
    observed: &mut Observed<'_>,
) -> Result<Answer, Status> {
    let own = format!("https://{}", addressed(head));
    if path == TOKEN {
        return match head.method {
            Method::POST => Ok(token(state, from, (body, Written::of(&head.headers)), observed).await),
            _ => Err(not_allowed()),
        };
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        return Err(not_allowed());
    }
    Ok(respond::ok(&match path {
        RESOURCE => {
            let configured = state.authenticator.issuers().map(|issuer| issuer.issuer.as_str());
            let issuers: Vec<&str> = configured.chain([own.as_str()]).collect();
            json!({
                "resource": own, "resource_name": "appm", "authorization_servers": issuers,
                "bearer_methods_supported": ["header"],
            })
        }
        // As much of OpenID Connect as there is: no page that takes a password, so no authorization endpoint.
        _ => json!({
            "issuer": own, "token_endpoint": format!("{own}/{TOKEN}"), "jwks_uri": format!("{own}/openid/v1/jwks"),
            "grant_types_supported": ["password", "refresh_token"], "response_types_supported": [],
            "scopes_supported": ["openid", "offline_access"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
        }),
    }))
}

/// A token, or why there is none in the words of RFC 6749, section 5.2.
async fn token(state: &Arc<State>, from: &From, sent: (Lent, Written), observed: &mut Observed<'_>) -> Answer {
    match granted(state, from, sent, observed).await {
        Ok(granted) => {
            let life = granted.expiration_time.0.duration_since(state.clock.now()).as_secs().max(0);
            let mut answer = json!({"access_token": granted.access_token, "token_type": "Bearer", "expires_in": life});
            if let Some(refresh) = granted.refresh_token {
                answer["refresh_token"] = json!(refresh);
            }
            told(StatusCode::OK, &answer)
        }
        Err((error, status)) => {
            let code = match status.reason {
                Reason::Unauthorized | Reason::BadRequest => StatusCode::BAD_REQUEST,
                reason => StatusCode::from_u16(reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            };
            let mut answer = told(code, &json!({"error": error, "error_description": status.message}));
            if let Some(seconds) = status.details.retry_after_seconds {
                respond::header(&mut answer, "retry-after", &seconds.to_string());
            }
            answer
        }
    }
}

fn told(code: StatusCode, value: &Value) -> Answer {
    let mut answer = respond::whole(code, "application/json", value.to_string());
    respond::header(&mut answer, "pragma", "no-cache");
    answer
}

type Refused = (&'static str, Status);

/// How the fields are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// As RFC 6749 has it.
    Form,
    /// As one object: clients that are generated from the OpenAPI document need nothing for forms then.
    Json,
}

impl Written {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") { Self::Json } else { Self::Form }
    }

    /// The fields of a body; `None` if it is not written so.
    fn fields(self, bytes: &[u8]) -> Option<Vec<(String, String)>> {
        Some(match self {
            Written::Form => Params::parse(Some(std::str::from_utf8(bytes).ok()?)).into_pairs(),
            Written::Json => serde_json::from_slice::<BTreeMap<String, String>>(bytes).ok()?.into_iter().collect(),
        })
    }
}

async fn granted(
    state: &Arc<State>,
    from: &From,
    (body, written): (Lent, Written),
    observed: &mut Observed<'_>,
) -> Result<Granted, Refused> {
    let (bytes, _room) =
        body::read(body, LIMIT, &state.turnstile).await.map_err(|status| ("invalid_request", status))?;
    let form = written.fields(&bytes).ok_or_else(|| {
        let expected = match written {
            Written::Form => "the body is no form",
            Written::Json => "the body is no JSON object of texts",
        };
        ("invalid_request", Status::bad_request(expected))
    })?;
    let field = |name: &str| form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let door = &state.authenticator;
    let needs = |name: &str| {
        let status = Status::bad_request(format!(
            "the field `{name}` is missing (application/x-www-form-urlencoded, or application/json)"
        ));
        ("invalid_request", status)
    };
    let granted = match field("grant_type") {
        "password" => {
            let (username, password) = (field("username"), field("password"));
            if username.is_empty() || password.is_empty() {
                return Err(needs(if username.is_empty() { "username" } else { "password" }));
            }
            observed.claims(username, "password");
            let code = Some(field("totp")).filter(|code| !code.is_empty()).map(str::to_owned);
            let ask = LoginRequest { username: username.to_owned(), password: password.to_owned(), code };
            let lasts = field("scope").split_whitespace().any(|scope| scope == "offline_access");
            let granted = match lasts {
                true => door.login(&ask, from).await,
                // Whoever asks by the password each time needs no session that stays.
                false => door.login_for(&ask, from, LIFE).await,
            };
            granted.map(|granted| Granted { refresh_token: granted.refresh_token.filter(|_| lasts), ..granted })
        }
        "refresh_token" => match field("refresh_token") {
            "" => return Err(needs("refresh_token")),
            token => door.refresh(token).await,
        },
        "" => return Err(needs("grant_type")),
        other => {
            let message = format!("the grants here are `password` and `refresh_token`, not `{other}`");
            return Err(("unsupported_grant_type", Status::bad_request(message)));
        }
    };
    granted.map_err(|status| match status.reason {
        Reason::Unauthorized if status.details.causes.iter().any(|cause| cause.reason == CODE_REQUIRED) => (
            "mfa_required",
            Status::new(Reason::Unauthorized, "a code of the second factor is missing: the field `totp`"),
        ),
        Reason::Unauthorized => ("invalid_grant", status),
        Reason::BadRequest => ("invalid_request", status),
        _ => ("temporarily_unavailable", status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_a_form_or_as_an_object() {
        let read = |kind: &str, body: &str| {
            let headers = [(header::CONTENT_TYPE, kind.parse().expect("a header"))].into_iter().collect();
            Written::of(&headers).fields(body.as_bytes())
        };
        let expected = Some(vec![("grant_type".to_owned(), "a b".to_owned())]);
        assert_eq!(read("application/x-www-form-urlencoded", "grant_type=a+b"), expected);
        assert_eq!(read("Application/JSON; charset=utf-8", r#"{"grant_type": "a b"}"#), expected);
        assert_eq!(read("application/json", r#"{"grant_type": 1}"#), None);
        assert_eq!(read("application/json", "grant_type=a"), None);
    }

    #[test]
    fn a_challenge_names_the_host_only_if_it_is_one() {
        assert!(challenge("[::1]:6060").ends_with("https://[::1]:6060/.well-known/oauth-protected-resource\""));
        for odd in ["", "a\"b", "a, Basic"] {
            assert_eq!(challenge(odd), "Bearer realm=\"appm\"", "{odd}");
        }
    }
}
