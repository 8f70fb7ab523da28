//! Both collectors on a real store, beside each other, as the daemon runs them.

use std::{future::Future, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    admission::{Admission, LocalClient},
    api::{App, Kind, Namespace, Operation, OperationVerb, Outcome, PropagationPolicy, Transaction},
    auth::Identity,
    clock::System,
    controllers::namespace::NamespaceController,
    policy::powers::Host,
    runtime,
    store::{Limits, Memory, Store},
};

/// Admission with both controllers running beside the test.
async fn with_controllers<T>(test: impl AsyncFnOnce(SharedClient) -> T) -> T {
    let clock: SharedClock = Arc::new(System);
    let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.expect("opens");
    let admission = Admission::new(store, clock.clone(), Host::default());
    let client =
        |who: &str| -> SharedClient { Arc::new(LocalClient::new(admission.clone(), Identity::system(who), who)) };
    let shutdown = CancellationToken::new();
    let collector = run(client("gc"), clock.clone(), watch::channel(false).0, shutdown.clone());
    let namespaces = runtime::run(
        Arc::new(NamespaceController::new(client("namespace"), clock.clone())),
        client("namespace"),
        clock,
        watch::channel(false).0,
        shutdown.clone(),
    );
    let test = async {
        let client = client("test");
        write(&client, OperationVerb::Create, namespace("default")).await;
        let result = test(client).await;
        shutdown.cancel();
        result
    };
    futures::join!(test, collector, namespaces).0
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn app(namespace: &str, name: &str, owner: Option<&Value>) -> Value {
    let mut metadata = json!({"name": name, "namespace": namespace});
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "appm.dev/v1", "kind": "App", "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": metadata, "spec": {"process": {"command": ["x"]}}})
}

async fn write(client: &SharedClient, verb: OperationVerb, object: Value) -> Value {
    let done = client.transact(Transaction::new("test", vec![Operation::new(verb, object)])).await.expect("done");
    done[0].object.value()
}

async fn delete(client: &SharedClient, object: &Value, policy: PropagationPolicy) -> Outcome {
    let mut operation = Operation::new(OperationVerb::Delete, object.clone());
    operation.propagation_policy = policy;
    client.transact(Transaction::new("test", vec![operation])).await.expect("done")[0].outcome
}

async fn names(client: &SharedClient, kind: &'static KindInfo) -> Vec<String> {
    let listing = client.list(kind, &Query::default()).await.expect("listed");
    listing.items.iter().map(|o| format!("{}{}", o.key.name, "*".repeat(o.meta().finalizers.len()))).collect()
}

/// Waits for a level, giving the controllers their turns.
async fn until<F: Future<Output = bool>>(reached: impl Fn() -> F) {
    let all = async {
        while !reached().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("the level is reached");
}

const APP: &KindInfo = App::INFO;

#[tokio::test]
async fn what_an_object_owned_goes_after_it_and_the_rest_stays() {
    with_controllers(async |client| {
        let web = write(&client, OperationVerb::Create, app("default", "web", None)).await;
        let child = write(&client, OperationVerb::Create, app("default", "child", Some(&web))).await;
        write(&client, OperationVerb::Create, app("default", "grandchild", Some(&child))).await;
        write(&client, OperationVerb::Create, app("default", "other", None)).await;
        delete(&client, &web, PropagationPolicy::Background).await;
        until(async || names(&client, APP).await == ["other"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_owner_of_the_same_name_is_another_owner() {
    with_controllers(async |client| {
        let mut former = app("default", "web", None);
        former["metadata"]["uid"] = json!("former");
        write(&client, OperationVerb::Create, app("default", "child", Some(&former))).await;
        until(async || names(&client, APP).await.is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn foreground_deletion_takes_the_dependents_first() {
    with_controllers(async |client| {
        let web = write(&client, OperationVerb::Create, app("default", "web", None)).await;
        let mut child = app("default", "child", Some(&web));
        child["metadata"]["finalizers"] = json!(["example.com/hold"]);
        let mut child = write(&client, OperationVerb::Create, child).await;
        delete(&client, &web, PropagationPolicy::Foreground).await;
        let key = Key::of::<App>("default", "child");
        until(async || client.get(&key).await.expect("read").is_some_and(|c| c.meta().is_deleting())).await;
        assert_eq!(names(&client, APP).await, ["child*", "web*"]);
        child["metadata"]["finalizers"] = json!([]);
        child["metadata"]["resourceVersion"] = json!("");
        write(&client, OperationVerb::Update, child).await;
        until(async || names(&client, APP).await.is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn orphans_stay_without_their_reference() {
    with_controllers(async |client| {
        let web = write(&client, OperationVerb::Create, app("default", "web", None)).await;
        write(&client, OperationVerb::Create, app("default", "child", Some(&web))).await;
        delete(&client, &web, PropagationPolicy::Orphan).await;
        until(async || names(&client, APP).await == ["child"]).await;
        let child = client.get(&Key::of::<App>("default", "child")).await.expect("read").expect("there");
        assert!(child.meta().owner_references.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_deleted_namespace_goes_when_it_is_empty() {
    with_controllers(async |client| {
        let room = write(&client, OperationVerb::Create, namespace("room")).await;
        let mut held = app("room", "held", None);
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        let mut held = write(&client, OperationVerb::Create, held).await;
        for i in 0..3 {
            write(&client, OperationVerb::Create, app("room", &format!("web-{i}"), None)).await;
        }
        write(&client, OperationVerb::Create, app("default", "elsewhere", None)).await;
        delete(&client, &room, PropagationPolicy::Background).await;
        until(async || names(&client, APP).await == ["elsewhere", "held*"]).await;
        assert_eq!(names(&client, Namespace::INFO).await, ["default", "room"]);
        held["metadata"]["finalizers"] = json!([]);
        held["metadata"]["resourceVersion"] = json!("");
        write(&client, OperationVerb::Update, held).await;
        until(async || names(&client, Namespace::INFO).await == ["default"]).await;
    })
    .await;
}
