//! Quotas over a store in memory: what is refused, in which words, and what never is.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    tests::{World, served},
    *,
};
use crate::{
    api::{Key, Measure, Operation, OperationVerb, Reason, Status, Transaction},
    auth::Proof,
    clock::Virtual,
    store::{Limits, Memory},
};

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn instance(name: &str, owner: &str, resources: Value) -> Value {
    let owners = json!([{"apiVersion": "appm.dev/v1", "kind": owner, "name": "x", "uid": "none", "controller": true}]);
    json!({
        "apiVersion": "appm.dev/v1", "kind": "Instance", "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"nodeName": "here", "revision": "x-1", "ordinal": 0, "process": {"command": ["true"]}, "resources": resources},
    })
}

impl World {
    async fn quota(&self, name: &str, hard: Value) {
        self.add_one("quota", json!({"metadata": {"name": name}, "spec": {"hard": hard}})).await.expect("a quota");
    }

    async fn add_one(&self, word: &str, body: Value) -> Result<Written, Status> {
        self.admission.create(&self.caller, served(word), "default", body, &WriteOptions::default()).await
    }

    async fn remove(&self, word: &str, name: &str) {
        let target = Target { served: served(word), namespace: "default", name, subresource: None };
        let (delete, options) = (DeleteOptions::default(), WriteOptions::default());
        self.admission.delete(&self.caller, &target, &delete, &options).await.expect("deleted");
    }
}

fn refusal(done: Result<Written, Status>) -> String {
    let status = done.expect_err("refused");
    assert!(status.is_over_quota(), "{status}");
    status.message
}

#[tokio::test]
async fn of_many_who_reach_for_the_last_room_as_many_win_as_there_is_room_for() {
    let world = World::new().await;
    world.quota("small", json!({"count/configmaps": "5"})).await;
    let names: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let done = futures::future::join_all(names.iter().map(|name| world.add_one("configmap", map(name)))).await;
    let refused: Vec<Status> = done.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 25);
    for status in refused {
        let (_, why) = status.message.split_once(" is forbidden: ").expect("Kubernetes' words");
        let expected = "exceeded quota: small, requested: count/configmaps=1, used: count/configmaps=5, limited: count/configmaps=5";
        assert_eq!((status.reason, why), (Reason::Forbidden, expected));
    }
}

#[tokio::test]
async fn a_transaction_counts_as_a_whole_and_names_every_quota_at_once() {
    let world = World::new().await;
    world.quota("maps", json!({"configmaps": 2})).await;
    world.quota("secrets", json!({"secrets": "0"})).await;
    world.add_one("configmap", map("a")).await.expect("room");
    world.add_one("configmap", map("b")).await.expect("room");
    let named = |verb, kind: &str, name: &str| {
        Operation::new(verb, json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}))
    };
    let (create, delete) = (OperationVerb::Create, OperationVerb::Delete);
    let exchange = vec![named(create, "ConfigMap", "c"), named(delete, "ConfigMap", "a")];
    world.admission.transact(&world.caller, Transaction::new("t", exchange)).await.expect("as many as before");
    let too_much = vec![
        named(delete, "ConfigMap", "b"),
        named(create, "ConfigMap", "d"),
        named(create, "ConfigMap", "e"),
        named(create, "Secret", "f"),
    ];
    let refused = world.admission.transact(&world.caller, Transaction::new("t", too_much)).await.expect_err("too much");
    let told: Vec<(&str, &str)> =
        refused.details.causes.iter().map(|cause| (cause.field.as_str(), cause.message.as_str())).collect();
    assert_eq!(
        told,
        [
            (
                "operations[2].object",
                "exceeded quota: maps, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
            ),
            (
                "operations[3].object",
                "exceeded quota: secrets, requested: secrets=1, used: secrets=0, limited: secrets=0"
            ),
        ]
    );
    assert!(refused.is_over_quota(), "{refused}");
}

#[tokio::test]
async fn whoever_is_over_a_quota_can_still_change_report_and_delete() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.add_one("configmap", map(name)).await.expect("no quota yet");
    }
    world.quota("late", json!({"configmaps": "1"})).await;
    refusal(world.add_one("configmap", map("d")).await);
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    refusal(world.admission.create(&world.caller, served("configmap"), "default", map("d"), &dry).await);
    let target = Target { served: served("configmap"), namespace: "default", name: "a", subresource: None };
    let patch = Patch::Merge(json!({"data": {"k": "v"}}));
    world.admission.patch(&world.caller, &target, patch, &WriteOptions::default()).await.expect("nothing grows");
    world.remove("configmap", "a").await;
    world.remove("configmap", "b").await;
    refusal(world.add_one("configmap", map("d")).await);
    world.remove("configmap", "c").await;
    world.add_one("configmap", map("d")).await.expect("room again");
}

