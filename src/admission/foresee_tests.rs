//! What a plan says of a transaction, and that nothing comes of asking.

use serde_json::{Value, json};

use super::{access_tests::people, tests::World};
use crate::api::{
    Key, MissingRight, Operation, OperationVerb, Plan, PlannedChange, Reason, Status, Transaction, kinds,
};

fn apply(object: Value) -> Operation {
    Operation::new(OperationVerb::Apply, object)
}

fn app(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})
}

fn sleeper(replicas: i64) -> Value {
    app("web", json!({"replicas": replicas, "process": {"command": ["sleep", "1"]}}))
}

fn all(operations: &[Operation]) -> Transaction {
    Transaction::new("tester", operations.to_vec())
}

impl World {
    async fn planned(&self, operations: &[Operation]) -> Plan {
        self.admission.plan(&self.caller, all(operations)).await.expect("planned")
    }

    async fn done(&self, operations: &[Operation], hash: &str) -> Result<(), Status> {
        let transaction = Transaction { plan_hash: hash.to_owned(), ..all(operations) };
        self.admission.transact(&self.caller, transaction).await.map(drop)
    }
}

fn told(plan: &Plan) -> Vec<String> {
    let of = |object: &crate::api::PlannedObject| {
        let paths: Vec<&str> = object.fields.iter().map(|field| field.path.as_str()).collect();
        format!("{} {:?} {}", object.name, object.change, paths.join(" ")).trim_end().to_owned()
    };
    plan.objects.iter().map(of).collect()
}

#[tokio::test]
async fn a_plan_names_every_field_and_changes_nothing() {
    let world = World::new().await;
    let before = world.admission.store().revision();
    let made = world.planned(&[apply(sleeper(1))]).await;
    assert_eq!(told(&made)[0], "web Created spec.replicas spec.process.command");
    assert_eq!(world.admission.store().revision(), before, "nothing was written");
    world.done(&[apply(sleeper(1))], &made.hash).await.expect("as planned");
    assert_eq!(told(&world.planned(&[apply(sleeper(1))]).await), ["web Unchanged"]);
    let bare = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"}});
    let both = [apply(app("other", sleeper(1)["spec"].clone())), Operation::new(OperationVerb::Delete, bare)];
    let plan = world.planned(&both).await;
    assert_eq!(plan.objects[1].change, PlannedChange::Deleted);
    assert_eq!((plan.summary.created, plan.summary.deleted), (1, 1));
}

#[tokio::test]
async fn the_hash_names_what_would_be_changed_and_what_that_stands_on_and_nothing_else() {
    let world = World::new().await;
    let name = async |replicas| world.planned(&[apply(sleeper(replicas))]).await.hash;
    let first = name(1).await;
    assert_eq!(first, name(1).await, "uids and times are made anew each time, and do not count");
    assert_ne!(first, name(2).await);
    world.done(&[apply(sleeper(1))], &first).await.expect("as planned");
    let two = name(2).await;
    // A status is no part of it.
    let mut status = sleeper(1);
    status["status"] = json!({"replicas": 1});
    world.done(&[Operation::new(OperationVerb::Status, status)], "").await.expect("written");
    assert_eq!(two, name(2).await);
    let refused = world.done(&[apply(sleeper(3))], &two).await.expect_err("another change");
    assert!(refused.is(Reason::Conflict) && refused.details.causes[0].field == "planHash", "{refused:?}");
    let mut label = sleeper(1);
    label["metadata"]["labels"] = json!({"tier": "front"});
    world.done(&[apply(label)], "").await.expect("somebody else is faster");
    world.done(&[apply(sleeper(2))], &two).await.expect_err("the state is another one");
    let key = Key::new(kinds::find_by_word("app").expect("a kind").kind, "default", "web");
    assert_eq!(world.admission.store().get(&key).expect("there").value()["spec"]["replicas"], 1);
}

#[tokio::test]
async fn no_value_of_a_secret_is_in_a_plan_and_another_value_is_another_plan() {
    let world = World::new().await;
    let secret = |value: &str| {
        apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": value}}))
    };
    let (one, two) = (world.planned(&[secret("hunter-one")]).await, world.planned(&[secret("hunter-two")]).await);
    assert_ne!(one.hash, two.hash);
    world.done(&[secret("hunter-one")], &one.hash).await.expect("as planned");
    let changed = world.planned(&[secret("hunter-two")]).await;
    assert_eq!(told(&changed), ["s Changed data.key"]);
    for plan in [one, two, changed] {
        let text = json!(plan).to_string();
        assert!(!text.contains("hunter") && !text.contains("aHVudGVy"), "{text}");
    }
}

#[tokio::test]
async fn every_right_that_is_missing_is_named_and_what_is_wrong_besides_is_an_error() {
    let world = people().await;
    let vic = world.who("vic");
    let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "me"}, "spec": {}});
    let operations = [apply(sleeper(1)), apply(user)];
    let plan = world.admission.plan(&vic, all(&operations)).await.expect("planned");
    let named =
        |right: &MissingRight| format!("{} {} {} {:?}", right.verb, right.resource, right.name, right.granted_by);
    let rights: Vec<String> = plan.missing_rights.iter().map(named).collect();
    let needed = [
        r#"patch apps web ["admin", "edit", "operator"]"#,
        r#"create apps web ["admin", "edit", "member"]"#,
        r#"patch users me ["admin"]"#,
        r#"create users me ["admin"]"#,
    ];
    assert_eq!(rights, needed, "{plan:#?}");
    assert!(plan.hash.is_empty() && plan.objects.is_empty());
    // Host powers are found on the object as it would be.
    let root = app("web", json!({"process": {"command": ["id"], "user": "root"}}));
    let plan = world.admission.plan(&world.who("ed"), all(&[apply(root)])).await.expect("planned");
    assert_eq!(plan.missing_rights.len(), 1, "{plan:#?}");
    let right = &plan.missing_rights[0];
    assert_eq!((right.verb.as_str(), right.resource.as_str(), right.name.as_str()), ("use", "hostpowers", "user:root"));
    let wrong = [apply(sleeper(1)), apply(app("b", json!({"replica": 2})))];
    let status = world.admission.plan(&world.who("ed"), all(&wrong)).await.expect_err("a misspelt field");
    assert!(status.is(Reason::Invalid), "{status:?}");
}
