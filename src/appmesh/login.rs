//! Tokens, passwords and second factors in App Mesh's words.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{COOKIE, Call, Reply, Sdk, permission};
use crate::{
    api::{Key, Reason, Status, User},
    auth::{self, CODE_REQUIRED, CodeRequest, Granted, Identity, LoginRequest, parse_basic},
};

/// How long a token is good if the client says nothing, and at most, in seconds.
const WEEK: i64 = 7 * 24 * 60 * 60;
const LONGEST: i64 = 30 * 24 * 60 * 60;
const TYPE: &str = "Bearer";
/// For whom a token is that opens anything here.
const AUDIENCE: &str = "appmesh-service";
/// Those of App Mesh itself that nobody logs in for.
const RESERVED: [&str; 2] = ["appmesh-file-service", "appmesh-refresh"];
/// As long as a host's name.
const LONGEST_AUDIENCE: usize = 253;

impl Sdk {
    pub(super) async fn login(&self, call: &Call) -> Result<Reply, Status> {
        let refused = || Status::new(Reason::Unauthorized, "Unauthorized");
        let shown = call.header(header::AUTHORIZATION.as_str());
        let basic = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let (username, password) = basic.and_then(|(_, value)| parse_basic(value.trim())).ok_or_else(refused)?;
        let life = life(call.header("x-expire-seconds"))?;
        let audience = audience(&call.headers)?;
        let code = Some(call.header("x-totp-code")).filter(|code| !code.is_empty()).map(str::to_owned);
        let ask = LoginRequest { username, password, code };
        let granted = match audience {
            None => self.authenticator.login_for(&ask, &call.from, life).await,
            Some(audience) => self.authenticator.login_to(audience, &ask, &call.from, life).await,
        };
        match granted {
            Err(status) if status.details.causes.iter().any(|cause| cause.reason == CODE_REQUIRED) => {
                if audience.is_some() {
                    // The second step does not say any more for whom the token is to be.
                    return Err(Status::bad_request(
                        "a token for another audience takes the code at once: X-Totp-Code",
                    ));
                }
                self.challenge(&ask.username).ok_or(status)
            }
            granted => Ok(self.granted(call, &granted?)),
        }
    }

    /// The password was right, and a code is to be shown with this.
    fn challenge(&self, user: &str) -> Option<Reply> {
        let challenge = self.authenticator.challenge(user)?;
        let body = json!({
            "status": "TOTP_CHALLENGE_REQUIRED", "digits": 6, "algorithm": "SHA1", "period": 30,
            "totp_challenge": challenge.text, "expires": challenge.expires.as_second(),
        });
        Some(Reply::json(428, body).with("www-authenticate", "TOTP realm=\"TOTP Authentication\", qop=\"auth\""))
    }

