//! The protocol below the API: media types, paths, connections.

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{APPLY, JSON, MERGE, failure};
use crate::api::{APPS, Api, app};

#[tokio::test]
async fn what_a_client_accepts_is_what_it_gets() {
    let api = Api::start().await;
    api.made("a").await;
    for (accept, content_type) in [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json;charset=utf-8", JSON),
        ("application/vnd.kubernetes.protobuf,application/json", JSON),
        ("application/vnd.kubernetes.protobuf, */*", JSON),
        ("application/cbor, application/json", JSON),
        ("application/yaml", "application/yaml"),
        ("text/html, application/yaml;q=0.5", "application/yaml"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", JSON),
        ("application/json;as=Unheard;v=v1;g=meta.k8s.io,application/json", JSON),
    ] {
        for path in [APPS.to_owned(), format!("{APPS}/a")] {
            let reply = api.send(Method::GET, &path, &[("accept", accept)], "").await.expect(200);
            assert_eq!(reply.headers["content-type"], content_type, "{accept}");
        }
    }
    for accept in ["text/html", "application/vnd.kubernetes.protobuf", "application/json;as=Unheard;v=v1;g=meta.k8s.io"]
    {
        let refused = api.send(Method::GET, APPS, &[("accept", accept)], "").await.expect(406);
        assert_eq!(failure(&refused.json()).0, "NotAcceptable", "{accept}");
        // Nothing is written for somebody who could not read the answer.
        let refused = api.send(Method::POST, APPS, &[("accept", accept)], app("b").to_string()).await;
        refused.expect(406);
    }
    api.get(&format!("{APPS}/b")).await.expect(404);
}

#[tokio::test]
async fn bodies_of_other_media_types_are_415() {
    let api = Api::start().await;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", MERGE, APPLY, "application/cbor", "nonsense"]
    {
        let reply = api.send(Method::POST, APPS, &[("content-type", content_type)], app("a").to_string()).await;
        assert_eq!(failure(&reply.expect(415).json()).0, "UnsupportedMediaType", "{content_type}");
    }
    for (at, content_type) in
        ["application/json", "application/json; charset=utf-8", "application/yaml"].iter().enumerate()
    {
        let body = app(&format!("a{at}")).to_string();
        api.send(Method::POST, APPS, &[("content-type", content_type)], body).await.expect(201);
    }
}

#[tokio::test]
async fn a_head_is_a_get_without_its_body() {
    let api = Api::start().await;
    api.made("a").await;
    for path in [APPS.to_owned(), format!("{APPS}/a"), "/version".to_owned()] {
        let get = api.get(&path).await.expect(200);
        let head = api.send(Method::HEAD, &path, &[], "").await.expect(200);
        assert!(head.body.is_empty());
        assert_eq!(head.headers["content-length"], get.body.len().to_string());
    }
    assert_eq!(api.send(Method::HEAD, &format!("{APPS}/none"), &[], "").await.code, 404);
}

#[tokio::test]
async fn paths_are_read_decoded_and_with_or_without_their_slash() {
    let api = Api::start().await;
    api.made("a").await;
    for path in ["/apis/appm.dev/v1/namespaces/default/apps/", "/apis/appm%2Edev/v1/namespaces/default/apps/%61/"] {
        api.get(path).await.expect(200);
    }
    for path in [
        "/apis/appm.dev/v1/namespaces/default/apps/a%00",
        "/apis/appm.dev/v1/namespaces/default/apps/%ff",
        "/apis/appm.dev/v1/namespaces//apps",
        "/apis/appm.dev/v1/namespaces/default/apps/a/b/c/d",
        "/apis/appm.dev/v1/nothing",
        "/apis/appm.dev/v2/apps",
        "/apis/other.dev/v1",
        "/api/v2",
        "/favicon.ico",
    ] {
        assert_eq!(failure(&api.get(path).await.expect(404).json()).0, "NotFound", "{path}");
    }
}

#[tokio::test]
async fn old_watch_paths_still_watch() {
    let api = Api::start().await;
    api.made("a").await;
    for path in [
        "/apis/appm.dev/v1/watch/namespaces/default/apps?timeoutSeconds=1",
        "/apis/appm.dev/v1/watch/apps?timeoutSeconds=1",
        "/apis/appm.dev/v1/watch/namespaces/default/apps/a?timeoutSeconds=1",
    ] {
        let text = api.get(path).await.expect(200).text();
        assert!(text.starts_with(r#"{"type":"ADDED","object":{"#) && text.lines().count() == 1, "{text}");
    }
}

#[tokio::test]
async fn pretty_is_for_people() {
    let api = Api::start().await;
    let made = api.made("a").await;
    for path in [format!("{APPS}/a?pretty=true"), format!("{APPS}?pretty=1")] {
        let reply = api.get(&path).await.expect(200);
        assert!(reply.text().starts_with("{\n  \""), "{}", reply.text());
    }
    assert_eq!(api.get(&format!("{APPS}/a?pretty=true")).await.json(), made);
}

#[tokio::test]
async fn requests_may_follow_each_other_on_one_connection() {
    let api = Api::start().await;
    api.made("a").await;
    let mut stream = tokio::net::UnixStream::connect(api.dir.path().join("appm.sock")).await.unwrap();
    let request = format!("GET {APPS}/a HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let last = "GET /version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{request}{request}{last}").as_bytes()).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{all}");
    assert!(all.contains("gitVersion"));
}

#[tokio::test]
async fn a_connection_outlives_a_request_that_was_refused_before_its_body_came() {
    let api = Api::start().await;
    let mut stream = tokio::net::UnixStream::connect(api.dir.path().join("appm.sock")).await.unwrap();
    let head = format!("PUT {APPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // Either the answer is there before the body is sent, or the server waits for the body: both are fine.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(200), stream.readable()).await;
    let next = "helloGET /version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 405") && all.contains("gitVersion"), "{all}");
}

#[tokio::test]
async fn a_connection_is_closed_after_a_request_that_was_refused_before_a_long_body() {
    let api = Api::start().await;
    let mut stream = tokio::net::UnixStream::connect(api.dir.path().join("appm.sock")).await.unwrap();
    let head = format!("PUT {APPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 405") && all.contains("connection: close"), "{all}");
}

#[tokio::test]
async fn whoever_may_not_come_in_learns_nothing() {
    let api = Api::start().await;
    let refused = api.send(Method::GET, APPS, &[("impersonate-user", "bob")], "").await.expect(403).json();
    assert_eq!(failure(&refused).0, "Forbidden");
    let transaction = json!({"operations": [{"verb": "Create", "object": {"kind": "Nothing"}}]});
    assert_eq!(
        failure(&api.post("/apis/appm.dev/v1/transactions", &transaction).await.expect(400).json()).0,
        "BadRequest"
    );
}
