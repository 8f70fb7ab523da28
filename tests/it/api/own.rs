//! Kubernetes' own kinds: Secret, ConfigMap, Lease, Event and Namespace, as their clients use them.

use futures::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use super::{Api, kubectl::Kubectl};

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn lease(holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lock", "namespace": "default"},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "2026-01-02T03:04:05.000600Z", "renewTime": "2026-01-02T03:04:05.123456Z",
        },
    })
}

#[tokio::test]
async fn of_many_who_reach_for_a_lease_one_gets_it() {
    let api = Api::start().await;
    let made = join_all((0..8).map(|i| {
        let api = &api;
        async move { api.post(LEASES, &lease(&format!("p{i}"))).await.code }
    }));
    let mut codes = made.await;
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409, 409, 409, 409, 409, 409]);
    let path = format!("{LEASES}/lock");
    for round in 0..5 {
        let before = api.get(&path).await.expect(200).json();
        let replies = join_all((0..8).map(|i| {
            let mut mine = before.clone();
            mine["spec"]["holderIdentity"] = json!(format!("r{round}p{i}"));
            let (api, path) = (&api, &path);
            async move { api.send(Method::PUT, path, &[], mine.to_string()).await }
        }))
        .await;
        let (won, lost): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.code == 200);
        assert_eq!(won.len(), 1);
        let after = api.get(&path).await.json();
        assert_eq!(after["spec"]["holderIdentity"], won[0].json()["spec"]["holderIdentity"]);
        for reply in lost {
            assert_eq!((reply.code, &reply.json()["reason"]), (409, &json!("Conflict")));
        }
    }
}

#[tokio::test]
async fn the_times_of_a_lease_come_back_as_they_were_written() {
    let api = Api::start().await;
    let made = api.post(LEASES, &lease("a")).await.expect(201);
    assert!(made.text().contains(r#""acquireTime":"2026-01-02T03:04:05.000600Z""#), "{}", made.text());
    assert!(made.text().contains(r#""renewTime":"2026-01-02T03:04:05.123456Z""#), "{}", made.text());
    // The way in which Python writes them.
    let patch = r#"{"spec":{"renewTime":"2026-01-02T03:04:06.5+00:00"}}"#;
    let renewed = api.patch(&format!("{LEASES}/lock"), MERGE, patch).await.expect(200).json();
    assert_eq!(renewed["spec"]["renewTime"], "2026-01-02T03:04:06.500000Z");
    let bad = r#"{"spec":{"renewTime":"yesterday","leaseDurationSeconds":0}}"#;
    let refused = api.patch(&format!("{LEASES}/lock"), MERGE, bad).await.expect(422).json();
    assert_eq!(refused["details"]["causes"].as_array().unwrap().len(), 2, "{refused}");
}

#[tokio::test]
async fn events_are_counted_by_their_clients_in_both_apis() {
    let api = Api::start().await;
    let (core, newer) = ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    // As client-go's recorder for core/v1 does it: nulls, empty texts, then a strategic merge patch.
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "creationTimestamp": null},
        "involvedObject": {"kind": "App", "namespace": "default", "name": "web", "uid": "u1"},
        "reason": "Started", "message": "it runs", "source": {"component": "robot"}, "type": "Normal", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "eventTime": null,
        "reportingComponent": "", "reportingInstance": "",
    });
    api.post(core, &event).await.expect(201);
    let again = r#"{"count":2,"lastTimestamp":"2026-01-01T00:01:00Z"}"#;
    api.patch(&format!("{core}/web.1"), STRATEGIC, again).await.expect(200);
    let shown = api.get(&format!("{newer}/web.1")).await.expect(200).json();
    assert_eq!((&shown["deprecatedCount"], &shown["regarding"]["name"]), (&json!(2), &json!("web")));
    // As the recorder of events.k8s.io does it: a series.
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.2", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z", "reportingController": "example.com/robot",
        "reportingInstance": "robot-1", "action": "Start", "reason": "Started", "note": "it runs", "type": "Normal",
        "regarding": {"kind": "App", "namespace": "default", "name": "web", "uid": "u1"},
    });
    api.post(newer, &event).await.expect(201);
    let series = r#"{"series":{"count":2,"lastObservedTime":"2026-01-01T00:01:00.000001Z"}}"#;
    api.patch(&format!("{newer}/web.2"), STRATEGIC, series).await.expect(200);
    let list =
        api.get(&format!("{core}?fieldSelector=involvedObject.uid%3Du1,reason%3DStarted")).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let list = api.get(&format!("{newer}?fieldSelector=regarding.name%3Dweb,type%3DNormal")).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let mut elsewhere = event.clone();
    elsewhere["metadata"]["name"] = json!("web.3");
    elsewhere["regarding"] = json!({"kind": "App", "namespace": "", "name": "web"});
    elsewhere["type"] = json!("Odd");
    let refused = api.post(newer, &elsewhere).await.expect(422).json();
    assert_eq!(refused["details"]["causes"][0]["field"], "type");
    api.send(Method::DELETE, &format!("{newer}/web.2"), &[], "").await.expect(200);
    api.get(&format!("{core}/web.2")).await.expect(404);
}