    pub(super) async fn validate_totp(&self, call: &Call) -> Result<Reply, Status> {
        let json = call.json()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
        let expire = json.get("expire_seconds").map(|seconds| match seconds {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let life = life(&expire.unwrap_or_default())?;
        let (user, challenge, code) = (text("user_name"), text("totp_challenge"), text("totp_code"));
        let granted = self.authenticator.answer_challenge(user, challenge, code, &call.from, life).await?;
        Ok(self.granted(call, &granted))
    }

    /// Whether a token is good that is for somebody else, who asks.
    pub(super) fn auth_of_another(&self, call: &Call) -> Result<Reply, Status> {
        let refused = || Status::new(Reason::Unauthorized, "Unauthorized");
        let audience = audience(&call.headers)?.ok_or_else(refused)?;
        let shown = super::credentials(&call.headers);
        let token = bearer(&shown).ok_or_else(refused)?;
        self.auth(&self.authenticator.bearer_to(audience, token)?, call)
    }

    /// Whether the token is good, and its user may do what the permission names.
    pub(super) fn auth(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let asked = call.header("x-permission");
        if !asked.is_empty() {
            let all = permission::named(asked);
            let all = all.ok_or_else(|| Status::bad_request(format!("there is no permission `{asked}`")))?;
            all.iter().try_for_each(|what| self.admission.authority().may(who, what).map(drop))?;
        }
        let own = super::credentials(&call.headers);
        let token = bearer(&own).unwrap_or_default();
        let end = who.expires.map_or(self.clock.now().as_second() + LONGEST, Timestamp::as_second);
        Ok(answer(call.header("x-set-cookie") == "true", self.token(token, end, &who.name)))
    }

    /// Another token in place of the one that was shown.
    pub(super) async fn renew(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let granted = self.authenticator.renew(who, life(call.header("x-expire-seconds"))?).await?;
        Ok(self.regranted(call, &granted))
    }

    /// The same for whoever has a refresh token, which is another one from then on.
    pub(super) async fn refresh(&self, call: &Call) -> Result<Reply, Status> {
        let life = life(call.header("x-expire-seconds"))?;
        let granted = self.authenticator.refresh_for(call.header("x-refresh-token"), life).await?;
        Ok(self.regranted(call, &granted))
    }

    pub(super) async fn logoff(&self, who: &Identity) -> Result<Reply, Status> {
        self.authenticator.logout(who, false).await?;
        Ok(Reply::empty(200).with("set-cookie", cookie("", 0)))
    }

    pub(super) async fn totp_secret(&self, who: &Identity) -> Result<Reply, Status> {
        let enrolment = self.authenticator.enrol(who).await?;
        Ok(Reply::json(200, json!({"mfa_uri": STANDARD.encode(enrolment.uri)})))
    }

    /// A first code turns the second factor on. The token is another one from then on.
    pub(super) async fn totp_setup(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let recovery = self.authenticator.confirm(who, call.header("x-totp-code")).await?;
        let granted = self.authenticator.renew(who, life(call.header("x-expire-seconds"))?).await?;
        let mut body = self.body(call, &granted);
        // Shown this once, to whoever looks.
        body["recovery_codes"] = json!(recovery.recovery_codes);
        Ok(answer(true, body))
    }

    /// Somebody's second factor is given up: one's own with a code, that of others whose User one may change.
    pub(super) async fn totp_disable(&self, user: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let code = call.header("x-totp-code").to_owned();
        let user = Some(user).filter(|user| *user != "self" && *user != who.name).map(str::to_owned);
        let is_own = user.is_none() && code.is_empty();
        let done = self.authenticator.disable(who, &CodeRequest { code, user }).await;
        done.map_err(|status| match status.is(Reason::Unauthorized) && is_own {
            true => {
                Status::bad_request("one's own second factor is given up with a code of it: the header X-Totp-Code")
            }
            false => status,
        })?;
        Ok(Reply::message(200, "2FA deactive success"))
    }

    fn granted(&self, call: &Call, granted: &Granted) -> Reply {
        answer(call.header("x-set-cookie") == "true", self.body(call, granted))
    }

    /// Whoever came with the cookie gets the new one in it.
    fn regranted(&self, call: &Call, granted: &Granted) -> Reply {
        let cookies = call.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let had = cookies.filter_map(super::in_cookie).next().is_some();
        answer(had || call.header("x-set-cookie") == "true", self.body(call, granted))
    }

    fn body(&self, call: &Call, granted: &Granted) -> Value {
        let mut body = self.token(&granted.access_token, granted.expiration_time.0.as_second(), &granted.username);
        if call.header("x-refresh-token-request") == "true"
            && let Some(refresh) = &granted.refresh_token
        {
            body["refresh_token"] = json!(refresh);
        }
        body
    }

    fn token(&self, token: &str, end: i64, user: &str) -> Value {
        let now = self.clock.now().as_second();
        let found = self.admission.store().get(&Key::of::<User>("", user)).and_then(|user| user.typed::<User>());
        let group = found.and_then(|user| user.spec.groups.first().cloned()).unwrap_or_default();
        json!({
            "token_type": TYPE, "access_token": token, "expires_in": end - now, "expire_time": end, "issued_at": now,
            "profile": {"name": user, "group": group, "auth_time": now},
        })
    }
}

fn answer(with_cookie: bool, body: Value) -> Reply {
    let token = body["access_token"].as_str().unwrap_or_default().to_owned();
    let life = body["expires_in"].as_i64().unwrap_or_default();
    let reply = Reply::json(200, body).with("pragma", "no-cache");
    if with_cookie { reply.with("set-cookie", cookie(&token, life)) } else { reply }
}

fn cookie(token: &str, life: i64) -> String {
    format!("{COOKIE}={token}; Path=/; Max-Age={life}; HttpOnly; Secure; SameSite=Strict")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (_, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(token.trim())
}

/// True for a token that is, or is to be, for somebody else.
pub(super) fn is_for_another(headers: &HeaderMap) -> bool {
    headers.get("x-audience").is_some_and(|audience| !audience.is_empty() && audience != AUDIENCE)
}

/// For whom the token is, if it is for somebody else: such a one opens nothing here.
fn audience(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    if !is_for_another(headers) {
        return Ok(None);
    }
    let given = headers.get("x-audience").and_then(|audience| audience.to_str().ok()).unwrap_or_default();
    let is_plain = (1..=LONGEST_AUDIENCE).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || given == auth::AUDIENCE || RESERVED.contains(&given) {
        let message = format!("`{}` is no audience that a token can be for", given.escape_debug());
        return Err(Status::bad_request(message));
    }
    Ok(Some(given))
}

/// How long the token is to be good.
fn life(asked: &str) -> Result<i64, Status> {
    match asked {
        "" | "0" => Ok(WEEK),
        text => {
            let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds > 0);
            let seconds = seconds.ok_or_else(|| Status::bad_request("X-Expire-Seconds is no number of seconds"))?;
            Ok(seconds.min(LONGEST))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_a_week_or_as_long_as_was_asked_for() {
        assert_eq!([life(""), life("0"), life("60"), life("99999999")], [Ok(WEEK), Ok(WEEK), Ok(60), Ok(LONGEST)]);
        assert!(life("-1").is_err() && life("x").is_err());
    }
}
