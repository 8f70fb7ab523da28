//! Discovery, health, OpenAPI, reviews: everything that is not an object.

use hyper::Method;
use serde_json::json;

use super::{APPS, Api};

#[tokio::test]
async fn trailing_slashes_do_not_matter() {
    let api = Api::start().await;
    for path in ["/version/", "/api/", "/apis/", "/apis/appm.dev/", "/apis/appm.dev/v1/", "/api/v1/", "/openapi/v3/"] {
        let with = api.get(path).await.expect(200).body;
        let without = api.get(path.trim_end_matches('/')).await.expect(200).body;
        assert_eq!(with, without, "{path}");
    }
}

#[tokio::test]
async fn readiness_is_what_the_daemon_says() {
    let api = Api::start().await;
    api.get("/livez").await.expect(200);
    api.get("/healthz?verbose").await.expect(200);
    assert!(api.get("/readyz").await.expect(503).text().contains("failed"));
    api.readiness.set(true);
    assert_eq!(api.get("/readyz").await.expect(200).text(), "ok");
}

#[tokio::test]
async fn aggregated_discovery_answers_in_the_version_that_was_asked_for() {
    let api = Api::start().await;
    for version in ["v2", "v2beta1"] {
        let accept =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json");
        for path in ["/api", "/apis"] {
            let reply = api.send(Method::GET, path, &[("accept", &accept)], "").await.expect(200);
            assert_eq!(reply.json()["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
            let content_type = reply.headers["content-type"].to_str().unwrap();
            assert!(content_type.contains(&format!("v={version};")), "{content_type}");
        }
    }
}

#[tokio::test]
async fn openapi_comes_in_every_dialect_and_with_an_etag() {
    let api = Api::start().await;
    let index = api.get("/openapi/v3").await.expect(200).json();
    let url = index["paths"]["apis/appm.dev/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let reply = api.get(&url).await.expect(200);
    assert_eq!(reply.json()["openapi"], "3.0.0");
    let tag = reply.headers["etag"].to_str().unwrap().to_owned();
    api.send(Method::GET, &url, &[("if-none-match", &tag)], "").await.expect(304);
    assert_eq!(api.get("/openapi/v2").await.expect(200).json()["swagger"], "2.0");
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let reply = api.send(Method::GET, "/openapi/v2", &[("accept", accept)], "").await.expect(200);
    assert_eq!(reply.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(reply.body.starts_with(b"\x0a\x032.0"));
}

#[tokio::test]
async fn figures_name_requests_and_objects() {
    let api = Api::start().await;
    api.made("web").await;
    let text = api.get("/metrics").await.expect(200).text();
    for line in
        ["appm_objects{kind=\"App\"} 1", "appm_requests_total{verb=\"create\",resource=\"apps\",code=\"201\"} 1"]
    {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn the_owner_may_do_everything_and_is_told_so() {
    let api = Api::start().await;
    let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "delete", "group": "appm.dev", "resource": "apps"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(api.post(path, &review).await.expect(201).json()["status"]["allowed"], true);
    let who = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(api.post(path, &who).await.expect(201).json()["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn what_is_not_there_is_a_status() {
    let api = Api::start().await;
    for (method, path, code, reason) in [
        (Method::GET, "/nope", 404, "NotFound"),
        (Method::GET, "/apis/appm.dev/v1/nopes", 404, "NotFound"),
        (Method::GET, "/apis/appm.dev/v1/namespaces/default/apps/web/nope", 404, "NotFound"),
        (Method::POST, "/version", 200, ""),
        (Method::POST, "/apis", 405, "MethodNotAllowed"),
        (Method::PUT, "/apis/appm.dev/v1/namespaces/default/apps", 405, "MethodNotAllowed"),
        (Method::POST, "/apis/appm.dev/v1/apps", 405, "MethodNotAllowed"),
        (Method::PUT, "/apis/appm.dev/v1/transactions", 405, "MethodNotAllowed"),
        (Method::GET, "/apis/appm.dev/v1/transactions/999999", 404, "NotFound"),
    ] {
        let reply = api.send(method.clone(), path, &[], "").await.expect(code);
        if code != 200 {
            let status = reply.json();
            assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!(reason)), "{method} {path}");
            assert_eq!(status["code"], code);
        }
        assert!(reply.headers.contains_key("audit-id"));
    }
}

#[tokio::test]
async fn nobody_gets_in_over_https_without_the_token() {
    use appm::client::http::{Endpoint, HttpClient, HttpsEndpoint, Request, RequestError};
    let api = Api::start().await;
    let config = std::fs::read_to_string(api.dir.path().join("kubeconfig")).unwrap();
    let token = config.lines().find_map(|l| l.trim().strip_prefix("token: ")).unwrap().to_owned();
    let ca_pem = std::fs::read(api.dir.path().join("pki/ca.pem")).unwrap();
    let client = |token: Option<&str>| {
        HttpClient::new(Endpoint::Https(HttpsEndpoint {
            host: "127.0.0.1".to_owned(),
            port: api.server.address.port(),
            ca_pem: ca_pem.clone(),
            token: token.map(str::to_owned),
            server_name: None,
            client: None,
        }))
        .unwrap()
    };
    assert!(client(Some(&token)).call(Request::get("/apis")).await.is_ok());
    assert!(client(None).call(Request::get("/version")).await.is_ok());
    for wrong in [None, Some(""), Some("x"), Some(&token[1..])] {
        let refused = client(wrong).call(Request::get("/apis")).await;
        assert!(matches!(&refused, Err(RequestError::Refused(s)) if s.message == "Unauthorized"), "{refused:?}");
    }
}

#[tokio::test]
async fn impersonation_is_obeyed_or_refused_and_not_ignored() {
    let api = Api::start().await;
    api.send(Method::GET, APPS, &[("impersonate-user", "bob")], "").await.expect(403);
    api.send(Method::GET, "/apis", &[("impersonate-uid", "1")], "").await.expect(400);
}
