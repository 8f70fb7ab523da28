//! Create and update.

use hyper::Method;
use serde_json::json;

use super::{JSON, MERGE, failure, names, version};
use crate::api::{APPS, Api, app};

#[tokio::test]
async fn names_are_made_from_prefixes() {
    let api = Api::start().await;
    let mut object = app("");
    object["metadata"] = json!({"generateName": "job-"});
    let mut made = Vec::new();
    for _ in 0..5 {
        let name = api.post(APPS, &object).await.expect(201).json()["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("job-") && name.len() == 9, "{name}");
        assert!(!made.contains(&name));
        made.push(name);
    }
    object["metadata"]["generateName"] = json!("x".repeat(80));
    let name = api.post(APPS, &object).await.expect(201).json()["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), 63, "a prefix that is too long is cut");
    object["metadata"]["name"] = json!("given");
    assert_eq!(api.post(APPS, &object).await.expect(201).json()["metadata"]["name"], "given");
}

#[tokio::test]
async fn a_body_must_be_what_its_url_says() {
    let api = Api::start().await;
    for (field, value) in
        [("/kind", json!("Instance")), ("/apiVersion", json!("appm.dev/v9")), ("/metadata/namespace", json!("other"))]
    {
        let mut object = app("a");
        object["metadata"]["namespace"] = json!("default");
        *object.pointer_mut(field).unwrap() = value;
        assert_eq!(failure(&api.post(APPS, &object).await.expect(400).json()).0, "BadRequest", "{field}");
    }
    let made = api.made("a").await;
    for (field, value) in [("name", "b"), ("namespace", "other")] {
        let mut object = made.clone();
        object["metadata"][field] = json!(value);
        let put = api.send(Method::PUT, &format!("{APPS}/a"), &[], object.to_string()).await.expect(400).json();
        assert_eq!(failure(&put).0, "BadRequest", "{field}");
        let patch = json!({"metadata": {field: value}}).to_string();
        api.patch(&format!("{APPS}/a"), MERGE, patch).await.expect(400);
    }
    let mut nowhere = app("a");
    nowhere["metadata"]["namespace"] = json!("nowhere");
    let missing = api.post("/apis/appm.dev/v1/namespaces/nowhere/apps", &nowhere).await.expect(404).json();
    assert_eq!(failure(&missing), ("NotFound", "namespaces \"nowhere\" not found"));
}

#[tokio::test]
async fn what_the_server_writes_is_not_the_clients_to_say() {
    let api = Api::start().await;
    let mut object = app("a");
    object["metadata"]["resourceVersion"] = json!("5");
    api.post(APPS, &object).await.expect(400);
    object["metadata"]["resourceVersion"] = json!("0");
    object["metadata"]["uid"] = json!("mine");
    object["metadata"]["generation"] = json!(7);
    object["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    object["metadata"]["selfLink"] = json!("/x");
    object["status"] = json!({"replicas": 5});
    let made = api.post(APPS, &object).await.expect(201).json();
    assert_ne!(made["metadata"]["uid"], "mine");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_ne!(made["metadata"]["creationTimestamp"], "2001-01-01T00:00:00Z");
    assert_eq!(made["status"]["replicas"].as_i64(), None, "the status is dropped");
    let made_at = made["metadata"]["creationTimestamp"].as_str().unwrap();
    assert!(made_at.len() == 20 && made_at.ends_with('Z'), "{made_at}");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
}

#[tokio::test]
async fn there_is_one_object_of_a_name_also_while_it_goes() {
    let api = Api::start().await;
    let mut held = app("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(APPS, &held).await.expect(201);
    api.send(Method::DELETE, &format!("{APPS}/a"), &[], "").await.expect(200);
    let refused = api.post(APPS, &app("a")).await.expect(409).json();
    assert_eq!(failure(&refused), ("AlreadyExists", "apps.appm.dev \"a\" already exists"));
    assert_eq!(refused["details"], json!({"name": "a", "group": "appm.dev", "kind": "apps"}));
}

#[tokio::test]
async fn an_update_names_what_it_replaces() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    let put = |object: serde_json::Value| api.send(Method::PUT, &path, &[("content-type", JSON)], object.to_string());

    let mut blind = made.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let refused = put(blind).await.expect(422).json();
    assert_eq!(
        failure(&refused).1,
        "App.appm.dev \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
    );
    let mut other = made.clone();
    other["metadata"]["uid"] = json!("11111111-1111-1111-1111-111111111111");
    assert_eq!(failure(&put(other).await.expect(409).json()).0, "Conflict");

    let mut changed = made.clone();
    changed["spec"]["replicas"] = json!(3);
    put(changed.clone()).await.expect(200);
    let stale = put(changed).await.expect(409).json();
    assert_eq!(
        failure(&stale).1,
        "Operation cannot be fulfilled on apps.appm.dev \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    api.send(Method::PUT, &format!("{APPS}/none"), &[], app("none").to_string()).await.expect(404);
    // Kubernetes' own kinds may be replaced blindly.
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"a": "b"}}});
    api.send(Method::PUT, "/api/v1/namespaces/default", &[], namespace.to_string()).await.expect(200);
}

