//! Delete and deletecollection.

use hyper::Method;
use serde_json::json;

use super::{MERGE, failure, names, version};
use crate::api::{APPS, Api};

const HOLD: &str = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;

#[tokio::test]
async fn what_goes_at_once_is_answered_with_a_status() {
    let api = Api::start().await;
    for (name, headers, body) in [
        ("a", vec![], ""),
        ("b", vec![("content-type", "application/json")], ""),
        ("c", vec![("content-type", "application/json")], "{}"),
        ("d", vec![("content-type", "application/yaml")], "kind: DeleteOptions\napiVersion: v1\n"),
        ("e", vec![], r#"{"kind":"DeleteOptions","apiVersion":"meta.k8s.io/v1","propagationPolicy":"Background"}"#),
        ("f", vec![], r#"{"orphanDependents":false,"gracePeriodSeconds":0}"#),
    ] {
        let made = api.made(name).await;
        let gone = api.send(Method::DELETE, &format!("{APPS}/{name}"), &headers, body).await.expect(200).json();
        assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
        let details = json!({"name": name, "group": "appm.dev", "kind": "apps", "uid": made["metadata"]["uid"]});
        assert_eq!(gone["details"], details);
        let again = api.send(Method::DELETE, &format!("{APPS}/{name}"), &headers, body).await.expect(404).json();
        assert_eq!(failure(&again).1, format!("apps.appm.dev \"{name}\" not found"));
    }
}

#[tokio::test]
async fn what_is_misspelt_deletes_nothing() {
    let api = Api::start().await;
    api.made("a").await;
    for (body, code) in [
        (r#"{"preconditions":{"uid":5}}"#, 400),
        (r#"{"preconditions":"uid"}"#, 400),
        (r#"{"kind":"App"}"#, 400),
        (r#"{"gracePeriodSeconds":"soon"}"#, 400),
        (r#"{"dryRun":["Some"]}"#, 422),
        (r#"{"propagationPolicy":"Sideways"}"#, 422),
        (r#"[]"#, 400),
        (r#"{"#, 400),
        (r#"{"preconditions":{"uid":"other"}}"#, 409),
        (r#"{"preconditions":{"resourceVersion":"1"}}"#, 409),
    ] {
        api.send(Method::DELETE, &format!("{APPS}/a"), &[], body).await.expect(code);
    }
    api.send(Method::DELETE, &format!("{APPS}/a?gracePeriodSeconds=soon"), &[], "").await.expect(400);
    api.get(&format!("{APPS}/a")).await.expect(200);
}

#[tokio::test]
async fn preconditions_that_hold_let_it_go() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let options = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": version(&made)}});
    api.send(Method::DELETE, &format!("{APPS}/a"), &[], options.to_string()).await.expect(200);
}

#[tokio::test]
async fn finalizers_hold_an_object_that_can_still_be_written() {
    let api = Api::start().await;
    api.made("a").await;
    let path = format!("{APPS}/a");
    api.patch(&path, MERGE, HOLD).await.expect(200);
    let going = api.send(Method::DELETE, &path, &[], r#"{"gracePeriodSeconds":7}"#).await.expect(200).json();
    assert_eq!((&going["kind"], &going["metadata"]["deletionGracePeriodSeconds"]), (&json!("App"), &json!(7)));
    api.patch(&path, MERGE, r#"{"metadata":{"labels":{"x":"y"}}}"#).await.expect(200);
    let mut last = api.get(&path).await.expect(200).json();
    last["metadata"]["finalizers"] = json!([]);
    api.send(Method::PUT, &path, &[], last.to_string()).await.expect(200);
    api.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_collection_goes_by_selector_and_by_page() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.made(name).await;
    }
    let delete = async |query: &str| api.send(Method::DELETE, &format!("{APPS}?{query}"), &[], "").await;
    assert!(names(&delete("fieldSelector=metadata.name%3Dnone").await.expect(200).json()).is_empty());
    assert_eq!(names(&delete("fieldSelector=metadata.name%3De").await.expect(200).json()), ["e"]);
    let first = delete("limit=2").await.expect(200).json();
    assert_eq!((&first["kind"], names(&first)), (&json!("AppList"), vec!["a", "b"]));
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&delete(&format!("continue={token}&limit=1")).await.expect(200).json()), ["c"]);
    delete("labelSelector=%3D").await.expect(400);
    delete("continue=x").await.expect(400);
    assert_eq!(names(&delete("").await.expect(200).json()), ["d"]);
    assert!(names(&api.get(APPS).await.json()).is_empty());
}

#[tokio::test]
async fn a_collection_keeps_what_finalizers_hold() {
    let api = Api::start().await;
    api.made("a").await;
    api.made("b").await;
    api.patch(&format!("{APPS}/a"), MERGE, HOLD).await.expect(200);
    api.send(Method::DELETE, APPS, &[], "").await.expect(200);
    let left = api.get(APPS).await.json();
    assert_eq!(names(&left), ["a"]);
    assert!(left["items"][0]["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn many_may_delete_the_same_collection() {
    let api = Api::start().await;
    for at in 0..20 {
        api.made(&format!("a{at}")).await;
    }
    let replies = futures::future::join_all((0..4).map(|_| api.send(Method::DELETE, APPS, &[], ""))).await;
    for reply in replies {
        reply.expect(200);
    }
    assert!(names(&api.get(APPS).await.json()).is_empty());
}
