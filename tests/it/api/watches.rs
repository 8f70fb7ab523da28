//! Watches: what comes, in which order, and how they end.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use serde_json::{Value, json};

use super::{APPS, Api};

/// The lines of an open watch.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(api: &Api, query: &str, accept: &str) -> Self {
        let reply = api.request(Method::GET, &format!("{APPS}?watch=true&{query}"), &[("accept", accept)], "").await;
        assert_eq!(reply.status(), 200);
        Self { body: reply.into_body(), rest: Vec::new() }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("in time")?;
        Some(frame.unwrap().into_data().unwrap())
    }

    /// The next event; `None` at a clean end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let piece = self.piece().await?;
            self.rest.extend_from_slice(&piece);
        }
    }

    async fn word(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }
}

const JSON: &str = "application/json";

#[tokio::test]
async fn a_watch_shows_what_is_there_and_what_comes() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let mut all = Lines::open(&api, "", JSON).await;
    assert_eq!(all.word().await, "ADDED a");
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut later = Lines::open(&api, &format!("resourceVersion={version}"), JSON).await;
    api.made("b").await;
    api.patch(&format!("{APPS}/b"), "application/merge-patch+json", r#"{"spec":{"replicas":1}}"#).await.expect(200);
    api.send(Method::DELETE, &format!("{APPS}/a"), &[], "").await.expect(200);
    for lines in [&mut all, &mut later] {
        assert_eq!(lines.word().await, "ADDED b");
        assert_eq!(lines.word().await, "MODIFIED b");
        let gone = lines.next().await.unwrap();
        assert_eq!((&gone["type"], &gone["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("a")));
        let (old, new) = (version.parse::<u64>().unwrap(), &gone["object"]["metadata"]["resourceVersion"]);
        assert!(new.as_str().unwrap().parse::<u64>().unwrap() > old, "deleted at the revision of the deletion");
    }
}

#[tokio::test]
async fn selectors_turn_transitions_into_additions_and_deletions() {
    let api = Api::start().await;
    api.made("a").await;
    let mut lines = Lines::open(&api, "labelSelector=team%3Db", JSON).await;
    let label = |team: &str| json!({"metadata": {"labels": {"team": team}}}).to_string();
    let merge = "application/merge-patch+json";
    api.patch(&format!("{APPS}/a"), merge, label("b")).await.expect(200);
    api.patch(&format!("{APPS}/a"), merge, label("c")).await.expect(200);
    assert_eq!(lines.word().await, "ADDED a");
    assert_eq!(lines.word().await, "DELETED a");
}

#[tokio::test]
async fn streamed_lists_end_with_a_bookmark_of_the_right_kind() {
    let api = Api::start().await;
    api.made("a").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=";
    let mut lines = Lines::open(&api, query, JSON).await;
    assert_eq!(lines.word().await, "ADDED a");
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    let object = &bookmark["object"];
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("App"), &json!("appm.dev/v1")));
    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(object["metadata"]["resourceVersion"], api.get(APPS).await.json()["metadata"]["resourceVersion"]);
    api.made("b").await;
    assert_eq!(lines.word().await, "ADDED b");
    api.get(&format!("{APPS}?watch=1&sendInitialEvents=true")).await.expect(422);
    api.get(&format!("{APPS}?watch=1&resourceVersionMatch=NotOlderThan")).await.expect(422);
}

#[tokio::test]
async fn a_watch_ends_cleanly_at_its_timeout_with_a_bookmark() {
    let api = Api::start().await;
    let from = api.made("a").await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // Another kind moves the revision on; the bookmark says so.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue"}});
    api.post("/api/v1/namespaces", &namespace).await.expect(201);
    let query = format!("timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={from}");
    let mut lines = Lines::open(&api, &query, JSON).await;
    assert_eq!(lines.word().await, "BOOKMARK ");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn history_that_is_gone_is_an_error_line_and_the_end() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "resourceVersion=0", JSON).await;
    api.made("a").await;
    assert_eq!(lines.word().await, "ADDED a");
    api.get(&format!("{APPS}?watch=1&resourceVersion=x")).await.expect(400);
    let future = api.get(&format!("{APPS}?watch=1&resourceVersion=999999999")).await.expect(504).json();
    assert_eq!(future["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn a_watch_can_be_of_tables_or_metadata() {
    let api = Api::start().await;
    api.made("a").await;
    let mut tables = Lines::open(&api, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = tables.next().await.unwrap()["object"].clone();
    assert_eq!((&first["kind"], &first["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert!(!first["columnDefinitions"].as_array().unwrap().is_empty());
    api.made("b").await;
    let second = tables.next().await.unwrap()["object"].clone();
    assert_eq!(second["columnDefinitions"], json!([]));
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut metadata = Lines::open(&api, "", accept).await;
    assert_eq!(metadata.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test]
async fn what_happens_together_is_sent_together() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", JSON).await;
    let operation = |at: usize| {
        let mut object = super::app(&format!("a{at}"));
        object["metadata"]["namespace"] = json!("default");
        json!({"verb": "Create", "object": object})
    };
    let operations: Vec<Value> = (0..5).map(operation).collect();
    api.post("/apis/appm.dev/v1/transactions", &json!({"operations": operations})).await.expect(200);
    let piece = lines.piece().await.unwrap();
    assert_eq!(piece.iter().filter(|b| **b == b'\n').count(), 5, "one piece for one commit");
}

#[tokio::test]
async fn watches_end_cleanly_when_the_server_stops() {
    let api = Api::start().await;
    let mut lines = Lines::open(&api, "", JSON).await;
    let Api { server, dir, .. } = api;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(lines.next().await, None);
    stopped.await.unwrap();
    drop(dir);
}

#[tokio::test]
async fn two_hundred_watchers_all_see_a_change() {
    let api = Api::start().await;
    let mut watchers = Vec::new();
    for _ in 0..200 {
        watchers.push(Lines::open(&api, "resourceVersion=0", JSON).await);
    }
    api.made("a").await;
    for lines in &mut watchers {
        assert_eq!(lines.word().await, "ADDED a");
    }
    assert!(api.get("/metrics").await.text().contains("appm_watchers 200"));
}
