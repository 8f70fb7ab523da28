//! Verbs on objects.

use hyper::Method;
use serde_json::{Value, json};

use super::{APPS, Api, app};

const MERGE: &str = "application/merge-patch+json";

#[tokio::test]
async fn an_app_lives_from_create_to_delete() {
    let api = Api::start().await;
    let made = api.made("web").await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["namespace"], "default");
    let web = format!("{APPS}/web");
    api.post(APPS, &app("web")).await.expect(409);

    let got = api.get(&web).await.expect(200).json();
    assert_eq!(got, made);

    let mut changed = got.clone();
    changed["spec"]["replicas"] = json!(3);
    let put = api.send(Method::PUT, &web, &[], changed.to_string()).await.expect(200).json();
    assert_eq!((&put["spec"]["replicas"], &put["metadata"]["generation"]), (&json!(3), &json!(2)));
    let stale = api.send(Method::PUT, &web, &[], changed.to_string()).await.expect(409).json();
    assert_eq!(stale["reason"], "Conflict");

    let patched = api.patch(&web, MERGE, r#"{"spec":{"replicas":4}}"#).await.expect(200).json();
    assert_eq!(patched["spec"]["replicas"], 4);
    let again = api.patch(&web, MERGE, r#"{"spec":{"replicas":4}}"#).await.expect(200).json();
    assert_eq!(again, patched, "a patch that changes nothing makes no revision");

    let gone = api.send(Method::DELETE, &web, &[("content-type", "application/json")], "").await.expect(200).json();
    assert_eq!((&gone["status"], &gone["details"]["uid"]), (&json!("Success"), &made["metadata"]["uid"]));
    let missing = api.get(&web).await.expect(404).json();
    assert_eq!(missing["message"], "apps.appm.dev \"web\" not found");
}

#[tokio::test]
async fn apply_makes_and_merges_and_names_conflicts() {
    let api = Api::start().await;
    let web = format!("{APPS}/web");
    let apply = "application/apply-patch+yaml";
    let yaml = "apiVersion: appm.dev/v1\nkind: App\nmetadata: {name: web}\nspec:\n  replicas: 1\n  process: {command: [sleep, '9']}\n";
    api.patch(&web, apply, yaml).await.expect(422);
    api.patch(&format!("{web}?fieldManager=ci"), apply, yaml).await.expect(201);
    api.patch(&format!("{web}?fieldManager=ci"), apply, yaml).await.expect(200);
    let other = yaml.replace("replicas: 1", "replicas: 5");
    let conflict = api.patch(&format!("{web}?fieldManager=me"), apply, other.clone()).await.expect(409).json();
    assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = api.patch(&format!("{web}?fieldManager=me&force=true"), apply, other).await.expect(200).json();
    assert_eq!(forced["spec"]["replicas"], 5);
}

#[tokio::test]
async fn bodies_are_read_whatever_they_call_themselves() {
    let api = Api::start().await;
    // No content type is JSON; YAML is YAML; the rest is refused with the types that would do.
    api.send(Method::POST, APPS, &[], app("a").to_string()).await.expect(201);
    let yaml = "apiVersion: appm.dev/v1\nkind: App\nmetadata: {name: b}\nspec: {process: {command: [sleep, '9']}}\n";
    api.send(Method::POST, APPS, &[("content-type", "application/yaml")], yaml).await.expect(201);
    api.send(Method::POST, APPS, &[("content-type", "text/html")], "x").await.expect(415);
    api.send(Method::POST, APPS, &[("content-type", "application/vnd.kubernetes.protobuf")], "k8s\0").await.expect(415);
    api.send(Method::POST, APPS, &[], "").await.expect(400);
    api.send(Method::POST, APPS, &[], "{").await.expect(400);
    let strategic = api.patch(&format!("{APPS}/a"), "application/strategic-merge-patch+json", "{}").await.expect(415);
    assert!(strategic.json()["message"].as_str().unwrap().contains("application/merge-patch+json"));
    api.patch(&format!("{APPS}/a"), "application/json-patch+json", "{}").await.expect(400);
    api.patch(&format!("{APPS}/a"), MERGE, "[]").await.expect(400);
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(3 * 1024 * 1024));
    let refused = api.send(Method::POST, APPS, &[], large).await.expect(413).json();
    assert_eq!(refused["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn a_list_can_be_a_table_or_metadata_or_yaml() {
    let api = Api::start().await;
    api.made("web").await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = api.send(Method::GET, APPS, &[("accept", accept)], "").await.expect(200).json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("web")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = api.send(Method::GET, APPS, &[("accept", accept)], "").await.expect(200).json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("spec"), None);
    let yaml = api.send(Method::GET, &format!("{APPS}/web"), &[("accept", "application/yaml")], "").await.expect(200);
    assert!(yaml.text().contains("kind: App\n"), "{}", yaml.text());
    api.send(Method::GET, APPS, &[("accept", "text/html")], "").await.expect(406);
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let api = Api::start().await;
    let path = "/apis/appm.dev/v1/transactions";
    let apply = |object: Value| json!({"verb": "Apply", "object": object});
    let mut in_default = app("a");
    in_default["metadata"]["namespace"] = json!("default");
    let mut second = app("b");
    second["metadata"]["namespace"] = json!("default");
    let both = json!({"fieldManager": "appm", "operations": [apply(in_default.clone()), apply(second)]});
    let done = api.post(path, &both).await.expect(200).json();
    assert_eq!(
        (&done["results"][0]["outcome"], &done["results"][1]["outcome"]),
        (&json!("created"), &json!("created"))
    );
    let versions = |at: usize| done["results"][at]["object"]["metadata"]["resourceVersion"].clone();
    assert_eq!((versions(0), versions(1)), (done["resourceVersion"].clone(), done["resourceVersion"].clone()));

    let mut wrong = app("c");
    wrong["metadata"]["namespace"] = json!("default");
    wrong["spec"]["replicas"] = json!("many");
    let mut third = app("d");
    third["metadata"]["namespace"] = json!("default");
    let refused = api.post(path, &json!({"operations": [apply(third), apply(wrong)]})).await.expect(422).json();
    assert_eq!(refused["details"]["causes"][0]["field"], "operations[1].object.spec.replicas");
    api.get(&format!("{APPS}/d")).await.expect(404);
    api.post(path, &json!({"operations": [{"verb": "Dance", "object": {}}]})).await.expect(400);
}

#[tokio::test]
async fn an_instances_output_is_served_as_text() {
    let api = Api::start().await;
    let instances = "/apis/appm.dev/v1/namespaces/default/instances";
    let instance = json!({
        "apiVersion": "appm.dev/v1", "kind": "Instance", "metadata": {"name": "web-0"},
        "spec": {"nodeName": "n", "revision": "web-1", "process": {"command": ["true"]}},
    });
    api.post(instances, &instance).await.expect(201);
    let reply = api.get(&format!("{instances}/web-0/log?tailLines=5")).await.expect(200);
    assert_eq!(reply.text(), "web-0 tail=Some(5)\n");
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(api.get(&format!("{instances}/web-0/log?limitBytes=3")).await.expect(200).text(), "web");
    api.get(&format!("{instances}/none/log")).await.expect(404);
    api.get(&format!("{instances}/web-0/log?tailLines=x")).await.expect(400);
}

#[tokio::test]
async fn an_event_is_the_same_row_in_both_groups() {
    let api = Api::start().await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e1", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Started", "note": "hello", "type": "Normal",
        "reportingController": "x", "reportingInstance": "y", "action": "z",
        "regarding": {"kind": "App", "name": "web", "namespace": "default"},
    });
    api.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.expect(201);
    let selected = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dweb";
    let core = api.get(selected).await.expect(200).json();
    assert_eq!(core["items"][0]["message"], "hello");
    let list = api.get("/apis/events.k8s.io/v1/events").await.expect(200).json();
    assert_eq!((&list["kind"], &list["items"][0]["note"]), (&json!("EventList"), &json!("hello")));
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");
}
