//! Who one is, over the wire: logins, tokens, and what is refused.

use appm::{
    api::Reason,
    client::http::{Endpoint, HttpClient, HttpsEndpoint, Request, RequestError},
};
use serde_json::{Value, json};

use super::Api;

pub(super) const USERS: &str = "/apis/appm.dev/v1/users";
pub(super) const WHO_AM_I: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
pub(super) const PASSWORD: &str = "correct horse";

/// A client over TLS that shows this token, or none.
pub(super) fn client(api: &Api, token: Option<&str>) -> HttpClient {
    let ca_pem = std::fs::read(api.dir.path().join("pki/ca.pem")).unwrap();
    let (host, port) = (api.server.address.ip().to_string(), api.server.address.port());
    HttpClient::new(Endpoint::Https(HttpsEndpoint {
        host,
        port,
        ca_pem,
        token: token.map(str::to_owned),
        server_name: None,
        client: None,
    }))
    .unwrap()
}

pub(super) async fn post(api: &Api, token: Option<&str>, path: &str, body: Value) -> Result<Value, Reason> {
    match client(api, token).call(Request::post(path, &body)).await {
        Ok(answer) => Ok(answer.json().unwrap()),
        Err(RequestError::Refused(status)) => Err(status.reason),
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn name_of(api: &Api, token: &str) -> Result<Value, Reason> {
    let mut answer = post(api, Some(token), WHO_AM_I, json!({})).await?;
    Ok(answer["status"]["userInfo"]["username"].take())
}

pub(super) async fn ada(api: &Api) {
    let user = json!({"metadata": {"name": "ada"}, "spec": {"password": {"plain": PASSWORD}}});
    let made = api.post(USERS, &user).await.expect(201).json();
    assert_eq!(made["spec"]["password"], json!({}));
}

pub(super) async fn login(api: &Api) -> Value {
    let ask = json!({"username": "ada", "password": PASSWORD});
    post(api, None, "/auth/v1/login", ask).await.unwrap()
}

#[tokio::test]
async fn a_password_opens_a_session_and_a_lock_ends_it() {
    let api = Api::start().await;
    ada(&api).await;
    let granted = login(&api).await;
    let access = granted["accessToken"].as_str().unwrap();
    assert_eq!(name_of(&api, access).await, Ok(json!("ada")));
    let next = post(&api, None, "/auth/v1/refresh", json!({"refreshToken": granted["refreshToken"]})).await.unwrap();
    assert_eq!(name_of(&api, next["accessToken"].as_str().unwrap()).await, Ok(json!("ada")));
    for bad in ["", "x", "a.b.c", &access[..access.len() - 1], granted["refreshToken"].as_str().unwrap()] {
        assert_eq!(name_of(&api, bad).await, Err(Reason::Unauthorized), "{bad}");
    }
    let wrong = json!({"username": "ada", "password": "wrong horse"});
    assert_eq!(post(&api, None, "/auth/v1/login", wrong).await, Err(Reason::Unauthorized));
    let path = format!("{USERS}/ada");
    api.patch(&path, "application/merge-patch+json", r#"{"spec":{"locked":true}}"#).await.expect(200);
    assert_eq!(name_of(&api, access).await, Err(Reason::Unauthorized));
}

#[tokio::test]
async fn a_token_is_shown_once_listed_and_revoked() {
    let api = Api::start().await;
    ada(&api).await;
    let access = login(&api).await["accessToken"].as_str().unwrap().to_owned();
    let issued = post(&api, Some(&access), "/auth/v1/tokens", json!({"description": "ci"})).await.unwrap();
    let (token, name) = (issued["token"].as_str().unwrap(), issued["name"].as_str().unwrap());
    assert_eq!(name_of(&api, token).await, Ok(json!("ada")));
    let listed = api.get("/apis/appm.dev/v1/tokens").await.expect(200);
    assert_eq!(listed.json()["items"][0]["spec"]["description"], "ci");
    assert!(!listed.text().contains(token.splitn(3, '_').nth(2).unwrap()));
    api.send(hyper::Method::DELETE, &format!("/apis/appm.dev/v1/tokens/{name}"), &[], "").await.expect(200);
    assert_eq!(name_of(&api, token).await, Err(Reason::Unauthorized));
}

#[tokio::test]
async fn a_body_that_is_not_understood_is_refused_without_a_word_of_it() {
    let api = Api::start().await;
    for body in [
        r#"{"username": "ada", "password": ["hunter2hunter2"]}"#,
        r#"{"username": "ada", "pasword": "hunter2hunter2"}"#,
        r#"{"username": "ada", "password": "hunter2hunter2"#,
        r#"["hunter2hunter2"]"#,
        r#""hunter2hunter2""#,
    ] {
        let answer = api.send(hyper::Method::POST, "/auth/v1/login", &[], body).await.expect(400);
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    }
    assert_eq!(api.get("/auth/v1/login").await.code, 405);
    assert_eq!(api.get("/openid/v1/jwks").await.expect(200).json()["keys"], json!([]));
}
