//! What lets somebody in, changed everywhere by a little: it lets nobody in, and nothing breaks.

use std::sync::{Arc, Mutex};

use appm::{
    api::{Reason, Status},
    client::http::{HttpClient, Request, RequestError, TokenSource},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::{
    Api,
    login::{PASSWORD, WHO_AM_I, ada, client, login, name_of, post},
    tls,
};

/// Every bit changed, every byte left out, others put in, cut off everywhere, parts swapped and doubled. `step` skips places.
fn mutations(good: &str, step: usize) -> Vec<String> {
    let mut all = Vec::new();
    for at in (0..good.len()).step_by(step) {
        let (before, after) = good.split_at(at);
        for bit in 0..7 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            all.push(String::from_utf8(bytes).unwrap());
        }
        all.push(format!("{before}{}", &after[1..]));
        all.push(before.to_owned());
        all.push(after.to_owned());
        all.extend(["A", ".", "_", "=", "-"].map(|extra| format!("{before}{extra}{after}")));
    }
    for separator in ['.', '_'] {
        let parts: Vec<&str> = good.split(separator).collect();
        for at in 0..parts.len() {
            let mut others = parts.clone();
            others.rotate_left(at);
            all.push(others.join(&separator.to_string()));
            others.remove(0);
            all.push(others.join(&separator.to_string()));
        }
        all.push(format!("{good}{separator}{good}"));
    }
    // Blanks around a header's value are no part of it.
    all.retain(|text| text.trim() != good && text.bytes().all(|b| (0x20..0x7f).contains(&b)));
    all
}

/// One connection, on which each request may bear another token.
struct Knocker {
    client: HttpClient,
    token: Arc<Mutex<String>>,
}

impl Knocker {
    fn new(api: &Api) -> Self {
        let token = Arc::new(Mutex::new(String::new()));
        let shown = token.clone();
        let source: TokenSource = Arc::new(move |refused| {
            let token = shown.lock().unwrap().clone();
            async move {
                match refused {
                    None => Ok(token),
                    Some(_) => Err(RequestError::Refused(Status::new(Reason::Unauthorized, ""))),
                }
            }
            .boxed()
        });
        Self { client: client(api, None).bearing(source), token }
    }

    /// Shows a token: 401, or the test fails.
    async fn knock(&self, token: &str) {
        token.clone_into(&mut self.token.lock().unwrap());
        match self.client.call(Request::post(WHO_AM_I, &json!({}))).await {
            Err(RequestError::Refused(status)) if status.reason == Reason::Unauthorized => {}
            other => panic!("{token}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn no_token_that_is_changed_a_little_lets_anybody_in() {
    let api = Api::start().await;
    ada(&api).await;
    let granted = login(&api).await;
    let access = granted["accessToken"].as_str().unwrap();
    let issued = post(&api, Some(access), "/auth/v1/tokens", json!({})).await.unwrap();
    let long_lived = issued["token"].as_str().unwrap();
    let knocker = Knocker::new(&api);
    for (token, step) in [(long_lived, 3), (access, 11)] {
        for changed in mutations(token, step) {
            knocker.knock(&changed).await;
        }
        assert_eq!(name_of(&api, token).await, Ok(json!("ada")), "the token itself is as good as before");
    }
    // Neither does anything that looks like a refresh token, and the login survives all of it.
    let refresh = granted["refreshToken"].as_str().unwrap();
    let one = client(&api, None);
    for changed in mutations(refresh, 5) {
        match one.call(Request::post("/auth/v1/refresh", &json!({"refreshToken": changed}))).await {
            Err(RequestError::Refused(status)) if status.reason == Reason::Unauthorized => {}
            other => panic!("{changed}: {other:?}"),
        }
    }
    post(&api, None, "/auth/v1/refresh", json!({"refreshToken": refresh})).await.expect("it is good still");
    api.server.stop().await;
}

#[tokio::test]
async fn no_password_and_no_code_that_is_changed_a_little_lets_anybody_in() {
    let api = Api::start().await;
    ada(&api).await;
    let config = tls::builder(tls::BOTH).with_root_certificates(tls::trusting(&api)).with_no_client_auth();
    let stream = tls::connected(api.server.address, "localhost", config).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // After a few of them the rest is told to wait: what matters is that none is let in and nothing breaks.
    for changed in mutations(&BASE64_STANDARD.encode(format!("ada:{PASSWORD}")), 4) {
        let request = hyper::Request::get(super::APPS).header("host", "localhost");
        let request =
            request.header("authorization", format!("Basic {changed}")).body(Full::new(Bytes::new())).unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let code = answer.status().as_u16();
        answer.into_body().collect().await.unwrap();
        assert!(matches!(code, 401 | 429), "{changed}: {code}");
    }
    let one = client(&api, None);
    let odd = ["", "0", "000000", "-1", "0x1f", "１２３４５６", "9999999999999999999999", "\u{0}", "123 456"];
    let codes = odd.map(|code| json!({"username": "ada", "password": "wrong horse", "code": code}));
    let passwords = mutations(PASSWORD, 2).into_iter().map(|text| json!({"username": "ada", "password": text}));
    for ask in codes.into_iter().chain(passwords) {
        match one.call(Request::post("/auth/v1/login", &ask)).await {
            Err(RequestError::Refused(status)) if matches!(status.reason.code(), 401 | 429) => {}
            other => panic!("{ask}: {other:?}"),
        }
    }
    api.server.stop().await;
}