#[tokio::test]
async fn a_namespace_is_finalized_by_whoever_empties_it() {
    let api = Api::start().await;
    let made = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "blue"}})).await.expect(201).json();
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "blue");
    let blue = "/api/v1/namespaces/blue";
    let going = api.send(Method::DELETE, blue, &[], "").await.expect(200).json();
    assert_eq!(going["status"]["phase"], "Terminating");
    let cm = json!({"metadata": {"name": "late"}});
    let refused = api.post(&format!("{blue}/configmaps"), &cm).await.expect(403).json();
    assert_eq!(
        refused["message"],
        "configmaps \"late\" is forbidden: unable to create new content in namespace blue because it is being terminated"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut empty = going.clone();
    empty["spec"] = json!({"finalizers": []});
    api.send(Method::PUT, blue, &[], empty.to_string()).await.expect(200);
    api.get(blue).await.expect(200);
    api.patch(&format!("{blue}/finalize"), MERGE, "{}").await.expect(405);
    empty["metadata"]["resourceVersion"] = json!("");
    api.send(Method::PUT, &format!("{blue}/finalize"), &[], empty.to_string()).await.expect(200);
    api.get(blue).await.expect(404);
    api.send(Method::DELETE, "/api/v1/namespaces/default", &[], "").await.expect(403);
}

#[tokio::test]
async fn openapi_says_where_strategic_merge_patches_go_and_how_lists_are_merged() {
    let api = Api::start().await;
    let core = api.get("/openapi/v3/api/v1").await.expect(200).json();
    let types = |path: &str| core["paths"][path]["patch"]["requestBody"]["content"].as_object().unwrap().clone();
    assert!(types("/api/v1/namespaces/{namespace}/configmaps/{name}").contains_key(STRATEGIC));
    let owners = &core["components"]["schemas"]["ObjectMeta"]["properties"]["ownerReferences"];
    assert_eq!(
        (&owners["x-kubernetes-patch-strategy"], &owners["x-kubernetes-patch-merge-key"]),
        (&json!("merge"), &json!("uid"))
    );
    let ours = api.get("/openapi/v3/apis/appm.dev/v1").await.expect(200).json();
    let patch = &ours["paths"]["/apis/appm.dev/v1/namespaces/{namespace}/apps/{name}"]["patch"];
    assert!(!patch["requestBody"]["content"].as_object().unwrap().contains_key(STRATEGIC), "as for custom resources");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_makes_and_changes_secrets_and_config_maps() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.says("create secret generic db --from-literal=user=me --from-literal=pass=hunter2", None, "created").await;
    kubectl.says("get secret db -o jsonpath={.data.pass}", None, "aHVudGVyMg==").await;
    kubectl.says("get secrets", None, "Opaque").await;
    let described = kubectl.ok("describe secret db", None).await;
    assert!(described.contains("pass:  7 bytes") && !described.contains("unter2"), "{described}");
    let login = "--docker-server=r.example --docker-username=u --docker-password=p";
    kubectl.says(&format!("create secret docker-registry pull {login}"), None, "created").await;
    kubectl.says("get secret pull -o jsonpath={.type}", None, "kubernetes.io/dockerconfigjson").await;

    kubectl.says("create configmap settings --from-literal=a=1 --from-literal=b=2", None, "created").await;
    // The default type of a patch, for kinds that kubectl knows.
    kubectl.says(r#"patch cm settings -p {"data":{"a":null,"c":"3"}}"#, None, "patched").await;
    kubectl.says("get cm settings -o jsonpath={.data}", None, r#"{"b":"2","c":"3"}"#).await;
    let map =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data});
    kubectl.says("apply -f -", Some(&map(json!({"a": "1", "b": "2"}))), "created").await;
    kubectl.says("apply -f -", Some(&map(json!({"b": "3", "c": "4"}))), "configured").await;
    kubectl.says("apply -f -", Some(&map(json!({"b": "3", "c": "4"}))), "unchanged").await;
    kubectl.says("get cm applied -o jsonpath={.data}", None, r#"{"b":"3","c":"4"}"#).await;
    let secret = |text: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "applied"}, "stringData": {"a": text}});
    kubectl.says("apply -f -", Some(&secret("1")), "created").await;
    kubectl.says("apply -f -", Some(&secret("2")), "configured").await;
    kubectl.says("get secret applied -o jsonpath={.data.a}", None, "Mg==").await;
    kubectl.says("apply --server-side --force-conflicts -f -", Some(&secret("3")), "serverside-applied").await;
    kubectl.says("get secret applied -o jsonpath={.data.a}", None, "Mw==").await;
    kubectl.says("create namespace blue", None, "created").await;
    kubectl.says("label ns blue team=a", None, "labeled").await;
    kubectl.says(r#"patch ns blue -p {"metadata":{"labels":{"team":"b"}}}"#, None, "patched").await;
    kubectl.says("get ns blue -o jsonpath={.metadata.labels.team}", None, "b").await;
    let edit = [("KUBE_EDITOR", "sed -i s/team:.b/team:\\ c/")];
    let (fine, text) = kubectl.run_as(&["edit", "ns", "blue"], "", &edit).await;
    assert!(fine && text.contains("edited"), "{text}");
    kubectl.says("get ns blue -o jsonpath={.metadata.labels.team}", None, "c").await;
    kubectl.says("delete cm settings applied", None, "deleted").await;
}
