//! Tokens in App Mesh's words.

use hyper::header;
use serde_json::{Value, json};

use super::{COOKIE, Call, Reply, Sdk, permission};
use crate::{
    api::{Key, Reason, Status, User},
    auth::{CODE_REQUIRED, Identity, LoginRequest, parse_basic},
};

/// How long a token is good if the client says nothing, and at most, in seconds.
const WEEK: i64 = 7 * 24 * 60 * 60;
const LONGEST: i64 = 30 * 24 * 60 * 60;
const TYPE: &str = "Bearer";

impl Sdk {
    pub(super) async fn login(&self, call: &Call) -> Result<Reply, Status> {
        let refused = || Status::new(Reason::Unauthorized, "Unauthorized");
        let shown = call.header(header::AUTHORIZATION.as_str());
        let basic = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let (username, password) = basic.and_then(|(_, value)| parse_basic(value.trim())).ok_or_else(refused)?;
        let life = life(call.header("x-expire-seconds"))?;
        let code = Some(call.header("x-totp-code")).filter(|code| !code.is_empty()).map(str::to_owned);
        let ask = LoginRequest { username, password, code };
        let granted = match self.authenticator.login_for(&ask, &call.from, life).await {
            Err(status) if status.details.causes.iter().any(|cause| cause.reason == CODE_REQUIRED) => {
                return Ok(Reply::message(401, "a code of the second factor is required (totp_code)"));
            }
            granted => granted?,
        };
        let mut body = self.token(&granted.access_token, granted.expiration_time.0.as_second(), &granted.username);
        if call.header("x-refresh-token-request") == "true"
            && let Some(refresh) = &granted.refresh_token
        {
            body["refresh_token"] = json!(refresh);
        }
        Ok(answer(call, body))
    }

    /// Whether the token is good, and its user may do what the permission names.
    pub(super) fn auth(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let asked = call.header("x-permission");
        if !asked.is_empty() {
            let what = permission::named(asked)
                .ok_or_else(|| Status::bad_request(format!("there is no permission `{asked}`")))?;
            self.admission.authority().may(who, &what)?;
        }
        let own = super::credentials(&call.headers);
        let shown = own.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = shown.split_once(' ').map_or("", |(_, token)| token.trim());
        let end = who.expires.map_or(self.clock.now().as_second() + LONGEST, |end| end.as_second());
        Ok(answer(call, self.token(token, end, &who.name)))
    }

    pub(super) async fn logoff(&self, who: &Identity) -> Result<Reply, Status> {
        self.authenticator.logout(who, false).await?;
        Ok(Reply::empty(200).with("set-cookie", cookie("", 0)))
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

fn answer(call: &Call, body: Value) -> Reply {
    let token = body["access_token"].as_str().unwrap_or_default().to_owned();
    let life = body["expires_in"].as_i64().unwrap_or_default();
    let reply = Reply::json(200, body).with("pragma", "no-cache");
    if call.header("x-set-cookie") == "true" { reply.with("set-cookie", cookie(&token, life)) } else { reply }
}

fn cookie(token: &str, life: i64) -> String {
    format!("{COOKIE}={token}; Path=/; Max-Age={life}; HttpOnly; Secure; SameSite=Strict")
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