#[tokio::test]
async fn what_was_born_with_an_object_stays() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    for (field, value) in
        [("creationTimestamp", json!("2001-01-01T00:00:00Z")), ("deletionTimestamp", json!("2001-01-01T00:00:00Z"))]
    {
        let mut object = made.clone();
        object["metadata"][field] = value.clone();
        let refused = api.send(Method::PUT, &path, &[], object.to_string()).await.expect(422).json();
        assert_eq!(refused["details"]["causes"][0]["field"], format!("metadata.{field}"));
    }
    // Left out, null, or written otherwise, it is the same.
    let born = made["metadata"]["creationTimestamp"].as_str().unwrap().replace('Z', "+00:00");
    for said in [json!(null), json!(born)] {
        let patch = json!({"metadata": {"creationTimestamp": said}});
        api.patch(&path, MERGE, patch.to_string()).await.expect(200);
    }
    let after = api.get(&path).await.expect(200).json();
    assert_eq!(after["metadata"]["creationTimestamp"], made["metadata"]["creationTimestamp"]);
    assert_eq!(version(&after), version(&made), "nothing was changed");
}

#[tokio::test]
async fn generation_counts_wishes_only() {
    let api = Api::start().await;
    api.made("a").await;
    let path = format!("{APPS}/a");
    for (at, patch, generation) in [
        ("", json!({"spec": {"replicas": 3}}), 2),
        ("", json!({"metadata": {"labels": {"x": "y"}}}), 2),
        ("/status", json!({"status": {"replicas": 3}}), 2),
        ("", json!({"spec": {"replicas": 3}}), 2),
        ("/scale", json!({"spec": {"replicas": 4}}), 3),
    ] {
        api.patch(&format!("{path}{at}"), MERGE, patch.to_string()).await.expect(200);
        assert_eq!(api.get(&path).await.json()["metadata"]["generation"], generation, "{at} {patch}");
    }
    api.patch(&path, MERGE, r#"{"metadata":{"finalizers":["example.com/hold"]}}"#).await.expect(200);
    let going = api.send(Method::DELETE, &path, &[], "").await.expect(200).json();
    assert_eq!(going["metadata"]["generation"], 4, "deletion is a wish");
    let again = api.send(Method::DELETE, &path, &[], "").await.expect(200).json();
    assert_eq!(again["metadata"]["deletionTimestamp"], going["metadata"]["deletionTimestamp"]);
    let more = r#"{"metadata":{"finalizers":["example.com/hold","example.com/more"]}}"#;
    api.patch(&path, MERGE, more).await.expect(422);
}

#[tokio::test]
async fn methods_that_make_no_sense_are_405_and_say_which_do() {
    let api = Api::start().await;
    api.made("a").await;
    let one = format!("{APPS}/a");
    for (method, path, allowed) in [
        (Method::POST, one.as_str(), "GET, HEAD, PUT, PATCH, DELETE"),
        (Method::PUT, APPS, "GET, HEAD, POST, DELETE"),
        (Method::PATCH, APPS, "GET, HEAD, POST, DELETE"),
        (Method::OPTIONS, APPS, "GET, HEAD, POST, DELETE"),
        (Method::TRACE, APPS, "GET, HEAD, POST, DELETE"),
        (Method::POST, "/apis/appm.dev/v1/apps", "GET, HEAD"),
        (Method::DELETE, "/apis/appm.dev/v1/apps", "GET, HEAD"),
        (Method::DELETE, "/apis", "GET, HEAD"),
        (Method::DELETE, "/apis/appm.dev/v1/transactions", "GET, HEAD, POST"),
    ] {
        let reply = api.send(method.clone(), path, &[], "{}").await.expect(405);
        assert_eq!(failure(&reply.json()).0, "MethodNotAllowed", "{method} {path}");
        assert_eq!(reply.headers["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn racing_writers_lose_nothing() {
    let api = std::sync::Arc::new(Api::start().await);
    api.made("a").await;
    let path = format!("{APPS}/a");
    let writers = (0..8).map(|writer| {
        let (api, path) = (api.clone(), path.clone());
        tokio::spawn(async move {
            let mut conflicts = 0;
            for _ in 0..5 {
                loop {
                    let mut object = api.get(&path).await.expect(200).json();
                    let count =
                        object["metadata"]["annotations"]["count"].as_str().unwrap_or("0").parse::<u32>().unwrap();
                    object["metadata"]["annotations"]["count"] = json!((count + 1).to_string());
                    object["metadata"]["annotations"][format!("w{writer}")] = json!("x");
                    match api.send(Method::PUT, &path, &[], object.to_string()).await.code {
                        200 => break,
                        409 => conflicts += 1,
                        other => panic!("{other}"),
                    }
                }
            }
            conflicts
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(api.get(&path).await.json()["metadata"]["annotations"]["count"], "40");
}

#[tokio::test]
async fn only_one_of_many_creators_wins() {
    let api = Api::start().await;
    let object = app("a");
    let replies = futures::future::join_all((0..16).map(|_| api.post(APPS, &object))).await;
    let count = |code| replies.iter().filter(|reply| reply.code == code).count();
    assert_eq!((count(201), count(409)), (1, 15));
    assert_eq!(names(&api.get(APPS).await.json()), ["a"]);
}
