//! `status` and `scale`.

use hyper::Method;
use serde_json::json;

use super::{MERGE, PATCH, failure, version};
use crate::api::{APPS, Api, app};

#[tokio::test]
async fn status_is_written_through_its_own_door_only() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a");
    let mut object = made.clone();
    object["status"] = json!({"replicas": 1});
    object["spec"]["replicas"] = json!(9);
    object["metadata"]["labels"] = json!({"x": "y"});
    let put = async |path: String, body: String| api.send(Method::PUT, &path, &[], body).await;
    let after = put(format!("{path}/status"), object.to_string()).await.expect(200).json();
    assert_eq!((&after["status"]["replicas"], &after["spec"]), (&json!(1), &made["spec"]));
    assert_eq!(after["metadata"]["labels"], made["metadata"]["labels"]);
    assert_eq!(after["metadata"]["generation"], 1);
    put(format!("{path}/status"), object.to_string()).await.expect(409);
    let mut blind = object.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    put(format!("{path}/status"), blind.to_string()).await.expect(422);

    let patch = json!([{"op": "add", "path": "/status/replicas", "value": 2}]).to_string();
    let after = api.patch(&format!("{path}/status"), PATCH, patch).await.expect(200).json();
    assert_eq!(after["status"]["replicas"], 2);
    assert_eq!(api.get(&format!("{path}/status")).await.expect(200).json(), after);

    let mut object = after.clone();
    object["status"] = json!({"replicas": 50});
    let unchanged = put(path.clone(), object.to_string()).await.expect(200).json();
    assert_eq!(unchanged["status"]["replicas"], 2);
    assert_eq!(version(&unchanged), version(&after), "nothing was changed");
    api.patch(&format!("{path}/status"), MERGE, r#"{"status":{"replicas":"many"}}"#).await.expect(422);
    api.patch(&format!("{APPS}/none/status"), MERGE, r#"{"status":{}}"#).await.expect(404);
    for method in [Method::POST, Method::DELETE] {
        api.send(method, &format!("{path}/status"), &[], "{}").await.expect(405);
    }
}

#[tokio::test]
async fn scale_is_a_window_on_the_replicas() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let path = format!("{APPS}/a/scale");
    let scale = api.get(&path).await.expect(200).json();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        assert_eq!(scale["metadata"][field], made["metadata"][field], "{field}");
    }
    let mut put = scale.clone();
    put["spec"]["replicas"] = json!(5);
    // kubectl sends it without a content type.
    let after = api.send(Method::PUT, &path, &[], put.to_string()).await.expect(200).json();
    assert_eq!((&after["kind"], &after["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    api.send(Method::PUT, &path, &[], put.to_string()).await.expect(409);
    put["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    put["spec"]["replicas"] = json!(6);
    api.send(Method::PUT, &path, &[], put.to_string()).await.expect(200);
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]).to_string();
    assert_eq!(api.patch(&path, PATCH, patch).await.expect(200).json()["spec"]["replicas"], 7);
    assert_eq!(api.get(&format!("{APPS}/a")).await.json()["metadata"]["generation"], 4);

    for (wrong, code) in [
        (json!({"spec": {"replicas": -1}}), 422),
        (json!({"spec": {"replicas": "many"}}), 422),
        (json!({"kind": "App"}), 400),
        (json!({"metadata": {"name": "b"}}), 400),
    ] {
        let reply = api.patch(&path, MERGE, wrong.to_string()).await.expect(code);
        failure(&reply.json());
    }
    api.get(&format!("{APPS}/none/scale")).await.expect(404);
    api.get("/api/v1/namespaces/default/scale").await.expect(404);
    api.send(Method::DELETE, &path, &[], "").await.expect(405);
}

#[tokio::test]
async fn parts_that_a_kind_does_not_have_are_not_found() {
    let api = Api::start().await;
    api.post(APPS, &app("a")).await.expect(201);
    for path in [format!("{APPS}/a/log"), format!("{APPS}/a/exec"), format!("{APPS}/a/status/x")] {
        assert_eq!(failure(&api.get(&path).await.expect(404).json()).0, "NotFound", "{path}");
    }
}
