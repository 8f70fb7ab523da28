//! Lists: pages, revisions, selectors.

use serde_json::{Value, json};

use super::{MERGE, failure, names, version};
use crate::api::{APPS, Api, app};

async fn with_apps(names: &[&str]) -> Api {
    let api = Api::start().await;
    for name in names {
        api.made(name).await;
    }
    api
}

#[tokio::test]
async fn pages_are_of_one_snapshot_while_others_write() {
    let api = with_apps(&["a", "b", "c", "d", "e"]).await;
    let (mut seen, mut token, mut versions) = (Vec::new(), String::new(), Vec::new());
    for round in 0.. {
        let page = api.get(&format!("{APPS}?limit=2&continue={token}")).await.expect(200).json();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        versions.push(version(&page).to_owned());
        assert!(page["items"].as_array().unwrap().iter().all(|i| i["spec"]["replicas"] == 2), "the old state");
        // Somebody changes what is still to come, deletes it, and makes something before and after.
        api.patch(&format!("{APPS}/e"), MERGE, format!(r#"{{"spec":{{"replicas":{}}}}}"#, round + 5)).await;
        api.send(hyper::Method::DELETE, &format!("{APPS}/d"), &[], "").await;
        api.made(&format!("a{round}")).await;
        match page["metadata"]["continue"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    versions.dedup();
    assert_eq!(versions.len(), 1, "one revision for all pages");
}

#[tokio::test]
async fn remaining_items_are_counted_only_without_selectors() {
    let api = with_apps(&["a", "b", "c"]).await;
    let page = api.get(&format!("{APPS}?limit=1")).await.expect(200).json();
    assert_eq!(page["metadata"]["remainingItemCount"], 2);
    let page = api.get(&format!("{APPS}?limit=1&labelSelector=team")).await.expect(200).json();
    assert_eq!(page["metadata"].get("remainingItemCount"), None);
    assert!(page["metadata"]["continue"].is_string());
    let whole = api.get(&format!("{APPS}?limit=3")).await.expect(200).json();
    assert_eq!(whole["metadata"].get("continue"), None);
    // Informers ask so.
    let cached = api.get(&format!("{APPS}?limit=2&resourceVersion=0")).await.expect(200).json();
    assert!(!names(&cached).is_empty());
}

#[tokio::test]
async fn a_token_is_good_for_its_own_list_only() {
    let api = with_apps(&["a", "b"]).await;
    let page = api.get(&format!("{APPS}?limit=1")).await.expect(200).json();
    let token = page["metadata"]["continue"].as_str().unwrap();
    for wrong in [
        format!("{APPS}?continue=%00%ff"),
        format!("{APPS}?continue=e30"),
        format!("{APPS}?continue={token}&labelSelector=team"),
        format!("/apis/appm.dev/v1/apps?continue={token}"),
        format!("/api/v1/namespaces?continue={token}"),
        format!("{APPS}?continue={token}&resourceVersion=5"),
    ] {
        let status = api.get(&wrong).await.expect(400).json();
        assert_eq!(failure(&status).0, "BadRequest", "{wrong}");
    }
    let matching = format!("{APPS}?continue={token}&resourceVersion=5&resourceVersionMatch=Exact");
    assert_eq!(failure(&api.get(&matching).await.expect(422).json()).0, "Invalid");
}

#[tokio::test]
async fn a_snapshot_that_is_gone_is_410_with_a_token_to_go_on() {
    // So few recent changes are kept in memory that nothing can be rebuilt, and the server holds few snapshots.
    let api = Api::with(|limits| limits.ring_bytes = 1).await;
    for name in ["a", "b", "c", "d"] {
        api.made(name).await;
    }
    let first = api.get(&format!("{APPS}?limit=2")).await.expect(200).json();
    let token = first["metadata"]["continue"].as_str().unwrap();
    for at in 0..70 {
        // Each of them is another snapshot.
        api.get(&format!("{APPS}?limit=1&labelSelector=x!%3Dn{at}")).await.expect(200);
    }
    api.made("bb").await;
    let gone = api.get(&format!("{APPS}?limit=2&continue={token}")).await.expect(410).json();
    assert_eq!(failure(&gone).0, "Expired");
    let anew = gone["metadata"]["continue"].as_str().expect("a token");
    let rest = api.get(&format!("{APPS}?continue={anew}")).await.expect(200).json();
    assert_eq!(names(&rest), ["bb", "c", "d"]);
    assert_ne!(version(&rest), version(&first));
}

#[tokio::test]
async fn a_past_revision_is_shown_exactly() {
    let api = with_apps(&["a", "b"]).await;
    let then = api.get(APPS).await.expect(200).json();
    api.patch(&format!("{APPS}/a"), MERGE, r#"{"spec":{"replicas":9}}"#).await.expect(200);
    api.send(hyper::Method::DELETE, &format!("{APPS}/b"), &[], "").await.expect(200);
    api.made("c").await;
    let exact = format!("{APPS}?resourceVersion={}&resourceVersionMatch=Exact", version(&then));
    assert_eq!(api.get(&exact).await.expect(200).json(), then);
    let page = api.get(&format!("{exact}&limit=1")).await.expect(200).json();
    let token = page["metadata"]["continue"].as_str().unwrap();
    let rest = api.get(&format!("{APPS}?continue={token}")).await.expect(200).json();
    assert_eq!((names(&page), names(&rest)), (vec!["a"], vec!["b"]));
}

#[tokio::test]
async fn which_revision_may_be_asked_for() {
    let api = with_apps(&["a"]).await;
    let now = version(&api.get(APPS).await.expect(200).json()).to_owned();
    for (query, code) in [
        ("".to_owned(), 200),
        ("resourceVersion=0".to_owned(), 200),
        (format!("resourceVersion={now}"), 200),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(), 200),
        (format!("resourceVersion={now}&resourceVersionMatch=NotOlderThan"), 200),
        (format!("resourceVersion={now}&resourceVersionMatch=Exact"), 200),
        ("resourceVersion=0&resourceVersionMatch=Exact".to_owned(), 422),
        ("resourceVersionMatch=Exact".to_owned(), 422),
        ("resourceVersionMatch=NotOlderThan".to_owned(), 422),
        (format!("resourceVersion={now}&resourceVersionMatch=Roughly"), 422),
        ("resourceVersion=abc".to_owned(), 400),
        ("resourceVersion=-1".to_owned(), 400),
        ("resourceVersion=99999999999999999999999".to_owned(), 400),
        ("limit=many".to_owned(), 400),
        ("pleaseIgnoreMe=1".to_owned(), 200),
    ] {
        api.get(&format!("{APPS}?{query}")).await.expect(code);
    }
}

#[tokio::test]
async fn a_revision_that_is_still_to_come_is_a_timeout_to_try_again() {
    let api = with_apps(&["a"]).await;
    let next: u64 = version(&api.get(APPS).await.json()).parse::<u64>().unwrap() + 1000;
    for path in [format!("{APPS}?resourceVersion={next}"), format!("{APPS}/a?resourceVersion={next}")] {
        let reply = api.get(&path).await.expect(504);
        assert_eq!(reply.headers["retry-after"], "1");
        let status = reply.json();
        assert_eq!(failure(&status).0, "Timeout");
        assert!(failure(&status).1.starts_with("Too large resource version: "), "{status}");
        assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
    }
}

#[tokio::test]
async fn a_list_waits_for_a_revision_that_comes() {
    let api = with_apps(&["a"]).await;
    let next: u64 = version(&api.get(APPS).await.json()).parse::<u64>().unwrap() + 1;
    let waiting = format!("{APPS}?resourceVersion={next}");
    let (list, _) = tokio::join!(api.get(&waiting), api.made("b"));
    assert_eq!(names(&list.expect(200).json()), ["a", "b"]);
}

#[tokio::test]
async fn label_selectors_have_the_whole_grammar() {
    let api = Api::start().await;
    for (name, labels) in
        [("a", json!({"tier": "front", "n": "1"})), ("b", json!({"tier": "back", "n": "5"})), ("c", json!({}))]
    {
        let mut object = app(name);
        object["metadata"]["labels"] = labels;
        api.post(APPS, &object).await.expect(201);
    }
    let encoded = |s: &str| s.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    for (selector, expected) in [
        ("tier=front", vec!["a"]),
        ("tier==front", vec!["a"]),
        ("tier!=front", vec!["b", "c"]),
        ("tier in (front, back)", vec!["a", "b"]),
        ("tier notin (front)", vec!["b", "c"]),
        ("tier", vec!["a", "b"]),
        ("!tier", vec!["c"]),
        ("tier,n>2", vec!["b"]),
        ("n<2", vec!["a"]),
        (" tier = front , n in (1) ", vec!["a"]),
        ("tier=", vec![]),
        ("", vec!["a", "b", "c"]),
    ] {
        let list = api.get(&format!("{APPS}?labelSelector={}", encoded(selector))).await.expect(200).json();
        assert_eq!(names(&list), expected, "{selector}");
    }
    for wrong in ["a b", "a in", "a in (", "a in (b", "a=b=c", ",", "=a", "a in ()x", "-a", "a=b,", "a>x", "a=\u{0}"] {
        let status = api.get(&format!("{APPS}?labelSelector={}", encoded(wrong))).await.expect(400).json();
        assert_eq!(failure(&status).0, "BadRequest", "{wrong}");
    }
    let long = format!("{APPS}?labelSelector={}", "a".repeat(300));
    api.get(&long).await.expect(400);
}

#[tokio::test]
async fn field_selectors_know_name_and_namespace() {
    let api = with_apps(&["a", "b"]).await;
    for (selector, expected) in [
        ("metadata.name%3Da", vec!["a"]),
        ("metadata.name%3D%3Da", vec!["a"]),
        ("metadata.name!%3Da", vec!["b"]),
        ("metadata.name%3Da,metadata.namespace%3Ddefault", vec!["a"]),
        ("metadata.namespace%3Dother", vec![]),
    ] {
        let list = api.get(&format!("{APPS}?fieldSelector={selector}")).await.expect(200).json();
        assert_eq!(names(&list), expected, "{selector}");
    }
    for wrong in ["spec.x%3D1", "metadata.name", "metadata.name+in+(a)", "x"] {
        let status = api.get(&format!("{APPS}?fieldSelector={wrong}")).await.expect(400).json();
        assert_eq!(failure(&status).0, "BadRequest", "{wrong}");
    }
    let status = api.get(&format!("{APPS}?fieldSelector=spec.x%3D1")).await.json();
    assert!(failure(&status).1.contains("field label not supported: spec.x"), "{status}");
}

#[tokio::test]
async fn an_empty_list_has_a_revision_and_its_kind() {
    let api = Api::start().await;
    for (path, kind) in
        [(APPS, "AppList"), ("/api/v1/nodes", "NodeList"), ("/apis/events.k8s.io/v1/events", "EventList")]
    {
        let list = api.get(path).await.expect(200).json();
        assert_eq!((&list["kind"], &list["items"]), (&json!(kind), &json!([])));
        assert!(version(&list).parse::<u64>().unwrap() > 0);
    }
}

#[tokio::test]
async fn tables_include_what_was_asked_for() {
    let api = with_apps(&["a"]).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    for (include, kind) in [
        ("", json!("PartialObjectMetadata")),
        ("Metadata", json!("PartialObjectMetadata")),
        ("Object", json!("App")),
        ("None", Value::Null),
    ] {
        let path = format!("{APPS}?includeObject={include}");
        let table = api.send(hyper::Method::GET, &path, &accept, "").await.expect(200).json();
        assert_eq!(table["rows"][0]["object"]["kind"], kind, "{include}");
    }
}