#[tokio::test]
async fn what_instances_ask_of_the_machine_is_added_up_and_must_be_said() {
    let world = World::new().await;
    world.quota("machine", json!({"pods": "2", "limits.memory": "1Gi", "cpu": "1500m"})).await;
    let of = |memory: &str, cpu: &str| json!({"limits": {"memory": memory, "cpu": cpu}});
    let said = refusal(world.add_one("instance", instance("bare", "App", json!({}))).await);
    assert!(said.ends_with("failed quota: machine: must specify cpu,limits.memory"), "{said}");
    world.add_one("instance", instance("one", "App", of("512Mi", "1"))).await.expect("room");
    let said = refusal(world.add_one("instance", instance("two", "App", of("600Mi", "1"))).await);
    assert!(
        said.ends_with(
            "exceeded quota: machine, requested: cpu=1,limits.memory=600Mi, used: cpu=1,limits.memory=512Mi, \
             limited: cpu=1500m,limits.memory=1Gi"
        ),
        "{said}"
    );
    world.add_one("instance", instance("two", "Run", of("512Mi", "500m"))).await.expect("just enough");
    refusal(world.add_one("instance", instance("three", "App", of("0", "0"))).await);
    // One that ended for good makes room; one of an App may be started again.
    for (name, room) in [("one", false), ("two", true)] {
        let target = Target {
            served: served("instance"),
            namespace: "default",
            name,
            subresource: Some(crate::api::Subresource::Status),
        };
        let patch = Patch::Merge(json!({"status": {"state": {"exited": {"reason": "Completed"}}}}));
        world.admission.patch(&world.caller, &target, patch, &WriteOptions::default()).await.expect("reported");
        let made = world.add_one("instance", instance("three", "App", of("512Mi", "500m"))).await;
        assert_eq!(made.is_ok(), room, "{name}");
    }
}

#[tokio::test]
async fn a_quota_says_what_is_used_of_it() {
    let world = World::new().await;
    let until = CancellationToken::new();
    let keeper = tokio::spawn(world.admission.clone().keep_quotas(until.clone()));
    world.add_one("configmap", map("before")).await.expect("made");
    world.quota("q", json!({"configmaps": 3, "limits.memory": "1Gi", "persistentvolumeclaims": "1"})).await;
    let says = async |used: i64| {
        let key = Key::new(served("quota").kind, "default", "q");
        let wanted = json!({
            "hard": {"configmaps": "3", "limits.memory": "1Gi", "persistentvolumeclaims": "1"},
            "used": {"configmaps": used.to_string(), "limits.memory": "0", "persistentvolumeclaims": "0"},
        });
        for _ in 0..10_000 {
            let quota = world.admission.store().get(&key).expect("a quota").value();
            if quota["status"] == wanted {
                return quota["metadata"]["resourceVersion"].clone();
            }
            tokio::task::yield_now().await;
        }
        panic!("not told: {}", world.admission.store().get(&key).expect("a quota").value());
    };
    says(1).await;
    world.add_one("configmap", map("after")).await.expect("made");
    says(2).await;
    world.remove("configmap", "before").await;
    let at = says(1).await;
    // What changes no sum makes nobody write.
    world.add_one("secret", json!({"metadata": {"name": "s"}})).await.expect("made");
    world.add_one("configmap", map("more")).await.expect("made");
    assert_ne!(says(2).await, at);
    until.cancel();
    keeper.await.expect("it ends");
}

#[tokio::test]
async fn each_user_has_limits_their_own_before_the_servers_and_the_owner_has_none() {
    let clock: SharedClock = Arc::new(Virtual::new("2026-01-01T00:00:00Z".parse().expect("a time"), 1));
    let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.expect("opens");
    let user = crate::api::UserLimits { objects: Some(2), ..Default::default() };
    let most = Bound { name: "objects".to_owned(), measure: Measure::Objects, hard: "6".parse().expect("a quantity") };
    let quotas = Quotas { namespace: vec![most], user };
    let admission = Admission::with_quotas(store, clock, Host::default(), quotas);
    let owner = Caller::new(Identity::admin(Proof::Peer), "tester");
    let world = World { admission, caller: owner.clone() };
    let cluster = async |word: &str, body: Value| {
        world.admission.create(&owner, served(word), "", body, &WriteOptions::default()).await.expect("made");
    };
    cluster("ns", json!({"metadata": {"name": "default"}})).await;
    cluster(
        "role",
        json!({"metadata": {"name": "all"}, "spec": {
        "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}}),
    )
    .await;
    for (name, limits) in [("ann", json!(null)), ("bob", json!({"objects": 3}))] {
        cluster("user", json!({"metadata": {"name": name}, "spec": {"roles": [{"name": "all"}], "limits": limits}}))
            .await;
    }
    let by = async |who: &str, name: &str| {
        let caller = Caller::new(Identity::of(who, Proof::Certificate), "tester");
        world.admission.create(&caller, served("configmap"), "default", map(name), &WriteOptions::default()).await
    };
    for name in ["a1", "a2"] {
        by("ann", name).await.expect("room");
    }
    let said = refusal(by("ann", "a3").await);
    assert!(
        said.ends_with(
            "exceeded quota: limits of the user ann, requested: objects=1, used: objects=2, limited: objects=2"
        ),
        "{said}"
    );
    for name in ["b1", "b2", "b3"] {
        by("bob", name).await.expect("room");
    }
    refusal(by("bob", "b4").await);
    // The owner's sixth object is the namespace's sixth, too; whose they are does not matter to it.
    world.add_one("configmap", map("c1")).await.expect("the owner has no limits");
    let said = refusal(world.add_one("configmap", map("c2")).await);
    assert!(said.contains("exceeded quota: the server's --namespace-quota, requested: objects=1"), "{said}");
}
